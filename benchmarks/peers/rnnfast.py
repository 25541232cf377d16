"""rnnfast itself, through its public Python interface."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import rnnfast as rf
from benchmarks.cases import Case, inputs, weights
from benchmarks.peers import Arrays, Program, Unsupported


class Peer:
    def __init__(self, threads: int, weights: str | None = None) -> None:
        rf.set_num_threads(threads)
        self._options = {} if weights is None else {"weights": weights}
        self.version = rf.info()["version"]

    def prepare(self, case: Case) -> Program:
        return getattr(self, "_" + case.kind)(case)

    def _layer(self, case: Case) -> Any:
        if not hasattr(rf, case.cell):  # of another revision
            raise Unsupported(f"this rnnfast has no {case.cell}")
        layer = self._make(getattr(rf, case.cell), case.D, case.H, case.layers, bidirectional=case.bidirectional)
        layer.load_state_dict(weights(case))
        return layer

    def _make(self, kind: Any, *sizes: Any, **options: Any) -> Any:
        try:
            return kind(*sizes, **options, **self._options)
        except TypeError as error:
            if self._options and "weights" in str(error):
                raise Unsupported(f"this rnnfast has no {kind.__name__}(weights=...)") from error
            raise

    def _forward(self, case: Case) -> Program:
        layer, x = self._layer(case), inputs(case)["x"]
        lengths = case.lengths() if case.ragged else None

        def run() -> np.ndarray:
            return layer(x, lengths=lengths)[0]

        return Program(lambda: {"y": run()}, run)

    def _train(self, case: Case) -> Program:
        layer, data = self._layer(case), inputs(case)
        x, dy = data["x"], data["dy"]
        lengths = case.lengths() if case.ragged else None

        def run() -> Any:
            layer.zero_grad()
            y, _, backward = layer.forward(x, lengths=lengths)
            return y, backward(dy)[0]

        def check() -> Arrays:
            y, dx = run()
            return {"y": y, "dx": dx, **{f"d{name}": np.array(grad) for name, grad in layer.grads.items()}}

        return Program(check, run)

    def _stream(self, case: Case) -> Program:
        layer, x = self._layer(case), inputs(case)["x"]
        first, y = x[0], np.empty((case.N, case.H), np.float32)
        # y is bound, as are the outputs of the other frameworks.
        step = partial(layer.stream(rows=case.N), out=y) if hasattr(layer, "stream") else _one_step_of(layer)
        return Program(lambda: {"y": np.stack([np.array(step(row)) for row in x])}, lambda: step(first))

    def _lm(self, case: Case) -> Program:
        sizes: dict[str, Any] = {"embedding_size": case.D, "hidden_size": case.H, "num_layers": case.layers}
        if case.cutoffs:
            sizes.update(output="adaptive", cutoffs=case.cutoffs)
        model = self._make(rf.LanguageModel, case.V, cell=case.cell.lower(), **sizes)
        start, data = weights(case), inputs(case)
        model.load_state_dict(start)
        optimizer = rf.SGD(model, lr=0.1)

        def run() -> float:
            loss, _ = model.loss(data["ids"], data["targets"])
            model.backward()
            rf.clip_grad_norm_(model, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            return loss

        def check() -> Arrays:
            losses = np.array([run() for _ in range(3)])
            return {"loss": losses, **{f"change of {n}": v - start[n] for n, v in model.state_dict().items()}}

        return Program(check, run)


def _one_step_of(layer: Any) -> Any:
    """A stream for layers without stream(): T = 1, and each call passes its state to the next."""
    state = None

    def step(x: np.ndarray) -> np.ndarray:
        nonlocal state
        y, state = layer(x[None], state)
        return y[0]

    return step
