"""Layers with PyTorch's names, shapes and weights.

Calling a layer computes its output and saves nothing. ``forward`` returns ``backward`` too: a function that takes the
output's gradient, adds to ``grads`` and returns the input's.
"""

from rnnfast.nn.cells import CELLS, GRUCell, LSTMCell, RNNCell
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.layer import Array, Gradients, Layer, State, Weights
from rnnfast.nn.linear import Linear
from rnnfast.nn.norm import LayerNorm
from rnnfast.nn.recurrent import GRU, LAYERS, LSTM, RNN
from rnnfast.nn.sequence import Conv1d, SelfAttention

__all__ = [
    "CELLS",
    "GRU",
    "LAYERS",
    "LSTM",
    "RNN",
    "Array",
    "Conv1d",
    "Embedding",
    "GRUCell",
    "Gradients",
    "LSTMCell",
    "Layer",
    "LayerNorm",
    "Linear",
    "RNNCell",
    "SelfAttention",
    "State",
    "Weights",
]  # fmt: skip
