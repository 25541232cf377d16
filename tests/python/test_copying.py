"""copy, pickle and joblib: a copy computes the same bits, has its own memory, and continues with the same dropout."""

from __future__ import annotations

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

import rnnfast as rf

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 20, (6, 3)).astype(np.int32)


def x(*shape):
    return RNG.normal(size=shape).astype(np.float32)


TEXT = rf.Corpus.from_text("a cat sat on a mat and a rat sat on that cat")
PAIRS = rf.ParallelCorpus.from_pairs([("go .", "va !"), ("go now .", "va donc !"), ("hi .", "salut .")] * 3)


LAYERS = {
    "RNN": lambda: rf.RNN(3, 4, nonlinearity="relu", seed=1),
    "LSTM": lambda: rf.LSTM(3, 4, 2, dropout=0.5, bidirectional=True, batch_first=True, recompute="sqrt", seed=1),
    "GRU": lambda: rf.GRU(3, 4, 2, bias=False, variational=True, dropout=0.1, weights="bf16", seed=1),
    "GRU with reset before": lambda: rf.GRU(3, 4, 2, reset_after=False, seed=1),
    "RNNCell": lambda: rf.RNNCell(3, 4, nonlinearity="relu", seed=1),
    "GRUCell": lambda: rf.GRUCell(3, 4, bias=False, seed=1),
    "LSTMCell": lambda: rf.LSTMCell(3, 4, seed=1),
    "Linear": lambda: rf.Linear(3, 4, bias=False, seed=1),
    "LayerNorm": lambda: rf.LayerNorm(3, eps=1e-3, bias=False),
    "RMSNorm": lambda: rf.RMSNorm(3, eps=1e-3),
    "SRU": lambda: rf.SRU(3, 4, 2, dropout=0.5, batch_first=True, seed=1),
    "Embedding": lambda: rf.Embedding(20, 4, seed=1),
    "Conv1d": lambda: rf.Conv1d(3, 4, 3, padding="causal", dilation=2, batch_first=True, seed=1),
    "Conv1d in groups": lambda: rf.Conv1d(3, 6, 2, padding=(1, 0), stride=2, groups=3, seed=1),
    "BatchNorm1d": lambda: rf.BatchNorm1d(3, eps=1e-3, momentum=0.5),
    "AttentionPool": lambda: rf.AttentionPool(3, seed=1),
    "SelfAttention": lambda: rf.SelfAttention(4, 2, causal=True, bias=False, seed=1),
    "LanguageModel": lambda: rf.LanguageModel(20, hidden_size=4, embedding_size=3, cell="lstm", dropout=0.5, seed=1),
    "LanguageModel with text": lambda: rf.LanguageModel(TEXT.vocab, hidden_size=4, seed=1),
    "LanguageModel tied": lambda: rf.LanguageModel(
        20, hidden_size=4, embedding_size=4, tie_weights=True, variational=True, init_scale=0.2, weights="bf16", seed=1
    ),
    "Seq2Seq": lambda: rf.Seq2Seq(20, 20, hidden_size=4, embedding_size=3, attention="dot", dropout=0.5, seed=1),
    "Seq2Seq with text": lambda: rf.Seq2Seq(
        PAIRS.source_vocab, PAIRS.target_vocab, hidden_size=4, embedding_size=3, decoder="context_as_input", seed=1
    ),
}

WAYS = {f"pickle {n}": lambda o, n=n: pickle.loads(pickle.dumps(o, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)}
WAYS |= {"copy": copy.copy, "deepcopy": copy.deepcopy}


def output(layer):
    if isinstance(layer, rf.LanguageModel):
        return layer.nll(IDS % 8, IDS % 7)[0]
    if isinstance(layer, rf.Seq2Seq):
        return layer.nll(IDS % 7, [6, 5, 6], IDS % 6)
    if isinstance(layer, rf.Embedding):
        return layer(IDS)
    numbers = np.random.default_rng(5).normal(size=(6, 3, 4)).astype(np.float32)
    if isinstance(layer, (rf.RNNCell, rf.GRUCell, rf.LSTMCell)):
        state = layer(numbers[0, :, :3])
        return np.stack(state) if isinstance(state, tuple) else state
    y = layer(numbers if isinstance(layer, rf.SelfAttention) else numbers[:, :, :3])
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_copy_of_every_layer_and_model_is_equal_and_independent(name, way):
    layer = LAYERS[name]()
    layer.note = "an attribute of the user's"
    twin = WAYS[way](layer)
    assert type(twin) is type(layer)
    assert twin._options() == layer._options()
    assert twin.note == layer.note
    assert vars(twin).keys() == vars(layer).keys()
    assert np.array_equal(output(twin), output(layer))
    first = next(iter(layer.state_dict()))
    layer.load_state_dict({n: value * 0 for n, value in layer.state_dict().items()})
    assert np.abs(twin.state_dict()[first]).max() > 0


def test_a_copy_draws_the_dropout_masks_that_the_layer_would_draw_next():
    lstm, numbers = rf.LSTM(3, 4, 2, dropout=0.5, seed=1), x(6, 2, 3)
    lstm.forward(numbers)
    twin = copy.deepcopy(lstm)
    assert np.array_equal(lstm.forward(numbers)[0], twin.forward(numbers)[0])
    model = LAYERS["LanguageModel"]()
    model.loss(IDS, IDS)
    twin = pickle.loads(pickle.dumps(model))
    assert twin.steps == 1
    assert twin.loss(IDS, IDS)[0] == model.loss(IDS, IDS)[0]


def test_the_gradients_of_a_copy_are_zero():
    layer = rf.Linear(3, 2, seed=0)
    y, backward = layer.forward(x(4, 3))
    backward(y)
    assert not any(np.any(g) for g in copy.deepcopy(layer).grads.values())


def test_a_diverged_layer_can_be_copied():
    layer = rf.Linear(2, 2, seed=0)
    layer.load_state_dict({"weight": [[np.nan, np.inf], [1, 2]], "bias": [0, 1]})
    assert np.array_equal(copy.deepcopy(layer).state_dict()["weight"], [[np.nan, np.inf], [1, 2]], equal_nan=True)


class Doubled(rf.Linear):
    """A subclass with another ``__init__`` signature and its own state."""

    def __init__(self, size):
        super().__init__(size, size, seed=0)
        self.factor = 2

    def __call__(self, input):
        return self.factor * super().__call__(input)


def test_a_users_subclass_can_be_copied():
    layer, numbers = Doubled(3), x(2, 3)
    for way in WAYS.values():
        assert np.array_equal(way(layer)(numbers), layer(numbers))


def test_layers_inside_a_users_object_are_copied_with_it():
    shared = rf.Linear(2, 2, seed=0)
    network = {"in": shared, "out": [shared, rf.LSTM(2, 3, seed=1)], "weights": np.ones(3)}
    twin = copy.deepcopy(network)
    assert twin["in"] is twin["out"][0]
    assert twin["in"] is not shared


def test_damaged_bytes_are_refused():
    kind = rf.Linear
    restore, (_, data, objects, rest), _ = kind(2, 3, seed=0).__reduce__()
    for at in (0, 20, len(data) // 2, len(data) - 1):
        with pytest.raises(rf.FileFormatError, match="the pickled Linear"):
            restore(kind, data[:at], objects, rest)
    with pytest.raises(rf.FileFormatError, match="the pickled GRU: the bytes are of another class"):
        restore(rf.GRU, data, objects, rest)
    with pytest.raises(rf.FileFormatError, match="do not fit"):
        restore(kind, data.replace(b'\\"in_features\\": 2', b'\\"in_features\\": 3'), objects, rest)
    with pytest.raises(rf.FileFormatError, match="do not fit"):
        restore(kind, data.replace(b"in_features", b"in_featurez"), objects, rest)
    with pytest.raises(TypeError, match="not a layer or model"):
        restore(dict, data, objects, rest)


def test_joblib_keeps_layers_and_models(tmp_path):
    joblib = pytest.importorskip("joblib")
    for name in ("LSTM", "LanguageModel with text"):
        layer = LAYERS[name]()
        joblib.dump(layer, tmp_path / "layer.joblib", compress=1)
        assert np.array_equal(output(joblib.load(tmp_path / "layer.joblib")), output(layer))


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_process_pool_is_given_layers_and_gives_them_back(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    layer = LAYERS["LSTM"]()
    with multiprocessing.get_context(method).Pool(1) as pool:
        twin = pool.apply(copy.copy, (layer,))
    assert np.array_equal(output(twin), output(layer))


def plain_objects(tmp_path):
    history = rf.fit(LAYERS["LanguageModel with text"](), TEXT, TEXT, epochs=1, batch_size=2, num_steps=4, seed=0)
    ngram = rf.NGram(order=3, smoothing="kneser_ney").fit(TEXT)
    return {
        "Vocab": (TEXT.vocab, lambda v: (v.description(), v.token_freqs)),
        "Corpus": (TEXT, lambda c: (c.ids.tolist(), c.vocab.description())),
        "ParallelCorpus": (PAIRS, lambda c: (len(c), repr(c.source_vocab), [s.tolist() for s in c.source_ids])),
        "NGram": (ngram, lambda n: rf.evaluate(n, TEXT).perplexity),
        "History": (history, lambda h: (h.records, h.stopped)),
        "Evaluation": (rf.evaluate(ngram, TEXT), repr),
        "StepDecay": (rf.schedules.StepDecay(), repr),
        "TensorBoard": (rf.TensorBoard(tmp_path), lambda t: type(t).__name__),
    }


def test_texts_histories_n_grams_and_schedules_can_be_copied(tmp_path):
    for name, (value, content) in plain_objects(tmp_path).items():
        for way in ("copy", "deepcopy", "pickle 2", "pickle 5"):
            assert content(WAYS[way](value)) == content(value), (name, way)


def test_objects_in_the_middle_of_a_computation_are_not_copied():
    lstm, attention = rf.LSTM(2, 3, seed=0), LAYERS["SelfAttention"]()
    held = {
        "a stream cannot be copied or pickled: make another": lstm.stream(),
        "AttentionCache": attention.step(x(1, 4))[1],
        "Tape": lstm._run(x(4, 2, 2), None, None, save=True)[2].core,
    }
    for message, value in held.items():
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=message):
                way(value)
