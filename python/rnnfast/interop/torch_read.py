"""``rf.from_torch``: a PyTorch module becomes a network of rnnfast."""

from __future__ import annotations

import itertools
import operator
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
from numpy.typing import NDArray

from rnnfast._expect import kind_of
from rnnfast.interop.axes import Axis, Dims, Unconvertible, arrangements, rows_first
from rnnfast.interop.draft import Draft, Signal
from rnnfast.interop.functions import part_of, same_padding, windows_of
from rnnfast.interop.hostile import one_line
from rnnfast.interop.pending import Convolution
from rnnfast.interop.torch_check import check_outputs
from rnnfast.interop.torch_operations import OPERATIONS, LastStates, leaves, numbers, projected
from rnnfast.models.network import Network
from rnnfast.nn.layer import Layer
from rnnfast.nn.norm import LayerNorm, RMSNorm
from rnnfast.nn.parts import Dropout
from rnnfast.nn.recurrent import LAYERS
from rnnfast.nn.sequence import SelfAttention
from rnnfast.protocols import Precision

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[Any]
ROWS, STEPS = (
    7,
    29,
)  # of the example that a module is exported with; unlike sizes of layers, so that axes are told apart


def from_torch(
    module: nn.Module, *example: Any, batch_first: bool | None = None, weights: Precision = "f32"
) -> Network:
    """A PyTorch module as an ``rf.Network``, or an ``rf.Sequential`` if it is a chain.

    Parameters
    ----------
    module : an ``nn.Sequential`` or a single layer is read layer by layer; an LSTM in an ``nn.Sequential`` passes its outputs on. Any
        other module goes through ``torch.export``, in eval mode
    example : example inputs for ``torch.export``, (29, 7, ...) or (7, 29, ...), with 7 rows of 29 steps; without them, ids or
        numbers for the module's first layer are tried
    batch_first : of an ``nn.Sequential`` whose layers do not tell; None: False
    weights : precision of products

    Inputs and outputs are (T, N, width), or (N, T, width) with ``batch_first``, which is set as the module has it; a convolution's
    (N, C, T) becomes (N, T, C). Weights are copied.

    Raises ``ValueError`` that names the first layer or operation that cannot be taken.

    >>> import torch
    >>> net = from_torch(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)))
    >>> net(np.zeros((5, 1, 3))).shape
    (5, 1, 2)
    """
    try:
        from torch import nn
    except ImportError:
        raise ImportError("from_torch needs PyTorch: pip install 'rnnfast[torch]'") from None
    if not isinstance(module, nn.Module):
        raise TypeError(f"module is {kind_of(module)}, expected a torch.nn.Module")
    layers = list(_flat(module))
    if not example and all(_kind(layer) in _MODULES for _, layer in layers):
        return _of_layers(layers, batch_first, weights)
    return _of_export(module, example, weights)


def _flat(module: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The layers of nested ``nn.Sequential``."""
    if _kind(module) == "Sequential":
        for child, layer in module.named_children():
            yield from _flat(layer, f"{name}.{child}".strip("."))
    elif _kind(module) != "Identity":
        yield name, module


def _kind(layer: Any) -> str:
    """The name of a class of PyTorch itself, or of ``rnnfast.torch``; empty for a user's class, whatever its name, and for a layer with its
    own forward or hooks."""
    from torch import nn

    kind = type(layer)
    known = getattr(nn, kind.__name__, None) is kind or kind.__module__.split(".")[:2] == ["rnnfast", "torch"]
    changed = "forward" in vars(layer) or layer._forward_hooks or layer._forward_pre_hooks
    return kind.__name__ if known and not changed else ""


# Layer by layer ------------------------------------------------------------------------------------------------------


def _of_layers(layers: list[tuple[str, Any]], batch_first: bool | None, weights: Precision) -> Network:
    orders = {layer.batch_first for _, layer in layers if hasattr(layer, "batch_first")}
    orders |= {True for _, layer in layers if _kind(layer) == "Conv1d" and len(orders) == 0}
    if batch_first is not None:
        orders.add(batch_first)
    if len(orders) > 1:
        raise ValueError("some layers of the module have batch_first=True and others have not")
    draft = Draft()
    signal = None
    dims: Dims = (Axis("steps"), Axis("rows"))
    kinds = {_kind(layer) for _, layer in layers}
    for name, layer in layers:
        kind = _kind(layer)
        try:
            _check_layout(layer, kind, kinds)
            if signal is None and kind in _WIDTHS:
                width = getattr(layer, _WIDTHS[kind])
                width = width[-1] if isinstance(width, tuple) else width
                signal = draft.input("input", dims if kind == "Embedding" else (*dims, width))
            if signal is None:
                raise Unconvertible("the first layer has no width: put it after one with weights")
            signal = _MODULES[kind](draft, signal, layer)
        except Unconvertible as error:
            raise ValueError(f"layer {name or kind!r}, {kind}: {error}") from None
    if signal is None:
        raise ValueError("the module has no layers")
    try:
        return draft.network({"output": signal}, batch_first=orders == {True}, weights=weights)
    except Unconvertible as error:
        raise ValueError(str(error)) from None


_WIDTHS = {
    "Embedding": "num_embeddings", "LSTM": "input_size", "GRU": "input_size", "RNN": "input_size", "Linear": "in_features",
    "Conv1d": "in_channels", "LayerNorm": "normalized_shape", "RMSNorm": "normalized_shape", "BatchNorm1d": "num_features",
    "MultiheadAttention": "embed_dim",
}  # fmt: skip


def _recurrent(draft: Draft, signal: Signal, layer: Any) -> Signal:
    dropout = layer.dropout if layer.num_layers > 1 else 0.0
    state = {name: numbers(value) for name, value in layer.state_dict().items()}
    if getattr(layer, "proj_size", 0):
        return projected(draft, signal, state, layer.num_layers, layer.bidirectional, bias=layer.bias, dropout=dropout)
    own: Layer = LAYERS[_cell(layer)](
        layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias, bidirectional=layer.bidirectional,
        dropout=dropout, seed=0,
    )  # fmt: skip
    own.load_state_dict(state)
    return draft.recurrent(signal, own, layer.hidden_size * (1 + layer.bidirectional))


_CHANNELS_FIRST = {"Conv1d", "MaxPool1d", "AvgPool1d"}  # read (N, C, T)
_SEQUENCES = {"Embedding", "LSTM", "GRU", "RNN", "MultiheadAttention"}  # read or give (N, T, C) or (T, N, C)


def _check_layout(layer: Any, kind: str, kinds: set[str]) -> None:
    """Refuses layers that PyTorch would run along another axis than that of a step's numbers."""
    channels = bool(kinds & _CHANNELS_FIRST)
    if kind == "BatchNorm1d" and not channels and kinds & _SEQUENCES:
        raise Unconvertible("normalizes axis 1, which are steps or rows here: write a module that transposes around it")
    if channels and kind in _WIDTHS and kind not in ("Conv1d", "BatchNorm1d"):
        raise Unconvertible(
            "reads the numbers of a step in the last axis, and the chain's convolutions or pools have them before the steps, (N, C, T):"
            " PyTorch runs it over the steps; write a module that transposes between them"
        )
    if kind in ("Softmax", "LogSoftmax") and layer.dim not in ((1, -2) if channels else (2, -1)):
        wanted = "1, the channels" if channels else "-1, the numbers of a step"
        raise Unconvertible(f"has dim={layer.dim}, expected {wanted}")


def _cell(layer: Any) -> str:
    kind = type(layer).__name__.lower()
    return "rnn_relu" if kind == "rnn" and layer.nonlinearity == "relu" else kind


def _bias(layer: Any) -> Array | None:
    return None if layer.bias is None else numbers(layer.bias)


def _conv(draft: Draft, signal: Signal, layer: Any) -> Signal:
    reach = layer.dilation[0] * (layer.kernel_size[0] - 1)
    if layer.padding_mode != "zeros":
        raise Unconvertible(f"pads with padding_mode={layer.padding_mode!r}, expected 'zeros'")
    before = after = 0 if isinstance(layer.padding, str) else layer.padding[0]
    if layer.padding == "same":
        before, after = same_padding(reach)
    step = Convolution(
        numbers(layer.weight), _bias(layer), layer.dilation[0], layer.stride[0], layer.groups, before, after
    )
    steps, rows, width = signal.dims
    given = draft.convolve(replace(signal, dims=(rows, width, steps)), step)
    return replace(given, dims=(given.dims[2], given.dims[0], given.dims[1]))


def _batch_norm(draft: Draft, signal: Signal, layer: Any) -> Signal:
    if layer.running_mean is None:
        raise Unconvertible("keeps no running mean and variance, so it depends on the batch")
    state = {name: numbers(value) for name, value in layer.state_dict().items()}
    return draft.batch_norm(signal, 2, state, layer.eps)


def _norm(draft: Draft, signal: Signal, layer: Any) -> Signal:
    if len(layer.normalized_shape) != 1:
        raise Unconvertible(f"normalizes {len(layer.normalized_shape)} axes, expected the last")
    weight, bias = (getattr(layer, name, None) for name in ("weight", "bias"))
    if type(layer).__name__ == "RMSNorm":
        eps = float(np.finfo(np.float32).eps) if layer.eps is None else layer.eps
        own: Layer = RMSNorm(signal.width, eps=eps, elementwise_affine=weight is not None)
    else:
        own = LayerNorm(signal.width, eps=layer.eps, elementwise_affine=weight is not None, bias=bias is not None)
    state = {name: numbers(value) for name, value in (("weight", weight), ("bias", bias)) if value is not None}
    own.load_state_dict(state)
    return draft.add(own, signal.dims, signal)


def _attention(draft: Draft, signal: Signal, layer: Any) -> Signal:
    if layer.add_zero_attn or layer.bias_k is not None or not layer._qkv_same_embed_dim:
        raise Unconvertible("has add_zero_attn, add_bias_kv, kdim or vdim, which rnnfast does not have")
    state = {name: numbers(value) for name, value in layer.state_dict().items()}
    own = SelfAttention(layer.embed_dim, layer.num_heads, bias="in_proj_bias" in state, seed=0)
    own.load_state_dict(state)
    return draft.add(own, signal.dims, signal)


def _embedding(draft: Draft, signal: Signal, layer: Any) -> Signal:
    if layer.max_norm is not None:
        raise Unconvertible("rescales its rows (max_norm)")
    return draft.embed(signal, numbers(layer.weight))


def _activation(name: str, *attributes: str) -> Callable[[Draft, Signal, Any], Signal]:
    def apply(draft: Draft, signal: Signal, layer: Any) -> Signal:
        form = "gelu_tanh" if getattr(layer, "approximate", "none") == "tanh" else name
        if getattr(layer, "threshold", 20.0) < 20:
            raise Unconvertible(f"is x from {layer.threshold} on, expected a threshold of 20")
        return draft.part(signal, part_of(form, *(getattr(layer, attribute) for attribute in attributes)))

    return apply


def _softmax(log: bool) -> Callable[[Draft, Signal, Any], Signal]:
    def apply(draft: Draft, signal: Signal, layer: Any) -> Signal:
        return draft.softmax(signal, -1, log)

    return apply


def _windows(function: str) -> Callable[[Draft, Signal, Any], Signal]:
    def apply(draft: Draft, signal: Signal, layer: Any) -> Signal:
        if getattr(layer, "return_indices", False):
            raise Unconvertible("gives the places of maxima (return_indices)")
        size, stride, padding, dilation = (
            value[0] if isinstance(value, tuple) else value
            for value in (layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1))
        )
        part = windows_of(
            function, size, stride, (padding, padding), counts=getattr(layer, "count_include_pad", True), dilation=dilation,
            ceil=layer.ceil_mode,
        )  # fmt: skip
        return draft.windows(signal, part, 0)

    return apply


_MODULES: dict[str, Callable[[Draft, Signal, Any], Signal]] = {
    "Embedding": _embedding, "LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent, "Conv1d": _conv,
    "Linear": lambda draft, signal, layer: draft.linear(signal, numbers(layer.weight), _bias(layer)),
    "LayerNorm": _norm, "RMSNorm": _norm, "BatchNorm1d": _batch_norm, "MultiheadAttention": _attention,
    "Dropout": lambda draft, signal, layer: draft.part(signal, Dropout(layer.p)) if 0 < layer.p < 1 else signal,
    "ReLU": _activation("relu"), "Tanh": _activation("tanh"), "Sigmoid": _activation("sigmoid"), "GELU": _activation("gelu"),
    "SiLU": _activation("silu"), "Hardsigmoid": _activation("hard_sigmoid"), "ELU": _activation("elu", "alpha"),
    "LeakyReLU": _activation("leaky_relu", "negative_slope"), "Softplus": _activation("softplus", "beta"),
    "Hardtanh": _activation("clip", "min_val", "max_val"), "ReLU6": _activation("relu6"), "Softmax": _softmax(False),
    "LogSoftmax": _softmax(True), "MaxPool1d": _windows("max"), "AvgPool1d": _windows("mean"),
}  # fmt: skip


# Through torch.export ------------------------------------------------------------------------------------------------


def _of_export(module: Any, example: tuple[Any, ...], weights: Precision) -> Network:
    import torch

    training = module.training
    module.eval()
    unknown = "the module has no layer that tells what its input is: give an example input"
    furthest, error = -1, unknown
    try:
        for inputs in [example] if example else _examples(module):
            try:
                with torch.no_grad(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of recurrent layers' flat weights, which export sets aside
                    program = torch.export.export(module, inputs, strict=False)
            except Exception as failure:  # whatever the module's code raises for inputs of another kind
                if error == unknown:
                    error = f"torch.export failed: {' '.join(str(failure).split())[:300]}; give an example input"
                continue
            for dims in _arrangements(inputs):
                walk = _Walk(program, dims)
                try:
                    network = walk.network(weights)
                    walk.check(module, inputs)
                    return network
                except Unconvertible as refusal:
                    if walk.done > furthest:
                        furthest, error = walk.done, str(refusal)
    finally:
        module.train(training)
    raise ValueError(f"{type(module).__name__}: {error}")


def _examples(module: Any) -> Iterator[tuple[Any, ...]]:
    """Inputs for the first layer with a width, rows first and steps first."""
    import torch
    from torch import nn

    for layer in module.modules():
        kind = next((name for name in _WIDTHS if isinstance(layer, getattr(nn, name))), "")
        if not kind:
            continue
        width = getattr(layer, _WIDTHS[kind])
        width = width[-1] if isinstance(width, tuple) else width
        shapes = (
            [(STEPS, ROWS), (ROWS, STEPS)]
            if not getattr(layer, "batch_first", True)
            else [(ROWS, STEPS), (STEPS, ROWS)]
        )
        if kind == "Embedding":
            yield from ((torch.zeros(shape, dtype=torch.int64),) for shape in shapes)
        else:
            if kind in ("Conv1d", "BatchNorm1d"):
                yield (torch.zeros(ROWS, width, STEPS),)
            yield from ((torch.zeros(*shape, width),) for shape in shapes)
        return


def _arrangements(inputs: tuple[Any, ...]) -> Iterator[list[Dims]]:
    yield from map(list, itertools.product(*(_dims_of(value) for value in inputs)))


def _dims_of(value: Any) -> list[Dims]:
    given = list(arrangements(tuple(value.shape), not value.dtype.is_floating_point))
    # An example with 7 rows of 29 steps says which axis is which.
    known = [
        (o, dims) for o, dims in given if all(s == {"T": STEPS, "N": ROWS}.get(c, s) for c, s in zip(o, value.shape))
    ]
    return [dims for _, dims in known or given]


@dataclass
class _Walk:
    """One walk over the operations of an exported module."""

    program: Any
    dims: list[Dims]
    draft: Draft = field(default_factory=Draft)
    values: dict[str, Any] = field(default_factory=dict)
    done: int = 0
    outputs: dict[int, Signal] = field(default_factory=dict)  # by their places among the module's

    def network(self, weights: Precision) -> Network:
        """The network; raises :class:`Unconvertible` with the operation in front."""
        signature, state = self.program.graph_signature, {**self.program.state_dict, **self.program.constants}
        for mapping in (
            signature.inputs_to_parameters,
            signature.inputs_to_buffers,
            signature.inputs_to_lifted_tensor_constants,
        ):
            self.values.update({name: state[target] for name, target in mapping.items()})
        for name, dims in zip(signature.user_inputs, self.dims):
            self.values[name] = self.draft.input(name, dims)
        outputs: list[str] = []
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self._run(node)
            elif node.op == "output":
                outputs = [name for name in signature.user_outputs if isinstance(name, str)]
            self.done += 1
        signals = {name: self.values.get(name) for name in outputs}
        kept = {name: signal for name, signal in signals.items() if isinstance(signal, Signal)}
        if not kept:  # beside outputs, last states are those that a run gives as its state
            ends = {name: value for name, value in signals.items() if isinstance(value, LastStates)}
            kept = {name: value.whole(self.draft) for name, value in ends.items()}
        if not kept:
            raise Unconvertible("no output depends on the steps of an input")
        self.outputs = {place: kept[name] for place, name in enumerate(signature.user_outputs) if name in kept}
        return self.draft.network(kept, batch_first=rows_first(self.dims), weights=weights)

    def check(self, module: Any, example: tuple[Any, ...]) -> None:
        """Compares the network's outputs with the module's; raises :class:`Unconvertible` if they differ."""
        names = list(self.program.graph_signature.user_inputs)
        given = {str(i): signal for i, signal in self.outputs.items()}
        network = self.draft.network(given, batch_first=rows_first(self.dims))
        if len({self.draft.settle(signal).source for signal in given.values()}) < len(given) or len(
            network.config["inputs"]
        ) < len(names):
            return  # an output given twice, or an input that is not read
        ids = [self.draft.inputs[name].ids for name in names]
        check_outputs(module, example, self.dims, ids, network, {i: signal.dims for i, signal in self.outputs.items()})

    def _run(self, node: Any) -> None:
        name = str(node.target) if node.target is not operator.getitem else "getitem"
        kind = (
            name.split(".")[1] if name.startswith("aten.") and not name.endswith(".data") else name
        )  # .data: packed sequences
        args = [self._value(a) for a in node.args]
        options = {key: self._value(a) for key, a in node.kwargs.items()}
        try:
            if kind == "getitem":
                self.values[node.name] = args[0][args[1]]
                return
            if not any(isinstance(a, (Signal, LastStates)) for a in leaves([*args, *options.values()])):
                if any(str(tag).endswith("nondeterministic_seeded") for tag in getattr(node.target, "tags", ())):
                    raise Unconvertible("computes random numbers, which would be the same in every run")
                self.values[node.name] = node.target(*args, **options)
                return
            if kind not in OPERATIONS:
                raise Unconvertible("networks of rnnfast have no such operation")
            self.values[node.name] = OPERATIONS[kind](self.draft, *args, **options)
        except Unconvertible as error:
            raise Unconvertible(f"operation {node.name!r} ({name}): {error}") from None
        except Exception as error:  # of PyTorch's operators or of NumPy
            raise Unconvertible(f"operation {node.name!r} ({name}) cannot be read: {one_line(error)}") from None

    def _value(self, argument: Any) -> Any:
        if isinstance(argument, (list, tuple)):
            return [self._value(a) for a in argument]
        return self.values.get(argument.name) if hasattr(argument, "op") else argument
