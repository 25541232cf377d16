"""Model files: one safetensors file with weights, configuration and vocabulary."""

from __future__ import annotations

import json
import os
import re
import zlib
from typing import Any, Literal, TypeVar, Union, get_args, overload

from rnnfast import _core
from rnnfast._expect import brief
from rnnfast.estimators.classify import SequenceClassifier
from rnnfast.estimators.forecast import Autoregressor, LinearAR
from rnnfast.estimators.forecaster import Forecaster
from rnnfast.estimators.tag import SequenceTagger
from rnnfast.files import PathLike, checked_path
from rnnfast.markov.ngram import NGram
from rnnfast.models.base import Model
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.network import Network, Sequential
from rnnfast.models.reading import NETWORKS, UNUSABLE, ModelFile, network_in, read_file, start_of
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.protocols import Precision

Estimator = Union[SequenceClassifier, SequenceTagger, Forecaster, Autoregressor, LinearAR]
Loaded = Union[LanguageModel, NGram, Seq2Seq, Network, Estimator]
_Loaded = TypeVar("_Loaded", bound=Loaded)

_core.Error.__doc__ = """A file is damaged, of another version or kind, or not rnnfast's; a ``ValueError`` whose message says which.

>>> import os, tempfile
>>> import rnnfast as rf
>>> with tempfile.TemporaryDirectory() as folder:
...     with open(os.path.join(folder, "notes.txt"), "w") as file:
...         written = file.write("not a model")
...     try:
...         rf.load(file.name)
...     except rf.FileFormatError as error:
...         print("looks like text" in str(error), isinstance(error, ValueError))
True True
"""

_ESTIMATORS: dict[str, type[Estimator]] = {kind.kind: kind for kind in get_args(Estimator)}
# The classes that each name of a kind stands for, and what messages call their objects.
_KINDS: dict[str, tuple[type[Loaded], ...]] = {
    LanguageModel.kind: (LanguageModel, NGram),
    Seq2Seq.kind: (Seq2Seq,),
    Network.kind: (Network,),
    **{name: (estimator,) for name, estimator in _ESTIMATORS.items()},
}
_DESCRIPTIONS: dict[type[Loaded], str] = {
    LanguageModel: "a language model, for `rnnfast generate` and `rnnfast eval`",
    NGram: "an n-gram model, for `rnnfast generate` and `rnnfast eval`",
    Seq2Seq: "a translator, for `rnnfast translate`",
    Network: "a network of layers",
    Sequential: "a chain of layers",
    SequenceClassifier: "a classifier of sequences",
    SequenceTagger: "a tagger of sequences",
    Forecaster: "a forecaster of series with intervals",
    Autoregressor: "a forecaster of series",
    LinearAR: "a linear forecaster of series",
}


@overload
def load(path: PathLike, *, weights: Precision | None = None, kind: None = None) -> Loaded: ...
@overload
def load(path: PathLike, *, weights: Precision | None = None, kind: type[_Loaded]) -> _Loaded: ...
@overload
def load(
    path: PathLike, *, weights: Precision | None = None, kind: Literal["language_model"]
) -> LanguageModel | NGram: ...
@overload
def load(path: PathLike, *, weights: Precision | None = None, kind: Literal["seq2seq"]) -> Seq2Seq: ...
@overload
def load(path: PathLike, *, weights: Precision | None = None, kind: Literal["network"]) -> Network: ...
@overload
def load(
    path: PathLike, *, weights: Precision | None = None, kind: Literal["sequence_classifier"]
) -> SequenceClassifier: ...
@overload
def load(path: PathLike, *, weights: Precision | None = None, kind: Literal["sequence_tagger"]) -> SequenceTagger: ...
@overload
def load(path: PathLike, *, weights: Precision | None = None, kind: Literal["forecaster"]) -> Forecaster: ...
@overload
def load(path: PathLike, *, weights: Precision | None = None, kind: Literal["autoregressor"]) -> Autoregressor: ...
@overload
def load(path: PathLike, *, weights: Precision | None = None, kind: Literal["linear_ar"]) -> LinearAR: ...
def load(path: PathLike, *, weights: Precision | None = None, kind: str | type[Any] | None = None) -> Loaded:
    """The model in a file that its ``save`` wrote; a checkpoint's model too, and an n-gram model in an ARPA file.

    Parameters
    ----------
    weights : the precision of its products, ``"f32"``, ``"bf16"`` or, for inference only, ``"int8"``; None: as the file says
    kind : the only kind wanted: a class, such as ``rf.Seq2Seq``, or a name, such as ``"seq2seq"`` or ``"language_model"``,
        which includes n-gram models. None: any. Type checkers infer the result from it.

    Raises ``rf.FileFormatError`` for a file that is damaged, of another version or kind, or not rnnfast's.

    >>> import tempfile
    >>> import rnnfast as rf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rf.LanguageModel(5, cell="gru", hidden_size=8, seed=0).save(f"{folder}/model.safetensors")
    ...     load(f"{folder}/model.safetensors", weights="int8").config["cell"]
    'gru'
    """
    path = checked_path(path)
    wanted = _wanted(kind)
    model = NGram.from_arpa(path) if _is_arpa(path) else _model_in(read_file(path, weights=weights), weights)
    if wanted and not isinstance(model, wanted):
        raise _core.Error(f"{path} holds {_DESCRIPTIONS[type(model)]}; expected {_DESCRIPTIONS[wanted[0]]}")
    return model


def quantize(source: PathLike, output: PathLike, *, weights: Precision = "int8") -> None:
    """Writes the model of one file into another with its matrices quantized to ``"int8"`` (a quarter of the size) or
    ``"bf16"`` (half). The new file loads with these weights; results are bit-identical to ``load(source, weights=weights)``.

    >>> import tempfile
    >>> import rnnfast as rf
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model, small = f"{folder}/model.safetensors", f"{folder}/small.safetensors"
    ...     rf.LanguageModel(50, hidden_size=64, seed=0).save(model)
    ...     quantize(model, small, weights="int8")
    ...     rf.load(small).config["weights"]
    'int8'
    """
    model = load(source, weights=weights)
    if not isinstance(model, Model):
        raise ValueError(f"{os.fspath(source)} holds {_DESCRIPTIONS[type(model)]}, which has no matrices to quantize")
    model.save(output, weights=weights)


def _wanted(kind: str | type[Any] | None) -> tuple[type[Loaded], ...]:
    if kind is None:
        return ()
    if isinstance(kind, type) and kind in _DESCRIPTIONS:
        return (kind,)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"kind is {brief(kind)}, expected one of {', '.join(_KINDS)}, or a class such as rf.Seq2Seq")
    return _KINDS[kind]


def _model_in(file: ModelFile, weights: str | None) -> LanguageModel | Seq2Seq | Network | Estimator:
    if file.kind in NETWORKS:
        return network_in(file, weights=weights)[0]
    if file.kind not in _ESTIMATORS:
        raise _core.Error(
            f"{file.name}: holds a {brief(file.kind)}, this rnnfast knows {', '.join(_KINDS)}; update rnnfast"
        )
    if weights not in (None, "f32"):
        raise ValueError(f"weights is {brief(weights)}, but {file.name} holds a {file.kind}, which is float32 only")
    try:
        return _ESTIMATORS[file.kind].from_parts(json.loads(file.metadata["config"]), file.tensors)
    except UNUSABLE as error:
        raise file.unusable(error) from None


def _is_arpa(path: PathLike) -> bool:
    """Whether a file holds n-grams: its content decides; its name does only where the content is neither kind's."""
    start = start_of(path)
    if start.startswith(b"\x1f\x8b"):
        try:
            start = zlib.decompressobj(wbits=31).decompress(start, 1 << 16)
        except zlib.error:
            return False
    found = start[8:9] != b"{" and re.search(rb"^\s*\\data\\\s*$", start, re.MULTILINE)
    return bool(found) or (os.fspath(path).endswith((".arpa", ".arpa.gz")) and start[8:9] != b"{")
