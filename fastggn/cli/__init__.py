"""The command line: ``fastggn train``, ``info``, ``rank``, ``check-design``."""

from fastggn.cli.main import main

__all__ = ["main"]
