"""How well a model predicts a text, or a translator the translations."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast._arrays import positive
from rnnfast.data import Corpus, ids_of
from rnnfast.parallel import ParallelCorpus


@dataclass(frozen=True)
class Evaluation:
    """Perplexity exp(mean nll), bits per token, and what both leave out.

    ``oov_rate`` is the share of targets that are ``<unk>``; ``perplexity_without_oov`` counts the others alone.
    """

    perplexity: float
    bits_per_token: float
    tokens: int
    oov_rate: float
    perplexity_without_oov: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PairEvaluation:
    """Perplexity exp(mean nll) of the target tokens, ``<eos>`` among them, each after the true ones before it;
    ``token_accuracy`` is the share of them that are the model's most probable token there."""

    perplexity: float
    token_accuracy: float
    tokens: int

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def evaluate(
    model: Any, corpus: Any, *, batch_size: int | None = None, num_steps: int = 128, parts: int | None = None
) -> Any:
    """An :class:`Evaluation` of a text: predicts every token but the first, in order, with the state carried from the first
    to the last. Of a ParallelCorpus a :class:`PairEvaluation`: predicts every target token given its source.

    Parameters
    ----------
    model : a network or an ``NGram``: whatever has ``nll`` and ``vocab``
    corpus : Corpus or ids; or ParallelCorpus for a ``Seq2Seq``
    parts : cut the text into that many parts, each started without memory: more at once, and a little pessimistic.
        None: as many as ``batch_size``
    batch_size, num_steps : parts, and tokens of each, that are computed at once; pairs at once. None: 1, and 64 pairs. For the
        same ``parts`` they do not change the result, not by a bit

    >>> from rnnfast.models import LanguageModel
    >>> result = evaluate(LanguageModel(4, hidden_size=3, seed=0), np.array([1, 2, 3, 1, 2]))
    >>> result.tokens, 1 < result.perplexity < 16
    (4, True)
    """
    if isinstance(corpus, ParallelCorpus):
        return _evaluate_pairs(model, pairs_for(model, corpus), 64 if batch_size is None else batch_size)
    batch_size = 1 if batch_size is None else positive(batch_size, "batch_size")
    positive(num_steps, "num_steps")
    parts = batch_size if parts is None else positive(parts, "parts")
    ids = ids_for(model, corpus)
    nll = _nll(model, ids, min(parts, len(ids) - 1), batch_size, num_steps)
    unknown = ids[1:] == 0 if model.vocab is not None else np.zeros(len(nll), bool)
    mean = float(nll.sum() / len(nll))
    known = nll[~unknown]
    return Evaluation(
        perplexity=_exp(mean),
        bits_per_token=mean / math.log(2),
        tokens=len(nll),
        oov_rate=float(unknown.mean()),
        perplexity_without_oov=_exp(float(known.mean())) if len(known) else math.nan,
    )


def check_fits(model: Any, corpus: Any) -> None:
    """Raises what :func:`evaluate` would raise of a corpus that is not for ``model``."""
    (pairs_for if isinstance(corpus, ParallelCorpus) else ids_for)(model, corpus)


def ids_for(model: Any, corpus: Any) -> NDArray[Any]:
    """The ids of a text for ``model``; ``ValueError`` if it is too short or was encoded with another vocabulary."""
    if getattr(model, "kind", None) == "seq2seq":
        raise TypeError("a text is for a language model; a Seq2Seq reads pairs, a ParallelCorpus")
    if isinstance(corpus, Corpus) and model.vocab is not None and corpus.vocab != model.vocab:
        raise ValueError(
            "the text was encoded with another vocabulary; make it with Corpus.from_text(..., vocab=model.vocab)"
        )
    ids = ids_of(corpus, vocab_size_of(model))
    if len(ids) < 2:
        raise ValueError(f"the text has {len(ids)} tokens, expected at least 2")
    return ids


def vocab_size_of(model: Any) -> int | None:
    """How many tokens ``model`` knows; None if it does not say."""
    if getattr(model, "vocab", None) is not None:
        return len(model.vocab)
    size = getattr(model, "vocab_size", None) or getattr(model, "config", {}).get("vocab_size")
    return None if size is None else int(size)


def pairs_for(model: Any, pairs: ParallelCorpus) -> ParallelCorpus:
    """The pairs; ``TypeError`` if ``model`` is no translator, ``ValueError`` if it has other vocabularies."""
    if getattr(model, "kind", None) != "seq2seq":
        raise TypeError(f"pairs are for a translator, a Seq2Seq, not for a {type(model).__name__}")
    for side in ("source_vocab", "target_vocab"):
        known = getattr(model, side)
        if known is not None and known != getattr(pairs, side):
            raise ValueError(
                f"the pairs were encoded with another {side}; make them with ParallelCorpus.from_pairs(..., "
                "source_vocab=model.source_vocab, target_vocab=model.target_vocab)"
            )
    return pairs


def _evaluate_pairs(model: Any, pairs: ParallelCorpus, batch_size: int) -> PairEvaluation:
    positive(batch_size, "batch_size")
    nll: list[Any] = [None] * len(pairs)
    right = 0
    for numbers in pairs.in_order(batch_size):
        batch = pairs.batch(numbers)
        lost, likeliest = model.nll(*batch), model.predictions(*batch)
        wanted = batch.target[1:]
        right += int(np.count_nonzero((likeliest == wanted) & (wanted >= 0)))
        for row, i in enumerate(numbers):
            nll[i] = lost[: len(pairs.target_ids[i]), row]
    each = np.concatenate(nll)  # in the order of the pairs, so that the sum does not depend on the batches
    return PairEvaluation(_exp(float(each.sum() / len(each))), right / len(each), len(each))


def _nll(model: Any, ids: NDArray[Any], parts: int, batch_size: int, num_steps: int) -> NDArray[np.float64]:
    """-log P of every token but the first, in the text's order."""
    length = -(-(len(ids) - 1) // parts)
    x = np.zeros(parts * length, np.int32)
    y = np.full(parts * length, -1, np.int32)  # what fills up the last part counts for nothing
    x[: len(ids) - 1], y[: len(ids) - 1] = ids[:-1], ids[1:]
    x, y = x.reshape(parts, length).T, y.reshape(parts, length).T
    nll = np.empty((length, parts))
    for n in range(0, parts, batch_size):
        rows, state = slice(n, n + batch_size), None
        for t in range(0, length, num_steps):
            steps = slice(t, t + num_steps)
            nll[steps, rows], state = model.nll(x[steps, rows], y[steps, rows], state)
    flat: NDArray[np.float64] = nll.T.ravel()[: len(ids) - 1]
    return flat


def surprisal(model: Any, text: str, *, context: str = "") -> list[tuple[str, float]]:
    """Each token of ``text`` and -log2 P(token | all before it), in bits.

    Without ``context`` the first token is given and not predicted; with one, every token of ``text`` is. A sentence of
    a model of lines is best begun with ``context="\\n"``.

    >>> from rnnfast.ngram import NGram
    >>> model = NGram(1, "none").fit(Corpus.from_text("abab"))
    >>> surprisal(model, "ab", context="a")
    [('a', 1.0), ('b', 1.0)]
    """
    if model.vocab is None:
        raise ValueError("the model has no vocabulary to read text with; use model.nll with token ids")
    before, own = model.vocab.encode_text(context), model.vocab.encode_text(text)
    if len(own) == 0:
        return []
    ids = np.concatenate([before, own]) if len(before) else own
    bits = _nll(model, ids, 1, 1, 1024) / math.log(2) if len(ids) > 1 else np.empty(0)
    predicted = ids[max(1, len(before)) :]
    return list(zip(model.vocab.readable(predicted), bits[len(bits) - len(predicted) :].tolist()))


def log_prob(model: Any, text: str, *, context: str = "") -> float:
    """Joint log-probability of ``text`` in nats, by the chain rule: the sum over what :func:`surprisal` predicts."""
    return math.log(2) * -sum(bits for _, bits in surprisal(model, text, context=context))
