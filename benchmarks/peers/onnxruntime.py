"""ONNX Runtime: inputs and outputs bound once, no copy; forward only."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.cases import Case, inputs
from benchmarks.onnx_model import onnx_model
from benchmarks.peers import Arrays, Program, twice_over


class Peer:
    def __init__(self, threads: int) -> None:
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        self._options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.version = ort.__version__

    def prepare(self, case: Case) -> Program:
        session = ort.InferenceSession(onnx_model(case), self._options, providers=["CPUExecutionProvider"])
        x = inputs(case)["x"]
        return _stream(session, case, x) if case.kind == "stream" else _forward(session, case, x)


def _value(array: np.ndarray) -> Any:
    return ort.OrtValue.ortvalue_from_numpy(array)


def _forward(session: Any, case: Case, x: np.ndarray) -> Program:
    given = {"x": _value(x)}
    if case.ragged:
        given["lengths"] = _value(case.lengths())
    y = _value(np.empty((case.T, case.N, case.directions * case.H), np.float32))
    binding = _bind(session, given, {"y": y})

    def run() -> None:
        session.run_with_iobinding(binding)

    def check() -> Arrays:
        run()
        return {"y": y.numpy().copy()}

    return Program(check, run, keep=given)


def _stream(session: Any, case: Case, x: np.ndarray) -> Program:
    """The state alternates between two buffers."""
    names = ["h", "c"] if case.cell == "LSTM" else ["h"]
    states = [{name: _value(np.zeros((1, case.N, case.H), np.float32)) for name in names} for _ in range(2)]
    row = _value(x[:1].copy())
    bindings = [
        _bind(session, {"x": row, **states[k]}, {f"{name}_next": states[1 - k][name] for name in names})
        for k in range(2)
    ]
    turns = twice_over(bindings)

    def run() -> None:
        session.run_with_iobinding(next(turns))

    def check() -> Arrays:
        y = []
        for step in range(len(x)):
            row.update_inplace(x[step : step + 1])
            run()
            y.append(states[1 - step % 2]["h"].numpy()[0].copy())
        return {"y": np.stack(y)}

    return Program(check, run, keep=[row, states])


def _bind(session: Any, given: dict[str, Any], results: dict[str, Any]) -> Any:
    binding = session.io_binding()
    for name, value in given.items():
        binding.bind_ortvalue_input(name, value)
    for name, value in results.items():
        binding.bind_ortvalue_output(name, value)
    return binding
