"""Networks put together in Python: a chain of layers, or a directed graph. The composition is compiled; here are layers and shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import _core
from rnnfast._arrays import as_float32, as_int32, new_seed, own, positive, precision, row_lengths
from rnnfast._expect import kind_of, listed
from rnnfast.files import PathLike
from rnnfast.models.base import Model
from rnnfast.models.described import Description, described
from rnnfast.models.network_types import Backward, Gradients, InputGradients, Out, OutputBackward, Outputs, States
from rnnfast.models.onnx_write import write_network, writer
from rnnfast.models.residual import unfolded
from rnnfast.models.time_distributed import every_layer, inner_steps
from rnnfast.models.widths import first_width, output_width
from rnnfast.nn.layer import Array, Layer, StateLike, dropout_key, joined, named_parts
from rnnfast.nn.parts import Part
from rnnfast.protocols import Precision
from rnnfast.text.vocab import Vocab

LayerOrPart = Union[Layer, Part]


# Networks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What :meth:`Network.run` computed: the outputs by name, the lengths of their rows (None: all steps), the state of every
    recurrent layer after its last step by name, and the function that back-propagates."""

    outputs: dict[str, Array]
    lengths: dict[str, NDArray[np.int64] | None]
    state: States
    backward: Backward


@dataclass
class Groups:
    """Of the rows of a batch: the number of training steps that each group's masks belong to; backward adds their gradients in a
    tree, times their ``weights`` (none: 1 each), or keeps those of each group ``apart``."""

    steps: Sequence[int]
    weights: Sequence[float] = ()
    apart: bool = False


class Network(Model):
    """A directed graph of layers with named inputs and outputs. All layers see (T, N, width): T steps, N rows.

    Parameters
    ----------
    inputs : the width of each input by name, or ``{"ids": n}`` for token ids (T, N) from 0 to n - 1
    layers : layers of ``rf.nn`` by name, in an order in which each reads only inputs and earlier layers. A layer reads the one
        before it, and the first layer the first input; ``(layer, "a", "b")`` reads a and b instead
    outputs : the names of the layers whose outputs the network returns; None: the last layer
    batch_first : inputs and outputs are (N, T, width)
    weights : precision of products: ``"f32"``, ``"bf16"``, or, for inference only, ``"int8"``
    seed : of dropout; None takes one from NumPy

    The network copies the weights of the given layers. Its parameters are called ``"name.weight"``, with PyTorch's names after
    the point. After a ``Pool``, an output has no axis of steps: (N, width).

    Raises ``ValueError``, which names the layer, if a layer reads something that does not exist or has another width, and
    ``TypeError`` for an object that is not a layer of ``rf.nn``.

    >>> from rnnfast.nn import GRU, Add, Linear
    >>> layers = {"rnn": GRU(4, 4, seed=0), "sum": (Add(), "x", "rnn"), "out": Linear(4, 1, seed=0)}
    >>> net = Network(inputs={"x": 4}, layers=layers)
    >>> net(np.zeros((7, 2, 4))).shape
    (7, 2, 1)
    """

    kind = "network"
    vocabularies: ClassVar = {}

    def _exact(self) -> tuple[str, ...]:
        products = tuple(f"{e['name']}." for e in self.config["layers"] if e["type"] in ("linear", "recurrent"))
        return tuple(name for name in self.parameters() if not name.startswith(products))

    def __init__(
        self,
        *,
        inputs: Mapping[str, int | Mapping[str, int]],
        layers: Mapping[str, LayerOrPart | tuple[Any, ...]],
        outputs: Sequence[str] | None = None,
        batch_first: bool = False,
        weights: Precision = "f32",
        seed: int | None = None,
    ) -> None:
        for what, value in (("inputs", inputs), ("layers", layers)):
            if not isinstance(value, Mapping):
                raise TypeError(f"{what} is {kind_of(value)}, expected a mapping from names")
        given = unfolded(list(inputs), layers)
        made = {name: layer for name, (layer, *_) in given.items()}
        descriptions = {name: described(layer) for name, layer in made.items()}
        config: dict[str, Any] = {
            "inputs": [_input(name, size) for name, size in inputs.items()],
            "layers": [_entry(name, descriptions[name], read) for name, (_, *read) in given.items()],
            "weights": precision(weights),
            "seed": new_seed(seed),
        }
        if outputs is not None:
            config["outputs"] = [str(name) for name in listed(outputs, "outputs", "a list of names of layers")]
        self.batch_first = bool(batch_first)  # the one option that may change: it takes effect at the next call
        for name, layer in made.items():
            self._check_options(name, layer, weights)
        self._make(config)
        self._check_widths(made, descriptions)
        self.load_state_dict(
            {
                f"{name}.{parameter}": value
                for name, layer in every_layer(made).items()
                if isinstance(layer, Layer)
                for parameter, value in layer.parameters().items()
            }
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], vocabularies: Mapping[str, Vocab]) -> Network:
        """A network with new weights: an ``rf.Sequential`` if it is a chain of layers called "0", "1", ..."""
        chain = [layer["name"] for layer in config["layers"]] == [str(i) for i in range(len(config["layers"]))]
        chain = chain and all(len(layer.get("inputs", [])) < 2 for layer in config["layers"])
        chain = chain and len(config.get("outputs", [])) < 2
        network = Sequential.__new__(Sequential) if chain else Network.__new__(Network)
        network.batch_first = False
        network._make(config)
        return network

    def _metadata(self) -> dict[str, str]:
        return {"batch_first": "true"} if self.batch_first else {}

    def restore_metadata(self, metadata: Mapping[str, str]) -> None:
        self.batch_first = metadata.get("batch_first") == "true"

    def _make(self, config: Mapping[str, Any]) -> None:
        self._compile(_core.Network, config, None)
        self._inputs: list[tuple[str, int, int]] = self._core.inputs
        self._outputs: list[str] = [name for name, _ in self._core.outputs]
        self._states: list[tuple[str, list[str]]] = self._core.states  # the parts of each: h, c, x
        self._pooled = self._after_a_pool()

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in vars(self).items() if name != "_core"}
        return _restored, (type(self), dict(self.config), self.state_dict(), self.frozen), state

    def _check_options(self, name: str, layer: object, weights: str) -> None:
        """Options of single layers that a network has once for all."""
        own = getattr(layer, "weights", weights)
        if own != weights:
            raise ValueError(
                f"layer {name!r} has weights {own!r}, the network {weights!r}: give weights={own!r} to the network"
            )
        if getattr(layer, "batch_first", self.batch_first) != self.batch_first:
            raise ValueError(
                f"layer {name!r} has batch_first={not self.batch_first}, the network {self.batch_first}: give batch_first to the network"
            )

    def _check_widths(self, layers: Mapping[str, object], descriptions: Mapping[str, Description]) -> None:
        widths = self._widths()
        for entry in self._config["layers"]:
            name, reads = entry["name"], descriptions[entry["name"]].reads
            given = widths[entry["inputs"][0]]
            if reads is not None and reads != given:
                raise ValueError(
                    f"layer {name!r}, {layers[name]!r}, reads {reads} numbers a step, but {entry['inputs'][0]!r} has {given}"
                )

    def _widths(self) -> dict[str, int]:
        """Of every input and layer."""
        widths = {name: size or ids for name, size, ids in self._inputs}
        for entry in self._config["layers"]:
            widths[entry["name"]] = output_width(entry, [widths[name] for name in entry["inputs"]])
        return widths

    def _after_a_pool(self) -> set[str]:
        """The layers whose outputs have one step only."""
        found: set[str] = set()
        for entry in self._config["layers"]:
            if entry["type"] in ("pool", "attention_pool") or found.intersection(entry["inputs"]):
                found.add(entry["name"])
        return found

    def __repr__(self) -> str:
        layers = ", ".join(f"{entry['name']}: {_short(entry)}" for entry in self._config["layers"])
        return f"{type(self).__name__}({layers})"

    # Running

    def __call__(self, *inputs: ArrayLike, lengths: ArrayLike | None = None) -> Outputs:
        """The output, or the tuple of several; nothing is saved, no dropout. Parameters are those of :meth:`run`."""
        return self._given(self.run(*inputs, lengths=lengths).outputs)

    def forward(self, *inputs: ArrayLike, lengths: ArrayLike | None = None) -> tuple[Outputs, OutputBackward]:
        """The output, or the tuple of several, and ``backward(dy, *, input_gradient=True) -> dx``, which adds to ``grads``; dy and dx are
        tuples where there are several outputs and inputs.

        Once. Parameters are those of :meth:`run`.
        """
        run = self.run(*inputs, lengths=lengths, train=True)

        def backward(dy: Gradients, *, input_gradient: bool = True) -> InputGradients:
            several: list[Any] = [dy] if len(self._outputs) == 1 else listed(dy, "dy", "a gradient for each output")
            if len(several) != len(self._outputs):
                raise ValueError(
                    f"dy has {len(several)} gradients, expected {len(self._outputs)}: {', '.join(self._outputs)}"
                )
            dx, _ = run.backward(dict(zip(self._outputs, several)), input_gradient=input_gradient)
            return tuple(dx.values()) if len(dx) > 1 else dx[self._inputs[0][0]]

        return self._given(run.outputs), backward

    def _given(self, outputs: Mapping[str, Array]) -> Outputs:
        return tuple(outputs.values()) if len(outputs) > 1 else outputs[self._outputs[0]]

    def run(
        self,
        *inputs: ArrayLike,
        state: Mapping[str, StateLike] | None = None,
        lengths: ArrayLike | None = None,
        train: bool = False,
    ) -> Run:
        """Runs the network on a sequence, from one state to the next.

        Parameters
        ----------
        inputs : numbers (T, N, width) or ids (T, N) for each input, in their order; (N, T, ...) with ``batch_first``; without N for
            a single row
        state : the initial state by the name of the recurrent layer, as in the ``state`` of a run; layers that are missing start
            from zeros
        lengths : (N,) steps of each row, 0 to T; beyond them outputs and gradients are zero. None: all T.
        train : dropout acts, and ``backward`` of the run can be called once. The inputs may change before that; if the weights
            did, it raises ``ValueError``.
        """
        return self._run(inputs, state, lengths, train, None)

    def _run_groups(self, inputs: Sequence[ArrayLike], lengths: ArrayLike | None, groups: Groups) -> Run:
        """A :meth:`run` for training whose rows are groups of equal numbers of rows, as if each was run alone."""
        return self._run(inputs, None, lengths, True, groups)

    def _run(
        self,
        inputs: Sequence[ArrayLike],
        state: Mapping[str, StateLike] | None,
        lengths: ArrayLike | None,
        train: bool,
        groups: Groups | None,
    ) -> Run:
        arrays = _read(self._inputs, inputs)
        layout = _Layout.of(self._inputs, arrays, self.batch_first)
        arrays = [
            layout.time_first(own(a, x) if train else a, size > 0)
            for a, x, (_, size, _) in zip(arrays, inputs, self._inputs)
        ]
        counts = None if lengths is None else row_lengths(lengths, layout.rows, layout.steps)
        if lengths is not None and layout.flat:
            raise ValueError("lengths are for rows, and the input is a single row: cut it instead")
        self.steps += train
        first = None if state is None else self._states_in(state, layout, "state")
        keys: Any = self._key()
        if groups is not None:
            keys = [dropout_key(self._config["seed"], step) for step in groups.steps], groups.weights, groups.apart
        values, ends, last, tape = self._core.forward(arrays, counts, first, train, keys)
        outputs = {name: layout.given(y, name in self._pooled) for name, y in zip(self._outputs, values)}

        def backward(
            gradients: Mapping[str, ArrayLike | None],
            dstate: Mapping[str, StateLike] | None = None,
            *,
            input_gradient: bool = True,
            of: Sequence[str] = (),
        ) -> tuple[dict[str, Array | None], States]:
            if tape is None:
                raise ValueError("nothing was saved for backward: run with train=True")
            for name in gradients:
                if name not in outputs:
                    raise ValueError(f"the network has no output {name!r}: expected some of {', '.join(outputs)}")
            dy = [
                None if gradients.get(name) is None else layout.read_gradient(gradients[name], y, name in self._pooled)
                for name, y in outputs.items()
            ]
            dlast = None if dstate is None else self._states_in(dstate, layout, "gradient of the state")
            layers = [str(name) for name in listed(of, "of", "a list of names of layers")]
            weights = [] if groups is None else groups.weights
            dx, dfirst, dlayers = self._core.backward(tape, dy, dlast, input_gradient, layers, weights)
            given = {name: None if g is None else layout.given(g, False) for (name, _, _), g in zip(self._inputs, dx)}
            given.update((name, layout.given(g, name in self._pooled)) for name, g in zip(layers, dlayers))
            return given, self._states_out(dfirst, layout)

        known = dict(zip(self._outputs, ends))
        return Run(
            outputs,
            {n: None if n in self._pooled else e for n, e in known.items()},
            self._states_out(last, layout),
            backward,
        )

    def _states_in(self, given: Mapping[str, StateLike], layout: _Layout, what: str) -> list[tuple[Any, ...] | None]:
        names = [name for name, *_ in self._states]
        if not isinstance(given, Mapping):
            raise TypeError(f"{what} is {kind_of(given)}, expected a mapping from names of recurrent layers")
        for name in given:
            if name not in names:
                raise ValueError(
                    f"{what} names {name!r}, expected recurrent layers of the network: {', '.join(names) or 'there are none'}"
                )
        states: list[tuple[Any, ...] | None] = []
        for name, wanted in self._states:
            parts = named_parts(given.get(name), wanted, f"{what} of {name!r}")
            arrays = tuple(
                None if part is None else layout.rows_of(as_float32(part, f"{what} of {name!r}")) for part in parts
            )
            states.append(None if all(part is None for part in arrays) else arrays)
        return states

    def _states_out(self, states: Sequence[tuple[Array, ...]], layout: _Layout) -> States:
        return {name: joined([layout.state(part) for part in parts]) for (name, _), parts in zip(self._states, states)}

    @property
    def no_groups(self) -> str:
        """Why shards of this network are run one by one, in one sentence; empty if they are run together."""
        return str(self._core.no_groups)

    def stream(self, rows: int = 1) -> NetworkStream:
        """A function of one time step that keeps the state, for input that arrives step by step: ``y = step(x)``.

        The outputs are bit-identical to those of the whole sequence. Raises ``ValueError``, which names the layer, if one needs later
        steps or all earlier ones.

        >>> from rnnfast.nn import GRU, Linear
        >>> net = Sequential(GRU(3, 5, seed=0), Linear(5, 2, seed=0))
        >>> step, x = net.stream(), np.ones((4, 3), np.float32)
        >>> np.array_equal([step(row) for row in x], net(x))
        True
        """
        return NetworkStream(self, positive(rows, "rows"))

    def to_onnx(self, path: PathLike, *, states: bool = False) -> None:
        """Writes the network as an ONNX file (operator set 20), for ONNX Runtime and others; weights are float32.

        Inputs and outputs have the network's names (an output's ends in ``_output``) and layout; T and N are free. ``states``: the
        states of recurrent layers become inputs and outputs too, ``"name.h"`` and ``"name.h_last"``, likewise c of an LSTM, for
        one step at a time.

        Raises ``ValueError`` for a layer that ONNX has no operator for, and ``ImportError`` without the onnx package.
        """
        graph = writer(self.state_dict())
        graph.states = states
        write_network(path, self._config, graph, batch_first=self.batch_first, pooled=self._pooled)

    def summary(self) -> str:
        """A table of the layers: what they read, the shape of their output, parameters, and operations a step.

        Operations are additions and multiplications of the products with weights; attention adds 4 T width for T earlier steps.
        """
        widths, rows = self._widths(), [("layer", "type", "reads", "output", "parameters", "operations a step")]
        sizes = {name: value.shape for name, value in self.parameters().items()}
        total = work = 0
        for entry in self._config["layers"]:
            own = {name: shape for name, shape in sizes.items() if name.startswith(f"{entry['name']}.")}
            count = sum(math.prod(shape) for shape in own.values())
            repeated = inner_steps(entry, widths[entry["inputs"][0]])
            operations = sum(
                2 * math.prod(shape) * next((n for inner, n in repeated if name.startswith(inner)), 1)
                for name, shape in own.items()
                if len(shape) > 1 and entry["type"] != "embedding"
            )
            steps = "N" if entry["name"] in self._pooled else "N, T" if self.batch_first else "T, N"
            shape = f"({steps}, {widths[entry['name']]})"
            rows.append(
                (entry["name"], _short(entry), ", ".join(entry["inputs"]), shape, f"{count:,}", f"{operations:,}")
            )
            total, work = total + count, work + operations
        rows.append(("", "", "", "", f"{total:,}", f"{work:,}"))
        columns = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join("  ".join(_aligned(row, columns)).rstrip() for row in rows)


class Sequential(Network):
    """A chain of layers, as ``torch.nn.Sequential``: each reads the output of the one before it.

    Parameters are called ``"0.weight"``, ``"1.weight_ih_l0"``, ... with PyTorch's names, so a ``state_dict`` can be exchanged. A
    recurrent layer passes its outputs to the next layer, and its state to the next :meth:`run`. ``batch_first``, ``weights`` and ``seed``,
    shapes and errors are those of :class:`Network`; inputs are (T, N, width), or ids (T, N).

    >>> from rnnfast.nn import LSTM, Dropout, Embedding, Linear, Pool
    >>> net = Sequential(Embedding(10, 4, seed=0), LSTM(4, 8, seed=0), Dropout(0.1), Pool("last"), Linear(8, 3, seed=0))
    >>> net([[1, 2], [3, 4], [5, 6]]).shape
    (2, 3)
    """

    def __init__(
        self, *layers: LayerOrPart, batch_first: bool = False, weights: Precision = "f32", seed: int | None = None
    ) -> None:
        super().__init__(
            inputs={"input": _width_of(layers)},
            layers={str(i): layer for i, layer in enumerate(layers)},
            batch_first=batch_first, weights=weights, seed=seed,
        )  # fmt: skip

    if TYPE_CHECKING:  # a chain has one input and one output

        def __call__(self, *inputs: ArrayLike, lengths: ArrayLike | None = None) -> Array: ...
        def forward(
            self, *inputs: ArrayLike, lengths: ArrayLike | None = None
        ) -> tuple[Array, OutputBackward[Array | None]]: ...
        def stream(self, rows: int = 1) -> NetworkStream[Array]: ...


class NetworkStream(Generic[Out]):
    """A network one time step at a time; see :meth:`Network.stream`. It belongs to one thread at a time."""

    def __init__(self, network: Network, rows: int) -> None:
        self._network = network
        self._core = _core.NetworkStream(network._core, rows)

    def __call__(self, *inputs: ArrayLike) -> Out:
        """The output (rows, width), or the tuple of several, of the inputs (rows, width) or ids (rows,); for one row without rows."""
        wanted = self._network._inputs
        arrays = _read(wanted, inputs)
        layout = _Layout.of(wanted, arrays, False, step=True)
        values = self._core([array[None] if layout.flat else array for array in arrays])
        outputs = [y[0] if layout.flat else y for y in values]
        given: Any = tuple(outputs) if len(outputs) > 1 else outputs[0]
        made: Out = given
        return made

    def reset(self) -> None:
        """Sets the state to zeros."""
        self._core.reset()

    @property
    def rows(self) -> int:
        """The number of rows that step together."""
        return int(self._core.rows)

    @property
    def state(self) -> States:
        """A copy of the state of every layer that has one, by name. None sets zeros."""
        return {name: joined(parts) for name, parts in self._core.state.items()}

    @state.setter
    def state(self, given: Mapping[str, StateLike] | None) -> None:
        if given is None:
            self._core.reset()
            return
        if not isinstance(given, Mapping):
            raise TypeError(f"state is {kind_of(given)}, expected a mapping from names of layers")
        several = {name: state if isinstance(state, tuple) else (state,) for name, state in given.items()}
        self._core.state = {
            name: tuple(None if part is None else as_float32(part, f"state of {name!r}") for part in parts)
            for name, parts in several.items()
        }

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "a stream cannot be copied or pickled: make another with net.stream() and set its state to this one's"
        )


class _Layout:
    """How inputs were given: with or without rows, steps or rows first; the compiled network reads (T, N, width)."""

    def __init__(self, steps: int, rows: int, flat: bool, batch_first: bool) -> None:
        self.steps, self.rows, self.flat, self.batch_first = steps, rows, flat, batch_first

    @classmethod
    def of(
        cls, wanted: Sequence[tuple[str, int, int]], arrays: Sequence[Any], batch_first: bool, *, step: bool = False
    ) -> _Layout:
        """The layout of a sequence, or of one step of it, by its first input."""
        name, size, _ = wanted[0]
        shape, axes = arrays[0].shape, (1 if step else 2) + (size > 0)
        if len(shape) not in (axes - 1, axes) or (size and shape[-1] != size):
            raise ValueError(f"input {name!r} has shape {shape}, expected {_wanted_shape(size, batch_first, step)}")
        flat = len(shape) == axes - 1
        if step:
            return cls(1, 1 if flat else shape[0], flat, False)
        steps, rows = (shape[0], 1) if flat else shape[1::-1] if batch_first else shape[:2]
        if steps == 0:
            raise ValueError(f"input {name!r} has shape {shape}, expected at least one step")
        return cls(steps, rows, flat, batch_first and not flat)

    def time_first(self, array: Any, numbers: bool) -> Any:
        """An input as the compiled network reads it; ``numbers``: not ids, which have no last axis."""
        if self.flat:
            return array[:, None]
        if array.ndim != 2 + numbers or not self.batch_first:
            return array
        return np.ascontiguousarray(array.swapaxes(0, 1))

    def given(self, array: Array, pooled: bool) -> Array:
        """An output as the inputs were given."""
        if pooled:
            array = array[0]
            return array[0] if self.flat else array
        if self.flat:
            return array[:, 0]
        return np.ascontiguousarray(array.swapaxes(0, 1)) if self.batch_first else array

    def read_gradient(self, value: ArrayLike | None, output: Array, pooled: bool) -> Array:
        """The opposite of ``given``."""
        grad = as_float32(value, "gradient of the output")
        if grad.shape != output.shape:
            raise ValueError(f"gradient of the output has shape {grad.shape}, expected {output.shape}")
        if pooled:
            return grad[None, None] if self.flat else grad[None]
        if self.flat:
            return grad[:, None]
        return np.ascontiguousarray(grad.swapaxes(0, 1)) if self.batch_first else grad

    def rows_of(self, state: Array) -> Array:
        return np.expand_dims(state, -2) if self.flat else state

    def state(self, state: Array) -> Array:
        """The opposite of ``rows_of``."""
        return state[..., 0, :] if self.flat else state


def _read(wanted: Sequence[tuple[str, int, int]], inputs: Sequence[ArrayLike]) -> list[Any]:
    """The inputs as float32, or int32 where they are ids."""
    if len(inputs) != len(wanted):
        names = ", ".join(name for name, *_ in wanted)
        raise TypeError(f"{len(inputs)} inputs are given, expected {len(wanted)}: {names}")
    return [
        as_float32(value, f"input {name!r}") if size else as_int32(value, f"input {name!r}")
        for value, (name, size, _) in zip(inputs, wanted)
    ]


def _wanted_shape(size: int, batch_first: bool, step: bool) -> str:
    last = f", {size}" if size else ""
    if step:
        return f"(N{last})" if size else "(N,)"
    return f"({'N, T' if batch_first else 'T, N'}{last}) or, of a single row, (T{last or ','})"


def _width_of(layers: Sequence[LayerOrPart]) -> int | dict[str, int]:
    width = first_width(layers)
    if width is None:
        raise ValueError("no layer has a width: expected at least one with weights, such as rf.Linear")
    return width


def _input(name: str, size: int | Mapping[str, int]) -> dict[str, Any]:
    if isinstance(size, Mapping):
        if set(size) != {"ids"}:
            raise ValueError(f"input {name!r} is {dict(size)}, expected its width, or {{'ids': n}} for token ids")
        return {"name": name, "ids": positive(size["ids"], f"the number of ids of input {name!r}")}
    return {"name": name, "size": positive(size, f"the width of input {name!r}")}


def _entry(name: str, description: Description, read: Sequence[str]) -> dict[str, Any]:
    inputs = {"inputs": list(read)} if read else {}
    return {"name": name, "type": description.type, **inputs, **description.options}


def _short(entry: Mapping[str, Any]) -> str:
    """A layer of a description in a few words."""
    named = str(entry.get("cell") or entry.get("function") or entry["type"])
    layers = f" x {entry['num_layers']}" if entry.get("num_layers", 1) > 1 else ""
    return f"{named}{layers}{', both directions' if entry.get('bidirectional') else ''}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.rjust(width) if i >= 4 else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths))]


def _restored(
    kind: type[Network], config: Mapping[str, Any], weights: Mapping[str, Array], frozen: Sequence[str]
) -> Network:
    network = kind.__new__(kind)
    network._make(config)
    network.load_state_dict(weights)
    network._core.set_frozen(list(frozen))
    return network
