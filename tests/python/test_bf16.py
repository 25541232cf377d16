"""Products in bfloat16: close to float32, the same bits everywhere, and the same options."""

from __future__ import annotations

import numpy as np
import pytest
from registered import CLASSES as CELLS
from registered import LAYERS

import rnnfast as rf

# A bf16 has 8 significant bits, so a factor is off by up to 2^-9 = 0.2%; sums of hundreds of such terms and the steps after
# them stay within a few times that.
CLOSE = 2e-2


def close(a, b):
    return np.abs(a - b).max() <= CLOSE * np.abs(b).max()


def gradient_close(cell, a, b):
    """As close; the slope of minGRU's and minLSTM's g jumps at 0, so that where rounding crosses 0 single gradients differ."""
    if cell in (rf.MinGRU, rf.MinLSTM):
        return np.linalg.norm(a - b) <= 5 * CLOSE * np.linalg.norm(b)
    return close(a, b)


def twins(cell, *sizes, **options):
    return cell(*sizes, seed=0, weights="bf16", **options), cell(*sizes, seed=0, **options)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("T", "N", "D", "H", "options"),
    [
        (1, 1, 1, 1, {}),
        (9, 1, 17, 33, {}),
        (6, 5, 28, 64, {"num_layers": 2, "bidirectional": True}),
        (5, 40, 33, 130, {"bias": False}),
    ],
)
def test_outputs_and_gradients_are_those_of_float32_except_for_rounding(cell, T, N, D, H, options):
    low, full = twins(cell, D, H, **options)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(T, N, D)).astype(np.float32)
    lengths = rng.integers(1, T + 1, N)
    y, _, backward = low.forward(x, lengths=lengths)
    expected, _, expected_backward = full.forward(x, lengths=lengths)
    assert close(y, expected)
    assert T * N * D * H == 1 or not np.array_equal(y, expected)
    dy = rng.normal(size=y.shape).astype(np.float32)
    assert gradient_close(cell, backward(dy)[0], expected_backward(dy)[0])
    for name, gradient in full.grads.items():
        assert gradient_close(cell, low.grads[name], gradient), name


@pytest.mark.parametrize("cell", CELLS)
def test_weights_that_are_bf16_already_give_float32_results_to_its_own_rounding(cell):
    # With every factor a bf16 number, a product of two is exact in float32, so only the order of sums differs.
    low, full = twins(cell, 16, 16)

    def bf16(a):
        return (np.asarray(a, np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)

    weights = {name: bf16(value) for name, value in full.state_dict().items()}
    low.load_state_dict(weights)
    full.load_state_dict(weights)
    x = bf16(np.random.default_rng(0).normal(size=(1, 8, 16)))
    assert np.abs(low(x)[0] - full(x)[0]).max() < 1e-6


@pytest.mark.parametrize("cell", CELLS)
def test_a_row_has_the_same_bits_alone_on_more_threads_and_step_by_step(cell):
    layer = cell(20, 70, seed=0, weights="bf16")
    x = np.random.default_rng(0).normal(size=(7, 9, 20)).astype(np.float32)
    together, last = layer(x)
    assert np.array_equal(together[:, 3:4], layer(np.ascontiguousarray(x[:, 3:4]))[0])
    threads = rf.get_num_threads()
    try:
        rf.set_num_threads(3)
        assert np.array_equal(together, layer(x)[0])
    finally:
        rf.set_num_threads(threads)
    state = None
    for t in range(7):
        y, state = layer(x[t : t + 1], state)
        assert np.array_equal(y[0], together[t])
    assert np.array_equal(np.asarray(state), np.asarray(last))


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("embedding_size", [0, 24])
def test_a_language_model_trains_and_scores_with_the_same_products_it_generates_with(cell, embedding_size):
    model = rf.LanguageModel(11, cell=cell, embedding_size=embedding_size, hidden_size=33, seed=0, weights="bf16")
    ids = np.random.default_rng(0).integers(0, 11, (6, 3)).astype(np.int32)
    nll, _ = model.nll(ids[:-1], ids[1:])
    state = None
    for t in range(5):
        logits, state = model.step(ids[t], state)
        top = logits.max(1, keepdims=True)
        expected = np.log(np.exp(logits - top).sum(1)) + top[:, 0] - logits[np.arange(3), ids[t + 1]]
        assert np.allclose(nll[t], expected, atol=1e-5)
    optimizer = rf.Adam(model, lr=1e-2)
    losses = []
    for _ in range(150):
        loss, _ = model.loss(ids[:-1], ids[1:])
        model.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)
    assert losses[-1] < 0.1 * losses[0]


LARGE = 2601  # an output layer of this many classes has gradients in bf16 too
OUTPUTS = [
    {},
    {"tie_weights": True},
    {"output": "adaptive", "cutoffs": [1200]},
    {"output": "sampled", "num_sampled": 1500},
]


def large_model(weights, **options):
    return rf.LanguageModel(LARGE, cell="gru", embedding_size=40, hidden_size=40, seed=0, weights=weights, **options)


def large_batch(rows=6):
    ids = np.random.default_rng(0).integers(0, LARGE, (8, rows)).astype(np.int32)
    return ids[:-1], ids[1:]


def gradients(model, batch):
    model.loss(*batch)
    model.backward()
    return {name: np.array(gradient) for name, gradient in model.grads.items()}


@pytest.mark.parametrize("options", OUTPUTS, ids=str)
def test_the_gradients_of_a_large_vocabulary_are_those_of_float32_except_for_rounding(options):
    low, full = (gradients(large_model(weights, **options), large_batch()) for weights in ("bf16", "f32"))
    assert all(close(low[name], gradient) for name, gradient in full.items())
    last = [name for name in full if name.endswith("weight")][-1]
    assert not np.array_equal(low[last], full[last])


def test_the_gradients_of_a_large_vocabulary_s_rows_are_those_of_one_row_batches():
    model, batch = large_model("bf16"), large_batch()
    each = rf.per_sample_gradients(model, batch)
    for n in range(6):
        model.zero_grad()
        alone = gradients(model, tuple(ids[:, n : n + 1] for ids in batch))
        assert all(np.array_equal(each[name][n], gradient) for name, gradient in alone.items())


def test_the_gradients_of_a_translator_s_large_vocabulary_are_those_of_float32_except_for_rounding():
    rng = np.random.default_rng(0)
    batch = (rng.integers(4, LARGE, (5, 4)), [5, 4, 3, 2], rng.integers(4, LARGE, (6, 4)))
    found = []
    for weights in ("bf16", "f32"):
        model = rf.Seq2Seq(LARGE, LARGE, embedding_size=20, hidden_size=30, seed=0, weights=weights)
        found.append(gradients(model, batch))
    low, full = found
    assert all(close(low[name], gradient) for name, gradient in full.items())


def test_the_precision_is_saved_with_the_model_and_may_be_chosen_at_load(tmp_path):
    path = tmp_path / "model.safetensors"
    model = rf.LanguageModel(7, cell="lstm", hidden_size=20, seed=0, weights="bf16")
    model.save(path)
    ids = np.array([[1], [2], [3]], np.int32)
    kept, full = rf.load(path), rf.load(path, weights="f32")
    assert kept.config["weights"] == "bf16"
    assert full.config["weights"] == "f32"
    assert np.array_equal(kept.nll(ids, ids)[0], model.nll(ids, ids)[0])
    assert not np.array_equal(full.nll(ids, ids)[0], model.nll(ids, ids)[0])
    assert all(np.array_equal(value, full.state_dict()[name]) for name, value in model.state_dict().items())


def test_an_unknown_precision_is_an_error_that_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="weights is 'fp16', expected one of f32, bf16, int8"):
        rf.LSTM(3, 4, weights="fp16")
    rf.LanguageModel(7, hidden_size=4, seed=0).save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="weights is 'fp16', expected one of f32, bf16"):
        rf.load(tmp_path / "m.safetensors", weights="fp16")
