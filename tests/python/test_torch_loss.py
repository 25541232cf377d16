"""rnnfast.torch.linear_cross_entropy gives what PyTorch's linear and cross_entropy give."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import torch.nn.functional as F  # noqa: E402

import rnnfast.torch as rft  # noqa: E402


def inputs(rows=(7, 5), size=12, classes=50, bias=True, seed=0):
    torch.manual_seed(seed)
    x = torch.randn(*rows, size, requires_grad=True)
    w = torch.randn(classes, size, requires_grad=True)
    b = torch.randn(classes, requires_grad=True) if bias else None
    return x, w, b, torch.randint(0, classes, rows)


def by_torch(x, w, b, target, **options):
    logits = F.linear(x, w, b)
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), **options)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(1,), (7, 5), (3, 40, 2)])
def test_loss_and_gradients_are_pytorch_s(reduction, bias, rows):
    x, w, b, target = inputs(rows, bias=bias)
    target.view(-1)[::3] = -100
    target.view(-1)[-1] = 1
    leaves = [t for t in (x, w, b) if t is not None]
    want = by_torch(x, w, b, target, reduction=reduction)
    got = rft.linear_cross_entropy(x, w, target, linear_bias=b, reduction=reduction)
    assert torch.allclose(got, want, rtol=1e-5)
    for scale in (1.0, 2.5):
        for a, c in zip(torch.autograd.grad(want * scale, leaves, retain_graph=True),
                        torch.autograd.grad(got * scale, leaves, retain_graph=True)):  # fmt: skip
            assert torch.allclose(a, c, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(rft.linear_cross_entropy(x, w, target, linear_bias=b, reduction=reduction), got)


@pytest.mark.parametrize(
    "options",
    [{"reduction": "none"}, {"label_smoothing": 0.1}, {"weight": torch.linspace(0.5, 2, 50)}, {"ignore_index": 3}],
)
def test_every_option_of_pytorch_s_is_taken(options):
    x, w, b, target = inputs()
    got = rft.linear_cross_entropy(x, w, target, linear_bias=b, **options)
    want = by_torch(x, w, b, target, **options)
    assert torch.allclose(got.flatten(), want, rtol=1e-5)
    assert torch.allclose(*(torch.autograd.grad(t.sum(), w)[0] for t in (got, want)), rtol=1e-4, atol=1e-5)


def test_the_second_derivative_is_pytorch_s():
    x, w, b, target = inputs((6,))
    found = []
    for loss in (by_torch(x, w, b, target), rft.linear_cross_entropy(x, w, target, linear_bias=b)):
        (dx,) = torch.autograd.grad(loss, x, create_graph=True)
        found.append(torch.autograd.grad(dx.square().sum(), w)[0])
    assert torch.allclose(*found, rtol=1e-4, atol=1e-5)


def test_float64_and_torch_func_are_pytorch_s():
    x, w, b, target = (t.detach().double() if t.is_floating_point() else t for t in inputs((6,)))
    assert rft.linear_cross_entropy(x, w, target, linear_bias=b).dtype is torch.float64
    x, w = x.float(), w.float()
    got = torch.func.grad(lambda w: rft.linear_cross_entropy(x, w, target))(w)
    assert torch.allclose(got, torch.func.grad(lambda w: F.cross_entropy(x @ w.T, target))(w), atol=1e-6)


def test_wrong_targets_and_reductions_are_refused():
    x, w, b, target = inputs((6,))
    target[2] = 50
    with pytest.raises(IndexError, match="Target 50 is out of bounds"):
        rft.linear_cross_entropy(x, w, target)
    with pytest.raises(ValueError, match="reduction is 'avg', expected one of mean, sum, none"):
        rft.linear_cross_entropy(x, w, target, reduction="avg")


def test_the_mean_over_no_row_is_not_a_number():
    x, w, _, target = inputs((6,))
    target[:] = -100
    loss = rft.linear_cross_entropy(x, w, target)
    assert torch.isnan(loss)
