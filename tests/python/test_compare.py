"""rnnfast compare: fits, counts, paths, memory, the three language models, and the command."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from rnnfast.study import compare, compare_text

TEXT = "the time traveller for so it will be convenient to speak of him was expounding a recondite matter to us.\n" * 60


def run(*args, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "rnnfast", "compare", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )


def test_a_fit_finds_the_exponent_and_its_confidence_covers_it():
    sizes = [64, 128, 256, 512, 1024]
    noise = [1.05, 0.95, 1.04, 0.97, 1.0]
    found = compare.fit(sizes, [n**1.5 * e for n, e in zip(sizes, noise)], 1.5)
    assert abs(found.exponent - 1.5) < found.confidence < 0.2
    assert found.agrees
    assert max(map(abs, found.residuals)) < 0.06
    assert not compare.fit(sizes, sizes, 1.5).agrees
    assert compare.fit([1, 2], [1, 2], 1) is None
    # the textbook formula, by another route: covariance of numpy's polynomial fit
    x, y = np.log(sizes), np.log([n**1.5 * e for n, e in zip(sizes, noise)])
    slope, covariance = np.polyfit(x, y, 1, cov=True)
    assert found.exponent == pytest.approx(slope[0], abs=1e-5)
    assert found.confidence == pytest.approx(3.182 * covariance[0, 0] ** 0.5, rel=1e-3)


@pytest.mark.parametrize("kind", compare.KINDS)
def test_sequential_steps_and_paths_match_theory(kind):
    joined = ("mingru", "minlstm", "qrnn")  # linear in the state: log2(20) rounds
    expected_steps = 5 if kind in joined else 20 if kind in compare.RECURRENT else 1
    assert compare.sequential_operations(kind, 20) == expected_steps
    for n, k in ((9, 3), (10, 3), (33, 5)):
        expected = {"conv": -(-(n - 1) // (k - 1)), "attention": 1}.get(kind, n)
        assert compare.longest_path(kind, n, k=k) == expected


def test_the_crossover_lies_where_the_curves_meet():
    def point(kind, n, seconds):
        return compare.Point(kind, n, 64, 1, seconds, seconds)

    sizes = [64, 128, 256, 512]
    points = [point("rnn", n, 200 * n) for n in sizes] + [point("attention", n, n * n) for n in sizes]
    assert compare.crossover(points, "rnn") == pytest.approx(200)
    assert compare.crossover(points[:2] + points[4:6], "rnn") is None
    assert compare.crossover([p for p in points if p.n >= 256], "rnn") == 256


def test_memory_of_a_training_step_grows_with_n_and_not_with_its_square():
    peaks = compare.memory([(kind, n, 64, 3) for kind in ("conv", "attention") for n in (2048, 8192)])
    if None in peaks:
        pytest.skip("peaks of memory are read where Linux keeps them")
    for short, long in (peaks[:2], peaks[2:]):
        assert 2.5 < long / short < 6


@pytest.mark.parametrize("hidden_size", [32, 128, 200])
def test_the_three_models_have_similar_numbers_of_parameters(hidden_size):
    counts = [model.network.num_parameters for model in compare_text.equal_models(71, hidden_size, 0)]
    assert max(counts) / min(counts) < 1.02


@pytest.mark.parametrize("kind", compare_text.KINDS)
def test_a_model_s_gradients_equal_finite_differences(kind):
    model = next(m for m in compare_text.equal_models(11, 24, 0) if m.kind == kind)
    random = np.random.default_rng(0)
    x, y = (random.integers(0, 11, (7, 3)).astype(np.int32) for _ in range(2))
    model.loss(x, y, learn=True)
    net = model.network
    for name, value in net.state_dict().items():
        direction = random.normal(size=value.shape).astype(np.float32)
        direction /= np.linalg.norm(direction)  # a short way, since relu bends
        losses = []
        for sign in (1, -1):
            net.load_state_dict({name: value + np.float32(sign * 1e-3) * direction}, strict=False)
            losses.append(model.loss(x, y, learn=False))
        net.load_state_dict({name: value}, strict=False)
        numeric = (losses[0] - losses[1]) / 2e-3
        # central differences of a float32 loss: its rounding is 1e-7 / 2e-3
        assert float((net.grads[name] * direction).sum()) == pytest.approx(numeric, rel=2e-2, abs=3e-4), name


@pytest.mark.parametrize("kind", compare_text.KINDS)
def test_a_model_generates_step_by_step_what_it_predicts_in_one_call(kind):
    model = next(m for m in compare_text.equal_models(11, 24, 0) if m.kind == kind)
    model.network.load_state_dict({n: 1.1 * v for n, v in model.network.state_dict().items()})
    ids = np.random.default_rng(0).integers(0, 11, (80, 1)).astype(np.int32)
    whole = model.run(ids).outputs["output"]
    stream, bytes_ = model.stream(), []
    for token, logits in zip(ids, whole):
        np.testing.assert_allclose(stream(token), logits, rtol=1e-5, atol=1e-5)
        bytes_.append(compare_text.state_bytes(stream))
    assert (bytes_[-1] > bytes_[0]) == (kind == "attention")


def test_clipping_scales_the_common_norm():
    model = compare_text.equal_models(11, 24, 0)[0]
    x = np.zeros((4, 2), np.int32)
    model.loss(x, x + 1, learn=True)
    model.clip(0.01)
    squares = sum(float((g**2).sum()) for g in model.network.grads.values())
    assert squares == pytest.approx(1e-4, rel=1e-3)


def test_the_command_prints_a_table_and_draws(tmp_path):
    pytest.importorskip("matplotlib")
    sizes = ["--n", 64, 256, 512, 1024, "--d", 64, 128, 192, 256, "--rounds", 1]
    result = run(*sizes, "--threads", 1, "--json", "--plot", "c.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout)
    assert values["threads"] == 1
    assert set(values["fits"]) == set(compare.KINDS)
    assert values["fits"]["conv"]["n"]["theory"] == 1
    assert values["path"]["attention"] == {"16": 1, "64": 1, "256": 1}
    assert "sequential steps" in result.stderr
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_the_command_compares_language_models(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "t.txt").write_text(TEXT)
    result = run("--text", "t.txt", "--tokens", 60_000, "--hidden-size", 48, "--plot", "t.png", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    models = json.loads(result.stdout)["models"]
    for model in models.values():
        assert model["perplexity"] < 17  # from 26: they have learnt
        assert model["tokens_per_second"] > 0
    sizes = {kind: [g["state_bytes"] for g in m["generation"].values()] for kind, m in models.items()}
    assert sizes["lstm"][0] == sizes["lstm"][2]
    assert sizes["conv"][0] == sizes["conv"][2]
    assert sizes["attention"][0] < sizes["attention"][1] < sizes["attention"][2]
    assert (tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--k", 1], "1 is below 2"),
        (["--n", 0], "0 is below 1"),
        (["--text", "nowhere.txt"], "does not exist"),
        (["--text", "short.txt"], "too few"),
        (["--text", "middling.txt"], "expected at least"),
    ],
)
def test_bad_input_is_one_line(tmp_path, options, sentence):
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "middling.txt").write_text(TEXT[:500])
    result = run(*options, cwd=tmp_path)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
