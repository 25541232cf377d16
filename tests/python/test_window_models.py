"""Language models and translators of QRNN with a window of two steps: a state carries x of the step before wherever it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from stopping import Enough, StopAt
from test_language_model import nll_of, random_batch
from test_recurrent import close
from test_seq2seq_torch import check_translator, pairs, random_weights, translator
from test_seq2seq_torch import reference as translator_reference

import rnnfast as rf
from rnnfast import _core
from rnnfast.cli import main
from rnnfast.reference import Normalization, Stack
from rnnfast.reference.seq2seq import settings
from rnnfast.train.checkpoint import read_checkpoint
from rnnfast.train.sharded import ShardedSteps

V, E, H = 11, 7, 10
FORMS = {
    "stack": {"embedding_size": E, "num_layers": 3},
    "one layer": {"embedding_size": E},
    "residual, norm": {"embedding_size": H, "num_layers": 3, "residual": True, "norm": "rms"},
    "residual": {"embedding_size": H, "num_layers": 2, "residual": True},
    "norm": {"embedding_size": E, "num_layers": 3, "norm": "layer"},
    "tied": {"embedding_size": H, "num_layers": 2, "tie_weights": True},
}
every_form = pytest.mark.parametrize("form", FORMS)


def made(form, vocab=V, **options):
    sizes = {"hidden_size": H, "seed": 1, "cell": "qrnn", "window": 2, **FORMS[form]}
    return rf.LanguageModel(vocab, **{**sizes, **options})


def larger(model):
    """Weights and scales that differ, so that gates and norms matter."""
    random = np.random.default_rng(5)
    changed = {n: random.normal(1 if "norm" in n else 0, 0.4, w.shape) for n, w in model.state_dict().items()}
    model.load_state_dict(changed)
    return model


def random_state(model, rows):
    return tuple(np.random.default_rng(3).normal(size=shape).astype(np.float32) for shape in model.state_shapes(rows))


def apart(model):
    return bool(model.config.get("residual") or model.config.get("norm"))


class Plain:
    """No normalization."""

    def __init__(self, x):
        self.y = x

    def backward(self, dy):
        return dy, {}


class Reference:
    """The model in float64: loss, all gradients, and the state after the last step."""

    def __init__(self, model, x, y, state):
        c, w = model.config, {name: value.astype(float) for name, value in model.state_dict().items()}
        rows, lengths = x.shape[1], np.full(x.shape[1], len(x))
        h0, c0, x0 = (part.astype(float) for part in state)
        read, grads, steps, ends, columns = w["embedding.weight"][x], {}, [], [], 0
        for i in range(c["num_layers"]) if apart(model) else [slice(None)]:
            prefix = f"layers.{i}.rnn." if apart(model) else "rnn."
            norm = self.norm(read, w, f"layers.{i}.norm")
            own = {n[len(prefix) :]: value for n, value in w.items() if n.startswith(prefix)}
            at = slice(i, i + 1) if apart(model) else i
            first = x0[0, :, columns : columns + norm.y.shape[2]]
            stack = Stack("qrnn", norm.y, own, h0[at], c0[at], lengths, first)
            steps.append((prefix, norm, stack))
            ends.append((stack.h, stack.c, norm.y[-1][None]))
            columns += norm.y.shape[2]
            read = read + stack.y if c.get("residual") else stack.y
        self.state = [np.concatenate(part, axis) for part, axis in zip(zip(*ends), (0, 0, 2))]
        last = self.norm(read, w, "norm")
        table = w.get("output.weight", w["embedding.weight"])
        logits = last.y @ table.T + w["output.bias"]
        p = np.exp(logits - logits.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        self.loss = -np.log(np.take_along_axis(p, y[..., None], -1)).mean()
        d = (p - np.eye(V)[y]) / y.size
        dtable, grads["output.bias"] = np.einsum("tnv,tnh->vh", d, last.y), d.sum((0, 1))
        dh = self.norm_back(last, d @ table, "norm", grads)
        for prefix, norm, stack in reversed(steps):
            zeros = np.zeros((stack.layers, rows, H))
            dx, _, _, own = stack.backward(dh, zeros, zeros)
            grads.update({prefix + name: value for name, value in own.items()})
            before = self.norm_back(norm, dx, prefix.replace("rnn.", "norm"), grads)
            dh = before + (dh if c.get("residual") else 0)
        grads["embedding.weight"] = np.zeros_like(w["embedding.weight"])
        np.add.at(grads["embedding.weight"], x, dh)
        if "output.weight" in w:
            grads["output.weight"] = dtable
        else:
            grads["embedding.weight"] += dtable
        self.grads = grads

    @staticmethod
    def norm(x, w, name):
        own = {part: w[f"{name}.{part}"] for part in ("weight", "bias") if f"{name}.{part}" in w}
        return Normalization(x, own, 1e-5, "bias" in own) if own else Plain(x)

    @staticmethod
    def norm_back(norm, dy, name, grads):
        dx, own = norm.backward(dy)
        grads.update({f"{name}.{part}": gradient for part, gradient in own.items()})
        return dx


@every_form
def test_loss_all_gradients_and_the_state_equal_the_float64_reference(form):
    model = larger(made(form))
    x, y = random_batch(V, steps=7, rows=3)
    state = random_state(model, 3)
    loss, after = model.loss(x, y, state)
    model.backward()
    expected = Reference(model, x, y, state)
    assert loss == pytest.approx(expected.loss, rel=1e-5)
    for ours, wanted in zip(after, expected.state):
        close(ours, wanted, "state")
    assert set(expected.grads) == set(model.grads)
    for name, wanted in expected.grads.items():
        close(model.grads[name], wanted, name)
    # With zeros before the first step, and without x in the carried state, the loss is another one.
    h, c, x_before = state
    assert model.loss(x, y, (h, c, np.zeros_like(x_before)))[0] != loss


@pytest.mark.parametrize("variational", [False, True])
@every_form
def test_with_dropout_gradients_are_those_of_finite_differences(form, variational):
    model = larger(made(form, dropout=0.3, variational=variational))
    x, y = random_batch(V, steps=6, rows=4)
    state = random_state(model, 4)
    model.steps = 4
    model.loss(x, y, state)
    model.backward()
    weights = model.state_dict()

    def loss(moved):
        other = made(form, dropout=0.3, variational=variational)
        other.load_state_dict({**weights, **moved})
        other.steps = 4  # the same masks
        return other.loss(x, y, state)[0]

    for name, gradient in model.grads.items():
        direction = gradient / np.linalg.norm(gradient)
        up, down = (loss({name: weights[name] + np.float32(way * 1e-2) * direction}) for way in (1, -1))
        # float32 losses of about 2 over a step of 0.02
        assert (up - down) / 2e-2 == pytest.approx(np.linalg.norm(gradient), rel=0.02, abs=1e-4), name


def test_the_carried_x_is_the_input_after_dropout():
    model = made("stack", embedding_dropout=0.5, dropout=0.2)
    x, y = random_batch(V, steps=3, rows=8)
    _, (_, _, last) = model.loss(x, y)
    table = model.state_dict()["embedding.weight"]
    kept = last[0] != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(last[0][kept], 2 * table[x[-1]][kept], rtol=1e-6)
    _, (_, _, last) = model.nll(x, y)
    assert np.array_equal(last[0], table[x[-1]])


@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
@every_form
def test_parts_and_steps_give_the_bits_of_the_whole(form, weights):
    model = larger(made(form, weights=weights))
    x, y = random_batch(V, steps=9, rows=3)
    whole, end = model.nll(x, y)
    assert [part.shape for part in end] == model.state_shapes(3)
    pieces, state = [], None
    for first, last in ((0, 1), (1, 4), (4, 9)):
        nll, state = model.nll(x[first:last], y[first:last], state)
        pieces.append(nll)
    assert np.array_equal(np.concatenate(pieces), whole)
    stepped = None
    for t in range(9):
        logits, stepped = model.step(x[t], stepped)
        np.testing.assert_allclose(nll_of(logits, y[t]), whole[t], atol=1e-5)
    for ours, other, theirs in zip(stepped, state, end):
        assert np.array_equal(ours, theirs)
        assert np.array_equal(other, theirs)
    alone = [model.nll(x[:, n : n + 1], y[:, n : n + 1])[0] for n in range(3)]
    assert np.array_equal(np.concatenate(alone, 1), whole)


DIGEST = """
import sys, zlib, numpy as np, rnnfast as rf
sys.path.insert(0, sys.argv[1])
from test_window_models import FORMS, digest
print([digest(form, threads) for form in FORMS for threads in (1, 3)])
"""


def digest(form, threads):
    """Of a training step from a random state, and of the step after it."""
    before = rf.get_num_threads()
    rf.set_num_threads(threads)
    model = made(form, vocab=V, dropout=0.2)
    x, y = random_batch(V, steps=8, rows=5)
    found, state = [], random_state(model, 5)
    for _ in range(2):
        loss, state = model.loss(x, y, state)
        model.backward()
        found += [loss, *(float(np.abs(part).sum(dtype=np.float64)) for part in (*state, *model.grads.values()))]
    rf.set_num_threads(before)
    return found


def test_training_has_the_same_bits_on_every_instruction_set_and_number_of_threads():
    found = []
    for isa in _core.info()["isas_supported"]:
        if isa in ("baseline", "generic"):  # they round a * b + c twice
            continue
        environment = {**os.environ, "RNNFAST_ISA": isa}
        folder = os.path.dirname(os.path.abspath(__file__))
        done = subprocess.run(
            [sys.executable, "-c", DIGEST, folder], env=environment, capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
    for results in found:
        assert results[::2] == results[1::2] == found[0][::2]


TEXT = "a rose is a rose is a rose, said the tall tale of late hats.\n" * 12


@every_form
def test_shards_together_and_alone_a_resumed_run_and_one_that_ran_through_have_the_same_bits(
    form, tmp_path, monkeypatch
):
    corpus = rf.Corpus.from_text(TEXT)
    options = {"batch_size": 8, "num_steps": 9, "epochs": 2, "progress": False}
    if form != "tied":
        options["shards"] = 4

    def fitted(**more):
        model = made(form, corpus.vocab, dropout=0.2)
        rf.fit(model, corpus, **options, **more)
        return model.state_dict()

    whole, file = fitted(), tmp_path / "run.safetensors"
    with pytest.raises(Enough):
        fitted(checkpoint=file, callbacks=[StopAt(13)])
    found = read_checkpoint(file)
    assert [part.shape for part in found.state] == found.model.state_shapes(8)
    assert all(part.any() for part in found.state)
    resumed = fitted(checkpoint=file, resume=True)
    monkeypatch.setattr(ShardedSteps, "_can_run_together", lambda *_: False)
    alone = fitted()
    for name, value in whole.items():
        assert np.array_equal(resumed[name], value), name
        assert np.array_equal(alone[name], value), name


def test_training_continues_from_the_x_that_the_last_batch_ended_with(monkeypatch):
    corpus, given = rf.Corpus.from_text(TEXT), []
    model = made("stack", corpus.vocab)
    loss = model.loss

    def recorded(x, y, state=None):
        given.append((x, state, model.state_dict()["embedding.weight"]))
        return loss(x, y, state)

    monkeypatch.setattr(model, "loss", recorded)
    rf.fit(model, corpus, epochs=1, batch_size=4, num_steps=7, progress=False)
    assert given[0][1] is None
    assert len(given) > 20
    for (read, _, table), (_, state, _) in zip(given, given[1:]):
        assert np.array_equal(state[2][0], table[read[-1]])


def test_evaluating_in_blocks_and_scoring_carry_x():
    corpus = rf.Corpus.from_text(TEXT)
    model = larger(made("norm", corpus.vocab))
    ids = np.asarray(corpus.ids)
    nll, _ = model.nll(ids[:-1, None], ids[1:, None])
    assert rf.evaluate(model, corpus).perplexity == pytest.approx(np.exp(nll.mean()), rel=1e-6)
    bits = np.array([bits for _, bits in rf.surprisal(model, TEXT)])
    np.testing.assert_allclose(bits, nll[:, 0] / np.log(2), rtol=1e-6)
    assert rf.log_prob(model, TEXT) == pytest.approx(-nll.sum(), rel=1e-5)
    adapted = rf.evaluate(model, corpus, cache=rf.NeuralCache(size=50))
    assert adapted.perplexity != rf.evaluate(model, corpus).perplexity
    moved = rf.evaluate(model, corpus, dynamic=rf.DynamicEvaluation(lr=1e-4, num_steps=64))
    assert moved.perplexity == pytest.approx(np.exp(nll.mean()), rel=0.05)


def test_generated_text_is_that_of_steps():
    corpus = rf.Corpus.from_text(TEXT)
    model = larger(made("stack", corpus.vocab))
    text, state = "a ro", None
    ids = corpus.vocab.encode_text(text).tolist()
    for i in range(3):
        _, state = model.step([ids[i]], state)
    for _ in range(30):
        logits, state = model.step([ids[-1]], state)
        ids.append(int(logits[0].argmax()))
    assert rf.generate(model, text, length=30, temperature=0) == corpus.vocab.decode(ids)
    assert rf.generate(model, text, length=30, seed=3, num_samples=2)[0] == rf.generate(model, text, length=30, seed=3)


def test_beam_search_finds_the_most_probable_of_all_texts():
    vocab = rf.Vocab("abcd")  # with <unk>, five tokens
    for form in ("stack", "norm"):
        model, start = larger(made(form, vocab)), vocab.encode_text("ab")
        every = np.array(np.meshgrid(*[np.arange(5)] * 3)).reshape(3, -1)
        x = np.concatenate([np.repeat(start[:, None], every.shape[1], 1), every]).astype(np.int32)
        nll = model.nll(x[:-1], x[1:])[0][1:].sum(0)
        best = vocab.decode(x[:, nll.argmin()])
        assert rf.generate(model, "ab", length=3, beam_size=25) == best


@pytest.mark.parametrize("stored", ["f32", "bf16", "int8"])
@every_form
def test_files_hold_the_window(form, stored, tmp_path):
    model = larger(made(form, rf.Vocab("abcdefg")))
    model.save(tmp_path / "m.safetensors", weights=stored)
    again, at_load = rf.load(tmp_path / "m.safetensors"), made(form, rf.Vocab("abcdefg"), weights=stored)
    assert again.config == {**model.config, "weights": stored}
    at_load.load_state_dict(model.state_dict())
    ids = [[1], [2], [3], [2]]
    assert np.array_equal(again.nll(ids, ids)[0], at_load.nll(ids, ids)[0])
    assert "window" not in rf.LanguageModel(5, cell="qrnn", embedding_size=3, window=1, seed=0).config


def changed_file(model, path, **config):
    model.save(path, metadata={"config": json.dumps({**model.config, **config})})
    return path


def test_files_that_do_not_fit_are_refused(tmp_path):
    narrow = rf.LanguageModel(5, cell="qrnn", embedding_size=4, hidden_size=4, seed=0)
    lstm = rf.LanguageModel(5, cell="lstm", embedding_size=4, hidden_size=4, seed=0)
    hot = rf.LanguageModel(5, cell="qrnn", hidden_size=4, seed=0)
    wide = rf.LanguageModel(5, cell="qrnn", embedding_size=4, hidden_size=4, window=2, seed=0)
    for model, config, sentence in (
        (narrow, {"window": 3}, "window is 3: expected 1 or 2"),
        (narrow, {"window": 0}, "window"),
        (narrow, {"window": "2"}, "window"),
        (narrow, {"window": 2**63}, "window"),
        (lstm, {"window": 2}, "window is 2 and the cell 'lstm': expected the cell 'qrnn'"),
        (hot, {"window": 2}, "embedding_size is 0"),
        (narrow, {"window": 2}, "rnn.weight_ih_l0 has shape"),
        (wide, {"window": 1}, "rnn.weight_ih_l0 has shape"),
    ):
        with pytest.raises(rf.FileFormatError, match=sentence):
            rf.load(changed_file(model, tmp_path / "m.safetensors", **config))
    translators = [rf.Seq2Seq(9, 9, cell=c, embedding_size=4, hidden_size=4, seed=0) for c in ("qrnn", "gru")]
    for model, config, sentence in (
        (translators[0], {"encoder_window": 3}, "encoder_window is 3: expected 1 or 2"),
        (translators[0], {"encoder_window": 2}, "encoder.rnn.weight_ih_l0 has shape"),
        (translators[1], {"encoder_window": 2}, "encoder_window is 2 and the cell 'gru'"),
    ):
        with pytest.raises(rf.FileFormatError, match=sentence):
            rf.load(changed_file(model, tmp_path / "m.safetensors", **config))


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda m: rf.LanguageModel(5, cell="gru", embedding_size=3, window=2), ValueError, "window is 2 and the cell 'gru': expected the cell 'qrnn', whose"),
        (lambda m: rf.LanguageModel(5, cell="qrnn", embedding_size=3, window=3), ValueError, "window is 3: expected 1 or 2"),
        (lambda m: rf.LanguageModel(5, cell="qrnn", embedding_size=3, window=0), ValueError, "window is 0, expected at least 1"),
        (lambda m: rf.LanguageModel(5, cell="qrnn", embedding_size=3, window="2"), TypeError, "window is '2'"),
        (lambda m: rf.LanguageModel(5, cell="qrnn", window=2), ValueError, "window is 2 and embedding_size is 0"),
        (lambda m: rf.Seq2Seq(9, 9, cell="lstm", encoder_window=2), ValueError, "encoder_window is 2 and the cell 'lstm'"),
        (lambda m: rf.Seq2Seq(9, 9, cell="qrnn", encoder_window=3), ValueError, "encoder_window is 3: expected 1 or 2"),
        (lambda m: m.step([1, 2], random_state(m, 2)[:2]), TypeError, r"state is \(h, c, x\), got a tuple"),
        (lambda m: m.step([1, 2], random_state(m, 3)), ValueError, r"state h has shape \(3, 3, 10\), expected \(3, 2, 10\)"),
        (lambda m: m.step([1, 2], (None, None, np.zeros((1, 2, 8)))), ValueError, r"state x has shape \(1, 2, 8\), expected \(1, 2, 7\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, error, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=sentence):
        call(made("stack"))


def test_onnx_has_no_operator_for_the_cell(tmp_path):
    pytest.importorskip("onnx", reason="the onnx package is not installed")
    with pytest.raises(ValueError, match="ONNX has no operator for the cell qrnn"):
        made("stack").to_onnx(tmp_path / "m.onnx")


@every_form
def test_looking_into_a_model_reads_the_window(form):
    model = larger(made(form))
    ids = np.int32([1, 5, 0, 2, 2, 4])
    steps = rf.unroll(model, ids).steps
    before = (0 * random_state(model, 1)[1])[-1, 0]
    for step in steps:
        z, f, o = (step.gates[gate] for gate in "zfo")
        np.testing.assert_allclose(step.c[-1], f * before + (1 - f) * z, atol=1e-5)
        np.testing.assert_allclose(step.h[-1], o * step.c[-1], atol=1e-5)
        before = step.c[-1]
    if apart(model):
        return
    x, y = ids[:-1, None], ids[1:, None]
    flow = rf.gradient_flow(model, (x, y))
    model.loss(x, y)
    model.backward()
    norm = np.sqrt(sum(np.square(g, dtype=float).sum() for g in model.grads.values()))
    assert flow.gradient_norm == pytest.approx(norm, rel=1e-5)


# Translators: the encoder's window


@pytest.mark.parametrize(
    ("decoder", "options"),
    [
        ("d2l", {"bidirectional": True, "num_layers": 2, "readout": "all", "attention": "additive"}),
        ("previous", {"num_layers": 2, "attention": "general"}),
        ("context_as_state", {"num_layers": 3}),
        ("context_and_previous", {"context": "mean"}),
    ],
)
def test_a_translator_equals_the_float64_reference(decoder, options):
    config = settings(decoder, cell="qrnn", **options)
    config["encoder_window"] = 2
    weights, batch = random_weights(config), pairs(config, 7, 6, 5)
    model = translator(config, weights)
    assert model.config["encoder_window"] == 2
    check_translator(model, translator_reference(weights, config, batch), batch)


def test_a_translator_is_loaded_in_every_precision(tmp_path):
    pair = [("go .", "va !"), ("run .", "cours !"), ("stop .", "arrete !")]
    text = rf.ParallelCorpus.from_pairs(pair, tokenizer="word", min_freq=1)
    options = {"cell": "qrnn", "hidden_size": 12, "embedding_size": 8, "encoder_window": 2, "seed": 0}
    model = rf.Seq2Seq(text.source_vocab, text.target_vocab, **options)
    rf.fit(model, text, epochs=200, batch_size=3, lr=1e-2, progress=False)
    model.save(tmp_path / "t.safetensors")
    x, lengths, target = pairs({"source_vocab_size": 5, "target_vocab_size": 5}, 4, 3, 6)
    exact = model.nll(x, lengths, target)
    for weights, tolerance in (("f32", 1e-12), ("bf16", 0.1), ("int8", 0.3)):
        again = rf.load(tmp_path / "t.safetensors", weights=weights)
        assert again.config["encoder_window"] == 2
        assert np.abs(again.nll(x, lengths, target) - exact).max() <= tolerance
        assert rf.translate(again, ["go .", "run .", "stop ."]) == ["va!", "cours!", "arrete!"]
        again.save(tmp_path / "again.safetensors", weights=weights)
        same = rf.load(tmp_path / "again.safetensors")
        assert np.array_equal(same.nll(x, lengths, target), again.nll(x, lengths, target))


# The command line


def test_the_command_line_trains_resumes_and_generates_with_a_window(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT)
    words = ["train", str(tmp_path / "text.txt"), "--cell", "qrnn", "--window", "2", "--embedding-size", "8"]
    words += ["--hidden-size", "8", "--epochs", "1", "--threads", "1", "--output", str(tmp_path / "m.safetensors")]
    assert main(words) == 0
    model = rf.load(tmp_path / "m.safetensors")
    assert model.config["window"] == 2
    start = ["train", str(tmp_path / "text.txt"), "--from", str(tmp_path / "m.safetensors"), "--epochs", "1"]
    assert main([*start, "--output", str(tmp_path / "n.safetensors"), "--window", "2"]) == 0
    assert main([*start, "--output", str(tmp_path / "o.safetensors"), "--window", "1"]) == 2
    assert "--window is 1, in the model 2" in capsys.readouterr().err
    assert main(["generate", str(tmp_path / "m.safetensors"), "--prompt", "a ro", "--length", "5"]) == 0
    assert main([*words[:2], "--cell", "lstm", "--window", "2", "--output", str(tmp_path / "p.safetensors")]) == 2
    assert "window is 2 and the cell 'lstm'" in capsys.readouterr().err
