"""Refuse files that claim far more content than files of real data of their size hold."""

from __future__ import annotations

import os
from pathlib import Path

# The content of compressed data is at most this multiple of its bytes, or this size. Text of zeros
# and ones, nearly all zeros, shrinks by some 130, the same as float64 by 400, and zeros by 1,030.
TEXT_TIMES, ARRAY_TIMES, SMALL = 200, 1000, 64 * 2**20


def most_content(size: int, times: int) -> int:
    """Return the bytes that a compressed file of `size` bytes may hold."""
    return max(SMALL, times * size)


def check_claim(file: str | os.PathLike[str], claimed: int, times: int) -> None:
    """Raise a ValueError if a file claims too many bytes."""
    size = Path(file).stat().st_size
    if claimed > most_content(size, times):
        raise ValueError(claim_message(file, claimed, size))


def claim_message(file: object, claimed: int, size: int) -> str:
    """Return the words about a file that claims too much."""
    return (
        f"{file}: its {size:,} bytes claim to hold {claimed:,} or more: no data of a table shrink "
        "so far, so it is not read; if you trust it, unpack it, or save it without compression"
    )
