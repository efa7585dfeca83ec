"""The commands ``fastggn landscape ...``: tools for loss surfaces."""

from __future__ import annotations

import click

from fastggn.apps.cli.landscape.linear import linear
from fastggn.apps.cli.landscape.null_space import null_space
from fastggn.apps.cli.landscape.regions import regions

__all__ = ["landscape"]


@click.group(
    help="Study the loss surface of a network: null spaces, linear networks, ReLU regions.",
    short_help="Study the loss surface: null spaces, linear networks, regions.",
)
def landscape() -> None:
    """Hold the commands."""


landscape.add_command(linear)
landscape.add_command(null_space)
landscape.add_command(regions)
