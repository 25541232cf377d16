"""Continuing a run: from a checkpoint by ``--resume``, from a finished model by ``--from``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnnfast import _core
from rnnfast.commands.options import sidecar
from rnnfast.commands.output import is_stream
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.network import Network
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.text.vocab import Vocab

TEXTS = ("file", "source", "target")
_MAY_CHANGE = ("epochs", "lr", "patience", "output", "force", *TEXTS)


class Recorded:
    """The settings and the data of the run that wrote a checkpoint."""

    def __init__(self, checkpoint: Path, command: str, defaults: Mapping[str, Any]) -> None:
        from rnnfast.train.checkpoint import read_checkpoint

        self._found = read_checkpoint(checkpoint)
        run = self._found.run
        if not isinstance(run, dict) or not isinstance(run.get("settings"), dict):
            raise ValueError(f"{checkpoint} was written by rf.fit, not by `rnnfast {command}`; resume it with rf.fit")
        written_by = run.get("command", "train")
        if written_by != command:
            raise ValueError(f"{checkpoint} was written by {written_by}: rnnfast {written_by} --resume {checkpoint}")
        for name, value in run["settings"].items():
            if name not in defaults or not _alike(value, defaults[name]):
                raise _core.Error(f"{checkpoint} is damaged or of a later version: its setting {name!r} is {value!r}")
        relative = run.get("relative", {})
        relative = relative if isinstance(relative, dict) else {"relative": relative}
        for name, held in (("sha256", run.get("sha256")), *relative.items()):
            if not isinstance(held, str):
                raise _core.Error(f"{checkpoint} is damaged: its {name!r} is {held!r}, expected a string")
        self.checkpoint, self._digest = checkpoint, run["sha256"]
        self._settings, self._relative = {**defaults, **run["settings"]}, relative

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings to continue with; ``ValueError`` lists the given options that must not change."""
        other = [
            f"--{name.replace('_', '-')} is {value}, in the checkpoint {self._settings[name]}"
            for name, value in given.items()
            if name not in _MAY_CHANGE and value != self._settings[name]
        ]
        if other:
            raise ValueError(
                f"{self.checkpoint} cannot be resumed: {'; '.join(other)}; leave them out, or start a new run"
            )
        settings = {**self._settings, **given}
        for name in TEXTS:
            if settings.get(name) is not None:
                settings[name] = self._text(name, given)
        if "output" not in given:
            settings["output"] = self._output()
        return settings

    def _output(self) -> str:
        """Relative to where the checkpoint is now, so that a copied folder does not overwrite the original."""
        recorded: str = self._settings["output"]
        if "output" in self._relative:
            return os.path.normpath(str(self.checkpoint.parent / self._relative["output"]))
        near = self.checkpoint.with_name(os.path.basename(recorded))
        return str(near) if sidecar(near, ".checkpoint.safetensors") == self.checkpoint else recorded

    def _text(self, name: str, given: Mapping[str, Any]) -> str:
        """The data file: as given, else relative to where the checkpoint is now, else at its old path."""
        recorded = self._settings[name]
        if recorded is None:
            raise ValueError(
                f"the run of {self.checkpoint} had no {name.upper()}, but {given[name]} is given; leave it out"
            )
        if name in given:
            return str(given[name])
        places = [self.checkpoint.parent / self._relative[name]] if name in self._relative else []
        places += [self.checkpoint.parent / os.path.basename(recorded), Path(recorded)]
        found = next((place for place in places if recorded != "-" and place.is_file()), None)
        if found is None:
            said = "standard input" if recorded == "-" else recorded
            raise FileNotFoundError(
                f"the run read {said}, which is not available to resume {self.checkpoint}; give {name.upper()} again"
            )
        return os.path.normpath(str(found))

    def check(self, name: str, digest: str) -> None:
        """``ValueError`` if the data are not those of the run."""
        if self._digest != digest:
            raise ValueError(
                f"{name} is not the data of {self.checkpoint}, or has changed since; give the right file, or start a new run "
                "without --resume"
            )

    def model(self) -> LanguageModel | Seq2Seq:
        """The model in the checkpoint."""
        if isinstance(self._found.model, Network):
            raise ValueError(f"{self.checkpoint} is of a network that Python trains: resume it with rf.fit")
        return self._found.model

    @property
    def history(self) -> list[dict[str, float]]:
        """The records of the finished epochs."""
        return [dict(record) for record in self._found.place["history"]]


def paths(settings: argparse.Namespace, checkpoint: Path | None) -> dict[str, Any]:
    """The settings that a checkpoint stores: files by their absolute paths, and relative to its folder, which may be moved."""
    named = {name: str(vars(settings)[name]) for name in (*TEXTS, "output") if vars(settings).get(name) is not None}
    files = {name: path for name, path in named.items() if path != "-" and not is_stream(path)}
    folder = os.path.abspath(checkpoint.parent if checkpoint else ".")
    return {
        "settings": {**vars(settings), **{name: os.path.abspath(path) for name, path in files.items()}},
        "relative": {name: os.path.relpath(path, folder) for name, path in files.items()},
    }


def started_from(path: str, command: str, given: Mapping[str, Any]) -> LanguageModel | Seq2Seq:
    """The finished model to train further. ``ValueError`` names the given options that it contradicts."""
    from rnnfast.io import load
    from rnnfast.markov.ngram import NGram

    model = load(path, kind="language_model") if command == "train" else load(path, kind="seq2seq")
    if isinstance(model, NGram):
        raise ValueError(f"--from {path} holds counts of n-grams; only a network can be trained further")
    if model.config["weights"] == "int8":
        raise ValueError(f"--from {path} is quantized to int8, for inference only; give the file it was made from")
    if _vocabulary_of(model) is None:
        raise ValueError(f"--from {path} has no vocabulary to read a text with; train it in Python with rf.fit")
    own = _decided(model)
    other = [
        f"--{name.replace('_', '-')} is {value}, in the model {own.get(name, False)}"
        for name, value in given.items()
        if name in _ARCHITECTURE and value != own.get(name, False)
    ]
    other += [
        f"--{name.replace('_', '-')} has no effect on a finished model" for name in _OF_A_NEW_MODEL if name in given
    ]
    if other:
        raise ValueError(f"--from {path}: {'; '.join(other)}; leave them out")
    return model


_OF_A_NEW_MODEL = ("vocab_size", "min_freq", "max_vocab", "init_scale")
_ARCHITECTURE = (
    "cell", "hidden_size", "num_layers", "embedding_size", "dropout", "output_dropout", "variational", "tie_weights",
    "residual", "norm", "embedding_dropout", "output_layer", "cutoffs", "div_value", "num_sampled", "weight_drop", "window", "weights",
    "bidirectional", "encoder_window", "context", "decoder", "attention", "readout", "teacher_forcing", "tokenizer", "lower",
)  # fmt: skip


def architecture(model: LanguageModel | Seq2Seq, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a model decides, by their names on the command line."""
    own = _decided(model)
    return {name: own.get(name, False) for name in _ARCHITECTURE if name in settings}


_ABSENT: dict[str, Any] = {
    "norm": "none", "embedding_dropout": None, "output_dropout": None, "weight_drop": 0.0, "div_value": None, "num_sampled": 0,
    "window": 1, "encoder_window": 1,
}  # fmt: skip


def _decided(model: LanguageModel | Seq2Seq) -> dict[str, Any]:
    config = model.config
    vocab, own = _vocabulary_of(model), {**_ABSENT, **config}
    own.update(output_layer=config.get("output", "softmax"), cutoffs=",".join(map(str, config.get("cutoffs", []))))
    if vocab is not None:
        own.update(tokenizer=vocab.tokenizer, lower=vocab.lower)
    return own if isinstance(model, LanguageModel) else {**own, "decoder": model.decoder}


def _vocabulary_of(model: LanguageModel | Seq2Seq) -> Vocab | None:
    """A language model's vocabulary, a translator's of the source."""
    return model.vocab if isinstance(model, LanguageModel) else model.source_vocab


def _alike(value: Any, default: Any) -> bool:
    """Whether a recorded setting has the type of its default."""
    if default is None:
        return value is None or (isinstance(value, (str, float)) and value == value)
    if isinstance(default, float):
        return type(value) in (int, float) and 0 <= value < float("inf")
    return type(value) is type(default) and (not isinstance(value, int) or value >= 0)
