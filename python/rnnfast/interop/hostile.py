"""Files from outside: whatever is wrong with one ends as one sentence, and none may fill the memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rnnfast.interop.axes import Unconvertible

MEGABYTE = 1 << 20


@contextmanager
def readable(what: str, writer: str) -> Iterator[None]:
    """Whatever Python, NumPy or h5py raises for a damaged part becomes one sentence that names the part.

    >>> with readable("layer 'a'", "Keras"):
    ...     {}["kernel"]
    Traceback (most recent call last):
    ...
    rnnfast.interop.axes.Unconvertible: layer 'a' is not as Keras writes it (KeyError: 'kernel')
    """
    try:
        yield
    except Unconvertible:
        raise
    except Exception as error:  # of zlib, struct, protobuf, h5py, ...: each has classes of its own
        raise Unconvertible(f"{what} is not as {writer} writes it ({one_line(error)})") from None


def one_line(error: BaseException) -> str:
    """An error of another library on one line.

    >>> one_line(ValueError("two\\nlines"))
    'ValueError: two lines'
    """
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass
class Allowance:
    """How many bytes may still be made of a file's: a small file can ask for arrays that fill the memory."""

    left: int

    @classmethod
    def of(cls, stored: int) -> Allowance:
        """That of a file with so many bytes: far more than any real file of that size unpacks to."""
        return cls(64 * MEGABYTE + 16 * stored)

    def take(self, size: int, what: str) -> None:
        """Before ``what`` with ``size`` bytes is made."""
        if size < 0 or size > self.left:
            raise Unconvertible(
                f"{what} would need {size / MEGABYTE:,.0f} MB, and {self.left / MEGABYTE:,.0f} MB are left for a file of this"
                " size: the file is damaged, or made to fill the memory"
            )
        self.left -= size
