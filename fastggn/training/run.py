"""What stands around a run: its seed, the signals that end it, its display, its advice."""

from __future__ import annotations

import contextlib
import warnings
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastggn.runtime.comm import Comm
from fastggn.runtime.errors import FastGGNWarning
from fastggn.runtime.signals import StopSignals
from fastggn.training.checkpoint.saving import Checkpointing
from fastggn.training.options import Options

if TYPE_CHECKING:
    from fastggn.training.progress import ProgressLine


def warn(comm: Comm, kind: type[FastGGNWarning], messages: list[str]) -> None:
    """Warn whoever called `train`, once of several ranks."""
    for message in messages if comm.rank == 0 else []:
        warnings.warn(message, kind, stacklevel=3)


def shared_seed(comm: Comm, seed: Any) -> Any:
    """Return the seed, one for all ranks also where none was given."""
    if comm.size == 1:
        return seed
    return comm.agree(np.random.SeedSequence().entropy if seed is None else seed)


def stop_signals(plan: Checkpointing | None) -> StopSignals:
    """Return what takes over the signals that would end the process without a save."""
    return StopSignals(() if plan is None else ("SIGTERM", "SIGUSR1"), unclaimed=True)


def shown(
    options: Options, progress: bool, comm: Comm
) -> AbstractContextManager[ProgressLine | None]:
    """Return the display of the run, on one of the ranks, or nothing."""
    if not progress or comm.rank > 0:
        return contextlib.nullcontext()
    from fastggn.training.progress import ProgressLine

    return ProgressLine(None, options.tolerances.max_iter, options.max_time)
