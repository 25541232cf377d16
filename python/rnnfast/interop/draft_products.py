"""What a network under construction holds: its inputs and layers, and products that are held back and multiplied together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rnnfast.interop.axes import Dims, Unconvertible, shown, width
from rnnfast.interop.inside import Inside
from rnnfast.interop.pending import (
    Affine,
    Convolution,
    Lookup,
    Numbers,
    Pending,
    layer_of,
    refuse_large,
    selection,
)
from rnnfast.models.network import LayerOrPart
from rnnfast.nn.compiled import BatchNorm1d


@dataclass(frozen=True, eq=False)
class Signal:
    """The array that an input or a layer gives, after what is pending."""

    source: str
    dims: Dims
    pending: Pending | Inside = None
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
class Products:
    """Collects layers by name; each reads inputs or earlier layers. What is pending becomes one at last."""

    inputs: dict[str, Signal] = field(default_factory=dict)
    layers: dict[str, tuple[LayerOrPart, list[str]]] = field(default_factory=dict)
    ragged: bool = False  # rows have lengths, and in the foreign network steps beyond them count
    settled: dict[int, tuple[Signal, Signal]] = field(default_factory=dict)  # a signal's, and itself to keep it alive
    inner: dict[tuple[str, int], tuple[Signal, Inside]] = field(default_factory=dict)  # likewise of layers inside steps

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
        if known is None and isinstance(signal.pending, Inside):
            known = self.settled[id(signal)] = (self.settle(self.plain(signal)), signal)
        if known is None:
            assert not isinstance(signal.pending, Inside)
            layer = layer_of(signal.pending)
            ids = len(signal.pending.table) if isinstance(signal.pending, Lookup) else 0
            plain = replace(signal, pending=None, ids=ids)
            known = self.settled[id(signal)] = (self.add(layer, signal.dims, plain), signal)
        return known[0]

    def affine(self, signal: Signal, step: Affine, dims: Dims) -> Signal:
        """W x + b on all numbers of a step in their order."""
        if signal.ids:
            raise Unconvertible("token ids are used as numbers: convert the network from its embedding on")
        signal = self.plain(signal)
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

    def scale(self, signal: Signal, factor: Numbers | float, shift: Numbers | float = 0.0) -> Signal:
        """x · factor + shift, which broadcast over the numbers of a step."""
        scales, shifts = (_of_a_step(np.asarray(value), signal.dims) for value in (factor, shift))
        if scales is None or shifts is None:
            raise Unconvertible(f"a constant that differs between steps or rows meets an array {shown(signal.dims)}")
        if not np.all(np.isfinite(scales)) or not np.all(np.isfinite(shifts)):
            raise Unconvertible("multiplies or shifts by a number that is not finite, as after a division by zero")
        if np.all(scales == 1) and not shifts.any():
            return signal
        inner = signal.pending.scaled(scales, shifts) if isinstance(signal.pending, Inside) else None
        if inner is not None:
            return replace(signal, pending=inner)
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

    def plain(self, signal: Signal) -> Signal:
        """The same signal without layers inside steps that are held back: they are one layer, whose numbers are selected."""
        inside = signal.pending
        if not isinstance(inside, Inside):
            return signal
        key = (signal.source, id(inside.layers))
        if key not in self.inner:
            places, channels = inside.given()
            made = self.add(inside.layer(), (*lead(signal.dims), places * channels), replace(signal, pending=None))
            self.inner[key] = (made, inside)
        return self.select(self.inner[key][0], inside.chosen(), signal.dims)


def lead(dims: Dims) -> Dims:
    """The axes of steps and rows alone."""
    return tuple(d for d in dims if not isinstance(d, int))


def _refuse_shifted_zeros(signal: Signal, shift: Numbers | None) -> None:
    if signal.zeros != (0, 0) and shift is not None:
        raise Unconvertible("zeros are added to the steps and then shifted: shift before padding")


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
