"""Every layer without a recurrent product, in every place where a layer can stand: directions, lengths, initial states, dropout,
recomputation, precisions, streams, networks and their files, language models, translators. C++ and C are in
tests/cpp/test_scan_cells_api.cpp."""

from __future__ import annotations

import numpy as np
import pytest
from registered import LAYERS, TABLE
from test_seq2seq_torch import check_translator, pairs, random_weights, reference, translator

import rnnfast as rf
from rnnfast.reference.seq2seq import settings

CELLS = [name for name, cell in TABLE.items() if not cell.recurrent]
FORMS = {**{cell: (LAYERS[cell], {}) for cell in CELLS}, "qrnn, window 2": (rf.QRNN, {"window": 2})}
T, N, D, H = 9, 4, 6, 10
LENGTHS = [9, 4, 0, 7]
every_form = pytest.mark.parametrize("form", FORMS)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def made(form, inputs=D, layers=2, **options):
    kind, own = FORMS[form]
    return kind(inputs, H, layers, seed=3, **own, **options)


def start_of(layer, rows=N):
    """A state as the layer takes it."""
    scans = layer.num_layers * (1 + layer.bidirectional)
    parts = [normal(scans, rows, H, seed=1), normal(scans, rows, H, seed=2), normal(rows, layer.input_size, seed=3)]
    count = 1 + TABLE[layer._cell].has_c + (getattr(layer, "window", 1) > 1 and not layer.bidirectional)
    return parts[0] if count == 1 else tuple(parts[:count])


def cell_of(form):
    """The cell, and the window of a model that has one, by the name of its option."""
    return form.split(",")[0], FORMS[form][1].get("window", 1)


def tuple_of(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("recompute", [None, "sqrt"])
@pytest.mark.parametrize("bidirectional", [False, True])
@every_form
def test_all_options_together_have_the_gradients_of_finite_differences(form, bidirectional, recompute, variational):
    options = {"bidirectional": bidirectional, "recompute": recompute, "dropout": 0.4, "variational": variational}
    layer = made(form, **options)
    x, state = normal(T, N, D, seed=4), start_of(layer)
    y, after, backward = layer.forward(x, state, lengths=LENGTHS)
    dy, dafter = normal(*y.shape, seed=5), [normal(*part.shape, seed=6) for part in tuple_of(after)]
    dx, dstart = backward(dy, dafter[0] if len(dafter) == 1 else tuple(dafter))
    values = {"x": x, **{str(i): part for i, part in enumerate(tuple_of(state))}, **layer.state_dict()}
    gradients = {"x": dx, **{str(i): part for i, part in enumerate(tuple_of(dstart))}, **layer.grads}

    def loss(moved):
        """Of a new layer, whose first masks are the same."""
        fresh = made(form, **options)
        fresh.load_state_dict({name: moved[name] for name in layer.state_dict()})
        parts = tuple(moved[str(i)] for i in range(len(dafter)))
        y, after, _ = fresh.forward(moved["x"], parts[0] if len(parts) == 1 else parts, lengths=LENGTHS)
        return (y.astype(float) * dy).sum() + sum((a.astype(float) * d).sum() for a, d in zip(tuple_of(after), dafter))

    for name, gradient in gradients.items():
        # Mostly along the gradient, so that the slope is not the small rest of terms that cancel.
        direction = gradient / np.linalg.norm(gradient) + normal(*gradient.shape, seed=7) / (4 * gradient.size**0.5)
        step = 1e-2
        ends = [loss({**values, name: values[name] + np.float32(way * step) * direction}) for way in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        # float32 losses of about 30 over a step of 0.02, and the bend of minGRU's g
        assert slope == pytest.approx((gradient.astype(float) * direction).sum(), rel=0.02, abs=2e-3), name


@pytest.mark.parametrize("bidirectional", [False, True])
@every_form
def test_bf16_trains_near_float32_and_int8_runs_near_it(form, bidirectional):
    x, dy = normal(T, N, D, seed=4), normal(T, N, H * (1 + bidirectional), seed=5)
    exact = made(form, bidirectional=bidirectional)
    y, _, backward = exact.forward(x, start_of(exact), lengths=LENGTHS)
    dx, _ = backward(dy)
    for weights, tolerance in (("bf16", 0.03), ("int8", 0.06)):
        layer = made(form, bidirectional=bidirectional, weights=weights)
        near, _ = layer(x, start_of(exact), lengths=LENGTHS)
        assert 0 < np.abs(near - y).max() < tolerance * np.abs(y).max()
        if weights == "bf16":
            _, _, backward = layer.forward(x, start_of(exact), lengths=LENGTHS)
            # where rounding crosses the bend of minGRU's g, single numbers differ: so the norm
            assert np.linalg.norm(backward(dy)[0] - dx) < 0.05 * np.linalg.norm(dx)
        else:
            with pytest.raises(ValueError, match="int8 weights are for inference only"):
                layer.forward(x)


@pytest.mark.parametrize("rows", [1, 2])
@every_form
def test_few_rows_give_the_same_bits_however_time_and_threads_divide_them(form, rows, threads):
    """Threads share the units of few rows. A product reads blocks of 64 steps, which 150 steps do not fill."""
    layer = made(form, inputs=H)
    x, dy = normal(150, rows, H, seed=4), normal(150, rows, H, seed=5)
    found = []
    for count in (1, 2, 3):
        threads(count)
        layer.zero_grad()
        y, _, backward = layer.forward(x, start_of(layer, rows))
        dx, _ = backward(dy)
        found.append((y, dx, *(gradient.copy() for gradient in layer.grads.values())))
        state, pieces = start_of(layer, rows), []
        for piece in np.split(x, [1, 64, 65, 140]):
            z, state = layer(piece, state)
            pieces.append(z)
        assert np.array_equal(np.concatenate(pieces), y)
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(other, found[0]))


@pytest.mark.parametrize("bidirectional", [False, True])
@every_form
def test_a_network_gives_the_layers_bits_and_gradients(form, bidirectional):
    layer, head = made(form, bidirectional=bidirectional), rf.Linear(H * (1 + bidirectional), 3, seed=2)
    net = rf.Network(inputs={"x": D}, layers={"r": layer, "out": head}, seed=0)
    x, state = normal(T, N, D, seed=4), start_of(layer)
    run = net.run(x, state={"r": state}, lengths=LENGTHS, train=True)
    y, after, backward = layer.forward(x, state, lengths=LENGTHS)
    z, head_backward = head.forward(y)
    beyond = np.arange(T)[:, None] >= LENGTHS
    z = np.where(beyond[..., None], 0, z)
    assert np.array_equal(run.outputs["out"], z)
    dz = np.where(beyond[..., None], 0, normal(*z.shape, seed=5)).astype(np.float32)
    dafter = tuple(normal(*part.shape, seed=6) for part in tuple_of(after))
    dafter = dafter[0] if len(dafter) == 1 else dafter
    dx, dstart = backward(head_backward(dz), dafter)
    given, first = run.backward({"out": dz}, {"r": dafter})
    for ours, theirs in ((given["x"], dx), *zip(tuple_of(first["r"]), tuple_of(dstart))):
        assert np.array_equal(ours, theirs)
    for part, expected in zip(tuple_of(run.state["r"]), tuple_of(after)):
        assert np.array_equal(part, expected)
    for name, gradient in layer.grads.items():
        assert np.array_equal(net.grads[f"r.{name}"], gradient)


@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
@every_form
def test_a_chain_streams_is_saved_and_loaded_in_every_precision(form, weights, tmp_path):
    chain = rf.Sequential(rf.Linear(D, D, seed=1), made(form), rf.RMSNorm(H), rf.Linear(H, 2, seed=2), seed=0)
    chain.save(tmp_path / "net.safetensors")
    net = rf.load(tmp_path / "net.safetensors", weights=weights)
    assert [e.get("window", 1) for e in net.config["layers"] if e["type"] == "recurrent"] == [2 if "2" in form else 1]
    x = normal(T, N, D, seed=4)
    y = net(x)
    assert np.abs(y - chain(x)).max() < {"f32": 1e-9, "bf16": 0.05, "int8": 0.15}[weights] * np.abs(y).max()
    step, other = net.stream(rows=N), net.stream(rows=N)
    assert np.array_equal([step(row) for row in x[:5]], y[:5])
    other.state = step.state
    for each in (step, other):
        assert np.array_equal([each(row) for row in x[5:]], y[5:])
    begun = net.run(x[:5])
    assert np.array_equal(net.run(x[5:], state=begun.state).outputs["3"], y[5:])
    single = net.run(x[:5, 0])
    assert np.array_equal(net.run(x[5:, 0], state=single.state).outputs["3"], y[5:, 0])


@pytest.mark.parametrize("recompute", [None, "sqrt"])
@every_form
def test_a_chain_learns(form, recompute):
    """Whether the sum of the inputs so far is positive."""
    net = rf.Sequential(made(form, inputs=2, recompute=recompute, dropout=0.1), rf.Linear(H, 1, seed=2), seed=0)
    optimizer, losses = rf.Adam(net, lr=2e-2), []
    for step in range(60):
        x = normal(12, 16, 2, seed=step)
        target = np.sign(np.cumsum(x[..., :1], axis=0))
        y, backward = net.forward(x)
        losses.append(float(((y - target) ** 2).mean()))
        backward(2 * (y - target) / y.size)
        optimizer.step()
        optimizer.zero_grad()
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


@pytest.mark.parametrize("deep", [{}, {"residual": True, "norm": "rms"}], ids=["stack", "residual"])
@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
@every_form
def test_a_language_model_is_saved_loaded_and_continued_in_every_precision(form, weights, deep, tmp_path):
    cell, window = cell_of(form)
    sizes = {"embedding_size": H, "hidden_size": H, "num_layers": 2}
    model = rf.LanguageModel(9, cell=cell, window=window, dropout=0.2, seed=3, **sizes, **deep)
    model.save(tmp_path / "m.safetensors")
    again = rf.load(tmp_path / "m.safetensors", weights=weights)
    ids = np.random.default_rng(4).integers(0, 9, (T + 1, N), dtype=np.int32)
    x, y = ids[:-1], ids[1:]
    whole, end = again.nll(x, y)
    assert np.abs(whole - model.nll(x, y)[0]).max() < {"f32": 1e-9, "bf16": 0.05, "int8": 0.15}[weights]
    first, state = again.nll(x[:5], y[:5])
    stepped = state
    rest, state = again.nll(x[5:], y[5:], state)
    assert np.array_equal(np.concatenate([first, rest]), whole)
    for row in x[5:]:
        _, stepped = again.step(row, stepped)
    assert len(tuple_of(end)) == 1 + TABLE[cell].has_c + (window > 1)
    for parts in zip(*map(tuple_of, (end, state, stepped))):
        assert all(np.array_equal(part, parts[0]) for part in parts)


@every_form
def test_a_language_model_learns(form):
    """To continue a text whose next character two characters decide."""
    cell, window = cell_of(form)
    text = rf.Corpus.from_text("abacbc" * 60)
    model = rf.LanguageModel(text.vocab, cell=cell, window=window, embedding_size=8, hidden_size=12, seed=0)
    rf.fit(model, text, epochs=12, batch_size=4, num_steps=12, lr=2e-2, progress=False)
    assert rf.evaluate(model, text).perplexity < 1.3


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("attention", ["none", "additive"])
@every_form
def test_an_encoder_equals_the_float64_reference(form, attention, bidirectional):
    cell, window = cell_of(form)
    options = {"attention": attention, "readout": "all", "encoder_window": window}
    config = settings("d2l", cell=cell, bidirectional=bidirectional, num_layers=2, **options)
    weights, batch = random_weights(config), pairs(config, 7, 6, 5)
    check_translator(translator(config, weights), reference(weights, config, batch), batch)


@every_form
def test_a_translator_of_each_precision_is_loaded_from_its_file(form, tmp_path):
    cell, window = cell_of(form)
    pair = [("go .", "va !"), ("run .", "cours !"), ("stop .", "arrete !")]
    text = rf.ParallelCorpus.from_pairs(pair, tokenizer="word", min_freq=1)
    options = {"hidden_size": 12, "num_layers": 2, "bidirectional": True, "encoder_window": window}
    model = rf.Seq2Seq(text.source_vocab, text.target_vocab, cell=cell, seed=0, **options)
    model.save(tmp_path / "t.safetensors")
    x, lengths, target = pairs({"source_vocab_size": 5, "target_vocab_size": 5}, 4, 3, 6)
    exact = model.nll(x, lengths, target)
    for weights, tolerance in (("f32", 1e-12), ("bf16", 0.02), ("int8", 0.05)):
        again = rf.load(tmp_path / "t.safetensors", weights=weights)
        assert np.abs(again.nll(x, lengths, target) - exact).max() <= tolerance
        assert rf.translate(again, ["go ."])
