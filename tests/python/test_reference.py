"""rf.gradcheck, and the public reference."""

from __future__ import annotations

import re

import numpy as np
import pytest
from registered import LAYERS

import rnnfast as rf

X = np.random.default_rng(0).normal(size=(5, 2, 4)).astype(np.float32)


@pytest.mark.parametrize("cell", LAYERS)
def test_the_gradients_of_every_cell_pass(cell):
    kinked = "relu" in cell or cell.startswith("min")  # within reach of a moved number
    layer = LAYERS[cell](4, 3, 2, bidirectional=True, seed=0)
    assert rf.gradcheck(layer, X, eps=1e-3 if kinked else 1e-2, tolerance=2e-2 if kinked else 1e-3)


@pytest.mark.parametrize(
    "layer",
    [
        rf.Linear(4, 3, seed=0),
        rf.LayerNorm(4),
        rf.RMSNorm(4),
        rf.Conv1d(4, 3, 3, padding="causal", seed=0),
        rf.SelfAttention(4, num_heads=2, seed=0),
        rf.Sequential(rf.Linear(4, 3, seed=0), rf.Tanh(), rf.LSTM(3, 2, seed=1)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_gradients_of_other_layers_pass_and_nothing_changes(layer):
    before = layer.state_dict()
    assert rf.gradcheck(layer, X)
    assert all(np.array_equal(before[name], value) for name, value in layer.state_dict().items())
    assert not any(gradient.any() for gradient in layer.grads.values())


def test_a_step_and_ids_pass_too():
    assert set(rf.gradcheck(rf.LSTMCell(4, 3, seed=0), X[0]).errors) == {"input", *rf.LSTMCell(4, 3).state_dict()}
    assert set(rf.gradcheck(rf.Embedding(7, 3, seed=0), np.array([[1, 2], [2, 6]])).errors) == {"weight"}


class Wrong(rf.Linear):
    """Its gradient of the input is 1% too large."""

    def forward(self, input):
        y, backward = super().forward(input)
        return y, lambda dy: 1.01 * backward(dy)


def test_a_wrong_gradient_is_named():
    check = rf.gradcheck(Wrong(4, 3, seed=0), X)
    assert not check
    assert [name for name, error in check.errors.items() if error > check.tolerance] == ["input"]
    assert re.search(r"^input   \d.\de-03  WRONG$", str(check), re.MULTILINE)
    assert "<td>input</td>" in check._repr_html_()


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.gradcheck(3, X), TypeError, "expected a layer or a network"),
        (lambda: rf.gradcheck(rf.Linear(4, 3), X, eps=0), ValueError, "eps is 0"),
        (lambda: rf.gradcheck(rf.Linear(4, 3), X, samples=0), ValueError, "samples is 0"),
        (lambda: rf.gradcheck(rf.GRU(4, 3, 2, dropout=0.5), X), ValueError, "dropout=0"),
        (lambda: rf.gradcheck(rf.Linear(5, 3), X), ValueError, "expected"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()
