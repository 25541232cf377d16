"""Conv1d and SelfAttention against the float64 reference, torch, and themselves."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.reference import Attention, Convolution

# (T, N, C, O, k, padding, dilation): sizes on both sides of every tile and panel, kernels longer than the sequence
CONVOLUTIONS = [
    (1, 1, 1, 1, 1, 0, 1),
    (1, 2, 3, 4, 3, "same", 1),
    (3, 1, 5, 2, 9, "same", 1),
    (4, 3, 17, 33, 4, "causal", 3),
    (20, 1, 64, 64, 3, "same", 1),
    (33, 5, 31, 65, 2, "same", 4),
    (9, 70, 8, 130, 5, 2, 1),
    (7, 2, 6, 5, 3, 5, 2),
    (130, 4, 16, 20, 7, "causal", 16),
    (401, 1, 20, 15, 3, 0, 1),
    (2, 400, 3, 5, 2, 1, 1),
    # ... stride, groups
    (50, 3, 17, 33, 4, 3, 2, 3, 1),
    (33, 5, 12, 18, 3, (4, 1), 1, 2, 6),
    (40, 2, 24, 24, 5, "causal", 1, 1, 24),
    (21, 1, 64, 34, 1, 0, 1, 5, 2),
    (3, 2, 4, 4, 9, (8, 5), 1, 4, 4),
]
# (T, N, D, heads, causal, ragged): one block and several, heads of 1, 5, 16, 64, 80 and 130 units
ATTENTIONS = [
    (1, 1, 1, 1, False, False),
    (1, 3, 4, 2, True, False),
    (5, 2, 10, 2, False, False),
    (64, 1, 64, 1, True, False),
    (65, 2, 16, 1, True, True),
    (129, 1, 160, 2, False, False),
    (200, 3, 32, 2, True, True),
    (300, 2, 130, 1, False, True),
    (257, 1, 24, 3, True, False),
]


def close(actual, expected, what):
    """Within 1e-5 of the largest value: float32 rounding of sums of a few hundred terms, nothing more."""
    assert np.shape(actual) == np.shape(expected), what
    scale = max(np.abs(expected).max(), 1e-3)
    error = np.abs(np.asarray(actual, np.float64) - expected).max() / scale
    assert error < 1e-5, f"{what}: relative error {error:.2e}"


def random(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def doubles(layer):
    return {name: value.astype(np.float64) for name, value in layer.state_dict().items()}


def attention_case(case, **options):
    T, N, D, heads, causal, ragged = case
    layer = rf.SelfAttention(D, heads, causal=causal, seed=3, **options)
    for name, value in layer.state_dict().items():  # biases start at zero; a test wants them to matter
        layer.load_state_dict({name: random(value.shape, 5) * value.shape[-1] ** -0.5}, strict=False)
    lengths = np.random.default_rng(1).integers(1, T + 1, N) if ragged else np.full(N, T)
    return layer, random((T, N, D), 0), random((T, N, D), 2), lengths


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution_and_its_gradients_equal_the_float64_reference(case):
    T, N, C, out, k, padding, dilation, stride, groups = (*case, 1, 1)[:9]
    layer = rf.Conv1d(C, out, k, padding=padding, dilation=dilation, stride=stride, groups=groups, seed=1)
    reach = dilation * (k - 1)
    named = {"same": (reach // 2, reach - reach // 2), "causal": (reach, 0)}
    before, after = padding if isinstance(padding, tuple) else named.get(padding, (padding, padding))
    x, weights = random((T, N, C), 0), doubles(layer)
    expected = Convolution(x.astype(float), weights["weight"], weights["bias"], before, after, dilation, stride)
    y, backward = layer.forward(x)
    close(y, expected.y, "y")
    assert np.array_equal(y, layer(x))
    dy = random(y.shape, 2)
    dx, grads = expected.backward(dy.astype(float))
    close(backward(dy), dx, "dx")
    for name, gradient in grads.items():
        close(layer.grads[name], gradient, name)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", ATTENTIONS, ids=str)
def test_attention_and_its_gradients_equal_the_float64_reference(case, bias):
    layer, x, dy, lengths = attention_case(case, bias=bias)
    expected = Attention(x.astype(float), doubles(layer), case[3], case[4], lengths)
    given = lengths if case[5] else None
    y, backward = layer.forward(x, lengths=given)
    close(y, expected.y, "y")
    assert np.array_equal(y, layer(x, lengths=given))
    dx, grads = expected.backward(dy.astype(float))
    close(backward(dy), dx, "dx")
    for name, gradient in grads.items():
        close(layer.grads[name], gradient, name)


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@pytest.mark.parametrize(
    "options",
    [
        {}, {"padding": 2}, {"padding": "same"}, {"padding": "same", "dilation": 3}, {"padding": 4, "dilation": 2}, {"stride": 2},
        {"stride": 3, "padding": 2, "dilation": 2}, {"groups": 4}, {"groups": 12, "padding": 3, "stride": 2}, {"groups": 2, "bias": False},
    ],
    ids=str,
)  # fmt: skip
def test_torch_convolves_to_the_same_output_and_gradients(options):
    torch = pytest.importorskip("torch")
    twin = torch.nn.Conv1d(12, 36, 4, **options)
    layer = rf.Conv1d(12, 36, 4, batch_first=True, **options)
    layer.load_state_dict(twin.state_dict())
    x = torch.randn(3, 12, 50, requires_grad=True)
    expected = twin(x)
    y, backward = layer.forward(x.swapaxes(1, 2))
    close(y.swapaxes(1, 2), expected.detach().numpy(), "y")
    dy = torch.randn_like(expected)
    expected.backward(dy)
    close(backward(dy.swapaxes(1, 2)).swapaxes(1, 2), x.grad.numpy(), "dx")
    for name, parameter in twin.named_parameters():
        close(layer.grads[name], parameter.grad.numpy(), name)
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in layer.state_dict().items()})


@pytest.mark.parametrize("causal", [False, True])
def test_torch_attends_to_the_same_output_and_gradients(causal):
    torch = pytest.importorskip("torch")
    twin = torch.nn.MultiheadAttention(96, 4)
    layer = rf.SelfAttention(96, 4, causal=causal)
    layer.load_state_dict(twin.state_dict())
    x = torch.randn(150, 2, 96, requires_grad=True)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(150) if causal else None
    expected, _ = twin(x, x, x, need_weights=False, attn_mask=mask, is_causal=causal)
    y, backward = layer.forward(x)
    close(y, expected.detach().numpy(), "y")
    dy = torch.randn_like(expected)
    expected.backward(dy)
    close(backward(dy), x.grad.numpy(), "dx")
    for name, parameter in twin.named_parameters():
        close(layer.grads[name], parameter.grad.numpy(), name)
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in layer.state_dict().items()})


def make(kind, **options):
    if kind == "conv":
        return rf.Conv1d(40, 40, 5, padding="causal", dilation=2, seed=1, **options)
    return rf.SelfAttention(40, 2, causal=kind == "causal attention", seed=1, **options)


KINDS = ["conv", "attention", "causal attention"]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_are_the_same_on_any_thread_count(kind, rows, threads):
    results = []
    for count in (1, 2, 3, 5):
        threads(count)
        layer = make(kind)
        y, backward = layer.forward(random((333, rows, 40), 0))
        results.append([y, backward(random(y.shape, 1)), *layer.grads.values()])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_gives_the_same_bits_alone_and_in_a_batch(kind):
    layer, x = make(kind), random((140, 9, 40), 0)
    y = layer(x)
    for n in (0, 5, 8):
        assert np.array_equal(layer(x[:, n : n + 1])[:, 0], y[:, n])


@pytest.mark.parametrize("kind", KINDS)
def test_batch_first_swaps_the_first_two_axes(kind):
    a, b, x = make(kind), make(kind, batch_first=True), random((90, 3, 40), 0)
    ya, back_a = a.forward(x)
    yb, back_b = b.forward(x.swapaxes(0, 1))
    assert np.array_equal(ya, yb.swapaxes(0, 1))
    assert np.array_equal(back_a(ya), back_b(yb).swapaxes(0, 1))


@pytest.mark.parametrize("causal", [False, True])
def test_more_padding_never_changes_a_result(causal):
    layer, x, dy, lengths = attention_case((150, 4, 40, 2, causal, True))
    padded, dy_padded = (np.concatenate([a, np.full((30, *a.shape[1:]), 9, np.float32)]) for a in (x, dy))
    y, backward = layer.forward(x, lengths=lengths)
    dx, grads = backward(dy), {name: g.copy() for name, g in layer.grads.items()}
    layer.zero_grad()
    y2, backward2 = layer.forward(padded, lengths=lengths)
    dx2 = backward2(dy_padded)
    assert np.array_equal(y2[:150], y)
    assert (y2[150:] == 0).all()
    assert np.array_equal(dx2[:150], dx)
    for name, gradient in grads.items():
        np.testing.assert_allclose(layer.grads[name], gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["conv", "causal attention"])
def test_causal_layers_see_nothing_later(kind):
    layer, x = make(kind), random((200, 1, 40), 0)
    y, backward = layer.forward(x)
    changed = x.copy()
    changed[101:] += 1
    assert np.array_equal(layer(changed)[:101], y[:101])
    dy = np.zeros_like(y)
    dy[100] = 1
    assert (backward(dy)[101:] == 0).all()


@pytest.mark.parametrize("kind", ["conv", "causal attention"])
def test_steps_one_by_one_are_bit_identical_to_the_whole_sequence(kind):
    layer, x = make(kind), random((300, 2, 40), 0)
    state, steps = None, []
    for t in range(len(x)):
        y, state = layer.step(x[t], state)
        steps.append(y)
    assert np.array_equal(np.stack(steps), layer(x))


def test_gradients_add_up_over_calls_and_zero_grad_clears_them():
    for kind in KINDS:
        layer, x = make(kind), random((20, 2, 40), 0)
        layer.forward(x)[1](x)
        once = {name: g.copy() for name, g in layer.grads.items()}
        layer.forward(x)[1](x)
        for name, gradient in layer.grads.items():
            np.testing.assert_allclose(gradient, 2 * once[name], rtol=1e-4, atol=1e-5)
        layer.zero_grad()
        assert all((g == 0).all() for g in layer.grads.values())


def test_an_optimizer_step_reaches_the_packed_weights():
    for kind in KINDS:
        layer, x = make(kind), random((20, 2, 40), 0)
        y, backward = layer.forward(x)
        backward(y)
        rf.SGD(layer, lr=0.1).step()
        fresh = make(kind)
        fresh.load_state_dict(layer.state_dict())
        after, again = layer.forward(x), fresh.forward(x)
        assert not np.array_equal(y, after[0])
        assert np.array_equal(after[0], again[0])
        assert np.array_equal(after[1](y), again[1](y))


def test_scores_far_apart_and_very_large_stay_finite():
    layer = rf.SelfAttention(16, 1, seed=0)
    y, backward = layer.forward(random((300, 1, 16), 0) * 300)
    assert np.isfinite(y).all()
    assert np.isfinite(backward(y)).all()


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.Conv1d(0, 4, 3), ValueError, "in_channels is 0"),
        (lambda: rf.Conv1d(3, 4, 0), ValueError, "kernel_size is 0"),
        (lambda: rf.Conv1d(3, 4, 2.5), TypeError, "an integer"),
        (lambda: rf.Conv1d(3, 4, 2, padding="full"), ValueError, "'same' or 'causal'"),
        (lambda: rf.Conv1d(3, 4, 2, padding=-1), ValueError, "padding is -1"),
        (lambda: rf.Conv1d(3, 4, 2, padding=(1, 2, 3)), ValueError, "padding has 3 numbers, expected one, or two"),
        (lambda: rf.Conv1d(3, 4, 2, padding="same", stride=2), ValueError, "keeps the length, and stride is 2"),
        (lambda: rf.Conv1d(3, 4, 2, stride=0), ValueError, "stride is 0"),
        (lambda: rf.Conv1d(3, 4, 2, groups=3), ValueError, "expected a divisor of both"),
        (
            lambda: rf.Conv1d(3, 4, 2, padding="causal", stride=2).step(np.zeros((1, 3))),
            ValueError,
            "has stride 2: call it",
        ),
        (lambda: rf.Conv1d(3, 4, 2, dilation=0), ValueError, "dilation is 0"),
        (lambda: rf.Conv1d(10**9, 4, 10**9), ValueError, "at most 2147483647"),
        (lambda: rf.Conv1d(3, 4, 5)(np.zeros((4, 1, 3))), ValueError, "the kernel spans 5"),
        (lambda: rf.Conv1d(3, 4, 2)(np.zeros((2, 2, 5))), ValueError, "input has 5 channels, expected 3"),
        (lambda: rf.Conv1d(3, 4, 2)(np.zeros(3)), ValueError, "three dimensions"),
        (lambda: rf.Conv1d(3, 4, 2)(np.zeros((0, 2, 3))), ValueError, "at least one step"),
        (lambda: rf.Conv1d(3, 4, 2, padding="same").step(np.zeros((1, 3))), ValueError, "look ahead"),
        (lambda: rf.Conv1d(3, 4, 2, padding="causal").step(np.zeros((1, 2))), ValueError, r"expected \(N, 3\)"),
        (lambda: rf.SelfAttention(10, 3), ValueError, "embed_dim is 10 and num_heads 3"),
        (lambda: rf.SelfAttention(4, 0), ValueError, "num_heads is 0"),
        (lambda: rf.SelfAttention(4)(np.zeros((2, 2, 5))), ValueError, "input has 5 channels, expected 4"),
        (lambda: rf.SelfAttention(4)(np.zeros(4)), ValueError, "three dimensions"),
        (lambda: rf.SelfAttention(4)(np.zeros((2, 2, 4)), lengths=[1, 3]), ValueError, r"lengths\[1\] is 3"),
        (lambda: rf.SelfAttention(4)(np.zeros((2, 2, 4)), lengths=[1]), ValueError, "one per row"),
        (lambda: rf.SelfAttention(4).step(np.zeros((2, 4))), ValueError, "causal=True"),
        (lambda: rf.SelfAttention(4, causal=True).step(np.zeros((2, 3))), ValueError, r"expected \(N, 4\)"),
        (lambda: rf.SelfAttention(4).forward(np.zeros((2, 2, 4)))[1](np.zeros((2, 2, 5))), ValueError, "gradient"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_a_state_of_another_batch_is_refused():
    for layer in (rf.Conv1d(4, 4, 3, padding="causal", seed=0), rf.SelfAttention(4, causal=True, seed=0)):
        _, state = layer.step(np.zeros((2, 4)))
        with pytest.raises(ValueError, match="state"):
            layer.step(np.zeros((3, 4)), state)


def conv(channels=4, kernel_size=3, dilation=1):
    return rf.Conv1d(channels, 4, kernel_size, padding="causal", dilation=dilation, seed=0)


def attention(embed_dim=4, num_heads=2):
    return rf.SelfAttention(embed_dim, num_heads, causal=True, seed=0)


@pytest.mark.fault("M1")
@pytest.mark.parametrize(
    ("made_by", "given_to", "named"),
    [
        (attention(4, 2), attention(4, 4), "num_heads 2 .* num_heads 4"),
        (attention(4, 4), attention(4, 2), "num_heads 4 .* num_heads 2"),
        (attention(8, 2), attention(4, 2), "embed_dim 8, .* embed_dim 4, "),
        (conv(kernel_size=3), conv(kernel_size=5), "kernel_size 3, .* kernel_size 5, "),
        (conv(kernel_size=1), conv(kernel_size=2), "kernel_size 1, .* kernel_size 2, "),
        (conv(kernel_size=3, dilation=2), conv(kernel_size=5), "dilation 2, .* dilation 1, "),
        (conv(channels=3), conv(channels=4), "in_channels 3 .* in_channels 4 "),
    ],
)
def test_a_state_of_a_layer_of_another_shape_is_refused_and_does_not_change(made_by, given_to, named):
    wide = 8 if named.startswith("embed_dim 8") else 3 if "in_channels 3" in named else 4
    x = random((3, 2, wide), 1)
    _, state = made_by.step(x[0])
    for _ in range(40):  # the heap was corrupted a little more by each
        with pytest.raises(ValueError, match=named):
            given_to.step(np.ones((2, 4)), state)
    for t in (1, 2):
        y, state = made_by.step(x[t], state)
    assert np.array_equal(y, made_by(x)[2])


@pytest.mark.fault("M1")
@pytest.mark.parametrize("layer", [conv(), attention()], ids=["conv", "attention"])
def test_anything_but_a_state_is_refused_as_a_state(layer):
    other = attention() if isinstance(layer, rf.Conv1d) else conv()
    for state in (other.step(np.ones((1, 4)))[1], np.zeros((2, 1, 4)), (np.zeros((2, 1, 4)), 0), 3, "x"):
        with pytest.raises(TypeError, match="that the previous step returned"):
            layer.step(np.ones((1, 4)), state)


@pytest.mark.fault("M1")
def test_two_threads_at_one_state_are_told_apart_or_take_turns():
    layers, refused = (attention(16, 2), attention(16, 2)), []
    _, state = layers[0].step(np.ones((4, 16)))

    def work(layer):
        for _ in range(200):
            try:
                layer.step(np.ones((4, 16)), state)
            except RuntimeError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work, args=(layer,)) for layer in layers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.length == 401 - len(refused)
    assert all("another thread" in sentence for sentence in refused)


@pytest.mark.fault("M2")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_batch_of_no_rows_gives_an_output_of_no_rows_and_no_gradient(kind, batch_first):
    layer = make(kind, batch_first=batch_first)
    x = np.zeros((0, 5, 40) if batch_first else (5, 0, 40))
    y, backward = layer.forward(x)
    assert y.shape == layer(x).shape == x.shape[:2] + y.shape[2:]
    assert backward(np.zeros(y.shape)).shape == x.shape
    assert not any(gradient.any() for gradient in layer.grads.values())
    if kind in ("conv", "causal attention"):
        y, state = layer.step(np.zeros((0, 40)))
        assert layer.step(np.zeros((0, 40)), state)[0].shape == y.shape


@pytest.mark.fault("M2")
def test_attention_of_no_steps_gives_no_steps_as_torch_does_and_a_convolution_refuses_them():
    layer = make("attention")
    y, backward = layer.forward(np.zeros((0, 2, 40)))
    assert y.shape == backward(y).shape == (0, 2, 40)
    for padding in (0, 2, "same", "causal"):
        with pytest.raises(ValueError, match="at least one step"):
            rf.Conv1d(3, 4, 2, padding=padding)(np.zeros((0, 2, 3)))


@pytest.mark.fault("M2")
@pytest.mark.parametrize("causal", [False, True])
def test_attention_over_a_row_of_length_0_is_zero_and_learns_nothing(causal):
    layer, x, dy = rf.SelfAttention(8, 2, causal=causal, seed=0), random((5, 3, 8), 0), random((5, 3, 8), 1)
    y, backward = layer.forward(x, lengths=[5, 0, 2])
    dx = backward(dy)
    grads = {name: gradient.copy() for name, gradient in layer.grads.items()}
    layer.zero_grad()
    expected, backward = layer.forward(x[:, [0, 2]], lengths=[5, 2])
    assert not y[:, 1].any()
    assert not dx[:, 1].any()
    assert np.array_equal(y[:, [0, 2]], expected)
    assert np.array_equal(dx[:, [0, 2]], backward(dy[:, [0, 2]]))
    assert all(np.allclose(grads[name], gradient, atol=1e-6) for name, gradient in layer.grads.items())


def test_backward_of_attention_runs_once():
    _, backward = rf.SelfAttention(4, seed=0).forward(np.zeros((2, 1, 4)))
    backward(np.zeros((2, 1, 4)))
    with pytest.raises(ValueError, match="run forward again"):
        backward(np.zeros((2, 1, 4)))
