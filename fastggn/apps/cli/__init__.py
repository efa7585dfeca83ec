"""The command line: ``fastggn train``, ``info``, ``rank``, ``check-design``."""

from fastggn.apps.cli.main import main

__all__ = ["main"]
