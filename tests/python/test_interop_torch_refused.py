"""What a PyTorch module does counts: training, axes and classes are taken as PyTorch means them, or refused by name; never ignored."""

from __future__ import annotations

import numpy as np
import pytest

import rnnfast as rf

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

TOLERANCE = 1e-5  # float32 sums in another order


class Of(nn.Module):
    """A module whose forward is a function of its linear layer's output and itself."""

    def __init__(self, function):
        super().__init__()
        self.head, self.function = nn.Linear(4, 4), function
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("variance", torch.ones(4))

    def forward(self, x):
        return self.function(self.head(x), self)


class Linear(nn.Linear):
    """A user's class with the name of PyTorch's."""

    def forward(self, x):
        return 2 * super().forward(x)


class LSTM(nn.LSTM):
    """Another."""

    def forward(self, x):
        return super().forward(x)[0].cumsum(0)


def changed():
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: torch.cumsum(x, 0)
    return layer


def hooked():
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda module, given, y: torch.cumsum(y, 0))
    return layer


REFUSED = {
    "dropout in training": ("operation 'dropout'.*eval mode", lambda: Of(lambda y, m: F.dropout(y, 0.5, training=True))),
    "a normalization in training": ("statistics of the batch", lambda: Of(lambda y, m: F.batch_norm(y.transpose(1, 2), m.mean, m.variance, training=True))),
    "a normalization without statistics": ("statistics of the batch|no such operation", lambda: Of(lambda y, m: F.batch_norm(y.transpose(1, 2), None, None, training=True))),
    "numbers cast to integers": ("casts numbers to integers", lambda: Of(lambda y, m: y.long().float())),
    "random numbers": ("computes random numbers", lambda: Of(lambda y, m: y + torch.randn(4))),
    "negative padding": ("pads axis 2 by -1 and 0", lambda: Of(lambda y, m: F.conv1d(F.pad(y.transpose(1, 2), (-1, 0)), m.head.weight[:, :, None]))),
    "a shift after padding": ("zeros are added", lambda: Of(lambda y, m: F.conv1d(F.pad(y.transpose(1, 2), (1, 1)) + 1, m.head.weight[:, :, None].expand(4, 4, 3)))),
    "a linear layer after a convolution": ("layer '2', Linear: reads the numbers of a step in the last axis", lambda: nn.Sequential(nn.Conv1d(4, 4, 3), nn.ReLU(), nn.Linear(4, 4))),
    "a recurrent layer after a convolution": ("layer '1', GRU: reads the numbers", lambda: nn.Sequential(nn.Conv1d(4, 4, 3), nn.GRU(4, 4, batch_first=True))),
    "a norm of the last axis after a pool": ("layer '0', LayerNorm: reads the numbers", lambda: nn.Sequential(nn.LayerNorm(4), nn.MaxPool1d(2))),
    "a softmax of the steps": ("layer '1', Softmax: has dim=-1, expected 1, the channels", lambda: nn.Sequential(nn.Conv1d(4, 4, 3), nn.Softmax(-1))),
    "a softmax of the rows": ("layer '1', LogSoftmax: has dim=1, expected -1", lambda: nn.Sequential(nn.Linear(4, 4), nn.LogSoftmax(1))),
    "a normalization of steps": ("layer '1', BatchNorm1d: normalizes axis 1", lambda: nn.Sequential(nn.LSTM(4, 4), nn.BatchNorm1d(4))),
    "places of maxima": ("return_indices", lambda: nn.Sequential(nn.Conv1d(4, 4, 3), nn.MaxPool1d(2, return_indices=True))),
    "attention with more": ("add_zero_attn", lambda: nn.MultiheadAttention(4, 2, add_zero_attn=True)),
    "a user's LSTM": ("LSTM: operation 'cumsum'", lambda: LSTM(4, 4)),
    "a layer with a forward of its own": ("'cumsum'", changed),
    "a layer with a hook": ("'cumsum'", hooked),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_network_cannot_do_is_refused_by_name(name):
    reason, make = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s){reason}"):
        rf.from_torch(make())


def test_a_user_s_class_is_read_by_what_it_computes_and_not_by_its_name():
    torch.manual_seed(0)
    module, x = nn.Sequential(Linear(4, 4), nn.ReLU()).eval(), torch.randn(29, 7, 4)
    np.testing.assert_allclose(rf.from_torch(module, x)(x.numpy()), module(x).detach().numpy(), atol=TOLERANCE)


def test_channels_before_steps_are_normalized_and_shared_by_a_softmax_of_axis_1():
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm1d(4), nn.Conv1d(4, 3, 3, padding=1), nn.Softmax(1)).eval()
    x = torch.randn(2, 4, 9)
    ours = rf.from_torch(module)(x.numpy().swapaxes(1, 2)).swapaxes(1, 2)
    np.testing.assert_allclose(ours, module(x).detach().numpy(), atol=TOLERANCE)


def test_shares_of_rows_and_columns_that_the_module_takes_from_its_input_s_shape_are_not_baked_in():
    for function in (lambda y, m: y / y.shape[0], lambda y, m: y * y.shape[1]):
        with pytest.raises(ValueError, match="gives other outputs than the module"):
            rf.from_torch(Of(function))


def test_a_layer_of_rnnfast_torch_is_read_as_pytorch_s():
    import rnnfast.torch as ours

    torch.manual_seed(0)
    layer, x = ours.LSTM(4, 5), torch.randn(6, 2, 4)
    net = rf.from_torch(nn.Sequential(layer, nn.Linear(5, 2)))
    assert [entry["type"] for entry in net.config["layers"]] == ["recurrent", "linear"]
    assert net(x.numpy()).shape == (6, 2, 2)
