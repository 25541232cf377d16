"""What the models share: a compiled composition, the configuration it was made from, and its file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Callable, ClassVar, TypeVar

import numpy as np

from rnnfast._expect import kind_of
from rnnfast.files import PathLike
from rnnfast.models.storage import (
    FORMAT,
    FORMAT_VERSION,
    VERSION_OF_ROUNDED,
    VERSION_OF_SPARSE,
    rounded,
    without_zeros,
    write_tensors,
)
from rnnfast.nn.layer import Array, Layer, dropout_key
from rnnfast.protocols import Precision
from rnnfast.text.vocab import Vocab

_Self = TypeVar("_Self", bound="Model")


class Model(Layer):
    """A network whose composition is compiled; a subclass adds its options, its loss and its steps."""

    kind: ClassVar[str]  # its name in files
    vocabularies: ClassVar[Mapping[str, str]]  # the attributes that hold them, and their names in a file
    _config: dict[str, Any]

    @classmethod
    def from_config(cls: type[_Self], config: Mapping[str, Any], vocabularies: Mapping[str, Vocab]) -> _Self:
        """A model with new weights from the configuration in a file, and the vocabularies in it by their names there."""
        options = dict(config)
        for name, key in cls.vocabularies.items():
            size = options.pop(f"{name}_size")
            options[name] = vocabularies.get(key, size)
        return cls(**options)

    def _compile(self, compiled: Callable[[str], Any], options: Mapping[str, Any], init_scale: float | None) -> None:
        """Makes the compiled model; ``init_scale`` replaces its first weights."""
        self.steps = 0  # of training; with the seed it decides all chance
        self._core = compiled(_as_json(options))
        self._config = json.loads(self._core.config)
        if init_scale is not None:
            self._initialize(init_scale)

    def _initialize(self, scale: float) -> None:
        """Makes every weight uniform in plus or minus ``scale``, but those of normalization."""
        if not 0 < scale < float("inf"):
            raise ValueError(f"init_scale is {scale}, expected more than 0")
        random = np.random.default_rng(self._config["seed"])
        weights = {name: w for name, w in self.parameters().items() if name.split(".")[-2] != "norm"}
        self.load_state_dict(
            {**self.parameters(), **{name: random.uniform(-scale, scale, w.shape) for name, w in weights.items()}}
        )

    def _key(self) -> int:
        """What chance depends on at this training step."""
        return dropout_key(self._config["seed"], self.steps)

    def _vocabs(self) -> dict[str, Vocab | None]:
        return {name: getattr(self, name) for name in self.vocabularies}

    def _options(self) -> dict[str, Any]:
        options = dict(self.config)
        for name, vocab in self._vocabs().items():
            size = options.pop(f"{name}_size")
            options[name] = size if vocab is None else vocab
        return options

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.config.items() if name != "seed")
        return f"{type(self).__name__}({shown})"

    @property
    def config(self) -> Mapping[str, Any]:
        """The options that the model was made with. Read-only: the compiled model does not change with them."""
        return MappingProxyType({n: list(v) if isinstance(v, list) else v for n, v in self._config.items()})

    @property
    def num_parameters(self) -> int:
        """How many numbers training adjusts."""
        return sum(value.size for value in self.parameters().values())

    def _exact(self) -> tuple[str, ...]:
        """The matrices that running in ``bf16`` or ``int8`` does not round, so a file must not round them either."""
        return ()

    def save(
        self,
        path: PathLike,
        *,
        tensors: Mapping[str, Array] | None = None,
        metadata: Mapping[str, str] | None = None,
        weights: Precision = "f32",
    ) -> None:
        """Weights, configuration and vocabularies in one safetensors file; what was at ``path`` stays until the new file is complete.

        ``tensors`` and ``metadata`` join the file's own; a checkpoint keeps the optimizer there. ``weights``: how the
        matrices are stored, ``"f32"``, or quantized to ``"bf16"`` or ``"int8"`` for a file of half or a quarter the size
        that loads with those weights (docs/model-file.md). Matrices with many blocks of zeros, as pruning leaves them, are
        stored without these blocks.
        """
        stored, sparse = without_zeros(rounded(self.parameters(), weights, self._exact()))
        config = {**self.config, **({} if weights == "f32" else {"weights": weights})}
        own = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION if weights == "f32" else VERSION_OF_ROUNDED,
            "kind": self.kind,
            "config": json.dumps(config),
        }
        if sparse:
            own.update(format_version=VERSION_OF_SPARSE, sparse=json.dumps(sparse))
        for name, vocab in self._vocabs().items():
            if vocab is not None:
                own[self.vocabularies[name]] = json.dumps(vocab.description(), ensure_ascii=False)
        own.update(self._metadata())
        write_tensors(path, {**stored, **(tensors or {})}, {**own, **(metadata or {})})

    def _metadata(self) -> dict[str, str]:
        """What else a file stores; :meth:`restore_metadata` is the inverse."""
        return {}

    def restore_metadata(self, metadata: Mapping[str, str]) -> None:
        """Takes back what the metadata of a file store besides the configuration."""

    def load_file_weights(self, weights: Mapping[str, Array]) -> None:
        """Copies in the weights that a file holds."""
        self.load_state_dict(weights)


class LossModel(Model):
    """A model with its own loss."""

    def backward(self) -> None:
        """Adds the gradients of the last ``loss`` to ``grads``."""
        self._core.backward()


def check_memory(numbers: int) -> None:
    """Raises ``MemoryError`` if a model with about this many weights does not fit in the memory of this machine."""
    try:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows; systems that do not report it
        installed = 1 << 46
    if 4 * numbers > installed:
        raise MemoryError(
            f"a model of {numbers:,} weights needs {4 * numbers / 1e9:,.1f} GB of memory, and {16 * numbers / 1e9:,.1f} GB to be "
            f"trained with Adam; this machine has {installed / 1e9:,.1f} GB: choose smaller sizes"
        )


def _as_json(options: Mapping[str, Any]) -> str:
    """The configuration that a compiled model is made from.

    >>> _as_json({"cell": b"gru"})
    Traceback (most recent call last):
    TypeError: cell is a bytes, expected a name
    """
    for name, value in options.items():
        if not isinstance(value, (str, int, float, list)):
            raise TypeError(f"{name} is {kind_of(value)}, expected a name")
    return json.dumps(options)
