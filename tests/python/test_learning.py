"""Dynamic evaluation, neural caches, averages of weights, weight drop, one-cycle schedules and training for a time."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.train import minutes
from rnnfast.train.averaging import ASGD, EMA, average_named
from rnnfast.train.schedules import OneCycle

V, H = 17, 12
TEXT = (np.arange(900) ** 2 % V).astype(np.int32)
SIZES = {"cell": "lstm", "embedding_size": H, "hidden_size": H, "init_scale": 0.4, "seed": 2}
FIT = {"batch_size": 4, "num_steps": 10, "progress": False}


def model(**options):
    return rf.LanguageModel(V, **{**SIZES, **options})


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


# Dynamic evaluation


@pytest.mark.parametrize("rms", [False, True])
def test_dynamic_evaluation_equals_its_statement_in_pytorch(rms):
    torch = pytest.importorskip("torch")
    network, text, train = model(dropout=0.3), TEXT[:64], TEXT[300:500]
    how = rf.DynamicEvaluation(
        lr=0.02 if rms else 0.5,
        decay=0.3,
        eps=1e-3,
        num_steps=7,
        train=train if rms else None,
        batch_size=3,
        num_batches=5,
    )
    found = rf.evaluate(network, text, dynamic=how)

    theirs = torch.nn.ModuleDict(
        {"embedding": torch.nn.Embedding(V, H), "rnn": torch.nn.LSTM(H, H), "output": torch.nn.Linear(H, V)}
    )
    theirs.load_state_dict({name: torch.tensor(value) for name, value in network.state_dict().items()})

    def loss_of(x, y, state):
        x, y = torch.tensor(np.asarray(x)).long(), torch.tensor(np.asarray(y)).long()
        out, state = theirs["rnn"](theirs["embedding"](x), state)
        loss = torch.nn.functional.cross_entropy(theirs["output"](out).flatten(0, 1), y.flatten(), reduction="none")
        theirs.zero_grad()
        loss.mean().backward()
        return loss.detach().numpy(), tuple(part.detach() for part in state)

    parameters = dict(theirs.named_parameters())
    start = {name: p.detach().clone() for name, p in parameters.items()}
    scale = {name: torch.ones_like(p) for name, p in parameters.items()}
    if rms:
        squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
        state, count = None, 0
        for x, y in rf.batches(train, batch_size=3, num_steps=7):
            _, state = loss_of(x, y, state)
            count += 1
            for name, p in parameters.items():
                squares[name] += p.grad**2
            if count == 5:
                break
        scale = {name: (square / count).sqrt() for name, square in squares.items()}
    mean = torch.cat([s.flatten() for s in scale.values()]).mean()
    nll, state = [], None
    for t in range(0, len(text) - 1, 7):
        end = min(t + 7, len(text) - 1)
        loss, state = loss_of(text[t:end, None], text[t + 1 : end + 1, None], state)
        nll.extend(loss)
        with torch.no_grad():
            for name, p in parameters.items():
                s = scale[name]
                back = (0.3 * s / mean).clamp(max=1) * (start[name] - p)
                p += back - how.lr * p.grad / (s + (how.eps if rms else 0))
    assert found.perplexity == pytest.approx(np.exp(np.mean(nll)), rel=1e-4)
    assert found.perplexity != pytest.approx(rf.evaluate(network, text).perplexity, rel=1e-3)
    for name, value in network.state_dict().items():  # the model is what it was
        np.testing.assert_array_equal(value, start[name].numpy())


@pytest.mark.parametrize(
    "options", [{"tie_weights": True}, {"output": "adaptive", "cutoffs": [5]}, {"output": "sampled", "num_sampled": 4}]
)
def test_dynamic_evaluation_helps_where_a_text_repeats_what_the_model_has_not_seen(options):
    network = model(**options)
    plain = rf.evaluate(network, TEXT[:200]).perplexity
    assert rf.evaluate(network, TEXT[:200], dynamic=rf.DynamicEvaluation(lr=0.5, decay=0.0)).perplexity < 0.9 * plain
    assert rf.evaluate(network, TEXT[:200], dynamic=rf.DynamicEvaluation(lr=0.0)).perplexity == pytest.approx(plain)


def test_a_neural_cache_equals_its_statement_in_numpy():
    network, text, cache = model(), TEXT[:150], rf.NeuralCache(size=23, theta=0.7, share=0.3)
    x, y = text[:-1], text[1:]
    states, state = [], None
    for token in x:
        _, state = network.step([token], state)
        states.append(state[0][0, 0])
    h = np.array(states, np.float64)
    logits = h @ network.state_dict()["output.weight"].T.astype(np.float64) + network.state_dict()["output.bias"]
    p = np.exp(log_softmax(logits))[np.arange(len(x)), y]
    for t in range(1, len(x)):
        first = max(0, t - 23)
        weights = np.exp(0.7 * h[first:t] @ h[t])
        p[t] = 0.7 * p[t] + 0.3 * weights[y[first:t] == y[t]].sum() / weights.sum()
    assert rf.evaluate(network, text, cache=cache).perplexity == pytest.approx(np.exp(-np.log(p).mean()), rel=1e-5)
    both = rf.evaluate(network, text, cache=cache, dynamic=rf.DynamicEvaluation(lr=0.0, num_steps=11))
    assert both.perplexity == pytest.approx(np.exp(-np.log(p).mean()), rel=1e-5)


def test_what_cannot_adapt_is_refused():
    dynamic = rf.DynamicEvaluation()
    with pytest.raises(ValueError, match="in one part"):
        rf.evaluate(model(), TEXT, parts=2, dynamic=dynamic)
    with pytest.raises(TypeError, match=r"model is a NGram: dynamic evaluation and caches are for an rf.LanguageModel"):
        rf.evaluate(rf.NGram(2).fit(rf.Corpus.from_text("ab ab")), rf.Corpus.from_text("ab ab"), dynamic=dynamic)
    with pytest.raises(ValueError, match="int8 weights are for inference only"):
        rf.evaluate(model(weights="int8"), TEXT, dynamic=dynamic)
    with pytest.raises(TypeError, match=r"cache is a DynamicEvaluation, expected an rf.NeuralCache"):
        rf.evaluate(model(), TEXT, cache=dynamic)
    for make, sentence in (
        (lambda: rf.DynamicEvaluation(decay=2), "decay is 2, expected 0 to 1"),
        (lambda: rf.DynamicEvaluation(lr="x"), "lr is 'x', expected a number"),
        (lambda: rf.NeuralCache(share=1.5), "share is 1.5, expected 0 to 1"),
        (lambda: rf.NeuralCache(size=0), "size is 0, expected at least 1"),
    ):
        with pytest.raises((ValueError, TypeError), match=sentence):
            make()


# Averages of the weights


def steps_of(average=None, **options):
    """The weights after each step of a run, and the model at its end."""
    network, seen = model(), []

    class Note(rf.Callback):
        def on_step(self, record):
            seen.append(network.state_dict())

    history = rf.fit(network, TEXT[:500], TEXT[500:600], average=average, callbacks=[Note()], **{**FIT, **options})
    return seen, network, history


def test_averages_are_those_of_the_weights_of_every_step_and_are_validated():
    seen, last, _ = steps_of(epochs=3)
    each = len(seen) // 3
    mean = {name: np.mean([w[name] for w in seen[each:]], 0) for name in seen[0]}
    _, averaged, history = steps_of("asgd:start=2", epochs=3)
    for name, value in averaged.state_dict().items():
        np.testing.assert_allclose(value, mean[name], atol=1e-5, err_msg=name)
    assert history[-1]["valid_perplexity"] == rf.evaluate(averaged, TEXT[500:600]).perplexity
    assert history[-1]["train_perplexity"] == steps_of(epochs=3)[2][-1]["train_perplexity"]

    _, moving, _ = steps_of(EMA(decay=0.8), epochs=3)
    expected = {name: value.astype(np.float64) for name, value in model().state_dict().items()}
    for n, weights in enumerate(seen, 1):
        decay = min(0.8, n / (n + 9))
        expected = {name: decay * value + (1 - decay) * weights[name] for name, value in expected.items()}
    for name, value in moving.state_dict().items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)
        assert not np.array_equal(value, last.state_dict()[name])


@pytest.mark.parametrize("average", ["ema:decay=0.9", "asgd:trigger=1", "asgd:start=2"])
def test_a_run_with_an_average_resumes_exactly(average, tmp_path):
    options = {"epochs": 4, "average": average, "keep_best": True, "lr": 0.05, **FIT}
    whole = model()
    rf.fit(whole, TEXT[:500], TEXT[500:600], **options)

    class Stop(rf.Callback):
        def on_step(self, record):
            if record["step"] == 31:
                raise RuntimeError

    parted = model()
    with pytest.raises(RuntimeError):
        rf.fit(parted, TEXT[:500], TEXT[500:600], checkpoint=tmp_path / "run", callbacks=[Stop()], **options)
    parted = model()
    history = rf.fit(parted, TEXT[:500], TEXT[500:600], checkpoint=tmp_path / "run", resume=True, **options)
    assert len(history) == 4
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(value, parted.state_dict()[name])
    with pytest.raises(ValueError, match="average is"):
        rf.fit(
            model(), TEXT[:500], TEXT[500:600], checkpoint=tmp_path / "run", resume=True, **{**options, "average": None}
        )


def test_averages_are_named_with_their_options():
    assert average_named("asgd:trigger=3") == ASGD(trigger=3)
    assert average_named(None) is None
    for spec, sentence in (
        ("mean", "unknown average 'mean': expected one of ema, asgd"),
        ("ema:decay=1", "decay is 1.0, expected more than 0"),
        ("ema:start=1", "average 'ema' has no option 'start': it has decay"),
    ):
        with pytest.raises(ValueError, match=sentence):
            average_named(spec)
    with pytest.raises(ValueError, match="asgd without start need validation data"):
        rf.fit(model(), TEXT, average="asgd")


# Weight drop


def test_weight_drop_is_a_mask_of_the_recurrent_weights_in_training_alone():
    dropped, plain = model(weight_drop=0.5), model()
    plain.load_state_dict(dropped.state_dict())
    x, y = next(iter(rf.batches(TEXT, batch_size=5, num_steps=8)))
    np.testing.assert_array_equal(dropped.nll(x, y)[0], plain.nll(x, y)[0])
    loss, _ = dropped.loss(x, y)
    np.testing.assert_array_equal(dropped.nll(x, y)[0], plain.nll(x, y)[0])  # between a loss and its backward
    dropped.backward()

    # The gradient is zero where the mask is, and twice that of the masked model elsewhere.
    gradient = dropped.grads["rnn.weight_hh_l0"].copy()
    mask = gradient != 0
    assert 0.35 < mask.mean() < 0.65
    weights = dropped.state_dict()
    weights["rnn.weight_hh_l0"] = weights["rnn.weight_hh_l0"] * mask * np.float32(2)
    plain.load_state_dict(weights)
    assert plain.loss(x, y)[0] == loss
    plain.backward()
    for name, value in plain.grads.items():
        if name == "rnn.weight_hh_l0":
            np.testing.assert_array_equal(gradient, np.where(mask, 2 * value, 0))
        else:
            np.testing.assert_array_equal(dropped.grads[name], value)
    assert dropped.loss(x, y)[0] != loss  # another mask


def test_weight_drop_needs_recurrent_weights_and_is_kept_in_files(tmp_path):
    with pytest.raises(ValueError, match="the cell 'sru' has no recurrent weights"):
        model(cell="sru", weight_drop=0.5)
    with pytest.raises(ValueError, match="weight_drop is 1"):
        model(weight_drop=1)
    network = model(weight_drop=0.5, output_dropout=0.25, num_layers=2)
    network.save(tmp_path / "model")
    assert rf.load(tmp_path / "model").config == network.config
    rf.fit(network, TEXT, epochs=1, **FIT)


def test_output_dropout_is_apart_from_the_others():
    x, y = next(iter(rf.batches(TEXT, batch_size=5, num_steps=8)))
    plain, other = model().loss(x, y)[0], model(output_dropout=0.5).loss(x, y)[0]
    assert plain != other
    assert model(dropout=0.5, embedding_dropout=0.0, output_dropout=0.0).loss(x, y)[0] == plain


# Schedules and time


def test_one_cycle_equals_pytorch_s():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=101, pct_start=0.3, div_factor=25, final_div_factor=1e4
    )
    plan, found = OneCycle(rise=0.3, start=0.04, end=0.04e-4), []
    for _ in range(101):
        found.append(theirs.get_last_lr()[0])
        optimizer.step()
        if len(found) < 101:
            theirs.step()
    # PyTorch's rise ends a step earlier.
    ours = [plan.factor(step / 100 * 8, 8, ()) for step in range(101)]
    np.testing.assert_allclose(ours, found, atol=0.06)
    assert ours[0] == pytest.approx(found[0])
    assert ours[-1] == pytest.approx(found[-1], abs=1e-9)
    with pytest.raises(ValueError, match="rise, start and end are"):
        OneCycle(rise=1.0)


class Clock:
    """Seconds that pass with every look at the clock."""

    def __init__(self, pace):
        self.pace, self.time = pace, 0.0

    def __call__(self):
        self.time += self.pace(self.time)
        return self.time


def timed(pace, monkeypatch, *, stop=None, minutes_=1.0, network=None, **options):
    clock = Clock(pace)
    monkeypatch.setattr(minutes, "now", clock)
    network, rates = model() if network is None else network, []

    class Note(rf.Callback):
        def on_step(self, record):
            rates.append(record["lr"])
            if record["step"] == stop:
                raise RuntimeError

    history = None
    with contextlib.suppress(RuntimeError):
        history = rf.fit(
            network,
            TEXT[:500],
            TEXT[500:600],
            minutes=minutes_,
            schedule="cosine",
            lr=0.1,
            callbacks=[Note()],
            **{**FIT, **options},
        )
    return clock, network, rates, history


def test_a_run_of_minutes_ends_on_time_with_its_schedule_at_the_end(monkeypatch):
    for pace in (lambda t: 0.3, lambda t: 0.3 if t < 20 else 0.6, lambda t: 0.6 if t < 30 else 0.25):
        clock, _, rates, history = timed(pace, monkeypatch)
        assert 58 < clock.time < 62
        assert rates[-1] < 0.01 * max(rates)
        assert history.notes[0].startswith("planned ")
        assert history.notes[0].endswith("epochs for 1 minutes")
        assert np.isfinite(history[-1]["valid_perplexity"])


def test_a_run_of_minutes_resumes_exactly(monkeypatch, tmp_path):
    _, whole, rates, _ = timed(lambda t: 0.25, monkeypatch)  # exact in binary
    _, _, begun, _ = timed(lambda t: 0.25, monkeypatch, stop=40, checkpoint=tmp_path / "run")
    _, parted, rest, _ = timed(lambda t: 0.25, monkeypatch, checkpoint=tmp_path / "run", resume=True)
    assert len(begun) == 40
    assert begun + rest == rates
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(value, parted.state_dict()[name])
    with pytest.raises(ValueError, match=r"minutes is 2\.0, in the checkpoint 1\.0"):
        timed(lambda t: 0.25, monkeypatch, minutes_=2.0, checkpoint=tmp_path / "run", resume=True)
