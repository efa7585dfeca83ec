"""Settings of the documentation; built strictly: python -m sphinx -W docs docs/_build."""

import re
import sys
import warnings
from pathlib import Path

import fastggn

sys.path.insert(0, str(Path(__file__).parent / "_ext"))  # result_figures

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
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",  # formulas also without a network
]
exclude_patterns = ["_build", "_ext", "_templates", "tutorials"]
html_theme = "pydata_sphinx_theme"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
# Pages without others below them need no column for these.
html_sidebars = dict.fromkeys(("changelog", "comparison", "math", "performance", "quickstart"), [])
html_title = f"fastggn {release}"
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "header_links_before_dropdown": 5,
}

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "none"
numpydoc_show_class_members = False

# A tutorial shows the warnings that its lines cause, without the path of an installation.
warnings.formatwarning = lambda message, category, *where, **line: (
    f"{category.__name__}: {message}\n"
)

# docs/tutorials/*.py run during the build; one that fails, fails the build.
sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "auto_tutorials",
    "filename_pattern": r"/\d_",
    "within_subsection_order": "FileNameSortKey",
    "nested_sections": False,
    "image_scrapers": ("matplotlib", "result_figures"),
    "image_srcset": ["2x"],
    "capture_repr": (),
    "reference_url": {"fastggn": None},
    "doc_module": ("fastggn",),
    "backreferences_dir": None,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
}


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
    last = name.rpartition(".")[2]
    routing = last.startswith("set_") and last.endswith("_request")
    return True if routing or module.startswith("sklearn.") else None


def setup(app):
    """Run after numpydoc, which listens to the same event."""
    app.connect("autodoc-process-docstring", keep_bars, priority=900)
    app.connect("autodoc-skip-member", skip_requests)
