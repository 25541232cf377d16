"""A case as an ONNX model: PyTorch's weights in ONNX's gate order, one node per layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.cases import Case, weights
from benchmarks.cells import GATES

# Positions of ONNX's gates in PyTorch's order: LSTM i o f c from i f g o, GRU z r h from r z n.
GATE_ORDER = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 3, 1, 2]}


def reorder(cell: str, array: np.ndarray) -> np.ndarray:
    """Moves blocks of H rows from PyTorch's order to ONNX's."""
    blocks = array.reshape(GATES[cell], -1, *array.shape[1:])
    return np.ascontiguousarray(blocks[GATE_ORDER[cell]].reshape(array.shape))


def node_weights(case: Case, layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W, R and B of one layer, directions first; B is the input bias, then the recurrent bias."""
    w, r, b = [], [], []
    named = weights(case)
    for end in ("", "_reverse")[: case.directions]:
        part = {
            name: reorder(case.cell, named[f"{name}_l{layer}{end}"])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        w.append(part["weight_ih"])
        r.append(part["weight_hh"])
        b.append(np.concatenate([part["bias_ih"], part["bias_hh"]]))
    return np.stack(w), np.stack(r), np.stack(b)


def onnx_model(case: Case) -> bytes:
    """Inputs x (T, N, D) and, if ragged, lengths (N,); for a stream also h (and c). Outputs y (T, N, dirs H), and h (and c)."""
    from onnx import TensorProto, checker, helper, numpy_helper

    stream, dirs = case.kind == "stream", case.directions
    states = (["h", "c"] if case.cell == "LSTM" else ["h"]) if stream else []
    constants = [numpy_helper.from_array(np.array([0, 0, dirs * case.H], np.int64), "rows")]
    nodes, current = [], "x"
    for layer in range(case.layers):
        named = dict(zip(("W", "R", "B"), node_weights(case, layer)))
        constants += [numpy_helper.from_array(array, f"{name}{layer}") for name, array in named.items()]
        attributes: dict[str, Any] = {"hidden_size": case.H, "direction": "bidirectional" if dirs == 2 else "forward"}
        if case.cell == "GRU":
            attributes["linear_before_reset"] = 1
        if stream:
            feeds, gives = states, ["", *[f"{name}_next" for name in states]]
        else:
            feeds, gives = [], [f"Y{layer}"]
        names = [current, f"W{layer}", f"R{layer}", f"B{layer}", "lengths" if case.ragged else "", *feeds]
        while not names[-1]:
            names.pop()  # trailing inputs that are absent
        nodes.append(helper.make_node(case.cell, names, gives, **attributes))
        if not stream:  # Y is (T, dirs, N, H)
            nodes.append(helper.make_node("Transpose", [f"Y{layer}"], [f"Z{layer}"], perm=[0, 2, 1, 3]))
            current = "y" if layer == case.layers - 1 else f"y{layer}"
            nodes.append(helper.make_node("Reshape", [f"Z{layer}", "rows"], [current]))

    def tensor(name: str, *shape: int, kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    given = [tensor("x", case.T, case.N, case.D)]
    if case.ragged:
        given.append(tensor("lengths", case.N, kind=TensorProto.INT32))
    given += [tensor(name, 1, case.N, case.H) for name in states]
    results = [tensor(f"{name}_next", 1, case.N, case.H) for name in states]
    if not stream:
        results = [tensor("y", case.T, case.N, dirs * case.H)]
    graph = helper.make_graph(nodes, "layer", given, results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()
