"""``rf.from_onnx``: an ONNX file becomes a network of rnnfast."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rnnfast.files import PathLike
from rnnfast.interop.axes import Axis, Dim, Dims, Unconvertible, arrangements, is_steps, rows_first
from rnnfast.interop.draft import Ends
from rnnfast.interop.hostile import readable
from rnnfast.interop.onnx_graph import Graph, evaluate, read_graph, recurrent_node
from rnnfast.interop.onnx_nodes import QUANTIZED_LSTM, RECURRENT, attributes, described, operator
from rnnfast.interop.onnx_operations import OPERATIONS, Filled, Sizes, Values
from rnnfast.models.network import Network
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

    >>> import onnx, tempfile
    >>> import rnnfast as rf
    >>> net, x = rf.Sequential(rf.GRU(3, 4, seed=0), rf.Linear(4, 2, seed=0)), np.ones((5, 1, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net.to_onnx(f"{folder}/net.onnx")
    ...     again = from_onnx(f"{folder}/net.onnx")
    >>> bool(np.allclose(again(x), net(x)))
    True
    """
    graph = read_graph(path, constants)
    quantized = any(operator(node) == QUANTIZED_LSTM for node in graph.nodes)
    precision: Precision = weights or ("int8" if quantized else "f32")
    furthest, error = -1, Unconvertible(_no_sequence(graph))
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
    choices = [[dims for _, dims in arrangements(graph.shapes.get(name, []), _ids(graph, name))] for name in data]
    for chosen in itertools.islice(itertools.product(*choices), 64):
        yield dict(zip(data, chosen))


_MOVING = {"Identity", "Squeeze", "Unsqueeze", "Transpose", "Reshape", "Slice", "Gather", "Concat", "Cast", "Split"}


def _ids(graph: Graph, name: str) -> bool:
    return graph.types.get(name) in (6, 7)  # int32, int64


def _no_sequence(graph: Graph) -> str:
    given = ", ".join(f"{value.name} {graph.shapes.get(value.name, 'of unknown shape')}" for value in graph.inputs)
    return f"no input is a sequence: the file has {given or 'none'}, expected (N, T) token ids or (N, T, width) numbers of a fixed width"


def _moved(node: Any) -> list[str]:
    """The arrays that a node of ``_MOVING`` moves; what else it reads says where to."""
    return list(node.input) if operator(node) == "Concat" else list(node.input[:1])


def _states(graph: Graph) -> set[str]:
    """The inputs that are only read as initial states."""
    initial: dict[str, bool] = dict.fromkeys(graph.outputs, False)  # by values: whether all that reads one does so
    for node in reversed(graph.nodes):
        kind = operator(node)
        moves = kind in _MOVING and all(initial.get(name, False) for name in node.output if name)
        for i, name in enumerate(node.input):
            fits = (kind in RECURRENT and i in (5, 6)) or kind == "Shape" or (moves and name in _moved(node))
            initial[name] = initial.get(name, True) and fits
    return {value.name for value in graph.inputs if initial.get(value.name, False)}


def _from(names: set[str], graph: Graph) -> set[str]:
    """The values that are initial states, moved about."""
    found: set[str] = set(names)
    for node in graph.nodes:
        if operator(node) in _MOVING and found.intersection(_moved(node)):
            if not found.issuperset(_moved(node)):
                raise Unconvertible(f"{described(node)} joins an initial state with what is none")
            found.update(node.output)
    return found


def _last_states(graph: Graph) -> set[str]:
    """The values that are only states after the last step, moved about."""
    found: set[str] = set()
    for node in graph.nodes:
        if operator(node) in RECURRENT:
            found.update(node.output[1:])
        elif operator(node) in _MOVING and found.issuperset(_moved(node)):
            found.update(node.output)
    return found


def _lengths(graph: Graph) -> set[str]:
    """The inputs that are only read as lengths of rows."""
    names = [value.name for value in graph.inputs]
    read = [(name, operator(node) in RECURRENT and i == 4) for node in graph.nodes for i, name in enumerate(node.input)]
    return {name for name in names if (name, True) in read and (name, False) not in read}


@dataclass
class Walk(Values):
    """One walk over a graph."""

    done: int = 0  # nodes
    lengths: set[str] = field(default_factory=set)  # inputs

    def network(self, weights: Precision) -> Network:
        """The network; raises :class:`Unconvertible` with the node in front."""
        makers = {name: node for node in self.graph.nodes for name in node.output}
        states, last, self.lengths = _states(self.graph), _last_states(self.graph), _lengths(self.graph)
        self.draft.ragged = bool(self.lengths)
        outputs = [name for name in self.graph.outputs if name not in last] or self.graph.outputs
        needed, left = set(), list(outputs)
        while left:
            node = makers.get(left.pop())
            if node is not None and id(node) not in needed:
                needed.add(id(node))
                left += node.input
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
            return self.draft.network(signals, batch_first=rows_first(self.dims.values()), weights=weights)
        except Unconvertible as error:
            raise Unconvertible(f"the output: {error}") from None

    def _run(self, node: Any, states: set[str]) -> None:
        try:
            with readable(described(node), "ONNX"):
                if operator(node) in RECURRENT:
                    self._recurrent(node, states)
                    return
                if self._constant(node):
                    return
                operation = OPERATIONS.get(operator(node))
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

    def _recurrent(self, node: Any, states: set[str]) -> None:
        read = recurrent_node(node, self.graph.constants)
        for name in read.initial:
            known = None if not name or name in states else self.value(name)
            zeros = known is None or (isinstance(known, Filled) and known.value == 0)
            if not zeros and not (isinstance(known, np.ndarray) and not known.any()):
                raise Unconvertible("starts from a state that is not zero")
        signal, recurrence = self.signal(read.data), read.recurrence
        self._check_lengths(read.lengths, signal.dims[read.layout] if len(signal.dims) > 1 else 0)
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

    def _check_lengths(self, name: str, steps: Dim) -> None:
        """Refuses lengths that are not an input of the network, unless they are all its steps."""
        if name in self.lengths or (not name and not self.lengths):
            if len(self.lengths) > 1:
                raise Unconvertible(
                    f"the file has several inputs of lengths, {', '.join(sorted(self.lengths))}, and a network has one"
                )
            return
        if not name:
            raise Unconvertible(
                "reads all steps of rows that have lengths elsewhere, and a network has the same lengths for all layers"
            )
        value = self.value(name)
        all_steps = isinstance(value, Sizes) and len(value.dims) == 1 and is_steps(value.dims[0])
        size = steps.size if isinstance(steps, Axis) else steps
        if self.lengths or not (all_steps or (isinstance(value, np.ndarray) and value.size and np.all(value == size))):
            raise Unconvertible(f"its lengths {name!r} are neither an input of the network nor all steps")
