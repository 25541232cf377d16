"""HDF5 files from outside: what a file holds itself, within bounds; nothing that it links to."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast.interop.axes import Unconvertible
from rnnfast.interop.hostile import Allowance

Array = NDArray[Any]


def h5py_package() -> Any:
    """The h5py package."""
    try:
        import h5py
    except ImportError:
        raise ImportError("from_keras needs h5py: pip install 'rnnfast[keras]'") from None
    return h5py


class Hdf5:
    """An HDF5 file in memory."""

    def __init__(self, data: bytes, allowance: Allowance) -> None:
        self.h5py = h5py_package()
        self.root = self.h5py.File(io.BytesIO(data), "r")
        self._size, self._allowance = len(data), allowance

    def child(self, group: Any, path: str) -> Any:
        """What lies at a path below a group; None if nothing does."""
        for name in path.split("/"):
            if not isinstance(group, self.h5py.Group) or name not in group:
                return None
            if type(group.get(name, getlink=True)) is not self.h5py.HardLink:
                raise Unconvertible(
                    f"{group.name}/{name} is a link to another place or file, which rnnfast does not follow"
                )
            group = group[name]
        return group

    def array(self, group: Any, path: str) -> Array:
        """The numbers at a path below a group."""
        found = self.child(group, path)
        if not isinstance(found, self.h5py.Dataset):
            raise Unconvertible(f"there is no array {path} in {group.name}")
        if found.is_virtual or found.external:
            raise Unconvertible(f"the array {found.name} is stored in other files, which rnnfast does not open")
        if found.dtype.kind != "f":
            raise Unconvertible(f"the array {found.name} has the type {found.dtype}, expected floating-point numbers")
        self._allowance.take(found.nbytes, f"the array {found.name}")
        return np.asarray(found)

    def attribute(self, group: Any, name: str) -> Any:
        """An attribute of a group; None if it is missing."""
        if name not in group.attrs:
            return None
        stored = group.attrs.get_id(name)
        self._allowance.take(math.prod(stored.shape) * stored.dtype.itemsize, f"the attribute {name}")
        return group.attrs[name]


def text_of(value: Any) -> str:
    """Text that HDF5 stores as str or as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
