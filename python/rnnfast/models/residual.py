"""Residual blocks: layers in one, which a network takes apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rnnfast._expect import kind_of
from rnnfast.nn.layer import Layer
from rnnfast.nn.parts import Add, Part


class Residual(Part):
    """x + f(x), where f is the chain of the given layers; for ``rf.Sequential`` and ``rf.Network``.

    The last layer gives as many numbers as the first one reads. A network holds the layers as ``"name.0"``, ``"name.1"``, ... and their sum
    as ``"name"``, so a file of a chain with such a block is read as an ``rf.Network``. ``TypeError`` for what is not a layer of ``rf.nn``.

    >>> import rnnfast as rf
    >>> net = rf.Sequential(rf.Linear(3, 8, seed=0), rf.Residual(rf.LayerNorm(8), rf.GRU(8, 8, seed=1)))
    >>> net
    Sequential(0: linear, 1.0: layer_norm, 1.1: gru, 1: add)
    """

    kind = "residual"

    def __init__(self, *layers: Layer | Part) -> None:
        if not layers:
            raise ValueError("a Residual has no layers: expected at least one")
        for layer in layers:
            if not isinstance(layer, (Layer, Part)):
                raise TypeError(f"{kind_of(layer)} cannot be part of a network: give layers of rf.nn")
        self.layers = layers

    def __repr__(self) -> str:
        return f"Residual({', '.join(map(repr, self.layers))})"


def leaves(layers: Iterable[Layer | Part]) -> Iterator[Layer | Part]:
    """The layers of a chain, and those inside its blocks."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from leaves(layer.layers)
        else:
            yield layer


def unfolded(inputs: Sequence[str], layers: Mapping[str, object]) -> dict[str, tuple[Any, ...]]:
    """Each layer by name with the names that it reads, if it names any; the layers of a block come before their sum."""
    found: dict[str, tuple[Any, ...]] = {}
    before = inputs[0] if inputs else ""
    for name, given in layers.items():
        layer, *read = given if isinstance(given, tuple) and given else (given,)
        new = {name: (layer, *read)}
        if isinstance(layer, Residual):
            if len(read) > 1:
                raise ValueError(f"layer {name!r}, a Residual, reads {', '.join(map(repr, read))}: expected one name")
            source = read[0] if read else before
            inner: dict[str, object] = {f"{name}.{i}": part for i, part in enumerate(layer.layers)}
            inner[f"{name}.0"] = (layer.layers[0], source)
            new = {**unfolded([source], inner), name: (Add(), source, list(inner)[-1])}
        for each in new:
            if each in found:
                raise ValueError(f"two layers are called {each!r}: give the block or the layer another name")
        found.update(new)
        before = name
    return found
