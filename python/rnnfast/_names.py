"""Names of the compiled core for type checkers; written by tools/cells.py."""

from typing import Literal

Cell = Literal[
    "rnn", "rnn_relu", "lstm", "lstm_peephole", "gru", "mgu", "gru_reset_before", "mingru", "minlstm", "sru", "qrnn"
]
