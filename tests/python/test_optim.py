"""Optimizers and clipping over one and several layers, groups, frozen parameters, and the contents of a state."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.train.schedules import ReduceOnPlateau

# What a step of Adam's may differ from torch's, in units of lr: 1 - 0.999 as a difference of floats is off by 1.3e-5.
ADAM = 1e-5

OPTIMIZERS = [
    ("SGD", {"momentum": 0.9}),
    ("Adam", {"weight_decay": 0.1}),
    ("AdamW", {"weight_decay": 0.1}),
]


def layers(seed=0):
    return [rf.Embedding(7, 3, seed=seed), rf.LSTM(3, 4, seed=seed + 1), rf.Linear(4, 7, seed=seed + 2)]


def fill(parts, seed):
    rng = np.random.default_rng(seed)
    for part in parts:
        for gradient in part.grads.values():
            gradient[...] = rng.normal(size=gradient.shape)


def weights(parts):
    return [value.copy() for part in parts for value in part.state_dict().values()]


def equal(a, b):
    return all(np.array_equal(left, right) for left, right in zip(a, b))


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_an_optimizer_of_several_layers_moves_them_as_one_of_each_would(name, options):
    together, apart = layers(), layers()
    one = getattr(rf, name)(together, lr=0.01, **options)
    each = [getattr(rf, name)(part, lr=0.01, **options) for part in apart]
    for step in range(3):
        fill(together, step)
        fill(apart, step)
        one.step()
        for optimizer in each:
            optimizer.step()
    assert equal(weights(together), weights(apart))
    one.zero_grad()
    assert not any(np.any(g) for part in together for g in part.grads.values())


def test_groups_follow_torchs_groups():
    torch = pytest.importorskip("torch")
    parts = layers()
    twins = [[torch.nn.Parameter(torch.from_numpy(v)) for v in part.state_dict().values()] for part in parts]
    ours = rf.AdamW([{"params": [parts[0]], "lr": 0.1, "weight_decay": 0.3}, {"params": parts[1:]}], lr=0.01)
    theirs = torch.optim.AdamW(
        [{"params": twins[0], "lr": 0.1, "weight_decay": 0.3}, {"params": twins[1] + twins[2]}], lr=0.01
    )
    for step in range(6):
        if step == 3:
            for optimizer in (ours, theirs):
                optimizer.param_groups[1]["lr"] = 0.05
                optimizer.param_groups[0]["weight_decay"] = 0.0
        fill(parts, step)
        for part, twin in zip(parts, twins):
            for gradient, parameter in zip(part.grads.values(), twin):
                parameter.grad = torch.from_numpy(gradient.copy())
        ours.step()
        theirs.step()
    for ours_value, twin in zip(weights(parts), [p for two in twins for p in two]):
        np.testing.assert_allclose(ours_value, twin.detach().numpy(), rtol=1e-6, atol=6 * 0.1 * ADAM)
    for group, other in zip(ours.param_groups, theirs.param_groups):
        for option in ("lr", "betas", "eps", "weight_decay"):
            assert group[option] == other[option]
    assert ours.param_groups[1]["params"] == parts[1:]


def test_the_rate_of_an_optimizer_with_groups_scales_all_of_them_and_survives_zero():
    parts = layers()
    optimizer = rf.Adam([{"params": parts[0], "lr": 0.1}, {"params": parts[1:]}], lr=0.02)
    for rate in (0.05, 0.0, 0.2):
        optimizer.lr = rate
        assert optimizer.lr == rate
        assert optimizer.param_groups[1]["lr"] == pytest.approx(rate / 5)


def test_a_repr_shows_every_group():
    part = rf.Linear(2, 1, seed=0)
    shown = repr(rf.SGD([{"params": part, "lr": 0.5}], lr=0.1))
    for line in (
        "SGD (",
        "Parameter Group 0",
        "    dampening: 0.0",
        "    lr: 0.5",
        "    momentum: 0.0",
        "    nesterov: False",
    ):
        assert line in shown.splitlines()


def test_one_norm_clips_several_layers_and_is_the_norm_of_all_their_gradients():
    torch = pytest.importorskip("torch")
    parts = layers()
    fill(parts, 0)
    tensors = [torch.nn.Parameter(torch.zeros(g.shape)) for part in parts for g in part.grads.values()]
    for tensor, gradient in zip(tensors, [g for part in parts for g in part.grads.values()]):
        tensor.grad = torch.from_numpy(gradient.copy())
    expected = float(torch.nn.utils.clip_grad_norm_(tensors, 1.5))
    assert rf.clip_grad_norm_(parts, 1.5) == pytest.approx(expected, rel=1e-6)
    for tensor, gradient in zip(tensors, [g for part in parts for g in part.grads.values()]):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-5)
    rf.clip_grad_value_(parts, 0.01)
    assert max(np.abs(g).max() for part in parts for g in part.grads.values()) == np.float32(0.01)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_frozen_parameters_do_not_change_and_are_not_in_the_norm(name, options):
    part = rf.LSTM(3, 4, seed=0)
    assert part.requires_grad_(False, "weight_ih_l0", "bias_hh_l0") is part
    assert part.frozen == ("weight_ih_l0", "bias_hh_l0")
    before, optimizer = part.state_dict(), getattr(rf, name)(part, lr=0.1, **options)
    fill([part], 0)
    moving = [g.astype(float) for n, g in part.grads.items() if n not in part.frozen]
    kept = part.grads["weight_ih_l0"].copy()
    assert rf.clip_grad_norm_(part, 0.1) == pytest.approx(math.sqrt(sum((g**2).sum() for g in moving)))
    rf.clip_grad_value_(part, 1e-3)
    assert np.array_equal(part.grads["weight_ih_l0"], kept)
    optimizer.step()
    for parameter, value in part.state_dict().items():
        assert np.array_equal(value, before[parameter]) == (parameter in part.frozen), parameter
    assert copy.deepcopy(part).frozen == part.frozen
    part.requires_grad_()
    assert part.frozen == ()


def test_each_chunk_of_gradients_is_squared_by_one_share():
    part = rf.Linear(200, 300, seed=0)
    fill([part], 4)
    norm = rf.clip_grad_norm_(part, math.inf)
    for count in (1, 2, 3, 8):
        shares = np.array([part._core.chunk_squares(share, count) for share in range(count)])
        assert ((shares > 0).sum(axis=0) == 1).all()
        total = 0.0
        for each in shares.sum(axis=0):
            total += each
        assert math.sqrt(total) == norm


@pytest.mark.parametrize(("name", "options"), [*OPTIMIZERS, ("SGD", {})])
def test_step_and_zero_grad_are_the_two_calls_and_leave_zeros_where_they_are(name, options):
    one, other = rf.Embedding(300, 40, seed=0), rf.Embedding(300, 40, seed=0)
    parts = [(each, layers(1)) for each in (one, other)]
    for each, more in parts:
        each.grads["weight"][[3, 4, 250]] = np.random.default_rng(2).normal(size=(3, 40))
        each.grads["weight"][7, 9] = -0.0
        table = each.state_dict()["weight"].copy()
        table[5, :2] = 0.0, -0.0
        each.load_state_dict({"weight": table})
        fill(more, 3)
        more[1].requires_grad_(False)
    models = [[each, *more] for each, more in parts]
    optimizers = [getattr(rf, name)(model, lr=0.1, **options) for model in models]
    optimizers[0].step_and_zero_grad()
    optimizers[1].step()
    optimizers[1].zero_grad()
    for a, b in zip(weights(models[0]), weights(models[1])):
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))
    assert not any(gradient.any() for part in models[0] for gradient in part.grads.values())


def test_a_parameter_that_is_unfrozen_later_restarts_its_means_as_in_torch():
    torch = pytest.importorskip("torch")
    part = rf.Linear(3, 2, seed=0)
    twin = {n: torch.nn.Parameter(torch.from_numpy(v)) for n, v in part.state_dict().items()}
    ours, theirs = rf.Adam(part, lr=0.1), torch.optim.Adam(twin.values(), lr=0.1)
    part.requires_grad_(False, "bias")
    for step in range(4):
        if step == 2:
            part.requires_grad_(True, "bias")
            other = rf.Adam(part, lr=0.1)
            other.load_state_dict(ours.state_dict())  # a state keeps each parameter's count
            ours = other
        fill([part], step)
        for n, gradient in part.grads.items():
            twin[n].grad = None if n in part.frozen else torch.from_numpy(gradient.copy())
        ours.step()
        theirs.step()
    for n, value in part.state_dict().items():
        np.testing.assert_allclose(value, twin[n].detach().numpy(), rtol=1e-6, atol=4 * 0.1 * ADAM)


def test_a_model_is_frozen_by_prefixes_of_names_and_fit_keeps_it_frozen():
    model = rf.LanguageModel(5, hidden_size=4, embedding_size=3, seed=0).requires_grad_(False, "embedding", "rnn")
    before, ids = model.state_dict(), np.arange(40) % 5
    rf.fit(model, ids, epochs=1, batch_size=2, num_steps=4, optimizer="adamw", clip_value=1e-3, progress=False)
    for name, value in model.state_dict().items():
        assert np.array_equal(value, before[name]) == (not name.startswith("output")), name
    with pytest.raises(ValueError, match=r"'emb'.*embedding\.weight"):
        model.requires_grad_(False, "emb")
    with pytest.raises(ValueError, match="every parameter of the model is frozen"):
        rf.fit(model.requires_grad_(False), ids, epochs=1, batch_size=2, num_steps=4)


@pytest.mark.fault("N11")
@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
@pytest.mark.parametrize(
    "betas", [(0.9, 0.999999), (0.99999, 0.999), (0.9, 0.99999999), (0.9999999, 0.9999999), (0.0, 0.0)]
)
def test_the_first_step_is_the_learning_rate_whatever_the_betas(kind, betas):
    part = rf.Linear(4, 4, seed=0)
    part.load_state_dict({n: np.zeros_like(v) for n, v in part.state_dict().items()})
    fill([part], 0)
    getattr(rf, kind)(part, lr=1.0, betas=betas, weight_decay=0.0, eps=0.0).step()
    for value in part.state_dict().values():
        np.testing.assert_allclose(np.abs(value), 1.0, rtol=1e-5)


@pytest.mark.fault("N11")
@pytest.mark.parametrize("beta2", [0.999, 0.9999, 0.999999])
def test_adam_with_a_long_memory_follows_torch(beta2):
    torch = pytest.importorskip("torch")
    part = rf.Linear(5, 4, seed=0)
    twin = {n: torch.nn.Parameter(torch.from_numpy(v)) for n, v in part.state_dict().items()}
    ours, theirs = rf.Adam(part, betas=(0.9, beta2)), torch.optim.Adam(twin.values(), betas=(0.9, beta2))
    for step in range(50):
        fill([part], step)
        for n, gradient in part.grads.items():
            twin[n].grad = torch.from_numpy(gradient.copy())
        ours.step()
        theirs.step()
    for n, value in part.state_dict().items():
        np.testing.assert_allclose(value, twin[n].detach().numpy(), rtol=1e-6, atol=50 * 1e-3 * ADAM)


@pytest.mark.fault("N11")
def test_an_optimizer_accepts_only_states_of_its_own_kind():
    part = rf.Linear(2, 2, seed=0)
    state = rf.Adam(part).state_dict()
    with pytest.raises(ValueError, match="it is of adam, this optimizer is adamw"):
        rf.AdamW(part).load_state_dict(state)
    del state["kind"]  # version 0.1 did not save it
    rf.AdamW(part).load_state_dict(state)
    with pytest.raises(ValueError, match="another optimizer"):
        rf.SGD(part).load_state_dict(state)
    with pytest.raises(ValueError, match="kind"):
        rf.AdamW(part).load_state_dict({**state, "kind": np.array([7.0])})


@pytest.mark.fault("N11")
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    "steps", [[1], [1, 0, 0, 0], [-1, 0, 0], [np.nan, 0, 0], [0.5, 0, 0], [0, 5000, 0], [np.inf, 0, 0], [[1, 0, 0]]]
)
def test_a_bad_count_of_steps_changes_nothing(several, steps):
    parts = layers() if several else layers()[:1]
    optimizer = rf.Adam(parts)
    fill(parts, 0)
    optimizer.step()
    before = optimizer.state_dict()
    bad = {name: np.zeros_like(value) for name, value in before.items()}
    bad["kind"] = before["kind"]
    bad["2.steps" if several else "steps"] = np.array(steps, np.float32)
    with pytest.raises(ValueError, match="steps"):
        optimizer.load_state_dict(bad)
    after = optimizer.state_dict()
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[n], before[n]) for n in before)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_the_state_of_several_layers_resumes_bit_identically(name, options):
    parts = layers()
    optimizer = getattr(rf, name)(parts, lr=0.1, **options)
    for step in range(2):
        fill(parts, step)
        optimizer.step()
    twins = layers()
    for twin, part in zip(twins, parts):
        twin.load_state_dict(part.state_dict())
    resumed = getattr(rf, name)(twins, lr=0.1, **options)
    resumed.load_state_dict(optimizer.state_dict())
    copies, copied = copy.deepcopy((parts, optimizer))
    pickled, unpickled = pickle.loads(pickle.dumps((parts, optimizer)))
    for step in range(2, 4):
        for own, moved in ((parts, optimizer), (twins, resumed), (copies, copied), (pickled, unpickled)):
            fill(own, step)
            moved.step()
    for others in (twins, copies, pickled):
        assert equal(weights(parts), weights(others))
    assert copied.param_groups[0]["lr"] == 0.1
    assert copied.layers[0] is copies[0]
    assert unpickled.layers[2] is pickled[2]


def test_an_optimizer_that_is_copied_alone_has_its_own_model():
    part = rf.Linear(2, 2, seed=0)
    optimizer = rf.SGD(part, lr=0.1)
    twin = copy.deepcopy(optimizer)
    assert optimizer.covers(part)
    assert not twin.covers(part)
    assert not rf.SGD([part, rf.Linear(2, 2)]).covers(part)


ONE = rf.Linear(2, 2, seed=0)
MODEL = rf.LanguageModel(5, hidden_size=4, seed=0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rf.Adam("x"), TypeError, "Adam was given 'x': expected a model or layer"),
        (lambda: rf.Adam(rf.LSTM), TypeError, "the class LSTM"),
        (lambda: rf.Adam([]), ValueError, "Adam was given no layer"),
        (lambda: rf.Adam([ONE, ONE]), ValueError, "the same Linear twice"),
        (lambda: rf.Adam([{"params": ONE}, {"params": [ONE]}]), ValueError, "the same Linear twice"),
        (lambda: rf.Adam(ONE.parameters()), TypeError, "give the layer or model itself"),
        (lambda: rf.Adam(list(ONE.parameters().values())), TypeError, "a ndarray"),
        (lambda: rf.Adam([{"params": ONE, "rate": 1}]), ValueError, "no option 'rate'.*lr, betas, eps, weight_decay"),
        (lambda: rf.Adam([{"params": ONE}, ONE]), TypeError, "a Linear among its groups"),
        (lambda: rf.Adam(ONE, lr=math.nan), ValueError, "lr is nan"),
        (lambda: rf.Adam(ONE, lr=math.inf), ValueError, "lr is inf, expected at least 0 and finite"),
        (lambda: rf.Adam(ONE, lr=1e308), ValueError, "lr is 1e[+]308"),
        (lambda: rf.Adam(ONE, lr="fast"), TypeError, "lr is 'fast', expected a number"),
        (lambda: rf.Adam(ONE, eps=math.nan), ValueError, "eps is nan"),
        (lambda: rf.Adam(ONE, weight_decay=math.inf), ValueError, "weight_decay is inf"),
        (lambda: rf.Adam(ONE, betas=(0.9, math.nan)), ValueError, r"betas\[1\] is nan"),
        (lambda: rf.Adam(ONE, betas=0.9), ValueError, "betas is 0.9, expected two numbers"),
        (lambda: rf.SGD(ONE, momentum=math.nan), ValueError, "momentum is nan"),
        (lambda: rf.SGD(ONE, dampening=math.inf), ValueError, "dampening is inf"),
        (lambda: rf.Adam(ONE).param_groups[0].update(lr=-1), ValueError, "lr is -1"),
        (lambda: rf.Adam(ONE).param_groups[0].update(betas=(0, 0)), ValueError, "betas of a group cannot be changed"),
        (lambda: rf.Adam(ONE).param_groups[0].pop("lr"), ValueError, "lr of a group cannot be deleted"),
        (lambda: setattr(rf.Adam(ONE), "lr", math.nan), ValueError, "lr is nan"),
        (lambda: rf.Adam(ONE).load_state_dict([]), TypeError, "dict of arrays"),
        (lambda: rf.clip_grad_norm_([], 1.0), ValueError, "no layer"),
        (lambda: rf.clip_grad_norm_([ONE, ONE], 1.0), ValueError, "twice"),
        (lambda: rf.clip_grad_norm_(ONE, math.nan), ValueError, "max_norm is nan"),
        (lambda: rf.clip_grad_value_(ONE, None), TypeError, "clip_value is None"),
        (lambda: rf.clip_grad_value_(ONE.grads, 1.0), TypeError, "give the layer or model itself"),
        (lambda: rf.fit(MODEL, np.arange(40) % 5, optimizer=rf.Adam), TypeError, "the class Adam"),
        (lambda: rf.fit(MODEL, np.arange(40) % 5, optimizer=rf.Adam([MODEL, ONE])), ValueError, "another model"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.fault("N10")
def test_the_plateau_schedule_compares_with_the_best_as_torch_does():
    assert ReduceOnPlateau(threshold=0.003, patience=2).factor(9, 9, [100 * 0.998**n for n in range(9)]) == 1
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for _ in range(100):
        threshold, patience = rng.choice([0.0, 0.003, 0.05, 0.3]), int(rng.integers(0, 4))
        steps = rng.normal(-0.01, 0.03, 25) if rng.random() < 0.5 else rng.choice([-0.002, -0.01, 0.0, 0.02], 25)
        perplexities = (100 * np.exp(np.cumsum(steps))).tolist()
        theirs = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            theirs, factor=0.5, patience=patience, threshold=threshold, min_lr=0.01, eps=0
        )
        plan = ReduceOnPlateau(decay=0.5, patience=patience, threshold=threshold, least=0.01)
        for seen in range(1, len(perplexities) + 1):
            scheduler.step(perplexities[seen - 1])
            assert plan.factor(seen, 25, perplexities[:seen]) == theirs.param_groups[0]["lr"]


def test_a_layer_without_parameters_may_stand_among_others_but_not_alone():
    plain = rf.LayerNorm(2, elementwise_affine=False)
    with pytest.raises(ValueError, match="Adam was given no parameters: expected at least one layer that has some"):
        rf.Adam(plain, lr=0.1)
    linear = rf.Linear(2, 2, seed=0)
    optimizer = rf.Adam([plain, linear], lr=0.1)
    linear.grads["weight"] = np.ones((2, 2), np.float32)
    optimizer.step()
    other = rf.Adam([plain, linear], lr=0.1)
    other.load_state_dict(optimizer.state_dict())
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], value)
