"""Optimisers with PyTorch's update rules, and gradient clipping.

An optimiser takes a model or a layer, not a list of tensors: ``rf.Adam(model, lr=2e-3)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core


def _check(name: str, value: float, low: float, high: float = float("inf")) -> float:
    if not low <= float(value) < high:
        raise ValueError(f"{name} is {value}, expected at least {low}" + (f" and below {high}" if high < 1e9 else ""))
    return float(value)


class Optimizer:
    """Common part: ``step``, ``zero_grad``, ``lr``, and a state that can be saved."""

    def __init__(self, model: Any, lr: float, **options: Any) -> None:
        self.lr = _check("lr", lr, 0.0)
        self._model, self.options = model, options
        self._core = model._core.make_optimizer(_core.OptimizerOptions(**options))

    def step(self) -> None:
        """Moves every weight by its gradient."""
        self._core.step(_check("lr", self.lr, 0.0))
        self._model._core.weights_changed()

    def zero_grad(self) -> None:
        """Sets every gradient to zero."""
        self._model._core.zero_grad()

    def state_dict(self) -> dict[str, NDArray[np.float32]]:
        """Running means by name, and ``steps``: all that an exact resume needs beside the weights and ``lr``."""
        state = {name: np.array(value) for name, value in self._core.state().items()}
        # Three base-4096 digits: every part is exact in float32, the one dtype of the model file.
        steps = self._core.steps
        state["steps"] = np.array([steps % 4096, steps // 4096 % 4096, steps // 4096**2], np.float32)
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """The opposite of :meth:`state_dict`; ``ValueError`` if it is another optimiser's."""
        own = self._core.state()
        if own.keys() | {"steps"} != set(state) or any(own[n].shape != state[n].shape for n in own):
            raise ValueError("optimizer state does not fit: it was saved by another optimizer or for another model")
        for name, value in own.items():
            value[...] = state[name]
        low, middle, high = (int(digit) for digit in state["steps"])
        self._core.steps = low + 4096 * middle + 4096**2 * high


class SGD(Optimizer):
    """v ← momentum·v + g; w ← w − lr·v, with g including weight_decay·w.

    Source: I. Sutskever et al., ICML 2013, in PyTorch's form.
    """

    def __init__(
        self,
        model: Any,
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("nesterov needs a momentum and no dampening")
        super().__init__(
            model, lr, kind="sgd", momentum=_check("momentum", momentum, 0.0), dampening=dampening,
            weight_decay=_check("weight_decay", weight_decay, 0.0), nesterov=nesterov,
        )  # fmt: skip


class Adam(Optimizer):
    """m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; w ← w − lr·m̂ / (√v̂ + ε).

    Source: D. P. Kingma and J. Ba, arXiv:1412.6980.
    """

    _kind = "adam"

    def __init__(
        self,
        model: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            model, lr, kind=self._kind, beta1=_check("betas[0]", betas[0], 0.0, 1.0),
            beta2=_check("betas[1]", betas[1], 0.0, 1.0), epsilon=_check("eps", eps, 0.0),
            weight_decay=_check("weight_decay", weight_decay, 0.0),
        )  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay: w ← w − lr·weight_decay·w beside Adam's step.

    Source: I. Loshchilov and F. Hutter, arXiv:1711.05101.
    """

    _kind = "adamw"

    def __init__(self, model: Any, lr: float = 1e-3, *, weight_decay: float = 1e-2, **options: Any) -> None:
        super().__init__(model, lr, weight_decay=weight_decay, **options)


def clip_grad_norm_(model: Any, max_norm: float) -> float:
    """Scales all gradients so that their global norm is at most ``max_norm``; returns the norm before.

    Source: R. Pascanu, T. Mikolov and Y. Bengio, arXiv:1211.5063.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm is {max_norm}, expected more than 0")
    return float(model._core.clip_grad_norm(float(max_norm)))


def clip_grad_value_(model: Any, clip_value: float) -> None:
    """Limits every gradient to ±``clip_value``."""
    if not clip_value > 0:
        raise ValueError(f"clip_value is {clip_value}, expected more than 0")
    model._core.clip_grad_value(float(clip_value))


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
