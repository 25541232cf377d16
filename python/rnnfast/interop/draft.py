"""A network under construction: foreign operations, one at a time, become layers of rnnfast.

Products with constants, scales, shifts, selections and paddings are held back and multiplied together, so that a normalization ends up in
the convolution before it, and a slice in the product that it cuts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rnnfast.interop.axes import Axis, Dim, Dims, Merged, Unconvertible, is_steps, place, reshaped, same, shown, width
from rnnfast.interop.draft_products import Products, lead
from rnnfast.interop.draft_products import Signal as Signal
from rnnfast.interop.functions import softmax_of
from rnnfast.interop.inside import Inside, magnitude_of
from rnnfast.interop.pending import (
    Affine,
    Convolution,
    Lookup,
    Numbers,
    Pending,
    block_diagonal,
    layer_of,
    refuse_large,
    same_matrix,
    selection,
)
from rnnfast.models.network import Network, Sequential
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.layer import Layer
from rnnfast.nn.parts import (
    Activation,
    Add,
    AvgPool1d,
    Concatenate,
    Flatten,
    Magnitude,
    MaxPool1d,
    Multiply,
    Part,
    Pool,
    Pooling,
    ReflectionPad1d,
    Scale,
)
from rnnfast.protocols import Precision


class Draft(Products):
    """Collects layers by name; each reads inputs or earlier layers."""

    # Products

    def linear(self, signal: Signal, weight: Numbers, bias: Numbers | None = None) -> Signal:
        """W x + b on the last axis; weight (outputs, inputs)."""
        last = signal.dims[-1] if signal.dims else None
        if not isinstance(last, int) or last != weight.shape[1]:
            raise Unconvertible(f"a product with weights {weight.shape} reads an array {shown(signal.dims)}")
        if isinstance(signal.pending, Inside) and self._last_is_channels(signal):
            inner = signal.pending.then(layer_of(Affine(weight, bias)))
            if inner is not None:
                return replace(signal, dims=(*signal.dims[:-1], len(weight)), pending=inner)
        times = signal.width // last
        step = Affine(weight, bias)
        if times > 1:
            refuse_large(times * len(weight), signal.width)
            step = Affine(block_diagonal(weight, times), None if bias is None else np.tile(bias, times))
        return self.affine(signal, step, (*signal.dims[:-1], len(weight)))

    def pad(self, signal: Signal, axis: int, pads: tuple[int, int], mode: str = "constant") -> Signal:
        """Zeros before and after the steps, for the convolution that reads them, or more numbers in each step."""
        axis = place(signal.dims, axis)
        dim = signal.dims[axis]
        if min(pads) < 0:
            raise Unconvertible(f"pads axis {axis} by {pads[0]} and {pads[1]}, which cuts it: slice it instead")
        if is_steps(dim) and mode == "constant":
            return replace(signal, zeros=(signal.zeros[0] + pads[0], signal.zeros[1] + pads[1]))
        if is_steps(dim) and mode == "reflect":
            self.refuse_ragged()
            size = dim.size if isinstance(dim, Axis) else None
            steps = Axis("steps", None if size is None else size + sum(pads))
            return self.add(ReflectionPad1d(pads), (*signal.dims[:axis], steps, *signal.dims[axis + 1 :]), signal)
        if not isinstance(dim, int):
            raise Unconvertible(f"pads axis {axis} of an array {shown(signal.dims)} by mode={mode}")
        if mode == "reflect" and max(pads) < dim:
            signal, inner = self._reflected(signal, axis, pads)
            if inner is not None:
                dims = (*signal.dims[:axis], dim + sum(pads), *signal.dims[axis + 1 :])
                return replace(signal, dims=dims, pending=inner)
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
        """A convolution along numbers of each step is a layer inside it, or one product."""
        outputs, reads, taps = given.weight.shape
        reach = given.dilation * (taps - 1)
        count = (places + given.before + given.after - reach - 1) // given.stride + 1
        if count < 1:
            raise Unconvertible(f"a convolution with {taps} taps reads {places} places")
        inputs, each = reads * given.groups, outputs // given.groups
        if max(given.before, given.after) <= reach and (places > 1 or taps > 1):
            signal, inner = self._started(signal, inputs, places)
            inner = None if inner is None else inner.then(layer_of(given))
            if inner is not None:
                return replace(signal, dims=(signal.dims[0], outputs, count), pending=inner)
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

    # Layers inside each step

    def _started(self, signal: Signal, channels: int, places: int) -> tuple[Signal, Inside | None]:
        """What a convolution along places of each step follows: other layers, or none so far; None if it needs another order of numbers."""
        if isinstance(signal.pending, Inside) and signal.pending.fits(channels, places):
            return signal, signal.pending
        signal = self.plain(signal)
        pending = signal.pending
        empty = Inside.of((), places, channels, channels_first=True)
        order = np.arange(signal.width).reshape(places, channels).T
        if (
            isinstance(pending, Affine)
            and pending.light
            and pending.bias is None
            and same_matrix(pending.weight, order)
        ):
            return replace(signal, pending=None), empty
        if isinstance(pending, Affine) and pending.light:
            return signal, None
        if 1 not in (channels, places):  # the rows of a product can have any order
            if pending is None or (isinstance(pending, Convolution) and pending.groups > 1):
                return signal, None
            signal = self.select(signal, np.arange(signal.width).reshape(channels, places).T, signal.dims)
        return self.settle(signal), empty

    def _reflected(self, signal: Signal, axis: int, pads: tuple[int, int]) -> tuple[Signal, Inside | None]:
        """More places of each step that mirror those next to its ends; None if they are not an axis of places."""
        layer, numbers = ReflectionPad1d(pads), [i for i in signal.numbers() if signal.dims[i] != 1]
        axes = signal.pending.axes(signal.dims) if isinstance(signal.pending, Inside) else None
        if isinstance(signal.pending, Inside) and axes is not None and axes.get(axis) == "places":
            return signal, signal.pending.then(layer)
        signal = self.plain(signal)
        light = isinstance(signal.pending, Affine) and signal.pending.light
        if signal.ids or light or len(numbers) > 2 or numbers[0] != axis:
            return signal, None
        size = signal.dims[axis]
        assert isinstance(size, int)
        channels = signal.width // size
        return self.settle(signal), Inside.of((layer,), size, channels, channels_first=channels == 1)

    def _last_is_channels(self, signal: Signal) -> bool:
        axes = signal.pending.axes(signal.dims) if isinstance(signal.pending, Inside) else None
        return axes is not None and axes.get(len(signal.dims) - 1) == "channels"

    def magnitude(self, a: Signal, b: Signal) -> Signal:
        """√(a² + b²)."""
        if a.dims != b.dims:
            raise Unconvertible(f"arrays {shown(a.dims)} and {shown(b.dims)} meet in one operation")
        inner = magnitude_of(a.pending, b.pending) if a.source == b.source else None
        if inner is not None:
            return replace(a, pending=inner)
        both = self.add(Concatenate(), (*lead(a.dims), 2 * a.width), a, b)
        return self.add(Magnitude(), a.dims, both)

    def magnitude_of_halves(self, signal: Signal) -> Signal:
        """√(a² + b²) of the halves of the last axis."""
        last = signal.dims[-1]
        if not isinstance(last, int) or last % 2:
            raise Unconvertible(f"reads an array {shown(signal.dims)}, expected an even count of numbers")
        dims = (*signal.dims[:-1], last // 2)
        if isinstance(signal.pending, Inside) and self._last_is_channels(signal):
            inner = signal.pending.then(Magnitude())
            if inner is not None:
                return replace(signal, dims=dims, pending=inner)
        if last != signal.width:
            return self.magnitude(
                *(self.cut(signal, -1, half) for half in (slice(0, last // 2), slice(last // 2, last)))
            )
        return self.add(Magnitude(), dims, signal)

    # Layers that see the numbers of a step

    def part(self, signal: Signal, part: Part) -> Signal:
        """A part that keeps the width, such as an activation."""
        if isinstance(signal.pending, Inside) and isinstance(part, (Activation, Scale)):
            inner = signal.pending.then(part)
            if inner is not None:
                return replace(signal, pending=inner)
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
        axes = signal.pending.axes(signal.dims) if isinstance(signal.pending, Inside) else None
        if isinstance(signal.pending, Inside) and axes is not None:
            turned = [axes[i] for i in order if i in axes] != list(axes.values())
            pending = replace(signal.pending, channels_first=signal.pending.channels_first != turned)
            return replace(signal, dims=dims, pending=pending)
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
        axes = signal.pending.axes(signal.dims) if isinstance(signal.pending, Inside) else None
        if isinstance(signal.pending, Inside) and axes is not None and axis in axes and isinstance(dim, int):
            some = signal.pending.cut(axes[axis], chosen)
            if some is not None:
                length = len(range(dim)[chosen])
                return replace(signal, dims=(*signal.dims[:axis], length, *signal.dims[axis + 1 :]), pending=some)
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


def _shorter(steps: Axis | Dim, reach: int, stride: int, pads: int) -> Axis:
    """The steps that windows of ``reach`` + 1 give."""
    size = steps.size if isinstance(steps, Axis) else None
    if size is None:
        return Axis("steps")
    count = (size + pads - reach - 1) // stride + 1
    if count < 1:
        raise Unconvertible(f"windows of {reach + 1} steps read {size + pads} steps")
    return Axis("steps", count)
