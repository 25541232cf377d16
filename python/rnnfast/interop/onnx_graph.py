"""ONNX graphs as they are walked: constants computed, branches chosen, recurrent nodes read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast._expect import shown
from rnnfast.files import PathLike, checked_path
from rnnfast.interop.axes import Unconvertible
from rnnfast.interop.hostile import Allowance, readable
from rnnfast.interop.onnx_fold import evaluated, stored
from rnnfast.interop.onnx_nodes import (
    QUANTIZED_LSTM,
    array_of,
    attributes,
    described,
    every_node,
    onnx_package,
    operator,
    read_by,
)
from rnnfast.interop.recurrence import Direction, Recurrence, direction
from rnnfast.nn.gates import ONNX_ORDER, PEEPHOLE_ORDER, reordered

Array = NDArray[Any]
OLDEST = 7  # version of operators; before it, broadcasting and dropout were told by attributes of their own
# What a recurrent node computes by default, forward and backward.
_USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}


@dataclass
class Graph:
    """A graph whose constants are known: its nodes in order, and what is computed from its inputs."""

    model: Any
    nodes: list[Any]
    constants: dict[str, Array]
    inputs: list[Any]  # that are not constants
    outputs: list[str]
    shapes: dict[str, list[int | str]]  # where they are known; a name stands for an unknown size
    types: dict[str, int]  # of elements
    allowance: Allowance = field(default_factory=lambda: Allowance.of(0))  # for constants that are computed

    @property
    def opsets(self) -> dict[str, int]:
        """Versions of operators by domain."""
        return {o.domain: o.version for o in self.model.opset_import}


def read_graph(source: PathLike | Any, constants: Mapping[str, Any] | None = None) -> Graph:
    """The graph of a file, or of an ``onnx.ModelProto``; ``constants`` are inputs that keep one value.

    What depends on constants and known shapes alone is computed, and an ``If`` whose condition is known becomes its branch.
    """
    model, name = _loaded(source)
    fixed = {name: np.asarray(value) for name, value in (constants or {}).items()}
    known = [value.name for value in model.graph.input]
    for each in fixed:
        if each not in known:
            raise ValueError(f"constants names {each!r}, expected inputs of the file: {', '.join(known)}")
    with readable(name, "ONNX"):
        return _graph(model, fixed, name)


def _graph(model: Any, fixed: Mapping[str, Array], name: str) -> Graph:
    graph = Graph(model, list(model.graph.node), {}, [], [value.name for value in model.graph.output], {}, {})
    if graph.opsets.get("", OLDEST) < OLDEST:
        raise Unconvertible(
            f"{name} uses operators of version {graph.opsets['']}, expected {OLDEST} (of 2017) or later: convert it with"
            " onnx.version_converter"
        )
    if model.graph.sparse_initializer:
        raise Unconvertible(f"{name} stores sparse tensors, expected dense ones")
    graph.constants.update({t.name: array_of(t) for t in model.graph.initializer})
    for given in model.graph.input:
        if given.name in fixed:
            kind = onnx_package().helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
            graph.constants[given.name] = fixed[given.name].astype(kind)
    graph.inputs = [value for value in model.graph.input if value.name not in graph.constants]
    graph.allowance = Allowance.of(sum(array.nbytes for array in graph.constants.values()))
    _infer(graph)
    while _fold(graph):
        _infer(graph)
    _check_order(graph)
    return graph


def _loaded(source: PathLike | Any) -> tuple[Any, str]:
    """The model, and what messages call it."""
    onnx = onnx_package()
    if isinstance(source, onnx.ModelProto):
        return source, "the model"
    path = checked_path(source)
    name = shown(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{name} does not exist; give the path of an ONNX file")
    try:
        model = onnx.load(path)
        parsed = len(model.graph.node) > 0 and len(model.opset_import) > 0
    except Exception as error:  # protobuf raises classes of its own, which differ between versions
        raise ValueError(f"{name} is not an ONNX file: {' '.join(str(error).split())}") from None
    if not parsed:
        raise ValueError(f"{name} is not an ONNX file: it holds no graph")
    return model, name


def _check_order(graph: Graph) -> None:
    """Every node reads what is given, and nothing is given twice: what walks over a graph relies on both."""
    known = {"", *graph.constants, *(value.name for value in graph.inputs)}
    for node in graph.nodes:
        for name in read_by(node):
            if name not in known:
                raise Unconvertible(f"{described(node)} reads {name!r}, which no input, constant or earlier node gives")
        for name in node.output:
            if name and name in known:
                raise Unconvertible(f"{described(node)} gives {name!r}, which is given already")
        known.update(node.output)
    for name in graph.outputs:
        if name not in known or not name:
            raise Unconvertible(f"the output {name!r} is given by no node")


def _infer(graph: Graph) -> None:
    """Shapes and types of all values."""
    onnx = onnx_package()
    given = graph.model
    small = onnx.ModelProto(
        ir_version=given.ir_version, opset_import=given.opset_import, functions=_plain_functions(given)
    )
    small.graph.name = given.graph.name
    small.graph.output.extend(given.graph.output)
    small.graph.value_info.extend(given.graph.value_info)
    small.graph.node.extend(graph.nodes)
    small.graph.input.extend(graph.inputs)
    for name, array in graph.constants.items():
        if array.size <= 4096:
            small.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        else:
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            small.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    try:
        inferred = onnx.shape_inference.infer_shapes(small, data_prop=not _grows(graph))
    except Exception:  # InferenceError, or what damaged nodes raise: shapes stay those that the file gives
        inferred = small
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        tensor = value.type.tensor_type
        graph.types[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            graph.shapes[value.name] = [
                d.dim_value if d.HasField("dim_value") else d.dim_param or f"{value.name}:{i}"
                for i, d in enumerate(tensor.shape.dim)
            ]


def _plain_functions(model: Any) -> list[Any]:
    """The functions of a file that call no others: calls within calls may take exponential time."""
    names = {(f.domain, f.name) for f in model.functions}
    return [f for f in model.functions if not any((n.domain, n.op_type) in names for n in every_node(f.node))]


def _grows(graph: Graph) -> bool:
    """Whether arrays joined again and again become so long that onnx's propagation of values would fill the memory."""
    longest = {name: array.size for name, array in graph.constants.items()}
    for node in every_node(graph.nodes):
        sizes = [longest.get(name, 64) for name in node.input] or [0]
        size = sum(sizes) if node.op_type == "Concat" else max(sizes)
        if node.op_type == "Concat" and size > 1 << 20:
            return True
        longest.update(dict.fromkeys(node.output, size))
    return False


def _fold(graph: Graph) -> bool:
    """Computes what is constant, once over all nodes; whether branches were chosen, so that more may be."""
    left: list[Any] = []
    chosen = False
    partial: dict[str, list[int | None]] = {}  # shapes of which some sizes are known
    for node in graph.nodes:
        if operator(node) == "If" and node.input[0] in graph.constants:
            left.extend(_branch(node, bool(graph.constants[node.input[0]].ravel()[0]), graph))
            chosen = True
        elif not _constant(node, graph, partial):
            left.append(node)
    graph.nodes = left
    return chosen


def _branch(node: Any, condition: bool, graph: Graph) -> list[Any]:
    onnx = onnx_package()
    branch = attributes(node)["then_branch" if condition else "else_branch"]
    graph.constants.update({t.name: array_of(t) for t in branch.initializer})
    same = [
        onnx.helper.make_node("Identity", [inner.name], [outer]) for inner, outer in zip(branch.output, node.output)
    ]
    return [*branch.node, *same]


def _constant(node: Any, graph: Graph, partial: dict[str, list[int | None]]) -> bool:
    """Whether the outputs of a node are constants, which it puts among the others."""
    kind = operator(node)
    if kind == "Constant":
        value = stored(node)
        if value is not None:
            graph.constants[node.output[0]] = value
        return value is not None
    if kind == "Shape" and node.input[0] in graph.shapes:
        sizes = [d if isinstance(d, int) else None for d in graph.shapes[node.input[0]]]
        given = attributes(node)
        sizes = sizes[given.get("start", 0) : given.get("end")]
        partial[node.output[0]] = sizes
        if None not in sizes:
            graph.constants[node.output[0]] = np.array(sizes, np.int64)
            return True
        return False
    if kind == "Size" and node.input[0] in partial:
        graph.constants[node.output[0]] = np.int64(len(partial[node.input[0]])) + np.zeros((), np.int64)
        return True
    if kind == "Gather" and node.input[0] in partial and node.input[1] in graph.constants:
        places = graph.constants[node.input[1]]
        picked = [partial[node.input[0]][i] for i in places.ravel()]
        if None in picked:
            return False
        graph.constants[node.output[0]] = np.array(picked, np.int64).reshape(places.shape)
        return True
    return evaluate(node, graph)


def evaluate(node: Any, graph: Graph) -> bool:
    """Adds the outputs of a node to the constants if all that it reads is constant; whether it did."""
    if not any(node.input):
        return False
    found = evaluated(node, graph.constants, graph.opsets, graph.allowance.take)
    graph.constants.update(found)
    return bool(found)


# Recurrent nodes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecurrentNode:
    """A recurrent node whose weights are constants."""

    name: str
    recurrence: Recurrence
    layout: int  # 0: steps first; 1: rows first
    quantized: bool
    data: str
    lengths: str
    initial: tuple[str, ...]  # h, or h and c; empty: zeros
    outputs: tuple[str, ...]  # Y, Y_h and, of an LSTM, Y_c; empty: not used


def recurrent_node(node: Any, constants: Mapping[str, Array]) -> RecurrentNode:
    """What a recurrent node computes. Raises :class:`Unconvertible` for what rnnfast's layers cannot compute."""
    with readable(described(node), "ONNX"):
        return _recurrent_node(node, constants)


def _recurrent_node(node: Any, constants: Mapping[str, Array]) -> RecurrentNode:
    given = attributes(node)
    quantized = operator(node) == QUANTIZED_LSTM
    kind = "LSTM" if quantized else operator(node)
    names = [*node.input, *[""] * (12 - len(node.input))]
    known = {i: constants.get(name) for i, name in enumerate(names) if name}
    _check(node, kind, given, known)
    matrices = _quantized(names, constants) if quantized else (known.get(1), known.get(2))
    if matrices[0] is None or matrices[1] is None or (names[3] and known[3] is None):
        raise Unconvertible(f"{described(node)} computes its weights from inputs")
    cell = kind.lower()
    if kind == "RNN" and _activations(kind, given)[0] == "relu":
        cell = "rnn_relu"
    if kind == "GRU" and not given.get("linear_before_reset"):
        cell = "gru_reset_before"
    peepholes = known.get(7) if kind == "LSTM" else None
    if peepholes is not None and peepholes.any():
        cell = "lstm_peephole"
    parts = [matrices[0], matrices[1], known.get(3), peepholes]
    _check_shapes(node, given, len(ONNX_ORDER[cell]), parts)
    if kind == "LSTM" and given.get("input_forget"):
        parts = _coupled(parts)
    halves = [_half(cell, parts, d) for d in range(len(matrices[0]))]
    backward = halves[-1] if given.get("direction", "forward") != "forward" else None
    outputs = [*node.output, "", ""][: 3 if kind == "LSTM" else 2]
    return RecurrentNode(
        node.name or node.output[0], Recurrence(cell, halves[0] if given.get("direction") != "reverse" else None, backward),
        given.get("layout", 0), quantized, names[0], names[4],
        tuple(names[5:7] if kind == "LSTM" else names[5:6]), tuple(outputs),
    )  # fmt: skip


def _half(cell: str, parts: Sequence[Array | None], d: int) -> Direction:
    """Direction ``d`` of W, R, B and P."""
    w, r, b, p = (None if part is None else part[d] for part in parts)
    assert w is not None
    assert r is not None
    matrices = {"weight_ih": w, "weight_hh": r}
    if b is not None:
        matrices["bias_ih"], matrices["bias_hh"] = np.split(b, 2)
    half = direction(matrices, ONNX_ORDER[cell])
    if cell != "lstm_peephole":
        return half
    return replace(half, weight_c=reordered(np.asarray(p, np.float32), PEEPHOLE_ORDER))


def _coupled(parts: Sequence[Array | None]) -> list[Array | None]:
    """W, R, B and P of an LSTM whose forget gate is 1 - σ(a) = σ(-a), where a are the input gate's numbers."""
    found: list[Array | None] = []
    for part, blocks in zip(parts, (4, 4, 8, 3)):
        if part is not None:
            cut = part.reshape(len(part), blocks, -1).copy()  # i o f c, in B twice; i o f in P
            cut[:, 2::4] = -cut[:, 0::4]
            part = cut.reshape(part.shape)
        found.append(part)
    return found


# Beyond it sigmoid and tanh are less than 2.1e-9 from 0, 1 or -1, so no clipping there can be seen in single precision.
_NO_CLIP = 20.0


def _activations(kind: str, given: Mapping[str, Any]) -> list[str]:
    each = _USUAL[kind]
    return [name.lower() for name in given.get("activations", [])] or each * (
        2 if given.get("direction") == "bidirectional" else 1
    )


def _check(node: Any, kind: str, given: Mapping[str, Any], known: Mapping[int, Array | None]) -> None:
    """Refuses what would change the results and rnnfast's cells do not have."""
    clip = given.get("clip", 0)
    if clip and (not clip >= _NO_CLIP or "relu" in _activations(kind, given)):
        raise Unconvertible(
            f"{described(node)} clips the inputs of its activations at {clip:g}, which no cell of rnnfast does; train it with clip=0"
        )
    names = _activations(kind, given)
    usual = _USUAL[kind]
    allowed = [usual, ["relu"]] if kind == "RNN" else [usual]
    halves = [names[: len(usual)], names[len(usual) :] or names[: len(usual)]]
    if (
        halves[0] not in allowed
        or halves[1] != halves[0]
        or given.get("activation_alpha")
        or given.get("activation_beta")
    ):
        raise Unconvertible(
            f"{described(node)} has the activations {', '.join(names)}, which no cell of rnnfast has; train it with {', '.join(usual)}"
        )
    peepholes = known.get(7)
    if kind == "LSTM" and 7 in known and peepholes is None:
        raise Unconvertible(f"{described(node)} computes its peepholes from inputs")


def _check_shapes(node: Any, given: Mapping[str, Any], gates: int, arrays: Sequence[Array | None]) -> None:
    """W (directions, gates hidden, inputs), R (directions, gates hidden, hidden) B (directions, 2 gates hidden) and P (directions, 3 hidden)."""
    way, layout = given.get("direction", "forward"), given.get("layout", 0)
    if way not in ("forward", "reverse", "bidirectional") or layout not in (0, 1):
        raise Unconvertible(f"{described(node)} has direction={way!r} and layout={layout}, which ONNX does not have")
    w, r, b, p = arrays
    assert w is not None
    assert r is not None
    count, hidden = 1 + (way == "bidirectional"), r.shape[-1] if r.ndim else 0
    wanted = [
        (count, gates * hidden, w.shape[-1] if w.ndim else 0),
        (count, gates * hidden, hidden),
        (count, 2 * gates * hidden),
        (count, 3 * hidden),
    ][: 3 + (p is not None)]
    found = [None if a is None else a.shape for a in arrays[: len(wanted)]]
    if any(a is not None and a != b for a, b in zip(found, wanted)) or hidden < 1 or wanted[0][2] < 1:
        raise Unconvertible(
            f"{described(node)} has weights of shapes {', '.join(map(str, found))}, expected {', '.join(map(str, wanted))}"
        )
    if given.get("hidden_size", hidden) != hidden:
        raise Unconvertible(f"{described(node)} has hidden_size={given['hidden_size']} and weights for {hidden}")


def _quantized(names: Sequence[str], constants: Mapping[str, Array]) -> tuple[Array | None, Array | None]:
    """The matrices of a DynamicQuantizeLSTM, (directions, gates, inputs) as of an LSTM."""
    found: list[Array | None] = []
    for matrix, scale, zero in ((1, 8, 9), (2, 10, 11)):
        parts = [constants.get(names[i]) for i in (matrix, scale, zero)]
        if any(part is None for part in parts):
            return None, None
        values, scales, zeros = (np.asarray(part, np.float32) for part in parts)
        shape = (len(values), 1, -1)  # one for each matrix, or for each of its columns
        found.append(((values - zeros.reshape(shape)) * scales.reshape(shape)).swapaxes(1, 2))
    return found[0], found[1]
