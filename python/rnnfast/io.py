"""Model files: one safetensors file with weights, configuration and vocabulary."""

from __future__ import annotations

import json
import os
from typing import Any

from rnnfast import _core
from rnnfast.classify import SequenceClassifier
from rnnfast.forecast import Autoregressor
from rnnfast.models import FORMAT, FORMAT_VERSION, VERSION_OF_ROUNDED, WEIGHTS, LanguageModel, restored
from rnnfast.ngram import NGram
from rnnfast.nn import Array
from rnnfast.text import PathLike
from rnnfast.vocab import Vocab

_ESTIMATORS: dict[str, Any] = {kind.kind: kind for kind in (Autoregressor, SequenceClassifier)}
_KINDS = (LanguageModel.kind, *_ESTIMATORS)
_LARGEST = 1 << 28  # weights of one matrix a file may ask for: 1 GB


def load(path: PathLike, *, weights: str | None = None) -> Any:
    """The model in a file that its ``save`` wrote; a checkpoint's model too, and an n-gram model in ``*.arpa``.

    ``weights`` is the precision of its products, ``"f32"``, ``"bf16"`` or, to run it only, ``"int8"``; None: as the file says.

    Raises ``rf.FileFormatError`` for a file that is damaged, of another version, or not rnnfast's.
    """
    if os.fspath(path).endswith((".arpa", ".arpa.gz")):
        return NGram.from_arpa(path)
    return read(path, weights=weights)[0]


def quantize(source: PathLike, output: PathLike, *, weights: str = "int8") -> None:
    """Writes the model of one file into another with its matrices rounded to ``"int8"`` (a quarter of the size) or
    ``"bf16"`` (half); it loads as it is, and gives what ``load(source, weights=weights)`` gives, to the bit."""
    load(source, weights=weights).save(output, weights=weights)


def read(path: PathLike, *, weights: str | None = None) -> tuple[Any, dict[str, Array], dict[str, str]]:
    """The model, the tensors that are not its weights, and the metadata. Every byte is checked before use."""
    name = os.fspath(path)
    if weights is not None and weights not in WEIGHTS:
        raise ValueError(f"weights is {weights!r}, expected one of {', '.join(WEIGHTS)}")
    if not os.path.exists(name):
        raise FileNotFoundError(f"{name} does not exist; give the path of a model file")
    tensors, metadata = _core.read_safetensors(name)
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
            raise ValueError(f"weights is {weights!r}, but {name} holds a {kind}, which is float32 only")
        return _build_estimator(name, _ESTIMATORS[kind], metadata, tensors), {}, metadata
    try:
        tensors = restored(tensors)
    except ValueError as error:
        raise _core.Error(f"{name}: {error}") from None
    model = _build(name, metadata, tensors, {} if weights is None else {"weights": weights})
    own = model.parameters()
    for parameter, value in own.items():
        if parameter not in tensors:
            raise _core.Error(f"{name}: the weights {parameter} are missing")
        if tensors[parameter].shape != value.shape:
            raise _core.Error(
                f"{name}: {parameter} has shape {tensors[parameter].shape}, its configuration wants {value.shape}"
            )
    model.load_state_dict({parameter: tensors.pop(parameter) for parameter in own})
    return model, tensors, metadata


def _build_estimator(name: str, kind: Any, metadata: dict[str, str], tensors: dict[str, Array]) -> Any:
    try:
        return kind.from_parts(json.loads(metadata["config"]), tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _core.Error(f"{name}: its configuration cannot be used: {error}") from None


def _build(name: str, metadata: dict[str, str], tensors: dict[str, Array], chosen: dict[str, str]) -> LanguageModel:
    try:
        config = {**json.loads(metadata["config"]), **chosen}
        vocabulary = json.loads(metadata["vocabulary"]) if "vocabulary" in metadata else None
        size = int(config.pop("vocab_size"))
        vocab = None
        if vocabulary is not None:
            tokens = [str(token) for token in vocabulary["tokens"]]
            vocab = Vocab.from_list(tokens, tokenizer=vocabulary["tokenizer"], rules=vocabulary.get("rules"))
            if len(vocab) != size:
                raise ValueError(f"the vocabulary has {len(vocab)} tokens, the configuration says {size}")
        # Before memory is taken for what a file claims, its tensors must be of that size.
        held = sum(value.size for value in tensors.values())
        hidden, embedding = int(config["hidden_size"]), int(config["embedding_size"])
        if max(size * hidden, hidden * hidden, size * embedding, int(config["num_layers"])) > min(held, _LARGEST):
            raise ValueError("the configuration asks for more weights than the file holds")
        return LanguageModel(size if vocab is None else vocab, **config)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _core.Error(f"{name}: its configuration cannot be used: {error}") from None
