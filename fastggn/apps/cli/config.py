"""Options from a TOML file: ``fastggn train --config run.toml``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from fastggn.apps.cli.outcome import BadInput
from fastggn.apps.cli.types import toml_fault
from fastggn.runtime.errors import suggest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_config(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Make the values of a TOML file the defaults of the command."""
    if value is not None and not ctx.resilient_parsing:
        ctx.default_map = _checked(ctx, value, _parse(value))
    return value


def _parse(name: str) -> dict[str, Any]:
    try:
        text = Path(name).read_text(encoding="utf-8")
        values: dict[str, Any] = tomllib.loads(text)
    except OSError as error:
        raise BadInput(f"--config {name}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"--config {name}: not a TOML file ({error})") from None
    return values


def _checked(ctx: click.Context, name: str, values: dict[str, Any]) -> dict[str, Any]:
    params = {
        max(p.opts, key=len).lstrip("-").replace("_", "-"): p
        for p in ctx.command.params
        if p.name not in (None, "config", "help")
    }
    known = sorted(params)
    checked: dict[str, Any] = {}
    for key, value in values.items():
        option = params.get(key.replace("_", "-"))
        if option is None:
            raise BadInput(
                f"--config {name}: the key {key!r} is unknown{suggest(key, known)} "
                f"(known: {', '.join(known)})"
            )
        if fault := toml_fault(option, value):
            raise BadInput(f"--config {name}: {key} must be {fault}, got {value!r}")
        if option.name in checked:
            raise BadInput(f"--config {name}: the key {key!r} is given twice")
        checked[str(option.name)] = value
    return checked
