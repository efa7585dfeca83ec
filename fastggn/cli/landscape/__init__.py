"""``fastggn landscape``: what the loss surface of a small network looks like."""

from __future__ import annotations

import click

from fastggn.cli.landscape.regions import regions

__all__ = ["landscape"]


@click.group(
    help="Study the loss surface of a network on DATA.",
    short_help="Study the loss surface: regions, null spaces, linear networks.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def landscape() -> None:
    """Hold the commands; the docstring of a group would be its help page."""


landscape.add_command(regions)
