"""rnnfast.torch.MultiheadAttention beside PyTorch's: outputs, gradients, masks, and what goes to PyTorch."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import rnnfast.torch as rft  # noqa: E402
from rnnfast.torch import attention, operator  # noqa: E402

CAUSAL = nn.Transformer.generate_square_subsequent_mask


def pair(dim=48, heads=4, seed=0, **options):
    """PyTorch's layer with biases that are not zero, and the same layer accelerated."""
    torch.manual_seed(seed)
    plain = nn.MultiheadAttention(dim, heads, **options).eval()
    for name, weight in plain.named_parameters():
        if "bias" in name:
            nn.init.normal_(weight)
    return plain, rft.accelerate(copy.deepcopy(plain))


@pytest.fixture
def calls(monkeypatch):
    """What ran on the core."""
    found = []
    for name in ("forward", "backward"):
        own = getattr(attention.AttentionCall, name)

        def counted(self, *given, _own=own, _name=name, **named):
            found.append(_name)
            return _own(self, *given, **named)

        monkeypatch.setattr(attention.AttentionCall, name, counted)
    return found


def padding_of(lengths, steps):
    return torch.arange(steps) >= torch.tensor(lengths)[:, None]


def results(layer, x, dy, **given):
    """y and all gradients."""
    layer.zero_grad()
    x = x.clone().requires_grad_(True)
    y = layer(x, x, x, need_weights=False, **given)[0]
    y.backward(dy)
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


def assert_equal(ours, theirs, tolerance=1e-5):
    for a, b in zip(ours, theirs):
        assert a.shape == b.shape
        scale = max(1.0, float(b.abs().max()))
        np.testing.assert_allclose(a.numpy() / scale, b.numpy() / scale, atol=tolerance)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mask", ["none", "causal", "padding", "both"])
@pytest.mark.parametrize(("steps", "rows", "dim", "heads"), [(1, 1, 8, 1), (37, 3, 48, 4), (150, 2, 66, 3)])
def test_outputs_and_gradients_are_pytorchs_in_float64(calls, bias, batch_first, mask, steps, rows, dim, heads):
    plain, fast = pair(dim, heads, bias=bias, batch_first=batch_first)
    shape = (rows, steps, dim) if batch_first else (steps, rows, dim)
    x, dy = torch.randn(shape), torch.randn(shape)
    given, exact = {}, {}
    if mask in ("causal", "both"):
        given["attn_mask"], exact["attn_mask"] = CAUSAL(steps), CAUSAL(steps, dtype=torch.float64)
    if mask in ("padding", "both"):
        hidden = padding_of([max(1, steps - 5 * row) for row in range(rows)], steps)
        floats = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)
        given["key_padding_mask"] = floats if mask == "both" else hidden
        exact["key_padding_mask"] = floats.double() if mask == "both" else hidden
    ours = results(fast, x, dy, **given)
    assert calls == ["forward", "backward"]
    assert_equal(ours, results(copy.deepcopy(plain).double(), x.double(), dy.double(), **exact))
    with torch.no_grad():
        fast_y = fast(x, x, x, need_weights=False, **given)[0]
    assert torch.equal(fast_y, ours[0])


@pytest.mark.parametrize("hint", [True, False])
def test_a_causal_mask_may_be_of_booleans_and_hinted(calls, hint):
    plain, fast = pair()
    x, mask = torch.randn(9, 2, 48), torch.ones(9, 9, dtype=torch.bool).triu(1)
    theirs = plain(x, x, x, need_weights=False, attn_mask=mask, is_causal=hint)[0]
    ours = fast(x, x, x, need_weights=False, attn_mask=mask, is_causal=hint)[0]
    assert calls == ["forward"]
    assert_equal([ours.detach()], [theirs.detach()])


def test_one_sequence_without_a_batch(calls):
    plain, fast = pair()
    x = torch.randn(9, 48)
    hidden = padding_of([7], 9)[0]
    ours = fast(x, x, x, need_weights=False, key_padding_mask=hidden)[0]
    assert calls == ["forward"]
    assert_equal([ours.detach()], [plain(x, x, x, need_weights=False, key_padding_mask=hidden)[0].detach()])


def other_mask():
    mask = torch.zeros(6, 6)
    mask[2, 4] = -1.5
    return mask


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({}, {"need_weights": True}),
        ({}, {"attn_mask": other_mask()}),
        ({}, {"attn_mask": CAUSAL(6).requires_grad_(True)}),
        ({}, {"attn_mask": torch.zeros(8, 6, 6)}),
        ({}, {"key_padding_mask": torch.tensor([[True] + 5 * [False], 6 * [False]])}),
        ({"add_zero_attn": True}, {}),
        ({"add_bias_kv": True}, {}),
        ({"kdim": 48, "vdim": 48}, {}),
    ],
    ids=["weights", "mask", "learned mask", "mask of heads", "padding in front", "zero", "bias_kv", "kdim"],
)
def test_everything_else_goes_to_pytorch(calls, options, given):
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(48, 4, **options)
    fast = copy.deepcopy(plain)
    fast.__class__ = rft.MultiheadAttention
    x = torch.randn(6, 2, 48)
    given = {"need_weights": False, **given}
    theirs, ours = plain(x, x, x, **given), fast(x, x, x, **given)
    if options.get("kdim"):  # equal sizes are one matrix in PyTorch too
        assert calls == ["forward"]
    else:
        assert calls == []
        assert torch.equal(ours[0], theirs[0])
    assert (ours[1] is None) == (theirs[1] is None)


def test_cross_attention_other_types_and_dropout_go_to_pytorch(calls):
    plain, fast = pair(dropout=0.5)
    x, memory = torch.randn(6, 2, 48), torch.randn(7, 2, 48)
    ours, theirs = (m.eval()(x, memory, memory, need_weights=False)[0] for m in (fast, plain))
    assert torch.equal(ours, theirs)
    torch.manual_seed(1)
    theirs = plain.train()(x, x, x, need_weights=False)[0]
    torch.manual_seed(1)
    assert torch.equal(fast.train()(x, x, x, need_weights=False)[0], theirs)
    double = copy.deepcopy(fast).double().eval()
    double(x.double(), x.double(), x.double(), need_weights=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast.eval()(x, x, x, need_weights=False)[0].dtype == torch.bfloat16
    assert calls == []
    fast(x, x, x, need_weights=False)
    assert calls == ["forward"]


def test_pytorchs_errors_stay_its_errors():
    plain, fast = pair()
    for given in [(torch.randn(6, 2, 47), {}), (torch.randn(6, 2, 48), {"is_causal": True}), (torch.randn(48), {})]:
        x, options = given
        with pytest.raises((RuntimeError, AssertionError)) as theirs:
            plain(x, x, x, need_weights=False, **options)
        with pytest.raises(type(theirs.value)) as ours:
            fast(x, x, x, need_weights=False, **options)
        assert str(ours.value) == str(theirs.value)


def test_rows_that_see_nothing_are_nan_as_in_pytorch(calls):
    plain, fast = pair()
    x, hidden = torch.randn(6, 2, 48), padding_of([0, 6], 6)
    ours, theirs = (m(x, x, x, key_padding_mask=hidden, need_weights=False)[0] for m in (fast, plain))
    assert calls == []
    assert torch.equal(ours.isnan(), theirs.isnan())


def test_same_bits_on_any_number_of_threads():
    _, fast = pair(64, 4)
    x, dy = torch.randn(70, 5, 64), torch.randn(70, 5, 64)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(results(fast, x, dy, attn_mask=CAUSAL(70)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))
    alone = results(fast, x[:, :1], dy[:, :1], attn_mask=CAUSAL(70))
    assert torch.equal(alone[0], found[0][0][:, :1])


def test_a_layer_in_the_core_has_the_same_bits():
    """rnnfast's own SelfAttention with the same weights."""
    import rnnfast as rf

    _, fast = pair(64, 4)
    own = rf.SelfAttention(64, 4, causal=True)
    own.load_state_dict({name: weight.detach().numpy() for name, weight in fast.state_dict().items()})
    x = torch.randn(40, 3, 64)
    with torch.no_grad():
        y = fast(x, x, x, need_weights=False, attn_mask=CAUSAL(40))[0]
    np.testing.assert_array_equal(own(x.numpy()), y.numpy())


def test_frozen_weights_are_packed_once_and_loads_are_seen(calls):
    plain, _ = pair()
    fast = rft.accelerate(copy.deepcopy(plain), frozen=True)
    x = torch.randn(9, 2, 48)
    with torch.inference_mode():
        first = fast(x, x, x, need_weights=False)[0]
        packed = fast.__dict__["_rnnfast"].packed[0]
        causal = fast(x, x, x, need_weights=False, attn_mask=CAUSAL(9))[0]
        assert torch.equal(fast(x, x, x, need_weights=False)[0], first)
        assert fast.__dict__["_rnnfast"].packed[0] is packed
        assert_equal([causal], [plain(x, x, x, need_weights=False, attn_mask=CAUSAL(9))[0]])
    fast.load_state_dict({name: 2 * weight for name, weight in plain.state_dict().items()})
    with torch.inference_mode():
        assert not torch.equal(fast(x, x, x, need_weights=False)[0], first)
    assert len(calls) == 4


def test_writes_that_pytorch_does_not_count_are_seen_without_frozen():
    _, fast = pair()
    x = torch.randn(9, 2, 48)
    with torch.no_grad():
        first = fast(x, x, x, need_weights=False)[0].clone()
        fast.out_proj.weight.data.numpy()[:] *= 2
        assert not torch.equal(fast(x, x, x, need_weights=False)[0], first)


def test_only_the_gradients_that_are_wanted(calls):
    plain, fast = pair()
    x = torch.randn(9, 2, 48)
    for layer in (plain, fast):
        layer.in_proj_weight.requires_grad_(False)
        layer.out_proj.bias.requires_grad_(False)
        layer(x, x, x, need_weights=False)[0].square().sum().backward()
    assert fast.in_proj_weight.grad is None
    assert fast.out_proj.bias.grad is None
    assert_equal(
        [fast.in_proj_bias.grad, fast.out_proj.weight.grad], [plain.in_proj_bias.grad, plain.out_proj.weight.grad]
    )
    assert calls == ["forward", "backward"]


def test_a_graph_that_is_kept_and_one_that_is_differentiated_twice():
    plain, fast = pair(16, 2)
    found = []
    hidden = padding_of([5, 3], 5)
    floats = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)
    for layer, weights in ((fast, False), (plain, True)):  # PyTorch's fused operator is differentiable once
        x = torch.linspace(-1, 1, 5 * 2 * 16).reshape(5, 2, 16).requires_grad_(True)
        y = layer(x, x, x, need_weights=weights, attn_mask=CAUSAL(5), key_padding_mask=floats)[0].square().sum()
        (once,) = torch.autograd.grad(y, x, retain_graph=True)
        (again,) = torch.autograd.grad(y, x, create_graph=True)
        assert torch.allclose(once, again, atol=1e-5)
        found.append([once, torch.autograd.grad(again.square().sum(), x)[0]])
    assert_equal(*found)


def test_a_change_in_place_before_backward_raises():
    _, fast = pair()
    x = torch.randn(9, 2, 48)
    y = fast(x, x, x, need_weights=False)[0].sum()
    with torch.no_grad():
        fast.out_proj.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.parametrize("batch_first", [True, False])
def test_transformer_encoders_train_and_run(calls, batch_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=batch_first)
    plain = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    fast = rft.accelerate(copy.deepcopy(plain))
    x = torch.randn(3, 11, 32) if batch_first else torch.randn(11, 3, 32)
    found = []
    for model in (fast, plain):
        y = model(x, mask=CAUSAL(11))
        y.square().sum().backward()
        found.append([y.detach(), *(p.grad for p in model.parameters())])
    assert calls == 2 * ["forward"] + 2 * ["backward"]
    assert_equal(*found, tolerance=3e-5)
    with torch.no_grad():
        hidden = padding_of([11, 8, 1], 11)
        ours, theirs = (m.eval()(x, src_key_padding_mask=hidden) for m in (fast, plain))
    assert_equal([ours], [theirs])


def test_report_restore_copies_and_pickles():
    plain, fast = pair()
    model = nn.Sequential(
        plain.train(), nn.MultiheadAttention(48, 4, add_zero_attn=True), nn.MultiheadAttention(48, 4, dropout=0.1)
    )
    with pytest.warns(UserWarning, match=r"^2 of 3 layers stay .*add_zero_attn.*dropout"):
        rft.accelerate(model, weights="bf16")
    assert str(rft.report(model)).splitlines()[0] == "0: MultiheadAttention on rnnfast f32"
    assert [place.runs_on for place in rft.report(model.eval())] == ["rnnfast f32", "PyTorch", "rnnfast f32"]
    x = torch.randn(9, 2, 48)
    y = fast(x, x, x, need_weights=False)[0]
    stream = io.BytesIO()
    torch.save(fast, stream)
    stream.seek(0)
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast)), torch.load(stream, weights_only=False)):
        assert type(other) is rft.MultiheadAttention
        assert torch.equal(other(x, x, x, need_weights=False)[0], y)
    assert type(rft.restore(fast)) is nn.MultiheadAttention
    assert all(type(m) is nn.MultiheadAttention for m in rft.restore(model))


class Scaled(nn.MultiheadAttention):
    """A user's subclass."""

    def forward(self, x):
        return 2 * super().forward(x, x, x, need_weights=False)[0]


def test_a_users_subclass(calls):
    torch.manual_seed(0)
    plain = Scaled(48, 4)
    fast = rft.accelerate(copy.deepcopy(plain))
    x = torch.randn(9, 2, 48)
    assert_equal([fast(x).detach()], [plain(x).detach()])
    assert calls == ["forward"]
    assert type(rft.restore(fast)) is Scaled


@pytest.mark.parametrize("kind", ["jit", "export", "compile"])
def test_what_reads_a_models_code_gets_pytorchs_operators(kind, calls):
    plain, fast = pair()

    class Model(nn.Module):
        def __init__(self, attention):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    x = torch.randn(9, 2, 48)
    model = Model(fast).eval()
    if kind == "jit":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch deprecates it, and warns of its own checks of shapes
            made = torch.jit.trace(model, x)
    elif kind == "export":
        if not operator.COMPILES:
            pytest.skip("this PyTorch does not tell a layer that it is compiled")
        made = torch.export.export(model, (x,)).module()
    else:
        made = torch.compile(model, backend="eager")
    with torch.no_grad():
        assert_equal([made(x)], [Model(plain).eval()(x)])
    assert "backward" not in calls
