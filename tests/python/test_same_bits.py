"""The same bits in forward and training: for any number of threads, in any batch, on AVX2 and AVX-512."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from registered import LAYERS

import rnnfast as rf

# Three updates of a stacked, ragged layer in odd sizes; every weight, output and gradient enters the hash.
TRAIN = """
import hashlib, sys, numpy as np, rnnfast as rf
make = rf.nn.LAYERS[sys.argv[1]]
rf.set_num_threads(int(sys.argv[2]))
digest, rng = hashlib.sha256(), np.random.default_rng(4)
for recompute in (None, "sqrt"):
    layer = make(23, 71, 2, bidirectional=True, dropout=0.3, recompute=recompute, seed=9)
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


# The same of a translator with all that the others lack: a bridge, a wide readout, dropout, its own choices as input.
TRANSLATE = """
import hashlib, sys, numpy as np, rnnfast as rf
rf.set_num_threads(int(sys.argv[2]))
digest, rng = hashlib.sha256(), np.random.default_rng(4)
model = rf.Seq2Seq(90, 150, cell=sys.argv[1], embedding_size=37, hidden_size=71, num_layers=2, bidirectional=True,
                   decoder="d2l", context="mean", readout="all", dropout=0.3, teacher_forcing=0.5, seed=9)
optimizer = rf.Adam(model, lr=1e-2)
for step in range(3):
    source, target = (rng.integers(4, n, (9, 23)).astype(np.int32) for n in (90, 150))
    target[0], target[np.arange(9)[:, None] > rng.integers(1, 9, 23)] = 2, -1
    digest.update(np.float64(model.loss(source, rng.integers(1, 10, 23), target)[0]).tobytes())
    model.backward(); optimizer.step(); optimizer.zero_grad()
for value in model.state_dict().values(): digest.update(value.tobytes())
print(digest.hexdigest())
"""


def trained(cell, threads, isa, program=TRAIN):
    run = subprocess.run(
        [sys.executable, "-c", program, cell, str(threads)],
        env={**os.environ, "RNNFAST_ISA": isa},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("program", [TRAIN, TRANSLATE], ids=["layer", "translator"])
@pytest.mark.parametrize("cell", LAYERS)
def test_training_gives_the_same_bits_on_every_isa_and_any_number_of_threads(cell, program):
    isas = [name for name in rf.info()["isas_supported"] if name != "baseline"]
    if not isas:
        pytest.skip("this CPU has no ISA with fused multiply-adds")
    runs = {(isa, threads): trained(cell, threads, isa, program) for isa in isas for threads in (1, 2)}
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
