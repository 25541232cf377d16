"""rnnfast.torch: accelerated modules give what PyTorch's give, whatever the options and the mode."""

from __future__ import annotations

import copy
import itertools

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import rnn as packing  # noqa: E402

import rnnfast.torch as rft  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# Sums of up to a few hundred float32 products in another order differ by some 1e-6 of the largest.
TOLERANCE = 1e-5
LAYERS = {
    "RNN": nn.RNN,
    "RELU": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "GRU": nn.GRU,
    "LSTM": nn.LSTM,
}
CELLS = {
    "RNNCell": nn.RNNCell,
    "RELUCell": lambda *sizes, **options: nn.RNNCell(*sizes, nonlinearity="relu", **options),
    "GRUCell": nn.GRUCell,
    "LSTMCell": nn.LSTMCell,
}


def pair_of(module):
    """A module and an accelerated copy of it."""
    fast = rft.accelerate(module, inplace=False)
    assert all(place.runs_on.startswith("rnnfast") for place in rft.report(fast))
    return module, fast


def flat(outputs):
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, packing.PackedSequence):
        return [outputs.data]
    return [tensor for part in outputs if part is not None for tensor in flat(part)]


def close(a, b, what):
    assert a.shape == b.shape, what
    scale = max(float(a.detach().abs().max()) if a.numel() else 0.0, 1.0)
    worst = float((a.detach() - b.detach()).abs().max()) if a.numel() else 0.0
    assert worst <= TOLERANCE * scale, f"{what} differs by {worst}"


def run_both(module, fast, arguments, *, backward=True):
    """Outputs and all gradients of both, compared."""
    found = []
    for own in (module, fast):
        leaves = [t.detach().clone().requires_grad_(backward and t.requires_grad) for t in arguments["tensors"]]
        outputs = flat(own(*arguments["make"](leaves)))
        own.zero_grad(set_to_none=True)
        if backward:
            torch.manual_seed(3)
            sum((y * torch.randn(y.shape)).sum() for y in outputs).backward()
        found.append((outputs, leaves, [p.grad for p in own.parameters()]))
    (y, x, w), (fast_y, fast_x, fast_w) = found
    for i, (a, b) in enumerate(zip(y, fast_y)):
        close(a, b, f"output {i}")
    for i, (a, b) in enumerate(zip(x + w, fast_x + fast_w)):
        want = a.grad if isinstance(a, torch.Tensor) and a.is_leaf and i < len(x) else a
        got = b.grad if i < len(x) else b
        assert (want is None) == (got is None), f"gradient {i}"
        if want is not None:
            close(want, got, f"gradient {i}")
    return fast_y


def arguments_of(module, steps, rows, *, form="dense", state=True, seed=0, grads=True):
    """Tensors, and how a call is made of them."""
    torch.manual_seed(seed)
    x = (
        torch.randn(rows, steps, module.input_size)
        if module.batch_first
        else torch.randn(steps, rows, module.input_size)
    )
    scans = module.num_layers * (2 if module.bidirectional else 1)
    states = (
        [torch.randn(scans, rows, module.hidden_size) for _ in range(2 if module.mode == "LSTM" else 1)]
        if state
        else []
    )
    lengths = torch.randint(1, steps + 1, (rows,))
    lengths[0] = steps
    if form == "single":
        x, states = x.select(0 if module.batch_first else 1, 0), [s[:, 0] for s in states]
    tensors = [t.clone().requires_grad_(grads) for t in (x, *states)]

    def make(leaves):
        x, *states = leaves
        if form in ("packed", "sorted"):
            own = lengths.sort(descending=True)[0] if form == "sorted" else lengths
            x = packing.pack_padded_sequence(x, own, batch_first=module.batch_first, enforce_sorted=form == "sorted")
        hx = () if not states else (tuple(states),) if len(states) == 2 else tuple(states)
        return (x, *hx)

    return {"tensors": tensors, "make": make}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("form", ["dense", "packed", "sorted", "single"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_layer_s_outputs_and_gradients_are_pytorch_s(kind, form, bidirectional):
    calls = [
        ((5, 3, 4, 7), {}),
        ((1, 1, 3, 16), {"batch_first": True, "state": False}),
        ((9, 17, 20, 33), {"batch_first": True, "bias": False}),
    ]
    for layers, ((steps, rows, inputs, hidden), options) in itertools.product([1, 2], calls):
        batch_first, bias, state = (
            options.get(n, d) for n, d in [("batch_first", False), ("bias", True), ("state", True)]
        )
        module, fast = pair_of(
            LAYERS[kind](inputs, hidden, layers, bidirectional=bidirectional, batch_first=batch_first, bias=bias)
        )
        run_both(module, fast, arguments_of(module, steps, rows, form=form, state=state))


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_s_outputs_and_gradients_are_pytorch_s(kind, bias):
    for rows, inputs, hidden in [(1, 3, 4), (5, 16, 32), (33, 20, 17)]:
        for batched, state in itertools.product([True, False], [True, False]):
            module, fast = pair_of(CELLS[kind](inputs, hidden, bias=bias))
            lead = (rows,) if batched else ()
            count = 0 if not state else 2 if "LSTM" in kind else 1
            tensors = [torch.randn(*lead, n).requires_grad_() for n in (inputs, *[hidden] * count)]
            make = lambda leaves: (leaves[0], *([tuple(leaves[1:])] if len(leaves) == 3 else leaves[1:]))  # noqa: E731
            run_both(module, fast, {"tensors": tensors, "make": make})


configurations = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(sorted(LAYERS)),
        "form": st.sampled_from(["dense", "packed", "sorted", "single"]),
        "steps": st.integers(1, 12),
        "rows": st.integers(1, 20),
        "inputs": st.integers(1, 40),
        "hidden": st.integers(1, 50),
        "layers": st.integers(1, 3),
        "bidirectional": st.booleans(),
        "batch_first": st.booleans(),
        "bias": st.booleans(),
        "state": st.booleans(),
        "mode": st.sampled_from(["train", "eval", "no_grad", "inference", "frozen", "some"]),
        "seed": st.integers(0, 2**31),
    }
)


def check(c):
    torch.manual_seed(c["seed"])
    module = LAYERS[c["kind"]](
        c["inputs"],
        c["hidden"],
        c["layers"],
        bidirectional=c["bidirectional"],
        batch_first=c["batch_first"],
        bias=c["bias"],
    )
    module.train(c["mode"] == "train")
    if c["mode"] == "some":  # some parameters want no gradient
        for i, p in enumerate(module.parameters()):
            p.requires_grad_((c["seed"] >> i) % 2 == 0)
        next(iter(module.parameters())).requires_grad_()
    fast = rft.accelerate(module, inplace=False, frozen=c["mode"] == "frozen")
    silent = c["mode"] in ("no_grad", "inference", "frozen")
    context = {"no_grad": torch.no_grad, "frozen": torch.no_grad, "inference": torch.inference_mode}.get(
        c["mode"], torch.enable_grad
    )
    arguments = arguments_of(
        module, c["steps"], c["rows"], form=c["form"], state=c["state"], seed=c["seed"], grads=not silent
    )
    with context():
        run_both(module, fast, arguments, backward=not silent)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(configurations)
def test_any_configuration_gives_what_pytorch_gives(c):
    check(c)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(configurations)
def test_two_thousand_configurations_give_what_pytorch_gives(c):
    check(c)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_fifty_steps_of_training_have_pytorch_s_losses(kind, optimizer):
    losses = []
    for fast in (False, True):
        torch.manual_seed(0)
        layer, head = LAYERS[kind](6, 16, 2, batch_first=True), nn.Linear(16, 3)
        if fast:
            rft.accelerate(layer)
        own = getattr(torch.optim, optimizer)([*layer.parameters(), *head.parameters()], lr=1e-2)
        losses.append([])
        for step in range(50):
            x = torch.randn(8, 7, 6, generator=torch.Generator().manual_seed(step))
            loss = nn.functional.cross_entropy(head(layer(x)[0][:, -1]), (x.sum((1, 2)) > 0).long())
            own.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            own.step()
            losses[-1].append(loss.item())
    assert max(abs(a - b) for a, b in zip(*losses)) < 1e-4


def test_the_result_is_the_same_for_any_number_of_threads():
    before = torch.get_num_threads()
    torch.manual_seed(0)
    lstm, x = rft.accelerate(nn.LSTM(64, 96, 2, bidirectional=True)), torch.randn(11, 24, 64)
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            lstm.zero_grad()
            y, _ = lstm(x)
            y.square().sum().backward()
            found.append([y, *(p.grad.clone() for p in lstm.parameters())])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found))


def test_dropout_between_layers_takes_its_seed_from_pytorch_and_is_the_same_in_backward():
    lstm = rft.accelerate(nn.LSTM(8, 64, 3, dropout=0.5))
    x = torch.randn(6, 5, 8)
    torch.manual_seed(1)
    first, _ = lstm(x)
    torch.manual_seed(1)
    again, _ = lstm(x)
    other, _ = lstm(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    lstm.eval()
    assert torch.equal(lstm(x)[0], lstm(x)[0])
    lstm.train()
    with torch.no_grad():  # training without gradients drops too
        torch.manual_seed(1)
        close(first, lstm(x)[0], "dropout without gradients")
    # Moved along the gradient, the loss changes as the gradient says: backward had forward's mask.
    weight = lstm.weight_hh_l1
    torch.manual_seed(1)
    lstm(x)[0].sum().backward()
    direction, eps = torch.randn_like(weight), 1e-3
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(direction, alpha=sign * eps)
            torch.manual_seed(1)
            losses.append(lstm(x)[0].double().sum().item())
            weight.sub_(direction, alpha=sign * eps)
    assert (losses[0] - losses[1]) / (2 * eps) == pytest.approx(float((weight.grad * direction).sum()), rel=1e-2)


def test_empty_batches_and_sequences_are_pytorch_s():
    gru = rft.accelerate(nn.GRU(3, 4))
    y, h = gru(torch.zeros(5, 0, 3))
    assert y.shape == (5, 0, 4)
    assert h.shape == (1, 0, 4)
    with pytest.raises(RuntimeError):
        gru(torch.zeros(0, 2, 3))


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m(torch.zeros(3, 2, 5)),
        lambda m: m(torch.zeros(3, 2, 4, 1)),
        lambda m: m(torch.zeros(3, 2, 4), torch.zeros(1, 2, 6)),
        lambda m: m(torch.zeros(3, 2, 4), (torch.zeros(1, 3, 6), torch.zeros(1, 2, 6))),
        lambda m: m(torch.zeros(3, 2, 4, dtype=torch.float64)),
        lambda m: m([1, 2]),
    ],
)
def test_what_pytorch_refuses_is_refused_in_its_words(call):
    module, fast = pair_of(nn.LSTM(4, 6))
    try:
        call(module)
    except Exception as error:
        wanted = error
    else:
        pytest.skip(f"PyTorch {torch.__version__} does not refuse it")  # 2.1 runs an LSTM on inputs of any size
    with pytest.raises(type(wanted)) as got:
        call(fast)
    assert str(got.value).replace("torch.LSTM", "LSTM") == str(wanted)


def test_copies_of_a_model_do_not_share_what_they_packed():
    first = rft.accelerate(nn.GRU(4, 8))
    x = torch.randn(3, 2, 4)
    with torch.no_grad():
        before, _ = first(x)
        second = copy.deepcopy(first)
        for p in second.parameters():
            p.mul_(0.5)
        assert not torch.equal(second(x)[0], before)
        assert torch.equal(first(x)[0], before)
