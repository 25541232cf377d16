"""rnnfast.torch under torch.compile: one operator in the graph, and the same results."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import library, nn  # noqa: E402

import rnnfast.torch as rft  # noqa: E402
from rnnfast.torch.call import Spec  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
if not hasattr(library, "custom_op"):
    pytest.skip("torch.compile takes the operator since PyTorch 2.4", allow_module_level=True)


class Model(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.rnn, self.head = kind(4, 6, **options), nn.Linear(6 * (2 if options.get("bidirectional") else 1), 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class Unrolled(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell = kind(4, 6)

    def forward(self, x):
        state, outputs = None, []
        for step in x:
            state = self.cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs)


def models():
    for kind in (nn.RNN, nn.GRU, nn.LSTM):
        yield Model(kind, num_layers=2, bidirectional=True)
        yield Model(kind, batch_first=True)
    for cell in (nn.RNNCell, nn.GRUCell, nn.LSTMCell):
        yield Unrolled(cell)


def some_slow():
    """Tracing takes seconds: by default, one layer and one cell."""
    return [m if i in (4, 8) else pytest.param(m, marks=pytest.mark.slow) for i, m in enumerate(models())]


@pytest.mark.parametrize("model", some_slow(), ids=lambda m: type(next(m.children())).__name__)
def test_the_compiled_model_has_no_graph_break_and_gives_the_same(model):
    """By the backend that runs what AOTAutograd traces: forward and backward graphs, without a compiler."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    rft.accelerate(model)
    x = torch.randn(5, 3, 4)
    found = []
    for run in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        own = x.clone().requires_grad_()
        y = run(own)
        gradients = torch.autograd.grad(y.square().sum(), [own, *model.parameters()])
        with torch.no_grad():
            found.append([y, *gradients, run(x)])
    for a, b in zip(*found):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_inductor_compiles_the_model():
    model = rft.accelerate(Model(nn.LSTM, num_layers=2))
    x = torch.randn(5, 3, 4)
    compiled = torch.compile(model, fullgraph=True)
    assert torch.allclose(compiled(x), model(x), rtol=1e-5, atol=1e-5)
    compiled(x).sum().backward()
    assert model.rnn.weight_hh_l0.grad is not None


def test_the_operator_is_what_pytorch_expects_of_operators():
    """Its schema, its fake kernel and its autograd, by PyTorch's own checks. Compiled results are compared above: here the padding of
    what is saved would be compared too, which nobody writes."""
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    lstm = nn.LSTM(4, 6, 2)
    weights = [p.detach().clone().requires_grad_() for p in lstm.parameters()]
    x, h, c = (torch.randn(*shape, requires_grad=True) for shape in [(5, 3, 4), (2, 3, 6), (2, 3, 6)])
    arguments = (x, 3, None, h, c, weights, None, "lstm", "f32", [4, 6, 2, 1, 0], 0.0, True)
    library.opcheck(torch.ops.rnnfast.recurrent.default, arguments, test_utils=checks)


def test_the_size_of_what_is_saved_is_the_core_s():
    for cell in ("rnn", "rnn_relu", "gru", "lstm"):
        for hidden in (1, 16, 33):
            for bidirectional in (False, True):
                spec = Spec(cell, 5, hidden, 3, True, bidirectional, "f32")
                assert [spec.saved_floats(n) for n in (1, 7, 100)] == [
                    spec.function().saved_floats(n) for n in (1, 7, 100)
                ]
