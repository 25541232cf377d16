"""Type variables with a default, for type checkers; the standard library has them from Python 3.13 on."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["DefaultTypeVar"]

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultTypeVar
else:
    from typing import TypeVar

    def DefaultTypeVar(name, *, default, **options):
        """A type variable; its default is for type checkers alone."""
        return TypeVar(name, **options)
