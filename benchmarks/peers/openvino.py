"""OpenVINO from the same ONNX model: latency hint, one stream, tensors shared with NumPy; forward only."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import numpy as np
import openvino as ov

from benchmarks.cases import Case, inputs
from benchmarks.onnx_model import onnx_model
from benchmarks.peers import Arrays, Program, twice_over


class Peer:
    def __init__(self, threads: int, precision: str = "f32") -> None:
        self._core = ov.Core()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,  # this process is already bound to its cores
        }
        self.version = ov.__version__

    def prepare(self, case: Case) -> Program:
        model = self._core.read_model(io.BytesIO(onnx_model(case)))
        compiled = self._core.compile_model(model, "CPU", self._settings)
        x = inputs(case)["x"]
        return _stream(compiled, case, x) if case.kind == "stream" else _forward(compiled, case, x)


def _request(compiled: Any, given: dict[str, np.ndarray]) -> Any:
    """Reads the arrays in place, so the arrays must outlive the request."""
    request = compiled.create_infer_request()
    for name, array in given.items():
        request.set_tensor(name, ov.Tensor(array, shared_memory=True))
    return request


def _forward(compiled: Any, case: Case, x: np.ndarray) -> Program:
    given = {"x": x, "lengths": case.lengths()} if case.ragged else {"x": x}
    request = _request(compiled, given)
    run = partial(request.infer, share_outputs=True)  # otherwise every result is copied again

    def check() -> Arrays:
        run()
        return {"y": request.get_tensor("y").data.copy()}

    return Program(check, run, keep=given)


def _stream(compiled: Any, case: Case, x: np.ndarray) -> Program:
    """Two requests; the outputs of each are the inputs of the other."""
    names = ["h", "c"] if case.cell == "LSTM" else ["h"]
    row = x[:1].copy()
    requests = [_request(compiled, {"x": row}) for _ in range(2)]
    for one, other in (requests, requests[::-1]):
        for name in names:
            one.set_tensor(name, other.get_tensor(f"{name}_next"))
            one.get_tensor(name).data[:] = 0
    turns = twice_over(requests)

    def run() -> Any:
        request = next(turns)
        request.infer(share_outputs=True)
        return request

    def check() -> Arrays:
        y = []
        for step in x:
            row[:] = step
            y.append(run().get_tensor("h_next").data[0].copy())
        return {"y": np.stack(y)}

    return Program(check, run, keep=row)
