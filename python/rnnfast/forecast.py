"""Forecasts of series of numbers: a recurrent autoregression, and the linear one as its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import positive
from rnnfast.estimator import Estimator, Network, check_sizes, falling_rate, recurrent_layer, shuffled
from rnnfast.nn import Array, Linear
from rnnfast.plot import finish, new_figure
from rnnfast.text import PathLike

Reals = NDArray[np.float64]


class Forecaster(Estimator):
    """What both forecasters offer. Series are (T,), or (T, D) for D series at once; results have the same form."""

    mean_: Reals
    scale_: Reals
    _series: Reals  # what was fitted, standardised
    _flat: bool

    def fit(self, series: ArrayLike) -> Any:
        """Learns from a series and remembers it, for :meth:`forecast` to go on from its end."""
        x = np.asarray(series, np.float64)
        self._flat = x.ndim == 1
        x = x[:, None] if x.ndim == 1 else x
        self._check(x, self._least())
        self.mean_, self.scale_ = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1.0)
        self._series = (x - self.mean_) / self.scale_
        self._fit(self._series)
        return self

    def predict(self, series: ArrayLike, *, steps: int = 1) -> Reals:
        """Row t is the forecast of ``series[t]`` from all that is known ``steps`` before; NaN where too little is."""
        positive(steps, "steps")
        x = self._standardised(series)
        known = self._least() - 1  # values that a forecast needs
        predicted = np.full_like(x, np.nan)
        if len(x) >= known + steps:
            predicted[known + steps - 1 :] = self._ahead(x, steps)[known - 1 : len(x) - steps]
        return self._natural(predicted)

    def forecast(self, k: int, series: ArrayLike | None = None) -> Reals:
        """The ``k`` values after the end of ``series`` (None: of the one that was fitted), each from those before it."""
        positive(k, "k")
        self._check_fitted()
        x = self._series if series is None else self._standardised(series)
        self._check(x, self._least() - 1)
        return self._natural(self._continued(x, k))

    def score(self, series: ArrayLike, *, steps: int = 1) -> float:
        """R²: the share of the variance that forecasts ``steps`` ahead explain."""
        x, y = np.asarray(series, np.float64), self.predict(series, steps=steps)
        known = np.isfinite(y)
        return 1.0 - float(np.square(x - y)[known].sum() / np.square(x - x[known].mean())[known].sum())

    def plot(self, series: ArrayLike, path: PathLike | None = None, *, steps: Sequence[int] = (1, 4, 16, 64)) -> Any:
        """The series and its forecasts so many steps ahead, written to ``path`` if given (extra: ``plot``)."""
        figure, axes = new_figure()
        x = np.asarray(series, np.float64)
        first = x if x.ndim == 1 else x[:, 0]
        axes.plot(first, color="0.7", label="series")
        for ahead in steps:
            predicted = self.predict(series, steps=ahead)
            axes.plot(predicted if predicted.ndim == 1 else predicted[:, 0], linewidth=1, label=f"{ahead} ahead")
        axes.set(xlabel="t")
        axes.legend()
        return finish(figure, path)

    def _standardised(self, series: ArrayLike) -> Reals:
        self._check_fitted()
        x = np.asarray(series, np.float64)
        x = x[:, None] if x.ndim == 1 else x
        self._check(x, 0)
        if x.shape[1] != len(self.mean_):
            raise ValueError(f"the series has {x.shape[1]} columns, expected {len(self.mean_)} as fitted")
        standardised: Reals = (x - self.mean_) / self.scale_
        return standardised

    def _natural(self, x: Reals) -> Reals:
        natural: Reals = x * self.scale_ + self.mean_
        return natural[:, 0] if self._flat else natural

    def _check_fitted(self) -> None:
        if not hasattr(self, "mean_"):
            raise ValueError(f"the {type(self).__name__} has learnt no series yet; call fit first")

    def _check(self, x: Reals, least: int) -> None:
        if x.ndim != 2:
            raise ValueError(f"the series has shape {x.shape}, expected (T,) or (T, D)")
        if len(x) < least:
            raise ValueError(f"the series has {len(x)} values, expected at least {least}")
        if not np.isfinite(x).all():
            at = int(np.argwhere(~np.isfinite(x))[0, 0])
            raise ValueError(f"the series is {x[at]} at position {at}: fill in or cut out what is missing first")

    def _least(self) -> int:
        """How many values are needed to learn anything."""
        raise NotImplementedError

    def _fit(self, x: Reals) -> None:
        raise NotImplementedError

    def _ahead(self, x: Reals, steps: int) -> Reals:
        """Row t: the forecast of x[t + steps] from x[: t + 1]."""
        raise NotImplementedError

    def _continued(self, x: Reals, k: int) -> Reals:
        raise NotImplementedError


class LinearAR(Forecaster):
    r"""The linear autoregression :math:`x_t = b + \sum_{i=1}^{\tau} A_i x_{t-i}`, by least squares: a Markov model of order τ.

    >>> model = LinearAR(2).fit(np.sin(np.arange(100) / 5))
    >>> np.allclose(model.forecast(3), np.sin(np.arange(100, 103) / 5))
    True
    """

    kind = "linear_ar"

    def __init__(self, tau: int = 4) -> None:
        self.tau = positive(tau, "tau")

    def _least(self) -> int:
        return self.tau + 1

    def _windows(self, x: Reals) -> Reals:
        """Row t holds x[t], x[t - 1], ... x[t - tau + 1] and 1; zeros before the beginning."""
        padded = np.concatenate([np.zeros((self.tau - 1, x.shape[1])), x])
        parts = [padded[self.tau - 1 - i : len(padded) - i] for i in range(self.tau)]
        return np.concatenate([*parts, np.ones((len(x), 1))], axis=1)

    def _fit(self, x: Reals) -> None:
        self.coefficients_ = np.linalg.lstsq(self._windows(x)[self.tau - 1 : -1], x[self.tau :], rcond=None)[0]

    def _ahead(self, x: Reals, steps: int) -> Reals:
        window, width = self._windows(x), x.shape[1]
        for _ in range(steps):
            ahead: Reals = window @ self.coefficients_
            window = np.concatenate([ahead, window[:, : -1 - width], window[:, -1:]], axis=1)
        return ahead

    def _continued(self, x: Reals, k: int) -> Reals:
        for _ in range(k):
            x = np.concatenate([x, self._ahead(x[-self.tau :], 1)[-1:]])
        return x[-k:]


class Autoregressor(Forecaster):
    r"""A hidden-variable autoregression: :math:`h_t = \mathrm{cell}(x_t, h_{t-1})`, :math:`\hat x_{t+1} = W h_t + b`.

    Parameters
    ----------
    cell : ``"rnn"``, ``"gru"`` or ``"lstm"``
    hidden_size, num_layers : of the recurrent layer
    num_steps : values a gradient reaches back
    epochs, batch_size, lr, clip_norm : of training by Adam on the squared error of standardised values; lr falls to 0
    seed : the same seed gives the same model

    >>> model = Autoregressor("rnn", 8, epochs=2, seed=0).fit(np.sin(np.arange(200) / 5))
    >>> model.predict(np.sin(np.arange(20) / 5)).shape, model.forecast(3).shape
    ((20,), (3,))
    """

    kind = "autoregressor"

    def __init__(
        self,
        cell: str = "gru",
        hidden_size: int = 32,
        *,
        num_layers: int = 1,
        num_steps: int = 32,
        epochs: int = 100,
        batch_size: int = 16,
        lr: float = 1e-2,
        clip_norm: float = 1.0,
        seed: int | None = None,
    ) -> None:
        self.cell, self.hidden_size, self.num_layers = cell, hidden_size, num_layers
        self.num_steps, self.epochs, self.batch_size = num_steps, epochs, batch_size
        self.lr, self.clip_norm, self.seed = lr, clip_norm, seed

    def _least(self) -> int:
        return 2

    def _build(self, width: int, seed: int) -> None:
        self._network = Network(
            self.lr,
            rnn=recurrent_layer(self.cell, width, self.hidden_size, self.num_layers, seed),
            output=Linear(self.hidden_size, width, seed=seed + 1),
        )

    def _fit(self, x: Reals) -> None:
        seed = self._seed()
        self._build(x.shape[1], seed)
        random = np.random.default_rng(seed)
        series = x.astype(np.float32)
        steps = min(positive(self.num_steps, "num_steps"), len(x) - 1)
        stretches = max(1, (len(x) - 1) // steps)
        self.loss_curve_: list[float] = []
        for epoch in range(positive(self.epochs, "epochs")):
            offset = random.integers(len(x) - stretches * steps)
            total = 0.0
            for rows in shuffled(stretches, positive(self.batch_size, "batch_size"), random):
                at = offset + rows[None, :] * steps + np.arange(steps)[:, None]
                total += self._learn(series[at], series[at + 1], falling_rate(self.lr, epoch, self.epochs)) * len(rows)
            self.loss_curve_.append(total / stretches)

    def _learn(self, x: Array, y: Array, lr: float) -> float:
        h, _, rnn_backward = self._network["rnn"].forward(x)
        predicted, output_backward = self._network["output"].forward(h)
        error = predicted - y
        rnn_backward(output_backward(2 * error / error.size), input_gradient=False)
        self._network.update(lr, self.clip_norm)
        return float(np.square(error).mean())

    def _ahead(self, x: Reals, steps: int) -> Reals:
        series, state, outputs, states = x.astype(np.float32), None, [], []
        for value in series:  # one by one, to have the state after each
            y, state = self._network["rnn"](value[None, None], state)
            outputs.append(y[0, 0])
            states.append(state)
        ahead = self._network["output"](np.stack(outputs))
        state = _side_by_side(states)
        for _ in range(steps - 1):
            y, state = self._network["rnn"](ahead[None], state)
            ahead = self._network["output"](y[0])
        forecast: Reals = ahead.astype(np.float64)
        return forecast

    def _continued(self, x: Reals, k: int) -> Reals:
        y, state = self._network["rnn"](x.astype(np.float32)[:, None])
        values = [self._network["output"](y[-1])]
        for _ in range(k - 1):
            y, state = self._network["rnn"](values[-1][None], state)
            values.append(self._network["output"](y[0]))
        forecast: Reals = np.concatenate(values).astype(np.float64)
        return forecast

    def save(self, path: PathLike) -> None:
        """Weights, configuration and the end of the series in one safetensors file; :func:`rnnfast.load` reads it."""
        self._check_fitted()
        tail = self._series[-max(self.num_steps, 64) :].astype(np.float32)
        learnt = {"mean": self.mean_.tolist(), "scale": self.scale_.tolist(), "flat": self._flat}
        self._save(path, {**self._network.state_dict(), "series": tail}, learnt)

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Array]) -> Autoregressor:
        """The model :meth:`save` wrote."""
        model = cls(**config["params"])
        model.mean_, model.scale_ = np.array(config["mean"], float), np.array(config["scale"], float)
        model._flat, model._series = bool(config["flat"]), tensors["series"].astype(np.float64)
        held = {name: value for name, value in tensors.items() if name != "series"}
        check_sizes(held, model.num_layers, model.hidden_size**2)
        model._build(len(model.mean_), 0)
        model._network.load_state_dict(held)
        return model


def _side_by_side(states: Sequence[Any]) -> Any:
    """States of one row each, (L, 1, H), as the state of many rows."""
    if isinstance(states[0], tuple):
        return tuple(_side_by_side([state[i] for state in states]) for i in range(len(states[0])))
    return np.concatenate(states, axis=1)
