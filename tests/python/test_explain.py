"""The page that explains a model: its numbers are Python's, and the model in it computes the same bits."""

from __future__ import annotations

import base64
import html
import importlib
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from registered import LAYERS

import rnnfast as rf
from rnnfast import cli
from rnnfast.study.unroll import unroll
from rnnfast.translate import translations

explaining = importlib.import_module("rnnfast.study.explain")
PAGE = Path(explaining.__file__).parent / "page"
TEXT = 'He said "the (old) dog barked".\nShe said "it is [not] so".\n' * 3
FUSED = rf.info()["isa_active"] not in ("baseline", "generic")  # the others round a * b + c twice


@pytest.fixture
def model():
    return rf.LanguageModel(rf.Corpus.from_text(TEXT).vocab, cell="lstm", hidden_size=12, num_layers=2, seed=1)


def data_of(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def floats(text, width):
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, width)


def test_the_numbers_in_the_page_are_those_of_unroll_and_surprisal(model, tmp_path):
    page = rf.explain(model, TEXT, tmp_path / "new" / "page.html")
    data, steps = data_of(page), unroll(model, TEXT, top=5).steps
    assert "".join(data["pieces"]) == TEXT
    assert np.array_equal(floats(data["series"]["h"], 12), [step.h[-1] for step in steps])
    for gate in "ifgo":
        assert np.array_equal(floats(data["series"][gate], 12), np.float32([step.gates[gate] for step in steps]))
    assert data["surprisal"][0] is None
    expected = [bits for _, bits in rf.surprisal(model, TEXT)]
    np.testing.assert_allclose(data["surprisal"][1:], expected, rtol=1e-5)
    assert [[t for t, _ in row] for row in data["next"]] == [[t for t, _ in step.next] for step in steps]
    weights = np.concatenate([w.ravel() for w in model.state_dict().values()])
    assert np.array_equal(floats(data["model"]["weights"], 1)[:, 0], weights)


def test_correlations_are_pearson_s_with_what_the_tokens_are(model):
    steps = unroll(model, TEXT).steps
    states = np.stack([step.h[-1] for step in steps])
    found = {feature["name"]: feature["r"] for feature in explaining.correlations(list(TEXT), states)}
    quoted, depth = np.cumsum([c == '"' for c in TEXT]) % 2, np.cumsum([(c in "([") - (c in ")]") for c in TEXT])
    line = [i - max(TEXT.rfind("\n", 0, i + 1), -1) for i in range(len(TEXT))]
    for name, values in (("inside quotes", quoted), ("inside brackets", depth > 0), ("position in the line", line)):
        expected = [np.corrcoef(values, states[:, unit])[0, 1] for unit in range(12)]
        np.testing.assert_allclose(found[name], expected, atol=1e-4)
    assert "upper case" not in {f["name"] for f in explaining.correlations(list("abc"), states[:3])}  # it does not vary
    constant = explaining.correlations(list("a b"), np.zeros((3, 4), np.float32))
    assert all(feature["r"] == [0, 0, 0, 0] for feature in constant)


def test_a_text_cannot_break_the_page(tmp_path):
    text = "</script><b>{{data}} }} \u2028 & 'x' 你好\n" * 2
    model = rf.LanguageModel(rf.Corpus.from_text(text).vocab, hidden_size=3, seed=0)
    page = rf.explain(model, text, tmp_path / "page.html", title="<i>{{body}}</i>")
    assert "".join(data_of(page)["pieces"]) == text
    content = page.read_text(encoding="utf-8")
    assert content.count("</script>") == 3
    assert content.count("<h1>&lt;i&gt;{{body}}&lt;/i&gt;</h1>") == 1
    assert not re.search(r"""(src|href)=["']?http|url\(|@import|fetch\(|XMLHttpRequest""", content)


def test_long_texts_are_abridged_and_models_without_text_are_shown(model, tmp_path):
    data = data_of(rf.explain(model, TEXT, tmp_path / "a.html", max_tokens=10, with_model=False))
    assert len(data["ids"]) == 10
    assert data["model"] is None
    assert f"the first 10 of {len(TEXT)} tokens" in (tmp_path / "a.html").read_text(encoding="utf-8")
    plain = rf.LanguageModel(5, cell="gru_reset_before", hidden_size=3, seed=0)
    data = data_of(rf.explain(plain, [1, 2], tmp_path / "b.html"))
    assert data["pieces"] == [" 1", " 2"]
    assert data["model"]["vocabulary"] is None
    assert list(data["series"]) == ["h"]


def test_a_vocabulary_with_a_beginning_starts_with_it(tmp_path):
    vocab = rf.Vocab(TEXT, reserved=["<bos>"])
    model = rf.LanguageModel(vocab, hidden_size=3, seed=0)
    data = data_of(rf.explain(model, "He said", tmp_path / "page.html"))
    np.testing.assert_allclose(data["surprisal"][1:], [bits for _, bits in rf.surprisal(model, "He said")], rtol=1e-5)


def exploding():
    return rf.LanguageModel(3, cell="rnn_relu", hidden_size=4, init_scale=3.0, seed=0)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda m, f: rf.explain(m, "", f), ValueError, "no tokens"),
        (lambda m, f: rf.explain(m, "a", f, max_tokens=0), ValueError, "max_tokens is 0"),
        (lambda m, f: rf.explain(3, "a", f), TypeError, "expected an rf.LanguageModel or an rf.Seq2Seq"),
        (lambda m, f: rf.explain(m, "a", 3), TypeError, "path"),
        (lambda m, f: rf.explain(m, "a", f, title=3), TypeError, "the title is"),
        (lambda m, f: rf.explain(rf.LanguageModel(9, hidden_size=4), "a", f), ValueError, "no vocabulary"),
        (lambda m, f: rf.explain(rf.LanguageModel(9, hidden_size=4), [9], f), IndexError, "the text"),
        (lambda m, f: rf.explain(rf.LanguageModel(9, hidden_size=4, weights="bf16"), [1], f), ValueError, 'weights="f32"'),
        (lambda m, f: rf.explain(rf.LanguageModel(9, hidden_size=2500, seed=0), [1], f), ValueError, "would take 34 MB, expected at most 32: the model has 6,"),
        (lambda m, f: rf.explain(rf.LanguageModel(9, hidden_size=1500), np.zeros(4000, int), f, max_tokens=9000), ValueError, "max-tokens"),
        (lambda m, f: rf.explain(exploding(), [1] * 300, f), ValueError, "are not finite at token"),
        (lambda m, f: rf.explain(rf.Seq2Seq(9, 9, hidden_size=4), "a", f), ValueError, "vocabularies"),
    ],
)  # fmt: skip
def test_what_has_no_page_is_refused_in_a_sentence(model, tmp_path, call, error, sentence):
    with pytest.raises(error) as caught:
        call(model, tmp_path / "page.html")
    assert sentence in str(caught.value)
    assert not (tmp_path / "page.html").exists()


def translator(attention):
    vocab = rf.Vocab("le chat dort the cat sleeps".split(), reserved=["<pad>", "<bos>", "<eos>"], tokenizer="word")
    decoder = "d2l" if attention == "additive" else "context_as_state"
    return rf.Seq2Seq(vocab, vocab, hidden_size=6, attention=attention, decoder=decoder, seed=2)


def test_a_translator_s_page_has_its_translations_and_attention(tmp_path):
    model, text = translator("additive"), "le chat\n\nle chat dort\nchat\n"
    page = rf.explain(model, text, tmp_path / "page.html", max_tokens=5).read_text(encoding="utf-8")
    (first,), (second,) = rf.translate(model, ["le chat", "le chat dort"], attention=True)
    assert "2 of 3 sentences" in page
    tables = re.findall(r'<table class="attention">.*?</table>', page)
    for table, result in zip(tables, (first, second)):
        assert html.escape(result.text) in page
        assert f"log P = −{-result.log_prob:.3f}" in page
        shown = np.array(re.findall(r"--a:([\d.]+)", table), float).reshape(result.attention.shape)
        np.testing.assert_allclose(shown, result.attention, atol=5.1e-4)
        assert all(f"<span>{html.escape(token)}</span>" in table for token in result.source_tokens)
    assert len(tables) == 2
    data = data_of(tmp_path / "page.html")
    assert data["translations"] == [
        [[*model.source_vocab.encode(r.source_tokens)], r.ids.tolist()] for r in (first, second)
    ]
    assert data["prompt"] == "le chat"
    assert "<table" not in rf.explain(translator("none"), text, page_file := tmp_path / "b.html").read_text("utf-8")
    assert page_file.exists()


def test_a_translator_that_cannot_run_in_a_page_is_shown_without_a_prompt_box(tmp_path):
    def page(model, **options):
        file = rf.explain(model, "le chat", tmp_path / "page.html", **options)
        assert data_of(file)["model"] is None
        content = file.read_text(encoding="utf-8")
        assert "<form" not in content
        assert rf.translate(model, ["le chat"])[0] in html.unescape(content)
        return re.search("No model in the page: (.*?)\\.", content)[1]

    assert page(translator("dot"), with_model=False) == "it was left out"
    vocab = translator("none").source_vocab
    large = rf.Seq2Seq(vocab, vocab, hidden_size=1400, embedding_size=8, seed=0)
    assert "more than 32 MB" in page(large)
    rounded = rf.Seq2Seq(vocab, vocab, hidden_size=6, weights="bf16", seed=0)
    assert "weights 'bf16'" in html.unescape(page(rounded))
    assert page(rf.Seq2Seq(vocab, 9, hidden_size=6, seed=0)) == "it writes ids, not words"


def test_the_command_writes_the_page(model, tmp_path, capsys):
    model.save(tmp_path / "m.safetensors", weights="int8")
    (tmp_path / "text.txt").write_text(TEXT)
    words = ["explain", str(tmp_path / "m.safetensors"), "--text", str(tmp_path / "text.txt"), "--output", str(tmp_path / "page.html")]  # fmt: skip
    assert cli.main([*words, "--json", "--max-tokens", "9"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == (tmp_path / "page.html").stat().st_size
    assert "<h1>m: text.txt</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert cli.main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main([*words, "--force", "--no-model"]) == 0
    assert data_of(tmp_path / "page.html")["model"] is None


# ---- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A function that opens a page in headless Chromium: the document after its scripts, and what its console says."""
    program = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no Chromium: the page is not opened in a browser")
    profile = tmp_path_factory.mktemp("profile")

    def opened(page):
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
        ]
        command = [program, *options, "--virtual-time-budget=20000", "--dump-dom", page.resolve().as_uri()]
        run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
        console = [line for line in run.stderr.splitlines() if "CONSOLE" in line or "Uncaught" in line]
        return run.stdout, console

    return opened


def shown(document, name):
    found = re.search(rf'<(\w+) [^>]*id="{name}".*?>(.*?)</\1>', document, re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", "", found[2]))


OPTIONS = [
    {},
    {"embedding_size": 5, "num_layers": 2},
    {"embedding_size": 40, "hidden_size": 40, "num_layers": 2, "residual": True, "norm": "rms"},
    {"embedding_size": 40, "hidden_size": 40, "residual": True, "tie_weights": True},
    {"embedding_size": 12, "hidden_size": 40, "tie_weights": True},
    {"embedding_size": 40, "hidden_size": 40, "num_layers": 2, "norm": "layer"},
]
WINDOWS = [
    {"embedding_size": 5, "num_layers": 3, "window": 2},
    {"embedding_size": 40, "hidden_size": 40, "num_layers": 2, "residual": True, "norm": "rms", "window": 2},
    {"embedding_size": 5, "num_layers": 2, "norm": "layer", "window": 2},
]
HARNESS = """<!doctype html><meta charset="utf-8"><pre id="out"></pre><script>{code}</script><script>
const cases = {cases}, texts = {texts}, results = [];
for (const {{ model, ids }} of cases) {{
  const own = modelOf(model);
  let after = {{ state: own.start() }};
  for (const id of ids) after = own.step(id, after.state);
  results.push(Array.from(new Int32Array(after.logits.buffer)));
}}
const greedy = [...cases[0].ids], own = modelOf(cases[0].model);
for (let state = own.start(), i = 0; i < 20; i++) {{
  const after = own.step(greedy[i], state);
  if (i + 1 >= greedy.length) greedy.push(sample(after.logits, 0, 0, 0));
  state = after.state;
}}
const tokens = texts.map(([name, text]) => TOKENIZERS[name][0](text)), joined = tokens.map((t, i) => TOKENIZERS[texts[i][0]][1](t));
const sums = {sums}.map(([a, b, c]) => fma(a, b, c));
document.getElementById("out").textContent = JSON.stringify({{ results, greedy, tokens, joined, sums }});
</script>"""


def fused_sums():
    """Random triples, then some whose sum in double precision is halfway between two float32 numbers; a * b + c rounded once."""
    random = np.random.default_rng(0)
    a, b, c = random.normal(size=(3, 2000))
    x, sign = 2.0 ** -random.integers(15, 20, 1000), random.choice([-1, 1], 1000)
    a[:1000], b[:1000] = sign * 2.0**-12 * (1 + x), 2.0**-12 * (1 - x)  # the product is 2^-24 (1 - x^2)
    c[:1000] = random.choice([-1, 1], 1000) * (1 + 2.0**-23 * random.integers(0, 8, 1000))
    a, b, c = np.float32([a, b, c])
    exact = a.astype(np.longdouble) * b + c  # with 64 bits, without error in the first half
    twice = (a.astype(float) * b + c).astype(np.float32)
    assert (twice != exact.astype(np.float32)).sum() > 100
    return np.stack([a, b, c], 1).tolist(), exact.astype(np.float32)


def test_the_model_in_the_page_computes_the_bits_of_the_compiled_one(browser, tmp_path):
    from rnnfast.text.tokenise import detokenize, tokenize

    ids, cases, logits = [1, 0, 6, 3, 3, 2, 5, 4], [], []
    for cell in LAYERS:
        for options in OPTIONS + WINDOWS * (cell == "qrnn"):
            model = rf.LanguageModel(7, **{"cell": cell, "hidden_size": 9, "seed": len(cases), **options})
            cases.append({"model": explaining.reading(model, ids)["model"], "ids": ids})
            state = None
            for i in ids:
                after, state = model.step([i], state)
            logits.append(after[0])
    vocab = rf.Vocab.from_list(["<unk>", *"abcdef"])
    first = rf.LanguageModel(vocab, cell=next(iter(LAYERS)), hidden_size=9, seed=0)
    written = rf.generate(first, vocab.decode(ids), temperature=0, length=13)
    names = explaining._IN_JAVASCRIPT
    dropped = ["你好", "123"]  # of letters outside a to z, and of none
    text = "It’s a “test” (of <unk> words), naïve: हिन्दी e\u0301t, 你好!\n x_1 2²  end."
    texts = [[name, text] for name in names] + [["d2l-word", text] for text in dropped]
    triples, sums = fused_sums()
    code = (PAGE / "model.js").read_text(encoding="utf-8")
    table = re.search(r"^const TOKENIZERS = {(.*?)^};", code, re.DOTALL | re.MULTILINE)[1]
    assert re.findall(r'^  "?([\w-]+)"?: \[', table, re.MULTILINE) == list(names)
    parts = {"cases": json.dumps(cases), "texts": json.dumps(texts), "sums": json.dumps(triples)}
    (tmp_path / "harness.html").write_text(HARNESS.format(code=code, **parts), encoding="utf-8")
    document, console = browser(tmp_path / "harness.html")
    assert not console
    found = json.loads(shown(document, "out"))
    assert vocab.decode(found["greedy"]) == written
    assert found["tokens"] == [tokenize(text, name) for name in names] + [[], []]
    assert found["joined"] == [detokenize(tokenize(text, name), name) for name in names] + ["", ""]
    assert np.array_equal(np.float32(found["sums"]), sums)
    for case, bits, expected in zip(cases, found["results"], logits):
        own = np.array(bits, np.int32).view(np.float32)
        np.testing.assert_allclose(own, expected, atol=1e-6, err_msg=str(case["model"]["config"]))
        if FUSED:
            assert bits == expected.view(np.int32).tolist(), case["model"]["config"]


TRANSLATORS = [
    {"decoder": "context_as_state", "num_layers": 2},
    {"decoder": "context_as_input"},
    {"decoder": "d2l", "attention": "additive", "readout": "all", "num_layers": 2},
    {"decoder": "previous", "attention": "dot", "embedding_size": 19},
    {"attention": "general", "bidirectional": True, "context": "mean", "num_layers": 2},
    {"bidirectional": True, "context": "max", "readout": "all", "initial_state": "context"},
    {"initial_state": "zero", "readout": "all", "attention": "dot"},
]
TRANSLATING = """<!doctype html><meta charset="utf-8"><pre id="out"></pre><script>{code}</script><script>
const bitsOf = (values) => (values ? Array.from(new Int32Array(Float32Array.from(values).buffer)) : []);
const results = {cases}.map(({{ model, ids }}) => {{
  const own = modelOf(model, Translator), encoded = own.encode(ids), first = own.step(encoded, BOS, encoded.start);
  let found;
  for (found of own.translate(ids));
  return {{ ...found, logits: bitsOf(first.logits), attention: found.attention.map(bitsOf) }};
}});
document.getElementById("out").textContent = JSON.stringify(results);
</script>"""


def test_the_translator_in_the_page_computes_the_bits_of_the_compiled_one(browser, tmp_path):
    ids, cases, expected = [5, 4, 7, 8, 3], [], []
    forms = [(cell, {}) for cell in LAYERS] + [("qrnn", {"encoder_window": 2})]
    for cell, form in forms:
        for options in TRANSLATORS:
            options = {"cell": cell, "hidden_size": 19, "embedding_size": 7, "init_scale": 0.6, **form, **options}
            model = rf.Seq2Seq(9, 11, seed=len(cases), **options)
            cases.append({"model": explaining._description(model), "ids": ids})
            encoded = model._core.encode(np.int32(ids)[:, None], np.int64([len(ids)]))
            logits = model._core.step(encoded, np.int32([2]), model._core.initial_state(encoded))[0]
            attention = model.config["attention"] != "none"
            ((found,),) = translations(model, [ids[:-1]], attention=attention)
            expected.append((logits, found))
    code = "".join((PAGE / name).read_text(encoding="utf-8") for name in ("model.js", "translator.js"))
    file = tmp_path / "harness.html"
    file.write_text(TRANSLATING.format(code=code, cases=json.dumps(cases)), encoding="utf-8")
    document, console = browser(file)
    assert not console
    compared = list(zip(cases, json.loads(shown(document, "out")), expected))
    assert len(compared) == len(forms) * len(TRANSLATORS)
    for case, own, (logits, found) in compared:
        config = str(case["model"]["config"])
        np.testing.assert_allclose(
            np.array(own["logits"], np.int32).view(np.float32), logits, atol=1e-5, err_msg=config
        )
        if FUSED:
            assert own["logits"] == logits.view(np.int32).tolist(), config
            assert (own["tokens"], own["ended"]) == (found.ids.tolist(), found.ended), config
            assert math.isclose(own["logProb"], found.log_prob, rel_tol=1e-9), config
            if found.attention is not None:
                assert own["attention"] == found.attention.view(np.int32).tolist(), config


def test_a_translator_s_page_translates_what_is_typed(browser, tmp_path):
    tens, ones = {"twenty": 2, "thirty": 3, "forty": 4}, {"one": 1, "two": 2, "three": 3}
    pairs = rf.ParallelCorpus.from_pairs([(f"{a} {b}", f"{x} {y}") for a, x in tens.items() for b, y in ones.items()])
    model = rf.Seq2Seq(
        pairs.source_vocab, pairs.target_vocab, attention="additive", embedding_size=8, hidden_size=16, seed=0
    )
    rf.fit(model, pairs, epochs=20, batch_size=4, lr=0.02, progress=False)
    page = rf.explain(model, "twenty one\nthirty three\n", tmp_path / "page.html")
    sentence = "forty <eos> two mice"
    with page.open("a", encoding="utf-8") as file:
        file.write(
            f'<script>element("prompt").value = {json.dumps(sentence)}; element("form").requestSubmit();</script>'
        )
    document, console = browser(page)
    assert not console
    ((best,),) = rf.translate(model, [sentence], attention=True)
    written = re.search(r'<output id="written".*?</output>', document, re.DOTALL)[0]
    assert f"<b>{best.text}</b>" in written
    assert f"log P = −{-best.log_prob:.3f} nats" in written
    weights = np.array(re.findall(r"--a: ?([\d.]+)", written), float).reshape(best.attention.shape)
    np.testing.assert_allclose(weights, best.attention, atol=5.1e-4)
    heads = [html.unescape(token) for token in re.findall(r'<th scope="col"><span>(.*?)</span>', written)]
    assert heads == best.source_tokens == ["forty", "<unk>", "two", "<unk>", "<eos>"]
    assert "the first 2 sentences have the translations of rnnfast" in shown(document, "agreement")


def test_the_page_shows_python_s_numbers_and_continues_as_python_does(browser, tmp_path):
    corpus = rf.Corpus.from_text(TEXT)
    model = rf.LanguageModel(corpus.vocab, cell="gru", hidden_size=16, seed=1)
    rf.fit(model, corpus, epochs=5, batch_size=2, num_steps=10, lr=0.02, optimizer="adam")
    page = rf.explain(model, TEXT, tmp_path / "page.html")
    typing = {"prompt": "He said", "temperature": 1, "seed": 12, "length": 60}
    typed = "".join(f"element({name!r}).value = {json.dumps(value)};" for name, value in typing.items())
    with page.open("a", encoding="utf-8") as file:
        file.write(f'<script>{typed} element("form").requestSubmit();</script>')
    document, console = browser(page)
    assert not console
    assert shown(document, "written").replace("⏎", "") == rf.generate(model, "He said", length=60, seed=12)
    assert shown(document, "text").replace("⏎", "") == TEXT
    bits = dict(enumerate(bits for _, bits in rf.surprisal(model, TEXT)))
    assert f"{bits[0]:.3f} bits" in shown(document, "step")  # of the second token, which is selected
    titles = [html.unescape(title) for title in re.findall(r'title="([^"]*bits)"', document)]
    assert len(titles) >= len(TEXT) - 1
    assert all(abs(float(t.split()[-2]) - bits[i]) < 0.0051 for i, t in enumerate(titles[: len(TEXT) - 1]))
    assert math.isfinite(bits[0])
    if FUSED:
        assert "bit-identical" in shown(document, "agreement")


def test_the_code_of_the_guide_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guide = (Path(__file__).parents[2] / "docs" / "explain.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", guide, re.DOTALL | re.MULTILINE):
        exec(compile(block, "docs/explain.md", "exec"), {})
    features = {feature["name"]: max(map(abs, feature["r"])) for feature in data_of(tmp_path / "page.html")["features"]}
    assert features["inside quotes"] > 0.5
    assert features["inside brackets"] > 0.4
