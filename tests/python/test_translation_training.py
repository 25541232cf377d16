"""``fit`` and ``evaluate`` on sentence pairs: the same checkpoints, the same features, the same bits."""

from __future__ import annotations

import math

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.train import Interrupted

WORDS = "eins zwei drei vier fünf sechs".split()
ENGLISH = "one two three four five six".split()
OPTIONS = {"batch_size": 8, "lr": 1e-2, "progress": False}


def counted(count=120, seed=0):
    """Numbers in German and, the other way round, in English."""
    random = np.random.default_rng(seed)
    rows = [random.integers(0, 6, random.integers(1, 6)) for _ in range(count)]
    return [(" ".join(WORDS[i] for i in row), " ".join(ENGLISH[i] for i in row[::-1])) for row in rows]


@pytest.fixture(scope="module")
def pairs():
    return rf.ParallelCorpus.from_pairs(counted())


def small(pairs, seed=0, **options):
    options = {"embedding_size": 12, "hidden_size": 20, "decoder": "d2l", **options}
    return rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, seed=seed, **options)


def same(a, b):
    return all(np.array_equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize("attention", ["none", "additive", "dot"])
def test_training_lowers_the_perplexity(pairs, attention):
    train, valid = pairs.split(0.9, 0.1)
    model = small(train, attention=attention)
    before = rf.evaluate(model, valid)
    history = rf.fit(model, train, valid, epochs=8, **OPTIONS)
    after = rf.evaluate(model, valid)
    assert after.perplexity == history[-1]["valid_perplexity"] < before.perplexity / 2
    assert after.token_accuracy > before.token_accuracy
    assert [r["epoch"] for r in history] == list(range(1, 9))
    assert history[0]["tokens"] == sum(map(len, train.target_ids))


@pytest.mark.parametrize(
    "options", [{"cell": "lstm", "dropout": 0.3}, {"teacher_forcing": 0.5, "attention": "additive"}]
)
@pytest.mark.parametrize("stop", [7, 21])
def test_resuming_in_mid_epoch_is_bit_identical_to_an_uninterrupted_run(pairs, tmp_path, options, stop):
    file = tmp_path / "run.safetensors"
    training = {**OPTIONS, "epochs": 3, "optimizer": "adamw", "schedule": "plateau:decay=0.5,patience=1"}
    train, valid = pairs.split(0.9, 0.1)
    reference = small(train, **options)
    expected = rf.fit(reference, train, valid, **training, keep_best=True)

    class StopSoon(Exception):
        pass

    model = small(train, **options)
    loss, calls = model.loss, []

    def stopping_loss(*args):
        calls.append(1)
        if len(calls) == stop:
            raise StopSoon
        return loss(*args)

    model.loss = stopping_loss
    with pytest.raises(StopSoon):
        rf.fit(model, train, valid, **training, keep_best=True, checkpoint=file, checkpoint_every=0)
    resumed = small(train, seed=9, **options)
    resumed._config.update(reference.config)  # as if it had been made with the same seed
    history = rf.fit(resumed, train, valid, **training, keep_best=True, checkpoint=file, resume=True)
    assert same(reference, resumed)
    for name in ("train_perplexity", "valid_perplexity", "lr", "grad_norm", "clipped", "tokens"):
        assert history.column(name) == expected.column(name)


def test_an_interrupt_saves_and_callbacks_see_every_step(pairs, tmp_path):
    import os
    import signal

    seen = []

    class Note(rf.Callback):
        def on_step(self, record):
            seen.append(record["step"])
            if len(seen) == 5:
                os.kill(os.getpid(), signal.SIGTERM)

        def on_epoch(self, record, model):
            return "enough" if record["epoch"] == 2 else None

    file, model, reference = tmp_path / "run.safetensors", small(pairs), small(pairs)
    with pytest.raises(Interrupted) as caught:
        rf.fit(model, pairs, epochs=4, checkpoint=file, callbacks=[Note()], **OPTIONS)
    assert caught.value.checkpoint == file
    model = small(pairs)
    history = rf.fit(model, pairs, epochs=4, checkpoint=file, resume=True, callbacks=[Note()], **OPTIONS)
    assert (history.stopped, len(history)) == ("enough", 2)
    assert seen == list(range(1, 31))
    rf.fit(
        reference, pairs, epochs=4, callbacks=[type("Stop", (rf.Callback,), {"on_epoch": Note.on_epoch})()], **OPTIONS
    )
    assert same(reference, model)


def test_checkpoints_of_other_settings_and_other_models_are_refused(pairs, tmp_path):
    file = tmp_path / "run.safetensors"
    rf.fit(small(pairs), pairs, epochs=1, checkpoint=file, **OPTIONS)
    again = {"epochs": 2, "checkpoint": file, "resume": True}
    with pytest.raises(ValueError, match="resume with the same settings"):
        rf.fit(small(pairs), pairs, **again, **{**OPTIONS, "batch_size": 9})
    with pytest.raises(ValueError, match="resume the same model"):
        rf.fit(small(pairs, decoder="previous"), pairs, **again, **OPTIONS)
    corpus = rf.Corpus.from_text("abc " * 200)
    with pytest.raises(ValueError, match="resume"):
        rf.fit(rf.LanguageModel(corpus.vocab, hidden_size=4, seed=0), corpus, **again, **OPTIONS)


def test_what_is_said_of_a_text_is_refused_for_pairs(pairs):
    for options in ({"num_steps": 20}, {"sampling": "random"}):
        with pytest.raises(ValueError, match="pairs are read whole and in random order"):
            rf.fit(small(pairs), pairs, **OPTIONS, **options)
    with pytest.raises(ValueError, match="need validation data"):
        rf.fit(small(pairs), pairs, patience=2, **OPTIONS)


def test_patience_and_the_best_weights(pairs):
    train, valid = pairs[:24], pairs[24:40]
    model = small(train, hidden_size=40)
    history = rf.fit(model, train, valid, epochs=200, patience=3, keep_best=True, **{**OPTIONS, "lr": 3e-2})
    assert len(history) < 200
    assert "no lower validation perplexity for 3 epochs" in history.stopped
    assert rf.evaluate(model, valid).perplexity == history.best["valid_perplexity"]


def test_batch_size_and_threads_change_no_bit_of_an_evaluation(pairs, threads):
    model = small(pairs, attention="general", bidirectional=True)
    results = set()
    for count in (1, 2):
        threads(count)
        results |= {rf.evaluate(model, pairs, batch_size=n) for n in (1, 7, 64)}
    assert len(results) == 1
    assert results.pop().tokens == sum(map(len, pairs.target_ids))


def test_an_evaluation_is_the_mean_over_the_tokens(pairs):
    model = small(pairs)
    few = pairs[:5]
    batch = few.batch(range(5))
    nll, likeliest = model.nll(*batch), model.predictions(*batch)
    counts = batch.target[1:] >= 0
    result = rf.evaluate(model, few)
    assert result.perplexity == pytest.approx(math.exp(nll[counts].mean()), rel=1e-12)
    assert result.token_accuracy == pytest.approx((likeliest == batch.target[1:])[counts].mean())
    # The most probable token is the one that would have the least nll in the true one's place.
    for t, n in ((0, 0), (1, 2)):
        other = batch.target[: t + 2].copy()
        losses = []
        for token in range(len(few.target_vocab)):
            other[t + 1, n] = token
            losses.append(model.nll(batch.source, batch.source_lengths, other)[t, n])
        assert likeliest[t, n] == np.argmin(losses)


def test_what_does_not_belong_together_is_refused(pairs):
    model = small(pairs)
    with pytest.raises(ValueError, match="another source_vocab"):
        rf.evaluate(model, rf.ParallelCorpus.from_pairs([("a b", "c d")]))
    with pytest.raises(TypeError, match="need a translator"):
        rf.evaluate(rf.LanguageModel(pairs.target_vocab, hidden_size=4, seed=0), pairs)
    with pytest.raises(ValueError, match="batch_size is 0"):
        rf.evaluate(model, pairs, batch_size=0)
