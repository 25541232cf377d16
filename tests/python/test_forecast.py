from __future__ import annotations

import math

import numpy as np
import pytest

import rnnfast as rf

rng = np.random.default_rng(0)
NOISY_SINE = np.sin(0.01 * np.arange(1, 1001)) + 0.2 * rng.normal(size=1000)  # d2l, section 9.1


def small(cell="gru", **options):
    return rf.Autoregressor(cell, **{"hidden_size": 16, "epochs": 60, "seed": 0, **options})


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_recurrent_forecast_is_near_the_noise(cell):
    model = small(cell).fit(NOISY_SINE[:600])
    error = np.nanmean(np.square(model.predict(NOISY_SINE)[600:] - NOISY_SINE[600:]))
    assert error < 1.5 * 0.2**2
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert model.score(NOISY_SINE) > 0.85


@pytest.mark.parametrize("steps", [1, 4, 16, 64])
@pytest.mark.parametrize("cell", ["gru", "lstm", "linear"])
def test_predictions_any_steps_ahead_are_forecasts_from_what_was_known(cell, steps):
    model = rf.LinearAR(4) if cell == "linear" else small(cell, num_layers=2, epochs=2)
    model.fit(NOISY_SINE[:300])
    predicted = model.predict(NOISY_SINE[:150], steps=steps)
    known = 4 if cell == "linear" else 1
    assert np.isnan(predicted[: known + steps - 1]).all()
    assert np.isfinite(predicted[known + steps - 1 :]).all()
    for t in (known + steps - 1, 100, 149):
        ahead = model.forecast(steps, NOISY_SINE[: t - steps + 1])
        assert ahead.shape == (steps,)
        assert predicted[t] == pytest.approx(ahead[-1], rel=1e-4, abs=1e-5)


def test_several_series_are_forecast_together():
    t = np.arange(400) / 10
    both = np.stack([np.sin(t), 5 + 3 * np.cos(t)], axis=1)
    for model in (small(epochs=40).fit(both), rf.LinearAR(3).fit(both)):
        assert model.forecast(7).shape == (7, 2)
        assert model.predict(both).shape == (400, 2)
        assert model.score(both) > 0.95


def test_the_linear_baseline_finds_the_coefficients_of_a_linear_series():
    x = [1.0, 0.5]
    for _ in range(2000):
        x.append(1.2 * x[-1] - 0.9 * x[-2] + rng.normal() * 0.1)
    model = rf.LinearAR(2).fit(x)
    np.testing.assert_allclose(
        model.coefficients_[:2, 0], [1.2, -0.9], atol=0.04
    )  # four standard errors: sqrt((1 - 0.9²) / 2000)


def test_without_a_series_the_fitted_one_goes_on():
    model = small(epochs=2).fit(NOISY_SINE)
    assert np.array_equal(model.forecast(5), model.forecast(5, NOISY_SINE))


def test_the_same_seed_gives_the_same_forecast_and_parameters_are_scikit_learn_s():
    one, two = (small(epochs=3).fit(NOISY_SINE[:200]).forecast(9) for _ in range(2))
    assert np.array_equal(one, two)
    model = rf.Autoregressor(**small().get_params())
    assert repr(model) == repr(small())
    assert model.set_params(hidden_size=8).hidden_size == 8
    with pytest.raises(ValueError, match="has no parameter 'size'"):
        model.set_params(size=1)


def test_a_model_is_saved_and_loaded(tmp_path):
    model = small("lstm", num_layers=2, epochs=2).fit(NOISY_SINE)
    model.save(tmp_path / "sine.safetensors")
    again = rf.load(tmp_path / "sine.safetensors")
    assert np.array_equal(again.predict(NOISY_SINE[:50]), model.predict(NOISY_SINE[:50]), equal_nan=True)
    assert again.forecast(4).shape == (4,)
    tensors, metadata = rf._core.read_safetensors(str(tmp_path / "sine.safetensors"))
    for old, new in (('"hidden_size": 16', '"hidden_size": 999999999'), ('"num_layers": 2', '"num_layers": 99999')):
        damaged = {**metadata, "config": metadata["config"].replace(old, new)}
        assert damaged != metadata
        rf._core.write_safetensors(str(tmp_path / "bad.safetensors"), tensors, damaged)
        with pytest.raises(rf.FileFormatError, match="more weights than the file holds"):
            rf.load(tmp_path / "bad.safetensors")


def test_the_picture_shows_the_series_and_four_forecasts(tmp_path):
    pytest.importorskip("matplotlib")
    figure = rf.LinearAR(4).fit(NOISY_SINE).plot(NOISY_SINE, tmp_path / "sine.png")
    assert len(figure.axes[0].lines) == 5
    assert (tmp_path / "sine.png").read_bytes()[:4] == b"\x89PNG"


def test_sunspots_are_forecast_better_than_by_their_last_value(data_folder):
    series = rf.datasets.load("sunspots").astype(float)
    fitted = series[:2000]
    naive = 1 - np.square(np.diff(series[2000:])).sum() / np.square(series[2000:] - series[2000:].mean()).sum()
    assert small(epochs=30, hidden_size=32).fit(fitted).score(series[2000:]) > naive
    assert rf.LinearAR(12).fit(fitted).score(series[2000:]) > naive


def test_carbon_dioxide_is_forecast(data_folder):
    statsmodels = pytest.importorskip("statsmodels.datasets.co2")
    series = statsmodels.load_pandas().data["co2"].interpolate().to_numpy()
    assert rf.LinearAR(52).fit(series[:1800]).score(series[1800:], steps=4) > 0.95


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: rf.LinearAR(0), "tau is 0"),
        (lambda: rf.LinearAR(4).fit([1, 2, 3]), "3 values, expected at least 5"),
        (lambda: small().fit([1.0, math.nan, 2.0]), r"is \[nan\] at position 1: fill in or cut out"),
        (lambda: small().fit(np.zeros((2, 2, 2))), "expected"),
        (lambda: small().predict([1.0]), "call fit first"),
        (lambda: small("grru").fit(NOISY_SINE), "expected one of rnn, gru, lstm"),
        (lambda: small(epochs=0).fit(NOISY_SINE), "epochs is 0"),
        (lambda: rf.LinearAR(2).fit(NOISY_SINE).predict(np.zeros((9, 3))), "3 columns, expected 1"),
        (lambda: rf.LinearAR(2).fit(NOISY_SINE).forecast(0), "k is 0"),
        (lambda: rf.LinearAR(4).fit(NOISY_SINE).forecast(1, [1.0]), "expected at least 4"),
        (lambda: small().save("x"), "call fit first"),
    ],
)
def test_bad_input_is_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
