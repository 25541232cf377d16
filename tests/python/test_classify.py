from __future__ import annotations

import datetime
import json
import math
from pathlib import Path

import numpy as np
import pytest
from registered import LAYERS, torch_class

import rnnfast as rf
from rnnfast.estimators.classify import _learn as learn

rng = np.random.default_rng(0)


def words(count):
    """Class 0: the first letter comes again at the end; class 1: it does not."""
    texts, labels = [], []
    for i in range(count):
        letters = rng.choice(list("abc"), rng.integers(2, 7)).tolist()
        letters[-1] = letters[0] if i % 2 == 0 else {"a": "b", "b": "c", "c": "a"}[letters[0]]
        texts.append("".join(letters))
        labels.append("same" if i % 2 == 0 else "other")
    return texts, labels


def small(cell="gru", **options):
    return rf.SequenceClassifier(cell, 24, **{"epochs": 25, "lr": 1e-2, "embedding_size": 8, "seed": 0, **options})


@pytest.mark.parametrize(("cell", "pooling"), [("gru", "last"), ("lstm", "last"), ("lstm", "mean")])
def test_a_rule_over_the_whole_sequence_is_learnt(cell, pooling):
    texts, labels = words(600)
    model = small(cell, pooling=pooling, num_layers=2).fit(texts[:500], labels[:500])
    assert model.score(texts[500:], labels[500:]) > 0.9
    assert model.classes_.tolist() == ["other", "same"]
    p = model.predict_proba(texts[500:])
    np.testing.assert_allclose(p.sum(1), 1)
    assert model.predict(texts[500:]).tolist() == model.classes_[p.argmax(1)].tolist()
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("cell", LAYERS)
def test_gradients_are_torchs(cell, pooling):
    torch = pytest.importorskip("torch")
    texts, labels = words(5)
    model = small(cell, pooling=pooling, epochs=1).fit(texts, labels)
    weights = model.network_.state_dict()
    kind, options = torch_class(cell)
    layers = {"embedding": torch.nn.Embedding(len(model.vocab_), 8), "rnn": kind(8, 24, **options)}
    layers["output"] = torch.nn.Linear(24, 2)
    for name, layer in layers.items():
        own = {n.partition(".")[2]: torch.from_numpy(w) for n, w in weights.items() if n.startswith(name)}
        layer.load_state_dict(own)
    total, ids = 0.0, [model.vocab_.encode_text(text) for text in texts]
    targets = (np.array(labels) == "same").astype(int)
    for row, target in zip(ids, targets):
        h, _ = layers["rnn"](layers["embedding"](torch.from_numpy(row).long()))
        logits = layers["output"](h[-1] if pooling == "last" else h.mean(0))
        total = total + torch.nn.functional.cross_entropy(logits[None], torch.tensor([target])) / len(ids)
    total.backward()
    assert learn(model.network_, ids, targets, None) == pytest.approx(total.item(), rel=1e-5)
    for name, layer in layers.items():
        for parameter, value in layer.named_parameters():
            expected = value.grad.numpy()
            np.testing.assert_allclose(model.network_.grads[f"{name}.{parameter}"], expected, rtol=1e-3, atol=1e-6)


def test_the_result_of_a_row_does_not_depend_on_other_rows():
    texts, labels = words(40)
    model = small(epochs=2).fit(texts, labels)
    together = model.predict_proba(texts)
    alone = np.concatenate([model.predict_proba([text]) for text in texts])
    assert np.array_equal(together, alone)


def test_tokens_in_place_of_text_and_numbers_as_labels():
    model = small(epochs=60).fit([["up", "up"], ["down"], ["up"], ["down", "down"]], [1, 0, 1, 0])
    assert model.predict([["up"], ["down", "unseen"]]).tolist() == [1, 0]


def test_confusion_counts_and_draws(tmp_path):
    texts, labels = words(100)
    model = small(epochs=1).fit(texts, labels)
    matrix = model.confusion_matrix(texts, labels)
    assert matrix.sum() == 100
    assert matrix.sum(1).tolist() == [50, 50]
    assert np.trace(matrix) / 100 == model.score(texts, labels)
    with pytest.raises(ValueError, match="label 'third' is not among the fitted ones"):
        model.confusion_matrix(["ab"], ["third"])
    pytest.importorskip("matplotlib")
    model.plot_confusion(texts, labels, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes()[:4] == b"\x89PNG"


def test_a_model_is_saved_and_loaded(tmp_path):
    texts, labels = words(60)
    model = small(epochs=1).fit(texts, labels)
    model.save(tmp_path / "m.safetensors")
    again = rf.load(tmp_path / "m.safetensors")
    assert np.array_equal(again.predict_proba(texts), model.predict_proba(texts))
    assert again.predict(texts).tolist() == model.predict(texts).tolist()
    with pytest.raises(ValueError, match="float32 only"):
        rf.load(tmp_path / "m.safetensors", weights="bf16")
    tensors, metadata = rf._core.read_safetensors(str(tmp_path / "m.safetensors"))
    rf._core.write_safetensors(str(tmp_path / "bad.safetensors"), tensors, {**metadata, "config": "{}"})
    with pytest.raises(rf.FileFormatError, match="cannot be used"):
        rf.load(tmp_path / "bad.safetensors")


def test_surnames_are_classified_by_language(data_folder):
    names = rf.datasets.load("names")
    pairs = [(name, language) for language, listed in names.items() for name in listed]
    order = np.random.default_rng(0).permutation(len(pairs))
    texts, labels = zip(*(pairs[i] for i in order))
    model = rf.SequenceClassifier("gru", 64, epochs=3, seed=0).fit(texts[:18_000], labels[:18_000])
    assert model.score(texts[18_000:], labels[18_000:]) > 0.70  # always "Russian": 0.47


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: small().fit(["a"], [1, 2]), "1 sequences and 2 labels"),
        (lambda: small().fit([], []), "at least one"),
        (lambda: small().fit(["a", ""], [1, 2]), "the sequence '' is empty"),
        (lambda: small(pooling="max").fit(["a"], [1]), "expected one of last, mean"),
        (lambda: small("grru").fit(["a"], [1]), f"expected one of {', '.join(LAYERS)}"),
        (lambda: small().predict(["a"]), "call fit first"),
        (lambda: small().save("x"), "call fit first"),
    ],
)
def test_bad_input_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def waves(count, features=1):
    """Class "fast" has twice the frequency; rows of 12 to 30 steps, far from zero."""
    rows, labels = [], []
    for i in range(count):
        t = np.arange(rng.integers(12, 31))[:, None] + rng.uniform(0, 9)
        rows.append(1e3 + 50 * np.sin((0.9 if i % 2 else 0.45) * t + np.arange(features)))
        labels.append("fast" if i % 2 else "slow")
    return rows, labels


def real(**options):
    return rf.SequenceClassifier(hidden_size=12, **{"epochs": 12, "lr": 2e-2, "batch_size": 16, "seed": 0, **options})


@pytest.mark.fault("N15")
@pytest.mark.parametrize("form", ["(T,)", "(T, 2)", "lists", "frames", "float32"])
def test_real_valued_sequences_of_any_length_are_learnt_as_numbers(form, tmp_path):
    rows, labels = waves(120, 1 if form == "(T,)" else 2)
    if form == "(T,)":
        rows = [row[:, 0] for row in rows]
    elif form == "lists":
        rows = [row.tolist() for row in rows]
    elif form == "frames":
        pandas = pytest.importorskip("pandas")
        rows = [pandas.DataFrame(row, columns=["x", "y"]) for row in rows]
    elif form == "float32":
        rows = [row.astype(np.float32) for row in rows]
    model = real(num_layers=2, cell="lstm", pooling="mean").fit(rows[:80], labels[:80])
    assert model.input_ == "real"
    assert not hasattr(model, "vocab_")
    assert model.n_features_in_ == (1 if form == "(T,)" else 2)
    assert model.score(rows[80:], labels[80:]) > 0.9
    alone = np.concatenate([model.predict_proba([row]) for row in rows[80:90]])
    assert np.array_equal(model.predict_proba(rows[80:90]), alone)
    model.save(tmp_path / "m.safetensors")
    assert np.array_equal(rf.load(tmp_path / "m.safetensors").predict_proba(rows[80:]), model.predict_proba(rows[80:]))


@pytest.mark.fault("N15")
def test_an_array_of_floats_holds_a_sequence_in_each_row():
    x, labels = rng.normal(size=(6, 5)), [0, 1] * 3
    model = real(epochs=2).fit(x, labels)
    expected = model.predict_proba(x)
    assert np.array_equal(model.predict_proba(x[:, :, None]), expected)
    assert np.array_equal(model.predict_proba(list(x)), expected)
    assert np.array_equal(real(epochs=2).fit(x[:, :, None], labels).predict_proba(x), expected)
    frames = pytest.importorskip("pandas").DataFrame(x)  # a row is a sequence, as scikit-learn reads a frame
    assert np.array_equal(real(epochs=2).fit(frames, labels).predict_proba(frames), expected)
    assert np.array_equal(model.predict_proba(np.round(x).astype(int)), model.predict_proba(np.round(x)))
    assert model.predict_proba(x[:, :2]).shape == (6, 2)  # shorter ones than those fitted


@pytest.mark.fault("N15")
def test_integers_are_tokens_with_a_warning_unless_input_says_what_they_are():
    x, labels = np.array([[1, 2, 3], [3, 2, 1]] * 3), [0, 1] * 3
    with pytest.warns(UserWarning, match='read as tokens; input="real"') as warned:
        guessed = small(epochs=1).fit(x, labels)
    assert warned[0].filename == __file__
    said = small(epochs=1, input="tokens").fit(x, labels)
    assert guessed.input_ == said.input_ == "tokens"
    assert guessed.vocab_.idx_to_token == ["<unk>", "1", "2", "3"]
    assert np.array_equal(guessed.predict_proba(x), said.predict_proba(x.tolist()))
    assert real(epochs=1, input="real").fit(x, labels).n_features_in_ == 1
    assert real(epochs=1).fit([x[:2], x[:3]], [0, 1]).n_features_in_ == 3  # a row of integers is not a token
    assert small(epochs=1).fit([["1", 2], ["a"]], [0, 1]).input_ == "tokens"


@pytest.mark.fault("N15", "N17")
@pytest.mark.parametrize(
    ("sequences", "error", "sentence"),
    [
        ({"a": [1.0], "b": [2.0]}, TypeError, "X is a dict, expected a list of sequences"),
        ([{"a": 1.0}, {"a": 2.0}], TypeError, "sequence 0 is a dict"),
        ("ab", TypeError, "X is a str"),
        ([b"ab", b"cd"], TypeError, "sequence 0 is a bytes"),
        ([1.0, 2.0], TypeError, "sequence 0 is a float"),
        (np.array([1.0, 2.0]), ValueError, r"X has shape \(2,\), expected sequences"),
        (np.zeros((2, 3, 4, 5)), ValueError, r"sequence 0 has shape \(3, 4, 5\), expected \(T,\) or \(T, D\)"),
        ([[0.5, 1.0], [0.5, math.nan]], ValueError, "sequence 1 is NaN at position 1"),
        ([np.ones((2, 2)), np.array([[1, 2], [3, math.inf]])], ValueError, "sequence 1 is inf in row 1, column 1"),
        ([[0.5], []], ValueError, "sequence 1: the sequence .* is empty"),
        ([np.ones((2, 2)), np.ones((2, 3))], ValueError, "sequence 1 has 3 features, sequence 0 has 2"),
        ([["a"], [0.5]], TypeError, "sequence 1 has real numbers, expected tokens"),
        ([["a", 0.5], ["b"]], TypeError, "sequence 0 has strings and real numbers"),
        ([["a", None], ["b"]], TypeError, "sequence 0 has a NoneType"),
        ([[1j], [2j]], ValueError, "Complex data not supported"),
        ([np.ma.masked_array([1.0, 2.0], [False, True])] * 2, ValueError, "masked array"),
        (np.ma.masked_array(np.ones((2, 3)), np.eye(2, 3)), ValueError, "masked array"),
        (np.full((2, 3), np.datetime64("2020-01-01")), TypeError, "expected tokens or real numbers"),
        ([[1e300, -1e300], [1e300, 0.0]], ValueError, r"X reaches 1e\+300, too large"),
    ],
)
def test_what_is_not_a_sequence_is_refused_in_a_sentence(sequences, error, sentence):
    with pytest.raises(error, match=sentence):
        real().fit(sequences, [0, 1])


@pytest.mark.fault("N15")
def test_a_fitted_classifier_refuses_sequences_of_another_kind():
    tokens, numbers = small(epochs=1).fit(["ab", "ba"], [0, 1]), real(epochs=1).fit(np.eye(2), [0, 1])
    for call, sentence in (
        (lambda: tokens.predict(np.eye(2)), "sequence 0 has real numbers, expected tokens"),
        (lambda: numbers.predict(["ab"]), "sequence 0 is a str, expected numbers"),
        (lambda: numbers.predict([["ab"]]), "expected real numbers"),
        (lambda: numbers.predict(np.zeros((2, 3, 4))), "X has 4 features, but SequenceClassifier is expecting 1"),
        (lambda: numbers.predict([[1e300]]), r"sequence 0 reaches 1e\+300"),
    ):
        with pytest.raises((TypeError, ValueError, OverflowError), match=sentence):
            call()
    pandas = pytest.importorskip("pandas")
    frames = [pandas.DataFrame({"x": [0.5, i], "y": [1.5, 2.5]}) for i in range(2)]
    named = real(epochs=1).fit(frames, [0, 1])
    assert named.feature_names_in_.tolist() == ["x", "y"]
    with pytest.raises(ValueError, match="X has the columns y, x; expected as fitted: x, y"):
        named.predict([frames[0][["y", "x"]]])


@pytest.mark.fault("N17")
def test_a_constant_feature_is_left_out_of_the_scale():
    rows = [np.column_stack([np.full(9, 0.1), rng.normal(size=9)]) for _ in range(4)]
    model = real(epochs=2).fit(rows, [0, 1, 0, 1])
    assert model.scale_[0] == 1
    moved = [row + np.array([1e-9, 0]) for row in rows]
    np.testing.assert_allclose(model.predict_proba(moved), model.predict_proba(rows), rtol=1e-5)


@pytest.mark.fault("N16")
@pytest.mark.parametrize("method", ["score", "confusion_matrix", "fit"])
@pytest.mark.parametrize(
    ("labels", "error", "sentence"),
    [
        (np.array([[0], [1], [0]]), ValueError, r"y has shape \(3, 1\), expected \(3,\): .*; y.ravel\(\) gives that"),
        ([[0], [1], [0]], TypeError, r"y has \[0\] of type list, expected one label for each sequence"),
        ([0], ValueError, "3 sequences and 1 labels"),
        ([0, 1], ValueError, "3 sequences and 2 labels"),
        ([], ValueError, "3 sequences and 0 labels"),
        (0, TypeError, "y is an int, expected a list of labels"),
        ("010", TypeError, "y is a str"),
        (None, ValueError, "requires y to be passed, but the target y is None"),
        (["0", "1", 0], TypeError, "y mixes integers and strings"),
        ([True, 1, 0], TypeError, "y mixes bools and integers"),
        ([0, 1, None], TypeError, "y has None of type NoneType, expected strings"),
        ([(0, 1), (1, 0), (0, 0)], TypeError, r"y has \(0, 1\) of type tuple"),
        ([0.0, 1.0, math.nan], ValueError, "y is NaN at position 2"),
        (np.ma.masked_array([0, 1, 0], [True, False, False]), ValueError, "y is a masked array"),
        (np.array([0, 1, 0], complex), TypeError, "y has dtype complex128"),
        (np.array([0, 1, 0], "m8[s]"), TypeError, "y has dtype timedelta64"),
        ([np.timedelta64(1), np.timedelta64(2), np.timedelta64(1)], TypeError, "of type timedelta64"),
    ],
)
def test_labels_of_another_shape_or_type_are_refused(method, labels, error, sentence):
    model = small(epochs=1).fit(["ab", "ba", "aa"], [0, 1, 0])
    with pytest.raises(error, match=sentence):
        getattr(model, method)(["ab", "ba", "aa"], labels)


@pytest.mark.fault("N16")
def test_labels_are_compared_by_value_and_not_across_types():
    texts = ["ab", "ba", "aa"]
    model = small(epochs=1).fit(texts, [0, 1, 0])
    guesses = model.predict(texts)
    assert model.score(texts, guesses) == model.score(texts, guesses.astype(float)) == 1
    assert model.score(texts, guesses.astype(bool)) == 1
    assert model.score(texts, guesses + 7) == 0  # labels that were not fitted are wrong, not an error
    with pytest.raises(TypeError, match="y has strings, but the fitted classes are integers"):
        model.score(texts, guesses.astype(str))
    with pytest.raises(ValueError, match="0 sequences, expected at least one to score"):
        model.score([], [])
    assert model.predict([]).shape == (0,)
    assert model.predict_proba([]).shape == (0, 2)
    assert model.confusion_matrix([], []).tolist() == [[0, 0], [0, 0]]


@pytest.mark.fault("N18")
@pytest.mark.parametrize(
    "labels",
    [
        ["b", "a"],
        ["a\0", "a"],
        [b"b", b"a"],
        [b"a\0", b"a"],
        [True, False],
        [2.5, -1.5],
        [2**70, 1],
        [datetime.date(2020, 1, 2), datetime.date(2019, 1, 1)],
        [datetime.datetime(2020, 1, 2, 3, 4, 5, 6), datetime.datetime(2019, 1, 1)],
        np.array([3, 1], np.uint8),
        np.array([0.5, 0.25], np.float16),
        np.array([True, False]),
        np.array(["b", "a"], object),
        np.array(["2020-01-02", "2019-01-01"], "M8[ns]"),
    ],
    ids=lambda labels: f"{type(labels[0]).__name__} {labels[0]!r}",
)
def test_labels_of_every_type_come_back_from_a_file_with_their_type(labels, tmp_path):
    model = small(epochs=1).fit(["ab", "ba"], labels)
    model.save(tmp_path / "m.safetensors")
    again = rf.load(tmp_path / "m.safetensors")
    assert again.classes_.dtype == model.classes_.dtype
    assert again.classes_.tolist() == model.classes_.tolist() == sorted(np.asarray(labels, object).tolist())
    assert [type(label) for label in again.classes_.tolist()] == [type(label) for label in model.classes_.tolist()]
    assert again.score(["ab", "ba"], labels) == model.score(["ab", "ba"], labels)
    assert len(again.predict(["ab"])) == 1


@pytest.mark.fault("N18")
def test_text_that_no_file_can_hold_is_refused_before_training():
    for texts, labels in ((["a\ud800", "b"], [0, 1]), (["a", "b"], ["\ud800", "x"])):
        with pytest.raises(ValueError, match="surrogate"):
            small().fit(texts, labels)


@pytest.mark.fault("N13")
@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"clip_norm": 0}, ValueError, "clip_norm is 0, expected more than 0"),
        ({"clip_norm": -1}, ValueError, "clip_norm is -1"),
        ({"clip_norm": math.nan}, ValueError, "clip_norm is nan"),
        ({"clip_norm": "1"}, TypeError, "clip_norm is '1', expected a number"),
        ({"lr": 0.0}, ValueError, "lr is 0.0"),
        ({"lr": math.inf}, ValueError, "lr is inf"),
        ({"lr": True}, TypeError, "lr is True"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"epochs": 2.0}, TypeError, "epochs is 2.0, expected an integer"),
        ({"batch_size": -1}, ValueError, "batch_size is -1"),
        ({"hidden_size": 0}, ValueError, "hidden_size is 0"),
        ({"num_layers": True}, TypeError, "num_layers is True"),
        ({"embedding_size": 0}, ValueError, "embedding_size is 0"),
        ({"cell": ["gru"]}, ValueError, r"unknown cell \['gru'\]"),
        ({"pooling": None}, ValueError, "unknown pooling None"),
        ({"tokenizer": 3}, TypeError, "tokenizer is 3"),
        ({"tokenizer": "chars"}, ValueError, "unknown tokenizer 'chars'"),
        ({"input": "words"}, ValueError, "unknown input 'words': expected one of auto, tokens, real"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": 2**64}, ValueError, "expected less than"),
        ({"seed": 1.0}, TypeError, "seed is 1.0"),
        ({"hidden_size": 10**6}, ValueError, r"the recurrent layer would have 4e\+12 weights, expected at most"),
        ({"embedding_size": 2**70}, ValueError, "expected at most 2147483647"),
        ({"num_layers": 10**9}, ValueError, "num_layers is 1000000000, expected 1 to 10000"),
        ({"epochs": np.timedelta64(3)}, TypeError, r"epochs is np.timedelta64\(3\)|epochs is numpy.timedelta64\(3\)"),
        ({"hidden_size": np.zeros((3, 2))}, TypeError, r"hidden_size is array\(\[\[0., 0.\], \[0., 0.\]"),
        ({"verbose": "yes"}, TypeError, "verbose is 'yes'"),
    ],
)
def test_fit_checks_every_parameter_and_the_constructor_none(options, error, sentence):
    model = rf.SequenceClassifier(**options)
    assert all(model.get_params()[name] is value for name, value in options.items())
    with pytest.raises(error, match=sentence):
        model.fit(["ab", "ba"], [0, 1])
    assert not hasattr(model, "classes_")


def test_no_clipping_is_none_or_infinity(tmp_path):
    texts, labels = words(20)
    none, infinite = (small(epochs=1, clip_norm=norm).fit(texts, labels) for norm in (None, math.inf))
    assert np.array_equal(none.predict_proba(texts), infinite.predict_proba(texts))
    infinite.save(tmp_path / "m.safetensors")
    assert rf.load(tmp_path / "m.safetensors").clip_norm is None


def test_weights_say_how_much_a_sequence_counts():
    texts, labels = ["ab", "ab", "ba"], [0, 1, 1]
    plain = small(epochs=20).fit(texts, labels)
    same = small(epochs=20).fit(texts, labels, sample_weight=[3, 3, 3])
    np.testing.assert_allclose(same.predict_proba(texts), plain.predict_proba(texts), rtol=1e-5)
    for favoured in (0, 1):
        weights = [1.0, 1.0, 1.0]
        weights[favoured] = 9.0
        model = small(epochs=20).fit(texts, labels, sample_weight=weights)
        assert model.predict(["ab"]).tolist() == [favoured]
        assert model.score(texts[:2], labels[:2], sample_weight=weights[:2]) == 0.9
    for weights, error in (([1, 1], ValueError), (1.0, TypeError), ([0, 0, 0], ValueError), ([1, -1, 1], ValueError)):
        with pytest.raises(error, match="sample_weight"):
            plain.fit(texts, labels, sample_weight=weights)


def test_one_class_one_sequence_and_old_argument_names_work():
    model = small(epochs=1).fit(sequences=["ab"], labels=["only"])
    assert model.predict(sequences=["ba"]).tolist() == ["only"]
    assert model.predict_proba(["ba"]).tolist() == [[1.0]]
    assert model.score(X=["ba"], y=["only"]) == 1


def test_a_file_of_version_0_1_still_loads():
    model = rf.load(Path(__file__).parents[1] / "golden" / "sequence_classifier_v1.safetensors")
    expected = [[0.5410969910874663, 0.4589030089125337], [0.5302608356195904, 0.4697391643804097]]
    np.testing.assert_allclose(model.predict_proba(["ab", "yx"]), expected, rtol=1e-6)
    assert model.predict(["ab"]).tolist() == ["ab"]
    assert model.input_ == "tokens"


@pytest.mark.fault("N19")
def test_words_of_an_old_file_are_split_by_the_old_rule(tmp_path):
    hindi = "\u0939\u093f\u0928\u094d\u0926\u0940"  # one word with combining marks
    model = small(epochs=1, tokenizer="word").fit([hindi, "b"], [0, 1])
    assert model.vocab_.idx_to_token == ["<unk>", "b", hindi]
    model.save(tmp_path / "new.safetensors")
    assert rf.load(tmp_path / "new.safetensors").vocab_.tokenize(hindi) == [hindi]
    tensors, metadata = rf._core.read_safetensors(str(tmp_path / "new.safetensors"))
    config = json.loads(metadata["config"])
    old = {"params": config["params"], "classes": config["classes"], "tokens": config["vocabulary"]["tokens"]}
    rf._core.write_safetensors(str(tmp_path / "old"), tensors, {**metadata, "config": json.dumps(old)})
    again = rf.load(tmp_path / "old")
    assert len(again.vocab_.tokenize(hindi)) > 1
    again.save(tmp_path / "again.safetensors")
    assert len(rf.load(tmp_path / "again.safetensors").vocab_.tokenize(hindi)) > 1
