"""Optimizers with PyTorch's update rules, and gradient clipping.

An optimizer takes a model, a layer, or several, not a list of tensors: ``rf.Adam(model, lr=2e-3)``,
``rf.Adam([embedding, lstm, head], lr=2e-3)``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core
from rnnfast._arrays import as_float32
from rnnfast._expect import brief
from rnnfast.distributed.ranks import Ranks
from rnnfast.nn.layer import Layer

Layers = Union[Layer, "Sequence[Layer]"]
Groups = Union[Layers, "Sequence[Mapping[str, Any]]"]

_LARGEST = float(np.finfo(np.float32).max)


def _check(name: str, value: Any, low: float, high: float = _LARGEST) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {brief(value)}, expected a number") from None
    if not low <= number < high:
        below = f" and below {high:g}" if high < _LARGEST else " and finite"
        raise ValueError(f"{name} is {value}, expected at least {low:g}{below}")
    return number


def _layers(given: Any, who: str) -> list[Layer]:
    """The layers or models in ``given``, which is one or a list of different ones."""
    layers = list(given) if isinstance(given, (list, tuple)) else [given]
    if not layers:
        raise ValueError(f"{who} was given no layer: expected a model, a layer, or a list of them")
    for at, layer in enumerate(layers):
        if isinstance(layer, Mapping):
            raise TypeError(f"{who} was given a mapping of parameters: give the layer or model itself")
        if not isinstance(layer, Layer):
            raise TypeError(f"{who} was given {_shown(layer)}: expected a model or layer of rnnfast, or a list of them")
        if any(layer is other for other in layers[:at]):
            raise ValueError(f"{who} was given the same {type(layer).__name__} twice")
    return layers


def _shown(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"{value!r}" if isinstance(value, (str, int, float, type(None))) else f"a {type(value).__name__}"


class ParamGroup(MutableMapping[str, Any]):
    """Layers that share the options of an optimizer; ``lr`` and ``weight_decay`` can be set at any time."""

    def __init__(self, optimizer: Optimizer, layers: list[Layer], options: dict[str, Any]) -> None:
        self._options = {"params": layers, "lr": options["lr"], **optimizer._checked(options)}
        self["lr"] = options["lr"]
        core = _core.OptimizerOptions(**optimizer._core_options(self._options))
        self._cores = [layer._core.make_optimizer(core) for layer in layers]

    def __getitem__(self, name: str) -> Any:
        return list(self._options[name]) if name == "params" else self._options[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in ("lr", "weight_decay"):
            raise ValueError(f"{name} of a group cannot be changed, only lr and weight_decay: make a new optimizer")
        self._options[name] = _check(name, value, 0.0)

    def __delitem__(self, name: str) -> None:
        raise ValueError(f"{name} of a group cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def __repr__(self) -> str:
        return repr(self._options)


class Optimizer(ABC):
    """The base of all optimizers: ``step``, ``zero_grad``, ``lr``, ``param_groups``, and a state that can be saved.

    ``param_groups`` is a list of mappings with ``params`` (layers), ``lr`` and the other options, as in PyTorch. Frozen
    parameters (``layer.requires_grad_(False)``) do not change. ``copy.deepcopy((model, optimizer))`` and
    ``pickle.dumps((model, optimizer))`` copy the two together; a copy of an optimizer alone has its own copies of the layers.
    """

    _kind = ""

    def __init__(self, params: Groups, lr: float, **options: Any) -> None:
        self._set_groups(params, {"lr": lr, **options})

    def _set_groups(self, params: Any, defaults: Mapping[str, Any]) -> None:
        who = type(self).__name__
        groups = [params] if isinstance(params, Mapping) else params
        if not isinstance(groups, (list, tuple)) or not any(isinstance(g, Mapping) and "params" in g for g in groups):
            groups = [{"params": params}]
        split: list[tuple[list[Layer], dict[str, Any]]] = []
        for group in groups:
            if not isinstance(group, Mapping) or "params" not in group:
                raise TypeError(
                    f"{who} was given {_shown(group)} among its groups: expected {{'params': ..., 'lr': ...}}"
                )
            own = {name: value for name, value in group.items() if name != "params"}
            if unknown := sorted(own.keys() - defaults.keys()):
                raise ValueError(f"{who} has no option {unknown[0]!r}: a group may have {', '.join(defaults)}")
            split.append((_layers(group["params"], who), {**defaults, **own}))
        every = _layers([layer for layers, _ in split for layer in layers], who)  # no layer in two groups
        if not any(layer.parameters() for layer in every):
            raise ValueError(f"{who} was given no parameters: expected at least one layer that has some")
        self.param_groups = [ParamGroup(self, layers, options) for layers, options in split]
        self._shares = [1.0] * len(split)

    @abstractmethod
    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a group except ``lr``, by PyTorch's names; ``ValueError`` if they are out of range."""

    @abstractmethod
    def _core_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The same options by the core's names."""

    @property
    def lr(self) -> float:
        """The learning rate, that of the first group if there are several. Setting it scales the others in proportion."""
        rate: float = self.param_groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, lr: float) -> None:
        first = self.param_groups[0]["lr"]
        if first > 0:  # a schedule may pass through 0
            self._shares = [group["lr"] / first for group in self.param_groups]
        rate = _check("lr", lr, 0.0)
        for group, share in zip(self.param_groups, self._shares):
            group["lr"] = rate if group is self.param_groups[0] else rate * share

    @property
    def options(self) -> dict[str, Any]:
        """The first group's options as the core takes them."""
        return self._core_options(self.param_groups[0]._options)

    @property
    def layers(self) -> list[Layer]:
        """The layers of all groups, in order."""
        return [layer for group in self.param_groups for layer in group["params"]]

    def covers(self, model: object) -> bool:
        """Whether this optimizer updates ``model`` and nothing else."""
        layers = self.layers
        return len(layers) == 1 and layers[0] is model

    def step(self) -> None:
        """Updates every weight that is not frozen."""
        self._step(zero_grad=False)

    def step_and_zero_grad(self) -> None:
        """:meth:`step` and :meth:`zero_grad` in one pass over the gradients."""
        self._step(zero_grad=True)

    def _step(self, *, zero_grad: bool) -> None:
        for group in self.param_groups:
            for layer, core in zip(group._options["params"], group._cores):
                core.step(group._options["lr"], group._options["weight_decay"], zero_grad)
                layer._core.weights_changed()

    def zero_grad(self) -> None:
        """Sets every gradient to zero."""
        for layer in self.layers:
            layer._core.zero_grad()

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for at, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {at}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group)]
        return "\n".join([*lines, ")"])

    def _parts(self) -> list[tuple[str, list[str], Any]]:
        """For every layer: the prefix of its names in the state, the names of its parameters, and its core."""
        cores = [core for group in self.param_groups for core in group._cores]
        layers = self.layers
        prefixes = [""] if len(layers) == 1 else [f"{at}." for at in range(len(layers))]
        return [(prefix, list(layer._core.parameters()), core) for prefix, layer, core in zip(prefixes, layers, cores)]

    def state_dict(self) -> dict[str, NDArray[np.float32]]:
        """Everything needed to resume exactly, besides the weights and the options of the groups.

        Running means by parameter, ``steps``, and ``kind``, which identifies the optimizer. With several layers each name begins
        with the index of the layer: ``"1.first.weight"``.
        """
        state: dict[str, NDArray[np.float32]] = {}
        for prefix, names, core in self._parts():
            state.update({prefix + name: np.array(value) for name, value in core.state().items()})
            counts = core.steps
            most = max(counts, default=0)  # a layer may have no parameters
            state[f"{prefix}steps"] = _digits(most)
            for name, count in zip(names, counts):
                if count != most:  # it was frozen for a while
                    state[f"{prefix}steps.{name}"] = _digits(count)
        state["kind"] = np.array([_KINDS.index(self._kind)], np.float32)
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """The inverse of :meth:`state_dict`. ``ValueError`` if the state is of another optimizer or damaged; then nothing is changed.

        A state saved by version 0.1 has no ``kind`` and is assumed to be of this optimizer.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"an optimizer's state is a dict of arrays, got {_shown(state)}")
        self._check_kind(state)
        known, means, counts = {"kind"}, [], []
        for prefix, names, core in self._parts():
            own = core.state()
            wanted = {*(prefix + name for name in own), f"{prefix}steps"}
            known |= wanted | {f"{prefix}steps.{name}" for name in names}
            if not wanted <= state.keys():
                raise ValueError(_OTHER)
            means += [(value, _mean(prefix + name, state, value.shape)) for name, value in own.items()]
            most = _count(f"{prefix}steps", state)
            steps = [f"{prefix}steps.{name}" for name in names]
            counts.append((core, [_count(name, state) if name in state else most for name in steps]))
        if not state.keys() <= known:
            raise ValueError(_OTHER)
        for value, mean in means:
            value[...] = mean
        for core, own_counts in counts:
            core.steps = own_counts

    def _check_kind(self, state: Mapping[str, Any]) -> None:
        if "kind" not in state:
            return
        kind = as_float32(state["kind"], "kind")
        if kind.shape != (1,) or float(kind[0]) not in range(len(_KINDS)):
            raise ValueError(f"kind in the state is {kind.tolist()}, expected one of {list(range(len(_KINDS)))}")
        held = _KINDS[int(kind[0])]
        if held != self._kind:
            raise ValueError(f"optimizer state does not fit: it is of {held}, this optimizer is {self._kind}")

    def __reduce__(self) -> tuple[Any, ...]:
        groups = [dict(group) for group in self.param_groups]
        extra = {name: value for name, value in vars(self).items() if name not in ("param_groups", "_shares")}
        return _restored, (type(self), groups, self.state_dict()), extra or None


_KINDS = ("sgd", "adam", "adamw")
_OTHER = "optimizer state does not fit: it was saved by another optimizer or for another model"
_BASE = 4096  # three digits of this base are exact in float32, the only type that a model file has for them


def _restored(kind: type[Optimizer], groups: list[dict[str, Any]], state: Mapping[str, Any]) -> Optimizer:
    optimizer = kind.__new__(kind)
    optimizer._set_groups(groups, {name: None for name in groups[0] if name != "params"})
    optimizer.load_state_dict(state)
    return optimizer


def _digits(count: int) -> NDArray[np.float32]:
    return np.array([count % _BASE, count // _BASE % _BASE, count // _BASE**2], np.float32)


def _count(name: str, state: Mapping[str, Any]) -> int:
    digits = as_float32(state[name], name)
    if digits.shape != (3,) or not all(digit in range(_BASE) for digit in digits.tolist()):
        raise ValueError(f"{name} of the optimizer is {digits.tolist()}, expected three digits from 0 to {_BASE - 1}")
    low, middle, high = (int(digit) for digit in digits)
    return low + _BASE * middle + _BASE**2 * high


def _mean(name: str, state: Mapping[str, Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    mean = as_float32(state[name], name)
    if mean.shape != shape:
        raise ValueError(f"{_OTHER} ({name} has shape {mean.shape}, expected {shape})")
    return mean


class SGD(Optimizer):
    """v ← momentum·v + g; w ← w − lr·v, with g including weight_decay·w.

    Source: I. Sutskever et al., ICML 2013, in PyTorch's form.

    >>> from rnnfast import Linear
    >>> SGD([Linear(2, 3), Linear(3, 1)], lr=0.1).param_groups[0]["lr"]
    0.1
    """

    _kind = "sgd"

    def __init__(
        self,
        params: Groups,
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params, lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov
        )

    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        momentum = _check("momentum", options["momentum"], 0.0)
        dampening = _check("dampening", options["dampening"], -_LARGEST)
        if options["nesterov"] and (momentum <= 0 or dampening != 0):
            raise ValueError("nesterov needs a momentum and no dampening")
        decay = _check("weight_decay", options["weight_decay"], 0.0)
        return {
            "momentum": momentum, "dampening": dampening, "weight_decay": decay, "nesterov": bool(options["nesterov"])
        }  # fmt: skip

    def _core_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"kind": self._kind, **{n: options[n] for n in ("momentum", "dampening", "weight_decay", "nesterov")}}


class Adam(Optimizer):
    """m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; w ← w − lr·m̂ / (√v̂ + ε).

    Arguments and defaults are those of ``torch.optim.Adam``; ``params`` may also be a model, a layer, or a list of them.

    Source: D. P. Kingma and J. Ba, arXiv:1412.6980.

    >>> from rnnfast import Linear
    >>> layer = Linear(2, 3, seed=0)
    >>> optimizer = Adam(layer, lr=0.01)
    >>> y, backward = layer.forward(np.ones((4, 2)))
    >>> dx = backward(y)  # the gradient of the sum of y² / 2
    >>> optimizer.step()
    >>> bool((layer(np.ones((4, 2))) ** 2).sum() < (y**2).sum())
    True
    """

    _kind = "adam"

    def __init__(
        self,
        params: Groups,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        betas = options["betas"]
        if not isinstance(betas, (list, tuple)) or len(betas) != 2:
            raise ValueError(f"betas is {brief(betas)}, expected two numbers from 0 to below 1")
        return {
            "betas": (_check("betas[0]", betas[0], 0.0, 1.0), _check("betas[1]", betas[1], 0.0, 1.0)),
            "eps": _check("eps", options["eps"], 0.0),
            "weight_decay": _check("weight_decay", options["weight_decay"], 0.0),
        }

    def _core_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "kind": self._kind, "beta1": options["betas"][0], "beta2": options["betas"][1], "epsilon": options["eps"],
            "weight_decay": options["weight_decay"],
        }  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay: w ← w − lr·weight_decay·w in addition to Adam's step.

    Source: I. Loshchilov and F. Hutter, arXiv:1711.05101.

    >>> from rnnfast import Linear
    >>> AdamW(Linear(2, 3), lr=1e-3, weight_decay=0.1).param_groups[0]["weight_decay"]
    0.1
    """

    _kind = "adamw"

    def __init__(self, params: Groups, lr: float = 1e-3, *, weight_decay: float = 1e-2, **options: Any) -> None:
        super().__init__(params, lr, weight_decay=weight_decay, **options)


def clip_grad_norm_(layers: Layers, max_norm: float) -> float:
    """Scales all gradients so that their global norm is at most ``max_norm``; returns the norm before.

    ``layers``: a model, a layer, or a list of them, whose gradients have one common norm. Frozen parameters are left out.

    Source: R. Pascanu, T. Mikolov and Y. Bengio, arXiv:1211.5063.

    >>> from rnnfast import Linear
    >>> layer = Linear(1, 1, bias=False, seed=0)
    >>> _, backward = layer.forward([[3.0]])
    >>> dx = backward([[1.0]])
    >>> clip_grad_norm_(layer, 1.0), layer.grads["weight"].round(3)
    (3.0, array([[1.]], dtype=float32))
    """
    parts = _layers(layers, "clip_grad_norm_")
    limit = _limit("max_norm", max_norm)
    total = 0.0
    for layer in parts:
        total = layer._core.grad_squares(total)
    return _scale_to(parts, math.sqrt(total), limit)


def clip_on_ranks_(layers: Layers, max_norm: float, ranks: Ranks) -> float:
    """:func:`clip_grad_norm_` of gradients that all ``ranks`` have: each squares a share of them. The bits are the same.

    >>> from rnnfast import Linear
    >>> layer = Linear(1, 1, bias=False, seed=0)
    >>> _, backward = layer.forward([[3.0]])
    >>> dx = backward([[1.0]])
    >>> clip_on_ranks_(layer, 1.0, Ranks(1)), layer.grads["weight"].round(3)
    (3.0, array([[1.]], dtype=float32))
    """
    parts, total = _layers(layers, "clip_on_ranks_"), 0.0
    for layer in parts:
        shares = ranks.gather(layer._core.chunk_squares(ranks.rank, ranks.size))
        for each in shares.sum(axis=0).tolist():  # one share has it, the others 0
            total += each
    return _scale_to(parts, math.sqrt(total), _limit("max_norm", max_norm))


def _scale_to(parts: list[Layer], norm: float, limit: float) -> float:
    factor = limit / (norm + 1e-6)  # PyTorch's
    if factor < 1.0:
        for layer in parts:
            layer._core.scale_grads(factor)
    return norm


def clip_grad_value_(layers: Layers, clip_value: float) -> None:
    """Limits every gradient of a model, a layer, or a list of them to ±``clip_value``.

    >>> from rnnfast import Linear
    >>> layer = Linear(2, 1, bias=False, seed=0)
    >>> _, backward = layer.forward([[3.0, 0.1]])
    >>> dx = backward([[1.0]])
    >>> clip_grad_value_(layer, 0.5)
    >>> layer.grads["weight"]
    array([[0.5, 0.1]], dtype=float32)
    """
    parts, limit = _layers(layers, "clip_grad_value_"), _limit("clip_value", clip_value)
    for layer in parts:
        layer._core.clip_grad_value(limit)


def _limit(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {brief(value)}, expected a number") from None
    if not number > 0:
        raise ValueError(f"{name} is {value}, expected more than 0")
    return number


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
