"""The layers that networks have besides recurrent ones, against PyTorch and the float64 reference, in networks and on their own."""

from __future__ import annotations

import numpy as np
import pytest
from registered import CLASSES

import rnnfast as rf
from rnnfast.reference import AttentionPooling, BatchNormalization

T, N = 12, 5
LENGTHS = np.array([12, 3, 7, 1, 12])


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def close(actual, wanted, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(wanted), rtol=0, atol=tolerance)


def doubles(layer):
    return {name: value.astype(float) for name, value in layer.state_dict().items()}


def randomize(layer, seed=7):
    values = {n: random(*v.shape, seed=seed) * 0.5 + 1 for n, v in layer.state_dict().items()}
    layer.load_state_dict({n: np.abs(v) if n.endswith("var") else v for n, v in values.items()})
    return layer


@pytest.mark.parametrize("width", [1, 5, 33])
@pytest.mark.parametrize("ragged", [False, True])
def test_batch_normalization_equals_the_float64_reference(width, ragged):
    layer = randomize(rf.BatchNorm1d(width, eps=1e-3, momentum=0.3))
    net = rf.Network(inputs={"x": width}, layers={"norm": layer})
    x, dy = 3 + 2 * random(T, N, width), random(T, N, width, seed=1)
    kept = np.arange(T)[:, None] < (LENGTHS if ragged else T)
    before = doubles(net)
    named = {name.partition(".")[2]: value for name, value in before.items()}
    wanted = BatchNormalization(x.astype(float), named, 1e-3, np.broadcast_to(kept, (T, N)))
    run = net.run(x, lengths=LENGTHS if ragged else None, train=True)
    close(run.outputs["norm"], wanted.y)
    (dx,), _ = (tuple(v.values()) for v in run.backward({"norm": dy}))
    wanted_dx, grads = wanted.backward(dy.astype(float))
    close(dx, wanted_dx)
    for name, value in grads.items():
        close(net.grads[f"norm.{name}"], value, 1e-4)
    after, count = doubles(net), wanted.count
    close(after["norm.running_mean"], 0.7 * before["norm.running_mean"] + 0.3 * wanted.mean)
    close(after["norm.running_var"], 0.7 * before["norm.running_var"] + 0.3 * wanted.variance * count / (count - 1))


def test_batch_normalization_trains_and_evaluates_as_that_of_torch():
    torch = pytest.importorskip("torch")
    twin, layer = torch.nn.BatchNorm1d(6), rf.BatchNorm1d(6)
    layer.load_state_dict(twin.state_dict())
    ours, theirs = rf.SGD(layer, lr=0.1), torch.optim.SGD(twin.parameters(), lr=0.1)
    for step in range(5):
        x, dy = 1 + random(40, 6, seed=step), random(40, 6, seed=step + 9)
        given = torch.tensor(x, requires_grad=True)
        y, backward = layer.forward(x)
        wanted = twin(given)
        wanted.backward(torch.tensor(dy))
        close(y, wanted.detach())
        close(backward(dy), given.grad)
        for optimizer in (ours, theirs):
            optimizer.step()
            optimizer.zero_grad()
    twin.eval()
    x = random(7, 3, 6, seed=20)
    close(layer(x), twin(torch.tensor(x).reshape(-1, 6)).detach().reshape(x.shape))
    for name, value in layer.state_dict().items():
        close(value, twin.state_dict()[name])
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in layer.state_dict().items()})


def test_running_statistics_are_frozen_and_move_only_in_backward():
    net = rf.Sequential(rf.Linear(3, 4, seed=0), rf.BatchNorm1d(4), rf.Linear(4, 2, seed=1))
    assert net.frozen == ()
    net.requires_grad_(True)
    x = random(T, N, 3)
    before = net.state_dict()
    y, backward = net.forward(x)
    np.testing.assert_array_equal(net.parameters()["1.running_mean"], before["1.running_mean"])
    backward(y)
    optimizer = rf.AdamW(net, lr=0.1, weight_decay=0.5)
    moved = net.state_dict()
    assert np.abs(moved["1.running_mean"] - before["1.running_mean"]).min() > 0
    optimizer.step()
    for name, value in net.state_dict().items():
        assert np.array_equal(value, moved[name]) == name.startswith("1.running")


@pytest.mark.parametrize("width", [1, 4, 40])
@pytest.mark.parametrize("ragged", [False, True])
def test_attention_pooling_equals_the_float64_reference(width, ragged):
    layer, x, dy = rf.AttentionPool(width, seed=3), 2 * random(T, N, width), random(N, width, seed=1)
    lengths = LENGTHS if ragged else None
    wanted = AttentionPooling(x.astype(float), doubles(layer), LENGTHS if ragged else np.full(N, T))
    y, backward = layer.forward(x, lengths=lengths)
    close(y, wanted.y)
    np.testing.assert_array_equal(y, layer(x, lengths=lengths))
    wanted_dx, grads = wanted.backward(dy.astype(float))
    close(backward(dy), wanted_dx)
    close(layer.grads["weight"], grads["weight"], 5e-5)


def test_attention_pooling_of_a_row_without_steps_is_zero():
    y, backward = rf.AttentionPool(3, seed=0).forward(random(4, 2, 3), lengths=[0, 2])
    assert not y[0].any()
    dx = backward(np.ones((2, 3)))
    assert not dx[:, 0].any()
    assert not dx[2:].any()


WINDOWS = [
    ("MaxPool1d", {"kernel_size": 2}),
    ("MaxPool1d", {"kernel_size": 3, "stride": 1, "padding": 1}),
    ("MaxPool1d", {"kernel_size": 5, "stride": 3, "padding": 2}),
    ("AvgPool1d", {"kernel_size": 2}),
    ("AvgPool1d", {"kernel_size": 4, "stride": 3, "padding": 2}),
    ("AvgPool1d", {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
]


@pytest.mark.parametrize(("name", "options"), WINDOWS, ids=str)
def test_pooled_windows_are_those_of_torch(name, options):
    torch = pytest.importorskip("torch")
    net = rf.Network(inputs={"x": 3}, layers={"pool": getattr(rf, name)(**options)}, batch_first=True)
    x = random(N, T, 3)
    y, backward = net.forward(x)
    theirs = torch.tensor(x.swapaxes(1, 2).copy(), requires_grad=True)
    wanted = getattr(torch.nn, name)(**options)(theirs)
    dy = random(*y.shape, seed=4)
    wanted.backward(torch.tensor(dy.swapaxes(1, 2).copy()))
    close(y.swapaxes(1, 2), wanted.detach(), 1e-6)
    close(backward(dy).swapaxes(1, 2), theirs.grad, 1e-6)


PLANS = {
    "strided": lambda: [
        rf.Conv1d(3, 6, 3, stride=2, padding=1, groups=3, seed=1),
        rf.ReLU(),
        rf.Conv1d(6, 4, 2, seed=2),
    ],
    "max": lambda: [rf.Linear(3, 4, seed=1), rf.MaxPool1d(3, 2, padding=(2, 0))],
    "mean": lambda: [rf.AvgPool1d(2, 1, padding=(1, 0), count_include_pad=False), rf.Linear(3, 4, seed=1)],
    "attention": lambda: [rf.Conv1d(3, 4, 2, padding="causal", seed=1), rf.AttentionPool(4, seed=2)],
    "norm": lambda: [randomize(rf.BatchNorm1d(3)), rf.Linear(3, 4, seed=1), rf.LogSoftmax()],
    "flatten": lambda: [rf.Flatten(2), rf.Linear(6, 4, seed=1)],
}


@pytest.mark.parametrize("plan", PLANS)
def test_a_row_gives_the_same_bits_alone_and_among_others_of_other_lengths(plan):
    net, x = rf.Sequential(*PLANS[plan]()), random(T, N, 3)
    lengths = np.array([12, 9, 7, 4, 12])
    together = net.run(x, lengths=lengths)
    (y,), (ends,) = together.outputs.values(), together.lengths.values()
    for n, length in enumerate(lengths):
        alone = net(x[:length, n : n + 1])
        if plan == "attention":
            np.testing.assert_array_equal(y[n], alone[0])
            continue
        end = len(y) if ends is None else ends[n]
        assert end == len(alone)
        np.testing.assert_array_equal(y[:end, n], alone[:, 0])
        assert not y[end:, n].any()


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
def test_a_saved_network_gives_the_same_bits(plan, weights, tmp_path):
    net, x = rf.Sequential(*PLANS[plan](), weights=weights), random(T, N, 3)
    net.save(tmp_path / "net.safetensors")
    loaded = rf.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(loaded(x), net(x))
    assert loaded.config == net.config


def test_steps_give_the_bits_of_the_sequence_and_who_cannot_says_why():
    net = rf.Sequential(
        rf.Conv1d(4, 8, 3, padding="causal", groups=2, seed=1), randomize(rf.BatchNorm1d(8)), rf.MaxPool1d(3, 1, "causal"),
        rf.AvgPool1d(2, 1, "causal"), rf.Softplus(), rf.Flatten(1), rf.Softmax(), rf.AttentionPool(8, seed=2), rf.Linear(8, 2, seed=3),
    )  # fmt: skip
    x = random(T, N, 4)
    step = net.stream(N)
    for t in range(T):
        np.testing.assert_array_equal(step(x[t]), net(x[: t + 1]))
    for layer, reason in [
        (rf.Conv1d(4, 2, 2, stride=2), "gives one step for every 2 that it reads"),
        (rf.MaxPool1d(3), "gives one step for every 3"),
        (rf.AvgPool1d(3, 1), "its windows are not causal"),
        (rf.Flatten(4), "gives one step for every 4"),
    ]:
        with pytest.raises(ValueError, match=reason):
            rf.Sequential(rf.Linear(4, 4), layer).stream()


def test_a_fixed_number_of_steps_flattens_as_in_torch():
    x = random(T, N, 3)
    y = rf.Network(inputs={"x": 3}, layers={"flat": rf.Flatten(T), "last": rf.Pool("last")})(x)
    np.testing.assert_array_equal(y, x.swapaxes(0, 1).reshape(N, -1))
    assert rf.Sequential(rf.Linear(3, 2, seed=0), rf.Flatten(5))(x).shape == (2, N, 10)


def test_a_summary_shows_widths_and_counts_operations():
    net = rf.Sequential(
        rf.Conv1d(4, 6, 3, groups=2, seed=0), rf.BatchNorm1d(6), rf.Flatten(2), rf.Linear(12, 1, seed=1)
    )
    lines = net.summary().splitlines()
    assert "(T, N, 12)" in lines[3]
    assert lines[1].split()[-2:] == ["42", "72"]
    assert lines[2].split()[-2:] == ["24", "0"]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: rf.BatchNorm1d(0), "num_features is 0"),
        (lambda: rf.BatchNorm1d(3, eps=2), "eps is 2, expected a number from 0 to below 1"),
        (lambda: rf.BatchNorm1d(3, momentum=1.5), "momentum is 1.5, expected a number from 0 to 1"),
        (lambda: rf.BatchNorm1d(3)(np.zeros((2, 4))), r"expected \(..., 3\)"),
        (lambda: rf.BatchNorm1d(3).forward(np.zeros((1, 3))), "two or more to train"),
        (lambda: rf.BatchNorm1d(3).forward(np.zeros((2, 3)))[1](np.zeros((3, 3))), "gradient of the output has shape"),
        (lambda: rf.AttentionPool(3)(np.zeros((2, 3))), r"expected \(T, N, 3\)"),
        (lambda: rf.AttentionPool(-1), "width is -1"),
        (lambda: rf.MaxPool1d(0), "kernel_size is 0"),
        (lambda: rf.MaxPool1d(3, padding=3), "padding is 3"),
        (lambda: rf.AvgPool1d(3, padding=(1, 1, 1)), "padding has 3 numbers"),
        (lambda: rf.AvgPool1d(3, padding="same"), "padding is 'same'"),
        (lambda: rf.Flatten(0), "steps is 0"),
    ],
)
def test_layers_refuse_what_they_cannot_be(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_negative_variance_is_refused(tmp_path):
    net = rf.Sequential(rf.BatchNorm1d(2), rf.Linear(2, 1, seed=0))
    net.load_state_dict({"0.running_var": [1.0, -2.0]}, strict=False)
    with pytest.raises(ValueError, match=r"running_var\[1\] is -2.0+: expected a variance"):
        net(np.zeros((3, 1, 2), np.float32))


def test_a_stream_refuses_a_c_for_a_layer_that_has_none():
    step = rf.Sequential(rf.GRU(2, 3, seed=0)).stream()
    h = np.zeros((1, 1, 3), np.float32)
    with pytest.raises(ValueError, match="has a c, but the layer has only h"):
        step.state = {"0": (h, h)}


@pytest.mark.parametrize("cell", CLASSES)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_gradients_of_ids_have_the_same_bits_for_few_ids_and_for_many(cell, threads):
    # Columns of few ids that occur often are added in another memory order than those of many.
    few, many = (
        rf.Network(inputs={"x": {"ids": size}}, layers={"rnn": (cell(size, 37, seed=1), "x")}) for size in (7, 40)
    )
    cut = {name: w[:, :7].copy() if "weight_ih" in name else w for name, w in many.state_dict().items()}
    few.load_state_dict(cut)
    rng = np.random.default_rng(0)
    before = rf.get_num_threads()
    try:
        rf.set_num_threads(threads)
        for T, N in ((10, 5), (12, 9)):  # the second batch adds to the gradients of the first
            ids, dy = rng.integers(0, 7, (T, N)), rng.normal(size=(T, N, 37)).astype(np.float32)
            for net in (few, many):
                _, backward = net.forward(ids, lengths=[T - n % 3 for n in range(N)])
                backward(dy)
    finally:
        rf.set_num_threads(before)
    for name, gradient in few.grads.items():
        wanted = many.grads[name][:, :7] if "weight_ih" in name else many.grads[name]
        assert np.array_equal(gradient, wanted), name
