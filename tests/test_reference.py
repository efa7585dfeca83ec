"""The reference lists every public class and function, and nothing that is not there."""

import importlib
import inspect
import re

import pytest
from documented import ROOT

import fastggn

PAGE = ROOT / "docs" / "reference" / "index.md"
# Their __all__ is the public interface; the page lists more, such as the reports and the figures.
MODULES = [
    "fastggn",
    "fastggn.analysis",
    "fastggn.analysis.linear",
    "fastggn.apps.report",
    "fastggn.apps.sklearn",
    "fastggn.data",
    "fastggn.model.interchange",
    "fastggn.network.activations",
    "fastggn.network.losses",
]


def entries():
    text = PAGE.read_text("utf-8")
    for block in re.findall(r"\.\. autosummary::\n((?: {3}.*\n|\n)+)", text):
        yield from re.findall(r"^ {3}([A-Za-z]\S*)$", block, re.MULTILINE)


def resolve(name):
    """Return the object that the page names, below `fastggn`."""
    pieces = name.split(".")
    for count in range(len(pieces) - 1, -1, -1):
        try:
            found = importlib.import_module(".".join(["fastggn", *pieces[:count]]))
        except ModuleNotFoundError:
            continue
        for piece in pieces[count:]:
            found = getattr(found, piece)
        return found
    raise AssertionError(name)


@pytest.mark.parametrize("name", list(entries()))
def test_entry_exists_and_has_a_docstring(name):
    assert inspect.getdoc(resolve(name))


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_listed(module):
    listed = {id(resolve(name)) for name in entries()}
    home = importlib.import_module(module)
    public = {name: getattr(home, name) for name in home.__all__}
    kinds = {n: o for n, o in public.items() if inspect.isclass(o) or inspect.isroutine(o)}
    assert {name for name, thing in kinds.items() if id(thing) not in listed} == set()


def test_no_entry_twice():
    names = list(entries())
    assert len(names) == len(set(names))


def test_the_page_begins_at_the_package():
    assert f".. currentmodule:: {fastggn.__name__}" in PAGE.read_text("utf-8")
