"""The operators of ONNX as steps of a draft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Union

import numpy as np
from numpy.typing import NDArray

from rnnfast.interop.axes import Axis, Dim, Dims, Unconvertible, is_steps, place, reshaped, shown
from rnnfast.interop.draft import Draft, Ends, Signal
from rnnfast.interop.functions import part_of, same_padding, windows_of
from rnnfast.interop.onnx_graph import Graph
from rnnfast.interop.onnx_nodes import array_of
from rnnfast.interop.pending import Convolution
from rnnfast.models.onnx_write import DOMAIN
from rnnfast.nn.compiled import AttentionPool, BatchNorm1d
from rnnfast.nn.norm import LayerNorm, RMSNorm
from rnnfast.nn.parts import Add, Flatten, Multiply, Scale, Sigmoid
from rnnfast.nn.sequence import SelfAttention

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sizes:
    """A computed shape, or part of one."""

    dims: Dims


@dataclass(frozen=True, eq=False)
class Filled:
    """An array of any shape with one value."""

    value: float


@dataclass(frozen=True, eq=False)
class Squares:
    """The sum of the squares of signals."""

    signals: tuple[Signal, ...]

    def signal(self, draft: Draft) -> Signal:
        """The sum, as products and sums."""
        squares = [draft.combine(Multiply(), each, each) for each in map(draft.settle, self.signals)]
        return squares[0] if len(squares) == 1 else draft.combine(Add(), *squares)


Value = Union[Signal, Sizes, Filled, Ends, Squares, Array]


@dataclass
class Values:
    """What is known while a graph is walked, with what the axes of its inputs are taken to be."""

    graph: Graph
    dims: Mapping[str, Dims]
    draft: Draft = field(default_factory=Draft)
    values: dict[str, Value] = field(default_factory=dict)

    def value(self, name: str) -> Value:
        """Of an input of a node."""
        if name not in self.values:
            raise Unconvertible(f"reads {name!r}, which is part of a state or of lengths")
        return self.values[name]

    def signal(self, name: str) -> Signal:
        """A value that is computed from the network's inputs."""
        value = self.value(name)
        if isinstance(value, (Ends, Squares)):
            value = value.signal(self.draft)
        if not isinstance(value, Signal):
            raise Unconvertible(f"{name!r} does not depend on a sequence of the input")
        return value

    def constant(self, node: Any, i: int, default: Array | None = None) -> Array:
        """A value that must be known."""
        name = node.input[i] if i < len(node.input) else ""
        if not name and default is not None:
            return default
        value = self.value(name) if name else None
        if isinstance(value, Sizes) and all(isinstance(d, int) for d in value.dims):
            return np.array(value.dims, np.int64)
        if not isinstance(value, np.ndarray):
            raise Unconvertible(f"its input {i}, {name!r}, is not a constant")
        return value


Operation = Callable[[Values, Any, "dict[str, Any]"], Union[Value, "tuple[Value, ...]"]]


FLOATS, INTEGERS = (1, 10, 11, 16), (2, 3, 4, 5, 6, 7, 12, 13)  # types of elements


def _same(w: Values, node: Any, given: dict[str, Any]) -> Value:
    return w.value(node.input[0])


def _cast(w: Values, node: Any, given: dict[str, Any]) -> Value:
    value, to, known = w.value(node.input[0]), given["to"], w.graph.types.get(node.input[0])
    if isinstance(value, (Signal, Ends, Squares)) and to not in FLOATS and not (to in (6, 7) and known in INTEGERS):
        raise Unconvertible("casts numbers to integers or truth values, which rounds them")
    return value


def _dropout(w: Values, node: Any, given: dict[str, Any]) -> Value:
    if len(node.input) > 2 and node.input[2] and w.constant(node, 2).any():
        raise Unconvertible("drops numbers at random (training_mode): export the network in eval mode")
    return w.value(node.input[0])


def _transpose(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = w.signal(node.input[0])
    return w.draft.transpose(signal, given.get("perm", range(len(signal.dims))[::-1]))


def _reshape(w: Values, node: Any, given: dict[str, Any]) -> Value:
    value = w.value(node.input[0])
    if isinstance(value, (Filled, Sizes)):
        return value
    if given.get("allowzero") and 0 in w.constant(node, 1):
        raise Unconvertible("makes an empty array (allowzero)")
    target = w.value(node.input[1])
    wanted: tuple[Dim, ...] = target.dims if isinstance(target, Sizes) else tuple(w.constant(node, 1).tolist())
    signal = w.signal(node.input[0])
    return replace(signal, dims=reshaped(signal.dims, wanted))


def _flatten(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = w.signal(node.input[0])
    if given.get("axis", 1) != 1:
        raise Unconvertible(f"flattens an array {shown(signal.dims)} from axis {given['axis']} on, expected 1")
    return w.draft.flatten(signal, 1)


def _axes(w: Values, node: Any, given: dict[str, Any]) -> list[int] | None:
    if "axes" in given:
        return list(given["axes"])
    return w.constant(node, 1).ravel().tolist() if len(node.input) > 1 and node.input[1] else None


def _squeeze(w: Values, node: Any, given: dict[str, Any]) -> Value:
    value = w.value(node.input[0])
    if isinstance(value, (Filled, Sizes)):
        return value
    signal = w.signal(node.input[0])
    axes = _axes(w, node, given)
    axes = [i for i, d in enumerate(signal.dims) if d == 1] if axes is None else [place(signal.dims, i) for i in axes]
    for i in axes:
        dim = signal.dims[i]
        if dim != 1 and not (isinstance(dim, Axis) and dim.role == "rows"):
            raise Unconvertible(f"squeezes axis {i} of an array {shown(signal.dims)}")
    return replace(signal, dims=tuple(d for i, d in enumerate(signal.dims) if i not in axes))


def _unsqueeze(w: Values, node: Any, given: dict[str, Any]) -> Value:
    value = w.value(node.input[0])
    if isinstance(value, (Filled, Sizes)):
        return value
    signal = w.signal(node.input[0])
    axes = _axes(w, node, given) or []
    rank = len(signal.dims) + len(axes)
    places, left = {range(rank)[i] for i in axes}, iter(signal.dims)
    return replace(signal, dims=tuple(1 if i in places else next(left) for i in range(rank)))


def _gather(w: Values, node: Any, given: dict[str, Any]) -> Value:
    data, places = w.value(node.input[0]), w.value(node.input[1])
    axis = given.get("axis", 0)
    if isinstance(data, np.ndarray) and isinstance(places, Signal):
        if data.ndim != 2 or axis != 0:
            raise Unconvertible(f"looks up a table of shape {data.shape} along axis {axis}")
        return w.draft.embed(places, data.astype(np.float32))
    if isinstance(data, Filled):
        return data
    at = w.constant(node, 1)
    if isinstance(data, Sizes):
        return Sizes(tuple(data.dims[int(i)] for i in at.ravel()))
    signal = w.signal(node.input[0])
    if at.ndim == 0:
        return w.draft.index(signal, axis, int(at))
    axis = place(signal.dims, axis)
    if at.size == 1:
        one = w.draft.index(signal, axis, int(at.ravel()[0]))
        return replace(one, dims=(*one.dims[:axis], 1, *one.dims[axis:]))
    places_of = signal.numbers()
    if axis not in places_of or at.ndim != 1:
        raise Unconvertible(f"picks places of axis {axis} of an array {shown(signal.dims)}")
    numbers = np.arange(signal.width).reshape([d for d in signal.dims if isinstance(d, int)])
    picked = numbers.take(at, places_of.index(axis))
    return w.draft.select(signal, picked, (*signal.dims[:axis], at.size, *signal.dims[axis + 1 :]))


def _slice(w: Values, node: Any, given: dict[str, Any]) -> Value:
    data = w.value(node.input[0])
    if isinstance(data, Filled):
        return data
    if "starts" in given:  # before opset 10
        starts, ends = given["starts"], given["ends"]
        axes, steps = given.get("axes", list(range(len(starts)))), [1] * len(starts)
    else:
        starts, ends = (w.constant(node, i).ravel().tolist() for i in (1, 2))
        axes = w.constant(node, 3, np.arange(len(starts))).ravel().tolist()
        steps = w.constant(node, 4, np.ones(len(starts), np.int64)).ravel().tolist()
    if isinstance(data, Sizes):
        return Sizes(data.dims[starts[0] : ends[0] : steps[0]])
    signal = w.signal(node.input[0])
    for axis, start, end, step in zip(axes, starts, ends, steps):
        if step < 0:
            raise Unconvertible("slices backward")
        signal = w.draft.cut(signal, axis, slice(start, None if end >= 2**31 - 1 else end, step))
    return signal


def _split(w: Values, node: Any, given: dict[str, Any]) -> tuple[Value, ...]:
    signal = w.signal(node.input[0])
    axis = place(signal.dims, given.get("axis", 0))
    size = signal.dims[axis]
    if not isinstance(size, int):
        raise Unconvertible(f"splits axis {axis} of an array {shown(signal.dims)}")
    count = len(node.output)
    each = -(-size // count)
    usual = np.array([each] * (count - 1) + [size - each * (count - 1)])
    sizes = given.get("split") or w.constant(node, 1, usual).tolist()
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 1:
        raise Unconvertible(f"splits {size} numbers into {count} parts of {sizes}")
    ends = np.cumsum(sizes)
    return tuple(w.draft.cut(signal, axis, slice(int(end - n), int(end))) for end, n in zip(ends, sizes))


def _concat(w: Values, node: Any, given: dict[str, Any]) -> Value:
    values = [w.value(name) for name in node.input]
    if any(isinstance(value, Sizes) for value in values):
        dims: list[Dim] = []
        for i, value in enumerate(values):
            dims += value.dims if isinstance(value, Sizes) else w.constant(node, i).ravel().tolist()
        return Sizes(tuple(dims))
    return w.draft.concatenate([w.signal(name) for name in node.input], given["axis"])


def _shape(w: Values, node: Any, given: dict[str, Any]) -> Value:
    return Sizes(w.signal(node.input[0]).dims[given.get("start", 0) : given.get("end")])


def _filled(w: Values, node: Any, given: dict[str, Any]) -> Value:
    value = given.get("value")
    return Filled(0.0 if value is None else float(array_of(value).ravel()[0]))


def _expand(w: Values, node: Any, given: dict[str, Any]) -> Value:
    value = w.value(node.input[0])
    if isinstance(value, np.ndarray) and value.size and np.all(value == value.ravel()[0]):
        return Filled(float(value.ravel()[0]))
    if isinstance(value, Filled) or (isinstance(value, Sizes) and len(value.dims) == 1):  # the steps, for every row
        return value
    raise Unconvertible("repeats an array")


def _matmul(w: Values, node: Any, given: dict[str, Any]) -> Value:
    weight = w.constant(node, 1)
    if weight.ndim != 2:
        raise Unconvertible(f"multiplies by an array of shape {weight.shape}")
    return w.draft.linear(w.signal(node.input[0]), weight.T)


def _matmul_integer(w: Values, node: Any, given: dict[str, Any]) -> Value:
    zeros = [w.constant(node, i, np.zeros(1)).astype(np.float32) for i in (2, 3)]
    if zeros[0].size != 1:
        raise Unconvertible("shifts the rows of its first input by different zero points")
    signal = w.draft.scale(w.signal(node.input[0]), 1.0, -zeros[0].ravel())
    return w.draft.linear(signal, (w.constant(node, 1).astype(np.float32) - zeros[1]).T)


def _gemm(w: Values, node: Any, given: dict[str, Any]) -> Value:
    if given.get("transA"):
        raise Unconvertible("transposes its first input")
    weight = w.constant(node, 1) * np.float32(given.get("alpha", 1.0))
    bias = w.constant(node, 2, np.zeros(0, np.float32)) * np.float32(given.get("beta", 1.0))
    weight = weight if given.get("transB") else weight.T
    if weight.ndim != 2 or (bias.ndim == 2 and len(bias) != 1):
        raise Unconvertible(
            f"has a matrix of shape {weight.shape} and a bias of shape {bias.shape}, which differs between rows"
        )
    if bias.size:
        bias = np.broadcast_to(bias.ravel(), len(weight))
    return w.draft.linear(w.signal(node.input[0]), weight, bias if bias.size else None)


def _arithmetic(w: Values, node: Any, given: dict[str, Any]) -> Value:
    values = [w.value(name) for name in node.input]
    kind = node.op_type
    if any(isinstance(value, np.ndarray) for value in values):
        first = isinstance(values[0], np.ndarray)
        signal = w.signal(node.input[1 if first else 0])
        constant = np.asarray(values[0 if first else 1], np.float64)
        if kind == "Div" and first:
            raise Unconvertible("divides by a sequence")
        with np.errstate(divide="ignore"):  # the draft refuses infinite factors
            inverse = 1 / constant if kind == "Div" else 1.0
        factors: dict[str, tuple[Array | float, Array | float]] = {
            "Add": (1.0, constant), "Mul": (constant, 0.0), "Div": (inverse, 0.0),
            "Sub": (-1.0, constant) if first else (1.0, -constant),
        }  # fmt: skip
        return w.draft.scale(signal, *factors[kind])
    if kind == "Add" and all(isinstance(value, Squares) for value in values):
        return Squares(tuple(signal for value in values if isinstance(value, Squares) for signal in value.signals))
    if kind == "Mul" and node.input[0] == node.input[1]:
        return Squares((w.signal(node.input[0]),))
    a, b = (w.signal(name) for name in node.input[:2])
    if kind == "Div":
        raise Unconvertible("divides by a sequence")
    if kind == "Mul":
        for x, y in ((a, b), (b, a)):  # x sigmoid(x)
            layer, read = w.draft.layers.get(y.source, (None, []))
            if isinstance(layer, Sigmoid) and y.pending is None and read == [w.draft.settle(x).source]:
                return w.draft.part(x, part_of("silu"))
        return w.draft.combine(Multiply(), a, b)
    return w.draft.combine(Add(), a, w.draft.scale(b, -1.0) if kind == "Sub" else b)


def _power(w: Values, node: Any, given: dict[str, Any]) -> Value:
    if not np.all(w.constant(node, 1) == 2):
        raise Unconvertible(f"takes the power {w.constant(node, 1)}, expected 2")
    return Squares((w.signal(node.input[0]),))


def _root(w: Values, node: Any, given: dict[str, Any]) -> Value:
    value = w.value(node.input[0])
    if not isinstance(value, Squares) or len(value.signals) != 2:
        raise Unconvertible("takes a square root, which networks of rnnfast have of sums of two squares alone")
    return w.draft.magnitude(*value.signals)


def _magnitude(w: Values, node: Any, given: dict[str, Any]) -> Value:
    return w.draft.magnitude_of_halves(w.signal(node.input[0]))


def _function(name: str, **usual: float) -> Operation:
    def operation(w: Values, node: Any, given: dict[str, Any]) -> Value:
        coefficients = [given.get(coefficient, value) for coefficient, value in usual.items()]
        return w.draft.part(w.signal(node.input[0]), part_of(name, *coefficients))

    return operation


def _swish(w: Values, node: Any, given: dict[str, Any]) -> Value:
    if given.get("alpha", 1.0) != 1:
        raise Unconvertible(f"has alpha={given['alpha']}, expected 1")
    return w.draft.part(w.signal(node.input[0]), part_of("silu"))


def _gelu(w: Values, node: Any, given: dict[str, Any]) -> Value:
    form = "gelu_tanh" if given.get("approximate", "none") == "tanh" else "gelu"
    return w.draft.part(w.signal(node.input[0]), part_of(form))


def _clip(w: Values, node: Any, given: dict[str, Any]) -> Value:
    usual = np.finfo(np.float32)
    ends = [given.get(name, value) for name, value in (("min", usual.min), ("max", usual.max))]
    least, most = (float(w.constant(node, i + 1, np.asarray(end)).ravel()[0]) for i, end in enumerate(ends))
    return w.draft.part(w.signal(node.input[0]), part_of("clip", least, most))


def _softmax(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = w.signal(node.input[0])
    axis = given.get("axis", -1 if w.graph.opsets.get("", 13) >= 13 else 1)
    return w.draft.softmax(signal, axis, node.op_type == "LogSoftmax")


def _windows(w: Values, node: Any, given: dict[str, Any]) -> Value:
    size = given["kernel_shape"]
    if len(size) != 1 or given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or len(node.output) > 1:
        raise Unconvertible("pools several axes, pads by auto_pad or gives the places of maxima")
    pads = [0, 0] if given.get("auto_pad") == "VALID" else given.get("pads", [0, 0])
    part = windows_of(
        "max" if node.op_type == "MaxPool" else "mean", size[0], given.get("strides", [1])[0], pads,
        counts=bool(given.get("count_include_pad", 0)), dilation=given.get("dilations", [1])[0],
        ceil=bool(given.get("ceil_mode", 0)),
    )  # fmt: skip
    return w.draft.windows(w.signal(node.input[0]), part, 2)


def _steps_first(w: Values, node: Any) -> Signal:
    signal = w.signal(node.input[0])
    if not is_steps(signal.dims[0]):
        raise Unconvertible(f"reads an array {shown(signal.dims)}, expected (steps, rows, numbers)")
    return signal


def _flattened_steps(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = _steps_first(w, node)
    w.draft.refuse_ragged()
    return w.draft.add(Flatten(given["steps"]), (*signal.dims[:2], signal.width * given["steps"]), signal)


def _attention_pool(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = _steps_first(w, node)
    w.draft.refuse_ragged()
    layer = AttentionPool(signal.width, seed=0)
    layer.load_state_dict({"weight": w.constant(node, 1).T})
    return w.draft.add(layer, (1, *signal.dims[1:]), signal)


def _batch_norm_function(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = w.signal(node.input[0])
    weight, bias, mean, variance = (w.constant(node, i) for i in (1, 2, 3, 4))
    layer = BatchNorm1d(signal.width, eps=given["epsilon"])
    layer.load_state_dict({"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance})
    return w.draft.add(layer, signal.dims, signal)


def _conv(w: Values, node: Any, given: dict[str, Any]) -> Value:
    weight = w.constant(node, 1)
    if weight.ndim != 3:
        raise Unconvertible(f"convolves over {weight.ndim - 2} axes")
    bias = w.constant(node, 2, np.zeros(0))
    dilation, stride = given.get("dilations", [1])[0], given.get("strides", [1])[0]
    automatic = given.get("auto_pad", "NOTSET")
    before, after = [0, 0] if automatic == "VALID" else given.get("pads", [0, 0])
    if automatic.startswith("SAME"):
        if stride != 1:
            raise Unconvertible(f"pads by auto_pad={automatic} with a stride")
        less, more = same_padding(dilation * (weight.shape[2] - 1))
        before, after = (less, more) if automatic == "SAME_UPPER" else (more, less)
    found = Convolution(weight, bias if bias.size else None, dilation, stride, given.get("group", 1), before, after)
    return w.draft.convolve(w.signal(node.input[0]), found)


def _pad(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = w.signal(node.input[0])
    pads = given["pads"] if "pads" in given else w.constant(node, 1).tolist()
    axes = w.constant(node, 3, np.arange(len(signal.dims))).tolist()
    mode = given.get("mode", "constant")
    value = w.constant(node, 2, np.asarray(given.get("value", 0.0)))
    if mode == "constant" and value.any():
        raise Unconvertible(f"pads with the value {value.ravel()[0]}, expected 0")
    if len(pads) != 2 * len(axes):
        raise Unconvertible(f"has {len(pads)} pads for {len(axes)} axes, expected two for each")
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :]):
        if before or after:
            signal = w.draft.pad(signal, axis, (before, after), mode)
    return signal


def _batch_norm(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = w.signal(node.input[0])
    if given.get("training_mode") or not given.get("spatial", 1):
        raise Unconvertible(
            "normalizes by the statistics of the batch or of each step: export the network in eval mode"
        )
    names = ("weight", "bias", "running_mean", "running_var")
    state = {name: w.constant(node, i + 1) for i, name in enumerate(names)}
    return w.draft.batch_norm(signal, 1, state, float(str(np.float32(given.get("epsilon", 1e-5)))))


def _layer_norm(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = w.signal(node.input[0])
    axis, last = given.get("axis", -1), signal.dims[-1]
    if axis not in (-1, len(signal.dims) - 1) or last != signal.width:
        raise Unconvertible(f"normalizes axes from {axis} of an array {shown(signal.dims)}, expected the last")
    bias = w.constant(node, 2, np.zeros(0, np.float32))
    layer = LayerNorm(signal.width, eps=given.get("epsilon", 1e-5), bias=bias.size > 0)
    layer.load_state_dict({"weight": w.constant(node, 1), **({"bias": bias} if bias.size else {})})
    return w.draft.add(layer, signal.dims, signal)


def _rms_norm(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = w.signal(node.input[0])
    layer = RMSNorm(signal.width, eps=given["epsilon"])
    layer.load_state_dict({"weight": w.constant(node, 1)})
    return w.draft.add(layer, signal.dims, signal)


def _self_attention(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = _steps_first(w, node)
    w.draft.refuse_ragged()
    names = ["in_proj_weight", "out_proj.weight", "in_proj_bias", "out_proj.bias"][: len(node.input) - 1]
    layer = SelfAttention(signal.width, given["num_heads"], causal=bool(given["causal"]), bias=len(names) == 4, seed=0)
    layer.load_state_dict({name: w.constant(node, i + 1).T for i, name in enumerate(names)})
    return w.draft.add(layer, signal.dims, signal)


def _reduce(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal = w.signal(node.input[0])
    is_global = node.op_type.startswith("Global")
    axes = list(range(2, len(signal.dims))) if is_global else _axes(w, node, given)
    keep = bool(given.get("keepdims", 1))
    function = "max" if "Max" in node.op_type else "mean"
    if axes is None:
        raise Unconvertible("reduces all axes")
    for axis in sorted((place(signal.dims, i) for i in axes), reverse=True):
        dim = signal.dims[axis]
        if is_steps(dim):
            signal = w.draft.pool(signal, "max" if function == "max" else "mean", axis, keep=keep)
            continue
        if not isinstance(dim, int) or (function == "max" and dim != 1):
            raise Unconvertible(f"reduces axis {axis} of an array {shown(signal.dims)}")
        signal = w.draft.mean(signal, axis)
        if not keep:
            signal = replace(signal, dims=(*signal.dims[:axis], *signal.dims[axis + 1 :]))
    return signal


def _one_hot(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal, depth = w.signal(node.input[0]), int(w.constant(node, 1).ravel()[0])
    if given.get("axis", -1) not in (-1, len(signal.dims)) or not np.array_equal(w.constant(node, 2), [0, 1]):
        raise Unconvertible("makes a one-hot code of other numbers than 0 and 1, or along another axis than the last")
    if signal.source not in w.draft.inputs or signal.pending is not None:
        raise Unconvertible("makes a one-hot code of what is not an input")
    w.draft.inputs[signal.source] = replace(w.draft.inputs[signal.source], ids=depth)
    return replace(signal, dims=(*signal.dims, depth), ids=depth)


def _quantize(w: Values, node: Any, given: dict[str, Any]) -> tuple[Value, ...]:
    """Activations stay as they are: their scale is 1."""
    return w.signal(node.input[0]), np.ones((), np.float32), np.zeros((), np.uint8)


def _dequantize(w: Values, node: Any, given: dict[str, Any]) -> Value:
    signal, scale = w.signal(node.input[0]), w.constant(node, 1).astype(np.float64)
    zero = w.constant(node, 2, np.zeros(())).astype(np.float64)
    if scale.size > 1:
        if scale.ndim != 1 or given.get("block_size"):
            raise Unconvertible("scales blocks of numbers")
        shape = [-1 if i == place(signal.dims, given.get("axis", 1)) else 1 for i in range(len(signal.dims))]
        scale, zero = scale.reshape(shape), zero.reshape(shape if zero.size > 1 else ())
    return w.draft.scale(signal, scale, -zero * scale)


def _scale(w: Values, node: Any, given: dict[str, Any]) -> Value:
    return w.draft.part(w.signal(node.input[0]), Scale(float(str(np.float32(given["factor"])))))


OPERATIONS: dict[str, Operation] = {
    "Identity": _same, "Cast": _cast, "Dropout": _dropout, "Tile": _expand,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "GlobalAveragePool", "GlobalMaxPool"), _reduce),
    "Transpose": _transpose, "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Gather": _gather, "Slice": _slice, "Split": _split, "Concat": _concat, "Shape": _shape,
    "ConstantOfShape": _filled, "Expand": _expand, "MatMul": _matmul, "MatMulInteger": _matmul_integer, "Gemm": _gemm,
    "Pow": _power, "Sqrt": _root, "Conv": _conv, "Pad": _pad, "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm,
    "OneHot": _one_hot, "DynamicQuantizeLinear": _quantize, "DequantizeLinear": _dequantize,
    "Relu": _function("relu"), "Tanh": _function("tanh"), "Sigmoid": _function("sigmoid"),
    "LeakyRelu": _function("leaky_relu", alpha=0.01), "Elu": _function("elu", alpha=1.0), "Gelu": _gelu,
    "HardSigmoid": _function("hard_sigmoid", alpha=0.2, beta=0.5), "Swish": _swish, "Clip": _clip,
    "Softplus": _function("softplus"), "Softmax": _softmax, "LogSoftmax": _softmax, "MaxPool": _windows,
    "AveragePool": _windows,
    # Layers that ``to_onnx`` writes as functions of the file.
    f"{DOMAIN}.RMSNorm": _rms_norm, f"{DOMAIN}.SelfAttention": _self_attention, f"{DOMAIN}.FlattenSteps": _flattened_steps,
    f"{DOMAIN}.AttentionPool": _attention_pool, f"{DOMAIN}.BatchNorm1d": _batch_norm_function, f"{DOMAIN}.Scale": _scale,
    f"{DOMAIN}.Softplus": _function("softplus", beta=1.0), f"{DOMAIN}.Magnitude": _magnitude,
}  # fmt: skip
