"""Reading model files: every byte is checked before it is used."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from rnnfast import _core
from rnnfast._expect import brief, shown
from rnnfast.files import PathLike, checked_path
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.network import Network
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.models.storage import FORMAT, FORMAT_VERSION, VERSION_OF_ROUNDED, VERSION_OF_SPARSE, WEIGHTS, restored
from rnnfast.nn.layer import Array
from rnnfast.text.vocab import Vocab

NETWORKS: dict[str, type[LanguageModel | Seq2Seq | Network]] = {
    kind.kind: kind for kind in (LanguageModel, Seq2Seq, Network)
}
# What a constructor raises for a configuration that it cannot use.
UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_START = 1 << 16  # bytes of a file that show what it is


@dataclass(frozen=True)
class ModelFile:
    """A model file of rnnfast whose tensors and header have been checked; its configuration has not."""

    name: str
    kind: str
    tensors: dict[str, Array]
    metadata: dict[str, str]

    def unusable(self, error: Exception) -> Exception:
        """What to raise for a configuration that a constructor refused."""
        return _core.Error(f"{self.name}: its configuration cannot be used: {error}")


def read_file(path: PathLike, *, weights: str | None = None) -> ModelFile:
    """A model file of any kind. Raises ``rf.FileFormatError`` for a file that is damaged, of another version or not rnnfast's."""
    name = checked_path(path)
    if weights is not None and weights not in WEIGHTS:
        raise ValueError(f"weights is {brief(weights)}, expected one of {', '.join(WEIGHTS)}")
    if not os.path.exists(name):
        raise FileNotFoundError(f"{shown(name)} does not exist; give the path of a model file")
    start = start_of(name)
    if (
        b"\0" not in start and start[8:9] != b"{" and start.strip()
    ):  # the length that begins a safetensors file has zero bytes
        raise _core.Error(f"{name}: looks like text, not a safetensors file; give the path of a model file")
    tensors, metadata = _core.read_model(name, weights)  # one set of rules for Python and C++
    if metadata.get("format") != FORMAT:
        raise _core.Error(f"{name}: a safetensors file, but not a model of rnnfast; train one with `rnnfast train`")
    version = metadata.get("format_version")
    if version not in (FORMAT_VERSION, VERSION_OF_ROUNDED, VERSION_OF_SPARSE):
        raise _core.Error(
            f"{name}: format version {version!r}, this rnnfast reads versions {FORMAT_VERSION}, {VERSION_OF_ROUNDED} and "
            f"{VERSION_OF_SPARSE}; update rnnfast"
        )
    return ModelFile(name, str(metadata.get("kind")), tensors, metadata)


def start_of(path: PathLike) -> bytes:
    """The first bytes of a file; empty if it cannot be read, which reading all of it reports."""
    try:
        with open(path, "rb") as file:
            return file.read(_START)
    except OSError:
        return b""


def network_in(
    file: ModelFile, *, weights: str | None = None
) -> tuple[LanguageModel | Seq2Seq | Network, dict[str, Array]]:
    """The model in a file, and the tensors that are not its weights."""
    if file.kind not in NETWORKS:
        raise _core.Error(f"{file.name}: holds a {brief(file.kind)}, expected one of {', '.join(NETWORKS)}")
    tensors = restored(file.tensors)
    network = NETWORKS[file.kind]
    try:
        config = {**json.loads(file.metadata["config"]), **({} if weights is None else {"weights": weights})}
        vocabularies = {
            key: Vocab.from_description(json.loads(file.metadata[key]))
            for key in network.vocabularies.values()
            if key in file.metadata
        }
        model = network.from_config(config, vocabularies)
        model.restore_metadata(file.metadata)
    except UNUSABLE as error:
        raise file.unusable(error) from None
    model.load_file_weights({parameter: tensors.pop(parameter) for parameter in model.parameters()})
    return model, tensors
