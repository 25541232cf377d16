"""``rf.from_keras``: a Keras file, read without Keras, becomes a network of rnnfast."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from rnnfast._arrays import precision
from rnnfast._expect import brief
from rnnfast._expect import shown as shown_path
from rnnfast.files import PathLike, checked_path
from rnnfast.interop.axes import Axis, Dims, Unconvertible, is_steps, shown
from rnnfast.interop.draft import Draft, Signal
from rnnfast.interop.functions import part_of, same_padding, windows_of
from rnnfast.interop.hdf5 import h5py_package
from rnnfast.interop.hostile import readable
from rnnfast.interop.keras_file import (
    Config,
    Layer,
    Stored,
    arrays_of,
    check_options,
    kind_of,
    layers_of,
    only,
    read_by,
    stored_in,
)
from rnnfast.interop.pending import Convolution
from rnnfast.interop.recurrence import Direction, Recurrence, direction
from rnnfast.models.network import Network
from rnnfast.nn.gates import KERAS_ORDER
from rnnfast.nn.norm import LayerNorm
from rnnfast.nn.parts import Add, Dropout, Multiply
from rnnfast.nn.recurrent import gru_of
from rnnfast.protocols import Precision

Array = NDArray[Any]


def from_keras(path: PathLike, *, weights: Precision = "f32") -> Network:
    """The model in a Keras file as an ``rf.Network``, or an ``rf.Sequential`` if it is a chain; Keras is not needed.

    Parameters
    ----------
    path : a ``.keras`` file, or an HDF5 file of Keras 1 to 3 (``.h5``, ``.hdf5``) that holds the architecture too
    weights : precision of products

    Inputs and outputs are (N, T, width) as in Keras: the network has ``batch_first``. A ``Masking`` layer and ``mask_zero`` become the
    network's ``lengths``: give the number of steps before the padding; a warning says so.

    Raises ``ValueError`` that names the first layer that cannot be taken. Needs h5py.

    >>> import keras, tempfile
    >>> model = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4, return_sequences=True), keras.layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.keras")
    ...     net = from_keras(f"{folder}/model.keras")
    >>> net(np.zeros((1, 5, 3))).shape
    (1, 5, 2)
    """
    path = checked_path(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{shown_path(path)} does not exist; give the path of a Keras file")
    h5py_package()
    precision(weights)
    data = Path(path).read_bytes()  # a folder: the system's own error
    try:
        with readable("the file", "Keras"):
            stored = stored_in(data, shown_path(path))
            walk = _Walk(stored, layers_of(stored.config))
            network = walk.network(weights)
    except Unconvertible as error:
        name = shown_path(os.path.basename(path))
        raise ValueError(str(error) if name in str(error) else f"{name}: {error}") from None
    for notice in walk.notices():
        warnings.warn(notice, UserWarning, stacklevel=2)
    return network


@dataclass
class _Walk:
    """One walk over the layers of a file."""

    stored: Stored
    layers: list[Layer]
    draft: Draft = field(default_factory=Draft)
    signals: dict[str, Signal] = field(default_factory=dict)
    masked: str = ""  # the first layer that masks steps
    stateful: str = ""  # the first layer that keeps its state

    def network(self, weights: Precision) -> Network:
        """The network; raises :class:`Unconvertible` with the layer in front."""
        left, masks = list(self.layers), self._masks()
        while left:
            ready = next((a for a in left if all(r in self.signals or r in masks for r in a.reads)), None)
            if ready is None:
                unread = sorted(set(left[0].reads) & {layer.name for layer in left})
                if unread:
                    raise Unconvertible(f"layer {left[0].name!r} reads {', '.join(unread)}, which reads it")
                raise Unconvertible(f"layer {left[0].name!r} reads a layer that is not in the file")
            left.remove(ready)
            if ready.name not in masks:
                self._add(ready)
        read = {name for layer in self.layers if layer.name not in masks for name in layer.reads}
        outputs = self._outputs() or [layer.name for layer in self.layers if layer.name not in read | masks]
        return self.draft.network({name: self.signals[name] for name in outputs}, batch_first=True, weights=weights)

    def notices(self) -> Iterator[str]:
        """What a user has to do that Keras did."""
        if self.masked:
            yield f"layer {self.masked!r} masks steps: give the network the number of unmasked steps of each row as lengths"
        if self.stateful:
            yield f"layer {self.stateful!r} is stateful: give the network's states to net.run, or use net.stream()"

    def _masks(self) -> set[str]:
        return {layer.name for layer in self.layers if layer.kind in _MASKS}

    def _outputs(self) -> list[str]:
        config = self.stored.config["config"]
        return list(_read_outputs(config.get("output_layers"))) if isinstance(config, Mapping) else []

    def _add(self, layer: Layer) -> None:
        if layer.kind == "InputLayer":
            self._input(layer)
            return
        with readable(f"layer {layer.name!r}, {layer.kind},", "Keras"):
            try:
                self.signals[layer.name] = self._made(layer)
            except Unconvertible as error:
                raise Unconvertible(f"layer {layer.name!r}, {layer.kind}: {error}") from None

    def _made(self, layer: Layer) -> Signal:
        if layer.kind == "Masking" or layer.config.get("mask_zero"):
            self.masked = self.masked or layer.name
        make = _KINDS.get(layer.kind)
        if make is None:
            raise Unconvertible("networks of rnnfast have no such layer")
        self._check_call(layer)
        check_options(layer.kind, layer.config)
        for inner in (layer.config.get("layer"), layer.config.get("backward_layer")):
            if inner is not None:
                check_options(kind_of(inner), inner["config"])
                self.stateful = self.stateful or layer.name * bool(inner["config"].get("stateful"))
        self.stateful = self.stateful or layer.name * bool(layer.config.get("stateful"))
        arrays = self.stored.arrays(layer.name, layer.index)
        wanted = arrays_of(layer.kind, layer.config)
        if wanted is not None and len(arrays) != wanted:
            raise Unconvertible(f"has {len(arrays)} arrays in the file, expected {wanted}")
        made = make(self.draft, [self.signals[name] for name in layer.reads], layer.config, arrays)
        return _activated(self.draft, made, layer, self.stored.version[:2] in ("1.", "2."))

    def _check_call(self, layer: Layer) -> None:
        """Refuses initial states, masks of a user's own and what else a layer is called with."""
        masks = self._masks()
        if masks.intersection(layer.reads):
            raise Unconvertible("reads a mask as numbers")
        if len(layer.reads) != 1 and layer.kind not in _JOINING:
            raise Unconvertible(f"reads {len(layer.reads)} arrays, such as initial states, expected 1")
        for name, value in layer.called.items():
            if name == "mask":
                read = set(read_by(value))
                if not read <= masks:
                    raise Unconvertible(
                        f"reads a mask from {', '.join(sorted(read - masks))}: give the network lengths instead"
                    )
                self.masked = self.masked or layer.name * bool(read)
            elif value not in (None, False, []):
                raise Unconvertible(f"is called with {name}, expected the outputs of earlier layers alone")

    def _input(self, layer: Layer) -> None:
        shape = layer.config.get("batch_shape") or layer.config.get("batch_input_shape") or [None, None]
        dims: Dims = (Axis("rows"), Axis("steps", shape[1]) if len(shape) > 1 else Axis("steps"), *shape[2:])
        if any(d is None for d in dims) or len(dims) > 3:
            raise Unconvertible(
                f"input {layer.name!r} has the shape {shape}, expected (rows, steps) or (rows, steps, numbers)"
            )
        self.signals[layer.name] = self.draft.input(layer.name, dims)


def _read_outputs(given: Any) -> Iterator[str]:
    """Names of output layers: [[name, 0, 0], ...], or one without the outer list."""
    if isinstance(given, list) and given and isinstance(given[0], str):
        yield given[0]
    elif isinstance(given, list):
        for each in given:
            yield from _read_outputs(each)


_MASKS = {"NotEqual", "Any", "All", "Equal", "LogicalAnd"}  # what Keras 3 computes masks with
Maker = Callable[[Draft, "list[Signal]", Config, "list[Array]"], Signal]


_JOINING = ("Add", "Multiply", "Concatenate")


def _activated(draft: Draft, signal: Signal, layer: Layer, old: bool) -> Signal:
    """With the activation of layers that have one and are not recurrent; ``old``: of Keras 1 or 2."""
    config = layer.config["layer"]["config"] if layer.kind == "TimeDistributed" else layer.config
    if layer.kind in ("LSTM", "GRU", "SimpleRNN", "Bidirectional"):
        return signal
    name = config.get("activation")
    return signal if name in (None, "linear") else _function(draft, signal, name, old)


def _function(draft: Draft, signal: Signal, name: Any, old: bool) -> Signal:
    if not isinstance(name, str):
        raise Unconvertible(f"has the activation {brief(name)}, expected a name")
    if name in ("softmax", "log_softmax"):
        return draft.softmax(signal, -1, name == "log_softmax")
    if name == "leaky_relu":
        return draft.part(signal, part_of(name, 0.2))
    if name == "hard_sigmoid" and old:
        return draft.part(signal, part_of(name, 0.2, 0.5))
    return draft.part(signal, part_of("silu" if name == "swish" else name))


def _recurrence(kind: str, config: Config, arrays: Sequence[Array]) -> Direction:
    usual = {"LSTM": ("tanh", "sigmoid"), "GRU": ("tanh", "sigmoid"), "SimpleRNN": ("tanh", None)}[kind]
    found = (config.get("activation"), config.get("recurrent_activation") if kind != "SimpleRNN" else None)
    if found != usual and not (kind == "SimpleRNN" and found[0] == "relu"):
        names = " and ".join(str(name) for name in found if name)
        raise Unconvertible(f"has the activations {names}, which no cell of rnnfast has")
    if config.get("return_state"):
        raise Unconvertible("returns its state, which networks of rnnfast keep as theirs")
    kernel, recurrent = arrays[0].T, arrays[1].T
    matrices = {"weight_ih": kernel, "weight_hh": recurrent}
    if config.get("use_bias", True):
        bias = arrays[2]
        both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
        matrices["bias_ih"], matrices["bias_hh"] = both
    return direction(matrices, KERAS_ORDER[_cell(kind, config)])


def _cell(kind: str, config: Config) -> str:
    if kind == "SimpleRNN":
        return "rnn_relu" if config.get("activation") == "relu" else "rnn"
    if kind == "GRU":
        return gru_of(config.get("reset_after", False))
    return kind.lower()


def _time_first(signal: Signal) -> Signal:
    if len(signal.dims) < 2 or not is_steps(signal.dims[1]):
        raise Unconvertible(f"reads an array {shown(signal.dims)}, expected (rows, steps, numbers)")
    return replace(signal, dims=(signal.dims[1], signal.dims[0], *signal.dims[2:]))


def _rows_first(signal: Signal) -> Signal:
    return replace(signal, dims=(signal.dims[1], signal.dims[0], *signal.dims[2:]))


def _recurrent(kind: str) -> Maker:
    def make(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
        one = _recurrence(kind, config, arrays)
        backward = bool(config.get("go_backwards"))
        recurrence = Recurrence(_cell(kind, config), None if backward else one, one if backward else None)
        both = recurrence.in_both_directions() if backward else recurrence
        size = recurrence.hidden_size
        y = draft.recurrent(_time_first(signals[0]), both.layer(), size * (1 + backward))
        if not backward:
            return _rows_first(y) if config.get("return_sequences") else draft.pool(y, "last", 0)
        if config.get("return_sequences"):
            raise Unconvertible("returns the steps of its input in reverse (go_backwards with return_sequences)")
        return draft.cut(draft.pool(y, "first", 0), 1, slice(size, 2 * size))

    return make


# What both directions of a layer share; their weights are their own.
_ALIKE = ("units", "activation", "recurrent_activation", "use_bias", "reset_after", "return_sequences", "return_state")


def _bidirectional(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    inner = config["layer"]
    kind, options = kind_of(inner), inner["config"]
    if kind not in ("LSTM", "GRU", "SimpleRNN"):
        raise Unconvertible(f"wraps a layer {kind}")
    other = config.get("backward_layer") or inner
    differ = [name for name in _ALIKE if other["config"].get(name) != options.get(name)]
    if kind_of(other) != kind or differ or options.get("go_backwards"):
        raise Unconvertible(
            f"has a backward layer that differs from its forward layer ({', '.join(differ) or kind_of(other)}), or a forward layer that"
            " goes backwards; networks of rnnfast have the same layer in both directions"
        )
    half = len(arrays) // 2
    recurrence = Recurrence(
        _cell(kind, options), _recurrence(kind, options, arrays[:half]), _recurrence(kind, options, arrays[half:])
    )
    size = recurrence.hidden_size
    y = draft.recurrent(_time_first(signals[0]), recurrence.layer(), 2 * size)
    mode = config.get("merge_mode", "concat")
    whole = options.get("return_sequences")
    if whole and mode == "concat":
        return _rows_first(y)
    last, first = (y, y) if whole else (draft.pool(y, "last", 0), draft.pool(y, "first", 0))
    axis = len(last.dims) - 1
    halves = draft.cut(last, axis, slice(0, size)), draft.cut(first, axis, slice(size, 2 * size))
    if mode == "concat":
        return draft.concatenate(halves, axis)
    parts: dict[Any, Add | Multiply] = {"sum": Add(), "ave": Add(), "mul": Multiply()}
    if mode not in parts:
        raise Unconvertible(f"merges its directions by {mode!r}, expected one of concat, {', '.join(parts)}")
    merged = draft.combine(parts[mode], *halves)
    merged = draft.scale(merged, 0.5) if mode == "ave" else merged
    return _rows_first(merged) if whole else merged


def _dense(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    return draft.linear(signals[0], arrays[0].T, arrays[1] if config.get("use_bias", True) else None)


def _time_distributed(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    inner = config["layer"]
    if kind_of(inner) not in ("Dense", "Activation", "Dropout", "BatchNormalization", "LayerNormalization"):
        raise Unconvertible(f"wraps a layer {kind_of(inner)}")
    return _KINDS[kind_of(inner)](draft, signals, inner["config"], arrays)


def _conv(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    kernel = arrays[0].transpose(2, 1, 0)  # (taps, inputs, outputs)
    dilation, stride = (only(config.get(name, 1)) for name in ("dilation_rate", "strides"))
    reach, padding = dilation * (kernel.shape[2] - 1), config.get("padding", "valid")
    if padding == "same" and stride != 1:
        raise Unconvertible("has padding='same' with a stride, which depends on the number of steps")
    zeros = {"valid": (0, 0), "causal": (reach, 0), "same": same_padding(reach)}
    if padding not in zeros:
        raise Unconvertible(f"has padding={padding!r}")
    bias = arrays[1] if config.get("use_bias", True) else None
    signal = replace(signals[0], dims=(signals[0].dims[0], signals[0].dims[2], signals[0].dims[1]))
    step = Convolution(kernel, bias, dilation, stride, config.get("groups", 1), *zeros[padding])
    y = draft.convolve(signal, step)
    return replace(y, dims=(y.dims[0], y.dims[2], y.dims[1]))


def _batch_norm(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    left = [array.astype(np.float64) for array in arrays]
    axis = only(config.get("axis", -1))
    if axis not in (-1, len(signals[0].dims) - 1):
        raise Unconvertible(f"normalizes axis {axis}, expected the last")
    size = signals[0].width
    gamma = left.pop(0) if config.get("scale", True) else np.ones(size)
    beta = left.pop(0) if config.get("center", True) else np.zeros(size)
    mean, variance = left
    state = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
    return draft.batch_norm(signals[0], len(signals[0].dims) - 1, state, config.get("epsilon", 1e-3))


def _layer_norm(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    signal = signals[0]
    if config.get("rms_scaling") or only(config.get("axis", -1)) not in (-1, len(signal.dims) - 1):
        raise Unconvertible("is a form of layer normalization that rnnfast does not have")
    scale, center = config.get("scale", True), config.get("center", True)
    given = list(arrays)
    weight = given.pop(0) if scale else np.ones(signal.width, np.float32)
    layer = LayerNorm(signal.width, eps=config.get("epsilon", 1e-3), elementwise_affine=True, bias=center)
    layer.load_state_dict({"weight": weight, **({"bias": given[0]} if center else {})})
    return draft.add(layer, signal.dims, signal)


def _embedding(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    return draft.embed(signals[0], arrays[0])


def _dropout(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    share = float(config.get("rate", config.get("p", 0.0)))
    return draft.part(signals[0], Dropout(share)) if 0 < share < 1 else signals[0]


def _softmax(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    return draft.softmax(signals[0], only(config.get("axis", -1)), False)


def _windows(function: str) -> Maker:
    def make(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
        size = only(config.get("pool_size", config.get("pool_length", 2)))
        stride, padding = only(config.get("strides") or size), config.get("padding", "valid")
        if padding not in ("valid", "same") or (padding == "same" and stride != 1):
            raise Unconvertible(f"has padding={padding!r} with strides={stride}, which depends on the number of steps")
        pads = same_padding(size - 1) if padding == "same" else (0, 0)
        return draft.windows(signals[0], windows_of(function, size, stride, pads, counts=False), 1)

    return make


def _flatten(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    return draft.flatten(signals[0], 1)


def _activation(name: str, *coefficients: str) -> Maker:
    def make(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
        alpha = next((float(config[c]) for c in coefficients if c in config), None)
        return draft.part(signals[0], part_of(name, alpha))

    return make


def _relu(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    slope, most = config.get("negative_slope") or 0.0, config.get("max_value")
    if config.get("threshold") or (slope and most is not None):
        raise Unconvertible("is a ReLU with a threshold, or with a slope and a maximum")
    if most is not None:
        return draft.part(signals[0], part_of("clip", 0.0, most))
    return draft.part(signals[0], part_of("leaky_relu", slope) if slope else part_of("relu"))


def _pool(function: str) -> Maker:
    def make(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
        if not is_steps(signals[0].dims[1]):
            raise Unconvertible(f"reads an array {shown(signals[0].dims)}, expected (rows, steps, numbers)")
        return draft.pool(signals[0], "max" if function == "max" else "mean", 1, keep=bool(config.get("keepdims")))

    return make


def _combined(part: type[Add | Multiply]) -> Maker:
    return lambda draft, signals, config, arrays: draft.combine(part(), *signals)


def _concatenate(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    return draft.concatenate(signals, config.get("axis", -1))


def _same(draft: Draft, signals: list[Signal], config: Config, arrays: list[Array]) -> Signal:
    return signals[0]


_KINDS: dict[str, Maker] = {
    **dict.fromkeys(("Masking", "Activation", "GaussianNoise", "GaussianDropout", "SpatialDropout1D", "ActivityRegularization"), _same),
    "LSTM": _recurrent("LSTM"), "GRU": _recurrent("GRU"), "SimpleRNN": _recurrent("SimpleRNN"), "Bidirectional": _bidirectional,
    "Dense": _dense, "TimeDistributed": _time_distributed, "Conv1D": _conv, "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm, "Embedding": _embedding, "Dropout": _dropout, "ReLU": _relu,
    "LeakyReLU": _activation("leaky_relu", "negative_slope", "alpha"), "ELU": _activation("elu", "alpha"),
    "GlobalAveragePooling1D": _pool("mean"), "GlobalMaxPooling1D": _pool("max"), "Add": _combined(Add),
    "Multiply": _combined(Multiply), "Concatenate": _concatenate, "Softmax": _softmax, "Flatten": _flatten,
    "MaxPooling1D": _windows("max"), "AveragePooling1D": _windows("mean"),
}  # fmt: skip
