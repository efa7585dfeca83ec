"""Optional packages, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, extra: str, use: str) -> Any:
    """Return a module of an extra."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:  # it is there, and lacks something itself
            raise
        raise ImportError(f'{use} needs {package}: pip install "fastggn[{extra}]"') from None
