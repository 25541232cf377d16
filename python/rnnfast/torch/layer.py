"""What the layers in PyTorch's place share: settings, the checks of tensors, and the class that all derive from."""

from __future__ import annotations

import copy
from typing import Any, Callable, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from rnnfast.torch import operator

_PLAIN = (Tensor, nn.Parameter)  # a subclass may mean anything by its operations
_FLOAT32, _STRIDED = torch.float32, torch.strided
CLASSES: dict[type[nn.Module], type[nn.Module]] = {}  # of torch.nn, each with its subclass here


def plain_class(cls: Any) -> Any:
    """PyTorch's class, or the user's, that an accelerated one stands for; any other is its own."""
    own = getattr(cls, "_rnnfast_base", None)
    return own or next((base for base, fast in CLASSES.items() if fast is cls), cls)


class Settings:
    """What a layer carries in addition to PyTorch's own: its options, and weights that are packed. A copy starts unpacked."""

    __slots__ = ("frozen", "function", "last", "lowered", "packed", "precision", "shapes", "spec")

    def __init__(self, precision: str = "f32", frozen: bool = False) -> None:
        self.precision, self.frozen = precision, frozen
        self.lowered: Settings | None = None
        self.spec: Any = None
        # And the weights that it was made of, each with its address and version; one object, as ``last``
        self.packed: tuple[Any, list[Any]] = (None, [])
        self.last: tuple[Any, Any] = (None, None)  # one object, since threads may run one layer

    def __reduce__(self) -> tuple[Any, ...]:
        return Settings, (self.precision, self.frozen)

    def use(self, spec: Any) -> None:
        """The compiled function for a layer, made when it first runs and when its sizes change."""
        if spec != self.spec:
            self.spec, self.function, self.shapes = spec, spec.function(), spec.shapes()
            self.packed, self.last = (None, []), (None, None)

    def under_autocast(self) -> Settings:
        """Those of bf16 autocast: bf16 products, unless fewer bits were chosen."""
        if self.lowered is None:
            self.lowered = Settings("bf16" if self.precision == "f32" else self.precision, self.frozen)
        return self.lowered

    def packed_weights(self, weights: list[Tensor]) -> Any:
        """What is packed, if these are its weights and PyTorch has counted no change since; it counts none through ``.data`` and NumPy."""
        packed, held = self.packed
        if len(held) != len(weights):
            return None
        for weight, (known, address, version) in zip(weights, held):
            if weight is not known or weight.data_ptr() != address or _version(weight) != version:
                return None
        return packed

    def pack(self, weights: list[Tensor]) -> Any:
        """Of a frozen layer, once for its next calls."""
        held = [(w, w.data_ptr(), _version(w)) for w in weights]
        self.packed = (self.function.freeze([at for _, at, _ in held]), held)
        return self.packed[0]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def settings_of(module: Any) -> Settings:
    found: Settings | None = module.__dict__.get("_rnnfast")
    if found is None:
        found = module.__dict__["_rnnfast"] = Settings()
    return found


def plain(tensor: Any) -> bool:
    """A float32 tensor in this computer's memory."""
    return tensor.__class__ in _PLAIN and tensor.dtype is _FLOAT32 and tensor.is_cpu and tensor.layout is _STRIDED


def fit(weights: list[Any], shapes: list[tuple[int, ...]]) -> bool:
    """Whether the core reads the weights: ``not why_not_weights`` in a fraction of its time."""
    for weight, shape in zip(weights, shapes):
        if not (plain(weight) and weight.shape == shape and weight.is_contiguous()):
            return False
    return len(weights) == len(shapes)


def why_not_weights(weights: list[Any], shapes: list[tuple[int, ...]]) -> str | None:
    for weight, shape in zip(weights, shapes):
        if not plain(weight):
            kind = f"{weight.dtype} on {weight.device}" if isinstance(weight, Tensor) else type(weight).__name__
            return f"a parameter is {kind}; float32 on the CPU runs here"
        if weight.shape != shape or not weight.is_contiguous():
            return f"a parameter has shape {tuple(weight.shape)} and strides {weight.stride()}, expected {shape} without gaps"
    return None if len(weights) == len(shapes) else f"{len(weights)} parameters, expected {len(shapes)}"


if hasattr(torch, "is_autocast_cpu_enabled") and not hasattr(torch.amp, "is_autocast_available"):  # before 2.4

    def autocast() -> bool:
        return torch.is_autocast_cpu_enabled()

    def autocast_dtype() -> torch.dtype:
        return torch.get_autocast_cpu_dtype()
else:

    def autocast() -> bool:
        return torch.is_autocast_enabled("cpu")

    def autocast_dtype() -> torch.dtype:
        return torch.get_autocast_dtype("cpu")


_tracing = torch._C._get_tracing_state
_transforms = torch._C._are_functorch_transforms_active
_modes = torch._C._len_torch_dispatch_stack


def observed() -> bool:
    """Whether PyTorch's own operators are wanted: for tracing, torch.func, forward-mode AD, a dispatch mode, autocast."""
    return _tracing() is not None or _transforms() or _modes() > 0 or forward_ad._current_level >= 0 or autocast()


is_compiling: Callable[[], bool] = torch.compiler.is_compiling if operator.COMPILES else (lambda: False)


def packed_for(found: Settings, weights: list[Tensor], frozen: bool) -> tuple[bool, Any]:
    """Whether the core reads the weights; and what it has packed of them, if they are ``frozen``."""
    packed = found.packed_weights(weights) if frozen else None
    if packed is None:
        if not fit(weights, found.shapes):
            return False, None
        if frozen:
            packed = found.pack(weights)
    return True, packed


class Accelerated:
    """What the layers share. It stands before PyTorch's class, whose forward serves all that is not eligible. No ``__slots__``: they
    would change the layout of an object, whose class could then not become this one."""

    # Why a layer runs by PyTorch's own operator whatever its input, or None
    _why_not: ClassVar[Any]

    def __init_subclass__(cls, of: type[nn.Module] | None = None, **options: Any) -> None:
        """``of``: the class of PyTorch that this one stands for."""
        super().__init_subclass__(**options)
        if of is not None:
            CLASSES[of] = cls  # type: ignore[assignment]

    def __getstate__(self) -> Any:
        parent = getattr(super(), "__getstate__", None)
        return dict(self.__dict__ if parent is None else parent())

    def __prepare_scriptable__(self) -> Any:
        """torch.jit.script reads the code of PyTorch's class."""
        found = copy.copy(self)
        found.__class__ = plain_class(type(self))
        found.__dict__.pop("_rnnfast", None)
        return found
