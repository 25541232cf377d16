"""Layers and models in ``pickle``, ``copy`` and ``joblib``: as the bytes of a safetensors file, which are checked like a file's.

A copy has its own weights, the same options and attributes, and continues with the same dropout masks. Its gradients are zero,
as in a copy of a ``torch.nn.Module``.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast import _core
from rnnfast._arrays import load_parameters
from rnnfast._expect import brief

_FORMAT = "rnnfast layer"
_PLAIN = (bool, int, float, str, list, type(None))  # types that JSON preserves


def reduced(layer: Any) -> tuple[Any, ...]:
    """What ``__reduce__`` returns: :func:`restored`, its arguments, and the attributes that are set afterwards."""
    options = layer._options()
    plain = {name: value for name, value in options.items() if isinstance(value, _PLAIN)}
    objects = {name: value for name, value in options.items() if name not in plain}
    metadata = {
        "format": _FORMAT,
        "class": _own_class(type(layer)).__name__,
        "options": json.dumps(plain),
        "frozen": json.dumps(layer.frozen),
    }
    weights = layer.state_dict()
    # Our safetensors files hold finite numbers only, but a diverged layer can still be copied.
    diverged = {name: value for name, value in weights.items() if not np.isfinite(value).all()}
    finite = {name: value for name, value in weights.items() if name not in diverged}
    data = _core.safetensors_bytes(finite, metadata, f"the pickled {type(layer).__name__}")
    state = {name: value for name, value in vars(layer).items() if name != "_core"}
    return restored, (type(layer), data, objects, diverged), state


def restored(kind: Any, data: bytes, objects: dict[str, Any], diverged: dict[str, NDArray[np.float32]]) -> Any:
    """The layer that :func:`reduced` described; ``FileFormatError`` if ``data`` is damaged or of another class."""
    own = _own_class(kind)
    name = f"the pickled {kind.__name__}"
    tensors, metadata = _core.parse_safetensors(data, name)
    if metadata.get("format") != _FORMAT or metadata.get("class") != own.__name__:
        raise _core.Error(
            f"{name}: the bytes are of another class or version; pickle it again with this version of rnnfast"
        )
    layer = kind.__new__(kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # issued when the original was made
            own.__init__(layer, **json.loads(metadata["options"]), **objects)
        load_parameters(layer._core, {**tensors, **diverged})
        layer._core.set_frozen([str(name) for name in json.loads(metadata["frozen"])])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise _core.Error(f"{name}: its options and weights do not fit: {error}") from None
    return layer


def _own_class(kind: Any) -> Any:
    """The class of this package that ``kind`` is or derives from."""
    package = __name__.partition(".")[0]
    own = [
        k for k in getattr(kind, "__mro__", ()) if k.__module__.partition(".")[0] == package and hasattr(k, "_options")
    ]
    if not own:
        raise TypeError(f"{brief(kind)} is not a layer or model of {package}")
    return own[0]
