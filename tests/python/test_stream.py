"""Streaming: one time step at a time, the state kept inside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from registered import LAYERS
from test_recurrent import pair, unpair

import rnnfast as rf


def sequence(*shape):
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("weights", ["f32", "bf16"])
@pytest.mark.parametrize(("rows", "D", "H", "layers"), [(1, 3, 5, 1), (1, 64, 64, 1), (3, 17, 130, 2), (70, 9, 33, 3)])
@pytest.mark.parametrize("cell", LAYERS)
def test_steps_give_the_bits_of_the_whole_sequence(cell, rows, D, H, layers, weights):
    layer = LAYERS[cell](D, H, layers, seed=1, weights=weights)
    x, h, c = sequence(6, rows, D), sequence(layers, rows, H), sequence(layers, rows, H) / 2
    expected, state = layer(x, pair(cell, h, c))
    step = layer.stream(rows)
    step.state = pair(cell, h, c)
    assert np.array_equal(np.array([step(row) for row in x]), expected)
    for got, wanted in zip(unpair(step.state), unpair(state)):
        assert (got is None and wanted is None) or np.array_equal(got, wanted)
    step.reset()
    assert np.array_equal(step(x[0]), layer(x[:1])[0][0])
    step.state = None
    assert not any(np.any(part) for part in unpair(step.state) if part is not None)


def test_one_row_may_come_without_its_axis_and_out_is_written():
    layer = rf.LSTM(8, 20, seed=0)
    x = sequence(5, 1, 8)
    expected, _ = layer(x)
    step, out = layer.stream(), np.empty(20, np.float32)
    for t in range(5):
        assert step(x[t, 0], out=out) is out
        assert np.array_equal(out, expected[t, 0])
    assert step.rows == 1


def test_results_of_earlier_steps_stay_as_they_were():
    step = rf.GRU(4, 6, seed=0).stream()
    first = step(np.ones(4, np.float32))
    kept = first.copy()
    step(np.ones(4, np.float32))
    assert np.array_equal(first, kept)


def test_any_array_like_is_taken():
    layer = rf.RNN(3, 5, seed=0)
    expected = layer(np.ones((1, 1, 3)))[0][0, 0]
    strided = np.zeros((6,), np.float32)[::2]
    strided[...] = 1
    for given in ([1, 1, 1], np.ones(3), np.ones(3, np.int64), strided):
        assert np.array_equal(layer.stream()(given), expected)


@pytest.mark.parametrize("change", ["load_state_dict", "optimizer"])
def test_changed_weights_take_effect_at_the_next_step(change):
    layer, other = rf.LSTM(4, 12, seed=0), rf.LSTM(4, 12, seed=1)
    x = sequence(2, 1, 4)
    step = layer.stream()
    step(x[0])
    state = step.state
    before = layer(x[1:], state)[0]
    if change == "optimizer":
        layer.grads["weight_hh_l0"][...] = 1
        rf.SGD(layer, lr=0.5).step()
    else:
        layer.load_state_dict(other.state_dict())
    expected, _ = layer(x[1:], state)
    assert not np.array_equal(expected, before)
    assert np.array_equal(step(x[1]), expected[0])


def test_a_stream_keeps_its_layer_alive():
    step = rf.GRU(3, 4, seed=0).stream()
    expected = rf.GRU(3, 4, seed=0)(np.ones((1, 1, 3)))[0][0, 0]
    assert np.array_equal(step(np.ones(3, np.float32)), expected)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.LSTM(3, 4, bidirectional=True).stream(), ValueError, "bidirectional"),
        (lambda: rf.LSTM(3, 4).stream(0), ValueError, "rows is 0"),
        (
            lambda: rf.LSTM(3, 4).stream()(np.zeros(4)),
            ValueError,
            r"input has shape \(4,\), expected \(1, 3\) or \(3,\)",
        ),
        (lambda: rf.LSTM(3, 4).stream(2)(np.zeros(3)), ValueError, r"expected \(2, 3\)"),
        (lambda: rf.LSTM(3, 4).stream()(np.zeros(3), out=np.zeros(4)), TypeError, "out must be a writeable"),
        (lambda: rf.LSTM(3, 4).stream()(np.zeros(3), out=np.zeros(3, np.float32)), ValueError, "out has shape"),
        (lambda: rf.LSTM(3, 4).stream()(np.zeros(3), out=np.zeros((1, 4), np.float32)), ValueError, "row axis"),
        (lambda: rf.LSTM(3, 4).stream()("abc"), TypeError, "expected numbers"),
        (lambda: setattr(rf.LSTM(3, 4).stream(), "state", np.zeros((1, 1, 4))), TypeError, "pair"),
        (lambda: setattr(rf.GRU(3, 4).stream(), "state", np.zeros((1, 2, 4))), ValueError, r"expected \(1, 1, 4\)"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_many_threads_may_stream_and_call_one_layer_in_parallel():
    layer = rf.LSTM(24, 96, 2, seed=0)
    x = sequence(12, 1, 24)
    batch = sequence(12, 5, 24)
    expected, expected_batch = layer(x)[0], layer(batch)[0]
    wrong = []

    def work(streaming):
        step = layer.stream()
        for _ in range(40):
            if streaming:
                step.reset()
                good = np.array_equal(np.array([step(row) for row in x]), expected)
            else:
                good = np.array_equal(layer(batch)[0], expected_batch)
            if not good:
                wrong.append(streaming)

    workers = [threading.Thread(target=work, args=(i % 2 == 0,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_calls_from_several_threads_do_not_wait_for_each_other():
    """A long call runs; a short one on the same layer, started later, must end first."""
    layer = rf.LSTM(64, 256, seed=0)
    long, short = np.zeros((4000, 8, 64), np.float32), np.zeros((1, 1, 64), np.float32)
    layer(short)
    ended = []
    worker = threading.Thread(target=lambda: (layer(long), ended.append("long")))
    worker.start()
    for _ in range(3):
        layer(short)
    ended.append("short")
    worker.join()
    assert ended == ["short", "long"]


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_streams_give_the_same_bits_on_every_isa(isa):
    if isa not in rf.info()["isas_supported"]:
        pytest.skip(f"this CPU has no {isa}")
    code = (
        "import numpy as np, rnnfast as rf, hashlib\n"
        "digest = hashlib.sha256()\n"
        "for make in (rf.RNN, rf.GRU, rf.LSTM):\n"
        "    step = make(19, 77, 2, seed=3).stream()\n"
        "    for i in range(9): digest.update(step(np.sin(np.arange(19) * (i + 1)).astype('f')).tobytes())\n"
        "print(digest.hexdigest())\n"
    )
    run = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "RNNFAST_ISA": name},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in ("avx2", isa)
    ]
    assert run[0] == run[1]


@pytest.mark.fault("R10")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_stream_refuses_what_would_stay_in_its_state_for_ever(bad):
    stream = rf.LSTM(3, 4, seed=1).stream(rows=2)
    x = np.ones((2, 3), np.float32)
    first, before = stream(x), stream.state
    x[1, 2] = bad
    with pytest.raises(ValueError, match="input has NaN or infinity in row 1 at 2: fill in missing values first"):
        stream(x)
    spoilt = before[1].copy()
    spoilt[0, 1, 3] = bad
    with pytest.raises(ValueError, match="c has NaN or infinity in row 1 at 3"):
        stream.state = (before[0], spoilt)
    assert all(np.array_equal(a, b) for a, b in zip(stream.state, before))
    stream.reset()
    assert np.array_equal(stream(np.ones((2, 3))), first)
