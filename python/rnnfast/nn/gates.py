"""Gate orders of other frameworks: LSTM i f g o and GRU r z n here, which are PyTorch's, elsewhere other orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Where the blocks of rnnfast's order stand in the orders of others (ONNX: LSTM i o f c, GRU z r h; Keras: LSTM i f c o).
ONNX_ORDER: dict[str, tuple[int, ...]] = {
    "lstm": (0, 2, 3, 1), "lstm_peephole": (0, 2, 3, 1), "gru": (1, 0, 2), "gru_reset_before": (1, 0, 2), "rnn": (0,), "rnn_relu": (0,),
}  # fmt: skip
KERAS_ORDER: dict[str, tuple[int, ...]] = {**ONNX_ORDER, "lstm": (0, 1, 2, 3)}
PEEPHOLE_ORDER = (0, 2, 1)  # of ONNX: i o f; the same in both ways


def reordered(matrix: NDArray[Any], order: Sequence[int]) -> NDArray[Any]:
    """Blocks of rows, one for each gate, in another order.

    >>> reordered(np.arange(4), (0, 2, 3, 1)).tolist()
    [0, 2, 3, 1]
    """
    return np.concatenate([np.split(matrix, len(order))[i] for i in order])


def inverse(order: Sequence[int]) -> list[int]:
    """The order that takes ``order`` back.

    >>> inverse((0, 2, 3, 1))
    [0, 3, 1, 2]
    """
    return [list(order).index(i) for i in range(len(order))]
