"""Sphinx configuration of the site: ``nox -s docs`` builds it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import ziamath
from docutils import nodes
from docutils.statemachine import StringList
from latex2mathml.converter import convert
from sphinx.search.en import SearchEnglish
from sphinx.util.docutils import SphinxDirective

import rnnfast

sys.path.insert(0, str(Path(__file__).parent))
import headers

project, author = "rnnfast", "the rnnfast authors"
copyright = author
release = version = rnnfast.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
numpydoc_show_class_members = autosummary_generate = False
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "rnnfast"
html_static_path = ["_static", str(Path(ziamath.__file__).parent / "fonts")]  # with STIX Two Math
html_css_files = ["site.css"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": True}
suppress_warnings = ["misc.highlighting_failure"]  # code in other languages is shown as it is
ON_THE_SITE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}


class Search(SearchEnglish):
    """Search in both languages: Chinese text has no spaces, so every two characters side by side are also a word."""

    def split(self, input: str) -> list[str]:
        runs = re.findall("[\u4e00-\u9fff]+", input)
        return [*super().split(input), *(run[i : i + 2] for run in runs for i in range(len(run) - 1))]


class Header(SphinxDirective):
    """``.. header:: rnnfast.hpp``: the reference of a public header."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        file = Path(__file__).parents[1] / "cpp" / "include" / "rnnfast" / self.arguments[0]
        self.env.note_dependency(str(file))
        node = nodes.container()
        self.state.nested_parse(StringList(headers.page(file).splitlines(), source=str(file)), 0, node)
        return node.children


def _mathml(formula: str, display: str) -> str:
    """A formula with a thin space between the name of a function and an argument without parentheses."""
    # Bars of norms and absolute values keep their height, and stand close to what they enclose.
    made = convert(formula, display=display).replace("<mo>&#x02016;</mo>", '<mi mathvariant="normal">&#x02016;</mi>')
    made = made.replace('<mo stretchy="false">&#x0007C;</mo>', '<mi mathvariant="normal">&#x0007C;</mi>')
    return re.sub(
        r"(<mi>(?:log|exp|max|min)</mi>(?:</mrow></m\w+>)?)(?=<mi>|<mn>|<ms)", r'\1<mspace width="0.17em"/>', made
    )


def _inline_math(writer: Any, node: nodes.math) -> None:
    """A formula as MathML: a browser draws it without a script."""
    writer.body.append(_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block_math(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{_mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """The Chinese pages declare their language, which selects the forms of the glyphs and the voice of a screen reader."""
    app.add_search_language(Search)
    app.add_directive("header", Header)
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("html-page-context", _language)
    app.connect("source-read", _links_within_the_site)


def _links_within_the_site(app: Any, page: str, source: list[str]) -> None:
    """A link to a file outside docs/ leads to the page that shows it; other files and folders are named without a link."""
    docs = Path(app.srcdir)

    def link(match: re.Match[str]) -> str:
        target = ((docs / page).parent / match[2]).resolve()
        if docs in target.parents or not target.exists():
            return match[0]
        shown = ON_THE_SITE.get(target.name)
        return f"[{match[1]}]({os.path.relpath(docs / shown, (docs / page).parent)})" if shown else match[1]

    source[0] = re.sub(r"(?<!!)\[([^]\[]*)\]\(((?:\.\./)+[^)#]*)\)", link, source[0])


def _language(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    if "zh" in page.split("/") or page.endswith(".zh-CN"):
        context["language"] = "zh-CN"
