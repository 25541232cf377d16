"""Layers inside each step that are held back: convolutions along the numbers of a step, and what follows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast.interop.axes import Dims
from rnnfast.interop.pending import Affine, Convolution, layer_of
from rnnfast.models.described import described
from rnnfast.models.network import LayerOrPart
from rnnfast.models.time_distributed import TimeDistributed
from rnnfast.models.widths import inner_shapes
from rnnfast.nn.linear import Linear
from rnnfast.nn.parts import Magnitude, ReflectionPad1d
from rnnfast.nn.sequence import Conv1d


@dataclass(frozen=True, eq=False)
class Inside:
    """A chain inside each step, not yet a layer. It reads (places, channels), and the foreign network reads some of what it gives."""

    layers: tuple[LayerOrPart, ...]
    places: int
    channels: int
    kept_places: tuple[int, int]  # of what the last layer gives
    kept_channels: tuple[int, int]
    channels_first: bool  # in the foreign network a step's numbers are (channels, places), otherwise (places, channels)

    @classmethod
    def of(cls, layers: tuple[LayerOrPart, ...], places: int, channels: int, *, channels_first: bool) -> Inside:
        """All of what the layers give."""
        made = cls(layers, places, channels, (0, 0), (0, 0), channels_first)
        steps, width = made.given()
        return replace(made, kept_places=(0, steps), kept_channels=(0, width))

    def given(self) -> tuple[int, int]:
        """The places and channels that the last layer gives."""
        layers = [_entry(layer) for layer in self.layers]
        return inner_shapes({"steps": self.places, "layers": layers}, self.places * self.channels)[-1]

    def kept(self) -> tuple[int, int]:
        """How many channels and places are kept."""
        return self.kept_channels[1] - self.kept_channels[0], self.kept_places[1] - self.kept_places[0]

    def axes(self, dims: Dims) -> dict[int, str] | None:
        """The axes of channels and places, without those of one number; None if others are mixed with them."""
        found = [i for i, d in enumerate(dims) if isinstance(d, int) and d != 1]
        sizes = list(zip(("channels", "places"), self.kept()))
        wanted = [(name, size) for name, size in (sizes if self.channels_first else sizes[::-1]) if size != 1]
        if [dims[i] for i in found] != [size for _, size in wanted]:
            return None
        return {i: name for i, (name, _) in zip(found, wanted)}

    def fits(self, channels: int, places: int) -> bool:
        """Whether an array (..., channels, places) is what is kept."""
        return self.kept() == (channels, places) and (self.channels_first or 1 in (channels, places))

    def cut(self, name: str, chosen: slice) -> Inside | None:
        """Some of the channels or places; None if they are not next to one another."""
        first, last = self.kept_channels if name == "channels" else self.kept_places
        start, stop, step = chosen.indices(last - first)
        if step != 1 or start >= stop:
            return None
        kept = (first + start, first + stop)
        return replace(self, kept_channels=kept) if name == "channels" else replace(self, kept_places=kept)

    def then(self, layer: LayerOrPart) -> Inside | None:
        """Another layer, if it reads all that the last one gives."""
        whole = self._whole()
        if whole is None:
            return None
        return Inside.of((*whole.layers, layer), self.places, self.channels, channels_first=self.channels_first)

    def scaled(self, factor: NDArray[Any], shift: NDArray[Any]) -> Inside | None:
        """The same times numbers plus numbers of each channel, in the last convolution or linear layer; None if it is another layer."""
        last, (channels, places) = self.layers[-1], self.kept()
        if not isinstance(last, (Conv1d, Linear)) or (places, channels) != self.given():
            return None
        order = (channels, places) if self.channels_first else (places, channels)
        each = [value.reshape(order) if self.channels_first else value.reshape(order).T for value in (factor, shift)]
        if any(np.any(value != value[:, :1]) for value in each):
            return None
        scales, shifts = (value[:, 0] for value in each)
        state = last.state_dict()
        weight = (state["weight"].T * scales).T
        bias = state["bias"] * scales + shifts if "bias" in state else shifts
        pending: Affine | Convolution = Affine(weight, bias)
        if isinstance(last, Conv1d):
            before, after = last.zeros
            pending = Convolution(weight, bias, last.dilation, last.stride, last.groups, before, after)
        return replace(self, layers=(*self.layers[:-1], layer_of(pending)))

    def _whole(self) -> Inside | None:
        """The same with nothing to cut; places that are left out are not computed. None if there is no such form."""
        places, channels = self.given()
        if self.kept_channels != (0, channels):
            return None
        if self.kept_places == (0, places):
            return self
        *before, last = self.layers
        if not isinstance(last, Conv1d) or len(before) > 1 or last.zeros != (0, 0):
            return None
        pads = [0, 0]
        if before:
            if not isinstance(before[0], ReflectionPad1d):
                return None
            pads = list(before[0].padding)
        start, stop = self.kept_places
        end = (stop - 1) * last.stride + last.dilation * (last.kernel_size - 1) + 1
        pads = [pads[0] - start * last.stride, end - pads[0] - self.places]
        if min(pads) < 0:
            return None
        layers = (ReflectionPad1d(pads), last) if any(pads) else (last,)
        return Inside.of(layers, self.places, self.channels, channels_first=self.channels_first)

    def layer(self) -> TimeDistributed:
        """The layer that gives all places and channels."""
        return TimeDistributed(*self.layers, steps=self.places)

    def chosen(self) -> NDArray[Any]:
        """The places of what is kept among the numbers of the layer, in the foreign network's order."""
        numbers = np.arange(np.prod(self.given())).reshape(self.given())
        kept = numbers[slice(*self.kept_places), slice(*self.kept_channels)]
        return (kept.T if self.channels_first else kept).ravel()


def magnitude_of(a: object, b: object) -> Inside | None:
    """√(a² + b²) of the first half of the channels and the second; None for anything else."""
    if not isinstance(a, Inside) or not isinstance(b, Inside) or a.layers is not b.layers:
        return None
    half = a.given()[1] // 2
    same = (a.places, a.channels, a.kept_places, a.channels_first) == (
        b.places,
        b.channels,
        b.kept_places,
        b.channels_first,
    )
    if not same or a.kept_channels != (0, half) or b.kept_channels != (half, 2 * half) or a.given()[1] != 2 * half:
        return None
    return replace(a, kept_channels=(0, 2 * half)).then(Magnitude())


def _entry(layer: LayerOrPart) -> Mapping[str, Any]:
    description = described(layer)
    return {"type": description.type, **description.options}
