"""Forecasts of numeric series: a recurrent autoregression, and a linear one as a baseline."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import between, positive
from rnnfast._expect import brief, listed
from rnnfast.distributed.ranks import Ranks, ranks_for
from rnnfast.estimators.base import (
    CELL,
    TRAINING,
    Estimator,
    Rows,
    Trainer,
    check_sizes,
    checked_reals,
    doubles_as_bytes,
    doubles_from_bytes,
    epochs_shown,
    falling_rate,
    fresh_seed,
    losses_in,
    named_columns,
    on_all,
    recurrent_layer,
    shuffled,
)
from rnnfast.estimators.samples import Reals, Series, check_names, read_series, standard_scale
from rnnfast.files import PathLike
from rnnfast.models.network import Network
from rnnfast.nn.layer import Array
from rnnfast.nn.linear import Linear
from rnnfast.nn.recurrent import TABLE
from rnnfast.plot import finish, mark_end, new_figure
from rnnfast.protocols import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Self = TypeVar("_Self", bound="SeriesModel")
_STEPS = 4096  # of a chunk of a long series


class SeriesModel(Estimator):
    """The base of the forecasters. Series are (T,), or (T, D) for D series together; results have the same form.

    A forecaster learns from the series itself: ``y`` exists for scikit-learn's pipelines and searches, and must be None.
    """

    mean_: Reals
    scale_: Reals
    n_features_in_: int
    _flat: bool  # the fitted series was (T,)

    def fit(
        self: _Self,
        series: ArrayLike,
        y: None = None,
        *,
        shards: int | None = None,
        distributed: Ranks | None = None,
    ) -> _Self:
        """Learns from a series, and remembers its end, which :meth:`forecast` continues. ``shards`` and ``distributed`` split every batch
        of a network over ranks, as in :func:`rnnfast.fit`; least squares are computed on each."""
        params, ranks = self._checked(), ranks_for(shards, distributed)
        _refuse_y(y)
        given = read_series(series)
        x = given.values
        _check_length(x, self._known(params) + 1)
        mean, scale = standard_scale(x, "the series")
        learnt = self._fit((x - mean) / scale, params, ranks)
        names = named_columns(given.names, len(mean))
        self._learn(params, mean_=mean, scale_=scale, n_features_in_=len(mean), **names, _flat=given.flat, **learnt)
        return self

    def predict(self, series: ArrayLike, *, steps: int = 1) -> Reals:
        """Row t is the forecast of ``series[t]`` from the values up to ``steps`` before; NaN where these are too few."""
        positive(steps, "steps")
        given = self._read(series)
        predicted = self._predicted(given, steps)
        return predicted[:, 0] if given.flat else predicted

    def forecast(self, k: int, series: ArrayLike | None = None) -> Reals:
        """The ``k`` values after the end of ``series`` (None: the fitted one), each forecast from those before it."""
        between(k, 1, 2**31 - 1, "k")
        self._check_fitted()
        if series is None:
            flat, ahead = self._flat, self._continued(k)
        else:
            given = self._read(series)
            _check_length(given.values, self._known(self.params_))
            flat, ahead = given.flat, self._continued(k, self._standardized(given))
        natural = self._natural(ahead)
        return natural[:, 0] if flat else natural

    def score(self, series: ArrayLike, y: None = None, *, steps: int = 1) -> float:
        """R²: the share of the variance that forecasts ``steps`` ahead explain, averaged over the columns as in scikit-learn."""
        positive(steps, "steps")
        _refuse_y(y)
        given = self._read(series)
        unknown = self._known(self.params_) + steps - 1
        _check_length(given.values, unknown + 2)
        x, predicted = given.values[unknown:], self._predicted(given, steps)[unknown:]
        error, variation = np.square(x - predicted).sum(0), np.square(x - x.mean(0)).sum(0)
        # For a constant column: 1 if it is forecast exactly, else 0.
        unexplained = np.where(variation > 0, error / np.where(variation > 0, variation, 1), np.sign(error))
        return float(1 - unexplained.mean())

    def plot(self, series: ArrayLike, path: PathLike | None = None, *, steps: Sequence[int] = (1, 4, 16, 64)) -> Figure:
        """The first column of the series and its forecasts that many steps ahead, which continue beyond the marked end of the series;
        written to ``path`` if given (extra: ``plot``)."""
        given = self._read(series)
        figure, axes = new_figure()
        axes.plot(given.values[:, 0], color="0.7", label="series")
        for ahead in listed(steps, "steps", "numbers of steps to forecast"):
            origin = self._known(self.params_) - 1  # of the first forecast
            predicted = self._natural(self._ahead(self._standardized(given), positive(ahead, "steps"))[origin:])
            axes.plot(origin + ahead + np.arange(len(predicted)), predicted[:, 0], linewidth=1, label=f"{ahead} ahead")
        mark_end(axes, len(given.values) - 1)
        axes.set(xlabel="t")
        axes.legend()
        return finish(figure, path)

    def __sklearn_tags__(self) -> Any:
        return self._tags(None, requires_y=False, one_d_array=True)

    def _read(self, series: ArrayLike) -> Series:
        self._check_fitted()
        given = read_series(series)
        check_names(given.names, self._columns(), "the series")
        if (width := given.values.shape[1]) != self.n_features_in_:
            raise ValueError(
                f"the series has {width} columns, expected {self.n_features_in_} as fitted"
                + (f". Reshape your data with reshape(-1, {self.n_features_in_}) if it has them" if given.flat else "")
            )
        return given

    def _standardized(self, given: Series) -> Reals:
        standardised: Reals = (given.values - self.mean_) / self.scale_
        return standardised

    def _predicted(self, given: Series, steps: int) -> Reals:
        x, known = self._standardized(given), self._known(self.params_)
        predicted = np.full_like(x, np.nan)
        if len(x) >= known + steps:
            predicted[known + steps - 1 :] = self._natural(self._ahead(x, steps)[known - 1 : len(x) - steps])
        return predicted

    def _natural(self, x: Reals) -> Reals:
        with np.errstate(over="ignore"):
            natural: Reals = x * self.scale_ + self.mean_
        if not np.isfinite(natural).all():
            row = int(np.argwhere(~np.isfinite(natural))[0, 0])
            raise OverflowError(f"the forecast overflows at row {row}: it grows without bound")
        return natural

    @abstractmethod
    def _known(self, params: dict[str, Any]) -> int:
        """The number of values that a forecast needs."""

    @abstractmethod
    def _fit(self, x: Reals, params: dict[str, Any], ranks: Ranks | None) -> dict[str, Any]:
        """The learned attributes by name."""

    @abstractmethod
    def _ahead(self, x: Reals, steps: int) -> Reals:
        """Row t: the forecast of x[t + steps] from x[: t + 1]."""

    @abstractmethod
    def _continued(self, k: int, x: Reals | None = None) -> Reals:
        """The k values after x, or after the fitted series."""

    def _shared_parts(self) -> dict[str, Any]:
        flat = {"mean": self.mean_.tolist(), "scale": self.scale_.tolist(), "flat": self._flat}
        return {**flat, "features": self._columns()}

    def _shared(self, config: dict[str, Any]) -> dict[str, Any]:
        """Restores what :meth:`_shared_parts` returned, checked."""
        mean, flat = checked_reals(config["mean"], "mean"), config["flat"]
        scale = checked_reals(config["scale"], "scale", len(mean), positive=True)
        if not isinstance(flat, bool) or (flat and len(mean) > 1):
            raise ValueError(
                f"flat is {brief(flat)} for {len(mean)} columns, expected true or false, and false for several"
            )
        names = named_columns(config.get("features"), len(mean))
        return {"mean_": mean, "scale_": scale, "n_features_in_": len(mean), "_flat": flat, **names}


_SHARED = ("mean_", "scale_", "n_features_in_", "feature_names_in_", "_flat")


def _refuse_y(y: Any) -> None:
    if y is not None:
        raise TypeError(
            "a forecaster learns from the series alone, so y must be None; give other inputs as columns of the series"
        )


def _check_length(x: Reals, least: int) -> None:
    if len(x) < least:
        few = "1 value (n_samples = 1)" if len(x) == 1 else f"{len(x)} values"
        raise ValueError(f"the series has {few}, expected at least {least}")


class LinearAR(SeriesModel):
    r"""The linear autoregression :math:`x_t = b + \sum_{i=1}^{\tau} A_i x_{t-i}`, by least squares: a Markov model of order τ.

    Parameters
    ----------
    tau : the number τ of earlier values that each forecast reads

    A series is (T,), or (T, D), whose columns all enter every forecast. Raises ``ValueError`` for a series that is too short or has
    missing values, and ``NotFittedError`` before ``fit``.

    >>> model = LinearAR(2).fit(np.sin(np.arange(100) / 5))
    >>> np.allclose(model.forecast(3), np.sin(np.arange(100, 103) / 5))
    True
    """

    kind = "linear_ar"
    _checks: ClassVar = {"tau": positive}
    _learnt = (*_SHARED, "coefficients_", "_end")
    coefficients_: Reals  # (tau D + 1, D) for standardized values: one step back, two steps back, ..., constant
    _end: Reals  # the last tau fitted values, standardized

    def __init__(self, tau: int = 4) -> None:
        self.tau = tau

    def _known(self, params: dict[str, Any]) -> int:
        tau: int = params["tau"]
        return tau

    def _fit(self, x: Reals, params: dict[str, Any], ranks: Ranks | None) -> dict[str, Any]:
        tau = params["tau"]
        coefficients = np.linalg.lstsq(_windows(x, tau)[tau - 1 : -1], x[tau:], rcond=None)[0]
        return {"coefficients_": coefficients, "_end": x[-tau:].copy()}

    def _ahead(self, x: Reals, steps: int) -> Reals:
        window, width = _windows(x, self.params_["tau"]), x.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):  # _natural raises for values that are not finite
            for _ in range(steps):
                ahead: Reals = window @ self.coefficients_
                window = np.concatenate([ahead, window[:, : -1 - width], window[:, -1:]], axis=1)
        return ahead

    def _continued(self, k: int, x: Reals | None = None) -> Reals:
        tau = self.params_["tau"]
        values = list(self._end if x is None else x[-tau:])
        for _ in range(k):
            values.append(self._ahead(np.stack(values[-tau:]), 1)[-1])
        return np.stack(values[-k:])

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        exact = {"coefficients": doubles_as_bytes(self.coefficients_), "end": doubles_as_bytes(self._end)}
        return self._shared_parts(), exact

    def _restore(self, params: dict[str, Any], config: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        learnt = self._shared(config)
        if tensors.keys() != {"coefficients", "end"}:
            raise ValueError(f"the tensors are {', '.join(tensors)}, expected coefficients and end")
        tau, width = params["tau"], learnt["n_features_in_"]
        coefficients = doubles_from_bytes(tensors["coefficients"], "coefficients", (tau * width + 1, width))
        end = doubles_from_bytes(tensors["end"], "end", (tau, width))
        self._learn(params, **learnt, coefficients_=coefficients, _end=end)


def _windows(x: Reals, tau: int) -> Reals:
    """Row t has x[t], x[t - 1], ... x[t - tau + 1] and 1, with zeros before the beginning."""
    padded = np.concatenate([np.zeros((tau - 1, x.shape[1])), x])
    parts = [padded[tau - 1 - i : len(padded) - i] for i in range(tau)]
    return np.concatenate([*parts, np.ones((len(x), 1))], axis=1)


class Autoregressor(SeriesModel):
    r"""A hidden-variable autoregression: :math:`h_t = \mathrm{cell}(x_t, h_{t-1})`, :math:`\hat x_{t+1} = W h_t + b`.

    Parameters
    ----------
    cell : a name in ``rf.nn.LAYERS``: ``"rnn"``, ``"gru"``, ``"lstm"``, ...
    hidden_size, num_layers : of the recurrent layer
    num_steps : the number of steps through which gradients flow back
    epochs, batch_size, lr, clip_norm : of training with Adam on the squared error of standardized values; lr decreases to 0;
        ``clip_norm=None``: no clipping
    seed : the same seed gives the same model (scikit-learn's ``random_state``; an integer, or None for a new one)
    verbose : show a progress bar over the epochs

    Attributes
    ----------
    mean_, scale_, n_features_in_ : of the D series: mean and standard deviation for standardizing, number of series
    loss_curve_ : mean squared error of each epoch
    params_ : the parameters of the fit

    A series is (T,), or (T, D) for D series with one network. Raises ``ValueError`` for a series that is too short or has missing
    values, and ``NotFittedError`` before ``fit``.

    Source: d2l.ai, section 9.1, for latent autoregressive models.

    >>> model = Autoregressor("rnn", 8, epochs=2, seed=0).fit(np.sin(np.arange(200) / 5))
    >>> model.predict(np.sin(np.arange(20) / 5)).shape, model.forecast(3).shape
    ((20,), (3,))
    """

    kind = "autoregressor"
    _checks: ClassVar = {"cell": CELL, "hidden_size": positive, "num_steps": positive, **TRAINING}
    _learnt = (*_SHARED, "loss_curve_", "network_", "_state")
    loss_curve_: list[float]
    network_: Network
    _state: Any  # the state of the recurrent layer after the fitted series

    def __init__(
        self,
        cell: Cell = "gru",
        hidden_size: int = 32,
        *,
        num_layers: int = 1,
        num_steps: int = 32,
        epochs: int = 100,
        batch_size: int = 16,
        lr: float = 1e-2,
        clip_norm: float | None = 1.0,
        seed: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.cell, self.hidden_size, self.num_layers = cell, hidden_size, num_layers
        self.num_steps, self.epochs, self.batch_size = num_steps, epochs, batch_size
        self.lr, self.clip_norm, self.seed, self.verbose = lr, clip_norm, seed, verbose

    def _known(self, params: dict[str, Any]) -> int:
        return 1

    def _fit(self, x: Reals, params: dict[str, Any], ranks: Ranks | None) -> dict[str, Any]:
        seed = fresh_seed(params, ranks)
        network = _network(params, x.shape[1], seed)
        trainer, random = Trainer(network, params["clip_norm"], ranks), np.random.default_rng(seed)
        series = x.astype(np.float32)
        steps = min(params["num_steps"], len(x) - 1)
        chunks = max(1, (len(x) - 1) // steps)
        losses: list[float] = []

        def learn(rows: Rows) -> float:
            at = offset + rows[None, :] * steps + np.arange(steps)[:, None]
            return _learn(network, series[at], series[at + 1])

        shown = params["verbose"] and (ranks is None or ranks.leads)
        with on_all(ranks, network, params, {"series": series}):
            for epoch in epochs_shown(params["epochs"], losses, shown=shown):
                offset = random.integers(len(x) - chunks * steps)
                total, rate = 0.0, falling_rate(params["lr"], epoch, params["epochs"])
                for rows in shuffled(chunks, params["batch_size"], random):
                    total += trainer.learn(rate, rows, learn) * len(rows)
                losses.append(total / chunks)
        return {"network_": network, "loss_curve_": losses, "_state": _state_after(network, series)}

    def _ahead(self, x: Reals, steps: int) -> Reals:
        state, outputs, states = None, [], []
        for value in _single(x):  # one by one, to get the state after each
            y, state = _run(self.network_, value[None, None], state)
            outputs.append(y[0, 0])
            states.append(state)
        ahead, state = np.stack(outputs), _side_by_side(states)
        for _ in range(steps - 1):
            y, state = _run(self.network_, ahead[None], state)
            ahead = y[0]
        forecast: Reals = ahead.astype(np.float64)
        return forecast

    def _continued(self, k: int, x: Reals | None = None) -> Reals:
        state = self._state if x is None else _state_after(self.network_, _single(x))
        values = [_output_of(self.network_, state)]
        for _ in range(k - 1):
            y, state = _run(self.network_, values[-1][None], state)
            values.append(y[0])
        forecast: Reals = np.concatenate(values).astype(np.float64)
        return forecast

    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        parts = self._state if isinstance(self._state, tuple) else (self._state,)
        state = {f"state.{name}": part for name, part in zip("hc", parts)}
        return {**self._shared_parts(), **self._losses()}, {**self.network_.state_dict(), **state}

    def _restore(self, params: dict[str, Any], config: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        learnt, weights = self._shared(config), dict(tensors)
        width, layers, hidden = learnt["n_features_in_"], params["num_layers"], params["hidden_size"]
        series = weights.pop("series", None)  # its last values, in a file of version 0.1; later files have the state
        names = [] if series is not None else ["state.h", "state.c"][: 1 + TABLE[params["cell"]].has_c]
        state = tuple(weights.pop(name) for name in names)
        check_sizes(weights, layers, layers * hidden**2, hidden * width)
        network = _network(params, width, 0)
        network.load_state_dict(weights)
        if series is None:
            for name, part in zip(names, state):
                if part.shape != (layers, 1, hidden) or part.dtype != np.float32:
                    raise ValueError(f"{name} has shape {part.shape}, expected {(layers, 1, hidden)}")
            learnt["_state"] = state if len(state) == 2 else state[0]
        elif series.ndim != 2 or series.shape[1] != width or not len(series):
            raise ValueError(f"the series has shape {series.shape}, expected (T, {width})")
        else:
            learnt["_state"] = _state_after(network, series.astype(np.float32))
        learnt.update(losses_in(config))
        self._learn(params, **learnt, network_=network)


def _network(params: dict[str, Any], width: int, seed: int) -> Network:
    layers = {
        "rnn": recurrent_layer(params["cell"], width, params["hidden_size"], params["num_layers"], seed),
        "output": Linear(params["hidden_size"], width, seed=seed + 1),
    }
    return Network(inputs={"x": width}, layers=layers, seed=seed)


def _learn(network: Network, x: Array, y: Array) -> float:
    """The mean squared error of the forecasts of y from x, both (T, N, D); adds its gradients to the network."""
    predicted, backward = network.forward(x)
    error = predicted - y
    backward(2 * error / error.size, input_gradient=False)
    return float(np.square(error).mean())


def _run(network: Network, x: Array, state: Any) -> tuple[Array, Any]:
    """The output of x (T, N, D), and the state of the recurrent layer after it."""
    run = network.run(x, state=None if state is None else {"rnn": state})
    return run.outputs["output"], run.state["rnn"]


def _single(x: Reals) -> Array:
    """Converts to single precision, in which the layers compute."""
    with np.errstate(over="ignore"):
        single = x.astype(np.float32)
    if not np.isfinite(single).all():
        raise OverflowError("the series is too far from the fitted one for single precision")
    return single


def _state_after(network: Network, series: Array) -> Any:
    """The state of the recurrent layer after a series (T, D)."""
    state = None
    for begin in range(0, len(series), _STEPS):
        _, state = _run(network, series[begin : begin + _STEPS, None], state)
    return state


def _output_of(network: Network, state: Any) -> Array:
    """The output (1, D) of the last step, from the state of the top layer after it."""
    h: Array = (state[0] if isinstance(state, tuple) else state)[-1]
    weights = {name.partition(".")[2]: w for name, w in network.parameters().items() if name.startswith("output.")}
    output = Linear(h.shape[-1], len(weights["bias"]), seed=0)
    output.load_state_dict(weights)
    return output(h)


def _side_by_side(states: Sequence[Any]) -> Any:
    """States of one row each, (L, 1, H), as the state of many rows."""
    if isinstance(states[0], tuple):
        return tuple(_side_by_side([state[i] for state in states]) for i in range(len(states[0])))
    return np.concatenate(states, axis=1)
