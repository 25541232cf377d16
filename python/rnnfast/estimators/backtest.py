"""Backtests of forecasters: errors and coverage from many origins, compared with naive forecasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast import html
from rnnfast.estimators.linear_horizon import Shape, ahead_of, base
from rnnfast.estimators.samples import Reals


@dataclass(frozen=True)
class Backtest:
    """Forecasts of values that the forecaster had not seen, from every origin, 1 to ``horizon`` steps ahead.

    ``mae`` is the mean absolute error. ``mase`` is that divided by the mean absolute error of the seasonal-naive forecast (without a
    season: of the last value) one season ahead in the training part, the mean over the columns. Naive forecasts repeat the last value;
    seasonal-naive ones repeat the last season.

    Source: R. J. Hyndman and A. B. Koehler, International Journal of Forecasting 22 (2006), for MASE.

    >>> import rnnfast as rf
    >>> series = 10 + np.sin(np.arange(140) * np.pi / 6)
    >>> found = rf.Forecaster(horizon=6, season=12, epochs=2, seed=0).backtest(series)
    >>> found.mae < found.naive_mae
    True
    """

    mae: float
    mase: float
    coverage: float  # the share of values within the interval
    width: float  # of the interval, on average
    naive_mae: float
    naive_mase: float
    seasonal_naive_mae: float | None
    seasonal_naive_mase: float | None
    interval: float  # the coverage that was asked for
    origins: NDArray[np.int64]  # (O,) the last value that a forecast knew
    forecasts: Reals  # (O, H, D, 3): lower end, median, upper end; NaN beyond the series

    def as_dict(self) -> dict[str, float | None]:
        """The numbers, for JSON."""
        left = ("origins", "forecasts")
        return {name: value for name, value in vars(self).items() if name not in left}

    def _rows(self) -> list[list[Any]]:
        share = f"{self.coverage:.3f}"
        rows = [["forecaster", self.mae, self.mase, share], ["naive", self.naive_mae, self.naive_mase, ""]]
        if self.seasonal_naive_mae is not None:
            rows.append(["seasonal naive", self.seasonal_naive_mae, self.seasonal_naive_mase, ""])
        return [[name, f"{mae:.4g}", f"{mase:.3f}", covered] for name, mae, mase, covered in rows]

    def __str__(self) -> str:
        heads = ["", "MAE", "MASE", f"coverage of {100 * self.interval:g}%"]
        rows = [heads, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]).rstrip()
            for row in rows
        )

    def _repr_html_(self) -> str:
        return html.table("Backtest", ("", "MAE", "MASE", f"coverage of {100 * self.interval:g}%"), self._rows())


def summary(x: Reals, origins: NDArray[np.int64], forecasts: Reals, *, interval: float, season: int | None) -> Backtest:
    """The backtest of forecasts (O, H, D, 3) of x (T, D), whose training part ends at the first origin."""
    shape = Shape(forecasts.shape[1], season, 0, 1)

    def errors(guess: Any) -> Reals:
        """Of each column, (D,)."""
        return np.array([np.nanmean(np.abs(ahead_of(z, shape.horizon) - guess(z))[:, origins]) for z in x.T])

    actual = np.stack([ahead_of(z, shape.horizon)[:, origins].T for z in x.T], -1)  # (O, H, D)
    known = np.isfinite(actual)
    lower, median, upper = (forecasts[..., i] for i in range(3))
    off = np.where(known, np.abs(actual - median), np.nan)
    step, trained = season or 1, x[: origins[0] + 1]
    scale = np.abs(trained[step:] - trained[:-step]).mean(0)
    scale = np.where(scale > 0, scale, np.nan)
    naive = errors(lambda z: base(z, shape, "last"))
    seasonal = errors(lambda z: base(z, shape, "season")) if season else None
    own = np.nanmean(off, axis=(0, 1))
    return Backtest(
        mae=float(own.mean()), mase=float((own / scale).mean()),
        coverage=float(((actual >= lower) & (actual <= upper))[known].mean()), width=float((upper - lower)[known].mean()),
        naive_mae=float(naive.mean()), naive_mase=float((naive / scale).mean()),
        seasonal_naive_mae=None if seasonal is None else float(seasonal.mean()),
        seasonal_naive_mase=None if seasonal is None else float((seasonal / scale).mean()),
        interval=interval, origins=origins, forecasts=np.where(known[..., None], forecasts, np.nan),
    )  # fmt: skip
