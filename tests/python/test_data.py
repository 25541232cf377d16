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


WRONG_IDS = [
    ([2**32 + 3, 1, 2], IndexError, "4294967299"),
    (np.array([1, 2, 2**63 + 1], np.uint64), IndexError, "9223372036854775809"),
    ([1, 2**70, 2], IndexError, "1180591620717411303424"),
    ([1.9, 1, 2], TypeError, "float64"),
    ([1, float("nan"), 2], TypeError, "float64"),
    ([True, False, True], TypeError, "bool"),
    ([1, None, 2], TypeError, "object"),
    (["a", "b"], TypeError, "<U1"),
    ([2, -1, 1], IndexError, "-1"),
]
READERS = {
    "batches": lambda ids: rf.batches(ids, batch_size=1, num_steps=1),
    "Corpus": lambda ids: rf.Corpus(ids, rf.Vocab("abc")),
    "evaluate a network": lambda ids: rf.evaluate(rf.LanguageModel(4, hidden_size=2, seed=0), ids),
    "evaluate an n-gram model": lambda ids: rf.evaluate(rf.NGram(2).fit([0, 1, 2, 3]), ids),
    "NGram.fit": lambda ids: rf.NGram(2).fit(ids),
    "fit": lambda ids: rf.fit(rf.LanguageModel(4, hidden_size=2, seed=0), ids, epochs=1, batch_size=1, num_steps=1),
    "nll": lambda ids: rf.LanguageModel(4, hidden_size=2, seed=0).nll([ids], [[1, 1, 1][: len(ids)]]),
    "NGram.step": lambda ids: rf.NGram(2).fit([0, 1, 2, 3]).step(ids),
    "Vocab.decode": lambda ids: rf.Vocab("abc").decode(ids),
    "ParallelCorpus": lambda ids: rf.ParallelCorpus([ids], [[3]], *[rf.Vocab("a", reserved=rf.parallel.RESERVED)] * 2),
    "translate": lambda ids: rf.translate(rf.Seq2Seq(6, 6, hidden_size=2, embedding_size=2, seed=0), [ids]),
}


@pytest.mark.fault("N2")
@pytest.mark.parametrize(("ids", "error", "what"), WRONG_IDS)
@pytest.mark.parametrize("reader", READERS)
def test_token_ids_are_never_narrowed(reader, ids, error, what):
    if reader in ("Vocab.decode", "ParallelCorpus") and isinstance(ids[0], str):
        error = TypeError
    with pytest.raises(error, match=what) as raised:
        READERS[reader](ids)
    assert str(raised.value).count(". ") == 0


@pytest.mark.fault("N2")
def test_n_gram_texts_and_targets_take_minus_one_only_where_it_means_nothing():
    model = rf.NGram(2).fit([0, 1, 2, 3, 1])
    nll, _ = model.nll([[-1], [1]], [[1], [-1]])
    assert nll[:, 0].tolist() == [-np.log(model.distribution()[1]), 0.0]
    for wrong in ([2**32 + 1], [1.0], [-1], [4]):
        with pytest.raises((IndexError, TypeError)):
            model.distribution(wrong)
    with pytest.raises(IndexError, match="token id -2"):
        model.nll([[-2]], [[1]])
    with pytest.raises(IndexError, match="state holds token id 4294967296"):
        model.nll([[1]], [[1]], [[2**32]])
    with pytest.raises(ValueError, match="give vocab_size=2147483648"):
        rf.NGram(2).fit([1, 2**31 - 1])


@pytest.mark.fault("N2")
def test_an_id_outside_the_vocabulary_is_found_before_training():
    model, steps = rf.LanguageModel(4, hidden_size=2, seed=0), []
    for wrong in ([1, 2, 4], [1, 2**32 + 1, 2], [1, -1, 2]):
        with pytest.raises(IndexError, match="the text holds token id"):
            rf.fit(model, [1, 2, 3] * 5, wrong, epochs=1, batch_size=1, num_steps=2, on_epoch=steps.append)
    assert model.steps == 0
    corpus = rf.Corpus([1, 2, 3, 1], rf.Vocab("abc"))
    corpus.ids[2] = 9  # a corpus may have been changed since it was made
    with pytest.raises(IndexError, match="text holds token id 9, expected 0 to 3"):
        rf.evaluate(model, corpus)
    assert rf.evaluate(model, [1, 2, 3]).tokens == 2
