"""ONNX files of any kind, with their recurrent nodes computed here: ``rf.onnx.load`` and ``rf.onnx.layers``.

A file that cannot become a network of rnnfast (``rf.from_onnx``) still runs: its graph is cut at the LSTM, GRU and RNN nodes. Those run as
layers of rnnfast; ONNX Runtime, or onnx's own evaluator, runs what lies between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import precision
from rnnfast._expect import choice
from rnnfast.files import PathLike
from rnnfast.interop.axes import Unconvertible
from rnnfast.interop.hostile import one_line, readable
from rnnfast.interop.onnx_graph import Graph, RecurrentNode, read_graph, recurrent_node
from rnnfast.interop.onnx_nodes import RECURRENT, onnx_package, operator, read_by
from rnnfast.nn.recurrent import Recurrent
from rnnfast.protocols import Precision

__all__ = ["Hosted", "layers", "load"]

Array = NDArray[Any]
HOSTS = ("onnxruntime", "reference")


def load(
    path: PathLike,
    *,
    constants: Mapping[str, Any] | None = None,
    weights: Precision = "f32",
    host: str | None = None,
) -> Hosted:
    """The network in an ONNX file, ready to run.

    Parameters
    ----------
    path : the file, or an ``onnx.ModelProto``
    constants : values of inputs that never change, such as a sampling rate; they decide the graph's branches
    weights : precision of the recurrent layers' products, ``"f32"``, ``"bf16"`` or ``"int8"``
    host : what runs the rest: ``"onnxruntime"``, or ``"reference"``, onnx's own slow evaluator; None: the first that is installed

    A recurrent node that rnnfast's layers cannot compute stays with the host; :attr:`Hosted.left` says why.

    >>> import tempfile
    >>> import rnnfast as rf
    >>> net, x = rf.Sequential(rf.GRU(3, 4, seed=0)), np.ones((5, 1, 3), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.to_onnx(f"{folder}/net.onnx")
    ...     model = load(f"{folder}/net.onnx")
    >>> model.left, bool(np.allclose(model(x), net(x)))
    ({}, True)
    """
    return Hosted(read_graph(path, constants), weights, _host(host))


def layers(
    path: PathLike, *, constants: Mapping[str, Any] | None = None, weights: Precision = "f32"
) -> dict[str, Recurrent]:
    """The recurrent layers of an ONNX file by the names of their nodes; that of a reverse node runs over the reversed sequence.

    Raises ``ValueError`` for a node that rnnfast's layers cannot compute.

    >>> import tempfile
    >>> import rnnfast as rf
    >>> net, x = rf.Sequential(rf.GRU(3, 4, seed=0)), np.ones((5, 1, 3), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.to_onnx(f"{folder}/net.onnx")
    ...     found = layers(f"{folder}/net.onnx")
    >>> [layer(x)[0].shape for layer in found.values()]
    [(5, 1, 4)]
    """
    graph = read_graph(path, constants)
    nodes = [recurrent_node(node, graph.constants) for node in graph.nodes if operator(node) in RECURRENT]
    return {node.name: node.recurrence.layer(weights=weights, batch_first=node.layout == 1) for node in nodes}


def _host(name: str | None) -> str:
    if name is not None:
        return choice(name, HOSTS, "host")
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return "reference"
    return "onnxruntime"


@dataclass(frozen=True)
class _Layer:
    """A recurrent node as a layer."""

    node: RecurrentNode
    layer: Recurrent

    def run(self, values: dict[str, Array]) -> None:
        """Adds the outputs of the node to the values."""
        node, rows_first = self.node, self.node.layout == 1
        x = values[node.data].swapaxes(0, 1) if rows_first else values[node.data]
        lengths = values[node.lengths] if node.lengths else None
        state = [self._initial(values, name, x.shape[1]) for name in node.initial]
        backward = node.recurrence.forward is None
        x = _reversed(x, lengths) if backward else x
        has_c = len(node.initial) == 2
        start = None if not any(node.initial) else (state[0], state[1]) if has_c else state[0]
        y, last = self.layer(x, start, lengths=lengths)
        y = _reversed(y, lengths) if backward else y
        steps, rows, _ = y.shape
        y = y.reshape(steps, rows, -1, node.recurrence.hidden_size)
        ends = last if isinstance(last, tuple) else (last,)
        given = [y.swapaxes(0, 1) if rows_first else y.swapaxes(1, 2)]
        given += [end.swapaxes(0, 1) if rows_first else end for end in ends]
        values.update({name: np.ascontiguousarray(v) for name, v in zip(node.outputs, given) if name})

    def _initial(self, values: Mapping[str, Array], name: str, rows: int) -> Array:
        if not name:
            directions = 1 + self.layer.bidirectional
            return np.zeros((directions, rows, self.layer.hidden_size), np.float32)
        rows_first = self.node.layout == 1
        state = values[name]
        return np.swapaxes(state, 0, 1) if rows_first else state


def _reversed(x: Array, lengths: Array | None) -> Array:
    """Each row from its last step to its first."""
    if lengths is None:
        return np.ascontiguousarray(x[::-1])
    y: Array = x.copy()
    for n, length in enumerate(lengths):
        y[:length, n] = x[:length, n][::-1]
    return y


class _Segment:
    """Nodes that the host runs between two layers."""

    def __init__(self, graph: Graph, nodes: Sequence[Any], wanted: Sequence[str], host: str) -> None:
        onnx = onnx_package()
        made = {name for node in nodes for name in node.output}
        read = list(dict.fromkeys(name for node in nodes for name in read_by(node) if name and name not in made))
        self.inputs = [name for name in read if name not in graph.constants]
        self.outputs = list(wanted)
        stored = [onnx.numpy_helper.from_array(graph.constants[name], name) for name in read if name in graph.constants]
        values = [
            [
                onnx.helper.make_tensor_value_info(name, graph.types.get(name) or onnx.TensorProto.FLOAT, None)
                for name in names
            ]
            for names in (self.inputs, self.outputs)
        ]
        part = onnx.helper.make_graph(list(nodes), "segment", *values, stored)
        model = onnx.helper.make_model(part, opset_imports=graph.model.opset_import, functions=graph.model.functions)
        model.ir_version = graph.model.ir_version
        try:
            self._run = (onnx.reference.ReferenceEvaluator if host == "reference" else _session)(model).run
        except Exception as error:  # of ONNX Runtime's own classes
            kinds = ", ".join(sorted({node.op_type for node in nodes}))
            raise Unconvertible(
                f"{host} does not take the nodes between the recurrent ones ({kinds}): {one_line(error)}"
            ) from None
        self._host = host

    def run(self, values: dict[str, Array]) -> None:
        """Adds the outputs of the nodes to the values."""
        try:
            given = self._run(self.outputs, {name: values[name] for name in self.inputs})
        except Exception as error:  # of ONNX Runtime's own classes
            shapes = ", ".join(f"{name} {values[name].shape}" for name in self.inputs)
            raise ValueError(f"{self._host} cannot run on {shapes or 'these inputs'}: {one_line(error)}") from None
        values.update(zip(self.outputs, given))


def _session(model: Any) -> Any:
    import onnxruntime

    from rnnfast.info import get_num_threads

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Hosted:
    """An ONNX network whose recurrent nodes run here. ``inputs`` and ``outputs`` are its names, ``host`` what runs the rest, and
    ``left`` says, by the names of recurrent nodes that stay with the host, why.

    >>> import tempfile
    >>> import rnnfast as rf
    >>> net, x = rf.Sequential(rf.GRU(3, 4, seed=0)), np.ones((5, 1, 3), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.to_onnx(f"{folder}/net.onnx")
    ...     model = rf.onnx.load(f"{folder}/net.onnx", host="reference")
    >>> isinstance(model, Hosted), model.host, len(model.inputs), len(model.outputs)
    (True, 'reference', 1, 1)
    """

    def __init__(self, graph: Graph, weights: Precision, host: str) -> None:
        self.host = host
        self.inputs: tuple[str, ...] = tuple(value.name for value in graph.inputs)
        self.outputs: tuple[str, ...] = tuple(graph.outputs)
        self.left: dict[str, str] = {}
        self._constants = {name: graph.constants[name] for name in graph.outputs if name in graph.constants}
        self._parts: list[_Layer | _Segment] = []
        precision(weights)
        with readable("the file", "ONNX"):
            number_type = onnx_package().helper.tensor_dtype_to_np_dtype
            self._types = {v.name: number_type(v.type.tensor_type.elem_type) for v in graph.inputs}
            self._build(graph, weights)

    def _build(self, graph: Graph, weights: Precision) -> None:
        found: dict[int, _Layer] = {}
        for i, node in enumerate(graph.nodes):
            if operator(node) in RECURRENT:
                try:
                    read = recurrent_node(node, graph.constants)
                except Unconvertible as error:
                    self.left[node.name or node.output[0]] = str(error)
                else:
                    found[i] = _Layer(read, read.recurrence.layer(weights=weights))
        level = _levels(graph, found)
        for depth in range(max(level, default=0) + 1):
            nodes = [node for i, node in enumerate(graph.nodes) if level[i] == depth and i not in found]
            now = [found[i] for i in found if level[i] == depth]
            later = [
                node for i, node in enumerate(graph.nodes) if level[i] > depth or (level[i] == depth and i in found)
            ]
            made = {name for node in nodes for name in node.output if name}
            used = dict.fromkeys(name for node in later for name in read_by(node))
            wanted = [name for name in made if name in used or name in self.outputs]
            if wanted:
                self._parts.append(_Segment(graph, nodes, sorted(wanted), self.host))
            self._parts += now
            self._constants.update(
                {
                    n: graph.constants[n]
                    for layer in now
                    for n in (layer.node.data, layer.node.lengths, *layer.node.initial)
                    if n in graph.constants
                }
            )

    @property
    def layers(self) -> dict[str, Recurrent]:
        """The recurrent layers of rnnfast that run here, by the names of their nodes."""
        return {part.node.name: part.layer for part in self._parts if isinstance(part, _Layer)}

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Array]:
        """The outputs, all or those named, of the inputs by name: the signature of ONNX Runtime's ``InferenceSession.run``."""
        values = dict(self._constants)
        for name in self.inputs:
            if name not in inputs:
                raise ValueError(f"input {name!r} is missing, expected {', '.join(self.inputs)}")
            values[name] = _of_type(inputs[name], self._types[name], name)
        for name in inputs:
            if name not in self._types:
                raise ValueError(f"the network has no input {name!r}, expected {', '.join(self.inputs)}")
        names = self.outputs if outputs is None else tuple(choice(name, self.outputs, "an output") for name in outputs)
        for part in self._parts:
            part.run(values)
        return [values[name] for name in names]

    def __call__(self, *inputs: ArrayLike, **named: ArrayLike) -> Array | tuple[Array, ...]:
        """The output, or the tuple of several, of the inputs in their order or by name."""
        if len(inputs) > len(self.inputs):
            raise TypeError(f"{len(inputs)} inputs are given, expected {len(self.inputs)}: {', '.join(self.inputs)}")
        given = self.run(None, {**dict(zip(self.inputs, inputs)), **named})
        return tuple(given) if len(given) > 1 else given[0]

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}: {layer!r}" for name, layer in self.layers.items())
        return f"Hosted({', '.join(self.inputs)} -> {', '.join(self.outputs)}; on {self.host} but for {inside or 'nothing'})"


def _of_type(value: Any, kind: Any, name: str) -> Array:
    array = np.asarray(value)
    if array.dtype == kind and array.flags.c_contiguous:
        return array
    if kind.kind in "iu" and array.dtype.kind not in "iub":
        raise TypeError(f"input {name!r} has the type {array.dtype}, expected integers ({kind})")
    return np.ascontiguousarray(array, kind)


def _levels(graph: Graph, found: Mapping[int, _Layer]) -> list[int]:
    """For each node the layers that must run before it, counted along the longest path."""
    of_value: dict[str, int] = {}
    levels = []
    for i, node in enumerate(graph.nodes):
        level = max((of_value.get(name, 0) for name in read_by(node)), default=0)
        levels.append(level)
        of_value.update(dict.fromkeys(node.output, level + (i in found)))
    return levels
