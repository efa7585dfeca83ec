"""Optional packages, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, extra: str, use: str) -> Any:
    """Import a module of an extra."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:  # the package is there, but its own import fails
            raise
        raise ImportError(f'{use} needs {package}: pip install "fastggn[{extra}]"') from None
