"""A network under construction: foreign operations, one at a time, become layers of rnnfast.

Products with constants, scales, shifts, selections and paddings are held back and multiplied together, so that a normalization ends up in
the convolution before it, and a slice in the product that it cuts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from rnnfast.interop.axes import Axis, Dim, Dims, Merged, Unconvertible, is_steps, reshaped, same, shown, width
from rnnfast.interop.functions import softmax_of
from rnnfast.models.network import LayerOrPart, Network, Sequential
from rnnfast.nn.compiled import BatchNorm1d
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.layer import Layer
from rnnfast.nn.linear import Linear
from rnnfast.nn.parts import Add, AvgPool1d, Concatenate, Flatten, MaxPool1d, Multiply, Part, Pool, Pooling
from rnnfast.nn.sequence import Conv1d
from rnnfast.protocols import Precision

Numbers = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Affine:
    """y = W x + b on the numbers of each step, not yet a layer; ``light``: it selects, scales or shifts only."""

    weight: Numbers  # (outputs, inputs)
    bias: Numbers | None = None
    light: bool = False
    layer: Layer | None = None  # which computes just this

    def after(self, first: Affine) -> Affine:
        """Both in one."""
        weight = self.weight.astype(np.float64) @ first.weight
        bias = None if first.bias is None else self.weight.astype(np.float64) @ first.bias
        if self.bias is not None:
            bias = self.bias if bias is None else bias + self.bias
        return Affine(weight, bias, self.light and first.light)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution over steps, not yet a layer."""

    weight: Numbers  # (outputs, inputs / groups, k)
    bias: Numbers | None = None
    dilation: int = 1
    stride: int = 1
    groups: int = 1
    before: int = 0
    after: int = 0


@dataclass(frozen=True, eq=False)
class Lookup:
    """Rows of a table by token ids, not yet a layer."""

    table: Numbers  # (ids, outputs)


Pending = Union[Affine, Convolution, Lookup, None]


@dataclass(frozen=True, eq=False)
class Signal:
    """The array that an input or a layer gives, after what is pending."""

    source: str
    dims: Dims
    pending: Pending = None
    zeros: tuple[int, int] = (0, 0)  # steps of zeros before and after, for the convolution that reads them
    ids: int = 0  # token ids, that many different ones

    @property
    def width(self) -> int:
        """How many numbers a step has."""
        return width(self.dims)

    def numbers(self) -> list[int]:
        """The places of the axes of numbers among all axes."""
        return [i for i, d in enumerate(self.dims) if isinstance(d, int)]


@dataclass
class Draft:
    """Collects layers by name; each reads inputs or earlier layers."""

    inputs: dict[str, Signal] = field(default_factory=dict)
    layers: dict[str, tuple[LayerOrPart, list[str]]] = field(default_factory=dict)
    settled: dict[int, tuple[Signal, Signal]] = field(default_factory=dict)  # a signal's, and itself to keep it alive

    def input(self, name: str, dims: Dims, *, ids: int = 0) -> Signal:
        """Another input of the network."""
        self.inputs[name] = Signal(name, dims, ids=ids)
        return self.inputs[name]

    def add(self, layer: LayerOrPart, dims: Dims, *read: Signal, kind: str = "") -> Signal:
        """Another layer, which reads signals as they are."""
        kind = kind or type(layer).__name__.lower()
        count = sum(name.rstrip("0123456789") == f"{kind}_" for name in self.layers)
        name = f"{kind}_{count + 1}"
        self.layers[name] = (layer, [self.settle(signal).source for signal in read])
        return Signal(name, dims)

    def settle(self, signal: Signal) -> Signal:
        """The same signal with nothing pending."""
        if signal.zeros != (0, 0):
            raise Unconvertible("zeros are added to the steps of what is not a convolution's input")
        if signal.pending is None:
            return signal
        known = self.settled.get(id(signal))
        if known is None:
            layer = _layer(signal.pending)
            ids = len(signal.pending.table) if isinstance(signal.pending, Lookup) else 0
            plain = replace(signal, pending=None, ids=ids)
            known = self.settled[id(signal)] = (self.add(layer, signal.dims, plain), signal)
        return known[0]

    # Products

    def affine(self, signal: Signal, step: Affine, dims: Dims) -> Signal:
        """W x + b on all numbers of a step in their order."""
        if signal.ids:
            raise Unconvertible("token ids are used as numbers: convert the network from its embedding on")
        pending = signal.pending
        if isinstance(pending, Lookup) and step.light:
            table = pending.table @ step.weight.T.astype(np.float64) + (0 if step.bias is None else step.bias)
            return replace(signal, dims=dims, pending=Lookup(table))
        if isinstance(pending, Convolution) and step.light and _is_diagonal(step.weight):
            scale = np.diagonal(step.weight)
            bias = None if pending.bias is None else pending.bias * scale
            if step.bias is not None:
                bias = step.bias if bias is None else bias + step.bias
            return replace(
                signal, dims=dims, pending=replace(pending, weight=pending.weight * scale[:, None, None], bias=bias)
            )
        if isinstance(pending, Affine) and (step.light or pending.light):
            return replace(signal, dims=dims, pending=step.after(pending))
        if pending is not None or signal.zeros != (0, 0):
            signal = self.settle(signal)
        return replace(signal, dims=dims, pending=step)

    def linear(self, signal: Signal, weight: Numbers, bias: Numbers | None = None) -> Signal:
        """W x + b on the last axis; weight (outputs, inputs)."""
        last = signal.dims[-1] if signal.dims else None
        if not isinstance(last, int) or last != weight.shape[1]:
            raise Unconvertible(f"a product with weights {weight.shape} reads an array {shown(signal.dims)}")
        times = signal.width // last
        step = Affine(weight, bias)
        if times > 1:
            step = Affine(_block_diagonal(weight, times), None if bias is None else np.tile(bias, times))
        return self.affine(signal, step, (*signal.dims[:-1], len(weight)))

    def scale(self, signal: Signal, factor: Numbers | float, shift: Numbers | float = 0.0) -> Signal:
        """x · factor + shift, which broadcast over the numbers of a step."""
        scales, shifts = (_of_a_step(np.asarray(value), signal.dims) for value in (factor, shift))
        if scales is None or shifts is None:
            raise Unconvertible(f"a constant that differs between steps or rows meets an array {shown(signal.dims)}")
        if np.all(scales == 1) and not shifts.any():
            return signal
        if isinstance(signal.pending, Affine) and not signal.pending.light and np.all(scales == 1):
            bias = shifts if signal.pending.bias is None else signal.pending.bias + shifts
            return replace(signal, pending=replace(signal.pending, bias=bias))
        return self.affine(signal, Affine(np.diag(scales), shifts if shifts.any() else None, light=True), signal.dims)

    def batch_norm(self, signal: Signal, axis: int, state: Mapping[str, Numbers | None], eps: float) -> Signal:
        """A batch normalization of an axis of channels by its running statistics; ``state`` has PyTorch's names."""
        if not 0 <= axis < len(signal.dims):
            raise Unconvertible(f"normalizes axis {axis} of an array {shown(signal.dims)}")
        given = {name: None if value is None else value.astype(np.float64) for name, value in state.items()}
        mean, variance = given["running_mean"], given["running_var"]
        assert mean is not None
        assert variance is not None
        weight, bias = given.get("weight"), given.get("bias")
        factor = (np.ones(len(mean)) if weight is None else weight) / np.sqrt(variance + eps)
        shift = (np.zeros(len(mean)) if bias is None else bias) - mean * factor
        shape = [-1 if i == axis else 1 for i in range(len(signal.dims))]
        scaled = self.scale(signal, factor.reshape(shape), shift.reshape(shape))
        pending = scaled.pending
        if signal.pending is None and isinstance(pending, Affine) and signal.width == len(mean) and 0 <= eps < 1:
            layer = BatchNorm1d(len(mean), eps=eps, affine=True)
            weight, bias = (
                np.ones(len(mean)) if weight is None else weight,
                np.zeros(len(mean)) if bias is None else bias,
            )
            layer.load_state_dict({"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance})
            scaled = replace(scaled, pending=replace(pending, layer=layer))
        return scaled

    def select(self, signal: Signal, chosen: Numbers, dims: Dims) -> Signal:
        """Some of the numbers of a step, by their places in it."""
        chosen = chosen.ravel()
        if len(chosen) == signal.width and np.array_equal(chosen, np.arange(signal.width)):
            return replace(signal, dims=dims)
        weight = np.zeros((len(chosen), signal.width), np.float32)
        weight[np.arange(len(chosen)), chosen] = 1
        if isinstance(signal.pending, Convolution):
            pending = signal.pending
            if pending.groups == 1:
                bias = None if pending.bias is None else pending.bias[chosen]
                return replace(signal, dims=dims, pending=replace(pending, weight=pending.weight[chosen], bias=bias))
        if isinstance(signal.pending, Affine):  # rows of it, without a rounding
            bias = None if signal.pending.bias is None else signal.pending.bias[chosen]
            pending_rows = replace(signal.pending, weight=signal.pending.weight[chosen], bias=bias, layer=None)
            return replace(signal, dims=dims, pending=pending_rows)
        return self.affine(signal, Affine(weight, light=True), dims)

    def convolve(self, signal: Signal, given: Convolution) -> Signal:
        """A convolution over the last axis of (rows, channels, places): over steps, or within each step."""
        if len(signal.dims) != 3 or not isinstance(signal.dims[1], int) or signal.ids:
            raise Unconvertible(f"a convolution reads an array {shown(signal.dims)}, expected (rows, channels, steps)")
        first, channels, last = signal.dims
        outputs, reads, _ = given.weight.shape
        if channels != reads * given.groups:
            raise Unconvertible(f"a convolution of {reads * given.groups} channels reads {channels}")
        if isinstance(last, int):
            return self._convolve_within(signal, given, last)
        if not is_steps(last):
            raise Unconvertible("a convolution runs over rows")
        if isinstance(first, int) and first != 1:
            raise Unconvertible(f"a convolution over steps reads an array {shown(signal.dims)}")
        before, after = signal.zeros
        signal = self.settle(replace(signal, zeros=(0, 0)))
        given = replace(given, before=given.before + before, after=given.after + after)
        pending: Pending = given
        pads = given.before + given.after
        if given.weight.shape[2] == 1 and given.stride == given.groups == 1 and not pads:
            pending = Affine(given.weight[:, :, 0], given.bias)
        steps = _shorter(last, given.dilation * (given.weight.shape[2] - 1), given.stride, pads)
        return replace(signal, dims=(first, outputs, steps), pending=pending)

    def _convolve_within(self, signal: Signal, given: Convolution, places: int) -> Signal:
        """A convolution along numbers of each step is one product."""
        outputs, reads, taps = given.weight.shape
        reach = given.dilation * (taps - 1)
        count = (places + given.before + given.after - reach - 1) // given.stride + 1
        if count < 1:
            raise Unconvertible(f"a convolution with {taps} taps reads {places} places")
        inputs, each = reads * given.groups, outputs // given.groups
        weight = np.zeros((outputs, count, inputs, places), np.float32)
        for at in range(count):
            for tap in range(taps):
                place = at * given.stride + tap * given.dilation - given.before
                if 0 <= place < places:
                    for group in range(given.groups):
                        rows, columns = (
                            slice(group * each, (group + 1) * each),
                            slice(group * reads, (group + 1) * reads),
                        )
                        weight[rows, at, columns, place] = given.weight[rows, :, tap]
        bias = None if given.bias is None else np.repeat(given.bias, count)
        step = Affine(weight.reshape(outputs * count, inputs * places), bias)
        return self.affine(signal, step, (signal.dims[0], outputs, count))

    # Layers that see the numbers of a step

    def part(self, signal: Signal, part: Part) -> Signal:
        """A part that keeps the width, such as an activation."""
        return self.add(part, signal.dims, signal)

    def softmax(self, signal: Signal, axis: int, log: bool) -> Signal:
        """The softmax, or its logarithm, over an axis that is all numbers of a step."""
        axis %= len(signal.dims)
        if signal.dims[axis] != signal.width:
            raise Unconvertible(
                f"has a softmax over axis {axis} of an array {shown(signal.dims)}, expected the numbers of a step"
            )
        return self.part(signal, softmax_of(log))

    def windows(self, signal: Signal, part: MaxPool1d | AvgPool1d, axis: int) -> Signal:
        """The maximum or mean of windows of steps, which are an axis."""
        axis %= len(signal.dims)
        dim = signal.dims[axis]
        if not isinstance(dim, Axis) or dim.role != "steps":
            raise Unconvertible(f"pools axis {axis} of an array {shown(signal.dims)}, expected its steps")
        steps = _shorter(dim, part.kernel_size - 1, part.stride, sum(part.padding))
        return self.add(part, (*signal.dims[:axis], steps, *signal.dims[axis + 1 :]), signal)

    def flatten(self, signal: Signal, first: int) -> Signal:
        """All axes from one on in one, steps too if the network fixes how many there are."""
        places = [i for i, d in enumerate(signal.dims) if is_steps(d)]
        others = [d for d in signal.dims[first:] if not is_steps(d) and not isinstance(d, int)]
        if not places or places[0] < first or others:
            return replace(signal, dims=reshaped(signal.dims, (*signal.dims[:first], -1)))
        at, steps = places[0], signal.dims[places[0]]
        size = steps.size if isinstance(steps, Axis) else None
        if size is None:
            raise Unconvertible(f"flattens an array {shown(signal.dims)} without a fixed number of steps")
        rest = (*signal.dims[:at], *signal.dims[at + 1 :])
        whole = self.add(Flatten(size), (Axis("steps"), size, *rest), signal)
        one = self.pool(whole, "last", 0)  # (size, ...), with the numbers of a step behind
        order = [*range(1, at + 1), 0, *range(at + 1, len(signal.dims))]
        one = self.transpose(one, order)
        return replace(one, dims=reshaped(one.dims, (*one.dims[:first], -1)))

    def recurrent(self, signal: Signal, layer: Layer, outputs: int) -> Signal:
        """A recurrent layer over (steps, rows, numbers)."""
        steps, rows, *numbers = signal.dims if len(signal.dims) >= 3 - bool(signal.ids) else (*signal.dims, 0, 0)
        if not is_steps(steps) or is_steps(rows) or (isinstance(rows, (int, Merged)) and rows != 1) or len(numbers) > 1:
            raise Unconvertible(
                f"a recurrent layer reads an array {shown(signal.dims)}, expected (steps, rows, numbers)"
            )
        return self.add(layer, (steps, rows, outputs), signal)

    def embed(self, signal: Signal, table: Numbers) -> Signal:
        """Rows of a table by token ids."""
        if signal.source not in self.inputs or signal.pending is not None:
            raise Unconvertible("the ids of a table's rows are computed, expected an input of the network")
        self.inputs[signal.source] = replace(self.inputs[signal.source], ids=len(table))
        return replace(signal, dims=(*signal.dims, table.shape[1]), pending=Lookup(table), ids=0)

    def combine(self, part: Add | Multiply, *signals: Signal) -> Signal:
        """Sums or products of signals, whose numbers broadcast."""
        most = max((s.dims for s in signals), key=lambda dims: (len(dims), width(dims)))
        return self.add(part, most, *(self._broadcast(s, most) for s in signals))

    def _broadcast(self, signal: Signal, dims: Dims) -> Signal:
        own: Dims = (*(1 for _ in range(len(dims) - len(signal.dims))), *signal.dims)
        fits = all(same(a, b) or a == 1 for a, b in zip(own, dims))
        if not fits or any(not isinstance(b, int) and a == 1 for a, b in zip(own, dims)):
            raise Unconvertible(f"arrays {shown(signal.dims)} and {shown(dims)} meet in one operation")
        sizes = [d for d in own if isinstance(d, int)]
        wanted = [d for d in dims if isinstance(d, int)]
        chosen = np.broadcast_to(np.arange(math.prod(sizes)).reshape(sizes), wanted)
        return self.select(signal, chosen, dims)

    def concatenate(self, signals: Sequence[Signal], axis: int) -> Signal:
        """Side by side along an axis of numbers, which must be the first that is not 1."""
        first = signals[0].dims
        axis %= len(first)
        sizes = [s.dims[axis] for s in signals]
        fits = all(len(s.dims) == len(first) for s in signals) and all(isinstance(d, int) for d in sizes)
        fits = fits and all(same(s.dims[i], d) for s in signals for i, d in enumerate(first) if i != axis)
        if not fits or any(isinstance(d, int) and d != 1 for d in first[:axis]):
            raise Unconvertible(f"arrays {', '.join(shown(s.dims) for s in signals)} are joined along axis {axis}")
        total = sum(d for d in sizes if isinstance(d, int))
        return self.add(Concatenate(), (*first[:axis], total, *first[axis + 1 :]), *signals)

    def pool(self, signal: Signal, function: Pooling, axis: int, *, keep: bool = False) -> Signal:
        """One vector for each row out of all its steps."""
        kept: tuple[Dim, ...] = (1,) if keep else ()
        return self.add(Pool(function), (*signal.dims[:axis], *kept, *signal.dims[axis + 1 :]), signal)

    # Axes

    def transpose(self, signal: Signal, order: Sequence[int]) -> Signal:
        """Axes in another order."""
        dims = tuple(signal.dims[i] for i in order)
        places = signal.numbers()
        ranks = [places.index(i) for i in order if i in places]
        numbers = np.arange(signal.width).reshape([signal.dims[i] for i in places])
        return self.select(signal, numbers.transpose(ranks), dims) if not signal.ids else replace(signal, dims=dims)

    def index(self, signal: Signal, axis: int, at: int) -> Signal:
        """One place of an axis, which goes."""
        dim = signal.dims[axis % len(signal.dims)]
        axis %= len(signal.dims)
        if is_steps(dim):
            size = dim.size if isinstance(dim, Axis) else None
            if at not in (0, -1) and (size is None or at != size - 1):
                raise Unconvertible(f"step {at} of a sequence is read; only the first or the last can be")
            return self.pool(signal, "first" if at == 0 else "last", axis)
        cut = self.cut(signal, axis, slice(at, at + 1 or None))
        return replace(cut, dims=(*cut.dims[:axis], *cut.dims[axis + 1 :]))

    def cut(self, signal: Signal, axis: int, chosen: slice) -> Signal:
        """A slice of an axis."""
        axis %= len(signal.dims)
        dim = signal.dims[axis]
        if isinstance(dim, int):
            places = signal.numbers()
            numbers = np.arange(signal.width).reshape([signal.dims[i] for i in places])
            at = (*(slice(None) for _ in range(places.index(axis))), chosen)
            left = numbers[at]
            return self.select(
                signal, left, (*signal.dims[:axis], left.shape[places.index(axis)], *signal.dims[axis + 1 :])
            )
        start, stop, step = chosen.start or 0, chosen.stop, chosen.step or 1
        size = dim.size if isinstance(dim, Axis) else None
        if stop is not None and (stop >= 2**31 - 1 or stop == size):
            stop = None
        if (start, stop, step) == (0, None, 1):
            return signal
        if is_steps(dim) and step == 1 and stop is None and (start == -1 or start + 1 == size):
            return self.pool(signal, "last", axis, keep=True)
        if is_steps(dim) and (start, stop, step) == (0, 1, 1):
            return self.pool(signal, "first", axis, keep=True)
        pending = signal.pending
        if is_steps(dim) and isinstance(pending, Convolution) and (start, step) == (0, 1) and pending.stride == 1:
            if stop is not None and size is not None and stop > 0:
                stop -= size
            if stop is not None and 0 < -stop <= pending.after:  # what a causal convolution computes too much
                return replace(signal, pending=replace(pending, after=pending.after + stop))
        raise Unconvertible(f"steps or rows [{start}:{'' if stop is None else stop}:{step}] of a sequence are cut out")

    # The result

    def network(self, outputs: Mapping[str, Signal], *, batch_first: bool, weights: Precision = "f32") -> Network:
        """The finished network with the layers that its outputs need; a chain is an ``rf.Sequential``."""
        last = [self.settle(signal).source for signal in outputs.values()]
        needed = self._needed(last)
        layers = {name: entry for name, entry in self.layers.items() if name in needed}
        inputs = {name: signal for name, signal in self.inputs.items() if name in needed}
        if not layers or not inputs:
            raise Unconvertible("the network has no layer with weights or parts of rnnfast")
        order = [next(iter(inputs)), *layers]
        made: Network
        chain = len(inputs) == 1 and last == [order[-1]]
        chain = chain and all(read == [order[i]] for i, (_, read) in enumerate(layers.values()))
        first = next(iter(layers.values()))[0]
        chain = chain and (isinstance(first, Embedding) or not any(s.ids for s in inputs.values()))  # else one-hot
        if chain and any(isinstance(layer, Layer) for layer, _ in layers.values()):
            made = Sequential(*(layer for layer, _ in layers.values()), seed=0)
        else:
            given: dict[str, int | Mapping[str, int]] = {
                name: {"ids": s.ids} if s.ids else s.width for name, s in inputs.items()
            }
            entries = {name: (layer, *read) for name, (layer, read) in layers.items()}
            made = Network(inputs=given, layers=entries, outputs=list(dict.fromkeys(last)), seed=0)
        if weights != "f32":
            state = made.state_dict()
            made = Network.from_config({**made.config, "weights": weights}, {})
            made.load_state_dict(state)
        made.batch_first = batch_first
        return made

    def _needed(self, names: Sequence[str]) -> set[str]:
        found, left = set(names), list(names)
        while left:
            for name in self.layers.get(left.pop(), (None, []))[1]:
                if name not in found:
                    found.add(name)
                    left.append(name)
        return found


@dataclass(frozen=True, eq=False)
class Ends:
    """The state after the last step of a recurrent layer: ``h``, or ``c``, which a network gives in its state alone."""

    outputs: Signal
    hidden_size: int
    forward: bool
    backward: bool
    rows_first: bool
    part: str

    def signal(self, draft: Draft) -> Signal:
        """h (directions, rows, hidden_size)."""
        if self.part == "c":
            raise Unconvertible("the cell state of an LSTM is used as an output, which networks of rnnfast do not give")
        rows, size = self.outputs.dims[1], self.hidden_size
        if self.forward and self.backward:
            last, first = draft.pool(self.outputs, "last", 0), draft.pool(self.outputs, "first", 0)
            halves = draft.cut(last, 1, slice(0, size)), draft.cut(first, 1, slice(size, 2 * size))
            both = draft.concatenate(halves, 1)
        else:
            both = draft.pool(self.outputs, "last" if self.forward else "first", 0)
        directions = 1 + (self.forward and self.backward)
        return replace(both, dims=(rows, directions, size) if self.rows_first else (directions, rows, size))


def _layer(pending: Affine | Convolution | Lookup) -> Layer:
    layer: Linear | Conv1d | Embedding
    if isinstance(pending, Lookup):
        layer = Embedding(*pending.table.shape, seed=0)
        layer.load_state_dict({"weight": pending.table.astype(np.float32)})
        return layer
    if isinstance(pending, Affine):
        if pending.layer is not None:
            return pending.layer
        outputs, inputs = pending.weight.shape
        layer = Linear(inputs, outputs, bias=pending.bias is not None, seed=0)
    else:
        layer = _convolution(pending)
    state = {"weight": pending.weight} if pending.bias is None else {"weight": pending.weight, "bias": pending.bias}
    layer.load_state_dict({name: value.astype(np.float32) for name, value in state.items()})
    return layer


def _convolution(pending: Convolution) -> Conv1d:
    outputs, inputs, taps = pending.weight.shape
    reach = pending.dilation * (taps - 1)
    sides = (pending.before, pending.after)
    padding: int | str | list[int] = sides[0] if sides[0] == sides[1] else list(sides)
    if pending.stride == 1 and sides[0] != sides[1]:
        padding = {(reach, 0): "causal", (reach // 2, reach - reach // 2): "same"}.get(sides, padding)
    return Conv1d(
        inputs * pending.groups, outputs, taps, stride=pending.stride, padding=padding, dilation=pending.dilation,
        groups=pending.groups, bias=pending.bias is not None, seed=0,
    )  # fmt: skip


def _shorter(steps: Axis | Dim, reach: int, stride: int, pads: int) -> Axis:
    """The steps that windows of ``reach`` + 1 give."""
    size = steps.size if isinstance(steps, Axis) else None
    return Axis("steps", None if size is None else (size + pads - reach - 1) // stride + 1)


def _is_diagonal(weight: Numbers) -> bool:
    square = weight.shape[0] == weight.shape[1]
    return square and bool(np.count_nonzero(weight) == np.count_nonzero(np.diagonal(weight)))


def _block_diagonal(weight: Numbers, times: int) -> Numbers:
    return np.kron(np.eye(times, dtype=weight.dtype), weight)


def _of_a_step(value: Numbers, dims: Dims) -> Numbers | None:
    """A constant for every number of a step; None if it differs between steps or rows."""
    shape = (*(1 for _ in range(len(dims) - value.ndim)), *value.shape)
    if len(shape) > len(dims) or any(s != 1 for s, d in zip(shape, dims) if not isinstance(d, int)):
        return None
    sizes = [d for d in dims if isinstance(d, int)]
    given = value.reshape([s for s, d in zip(shape, dims) if isinstance(d, int)])
    if any(s not in (1, d) for s, d in zip(given.shape, sizes)):
        return None
    return np.broadcast_to(given.astype(np.float64), sizes).ravel()
