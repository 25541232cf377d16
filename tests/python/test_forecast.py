from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from registered import LAYERS

import rnnfast as rf

rng = np.random.default_rng(0)
NOISY_SINE = np.sin(0.01 * np.arange(1, 1001)) + 0.2 * rng.normal(size=1000)  # d2l, section 9.1


def small(cell="gru", **options):
    return rf.Autoregressor(cell, **{"hidden_size": 16, "epochs": 60, "seed": 0, **options})


@pytest.mark.parametrize("cell", LAYERS)
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


def test_without_a_series_the_forecast_continues_the_fitted_one():
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
    for old, new in (('"hidden_size": 16', '"hidden_size": 999999999'), ('"num_layers": 2', '"num_layers": 9999')):
        damaged = {**metadata, "config": metadata["config"].replace(old, new)}
        assert damaged != metadata
        rf._core.write_safetensors(str(tmp_path / "bad.safetensors"), tensors, damaged)
        with pytest.raises(rf.FileFormatError, match="more weights than the file has"):
            rf.load(tmp_path / "bad.safetensors")


def test_the_picture_shows_four_forecasts_that_continue_beyond_the_marked_end(tmp_path):
    pytest.importorskip("matplotlib")
    model = rf.LinearAR(4).fit(NOISY_SINE)
    figure = model.plot(NOISY_SINE, tmp_path / "sine.png")
    series, *forecasts, end = figure.axes[0].lines
    assert [line.get_label() for line in forecasts] == ["1 ahead", "4 ahead", "16 ahead", "64 ahead"]
    last = len(series.get_ydata()) - 1
    assert list(end.get_xdata()) == [last, last]
    assert end.get_label() == "end of the series"
    for line, ahead in zip(forecasts, (1, 4, 16, 64)):
        x, y = line.get_data()
        assert x[-1] == last + ahead
        np.testing.assert_allclose(y[-1], model.forecast(ahead, NOISY_SINE)[-1])
        inside = model.predict(NOISY_SINE, steps=ahead)
        np.testing.assert_allclose(y[x <= last], inside[x[x <= last]])
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
        (lambda: rf.LinearAR(0).fit(NOISY_SINE), "tau is 0"),
        (lambda: rf.LinearAR(4).fit([1, 2, 3]), "3 values, expected at least 5"),
        (lambda: small().fit([1.0, math.nan, 2.0]), "is NaN at position 1: fill in or remove"),
        (lambda: small().fit(np.zeros((2, 2, 2))), "expected"),
        (lambda: small().predict([1.0]), "call fit first"),
        (lambda: small("grru").fit(NOISY_SINE), f"expected one of {', '.join(LAYERS)}"),
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


def both_kinds():
    return rf.LinearAR(3), rf.Autoregressor("gru", 4, epochs=2, seed=0)


@pytest.mark.fault("N16")
@pytest.mark.parametrize("kind", [0, 1])
def test_a_series_of_one_column_is_the_same_series_flat_or_not(kind):
    flat, column = NOISY_SINE[:80], NOISY_SINE[:80, None]
    on_flat, on_column = both_kinds()[kind].fit(flat), both_kinds()[kind].fit(column)
    score = on_flat.score(flat)
    assert score == on_flat.score(column) == on_column.score(flat) == on_column.score(column)
    assert math.isfinite(score)
    for model in (on_flat, on_column):  # results have the form of the series given
        assert model.predict(flat).shape == (80,)
        assert model.predict(column).shape == (80, 1)
        assert np.array_equal(model.predict(flat), model.predict(column)[:, 0], equal_nan=True)
        assert model.forecast(2, flat).shape == (2,)
        assert model.forecast(2, column).shape == (2, 1)
    assert on_flat.forecast(2).shape == (2,)
    assert on_column.forecast(2).shape == (2, 1)


@pytest.mark.fault("N16")
def test_the_score_is_scikit_learn_s_mean_of_the_columns():
    t = np.arange(300) / 10
    both = np.stack([np.sin(t), 1000 + rng.normal(size=300)], axis=1)  # noise of another mean is not explained
    model = rf.LinearAR(3).fit(both)
    score, predicted = model.score(both), model.predict(both)
    alone = [
        1 - np.square(both - predicted)[3:, i].sum() / np.square(both[3:, i] - both[3:, i].mean()).sum() for i in (0, 1)
    ]
    assert score == pytest.approx(np.mean(alone), rel=1e-12)
    assert score < 0.6
    assert score == pytest.approx(pytest.importorskip("sklearn.metrics").r2_score(both[3:], predicted[3:]), rel=1e-12)
    constant = np.column_stack([np.sin(t), np.full(300, 0.1)])
    assert rf.LinearAR(3).fit(constant).score(constant) > 0.99
    for call in (lambda: model.score(both[:4]), lambda: model.score(both[:20], steps=17)):
        with pytest.raises(ValueError, match="expected at least"):
            call()


@pytest.mark.fault("N17")
@pytest.mark.parametrize("value", [0.1, -3e7, 1e-30, 0.0])
@pytest.mark.parametrize("kind", [0, 1])
def test_a_column_that_is_constant_except_for_rounding_has_a_scale_of_one(kind, value):
    series = np.column_stack([NOISY_SINE[:200], np.full(200, value)])
    model = both_kinds()[kind].fit(series)
    assert model.scale_[1] == 1
    assert model.scale_[0] == pytest.approx(NOISY_SINE[:200].std())
    moved = series + np.array([0, 1e-9])
    np.testing.assert_allclose(model.predict(moved)[5:, 0], model.predict(series)[5:, 0], atol=1e-6)
    tiny = rf.LinearAR(3).fit(NOISY_SINE * 1e-30)  # small, but not constant: the test is relative
    assert tiny.scale_[0] == pytest.approx(NOISY_SINE.std() * 1e-30)


@pytest.mark.fault("N17")
@pytest.mark.parametrize(
    ("series", "error", "sentence"),
    [
        (np.ma.masked_array(NOISY_SINE, NOISY_SINE > 1), ValueError, "the series is a masked array"),
        (
            [[1.0, 2.0], [3.0, math.inf], [4.0, 5.0]],
            ValueError,
            "the series is inf in row 1, column 1: fill in or remove",
        ),
        (["1", "2", "3", "4"], ValueError, "the series has dtype <U1, expected real numbers"),
        ([1.0, "2", 3.0, 4.0], ValueError, "expected real numbers"),
        (np.array([1.0, "2", 3.0], object), TypeError, "the series has '2'"),
        (np.array([1.0, None, 3.0], object), TypeError, "the series has None"),
        ({"a": [1.0, 2.0]}, TypeError, "the series is a dict"),
        ("1234", TypeError, "the series is a str"),
        (None, TypeError, "the series is None"),
        (5.0, TypeError, "the series is a float"),
        (np.array(5.0), ValueError, r"shape \(\), expected \(T,\) or \(T, D\)"),
        (np.zeros((9, 0)), ValueError, "0 feature"),
        ([1j, 2j], ValueError, "Complex data not supported"),
        (np.arange("2020-01", "2020-09", dtype="M8[M]"), ValueError, r"dtype datetime64\[M\]"),
        ([[1.0], [2.0, 3.0]], ValueError, "cannot be read as an array"),
        ([1e308, -1e308] * 4, ValueError, r"the series reaches 1e\+308"),
    ],
)
def test_what_is_not_a_series_is_refused_in_a_sentence(series, error, sentence):
    with pytest.raises(error, match=sentence):
        rf.LinearAR(2).fit(series)
    if "reaches" not in sentence:
        with pytest.raises(error, match=sentence):
            rf.LinearAR(2).fit(NOISY_SINE).predict(series)


@pytest.mark.fault("N17")
def test_columns_of_a_frame_keep_their_names_and_order():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": NOISY_SINE[:50], "b": NOISY_SINE[50:100]})
    model = rf.LinearAR(2).fit(frame)
    assert model.feature_names_in_.tolist() == ["a", "b"]
    assert model.n_features_in_ == 2
    assert np.array_equal(model.predict(frame), model.predict(frame.to_numpy()), equal_nan=True)
    with pytest.raises(ValueError, match="the series has the columns b, a; expected as fitted: a, b, in this order"):
        model.predict(frame[["b", "a"]])
    assert rf.LinearAR(2).fit(frame["a"]).predict(frame["a"]).shape == (50,)


def test_a_forecast_that_grows_without_bound_is_an_error_and_not_nan():
    model = rf.LinearAR(1).fit(2.0 ** np.arange(30))
    with pytest.raises(OverflowError, match="grows without bound"):
        model.forecast(2000)
    with pytest.raises(OverflowError, match="too far from the fitted one"):
        small(epochs=1).fit(NOISY_SINE).predict(NOISY_SINE * 1e200)


@pytest.mark.fault("N13")
@pytest.mark.parametrize(
    ("model", "error", "sentence"),
    [
        (rf.Autoregressor(clip_norm=0), ValueError, "clip_norm is 0, expected more than 0"),
        (rf.Autoregressor(clip_norm=-1), ValueError, "clip_norm is -1"),
        (rf.Autoregressor(lr=-1e-3), ValueError, "lr is -0.001"),
        (rf.Autoregressor(num_steps=0), ValueError, "num_steps is 0"),
        (rf.Autoregressor(num_layers="2"), TypeError, "num_layers is '2'"),
        (rf.Autoregressor(batch_size=1.5), TypeError, "batch_size is 1.5"),
        (rf.Autoregressor(hidden_size=None), TypeError, "hidden_size is None"),
        (rf.Autoregressor(seed="1"), TypeError, "seed is '1'"),
        (rf.LinearAR(-1), ValueError, "tau is -1"),
        (rf.LinearAR(2.0), TypeError, "tau is 2.0"),
    ],
)
def test_fit_checks_every_parameter_and_the_constructor_none(model, error, sentence):
    with pytest.raises(error, match=sentence):
        model.fit(NOISY_SINE)


def test_a_forecaster_refuses_targets():
    model = rf.LinearAR(2)
    with pytest.raises(TypeError, match="learns from the series alone, so y must be None"):
        model.fit(NOISY_SINE, NOISY_SINE)
    with pytest.raises(TypeError, match="y must be None"):
        model.fit(NOISY_SINE, y=None).score(NOISY_SINE, NOISY_SINE)
    with pytest.raises(TypeError, match="sample_weight"):
        model.fit(NOISY_SINE, sample_weight=NOISY_SINE)


@pytest.mark.parametrize("model", [*both_kinds(), rf.Autoregressor("lstm", 4, num_layers=2, epochs=1, seed=0)])
def test_a_forecaster_from_a_file_continues_where_the_other_would(model, tmp_path):
    series = np.column_stack([NOISY_SINE, NOISY_SINE[::-1]])
    model.fit(series)
    model.save(tmp_path / "m.safetensors")
    again = rf.load(tmp_path / "m.safetensors")
    assert np.array_equal(again.forecast(9), model.forecast(9))  # also without the series
    assert np.array_equal(again.forecast(9), model.forecast(9, series))
    assert again.score(series) == model.score(series)
    assert repr(again) == repr(model)


def test_a_file_of_version_0_1_still_loads():
    model = rf.load(Path(__file__).parents[1] / "golden" / "autoregressor_v1.safetensors")
    expected = [-0.0421434953567342, -0.04328924212834526, -0.045183770924738215]
    np.testing.assert_allclose(model.forecast(3), expected, rtol=1e-5)
    np.testing.assert_allclose(model.predict(np.cos(np.arange(2) / 5)), [np.nan, -0.06762089136254296], rtol=1e-5)


@pytest.mark.fault("R3")
@pytest.mark.parametrize("kind", [0, 1])
def test_a_file_that_does_not_add_up_is_refused_when_it_is_loaded(kind, tmp_path):
    model, path = both_kinds()[kind].fit(NOISY_SINE[:60]), tmp_path / "m.safetensors"
    model.save(path)
    tensors, metadata = rf._core.read_safetensors(str(path))
    config = json.loads(metadata["config"])
    first = next(iter(config["params"]))
    wrong_configs = [
        {**config, "mean": []}, {**config, "mean": [1.0, 2.0]}, {**config, "mean": [math.inf]}, {**config, "mean": ["a"]},
        {**config, "scale": [0.0]}, {**config, "scale": [-1.0]}, {**config, "scale": 1.0}, {**config, "flat": 1},
        {**config, "features": ["a", "b"]}, {**config, "features": "a"}, {**config, "params": {**config["params"], first: 1e400}},
        {**config, "params": {**config["params"], first: 10**30}}, {**config, "params": {**config["params"], "new": 1}},
        {**config, "params": None}, [], {},
    ]  # fmt: skip
    for wrong in wrong_configs:
        rf._core.write_safetensors(str(path), tensors, {**metadata, "config": json.dumps(wrong)})
        with pytest.raises(rf.FileFormatError, match="its configuration cannot be used"):
            rf.load(path)
    for name, tensor in tensors.items():
        for changed in ({name: tensor.reshape(*tensor.shape, 1)}, {name: tensor[:0]}, {"more": tensor}):
            rf._core.write_safetensors(str(path), {**tensors, **changed}, metadata)
            with pytest.raises(rf.FileFormatError, match="its configuration cannot be used"):
                rf.load(path)
        rf._core.write_safetensors(str(path), {n: t for n, t in tensors.items() if n != name}, metadata)
        with pytest.raises(rf.FileFormatError, match="its configuration cannot be used"):
            rf.load(path)
