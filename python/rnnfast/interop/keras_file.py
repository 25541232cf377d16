"""Keras files: the layers that they describe, their options and arrays, read without Keras."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from numpy.typing import NDArray

from rnnfast._expect import brief
from rnnfast.interop.axes import Unconvertible
from rnnfast.interop.hdf5 import Hdf5, text_of
from rnnfast.interop.hostile import Allowance

Array = NDArray[Any]
Config = Mapping[str, Any]


@dataclass
class Stored:
    """What a file holds: the description of the model, and each layer's arrays by its name, in Keras' order."""

    config: Config
    arrays: Callable[[str, int], list[Array]]
    version: str = ""  # of the Keras that wrote it


def stored_in(data: bytes, path: str) -> Stored:
    """What the bytes of a ``.keras`` file or of an HDF5 file hold."""
    allowance = Allowance.of(len(data))
    return (_archive if zipfile.is_zipfile(io.BytesIO(data)) else _hdf5)(data, path, allowance)


def _archive(data: bytes, path: str, allowance: Allowance) -> Stored:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            if name not in file.namelist():
                raise Unconvertible(f"{path} is not a Keras file: it is an archive without {name}")
            allowance.take(file.getinfo(name).file_size, f"the part {name}")
        config = json.loads(file.read("config.json"))
        version = json.loads(file.read("metadata.json")).get("keras_version", "")
        weights = Hdf5(file.read("model.weights.h5"), allowance)
    groups = _groups(config)

    def arrays(name: str, index: int) -> list[Array]:
        group = weights.child(weights.root, f"layers/{groups[index]}")
        return [] if group is None else list(_variables(weights, group))

    return Stored(config, arrays, str(version))


def _groups(config: Config) -> list[str]:
    """The group of each layer's weights: its class and a count, whatever its name."""
    seen: Counter[str] = Counter()
    names = []
    for layer in entries(config):
        name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", layer["class_name"])
        name = re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
        names.append(f"{name}_{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def _variables(file: Hdf5, group: Any, depth: int = 0) -> Iterator[Array]:
    """The arrays of a layer: its own, then those of what it wraps, forward before backward."""
    own = file.child(group, "vars")
    if own is not None:
        yield from (file.array(own, key) for key in sorted(own, key=int))
    for name in ("forward_layer", "backward_layer", "layer", "cell"):
        inner = file.child(group, name)
        if inner is not None and depth < 3:  # a wrapper, its layer and that layer's cell
            yield from _variables(file, inner, depth + 1)


def _hdf5(data: bytes, path: str, allowance: Allowance) -> Stored:
    try:
        file = Hdf5(data, allowance)
    except OSError:
        raise Unconvertible(f"{path} is not a Keras file: it is not HDF5; expected what model.save wrote") from None
    given = file.attribute(file.root, "model_config")
    if given is None:
        raise Unconvertible(
            f"{path} holds weights alone: save the whole model, or give the layers to rf.Sequential and the weights to load_state_dict"
        )
    groups = file.child(file.root, "model_weights") or file.root

    def arrays(name: str, index: int) -> list[Array]:
        group = file.child(groups, name)
        names = None if group is None else file.attribute(group, "weight_names")
        return [] if names is None else [file.array(group, text_of(n)) for n in names]

    return Stored(json.loads(given), arrays, text_of(file.attribute(file.root, "keras_version") or ""))


def entries(config: Config) -> list[Config]:
    """The layers of a description."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    if config.get("class_name") not in ("Sequential", "Functional", "Model") or not isinstance(layers, list):
        raise Unconvertible(
            f"the file holds a {brief(config.get('class_name'))}, expected a Sequential or a Functional model of Keras"
        )
    return layers


# Layers and what they read -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A layer of a file."""

    name: str
    kind: str
    config: Config
    reads: list[str]
    index: int
    called: Config  # with what else than the arrays that it reads


def layers_of(config: Config) -> list[Layer]:
    """The layers of a description in its order."""
    made: list[Layer] = []
    chain = config["class_name"] == "Sequential"
    for index, entry in enumerate(entries(config)):
        inner, nodes = entry["config"], entry.get("inbound_nodes", [])
        name = entry.get("name") or inner.get("name") or f"layer_{index}"
        if not chain and len(nodes) > 1:
            raise Unconvertible(f"layer {name!r} is used {len(nodes)} times; networks of rnnfast use each layer once")
        if chain:
            shape = inner.get("batch_input_shape")
            if shape and not made and entry["class_name"] != "InputLayer":
                made.append(Layer("input", "InputLayer", {"batch_shape": shape}, [], -1, {}))
            reads = [made[-1].name] if made else []
        else:
            reads = list(read_by(nodes))
        made.append(Layer(name, kind_of(entry), inner, reads, index, {} if chain else dict(_options(nodes))))
    return made


def kind_of(entry: Config) -> str:
    """The class of a layer; one that is not Keras' own goes by its package too, whatever its name."""
    module, registered = entry.get("module"), entry.get("registered_name")
    name = str(entry["class_name"])
    if registered and registered not in (name, f"keras>{name}", f"Keras>{name}"):
        return str(registered)
    return name if module is None or str(module).split(".")[0] == "keras" else f"{module}.{name}"


def read_by(nodes: Any) -> Iterator[str]:
    """The names of layers in Keras' lists of inbound nodes, old and new."""
    if isinstance(nodes, Mapping):
        if nodes.get("class_name") == "__keras_tensor__":
            name, _, place = nodes["config"]["keras_history"]
            yield _first_output(name, place)
        elif "args" in nodes:
            yield from read_by(nodes["args"])
        else:
            raise Unconvertible(f"a layer is called with {brief(nodes)}, expected the outputs of layers")
    elif isinstance(nodes, list):
        if nodes and isinstance(nodes[0], str):  # Keras 2: [layer, node, tensor, options]
            yield _first_output(nodes[0], nodes[2] if len(nodes) > 2 else 0)
        else:
            for node in nodes:
                yield from read_by(node)
    elif nodes not in (None, False):
        raise Unconvertible(f"a layer is called with {brief(nodes)}, expected the outputs of layers")


def _first_output(name: Any, place: Any) -> str:
    if place:
        raise Unconvertible(f"output {place} of layer {name!r} is read, a state; networks of rnnfast keep theirs")
    return str(name)


def _options(nodes: Any) -> Iterator[tuple[str, Any]]:
    """With which options a layer is called, in Keras' lists of inbound nodes, old and new."""
    if isinstance(nodes, Mapping):
        yield from dict(nodes.get("kwargs") or {}).items()
    elif isinstance(nodes, list):
        if nodes and isinstance(nodes[0], str):
            for given in nodes[3:]:
                yield from dict(given or {}).items()
        else:
            for node in nodes:
                yield from _options(node)


# What layers may say -------------------------------------------------------------------------------------------------

# Options that change nothing that a network of rnnfast computes; endings of such options.
_IDLE = {
    "name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_dtype", "input_shape", "input_dim", "output_dim",
    "input_length", "units", "filters", "kernel_size", "rank", "implementation", "unroll", "dropout", "recurrent_dropout", "seed",
    "noise_shape", "unit_forget_bias", "momentum", "renorm_momentum", "renorm_clipping", "fused", "synchronized", "l1", "l2", "stddev",
    "mask_value", "mask_zero", "zero_output_for_mask", "stateful", "supports_masking", "consume_less", "dropout_W", "dropout_U",
}  # fmt: skip
_IDLE_ENDINGS = ("_initializer", "_regularizer", "_constraint", "init")
_RNN = {"activation", "use_bias", "go_backwards", "return_sequences", "return_state"}
# What the importer reads of each kind of layer, and how many arrays that has.
_READ: dict[str, set[str]] = {
    "LSTM": _RNN | {"recurrent_activation"}, "GRU": _RNN | {"recurrent_activation", "reset_after"}, "SimpleRNN": _RNN,
    "Bidirectional": {"layer", "backward_layer", "merge_mode"}, "Dense": {"activation", "use_bias"}, "TimeDistributed": {"layer"},
    "Conv1D": {"activation", "use_bias", "strides", "dilation_rate", "padding", "groups"},
    "BatchNormalization": {"axis", "epsilon", "center", "scale"}, "LayerNormalization": {"axis", "epsilon", "center", "scale", "rms_scaling"},
    "Dropout": {"rate", "p"}, "GaussianDropout": {"rate"}, "SpatialDropout1D": {"rate"}, "ReLU": {"negative_slope", "max_value", "threshold"},
    "LeakyReLU": {"negative_slope", "alpha"}, "ELU": {"alpha"}, "Softmax": {"axis"}, "Concatenate": {"axis"}, "Activation": {"activation"},
    "GlobalAveragePooling1D": {"keepdims"}, "GlobalMaxPooling1D": {"keepdims"},
    "MaxPooling1D": {"pool_size", "pool_length", "strides", "padding"}, "AveragePooling1D": {"pool_size", "pool_length", "strides", "padding"},
}  # fmt: skip
_NARROW = ("int4", "int8", "float8", "gptq", "awq")


def check_options(kind: str, config: Config) -> None:
    """Refuses options that would change what a layer computes and that the importer does not read."""
    for name, value in config.items():
        if name in _IDLE or name.endswith(_IDLE_ENDINGS) or name in _READ.get(kind, ()):
            continue
        if value not in (None, False, 0, "channels_last"):
            raise Unconvertible(f"has {name}={brief(value)}, which networks of rnnfast do not have")
    dtype = json.dumps(config.get("dtype"))
    if any(narrow in dtype for narrow in _NARROW):
        raise Unconvertible(f"has quantized weights, dtype={brief(dtype)}: save the model before it is quantized")


def arrays_of(kind: str, config: Config) -> int | None:
    """How many arrays a layer has; None: any."""
    bias = bool(config.get("use_bias", config.get("bias", True)))
    scales = bool(config.get("scale", True)) + bool(config.get("center", True))
    known = {
        "Dense": 1 + bias,
        "Conv1D": 1 + bias,
        "Embedding": 1,
        "BatchNormalization": 2 + scales,
        "LayerNormalization": scales,
    }
    if kind == "Bidirectional":
        return 2 * (arrays_of(config["layer"]["class_name"], config["layer"]["config"]) or 0)
    if kind == "TimeDistributed":
        return arrays_of(config["layer"]["class_name"], config["layer"]["config"])
    return 2 + bias if kind in ("LSTM", "GRU", "SimpleRNN") else known.get(kind)


def only(value: Any) -> int:
    """One integer, alone or in a list of one."""
    values: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
    if len(values) != 1:
        raise Unconvertible(f"has {brief(value)} where one number is expected")
    return int(values[0])
