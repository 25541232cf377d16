"""Output layers for large vocabularies: the adaptive softmax equals PyTorch's, the sampled one its statement in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.nn.layer import dropout_key

V, T, N = 61, 9, 4
ADAPTIVE = {"output": "adaptive", "cutoffs": [13, 40], "div_value": 2.0}
WORDS = [f"w{i}" for i in range(V - 1)]


def model(**options):
    return rf.LanguageModel(
        V, **{"cell": "lstm", "embedding_size": 24, "hidden_size": 24, "init_scale": 0.3, "seed": 3, **options}
    )


def batch(seed=0):
    random = np.random.default_rng(seed)
    x, y = random.integers(0, V, (2, T, N)).astype(np.int32)
    y[2, 1] = y[5, 0] = -1
    return x, y


def hidden_of(network, x):
    """What the output layer reads: the last hidden states, by a model of the same layers with the identity as output."""
    weights = network.state_dict()
    reader = rf.LSTM(24, 24)
    reader.load_state_dict({name[4:]: w for name, w in weights.items() if name.startswith("rnn.")})
    y, _ = reader(weights["embedding.weight"][x])
    return y


def test_the_adaptive_softmax_equals_pytorch_s_with_all_gradients():
    torch = pytest.importorskip("torch")
    network = model(**ADAPTIVE)
    x, y = batch()
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(24, V, ADAPTIVE["cutoffs"], 2.0, head_bias=True)
    weights = network.state_dict()
    names = {name: f"output.{name}" for name in theirs.state_dict()}
    theirs.load_state_dict({name: torch.tensor(weights[own]) for name, own in names.items()})
    z = torch.tensor(hidden_of(network, x)[y >= 0], requires_grad=True)
    log_p, loss = theirs(z, torch.tensor(y[y >= 0]).long())
    loss.backward()

    ours, _ = network.loss(x, y)
    network.backward()
    assert ours == pytest.approx(loss.item(), abs=1e-6)
    np.testing.assert_allclose(network.nll(x, y)[0][y >= 0], -log_p.detach().numpy(), atol=1e-5)
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(network.grads[names[name]], parameter.grad.numpy(), atol=1e-5, err_msg=name)
    # The gradient of z arrives below: that of b_hh of the LSTM is a sum of it through the cell.
    lstm = torch.nn.LSTM(24, 24)
    lstm.load_state_dict({n[4:]: torch.tensor(w) for n, w in weights.items() if n.startswith("rnn.")})
    out, _ = lstm(torch.tensor(weights["embedding.weight"])[torch.tensor(x).long()])
    theirs(out[torch.tensor(y >= 0)], torch.tensor(y[y >= 0]).long()).loss.backward()
    for name, parameter in lstm.named_parameters():
        np.testing.assert_allclose(network.grads[f"rnn.{name}"], parameter.grad.numpy(), atol=1e-5, err_msg=name)
    everything = theirs.log_prob(z).detach().numpy()
    logits, state = network.step(x[0])
    np.testing.assert_allclose(logits[: (y[0] >= 0).sum()], everything[: (y[0] >= 0).sum()], atol=1e-5)


@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
def test_steps_losses_and_probabilities_of_an_adaptive_model_agree(weights):
    network = model(**ADAPTIVE, weights=weights)
    x, y = batch(1)
    nll, _ = network.nll(x, y)
    state = None
    for t in range(T):
        log_p, state = network.step(x[t], state)
        np.testing.assert_allclose(np.exp(log_p.astype(np.float64)).sum(-1), 1, atol=1e-5)
        for n in range(N):
            assert nll[t, n] == pytest.approx(-log_p[n, y[t, n]] if y[t, n] >= 0 else 0, abs=1e-5)


def test_a_sequence_whose_targets_are_all_frequent_leaves_the_clusters_without_gradient():
    network = model(**ADAPTIVE)
    x, y = batch()
    network.loss(x, y)
    network.backward()
    network.zero_grad()
    network.loss(x, y % 13)
    network.backward()
    assert not network.grads["output.tail.0.0.weight"].any()
    assert not network.grads["output.tail.1.1.weight"].any()
    assert network.grads["output.head.weight"].any()


def _mix(x):
    for factor, shift in ((0xBF58476D1CE4E5B9, 30), (0x94D049BB133111EB, 27)):
        x = ((x ^ (x >> shift)) * factor) % 2**64
    return x ^ (x >> 31)


def _key(seed, a):
    return _mix((_mix((_mix((seed + 0x9E3779B97F4A7C15) % 2**64) + a) % 2**64)) % 2**64)


def drawn(key, samples):
    """The sampled classes, and the tries that they took."""
    seen, tries = set(), 0
    while len(seen) < samples:
        tries += 1
        uniform = (_mix((key + tries * 0x9E3779B97F4A7C15) % 2**64) >> 11) * 2.0**-53
        seen.add(min(int(np.exp(uniform * np.log(V + 1.0))) - 1, V - 1))
    return np.array(sorted(seen)), tries


@pytest.mark.parametrize("tied", [False, True])
def test_the_sampled_softmax_equals_its_statement_in_numpy(tied):
    samples = 11
    network = model(output="sampled", num_sampled=samples, tie_weights=tied)
    weights = network.state_dict()
    table = weights["embedding.weight" if tied else "output.weight"].astype(np.float64)
    x, y = batch()
    z = hidden_of(network, x).astype(np.float64)[y >= 0]
    targets = y[y >= 0]
    loss, _ = network.loss(x, y)
    network.backward()

    classes, tries = drawn(_key(dropout_key(3, 1), 2**31 + 1), samples)
    q = np.log1p(1 / (np.arange(V) + 1.0)) / np.log(V + 1)
    assert q.sum() == pytest.approx(1)
    corrected = z @ table.T + weights["output.bias"] - np.log(-np.expm1(tries * np.log1p(-q)))
    counted = np.zeros((len(targets), V), bool)
    counted[:, classes] = True
    counted[np.arange(len(targets)), targets] = True
    p = np.where(counted, np.exp(corrected), 0)
    p /= p.sum(1, keepdims=True)
    assert loss == pytest.approx(-np.log(p[np.arange(len(targets)), targets]).mean(), abs=1e-5)
    p[np.arange(len(targets)), targets] -= 1
    np.testing.assert_allclose(network.grads["output.bias"], p.mean(0), atol=1e-5)
    if not tied:
        np.testing.assert_allclose(network.grads["output.weight"], p.T @ z / len(targets), atol=1e-5)


def test_sampling_is_for_training_alone_and_every_step_draws_anew():
    x, y = batch()
    network, full = model(output="sampled", num_sampled=11), model()
    full.load_state_dict(network.state_dict())
    np.testing.assert_array_equal(network.nll(x, y)[0], full.nll(x, y)[0])
    np.testing.assert_array_equal(network.step(x[0])[0], full.step(x[0])[0])
    losses = [network.loss(x, y)[0] for _ in range(3)]
    assert len(set(losses)) == 3
    assert [model(output="sampled", num_sampled=11).loss(x, y)[0] for _ in range(2)] == losses[:1] * 2


@pytest.mark.parametrize("options", [ADAPTIVE, {"output": "sampled", "num_sampled": 20}])
@pytest.mark.parametrize(("weights", "epochs", "reached"), [("f32", 15, 4), ("bf16", 1, np.inf)])
def test_training_learns_with_the_same_bits_for_any_number_of_threads(options, weights, epochs, reached):
    text = np.tile(np.arange(0, V, 3), 8)
    found, before = [], rf.get_num_threads()
    try:
        for threads in (1, 2):
            rf.set_num_threads(threads)
            network = model(**options, weights=weights)
            rf.fit(network, text, epochs=epochs, batch_size=4, num_steps=10, lr=2e-2, progress=False)
            found.append(network.state_dict())
    finally:
        rf.set_num_threads(before)
    assert rf.evaluate(network, text).perplexity < reached
    for name, value in found[0].items():
        assert np.array_equal(value, found[1][name]), name


@pytest.mark.parametrize("options", [ADAPTIVE, {"output": "sampled", "num_sampled": 20}])
def test_a_file_keeps_the_output_layer(options, tmp_path):
    network = rf.LanguageModel(
        rf.Vocab(WORDS, tokenizer="whitespace"), cell="gru", hidden_size=24, embedding_size=8, seed=1, **options
    )
    x, y = batch()
    for weights in ("f32", "bf16", "int8"):
        network.save(tmp_path / "model", weights=weights)
        loaded = rf.load(tmp_path / "model")
        assert {n: loaded.config[n] for n in options} == options
        wanted = network.nll(x, y)[0]
        np.testing.assert_allclose(loaded.nll(x, y)[0], wanted, atol={"f32": 0, "bf16": 2e-2, "int8": 5e-2}[weights])
    network.save(tmp_path / "model")
    assert rf.generate(rf.load(tmp_path / "model"), "w1", length=8) == rf.generate(network, "w1", length=8)
    text = " ".join(WORDS)
    ids = network.vocab.encode_text(text)
    assert rf.log_prob(network, text) == pytest.approx(-network.nll(ids[:-1, None], ids[1:, None])[0].sum())


def test_an_adaptive_model_becomes_an_onnx_file(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network = model(**ADAPTIVE)
    network.to_onnx(tmp_path / "model.onnx")
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    x, _ = batch()
    given = {i.name: np.zeros((1, N, 24), np.float32) for i in session.get_inputs() if i.name != "tokens"}
    logits = session.run(["logits"], {"tokens": x.astype(np.int64), **given})[0]
    state = None
    for t in range(T):
        own, state = network.step(x[t], state)
        np.testing.assert_allclose(logits[t], own, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"output": "adaptive"}, "expected both cutoffs and output 'adaptive'"),
        ({"cutoffs": [3]}, "expected both cutoffs and output 'adaptive'"),
        ({"div_value": 2.0}, "expected both div_value and output 'adaptive'"),
        ({"output": "sampled"}, "expected both num_sampled and output 'sampled'"),
        ({"output": "adaptive", "cutoffs": [3], "num_sampled": 3}, "num_sampled and output 'adaptive'"),
        (
            {"output": "adaptive", "cutoffs": [5, 5]},
            r"cutoffs: 5 is at position 1, expected ascending ids from 6 to 60",
        ),
        ({"output": "adaptive", "cutoffs": [61]}, r"cutoffs: 61 is at position 0, expected ascending ids from 1 to 60"),
        ({"output": "adaptive", "cutoffs": [5, 6, 7], "div_value": 3.0}, "cluster 2 would read hidden_size / 3"),
        ({"output": "adaptive", "cutoffs": [5], "div_value": 0.5}, "div_value must be a number from 1.0"),
        ({"output": "adaptive", "cutoffs": [5], "tie_weights": True}, "tie_weights with output 'adaptive'"),
        ({"output": "sampled", "num_sampled": 61}, "num_sampled is 61, expected less than the 61 tokens"),
        ({"output": "full"}, "output is 'full', expected one of softmax, adaptive, sampled"),
    ],
)
def test_options_that_do_not_fit_are_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        model(**options)
