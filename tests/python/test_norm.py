"""LayerNorm and RMSNorm against the float64 reference, torch, and itself."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.reference import Normalization

SHAPES = [(1, 1, 1), (7, 2, 3), (5, 16), (33,), (4, 3, 2, 65), (130, 5, 203), (300, 20, 512)]
KINDS = {
    "layer": (rf.LayerNorm, {}),
    "layer without bias": (rf.LayerNorm, {"bias": False}),
    "plain layer": (rf.LayerNorm, {"elementwise_affine": False}),
    "rms": (rf.RMSNorm, {}),
    "plain rms": (rf.RMSNorm, {"elementwise_affine": False}),
}
BOTH = pytest.mark.parametrize("norm", [rf.LayerNorm, rf.RMSNorm])


def random(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def layer_of(size, norm=rf.LayerNorm, **options):
    layer = norm(size, **options)
    layer.load_state_dict({name: random(value.shape, 5) for name, value in layer.state_dict().items()})
    return layer


def close(actual, expected, what):
    """Within 2e-5 of the largest value: float32 rounding of sums of a few thousand terms."""
    assert np.shape(actual) == np.shape(expected), what
    error = np.abs(np.asarray(actual, np.float64) - expected).max() / max(np.abs(expected).max(), 1e-3)
    assert error < 2e-5, f"{what}: relative error {error:.2e}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_normalization_and_its_gradients_equal_the_float64_reference(shape, kind):
    norm, options = KINDS[kind]
    layer, x, dy = layer_of(shape[-1], norm, eps=1e-3, **options), random(shape, 0) + 3, random(shape, 1)
    weights = {name: value.astype(np.float64) for name, value in layer.state_dict().items()}
    expected = Normalization(x.astype(np.float64), weights, 1e-3, norm is rf.LayerNorm)
    y, backward = layer.forward(x)
    dx, grads = expected.backward(dy.astype(np.float64))
    close(y, expected.y, "y")
    close(backward(dy), dx, "dx")
    assert set(layer.grads) == set(grads)
    for name, value in grads.items():
        close(layer.grads[name], value, name)
    np.testing.assert_array_equal(layer(x), y)


@pytest.mark.parametrize("kind", KINDS)
def test_normalization_is_torch_s(kind):
    torch = pytest.importorskip("torch")
    norm, options = KINDS[kind]
    theirs, ours = getattr(torch.nn, norm.__name__)(21, **options), norm(21, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for value in theirs.parameters():
        value.data.copy_(torch.from_numpy(random(value.shape, 5)))
    ours.load_state_dict(theirs.state_dict())
    x, dy = random((6, 3, 21), 0), random((6, 3, 21), 1)
    inputs = torch.tensor(x, requires_grad=True)
    expected = theirs(inputs)
    expected.backward(torch.tensor(dy))
    y, backward = ours.forward(x)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(backward(dy), inputs.grad.numpy(), rtol=1e-4, atol=1e-5)
    for name, value in theirs.named_parameters():
        np.testing.assert_allclose(ours.grads[name], value.grad.numpy(), rtol=1e-4, atol=1e-5)


@BOTH
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_own_row_as_in_torch(norm, bad):
    x = random((4, 40), 0)
    x[2, 7] = bad
    layer = layer_of(40, norm)
    y, backward = layer.forward(x)
    dx = backward(np.ones_like(x))
    others = [0, 1, 3]
    assert np.isnan(y[2, 7])
    assert np.isnan(dx[2]).all()
    np.testing.assert_array_equal(y[others], layer(x[others]))
    assert np.isfinite(dx[others]).all()
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(np.isnan(y), getattr(torch.nn, norm.__name__)(40)(torch.tensor(x)).isnan().numpy())


def test_rows_that_are_constant_or_huge_stay_finite():
    layer = rf.LayerNorm(5)
    assert np.abs(layer(np.full((2, 5), 0.25))).max() == 0
    assert np.isfinite(layer(random((3, 5), 0) * 1e30)).all()
    y, backward = rf.LayerNorm(1, eps=1.0).forward([[2.0], [5.0]])
    assert y.tolist() == [[0.0], [0.0]]
    assert backward([[1.0], [1.0]]).tolist() == [[0.0], [0.0]]
    assert rf.RMSNorm(2)(np.zeros((1, 2))).tolist() == [[0.0, 0.0]]
    assert rf.RMSNorm(1, eps=0).forward([[2.0], [-5.0]])[0].tolist() == [[1.0], [-1.0]]


@pytest.mark.parametrize("shape", [(0, 6), (0, 2, 6), (3, 0, 6)])
def test_a_batch_without_rows_has_an_output_without_rows(shape):
    layer = layer_of(6)
    y, backward = layer.forward(np.zeros(shape))
    assert y.shape == shape
    assert backward(y).shape == shape
    assert not any(grad.any() for grad in layer.grads.values())


@BOTH
def test_a_row_does_not_depend_on_the_rows_beside_it_or_on_threads(norm):
    layer, x, dy = layer_of(300, norm), random((900, 300), 0), random((900, 300), 1)
    results, before = [], rf.get_num_threads()
    for threads in (1, 2, 3):
        rf.set_num_threads(threads)
        layer.zero_grad()
        y, backward = layer.forward(x)
        results.append([y, backward(dy), *(np.array(g) for g in layer.grads.values())])
    rf.set_num_threads(before)
    for result in results[1:]:
        for a, b in zip(results[0], result):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(np.stack([layer(row) for row in x[:9]]), results[0][0][:9])  # one step at a time


@BOTH
@pytest.mark.parametrize("optimizer", [rf.SGD, rf.Adam, rf.AdamW])
def test_optimizers_train_it(norm, optimizer):
    layer, x, target = norm(8), random((20, 8), 0), random((20, 8), 1)
    step, losses = optimizer(layer, lr=0.05), []
    for _ in range(30):
        y, backward = layer.forward(x)
        losses.append(float(((y - target) ** 2).mean()))
        layer.zero_grad()
        backward(2 * (y - target) / target.size)
        step.step()
    assert losses[-1] < losses[0]
    _, backward = layer.forward(x)
    step.step()
    with pytest.raises(ValueError, match="call forward again"):
        backward(x)


def test_without_parameters_there_is_nothing_to_train_or_to_load():
    layer = rf.LayerNorm(4, elementwise_affine=False)
    assert layer.state_dict() == {}
    layer.load_state_dict({})
    y, backward = layer.forward(random((3, 4), 0))
    assert backward(np.ones_like(y)).shape == (3, 4)
    rf.Adam([layer, rf.Linear(2, 2)]).step()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(y), layer(y))


def test_gradients_add_up_and_the_input_may_change():
    layer, x, dy = layer_of(9), random((5, 9), 0), random((5, 9), 1)
    kept = x.copy()
    _, backward = layer.forward(x)
    x[:] = 0
    first = backward(dy)
    once = {name: np.array(grad) for name, grad in layer.grads.items()}
    _, backward = layer.forward(kept)
    np.testing.assert_array_equal(backward(dy), first)
    for name, grad in layer.grads.items():
        np.testing.assert_allclose(grad, 2 * once[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rf.LayerNorm(0), ValueError, "normalized_size is 0"),
        (lambda: rf.LayerNorm(2.5), TypeError, "normalized_size is 2.5"),
        (lambda: rf.LayerNorm(3, eps=-1.0), ValueError, "eps is -1.0"),
        (lambda: rf.LayerNorm(3, eps=float("nan")), ValueError, "eps is nan"),
        (lambda: rf.LayerNorm(3, eps="small"), TypeError, "eps"),
        (lambda: rf.RMSNorm(0), ValueError, "normalized_size is 0"),
        (lambda: rf.RMSNorm(3, eps=-1.0), ValueError, "eps is -1.0"),
        (lambda: rf.LayerNorm(3)(np.zeros((2, 4))), ValueError, r"expected \(..., 3\) \(normalized_size\)"),
        (lambda: rf.LayerNorm(3)(1.0), ValueError, "normalized_size"),
        (lambda: rf.LayerNorm(3).forward(np.zeros((2, 3)))[1](np.zeros((3, 3))), ValueError, "gradient of the output"),
    ],
)
def test_wrong_arguments_are_refused_with_what_was_wanted(call, error, message):
    with pytest.raises(error, match=message):
        call()
