"""The command line: ``fastggn train`` and ``fastggn info``."""

from fastggn.cli.main import main

__all__ = ["main"]
