"""The registered cells, from the compiled table, for tests that hold for all of them."""

from __future__ import annotations

import pytest

from rnnfast.nn import CELLS, LAYERS
from rnnfast.nn.recurrent import TABLE

__all__ = ["CELLS", "CLASSES", "IN_TORCH", "LAYERS", "TABLE", "torch_class"]

CLASSES = [kind for kind in LAYERS.values() if isinstance(kind, type)]
IN_TORCH = {"rnn": "RNN", "rnn_relu": "RNN", "gru": "GRU", "lstm": "LSTM"}  # what torch.nn calls a cell's layer


def torch_class(cell, suffix=""):
    """PyTorch's layer, or with the suffix ``"Cell"`` one step, of a cell, and its options."""
    torch = pytest.importorskip("torch")
    if cell not in IN_TORCH:
        pytest.skip(f"PyTorch has no {cell}")
    return getattr(torch.nn, IN_TORCH[cell] + suffix), {"nonlinearity": "relu"} if cell == "rnn_relu" else {}
