"""``fastggn landscape``: tools that look at loss surfaces."""

from __future__ import annotations

import click

from fastggn.cli.landscape.linear import linear
from fastggn.cli.landscape.null_space import null_space

__all__ = ["landscape"]


@click.group(
    short_help="Null spaces, linear networks: look at loss surfaces.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def landscape() -> None:
    """Look at the loss surface of a network."""


landscape.add_command(linear)
landscape.add_command(null_space)
