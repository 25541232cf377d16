"""The linear part of a forecaster: a ridge regression for each number of steps ahead, on the last values and a season before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnfast.estimators.samples import Reals

BASES = ("zero", "last", "season", "season_and_trend")
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # times the number of rows; of values that are standardized
_SHARED = 5  # a constant, three values, the level
_FOLDS = 3  # of the second half of a series
_LEVEL = 8  # values whose mean is the level of a series without a season


class Shape(NamedTuple):
    """What regressors are made of."""

    horizon: int
    season: int | None
    exogenous: int  # columns
    seasons: int  # how many before t + h are looked at

    @classmethod
    def of(cls, horizon: int, season: int | None, exogenous: int, *, steps: int) -> Shape:
        """That of a fit on so many steps."""
        return cls(horizon, season, exogenous, 0 if season is None else 1 + (steps > 4 * season))

    @property
    def terms(self) -> int:
        """How many regressors a forecast has."""
        return _SHARED + self.exogenous + (0 if self.season is None else 1 + self.seasons + 4)


def _at(z: Reals, i: NDArray[np.int64]) -> Reals:
    """z[i], NaN where there is none; z (T,) or (T, K)."""
    known = (i >= 0) & (i < len(z))
    values: Reals = z[np.clip(i, 0, len(z) - 1)].astype(np.float64)
    values[~known] = np.nan
    return values


def _season_before(shape: Shape, steps: int) -> NDArray[np.int64]:
    """(H, T): the last known place in the season of t + h."""
    assert shape.season is not None
    ahead = np.arange(1, shape.horizon + 1)[:, None]
    back: NDArray[np.int64] = np.arange(steps) + ahead - shape.season * -(-ahead // shape.season)
    return back


def regressors(z: Reals, exogenous: Reals, shape: Shape) -> Reals:
    """What a forecast of z[t + h] is made of at t, (H, T, F), NaN where something is unknown.

    z (T,); exogenous (T or more, K), whose row t + h is known at t.
    """
    t, season = np.arange(len(z)), shape.season
    sums, width = np.r_[0.0, np.cumsum(z)], season or _LEVEL
    level = (sums[t + 1] - sums[np.maximum(t + 1 - width, 0)]) / np.minimum(t + 1, width)
    shared = [np.ones(len(z)), z, _at(z, t - 1), _at(z, t - 2), level]
    if season:
        shared.append(_at(z, t - season))
    found = []
    for h in range(1, shape.horizon + 1):
        own = list(shared)
        if season:
            back = _season_before(shape, len(z))[h - 1]
            own.append(_at(z, back))
            if shape.seasons > 1:
                own.append(_at(z, back - season))
            own += [f(2 * np.pi * k * (t + h) / season) for k in (1, 2) for f in (np.sin, np.cos)]
        found.append(np.concatenate([np.stack(own, 1), _at(exogenous, t + h)], 1))
    return np.stack(found)


def base(z: Reals, shape: Shape, kind: str) -> Reals:
    """What a forecast departs from, (H, T): nothing, the last value, the value a season before, that and the season's change."""
    if kind == "zero":
        return np.zeros((shape.horizon, len(z)))
    if kind == "last":
        return np.broadcast_to(z, (shape.horizon, len(z)))
    assert shape.season is not None
    before = _at(z, _season_before(shape, len(z)))
    return before if kind == "season" else before + z - _at(z, np.arange(len(z)) - shape.season)


def ahead_of(z: Reals, horizon: int) -> Reals:
    """z[t + h], (H, T), NaN where it is unknown."""
    return _at(z, np.arange(len(z)) + np.arange(1, horizon + 1)[:, None])


def solve(x: Reals, d: Reals, penalty: float) -> Reals:
    """The coefficients (H, F) with the least mean square of d - x w, and penalty times that of w without its constant."""
    w = np.zeros((x.shape[0], x.shape[2]))
    for h in range(len(x)):
        known = np.isfinite(x[h]).all(1) & np.isfinite(d[h])
        rows, wanted = x[h][known], d[h][known]
        penalties = np.full(x.shape[2], penalty * max(1, len(rows)))
        penalties[0] = 1e-9
        w[h] = np.linalg.solve(rows.T @ rows + np.diag(penalties), rows.T @ wanted)
    return w


def folds_of(steps: int) -> list[int]:
    """Where the parts begin that are forecast with what was learned before them, and the end of the last."""
    return [steps * i // (2 * _FOLDS) for i in range(_FOLDS, 2 * _FOLDS)] + [steps]


def honest(z: Reals, x: Reals, start: Reals, penalty: float) -> Reals:
    """Forecasts (H, T), each by coefficients that were learned from values before its fold; before the first fold by those of the first.

    x (H, T, F) are the regressors of z (T,), start (H, T) the base.
    """
    folds = folds_of(len(z))
    left, found = ahead_of(z, len(x)) - start, np.array(start)
    target = np.arange(len(z)) + np.arange(1, len(x) + 1)[:, None]
    for i, begin in enumerate(folds[:-1]):
        guess = np.einsum("htf,hf->ht", x, solve(x, known_before(left, begin), penalty))
        part = (target >= (begin if i else 0)) & ((target < folds[i + 1]) | (folds[i + 1] == len(z)))
        found[part] += guess[part]
    return found


def choose(columns: list[Reals], exogenous: Reals, shape: Shape) -> tuple[str, float]:
    """The base and the penalty whose honest forecasts have the least absolute error."""
    best: tuple[float, str, float] = (np.inf, "last", 1.0)
    parts = [(z, regressors(z, exogenous, shape), ahead_of(z, shape.horizon)) for z in columns]
    for kind in BASES if shape.season else BASES[:2]:
        for penalty in _PENALTIES:
            errors = []
            for z, x, wanted in parts:
                off = np.abs(wanted - honest(z, x, base(z, shape, kind), penalty))
                late = off[~np.isfinite(known_before(wanted, folds_of(len(z))[0])) & np.isfinite(off)]
                errors.append(late)
            every = np.concatenate(errors)
            error = float(every.mean()) if len(every) else np.inf
            if error < best[0]:
                best = (error, kind, penalty)
    return best[1], best[2]


def known_before(d: Reals, split: int) -> Reals:
    """d (H, T) of targets t + h before ``split``; NaN elsewhere."""
    target = np.arange(d.shape[1]) + np.arange(1, len(d) + 1)[:, None]
    return np.where(target < split, d, np.nan)
