"""Sphinx configuration: MyST pages, API pages from the docstrings, tables generated from their sources."""

import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

import generated_tables  # noqa: E402

import sb3_tom  # noqa: E402

project = "sb3_tom"
author = "sb3_tom developers"
copyright = "sb3_tom developers, MIT licence"
version = release = sb3_tom.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax beside the pages: mathematics without a network
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_generated"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}

html_theme = "sphinx_rtd_theme"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_title = f"sb3_tom {release}"
html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go"


def setup(app: Any) -> None:
    """Write the generated tables before any page is read."""
    app.connect("builder-inited", lambda _: generated_tables.write(DOCS / "_generated"))
