"""What PyTorch promises of its recurrent layers, asked of its classes and of the accelerated ones alike."""

from __future__ import annotations

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402
from torch.nn.utils import rnn as packing  # noqa: E402

import rnnfast.torch as rft  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")
LAYERS = [nn.RNN, nn.GRU, nn.LSTM]
CELLS = [nn.RNNCell, nn.GRUCell, nn.LSTMCell]


@pytest.fixture(params=["torch", "rnnfast"])
def make(request):
    """make(nn.LSTM, 3, 4, ...): PyTorch's layer, or the accelerated one with the same values."""

    def of(kind, *sizes, **options):
        torch.manual_seed(0)
        module = kind(*sizes, **options)
        return rft.accelerate(module) if request.param == "rnnfast" else module

    return of


def first(output):
    """y of a layer, h of a cell."""
    return output[0] if isinstance(output, tuple) else output


def state_of(module, rows, *, scans=1, hidden=None, value=None):
    """Zeros, or random numbers, in the form that the module takes."""
    shape = (rows, module.hidden_size if hidden is None else hidden)
    shape = shape if isinstance(module, nn.RNNCellBase) else (scans, *shape)
    states = [torch.randn(shape) if value is None else torch.full(shape, value) for _ in range(2)]
    return tuple(states) if isinstance(module, (nn.LSTM, nn.LSTMCell)) else states[0]


def near(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# Shapes that are wrong


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_refuses_sizes_that_do_not_fit(make, kind):
    layer = make(kind, 5, 7, 2)
    x, good = torch.randn(4, 3, 5), state_of(layer, 3, scans=2)
    assert first(layer(x, good)).shape == (4, 3, 7)
    wrong = [
        (torch.randn(4, 3, 6), good),
        (torch.randn(4, 2, 5), good),
        (torch.randn(4, 3, 5, 1), good),
        (torch.randn(5), good),
        (x, state_of(layer, 3, scans=1)),
        (x, state_of(layer, 2, scans=2)),
        (x, state_of(layer, 3, scans=2, hidden=8)),
        (x[:, 0], good),
    ]
    for arguments in wrong:
        with pytest.raises((RuntimeError, ValueError)):
            layer(*arguments)
    layer.zero_grad()
    first(layer(x, good)).sum().backward()  # a refusal leaves the layer whole


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_refuses_sizes_that_do_not_fit(make, kind):
    cell = make(kind, 5, 7)
    x, good = torch.randn(3, 5), state_of(cell, 3)
    assert first(cell(x, good)).shape == (3, 7)
    wrong = [
        (torch.randn(3, 6), good),
        (torch.randn(2, 5), good),  # a state is not broadcast over rows
        (torch.randn(2, 3, 5), good),
        (x, state_of(cell, 1)),
        (x, state_of(cell, 3, hidden=8)),
    ]
    for arguments in wrong:
        with pytest.raises((RuntimeError, ValueError)):
            cell(*arguments)


def test_an_unknown_nonlinearity_is_refused(make):
    with pytest.raises(ValueError, match="(?i)unknown nonlinearity"):
        make(nn.RNN, 3, 4, nonlinearity="garbage")
    cell = make(nn.RNNCell, 3, 4)
    cell.nonlinearity = "garbage"
    with pytest.raises(RuntimeError, match="(?i)unknown nonlinearity"):
        cell(torch.randn(2, 3))


def test_only_an_lstm_projects(make):
    for kind in (nn.RNN, nn.GRU):
        with pytest.raises((TypeError, ValueError), match="proj_size"):
            make(kind, 3, 4, proj_size=2)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.filterwarnings(
    "ignore:Initializing zero-element", "ignore:.*stay with PyTorch's operators.*hidden_size is 0"
)
def test_a_cell_without_units_gives_nothing(make, kind):
    cell = make(kind, 5, 0)
    assert first(cell(torch.randn(3, 5), state_of(cell, 3))).shape == (3, 0)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_batch_without_rows_goes_forward_and_back(make, kind):
    layer = make(kind, 3, 4)
    y = first(layer(torch.zeros(5, 0, 3)))
    assert y.shape == (5, 0, 4)
    y.sum().backward()
    with pytest.raises(RuntimeError):
        layer(torch.zeros(0, 2, 3))


# States


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_without_a_state_the_state_is_zeros(make, kind):
    module = make(kind, 3, 4)
    x = torch.randn(2, 3) if kind in CELLS else torch.randn(5, 2, 3)
    near(first(module(x)), first(module(x, state_of(module, 2, value=0.0))), 0)
    near(first(module(x)), first(module(x, None)), 0)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_last_state_continues_a_sequence(make, kind):
    layer = make(kind, 3, 4, 2)
    x = torch.randn(9, 2, 3)
    whole, end = layer(x)
    y, state = layer(x[:4])
    rest, last = layer(x[4:], state)
    near(torch.cat([y, rest]), whole)
    for a, b in zip(last if isinstance(last, tuple) else [last], end if isinstance(end, tuple) else [end]):
        near(a, b)


@pytest.mark.parametrize(("layer", "cell"), list(zip(LAYERS, CELLS)))
def test_a_cell_step_by_step_is_a_layer(make, layer, cell):
    layer, cell = make(layer, 3, 4), make(cell, 3, 4)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x, outputs, state = torch.randn(6, 2, 3), [], None
    for step in x:
        state = cell(step, state)
        outputs.append(first(state))
    y, _ = layer(x)
    near(torch.stack(outputs), y)
    y.square().sum().backward()
    torch.stack(outputs).square().sum().backward()
    for a, b in zip(layer.parameters(), cell.parameters()):
        near(a.grad, b.grad, 1e-4)


# Options


@pytest.mark.parametrize("kind", LAYERS)
def test_batch_first_changes_the_order_of_dimensions_alone(make, kind):
    layer, other = make(kind, 3, 4, 2), make(kind, 3, 4, 2, batch_first=True)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(5, 2, 3)
    (y, state), (z, again) = layer(x), other(x.transpose(0, 1))
    near(z.transpose(0, 1), y, 0)
    near(again, state, 0)


@pytest.mark.parametrize("kind", LAYERS)
def test_unbatched_input_is_a_batch_of_one(make, kind):
    layer = make(kind, 3, 4, 2, bidirectional=True)
    x = torch.randn(5, 3)
    y, state = layer(x)
    z, batched = layer(x.unsqueeze(1))
    near(y, z.squeeze(1), 0)
    near(first(state), first(batched).squeeze(1), 0)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_second_direction_reads_from_the_end(make, kind):
    both, one = make(kind, 3, 4, bidirectional=True), make(kind, 3, 4)
    one.load_state_dict({n: both.state_dict()[f"{n}_reverse"] for n in one.state_dict()})
    x = torch.randn(5, 2, 3)
    near(both(x)[0][..., 4:], one(x.flip(0))[0].flip(0))


def filled(make, dropout):
    """Two layers that add: outputs tell how much of the first was dropped."""
    rnn = make(nn.RNN, 100, 100, 2, bias=False, nonlinearity="relu", dropout=dropout)
    with torch.no_grad():
        rnn.weight_ih_l0.fill_(1), rnn.weight_hh_l0.fill_(1), rnn.weight_ih_l1.fill_(1), rnn.weight_hh_l1.fill_(1)
    return rnn


@pytest.mark.parametrize("dropout", [0, 0.1, 0.5, 0.9, 1])
@pytest.mark.parametrize("train", [True, False])
def test_dropout_zeroes_its_share_and_scales_the_rest(make, dropout, train):
    rnn = filled(make, dropout).train(train)
    with torch.no_grad():
        output, hidden = rnn(torch.ones(1, 1, 100), torch.zeros(2, 1, 100))
    assert bool((output == output[0, 0, 0]).all())
    assert float(hidden[0, 0, 0]) == 100.0
    kept = float(output[0, 0, 0]) / 1e4
    if not train or dropout == 0:
        assert kept == 1.0
    elif dropout == 1:
        assert kept == 0.0
    else:
        assert 0 < kept < 2.5
        units = kept * 100 * (1 - dropout)  # an integer: how many were kept
        assert abs(units - round(units)) < 1e-2


def test_dropout_may_change_between_calls(make):
    rnn = make(nn.LSTM, 8, 64, 2, dropout=0.0)
    x, before = torch.randn(3, 2, 8), None
    for dropout in (0.0, 0.5, 0.0, 0.5, 1.0, 0.0):
        rnn.dropout = dropout
        y, _ = rnn(x)
        if dropout == 0.0:
            before = y if before is None else before
            near(y, before, 0)
        else:
            assert not torch.allclose(y, before)


def test_dropout_repeats_with_the_seed_and_advances_the_generator(make):
    rnn, x = make(nn.GRU, 8, 64, 2, dropout=0.5), torch.randn(3, 2, 8)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append([rnn(x)[0], rnn(x)[0]])
    near(found[0], found[1], 0)
    assert not torch.allclose(found[0][0], found[0][1])
    assert not torch.allclose(found[0][0], found[2][0])


# Sequences of different length


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_packed_batch_is_its_sequences_one_by_one(make, kind, bidirectional):
    layer = make(kind, 3, 4, 2, bidirectional=bidirectional)
    sequences = [torch.randn(n, 3, requires_grad=True) for n in (7, 5, 5, 2, 1)]
    packed, last = layer(packing.pack_sequence(sequences))
    padded, lengths = packing.pad_packed_sequence(packed)
    gradients, alone = torch.autograd.grad(padded.square().sum(), sequences), []
    for i, sequence in enumerate(sequences):
        y, end = layer(sequence)
        near(padded[: lengths[i], i], y)
        near(first(last)[:, i], first(end))
        alone += torch.autograd.grad(y.square().sum(), sequence)
    near(list(gradients), alone)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_packed_batch_out_of_order_gives_each_row_its_own_result(make, kind):
    layer = make(kind, 3, 4)
    x, lengths, order = torch.randn(6, 4, 3), torch.tensor([2, 6, 1, 4]), torch.tensor([1, 3, 0, 2])
    state = state_of(layer, 4)
    y, end = layer(packing.pack_padded_sequence(x, lengths, enforce_sorted=False), state)
    pick = lambda s: tuple(t[:, order] for t in s) if isinstance(s, tuple) else s[:, order]  # noqa: E731
    z, last = layer(packing.pack_padded_sequence(x[:, order], lengths[order]), pick(state))
    near(packing.pad_packed_sequence(y)[0][:, order], packing.pad_packed_sequence(z)[0])
    near(
        first(pick(end) if isinstance(end, tuple) else (pick(end),)),
        first(last if isinstance(last, tuple) else (last,)),
    )
    assert packing.pad_packed_sequence(y, total_length=9)[0].shape == (9, 4, 4)


# Gradients


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_graph_is_kept_as_long_as_asked(make, kind):
    module = make(kind, 3, 4)
    y = first(module(torch.randn(2, 3) if kind in CELLS else torch.randn(5, 2, 3))).sum()
    y.backward(retain_graph=True)
    once = [p.grad.clone() for p in module.parameters()]
    y.backward()
    near([p.grad for p in module.parameters()], [2 * g for g in once])
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.GRUCell, nn.LSTMCell])
@pytest.mark.filterwarnings("ignore:.*oneDNN")
def test_first_and_second_derivatives_in_float64(make, kind):
    module = make(kind, 2, 3).double()
    x = torch.randn(*(() if kind in CELLS else (3,)), 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: first(module(x)), x)
    assert torch.autograd.gradgradcheck(lambda x: first(module(x)), x)


@pytest.mark.parametrize("kind", LAYERS)
def test_strides_change_no_result(make, kind):
    layer = make(kind, 3, 4, 2)
    x, state = torch.randn(5, 2, 3), state_of(layer, 2, scans=2)
    want = first(layer(x, state))
    spread = lambda t: torch.stack([t, torch.zeros_like(t)], -1).select(-1, 0)  # noqa: E731
    strided = tuple(map(spread, state)) if isinstance(state, tuple) else spread(state)
    y = first(layer(spread(x).requires_grad_(), strided))
    near(y, want, 0)
    y.backward(spread(torch.ones_like(y)))
    found = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    first(layer(x, state)).sum().backward()
    near(found, [p.grad for p in layer.parameters()], 0)
    y = first(layer(x.clone().requires_grad_(), state))
    y.sum().backward()  # a gradient that is one number, expanded


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_only_what_wants_a_gradient_gets_one(make, kind):
    module = make(kind, 3, 4)
    shape = (2, 3) if kind in CELLS else (5, 2, 3)
    for p in module.parameters():
        p.requires_grad_(False)
    assert not first(module(torch.randn(shape))).requires_grad
    x = torch.randn(shape, requires_grad=True)
    first(module(x)).sum().backward()
    assert x.grad is not None
    chosen = next(iter(module.parameters())).requires_grad_()
    first(module(torch.randn(shape))).sum().backward()
    assert [p.grad is not None for p in module.parameters()] == [p is chosen for p in module.parameters()]


@pytest.mark.parametrize("kind", LAYERS)
def test_an_output_that_nobody_uses_needs_no_gradient(make, kind):
    layer = make(kind, 3, 4)
    x, state = torch.randn(5, 2, 3), state_of(layer, 2)
    leaves = [s.requires_grad_() for s in (state if isinstance(state, tuple) else (state,))]
    _, end = layer(x, state)
    first(end).square().sum().backward()
    found = [p.grad.clone() for p in layer.parameters()] + [s.grad.clone() for s in leaves if s.grad is not None]
    layer.zero_grad()
    for s in leaves:
        s.grad = None
    y, _ = layer(x, state)
    y[-1].square().sum().backward()  # the last h is the last output
    near(found, [p.grad for p in layer.parameters()] + [s.grad for s in leaves if s.grad is not None])


# Parameters and files


@pytest.mark.parametrize("kind", LAYERS)
def test_parameters_have_names_and_ranges(make, kind):
    layer = make(kind, 3, 4, 2, bidirectional=True)
    gates = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}[kind]
    assert list(layer.state_dict()) == [name for names in layer._all_weights for name in names]
    assert [list(p.shape) for p in layer.all_weights[0]] == [[gates * 4, 3], [gates * 4, 4], [gates * 4], [gates * 4]]
    assert all(float(p.detach().abs().max()) <= 0.5 for p in layer.parameters())  # 1 / sqrt(hidden_size)
    layer.flatten_parameters()
    layer.reset_parameters()
    assert eval(repr(layer), {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}).bidirectional


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_copies_pickles_and_state_dicts_give_the_same(make, kind):
    module, fresh = make(kind, 3, 4), make(kind, 3, 4)
    x = torch.randn(2, 3) if kind in CELLS else torch.randn(5, 2, 3)
    fresh.reset_parameters()
    fresh.load_state_dict(module.state_dict())
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    want = first(module(x))
    for again in (
        fresh,
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
    ):
        assert type(again) is type(module)
        near(first(again(x)), want, 0)
    with pytest.raises(RuntimeError, match="size mismatch"):
        fresh.load_state_dict({name: torch.zeros(1) for name in module.state_dict()})


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_types_and_devices_change_as_asked(make, kind):
    module = make(kind, 3, 4)
    x = torch.randn(2, 3) if kind in CELLS else torch.randn(5, 2, 3)
    before = first(module(x))
    near(first(module.double()(x.double())).float(), before)
    near(first(module.float()(x)), before)
    if kind is not nn.LSTM or tuple(map(int, torch.__version__.split(".")[:2])) >= (
        2,
        4,
    ):  # oneDNN of older versions refuses it on some CPUs
        assert first(module.to(torch.bfloat16)(x.bfloat16())).dtype is torch.bfloat16
    empty = copy.deepcopy(module).float().to("meta")
    assert first(empty(x.to("meta"))).shape == before.shape
    empty.to_empty(device="cpu")
    empty.load_state_dict(make(kind, 3, 4).state_dict())
    near(first(empty(x)), before)


@pytest.mark.parametrize("kind", LAYERS)
def test_parameters_made_anew_are_the_ones_in_use(make, kind):
    layer, x = make(kind, 3, 4), torch.randn(5, 2, 3)
    before = first(layer(x))
    layer.weight_hh_l0 = nn.Parameter(torch.zeros_like(layer.weight_hh_l0))
    after = first(layer(x))
    assert not torch.allclose(before, after)
    after.sum().backward()
    assert layer.weight_hh_l0.grad is not None
    with pytest.raises(TypeError):
        layer.weight_hh_l0 = torch.zeros(1)


@pytest.mark.parametrize("kind", LAYERS)
def test_weight_norm_comes_and_goes(make, kind):
    layer, x = make(kind, 3, 4), torch.randn(5, 2, 3)
    want = first(layer(x))
    normed = nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    near(first(normed(x)), want)
    first(normed(x)).sum().backward()
    original = normed.parametrizations.weight_hh_l0
    assert original.original0.grad is not None
    with torch.no_grad():
        original.original0.mul_(2)
    changed = first(normed(x))
    assert not torch.allclose(changed, want)
    plain = nn.utils.parametrize.remove_parametrizations(normed, "weight_hh_l0")
    near(first(plain(x)), changed)


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_shared_memory_and_inference_mode(make, kind):
    module = make(kind, 3, 4)
    x = torch.randn(2, 3) if kind in CELLS else torch.randn(5, 2, 3)
    want = first(module(x))
    module.share_memory()
    with torch.inference_mode():
        y = first(module(x))
    assert y.is_inference()
    near(y, want)
    near(first(module(x)), want)
