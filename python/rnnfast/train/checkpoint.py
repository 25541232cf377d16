"""Checkpoints of ``fit``: model files that also store the progress of training; they are checked before they are used."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core
from rnnfast._expect import brief
from rnnfast.evaluate import Text
from rnnfast.files import PathLike
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.network import Network
from rnnfast.models.reading import network_in, read_file
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.nn.layer import Array
from rnnfast.protocols import Trainable
from rnnfast.text.corpus import Corpus
from rnnfast.text.pairs import ParallelCorpus

_LARGEST_COUNT = 2**53  # a double holds every integer up to here
_LARGEST_REAL = float(np.finfo(np.float32).max)
_LONGEST = 10_000  # characters of a sentence
_PIECE = 1 << 18  # ids of a chunk, since a text may be larger than memory


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST_COUNT


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= 1.8e308


def _positive(value: Any) -> bool:
    return _number(value) and value >= 0


def _rate(value: Any) -> bool:
    return _positive(value) and value <= _LARGEST_REAL


def _sentence(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LONGEST


def _perplexity(value: Any) -> bool:
    return value is None or value == math.inf or _positive(value)


def _setting(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 1000 and all(_setting(one) and not isinstance(one, list) for one in value)
    return value is None or isinstance(value, bool) or _number(value) or value == "" or _sentence(value)


def _settings(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= 100 and all(map(_setting, value.values()))


def _row(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and any(
            all(name in value and holds(value[name]) for name, holds in {**_ROW, **own}.items())
            for own in (_ROW_OF_TEXT, _ROW_OF_NETWORK)
        )
        and all(_perplexity(v) if name.endswith("perplexity") else _setting(v) for name, v in value.items())
    )


_ROW: dict[str, Callable[[Any], bool]] = {
    "epoch": _count, "lr": _rate, "grad_norm": _positive, "clipped": _positive, "seconds": _positive
}  # fmt: skip
_ROW_OF_TEXT = {"train_perplexity": _perplexity, "tokens": _count, "tokens_per_second": _positive}
_ROW_OF_NETWORK = {"train_loss": _number, "predictions": _count, "predictions_per_second": _positive}

# The required and the optional fields of a checkpoint's JSON: the check, and a description for messages.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epoch": (_count, "an integer of at least 0"),
    "batch": (_count, "an integer of at least 0"),
    "tokens": (_count, "an integer of at least 0"),
    "clipped": (_count, "an integer of at least 0"),
    "steps": (_count, "an integer of at least 0"),
    "nll": (_number, "a finite number"),
    "norms": (_positive, "a finite number of at least 0"),
    "lr": (_rate, f"a number from 0 to {_LARGEST_REAL:.2g}"),
    "optimizer": (_sentence, "the name of an optimizer"),
    "reading": (_settings, "the settings of the minibatches"),
    "history": (lambda v: isinstance(v, list) and all(map(_row, v)), "a list with one record per epoch"),
}
_OPTIONAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "stopped": (lambda v: v is None or _sentence(v), "a sentence or null"),
    "sums": (
        lambda v: isinstance(v, list)
        and all(isinstance(p, list) and len(p) == 2 and _number(p[0]) and _positive(p[1]) for p in v),
        "pairs of sums of losses and weights",
    ),
    "rules": (_settings, "the settings of the run"),
    "epochs": (_count, "an integer of at least 0"),
    "patience": (lambda v: v is None or _positive(v), "a number of epochs or null"),
    "notes": (lambda v: isinstance(v, list) and all(map(_sentence, v)), "a list of sentences"),
    "averaged": (_count, "an integer of at least 0"),
    "pruned": (_count, "an integer of at least 0"),
    "plan": (
        lambda v: v is None or (isinstance(v, list) and len(v) == 7 and all(map(_number, v))),
        "null or seven numbers",
    ),
}


@dataclass
class Checkpoint:
    """The content of a checkpoint: the model, the progress of training, and the other tensors by name."""

    model: LanguageModel | Seq2Seq | Network
    place: dict[str, Any]
    tensors: dict[str, Array]
    run: Any

    def held(self, prefix: str) -> dict[str, Array]:
        """The tensors whose names start with ``prefix``, by the rest of their names."""
        return {name[len(prefix) :]: value for name, value in self.tensors.items() if name.startswith(prefix)}

    @property
    def state(self) -> Any:
        """The hidden state to continue from: None, h, or (h, c)."""
        parts = tuple(np.ascontiguousarray(value) for _, value in sorted(self.held("state.").items()))
        return None if not parts else parts[0] if len(parts) == 1 else parts

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that must not change when the run is resumed. Checkpoints of earlier versions have fewer of them."""
        rules = self.place.get("rules", {"schedule": "Constant()", "keep_best": False})
        return {
            "optimizer": self.place["optimizer"],
            "shards": None,
            "compress": None,
            "average": None,
            "minutes": None,
            "sparsity": None,
            **self.place["reading"],
            **rules,
        }


def read_checkpoint(path: PathLike) -> Checkpoint:
    """A checkpoint that ``fit`` wrote; ``ValueError`` for a model file, ``rf.FileFormatError`` for a damaged checkpoint."""
    file = read_file(path)
    metadata = file.metadata
    if "checkpoint" not in metadata:
        raise ValueError(f"{path} is a model, not a checkpoint to resume from")
    model, tensors = network_in(file)
    try:
        place, run = json.loads(metadata["checkpoint"]), json.loads(metadata.get("run", "null"))
        found = Checkpoint(model, place, tensors, run)
        _check_fields(place)
        _check_sums(found)
        _check_tensors(found)
    except (ValueError, RecursionError) as error:
        raise _core.Error(f"{path} is damaged: {error or 'nested too deeply'}") from None
    for row in place["history"]:
        row.update((name, math.inf) for name, value in row.items() if value is None and name.endswith("perplexity"))
    return found


def _check_fields(place: Any) -> None:
    if not isinstance(place, dict):
        raise ValueError("the progress of training is not an object")
    for name, (holds, expected) in {**_FIELDS, **_OPTIONAL}.items():
        if name not in place and name in _FIELDS:
            raise ValueError(f"{name} is missing")
        if name in place and not holds(place[name]):
            raise ValueError(f"{name} is {_short(place[name])}, expected {expected}")


def _check_sums(found: Checkpoint) -> None:
    place = found.place
    numbers = [row["epoch"] for row in place["history"]]
    if len(numbers) != place["epoch"] or numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"the history does not have one record for each of {_short(place['epoch'])} epochs")
    if place["clipped"] > place["batch"] or place["batch"] > place["tokens"]:
        raise ValueError("it has more clipped steps than steps, or more steps than tokens")
    if not place["batch"] and any(place.get(name) for name in ("tokens", "nll", "sums", "norms")):
        raise ValueError("this epoch has tokens or a loss, but no step")


def _check_tensors(found: Checkpoint) -> None:
    shapes = {name: value.shape for name, value in found.model.parameters().items()}
    best = {name: value.shape for name, value in found.held("best.").items()}
    whole = found.settings["sparsity"]
    counted = [row for row in found.place["history"] if whole is None or row.get("sparsity") == whole]
    wanted = found.settings.get("keep_best") is True and len(counted) > 0
    if best != (shapes if wanted else {}):
        raise ValueError("the weights of the best epoch are missing, have another shape, or do not belong to this run")
    mean = {name: value.shape for name, value in found.held("average.").items()}
    if mean and (mean != shapes or found.settings["average"] is None):
        raise ValueError("the averaged weights have another shape, or do not belong to this run")
    if found.held("mask.") and whole is None:
        raise ValueError("it has masks of pruned weights, which do not belong to this run")
    if (found.place.get("plan") is None) != (found.settings["minutes"] is None):
        raise ValueError("the plan of the minutes is missing, or does not belong to this run")
    state = [value.shape for _, value in sorted(found.held("state.").items())]
    rows = found.place["reading"].get("batch_size")
    begun = found.place["batch"] > 0 and found.place["reading"].get("sampling") == "sequential"
    of_state = found.model.state_shapes(rows) if begun and isinstance(found.model, LanguageModel) else []
    if state != of_state:
        raise ValueError(f"the hidden state has shapes {state}, expected {of_state}")
    for name, value in found.held("optimizer.").items():
        if name.startswith("second.") and value.size and value.min() < 0:
            raise ValueError(f"{name} of the optimizer, a mean of squares, is negative")
    digits = found.tensors.get("optimizer.steps", np.zeros(3, np.float32))
    if digits.shape != (3,) or any(not 0 <= digit < 4096 or digit % 1 for digit in digits.tolist()):
        raise ValueError("steps of the optimizer are not three digits from 0 to 4095")
    for name in found.tensors:
        if not name.startswith(("best.", "state.", "optimizer.", "average.", "mask.")):
            raise ValueError(f"the tensor {_short(name)} is not part of a checkpoint")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def as_json(place: Mapping[str, Any]) -> str:
    """The JSON of a checkpoint. Infinite perplexities become null; :func:`read_checkpoint` converts them back."""
    history = [{name: None if value == math.inf else value for name, value in row.items()} for row in place["history"]]
    return json.dumps({**place, "history": history}, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """Converts NumPy scalars, which callbacks may add to a record."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a checkpoint cannot store {brief(value)}; use types that JSON has")


def differences(given: Mapping[str, Any], kept: Mapping[str, Any]) -> list[str]:
    """The differences between a run's settings and a checkpoint's, a phrase each."""
    told = []
    for name, value in given.items():
        value = list(value) if isinstance(value, tuple) else value
        if name in kept and kept[name] != value:
            if name in ("train", "valid"):
                there = "no text" if kept[name] is None else "another one"
                told.append(f"{name} is {'not given' if value is None else 'one text'}, in the checkpoint {there}")
            else:
                told.append(f"{name} is {_short(value)}, in the checkpoint {_short(kept[name])}")
    return told


def model_differences(model: Trainable | Network, kept: Trainable | Network) -> list[str]:
    """The differences between the configurations and vocabularies of two models."""
    if type(model) is not type(kept):
        return [f"the model is a {type(model).__name__}, in the checkpoint a {type(kept).__name__}"]
    missing = object()
    names = [*kept.config, *(name for name in model.config if name not in kept.config)]
    told = [
        f"{name} is {model.config.get(name, 'not set')!r}, in the checkpoint {kept.config.get(name, 'not set')!r}"
        for name in names
        if model.config.get(name, missing) != kept.config.get(name, missing)
    ]
    for name in ("vocab", "source_vocab", "target_vocab"):
        if getattr(model, name, None) != getattr(kept, name, None):
            told.append(f"the tokens of {name} differ from those in the checkpoint")
    return told


def fingerprint(corpus: Text | None) -> str | None:
    """The number of ids of a text and their checksum; None for no text."""
    if corpus is None:
        return None
    total, check = 0, 0
    for piece in _pieces(corpus):
        total, check = total + len(piece), zlib.crc32(np.ascontiguousarray(piece, "<i8").tobytes(), check)
    return f"{total} ids, {check:08x}"


def _pieces(corpus: Text) -> Iterator[NDArray[Any]]:
    if isinstance(corpus, ParallelCorpus):
        for side in (corpus.source_ids, corpus.target_ids):
            for at in range(0, len(side), _PIECE // 64):
                sentences: Sequence[Any] = side[at : at + _PIECE // 64]
                yield np.array([len(s) for s in sentences])
                yield np.concatenate(sentences)
        return
    ids = np.asarray(corpus.ids if isinstance(corpus, Corpus) else corpus)
    yield from (ids[at : at + _PIECE] for at in range(0, len(ids), _PIECE))


def checkpoint_run(file: PathLike) -> Any:
    """The argument ``run`` of the ``fit`` that wrote the checkpoint ``file``."""
    return read_checkpoint(Path(file)).run


def finite(named: Iterable[tuple[str, Array]]) -> str | None:
    """The name of the first tensor with NaN or infinity; None if all are finite."""
    return next((name for name, value in named if not np.isfinite(value).all()), None)
