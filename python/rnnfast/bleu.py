"""BLEU: the agreement of a translation with its reference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rnnfast._expect import brief

NEEDS_SACREBLEU = "corpus BLEU needs sacrebleu: pip install 'rnnfast[mt]'"


def bleu(prediction: str | Sequence[str], reference: str | Sequence[str], k: int = 4) -> float:
    r"""BLEU of one sentence as in Dive into Deep Learning (section 10.7.6), from 0 to 1; of texts or lists of tokens.

    .. math:: \exp\bigl(\min(0, 1 - \mathrm{len}_{label} / \mathrm{len}_{pred})\bigr) \prod_{n=1}^{k} p_n^{1/2^n}

    p_n is the share of the prediction's n-grams that are in the reference, each counted at most as often as it occurs there; n
    ends at the length of the prediction if that is below ``k``. A text is split at white space; an empty prediction scores 0.

    >>> bleu("he is calm .", "he is calm ."), round(bleu("he is calm now .", "he is calm .", k=2), 3)
    (1.0, 0.752)
    """
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1")
    predicted, wanted = _tokens(prediction), _tokens(reference)
    if not wanted:
        raise ValueError("the reference has no token, expected at least one")
    if not predicted:
        return 0.0
    score = math.exp(min(0.0, 1 - len(wanted) / len(predicted)))
    for n in range(1, min(k, len(predicted)) + 1):
        matches = sum((_grams(predicted, n) & _grams(wanted, n)).values())  # the smaller of both counts
        score *= (matches / (len(predicted) - n + 1)) ** (0.5**n)
    return score


def _tokens(text: str | Sequence[str]) -> Sequence[str]:
    return text.split() if isinstance(text, str) else text


def _grams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


@dataclass(frozen=True)
class CorpusBleu:
    """BLEU of a test set, from 0 to 100, and the ``signature`` that describes how it was computed.

    ``precisions`` are those of 1- to 4-grams in per cent; ``brevity_penalty`` is below 1 if the translations are shorter.

    >>> from rnnfast import corpus_bleu
    >>> found = corpus_bleu(["the cat sat on the mat"], ["the cat sat on a mat"])
    >>> [round(p) for p in found.precisions], found.brevity_penalty
    ([83, 60, 50, 33], 1.0)
    """

    score: float
    precisions: tuple[float, ...]
    brevity_penalty: float
    length_ratio: float
    signature: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def corpus_bleu(
    predictions: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    lower: bool = False,
    tokenize: str = "13a",
) -> CorpusBleu:
    """BLEU of a test set by sacrebleu (extra: ``mt``), as papers report it.

    Parameters
    ----------
    predictions, references : one text per sentence, or several references for each
    lower : ignore case
    tokenize : sacrebleu's tokenizer; ``"none"`` for texts that are already tokenized

    Raises ``ImportError``, which names the extra, if sacrebleu is not installed.

    Source: K. Papineni et al., ACL 2002; M. Post, arXiv:1804.08771, for the signature.

    >>> round(corpus_bleu(["the cat sat on the mat"], ["the cat sat on a mat"]).score, 1)
    53.7
    """
    try:
        from sacrebleu.metrics.bleu import BLEU  # where it is defined, for type checkers
    except ImportError:
        raise ImportError(NEEDS_SACREBLEU) from None
    if len(predictions) != len(references) or not len(predictions):
        raise ValueError(
            f"{len(predictions)} predictions and {len(references)} references, expected equal numbers, at least 1"
        )
    each = [[one] if isinstance(one, str) else list(one) for one in references]
    if len({len(several) for several in each}) != 1 or not each[0]:
        raise ValueError(
            "the sentences have different numbers of references, expected the same number for all, at least 1"
        )
    try:
        metric = BLEU(lowercase=lower, tokenize=tokenize)
    except KeyError:
        raise ValueError(f"tokenize is {brief(tokenize)}, which is not a tokenizer of sacrebleu") from None
    found = metric.corpus_score(list(predictions), [list(stream) for stream in zip(*each)])
    return CorpusBleu(
        score=float(found.score), precisions=tuple(map(float, found.precisions)), brevity_penalty=float(found.bp),
        length_ratio=float(found.sys_len / found.ref_len), signature=str(metric.get_signature()),
    )  # fmt: skip
