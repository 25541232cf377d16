"""``rf.from_arrays``: named arrays, as of a NumPy archive, become a network of rnnfast."""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._expect import kind_of, shown
from rnnfast.files import PathLike, checked_path
from rnnfast.interop.axes import Axis, Unconvertible
from rnnfast.interop.draft import Draft, Signal
from rnnfast.interop.functions import part_of
from rnnfast.interop.hostile import Allowance, readable
from rnnfast.models.network import Network
from rnnfast.nn.parts import Pool
from rnnfast.nn.recurrent import LAYERS, TABLE
from rnnfast.protocols import Precision

Array = NDArray[Any]


def from_arrays(
    arrays: PathLike | Mapping[str, ArrayLike], *layers: str, batch_first: bool = False, weights: Precision = "f32"
) -> Network:
    """A chain of layers made from named arrays: a state_dict, or a NumPy archive (``.npz``).

    Parameters
    ----------
    arrays : the archive's path, or a mapping from names to arrays
    layers : the layers in their order, ``"kind:prefix"``, where the prefix is that of the arrays' names: ``"embedding:enc_emb"``,
        ``"gru:enc"``, ``"lstm:lstm"``, ``"linear:fc"``; or a part without weights, ``"relu"``, ``"tanh"``, ``"last"``, ``"mean"``, ...
    batch_first, weights : of the network

    Arrays are found by PyTorch's names after the prefix and a point or underscore (``weight``, ``bias``, ``weight_ih_l0``,
    ``bias_hh_l1_reverse``), or by their short forms (``w``, ``b``, ``w_ih``, ``b_hh``); an embedding may be the prefix alone. Shapes and
    gate orders are PyTorch's: LSTM i f g o, GRU r z n.

    >>> arrays = {"e": np.zeros((9, 4)), "w_ih": np.zeros((15, 4)), "w_hh": np.zeros((15, 5)), "fc_w": np.zeros((2, 5))}
    >>> from_arrays(arrays, "embedding:e", "gru:", "linear:fc")
    Sequential(0: embedding, 1: gru, 2: linear)
    """
    given = _read(arrays)
    if not layers:
        raise ValueError(f"no layers are given, expected some such as 'linear:fc'; the arrays are {_names(given)}")
    draft, signal = Draft(), None
    for text in layers:
        if not isinstance(text, str):
            raise TypeError(f"a layer is {kind_of(text)}, expected text such as 'linear:fc'")
        try:
            with readable("the list of its arrays", "PyTorch"):
                signal = _layer(draft, signal, text, given)
        except Unconvertible as error:
            raise ValueError(f"layer {text!r}: {error}") from None
    assert signal is not None
    return draft.network({"output": signal}, batch_first=batch_first, weights=weights)


def _read(arrays: PathLike | Mapping[str, ArrayLike]) -> dict[str, Array]:
    if isinstance(arrays, Mapping):
        return {str(name): np.asarray(value) for name, value in arrays.items()}
    path = checked_path(arrays)
    name = shown(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{name} does not exist; give the path of an .npz archive")
    try:
        with readable(name, "numpy.savez"):
            _check_archive(path)
            with np.load(path, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
    except Unconvertible as error:
        raise ValueError(f"{name} is not a NumPy archive: {error}") from None


def _check_archive(path: str) -> None:
    """Every array has the size that its header says, and all of them fit into memory."""
    allowance = Allowance.of(os.path.getsize(path))
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            allowance.take(part.file_size, f"the array {part.filename}")
            with archive.open(part) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, kind = read(file)
                if math.prod(shape) * kind.itemsize != part.file_size - file.tell() or kind.hasobject:
                    raise Unconvertible(
                        f"the array {part.filename} has the shape {shape}, and the archive holds another size of it"
                    )


def _names(arrays: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {value.shape}" for name, value in arrays.items())


def _layer(draft: Draft, signal: Signal | None, text: str, arrays: Mapping[str, Array]) -> Signal:
    kind, _, prefix = text.partition(":")
    if kind in ("last", "first", "mean", "max"):
        return draft.add(Pool(kind), _of(signal).dims[1:], _of(signal))  # type: ignore[arg-type]
    if kind not in ("embedding", "linear", *TABLE):
        return draft.part(_of(signal), part_of(kind))
    found = _of_prefix(arrays, prefix)
    if kind == "embedding":
        table = found.get("weight", arrays.get(prefix))
        if table is None or table.ndim != 2:
            raise Unconvertible(f"there is no table {prefix!r} of two axes among {_names(arrays)}")
        return draft.embed(draft.input("input", (Axis("steps"), Axis("rows"))), table)
    first = "weight" if kind == "linear" else "weight_ih_l0"
    if first not in found:
        raise Unconvertible(f"there is no {prefix}.{first} among {_names(arrays)}")
    if signal is None:
        signal = draft.input("input", (Axis("steps"), Axis("rows"), found[first].shape[1]))
    if kind == "linear":
        return draft.linear(signal, found["weight"].astype(np.float32), found.get("bias"))
    return _recurrent(draft, signal, kind, found)


def _of(signal: Signal | None) -> Signal:
    if signal is None:
        raise Unconvertible("the first layer must have weights, which tell what the network reads")
    return signal


def _of_prefix(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The arrays of a layer by PyTorch's names."""
    short = {"w": "weight", "b": "bias"}
    found = {}
    for name, value in arrays.items():
        if prefix and not re.match(re.escape(prefix) + r"[._]", name):
            continue
        rest = name[len(prefix) + 1 :] if prefix else name
        if value.dtype.kind not in "fiu":
            raise Unconvertible(f"the array {name!r} has the type {value.dtype}, expected numbers")
        rest = re.sub(r"^([wb])(?=_|$)", lambda m: short[m[1]], rest)
        if re.fullmatch(r"(weight|bias)_[ih]h", rest):
            rest += "_l0"
        found[rest] = value
    return found


def _recurrent(draft: Draft, signal: Signal, kind: str, found: Mapping[str, Array]) -> Signal:
    state = {name: value for name, value in found.items() if re.search(r"_l\d+(_reverse)?$", name)}
    count = 1 + max(int(name.rpartition("_l")[2].partition("_")[0]) for name in state)
    rows, inputs = state["weight_ih_l0"].shape
    size = state["weight_hh_l0"].shape[1] if "weight_hh_l0" in state else rows // TABLE[kind].gates
    both = any(name.endswith("_reverse") for name in state)
    layer = LAYERS[kind](inputs, size, count, bias="bias_ih_l0" in state, bidirectional=both, seed=0)
    try:
        layer.load_state_dict(state)
    except ValueError as error:
        raise Unconvertible(f"its arrays do not fit {layer!r}, which reads {inputs} numbers: {error}") from None
    return draft.recurrent(signal, layer, size * (1 + both))
