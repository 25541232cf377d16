from __future__ import annotations

import numpy as np
import pytest
from registered import IN_TORCH, LAYERS, TABLE, torch_class

import rnnfast as rf
from rnnfast.reference import Stack

CELLS = list(LAYERS)


def random_batch(vocab=29, steps=6, rows=4, seed=0):
    ids = np.random.default_rng(seed).integers(0, vocab, (steps + 1, rows), dtype=np.int32)
    return ids[:-1].copy(), ids[1:].copy()


def nll_of(logits, targets):
    """-log p of the target of each row, in float64."""
    shifted = logits.astype(float) - logits.max(-1, keepdims=True)
    return np.log(np.exp(shifted).sum(-1)) - np.take_along_axis(shifted, targets[:, None], -1)[:, 0]


def torch_twin(model):
    """The same model in PyTorch, with the same weights."""
    torch = pytest.importorskip("torch")
    c = model.config
    kind, options = torch_class(c["cell"])

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            width = c["embedding_size"] or c["vocab_size"]
            if c["embedding_size"]:
                self.embedding = torch.nn.Embedding(c["vocab_size"], width)
            self.rnn = kind(width, c["hidden_size"], c["num_layers"], **options)
            self.output = torch.nn.Linear(c["hidden_size"], c["vocab_size"])

        def forward(self, x, state=None):
            if c["embedding_size"]:
                inputs = self.embedding(x)
            else:
                inputs = torch.nn.functional.one_hot(x, c["vocab_size"]).float()
            hidden, state = self.rnn(inputs, state)
            return self.output(hidden), state

    twin = Twin()
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in model.state_dict().items()})
    return torch, twin


@pytest.mark.parametrize("cell", LAYERS)
def test_loss_and_all_gradients_equal_the_float64_reference(cell):
    model = rf.LanguageModel(29, cell=cell, embedding_size=12, hidden_size=23, num_layers=2, seed=1)
    w = {name: value.astype(np.float64) for name, value in model.state_dict().items()}
    x, y = random_batch()
    zeros, lengths = np.zeros((2, x.shape[1], 23)), np.full(x.shape[1], len(x))
    layers = {name[4:]: value for name, value in w.items() if name.startswith("rnn.")}
    stack = Stack(cell, w["embedding.weight"][x], layers, zeros, zeros, lengths)
    logits = stack.y @ w["output.weight"].T + w["output.bias"]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(p, y[..., None], -1)).mean()
    d = (p - np.eye(29)[y]) / y.size
    dx, _, _, grads = stack.backward(d @ w["output.weight"], zeros, zeros)
    wanted = {f"rnn.{name}": value for name, value in grads.items()}
    wanted["output.weight"], wanted["output.bias"] = np.einsum("tnv,tnh->vh", d, stack.y), d.sum((0, 1))
    wanted["embedding.weight"] = np.einsum("tnv,tne->ve", np.eye(29)[x], dx)
    assert model.loss(x, y)[0] == pytest.approx(expected, rel=1e-5)
    model.backward()
    assert set(model.grads) == set(wanted)
    for name, gradient in wanted.items():
        assert np.abs(model.grads[name] - gradient).max() < 1e-5 * np.abs(gradient).max(), name


@pytest.mark.parametrize("cell", LAYERS)
def test_a_file_of_int8_predicts_as_float32_but_for_rounding(cell, tmp_path):
    model = rf.LanguageModel(29, cell=cell, embedding_size=12, hidden_size=33, num_layers=2, init_scale=0.4, seed=1)
    model.save(tmp_path / "small.safetensors", weights="int8")
    small = rf.load(tmp_path / "small.safetensors")
    x, y = random_batch()
    exact, rounded = model.nll(x, y)[0], small.nll(x, y)[0]
    # 7 bits of each factor, in sums of 33 terms, over two layers
    assert np.abs(rounded - exact).max() < 0.05 * exact.max()
    state, steps = None, []
    for row in x:
        logits, state = small.step(row, state)
        steps.append(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
    np.testing.assert_allclose(-np.take_along_axis(np.array(steps), y[..., None], -1)[..., 0], rounded, atol=1e-5)
    assert isinstance(state, tuple) == TABLE[cell].has_c


@pytest.mark.parametrize("embedding_size", [0, 12])
@pytest.mark.parametrize("cell", IN_TORCH)
def test_loss_and_all_gradients_equal_those_of_torch(cell, embedding_size):
    model = rf.LanguageModel(29, cell=cell, embedding_size=embedding_size, hidden_size=23, num_layers=2, seed=1)
    torch, twin = torch_twin(model)
    x, y = random_batch()
    loss, _ = model.loss(x, y)
    model.backward()
    logits, _ = twin(torch.from_numpy(x).long())
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 29), torch.from_numpy(y).long().reshape(-1))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in twin.named_parameters():
        gradient = parameter.grad.numpy()
        error = np.abs(model.grads[name] - gradient).max() / np.abs(gradient).max()
        assert error < 1e-5, name


@pytest.mark.parametrize("vocab", [1, 2, 17, 1003])
def test_loss_is_the_cross_entropy_of_the_logits_step_gives(vocab):
    model = rf.LanguageModel(vocab, hidden_size=9, seed=0)
    x, y = random_batch(vocab, steps=5, rows=3)
    nll, final = model.nll(x, y)
    state = None
    for t in range(5):
        logits, state = model.step(x[t], state)
        z = logits.astype(np.float64)
        log_sum = np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1)
        np.testing.assert_allclose(nll[t], log_sum - z[np.arange(3), y[t]], rtol=1e-5, atol=1e-6)
    assert np.array_equal(state, final)


def test_many_rows_pass_through_several_blocks_of_logits():
    """2^21 logits are in memory at a time: 300 rows of 20,000 classes take three blocks."""
    model = rf.LanguageModel(20_000, embedding_size=4, hidden_size=5, seed=0)
    x, y = random_batch(20_000, steps=30, rows=10)
    nll, _ = model.nll(x, y)
    loss, _ = model.loss(x, y)
    model.backward()
    assert loss == pytest.approx(nll.mean(), rel=1e-12)
    # The output bias's gradient is the mean of softmax - one_hot: it sums to 0, and each target counts once.
    bias = model.grads["output.bias"].astype(np.float64)
    assert abs(bias.sum()) < 1e-5
    assert bias[np.unique(y)].sum() < -0.9
    weight = model.grads["output.weight"]
    assert np.abs(weight[np.unique(y)]).max() > 10 * np.abs(np.delete(weight, np.unique(y), 0)).max()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_tied_weights_equal_a_torch_model_with_a_shared_table(cell):
    model = rf.LanguageModel(29, cell=cell, embedding_size=23, hidden_size=23, num_layers=2, tie_weights=True, seed=1)
    weights = model.state_dict()
    assert "output.weight" not in weights
    table = weights["embedding.weight"]
    untied = rf.LanguageModel(29, cell=cell, embedding_size=23, hidden_size=23, num_layers=2, seed=1)
    untied.load_state_dict({**weights, "output.weight": table})
    torch, twin = torch_twin(untied)
    twin.output.weight = twin.embedding.weight
    x, y = random_batch()
    loss, _ = model.loss(x, y)
    model.backward()
    logits, _ = twin(torch.from_numpy(x).long())
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 29), torch.from_numpy(y).long().reshape(-1))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in twin.named_parameters():
        gradient = parameter.grad.numpy()
        error = np.abs(model.grads[name] - gradient).max() / np.abs(gradient).max()
        assert error < 1e-5, name
    np.testing.assert_array_equal(model.step(x[0])[0], untied.step(x[0])[0])


def test_variational_and_tied_models_keep_their_options_in_their_file(tmp_path):
    for options in ({"variational": True, "dropout": 0.5}, {"tie_weights": True}, {}):
        model = rf.LanguageModel(rf.Vocab("abc"), embedding_size=6, hidden_size=6, seed=0, **options)
        model.save(tmp_path / "m.safetensors")
        again = rf.load(tmp_path / "m.safetensors")
        assert again.config == model.config
        for name, on in (("variational", "variational" in options), ("tie_weights", "tie_weights" in options)):
            assert again.config.get(name, False) == on
        assert again.loss([[1]], [[2]])[0] == model.loss([[1]], [[2]])[0]


def test_a_variational_mask_is_the_same_at_every_step_of_a_row():
    """With an identity network, the output shows the masks: constant input, relu, no recurrence."""
    layer = rf.RNN(8, 8, 2, nonlinearity="relu", bias=False, dropout=0.5, variational=True, seed=0)
    eye, zero = np.eye(8, dtype=np.float32), np.zeros((8, 8), np.float32)
    layer.load_state_dict({n: eye if "ih" in n else zero for n in layer.state_dict()})
    x = np.ones((6, 5, 8), np.float32)
    lengths = [6, 2, 4, 6, 1]
    y, _, backward = layer.forward(x, lengths=lengths)
    for row, length in enumerate(lengths):
        assert (y[:length, row] == y[0, row]).all()
    assert set(np.unique(y[0])) == {0, 2}
    assert not (y[0] == y[0, 0]).all()  # rows differ
    dx, _ = backward(np.ones_like(y))
    assert np.array_equal(dx, y)  # the gradient goes through the same mask
    again, _, _ = layer.forward(x, lengths=lengths)
    assert not np.array_equal(again, y)  # another one for the next sequence
    plain = rf.RNN(8, 8, 2, nonlinearity="relu", bias=False, dropout=0.5, seed=0)
    plain.load_state_dict(layer.state_dict())
    y, _, _ = plain.forward(x)
    assert not (y == y[0]).all()


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_variational_dropout_s_gradients_are_those_of_finite_differences(cell):
    def made():
        return rf.LanguageModel(
            7, cell=cell, embedding_size=5, hidden_size=6, num_layers=2, dropout=0.4, variational=True, seed=3
        )

    x, y = random_batch(7, steps=4, rows=3)
    model = made()
    model.loss(x, y)
    model.backward()
    for name in ("embedding.weight", "rnn.weight_hh_l0", "rnn.weight_ih_l1", "output.weight"):
        where = np.unravel_index(np.abs(model.grads[name]).argmax(), model.grads[name].shape)
        losses = []
        for step in (-1e-2, 1e-2):  # large, since losses are sums of float32
            other = made()
            weights = other.state_dict()
            weights[name][where] += step
            other.load_state_dict(weights)
            losses.append(other.loss(x, y)[0])
        assert (losses[1] - losses[0]) / 2e-2 == pytest.approx(model.grads[name][where], rel=0.01), name


def test_embedding_dropout_acts_on_the_embeddings_alone(tmp_path):
    def first_loss(**options):
        model = rf.LanguageModel(rf.Vocab("abcdef"), embedding_size=8, hidden_size=8, seed=0, **options)
        model.save(tmp_path / "m.safetensors")
        again = rf.load(tmp_path / "m.safetensors")
        assert again.config == model.config
        assert again.config.get("embedding_dropout") == options.get("embedding_dropout")
        loss, _ = again.loss(*random_batch(6, steps=4, rows=3))
        again.backward()
        return loss, {name: np.array(grad) for name, grad in again.grads.items()}

    none, grads = first_loss()
    both, _ = first_loss(dropout=0.5)
    assert first_loss(dropout=0.5, embedding_dropout=0.5)[0] == both != none
    assert first_loss(embedding_dropout=0.0)[0] == none
    embeddings, dropped = first_loss(embedding_dropout=0.5)
    others = first_loss(dropout=0.5, embedding_dropout=0.0)[0]
    assert len({none, both, embeddings, others}) == 4
    assert np.count_nonzero(dropped["embedding.weight"]) < np.count_nonzero(grads["embedding.weight"])
    with pytest.raises(ValueError, match="embedding_size is 0"):
        rf.LanguageModel(6, embedding_dropout=0.5)
    with pytest.raises(ValueError, match="embedding_dropout is 1"):
        rf.LanguageModel(6, embedding_size=4, embedding_dropout=1.0)


@pytest.mark.parametrize(
    "options", [{}, {"tie_weights": True}, {"output": "adaptive", "cutoffs": [5, 20], "div_value": 2.0}]
)
def test_a_loss_that_finds_zero_gradients_leaves_those_that_backward_would_add(options):
    one, other = (
        rf.LanguageModel(40, embedding_size=8, hidden_size=8, dropout=0.3, seed=2, **options) for _ in range(2)
    )
    x, y = np.random.default_rng(0).integers(0, 40, (2, 5, 3))
    loss, _ = one.loss(x, y)
    found, _ = other._training_loss(x, y, zero_gradients=True)
    assert found == loss
    for model in (one, other):
        model.backward()
    for name, gradient in one.grads.items():
        np.testing.assert_array_equal(other.grads[name], gradient)
    for model in (one, other):  # the second time it adds, as always
        model.loss(x, y)
        model.backward()
    for name, gradient in one.grads.items():
        np.testing.assert_array_equal(other.grads[name], gradient)


def test_weights_start_within_the_requested_scale():
    model = rf.LanguageModel(50, embedding_size=20, hidden_size=20, init_scale=0.1, seed=5)
    for value in model.parameters().values():
        assert 0.05 < np.abs(value).max() <= 0.1
    again = rf.LanguageModel(50, embedding_size=20, hidden_size=20, init_scale=0.1, seed=5)
    assert all(np.array_equal(again.state_dict()[n], v) for n, v in model.state_dict().items())


def test_negative_targets_are_ignored():
    model = rf.LanguageModel(11, hidden_size=7, seed=0)
    x, y = random_batch(11)
    masked = y.copy()
    masked[3:] = -1
    loss, _ = model.loss(x, masked)
    nll, _ = model.nll(x, masked)
    assert (nll[3:] == 0).all()
    assert loss == pytest.approx(nll[:3].mean(), rel=1e-12)
    model.backward()
    full = model.grads["output.weight"].copy()
    model.zero_grad()
    model.loss(x[:3], y[:3])
    model.backward()
    np.testing.assert_allclose(full, model.grads["output.weight"], atol=1e-7)


def test_one_hot_input_equals_the_product_with_one_hot_vectors():
    model = rf.LanguageModel(13, hidden_size=8, seed=0)
    layer = rf.RNN(13, 8, seed=0)
    layer.load_state_dict({n[4:]: v for n, v in model.state_dict().items() if n.startswith("rnn.")})
    x, y = random_batch(13)
    hidden, _ = layer(np.eye(13, dtype=np.float32)[x])
    _, state = model.nll(x, y)
    np.testing.assert_allclose(state[0], hidden[-1], atol=1e-6)


def train_fifty_steps(cell, threads, set_threads):
    set_threads(threads)
    model = rf.LanguageModel(40, cell=cell, embedding_size=10, hidden_size=50, num_layers=2, dropout=0.2, seed=4)
    optimizer, state = rf.Adam(model, lr=1e-2), None
    ids = np.random.default_rng(0).integers(0, 40, 4000)
    for x, y in list(rf.batches(ids, batch_size=5, num_steps=11))[:50]:
        _, state = model.loss(x, y, state)
        model.backward()
        rf.clip_grad_norm_(model, 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


@pytest.mark.parametrize("cell", CELLS)
def test_fifty_steps_of_training_give_the_same_bits_on_any_thread_count(cell, threads):
    one = train_fifty_steps(cell, 1, threads)
    for count in (2, 3):
        other = train_fifty_steps(cell, count, threads)
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_two_hundred_steps_follow_torch():
    model = rf.LanguageModel(30, hidden_size=32, seed=2)
    torch, twin = torch_twin(model)
    ids = np.random.default_rng(1).integers(0, 30, 8000) // 2  # something to learn: half the tokens never occur
    ours, theirs = rf.SGD(model, lr=0.5), torch.optim.SGD(twin.parameters(), lr=0.5)
    state = twin_state = None
    for x, y in list(rf.batches(ids, batch_size=4, num_steps=9))[:200]:
        loss, state = model.loss(x, y, state)
        model.backward()
        rf.clip_grad_norm_(model, 1.0)
        ours.step()
        ours.zero_grad()
        theirs.zero_grad()
        logits, twin_state = twin(torch.from_numpy(x).long(), twin_state)
        twin_state = twin_state.detach()
        expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 30), torch.from_numpy(y).long().reshape(-1))
        expected.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        theirs.step()
        assert loss == pytest.approx(expected.item(), rel=1e-3)
    assert loss < 2.9  # below ln(30): it has learnt


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
        ("Adam", {"lr": 0.01}),
        ("Adam", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.99)}),
        ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ],
)
def test_optimizers_follow_torchs(name, options):
    torch = pytest.importorskip("torch")
    layer = rf.RNN(3, 19, seed=0)
    parameters = {n: torch.nn.Parameter(torch.from_numpy(v)) for n, v in layer.state_dict().items()}
    ours = getattr(rf, name)(layer, **options)
    theirs = getattr(torch.optim, name)(parameters.values(), **options)
    rng = np.random.default_rng(0)
    for _ in range(5):
        for n, gradient in layer.grads.items():
            gradient[...] = rng.normal(size=gradient.shape)
            parameters[n].grad = torch.from_numpy(gradient.copy())
        ours.step()
        theirs.step()
    for n, value in layer.parameters().items():
        np.testing.assert_allclose(value, parameters[n].detach().numpy(), rtol=2e-5, atol=1e-6)


def test_clipping_scales_to_the_norm_and_limits_values():
    layer = rf.RNN(3, 4, seed=0)
    for gradient in layer.grads.values():
        gradient[...] = 2.0
    size = sum(g.size for g in layer.grads.values())
    assert rf.clip_grad_norm_(layer, 1.0) == pytest.approx(2 * size**0.5)
    assert sum((g.astype(float) ** 2).sum() for g in layer.grads.values()) == pytest.approx(1.0, rel=1e-4)
    layer.grads["bias_hh_l0"][...] = -5
    rf.clip_grad_value_(layer, 0.25)
    assert layer.grads["bias_hh_l0"].min() == -0.25


def test_linear_and_embedding_equal_numpy():
    rng = np.random.default_rng(0)
    linear, embedding = rf.Linear(7, 19, seed=0), rf.Embedding(5, 3, seed=0)
    x, dy = rng.normal(size=(4, 6, 7)), rng.normal(size=(4, 6, 19))
    y, backward = linear.forward(x)
    w, b = (linear.state_dict()[n].astype(float) for n in ("weight", "bias"))
    np.testing.assert_allclose(y, x @ w.T + b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(backward(dy), dy @ w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(linear.grads["weight"], np.einsum("tno,tni->oi", dy, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(linear.grads["bias"], dy.sum((0, 1)), rtol=1e-4, atol=1e-5)
    ids = [[1, 1], [4, 0]]
    y, backward = embedding.forward(ids)
    assert np.array_equal(y, embedding.state_dict()["weight"][np.array(ids)])
    backward(np.ones((2, 2, 3)))
    assert embedding.grads["weight"][:, 0].tolist() == [1, 2, 0, 0, 1]


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.LanguageModel(5, cell="grru"), ValueError, f"expected one of {', '.join(LAYERS)}"),
        (lambda: rf.LanguageModel(0), ValueError, "vocab is 0"),
        (lambda: rf.LanguageModel(5, hidden_size=0), ValueError, "hidden_size is 0"),
        (
            lambda: rf.LanguageModel(5, hidden_size=3, tie_weights=True),
            ValueError,
            "expected an embedding",
        ),
        (lambda: rf.LanguageModel(5, init_scale=-1.0), ValueError, "init_scale is -1"),
        (lambda: rf.LanguageModel(5, embedding_size=-1), ValueError, "embedding_size is -1"),
        (
            lambda: rf.LanguageModel(5, seed=0).loss([[5]], [[1]]),
            IndexError,
            "token id 5 at position 0: expected 0 to 4",
        ),
        (lambda: rf.LanguageModel(5, seed=0).loss([[1]], [[7]]), IndexError, "token id 7"),
        (lambda: rf.LanguageModel(5, seed=0).loss([[-1]], [[1]]), IndexError, "token id -1"),
        (lambda: rf.LanguageModel(5, seed=0).loss([[1.5]], [[1]]), TypeError, "integers"),
        (lambda: rf.LanguageModel(5, seed=0).loss([[1, 2]], [[1]]), ValueError, r"y has shape \(1, 1\)"),
        (lambda: rf.LanguageModel(5, seed=0).loss([1], [1]), ValueError, r"\(T, N\)"),
        (lambda: rf.LanguageModel(5, seed=0).backward(), ValueError, "call loss first"),
        (lambda: rf.LanguageModel(5, seed=0).step([2**40]), IndexError, "does not fit in int32"),
        (lambda: rf.Embedding(5, 2)([5]), IndexError, "expected 0 to 4"),
        (lambda: rf.Linear(3, 2)(np.zeros(4)), ValueError, "in_features"),
        (lambda: rf.SGD(rf.RNN(2, 2), lr=-1), ValueError, "lr is -1"),
        (lambda: rf.SGD(rf.RNN(2, 2), nesterov=True), ValueError, "needs a momentum"),
        (lambda: rf.Adam(rf.RNN(2, 2), betas=(1.0, 0.9)), ValueError, r"betas\[0\]"),
        (lambda: rf.clip_grad_norm_(rf.RNN(2, 2), 0), ValueError, "max_norm is 0"),
        (lambda: rf.set_num_threads(0), ValueError, "expected 1 to 4096"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


@pytest.mark.fault("M2")
@pytest.mark.parametrize("out_features", [1, 2, 6, 7, 65])
def test_a_linear_layer_of_no_rows_gives_no_rows_and_returns(out_features):
    layer = rf.Linear(3, out_features, seed=0)
    for shape in ((0, 3), (2, 0, 3)):
        y, backward = layer.forward(np.zeros(shape))
        assert y.shape == layer(np.zeros(shape)).shape == (*shape[:-1], out_features)
        assert backward(y).shape == shape
    assert not any(gradient.any() for gradient in layer.grads.values())


@pytest.mark.fault("M2")
def test_an_embedding_of_no_ids_gives_no_rows():
    layer = rf.Embedding(5, 2, seed=0)
    y, backward = layer.forward(np.zeros((3, 0), int))
    backward(y)
    assert y.shape == (3, 0, 2)
    assert not layer.grads["weight"].any()


@pytest.mark.fault("M2")
@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
def test_a_model_of_no_rows_gives_no_rows(weights):
    model = rf.LanguageModel(7, cell="lstm", embedding_size=3, hidden_size=5, num_layers=2, weights=weights, seed=0)
    nothing = np.zeros((4, 0), int)
    assert model.step(nothing[0])[0].shape == (0, 7)
    assert model.nll(nothing, nothing)[0].shape == (4, 0)
    if weights != "int8":
        loss, (h, _) = model.loss(nothing, nothing)
        model.backward()
        assert loss == 0
        assert h.shape == (2, 0, 5)
        assert not any(gradient.any() for gradient in model.grads.values())
    with pytest.raises(ValueError, match="at least one step"):
        model.nll(nothing.T, nothing.T)
