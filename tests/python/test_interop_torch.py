"""PyTorch modules as networks."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast as rf

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

TOLERANCE = 1e-5  # float32 sums in another order, functions of another library


class Tagger(nn.Module):
    """A BiLSTM with the usual detours: a mask-free classifier, or a label for every step."""

    def __init__(self, batch_first, both, layers, ends):
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.rnn = nn.LSTM(6, 5, layers, batch_first=batch_first, bidirectional=both)
        self.head = nn.Linear(5 * (1 + both), 3)
        self.both, self.ends = both, ends

    def forward(self, ids):
        y, (h, _) = self.rnn(self.embedding(ids))
        if not self.ends:
            return self.head(y)
        return self.head(torch.cat([h[-2], h[-1]], 1) if self.both else h[-1])


class Causal(nn.Module):
    """A causal convolution as it is usually written, a batch normalization, a GRU and a flattened head."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, channels, 3, padding=2), nn.BatchNorm1d(channels)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.rnn, self.head = nn.GRU(channels, hidden), nn.Linear(hidden, 2)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)[:, :, :-2]))
        y, _ = self.rnn(x.permute(2, 0, 1))
        return torch.tanh(self.head(y.reshape(-1, y.shape[-1])))


class Residual(nn.Module):
    """Sums, products, a concatenation and a mean over time."""

    def __init__(self, width):
        super().__init__()
        self.rnn, self.norm, self.drop = nn.RNN(width, width, batch_first=True), nn.LayerNorm(width), nn.Dropout(0.3)

    def forward(self, x):
        y = self.drop(self.norm(self.rnn(x)[0] + x))
        return F.gelu(torch.cat([y * torch.sigmoid(x) * 2 + 1, y], -1)).mean(1)


def random_module(seed):
    """A module, an input of it, and how the network reads that input and gives the output."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    kind, size = seed % 4, int(random.integers(2, 7))
    if kind == 0:
        batch_first = bool(random.integers(2))
        module = Tagger(batch_first, bool(random.integers(2)), int(random.integers(1, 4)), bool(random.integers(2)))
        return module, torch.randint(0, 11, (3, 8) if batch_first else (8, 3)), "as it is"
    if kind == 1:
        return Causal(size, size + 1), torch.randn(3, 4, 8), "flat"
    if kind == 2:
        return Residual(size), torch.randn(3, 8, size), "as it is"
    return random_chain(random, size)


def random_chain(random, width):
    layers, first = [], width
    for _ in range(int(random.integers(1, 6))):
        out = int(random.integers(2, 7))
        made = {
            "linear": (nn.Linear(width, out), out), "relu": (nn.ReLU(), width), "norm": (nn.LayerNorm(width), width),
            "tanh": (nn.Tanh(), width), "silu": (nn.SiLU(), width), "nested": (nn.Sequential(nn.Linear(width, out), nn.ELU()), out),
            "sigmoid": (nn.Sigmoid(), width), "leaky": (nn.LeakyReLU(), width), "rms": (nn.RMSNorm(width), width),
        }  # fmt: skip
        layer, width = made[str(random.choice(list(made)))]
        layers.append(layer)
    layers.append(nn.Linear(width, 2))
    if not hasattr(layers[0], "weight"):
        layers.insert(0, nn.Linear(first, first))
    return nn.Sequential(*layers), torch.randn(8, 3, first), "as it is"


def difference(seed):
    module, x, layout = random_module(seed)
    module.eval()
    net = rf.from_torch(module)
    given = x.numpy().swapaxes(1, 2) if layout == "flat" else x.numpy()
    ours = net(given)
    if layout == "flat":
        ours = ours.swapaxes(0, 1).reshape(-1, ours.shape[-1])
    with torch.no_grad():
        return float(np.abs(ours - module(x).numpy()).max())


@pytest.mark.parametrize("seed", range(4))
def test_a_random_module_gives_the_same_outputs(seed):
    assert difference(seed) < TOLERANCE


@pytest.mark.slow
def test_a_hundred_random_modules_give_the_same_outputs():
    assert max(difference(seed) for seed in range(100, 200)) < TOLERANCE


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN])
def test_layers_are_read_with_all_their_directions(make):
    torch.manual_seed(0)
    layer, x = make(4, 5, 2, bidirectional=True, batch_first=True), torch.randn(3, 8, 4)
    net = rf.from_torch(nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(10, 2)))
    assert net.batch_first
    assert [entry["type"] for entry in net.config["layers"]] == ["linear", "recurrent", "linear"]
    np.testing.assert_allclose(rf.from_torch(layer)(x.numpy()), layer(x)[0].detach().numpy(), atol=TOLERANCE)


class LastOfProjected(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 9, 2, proj_size=3, batch_first=True)
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        y, (h, _) = self.rnn(x)
        return self.out(y), h[-1]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_an_lstm_with_a_projection_becomes_layers_and_products(both, bias, tmp_path):
    torch.manual_seed(0)
    layer, x = nn.LSTM(4, 9, 2, proj_size=3, bias=bias, bidirectional=both, dropout=0.2).eval(), torch.randn(8, 3, 4)
    for p in layer.parameters():
        p.data.mul_(2)
    net = rf.from_torch(nn.Sequential(layer, nn.Linear(3 * (1 + both), 2)))
    expected = net(x.numpy())
    theirs = layer(x)[0].detach().numpy()
    np.testing.assert_allclose(rf.from_torch(layer)(x.numpy()), theirs, atol=TOLERANCE)
    net.save(tmp_path / "net.safetensors")
    assert np.array_equal(rf.load(tmp_path / "net.safetensors")(x.numpy()), expected)
    if not both:
        step = net.stream(3)
        assert np.array_equal([step(row) for row in x.numpy()], expected)
        module = LastOfProjected().eval()
        given = torch.randn(7, 29, 4)
        ours = rf.from_torch(module, given).run(given.numpy())
        for a, b in zip(ours.outputs.values(), module(given)):
            np.testing.assert_allclose(a, b.detach().numpy(), atol=TOLERANCE)


def test_a_convolution_in_a_chain_reads_channels_last_and_takes_its_normalization_in():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6)
    norm.running_mean.normal_()
    module = nn.Sequential(nn.Conv1d(4, 6, 3, padding="same", dilation=2), norm, nn.ReLU(), nn.Conv1d(6, 2, 1)).eval()
    net, x = rf.from_torch(module), torch.randn(3, 4, 9)
    assert [entry["type"] for entry in net.config["layers"]] == ["conv1d", "activation", "linear"]
    ours = net(x.numpy().swapaxes(1, 2)).swapaxes(1, 2)
    np.testing.assert_allclose(ours, module(x).detach().numpy(), atol=TOLERANCE)


PARTS = {
    "leaky": nn.LeakyReLU(0.2), "elu": nn.ELU(0.7), "gelu": nn.GELU(approximate="tanh"), "softplus": nn.Softplus(2.0),
    "hardtanh": nn.Hardtanh(-0.5, 0.7), "relu6": nn.ReLU6(), "hardsigmoid": nn.Hardsigmoid(), "max": nn.MaxPool1d(3, 2, 1),
    "mean": nn.AvgPool1d(3, padding=1, count_include_pad=False), "strided": nn.Conv1d(6, 8, 3, stride=2, groups=2, padding=1),
    "norm": nn.BatchNorm1d(6),
}  # fmt: skip


class Channels(nn.Module):
    """A part between convolutions, which torch.export reads, with a softmax of the channels."""

    def __init__(self, part):
        super().__init__()
        self.first, self.part = nn.Conv1d(4, 6, 1), part

    def forward(self, x):
        return F.log_softmax(self.part(torch.tanh(self.first(x))), 1)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_read_as_a_module_and_as_an_operation(name):
    torch.manual_seed(0)
    part, x = PARTS[name], torch.randn(3, 4, 9)
    if name == "norm":
        part.running_mean.normal_()
        part.running_var.uniform_(0.5, 2)
    first = nn.Conv1d(4, 6, 1)
    for module in (nn.Sequential(first, nn.Tanh(), part, nn.ReLU()).eval(), Channels(part).eval()):
        ours = rf.from_torch(module)(x.numpy().swapaxes(1, 2)).swapaxes(1, 2)
        np.testing.assert_allclose(ours, module(x).detach().numpy(), atol=TOLERANCE)


def test_a_flattened_sequence_of_the_example_s_length_and_a_softmax_of_its_scores():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(42, 3), nn.Softmax(-1)).eval()
    x = torch.randn(2, 4, 9)
    np.testing.assert_allclose(
        rf.from_torch(module, x)(x.numpy().swapaxes(1, 2)), module(x).detach().numpy(), atol=TOLERANCE
    )


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        return torch.cumsum(self.head(x), 1)


class Projected(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[1][1]


def test_what_cannot_be_taken_is_named():
    with pytest.raises(
        ValueError, match=r"operation 'cumsum' \(aten.cumsum.default\): networks of rnnfast have no such"
    ):
        rf.from_torch(Odd())
    with pytest.raises(ValueError, match=r"cell state of an LSTM"):
        rf.from_torch(Projected())
    with pytest.raises(ValueError, match=r"layer '1', BatchNorm1d: keeps no running mean"):
        rf.from_torch(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)))
    with pytest.raises(ValueError, match="give an example input"):
        rf.from_torch(nn.Softmin())
    with pytest.raises(TypeError, match=r"module is a list, expected a torch.nn.Module"):
        rf.from_torch([nn.Linear(2, 2)])
