"""PyTorch's recurrent layers on rnnfast's core: one line makes a model faster on CPUs.

import rnnfast.torch as rft
model = rft.accelerate(model)
"""

from __future__ import annotations

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError("rnnfast.torch needs PyTorch: pip install 'rnnfast[torch]'") from error

from rnnfast.torch import compiling
from rnnfast.torch.attention import MultiheadAttention
from rnnfast.torch.dispatch import enabled
from rnnfast.torch.loss import linear_cross_entropy
from rnnfast.torch.modules import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from rnnfast.torch.swap import Placed, Report, accelerate, report, restore

compiling.install()

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "MultiheadAttention",
    "Placed",
    "RNNCell",
    "Report",
    "accelerate",
    "enabled",
    "linear_cross_entropy",
    "report",
    "restore",
]
