"""The unrolled network, and exploding gradients."""

from __future__ import annotations

import numpy as np
import pytest
from registered import LAYERS

import rnnfast as rf
from rnnfast.study.unroll import GATES


@pytest.mark.parametrize("options", [{}, {"embedding_size": 5, "num_layers": 2}], ids=str)
@pytest.mark.parametrize("cell", LAYERS)
def test_unroll_gives_the_states_and_losses_of_the_model(cell, options):
    model = rf.LanguageModel(7, cell=cell, hidden_size=6, seed=1, **options)
    ids = [0, 3, 5, 5, 2]
    steps = rf.unroll(model, ids)
    nll, state = model.nll(np.array(ids[:-1])[:, None], np.array(ids[1:])[:, None])
    np.testing.assert_allclose([step.loss for step in steps.steps[:-1]], nll[:, 0], rtol=1e-5)
    assert steps.perplexity == pytest.approx(np.exp(nll.mean()), rel=1e-5)
    h, c = state if isinstance(state, tuple) else (state, None)
    assert np.array_equal(steps[-2].h, h[:, 0])
    assert (steps[-2].c is None) == (c is None)
    assert [round(p, 6) for _, p in steps[0].next] == sorted((round(p, 6) for _, p in steps[0].next), reverse=True)
    assert set(steps[0].gates) == set(GATES.get(cell, ""))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_gates_explain_the_next_state(cell):
    model = rf.LanguageModel(7, cell=cell, hidden_size=6, num_layers=2, seed=1)
    before, after = rf.unroll(model, [1, 4]).steps
    gates = after.gates
    if cell == "gru":
        expected = (1 - gates["z"]) * gates["n"] + gates["z"] * before.h[1]
    else:
        expected = gates["o"] * np.tanh(gates["f"] * before.c[1] + gates["i"] * gates["g"])
    np.testing.assert_allclose(after.h[1], expected, atol=1e-6)


def test_unroll_prints_a_table_shows_a_heat_map_and_draws(tmp_path, corpus):
    model = rf.LanguageModel(corpus.vocab, cell="gru", hidden_size=20, seed=0)
    steps = rf.unroll(model, "the $", top=2)
    lines = str(steps).splitlines()
    assert len(lines) == 2 + len(steps)
    assert lines[1].split()[:3] == ["t", "token", "h"]
    assert lines[2].startswith("1  't'")
    assert steps._repr_html_().count("background:rgb") == 5 * 20
    pytest.importorskip("matplotlib")
    steps.plot(tmp_path / "states.png")
    assert (tmp_path / "states.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.filterwarnings("error")
def test_a_single_token_has_no_perplexity():
    steps = rf.unroll(rf.LanguageModel(7, hidden_size=6, seed=1), [3])
    assert steps.perplexity is None
    assert str(steps).splitlines()[0] == "rnn, 1 step"
    assert "<caption>rnn, 1 step</caption>" in steps._repr_html_()


def test_gradients_change_by_the_spectral_radius_per_step_and_clipping_saves_the_middle_one(tmp_path):
    study = rf.study.exploding_gradients((0.5, 1.0, 1.2), num_steps=30)
    per_step = (study.norms[:, 0] / study.norms[:, 15]) ** (1 / 15)
    np.testing.assert_allclose(per_step, study.spectral_radius, rtol=0.15)
    assert study.losses[0, -1] == pytest.approx(study.losses[0, 0], rel=1e-3)  # vanished: nothing is learned
    assert study.losses[1, -1] == np.inf
    assert study.clipped_losses[1, -1] < 0.1 * study.clipped_losses[1, 0]
    assert "spectral radius" in str(study)
    assert "inf" in study._repr_html_()
    pytest.importorskip("matplotlib")
    study.plot(tmp_path / "exploding.png")
    assert (tmp_path / "exploding.png").exists()


def test_the_study_s_gradient_is_the_slope_of_its_loss():
    from rnnfast.study.exploding import _backward

    random = np.random.default_rng(0)
    w, v, first, signs = random.normal(size=(3, 3)), random.normal(size=3), random.normal(size=(4, 3)), np.ones(4)
    _, _, dw, dv = _backward(w, v, first, signs, 5)
    for value, gradient in ((w, dw), (v, dv)):
        for at in range(value.size):
            value.flat[at] += 1e-6
            above = _backward(w, v, first, signs, 5)[0]
            value.flat[at] -= 2e-6
            below = _backward(w, v, first, signs, 5)[0]
            value.flat[at] += 1e-6
            assert gradient.flat[at] == pytest.approx((above - below) / 2e-6, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.unroll(3, "a"), TypeError, "expected a LanguageModel"),
        (lambda: rf.unroll(rf.LanguageModel(3, hidden_size=2), "a"), ValueError, "no vocabulary"),
        (lambda: rf.unroll(rf.LanguageModel(3, hidden_size=2), []), ValueError, "no tokens"),
        (lambda: rf.unroll(rf.LanguageModel(3, hidden_size=2), [3]), IndexError, "the text"),
        (lambda: rf.unroll(rf.LanguageModel(3, hidden_size=2), [1], top=0), ValueError, "top is 0"),
        (lambda: rf.study.exploding_gradients(-1), ValueError, "spectral_radius is -1"),
        (lambda: rf.study.exploding_gradients(()), ValueError, "spectral_radius is empty"),
        (lambda: rf.study.exploding_gradients(1, updates=0), ValueError, "updates is 0"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()
