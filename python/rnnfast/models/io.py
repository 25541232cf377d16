"""Model files: one safetensors file with weights, configuration and vocabulary."""

from __future__ import annotations

import json
import os
import re
import zlib
from typing import Any, Callable, TypeVar

from rnnfast import _core
from rnnfast._expect import brief, shown
from rnnfast.files import PathLike, checked_path
from rnnfast.markov.ngram import NGram
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.models.storage import FORMAT, FORMAT_VERSION, VERSION_OF_ROUNDED, WEIGHTS, restored, rounded
from rnnfast.nn.layer import Array
from rnnfast.text.vocab import Vocab

_KINDS = {
    LanguageModel.kind: "a language model, for `rnnfast generate` and `rnnfast eval`",
    Seq2Seq.kind: "a translator, for `rnnfast translate`",
}
_ESTIMATORS: dict[str, Any] = {}
_Class = TypeVar("_Class", bound=type)


def loadable(description: str) -> Callable[[_Class], _Class]:
    """Lets :func:`load` read the files of an estimator, a class with ``kind`` and ``from_parts``; messages say ``description``."""

    def register(estimator: _Class) -> _Class:
        kind: str = estimator.kind  # type: ignore[attr-defined]
        _KINDS[kind], _ESTIMATORS[kind] = description, estimator
        return estimator

    return register


_START = 1 << 16  # bytes of a file that show what it is


def load(path: PathLike, *, weights: str | None = None, kind: str | None = None) -> Any:
    """The model in a file that its ``save`` wrote; a checkpoint's model too, and an n-gram model in an ARPA file.

    ``weights`` is the precision of its products, ``"f32"``, ``"bf16"`` or, to run it only, ``"int8"``; None: as the file
    says. ``kind`` is the only kind wanted, such as ``"language_model"`` (n-gram models are of it) or ``"seq2seq"``.

    Raises ``rf.FileFormatError`` for a file that is damaged, of another version or kind, or not rnnfast's.
    """
    path = checked_path(path)
    if kind is not None and kind not in _KINDS:
        raise ValueError(f"kind is {brief(kind)}, expected one of {', '.join(_KINDS)}")
    arpa = _is_arpa(path)
    model: Any = NGram.from_arpa(path) if arpa else read(path, weights=weights)[0]
    held = LanguageModel.kind if arpa else model.kind
    if kind not in (None, held):
        raise _core.Error(f"{os.fspath(path)} holds {_KINDS[held]}; expected {_KINDS[str(kind)]}")
    return model


def quantize(source: PathLike, output: PathLike, *, weights: str = "int8") -> None:
    """Writes the model of one file into another with its matrices rounded to ``"int8"`` (a quarter of the size) or
    ``"bf16"`` (half); it loads as it is, and gives what ``load(source, weights=weights)`` gives, to the bit."""
    load(source, weights=weights).save(output, weights=weights)


def _is_arpa(path: PathLike) -> bool:
    """Whether a file holds n-grams: what is in it counts, whatever its name; the name where it holds neither."""
    start = _start(path)
    if start.startswith(b"\x1f\x8b"):
        try:
            start = zlib.decompressobj(wbits=31).decompress(start, _START)
        except zlib.error:
            return False
    found = start[8:9] != b"{" and re.search(rb"^\s*\\data\\\s*$", start, re.MULTILINE)
    return bool(found) or (os.fspath(path).endswith((".arpa", ".arpa.gz")) and start[8:9] != b"{")


def _start(path: PathLike) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_START)
    except OSError:  # whoever reads the file says what is wrong with it
        return b""


def read(path: PathLike, *, weights: str | None = None) -> tuple[Any, dict[str, Array], dict[str, str]]:
    """The model, the tensors that are not its weights, and the metadata. Every byte is checked before use."""
    name = checked_path(path)
    if weights is not None and weights not in WEIGHTS:
        raise ValueError(f"weights is {brief(weights)}, expected one of {', '.join(WEIGHTS)}")
    if not os.path.exists(name):
        raise FileNotFoundError(f"{shown(name)} does not exist; give the path of a model file")
    start = _start(name)
    if b"\0" not in start and start[8:9] != b"{" and start.strip():  # a number of eight bytes would hold zeros
        raise _core.Error(f"{name}: is not a safetensors file but looks like text; give the path of a model file")
    tensors, metadata = _core.read_model(name, weights)  # one set of rules for Python and C++
    if metadata.get("format") != FORMAT:
        raise _core.Error(f"{name}: a safetensors file, but not a model of rnnfast; train one with `rnnfast train`")
    version = metadata.get("format_version")
    if version not in (FORMAT_VERSION, VERSION_OF_ROUNDED):
        raise _core.Error(
            f"{name}: format version {version!r}, this rnnfast reads versions {FORMAT_VERSION} and "
            f"{VERSION_OF_ROUNDED}; update rnnfast"
        )
    kind = metadata.get("kind")
    if kind not in _KINDS:
        raise _core.Error(f"{name}: holds a {kind!r}, this rnnfast knows {', '.join(_KINDS)}; update rnnfast")
    if kind in _ESTIMATORS:
        if weights not in (None, "f32"):
            raise ValueError(f"weights is {brief(weights)}, but {name} holds a {kind}, which is float32 only")
        return _build_estimator(name, _ESTIMATORS[kind], metadata, tensors), {}, metadata
    tensors = restored(tensors)
    model = _build(name, kind, metadata, {} if weights is None else {"weights": weights})
    values = {parameter: tensors.pop(parameter) for parameter in model.parameters()}
    if kind == Seq2Seq.kind and model.config["weights"] == "int8":
        # Its products round a word beside the context, so the words must be those of a rounded file already.
        values = restored(rounded(values, "int8", model.exact))
    model.load_state_dict(values)
    return model, tensors, metadata


# What a constructor raises for a configuration that it cannot use.
_UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def _build_estimator(name: str, kind: Any, metadata: dict[str, str], tensors: dict[str, Array]) -> Any:
    try:
        return kind.from_parts(json.loads(metadata["config"]), tensors)
    except _UNUSABLE as error:
        raise _core.Error(f"{name}: its configuration cannot be used: {error}") from None


def _build(name: str, kind: str, metadata: dict[str, str], chosen: dict[str, str]) -> Any:
    try:
        config = {**json.loads(metadata["config"]), **chosen}
        if kind == Seq2Seq.kind:
            sizes = [config.pop(f"{side}_vocab_size") for side in ("source", "target")]
            source, target = (_vocabulary(metadata, f"{side}_vocabulary") for side in ("source", "target"))
            return Seq2Seq(source or sizes[0], target or sizes[1], **config)
        size = config.pop("vocab_size")
        return LanguageModel(_vocabulary(metadata, "vocabulary") or size, **config)
    except _UNUSABLE as error:
        raise _core.Error(f"{name}: its configuration cannot be used: {error}") from None


def _vocabulary(metadata: dict[str, str], key: str) -> Vocab | None:
    return Vocab.from_description(json.loads(metadata[key])) if key in metadata else None
