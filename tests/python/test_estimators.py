"""The guarantees of the estimators to scikit-learn users. The estimators work with scikit-learn but do not need it."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
from test_docs import ROOT, pages

import rnnfast as rf

rng = np.random.default_rng(0)
SERIES = np.sin(np.arange(60) / 4) + 0.1 * rng.normal(size=60)
TEXTS, LABELS = ["aba", "aab", "xyx", "yyx"] * 4, [0, 0, 1, 1] * 4
RAGGED = [np.sin((0.4 + 0.5 * (n % 2)) * np.arange(6 + n)) for n in range(16)]


def tokens(**options):
    return rf.SequenceClassifier(hidden_size=4, **{"embedding_size": 3, "epochs": 2, "seed": 0, **options})


def reals(**options):
    return rf.SequenceClassifier(hidden_size=4, **{"cell": "lstm", "epochs": 2, "seed": 0, **options})


def recurrent(**options):
    return rf.Autoregressor(hidden_size=4, **{"epochs": 2, "seed": 0, **options})


CASES = {  # an estimator, its training data, and its result
    "tokens": (tokens, (TEXTS, LABELS), lambda model: model.predict_proba(TEXTS)),
    "reals": (reals, (RAGGED, LABELS), lambda model: model.predict_proba(RAGGED)),
    "autoregressor": (recurrent, (SERIES,), lambda model: model.forecast(5)),
    "linear": (rf.LinearAR, (SERIES,), lambda model: model.forecast(5)),
}
every_case = pytest.mark.parametrize(("make", "data", "answer"), CASES.values(), ids=CASES)


@pytest.fixture
def sklearn():
    return pytest.importorskip("sklearn", reason="scikit-learn is not installed")


# Parameters and what is learnt


@pytest.mark.fault("N18")
@every_case
def test_parameters_set_after_fit_take_effect_at_the_next_fit(make, data, answer, tmp_path):
    model = make().fit(*data)
    before, repr_before = answer(model), repr(model)
    others = {"tau": 2, "hidden_size": 9, "num_layers": 2, "cell": "rnn", "pooling": "mean", "tokenizer": "word", "num_steps": 3,
              "embedding_size": 7, "epochs": 1, "input": "tokens"}  # fmt: skip
    model.set_params(**{name: value for name, value in others.items() if name in model.get_params()})
    assert np.array_equal(answer(model), before)
    model.save(tmp_path / "m.safetensors")
    again = rf.load(tmp_path / "m.safetensors")
    assert np.array_equal(answer(again), before)
    assert repr(again) == repr_before  # the file has the parameters of the fit
    kept = pickle.loads(pickle.dumps(model))
    assert np.array_equal(answer(kept), before)
    assert kept.get_params() == model.get_params()  # a copy has those set since, too
    if "input" not in model.get_params() or data[0] is TEXTS:
        assert not np.array_equal(answer(model.fit(*data)), before)


@pytest.mark.fault("N18")
@every_case
def test_parameters_of_numpy_s_types_are_saved(make, data, answer, tmp_path):
    numpy_params = {
        name: np.int64(value) if type(value) is int else np.float32(value) if type(value) is float else value
        for name, value in make().get_params().items()
    }
    model = make().set_params(**numpy_params).fit(*data)
    model.save(tmp_path / "m.safetensors")
    assert np.array_equal(answer(rf.load(tmp_path / "m.safetensors")), answer(model))


@every_case
def test_a_failed_fit_leaves_the_earlier_one_as_it_was(make, data, answer):
    model = make().fit(*data)
    before = answer(model)
    first = next(iter(model.get_params()))
    model.set_params(**{first: None})
    with pytest.raises((TypeError, ValueError), match=first):
        model.fit(*data)
    assert np.array_equal(answer(model), before)


def test_a_failed_set_params_changes_nothing():
    model = tokens()
    with pytest.raises(ValueError, match="has no parameter 'size'"):
        model.set_params(hidden_size=9, size=1)
    with pytest.raises(ValueError, match="has no parameter 'rnn__hidden_size'"):
        model.set_params(rnn__hidden_size=1)
    assert model.hidden_size == 4


def test_a_second_fit_forgets_the_first():
    model = tokens().fit(TEXTS, LABELS)
    model.fit(RAGGED, LABELS)
    assert model.input_ == "real"
    assert not hasattr(model, "vocab_")
    assert model.fit(TEXTS, LABELS).input_ == "tokens"
    assert not hasattr(model, "mean_")


@every_case
def test_what_is_not_fitted_says_so(make, data, answer, tmp_path):
    for call in (answer, lambda model: model.save(tmp_path / "m"), lambda model: model.score(*data)):
        with pytest.raises(rf.NotFittedError, match="is not fitted yet; call fit first") as caught:
            call(make())
        assert isinstance(caught.value, (ValueError, AttributeError))


def test_scikit_learn_s_error_for_what_is_not_fitted_is_raised_where_it_is_loaded(sklearn):
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    with pytest.raises(NotFittedError, match="call fit first") as caught:
        tokens().predict(TEXTS)
    assert isinstance(caught.value, rf.NotFittedError)
    with pytest.raises(NotFittedError):
        check_is_fitted(tokens())
    check_is_fitted(tokens().fit(TEXTS, LABELS))


def test_a_progress_bar_is_shown_on_request_and_changes_nothing(capsys):
    quiet, shown = recurrent().fit(SERIES), recurrent(verbose=True).fit(SERIES)
    assert np.array_equal(quiet.forecast(3), shown.forecast(3))
    assert "2/2" in (printed := capsys.readouterr().err)
    assert f"loss {shown.loss_curve_[-1]:.4g}" in printed
    tokens(verbose=False).fit(TEXTS, LABELS)
    assert capsys.readouterr() == ("", "")


# Copies


@every_case
@pytest.mark.parametrize("copied", ["deepcopy", "copy", "pickle", "joblib"])
def test_copies_give_the_results_of_the_original_and_are_independent(make, data, answer, copied, tmp_path):
    def copy_of(model):
        if copied == "joblib":
            joblib = pytest.importorskip("joblib")
            joblib.dump(model, tmp_path / "m.joblib")
            return joblib.load(tmp_path / "m.joblib")
        return pickle.loads(pickle.dumps(model)) if copied == "pickle" else getattr(copy, copied)(model)

    assert repr(copy_of(make())) == repr(make())
    model = make().fit(*data)
    model.note = ["mine"]
    again = copy_of(model)
    assert np.array_equal(answer(again), answer(model))
    assert (again.note, again.get_params()) == (["mine"], model.get_params())
    assert {name for name in vars(again) if name.endswith("_")} == {name for name in vars(model) if name.endswith("_")}
    assert getattr(again, "loss_curve_", None) == getattr(model, "loss_curve_", None)
    before = answer(model)
    again.set_params(**({"tau": 1} if "tau" in again.get_params() else {"seed": 5})).fit(*data)
    assert np.array_equal(answer(model), before)


def test_a_pickle_holds_the_bytes_of_a_model_file_and_no_code_of_layers():
    state = reals().fit(RAGGED, LABELS).__getstate__()
    _, metadata = rf._core.parse_safetensors(state["model"])
    assert metadata["kind"] == "sequence_classifier"
    assert set(state["held"]) == set(reals().get_params())
    damaged = {**state, "model": state["model"][:-4]}
    with pytest.raises(rf.FileFormatError):
        reals().__setstate__(damaged)
    with pytest.raises(rf.FileFormatError, match="holds 'sequence_classifier'"):
        recurrent().__setstate__(state)


@pytest.mark.parametrize(
    ("name", "case"), [("sequence_classifier_v1", "tokens"), ("autoregressor_v1", "autoregressor")]
)
def test_estimators_from_files_of_version_0_1_can_be_copied_and_saved_again(name, case, tmp_path):
    model, answer = rf.load(ROOT / "tests" / "golden" / f"{name}.safetensors"), CASES[case][2]
    model.save(tmp_path / "m.safetensors")
    for again in (rf.load(tmp_path / "m.safetensors"), copy.deepcopy(model)):
        assert np.array_equal(answer(again), answer(model))
    assert not hasattr(model, "loss_curve_")


@pytest.mark.fault("R3")
@pytest.mark.parametrize("case", ["tokens", "reals"])
def test_a_classifier_s_file_that_does_not_add_up_is_refused_when_it_is_loaded(case, tmp_path):
    make, data, _ = CASES[case]
    path = tmp_path / "m.safetensors"
    make().fit(*data).save(path)
    tensors, metadata = rf._core.read_safetensors(str(path))
    config = json.loads(metadata["config"])
    wrong_configs = [
        {**config, "classes": []}, {**config, "classes": [0]}, {**config, "classes": [0, 0]}, {**config, "classes": [1, 0]},
        {**config, "classes": [0, 1.5]}, {**config, "classes": [0, None]}, {**config, "classes": {"0": 1}},
        {**config, "labels": "complex64"}, {**config, "labels": "uint128"}, {**config, "labels": "dates"}, {**config, "labels": 3},
        {**config, "params": {**config["params"], "clip_norm": -1}}, {**config, "params": {**config["params"], "hidden_size": 5}},
        {**config, "params": {**config["params"], "embedding_size": 10**12, "hidden_size": 10**9}}, {}, None,
        {**config, "loss_curve": ["a"]}, {**config, "vocabulary": {"tokenizer": "char", "tokens": ["a", "b"]}}, {**config, "mean": [0.0], "scale": [0.0]},
    ]  # fmt: skip
    for wrong in wrong_configs:
        rf._core.write_safetensors(str(path), tensors, {**metadata, "config": json.dumps(wrong)})
        with pytest.raises(rf.FileFormatError, match="its configuration cannot be used"):
            rf.load(path)
    for name in tensors:
        rf._core.write_safetensors(str(path), {n: t for n, t in tensors.items() if n != name}, metadata)
        with pytest.raises(rf.FileFormatError, match="its configuration cannot be used"):
            rf.load(path)


# scikit-learn


def test_scikit_learn_is_not_imported_by_using_the_estimators():
    code = (
        "import sys, pickle, rnnfast as rf\n"
        "model = rf.SequenceClassifier(hidden_size=2, epochs=1).fit(['ab', 'ba'], [0, 1])\n"
        "pickle.loads(pickle.dumps(model)).score(['ab'], [0])\n"
        "try: rf.LinearAR().predict([1.0])\n"
        "except rf.NotFittedError: pass\n"
        "assert 'sklearn' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tags_and_clones(sklearn):
    from sklearn.base import clone, is_classifier, is_regressor
    from sklearn.utils import get_tags

    assert is_classifier(tokens())
    assert not is_classifier(recurrent())
    assert not is_regressor(recurrent())
    assert get_tags(tokens()).input_tags.three_d_array
    assert get_tags(rf.LinearAR()).input_tags.one_d_array
    assert get_tags(rf.SequenceClassifier()).non_deterministic
    for make, data, answer in CASES.values():
        fitted = make().fit(*data)
        again = clone(fitted)
        assert again.get_params() == fitted.get_params()
        assert not hasattr(again, "params_")
        assert np.array_equal(answer(again.fit(*data)), answer(fitted))


def test_searches_and_pipelines_take_texts_ragged_sequences_and_series(sklearn):
    from sklearn.model_selection import (
        GridSearchCV,
        StratifiedKFold,
        TimeSeriesSplit,
        cross_val_predict,
        cross_val_score,
    )
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, tokens()).fit([text.upper() for text in TEXTS], LABELS)
    assert pipeline.predict(TEXTS).shape == (16,)
    assert pipeline.score(TEXTS, LABELS) == pipeline[-1].score(TEXTS, LABELS)
    search = GridSearchCV(tokens(), {"hidden_size": [2, 3], "pooling": ["last", "mean"]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_estimator_.params_["hidden_size"] == search.best_params_["hidden_size"]
    assert cross_val_score(reals(), RAGGED, LABELS, cv=StratifiedKFold(2)).shape == (2,)
    assert cross_val_predict(reals(), RAGGED, LABELS, cv=2, method="predict_proba").shape == (16, 2)
    folds = TimeSeriesSplit(3)
    scores = cross_val_score(rf.LinearAR(3), SERIES, cv=folds)
    train, test = list(folds.split(SERIES))[-1]
    assert scores[-1] == rf.LinearAR(3).fit(SERIES[train]).score(SERIES[test])
    search = GridSearchCV(rf.LinearAR(), {"tau": [1, 4]}, cv=folds).fit(SERIES)
    assert search.best_params_ == {"tau": 4}
    scaled = make_pipeline(StandardScaler(), rf.LinearAR(3)).fit(SERIES[:, None])
    assert scaled.score(SERIES[:, None]) == pytest.approx(rf.LinearAR(3).fit(SERIES).score(SERIES), rel=1e-9)


@pytest.mark.slow
def test_a_search_runs_in_several_processes(sklearn):
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(reals(epochs=1), {"hidden_size": [2, 3]}, cv=2, n_jobs=2, error_score="raise")
    search.fit(RAGGED, LABELS)
    alone = GridSearchCV(reals(epochs=1), {"hidden_size": [2, 3]}, cv=2, error_score="raise").fit(RAGGED, LABELS)
    assert search.cv_results_["mean_test_score"].tolist() == alone.cv_results_["mean_test_score"].tolist()
    assert np.array_equal(search.best_estimator_.predict_proba(RAGGED), alone.best_estimator_.predict_proba(RAGGED))


CLASSIFIER_EXCEPTIONS = {
    "check_n_features_in": "the columns of a 2-D array are steps, so a sequence has one feature",
    "check_n_features_in_after_fitting": "the columns of a 2-D array are steps, so a sequence has one feature",
    "check_classifiers_train": "wants an error for rows of another length; sequences may have any",
    "check_sample_weight_equivalence_on_dense_data": "shuffled mini-batches differ where a row is repeated",
    "check_estimators_empty_data_messages": "an array (15, 0) is refused as fifteen empty sequences, in other words",
    "check_classifiers_regression_target": "floats may be labels, such as 3.5 stars",
    "check_supervised_y_2d": "a column of labels is an error, not a warning",
}
FORECASTER_EXCEPTIONS = {
    "check_methods_sample_order_invariance": "rows are steps of time: their order counts",
    "check_methods_subset_invariance": "rows are steps of time: a forecast needs those before it",
    "check_fit1d": "a series may be one-dimensional",
    "check_n_features_in_after_fitting": "a series of other columns is refused, in other words",
    "check_dtype_object": "objects that are no numbers are refused, in other words",
}


class WithoutTargets:
    """Scikit-learn's checks give every estimator a y, which forecasters refuse."""

    def fit(self, series, y=None):
        return super().fit(series)

    def score(self, series, y=None):
        return super().score(series)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = False  # so that the checks use several columns
        return tags


class Linear(WithoutTargets, rf.LinearAR):
    pass


class Recurrent(WithoutTargets, rf.Autoregressor):
    pass


@pytest.mark.parametrize(
    ("estimator", "exceptions"),
    [
        (rf.SequenceClassifier("rnn", 8, epochs=8, lr=0.03, batch_size=32, seed=0), CLASSIFIER_EXCEPTIONS),
        (Linear(2), FORECASTER_EXCEPTIONS),
        (Recurrent("rnn", 4, epochs=1, seed=0), FORECASTER_EXCEPTIONS),
    ],
    ids=["SequenceClassifier", "LinearAR", "Autoregressor"],
)
def test_scikit_learn_s_own_checks_pass_except_those_that_are_named(sklearn, estimator, exceptions):
    pytest.importorskip("sklearn", minversion="1.6")  # whose checks take a list of exceptions
    from sklearn.utils.estimator_checks import check_estimator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the class does not inherit from BaseEstimator; the checks provoke warnings
        results = check_estimator(estimator, expected_failed_checks=exceptions, on_fail=None, on_skip=None)
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}
    assert not failed
    assert sum(r["status"] == "passed" for r in results) >= 30


def test_the_page_on_estimators_names_every_exception_and_its_code_runs(sklearn):
    names = {"__name__": "__page__"}
    wrong = pages.differences(ROOT / "docs" / "estimators.md", pages.run(ROOT / "docs" / "estimators.md", names))
    assert not wrong, "\n".join(wrong)
    assert names["classifier"].score(names["waves"][60:], names["labels"][60:]) > 0.9
    page = (ROOT / "docs" / "estimators.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(check_\w+)`", page)) - {"check_estimator"} == {
        *CLASSIFIER_EXCEPTIONS,
        *FORECASTER_EXCEPTIONS,
    }
