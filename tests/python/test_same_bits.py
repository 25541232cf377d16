"""The same bits in forward and training: for any number of threads, in any batch, on AVX2 and AVX-512."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from test_recurrent import LAYERS

import rnnfast as rf

# Three updates of a stacked, ragged layer in odd sizes; every weight, output and gradient enters the hash.
TRAIN = """
import hashlib, sys, numpy as np, rnnfast as rf
make, kwargs = {"rnn": (rf.RNN, {}), "rnn_relu": (rf.RNN, {"nonlinearity": "relu"}), "gru": (rf.GRU, {}),
                "lstm": (rf.LSTM, {})}[sys.argv[1]]
rf.set_num_threads(int(sys.argv[2]))
digest, rng = hashlib.sha256(), np.random.default_rng(4)
for recompute in (None, "sqrt"):
    layer = make(23, 71, 2, bidirectional=True, dropout=0.3, recompute=recompute, seed=9, **kwargs)
    optimizer = rf.Adam(layer, lr=1e-2)
    x, dy = (rng.normal(size=(11, 9, n)).astype(np.float32) for n in (23, 142))
    for step in range(3):
        y, state, backward = layer.forward(x, lengths=[11, 3, 7, 1, 11, 5, 2, 9, 4])
        digest.update(y.tobytes())
        digest.update(backward(dy)[0].tobytes())
        optimizer.step(); optimizer.zero_grad()
    for value in layer.state_dict().values(): digest.update(value.tobytes())
print(digest.hexdigest())
"""


def trained(cell, threads, isa):
    run = subprocess.run(
        [sys.executable, "-c", TRAIN, cell, str(threads)],
        env={**os.environ, "RNNFAST_ISA": isa},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("cell", LAYERS)
def test_training_gives_the_same_bits_on_every_isa_and_any_number_of_threads(cell):
    isas = [name for name in rf.info()["isas_supported"] if name != "baseline"]
    if not isas:
        pytest.skip("this CPU has no ISA with fused multiply-adds")
    runs = {(isa, threads): trained(cell, threads, isa) for isa in isas for threads in (1, 2)}
    assert len(set(runs.values())) == 1, runs


@pytest.mark.parametrize("recompute", [None, "sqrt"])
@pytest.mark.parametrize("cell", LAYERS)
def test_a_row_gets_the_same_input_gradient_alone_and_in_a_batch(cell, recompute):
    layer = LAYERS[cell](19, 70, 2, bidirectional=True, recompute=recompute, seed=0)
    rng = np.random.default_rng(1)
    x, dy = (rng.normal(size=(7, 41, n)).astype(np.float32) for n in (19, 140))
    y, _, backward = layer.forward(x)
    dx, _ = backward(dy)
    for n in (0, 17, 40):
        y_alone, _, backward = layer.forward(x[:, n : n + 1])
        assert np.array_equal(y_alone, y[:, n : n + 1])
        assert np.array_equal(backward(dy[:, n : n + 1])[0], dx[:, n : n + 1])
