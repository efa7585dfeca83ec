"""Show in the tutorials the figures that `.plot()` of a result returns.

They are made without pyplot, where sphinx-gallery looks for figures. A tutorial assigns one to the
name ``figure``.
"""

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def scrape(block, block_vars, gallery_conf):
    """Save the block's ``figure`` and return the reStructuredText that shows it."""
    figure = block_vars["example_globals"].pop("figure", None)
    if not isinstance(figure, Figure):
        return ""
    path = next(block_vars["image_path_iterator"])
    figure.savefig(path, dpi=120)
    return figure_rst([path], gallery_conf["src_dir"])


def _get_sg_image_scraper():
    return scrape
