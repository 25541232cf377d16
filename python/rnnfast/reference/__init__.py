"""The mathematics of rnnfast in double-precision NumPy, forward and backward, in code to read.

Everything the compiled core computes is compared with this package. Nothing here is fast: one statement per equation.

- :mod:`rnnfast.reference.recurrent`: the step of each cell and its derivative (``CELLS``), one layer in one direction (``Scan``),
  layers and directions (``Stack``).
- :mod:`rnnfast.reference.sequence`: ``Convolution``, ``Attention``, ``Normalization``, ``BatchNormalization``, ``AttentionPooling``,
  ``Reflection``, ``Magnitudes``, ``StepsInside``.
- :mod:`rnnfast.reference.seq2seq`: ``Tape``, automatic differentiation in a hundred lines, and on it ``Translator``, an encoder and a
  decoder with or without attention.

Shapes: x (T, N, D), h and c (N, H); weights in PyTorch's order and layout, as ``state_dict`` returns them.

>>> import numpy as np, rnnfast as rf
>>> layer, x = rf.GRU(3, 5, seed=0), np.ones((7, 2, 3))
>>> weights = {name: value.astype(float) for name, value in layer.state_dict().items()}
>>> zeros = np.zeros((1, 2, 5))
>>> stack = Stack("gru", x, weights, zeros, zeros, lengths=np.array([7, 7]))
>>> bool(np.abs(stack.y - layer(x)[0]).max() < 1e-6)
True
"""

from __future__ import annotations

from rnnfast.reference.recurrent import CELLS, Scan, Stack, sigmoid
from rnnfast.reference.seq2seq import Tape, Translator, Var
from rnnfast.reference.sequence import (
    Attention,
    AttentionPooling,
    BatchNormalization,
    Convolution,
    Magnitudes,
    Normalization,
    Reflection,
    StepsInside,
)

__all__ = [
    "CELLS",
    "Attention",
    "AttentionPooling",
    "BatchNormalization",
    "Convolution",
    "Magnitudes",
    "Normalization",
    "Reflection",
    "Scan",
    "Stack",
    "StepsInside",
    "Tape",
    "Translator",
    "Var",
    "sigmoid",
]
