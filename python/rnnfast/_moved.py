"""Old names of modules that have moved; they still work in imports and pickles, with a ``DeprecationWarning``."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = __name__.partition(".")[0]
_FOLDERS = {
    "estimators": {"classify", "forecast", "samples"},
    "markov": {"arpa", "grams", "ngram"},
    "models": {"seq2seq"},
    "nn": {"cells", "sequence"},
    "study": {"compare", "compare_text", "gradient_flow"},
    "text": {"datasets", "mapped", "vocab"},
    "train": {"callbacks", "checkpoint", "history", "optim", "progress", "schedules", "tensorboard"},
}
MOVED = {name: f"{folder}.{name}" for folder, names in _FOLDERS.items() for name in names}
MOVED.update(data="text.corpus", parallel="text.pairs", estimator="estimators.base")


def moved(name: str, *, stacklevel: int) -> ModuleType:
    """The module that used to be called ``name``; issues the warning."""
    new = f"{PACKAGE}.{MOVED[name]}"
    warnings.warn(f"{PACKAGE}.{name} is now {new}", DeprecationWarning, stacklevel=stacklevel + 1)
    return importlib.import_module(new)


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == PACKAGE and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = moved(spec.name.rpartition(".")[2], stacklevel=2)
        spec.loader_state = module.__spec__  # importing under another name replaces it
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            module.__spec__ = spec.loader_state


def install() -> None:
    """Makes the old names importable. Importing an old module never replaces a function of the package with the same name."""
    sys.meta_path.append(_Finder())
    for name, new in MOVED.items():
        if callable(vars(sys.modules[PACKAGE]).get(name)):
            sys.modules[f"{PACKAGE}.{name}"] = sys.modules[f"{PACKAGE}.{new}"]
