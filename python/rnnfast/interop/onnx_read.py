"""``rf.from_onnx``: an ONNX file becomes a network of rnnfast."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rnnfast.files import PathLike
from rnnfast.interop.axes import Axis, Dim, Dims, Unconvertible, is_steps
from rnnfast.interop.draft import Ends
from rnnfast.interop.onnx_graph import RECURRENT, Graph, attributes, described, evaluate, read_graph, recurrent_node
from rnnfast.interop.onnx_operations import OPERATIONS, Filled, Values
from rnnfast.models.network import Network
from rnnfast.models.onnx_write import DOMAIN
from rnnfast.protocols import Precision


def from_onnx(
    path: PathLike, *, constants: Mapping[str, Any] | None = None, weights: Precision | None = None
) -> Network:
    """The network in an ONNX file as an ``rf.Network``, or an ``rf.Sequential`` if it is a chain; saved, it needs nothing else.

    Parameters
    ----------
    path : the file, or an ``onnx.ModelProto``
    constants : values of inputs that never change, such as a sampling rate; they decide the graph's branches
    weights : precision of products; None: ``"int8"`` if the file's recurrent weights are quantized, otherwise ``"f32"``

    Inputs and outputs are (T, N, width), or (N, T, width) with ``batch_first``, which is set as the file has it; a convolution's
    (N, C, T) becomes (N, T, C). Inputs that are initial states become the network's state (``net.stream()``, ``net.run``), and
    lengths its ``lengths``. Half-precision weights are read as float32.

    Raises ``ValueError`` that names the first node that cannot be taken; ``rf.onnx.load`` runs such files. Needs the onnx package.
    """
    graph = read_graph(path, constants)
    quantized = any(node.op_type == "DynamicQuantizeLSTM" for node in graph.nodes)
    precision: Precision = weights or ("int8" if quantized else "f32")
    furthest, error = -1, Unconvertible("the graph has no input that is a sequence")
    for dims in _arrangements(graph):
        walk = Walk(graph, dims)
        try:
            return walk.network(precision)
        except Unconvertible as failure:
            if walk.done > furthest:
                furthest, error = walk.done, failure
    raise ValueError(f"{error}; rf.onnx.load runs the file as it is")


def _arrangements(graph: Graph) -> Iterator[dict[str, Dims]]:
    """What the axes of the inputs may be: steps, rows or numbers."""
    states, lengths = _states(graph), _lengths(graph)
    data = [value.name for value in graph.inputs if value.name not in states | lengths]
    choices = [list(_dims_of(graph, name)) for name in data]
    for chosen in itertools.islice(itertools.product(*choices), 64):
        yield dict(zip(data, chosen))


def _dims_of(graph: Graph, name: str) -> Iterator[Dims]:
    sizes = graph.shapes.get(name, [])
    ids = graph.types.get(name) in (6, 7)  # int32, int64
    roles: dict[tuple[int, bool], tuple[str, ...]] = {
        (1, True): ("T",), (2, True): ("NT", "TN"), (2, False): ("TC",), (3, False): ("NTC", "TNC", "NCT"),
    }  # fmt: skip
    for letters in roles.get((len(sizes), ids), ()):
        numbers = [size for size, letter in zip(sizes, letters) if letter == "C"]
        if all(isinstance(size, int) for size in numbers):
            yield tuple(_dim(letter, size) for letter, size in zip(letters, sizes))


def _dim(letter: str, size: int | str) -> Dim:
    known = size if isinstance(size, int) else None
    if letter == "C":
        assert known is not None
        return known
    return Axis("steps" if letter == "T" else "rows", known)


_MOVING = {"Identity", "Squeeze", "Unsqueeze", "Transpose", "Reshape", "Slice", "Gather", "Concat", "Cast", "Split"}


def _states(graph: Graph) -> set[str]:
    """The inputs that are only read as initial states."""
    readers: dict[str, list[tuple[Any, int]]] = {}
    for node in graph.nodes:
        for i, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, i))

    def initial(name: str) -> bool:
        return bool(readers.get(name)) and all(
            (node.op_type in RECURRENT and i in (5, 6))
            or node.op_type == "Shape"
            or (node.op_type in _MOVING and i == 0 and all(map(initial, node.output)))
            for node, i in readers[name]
        )

    return {value.name for value in graph.inputs if value.name not in graph.outputs and initial(value.name)}


def _lengths(graph: Graph) -> set[str]:
    """The inputs that are only read as lengths of rows."""
    names = [value.name for value in graph.inputs]
    read = [(name, node.op_type in RECURRENT and i == 4) for node in graph.nodes for i, name in enumerate(node.input)]
    return {name for name in names if (name, True) in read and (name, False) not in read}


@dataclass
class Walk(Values):
    """One walk over a graph."""

    done: int = 0  # nodes

    def network(self, weights: Precision) -> Network:
        """The network; raises :class:`Unconvertible` with the node in front."""
        makers = {name: node for node in self.graph.nodes for name in node.output}
        states = _states(self.graph)
        outputs = [name for name in self.graph.outputs if not _is_state(name, makers)] or self.graph.outputs
        needed, left = set(), list(outputs)
        while left:
            node = makers.get(left.pop())
            if node is not None and id(node) not in needed:
                needed.add(id(node))
                left += [name for i, name in enumerate(node.input) if node.op_type not in RECURRENT or i != 4]
        self.values.update(self.graph.constants)
        for name, dims in self.dims.items():
            self.values[name] = self.draft.input(name, dims)
        from_states = _from(states, self.graph)
        for node in self.graph.nodes:
            if id(node) in needed and not from_states.intersection(node.output):
                self._run(node, from_states | states)
            self.done += 1
        try:
            signals = {name: self.signal(name) for name in outputs}
            for value in signals.values():
                self.draft.settle(value)
            return self.draft.network(signals, batch_first=self._batch_first(), weights=weights)
        except Unconvertible as error:
            raise Unconvertible(f"the output: {error}") from None

    def _run(self, node: Any, states: set[str]) -> None:
        try:
            if node.op_type in RECURRENT:
                self._recurrent(node, states)
                return
            if self._constant(node):
                return
            kind = node.op_type.partition("_")[0] if node.domain == DOMAIN else node.op_type
            operation = OPERATIONS.get(kind)
            if operation is None:
                raise Unconvertible("networks of rnnfast have no such layer")
            result = operation(self, node, attributes(node))
        except Unconvertible as error:
            text = str(error)
            raise Unconvertible(text if described(node) in text else f"{described(node)}: {text}") from None
        results = result if isinstance(result, tuple) else (result,)
        self.values.update(zip(node.output, results))

    def _constant(self, node: Any) -> bool:
        """Whether a node has turned out to read constants alone, such as the scale 1 of activations."""
        read = {name: self.values.get(name) for name in node.input if name}
        known = {name: value for name, value in read.items() if isinstance(value, np.ndarray)}
        if len(known) < len(read):
            return False
        self.graph.constants.update(known)
        if not evaluate(node, self.graph):
            return False
        self.values.update({name: self.graph.constants[name] for name in node.output if name})
        return True

    def _batch_first(self) -> bool:
        orders = {
            dims.index(rows) < dims.index(steps)
            for dims in self.dims.values()
            for rows in dims for steps in dims
            if isinstance(rows, Axis) and rows.role == "rows" and is_steps(steps)
        }  # fmt: skip
        if len(orders) > 1:
            raise Unconvertible("one input has its rows first and another its steps")
        return orders == {True}

    def _recurrent(self, node: Any, states: set[str]) -> None:
        read = recurrent_node(node, self.graph.constants)
        for name in read.initial:
            known = None if not name or name in states else self.value(name)
            zeros = known is None or (isinstance(known, Filled) and known.value == 0)
            if not zeros and not (isinstance(known, np.ndarray) and not known.any()):
                raise Unconvertible("starts from a state that is not zero")
        signal, recurrence = self.signal(read.data), read.recurrence
        if read.layout == 1:
            signal = self.draft.transpose(signal, (1, 0, *range(2, len(signal.dims))))
        size = recurrence.hidden_size
        alone = recurrence.forward is None
        both = recurrence.in_both_directions() if alone else recurrence
        directions = 1 + bool(both.backward)
        y = self.draft.recurrent(signal, both.layer(), directions * size)
        if alone:
            y = self.draft.cut(y, 2, slice(size, 2 * size))
            directions = 1
        steps, rows, _ = y.dims
        split = (rows, steps, directions, size) if read.layout == 1 else (steps, directions, rows, size)
        self.values[read.outputs[0]] = replace(y, dims=split)
        for name, part in zip(read.outputs[1:], "hc"):
            forward, backward = recurrence.forward is not None, recurrence.backward is not None
            self.values[name] = Ends(y, size, forward, backward, read.layout == 1, part)


def _is_state(name: str, makers: Mapping[str, Any]) -> bool:
    """Whether a value is only a state after the last step, moved about."""
    node = makers.get(name)
    if node is None:
        return False
    if node.op_type in RECURRENT:
        return list(node.output).index(name) > 0
    read = node.input if node.op_type == "Concat" else node.input[:1]
    return node.op_type in _MOVING and all(_is_state(each, makers) for each in read)


def _from(names: set[str], graph: Graph) -> set[str]:
    """The values that are initial states, moved about."""
    found: set[str] = set(names)
    for node in graph.nodes:
        if node.op_type in _MOVING and found.intersection(node.input):
            found.update(node.output)
    return found
