"""recompute="sqrt": the same gradients from less memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from registered import LAYERS, TABLE
from test_recurrent import CASES, close, pair, random_case, unpair

import rnnfast as rf
from rnnfast.reference import Stack


def same_bits(actual, expected, what):
    assert np.array_equal(actual, expected), what


def twin_of(layer, cell, case, **options):
    twin = LAYERS[cell](case[2], case[3], case[4], bidirectional=case[5], recompute="sqrt", **options)
    twin.load_state_dict(layer.state_dict())
    return twin


@pytest.mark.parametrize("case", [*CASES, (37, 9, 6, 20, 2, True, True)], ids=str)
@pytest.mark.parametrize("cell", LAYERS)
def test_gradients_equal_those_without_and_the_float64_reference(cell, case):
    layer, x, h0, c0, dh, dc, dy, lengths = random_case(cell, case)
    twin, ragged = twin_of(layer, cell, case), lengths if case[6] else None
    weights = {name: value.astype(np.float64) for name, value in layer.state_dict().items()}
    stack = Stack(cell, x.astype(float), weights, h0.astype(float), c0.astype(float), lengths)
    reference = stack.backward(dy.astype(float), dh.astype(float), dc.astype(float))[3]

    y, state, backward = layer.forward(x, pair(cell, h0, c0), lengths=ragged)
    dx, dstate = backward(dy, pair(cell, dh, dc))
    y2, state2, backward2 = twin.forward(x, pair(cell, h0, c0), lengths=ragged)
    y_kept = y2.copy()
    y2[...] = np.nan  # backward no longer needs it
    dx2, dstate2 = backward2(dy, pair(cell, dh, dc))

    # A gated unit adds the part that bypasses its gates in another order at the start of a segment; otherwise the bits agree.
    same = close if TABLE[cell].has_extra else same_bits
    assert np.array_equal(y_kept, y)
    same(dx2, dx, "dx")
    for a, b, what in zip((*unpair(state), *unpair(dstate)), (*unpair(state2), *unpair(dstate2)), "h c dh dc".split()):
        if a is not None:
            same(b, a, what)
    for name, gradient in layer.grads.items():
        close(twin.grads[name], gradient, name)
        close(twin.grads[name], reference[name], name)


@pytest.mark.parametrize("cell", LAYERS)
def test_the_masks_of_dropout_are_the_same(cell):
    case = (20, 3, 5, 24, 3, False, False)
    x, dy = (np.random.default_rng(0).normal(size=(20, 3, n)).astype(np.float32) for n in (5, 24))
    layer = LAYERS[cell](5, 24, 3, dropout=0.4, seed=3)
    twin = twin_of(layer, cell, case, dropout=0.4, seed=3)
    y, _, backward = layer.forward(x)
    y2, _, backward2 = twin.forward(x)
    assert np.array_equal(y, y2)
    close(backward2(dy)[0], backward(dy)[0], "dx")
    for name, gradient in layer.grads.items():
        close(twin.grads[name], gradient, name)


@pytest.mark.parametrize("cell", LAYERS)
def test_the_same_bits_for_any_number_of_threads(cell, threads):
    case = (50, 7, 33, 70, 2, True, True)
    results = []
    for count in (1, 2, 3):
        threads(count)
        layer, x, h0, c0, dh, dc, dy, lengths = random_case(cell, case)
        twin = twin_of(layer, cell, case)
        _, _, backward = twin.forward(x, pair(cell, h0, c0), lengths=lengths)
        results.append([backward(dy, pair(cell, dh, dc))[0], *(g.copy() for g in twin.grads.values())])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("cell", TABLE)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_more_is_saved_than_gates_and_two_states(cell, bidirectional):
    """G*H + 2H floats a row, step, layer and direction, y among them; the start states come on top once."""
    T, N, H, layers = 40, 8, 48, 2
    layer = LAYERS[cell](16, H, layers, bidirectional=bidirectional, seed=0)
    y, _, tape, _ = layer._run(np.zeros((T, N, 16), np.float32), None, None, save=True)
    lanes, gates = layers * (1 + bidirectional), TABLE[cell].gates_of(16, H)
    limit = 4 * lanes * N * (T * (gates * H + 2 * H) + 2 * H)
    assert tape.core.saved_bytes + y.nbytes <= limit
    assert tape.core.saved_bytes > 4 * lanes * N * T * gates * H  # it does report


def test_what_is_saved_grows_with_the_square_root_of_the_steps():
    layer = rf.LSTM(4, 32, recompute="sqrt", seed=0)
    saved = [
        layer._run(np.zeros((T, 2, 4), np.float32), None, None, save=True)[2].core.saved_bytes for T in (100, 10000)
    ]
    assert 5 * saved[0] < saved[1] < 11 * saved[0]


TRAIN = """
import resource, numpy as np, rnnfast as rf
layer = rf.LSTM(16, 64, recompute="sqrt", seed=0)
x = np.zeros(({steps}, 1, 16), np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
y, _, backward = layer.forward(x)
backward(y)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_long_sequence_trains_in_little_memory():
    """200,000 steps: y is 51 MB, dx and the step table 15; without recompute the gates and cells alone take 256."""
    result = subprocess.run([sys.executable, "-c", TRAIN.format(steps=200_000)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 120_000


def test_an_unknown_way_is_named():
    with pytest.raises(ValueError, match="recompute is 'all', expected None or 'sqrt'"):
        rf.RNN(3, 4, recompute="all")
