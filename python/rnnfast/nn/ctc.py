"""Connectionist temporal classification: the probability of a sequence of labels, over all its alignments with the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import as_float32, as_ids, as_int32, between, row_lengths
from rnnfast._expect import listed
from rnnfast.nn.loss import Loss, Terms
from rnnfast.protocols import Array

_NEVER = -1e30  # the log of 0 in a recursion: finite, so that no difference is NaN
_SMALL = -50.0  # the log of a share that a sum in float64 does not see; smaller ones would make exp slow
_Reals = NDArray[np.float64]


class Labels(NamedTuple):
    """The labels of N rows."""

    ids: NDArray[np.int64]  # (N, S), -1 from a row's end on
    lengths: NDArray[np.int64]  # (N,)


class CTCLoss(Loss):
    r"""−log P(labels | y) / number of labels, of logits y (T, N, K), as ``torch.nn.CTCLoss`` on log-softmax(y).

    P sums over all alignments: at each step the network emits a label or ``blank``; repeated labels count once unless a blank is between
    them. The gradient needs P with and without the steps after t, one recursion over the steps forward and one backward, both in float64
    and log space.

    Targets are a list with the labels of each row, or an array (N, S) in which a row's labels end at the first negative id. ``lengths``
    are the steps of each row.

    Parameters
    ----------
    blank : the id that means "no label"
    zero_infinity : rows with more labels than steps allow count in the mean, with loss and gradient 0. Default: they raise ``ValueError``

    Source: A. Graves et al., ICML 2006.

    >>> round(CTCLoss()(np.zeros((2, 1, 2)), [[1]]), 4)  # alignments 1-, -1 and 11, each of probability 1/4
    0.2877
    """

    targets = "labels"

    def __init__(self, *, blank: int = 0, zero_infinity: bool = False) -> None:
        self.blank, self.zero_infinity = between(blank, 0, 2**31 - 1, "blank"), bool(zero_infinity)

    def terms(
        self,
        output: ArrayLike,
        target: Any,
        *,
        weights: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        gradient: bool = False,
    ) -> Terms:
        y = as_float32(output, "output")
        if y.ndim != 3:
            raise ValueError(f"output has shape {y.shape}, expected (T, N, K) for CTC")
        steps, rows, classes = y.shape
        if self.blank >= classes:
            raise ValueError(f"blank is {self.blank}, expected an id below {classes}, the width of the output")
        labels = labels_of(target, rows, classes, self.blank)
        counts = np.full(rows, steps) if lengths is None else np.array(row_lengths(lengths, rows, steps))
        own = np.ones(rows) if weights is None else _row_weights(weights, rows)
        possible = self._possible(labels, counts, own)
        share = 1 / np.maximum(labels.lengths, 1)
        log_p = _log_softmax(y)
        states = _states(labels, self.blank)
        losses, occupied = _aligned(log_p, states, counts, gradient)
        slope = None
        if gradient:
            within = np.arange(steps)[:, None] < counts
            slope = np.exp(log_p) - occupied
            slope *= np.where(within & possible, own * share, 0)[..., None]
            slope = slope.astype(np.float32)
        return Terms(np.where(possible, losses, 0) * share * own, own, slope)

    def _possible(self, labels: Labels, counts: NDArray[Any], own: _Reals) -> NDArray[np.bool_]:
        """Whether each row has steps enough for its labels."""
        again = ((labels.ids[:, 1:] == labels.ids[:, :-1]) & (labels.ids[:, 1:] >= 0)).sum(1)
        needed = labels.lengths + again  # a blank between equal labels
        possible: NDArray[np.bool_] = needed <= counts
        if not self.zero_infinity and (~possible & (own > 0)).any():
            n = int((~possible & (own > 0)).argmax())
            raise ValueError(
                f"row {n} has {counts[n]} steps, but its {labels.lengths[n]} labels need {needed[n]}: leave it out, or give "
                "zero_infinity=True"
            )
        return possible

    def _terms(self, y: Array, target: Any, counted: Array | None, gradient: bool) -> Terms:
        raise AssertionError("unreachable: terms() is this class's own")


def labels_of(target: Any, rows: int, classes: int, blank: int) -> Labels:
    """The labels of each row, checked."""
    if hasattr(target, "__array__") or hasattr(target, "dtype"):
        ids = as_int32(target, "target")
        if ids.ndim != 2 or len(ids) != rows:
            raise ValueError(f"target has shape {ids.shape}, expected ({rows}, S): the labels of each row")
        padded = ids.astype(np.int64)
    else:
        each = [
            as_ids(row, f"the labels of row {n}", ndim=1) for n, row in enumerate(listed(target, "target", "labels"))
        ]
        if len(each) != rows:
            raise ValueError(f"target has {len(each)} sequences of labels, expected {rows}: one for each row")
        padded = np.full((rows, max((len(row) for row in each), default=0)), -1, np.int64)
        for n, row in enumerate(each):
            padded[n, : len(row)] = row
    ended = np.logical_or.accumulate(padded < 0, axis=1)
    padded[ended] = -1
    if padded.size and (padded.max() >= classes or (padded == blank).any()):
        raise IndexError(
            f"target holds {blank if (padded == blank).any() else padded.max()}, expected labels below {classes} other than "
            f"the blank, {blank}"
        )
    return Labels(padded, (~ended).sum(1))


def _row_weights(weights: ArrayLike, rows: int) -> _Reals:
    own = as_float32(weights, "weights").astype(np.float64)
    if own.shape != (rows,) or not (own >= 0).all() or not np.isfinite(own).all():
        raise ValueError(
            f"weights has shape {own.shape}, expected ({rows},): a finite number of at least 0 for each row"
        )
    return own


def _log_softmax(y: Array) -> _Reals:
    z = y.astype(np.float64)
    z -= z.max(-1, keepdims=True)
    z -= np.log(np.exp(z).sum(-1, keepdims=True))
    return z


class _States(NamedTuple):
    """Blank, label, blank, label, ..., blank: what each row goes through, in L = 2 S + 1 states."""

    ids: NDArray[np.int64]  # (N, L)
    last: NDArray[np.int64]  # (N,) the row's last blank
    skips: _Reals  # (N, L) 0 where a path may come from two states before, else the log of 0
    before: NDArray[np.int64]  # (N, L) the states of the reversed row, by the states of the row


def _states(labels: Labels, blank: int) -> _States:
    rows, most = labels.ids.shape
    ids = np.full((rows, 2 * most + 1), blank, np.int64)
    ids[:, 1::2] = np.where(labels.ids < 0, blank, labels.ids)
    skips = np.full(ids.shape, _NEVER)
    skips[:, 2:][(ids[:, 2:] != blank) & (ids[:, 2:] != ids[:, :-2])] = 0
    last = 2 * labels.lengths
    return _States(ids, last, skips, np.maximum(last[:, None] - np.arange(2 * most + 1), 0))


def _aligned(log_p: _Reals, states: _States, counts: NDArray[Any], gradient: bool) -> tuple[_Reals, NDArray[Any]]:
    """-log P of each row (N,), and the probability that each step of it emits each class, (T, N, K), if it is wanted."""
    steps, rows, classes = log_p.shape
    emitted = np.take_along_axis(log_p, np.broadcast_to(states.ids, (steps, *states.ids.shape)), 2)
    beyond = np.arange(states.ids.shape[1]) > states.last[:, None]
    emitted[:, beyond] = _NEVER
    skips, each = states.skips, np.arange(rows)
    if gradient:  # backward is forward on reversed rows: both in one recursion
        back = np.maximum(counts - 1 - np.arange(steps)[:, None], 0)  # (T, N)
        reversed_ = emitted[back[:, :, None], each[:, None], states.before]
        reversed_[:, beyond] = _NEVER
        flipped = np.take_along_axis(states.ids, states.before, 1)
        may = np.full(skips.shape, _NEVER)
        may[:, 2:][(flipped[:, 2:] != flipped[:, :-2]) & (np.arange(2, flipped.shape[1]) % 2 == 1)] = 0
        paths = _recursion(np.concatenate([emitted, reversed_], 1), np.concatenate([skips, may]))
    else:
        paths = _recursion(emitted, skips)
    final = paths[np.maximum(counts - 1, 0), each]
    ends = final[each, states.last], np.where(states.last > 0, final[each, np.maximum(states.last - 1, 0)], _NEVER)
    log_total = np.where(counts > 0, np.logaddexp(*ends), np.where(states.last > 0, _NEVER, 0))
    if not gradient:
        return -log_total, log_total
    ahead, behind = paths[:, :rows], paths[:, rows:][back[:, :, None], each[:, None], states.before]
    share = ahead + behind - emitted - log_total[:, None]
    share[:, beyond] = _NEVER
    with np.errstate(over="ignore"):  # of rows that have too few steps, and of steps beyond the end
        share = np.exp(np.minimum(share, 0))
    places = (np.arange(steps * rows) * classes).reshape(steps, rows, 1) + states.ids
    occupied = np.bincount(places.ravel(), share.ravel(), minlength=log_p.size)
    return -log_total, occupied.reshape(log_p.shape)


def _recursion(emitted: _Reals, skips: _Reals) -> _Reals:
    """Log of the sum over all paths to each state at each step, (T, N, L), of the products of what they emit."""
    steps, rows, count = emitted.shape
    padded = np.full((steps, rows, count + 2), _NEVER)  # two states that no path leaves, before the first
    padded[0, :, 2:4] = emitted[0, :, :2]
    skipped, high, low, middle = (np.empty((rows, count)) for _ in range(4))
    for t in range(1, steps):
        stay, move = padded[t - 1, :, 2:], padded[t - 1, :, 1:-1]
        np.add(padded[t - 1, :, :-2], skips, out=skipped)
        # Sorted, the largest is a factor, and two exponentials are left of three.
        np.maximum(stay, move, out=high)
        np.minimum(stay, move, out=low)
        np.maximum(low, np.minimum(high, skipped, out=middle), out=middle)
        np.minimum(low, skipped, out=low)
        np.maximum(high, skipped, out=high)
        for other in (middle, low):
            np.subtract(other, high, out=other)
            np.exp(np.maximum(other, _SMALL, out=other), out=other)
        np.log1p(np.add(middle, low, out=low), out=low)
        low += high
        np.add(low, emitted[t], out=padded[t, :, 2:])
    return padded[:, :, 2:]


def ctc_decode(output: ArrayLike, lengths: ArrayLike | None = None, *, blank: int = 0) -> list[NDArray[np.int32]]:
    """The labels of the most probable alignment of each row of logits (T, N, K): repeated ids once, without blanks.

    >>> ctc_decode([[[0.0, 1.0]], [[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 1.0]]])[0].tolist()
    [1, 1]
    """
    y = as_float32(output, "output")
    if y.ndim != 3:
        raise ValueError(f"output has shape {y.shape}, expected (T, N, K)")
    between(blank, 0, y.shape[2] - 1, "blank")
    best = y.argmax(2).astype(np.int32)
    counts: Sequence[int] = [len(y)] * y.shape[1] if lengths is None else row_lengths(lengths, y.shape[1], len(y))
    decoded = []
    for n, count in enumerate(counts):
        row = best[:count, n]
        fresh = np.ones(count, bool)
        fresh[1:] = row[1:] != row[:-1]
        decoded.append(row[fresh & (row != blank)])
    return decoded


def edit_distance(a: Sequence[int] | NDArray[Any], b: Sequence[int] | NDArray[Any]) -> int:
    """The least number of insertions, deletions and replacements that make ``b`` of ``a`` (V. I. Levenshtein, 1966).

    >>> edit_distance([1, 2, 3], [2, 3, 4])
    2
    """
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]
