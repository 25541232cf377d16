"""JAX: one jitted scan per layer, and its jitted gradient; block_until_ready ends every run.

Matrices are kept as in PyTorch or transposed. Neither is always faster (5 times for a stream, 0.9 to 1.2 for scans), so both are tried
and the faster one is measured. Work does not go to another thread and back, which saves a few percent.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cases import Case, inputs, suffixes, weights
from benchmarks.peers import Arrays, Program, Unsupported


class Peer:
    def __init__(self, threads: int) -> None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        self.version = jax.__version__

    def prepare(self, case: Case) -> Program:
        programs = [getattr(self, "_" + case.kind)(case, transposed) for transposed in (True, False)]
        return min(programs, key=_seconds)

    def _forward(self, case: Case, transposed: bool) -> Program:
        w, x = _weights(case, transposed), jnp.asarray(inputs(case)["x"])
        layers = jax.jit(lambda w, x: _layers(case, _used(w, transposed), x))

        def run() -> Any:
            return layers(w, x).block_until_ready()

        return Program(lambda: {"y": np.asarray(run())}, run)

    def _train(self, case: Case, transposed: bool) -> Program:
        data, w = inputs(case), _weights(case, transposed)
        x, dy = jnp.asarray(data["x"]), jnp.asarray(data["dy"])

        @jax.jit
        def step(w: Any, x: Any, dy: Any) -> Any:
            y, pull_back = jax.vjp(lambda w, x: _layers(case, _used(w, transposed), x), w, x)
            return y, *pull_back(dy)

        def run() -> Any:
            return jax.block_until_ready(step(w, x, dy))

        def check() -> Arrays:
            y, dw, dx = run()
            gradients = {f"d{name}": np.asarray(dw[name].T if transposed else dw[name]) for name in dw}
            return {"y": np.asarray(y), "dx": np.asarray(dx), **gradients}

        return Program(check, run)

    def _stream(self, case: Case, transposed: bool) -> Program:
        w, x = _weights(case, transposed), jnp.asarray(inputs(case)["x"])
        first = x[0]
        zeros = tuple(jnp.zeros((case.N, case.H)) for _ in range(1 + (case.cell == "LSTM")))
        state = zeros

        @jax.jit
        def step(w: Any, state: Any, row: Any) -> Any:
            used = _used(w, transposed)
            return CELLS[case.cell](_input_part(case.cell, used, "_l0", row), used, "_l0", state)

        def run(row: Any = first) -> Any:
            nonlocal state
            state = step(w, state, row)
            return state[0].block_until_ready()

        def check() -> Arrays:
            nonlocal state
            state = zeros
            return {"y": np.stack([np.asarray(run(row)) for row in x])}

        return Program(check, run)


def _seconds(program: Program) -> float:
    """The best of three runs, after one run that compiles."""
    program.run()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        program.run()
        times.append(time.perf_counter() - started)
    return min(times)


def _weights(case: Case, transposed: bool) -> dict[str, Any]:
    named = weights(case).items()
    return {name: jnp.asarray(np.ascontiguousarray(array.T) if transposed else array) for name, array in named}


def _used(w: Any, transposed: bool) -> Any:
    """Transposed, as the products need them."""
    return w if transposed else {name: array.T for name, array in w.items()}


def _input_part(cell: str, w: Any, end: str, x: Any) -> Any:
    bias = w["bias_ih" + end] if cell == "GRU" else w["bias_ih" + end] + w["bias_hh" + end]
    return x @ w["weight_ih" + end] + bias


def _rnn(gx: Any, w: Any, end: str, state: Any) -> Any:
    return (jnp.tanh(gx + state[0] @ w["weight_hh" + end]),)


def _gru(gx: Any, w: Any, end: str, state: Any) -> Any:
    (h,) = state
    r, z, n = jnp.split(gx, 3, axis=-1)
    hr, hz, hn = jnp.split(h @ w["weight_hh" + end] + w["bias_hh" + end], 3, axis=-1)
    z = jax.nn.sigmoid(z + hz)
    return ((1 - z) * jnp.tanh(n + jax.nn.sigmoid(r + hr) * hn) + z * h,)


def _lstm(gx: Any, w: Any, end: str, state: Any) -> Any:
    h, c = state
    i, f, g, o = jnp.split(gx + h @ w["weight_hh" + end], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


CELLS = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}


def _layers(case: Case, w: Any, x: Any) -> Any:
    ends, y = suffixes(case), x
    for layer in range(case.layers):
        directions = ends[layer * case.directions : (layer + 1) * case.directions]
        outputs = [_direction(case, w, end, y, reverse=end.endswith("_reverse")) for end in directions]
        y = jnp.concatenate(outputs, axis=-1)
    return y


def _direction(case: Case, w: Any, end: str, x: Any, *, reverse: bool) -> Any:
    """A scan over time. In ragged batches, a finished row keeps its state and outputs zeros."""
    if reverse and case.ragged:
        raise Unsupported("ragged rows in both directions are not written in JAX here")
    gx = _input_part(case.cell, w, end, x)
    zeros = jnp.zeros((case.N, case.H), x.dtype)
    start = (zeros, zeros) if case.cell == "LSTM" else (zeros,)
    if not case.ragged:

        def step(state: Any, gx_t: Any) -> Any:
            after = CELLS[case.cell](gx_t, w, end, state)
            return after, after[0]

        return jax.lax.scan(step, start, gx, reverse=reverse)[1]

    lengths = jnp.asarray(case.lengths())[:, None]

    def step_of_some(state: Any, now: Any) -> Any:
        t, gx_t = now
        after = CELLS[case.cell](gx_t, w, end, state)
        after = tuple(jnp.where(t < lengths, new, old) for new, old in zip(after, state))
        return after, jnp.where(t < lengths, after[0], 0)

    return jax.lax.scan(step_of_some, start, (jnp.arange(case.T), gx))[1]
