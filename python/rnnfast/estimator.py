"""What the estimators share: scikit-learn's habits, and layers that are trained and saved together."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rnnfast._arrays import new_seed
from rnnfast.models import FORMAT, FORMAT_VERSION, write_tensors
from rnnfast.nn import GRU, LSTM, RNN, Array, Layer
from rnnfast.optim import Adam, clip_grad_norm_
from rnnfast.text import PathLike

_CELLS: dict[str, Any] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}


def recurrent_layer(cell: str, input_size: int, hidden_size: int, num_layers: int, seed: int) -> Any:
    """The layer of a cell by its name."""
    if cell not in _CELLS:
        raise ValueError(f"unknown cell {cell!r}: expected one of {', '.join(_CELLS)}")
    return _CELLS[cell](input_size, hidden_size, num_layers, seed=seed)


class Network:
    """Several layers with one optimiser each, trained together."""

    def __init__(self, lr: float, **layers: Layer) -> None:
        self.layers = layers
        self._optimizers = [Adam(layer, lr=lr) for layer in layers.values()]

    def __getitem__(self, name: str) -> Any:
        return self.layers[name]

    def state_dict(self) -> dict[str, Array]:
        """The weights by ``layer.name``."""
        return {f"{n}.{p}": v for n, layer in self.layers.items() for p, v in layer.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copies weights in."""
        for name, layer in self.layers.items():
            prefix = name + "."
            layer.load_state_dict({n[len(prefix) :]: v for n, v in state.items() if n.startswith(prefix)})

    def update(self, lr: float, clip_norm: float) -> None:
        """One step along the gradients, whose common norm is clipped first."""
        norm = math.sqrt(sum(clip_grad_norm_(layer, math.inf) ** 2 for layer in self.layers.values()))
        if not math.isfinite(norm):
            raise ArithmeticError(f"training diverged: the gradient's norm is {norm}; try a smaller lr")
        for layer, optimizer in zip(self.layers.values(), self._optimizers):
            if norm > clip_norm:
                for gradient in layer.grads.values():
                    gradient *= clip_norm / norm
            optimizer.lr = lr
            optimizer.step()
            optimizer.zero_grad()


class Estimator:
    """scikit-learn's habits: parameters by name, ``fit`` returns self, what is learnt ends in ``_``."""

    kind: str

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Any:
        """Changes arguments of the constructor; they count from the next ``fit`` on."""
        for name, value in params.items():
            if name not in self._names():
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}: it has {', '.join(self._names())}")
            setattr(self, name, value)
        return self

    def _names(self) -> list[str]:
        return [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in self.get_params().items())})"

    def _seed(self) -> int:
        return new_seed(self.seed)  # type: ignore[attr-defined]

    def _save(self, path: PathLike, tensors: Mapping[str, Array], learnt: Mapping[str, Any]) -> None:
        config = {"params": self.get_params(), **learnt}
        metadata = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "config": json.dumps(config, ensure_ascii=False),
        }
        write_tensors(path, tensors, metadata)


def check_sizes(tensors: Mapping[str, Array], num_layers: int, *asked: int) -> None:
    """``ValueError`` if a file's configuration asks for larger weights than the file holds."""
    if not 0 < num_layers <= len(tensors) or max(asked) > sum(value.size for value in tensors.values()):
        raise ValueError("the configuration asks for more weights than the file holds")


def falling_rate(lr: float, epoch: int, epochs: int) -> float:
    """Half a cosine from ``lr`` to almost 0."""
    return lr * (1 + math.cos(math.pi * epoch / epochs)) / 2


def shuffled(count: int, batch_size: int, random: np.random.Generator) -> Iterable[Any]:
    """The numbers below ``count`` in random order, ``batch_size`` at once."""
    order = random.permutation(count)
    return (order[i : i + batch_size] for i in range(0, count, batch_size))
