from __future__ import annotations

import json
import math
import sys
import types

import numpy as np
import pytest

import rnnfast as rf
from rnnfast.train import Interrupted


def small(corpus, cell="rnn", seed=0, **options):
    return rf.LanguageModel(corpus.vocab, cell=cell, hidden_size=24, seed=seed, **options)


OPTIONS = {"batch_size": 4, "num_steps": 10, "lr": 1e-2, "progress": False}


@pytest.mark.parametrize("sampling", ["sequential", "random"])
def test_training_lowers_the_perplexity(corpus, sampling):
    train, valid = corpus.split(0.9, 0.1)
    model = small(corpus)
    before = rf.evaluate(model, valid).perplexity
    history = rf.fit(model, train, valid, epochs=5, sampling=sampling, **OPTIONS)
    assert history[-1]["valid_perplexity"] < before / 3
    assert [r["epoch"] for r in history] == [1, 2, 3, 4, 5]
    assert rf.evaluate(model, valid).perplexity == history[-1]["valid_perplexity"]


def test_state_carries_over_between_batches(corpus):
    """Two batches read one after the other equal one long batch, because the second starts from the first's state."""
    model = small(corpus)
    ids = corpus.ids[:21]
    whole, _ = model.nll(ids[:20, None], ids[1:21, None])
    first, state = model.nll(ids[:10, None], ids[1:11, None])
    second, _ = model.nll(ids[10:20, None], ids[11:21, None], state)
    assert np.array_equal(np.concatenate([first, second]), whole)


def test_the_same_seed_gives_the_same_weights(corpus):
    runs = []
    for seed in (1, 1, 2):
        model = small(corpus, seed=seed)
        rf.fit(model, corpus, epochs=1, **OPTIONS)
        runs.append(model.state_dict())
    assert all(np.array_equal(runs[0][n], runs[1][n]) for n in runs[0])
    assert not all(np.array_equal(runs[0][n], runs[2][n]) for n in runs[0])


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_resuming_in_mid_epoch_is_bit_identical_to_an_uninterrupted_run(corpus, tmp_path, cell, optimizer):
    file = tmp_path / "run.safetensors"
    options = {**OPTIONS, "epochs": 3, "optimizer": optimizer}
    reference = small(corpus, cell, dropout=0.3)
    expected = rf.fit(reference, corpus, **options)

    class StopSoon(Exception):
        pass

    model = small(corpus, cell, dropout=0.3)
    loss, calls = model.loss, []

    def stopping_loss(*args):
        calls.append(1)
        if len(calls) == 40:
            raise StopSoon
        return loss(*args)

    model.loss = stopping_loss
    with pytest.raises(StopSoon):
        rf.fit(model, corpus, **options, checkpoint=file, checkpoint_every=0)
    resumed = small(corpus, cell, dropout=0.3)
    history = rf.fit(resumed, corpus, **options, checkpoint=file, resume=True)
    for name, value in reference.state_dict().items():
        assert np.array_equal(resumed.state_dict()[name], value), name
    assert [r["train_perplexity"] for r in history] == [r["train_perplexity"] for r in expected]


def test_nan_stops_training_names_the_step_and_keeps_the_last_checkpoint(corpus, tmp_path):
    file = tmp_path / "run.safetensors"
    model = small(corpus)
    loss, calls = model.loss, []

    def damaged_loss(*args):
        calls.append(1)
        value, state = loss(*args)
        return (math.nan if len(calls) == 12 else value), state

    model.loss = damaged_loss
    with pytest.raises(rf.NonFiniteLoss, match="loss is nan at step 12 of epoch 1; the last good checkpoint is"):
        rf.fit(model, corpus, epochs=1, checkpoint=file, checkpoint_every=0, **OPTIONS)
    assert all(np.isfinite(v).all() for v in rf.load(file).state_dict().values())


def test_a_diverging_run_stops(corpus):
    model = small(corpus, cell="rnn_relu")
    with pytest.raises(rf.NonFiniteLoss, match="smaller lr"):
        rf.fit(model, corpus, epochs=20, optimizer="sgd", **{**OPTIONS, "lr": 1e6}, clip_norm=None)


def test_evaluation_covers_every_token_but_the_first(corpus):
    model = small(corpus)
    x, y = corpus.ids[:-1, None], corpus.ids[1:, None]
    nll, _ = model.nll(x, y)
    result = rf.evaluate(model, corpus, num_steps=7)
    assert result.tokens == len(corpus) - 1
    assert result.perplexity == pytest.approx(math.exp(nll.mean()), rel=1e-12)
    assert result.bits_per_token == pytest.approx(math.log2(result.perplexity))
    parts = rf.evaluate(model, corpus, batch_size=5)
    assert parts.tokens == result.tokens
    assert parts.perplexity == pytest.approx(result.perplexity, rel=0.05)


def test_unknown_tokens_are_counted(corpus):
    text = rf.Corpus.from_text("the ###", vocab=corpus.vocab)
    result = rf.evaluate(small(corpus), text)
    assert result.oov_rate == pytest.approx(3 / 6)
    assert result.perplexity != result.perplexity_without_oov


def test_a_text_of_another_vocabulary_is_refused(corpus):
    with pytest.raises(ValueError, match="another vocabulary"):
        rf.evaluate(small(corpus), rf.Corpus.from_text("xyz abc"))


def test_texts_that_do_not_fit_are_refused_before_training(corpus):
    other = rf.Corpus.from_text("xyz abc" * 60)  # fewer tokens, so that its ids would fit
    assert len(other.vocab) < len(corpus.vocab)
    for texts, sentence in (
        ((other,), "another vocabulary"),
        ((corpus, other), "another vocabulary"),
        ((corpus, corpus.ids[:1]), "has 1 token, expected at least 2"),
    ):
        model = small(corpus)
        with pytest.raises(ValueError, match=sentence):
            rf.fit(model, *texts, epochs=1, **OPTIONS)
        assert model.steps == 0


def test_history_draws_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    history = rf.History([{"epoch": e, "train_perplexity": 9 / e, "valid_perplexity": 10 / e} for e in (1, 2)])
    assert [axes.get_ylabel() for axes in history.plot(tmp_path / "curve.png").axes] == ["perplexity"]
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    whole = rf.History([{"epoch": e, "train_loss": 9 / e, "grad_norm": 2.0, "lr": 0.1 / e} for e in (1, 2)])
    panels = whole.plot().axes
    assert [axes.get_ylabel() for axes in panels] == ["loss", "gradient norm", "learning rate"]
    assert [list(axes.lines[0].get_ydata()) for axes in panels] == [[9, 4.5], [2, 2], [0.1, 0.05]]


def test_generation_repeats_with_its_seed_and_top_k_one_is_greedy(corpus):
    model = small(corpus)
    rf.fit(model, corpus, epochs=8, **OPTIONS)
    text = rf.generate(model, "the time ", length=60, temperature=0.8, top_k=5, seed=7)
    assert text == rf.generate(model, "the time ", length=60, temperature=0.8, top_k=5, seed=7)
    assert text != rf.generate(model, "the time ", length=60, temperature=0.8, top_k=5, seed=8)
    assert len(text) == 69
    greedy = rf.generate(model, "the time ", length=30, temperature=0)
    assert greedy == rf.generate(model, "the time ", length=30, top_k=1, seed=3)
    assert greedy == "the time " + "".join(rf.stream(model, "the time ", length=30, temperature=0))
    ids, state = model.vocab.encode_text("the time "), None
    for token in ids:
        logits, state = model.step([token], state)
    assert greedy[9] == model.vocab.to_tokens(int(logits[0].argmax()))


def test_top_p_keeps_the_fewest_tokens_that_reach_it(corpus):
    model = small(corpus)
    logits, _ = model.step([corpus.vocab["t"]])
    order = np.argsort(-logits[0], kind="stable")
    sums = np.cumsum(np.exp(logits[0, order]) / np.exp(logits[0]).sum())
    kept = int(np.searchsorted(sums, 0.3)) + 1
    sampler = rf._core.Sampler(rf._core.SamplerOptions(1.0, 0, 0.3, 5, 0, []))
    drawn = {sampler.sample(logits[0]) for _ in range(500)}
    assert drawn == set(order[:kept].tolist())
    everything = rf.generate(model, "the", length=40, top_p=1.0, seed=3)
    assert everything == rf.generate(model, "the", length=40, seed=3)
    assert rf.generate(model, "the", length=40, top_p=1e-9) == rf.generate(model, "the", length=40, temperature=0)


def test_the_compiled_loop_and_the_step_by_step_loop_give_the_same_text(corpus):
    model = small(corpus, "lstm")
    stepwise = types.SimpleNamespace(vocab=model.vocab, step=model.step)  # any model, as far as generate knows
    one, two = (
        rf.generate(m, "the ", length=50, temperature=0.9, top_k=10, top_p=0.8, seed=11) for m in (model, stepwise)
    )
    assert one == two


def test_beam_search_finds_the_most_probable_text(corpus):
    """A beam as wide as all texts of three tokens finds the best of them, which greedy search need not."""
    corpus = rf.Corpus.from_text("abacabcbab" * 9)
    model = small(corpus, "gru")
    rf.fit(model, corpus, epochs=1, **OPTIONS)
    size = len(corpus.vocab)
    found = rf.generate(model, "a", length=3, beam_size=size**2)
    texts = [corpus.vocab.decode([i, j, k]) for i in range(1, size) for j in range(1, size) for k in range(1, size)]
    scores = {text: rf.log_prob(model, "a" + text) for text in texts}
    assert found == "a" + max(scores, key=scores.get)
    assert len(rf.generate(rf.NGram(3).fit(corpus), "ab", length=5, beam_size=3)) == 7
    with pytest.raises(ValueError, match="does not sample"):
        rf.generate(model, "a", beam_size=2, temperature=0.5)


def test_surprisal_and_log_prob_are_parts_of_the_evaluation(corpus):
    model = small(corpus)
    bits = rf.surprisal(model, "the time")
    assert "".join(token for token, _ in bits) == "he time"
    result = rf.evaluate(model, rf.Corpus.from_text("the time", vocab=corpus.vocab))
    assert np.mean([b for _, b in bits]) == pytest.approx(result.bits_per_token, rel=1e-12)
    assert rf.log_prob(model, "the time") == pytest.approx(-7 * math.log(result.perplexity), rel=1e-12)
    joint = rf.log_prob(model, "th", context="\n") + rf.log_prob(model, "e", context="\nth")
    assert rf.log_prob(model, "the", context="\n") == pytest.approx(joint, rel=1e-12)
    assert rf.surprisal(model, "") == rf.surprisal(model, "t") == []


@pytest.mark.fault("N20")
def test_a_network_with_bos_also_predicts_the_first_token():
    marked = rf.LanguageModel(rf.Vocab("abc", reserved=["<bos>"]), hidden_size=5, seed=0)
    log_p, state = 0.0, None
    for before, token in zip([1, 2, 3], [2, 3, 4]):  # <bos> a b, a b c
        logits, state = marked.step([before], state)
        shifted = logits[0].astype(np.float64) - logits.max()
        log_p += shifted[token] - np.log(np.exp(shifted).sum())
    assert rf.log_prob(marked, "abc") == pytest.approx(log_p, rel=1e-6)
    assert [token for token, _ in rf.surprisal(marked, "abc")] == ["a", "b", "c"]
    chained = rf.log_prob(marked, "ab") + rf.log_prob(marked, "c", context="ab")
    assert rf.log_prob(marked, "abc") == pytest.approx(chained, rel=1e-12)
    assert sum(math.exp(s) for s in rf.log_prob(marked, list("abcz"))) < 1  # the rest is <bos>'s own
    words = rf.LanguageModel(rf.Vocab(["a", "b"], reserved=["<bos>"], tokenizer="word"), hidden_size=5, seed=0)
    assert rf.surprisal(words, "<bos> a b") == rf.surprisal(words, "a b")


def test_lines_are_scored_separately_in_batches_of_any_size(corpus, monkeypatch):
    module = sys.modules["rnnfast.evaluate"]  # rf.evaluate is the function
    random, text = np.random.default_rng(0), "the time traveller for so it will be convenient"
    lines = ["", "t", *(text[i : i + n] for i, n in random.integers(0, 30, (40, 2)))]
    marked = rf.LanguageModel(rf.Vocab(list(text), reserved=["<bos>"]), cell="lstm", hidden_size=5, seed=0)
    for model in (small(corpus, "lstm"), small(corpus), marked, rf.NGram(3).fit(corpus)):
        for context in ("", "the "):
            together = rf.log_prob(model, lines, context=context)
            assert together == [rf.log_prob(model, line, context=context) for line in lines]
            assert isinstance(together, list)
            shown = rf.surprisal(model, lines, context=context)
            assert shown == [rf.surprisal(model, line, context=context) for line in lines]
            with monkeypatch.context() as patched:
                patched.setattr(module, "_ROWS", 7)
                patched.setattr(module, "_TOKENS", 20)
                assert rf.log_prob(model, iter(lines), context=context) == together
    assert rf.log_prob(model, []) == []
    for wrong in (b"ab", None, 3, ["a", b"b"], ["a", 1]):
        with pytest.raises(TypeError, match="expected a str"):
            rf.log_prob(model, wrong)
    with pytest.raises(TypeError, match="context is a bytes"):
        rf.surprisal(model, "a", context=b"a")


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_batch_size_steps_and_threads_change_no_bit_of_an_evaluation(corpus, threads, cell):
    model = small(corpus, cell)
    results = set()
    for count in (1, 2):
        threads(count)
        for batch_size, num_steps in ((1, 128), (7, 5), (64, 13)):
            results.add(rf.evaluate(model, corpus, parts=64, batch_size=batch_size, num_steps=num_steps))
    assert len(results) == 1


def test_a_word_model_writes_readable_text():
    corpus = rf.Corpus.from_text("Well, it is here (now).\n" * 30, tokenizer="word")
    model = small(corpus)
    rf.fit(model, corpus, epochs=10, **OPTIONS)
    assert rf.generate(model, "Well", length=9, temperature=0) == "Well, it is here (now).\n"


def test_an_interrupt_saves_and_says_so(corpus, tmp_path):
    import os
    import signal

    file = tmp_path / "run.safetensors"
    model = small(corpus)
    loss, calls = model.loss, []

    def interrupted_loss(*args):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(*args)

    model.loss = interrupted_loss
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        rf.fit(model, corpus, epochs=3, checkpoint=file, **OPTIONS)
    assert caught.value.checkpoint == file
    assert signal.getsignal(signal.SIGINT) is before
    resumed, reference = small(corpus), small(corpus)
    rf.fit(resumed, corpus, epochs=3, checkpoint=file, resume=True, **OPTIONS)
    rf.fit(reference, corpus, epochs=3, **OPTIONS)
    assert np.array_equal(resumed.parameters()["output.weight"], reference.parameters()["output.weight"])


def test_checkpoints_of_other_settings_are_refused(corpus, tmp_path):
    file = tmp_path / "run.safetensors"
    rf.fit(small(corpus), corpus, epochs=1, checkpoint=file, **OPTIONS)
    with pytest.raises(ValueError, match="resume with the same settings"):
        rf.fit(small(corpus), corpus, epochs=2, checkpoint=file, resume=True, **{**OPTIONS, "batch_size": 5})
    with pytest.raises(ValueError, match="resume the same model"):
        rf.fit(small(corpus, "gru"), corpus, epochs=2, checkpoint=file, resume=True, **OPTIONS)
    plain = tmp_path / "plain.safetensors"
    small(corpus).save(plain)
    with pytest.raises(ValueError, match="not a checkpoint"):
        rf.fit(small(corpus), corpus, epochs=2, checkpoint=plain, resume=True, **OPTIONS)


def test_leftovers_of_killed_writers_are_swept(corpus, tmp_path):
    file = tmp_path / "run.safetensors"
    stale = tmp_path / "run.safetensors.tmp-999999999"
    stale.write_bytes(b"half")
    rf.fit(small(corpus), corpus, epochs=1, checkpoint=file, run={"note": 1}, **OPTIONS)
    assert not stale.exists()
    assert rf.train.checkpoint_run(file) == {"note": 1}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"optimizer": "adamm"}, "sgd, adam, adamw"),
        ({"clip_norm": 0.0}, "clip_norm is 0"),
        ({"sampling": "both"}, "sequential, random"),
        ({"resume": True}, "needs a checkpoint"),
        ({"batch_size": 10_000}, "fewer than one batch"),
    ],
)
def test_bad_options_are_named(corpus, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        rf.fit(small(corpus), corpus, **{**OPTIONS, **options})


def test_records_are_json(corpus):
    records = []
    rf.fit(small(corpus), corpus, epochs=1, on_epoch=records.append, **OPTIONS)
    assert json.loads(json.dumps(records))[0]["tokens"] > 0


def test_the_time_machine_is_learnt_as_well_as_by_torch(data_folder):
    from test_language_model import torch_twin

    corpus = rf.Corpus.from_text(rf.datasets.load("timemachine")[:60_000])
    train, test = corpus.split(0.9, 0.1)
    model = rf.LanguageModel(corpus.vocab, hidden_size=64, seed=0)
    torch, twin = torch_twin(model)
    rf.fit(model, train, epochs=3, batch_size=32, num_steps=35, lr=2e-3, clip_norm=1.0, progress=False)
    optimizer = torch.optim.Adam(twin.parameters(), lr=2e-3)
    for epoch in range(3):
        state = None
        for x, y in rf.batches(train, batch_size=32, num_steps=35, epoch=epoch):
            logits, state = twin(torch.from_numpy(x).long(), state)
            state = state.detach()
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(y).long().flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
            optimizer.step()
    with torch.no_grad():
        ids = torch.from_numpy(test.ids).long()
        logits, _ = twin(ids[:-1, None])
        expected = torch.nn.functional.cross_entropy(logits[:, 0], ids[1:]).exp().item()
    assert rf.evaluate(model, test).perplexity == pytest.approx(expected, rel=0.02)
