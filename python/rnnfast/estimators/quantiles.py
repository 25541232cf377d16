"""The quantiles of the next values of a series: a linear part, a recurrent network for what it leaves, and conformal margins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast.distributed.ranks import Ranks
from rnnfast.estimators import linear_horizon as linear
from rnnfast.estimators.base import fresh_seed, recurrent_layer
from rnnfast.estimators.samples import Reals
from rnnfast.models.examples import Examples
from rnnfast.models.network import Network, Sequential
from rnnfast.models.supervised import Supervised
from rnnfast.nn.linear import Linear
from rnnfast.nn.losses import QuantileLoss
from rnnfast.train.fit import fit


def shape_of(params: dict[str, Any], outside: int, terms: int) -> linear.Shape:
    """The shape of a fit whose forecasts have so many terms."""
    for seasons in (0,) if params["season"] is None else (1, 2):
        shape = linear.Shape(params["horizon"], params["season"], outside, seasons)
        if shape.terms == terms:
            return shape
    raise ValueError(f"the linear part has {terms} terms, which do not fit its season and exogenous columns")


def _quantile_list(interval: float) -> list[float]:
    return [(1 - interval) / 2, 0.5, (1 + interval) / 2]


def new_network(params: dict[str, Any], outside: int, seed: int) -> Network:
    width = 2 + 4 * (params["season"] is not None) + outside
    rnn = recurrent_layer(params["cell"], width, params["hidden_size"], params["num_layers"], seed)
    return Sequential(rnn, Linear(params["hidden_size"], 3 * params["horizon"], seed=seed + 1), seed=seed)


def _inputs(z: Reals, outside: Reals, shape: linear.Shape) -> NDArray[np.float32]:
    """What the network reads, (T, D, width)."""
    t = np.arange(len(z))
    shared = [f(2 * np.pi * k * t / shape.season) for k in (1, 2) for f in (np.sin, np.cos)] if shape.season else []
    shared += list(outside[: len(z)].T)
    whole = [z, np.diff(z, axis=0, prepend=z[:1]), *(np.broadcast_to(s[:, None], z.shape) for s in shared)]
    with np.errstate(over="ignore"):
        x = np.stack(whole, -1).astype(np.float32)
    if not np.isfinite(x).all():
        raise OverflowError("the series is too far from the fitted one for single precision")
    return x


def linear_part(z: Reals, outside: Reals, shape: linear.Shape, kind: str, coefficients: Reals) -> Reals:
    """(D, T, H)."""
    return np.stack(
        [
            (linear.base(column, shape, kind) + np.einsum("htf,hf->ht", linear.regressors(column, outside, shape), w)).T
            for column, w in zip(z.T, coefficients)
        ]
    )


def with_network(
    z: Reals, outside: Reals, shape: linear.Shape, line: Reals, spread: Reals, network: Network
) -> tuple[Reals, Reals]:
    """The quantiles (D, T, H, 3), and by how much the known values lie outside the outer ones, (D, T, H)."""
    y = np.asarray(network(_inputs(z, outside, shape))).astype(np.float64)  # (T, D, 3 H)
    own = y.reshape(len(z), z.shape[1], shape.horizon, 3).transpose(1, 0, 2, 3)
    quantiles = line[..., None] + spread[:, None, :, None] * own
    wanted = np.stack([linear.ahead_of(column, shape.horizon).T for column in z.T])
    return quantiles, np.maximum(quantiles[..., 0] - wanted, wanted - quantiles[..., 2])


def learnt_from(
    z: Reals, outside: Reals, shape: linear.Shape, params: dict[str, Any], ranks: Ranks | None
) -> dict[str, Any]:
    """Both parts, and the scores of the last part of the series."""
    steps, count, columns = len(z), params["calibration"], list(z.T)
    folds = linear.folds_of(steps)
    half, split = folds[0], folds[-2]
    kind, penalty = linear.choose(columns, outside, shape)
    coefficients, lines = [], []
    for column in columns:
        x, start = linear.regressors(column, outside, shape), linear.base(column, shape, kind)
        coefficients.append(linear.solve(x, linear.ahead_of(column, shape.horizon) - start, penalty))
        lines.append(linear.honest(column, x, start, penalty).T)
    line = np.stack(lines)
    wanted = np.stack([linear.ahead_of(c, shape.horizon).T for c in columns])
    left = wanted - line  # (D, T, H)
    early = np.stack([linear.known_before(part.T, split).T for part in left])
    early[:, :half] = np.nan  # of values that the linear part has seen
    spread = np.maximum(np.nanstd(early, axis=1), 1e-6)
    seed = fresh_seed(params, ranks)
    network = new_network(params, outside.shape[1], seed)
    _start_from_quantiles(network, early / spread[:, None], params["interval"])
    losses = _train(network, _inputs(z, outside, shape), left / spread[:, None], split, {**params, "seed": seed}, ranks)
    _, scores = with_network(z, outside, shape, line, spread, network)
    late = scores[:, half:]
    kept = np.full((z.shape[1], shape.horizon, count), np.nan)
    for d in range(z.shape[1]):
        for h in range(shape.horizon):
            known = late[d, :, h][np.isfinite(late[d, :, h])][-count:]
            kept[d, h, count - len(known) :] = known
    return {
        "base_": kind, "penalty_": penalty, "_linear": np.stack(coefficients), "_spread": spread, "network_": network, "_scores": kept,
        "loss_curve_": losses,
    }  # fmt: skip


def _start_from_quantiles(network: Network, left: Reals, interval: float) -> None:
    """The network's first outputs are the quantiles of what the linear part leaves, at any state."""
    bias = np.nanquantile(left.reshape(-1, left.shape[2]), _quantile_list(interval), axis=0).T  # (H, 3)
    state = network.state_dict()
    network.load_state_dict({**state, "1.weight": 0 * state["1.weight"], "1.bias": bias.ravel()})


def _train(
    network: Network, x: NDArray[np.float32], left: Reals, split: int, params: dict[str, Any], ranks: Ranks | None
) -> list[float]:
    """Learns the quantiles of ``left`` (D, T, H), with the epoch that is best from ``split`` on; the loss of each epoch.

    Where nothing is known from there on, the network stays as it is.
    """
    wanted = left.transpose(1, 0, 2)
    known = np.isfinite(wanted).all(-1)
    target = np.where(known[..., None], wanted, 0).astype(np.float32)
    time = np.arange(len(x))[:, None]
    early, late = known & (time + wanted.shape[2] < split), known & (time >= split - 1)
    if not late.any():
        return []
    chunks = max(1, split // params["num_steps"])
    length = split // chunks
    cut = [
        np.concatenate([part[split - (i + 1) * length : split - i * length] for i in range(chunks)], 1)
        for part in (x, target, early.astype(np.float32))
    ]
    loss, valid = QuantileLoss(_quantile_list(params["interval"])), Examples(x, target, weights=late.astype(np.float32))
    before, start = Supervised(network, loss).evaluate(valid, 256)[0], network.state_dict()
    history = fit(
        network, Examples(cut[0], cut[1], weights=cut[2]), valid, loss=loss, epochs=params["epochs"], batch_size=params["batch_size"],
        lr=params["lr"], schedule="cosine", clip_norm=params["clip_norm"], seed=params["seed"], keep_best=True,
        progress=params["verbose"], distributed=ranks,
    )  # fmt: skip
    if not history.best["valid_loss"] < before:
        network.load_state_dict(start)
    return history.column("train_loss")


# Intervals --------------------------------------------------------------------------------------------------------------


def margin_of(scores: Reals, level: float) -> Reals:
    """The conformal quantile of the last axis, which ignores NaN: the ⌈level (n + 1)⌉th smallest of n scores."""
    ordered = np.sort(scores, axis=-1)
    count = np.isfinite(scores).sum(-1)
    place = np.clip(np.ceil(level * (count + 1)).astype(int), 1, np.maximum(count, 1)) - 1
    margin = np.take_along_axis(ordered, place[..., None], -1)[..., 0]
    return np.where(np.isfinite(margin), margin, 0.0)


def in_order(quantiles: Reals, margin: Reals) -> Reals:
    """Both ends moved outwards by the margin, and in order around the median."""
    lower, median, upper = (quantiles[..., i] for i in range(3))
    return np.stack([np.minimum(lower - margin, median), median, np.maximum(upper + margin, median)], -1)
