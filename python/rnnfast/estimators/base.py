"""The base of all estimators: scikit-learn's conventions, and layers that are trained and saved together."""

from __future__ import annotations

import functools
import inspect
import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core
from rnnfast._arrays import at_least, between, new_seed, positive
from rnnfast._expect import brief
from rnnfast.distributed.ranks import Ranks, RanksDiffer, checksum, share_of
from rnnfast.files import PathLike
from rnnfast.models.network import Network
from rnnfast.models.storage import FORMAT, FORMAT_VERSION, write_tensors
from rnnfast.nn.recurrent import LAYERS, Recurrent
from rnnfast.text.tokenise import check_tokenizer
from rnnfast.train.exchange import Exchange
from rnnfast.train.optim import Adam, clip_grad_norm_

Check = Callable[[Any, str], Any]
Method = TypeVar("Method", bound=Callable[..., Any])
_Self = TypeVar("_Self", bound="Estimator")

Rows = NDArray[np.integer[Any]]

_MOST_WEIGHTS = 1 << 30  # of one layer: 4 GB, and as much for gradients and for each of Adam's two means
_MOST_LAYERS = 10_000


# Parameters: the constructor stores its arguments, fit checks them ---------------------------------------------------


def one_of(*names: str) -> Check:
    """A check that the value is one of ``names``."""

    def check(value: Any, name: str) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"unknown {name} {brief(value)}: expected one of {', '.join(names)}")
        return str(value)

    return check


def above_zero(value: Any, name: str) -> float:
    """``value`` as a finite float above 0."""
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{name} is {brief(value)}, expected a number")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}, expected more than 0 and finite")
    return float(value)


def largest_norm(value: Any, name: str) -> float | None:
    """``value`` as a float above 0; None or infinity, which mean no clipping, as None."""
    return (
        None
        if value is None or (isinstance(value, (float, np.floating)) and value == math.inf)
        else above_zero(value, name)
    )


def flag(value: Any, name: str) -> bool:
    """``value`` as True or False."""
    if not isinstance(value, (bool, np.bool_, int, np.integer)):
        raise TypeError(f"{name} is {brief(value)}, expected True or False")
    return bool(value)


def _tokenizer(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is {brief(value)}, expected the name of a tokenizer")
    check_tokenizer(value)
    return str(value)


def _seed(value: Any, name: str) -> int | None:
    if value is None:
        return None
    if at_least(value, 0, name) >= 2**64 - 2:  # the layers of a network also use the next two seeds
        raise ValueError(f"{name} is {value}, expected less than 2**64 - 2")
    return int(value)


def _num_layers(value: Any, name: str) -> int:
    return between(value, 1, _MOST_LAYERS, name)


CELL, TOKENIZER, SEED = one_of(*LAYERS), _tokenizer, _seed
TRAINING: dict[str, Check] = {
    "num_layers": _num_layers, "epochs": positive, "batch_size": positive, "lr": above_zero, "clip_norm": largest_norm,
    "seed": SEED, "verbose": flag,
}  # fmt: skip


def also_named(**names: str) -> Callable[[Method], Method]:
    """Lets the arguments of a method also be given by their names in version 0.1."""

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def called(*args: Any, **options: Any) -> Any:
            return method(*args, **{names.get(name, name): value for name, value in options.items()})

        return called  # type: ignore[return-value]

    return decorate


# Networks -----------------------------------------------------------------------------------------------------------


def check_size(what: str, weights: int) -> None:
    """``ValueError`` for more weights than is reasonable, before memory is allocated."""
    if weights > _MOST_WEIGHTS:
        raise ValueError(
            f"{what} would have {weights:.3g} weights, expected at most {_MOST_WEIGHTS:.3g}: reduce a size or the number of layers"
        )


def recurrent_layer(cell: str, input_size: int, hidden_size: int, num_layers: int, seed: int) -> Recurrent:
    """The layer of a cell by its name."""
    check_size("the recurrent layer", 4 * num_layers * hidden_size * (hidden_size + 1) + 4 * hidden_size * input_size)
    return LAYERS[cell](input_size, hidden_size, num_layers, seed=seed)


class Trainer:
    """Adam for all layers of a network, with gradients clipped by their common norm."""

    def __init__(self, network: Network, clip_norm: float | None, ranks: Ranks | None = None) -> None:
        self._network, self._clip_norm = network, math.inf if clip_norm is None else clip_norm
        self._ranks = ranks
        self._exchange = None if ranks is None else Exchange(network, ranks, None)
        self._optimizer = Adam(network)
        self._names = list(network.parameters())

    def learn(self, lr: float, chosen: Rows, learn: Callable[[Rows], float]) -> float:
        """One step along the gradients of the mean loss of the ``chosen`` rows, which ``learn`` adds to those of the network; that loss."""
        loss = learn(chosen) if self._exchange is None else self._in_shards(chosen, learn)
        self.step(lr, loss)
        return loss

    def _in_shards(self, chosen: Rows, learn: Callable[[Rows], float]) -> float:
        """``learn`` of the shards of this rank; the gradients are then those of all."""
        ranks, exchange = self._ranks, self._exchange
        assert ranks is not None
        assert exchange is not None
        found: list[float] = []
        for shard in ranks.own:
            share = share_of(len(chosen), shard, ranks.shards)
            own = chosen[share.start : share.stop]
            found.append(len(own) * learn(own) if len(own) else 0.0)
            if shard + 1 == ranks.own.stop:
                exchange.finish((lambda: None) if len(own) else None, float(len(own)))
            elif len(own):
                exchange.take(float(len(own)))
            else:
                exchange.skip()
        exchange.give(1.0 / len(chosen))
        return sum(ranks.gather(np.array(found)).ravel().tolist(), 0.0) / len(chosen)

    def step(self, lr: float, loss: float) -> None:
        """One step along the gradients of ``loss``, which are then zero."""
        layers = dict.fromkeys(name.partition(".")[0] for name in self._names)
        norm = math.sqrt(sum(self._norm_of(layer) ** 2 for layer in layers))
        if not math.isfinite(norm) or not math.isfinite(loss):
            raise OverflowError(f"training diverged: the loss is {loss}, the gradient's norm {norm}; try a smaller lr")
        if norm > self._clip_norm:
            for gradient in self._network.grads.values():
                gradient *= self._clip_norm / norm
        self._optimizer.lr = lr
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _norm_of(self, layer: str) -> float:
        """The norm of the gradients of one layer. Rounding it by layer keeps the results of earlier versions."""
        others = [name for name in self._names if not name.startswith(f"{layer}.")]
        self._network._core.set_frozen(others)  # which norms leave out
        norm = clip_grad_norm_(self._network, math.inf)
        self._network._core.set_frozen([])
        return norm


@contextmanager
def on_all(
    ranks: Ranks | None, network: Network, params: Mapping[str, Any], data: Mapping[str, NDArray[Any]]
) -> Iterator[None]:
    """Training that all ranks do, checked to be the same: before, its ``params`` and ``data``; after it, the weights."""
    if ranks is None:
        yield
        return
    with ranks.together(RanksDiffer, OverflowError):
        ranks.check_same(
            {
                "version of rnnfast": _core.__version__,
                "parameters": str(dict(params)),
                "checksum of the training data": checksum(data),
                "checksum of the weights": checksum(network.parameters()),
            }
        )
        yield
        ranks.check_same({"checksum of the weights after training": checksum(network.parameters())})


def epochs_shown(epochs: int, losses: list[float], *, shown: bool) -> Iterator[int]:
    """The numbers 0 to ``epochs`` - 1; if ``shown``, with a progress bar and the last of ``losses``."""
    if not shown:
        yield from range(epochs)
        return
    from tqdm.auto import tqdm

    with tqdm(total=epochs, unit="epoch") as bar:
        for epoch in range(epochs):
            yield epoch
            bar.set_postfix_str(f"loss {losses[-1]:.4g}", refresh=False)
            bar.update()


def falling_rate(lr: float, epoch: int, epochs: int) -> float:
    """Half a cosine from ``lr`` to almost 0."""
    return lr * (1 + math.cos(math.pi * epoch / epochs)) / 2


def shuffled(count: int, batch_size: int, random: np.random.Generator) -> Iterable[Any]:
    """The numbers 0 to ``count`` - 1 in random order, ``batch_size`` at a time."""
    order = random.permutation(count)
    return (order[i : i + batch_size] for i in range(0, count, batch_size))


# Estimators ---------------------------------------------------------------------------------------------------------


class NotFittedError(ValueError, AttributeError):
    """An estimator was used before ``fit``. If scikit-learn is loaded, this is a subclass of its error of the same name.

    >>> import rnnfast as rf
    >>> try:
    ...     rf.SequenceClassifier().predict(["a"])
    ... except rf.NotFittedError as error:
    ...     print("fit" in str(error))
    True
    """


@functools.lru_cache(maxsize=1)
def _not_fitted_with(theirs: type[Exception]) -> type[NotFittedError]:
    return type("NotFittedError", (NotFittedError, theirs), {"__module__": __name__})


def _not_fitted(message: str) -> NotFittedError:
    loaded = sys.modules.get("sklearn.exceptions")  # no one can catch an error of a module that is not loaded
    return NotFittedError(message) if loaded is None else _not_fitted_with(loaded.NotFittedError)(message)


class Estimator(ABC):
    """scikit-learn's conventions: the constructor stores its arguments, ``fit`` checks them and returns self, learned attributes end in
    ``_``.

    The learned attributes, including ``params_``, are replaced together when ``fit`` has succeeded, and predictions use nothing else:
    :meth:`set_params` affects the next ``fit`` only.
    """

    kind: str
    params_: dict[str, Any]  # the parameters of the fit, checked
    _checks: ClassVar[Mapping[str, Check]]
    _learnt: ClassVar[tuple[str, ...]]  # the attributes that fit sets

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments; ``deep`` has no effect, since none of them is an estimator."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self: _Self, **params: Any) -> _Self:
        """Changes arguments of the constructor, all or none; takes effect at the next ``fit``."""
        for name in params:
            if name not in self._names():
                raise ValueError(
                    f"{type(self).__name__} has no parameter {brief(name)}: it has {', '.join(self._names())}"
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in self.get_params().items())})"

    def _checked(self) -> dict[str, Any]:
        """The parameters as plain numbers and strings; errors name the wrong one."""
        return {name: check(getattr(self, name), name) for name, check in self._checks.items()}

    def _learn(self, params: dict[str, Any], **learnt: Any) -> None:
        """Replaces everything that an earlier fit has learned."""
        for name in self._learnt:
            self.__dict__.pop(name, None)
        self.__dict__.update(learnt, params_=params)

    def _columns(self) -> list[str] | None:
        """The names of the fitted columns, if they had names."""
        return list(self.feature_names_in_) if hasattr(self, "feature_names_in_") else None

    def _losses(self) -> dict[str, list[float]]:
        """The loss of each epoch for a file; an estimator from a file of version 0.1 does not have it."""
        return {"loss_curve": self.loss_curve_} if hasattr(self, "loss_curve_") else {}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "params_")

    def _check_fitted(self) -> None:
        if not hasattr(self, "params_"):
            raise _not_fitted(f"the {type(self).__name__} is not fitted yet; call fit first")

    def _tags(self, estimator_type: str | None, *, requires_y: bool, **inputs: bool) -> Any:
        """scikit-learn's description of this estimator; only scikit-learn calls this."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type=estimator_type,
            target_tags=TargetTags(required=requires_y, one_d_labels=requires_y),
            classifier_tags=ClassifierTags() if estimator_type == "classifier" else None,
            non_deterministic=getattr(self, "seed", 0) is None,
            input_tags=InputTags(two_d_array=True, **inputs),
        )

    # Files and pickles store the same bytes

    @abstractmethod
    def _parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The learned attributes except ``params_``, as JSON and as tensors."""

    @abstractmethod
    def _restore(self, params: dict[str, Any], config: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        """Restores what :meth:`_parts` returned; everything is checked."""

    def _file(self) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        self._check_fitted()
        learnt, tensors = self._parts()
        config = json.dumps({"params": self.params_, **learnt}, ensure_ascii=False, allow_nan=False)
        return tensors, {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": self.kind, "config": config}

    def save(self, path: PathLike) -> None:
        """Writes the fitted estimator to a safetensors file; :func:`rnnfast.load` reads it.

        The loaded estimator has the parameters of the fit.
        """
        write_tensors(path, *self._file())

    @classmethod
    def from_parts(cls: type[_Self], config: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> _Self:
        """The estimator from the configuration and tensors of a file."""
        estimator = cls(**config["params"])
        estimator._restore(estimator._checked(), config, tensors)
        return estimator

    def __getstate__(self) -> dict[str, Any]:
        held = {name: value for name, value in vars(self).items() if name not in (*self._learnt, "params_")}
        return {"held": held, "model": _core.safetensors_bytes(*self._file()) if hasattr(self, "params_") else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["held"])
        if state["model"] is None:
            return
        tensors, metadata = _core.parse_safetensors(state["model"], f"the pickled {type(self).__name__}")
        if (metadata.get("format"), metadata.get("format_version")) != (FORMAT, FORMAT_VERSION) or metadata.get(
            "kind"
        ) != self.kind:
            raise _core.Error(
                f"the pickled {type(self).__name__} holds {brief(metadata.get('kind'))} of another version; update rnnfast"
            )
        config = json.loads(metadata["config"])
        params = {name: check(config["params"][name], name) for name, check in self._checks.items()}
        self._restore(params, config, tensors)


# Files --------------------------------------------------------------------------------------------------------------


def check_sizes(tensors: Mapping[str, NDArray[Any]], num_layers: int, *asked: int) -> None:
    """``ValueError`` if the configuration of a file needs more weights than the file has."""
    if not 0 < num_layers <= len(tensors) or max(asked) > sum(value.size for value in tensors.values()):
        raise ValueError("the configuration needs more weights than the file has")


def checked_reals(values: Any, name: str, size: int | None = None, *, positive: bool = False) -> NDArray[np.float64]:
    """A list of finite numbers (size,) from a file."""
    array = np.array(values, np.float64)
    if array.ndim != 1 or len(array) == 0 or (size is not None and len(array) != size):
        raise ValueError(
            f"the {name} has shape {array.shape}, expected {'a list of numbers' if size is None else (size,)}"
        )
    if not np.isfinite(array).all() or (positive and not (array > 0).all()):
        raise ValueError(f"the {name} holds a number that is not finite{' and more than 0' if positive else ''}")
    return array


def losses_in(config: Mapping[str, Any]) -> dict[str, list[float]]:
    """The loss of each epoch, if the file has it."""
    return {"loss_curve_": checked_reals(config["loss_curve"], "loss_curve").tolist()} if "loss_curve" in config else {}


def named_columns(names: Any, size: int) -> dict[str, Any]:
    """scikit-learn's attribute with the names of ``size`` columns, if they have names."""
    if names is None:
        return {}
    if not isinstance(names, list) or len(names) != size or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the names of the columns are {brief(names)}, expected {size} strings")
    return {"feature_names_in_": np.array(names, object)}


def doubles_as_bytes(values: NDArray[np.float64]) -> NDArray[np.int8]:
    """Double-precision numbers (R, C) as a tensor (R, 8 C) of bytes: our files have no type that stores them exactly."""
    return np.ascontiguousarray(values, "<f8").view(np.int8)


def doubles_from_bytes(tensor: NDArray[Any], name: str, shape: tuple[int, int]) -> NDArray[np.float64]:
    """The numbers that :func:`doubles_as_bytes` wrote, checked to have this shape and to be finite."""
    if tensor.dtype != np.int8 or tensor.shape != (shape[0], 8 * shape[1]):
        raise ValueError(
            f"{name} has shape {tensor.shape} and type {tensor.dtype}, expected {(shape[0], 8 * shape[1])} and int8"
        )
    values = np.ascontiguousarray(tensor).view("<f8").astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return values


def fresh_seed(params: Mapping[str, Any], ranks: Ranks | None = None) -> int:
    """The parameter ``seed``, or a new one: that of rank 0."""
    seed = new_seed(params["seed"])
    return seed if ranks is None else int(ranks.first(seed))
