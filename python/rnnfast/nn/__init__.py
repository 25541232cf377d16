"""Layers with PyTorch's names, shapes and weights.

Calling a layer computes its output and saves nothing. ``forward`` returns ``backward`` too: a function that takes the
output's gradient, adds to ``grads`` and returns the input's.

``__all__`` lists the layers; the package exports all of them.
"""

from rnnfast.nn.cells import CELLS as CELLS
from rnnfast.nn.cells import GRUCell, LSTMCell, RNNCell
from rnnfast.nn.compiled import AttentionPool, BatchNorm1d
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.layer import Array as Array
from rnnfast.nn.layer import Gradients as Gradients
from rnnfast.nn.layer import Layer as Layer
from rnnfast.nn.layer import State as State
from rnnfast.nn.layer import Weights as Weights
from rnnfast.nn.linear import Linear
from rnnfast.nn.norm import LayerNorm, RMSNorm
from rnnfast.nn.parts import (
    ELU,
    GELU,
    Add,
    AvgPool1d,
    Concatenate,
    Dropout,
    Flatten,
    Hardsigmoid,
    Hardtanh,
    LeakyReLU,
    LogSoftmax,
    Magnitude,
    MaxPool1d,
    Multiply,
    Pool,
    ReflectionPad1d,
    ReLU,
    ReLU6,
    Scale,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from rnnfast.nn.recurrent import GRU, LSTM, QRNN, RNN, SRU, MinGRU, MinLSTM
from rnnfast.nn.recurrent import LAYERS as LAYERS
from rnnfast.nn.sequence import Conv1d, SelfAttention

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "QRNN",
    "RNN",
    "SRU",
    "Add",
    "AttentionPool",
    "AvgPool1d",
    "BatchNorm1d",
    "Concatenate",
    "Conv1d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRUCell",
    "Hardsigmoid",
    "Hardtanh",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Magnitude",
    "MaxPool1d",
    "MinGRU",
    "MinLSTM",
    "Multiply",
    "Pool",
    "RMSNorm",
    "RNNCell",
    "ReLU",
    "ReLU6",
    "ReflectionPad1d",
    "Scale",
    "SelfAttention",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]

# A cell without a class in nn/recurrent.py has one made from its row in the compiled table: NAME and NAMECell.
_made = {kind.__name__: kind for kind in (*LAYERS.values(), *CELLS.values()) if isinstance(kind, type)}
globals().update(_made)
__all__ += sorted(_made.keys() - set(__all__))
