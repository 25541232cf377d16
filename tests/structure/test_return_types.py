"""Every public function says what it returns; none says Any."""

from __future__ import annotations

import inspect
import re

import rnnfast as rf

# Options and settings have values of several types; a label and the result of a class of scikit-learn have any type.
OF_SEVERAL_TYPES = r"\b(?:dict|Mapping)\[str, Any\]|\b(?:NDArray|type)\[Any\]"


def public_functions(thing, name, seen):
    """The functions and methods of a module or class that a user meets, with their names; those of rnnfast alone."""
    thing = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
    thing = inspect.unwrap(thing) if callable(thing) else thing
    if not getattr(thing, "__module__", getattr(thing, "__name__", "")).startswith("rnnfast") or id(thing) in seen:
        return
    seen.add(id(thing))
    if inspect.isfunction(thing):
        yield name, thing
    elif inspect.ismodule(thing):
        for inner in getattr(thing, "__all__", None) or [n for n in vars(thing) if not n.startswith("_")]:
            yield from public_functions(getattr(thing, inner), f"{name}.{inner}", seen)
    elif inspect.isclass(thing):
        for inner in dir(thing):
            if not inner.startswith("_") or inner in ("__call__", "__getitem__", "__iter__"):
                yield from public_functions(inspect.getattr_static(thing, inner), f"{name}.{inner}", seen)


def test_no_public_function_returns_any():
    functions = dict(public_functions(rf, "rf", set()))
    assert len(functions) > 200
    assert {"rf.Forecaster.forecast", "rf.Network.run", "rf.load", "rf.Vocab.encode", "rf.info"} <= set(functions)
    wrong = []
    for name, function in functions.items():
        annotated = function.__annotations__.get("return")
        if annotated is None or re.search(r"\bAny\b", re.sub(OF_SEVERAL_TYPES, "", str(annotated))):
            wrong.append(f"{name} -> {annotated}")
    assert not wrong, "\n".join(wrong)
