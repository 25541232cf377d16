"""Layers inside each step: a chain that reads the numbers of a step as a short sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rnnfast._arrays import positive
from rnnfast._expect import kind_of
from rnnfast.models.described import Description, described
from rnnfast.models.residual import Residual
from rnnfast.models.widths import first_width, inner_shapes
from rnnfast.nn.layer import Layer
from rnnfast.nn.parts import Part


class TimeDistributed(Part):
    """The chain of the given layers applied to each step, whose numbers are an inner sequence of ``steps`` steps.

    A step of D numbers is read as (``steps``, D / ``steps``). What the layers make of it, (steps', D'), becomes the step's steps' · D' numbers,
    one inner step after another. Nothing passes from one step of the network to the next, so a stream can run the layers even if they look ahead
    or have a stride: they turn frames of samples into spectra, for example, in front of a recurrent layer.

    Layers: ``Conv1d``, pools and pooled windows, ``ReflectionPad1d``, ``Flatten``, ``Linear``, norms, activations, ``Scale`` and ``Magnitude``.
    Dropout, recurrent layers and attention stand before or after it. In a network, parameters are called ``"name.0.weight"``, ...

    Raises ``TypeError`` for what is not a layer of ``rf.nn``, and ``ValueError`` for a layer that reads another width than the one before it
    gives, or more steps.

    >>> import numpy as np
    >>> import rnnfast as rf
    >>> spectra = TimeDistributed(rf.Conv1d(1, 6, 8, stride=4, seed=0), rf.Magnitude(), steps=16)
    >>> net = rf.Sequential(spectra, rf.GRU(9, 5, seed=1))
    >>> net(np.ones((7, 2, 16))).shape
    (7, 2, 5)
    """

    kind = "time_distributed"

    def __init__(self, *layers: Layer | Part, steps: int) -> None:
        if not layers:
            raise ValueError("a TimeDistributed has no layers: expected at least one")
        for layer in layers:
            if not isinstance(layer, (Layer, Part)) or isinstance(layer, Residual):
                raise TypeError(f"{kind_of(layer)} cannot be inside a TimeDistributed: give layers of rf.nn")
        self.layers, self.steps = layers, positive(steps, "steps")
        self._check()

    def _check(self) -> None:
        """Each layer reads what the one before it gives."""
        width = first_width(self.layers)
        if not isinstance(width, int):
            return
        options = self.options()["layers"]
        shapes = inner_shapes({"steps": self.steps, "layers": options}, self.steps * width)
        for i, layer in enumerate(self.layers):
            reads, given = described(layer).reads, shapes[i][1]
            if reads is not None and reads != given:
                raise ValueError(
                    f"layer {i}, {layer!r}, reads {reads} numbers a step, but the one before it gives {given}"
                )
            if shapes[i + 1][0] < 1:
                raise ValueError(f"layer {i}, {layer!r}, needs more than the {shapes[i][0]} steps it reads")

    def options(self) -> dict[str, Any]:
        each = map(described, self.layers)
        return {"steps": self.steps, "layers": [{"type": d.type, **d.options} for d in each]}

    def __repr__(self) -> str:
        return f"TimeDistributed({', '.join(map(repr, self.layers))}, steps={self.steps})"


@described.register
def _(layer: TimeDistributed) -> Description:
    width = first_width(layer.layers)
    return Description(layer.kind, layer.options(), layer.steps * width if isinstance(width, int) else None)


def every_layer(layers: Mapping[str, object]) -> dict[str, object]:
    """Layers by name, those inside steps instead of what holds them."""
    found: dict[str, object] = {}
    for name, layer in layers.items():
        if isinstance(layer, TimeDistributed):
            found.update((f"{name}.{i}", each) for i, each in enumerate(layer.layers))
        else:
            found[name] = layer
    return found


def inner_entries(entry: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The descriptions of the layers inside the steps of a described layer, with their names; none for most layers."""
    return [{"name": f"{entry['name']}.{i}", **inner} for i, inner in enumerate(entry.get("layers", ()))]


def inner_steps(entry: Mapping[str, Any], width: int) -> list[tuple[str, int]]:
    """How often the layers inside a step use their weights: the beginning of their parameters' names, and the steps that they give."""
    if entry["type"] != TimeDistributed.kind:
        return []
    shapes = inner_shapes(entry, width)[1:]
    return [(f"{inner['name']}.", steps) for inner, (steps, _) in zip(inner_entries(entry), shapes)]
