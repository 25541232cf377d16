"""torch.compile refuses torch.nn's recurrent layers, because it would unroll them. An accelerated one is a single operator."""

from __future__ import annotations

import functools
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

from rnnfast.torch.layer import Accelerated

_BUILDER = "torch._dynamo.variables.builder"


def _let_pass(builder: ModuleType) -> None:
    """For accelerated layers alone: PyTorch's option ``allow_rnn`` would unroll all others. Where a version of PyTorch has no such
    place, the layer breaks the graph and runs all the same."""
    original = getattr(builder.VariableBuilder, "wrap_module", None)
    if original is None:
        return

    @functools.wraps(original)
    def wrap_module(self: Any, value: Any) -> Any:
        if not isinstance(value, Accelerated):
            return original(self, value)
        with builder.config.patch(allow_rnn=True):
            return original(self, value)

    builder.VariableBuilder.wrap_module = wrap_module


class _WhenImported(MetaPathFinder):
    """torch.compile imports its compiler at its first use, which takes seconds: it is not imported for this."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != _BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _let_pass(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Once, when rnnfast.torch is imported."""
    if _BUILDER in sys.modules:
        _let_pass(sys.modules[_BUILDER])
    else:
        sys.meta_path.insert(0, _WhenImported())
