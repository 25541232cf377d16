"""How much of a translation its reference has, too: BLEU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rnnfast._expect import brief

NEEDS_SACREBLEU = "corpus BLEU needs sacrebleu: pip install 'rnnfast[mt]'"


def bleu(prediction: str | Sequence[str], reference: str | Sequence[str], k: int = 4) -> float:
    r"""BLEU of one sentence as Dive into Deep Learning has it (section 10.7.6), from 0 to 1; of texts or lists of tokens.

    .. math:: \exp\bigl(\min(0, 1 - \mathrm{len}_{label} / \mathrm{len}_{pred})\bigr) \prod_{n=1}^{k} p_n^{1/2^n}

    p_n is the share of the prediction's n-grams that the reference has, each of them as often as it is there at most; n runs
    to the prediction's length where that is below ``k``. A text is cut up at white space; an empty prediction has 0.

    >>> bleu("he is calm .", "he is calm ."), round(bleu("he is calm now .", "he is calm .", k=2), 3)
    (1.0, 0.752)
    """
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1")
    predicted, wanted = _tokens(prediction), _tokens(reference)
    if not wanted:
        raise ValueError("the reference has no token, so nothing can be compared with it")
    if not predicted:
        return 0.0
    score = math.exp(min(0.0, 1 - len(wanted) / len(predicted)))
    for n in range(1, min(k, len(predicted)) + 1):
        matches = sum((_grams(predicted, n) & _grams(wanted, n)).values())  # each as often as both have it
        score *= (matches / (len(predicted) - n + 1)) ** (0.5**n)
    return score


def _tokens(text: str | Sequence[str]) -> Sequence[str]:
    return text.split() if isinstance(text, str) else text


def _grams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


@dataclass(frozen=True)
class CorpusBleu:
    """BLEU of a whole test set, from 0 to 100, and the ``signature`` that says how it was computed.

    ``precisions`` are those of 1- to 4-grams in per cent; ``brevity_penalty`` is below 1 where the translations are shorter.
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
    predictions, references : a readable text for each sentence, or several references for each
    lower : do not tell capitals from small letters
    tokenize : how sacrebleu cuts texts up; ``"none"`` for texts whose tokens stand apart already

    Raises ``ImportError`` that names the extra if sacrebleu is not there.

    Source: K. Papineni et al., ACL 2002; M. Post, arXiv:1804.08771, for the signature.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU  # where it is defined: type checkers ask
    except ImportError:
        raise ImportError(NEEDS_SACREBLEU) from None
    if len(predictions) != len(references) or not len(predictions):
        raise ValueError(
            f"{len(predictions)} predictions and {len(references)} references, expected as many, and at least one"
        )
    each = [[one] if isinstance(one, str) else list(one) for one in references]
    if len({len(several) for several in each}) != 1 or not each[0]:
        raise ValueError(
            "the sentences have different numbers of references, expected as many for each, and at least one"
        )
    try:
        metric = BLEU(lowercase=lower, tokenize=tokenize)
    except KeyError:
        raise ValueError(f"tokenize is {brief(tokenize)}, which is no tokenizer of sacrebleu's") from None
    found = metric.corpus_score(list(predictions), [list(stream) for stream in zip(*each)])
    return CorpusBleu(
        score=float(found.score), precisions=tuple(map(float, found.precisions)), brevity_penalty=float(found.bp),
        length_ratio=float(found.sys_len / found.ref_len), signature=str(metric.get_signature()),
    )  # fmt: skip
