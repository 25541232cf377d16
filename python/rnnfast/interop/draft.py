"""A network under construction: foreign operations, one at a time, become layers of rnnfast.

Products with constants, scales, shifts, selections and paddings are held back and multiplied together, so that a normalization ends up in
the convolution before it, and a slice in the product that it cuts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rnnfast.interop.axes import Axis, Dim, Dims, Merged, Unconvertible, is_steps, place, reshaped, same, shown, width
from rnnfast.interop.functions import softmax_of
from rnnfast.interop.pending import (
    Affine,
    Convolution,
    Lookup,
    Numbers,
    Pending,
    block_diagonal,
    layer_of,
    refuse_large,
    selection,
)
from rnnfast.models.network import LayerOrPart, Network, Sequential
from rnnfast.nn.compiled import BatchNorm1d
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.layer import Layer
from rnnfast.nn.parts import Add, AvgPool1d, Concatenate, Flatten, MaxPool1d, Multiply, Part, Pool, Pooling
from rnnfast.protocols import Precision


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
    ragged: bool = False  # rows have lengths, and in the foreign network steps beyond them count
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
            layer = layer_of(signal.pending)
            ids = len(signal.pending.table) if isinstance(signal.pending, Lookup) else 0
            plain = replace(signal, pending=None, ids=ids)
            known = self.settled[id(signal)] = (self.add(layer, signal.dims, plain), signal)
        return known[0]

    # Products

    def affine(self, signal: Signal, step: Affine, dims: Dims) -> Signal:
        """W x + b on all numbers of a step in their order."""
        if signal.ids:
            raise Unconvertible("token ids are used as numbers: convert the network from its embedding on")
        _refuse_shifted_zeros(signal, step.bias)
        pending = signal.pending
        if isinstance(pending, Lookup) and step.light:
            table = pending.table @ step.weight.T.astype(np.float64) + (0 if step.bias is None else step.bias)
            return replace(signal, dims=dims, pending=Lookup(table))
        if isinstance(pending, Affine) and (step.light or pending.light):
            return replace(signal, dims=dims, pending=step.after(pending))
        if pending is not None:
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
            refuse_large(times * len(weight), signal.width)
            step = Affine(block_diagonal(weight, times), None if bias is None else np.tile(bias, times))
        return self.affine(signal, step, (*signal.dims[:-1], len(weight)))

    def scale(self, signal: Signal, factor: Numbers | float, shift: Numbers | float = 0.0) -> Signal:
        """x · factor + shift, which broadcast over the numbers of a step."""
        scales, shifts = (_of_a_step(np.asarray(value), signal.dims) for value in (factor, shift))
        if scales is None or shifts is None:
            raise Unconvertible(f"a constant that differs between steps or rows meets an array {shown(signal.dims)}")
        if not np.all(np.isfinite(scales)) or not np.all(np.isfinite(shifts)):
            raise Unconvertible("multiplies or shifts by a number that is not finite, as after a division by zero")
        if np.all(scales == 1) and not shifts.any():
            return signal
        pending, bias = signal.pending, shifts if shifts.any() else None
        if isinstance(pending, (Affine, Convolution)):
            _refuse_shifted_zeros(signal, bias)
            own = None if pending.bias is None else pending.bias * scales
            bias = own if bias is None else bias if own is None else own + bias
            weight = pending.weight if np.all(scales == 1) else (pending.weight.T * scales).T
            scaled = replace(pending, weight=weight, bias=bias)
            return replace(signal, pending=replace(scaled, layer=None) if isinstance(scaled, Affine) else scaled)
        if isinstance(pending, Lookup) and not signal.ids:
            _refuse_shifted_zeros(signal, bias)
            return replace(signal, pending=Lookup(pending.table * scales + (0 if bias is None else bias)))
        refuse_large(len(scales), len(scales))
        return self.affine(signal, Affine(np.diag(scales), bias, light=True), signal.dims)

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
        if not len(chosen):
            raise Unconvertible(f"no number of an array {shown(signal.dims)} is left")
        if isinstance(signal.pending, Convolution):
            pending = signal.pending
            if pending.groups == 1:
                bias = None if pending.bias is None else pending.bias[chosen]
                return replace(signal, dims=dims, pending=replace(pending, weight=pending.weight[chosen], bias=bias))
        if isinstance(signal.pending, Affine):  # rows of it, without a rounding
            bias = None if signal.pending.bias is None else signal.pending.bias[chosen]
            pending_rows = replace(signal.pending, weight=signal.pending.weight[chosen], bias=bias, layer=None)
            return replace(signal, dims=dims, pending=pending_rows)
        return self.affine(signal, Affine(selection(chosen, signal.width), light=True), dims)

    def pad(self, signal: Signal, axis: int, pads: tuple[int, int], mode: str = "constant") -> Signal:
        """Zeros before and after the steps, for the convolution that reads them, or more numbers in each step."""
        axis = place(signal.dims, axis)
        dim = signal.dims[axis]
        if min(pads) < 0:
            raise Unconvertible(f"pads axis {axis} by {pads[0]} and {pads[1]}, which cuts it: slice it instead")
        if is_steps(dim) and mode == "constant":
            return replace(signal, zeros=(signal.zeros[0] + pads[0], signal.zeros[1] + pads[1]))
        if not isinstance(dim, int):
            raise Unconvertible(f"pads axis {axis} of an array {shown(signal.dims)} by mode={mode}")
        if mode not in ("constant", "reflect", "edge", "wrap"):
            raise Unconvertible(f"pads by mode={mode}, expected constant, reflect, edge or wrap")
        places = signal.numbers()
        refuse_large(signal.width // dim * (dim + sum(pads)), signal.width)
        numbers = np.arange(signal.width).reshape([signal.dims[i] for i in places])
        each = [pads if i == axis else (0, 0) for i in places]
        options = {"constant_values": -1} if mode == "constant" else {}
        chosen = np.pad(numbers, each, mode=mode, **options).ravel()  # type: ignore[call-overload]
        dims = (*signal.dims[:axis], dim + sum(pads), *signal.dims[axis + 1 :])
        return self.affine(signal, Affine(selection(chosen, signal.width), light=True), dims)

    def mean(self, signal: Signal, axis: int) -> Signal:
        """The mean over an axis of numbers, which becomes 1."""
        axis = place(signal.dims, axis)
        dim = signal.dims[axis]
        if not isinstance(dim, int):
            raise Unconvertible(f"reduces axis {axis} of an array {shown(signal.dims)}")
        if dim == 1:
            return signal
        sizes = [d for d in signal.dims if isinstance(d, int)]
        refuse_large(signal.width, signal.width)
        weight = np.eye(signal.width).reshape(*sizes, signal.width).mean(signal.numbers().index(axis))
        dims = (*signal.dims[:axis], 1, *signal.dims[axis + 1 :])
        return self.affine(signal, Affine(weight.reshape(-1, signal.width), light=True), dims)

    def convolve(self, signal: Signal, given: Convolution) -> Signal:
        """A convolution over the last axis of (rows, channels, places): over steps, or within each step."""
        if len(signal.dims) != 3 or not isinstance(signal.dims[1], int) or signal.ids:
            raise Unconvertible(f"a convolution reads an array {shown(signal.dims)}, expected (rows, channels, steps)")
        first, channels, last = signal.dims
        outputs, reads, taps = given.weight.shape
        if min(taps, given.stride, given.dilation, given.groups) < 1 or outputs % given.groups:
            raise Unconvertible(
                f"a convolution has stride {given.stride}, dilation {given.dilation}, {given.groups} groups of {outputs} outputs"
            )
        if min(given.before, given.after) < 0:
            raise Unconvertible(f"a convolution pads by {given.before} and {given.after}, expected 0 or more")
        if channels != reads * given.groups:
            raise Unconvertible(f"a convolution of {reads * given.groups} channels reads {channels}")
        if isinstance(last, int):
            return self._convolve_within(signal, given, last)
        if not is_steps(last):
            raise Unconvertible("a convolution runs over rows")
        if isinstance(first, int) and first != 1:
            raise Unconvertible(f"a convolution over steps reads an array {shown(signal.dims)}")
        before, after = signal.zeros
        signal = self.settle(replace(signal, zeros=(0, 0)) if before or after else signal)
        given = replace(given, before=given.before + before, after=given.after + after)
        pending: Pending = given
        pads = given.before + given.after
        if taps > 1 or given.stride > 1 or pads:
            self.refuse_ragged()
        if given.weight.shape[2] == 1 and given.stride == given.groups == 1 and not pads:
            pending = Affine(given.weight[:, :, 0], given.bias)
        if max(given.before, given.after) > given.dilation * (taps - 1):
            raise Unconvertible(
                f"a convolution over {given.dilation * (taps - 1) + 1} steps pads by {given.before} and {given.after}, expected less than"
                " that: rnnfast computes no steps of zeros alone"
            )
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
        refuse_large(outputs * count, inputs * places)
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
        axis = place(signal.dims, axis)
        if signal.dims[axis] != signal.width:
            raise Unconvertible(
                f"has a softmax over axis {axis} of an array {shown(signal.dims)}, expected the numbers of a step"
            )
        return self.part(signal, softmax_of(log))

    def windows(self, signal: Signal, part: MaxPool1d | AvgPool1d, axis: int) -> Signal:
        """The maximum or mean of windows of steps, which are an axis."""
        axis = place(signal.dims, axis)
        dim = signal.dims[axis]
        self.refuse_ragged()
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
        axis = place(first, axis)
        sizes = [s.dims[axis] for s in signals]
        fits = all(len(s.dims) == len(first) for s in signals) and all(isinstance(d, int) for d in sizes)
        fits = fits and all(same(s.dims[i], d) for s in signals for i, d in enumerate(first) if i != axis)
        if not fits or any(isinstance(d, int) and d != 1 for d in first[:axis]):
            raise Unconvertible(f"arrays {', '.join(shown(s.dims) for s in signals)} are joined along axis {axis}")
        total = sum(d for d in sizes if isinstance(d, int))
        return self.add(Concatenate(), (*first[:axis], total, *first[axis + 1 :]), *signals)

    def pool(
        self, signal: Signal, function: Pooling, axis: int, *, keep: bool = False, to_length: bool = False
    ) -> Signal:
        """One vector for each row out of all its steps; ``to_length``: out of those that the row has."""
        if not to_length:
            self.refuse_ragged()
        axis = place(signal.dims, axis)
        kept: tuple[Dim, ...] = (1,) if keep else ()
        return self.add(Pool(function), (*signal.dims[:axis], *kept, *signal.dims[axis + 1 :]), signal)

    # Axes

    def transpose(self, signal: Signal, order: Sequence[int]) -> Signal:
        """Axes in another order."""
        order = [place(signal.dims, i) for i in order]
        if sorted(order) != list(range(len(signal.dims))):
            raise Unconvertible(f"puts the axes of an array {shown(signal.dims)} in the order {order}")
        dims = tuple(signal.dims[i] for i in order)
        places = signal.numbers()
        ranks = [places.index(i) for i in order if i in places]
        numbers = np.arange(signal.width).reshape([signal.dims[i] for i in places])
        return self.select(signal, numbers.transpose(ranks), dims) if not signal.ids else replace(signal, dims=dims)

    def index(self, signal: Signal, axis: int, at: int) -> Signal:
        """One place of an axis, which goes."""
        axis = place(signal.dims, axis)
        dim = signal.dims[axis]
        if isinstance(dim, int) and not -dim <= at < dim:
            raise Unconvertible(f"place {at} of axis {axis} of an array {shown(signal.dims)} is read")
        if is_steps(dim):
            size = dim.size if isinstance(dim, Axis) else None
            if at not in (0, -1) and (size is None or at != size - 1):
                raise Unconvertible(f"step {at} of a sequence is read; only the first or the last can be")
            return self.pool(signal, "first" if at == 0 else "last", axis)
        cut = self.cut(signal, axis, slice(at, at + 1 or None))
        return replace(cut, dims=(*cut.dims[:axis], *cut.dims[axis + 1 :]))

    def cut(self, signal: Signal, axis: int, chosen: slice) -> Signal:
        """A slice of an axis."""
        axis = place(signal.dims, axis)
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
        size = None if size is None else size + sum(signal.zeros) * is_steps(dim)
        if stop is not None and (stop >= 2**31 - 1 or stop == size):
            stop = None
        if (start, stop, step) == (0, None, 1):
            return signal
        if is_steps(dim) and step == 1 and stop is None and (start == -1 or start + 1 == size):
            return self.pool(signal, "last", axis, keep=True)
        if is_steps(dim) and (start, stop, step) == (0, 1, 1):
            return self.pool(signal, "first", axis, keep=True)
        if is_steps(dim) and (start, step) == (0, 1) and stop is not None:
            shorter = self._without_last(signal, size - stop if size is not None and stop > 0 else -stop)
            if shorter is not None:
                return shorter
        raise Unconvertible(f"steps or rows [{start}:{'' if stop is None else stop}:{step}] of a sequence are cut out")

    def _without_last(self, signal: Signal, steps: int) -> Signal | None:
        """Without the last steps, of zeros or of what a causal convolution computes too much; None if they are others."""
        before, after = signal.zeros
        pending = signal.pending
        if 0 < steps <= after:
            return replace(signal, zeros=(before, after - steps))
        if isinstance(pending, Convolution) and pending.stride == 1 and not after and 0 < steps <= pending.after:
            return replace(signal, pending=replace(pending, after=pending.after - steps))
        return None

    def refuse_ragged(self) -> None:
        """Refuses what reads several steps if rows have lengths."""
        if self.ragged:
            raise Unconvertible(
                "reads steps of rows with lengths: there the steps beyond a row's length count, and in rnnfast they do not"
            )

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
            last = draft.pool(self.outputs, "last", 0, to_length=True)
            first = draft.pool(self.outputs, "first", 0, to_length=True)
            halves = draft.cut(last, 1, slice(0, size)), draft.cut(first, 1, slice(size, 2 * size))
            both = draft.concatenate(halves, 1)
        else:
            both = draft.pool(self.outputs, "last" if self.forward else "first", 0, to_length=True)
        directions = 1 + (self.forward and self.backward)
        return replace(both, dims=(rows, directions, size) if self.rows_first else (directions, rows, size))


def _refuse_shifted_zeros(signal: Signal, shift: Numbers | None) -> None:
    if signal.zeros != (0, 0) and shift is not None:
        raise Unconvertible("zeros are added to the steps and then shifted: shift before padding")


def _shorter(steps: Axis | Dim, reach: int, stride: int, pads: int) -> Axis:
    """The steps that windows of ``reach`` + 1 give."""
    size = steps.size if isinstance(steps, Axis) else None
    if size is None:
        return Axis("steps")
    count = (size + pads - reach - 1) // stride + 1
    if count < 1:
        raise Unconvertible(f"windows of {reach + 1} steps read {size + pads} steps")
    return Axis("steps", count)


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
