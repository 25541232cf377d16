"""Forecasts of series with a season, exogenous columns and intervals: a linear part, and a recurrent network for what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import between, positive
from rnnfast._expect import brief
from rnnfast.distributed.ranks import Ranks, ranks_for
from rnnfast.estimators import linear_horizon as linear
from rnnfast.estimators.backtest import Backtest, summary
from rnnfast.estimators.base import (
    CELL,
    TRAINING,
    Estimator,
    above_zero,
    check_sizes,
    checked_reals,
    doubles_as_bytes,
    doubles_from_bytes,
    losses_in,
    named_columns,
)
from rnnfast.estimators.index import Index, Labelled, Pandas, Values, continued, index_of
from rnnfast.estimators.quantiles import (
    in_order,
    learnt_from,
    linear_part,
    margin_of,
    new_network,
    shape_of,
    with_network,
)
from rnnfast.estimators.samples import Reals, Series, check_names, read_series, standard_scale
from rnnfast.files import PathLike
from rnnfast.models.network import Network
from rnnfast.plot import finish, mark_end, new_figure
from rnnfast.protocols import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FAN = (0.5, 0.95)  # further intervals of a plot


if TYPE_CHECKING:

    class _Interval(NamedTuple, Generic[Values]):
        median: Values
        lower: Values
        upper: Values

else:  # Python 3.9 and 3.10 have no generic named tuples

    class _Interval(NamedTuple):
        median: Values
        lower: Values
        upper: Values


class Interval(_Interval[Values]):
    """A forecast and its interval; each is (k,) or (k, D), or pandas' with the dates that follow.

    >>> import rnnfast as rf
    >>> series = 10 + np.sin(np.arange(120) * np.pi / 6) + np.random.default_rng(0).normal(size=120)
    >>> found = rf.Forecaster(horizon=6, season=12, epochs=2, seed=0).fit(series).predict_interval(4)
    >>> bool((found.lower <= found.median).all()), found.upper.shape
    (True, (4,))
    """

    __slots__ = ()


def _season(value: Any, name: str) -> int | None:
    return None if value is None else between(value, 2, 2**31 - 1, name)


def _log(value: Any, name: str) -> bool | str:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if value != "auto":
        raise ValueError(f'{name} is {brief(value)}, expected True, False or "auto"')
    return "auto"


def _share(value: Any, name: str) -> float:
    if above_zero(value, name) >= 1:
        raise ValueError(f"{name} is {value}, expected less than 1")
    return float(value)


class Forecaster(Estimator, Generic[Values]):
    r"""Forecasts of the next ``horizon`` values of one or several series, with intervals.

    With z the standardized values, or their logarithms, the quantile q of z_{t+h} is

    .. math:: b_{t,h} + w_h \cdot x_{t,h} + s_h (W h_t + b)_{h,q}

    b is a base: 0, the last value, or the value a season before, with or without the season's change. x are the last three values, the
    level, values one and two seasons before t + h, two harmonics of the season, and the exogenous columns at t + h; w is a ridge
    regression. h_t is the state of a recurrent layer that reads values, differences, season and exogenous columns up to t; it learns
    the quantiles of what the linear part leaves, with the quantile loss, and starts from zero.

    What the linear part leaves in the second half of the series is measured with coefficients of earlier values alone. It chooses base
    and penalty, and the last sixth, which the network does not learn from, chooses the epoch. Conformal calibration moves both ends of
    the interval by the quantile of its last ``calibration`` errors at each h, from that second half. Those before the last sixth are of
    values that the network has learned from: with the default of 50, series shorter than about 300 use some of them, since the
    few errors of a short last sixth calibrate worse. Where the last sixth is shorter than ``horizon``, no epoch can be chosen: the
    network isn't trained, and its quantiles are those of the linear part's errors.

    Parameters
    ----------
    cell, hidden_size, num_layers : of the recurrent layer
    horizon : the number of steps ahead that are forecast
    season : the number of steps after which a pattern repeats, such as 12 for months; None: there is none
    log : forecast logarithms, which suits changes in proportion to the level; ``"auto"``: if a series is positive and the spread within a
        season grows with its level
    interval : the share of values that the interval contains
    calibration : how many errors calibrate the interval
    num_steps : the number of steps through which gradients flow back
    epochs, batch_size, lr, clip_norm : of training with Adam
    seed, verbose : as in ``rf.Autoregressor``

    Attributes
    ----------
    base_, penalty_ : of the linear part
    log_ : whether logarithms are forecast, for each of the D series
    mean_, scale_, n_features_in_, params_ : as in ``rf.Autoregressor``
    loss_curve_ : the quantile loss of each epoch; empty if the network wasn't trained

    ``Forecaster().fit(array)`` is a ``Forecaster[NDArray[np.float64]]`` to a type checker. Where it cannot know what was fitted, after
    ``rf.load`` for example, forecasts are an array or pandas data; ``np.asarray`` makes an array of either.

    A series is (T,) or (T, D), or pandas data; forecasts are (horizon,) or (horizon, D). Raises ``ValueError`` for a series that is
    too short for ``horizon`` and ``season`` or has missing values, and ``NotFittedError`` before ``fit``.

    Sources: R. Koenker and G. Bassett, Econometrica 46 (1978); Y. Romano, E. Patterson and E. Candès, NeurIPS 2019.

    >>> series = 10 + np.sin(np.arange(120) * np.pi / 6)
    >>> model = Forecaster(horizon=6, season=12, epochs=2, seed=0).fit(series)
    >>> bool(np.abs(model.forecast() - (10 + np.sin(np.arange(120, 126) * np.pi / 6))).max() < 0.1)
    True
    """

    kind = "forecaster"
    _checks: ClassVar = {
        "cell": CELL, "hidden_size": positive, "horizon": positive, "season": _season, "log": _log, "interval": _share,
        "calibration": positive, "num_steps": positive, **TRAINING,
    }  # fmt: skip
    _learnt = (
        "mean_", "scale_", "n_features_in_", "feature_names_in_", "loss_curve_", "network_", "base_", "penalty_", "log_", "_flat",
        "_linear", "_spread", "_scores", "_series", "_exogenous", "_index",
    )  # fmt: skip
    mean_: Reals
    scale_: Reals
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    loss_curve_: list[float]
    network_: Network
    base_: str
    penalty_: float
    log_: NDArray[np.bool_]
    _flat: bool
    _linear: Reals  # (D, H, F)
    _spread: Reals  # (D, H) of what the linear part leaves
    _scores: Reals  # (D, H, C) by how much values lay outside the interval, newest last, NaN first
    _series: Reals  # (T, D) as fitted
    _exogenous: Reals  # (T, K)
    _index: Index | None

    def __init__(
        self,
        cell: Cell = "gru",
        hidden_size: int = 16,
        *,
        horizon: int = 12,
        season: int | None = None,
        log: bool | str = "auto",
        interval: float = 0.8,
        calibration: int = 50,
        num_layers: int = 1,
        num_steps: int = 64,
        epochs: int = 30,
        batch_size: int = 16,
        lr: float = 3e-3,
        clip_norm: float | None = 1.0,
        seed: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.cell, self.hidden_size, self.num_layers = cell, hidden_size, num_layers
        self.horizon, self.season, self.log, self.interval = horizon, season, log, interval
        self.calibration, self.num_steps, self.epochs = calibration, num_steps, epochs
        self.batch_size, self.lr, self.clip_norm, self.seed, self.verbose = batch_size, lr, clip_norm, seed, verbose

    def __sklearn_tags__(self) -> Any:
        return self._tags(None, requires_y=False, one_d_array=True)

    # Learning

    @overload
    def fit(
        self,
        series: Pandas,
        y: None = None,
        *,
        exogenous: ArrayLike | None = None,
        shards: int | None = None,
        distributed: Ranks | None = None,
    ) -> Forecaster[Reals | Pandas]: ...
    @overload
    def fit(
        self,
        series: ArrayLike,
        y: None = None,
        *,
        exogenous: ArrayLike | None = None,
        shards: int | None = None,
        distributed: Ranks | None = None,
    ) -> Forecaster[Reals]: ...
    def fit(
        self,
        series: ArrayLike | Labelled,
        y: None = None,
        *,
        exogenous: ArrayLike | None = None,
        shards: int | None = None,
        distributed: Ranks | None = None,
    ) -> object:
        """Learns from a series (T,), or (T, D) for D series with one network, and remembers its end, which :meth:`forecast` continues.

        ``exogenous`` (T, K): columns that are known in advance, such as prices or holidays. ``y`` must be None. ``shards`` and
        ``distributed`` split every batch of the network over ranks, as in :func:`rnnfast.fit`.
        """
        params, ranks = self._checked(), ranks_for(shards, distributed)
        if y is not None:
            raise TypeError(
                "a forecaster learns from the series alone, so y must be None; give other inputs as exogenous"
            )
        given = read_series(series)
        x, outside = given.values, _exogenous(exogenous, len(given.values))
        least = _least(params["horizon"], params["season"])
        if len(x) < least:
            season = "no season" if params["season"] is None else f"season {params['season']}"
            raise ValueError(
                f"the series has {len(x)} values, expected at least {least} for horizon {params['horizon']} and {season}"
            )
        logs = np.array([_wants_log(column, params["log"], params["season"]) for column in x.T])
        z = _transformed(x, logs)
        mean, scale = standard_scale(z, "the series")
        z, shape = (
            (z - mean) / scale,
            linear.Shape.of(params["horizon"], params["season"], outside.shape[1], steps=len(z)),
        )
        learnt = learnt_from(z, outside, shape, params, ranks)
        names = named_columns(given.names, x.shape[1])
        self._learn(
            params, mean_=mean, scale_=scale, n_features_in_=x.shape[1], **names, log_=logs, _flat=given.flat, _series=x,
            _exogenous=outside, _index=index_of(series), **learnt,
        )  # fmt: skip
        return self

    # Forecasting

    @overload
    def forecast(self, k: int | None = None, series: None = None, *, exogenous: ArrayLike | None = None) -> Values: ...
    @overload
    def forecast(
        self, k: int | None = None, *, series: Pandas, exogenous: ArrayLike | None = None
    ) -> Reals | Pandas: ...
    @overload
    def forecast(self, k: int | None = None, *, series: ArrayLike, exogenous: ArrayLike | None = None) -> Reals: ...
    @overload
    def forecast(self, k: int | None, series: Pandas, *, exogenous: ArrayLike | None = None) -> Reals | Pandas: ...
    @overload
    def forecast(self, k: int | None, series: ArrayLike, *, exogenous: ArrayLike | None = None) -> Reals: ...
    def forecast(
        self, k: int | None = None, series: ArrayLike | Labelled | None = None, *, exogenous: ArrayLike | None = None
    ) -> object:
        """The medians of the ``k`` values (None: ``horizon``) after the end of ``series`` (None: the fitted one).

        ``exogenous`` : (k, K) of these steps; with a ``series``, (T + k, K) of its steps too. A pandas series continues its index.
        """
        return self._forecast(k, series, exogenous)[0]

    @overload
    def predict_interval(
        self, k: int | None = None, series: None = None, *, exogenous: ArrayLike | None = None
    ) -> Interval[Values]: ...
    @overload
    def predict_interval(
        self, k: int | None = None, *, series: Pandas, exogenous: ArrayLike | None = None
    ) -> Interval[Reals | Pandas]: ...
    @overload
    def predict_interval(
        self, k: int | None = None, *, series: ArrayLike, exogenous: ArrayLike | None = None
    ) -> Interval[Reals]: ...
    @overload
    def predict_interval(
        self, k: int | None, series: Pandas, *, exogenous: ArrayLike | None = None
    ) -> Interval[Reals | Pandas]: ...
    @overload
    def predict_interval(
        self, k: int | None, series: ArrayLike, *, exogenous: ArrayLike | None = None
    ) -> Interval[Reals]: ...
    def predict_interval(
        self, k: int | None = None, series: ArrayLike | Labelled | None = None, *, exogenous: ArrayLike | None = None
    ) -> object:
        """The medians of :meth:`forecast`, and the ends of the interval that contains a share ``interval`` of the values.

        The newest errors of ``series`` calibrate the interval, as far as they are known; of one that begins as the fitted series,
        those after the end of the fit.
        """
        return Interval(*self._forecast(k, series, exogenous))

    def _forecast(
        self, k: int | None, series: ArrayLike | Labelled | None, exogenous: ArrayLike | None
    ) -> Sequence[Reals | Labelled]:
        """Medians, lower ends and upper ends."""
        ends, flat, index = self._ahead(k, series, exogenous, [self._level()])
        lower, median, upper = (ends[0, i, :, 0] if flat else ends[0, i] for i in range(3))
        names = self._columns()
        return [continued(index, values, names) for values in (median, lower, upper)]

    def _level(self) -> float:
        self._check_fitted()
        level: float = self.params_["interval"]
        return level

    def _ahead(
        self, k: int | None, series: ArrayLike | Labelled | None, exogenous: ArrayLike | None, levels: list[float]
    ) -> tuple[Reals, bool, Index | None]:
        """Lower ends, medians and upper ends of the next k values, (levels, 3, k, D)."""
        self._check_fitted()
        horizon = self.params_["horizon"]
        k = between(horizon if k is None else k, 1, horizon, "k")
        x, flat, index = self._series, self._flat, self._index
        if series is not None:
            given = self._read(series)
            x, flat, index = given.values, given.flat, index_of(series)
        outside = self._outside(exogenous, len(x), k, known=series is None)
        quantiles, scores = self._quantiles(x, outside)
        last = quantiles[:, -1, :k]  # (D, k, 3)
        if not np.isfinite(last).all():
            raise ValueError(f"the series has {len(x)} values, too few to look a season back; give more")
        recent = self._scores if series is None else self._recent(x, scores)
        found = []
        for level in levels:
            margin = margin_of(recent, level)[:, :k]
            ends = in_order(last, margin)
            found.append(np.stack([self._natural(ends[..., i].T) for i in range(3)]))
        return np.stack(found), flat, index

    def _recent(self, x: Reals, scores: Reals) -> Reals:
        """The newest scores of a series, filled up with those of the fit.

        The linear part has learned from all of the fitted series: where x has the same values, its errors are too small to count.
        """
        fitted_steps = len(self._series)
        both = min(len(x), fitted_steps)
        if np.array_equal(x[:both], self._series[:both]):
            target = np.arange(len(x))[:, None] + np.arange(1, scores.shape[2] + 1)
            scores = np.where(target < fitted_steps, np.nan, scores)
        rows = []
        for own, fitted in zip(
            scores.transpose(0, 2, 1).reshape(-1, scores.shape[1]), self._scores.reshape(-1, self._scores.shape[2])
        ):
            rows.append(np.concatenate([fitted, own[np.isfinite(own)]])[-len(fitted) :])
        return np.stack(rows).reshape(self._scores.shape)

    def _outside(self, exogenous: ArrayLike | None, steps: int, k: int, *, known: bool) -> Reals:
        """The exogenous columns of the series and of what is forecast."""
        width = self._exogenous.shape[1]
        wanted = k if known else steps + k
        if exogenous is None:
            if width:
                raise ValueError(
                    f"exogenous is None, expected ({wanted}, {width}): the columns of the fit, for the steps ahead too"
                )
            return np.zeros((steps + k, 0))
        given = _exogenous(exogenous, wanted)
        if given.shape[1] != width:
            raise ValueError(f"exogenous has {given.shape[1]} columns, expected {width} as fitted")
        return np.concatenate([self._exogenous, given]) if known else given

    def _quantiles(self, x: Reals, outside: Reals) -> tuple[Reals, Reals]:
        """At every step of x the quantiles of the standardized next values, (D, T, H, 3), and the scores of those known, (D, T, H)."""
        z = (_transformed(x, self.log_) - self.mean_) / self.scale_
        shape = shape_of(self.params_, outside.shape[1], self._linear.shape[2])
        line = linear_part(z, outside, shape, self.base_, self._linear)
        return with_network(z, outside, shape, line, self._spread, self.network_)

    def _natural(self, z: Reals) -> Reals:
        with np.errstate(over="ignore"):
            x = z * self.scale_ + self.mean_
            x = np.where(self.log_, np.exp(x), x)
        if not np.isfinite(x).all():
            raise OverflowError("the forecast overflows: it grows without bound")
        return np.asarray(x, np.float64)

    def _read(self, series: ArrayLike | Labelled) -> Series:
        given = read_series(series)
        check_names(given.names, self._columns(), "the series")
        if given.values.shape[1] != self.n_features_in_:
            raise ValueError(
                f"the series has {given.values.shape[1]} columns, expected {self.n_features_in_} as fitted"
            )
        _transformed(given.values, self.log_)
        return given

    # Evaluation

    def score(self, series: ArrayLike | Labelled, y: None = None, *, exogenous: ArrayLike | None = None) -> float:
        """R² of the medians 1 to ``horizon`` steps ahead, at all steps of ``series`` where they are known, averaged over the columns."""
        self._check_fitted()
        x = self._read(series).values
        quantiles, _ = self._quantiles(x, self._outside(exogenous, len(x), 0, known=False))
        parts = []
        for d, column in enumerate(x.T):
            wanted = linear.ahead_of(column, self.params_["horizon"]).T
            guess = self._column(quantiles[d, :, :, 1], d)
            known = np.isfinite(wanted) & np.isfinite(guess)
            if not known.any():
                raise ValueError(f"the series has {len(x)} values, too few to score a forecast")
            variation = np.square(wanted[known] - wanted[known].mean()).sum()
            error = np.square(wanted - guess)[known].sum()
            parts.append(error / variation if variation > 0 else np.sign(error))
        return float(1 - np.mean(parts))

    def _column(self, z: Reals, d: int) -> Reals:
        """Values of column d, which may be NaN, in the series' units."""
        x = z * self.scale_[d] + self.mean_[d]
        return np.asarray(np.exp(x) if self.log_[d] else x, np.float64)

    def backtest(
        self, series: ArrayLike | Labelled, *, exogenous: ArrayLike | None = None, test: float = 0.2
    ) -> Backtest:
        """Fits a copy on the first part of ``series``, and forecasts from every later origin; compares with naive forecasts.

        ``test`` : the share of the series that is forecast. The copy is not fitted again, but the interval is calibrated at every
        origin with the errors that are known there.
        """
        x, share = read_series(series).values, _share(test, "test")
        first = len(x) - max(1, int(len(x) * share)) - 1
        outside = _exogenous(exogenous, len(x))
        columns = outside[: first + 1] if outside.shape[1] else None
        model = type(self)(**self.get_params()).fit(x[: first + 1], exogenous=columns)
        quantiles, scores = model._quantiles(x, outside)
        horizon, count = quantiles.shape[2], model._scores.shape[2]
        origins = np.arange(first, len(x) - 1)
        found = np.empty((len(origins), horizon, x.shape[1], 3))
        for h in range(horizon):
            late = scores[:, max(0, first - h) : len(x) - 2 - h, h]  # of values after the first part
            late = np.pad(late, ((0, 0), (0, len(origins) - 1 - late.shape[1])), constant_values=np.nan)
            history = np.concatenate([model._scores[:, h], late], 1)
            windows = np.lib.stride_tricks.sliding_window_view(history, count, axis=1)  # (D, O, C)
            ends = in_order(quantiles[:, first:-1, h], margin_of(windows, model._level()))
            for d in range(x.shape[1]):
                found[:, h, d] = model._column(ends[d], d)
        return summary(x, origins, found, interval=model._level(), season=model.params_["season"])

    def plot(
        self,
        path: PathLike | None = None,
        *,
        k: int | None = None,
        series: ArrayLike | Labelled | None = None,
        exogenous: ArrayLike | None = None,
    ) -> Figure:
        """The end of ``series`` (None: the fitted one), a line that marks it, and the forecast beyond it with a fan of intervals; written to
        ``path`` if given (extra: ``plot``).

        ``exogenous`` : as in :meth:`forecast`.
        """
        levels = sorted({*_FAN, self._level()}, reverse=True)
        ends, _, index = self._ahead(k, series, exogenous, levels)
        count = ends.shape[2]
        figure, axes = new_figure()
        shown = (self._series if series is None else self._read(series).values)[
            -max(3 * (self.params_["season"] or 0), 5 * count) :
        ]
        past, ahead = np.arange(len(shown)), len(shown) - 1 + np.arange(count + 1)
        for d in range(shown.shape[1]):
            axes.plot(past, shown[:, d], color="0.5", label="series" if d == 0 else None)
            joined = [np.r_[shown[-1, d], ends[0, i, :, d]] for i in range(3)]
            for (lower, _, upper), level in zip(ends[..., d], levels):
                axes.fill_between(
                    ahead, np.r_[shown[-1, d], lower], np.r_[shown[-1, d], upper], color="C0", alpha=0.18, linewidth=0,
                    label=f"{100 * level:g}%" if d == 0 else None,
                )  # fmt: skip
            axes.plot(ahead, joined[1], color="C0", label="median" if d == 0 else None)
        mark_end(axes, len(shown) - 1)
        axes.set(
            xlabel="steps of the series, its end shown" if index is None else f"steps, the last known is {index.last}"
        )
        axes.legend()
        return finish(figure, path)

    # Files

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        columns, horizon, terms = self._linear.shape
        learnt = {
            "mean": self.mean_.tolist(), "scale": self.scale_.tolist(), "flat": self._flat, "features": self._columns(),
            "base": self.base_, "penalty": self.penalty_, "logs": self.log_.tolist(), "terms": terms,
            "exogenous": self._exogenous.shape[1], "index": None if self._index is None else list(self._index), **self._losses(),
        }  # fmt: skip
        scores = np.nan_to_num(self._scores.reshape(columns * horizon, -1), nan=_NO_SCORE)
        exact = {
            "linear": self._linear.reshape(columns * horizon, terms), "spread": self._spread, "scores": scores,
            "series": np.concatenate([self._series, self._exogenous], 1),
        }  # fmt: skip
        return learnt, {
            **self.network_.state_dict(),
            **{name: doubles_as_bytes(value) for name, value in exact.items()},
        }

    def _restore(self, params: dict[str, Any], config: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        weights, horizon = dict(tensors), params["horizon"]
        mean = checked_reals(config["mean"], "mean")
        columns, terms, outside = (
            len(mean),
            positive(config["terms"], "terms"),
            between(config["exogenous"], 0, 2**20, "exogenous"),
        )
        scale = checked_reals(config["scale"], "scale", columns, positive=True)
        logs, flat = np.array(config["logs"]), config["flat"]
        if logs.dtype != np.bool_ or logs.shape != (columns,) or not isinstance(flat, bool) or (flat and columns > 1):
            raise ValueError("logs or flat do not fit the columns")
        if config["base"] not in (linear.BASES if params["season"] else linear.BASES[:2]):
            raise ValueError(f"the base is {brief(config['base'])}, expected one of {', '.join(linear.BASES)}")
        shape_of(params, outside, terms)
        steps = len(weights["series"])
        held = {
            "linear": (columns * horizon, terms), "spread": (columns, horizon), "scores": (columns * horizon, params["calibration"]),
            "series": (steps, columns + outside),
        }  # fmt: skip
        exact = {name: doubles_from_bytes(weights.pop(name), name, wanted) for name, wanted in held.items()}
        check_sizes(weights, params["num_layers"], params["num_layers"] * params["hidden_size"] ** 2)
        network = new_network(params, outside, 0)
        network.load_state_dict(weights)
        scores = exact["scores"].reshape(columns, horizon, -1)
        self._learn(
            params, mean_=mean, scale_=scale, n_features_in_=columns, **named_columns(config.get("features"), columns), log_=logs,
            _flat=flat, base_=config["base"], penalty_=above_zero(config["penalty"], "penalty"), network_=network,
            _linear=exact["linear"].reshape(columns, horizon, terms), _spread=exact["spread"],
            _scores=np.where(scores == _NO_SCORE, np.nan, scores), _series=exact["series"][:, :columns],
            _exogenous=exact["series"][:, columns:], _index=None if config.get("index") is None else Index.checked(config["index"]),
            **(losses_in(config) if config.get("loss_curve") != [] else {"loss_curve_": []}),
        )  # fmt: skip


_NO_SCORE = -1e300  # in a file, which stores finite numbers


def _least(horizon: int, season: int | None) -> int:
    """The fewest values to fit: two seasons and two horizons, and 4 more; and so many that two forecasts of ``horizon`` steps fit between
    the half and the last sixth, whose errors give the spread.
    """
    return max(2 * (season or 4) + 2 * horizon + 4, 3 * (horizon + 2))


# Transforms -----------------------------------------------------------------------------------------------------------


def _exogenous(value: ArrayLike | None, steps: int) -> Reals:
    if value is None:
        return np.zeros((steps, 0))
    columns = read_series(value).values
    if len(columns) != steps:
        raise ValueError(f"exogenous has {len(columns)} rows, expected {steps}: one for each step")
    return columns


def _wants_log(x: Reals, log: bool | str, season: int | None) -> bool:
    """Whether the spread of the blocks of a season grows with their level, of a positive series."""
    if log != "auto":
        return bool(log)
    width = season or max(8, len(x) // 20)
    blocks = x[len(x) % width :].reshape(-1, width)
    if (x <= 0).any() or len(blocks) < 4:
        return False
    level, spread = blocks.mean(1), blocks.std(1)
    if level.std() == 0 or spread.std() == 0:
        return False
    return bool(np.corrcoef(level, spread)[0, 1] > 0.7)


def _transformed(x: Reals, logs: NDArray[np.bool_]) -> Reals:
    if (x[:, logs] <= 0).any():
        raise ValueError(
            f"the series has {x[:, logs].min():g}, and logarithms need numbers above 0; give log=False to fit"
        )
    return np.where(logs, np.log(np.where(logs, x, 1)), x)
