"""``accelerate`` and ``restore``: a module changes its class, and nothing else."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from rnnfast._expect import choice
from rnnfast.torch.layer import CLASSES, Accelerated, Settings, plain_class
from rnnfast.torch.openmp import two_runtimes

Module = TypeVar("Module", bound=nn.Module)
Precision = Literal["f32", "bf16", "int8"]


@dataclass(frozen=True)
class Placed:
    """One recurrent or attention layer of a model: its name there, its class, where it runs, and why if that is PyTorch."""

    name: str
    layer: str
    runs_on: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.name or '(model)'}: {self.layer} on {self.runs_on}" + (
            f" ({self.reason})" if self.reason else ""
        )


class Report(list[Placed]):
    """Prints one line a layer."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no recurrent or attention layer of torch.nn"


@functools.cache
def _fast_class(cls: Any) -> type[nn.Module] | None:
    """The subclass of a class that runs here; None if that is not a layer that runs here."""
    if cls in CLASSES:
        return CLASSES[cls]
    for base, fast in CLASSES.items():
        if issubclass(cls, base):  # a subclass of the user's, or a parametrized class: super().forward() is ours then
            members = {"__module__": cls.__module__, "__reduce_ex__": _reduce, "_rnnfast_base": cls}
            return type(cls.__name__, (cls, fast), members)
    return None


def _reduce(self: Any, protocol: int) -> Any:
    """A class made at run time has no name to be found by: the copy is made of the user's class, then accelerated."""
    state = self.__getstate__()
    return _rebuild, (type(self)._rnnfast_base,), state


def _rebuild(cls: Any) -> Any:
    module = cls.__new__(cls)
    module.__class__ = _fast_class(cls)
    return module


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)) and not isinstance(
            module, torch.jit.ScriptModule
        ):
            yield name, module


def accelerate(model: Module, *, weights: Precision = "f32", frozen: bool = False, inplace: bool = True) -> Module:
    """Lets a model's ``nn.RNN``, ``nn.GRU``, ``nn.LSTM``, their cells and self-attention run on rnnfast's core.

    Each layer's class becomes a new subclass: the parameters stay the same objects, and ``state_dict``, optimizers, hooks,
    tied weights, ``deepcopy`` and pickling work as before. What the core does not run (other types than float32 on the CPU,
    ``proj_size``, ``torch.func`` transforms, tracing) goes to PyTorch's own operator; ``report`` lists what runs where.

    Args:
        model: a module, or a tree of modules.
        weights: precision of the products, ``"f32"``, ``"bf16"`` or ``"int8"`` (which only runs, and does not train); attention's
            are float32.
        frozen: the weights are packed once, for serving. Without it, each call without gradients checks that they are the same;
            with it, only changes that PyTorch counts are seen (``load_state_dict``, an optimizer), not writes through ``.data``
            or NumPy.
        inplace: change ``model`` itself; else a deep copy.

    Returns the model, or its copy. Warns if a layer stays with PyTorch's operator, and why; and if PyTorch and rnnfast run on two
    OpenMP runtimes.

    >>> model = accelerate(nn.LSTM(8, 16))
    >>> isinstance(model, Accelerated) and isinstance(model, nn.LSTM)
    True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, expected a torch.nn.Module")
    choice(weights, ("f32", "bf16", "int8"), "weights")
    if runtimes := two_runtimes():
        warnings.warn(
            f"two OpenMP runtimes are in use, {' and '.join(runtimes)}, whose threads wait for each other's cores: import torch "
            "before rnnfast",
            RuntimeWarning,
            stacklevel=2,
        )
    model = model if inplace else copy.deepcopy(model)
    for _, module in _layers(model):
        if not isinstance(module, Accelerated):
            own: Any = type(module)
            fast = _fast_class(own)
            if fast is None:
                continue
            module.__class__ = fast
        module.__dict__["_rnnfast"] = Settings(weights, frozen)
    placed = report(model)
    if left := [place for place in placed if place.reason]:
        warnings.warn(
            f"{len(left)} of {len(placed)} layers stay with PyTorch's operators: {'; '.join(map(str, left))}",
            stacklevel=2,
        )
    return model


def restore(model: Module, *, inplace: bool = True) -> Module:
    """Gives each layer PyTorch's class back. Parameters and everything else stay as they are."""
    model = model if inplace else copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, Accelerated):
            module.__class__ = plain_class(type(module))
            module.__dict__.pop("_rnnfast", None)
    return model


def report(model: nn.Module) -> Report:
    """Which recurrent or attention layer of a model runs where, and why not here.

    >>> print(report(accelerate(nn.Sequential(nn.Embedding(5, 8), nn.GRU(8, 16)))))
    1: GRU on rnnfast f32
    """
    found = Report()
    for name, module in _layers(model):
        kind = plain_class(type(module)).__name__
        if not isinstance(module, Accelerated):
            found.append(Placed(name, kind, "PyTorch", "not accelerated"))
        elif reason := module._why_not(module):
            found.append(Placed(name, kind, "PyTorch", reason))
        else:
            settings = module.__dict__["_rnnfast"]
            precision = "f32" if isinstance(module, nn.MultiheadAttention) else settings.precision
            found.append(Placed(name, kind, f"rnnfast {precision}" + ", frozen" * settings.frozen))
    return found
