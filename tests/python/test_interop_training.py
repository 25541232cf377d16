"""Two kinds of LSTM become other layers when they are imported. Those layers train, and their gradients give those of the original."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast as rf

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn  # noqa: E402

TOLERANCE = 1e-5  # float32 sums in another order
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def trains_and_goes_out(net, x, tmp_path):
    """A step of training lowers the loss, and the trained network is the same after an export and an import."""
    y = np.random.default_rng(3).normal(size=net(x).shape).astype(np.float32)
    history = rf.fit(net, (x, y), loss="mse", epochs=5, lr=1e-2)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    trained = net(x)
    net.save(tmp_path / "net.safetensors")
    assert np.array_equal(rf.load(tmp_path / "net.safetensors")(x), trained)
    pytest.importorskip("onnx", reason="onnx is not installed")
    net.to_onnx(tmp_path / "net.onnx")
    assert np.array_equal(rf.from_onnx(tmp_path / "net.onnx")(x), trained)
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    session = runtime.InferenceSession((tmp_path / "net.onnx").read_bytes())
    theirs = session.run(None, {session.get_inputs()[0].name: x})[0]
    np.testing.assert_allclose(theirs, trained, atol=TOLERANCE)


def test_gradients_of_an_lstm_with_a_projection_are_those_of_pytorch(tmp_path):
    """The network has E = W_hh W_hr and D = W_hr: dW_hh = dE W_hr', dW_hr = W_hh' dE + dD, all others as they are."""
    torch.manual_seed(0)
    layer, x, dy = nn.LSTM(4, 9, 2, proj_size=3), torch.randn(8, 5, 4, requires_grad=True), torch.randn(8, 5, 3)
    for p in layer.parameters():
        p.data.mul_(2)
    net = rf.from_torch(layer)
    layer(x)[0].backward(dy)
    assert [entry["type"] for entry in net.config["layers"]] == ["recurrent", "linear", "recurrent", "linear"]
    _, backward = net.forward(x.detach().numpy())
    np.testing.assert_allclose(backward(dy.numpy()), x.grad.numpy(), atol=TOLERANCE)
    for i in range(2):
        own, down = f"{2 * i}.", f"{2 * i + 1}.weight"
        for name in ("weight_ih", "bias_ih", "bias_hh"):
            theirs = getattr(layer, f"{name}_l{i}").grad.numpy()
            np.testing.assert_allclose(net.grads[f"{own}{name}_l0"], theirs, atol=TOLERANCE, err_msg=name)
        w_hh, w_hr = getattr(layer, f"weight_hh_l{i}"), getattr(layer, f"weight_hr_l{i}")
        product = net.grads[f"{own}weight_hh_l0"]
        np.testing.assert_allclose(product @ w_hr.detach().numpy().T, w_hh.grad.numpy(), atol=TOLERANCE)
        both = w_hh.detach().numpy().T @ product + net.grads[down]
        np.testing.assert_allclose(both, w_hr.grad.numpy(), atol=TOLERANCE)
    net.zero_grad()
    trains_and_goes_out(net, x.detach().numpy(), tmp_path)


def coupled(x, w, r, b):
    """h of an LSTM whose forget gate is 1 - i, with ONNX's blocks i, o and c."""
    h = c = x.new_zeros(x.shape[1], r.shape[1])
    steps = []
    for row in x:
        i, o, n = (row @ w.T + h @ r.T + b).chunk(3, 1)
        i = torch.sigmoid(i)
        c = (1 - i) * c + i * torch.tanh(n)
        h = torch.sigmoid(o) * torch.tanh(c)
        steps.append(h)
    return torch.stack(steps)


def test_gradients_of_an_lstm_with_coupled_gates_are_those_of_its_equations(tmp_path):
    """The forget gate's numbers are those of the input gate with the other sign: da = da_i - da_f."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    make, hidden = onnx.helper, 5
    random = np.random.default_rng(0)
    w, r, b = (random.normal(0, 0.5, shape) for shape in ((3 * hidden, 3), (3 * hidden, hidden), (3 * hidden,)))

    def four(block):  # i o f c; ONNX ignores f
        i, o, n = np.split(block, 3)
        return np.concatenate([i, o, random.normal(size=i.shape), n])[None].astype(np.float32)

    constants = {"W": four(w), "R": four(r), "B": np.concatenate([four(b), np.zeros((1, 4 * hidden), np.float32)], 1)}
    node = make.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=hidden, input_forget=1)
    squeeze = make.make_node("Squeeze", ["Y", "one"], ["y"])
    graph = make.make_graph(
        [node, squeeze], "coupled", [make.make_tensor_value_info("X", 1, ["T", "N", 3])], [make.make_tensor_value_info("y", 1, None)],
        [onnx.numpy_helper.from_array(v, n) for n, v in {**constants, "one": np.array([1])}.items()],
    )  # fmt: skip
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)])
    model.ir_version = 8
    net = rf.from_onnx(model)

    parts = [torch.tensor(a.astype(np.float32), dtype=torch.float64, requires_grad=True) for a in (w, r, b)]
    x = torch.tensor(random.normal(size=(8, 4, 3)).astype(np.float32), dtype=torch.float64, requires_grad=True)
    y = coupled(x, *parts)
    dy = random.normal(size=y.shape).astype(np.float32)
    y.backward(torch.tensor(dy, dtype=torch.float64))
    x32 = x.detach().numpy().astype(np.float32)
    found, backward = net.forward(x32)
    np.testing.assert_allclose(found, y.detach().numpy(), atol=TOLERANCE)
    np.testing.assert_allclose(backward(dy), x.grad.numpy(), atol=TOLERANCE)
    grads = {name.rpartition(".")[2]: value for name, value in net.grads.items()}
    for name, part in zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"), parts):
        i, f, g, o = np.split(grads[name], 4)
        np.testing.assert_allclose(np.concatenate([i - f, o, g]), part.grad.numpy(), atol=TOLERANCE, err_msg=name)
    net.zero_grad()
    trains_and_goes_out(net, x32, tmp_path)
