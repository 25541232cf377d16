from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnnfast as rf

sizes = st.integers(1, 7)


@given(st.integers(60, 200), sizes, sizes, st.integers(0, 5), st.sampled_from(["sequential", "random"]))
def test_targets_are_the_inputs_shifted_by_one_and_no_target_comes_twice(length, rows, steps, epoch, sampling):
    seen = []
    made = rf.batches(np.arange(length), batch_size=rows, num_steps=steps, sampling=sampling, epoch=epoch, seed=3)
    for x, y in made:
        assert x.dtype == y.dtype == np.int32
        assert x.flags.c_contiguous
        assert x.shape[1] == rows
        assert np.array_equal(x + 1, y)
        assert np.array_equal(np.diff(x, axis=0), np.ones_like(x[1:]))
        seen += y.ravel().tolist()
    assert len(seen) == len(set(seen)) == made.tokens
    assert length - 1 - made.tokens < steps + rows * (steps if sampling == "random" else 1)


@given(st.integers(30, 200), sizes, sizes, st.integers(0, 3))
def test_sequential_rows_go_on_where_they_stopped(length, rows, steps, epoch):
    made = rf.batches(np.arange(length), batch_size=rows, num_steps=steps, epoch=epoch)
    assert made.carries_state
    last = None
    for x, y in made:
        assert last is None or np.array_equal(x[0], last)
        last = y[-1]


@given(sizes, st.integers(0, 4), st.sampled_from(["sequential", "random"]))
def test_starting_at_a_batch_gives_the_rest_of_the_epoch(rows, start, sampling):
    options = {"batch_size": rows, "num_steps": 4, "sampling": sampling, "seed": 1}
    whole = list(rf.batches(np.arange(160), **options))
    rest = list(rf.batches(np.arange(160), **options, start=start))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(whole[start:], rest))
    assert len(rest) == len(whole) - start


def test_the_offset_changes_from_epoch_to_epoch():
    firsts = {
        int(next(iter(rf.batches(np.arange(500), batch_size=2, num_steps=10, epoch=e)))[0][0, 0]) for e in range(20)
    }
    assert len(firsts) > 3


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"batch_size": 0, "num_steps": 2}, ValueError, "batch_size is 0"),
        ({"batch_size": 2, "num_steps": -1}, ValueError, "num_steps is -1"),
        ({"batch_size": 2, "num_steps": 2, "sampling": "sorted"}, ValueError, "sequential, random"),
        ({"batch_size": 50, "num_steps": 2}, ValueError, "fewer than one batch"),
        ({"batch_size": 3, "num_steps": 30, "sampling": "random"}, ValueError, "smaller batch_size"),
    ],
)
def test_bad_options_are_named(options, error, sentence):
    with pytest.raises(error, match=sentence):
        rf.batches(np.arange(40), **options)


def test_ids_must_be_whole_numbers():
    with pytest.raises(TypeError, match="float64"):
        rf.batches(np.zeros(40), batch_size=2, num_steps=2)
