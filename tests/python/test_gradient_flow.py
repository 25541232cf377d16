from __future__ import annotations

import numpy as np
import pytest
from registered import LAYERS
from test_language_model import random_batch, torch_twin

import rnnfast as rf


@pytest.mark.parametrize(
    "options",
    [{}, {"embedding_size": 6}, {"embedding_size": 8, "tie_weights": True}, {"embedding_size": 5, "tie_weights": True}],
)
@pytest.mark.parametrize("cell", LAYERS)
def test_the_norm_of_all_gradients_is_that_of_training(cell, options):
    model = rf.LanguageModel(11, cell=cell, hidden_size=8, num_layers=2, seed=1, **options)
    x, y = random_batch(11)
    flow = rf.gradient_flow(model, (x, y))
    model.loss(x, y)
    model.backward()
    assert flow.gradient_norm == pytest.approx(rf.clip_grad_norm_(model, np.inf), rel=1e-5)
    assert flow.norms.shape == (2, len(x))


def test_gradients_of_the_states_are_torchs():
    model = rf.LanguageModel(11, hidden_size=8, num_layers=1, seed=1)
    torch, twin = torch_twin(model)
    x, y = random_batch(11)
    cell = torch.nn.RNNCell(11, 8)
    cell.load_state_dict({n[:-3]: v for n, v in twin.rnn.state_dict().items()})
    h, states = torch.zeros(4, 8), []
    for step in x:
        h = cell(torch.nn.functional.one_hot(torch.from_numpy(step).long(), 11).float(), h)
        h.retain_grad()
        states.append(h)
    loss = torch.nn.functional.cross_entropy(
        twin.output(torch.stack(states)).flatten(0, 1), torch.from_numpy(y).long().flatten()
    )
    loss.backward()
    expected = [state.grad.norm().item() for state in states]
    np.testing.assert_allclose(rf.gradient_flow(model, (x, y)).norms[0], expected, rtol=1e-5)


def test_small_recurrent_weights_vanish_and_large_ones_explode():
    ids = np.random.default_rng(0).integers(0, 9, (31, 4))
    ratios = {}
    for scale in (0.3, 3.0):
        model = rf.LanguageModel(9, cell="rnn_relu", hidden_size=16, seed=0)
        weights = model.state_dict()
        weights["rnn.weight_hh_l0"] = scale * np.eye(16, dtype=np.float32)
        model.load_state_dict(weights)
        norms = rf.gradient_flow(model, (ids[:-1], ids[1:]), last_only=True).norms[0]
        ratios[scale] = norms[0] / norms[-1]
    assert ratios[0.3] < 1e-10
    assert ratios[3.0] > 1e10


def test_clipping_scales_the_norms_and_the_picture_shows_both(tmp_path):
    model = rf.LanguageModel(11, cell="lstm", hidden_size=8, num_layers=2, seed=1)
    flow = rf.gradient_flow(model, random_batch(11))
    np.testing.assert_allclose(flow.clipped(flow.gradient_norm / 4), flow.norms / 4)
    assert np.array_equal(flow.clipped(1e9), flow.norms)
    pytest.importorskip("matplotlib")
    figure = flow.plot(tmp_path / "flow.png", clip_norm=0.1)
    assert len(figure.axes[0].lines) == 4
    assert (tmp_path / "flow.png").read_bytes()[:4] == b"\x89PNG"


def test_looking_changes_nothing():
    model = rf.LanguageModel(11, hidden_size=8, dropout=0.5, num_layers=2, seed=1)
    before, steps = model.state_dict(), model.steps
    rf.gradient_flow(model, random_batch(11))
    assert all(np.array_equal(before[n], v) for n, v in model.state_dict().items())
    assert not any(g.any() for g in model.grads.values())
    assert model.steps == steps


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda m: rf.gradient_flow(m, ([[1]], [[1, 2]])), ValueError, r"expected the same \(T, N\)"),
        (lambda m: rf.gradient_flow(m, ([[1]], [[11]])), IndexError, "must be 0 to 10"),
        (lambda m: rf.gradient_flow(m, ([[1]], [[1]])).clipped(0), ValueError, "clip_norm is 0"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call(rf.LanguageModel(11, hidden_size=8, seed=1))
