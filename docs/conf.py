"""Settings of the documentation; built strictly: python -m sphinx -W docs docs/_build."""

import re

import fastggn

project = "fastggn"
author = "fastggn developers"
copyright = "fastggn developers"
release = version = fastggn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = f"fastggn {release}"
html_theme_options = {"navigation_with_keys": False, "show_prev_next": False}

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "none"
numpydoc_show_class_members = False


def keep_bars(app, what, name, obj, options, lines):
    """Let |theta| in a docstring be a norm: reStructuredText would read it as a substitution."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            pieces = re.split(r"(``.*?``)", line)  # literals stay as they are
            pieces[::2] = [piece.replace("|", r"\|") for piece in pieces[::2]]
            lines[number] = "".join(pieces)


def skip_requests(app, what, name, obj, skip, options):
    """Leave out what scikit-learn's base classes bring: its text points into its own pages."""
    module = getattr(obj, "__module__", None) or ""
    return True if module.startswith("sklearn.") else None


def setup(app):
    """Run after numpydoc, which listens to the same event."""
    app.connect("autodoc-process-docstring", keep_bars, priority=900)
    app.connect("autodoc-skip-member", skip_requests)
