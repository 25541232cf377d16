"""rf.SequenceTagger: a label for every token or step."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import rnnfast as rf

random = np.random.default_rng(0)


def both_directions(count):
    """A bracket is good if its partner, before or behind it, is there: "(a)(" has a good pair and a bad bracket."""
    x, y = [], []
    for _ in range(count):
        text = "".join(random.choice(list("()ab"), random.integers(4, 14)))
        labels = [c if c in "ab" else "bad" for c in text]
        opened = []
        for i, c in enumerate(text):
            if c == "(":
                opened.append(i)
            elif c == ")" and opened:
                labels[i] = labels[opened.pop()] = "good"
        x.append(text)
        y.append(labels)
    return x, y


@pytest.fixture(scope="module")
def fitted():
    return rf.SequenceTagger("gru", 32, epochs=30, lr=1e-2, seed=0).fit(*both_directions(400))


def test_a_task_that_needs_both_directions_is_learnt_by_both_only(fitted):
    x, y = both_directions(200)
    one = rf.SequenceTagger("gru", 32, epochs=30, lr=1e-2, seed=0, bidirectional=False).fit(*both_directions(400))
    assert fitted.score(x, y) > 0.97
    assert one.score(x, y) < 0.93  # an opening bracket's partner is still to come
    assert fitted.classes_.tolist() == ["a", "b", "bad", "good"]
    assert len(fitted.loss_curve_) == 30


def test_predictions_have_the_lengths_of_the_sequences_and_do_not_depend_on_the_others(fitted):
    x, _ = both_directions(5)
    whole = fitted.predict_proba(x)
    for text, p, labels in zip(x, whole, fitted.predict(x)):
        assert p.shape == (len(text), 4)
        np.testing.assert_allclose(p.sum(1), 1)
        assert np.array_equal(p, fitted.predict_proba([text])[0])
        assert np.array_equal(labels, fitted.classes_[p.argmax(1)])


def test_files_copies_and_pickles_predict_the_same(fitted, tmp_path):
    x, _ = both_directions(4)
    fitted.save(tmp_path / "tagger.safetensors")
    for other in (
        rf.load(tmp_path / "tagger.safetensors"), rf.load(tmp_path / "tagger.safetensors", kind="sequence_tagger"),
        copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted)),
    ):  # fmt: skip
        assert all(np.array_equal(a, b) for a, b in zip(other.predict_proba(x), fitted.predict_proba(x)))
        assert other.params_ == fitted.params_


def test_steps_of_real_numbers_and_words_with_integer_labels():
    x = [random.normal([5, 0], size=(n, 2)) for n in random.integers(5, 12, 60)]
    y = [(np.diff(row[:, 0], append=row[-1, 0]) > 0).astype(int) for row in x]
    model = rf.SequenceTagger("lstm", 24, epochs=25, lr=2e-2, seed=0).fit(x, y)
    assert model.input_ == "real"
    assert model.score(x, y) > 0.9
    assert model.score(x, y, sample_weight=[1.0] * 60) == pytest.approx(model.score(x, y))
    words = [["the", "cat"], ["a", "dog", "ran"]]
    tagger = rf.SequenceTagger("rnn", 8, epochs=30, lr=3e-2, dropout=0.0, seed=0).fit(
        words, [[0, 1], [0, 1, 2]], sample_weight=[1, 2]
    )
    assert tagger.predict(words)[1].tolist() == [0, 1, 2]


def test_the_same_seed_gives_the_same_model_on_any_number_of_threads(threads):
    x, y = both_directions(40)
    found = []
    for count in (1, 2):
        threads(count)
        found.append(rf.SequenceTagger("gru", 8, epochs=2, seed=4).fit(x, y).network_.state_dict())
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_scikit_learn_clones_and_searches(fitted):
    sklearn = pytest.importorskip("sklearn.base")
    selection = pytest.importorskip("sklearn.model_selection")
    x, y = both_directions(30)
    assert sklearn.clone(fitted).get_params() == fitted.get_params()
    search = selection.GridSearchCV(rf.SequenceTagger("gru", 8, epochs=1, seed=0), {"lr": [1e-3, 1e-2]}, cv=2).fit(x, y)
    assert search.best_params_["lr"] in (1e-3, 1e-2)


def test_mistakes_are_named(fitted):
    tagger = rf.SequenceTagger(hidden_size=3, epochs=1)
    for call, error, match in (
        (lambda: tagger.fit(["ab", "c"], [["x", "y"]]), ValueError, "2 sequences and 1 sequences of labels"),
        (
            lambda: tagger.fit(["ab", "c"], [["x", "y"], ["x", "y"]]),
            ValueError,
            "sequence 1 has 1 tokens or steps and 2 labels",
        ),
        (lambda: tagger.fit(["ab"], None), ValueError, "requires y to be passed"),
        (lambda: tagger.fit(["ab"], [[1, "y"]]), TypeError, "y mixes integers and strings"),
        (lambda: tagger.fit([], []), ValueError, "0 sequences"),
        (lambda: rf.SequenceTagger(dropout=1.0).fit(["a"], [[1]]), ValueError, "less than 1"),
        (lambda: tagger.predict(["ab"]), rf.NotFittedError, "not fitted"),
        (lambda: fitted.predict([""]), ValueError, "empty"),
    ):
        with pytest.raises(error, match=match):
            call()
