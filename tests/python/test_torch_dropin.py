"""rnnfast.torch: an accelerated module stands wherever PyTorch's stood."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import subprocess
import sys
import threading
import warnings

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrize  # noqa: E402

import rnnfast.torch as rft  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")

X = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))


def lstm(**options):
    torch.manual_seed(0)
    return nn.LSTM(4, 6, **options)


def close(a, b, tolerance=1e-5):
    return bool(torch.allclose(a, b, rtol=tolerance, atol=tolerance))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.rnn, self.head = nn.Embedding(9, 4), nn.LSTM(4, 6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, ids):
        return self.head(self.rnn(self.embedding(ids))[0])


class Residual(nn.GRU):
    """A subclass with a forward that calls PyTorch's."""

    def forward(self, input, hx=None):
        y, h = super().forward(input, hx)
        return y + input, h


def test_accelerate_changes_classes_and_nothing_else():
    model = Tagger()
    parameters, keys = dict(model.named_parameters()), list(model.state_dict())
    assert rft.accelerate(model) is model
    assert type(model.rnn) is rft.LSTM
    assert isinstance(model.rnn, nn.LSTM)
    assert list(model.state_dict()) == keys
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert repr(model) == repr(Tagger())
    rft.restore(model)
    assert type(model.rnn) is nn.LSTM
    assert "_rnnfast" not in vars(model.rnn)


@pytest.mark.filterwarnings("ignore:.*oneDNN")
def test_the_report_says_what_runs_where_and_why():
    model = nn.ModuleDict(
        {
            "a": nn.LSTM(4, 6, proj_size=2),
            "b": nn.GRUCell(4, 6),
            "c": nn.RNN(4, 6, dtype=torch.float64),
            "d": nn.Linear(2, 2),
        }
    )
    assert [place.reason for place in rft.report(model)] == ["not accelerated"] * 3
    with pytest.warns(UserWarning, match=r"^2 of 3 layers stay .* a: LSTM .*\(proj_size.*; c: RNN .*float64"):
        rft.accelerate(model, weights="bf16", frozen=True)
    a, b, c = rft.report(model)
    assert (a.runs_on, b.runs_on, c.runs_on) == ("PyTorch", "rnnfast bf16, frozen", "PyTorch")
    assert "proj_size" in a.reason
    assert "float64" in c.reason
    assert str(b) == "b: GRUCell on rnnfast bf16, frozen"
    assert model["a"](X)[0].shape == (5, 3, 2)
    assert model["c"](X.double())[0].dtype is torch.float64
    assert str(rft.report(nn.Linear(1, 1))) == "no recurrent or attention layer of torch.nn"


def test_accelerate_refuses_what_it_does_not_know():
    with pytest.raises(TypeError, match=r"model is a list, expected a torch\.nn\.Module"):
        rft.accelerate([])
    with pytest.raises(ValueError, match="weights is 'f64', expected one of f32, bf16, int8"):
        rft.accelerate(lstm(), weights="f64")


def test_a_graph_kept_for_two_backwards_gives_the_same_gradients_twice():
    fast = rft.accelerate(lstm(num_layers=2, bidirectional=True))
    loss = fast(X)[0].square().sum()
    loss.backward(retain_graph=True)
    first = [p.grad.clone() for p in fast.parameters()]
    fast.zero_grad()
    loss.backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(first, fast.parameters()))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize("what", ["input", "output", "weight", "state"])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.GRUCell, nn.LSTMCell])
def test_a_change_in_place_between_forward_and_backward_raises_as_pytorch_does(kind, what):
    fast = rft.accelerate(kind(4, 6))
    cell = isinstance(fast, nn.RNNCellBase)
    x = (X[0] if cell else X).clone().requires_grad_().mul(1.0)
    h = torch.zeros(*([] if cell else [1]), 3, 6)
    outputs = fast(x, (h, h.clone()) if "LSTM" in kind.__name__ else h)
    y = outputs[0] if isinstance(outputs, tuple) else outputs
    loss = y.square().sum()
    weight = fast.weight_hh if cell else fast.weight_hh_l0
    with torch.no_grad():
        {"input": x, "output": y, "weight": weight, "state": h}[what].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM, nn.GRUCell, nn.LSTMCell])
def test_a_gradient_of_a_gradient_is_pytorch_s(kind):
    torch.manual_seed(0)
    module = kind(4, 6)
    found = []
    for own in (module, rft.accelerate(module, inplace=False)):
        x = (X if isinstance(module, nn.RNNBase) else X[0]).clone().requires_grad_()
        outputs = own(x)
        y = outputs[0] if isinstance(outputs, tuple) else outputs
        (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        dx.square().sum().backward()
        found.append([x.grad, *(p.grad for p in own.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1])
    assert all(close(a, b, 1e-4) for a, b in zip(*found))


def test_a_gradient_of_a_gradient_has_forward_s_dropout():
    fast = rft.accelerate(lstm(num_layers=3, dropout=0.5))
    x = X.clone().requires_grad_()
    torch.manual_seed(5)
    y, _ = fast(x)
    (plain,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
    (again,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    assert close(plain, again)
    again.sum().backward()
    assert fast.weight_hh_l0.grad.abs().sum() > 0


def test_torch_func_sees_pytorch_s_operators():
    module = nn.GRU(4, 6)
    fast = rft.accelerate(module, inplace=False)
    for transform in (torch.func.grad, torch.func.jacrev):
        found = [
            transform(lambda p, own=own: torch.func.functional_call(own, p, (X,))[0].sum())(
                dict(own.named_parameters())
            )
            for own in (module, fast)
        ]
        assert all(close(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap_gives_what_it_gives_for_pytorch_s_layer():
    module = nn.GRUCell(4, 6)
    fast = rft.accelerate(module, inplace=False)
    h = torch.zeros(5, 3, 6)
    found = [torch.func.vmap(own)(X, h) for own in (module, fast)]
    assert close(*found)
    per_row = [
        torch.func.vmap(
            torch.func.grad(lambda p, x, h, own=own: torch.func.functional_call(own, p, (x, h)).square().sum()),
            in_dims=(None, 0, 0),
        )(dict(own.named_parameters()), X[0], h[0])
        for own in (module, fast)
    ]
    assert all(close(per_row[0][name], per_row[1][name]) for name in per_row[0])


def test_functional_call_with_other_weights_uses_them():
    module = nn.GRU(4, 6)
    fast = rft.accelerate(module, inplace=False)
    other = {name: p.detach() * 0.5 for name, p in module.named_parameters()}
    for p in other.values():
        p.requires_grad_()
    y, _ = torch.func.functional_call(fast, other, (X,))
    y.sum().backward()
    assert close(y, torch.func.functional_call(module, other, (X,))[0])
    assert all(p.grad is not None for p in other.values())
    assert all(p.grad is None for p in fast.parameters())


@pytest.mark.filterwarnings("ignore")
def test_forward_mode_derivatives_are_pytorch_s():
    import torch.autograd.forward_ad as fw

    for own in (lstm(), rft.accelerate(lstm())):
        with fw.dual_level(), torch.backends.mkldnn.flags(enabled=False):
            y, _ = own(fw.make_dual(X, torch.ones_like(X)))
            tangent = fw.unpack_dual(y).tangent
        assert tangent.shape == y.shape


@pytest.mark.parametrize("write", ["data", "numpy", "copy_", "load_state_dict", "assign"])
def test_weights_written_in_any_way_count_in_the_next_call(write):
    fast = rft.accelerate(lstm())
    with torch.no_grad():
        before = fast(X)[0]
        if write == "data":
            fast.weight_hh_l0.data.neg_()
        elif write == "numpy":
            fast.weight_hh_l0.detach().numpy()[:] *= -1
        elif write == "copy_":
            fast.weight_hh_l0.copy_(-fast.weight_hh_l0)
        elif write == "load_state_dict":
            fast.load_state_dict({name: -value for name, value in fast.state_dict().items()})
        else:
            fast.weight_hh_l0 = nn.Parameter(-fast.weight_hh_l0)
        after = fast(X)[0]
    assert not torch.equal(before, after)
    assert close(after, rft.restore(fast)(X)[0])


def test_frozen_weights_are_packed_once_and_again_when_pytorch_counts_a_change():
    fast = rft.accelerate(lstm(), frozen=True)
    with torch.no_grad():
        before = fast(X)[0]
        fast.weight_hh_l0.data.neg_()
        assert torch.equal(fast(X)[0], before)
        fast.load_state_dict({name: 0.5 * value for name, value in fast.state_dict().items()})
        after = fast(X)[0]
    assert close(after, rft.restore(fast)(X)[0])


def test_a_frozen_layer_sees_another_parameter_and_one_that_the_core_does_not_read():
    fast = rft.accelerate(lstm(), frozen=True)
    with torch.no_grad():
        fast(X)
        fast.weight_hh_l0 = nn.Parameter(-fast.weight_hh_l0)
        assert close(fast(X)[0], rft.restore(fast, inplace=False)(X)[0])
        fast.double()
        assert fast(X.double())[0].dtype is torch.float64
        with pytest.raises((RuntimeError, ValueError)):
            fast(X)


@pytest.mark.parametrize(("rows", "core"), [(1, False), (300, True)])
def test_a_small_rnn_cell_trains_by_pytorchs_operators_and_runs_on_the_core(monkeypatch, rows, core):
    monkeypatch.undo()  # the setting that other tests have
    torch.manual_seed(0)
    fast = rft.accelerate(nn.RNNCell(4, 7))
    x = torch.randn(rows, 4)
    h = fast(x)
    assert ("Recurrent" in type(h.grad_fn).__name__) is core
    assert close(h, rft.restore(fast, inplace=False)(x))
    monkeypatch.setattr(nn.RNNCell, "forward", None)  # what is not the core's
    with torch.no_grad():
        assert close(fast(x), h.detach())


@pytest.mark.parametrize(("weights", "tolerance"), [("bf16", 2e-2), ("int8", 5e-2)])
def test_low_precision_stays_near_and_int8_says_that_it_does_not_train(weights, tolerance):
    torch.manual_seed(0)
    module = nn.LSTM(32, 64)
    x = torch.randn(7, 5, 32)
    fast = rft.accelerate(module, inplace=False, weights=weights, frozen=True)
    with torch.no_grad():
        assert not torch.equal(fast(x)[0], module(x)[0])
        assert (fast(x)[0] - module(x)[0]).abs().max().item() < tolerance
    if weights == "int8":
        with pytest.raises(RuntimeError, match="int8.*no gradients"):
            fast(x)
    else:
        fast(x)[0].sum().backward()
        module(x)[0].sum().backward()
        for a, b in zip(module.parameters(), fast.parameters()):
            assert float((a.grad - b.grad).abs().max()) < 0.05 * float(a.grad.abs().max())


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.GRUCell, nn.LSTMCell])
def test_autocast_runs_bf16_products_and_returns_bf16(kind):
    torch.manual_seed(0)
    module = kind(4, 6)
    fast = rft.accelerate(module, inplace=False)
    x = X if isinstance(module, nn.RNNBase) else X[0]
    for given in (x, x.bfloat16()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = fast(given)
        y = found[0] if isinstance(found, tuple) else found
        want = module(x)[0] if isinstance(found, tuple) else module(x)
        assert y.dtype is torch.bfloat16
        assert (y.float() - want).abs().max().item() < 2e-2
        y.float().sum().backward()
        assert fast.get_parameter("weight_hh" if y.dim() == 2 else "weight_hh_l0").grad.dtype is torch.float32


def test_other_types_are_pytorch_s():
    fast = rft.accelerate(lstm())
    fast.double()
    assert fast(X.double())[0].dtype is torch.float64
    assert rft.report(fast)[0].runs_on == "PyTorch"
    fast.float()
    assert rft.report(fast)[0].runs_on == "rnnfast f32"


def test_copies_and_files_go_both_ways(tmp_path):
    model = rft.accelerate(Tagger())
    ids = torch.arange(6).view(2, 3)
    want = model(ids)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(again.rnn) is rft.LSTM
        assert torch.equal(again(ids), want)
    torch.save(model, tmp_path / "model.pt")
    assert torch.equal(torch.load(tmp_path / "model.pt", weights_only=False)(ids), want)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    fresh = Tagger()
    fresh.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert close(fresh(ids), want)
    model.load_state_dict({name: value * 0 for name, value in fresh.state_dict().items()})
    assert not model(ids).any()


def test_a_subclass_keeps_its_own_forward_and_its_name():
    torch.manual_seed(0)
    module = Residual(4, 4)
    fast = rft.accelerate(module, inplace=False)
    assert isinstance(fast, Residual)
    assert isinstance(fast, rft.GRU)
    assert close(fast(X)[0], module(X)[0])
    for again in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert isinstance(again, rft.GRU)
        assert torch.equal(again(X)[0], fast(X)[0])
    assert type(rft.restore(fast)) is Residual


def test_tied_parameters_get_both_gradients():
    def tied(fast):
        torch.manual_seed(0)
        first, second = nn.GRU(6, 6), nn.GRU(6, 6)
        for name, p in list(first.named_parameters()):
            setattr(second, name, p)
        both = nn.ModuleList([first, second])
        return rft.accelerate(both) if fast else both

    x = torch.randn(4, 3, 6)
    found = []
    for fast in (False, True):
        first, second = tied(fast)
        assert first.weight_hh_l0 is second.weight_hh_l0
        second(first(x)[0])[0].sum().backward()
        found.append([p.grad for p in first.parameters()])
    assert all(close(a, b) for a, b in zip(*found))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["weight_norm", "old_weight_norm", "spectral_norm"])
def test_normalized_weights_are_recomputed_at_each_call(what, when):
    def normalized(own):
        if what == "old_weight_norm":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it is deprecated
                return nn.utils.weight_norm(own, "weight_hh_l0")
        getattr(nn.utils.parametrizations, what)(own, "weight_hh_l0")
        return own

    want = normalized(lstm())
    fast = rft.accelerate(normalized(lstm())) if when == "before" else normalized(rft.accelerate(lstm()))
    fast.load_state_dict(want.state_dict())
    want.eval(), fast.eval()  # spectral_norm iterates in training
    for _ in range(2):
        for own in (want, fast):
            own.zero_grad()
            own(X)[0].square().sum().backward()
        for (name, a), (_, b) in zip(want.named_parameters(), fast.named_parameters()):
            assert close(a.grad, b.grad, 1e-4), name
        with torch.no_grad():
            for a, b in zip(want.parameters(), fast.parameters()):
                a.mul_(1.1), b.mul_(1.1)
    if what != "old_weight_norm":
        assert parametrize.is_parametrized(fast)


def test_hooks_run_as_before():
    seen = []
    fast = rft.accelerate(lstm())
    fast.register_forward_pre_hook(lambda m, args: seen.append("pre"))
    fast.register_forward_hook(lambda m, args, out: seen.append("forward"))
    fast.register_full_backward_hook(lambda m, dx, dy: seen.append("backward"))
    fast.weight_hh_l0.register_hook(lambda grad: seen.append("weight"))
    fast(X.clone().requires_grad_())[0].sum().backward()
    assert seen[:2] == ["pre", "forward"]
    assert set(seen[2:]) == {"backward", "weight"}


def test_gradients_accumulate_also_into_views():
    fast = rft.accelerate(lstm())
    flat = torch.zeros(sum(p.numel() for p in fast.parameters()))
    at = 0
    for p in fast.parameters():
        p.grad = flat[at : at + p.numel()].view_as(p)
        at += p.numel()
    fast(X)[0].sum().backward()
    once = flat.clone()
    fast(X)[0].sum().backward()
    assert float(once.abs().sum()) > 0
    assert close(flat, 2 * once)


def test_saved_tensors_may_be_moved_and_forward_be_run_again():
    from torch.utils.checkpoint import checkpoint

    module, fast = lstm(num_layers=2), rft.accelerate(lstm(num_layers=2))
    module(X)[0].sum().backward()
    want = [p.grad for p in module.parameters()]
    with torch.autograd.graph.save_on_cpu():
        loss = fast(X)[0].sum()
    loss.backward()
    assert all(close(a, p.grad) for a, p in zip(want, fast.parameters()))
    fast.zero_grad()
    checkpoint(lambda x: fast(x)[0], X.clone().requires_grad_(), use_reentrant=False).sum().backward()
    assert all(close(a, p.grad) for a, p in zip(want, fast.parameters()))


@pytest.mark.filterwarnings("ignore")
def test_traced_scripted_and_exported_programs_hold_pytorch_s_operators():
    model = rft.accelerate(Tagger().eval())
    ids = torch.arange(6).view(2, 3)
    want, weight = model(ids), model.rnn.weight_hh_l0
    traced = torch.jit.trace(model, ids)
    scripted = torch.jit.script(model)
    for program in (traced, scripted):
        file = io.BytesIO()
        torch.jit.save(program, file)
        assert "aten::lstm" in str(program.inlined_graph)
        assert close(program(ids), want)
    # torch.jit.script replaces the layers of the model it reads by those it compiles.
    assert model.rnn.weight_hh_l0 is weight
    rft.accelerate(model)
    if "strict" not in inspect.signature(torch.export.export).parameters:
        return  # before PyTorch 2.3
    exported = torch.export.export(model, (ids,), strict=False)
    assert "rnnfast" not in exported.graph_module.code
    assert close(exported.module()(ids), want)


@pytest.mark.filterwarnings("ignore")
def test_archives_run_here_while_enabled():
    ids = torch.arange(6).view(2, 3)
    program = torch.jit.script(Tagger().eval())
    want = program(ids)
    with rft.enabled():
        with torch.no_grad(), torch.profiler.profile() as profile:
            assert close(program(ids), want)
        loss = program(ids).sum()
        loss.backward()
        for kind in (nn.RNN, nn.GRU, nn.LSTM):
            torch.manual_seed(0)
            own = kind(4, 6, 2, dropout=0.3)
            x = X.clone().requires_grad_()
            (dx,) = torch.autograd.grad(own(x)[0].square().sum(), x, create_graph=True)
            dx.sum().backward()
        for kind in (nn.RNNCell, nn.GRUCell, nn.LSTMCell):
            kind(4, 6)(X[0])
        packed = nn.utils.rnn.pack_padded_sequence(X, torch.tensor([5, 4, 2]))
        nn.LSTM(4, 6)(packed)
    assert not any("linear" in event.key and "lstm" in event.key for event in profile.key_averages())
    assert close(program(ids), want)


def test_threads_share_a_module():
    fast = rft.accelerate(nn.GRU(16, 32, 2))
    inputs = [torch.randn(6, 4, 16) for _ in range(4)]
    with torch.no_grad():
        want = [fast(x)[0] for x in inputs]
    wrong = []

    def run(i):
        for _ in range(20):
            with torch.no_grad():
                if not torch.equal(fast(inputs[i])[0], want[i]):
                    wrong.append(i)
            torch.autograd.grad(fast(inputs[i])[0].sum(), list(fast.parameters()))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class Rows(torch.utils.data.Dataset):
    """Its items come through a model: workers run it."""

    def __init__(self, model):
        self.model = model

    def __len__(self):
        return 4

    def __getitem__(self, i):
        with torch.no_grad():
            return self.model(X * (i + 1))[0]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_data_loader_run_the_model(method):
    fast = rft.accelerate(lstm())
    data = Rows(fast)
    want = [data[i] for i in range(4)]
    loader = torch.utils.data.DataLoader(data, num_workers=2, multiprocessing_context=method)
    for a, b in zip(want, loader):
        assert close(a, b[0])


@pytest.mark.slow
def test_distributed_data_parallel_over_gloo_averages_the_gradients_of_two_processes(tmp_path):
    program = f"""
import sys, torch, rnnfast.torch as rft
rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=rank, world_size=2)
torch.manual_seed(0)
alone = rft.accelerate(torch.nn.GRU(4, 6))
model = torch.nn.parallel.DistributedDataParallel(alone)
halves = torch.randn(2, 5, 3, 4)
model(halves[rank])[0].sum().backward()
found = [p.grad.clone() for p in alone.parameters()]
alone.zero_grad()
(sum(alone(half)[0].sum() for half in halves) / 2).backward()
assert all(torch.allclose(a, p.grad, atol=1e-5) for a, p in zip(found, alone.parameters()))
torch.distributed.destroy_process_group()
print("done")
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    runs = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for rank in (0, 1)]
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert out.strip() == b"done", err.decode()


THREADS = """
import os, torch, rnnfast.torch as rft
layer, x = rft.accelerate(torch.nn.LSTM(64, 64)), torch.randn(20, 32, 64)
with torch.no_grad():
    for threads in (1, 3):
        torch.set_num_threads(threads)
        before = len(os.listdir("/proc/self/task"))
        layer(x)
        print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in Linux's /proc")
def test_torch_set_num_threads_holds_in_a_layer_and_one_openmp_runtime_needs_no_warning():
    run = subprocess.run([sys.executable, "-W", "error", "-c", THREADS], capture_output=True, text=True)
    assert run.stdout.split() == ["0", "2"], run.stderr


def test_two_openmp_runtimes_are_reported(monkeypatch):
    monkeypatch.setattr("rnnfast.torch.swap.two_runtimes", lambda: ["/a/libgomp.so.1", "/b/libiomp5.so"])
    with pytest.warns(
        RuntimeWarning, match=r"two OpenMP runtimes .* /a/libgomp.* and /b/libiomp.*import torch before rnnfast"
    ):
        rft.accelerate(lstm())


@pytest.mark.slow
def test_the_other_order_of_imports_is_reported_where_it_loads_two_runtimes():
    program = """
import warnings, rnnfast, torch, rnnfast.torch as rft
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    rft.accelerate(torch.nn.GRU(4, 6))
print(len(rnnfast.info()["openmp_runtimes"]) > 1, any("OpenMP" in str(w.message) for w in caught))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.split() in (["True", "True"], ["False", "False"]), run.stderr


def test_rnnfast_itself_imports_no_pytorch():
    program = "import sys, rnnfast; assert 'torch' not in sys.modules, 'imported'"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_pytorch_the_message_names_the_extra():
    program = "import sys; sys.modules['torch'] = None\nimport rnnfast.torch"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'rnnfast[torch]'" in run.stderr
