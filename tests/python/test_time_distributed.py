"""Layers inside each step, reflected steps and magnitudes: the float64 reference, PyTorch, streams, files and errors."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.reference import Convolution, Magnitudes, Reflection, StepsInside

T, N = 6, 5
LENGTHS = np.array([6, 3, 4, 1, 0])


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def close(actual, wanted, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(wanted), rtol=0, atol=tolerance)


def spectra(steps=20):
    """Frames of samples to spectra, as speech detectors have them."""
    return rf.TimeDistributed(
        rf.ReflectionPad1d((1, 4)), rf.Conv1d(1, 6, 8, stride=4, bias=False, seed=1), rf.Magnitude(),
        rf.Conv1d(3, 5, 3, padding=1, seed=2), rf.ReLU(), steps=steps,
    )  # fmt: skip


def chain(**options):
    return rf.Sequential(spectra(), rf.LSTM(25, 8, seed=3), rf.Linear(8, 2, seed=4), seed=5, **options)


def test_a_network_of_frames_equals_the_float64_reference():
    net, x = rf.Sequential(spectra()), random(T, N, 20)
    weights = {name: value.astype(float) for name, value in net.state_dict().items()}
    y, backward = net.forward(x)
    inner = StepsInside(x.astype(float), 20)
    padded = Reflection(inner.y, 1, 4)
    basis = Convolution(padded.y, weights["0.1.weight"], 0, before=0, after=0, dilation=1, stride=4)
    sizes = Magnitudes(basis.y)
    conv = Convolution(sizes.y, weights["0.3.weight"], weights["0.3.bias"], before=1, after=1, dilation=1)
    close(y, inner.joined(np.maximum(conv.y, 0)))
    dy = random(*y.shape, seed=1)
    dconv, grads = conv.backward(inner.split(dy.astype(float), 5) * (conv.y > 0))
    dbasis, first = basis.backward(sizes.backward(dconv))
    close(backward(dy), inner.joined(padded.backward(dbasis)))
    close(net.grads["0.1.weight"], first["weight"], 5e-5)
    for name in ("weight", "bias"):
        close(net.grads[f"0.3.{name}"], grads[name], 5e-5)


def test_outputs_and_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net, x = rf.Sequential(spectra()), random(T, N, 20)
    basis, conv = torch.nn.Conv1d(1, 6, 8, stride=4, bias=False), torch.nn.Conv1d(3, 5, 3, padding=1)
    for module, prefix in ((basis, "0.1."), (conv, "0.3.")):
        state = {n[len(prefix) :]: torch.tensor(v) for n, v in net.state_dict().items() if n.startswith(prefix)}
        module.load_state_dict(state)
    given = torch.tensor(x, requires_grad=True)
    parts = basis(torch.nn.ReflectionPad1d((1, 4))(given.reshape(T * N, 1, 20)))
    wanted = conv(torch.complex(parts[:, :3], parts[:, 3:]).abs()).relu().transpose(1, 2).reshape(T, N, -1)
    y, backward = net.forward(x)
    dy = random(*y.shape, seed=1)
    wanted.backward(torch.tensor(dy))
    close(y, wanted.detach())
    close(backward(dy), given.grad)
    for module, prefix in ((basis, "0.1."), (conv, "0.3.")):
        for name, value in module.named_parameters():
            close(net.grads[prefix + name], value.grad, 5e-5)


@pytest.mark.parametrize("before", [0, 2, 5])
@pytest.mark.parametrize("after", [0, 3])
def test_reflected_steps_are_those_of_torch(before, after):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net, x = rf.Network(inputs={"x": 3}, layers={"y": rf.ReflectionPad1d((before, after))}), random(T, N, 3)
    y, backward = net.forward(x)
    given = torch.tensor(x.transpose(1, 2, 0).copy(), requires_grad=True)
    wanted = torch.nn.ReflectionPad1d((before, after))(given)
    np.testing.assert_array_equal(y, wanted.detach().numpy().transpose(2, 0, 1))
    dy = random(*y.shape, seed=1)
    wanted.backward(torch.tensor(dy.transpose(1, 2, 0).copy()))
    close(backward(dy), given.grad.numpy().transpose(2, 0, 1), 1e-6)


def test_rows_are_reflected_at_their_own_ends():
    net, x = rf.Network(inputs={"x": 2}, layers={"y": rf.ReflectionPad1d((2, 1))}), random(T, N, 2)
    run = net.run(x, lengths=LENGTHS, train=True)
    assert run.lengths["y"].tolist() == [9, 6, 7, 0, 0]
    for n, length in enumerate(LENGTHS):
        if length > 2:
            np.testing.assert_array_equal(run.outputs["y"][: length + 3, n], net(x[:length, n]))
        assert not run.outputs["y"][run.lengths["y"][n] :, n].any()
    (dx,), _ = (tuple(v.values()) for v in run.backward({"y": np.ones_like(run.outputs["y"])}))
    assert dx.sum((0, 2)).tolist() == [18, 12, 14, 0, 0]


def test_the_magnitude_of_zero_has_the_gradient_zero():
    net, x = rf.Network(inputs={"x": 4}, layers={"y": rf.Magnitude()}), random(T, N, 4)
    x[0] = 0
    y, backward = net.forward(x)
    dx = backward(np.ones_like(y))
    assert not dx[0].any()
    close(dx[1:], x[1:] / np.concatenate([y, y], 2)[1:], 1e-6)


@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
@pytest.mark.parametrize("rows", [1, 3])
def test_steps_and_a_saved_network_give_the_bits_of_the_sequence(weights, rows, tmp_path):
    inside = rf.TimeDistributed(
        rf.LayerNorm(2),
        rf.Linear(2, 3, seed=1),
        rf.MaxPool1d(2, 1),
        rf.Flatten(3),
        rf.SiLU(),
        rf.Pool("mean"),
        steps=10,
    )
    last = rf.Linear(4, 20, seed=3)
    net = rf.Sequential(inside, rf.GRU(9, 4, seed=2, weights=weights), last, spectra(), seed=0, weights=weights)
    x = random(300, rows, 20)  # more than runs in one block
    y, step = net(x), net.stream(rows)
    for t in range(4):
        np.testing.assert_array_equal(step(x[t]), y[t])
    net.save(tmp_path / "net.safetensors")
    loaded = rf.load(tmp_path / "net.safetensors")
    assert loaded.config == net.config
    np.testing.assert_array_equal(loaded(x), y)
    np.testing.assert_array_equal(copy.deepcopy(net)(x), y)


def test_a_row_gives_the_same_bits_alone_and_in_training_on_any_number_of_threads():
    x, dy = random(T, N, 20), random(T, N, 2, seed=1)
    found, before = [], rf.get_num_threads()
    for threads in (1, 2, 3):
        rf.set_num_threads(threads)
        net = chain()
        run = net.run(x, lengths=LENGTHS, train=True)
        (dx,), _ = (tuple(v.values()) for v in run.backward({"2": dy}))
        found.append([run.outputs["2"], dx, *net.grads.values()])
    rf.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other):
            np.testing.assert_array_equal(a, b)
    for n, length in enumerate(LENGTHS[:4]):
        np.testing.assert_array_equal(found[0][0][:length, n], net(x[:length, n]))
        assert not found[0][0][length:, n].any()
        assert not found[0][1][length:, n].any()


def test_batch_normalization_inside_steps_counts_no_padding():
    layer = rf.TimeDistributed(rf.BatchNorm1d(3, momentum=1), steps=2)
    net, x = rf.Network(inputs={"x": 6}, layers={"y": layer}), 3 + random(T, N, 6)
    run = net.run(x, lengths=LENGTHS, train=True)
    run.backward({"y": run.outputs["y"]})
    kept = x[np.arange(T)[:, None] < LENGTHS].reshape(-1, 3)
    close(net.parameters()["y.0.running_mean"], kept.mean(0))
    close(net.parameters()["y.0.running_var"], kept.var(0, ddof=1))


def test_it_trains_with_fit_and_groups_of_rows():
    x = random(4, 64, 20)
    y = np.abs(x).mean(2)
    net = rf.Sequential(spectra(), rf.GRU(25, 8, seed=3), rf.Linear(8, 1, seed=4), seed=5)
    before = rf.evaluate(net, (x, y), loss="mse").loss
    rf.fit(net, (x, y), loss="mse", epochs=20, batch_size=16, lr=1e-2, seed=0)
    assert rf.evaluate(net, (x, y), loss="mse").loss < before / 4
    whole = rf.per_sample_gradients(net, (x[:, :3], y[:, :3]), loss="mse")
    for n in range(3):
        alone = rf.per_sample_gradients(net, (x[:, n : n + 1], y[:, n : n + 1]), loss="mse")
        for name, gradient in alone.items():
            np.testing.assert_array_equal(whole[name][n], gradient[0])


def test_a_summary_counts_inner_steps_and_the_network_shows_it():
    lines = chain().summary().splitlines()
    assert "(T, N, 25)" in lines[1]
    assert lines[1].split()[-2:] == ["98", "930"]  # 5 inner steps of 2 (48 + 45)
    assert repr(rf.TimeDistributed(rf.ReLU(), steps=2)) == "TimeDistributed(ReLU(), steps=2)"
    assert "0: time_distributed" in repr(chain())


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: rf.TimeDistributed(steps=2), ValueError, "has no layers"),
        (lambda: rf.TimeDistributed(rf.ReLU(), steps=0), ValueError, "steps is 0"),
        (lambda: rf.TimeDistributed(3, steps=2), TypeError, "cannot be inside a TimeDistributed"),
        (lambda: rf.TimeDistributed(rf.Residual(rf.ReLU()), steps=2), TypeError, "cannot be inside"),
        (
            lambda: rf.TimeDistributed(rf.Conv1d(1, 4, 2), rf.Linear(5, 1), steps=4),
            ValueError, r"layer 1, Linear.* reads 5 numbers a step, but the one before it gives 4",
        ),
        (lambda: rf.TimeDistributed(rf.Conv1d(1, 4, 6), steps=4), ValueError, "needs more than the 4 steps it reads"),
        (
            lambda: rf.Sequential(rf.Linear(7, 7), rf.TimeDistributed(rf.ReLU(), steps=2)),
            ValueError, "reads 7 numbers a step, expected a multiple of 2, its steps",
        ),
        (
            lambda: rf.Sequential(rf.TimeDistributed(rf.Linear(2, 2), rf.GRU(2, 2), steps=2)),
            ValueError, "its layer 1: cannot run inside a step; dropout, recurrent and attention layers stand",
        ),
        (lambda: rf.Sequential(rf.Linear(4, 40), spectra()), ValueError, "reads 20 numbers a step, but '0' has 40"),
        (lambda: rf.Sequential(rf.Linear(4, 3), rf.Magnitude()), ValueError, "expected an even count"),
        (lambda: rf.ReflectionPad1d(-1), ValueError, "padding is -1"),
        (lambda: rf.ReflectionPad1d((1, 2, 3)), ValueError, "padding has 3 numbers"),
        (
            lambda: rf.Sequential(rf.Linear(2, 2), rf.ReflectionPad1d(4))(random(4, 1, 2)),
            ValueError, "needs more than the 4 steps it reads",
        ),
        (lambda: rf.Sequential(rf.Linear(2, 2), rf.ReflectionPad1d(4)).stream(), ValueError, "at the ends of a sequence"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()
