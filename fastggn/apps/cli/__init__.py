"""The command line ``fastggn``."""

from fastggn.apps.cli.main import main

__all__ = ["main"]
