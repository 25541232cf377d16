"""``to_onnx``: a network as an ONNX file, for runtimes that read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from rnnfast.files import PathLike, replacing
from rnnfast.models.time_distributed import inner_entries
from rnnfast.models.widths import output_width
from rnnfast.nn.gates import ONNX_ORDER, PEEPHOLE_ORDER, inverse, reordered

OPSET, IR_VERSION, DOMAIN = 20, 9, "rnnfast"
_KINDS = {
    "lstm": "LSTM",
    "lstm_peephole": "LSTM",
    "gru": "GRU",
    "gru_reset_before": "GRU",
    "rnn": "RNN",
    "rnn_relu": "RNN",
}
Entry = Mapping[str, Any]


@dataclass
class Writer:
    """Nodes and constants of a graph under construction; all values are (steps, rows, numbers)."""

    onnx: Any
    parameters: Mapping[str, NDArray[Any]]
    nodes: list[Any] = field(default_factory=list)
    stored: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    functions: dict[str, Any] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)  # inputs of token ids
    widths: dict[str, int] = field(default_factory=dict)
    states: bool = False

    def __call__(self, kind: str, *inputs: str, outputs: int = 1, **options: Any) -> Any:
        """Another node; returns the name of its output, or of several."""
        names = [f"{kind.lower()}_{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, names, name=names[0], **options))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, name: str = "") -> str:
        """Another constant: numbers as float32, integers as int64."""
        array = np.asarray(value)
        array = array.astype(np.int64) if array.dtype.kind in "iu" else array.astype(np.float32)
        name = name or f"constant_{len(self.stored)}"
        if all(tensor.name != name for tensor in self.stored):
            self.stored.append(self.onnx.numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def function(
        self, name: str, inputs: Sequence[str], body: Callable[[Writer, list[str]], str], **options: Any
    ) -> str:
        """A call of a function of the file, in the domain ``rnnfast``, so that a reader knows the layer again."""
        helper = self.onnx.helper
        key = "_".join([name, *(f"{option}{value}" for option, value in options.items())])
        if key not in self.functions:
            inner = Writer(self.onnx, {})
            formal = [f"input_{i}" for i in range(len(inputs))]
            result = body(inner, formal)
            constants = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in inner.stored]
            self.functions[key] = helper.make_function(
                DOMAIN,
                key,
                formal,
                [result],
                [*constants, *inner.nodes],
                [helper.make_opsetid("", OPSET)],
                list(options),
            )
        output = f"{name.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(key, inputs, [output], name=output, domain=DOMAIN, **options))
        return output

    def weight(self, entry: Entry, name: str) -> NDArray[Any]:
        """A parameter of a layer."""
        return self.parameters[f"{entry['name']}.{name}"]

    def input(self, name: str, shape: Sequence[Any], *, integers: bool = False) -> str:
        """Another input of the graph."""
        kind = self.onnx.TensorProto.INT64 if integers else self.onnx.TensorProto.FLOAT
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, value: str, shape: Sequence[Any]) -> None:
        """Another output of the graph."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [value], [name]))
        self.outputs.append(self.onnx.helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, list(shape)))

    def layer(self, entry: Entry, *read: str) -> str:
        """Another layer, by its entry in the description of a network."""
        kind = str(entry["type"])
        if kind not in _LAYERS:
            raise ValueError(f"layer {entry['name']!r}, {kind}, has no form in ONNX yet")
        return _LAYERS[kind](self, entry, list(read))

    def write(self, path: PathLike) -> None:
        """Checks the graph and writes it."""
        onnx = self.onnx
        graph = onnx.helper.make_graph(self.nodes, "rnnfast", self.inputs, self.outputs, self.stored)
        domains = [onnx.helper.make_opsetid("", OPSET)]
        domains += [onnx.helper.make_opsetid(DOMAIN, 1)] if self.functions else []
        model = onnx.helper.make_model(
            graph, opset_imports=domains, producer_name="rnnfast", ir_version=IR_VERSION,
            functions=list(self.functions.values()),
        )  # fmt: skip
        onnx.checker.check_model(model)
        with replacing(path) as file:
            file.write(model.SerializeToString())


def writer(parameters: Mapping[str, NDArray[Any]]) -> Writer:
    """A new graph. Raises ``ImportError`` without the onnx package."""
    try:
        import onnx
        import onnx.checker
        import onnx.numpy_helper
    except ImportError:
        raise ImportError("to_onnx needs the onnx package: pip install 'rnnfast[onnx]'") from None
    return Writer(onnx, parameters)


def write_network(path: PathLike, config: Mapping[str, Any], w: Writer, *, batch_first: bool, pooled: set[str]) -> None:
    """A network by its description."""
    known: dict[str, str] = {}
    lead = ("N", "T") if batch_first else ("T", "N")
    for given in config["inputs"]:
        name, size, ids = given["name"], given.get("size", 0), given.get("ids", 0)
        value = w.input(name, lead if ids else (*lead, size), integers=bool(ids))
        if batch_first:
            value = w("Transpose", value, perm=[1, 0] if ids else [1, 0, 2])
        known[name] = value
        w.widths[value] = size or ids
        w.ids[value] = ids
    for entry in config["layers"]:
        known[entry["name"]] = w.layer(entry, *(known[name] for name in entry["inputs"]))
    for name in config["outputs"]:
        value, size = known[name], w.widths[known[name]]
        if name in pooled:
            w.output(f"{name}_output", w("Squeeze", value, w.constant([0])), ("N", size))
        else:
            value = w("Transpose", value, perm=[1, 0, 2]) if batch_first else value
            w.output(f"{name}_output", value, (*lead, size))
    w.write(path)


# Layers, each (steps, rows, numbers) to the same ---------------------------------------------------------------------


def _embedding(w: Writer, entry: Entry, read: list[str]) -> str:
    table = w.weight(entry, "weight")
    return _given(w, w("Gather", w.constant(table, f"{entry['name']}.weight"), read[0], axis=0), table.shape[1])


def _given(w: Writer, value: str, size: int) -> str:
    w.widths[value] = size
    return value


def _linear(w: Writer, entry: Entry, read: list[str]) -> str:
    weight = w.weight(entry, "weight")
    value = w("MatMul", read[0], w.constant(weight.T, f"{entry['name']}.weight"))
    if entry["bias"]:
        value = w("Add", value, w.constant(w.weight(entry, "bias"), f"{entry['name']}.bias"))
    return _given(w, value, len(weight))


def _conv1d(w: Writer, entry: Entry, read: list[str]) -> str:
    name, weight = entry["name"], w.weight(entry, "weight")
    inputs = [w("Transpose", read[0], perm=[1, 2, 0]), w.constant(weight, f"{name}.weight")]
    if entry["bias"]:
        inputs.append(w.constant(w.weight(entry, "bias"), f"{name}.bias"))
    value = w(
        "Conv", *inputs, kernel_shape=[weight.shape[2]], dilations=[entry["dilation"]],
        pads=[entry["before"], entry["after"]], strides=[entry.get("stride", 1)], group=entry.get("groups", 1),
    )  # fmt: skip
    return _given(w, w("Transpose", value, perm=[2, 0, 1]), len(weight))


def _recurrent(w: Writer, entry: Entry, read: list[str]) -> str:
    cell = entry["cell"]
    if cell not in _KINDS:
        raise ValueError(f"layer {entry['name']!r}: ONNX has no operator for the cell {cell}; it has LSTM, GRU and RNN")
    value, directions, size = read[0], 1 + entry["bidirectional"], entry["hidden_size"]
    if w.ids.get(value):
        value = w("OneHot", value, w.constant(w.ids[value]), w.constant([0.0, 1.0]), axis=-1)
    given = _state_inputs(w, entry, directions) if w.states else []
    ends: list[list[str]] = [[] for _ in given]
    for layer in range(entry["num_layers"]):
        values = _node(w, entry, layer, value, [_rows(w, state, layer, directions) for state in given])
        for part, end in zip(ends, values[1:]):
            part.append(end)
        turned = w("Transpose", values[0], perm=[0, 2, 1, 3])
        value = w("Reshape", turned, w.constant([0, 0, -1]))
    for part, letter in zip(ends, "hc"):
        joined = w("Concat", *part, axis=0) if len(part) > 1 else part[0]
        w.output(f"{entry['name']}.{letter}_last", joined, (directions * entry["num_layers"], "N", size))
    return _given(w, value, directions * size)


def _state_inputs(w: Writer, entry: Entry, directions: int) -> list[str]:
    letters = "hc" if entry["cell"] == "lstm" else "h"
    shape = (directions * entry["num_layers"], "N", entry["hidden_size"])
    return [w.input(f"{entry['name']}.{letter}", shape) for letter in letters]


def _rows(w: Writer, state: str, layer: int, directions: int) -> str:
    first = layer * directions
    return str(w("Slice", state, w.constant([first]), w.constant([first + directions]), w.constant([0])))


def _node(w: Writer, entry: Entry, layer: int, value: str, state: list[str]) -> list[str]:
    """One layer in its directions: Y, Y_h and, of an LSTM, Y_c."""
    kind, order = _KINDS[entry["cell"]], inverse(ONNX_ORDER[entry["cell"]])
    suffixes = [f"l{layer}", f"l{layer}_reverse"][: 1 + entry["bidirectional"]]
    stacked = [
        np.stack([reordered(w.weight(entry, f"{name}_{suffix}"), order) for suffix in suffixes])
        for name in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if entry["bias"] else ()))
    ]
    constants = [*stacked[:2], *([np.concatenate(stacked[2:], axis=1)] if entry["bias"] else [])]
    names = [
        w.constant(c, f"{entry['name']}.{what}_l{layer}")
        for c, what in zip(constants, ("weight_ih", "weight_hh", "bias"))
    ]
    options: dict[str, Any] = {"hidden_size": entry["hidden_size"]}
    if entry["bidirectional"]:
        options["direction"] = "bidirectional"
    if kind == "GRU":
        options["linear_before_reset"] = int(entry["cell"] == "gru")
    if entry["cell"] == "rnn_relu":
        options["activations"] = ["Relu"] * len(suffixes)
    inputs = [value, *names]
    if state:
        inputs += [*([""] * (5 - len(inputs))), *state]
    if entry["cell"] == "lstm_peephole":
        peepholes = np.stack([reordered(w.weight(entry, f"weight_c_{suffix}"), PEEPHOLE_ORDER) for suffix in suffixes])
        inputs += [*([""] * (7 - len(inputs))), w.constant(peepholes, f"{entry['name']}.weight_c_l{layer}")]
    made: list[str] = w(kind, *inputs, outputs=3 if kind == "LSTM" else 2, **options)
    return made


def _layer_norm(w: Writer, entry: Entry, read: list[str]) -> str:
    size = w.widths[read[0]]
    weight = w.constant(w.weight(entry, "weight") if entry["weight"] else np.ones(size), f"{entry['name']}.weight")
    if entry.get("centered", True):
        bias = [w.constant(w.weight(entry, "bias"), f"{entry['name']}.bias")] if entry["bias"] else []
        return _given(w, w("LayerNormalization", read[0], weight, *bias, axis=-1, epsilon=entry["eps"]), size)

    def body(w: Writer, read: list[str]) -> str:
        squares = w("ReduceMean", w("Mul", read[0], read[0]), w.constant([-1]), keepdims=1)
        root = w("Sqrt", w("Add", squares, w.constant(float(entry["eps"]))))
        return str(w("Mul", w("Div", read[0], root), read[1]))

    return _given(w, w.function("RMSNorm", [read[0], weight], body, epsilon=entry["eps"]), size)


def _activation(w: Writer, entry: Entry, read: list[str]) -> str:
    name, x = entry["function"], read[0]
    first, second = entry.get("alpha"), entry.get("beta")  # where they are not the usual ones
    nodes: dict[str, Callable[[], str]] = {
        "relu": lambda: w("Relu", x),
        "leaky_relu": lambda: w("LeakyRelu", x, alpha=0.01 if first is None else first),
        "elu": lambda: w("Elu", x, alpha=1.0 if first is None else first),
        "gelu": lambda: w("Gelu", x),
        "gelu_tanh": lambda: w("Gelu", x, approximate="tanh"),
        "softplus": lambda: w("Softplus", x) if second is None else _softplus(w, x, second),
        "clip": lambda: w(
            "Clip", x, w.constant(-1.0 if first is None else first), w.constant(1.0 if second is None else second)
        ),
        "silu": lambda: w("Mul", x, w("Sigmoid", x)),
        "tanh": lambda: w("Tanh", x),
        "sigmoid": lambda: w("Sigmoid", x),
        "hard_sigmoid": lambda: w(
            "HardSigmoid", x, alpha=1 / 6 if first is None else first, beta=0.5 if second is None else second
        ),
    }
    if name not in nodes:
        raise ValueError(f"layer {entry['name']!r}: ONNX has no activation {name}")
    return _given(w, nodes[name](), w.widths[x])


def _scale(w: Writer, entry: Entry, read: list[str]) -> str:
    factor = float(entry["factor"])

    def body(w: Writer, read: list[str]) -> str:
        return str(w("Mul", read[0], w.constant(factor)))

    return _given(w, w.function("Scale", [read[0]], body, factor=factor), w.widths[read[0]])


def _softplus(w: Writer, x: str, beta: float) -> str:
    def body(w: Writer, read: list[str]) -> str:
        return str(w("Div", w("Softplus", w("Mul", read[0], w.constant(float(beta)))), w.constant(float(beta))))

    return w.function("Softplus", [x], body, beta=float(beta))


def _softmax(w: Writer, entry: Entry, read: list[str]) -> str:
    return _given(w, w("LogSoftmax" if entry["log"] else "Softmax", read[0], axis=-1), w.widths[read[0]])


def _batch_norm(w: Writer, entry: Entry, read: list[str]) -> str:
    size, name = w.widths[read[0]], entry["name"]
    state = [w.weight(entry, f"running_{what}") for what in ("mean", "var")]
    own = [w.weight(entry, "weight"), w.weight(entry, "bias")] if entry["affine"] else [np.ones(size), np.zeros(size)]
    constants = [w.constant(value, f"{name}.{i}") for i, value in enumerate((*own, *state))]

    def body(w: Writer, read: list[str]) -> str:
        channels = w("Transpose", read[0], perm=[1, 2, 0])
        y = w("BatchNormalization", channels, *read[1:], epsilon=entry["eps"])
        return str(w("Transpose", y, perm=[2, 0, 1]))

    return _given(w, w.function("BatchNorm1d", [read[0], *constants], body, epsilon=entry["eps"]), size)


def _windows(w: Writer, entry: Entry, read: list[str]) -> str:
    options: dict[str, Any] = {"kernel_shape": [entry["kernel_size"]], "strides": [entry["stride"]]}
    options["pads"] = [entry["before"], entry["after"]]
    if entry["function"] == "mean":
        options["count_include_pad"] = int(entry["padding_counts"])
    value = w(
        "MaxPool" if entry["function"] == "max" else "AveragePool", w("Transpose", read[0], perm=[1, 2, 0]), **options
    )
    return _given(w, w("Transpose", value, perm=[2, 0, 1]), w.widths[read[0]])


def _flatten(w: Writer, entry: Entry, read: list[str]) -> str:
    steps, size = entry["steps"], w.widths[read[0]] * entry["steps"]

    def body(w: Writer, read: list[str]) -> str:
        each = w.constant([steps])
        count = w("Mul", w("Div", w("Shape", read[0], start=0, end=1), each), each)
        whole = w("Slice", read[0], w.constant([0]), count, w.constant([0]))
        rows = w("Reshape", w("Transpose", whole, perm=[1, 0, 2]), w.constant([0, -1, size]))
        return str(w("Transpose", rows, perm=[1, 0, 2]))

    return _given(w, w.function("FlattenSteps", [read[0]], body, steps=steps, size=size), size)


def _attention_pool(w: Writer, entry: Entry, read: list[str]) -> str:
    weight = w.constant(w.weight(entry, "weight").T, f"{entry['name']}.weight")

    def body(w: Writer, read: list[str]) -> str:
        shares = w("Softmax", w("MatMul", *read), axis=0)
        return str(w("ReduceSum", w("Mul", read[0], shares), w.constant([0]), keepdims=1))

    return _given(w, w.function("AttentionPool", [read[0], weight], body), w.widths[read[0]])


def _pool(w: Writer, entry: Entry, read: list[str]) -> str:
    x, first = read[0], w.constant([0])
    ends = {"last": ([-1], [2**31 - 1]), "first": ([0], [1])}
    if entry["function"] in ends:
        start, end = ends[entry["function"]]
        value = w("Slice", x, w.constant(start), w.constant(end), first)
    else:
        value = w("ReduceMean" if entry["function"] == "mean" else "ReduceMax", x, first, keepdims=1)
    return _given(w, value, w.widths[x])


def _self_attention(w: Writer, entry: Entry, read: list[str]) -> str:
    heads, size = entry["num_heads"], w.widths[read[0]]
    names = ["in_proj_weight", "out_proj.weight"] + ["in_proj_bias", "out_proj.bias"] * entry["bias"]
    constants = [w.constant(w.weight(entry, name).T, f"{entry['name']}.{name}") for name in names]

    def body(w: Writer, read: list[str]) -> str:
        value, w_in, w_out, *biases = read
        x = w("MatMul", w("Transpose", value, perm=[1, 0, 2]), w_in)
        x = w("Add", x, biases[0]) if biases else x
        x = w("Reshape", x, w.constant([0, 0, 3, heads, size // heads]))
        x = w("Transpose", x, perm=[2, 0, 3, 1, 4])  # (3, rows, heads, steps, numbers)
        q, k, v = (w("Gather", x, w.constant(i), axis=0) for i in range(3))
        q = w("Mul", q, w.constant(1 / math.sqrt(size // heads)))
        scores = w("MatMul", q, w("Transpose", k, perm=[0, 1, 3, 2]))
        if entry["causal"]:
            ones = w("Expand", w.constant(1.0), w("Shape", scores))
            later = w("Mul", w("Sub", w("Trilu", ones, upper=0), w.constant(1.0)), w.constant(1e30))
            scores = w("Add", scores, later)
        y = w("Transpose", w("MatMul", w("Softmax", scores, axis=-1), v), perm=[2, 0, 1, 3])
        y = w("MatMul", w("Reshape", y, w.constant([0, 0, -1])), w_out)
        return str(w("Add", y, biases[1]) if biases else y)

    options = {"num_heads": heads, "causal": int(entry["causal"]), "size": size}
    return _given(w, w.function("SelfAttention", [read[0], *constants], body, **options), size)


def _reflection_pad(w: Writer, entry: Entry, read: list[str]) -> str:
    pads = w.constant([entry["before"], 0, 0, entry["after"], 0, 0])
    return _given(w, w("Pad", read[0], pads, mode="reflect"), w.widths[read[0]])


def _magnitude(w: Writer, entry: Entry, read: list[str]) -> str:
    def body(w: Writer, read: list[str]) -> str:
        halves = w("Split", read[0], outputs=2, axis=-1, num_outputs=2)
        return str(w("Sqrt", w("Add", *(w("Mul", half, half) for half in halves))))

    return _given(w, w.function("Magnitude", read, body), w.widths[read[0]] // 2)


def _time_distributed(w: Writer, entry: Entry, read: list[str]) -> str:
    """The inner layers see (inner steps, steps and rows, numbers)."""
    x, steps, width = read[0], entry["steps"], w.widths[read[0]] // entry["steps"]
    parts = w("Reshape", x, w.constant([-1, steps, width]))
    value = _given(w, w("Transpose", parts, perm=[1, 0, 2]), width)
    for inner in inner_entries(entry):
        value = w.layer(inner, value)
    shape = w("Concat", w("Shape", x, start=0, end=2), w.constant([-1]), axis=0)
    joined = w("Reshape", w("Transpose", value, perm=[1, 0, 2]), shape)
    return _given(w, joined, output_width(entry, [w.widths[x]]))


def _folded(kind: str) -> Callable[[Writer, Entry, list[str]], str]:
    def layer(w: Writer, entry: Entry, read: list[str]) -> str:
        value = read[0]
        for other in read[1:]:
            value = w(kind, value, other)
        return _given(w, value, w.widths[read[0]])

    return layer


def _concatenate(w: Writer, entry: Entry, read: list[str]) -> str:
    return _given(w, w("Concat", *read, axis=-1), sum(w.widths[name] for name in read))


_LAYERS: dict[str, Callable[[Writer, Entry, list[str]], str]] = {
    "embedding": _embedding, "linear": _linear, "conv1d": _conv1d, "recurrent": _recurrent, "layer_norm": _layer_norm,
    "activation": _activation, "pool": _pool, "self_attention": _self_attention, "add": _folded("Add"),
    "multiply": _folded("Mul"), "concatenate": _concatenate, "dropout": lambda w, entry, read: read[0],
    "softmax": _softmax, "batch_norm": _batch_norm, "pool_windows": _windows, "flatten": _flatten,
    "attention_pool": _attention_pool, "scale": _scale, "reflection_pad": _reflection_pad, "magnitude": _magnitude,
    "time_distributed": _time_distributed,
}  # fmt: skip
