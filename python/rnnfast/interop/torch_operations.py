"""The operations of exported PyTorch modules as steps of a draft."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from rnnfast.interop.axes import Unconvertible, is_steps, reshaped, shown
from rnnfast.interop.draft import Draft, Ends, Signal
from rnnfast.interop.functions import part_of, same_padding, windows_of
from rnnfast.interop.pending import Convolution
from rnnfast.nn.layer import Layer
from rnnfast.nn.norm import LayerNorm
from rnnfast.nn.parts import Add, Dropout, Multiply
from rnnfast.nn.recurrent import LAYERS

Array = NDArray[Any]


def numbers(tensor: Any) -> Array:
    """A tensor's values."""
    array: Array = tensor.detach().cpu().float().numpy()
    return array


def leaves(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from leaves(value)
        else:
            yield value


@dataclass(frozen=True, eq=False)
class LastStates:
    """h or c after the last step of a recurrent layer: (layers times directions, rows, hidden_size)."""

    outputs: Signal  # (steps, rows, numbers)
    layers: int
    directions: int
    size: int
    part: str

    def at(self, draft: Draft, place: int) -> Signal:
        """One of them, (rows, hidden_size)."""
        self._refuse_c()
        count = self.layers * self.directions
        place = place % count - (count - self.directions)
        if place < 0:
            raise Unconvertible("reads the last state of a layer below the last")
        pooled = draft.pool(self.outputs, "last" if place == 0 else "first", 0)
        return draft.cut(pooled, 1, slice(place * self.size, (place + 1) * self.size))

    def whole(self, draft: Draft) -> Signal:
        """All of them, of a single layer."""
        if self.layers > 1:
            raise Unconvertible("reads the last states of several layers together")
        both = self.directions == 2
        return Ends(self.outputs, self.size, True, both, False, self.part).signal(draft)

    def _refuse_c(self) -> None:
        if self.part == "c":
            raise Unconvertible("reads the cell state of an LSTM, which networks of rnnfast do not give")


def projected(
    draft: Draft,
    signal: Signal,
    state: Mapping[str, Array],
    layers: int,
    both: bool,
    *,
    bias: bool,
    dropout: float = 0.0,
) -> Signal:
    """An LSTM whose h is W_hr m, with m = o ⊙ tanh(c): layers of LSTM give m from W_hh W_hr, and a product follows each."""
    for i in range(layers):
        suffixes = [f"l{i}", f"l{i}_reverse"][: 1 + both]
        down = [state[f"weight_hr_{suffix}"] for suffix in suffixes]
        size, hidden = down[0].shape
        own: Layer = LAYERS["lstm"](state[f"weight_ih_l{i}"].shape[1], hidden, bias=bias, bidirectional=both, seed=0)
        weights: dict[str, Array] = {}
        for suffix, w in zip(suffixes, down):
            named = {name[: -len(suffix)]: value for name, value in state.items() if name.endswith(f"_{suffix}")}
            named["weight_hh_"] = named["weight_hh_"].astype(np.float64) @ w
            weights.update({f"{n}{suffix.replace(f'l{i}', 'l0')}": v for n, v in named.items() if n != "weight_hr_"})
        own.load_state_dict(weights)
        signal = draft.recurrent(signal, own, hidden * (1 + both))
        whole = np.zeros((size * len(down), hidden * len(down)), np.float32)
        for d, w in enumerate(down):
            whole[d * size : (d + 1) * size, d * hidden : (d + 1) * hidden] = w
        signal = draft.linear(signal, whole)
        if dropout and i + 1 < layers:
            signal = draft.part(signal, Dropout(dropout))
    return signal


# Operations ----------------------------------------------------------------------------------------------------------


def _rnn(kind: str) -> Callable[..., Any]:
    def operation(
        draft: Draft, signal: Signal, state: Any, parameters: list[Any], bias: bool, layers: int, *rest: Any
    ) -> tuple[Any, ...]:
        dropout, training, both, rows_first = rest
        if training and dropout:
            raise Unconvertible("drops numbers at random: put the module in eval mode, without training=True")
        if any(bool(value.any()) if not isinstance(value, Signal) else True for value in leaves([state])):
            raise Unconvertible("starts from a state that is not zero")
        signal = _plain(draft, signal)
        if rows_first:
            signal = draft.transpose(signal, (1, 0, *range(2, len(signal.dims))))
        size = parameters[1].shape[1]
        projects = kind == "lstm" and parameters[1].shape[0] != 4 * size
        names = ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * bias + ["weight_hr"] * projects
        suffixes = [f"l{i}{d}" for i in range(layers) for d in ("", "_reverse")[: 1 + both]]
        state_names = [f"{name}_{suffix}" for suffix in suffixes for name in names]
        own_state = {name: numbers(value) for name, value in zip(state_names, parameters)}
        if projects:
            y = projected(draft, signal, own_state, layers, both, bias=bias)
        else:
            own: Layer = LAYERS[kind](parameters[0].shape[1], size, layers, bias=bias, bidirectional=both, seed=0)
            own.load_state_dict(own_state)
            y = draft.recurrent(signal, own, size * (1 + both))
        given = replace(y, dims=(y.dims[1], y.dims[0], y.dims[2])) if rows_first else y
        return (given, *(LastStates(y, layers, 1 + both, size, part) for part in "hc"))

    return operation


def _plain(draft: Draft, value: Any) -> Signal:
    if isinstance(value, LastStates):
        value = value.whole(draft)
    if not isinstance(value, Signal):
        raise Unconvertible("reads what does not depend on the steps of an input")
    return value


def _linear(draft: Draft, given: Any, weight: Any, bias: Any = None) -> Signal:
    return draft.linear(_plain(draft, given), numbers(weight), None if bias is None else numbers(bias))


def _matmul(draft: Draft, given: Any, weight: Any) -> Signal:
    if isinstance(weight, (Signal, LastStates)) or isinstance(given, (int, float)) or weight.dim() != 2:
        raise Unconvertible("multiplies two computed arrays")
    return _linear(draft, given, weight.t())


def _arithmetic(kind: str) -> Callable[..., Signal]:
    def operation(draft: Draft, a: Any, b: Any, *, alpha: float = 1) -> Signal:
        if isinstance(a, (Signal, LastStates)) and isinstance(b, (Signal, LastStates)):
            a, b = _plain(draft, a), _plain(draft, b)
            if kind == "div":
                raise Unconvertible("divides by a computed array")
            if kind == "mul":
                return draft.combine(Multiply(), a, b)
            return draft.combine(Add(), a, draft.scale(b, alpha if kind == "add" else -alpha))
        first = not isinstance(a, (Signal, LastStates))
        signal = _plain(draft, b if first else a)
        other = a if first else b
        value = np.asarray(other if isinstance(other, (int, float)) else numbers(other), np.float64)
        if kind == "div":
            if first:
                raise Unconvertible("divides by a computed array")
            return draft.scale(signal, 1 / value)
        if kind == "mul":
            return draft.scale(signal, value)
        sign = -alpha if kind == "sub" else alpha
        return draft.scale(signal, sign if first else 1.0, value if first else sign * value)

    return operation


def _reduce(function: str) -> Callable[..., Signal]:
    def operation(draft: Draft, given: Any, axes: Any = None, keep: bool = False, **options: Any) -> Signal:
        signal = _plain(draft, given)
        axes = [axes] if isinstance(axes, int) else axes
        if not axes or len(axes) != 1 or not is_steps(signal.dims[axes[0]]):
            raise Unconvertible(f"reduces axes {axes} of an array {shown(signal.dims)}, expected its steps")
        return draft.pool(signal, "max" if function == "max" else "mean", axes[0] % len(signal.dims), keep=keep)

    return operation


def _max(draft: Draft, given: Any, axis: int, keep: bool = False) -> tuple[Signal, None]:
    return _reduce("max")(draft, given, axis, keep), None


def _conv1d(
    draft: Draft, given: Any, weight: Any, bias: Any = None, stride: Any = (1,), padding: Any = (0,), *rest: Any
) -> Signal:
    dilation = rest[0][0] if rest else 1
    groups = rest[1] if len(rest) > 1 else 1
    reach = dilation * (weight.shape[2] - 1)
    before = after = 0 if isinstance(padding, str) else padding[0]
    if padding == "same":
        before, after = same_padding(reach)
    values = None if bias is None else numbers(bias)
    return draft.convolve(
        _plain(draft, given), Convolution(numbers(weight), values, dilation, stride[0], groups, before, after)
    )


def _normalize_batch(draft: Draft, given: Any, weight: Any, bias: Any, mean: Any, variance: Any, *rest: Any) -> Signal:
    signal = _plain(draft, given)
    training, _, eps = (*rest, *(False, 0.1, 1e-5)[len(rest) :])[:3]
    if training or mean is None or variance is None:
        raise Unconvertible("normalizes by the statistics of the batch: give it running statistics and training=False")
    given = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    return draft.batch_norm(signal, 1, {n: None if v is None else numbers(v) for n, v in given.items()}, eps)


def _normalize(draft: Draft, given: Any, shape: list[int], *rest: Any) -> Signal:
    signal = _plain(draft, given)
    weight, bias, eps = (*rest, *(None, None, 1e-5)[len(rest) :])[:3]
    if len(shape) != 1 or signal.dims[-1] != signal.width:
        raise Unconvertible(f"normalizes axes {shape} of an array {shown(signal.dims)}, expected the last")
    own = LayerNorm(signal.width, eps=eps, elementwise_affine=weight is not None, bias=bias is not None)
    given = (("weight", weight), ("bias", bias))
    own.load_state_dict({name: numbers(value) for name, value in given if value is not None})
    return draft.add(own, signal.dims, signal)


def _pad(draft: Draft, given: Any, pads: list[int], mode: str = "constant", value: Any = 0.0) -> Signal:
    signal = _plain(draft, given)
    if len(pads) != 2 or mode != "constant" or value:
        raise Unconvertible(
            f"pads an array {shown(signal.dims)} by {pads}, mode {mode}, expected zeros of its last axis"
        )
    return draft.pad(signal, -1, (pads[0], pads[1]))


def _cat(draft: Draft, signals: list[Any], axis: int = 0) -> Signal:
    return draft.concatenate([_plain(draft, signal) for signal in signals], axis)


def _select(draft: Draft, given: Any, axis: int, at: int) -> Signal:
    if isinstance(given, LastStates) and axis == 0:
        return given.at(draft, at)
    return draft.index(_plain(draft, given), axis, at)


def _slice(draft: Draft, given: Any, axis: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Signal:
    signal = _plain(draft, given)
    return draft.cut(signal, axis, slice(start, None if end is None or end >= 2**31 - 1 else end, step))


def _squeeze(draft: Draft, given: Any, axes: Any = None) -> Signal:
    signal = _plain(draft, given)
    count = len(signal.dims)
    axes = range(count) if axes is None else [axes % count] if isinstance(axes, int) else [i % count for i in axes]
    return replace(signal, dims=tuple(d for i, d in enumerate(signal.dims) if i not in axes or d != 1))


def _unsqueeze(draft: Draft, given: Any, axis: int) -> Signal:
    signal = _plain(draft, given)
    axis %= len(signal.dims) + 1
    return replace(signal, dims=(*signal.dims[:axis], 1, *signal.dims[axis:]))


def _transpose(draft: Draft, given: Any, a: int, b: int) -> Signal:
    signal = _plain(draft, given)
    order = list(range(len(signal.dims)))
    order[a], order[b] = order[b], order[a]
    return draft.transpose(signal, order)


def _view(draft: Draft, given: Any, shape: list[int]) -> Signal:
    signal = _plain(draft, given)
    return replace(signal, dims=reshaped(signal.dims, shape))


def _flatten(draft: Draft, given: Any, start: int = 0, end: int = -1) -> Signal:
    signal = _plain(draft, given)
    count = len(signal.dims)
    start, end = start % count, end % count
    if end == count - 1:
        return draft.flatten(signal, start)
    return replace(signal, dims=reshaped(signal.dims, (*signal.dims[:start], -1, *signal.dims[end + 1 :])))


def _function(name: str, *usual: float) -> Callable[..., Signal]:
    def operation(draft: Draft, given: Any, *rest: Any, approximate: str = "none") -> Signal:
        coefficients, others = rest[: len(usual)], rest[len(usual) :]
        if any(value != (20 if name == "softplus" else 1) for value in others):
            raise Unconvertible(f"is a form of {name} that rnnfast does not have")
        form = "gelu_tanh" if approximate == "tanh" else name
        return draft.part(_plain(draft, given), part_of(form, *coefficients, *usual[len(coefficients) :]))

    return operation


def _clamp(draft: Draft, given: Any, least: float | None = None, most: float | None = None) -> Signal:
    return draft.part(
        _plain(draft, given), part_of("clip", *(_FURTHEST[i] if v is None else v for i, v in enumerate((least, most))))
    )


_FURTHEST = tuple(float(value) for value in (np.finfo(np.float32).min, np.finfo(np.float32).max))


def _softmax(log: bool) -> Callable[..., Signal]:
    return lambda draft, given, axis, *_: draft.softmax(_plain(draft, given), axis, log)


def _windows(function: str) -> Callable[..., Signal]:
    def operation(
        draft: Draft, given: Any, size: list[int], stride: Any = (), padding: Any = (0,), *rest: Any
    ) -> Signal:
        usual: tuple[Any, ...] = ([1], False) if function == "max" else (False, True)
        a, b = (*rest, *usual[len(rest) :])
        dilation, ceil, counts = (a, b, True) if function == "max" else (1, a, b)
        dilation = dilation[0] if isinstance(dilation, (list, tuple)) else dilation
        part = windows_of(
            function, size[0], stride[0] if stride else size[0], (padding[0], padding[0]), counts=counts, dilation=dilation,
            ceil=ceil,
        )  # fmt: skip
        return draft.windows(_plain(draft, given), part, -1)

    return operation


def _same(draft: Draft, given: Any, *_: Any, **__: Any) -> Any:
    return given


def _dropout(draft: Draft, given: Any, share: float, training: bool) -> Any:
    if training and share:
        raise Unconvertible("drops numbers at random: put the module in eval mode, without training=True")
    return given


def _cast(draft: Draft, given: Any, *rest: Any, **options: Any) -> Any:
    kinds = [
        value
        for value in (*rest, *options.values())
        if hasattr(value, "is_floating_point") and hasattr(value, "itemsize")
    ]
    ids = isinstance(given, Signal) and given.pending is None and given.source in draft.inputs and not given.numbers()
    if any(not kind.is_floating_point for kind in kinds) and not ids:
        raise Unconvertible("casts numbers to integers, which rounds them")
    return given


OPERATIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("contiguous", "clone", "alias", "detach", "lift_fresh_copy", "_assert_tensor_metadata"), _same),
    **dict.fromkeys(("to", "_to_copy"), _cast), **dict.fromkeys(("dropout", "feature_dropout"), _dropout),
    **dict.fromkeys(("view", "reshape", "_unsafe_view"), _view),
    **{name: _arithmetic(name) for name in ("add", "sub", "mul", "div")},
    "embedding": lambda draft, table, ids, *_: draft.embed(_plain(draft, ids), numbers(table)),
    "lstm": _rnn("lstm"), "gru": _rnn("gru"), "rnn_tanh": _rnn("rnn"), "rnn_relu": _rnn("rnn_relu"), "linear": _linear,
    "addmm": lambda draft, bias, signal, weight: _linear(draft, signal, weight.t(), bias), "mm": _matmul, "matmul": _matmul,
    "mean": _reduce("mean"), "amax": _reduce("max"), "max": _max, "conv1d": _conv1d, "batch_norm": _normalize_batch,
    "layer_norm": _normalize, "pad": _pad, "constant_pad_nd": lambda draft, signal, pads, value=0.0: _pad(draft, signal, pads, value=value),
    "cat": _cat, "concat": _cat, "select": _select, "slice": _slice, "squeeze": _squeeze, "unsqueeze": _unsqueeze,
    "transpose": _transpose, "permute": lambda draft, signal, order: draft.transpose(_plain(draft, signal), order),
    "flatten": _flatten, "relu": _function("relu"), "relu_": _function("relu"), "tanh": _function("tanh"),
    "sigmoid": _function("sigmoid"), "silu": _function("silu"), "gelu": _function("gelu"),
    "hardsigmoid": _function("hard_sigmoid"), "elu": _function("elu", 1.0), "leaky_relu": _function("leaky_relu", 0.01),
    "relu6": _function("relu6"), "hardtanh": _function("clip", -1.0, 1.0), "clamp": _clamp, "softplus": _function("softplus", 1.0),
    "softmax": _softmax(False), "log_softmax": _softmax(True), "max_pool1d": _windows("max"), "avg_pool1d": _windows("mean"),
}  # fmt: skip
