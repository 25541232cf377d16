"""A converted module is run once next to the original: what its code takes from the shapes of an example shows as other outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnfast.interop.axes import Dims, Merged, Unconvertible, is_steps
from rnnfast.models.network import Network

Array = NDArray[Any]
ROWS, STEPS = 5, 13  # unlike those of the example that a module is exported with
TOLERANCE = (
    1e-3  # of the largest output: far above float32's sums in another order, far below what another computation gives
)


def check_outputs(
    module: Any,
    example: Sequence[Any],
    inputs: Sequence[Dims],
    ids: Sequence[int],
    network: Network,
    outputs: Mapping[int, Dims],
) -> None:
    """Raises :class:`Unconvertible` if the network's outputs, by their places among the module's, are not the module's.

    ``inputs`` are the axes of the module's inputs, all of which the network reads, and ``ids`` how many token ids each has, or 0.
    """
    import torch
    from torch.utils import _pytree

    random = np.random.default_rng(0)
    for sizes in ({"steps": STEPS, "rows": ROWS}, None):
        given = []
        for value, dims, count in zip(example, inputs, ids):
            shape = [d if isinstance(d, int) else sizes[d.role] for d in dims] if sizes else list(value.shape)  # type: ignore[union-attr]
            made = random.integers(0, count, shape) if count else random.normal(size=shape)
            given.append(torch.from_numpy(np.asarray(made)).to(value.dtype))
        try:
            with torch.no_grad():
                theirs = _pytree.tree_leaves(module(*given))
            break
        except Exception:  # the module's code takes inputs of the example's shape alone
            if sizes is None:
                return
    rows_first = network.batch_first
    read = [_rows_and_steps(x.numpy(), dims, rows_first) for x, dims in zip(given, inputs)]
    read = [x[:, None] if not any(_is_rows(d) for d in dims) else x for x, dims in zip(read, inputs)]
    rows = next((n for x, dims in zip(given, inputs) for n, d in zip(x.shape, dims) if _is_rows(d)), 1)
    ours = network(*read)
    for y, (place, dims) in zip(ours if isinstance(ours, tuple) else (ours,), outputs.items()):
        expected = _rows_and_steps(theirs[place].float().numpy(), dims, rows_first, rows)
        if y.size != expected.size or not _close(y.reshape(expected.shape), expected):
            raise Unconvertible(
                f"the converted network gives other outputs than the module for {given[0].shape[0]} by {given[0].shape[1]} inputs: its code"
                " depends on the number of steps or rows, or changes values in place"
            )


def _close(a: Array, b: Array) -> bool:
    known = np.isfinite(b)
    scale = max(float(np.abs(b[known]).max(initial=0)), 1e-3)
    return bool(np.all(np.abs(a[known] - b[known]) <= TOLERANCE * scale))


def _is_rows(dim: Any) -> bool:
    return not isinstance(dim, (int, Merged)) and not is_steps(dim)


def _rows_and_steps(x: Array, dims: Dims, rows_first: bool, rows: int = -1) -> Array:
    """An array as a network has it: rows and steps first, and then all numbers of a step."""
    axes = [part for d in dims for part in (d.parts if isinstance(d, Merged) else (d,))]
    if len(axes) != x.ndim:  # steps and rows in one axis
        parts = [
            [rows if _is_rows(p) else -1 for p in d.parts] if isinstance(d, Merged) else [n]
            for d, n in zip(dims, x.shape)
        ]
        x = x.reshape([size for part in parts for size in part])
    of_rows, of_steps = [i for i, d in enumerate(axes) if _is_rows(d)], [i for i, d in enumerate(axes) if is_steps(d)]
    lead = of_rows + of_steps if rows_first else of_steps + of_rows
    numbers = [i for i, d in enumerate(axes) if isinstance(d, int)]
    x = x.transpose(*lead, *numbers)
    return x.reshape(*x.shape[: len(lead)], -1) if numbers else x
