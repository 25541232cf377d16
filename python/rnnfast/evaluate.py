"""How well a model predicts a text."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rnnfast.data import Corpus


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


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def evaluate(model: Any, corpus: Any, *, batch_size: int = 1, num_steps: int = 128) -> Evaluation:
    """Predicts every token but the first, in order, with the state carried from the first to the last.

    With ``batch_size`` above 1 the text is cut into that many parts, each started without memory: faster, and a
    little pessimistic.

    >>> from rnnfast.models import LanguageModel
    >>> result = evaluate(LanguageModel(4, hidden_size=3, seed=0), np.array([1, 2, 3, 1, 2]))
    >>> result.tokens, 1 < result.perplexity < 16
    (4, True)
    """
    ids = np.asarray(corpus.ids if isinstance(corpus, Corpus) else corpus)
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"the text has {ids.size} tokens, expected at least 2")
    if batch_size < 1 or num_steps < 1:
        raise ValueError(f"batch_size and num_steps are {batch_size} and {num_steps}, expected at least 1")
    if isinstance(corpus, Corpus) and model.vocab is not None and corpus.vocab != model.vocab:
        raise ValueError(
            "the text was encoded with another vocabulary; make it with Corpus.from_text(..., vocab=model.vocab)"
        )
    rows = min(batch_size, len(ids) - 1)
    length = -(-(len(ids) - 1) // rows)
    x = np.zeros(rows * length, np.int32)
    y = np.full(rows * length, -1, np.int32)  # what fills up the last row counts for nothing
    x[: len(ids) - 1], y[: len(ids) - 1] = ids[:-1], ids[1:]
    x, y = x.reshape(rows, length).T, y.reshape(rows, length).T
    state, parts = None, []
    for t in range(0, length, num_steps):
        part, state = model.nll(x[t : t + num_steps], y[t : t + num_steps], state)
        parts.append(part)
    nll = np.concatenate(parts).T.ravel()[: len(ids) - 1]  # in the text's order, whatever the batches
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
