"""Sphinx configuration of the site: ``nox -s docs`` builds it."""

from __future__ import annotations

import re
from typing import Any

from sphinx.search.en import SearchEnglish

import rnnfast

project, author = "rnnfast", "the rnnfast authors"
copyright = author
release = version = rnnfast.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "rnnfast"
html_static_path = ["_static"]
html_css_files = ["site.css"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": True}
# Links to files beside docs/ lead to the repository, which has no fixed address; code in other languages is shown as it is.
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure", "docutils"]


class Search(SearchEnglish):
    """Search in both languages: Chinese text has no spaces, so every two characters side by side are also a word."""

    def split(self, input: str) -> list[str]:
        runs = re.findall("[\u4e00-\u9fff]+", input)
        return [*super().split(input), *(run[i : i + 2] for run in runs for i in range(len(run) - 1))]


def setup(app: Any) -> None:
    """The Chinese pages declare their language, which selects the forms of the glyphs and the voice of a screen reader."""
    app.add_search_language(Search)
    app.connect("html-page-context", _language)


def _language(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    if "zh" in page.split("/") or page.endswith(".zh-CN"):
        context["language"] = "zh-CN"
