"""Messages for arguments of the wrong kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

_Kind = TypeVar("_Kind")


def kind_of(value: Any) -> str:
    """The kind of a value as a message names it: "a Corpus", "the class Adam", "None".

    >>> kind_of(3), kind_of(None), kind_of(int)
    ('an int', 'None', 'the class int')
    """
    if value is None:
        return "None"
    name = value.__name__ if isinstance(value, type) else type(value).__name__
    if isinstance(value, type):
        return f"the class {name}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def offers(value: Any, name: str, wanted: str, *methods: str) -> None:
    """``TypeError`` unless ``value`` is an object with all ``methods``.

    >>> offers([], "model", "a language model", "nll")
    Traceback (most recent call last):
    TypeError: model is a list, expected a language model
    """
    if isinstance(value, type) or not all(hasattr(value, method) for method in methods):
        raise TypeError(f"{name} is {kind_of(value)}, expected {wanted}")


def listed(value: Any, name: str, wanted: str) -> list[Any]:
    """The items of ``value``.

    >>> listed(None, "sources", "a list of sentences")
    Traceback (most recent call last):
    TypeError: sources is None, expected a list of sentences
    """
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") or getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{name} is {kind_of(value)}, expected {wanted}")
    return list(value)


def brief(value: Any) -> str:
    """``value`` as a message shows it: on one line, shortened if it is long.

    >>> brief([1, 2]), len(brief("a" * 200))
    ('[1, 2]', 80)
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def shown(path: Any) -> str:
    """A path as a message shows it: quoted and escaped if it holds characters that cannot be printed.

    >>> shown("book.txt"), shown("a\\nb")
    ('book.txt', "'a\\\\nb'")
    """
    text = str(path)
    return text if text.isprintable() else brief(text)


def choice(value: Any, choices: Iterable[str], name: str) -> str:
    """``value``, if it is one of the names in ``choices``.

    >>> choice("f64", ("f32", "bf16"), "weights")
    Traceback (most recent call last):
    ValueError: weights is 'f64', expected one of f32, bf16
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {brief(value)}, expected one of {', '.join(choices)}")
    return value


def described(spec: Any, base: type[Any], kinds: Mapping[str, type[_Kind]], what: str) -> _Kind:
    """An object of one of the ``kinds``, dataclasses by their names, from ``"name"`` or ``"name:option=value,option=value"``; an object of
    their ``base`` is returned as it is."""
    if isinstance(spec, base):
        return cast("_Kind", spec)
    if not isinstance(spec, str):
        raise TypeError(f"{what} is {kind_of(spec)}, expected a name, or an object as rf.{what}s has them")
    name, _, rest = spec.partition(":")
    if name not in kinds:
        raise ValueError(f"unknown {what} {brief(name)}: expected one of {', '.join(kinds)}")
    known: dict[str, Any] = {field.name: type(field.default) for field in fields(kinds[name])}  # type: ignore[arg-type]
    options: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        if key not in known:
            raise ValueError(f"{what} {brief(name)} has no option {brief(key)}: it has {', '.join(known) or 'none'}")
        try:
            options[key] = known[key](value)
        except ValueError:
            raise ValueError(f"{key} of {what} {brief(name)} is {brief(value)}, expected a number") from None
    return kinds[name](**options)
