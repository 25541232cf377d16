from __future__ import annotations

import numpy as np
import pytest

import rnnfast as rf

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
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_gradients_are_torchs(cell, pooling):
    torch = pytest.importorskip("torch")
    texts, labels = words(5)
    model = small(cell, pooling=pooling, epochs=1).fit(texts, labels)
    weights = model._network.state_dict()
    kinds = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
    layers = {"embedding": torch.nn.Embedding(len(model.vocab_), 8), "rnn": kinds[cell](8, 24)}
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
    gradients = {}
    model._network.update = lambda *_: gradients.update(
        {f"{n}.{p}": g.copy() for n, layer in model._network.layers.items() for p, g in layer.grads.items()}
    )
    assert model._learn(ids, targets, 1.0) == pytest.approx(total.item(), rel=1e-5)
    for name, layer in layers.items():
        for parameter, value in layer.named_parameters():
            expected = value.grad.numpy()
            np.testing.assert_allclose(gradients[f"{name}.{parameter}"], expected, rtol=1e-3, atol=1e-6)


def test_a_row_s_answer_does_not_depend_on_the_rows_beside_it():
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
    with pytest.raises(ValueError, match="label 'third' was not among those fitted"):
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


def test_surnames_are_told_apart_by_language(data_folder):
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
        (lambda: small("grru").fit(["a"], [1]), "expected one of rnn, gru, lstm"),
        (lambda: small().predict(["a"]), "call fit first"),
        (lambda: small().save("x"), "call fit first"),
    ],
)
def test_bad_input_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
