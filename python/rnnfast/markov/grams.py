"""N-grams of a text in sorted arrays: look-up, counting and smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]


@dataclass
class Grams:
    """The n-grams of one order. An n-gram's key is (place of its first n-1 tokens in the order below) * V + last token.

    Keys are sorted, so the continuations of a context are contiguous and a look-up is a binary search.
    """

    keys: Ints
    log_p: Reals  # log P(last token | those before it)
    log_backoff: Reals  # as a context: the factor on the shorter context's probabilities for unseen tokens

    def find(self, prefix: Ints, token: Ints, vocab_size: int) -> Ints:
        """The place of every n-gram prefix + token, -1 where there is none."""
        wanted = prefix * vocab_size + token
        if len(self.keys) == 0:
            return np.full(wanted.shape, -1, np.int64)
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where((prefix >= 0) & (token >= 0) & (self.keys[place] == wanted), place, -1)


def tokens_of(keys: Sequence[Ints], size: int) -> Ints:
    """Token ids, (count, n), of the n-grams of the last order in ``keys``, which holds those of every order up to n."""
    columns: list[Ints] = []
    place = np.arange(len(keys[-1]))
    for level in reversed(keys[1:]):
        place, last = np.divmod(level[place], size)
        columns.append(last)
    return np.stack([*columns, place][::-1], axis=1)


@dataclass
class Level:
    """The n-grams of one order as counted."""

    keys: Ints
    counts: Ints
    prefix: Ints  # place in the order below of the n-gram without its last token,
    suffix: Ints  # and without its first
    after_end: NDArray[np.bool_]  # its first token ends a sentence, so nothing precedes it


def count(ids: Ints, order: int, size: int, end: int) -> list[Level]:
    """All n-grams up to ``order``, except those with ``end`` between their first and last token."""
    first = np.arange(size)
    levels = [Level(first, np.bincount(ids, minlength=size), first[:0], first[:0], first == end)]
    place, valid = ids, np.ones(len(ids), bool)  # of the n-gram that ends at each token
    for n in range(2, order + 1):
        valid = valid[:-1] & ((ids[n - 2 : -1] != end) | (n == 2))
        prefix, suffix = place[:-1], place[1:]
        keys, where, inverse, counts = np.unique(
            (prefix * size + ids[n - 1 :])[valid], return_index=True, return_inverse=True, return_counts=True
        )
        prefixes = keys // size
        levels.append(Level(keys, counts, prefixes, suffix[valid][where], levels[-1].after_end[prefixes]))
        place = np.full(len(valid), -1, np.int64)
        place[valid] = inverse.reshape(-1)
    return levels


Estimate = list[tuple[Reals, Reals]]  # for each order P and, as a context, its backoff weight


def _ratio(part: Any, whole: Any, otherwise: float) -> Reals:
    ratio: Reals = np.divide(part, whole, out=np.full(np.shape(whole), otherwise), where=np.asarray(whole) > 0)
    return ratio


def _interpolate(levels: list[Level], size: int, counts: Sequence[Reals], discounts: Sequence[Reals]) -> Estimate:
    """P = (count - discount) / total + (what the discounts leave) * P of the shorter context; last 1 / V."""
    total = max(counts[0].sum(), 1.0)
    p = (counts[0] - discounts[0]) / total + discounts[0].sum() / total / size
    estimate = [(p, np.ones(size))]
    for level, count, discount in zip(levels[1:], counts[1:], discounts[1:]):
        p, backoff = estimate[-1]
        totals = np.bincount(level.prefix, count, minlength=len(p))
        backoff = _ratio(np.bincount(level.prefix, discount, minlength=len(p)), totals, 1.0)
        estimate[-1] = (p, backoff)
        own = _ratio(count - discount, totals[level.prefix], 0.0)
        estimate.append((own + backoff[level.prefix] * p[level.suffix], np.ones(len(own))))
    return estimate


def kneser_ney(levels: list[Level], size: int, alpha: float) -> Estimate:
    """Interpolated modified Kneser-Ney: below the highest order an n-gram counts the different tokens before it."""
    counts = [level.counts.astype(float) for level in levels]
    for n, (level, above) in enumerate(zip(levels, levels[1:])):
        preceded = np.bincount(above.suffix, minlength=len(level.keys)).astype(float)
        counts[n] = np.where(level.after_end, counts[n], preceded) if n else preceded
    discounts = [_discounts(c)[np.minimum(c, 3).astype(int)] for c in counts]
    return _interpolate(levels, size, counts, discounts)


def _discounts(counts: Reals) -> Reals:
    """D_0 to D_3 of Chen and Goodman, equation 17, from how many n-grams occur once, twice, ... four times."""
    n = [float((counts == k).sum()) for k in range(5)]
    if min(n[1:4]) > 0:
        y = n[1] / (n[1] + 2 * n[2])
        discounts = [0.0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))]
        if all(0 <= d <= k for k, d in enumerate(discounts)):
            return np.array(discounts)
    return np.array([0.0, 0.5, 1.0, 1.5])  # kenlm's, for texts that are too small or too regular to estimate them


def laplace(levels: list[Level], size: int, alpha: float) -> Estimate:
    """In backoff form: the highest order and every lower order fall back on 1 / V."""
    estimate: Estimate = [(np.full(len(level.keys), 1.0 / size), np.ones(len(level.keys))) for level in levels]
    top = levels[-1]
    if len(levels) == 1:
        return [((top.counts + alpha) / (top.counts.sum() + alpha * size), np.ones(size))]
    totals = np.bincount(top.prefix, top.counts, minlength=len(levels[-2].keys))
    estimate[-2] = (estimate[-2][0], np.where(totals > 0, alpha * size / (totals + alpha * size), 1.0))
    estimate[-1] = ((top.counts + alpha) / (totals[top.prefix] + alpha * size), estimate[-1][1])
    return estimate


def relative(levels: list[Level], size: int, alpha: float) -> Estimate:
    """Relative frequencies; only an unseen context falls back on a shorter one."""
    counts = [level.counts.astype(float) for level in levels]
    return _interpolate(levels, size, counts, [np.zeros(len(c)) for c in counts])


SMOOTHINGS = {"none": relative, "laplace": laplace, "kneser_ney": kneser_ney}
