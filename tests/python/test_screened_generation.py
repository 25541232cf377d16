"""Tokens drawn from the largest logits alone, which the compiled loop finds without the others, against those drawn from all."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rnnfast as rf
from rnnfast import _core

V, H = 4200, 128
ALL = 65  # so many tokens are drawn from all logits before the others pay
VOCAB = rf.Vocab([f"w{i}" for i in range(V - 1)], tokenizer="word")
PROMPT = np.array([3, 1, 4], np.int32)


def model_with(change, **options):
    """An untrained model with other weights in its output layer."""
    model = rf.LanguageModel(VOCAB, **{"cell": "gru", "embedding_size": 8, "hidden_size": H, "seed": 4, **options})
    state = {name: weight.copy() for name, weight in model.state_dict().items()}
    change(state["output.weight" if "output.weight" in state else "embedding.weight"], state["output.bias"])
    model.load_state_dict(state)
    return model


def options(temperature=1.0, top_k=0, top_p=1.0, seed=0, no_repeat=0, never=()):
    return _core.SamplerOptions(temperature, top_k, top_p, seed, no_repeat, list(never))


def generated(model, given, count=ALL + 15):
    generator = _core.Generator(model._core, PROMPT, given)
    return [generator.next() for _ in range(count)]


def from_all(model, given, count=ALL + 15):
    """The same step by step, from all logits."""
    whole = _core.Generator(model._core, PROMPT, given, all_logits=True)
    sampler, state, tokens = _core.Sampler(given), None, []
    sampler.read(PROMPT)
    for token in PROMPT:
        logits, state = model.step([token], state)
    for _ in range(count):
        tokens.append(sampler.sample(logits[0]))
        logits, state = model.step(tokens[-1:], state)
    assert tokens == [whole.next() for _ in tokens]
    return tokens


def scaled(size):
    def change(weight, bias):
        weight *= size
        bias *= size

    return change


def equal_rows(weight, bias):
    weight[:] = weight[np.arange(V) // 5]
    bias[:] = 0


def zeros(weight, bias):
    weight[:], bias[:] = 0, 0


def banned(weight, bias):
    bias[::3] = -inf


def outliers(weight, bias):
    weight[np.arange(V), np.arange(V) % H] = 5  # int8 keeps one number of each row


CHANGES = {"as they are": scaled(1), "sharp": scaled(40), "huge": scaled(1e20), "tiny": scaled(1e-25), "equal": equal_rows,
           "zeros": zeros, "banned": banned, "outliers": outliers}  # fmt: skip
MODELS = {name: model_with(change) for name, change in CHANGES.items()}


@pytest.fixture(params=[1, 3])
def threads(request):
    before = rf.get_num_threads()
    rf.set_num_threads(request.param)
    yield
    rf.set_num_threads(before)


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("how", [{"top_k": 40}, {"temperature": 0.0}, {"top_k": 5, "top_p": 0.7}])
def test_the_same_tokens_are_drawn(name, how, threads):
    assert generated(MODELS[name], options(**how)) == from_all(MODELS[name], options(**how))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(list(MODELS)),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 50.0]),
    top_k=st.integers(1, V // 64 + 3),
    top_p=st.sampled_from([1.0, 0.9, 0.1]),
    no_repeat=st.integers(0, 3),
    never=st.lists(st.integers(0, V - 1), max_size=12),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_options_draw_the_same_tokens(name, temperature, top_k, top_p, no_repeat, never, seed):
    given = options(temperature, top_k, top_p, seed, no_repeat, never)
    assert generated(MODELS[name], given) == from_all(MODELS[name], given)


@pytest.mark.parametrize("how", [{"tie_weights": True, "embedding_size": H}, {"weights": "bf16"}, {"weights": "int8"}])
def test_tied_weights_and_low_precision_draw_the_same_tokens(how):
    model = model_with(scaled(3), **how)
    assert generated(model, options(top_k=40)) == from_all(model, options(top_k=40))


def test_forbidden_tokens_leave_room_for_others():
    model = MODELS["sharp"]
    given = options(temperature=0.0, no_repeat=1)
    tokens = generated(model, given, 120)
    assert len(set(tokens)) == 120
    assert tokens == from_all(model, given, 120)


def test_new_weights_are_screened_anew():
    model, other = model_with(scaled(1)), MODELS["sharp"]
    before = generated(model, options(top_k=40), 100)
    model.load_state_dict(other.state_dict())
    after = generated(model, options(top_k=40), 100)
    assert before != after
    assert after == from_all(other, options(top_k=40), 100)


@pytest.mark.fault("N7")
@pytest.mark.parametrize("how", [{"top_k": 40}, {"temperature": 0.0}])
@pytest.mark.parametrize(("value", "sentence"), [(nan, "have NaN"), (inf, "have infinity")])
@pytest.mark.parametrize("where", ["output.weight", "output.bias"])
def test_one_broken_row_is_reported_with_all_logits_and_with_few(how, where, value, sentence):
    model = model_with(scaled(1))
    state = {name: weight.copy() for name, weight in model.state_dict().items()}
    state[where][17] = value if where == "output.bias" else nan
    state["output.bias"][17] = value
    generator = _core.Generator(model._core, PROMPT, options(**how))
    model.load_state_dict(state)
    generator.next()  # from the logits of the prompt
    for _ in range(ALL + 5):  # a failed draw is drawn again; the last of them look at few logits
        with pytest.raises(ValueError, match="have NaN" if where == "output.weight" else sentence):
            generator.next()
