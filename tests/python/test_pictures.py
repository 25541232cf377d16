"""README, the site and the page of ``rnnfast explain`` in headless Chromium, on a phone and on a desktop, light and dark.

``nox -s pictures`` runs this and keeps the pictures in build/pictures, where a person can look at them.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import browser as chromium
import pytest

import rnnfast as rf

ROOT = Path(__file__).parents[2]
PHONE, DESKTOP = 390, 1280
VIEWS = [(PHONE, False), (PHONE, True), (DESKTOP, False), (DESKTOP, True)]
# A page as a code host shows it
SHEET = """<!doctype html><html lang="{language}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<base href="{base}/"><style>:root {{ color-scheme: light dark }} body {{ font: 16px/1.5 sans-serif; max-width: 1012px; margin: auto; padding: 24px }}
img {{ max-width: 100% }} pre {{ overflow: auto; padding: 16px; background: #8881; border-radius: 6px; font-size: 85% }}
table {{ display: block; overflow: auto; border-collapse: collapse }} td, th {{ border: 1px solid #8885; padding: 6px 13px }}
p, li {{ overflow-wrap: anywhere }}</style>{body}</html>"""
SHOWN = ["index", "index.zh-CN", "get-started", "get-started.zh-CN", "learn/index", "learn/05-hidden-state", "learn/zh/05-hidden-state",
         "learn/zh/09-encoder-decoder", "learn/zh/11-compared", "performance", "reference", "command-line", "gallery", "releases", "releases.zh-CN"]  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.program() is None, reason="there is no Chromium: no picture is taken"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Where pictures go; RNNFAST_PICTURES keeps them."""
    folder = Path(os.environ.get("RNNFAST_PICTURES") or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built without a warning."""
    for package in ("sphinx", "myst_parser", "furo", "numpydoc", "ziamath"):
        pytest.importorskip(package, reason=f"{package} is not installed: the site is not built")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", ROOT / "docs", folder]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder


def views(browser, address, picture=None, folder=None):
    """What is wrong with a page in every view, or in two of them; takes pictures if it has a name."""
    wrong = []
    for width, dark in VIEWS if picture else VIEWS[::3]:
        with browser.page(address, width=width, dark=dark) as page:
            view = f"{'phone' if width == PHONE else 'desktop'}-{'dark' if dark else 'light'}"
            wrong += [f"{address} ({view}): {complaint}" for complaint in page.complaints()]
            if picture:
                page.picture(folder / f"{picture.replace('/', '-')}-{view}.png")
    return wrong


def test_a_page_that_is_broken_is_seen_to_be(browser, tmp_path):
    file = tmp_path / "page.html"
    wide = '<div style="width: 900px">wide</div><script>console.error("said"); undefinedName()</script>'
    file.write_text(f'<!doctype html><meta name="viewport" content="width=device-width"><img src="no.png">{wide}')
    with browser.page(file.as_uri(), width=PHONE) as page:
        found = " ".join(page.complaints())
    for part in (
        "broken image",
        "pixels wider than the window",
        "['said']",
        "undefinedName is not defined",
        "Failed to load",
    ):
        assert part in found


@pytest.mark.parametrize("name", ["README", "README.zh-CN"])
def test_the_front_page_fits_a_phone_and_a_desktop(browser, pictures, tmp_path, name):
    markdown = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed")
    text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
    body = markdown.MarkdownIt("commonmark").enable("table").render(text)
    language = "zh-CN" if "zh" in name else "en"
    file = tmp_path / f"{name}.html"
    file.write_text(SHEET.format(language=language, base=ROOT.as_uri(), body=body), encoding="utf-8")
    assert not views(browser, file.as_uri(), name, pictures)


def test_every_page_of_the_site_fits_and_loads_all_it_needs_without_a_network(browser, pictures, site):
    wrong = []
    for file in sorted(site.rglob("*.html")):
        name = file.relative_to(site).with_suffix("").as_posix()
        wrong += views(browser, file.as_uri(), name if name in SHOWN else None, pictures)
        external = re.findall(r'<(?:script|link|img)\b[^>]*(?:src|href)="(https?:[^"]*)"', file.read_text("utf-8"))
        wrong += [f"{name} loads {address}" for address in external]
    assert not wrong, "\n".join(wrong)
    assert not [name for name in SHOWN if not (site / f"{name}.html").exists()]


def test_links_of_the_site_lead_to_pages_and_their_parts(site):
    parts, wrong = {}, []
    files = list(site.rglob("*.html"))
    for file in files:
        parts[file.resolve()] = set(re.findall(r'\bid="([^"]+)"', file.read_text(encoding="utf-8")))
    for file in files:
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]*)"', file.read_text(encoding="utf-8")):
            address, _, part = unquote(html.unescape(link)).partition("#")
            if re.match(r"[a-z]+:", address):
                continue
            target = (file.parent / address).resolve() if address else file.resolve()
            if not target.exists() or (part and target in parts and part not in parts[target]):
                wrong.append(f"{file.relative_to(site)}: {link}")
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_the_pages_of_models_fit_a_phone_and_a_desktop(browser, pictures, tmp_path):
    text = 'He said "the (old) dog barked".\nShe said "it is [not] so".\n' * 4
    corpus = rf.Corpus.from_text(text)
    model = rf.LanguageModel(corpus.vocab, cell="lstm", hidden_size=24, seed=0)
    rf.fit(model, corpus, epochs=20, batch_size=2, num_steps=20, lr=0.02, optimizer="adam", progress=False)
    page = rf.explain(model, text, tmp_path / "reader.html")
    assert not views(browser, page.as_uri(), "explain-reader", pictures)

    tens = dict(zip("twenty thirty forty fifty".split(), range(2, 6)))
    ones = dict(zip("one two three four five six".split(), range(1, 7)))
    pairs = rf.ParallelCorpus.from_pairs([(f"{a} {b}", f"{tens[a]} {ones[b]}") for a in tens for b in ones])
    translator = rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, attention="additive", embedding_size=16, hidden_size=24, seed=0)  # fmt: skip
    rf.fit(translator, pairs, epochs=30, batch_size=8, lr=1e-2, progress=False)
    page = rf.explain(translator, "twenty one\nforty six\n", tmp_path / "translator.html")
    assert not views(browser, page.as_uri(), "explain-translator", pictures)
    with browser.page(page.as_uri(), width=PHONE) as shown:
        shown.run('element("prompt").value = "fifty two"; element("form").requestSubmit()')
        assert not shown.complaints()
        assert rf.translate(translator, ["fifty two"])[0] in shown.run('element("written").textContent')
        shown.picture(pictures / "explain-translator-typed.png")
