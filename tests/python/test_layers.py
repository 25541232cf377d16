"""Guarantees of every layer: gradients are those of forward's input, options are fixed, arrays may have any form."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import registered
from registered import CLASSES, torch_class

import rnnfast as rf

# Every layer as (made for batch_first or not, features of its input)
LAYERS = {
    "rnn": lambda **k: rf.RNN(3, 4, seed=0, **k),
    "gru": lambda **k: rf.GRU(3, 4, 2, bidirectional=True, seed=0, **k),
    "lstm": lambda **k: rf.LSTM(3, 4, seed=0, **k),
    "lstm in bf16": lambda **k: rf.LSTM(3, 4, weights="bf16", seed=0, **k),
    "recomputed lstm": lambda **k: rf.LSTM(3, 4, recompute="sqrt", seed=0, **k),
    "conv": lambda **k: rf.Conv1d(3, 4, 3, padding="same", seed=0, **k),
    "attention": lambda **k: rf.SelfAttention(3, 3, seed=0, **k),
}
SINGLE = {
    "linear": lambda: rf.Linear(3, 4, seed=0),
    "layer norm": lambda: rf.LayerNorm(3),
    "rms norm": lambda: rf.RMSNorm(3),
    "rnn cell": lambda: rf.RNNCell(3, 4, seed=0),
    "gru cell": lambda: rf.GRUCell(3, 4, seed=0),
    "lstm cell": lambda: rf.LSTMCell(3, 4, seed=0),
}
RECURRENT = CLASSES
CELLS = [kind for kind in registered.CELLS.values() if isinstance(kind, type)]


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ones_like(y):
    return tuple(map(np.ones_like, y)) if isinstance(y, tuple) else np.ones_like(y)


def arrays(result):
    """All arrays in nested tuples."""
    if isinstance(result, tuple):
        return [array for part in result for array in arrays(part)]
    return [] if result is None else [result]


def gradients(layer, x, between=lambda: None, **options):
    """What backward gives, and adds, after `between` has run."""
    y, *_, backward = layer.forward(x, **options)
    between()
    return [*arrays(backward(ones_like(y))), *(gradient.copy() for gradient in layer.grads.values())]


def same(left, right):
    return len(left) == len(right) and all(map(np.array_equal, left, right))


@pytest.mark.fault("N1")
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(5, 2, 3), (5, 1, 3), (1, 5, 3), (5, 3)], ids=str)
def test_an_input_that_changes_before_backward_leaves_the_gradients_as_they_were(kind, batch_first, shape):
    x = random(*shape)
    expected = gradients(LAYERS[kind](batch_first=batch_first), x.copy())
    assert same(gradients(LAYERS[kind](batch_first=batch_first), x, lambda: x.fill(7)), expected)


@pytest.mark.fault("N1")
@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.parametrize("shape", [(5, 3), (1, 3), (3,)], ids=str)
def test_an_input_of_a_cell_or_of_linear_may_change_before_backward(kind, shape):
    x = random(*shape)
    expected = gradients(SINGLE[kind](), x.copy())
    assert same(gradients(SINGLE[kind](), x, lambda: x.fill(7)), expected)


@pytest.mark.fault("N1")
@pytest.mark.parametrize("kind", [*LAYERS, *SINGLE])
def test_a_tensor_or_a_view_that_shares_its_memory_may_change_before_backward(kind):
    torch = pytest.importorskip("torch")
    layer = {**LAYERS, **SINGLE}[kind]
    x = random(5, 3)
    expected = gradients(layer(), x.copy())
    for given in (torch.from_numpy(x.copy()), x.copy()[::1], x.copy().astype(np.float32, copy=False).view()):
        assert same(gradients(layer(), given, lambda: given.__setitem__(slice(None), 7)), expected)  # noqa: B023
    frozen = x.copy()
    view = frozen.view()
    view.flags.writeable = False  # the base array may still be writable
    assert same(gradients(layer(), view, lambda: frozen.fill(7)), expected)


@pytest.mark.fault("N1")
def test_states_lengths_ids_and_targets_may_change_before_backward():
    x, h, lengths = random(5, 2, 3), random(1, 2, 4), np.array([5, 2], np.int32)
    expected = gradients(rf.GRU(3, 4, seed=0), x, state=h.copy(), lengths=lengths.copy())
    changed = gradients(rf.GRU(3, 4, seed=0), x, lambda: (h.fill(7), lengths.fill(1)), state=h, lengths=lengths)
    assert same(changed, expected)
    ids = np.array([[1, 2], [2, 0]], np.int32)
    expected = gradients(rf.Embedding(3, 4, seed=0), ids.copy())
    assert same(gradients(rf.Embedding(3, 4, seed=0), ids, lambda: ids.fill(1)), expected)
    results = []
    for change in (False, True):
        model = rf.LanguageModel(5, embedding_size=3, hidden_size=4, cell="lstm", seed=0)
        x, y = np.array([[1, 2], [3, 4]], np.int32), np.array([[3, 4], [0, 1]], np.int32)
        state = (random(1, 2, 4), random(1, 2, 4, seed=1))
        model.loss(x, y, state)
        for array in (x, y, *state) if change else ():
            array.fill(1)
        model.backward()
        results.append([gradient.copy() for gradient in model.grads.values()])
    assert same(*results)


@pytest.mark.fault("N1")
def test_pairs_of_sentences_may_change_before_backward():
    results = []
    for change in (False, True):
        model = rf.Seq2Seq(6, 7, embedding_size=3, hidden_size=4, attention="additive", seed=0)
        source, lengths = np.array([[4, 5], [3, 3]], np.int32), np.array([2, 1], np.int32)
        target = np.array([[2, 2], [5, 3], [3, -1]], np.int32)
        model.loss(source, lengths, target)
        for array in (source, lengths, target) if change else ():
            array.fill(1)
        model.backward()
        results.append([gradient.copy() for gradient in model.grads.values()])
    assert same(*results)


@pytest.mark.fault("N1")
@pytest.mark.parametrize("kind", [*LAYERS, *SINGLE])
@pytest.mark.parametrize("change", ["load_state_dict", "optimizer"])
def test_weights_that_change_between_forward_and_backward_are_an_error(kind, change):
    layer = {**LAYERS, **SINGLE}[kind]()
    y, *_, backward = layer.forward(random(5, 3))
    if change == "optimizer":
        rf.SGD(layer, lr=0.1).step()
    else:
        layer.load_state_dict(layer.state_dict())
    with pytest.raises(ValueError, match="the weights changed between forward and backward .* call forward again"):
        backward(ones_like(y))
    assert not any(gradient.any() for gradient in layer.grads.values())
    y, *_, backward = layer.forward(random(5, 3))
    backward(ones_like(y))


@pytest.mark.fault("N1")
@pytest.mark.parametrize("kind", ["language model", "none", "additive", "dot"])
def test_weights_of_a_model_that_change_between_loss_and_backward_are_an_error(kind):
    if kind == "language model":
        model, batch = rf.LanguageModel(5, hidden_size=4, seed=0), ([[1]], [[2]])
    else:
        decoder = "d2l" if kind == "additive" else "context_and_previous"
        model = rf.Seq2Seq(6, 7, embedding_size=3, hidden_size=4, attention=kind, decoder=decoder, seed=0)
        batch = ([[4], [3]], [2], [[2], [5], [3]])
    model.loss(*batch)
    rf.Adam(model).step()
    with pytest.raises(ValueError, match="the weights changed between forward and backward"):
        model.backward()
    assert not any(gradient.any() for gradient in model.grads.values())
    model.loss(*batch)
    model.backward()


def test_weights_of_another_layer_may_change_between_forward_and_backward():
    first, second = rf.Linear(3, 4, seed=0), rf.GRU(4, 5, seed=0)
    hidden, back_first = first.forward(random(5, 2, 3))
    y, _, back_second = second.forward(hidden)
    dhidden, _ = back_second(np.ones_like(y))
    rf.SGD(second, lr=0.1).step()
    assert back_first(dhidden).shape == (5, 2, 3)


OPTIONS = {
    rf.RNN: "input_size hidden_size num_layers bias dropout bidirectional variational weights recompute nonlinearity",
    rf.LSTM: "input_size hidden_size num_layers bias dropout bidirectional variational weights recompute",
    rf.GRU: "input_size hidden_size num_layers reset_after",
    rf.GRUCell: "input_size hidden_size bias reset_after",
    rf.RNNCell: "input_size hidden_size bias nonlinearity",
    rf.Linear: "in_features out_features bias",
    rf.LayerNorm: "normalized_size eps elementwise_affine bias",
    rf.RMSNorm: "normalized_size eps elementwise_affine",
    rf.Embedding: "num_embeddings embedding_dim",
    rf.Conv1d: "in_channels out_channels kernel_size stride dilation groups padding bias batch_first",
    rf.SelfAttention: "embed_dim num_heads causal bias batch_first",
    rf.BatchNorm1d: "num_features eps momentum affine",
    rf.AttentionPool: "width",
}


@pytest.mark.fault("M4")
@pytest.mark.parametrize("kind", OPTIONS)
def test_options_of_a_layer_are_read_only(kind):
    alone = (rf.LayerNorm, rf.RMSNorm, rf.BatchNorm1d, rf.AttentionPool)
    layer = kind(4, 2, 3) if kind is rf.Conv1d else kind(4) if kind in alone else kind(4, 2)
    shown = repr(layer)
    for name in OPTIONS[kind].split():
        before = getattr(layer, name)
        with pytest.raises(AttributeError, match=f"{name} is fixed when a {kind.__name__} is made: make a new"):
            setattr(layer, name, "sqrt")
        assert getattr(layer, name) == before
    assert repr(layer) == shown


@pytest.mark.fault("M4")
def test_batch_first_of_a_recurrent_layer_takes_effect_at_the_next_call():
    layer, x = rf.GRU(3, 4, seed=0), random(5, 2, 3)
    y, _, backward = layer.forward(x)
    expected = gradients(rf.GRU(3, 4, seed=0), x)[0]
    layer.batch_first = True
    assert np.array_equal(backward(np.ones_like(y))[0], expected)
    assert np.array_equal(layer(x.swapaxes(0, 1))[0], y.swapaxes(0, 1))


@pytest.mark.fault("M4")
@pytest.mark.parametrize("model", [rf.LanguageModel(5, hidden_size=4, seed=0), rf.Seq2Seq(5, 5, hidden_size=4, seed=0)])
def test_a_model_s_configuration_is_read_only(model):
    before = dict(model.config)
    with pytest.raises(TypeError, match="does not support item assignment"):
        model.config["dropout"] = 0.5
    with pytest.raises(AttributeError):
        model.config = {}
    if "reads" in before:
        model.config["reads"].append("nothing")
    assert model.config == before == json.loads(json.dumps(dict(model.config)))


def test_teacher_forcing_may_change_while_a_model_is_trained():
    model = rf.Seq2Seq(6, 7, embedding_size=3, hidden_size=4, seed=0)
    model.teacher_forcing = 0.25
    assert model.teacher_forcing == model.config["teacher_forcing"] == 0.25
    with pytest.raises(ValueError, match="teacher_forcing is 2"):
        model.teacher_forcing = 2


@pytest.mark.fault("N14")
@pytest.mark.parametrize("kind", [*LAYERS, *SINGLE])
def test_assigning_a_gradient_writes_it(kind):
    layer = {**LAYERS, **SINGLE}[kind]()
    live = layer.grads
    for name, gradient in live.items():
        layer.grads[name] = np.full(gradient.shape, 3.0)
        layer.grads[name] *= 2
        assert (gradient == 6).all()
        with pytest.raises(ValueError, match=f"the gradient of {name} has shape"):
            layer.grads[name] = np.zeros((1, 1, 1, 1))
    with pytest.raises(KeyError, match="no_such_name"):
        layer.grads["no_such_name"] = 0.0
    with pytest.raises(TypeError, match="load_state_dict"):
        layer.parameters()["weight"] = 0.0
    assert sorted(dict(live)) == sorted(layer.parameters())


@pytest.mark.fault("N14")
def test_a_gradient_of_another_shape_with_as_many_numbers_is_refused():
    for layer, x in ((rf.Embedding(9, 4, seed=0), np.ones((3, 2), int)), (rf.Linear(3, 4, seed=0), random(3, 2, 3))):
        y, backward = layer.forward(x)
        for shape in ((2, 3, 4), (6, 4), (24,)):
            with pytest.raises(ValueError, match=r"gradient of the output has shape .*, expected \(3, 2, 4\)"):
                backward(np.zeros(shape))
        backward(np.zeros_like(y))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_single_row_needs_no_axis_of_rows(kind, batch_first):
    x = random(5, 3)
    with_axis = x[None] if batch_first else x[:, None]
    alone = gradients(LAYERS[kind](batch_first=batch_first), x)
    batched = gradients(LAYERS[kind](batch_first=batch_first), with_axis)
    assert all(np.array_equal(a.ravel(), b.ravel()) for a, b in zip(alone, batched))
    result = LAYERS[kind](batch_first=batch_first)(x)
    assert arrays(result)[0].shape[0] == alone[0].shape[0] == 5
    assert all(array.ndim == 2 for array in arrays(result))


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_single_row_s_states_have_no_axis_of_rows_as_torchs(kind):
    torch = pytest.importorskip("torch")
    layer = kind(3, 4, 2, bidirectional=True, seed=0)
    twin = torch_class(kind(1, 1)._cell)[0](3, 4, 2, bidirectional=True)
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in layer.state_dict().items()})
    x, h = random(5, 3), random(4, 4, seed=1)
    state = (h, h + 1) if kind is rf.LSTM else h
    expected = twin(
        torch.from_numpy(x), tuple(map(torch.from_numpy, state)) if kind is rf.LSTM else torch.from_numpy(h)
    )
    y, final = layer(x, hx=state)
    for got, wanted in zip(arrays((y, final)), arrays(expected)):
        np.testing.assert_allclose(got, wanted.detach().numpy(), atol=1e-6)
    _, _, backward = layer.forward(x, state)
    dx, dstate = backward(y, final)
    assert dx.shape == x.shape
    assert all(part.shape == (4, 4) for part in arrays(dstate))
    batched = state[0][:, None] if kind is rf.LSTM else h[:, None]
    with pytest.raises(ValueError, match=r"has shape \(4, 1, 4\), expected \(4, 4\)"):
        layer(x, (batched, batched) if kind is rf.LSTM else batched)
    with pytest.raises(ValueError, match="single row"):
        layer(x, lengths=[3])


@pytest.mark.parametrize("kind", ["conv", "attention"])
def test_a_step_of_a_single_row_needs_no_axis_of_rows(kind):
    causal = {"conv": {"padding": "causal"}, "attention": {"causal": True}}[kind]
    layer = rf.Conv1d(3, 4, 3, seed=0, **causal) if kind == "conv" else rf.SelfAttention(3, 1, seed=0, **causal)
    x, state = random(4, 3), None
    for t in range(4):
        y, state = layer.step(x[t], state)
        assert np.array_equal(y, layer(x)[t])


@pytest.mark.parametrize("kind", [*RECURRENT, *CELLS])
def test_hx_is_another_name_of_state(kind):
    layer = kind(3, 4, seed=0)
    x, h = (random(2, 3), random(2, 4)) if kind in CELLS else (random(5, 2, 3), random(1, 2, 4))
    state = (h, h) if registered.TABLE[layer._cell].has_c else h
    assert same(arrays(layer(x, hx=state)), arrays(layer(x, state)))
    assert same(arrays(layer.forward(x, hx=state)[0]), arrays(layer.forward(x, state)[0]))
    with pytest.raises(TypeError, match="state and hx are two names of one argument"):
        layer(x, state, hx=state)


def test_layers_show_how_they_were_made():
    assert repr(rf.Linear(3, 2, bias=False)) == "Linear(in_features=3, out_features=2, bias=False)"
    assert repr(rf.Embedding(10, 3)) == "Embedding(10, 3)"
    assert repr(rf.RNNCell(3, 2, nonlinearity="relu")) == "RNNCell(3, 2, nonlinearity=relu)"
    assert repr(rf.RNN(3, 2, nonlinearity="relu")) == "RNN(3, 2, nonlinearity=relu)"


def test_dropout_without_a_second_layer_warns_and_a_model_whose_dropout_acts_elsewhere_does_not():
    for layer in RECURRENT:
        with pytest.warns(UserWarning, match=r"num_layers is 1, so dropout=0.5 has no effect") as caught:
            layer(3, 4, dropout=0.5)
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rf.LSTM(3, 4, 2, dropout=0.5)
        rf.LanguageModel(5, dropout=0.5, hidden_size=4)


def test_torch_tensors_of_every_width_are_read():
    torch = pytest.importorskip("torch")
    layer, x = rf.GRU(3, 4, seed=0), torch.arange(30).reshape(5, 2, 3) / 8  # exact in every width
    expected = layer(x.numpy())[0]
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        assert np.array_equal(layer(x.to(dtype))[0], expected)
    assert np.array_equal(layer(x.bfloat16().requires_grad_())[0], expected)
    layer.load_state_dict({name: torch.tensor(value).bfloat16() for name, value in layer.state_dict().items()})


class OnlyDlpack:
    """An array of another library that offers the exchange protocol and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_arrays_that_offer_only_dlpack_are_read():
    x = random(5, 3)
    assert np.array_equal(rf.Linear(3, 4, seed=0)(OnlyDlpack(x)), rf.Linear(3, 4, seed=0)(x))


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.LSTM(3, 4, batch_first=True)(random(2, 5, 4)), ValueError, r"expected \(N, T, 3\)"),
        (lambda: rf.LSTM(3, 4)(random(2, 5, 4)), ValueError, r"expected \(T, N, 3\)"),
        (lambda: rf.LSTM(3, 4, batch_first=True)(random(2, 0, 3)), ValueError, r"\(2, 0, 3\).* at least one step"),
        (
            lambda: rf.GRU(3, 4, batch_first=True).forward(random(2, 5, 3))[2](random(5, 2, 4)),
            ValueError,
            r"has shape \(5, 2, 4\), expected \(2, 5, 4\)",
        ),
        (
            lambda: rf.Conv1d(3, 4, 1, batch_first=True).forward(random(2, 5, 3))[1](random(5, 2, 4)),
            ValueError,
            r"has shape \(5, 2, 4\), expected \(2, 5, 4\)",
        ),
        (lambda: rf.GRU(3, 4)(random(5, 2, 3), lengths=[[3, 2]]), ValueError, r"lengths has shape \(1, 2\)"),
        (lambda: rf.SelfAttention(3)(random(5, 2, 3), lengths=[[3, 2]]), ValueError, r"lengths has shape \(1, 2\)"),
        (lambda: rf.GRU(3, 4)(random(5, 2, 3), lengths=[-(2**40), 3]), ValueError, r"\[0\] is -1099511627776"),
        (lambda: rf.GRU(3, 4)(random(5, 2, 3), lengths=[3, 2**70]), ValueError, r"\[1\] is 1180591620717411303424"),
        (lambda: rf.GRU(3, 4)(random(5, 2, 3), lengths=[3.0, 2.0]), TypeError, "integers"),
        (
            lambda: rf.LSTM(3, 4, proj_size=2),
            TypeError,
            "LSTM has no option 'proj_size'.*projections are not supported",
        ),
        (lambda: rf.RNN(3, 4, proj_size=2), TypeError, "RNN has no option 'proj_size', expected bias"),
        (lambda: rf.GRUCell(3, 4, device="cpu"), TypeError, "GRUCell has no option 'device', expected bias, seed"),
        (lambda: rf.LSTM(3, 4, dropout=float("nan")), ValueError, "dropout is nan, expected at least 0"),
        (lambda: rf.LSTM(3, 4, dropout=-0.1), ValueError, "dropout is -0.1, expected at least 0"),
        (lambda: rf.LSTM(3, 4, dropout="0.5"), TypeError, "dropout is '0.5', expected a number"),
        (lambda: rf.LanguageModel(5, dropout=1.5), ValueError, "dropout is 1.5, expected at least 0"),
        (lambda: rf.LSTM(True, 4), TypeError, "input_size is True"),
        (lambda: rf.LSTM(3, 2**70), ValueError, "hidden_size is .* expected at most 2147483647"),
        (lambda: rf.LSTM(3, 4, weights=32), ValueError, "weights is 32, expected one of f32, bf16, int8"),
        (lambda: rf.LSTM(3, 4, seed=2**64), ValueError, "seed is 18446744073709551616, expected 0 to 1844"),
        (lambda: rf.LSTM(3, 4, seed=-1), ValueError, "seed is -1"),
        (lambda: rf.Linear(3, 4, seed=2**64), ValueError, "seed is 18446744073709551616"),
        (lambda: rf.Conv1d(3, 4, 1, padding=2**70), ValueError, "padding is"),
        (lambda: rf.Linear(3, 4)(np.ma.masked_equal(random(2, 3), random(2, 3)[0, 0])), ValueError, "masked entries"),
    ],
)
def test_bad_input_is_named_in_one_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)
