"""A page that shows what a model computes as it reads a text; it is one HTML file, in which the model runs too."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import as_ids, positive
from rnnfast._expect import kind_of
from rnnfast.files import PathLike, checked_path, write_text
from rnnfast.info import info
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.study.unroll import GATES, Unrolled, unroll
from rnnfast.text.pairs import encode_sentence
from rnnfast.text.tokenise import BEGIN_OF_SENTENCE, END_OF_SENTENCE, check_text
from rnnfast.text.vocab import Decoder, Vocab
from rnnfast.translate import Translation, translations

LARGEST_PAGE = 32_000_000  # bytes; browsers on phones still open it
_BASE64 = 4 / 3 * 4  # bytes of a float32 in the page
_PROMPT = 40  # characters of the text that the prompt begins with
_IN_JAVASCRIPT = ("char", "word", "word-v1", "whitespace", "d2l-char", "d2l-word", "d2l-nmt")  # tokenizers of model.js
_OPEN, _CLOSE, _STRAIGHT = "“«„「『", "”»」』", '"'
_FOLDER = Path(__file__).parent / "page"


def explain(
    model: LanguageModel | Seq2Seq,
    text: str | ArrayLike,
    path: PathLike,
    *,
    max_tokens: int = 1000,
    with_model: bool = True,
    title: str | None = None,
) -> Path:
    """Writes a page that shows what ``model`` computes as it reads ``text``: one HTML file that needs no network.

    Of a language model, the page colors each token by one unit's state or gate, lists the units by their correlation with the position in a
    line, quotes, brackets and the like, and shows the surprisal and each step of :func:`rf.unroll`. In a prompt box the model continues a
    text: it runs in JavaScript, from the weights in the page, with bit-identical logits (on every CPU with a fused multiply-add). Of a
    translator, the page shows each line of ``text`` with its translation and the attention, and a prompt box translates a sentence in the
    same way, greedily.

    Parameters
    ----------
    model : a LanguageModel in float32, or a Seq2Seq with vocabularies
    text : a text, or token ids (T,) for a language model
    path : the file to write; its folder is created
    max_tokens : how many tokens of the text the page shows, from its beginning
    with_model : False: leave the weights and the prompt box out. A translator's page has none either, and says so, if its weights are
        not float32 or would take more than 32 MB, or if its tokenizer does not exist in JavaScript
    title : of the page; None: what the model is

    Returns the path. Raises ``ValueError`` for a text without tokens, numbers that are not finite, a model with ``weights`` other than
    ``"f32"``, and a page of more than 32 MB: about 6 million weights or, without the model, 1,000 tokens of an LSTM of 1,200 units.

    Source: A. Karpathy, J. Johnson, L. Fei-Fei, arXiv:1506.02078, for units that follow quotes, brackets and lines.

    >>> import tempfile
    >>> from rnnfast.models.language_model import LanguageModel
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = explain(LanguageModel(5, hidden_size=8, seed=0), [0, 3, 1], folder + "/page.html")
    ...     page.read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """
    file = Path(checked_path(path))
    positive(max_tokens, "max_tokens")
    if title is not None:
        check_text(title, "the title")
    if isinstance(model, Seq2Seq):
        data, body = translating(model, text, max_tokens=max_tokens, with_model=with_model)
        scripts = ["model.js", "translator.js", "translate.js"] if data["model"] else []
    elif isinstance(model, LanguageModel):
        data = reading(model, text, max_tokens=max_tokens, with_model=with_model)
        body, scripts = _asset("text.html"), ["model.js", "page.js"]
    else:
        raise TypeError(f"the model is {kind_of(model)}, expected an rf.LanguageModel or an rf.Seq2Seq")
    name, summary = data.pop("title"), data.pop("summary")
    # In a script element, "<" could end it.
    fields = {
        "title": escape(title or name),
        "summary": escape(summary),
        "version": info()["version"],
        "style": _asset("page.css"),
        "body": body,
        "data": json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
        "scripts": "\n".join(f"<script>\n{_asset(script)}</script>" for script in scripts),
    }
    page = "".join(
        fields[part] if i % 2 else part for i, part in enumerate(_asset("page.html").replace("{{", "}}").split("}}"))
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, page)
    return file


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


# ---- language models


def reading(
    model: LanguageModel, text: str | ArrayLike, *, max_tokens: int = 1000, with_model: bool = True
) -> dict[str, Any]:
    """The numbers of the page of a language model, as JSON holds them; see :func:`explain`."""
    if model.config["weights"] != "f32":
        raise ValueError(
            f"the model computes with weights {model.config['weights']!r}, and the page with float32: "
            'load it with rf.load(path, weights="f32")'
        )
    vocab, ids = model.vocab, _ids(model, text)
    total = len(ids)
    ids = ids[:max_tokens]
    size, gates = int(model.config["hidden_size"]), GATES.get(model.config["cell"], "")
    _check_size(model, len(ids) * size * (1 + len(gates)), with_model)
    with np.errstate(all="ignore"):
        steps = unroll(model, ids, top=5)
    _check_finite(steps)
    pieces = [f" {i}" for i in ids] if vocab is None else _pieces(vocab, ids)
    states = np.stack([step.h[-1] for step in steps.steps])
    series = {"h": states, **{g: np.stack([s.gates[g] for s in steps.steps]) for g in steps[0].gates if g != "h"}}
    data = {
        **_heading(model, steps, total),
        "hidden_size": size,
        "ids": [int(i) for i in ids],
        "pieces": pieces,
        "surprisal": [None, *(step.loss / math.log(2) for step in steps.steps if step.loss is not None)],
        "next": [[[token, round(p, 6)] for token, p in step.next] for step in steps.steps],
        "series": {name: _base64(values) for name, values in series.items()},
        "features": correlations(pieces, states),
        "model": None,
    }
    if with_model:
        readable = vocab is not None and vocab.tokenizer in _IN_JAVASCRIPT
        vocabulary = _vocabulary(vocab) if vocab is not None and readable else None
        data["model"] = {"vocabulary": vocabulary, **_description(model)}
        data["prompt"] = "".join(pieces)[:_PROMPT].rstrip()
    return data


def _ids(model: LanguageModel, text: str | ArrayLike) -> NDArray[np.int32]:
    """The ids that the model reads: after ``<bos>``, if its vocabulary has it."""
    vocab, size = model.vocab, int(model.config["vocab_size"])
    if not isinstance(text, str):
        ids = as_ids(text, "the text", size, ndim=1)
    elif vocab is None:
        raise ValueError("the model has no vocabulary: give token ids in place of a text")
    else:
        ids = vocab.encode_text(text)
        if len(ids) and BEGIN_OF_SENTENCE in vocab and ids[0] != vocab[BEGIN_OF_SENTENCE]:
            ids = np.concatenate([np.array([vocab[BEGIN_OF_SENTENCE]], np.int32), ids])
    if len(ids) == 0:
        raise ValueError("the text has no tokens, expected at least one")
    return ids


def _check_size(model: LanguageModel, numbers: int, with_model: bool) -> None:
    weights = model.num_parameters if with_model else 0
    size = _BASE64 * (numbers + weights)
    if size <= LARGEST_PAGE:
        return
    wanted = f"the page would take {size / 1e6:,.0f} MB, expected at most {LARGEST_PAGE / 1e6:.0f}"
    if _BASE64 * weights > LARGEST_PAGE:
        raise ValueError(
            f"{wanted}: the model has {weights:,} weights; leave it out with with_model=False (--no-model)"
        )
    raise ValueError(f"{wanted}: show fewer tokens with max_tokens (--max-tokens)")


def _check_finite(steps: Unrolled) -> None:
    for t, step in enumerate(steps.steps):
        if not (np.isfinite(step.h).all() and math.isfinite(step.loss or 0.0) and math.isfinite(step.next[0][1])):
            raise ValueError(
                f"the model's numbers are not finite at token {t + 1}: its weights have NaN or infinity, or its state grows "
                "without bound; show fewer tokens with max_tokens, or train it again"
            )


def _pieces(vocab: Vocab, ids: NDArray[np.int32]) -> list[str]:
    """The text that each token adds."""
    decoder = Decoder(vocab)
    pieces = [decoder.text(int(i)) for i in ids]
    pieces[-1] += decoder.rest()
    return pieces


def _heading(model: LanguageModel, steps: Unrolled, total: int) -> dict[str, str]:
    config, shown = model.config, len(steps)
    layers = f"{config['num_layers']} layers" if config["num_layers"] > 1 else "1 layer"
    perplexity = f"; perplexity {steps.perplexity:.3f}" if shown > 1 else ""
    tokens = f"{shown:,} token{'s' * (shown > 1)}" if shown == total else f"the first {shown:,} of {total:,} tokens"
    return {
        "title": f"A language model: {config['cell']}, {layers} of {config['hidden_size']} units",
        "summary": f"{model.num_parameters:,} weights, {config['vocab_size']:,} tokens in its vocabulary. "
        f"The text: {tokens}{perplexity}.",
    }


def _description(model: LanguageModel | Seq2Seq) -> dict[str, Any]:
    """Configuration and weights, as JSON holds them."""
    weights = model.state_dict()
    return {
        "config": dict(model.config),
        "tensors": [[name, int(w.size)] for name, w in weights.items()],
        "weights": _base64(np.concatenate([w.ravel() for w in weights.values()])),
    }


def _vocabulary(vocab: Vocab) -> dict[str, Any]:
    return {"tokens": vocab.idx_to_token, "tokenizer": vocab.tokenizer, "lower": vocab.lower}


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")


# ---- what units follow


def correlations(pieces: Sequence[str], states: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Pearson's r of every unit (T, H) with each property of the tokens that varies over the text, the strongest property first.

    A unit that does not vary has r = 0.
    """
    centered = states - states.mean(axis=0, dtype=float)
    found = []
    for name, values in _properties(pieces).items():
        own = np.asarray(values, float) - np.mean(values)
        if not own.any():
            continue
        scale = np.sqrt((own * own).sum() * (centered * centered).sum(axis=0))
        r = np.divide(own @ centered, scale, out=np.zeros(states.shape[1]), where=scale > 0)
        found.append({"name": name, "r": [round(float(value), 4) for value in r]})
    return sorted(found, key=lambda feature: -max(abs(r) for r in feature["r"]))


def _properties(pieces: Sequence[str]) -> dict[str, list[float]]:
    """Properties of each token after it was read."""
    columns: dict[str, list[float]] = {
        name: []
        for name in (
            "position in the line",
            "position in the word",
            "inside quotes",
            "inside brackets",
            "upper case",
            "position in the text",
        )
    }
    line = word = depth = 0
    quoted = False
    for t, piece in enumerate(pieces):
        token = piece.strip(" ")
        line = 0 if "\n" in piece else line + 1
        word = word + 1 if len(token) == 1 and token.isalnum() else 0
        quoted = (quoted or any(c in piece for c in _OPEN)) and not any(c in piece for c in _CLOSE)
        quoted ^= piece.count(_STRAIGHT) % 2 == 1
        depth = max(0, depth + sum(piece.count(c) for c in "([{") - sum(piece.count(c) for c in ")]}"))
        row = (line, word, quoted, depth > 0, token[:1].isupper(), t)
        for values, value in zip(columns.values(), row):
            values.append(float(value))
    return columns


# ---- translators


def translating(
    model: Seq2Seq, text: str | ArrayLike, *, max_tokens: int = 1000, with_model: bool = True
) -> tuple[dict[str, Any], str]:
    """The numbers of the page of a translator, as JSON holds them, and its body; see :func:`explain`."""
    if not isinstance(text, str) or model.source_vocab is None:
        raise ValueError("a translator's page needs a model with vocabularies, and a text with a sentence in each line")
    lines = [line for line in text.splitlines() if line.strip()]
    sentences = _first_sentences(model.source_vocab, lines, max_tokens)
    attention = model.config["attention"] != "none"
    results = [best[0] for best in translations(model, sentences, attention=attention)]
    config = model.config
    shown = f"{len(sentences):,} of {len(lines):,}" if len(sentences) < len(lines) else f"{len(lines):,}"
    obstacle = _obstacle(model) if with_model else "it was left out"
    data: dict[str, Any] = {
        "title": f"A translator: {config['cell']}, {config['hidden_size']} units",
        "summary": f"{model.num_parameters:,} weights, attention: {config['attention']}. {shown} "
        f"sentence{'s' * (len(lines) > 1)}." + (f" No model in the page: {obstacle}." if obstacle else ""),
        "model": None,
    }
    head = "<h2>Translations" + (" and attention" if attention else "") + "</h2>"
    body = head + "".join(map(_sentence, sentences, results))
    if obstacle is None and model.target_vocab is not None:
        vocabularies = {"source": _vocabulary(model.source_vocab), "target": _vocabulary(model.target_vocab)}
        data["model"] = {**vocabularies, **_description(model)}
        read = [encode_sentence(model.source_vocab, sentence).tolist() for sentence in sentences]
        data["translations"] = [[ids, result.ids.tolist()] for ids, result in zip(read, results)]
        data["prompt"] = sentences[0].strip()
        body = _asset("translator.html").replace("</section>\n", f"</section>\n<section>{body}</section>\n", 1)
    return data, body


def _first_sentences(vocab: Vocab, lines: Sequence[str], max_tokens: int) -> list[str]:
    """Whole sentences of at most ``max_tokens`` tokens, or the first one."""
    sentences: list[str] = []
    left = max_tokens
    for line in lines:
        left -= len(vocab.tokenize(line))
        if sentences and left < 0:
            break
        sentences.append(line)
    if not sentences:
        raise ValueError("the text has no tokens, expected at least one")
    return sentences


def _obstacle(model: Seq2Seq) -> str | None:
    """Why this translator does not run in a page; None: it does."""
    if model.config["weights"] != "f32":
        return f"it computes with weights {model.config['weights']!r}, and a page with float32"
    if _BASE64 * model.num_parameters > LARGEST_PAGE:
        return f"its weights would take more than {LARGEST_PAGE / 1e6:.0f} MB"
    vocabularies = [vocab for vocab in (model.source_vocab, model.target_vocab) if vocab is not None]
    if len(vocabularies) < 2:
        return "it writes ids, not words"
    if any(vocab.tokenizer not in _IN_JAVASCRIPT for vocab in vocabularies):
        return "its tokenizer does not exist in JavaScript"
    return None


def _sentence(source: str, result: Translation) -> str:
    ending = "" if result.ended else "; not finished within its maximum length"
    minus = "−" if result.log_prob < 0 else ""
    words = (
        f'<section class="sentence"><p>{escape(source)}</p><p><b>{escape(result.text)}</b></p>'
        f'<p class="quiet">log P = {minus}{abs(result.log_prob):.3f} nats{ending}</p>'
    )
    return words + (_attention_table(result) if result.attention is not None else "") + "</section>"


def _attention_table(result: Translation) -> str:
    """The weights as a table: a column for each token that is read, a row for each that is written."""
    weights = result.attention
    assert weights is not None
    heads = "".join(f'<th scope="col"><span>{escape(token)}</span></th>' for token in result.source_tokens)
    rows = []
    for token, row in zip([*result.tokens, END_OF_SENTENCE], weights):
        cells = "".join(
            f'<td style="--a:{a:.3f}">{f"{a:.2f}"[1:] if 0.005 <= a < 0.995 else round(a) or ""}</td>'
            for a in row.tolist()
        )
        rows.append(f'<tr><th scope="row">{escape(token)}</th>{cells}</tr>')
    return (
        '<div class="wide"><table class="attention"><caption>Attention: each row adds up to 1</caption>'
        f'<thead><tr><th class="axis">written ↓ &nbsp; read →</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
