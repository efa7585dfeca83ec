"""The reference lists every public name and no other; pages use it, and it names its paper."""

import importlib
import inspect
import re

import pytest
from documented import PAGES, ROOT

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


def words(text):
    return set(re.findall(r"\w+", text))


def returned(thing):
    """Return the words in the types of what a function returns, or a class has."""
    parts = [thing, *vars(thing).values()] if inspect.isclass(thing) else [thing]
    types = []
    for part in parts:
        if isinstance(part, property):
            part = part.fget
        part = getattr(part, "__func__", part)
        hints = getattr(part, "__annotations__", {})
        types += hints.values() if inspect.isclass(part) else [hints.get("return", "")]
    return words(" ".join(map(str, types)))


def unused(names, text):
    """Return the names that neither stand in a text nor are returned by one that does."""
    things = {name: resolve(name) for name in names}
    known = words(text)
    while True:
        used = [name for name in things if name.split(".")[-1] in known]
        more = known.union(*(returned(things[name]) for name in used))
        if more == known:
            return sorted(set(things) - set(used))
        known = more


def test_a_page_uses_every_name():
    pages = [page for page in PAGES if page.parent.name != "decisions"]
    pages += (ROOT / "docs" / "tutorials").glob("*.py")
    text = "\n".join(page.read_text("utf-8") for page in pages)
    assert unused(entries(), text) == []


def test_names_without_a_page_are_seen():
    names = ["rank_analysis", "RankReport", "show_config", "analysis.RankTrace"]
    assert unused(names, "`fg.rank_analysis`, a tracer") == ["analysis.RankTrace", "show_config"]


# The methods of others; all else in the reference are tools and results.
METHODS = """
LevenbergMarquardt GaussNewton Newton LBFGS GradientDescent Adam Evidence NullSpace laplace
PosteriorMixture rank_analysis check_design analysis.polish analysis.spectral_density
analysis.split_unit analysis.minimum_at_infinity analysis.null_spaces.null_space
analysis.enumerate_subglobal_minima analysis.linear.classify analysis.loss_plane
""".split()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_names_the_paper_to_cite(name):
    text = " ".join(inspect.getdoc(resolve(name)).split())
    assert re.search(r'Source: [^"]+"[A-Z][^"]{15,}"', text), text


def test_no_entry_twice():
    names = list(entries())
    assert len(names) == len(set(names))


def test_the_page_begins_at_the_package():
    assert f".. currentmodule:: {fastggn.__name__}" in PAGE.read_text("utf-8")
