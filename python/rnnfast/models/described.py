"""Layers as data: what a network's description holds of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch

from rnnfast._expect import kind_of
from rnnfast.nn.compiled import CompiledLayer
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.linear import Linear
from rnnfast.nn.norm import LayerNorm, RMSNorm
from rnnfast.nn.parts import Part
from rnnfast.nn.recurrent import Recurrent
from rnnfast.nn.sequence import Conv1d, SelfAttention


@dataclass(frozen=True)
class Description:
    """A layer as data: its type and options in the description of a network, and the width that it reads."""

    type: str
    options: Mapping[str, object]
    reads: int | None = None  # None: any width
    ids: bool = False  # it reads token ids, that many different ones


@singledispatch
def described(layer: object) -> Description:
    """The layer as data. ``TypeError`` for objects that cannot be part of a network."""
    raise TypeError(f"{kind_of(layer)} cannot be part of a network: give layers of rf.nn")


@described.register
def _(layer: Part) -> Description:
    return Description(layer.kind, layer.options())


@described.register
def _(layer: CompiledLayer) -> Description:
    return Description(layer.kind, layer.options(), layer.reads)


@described.register
def _(layer: Embedding) -> Description:
    return Description("embedding", {"embedding_dim": layer.embedding_dim}, layer.num_embeddings, ids=True)


@described.register
def _(layer: Recurrent) -> Description:
    options = {
        "cell": layer._cell, "hidden_size": layer.hidden_size, "num_layers": layer.num_layers, "bias": layer.bias,
        "bidirectional": layer.bidirectional, "dropout": layer.dropout, "variational": layer.variational,
        "recompute": layer.recompute is not None,
    }  # fmt: skip
    if layer._window > 1:
        options["window"] = layer._window
    return Description("recurrent", options, layer.input_size)


@described.register
def _(layer: Linear) -> Description:
    options = {"out_features": layer.out_features, "bias": layer.bias}
    return Description("linear", options, layer.in_features)


@described.register
def _(layer: LayerNorm) -> Description:
    affine = layer.elementwise_affine
    options = {"eps": layer.eps, "weight": affine, "bias": affine and layer.bias}
    return Description("layer_norm", options, layer.normalized_size)


@described.register
def _(layer: RMSNorm) -> Description:
    options = {"eps": layer.eps, "weight": layer.elementwise_affine, "bias": False, "centered": False}
    return Description("layer_norm", options, layer.normalized_size)


@described.register
def _(layer: Conv1d) -> Description:
    before, after = layer.zeros
    options = {
        "out_channels": layer.out_channels, "kernel_size": layer.kernel_size, "dilation": layer.dilation, "before": before,
        "after": after, "bias": layer.bias, "stride": layer.stride, "groups": layer.groups,
    }  # fmt: skip
    return Description("conv1d", options, layer.in_channels)


@described.register
def _(layer: SelfAttention) -> Description:
    options = {"num_heads": layer.num_heads, "causal": layer.causal, "bias": layer.bias}
    return Description("self_attention", options, layer.embed_dim)
