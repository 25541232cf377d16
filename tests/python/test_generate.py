"""Text from models, against the same in NumPy, written as plainly as it can be."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

import rnnfast as rf
from rnnfast import _core

TEXT = "the cat sat on the mat. the dog sat on the log. a cat and a dog ran to the mat\n" * 3
CORPUS = rf.Corpus.from_text(TEXT, vocab=rf.Vocab(TEXT, reserved=["<pad>", "<bos>"]))
MODELS = {
    "network": rf.LanguageModel(CORPUS.vocab, cell="gru", embedding_size=6, hidden_size=12, seed=3),
    "ngram": rf.NGram(3, "laplace").fit(CORPUS),  # gives <unk>, <pad> and <bos> a chance too
}
# An untrained network gives every token a fair chance, the reserved ones too.


@pytest.fixture(params=list(MODELS))
def model(request):
    return MODELS[request.param]


def options(temperature=1.0, top_k=0, top_p=1.0, seed=0, no_repeat_ngram_size=0, never=()):
    return _core.SamplerOptions(temperature, top_k, top_p, seed, no_repeat_ngram_size, list(never))


def splitmix(x):
    mask = 2**64 - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def uniform(seed, sample, draw):
    """Draw number ``draw`` of the random stream of ``sample``, in [0, 1)."""
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15
    key = splitmix((splitmix((splitmix((seed + golden) & mask) + sample) & mask)) & mask)
    return (splitmix((key + (draw + 1) * golden) & mask) >> 11) * 2.0**-53


def repeats(tokens, size):
    """What would complete an n-gram that is there already."""
    last = tokens[len(tokens) - size + 1 :]
    return [tokens[i + size - 1] for i in range(len(tokens) - size + 1) if tokens[i : i + size - 1] == last]


def reference(model, prompt, length, *, seed=0, sample=0, temperature=1.0, no_repeat=0, never=()):
    """The ids a sampler draws, by NumPy."""
    tokens, state = [int(i) for i in model.vocab.encode_text(prompt)], None
    for token in tokens:
        logits, state = model.step([token], state)
    for draw in range(length):
        scores = np.asarray(logits[0], np.float64)
        scores[list(never)] = -inf
        if no_repeat:
            scores[repeats(tokens, no_repeat)] = -inf
        if temperature == 0:
            token = int(scores.argmax())
        else:
            sums = np.cumsum(np.exp((scores - scores.max()) / temperature))
            token = int(np.searchsorted(sums, uniform(seed, sample, draw) * sums[-1], "right"))
        tokens.append(token)
        logits, state = model.step([token], state)
    return model.vocab.decode(tokens)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("no_repeat", [0, 1, 2, 3])
def test_generation_equals_a_plain_reference(model, temperature, no_repeat):
    length = 12 if no_repeat == 1 else 40
    never = [0, 1, 2]
    for sample, text in enumerate(
        rf.generate(
            model, "the", length=length, temperature=temperature, seed=5, no_repeat_ngram_size=no_repeat,
            allow_unk=False, num_samples=3,
        )
    ):  # fmt: skip
        assert text == reference(
            model, "the", length, seed=5, sample=sample, temperature=temperature, no_repeat=no_repeat, never=never
        )


def test_unk_pad_and_bos_are_never_generated_when_they_are_not_allowed(model):
    with_them, without = (
        rf.generate(model, "the", length=150, temperature=1.5, allow_unk=allowed) for allowed in (True, False)
    )
    for token in ("<unk>", "<pad>", "<bos>"):
        assert token in with_them
        assert token not in without


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_no_ngram_occurs_twice(model, size, beam_size):
    how = {"beam_size": beam_size} if beam_size > 1 else {"temperature": 0}
    text = rf.generate(model, "the cat", length=8, no_repeat_ngram_size=size, allow_unk=False, **how)
    added = text[len("the cat") - size + 1 :] if size > 1 else text[len("the cat") :]
    grams = [added[i : i + size] for i in range(len(added) - size + 1)]
    assert len(grams) == len(set(grams)) == 8
    before = "the cat"
    assert not set(grams) & {before[i : i + size] for i in range(len(before) - size + 1)}


def test_samples_are_independent_and_the_first_is_the_single_one(model):
    single = rf.generate(model, "the", length=30, seed=9)
    samples = rf.generate(model, "the", length=30, seed=9, num_samples=4)
    assert samples[0] == single
    assert len(set(samples)) == 4
    assert rf.generate(model, "the", length=30, seed=9, num_samples=1) == [single]
    assert rf.generate(model, "the", length=30, seed=9, num_samples=2) == samples[:2]


@pytest.mark.parametrize("stop", ["d", "ra", ["xyzzy", "og", "n t"], ("at",), [], None])
@pytest.mark.parametrize("how", [{}, {"temperature": 0.0}, {"beam_size": 2}])
def test_text_ends_before_the_first_stop_string(model, stop, how):
    whole = rf.generate(model, "the cat", length=60, **how)[len("the cat") :]
    text = rf.generate(model, "the cat", length=60, stop=stop, **how)
    stops = [stop] if isinstance(stop, str) else list(stop or [])
    places = [whole.find(s) for s in stops if s in whole]
    assert text == "the cat" + whole[: min(places, default=len(whole))]
    if how.get("beam_size", 1) == 1:
        pieces = list(rf.stream(model, "the cat", length=60, stop=stop, **how))
        assert "the cat" + "".join(pieces) == text


def test_a_stream_holds_back_what_may_become_a_stop_string():
    model = rf.NGram(6, "none").fit(rf.Corpus.from_text("ab cd ef gh"))
    for stop in ([], [" cd eg", "f x", " cd ef gh"]):
        assert "".join(rf.stream(model, "ab", length=8, temperature=0, stop=stop)) == " cd ef g"
    pieces = list(rf.stream(model, "ab", length=8, temperature=0, stop=[" cd ex", "d ef"]))
    assert [piece for piece in pieces if piece] == [" c"]


def test_generation_makes_no_step_more_than_it_needs(monkeypatch):
    model, steps = rf.NGram(2).fit(CORPUS), []
    step = model.step
    monkeypatch.setattr(model, "step", lambda *a: steps.append(a) or step(*a))
    rf.generate(model, "the", length=5)
    assert len(steps) == 3 + 4  # the prompt, and each token but the last


@pytest.mark.fault("N7")
@pytest.mark.parametrize("place", [0, 1, 16, 17, 39])
@pytest.mark.parametrize("how", [{}, {"temperature": 0.0}, {"top_k": 1}, {"top_k": 5}, {"top_p": 0.5}])
@pytest.mark.parametrize(("bad", "sentence"), [(nan, "have NaN"), (inf, "have infinity")])
def test_a_sampler_refuses_logits_that_are_not_numbers(place, how, bad, sentence):
    logits = np.linspace(0, 1, 40, dtype=np.float32)
    logits[place] = bad
    with pytest.raises(ValueError, match=f"the logits {sentence}: the model's weights or its state are not finite"):
        _core.Sampler(options(**how)).sample(logits)


def drawn(logits, draw, *, seed, temperature=1.0, top_k=0, top_p=1.0):
    """The id that a sampler draws from logits, by NumPy; ties go to the lower id."""
    order = np.argsort(-logits, kind="stable")[: top_k or None]
    if temperature == 0:
        return int(order[0])
    scores = logits.astype(np.float64)
    sums = np.cumsum(np.exp((scores[order] - scores[order[0]]) / temperature))
    if top_p < 1:
        order = order[: int(np.searchsorted(sums, top_p * sums[-1])) + 1]
    ids = np.sort(order)
    sums = np.cumsum(np.exp((scores[ids] - scores.max()) / temperature))
    return int(ids[np.searchsorted(sums, uniform(seed, 0, draw) * sums[-1], "right")])


@pytest.mark.parametrize("vocabulary", [40, 1287, 5003])
@pytest.mark.parametrize(
    "how",
    [
        {"temperature": 0.0}, {"top_k": 1}, {"top_k": 2, "temperature": 3.0}, {"top_k": 39}, {"top_k": 40},
        {"top_p": 0.01}, {"top_p": 0.6}, {"top_p": 0.999}, {"top_k": 40, "top_p": 0.8, "temperature": 0.5},
    ],
)  # fmt: skip
def test_a_sampler_draws_what_a_plain_reference_draws(vocabulary, how):
    rng = np.random.default_rng(vocabulary)
    sampler = _core.Sampler(options(**how, seed=5))
    for draw in range(60):
        logits = np.round(4 * rng.normal(size=vocabulary), draw % 3).astype(np.float32)  # many ties, 0 and -0
        logits[rng.random(vocabulary) < 0.3 * (draw % 2)] = -inf
        assert sampler.sample(logits) == drawn(logits, draw, **how, seed=5)


@pytest.mark.fault("N7")
@pytest.mark.parametrize("how", [{}, {"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.9}])
def test_minus_infinity_forbids_a_token(how):
    logits = np.full(40, -inf, np.float32)
    logits[[7, 21]] = 0.5
    sampler = _core.Sampler(options(**how))
    assert {sampler.sample(logits) for _ in range(50)} <= {7, 21}
    with pytest.raises(ValueError, match="no token is left to draw"):
        sampler.sample(np.full(40, -inf, np.float32))


def broken(model, value=nan):
    """The model with one weight of its output's bias that is not finite: only one logit shows it."""
    other = rf.LanguageModel(model.vocab, **{k: v for k, v in model.config.items() if k != "vocab_size"})
    state = {name: weight.copy() for name, weight in model.state_dict().items()}
    state["output.bias"][5] = value
    other.load_state_dict(state)
    return other


@pytest.mark.fault("N7")
@pytest.mark.parametrize("value", [nan, inf])
def test_a_network_with_broken_weights_says_so_wherever_it_is_used(value):
    model = broken(MODELS["network"], value)
    for use in (
        lambda: rf.generate(model, "the"),
        lambda: rf.generate(model, "the", temperature=0),
        lambda: rf.generate(model, "the", beam_size=3),
        lambda: next(rf.stream(model, "the")),
        lambda: rf.evaluate(model, CORPUS),
        lambda: rf.surprisal(model, "the cat"),
        lambda: rf.log_prob(model, "the cat"),
    ):
        with pytest.raises(ValueError, match=r"weights.* not finite"):
            use()


@pytest.mark.fault("N7")
@pytest.mark.parametrize("value", [nan, inf])
@pytest.mark.parametrize("hidden_size", [8, 300])  # 300: the largest logit is found without computing most of them
def test_a_translator_with_broken_weights_says_so_wherever_it_is_used(value, hidden_size):
    model = rf.Seq2Seq(260, 260, embedding_size=4, hidden_size=hidden_size, seed=0)
    state = {name: weight.copy() for name, weight in model.state_dict().items()}
    bias = next(name for name, weight in state.items() if weight.shape == (260,))
    state[bias][77] = value
    model.load_state_dict(state)
    pairs = rf.ParallelCorpus.from_pairs([("a b", "b a"), ("c", "c")])
    small = rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, embedding_size=4, hidden_size=4, seed=0)
    weights = {name: weight * nan for name, weight in small.state_dict().items()}
    small.load_state_dict(weights)
    for use in (
        lambda: rf.translate(model, [[5, 6, 7]]),
        lambda: rf.translate(model, [[5, 6, 7]], beam_size=3),
        lambda: rf.translate(model, [[5, 6, 7]], beam_size=3, n_best=2),
        lambda: rf.score_pairs(model, [[5, 6]], [[7]]),
        lambda: rf.evaluate(small, pairs),
    ):
        with pytest.raises(ValueError, match="not finite"):
            use()


@pytest.mark.fault("N7")
def test_weights_that_broke_in_an_epoch_s_last_step_stop_training():
    model = rf.LanguageModel(CORPUS.vocab, cell="rnn", hidden_size=4, seed=0)

    class Break(rf.Callback):
        def on_step(self, record):
            model.load_state_dict({name: weight * nan for name, weight in model.state_dict().items()})

    with pytest.raises(rf.NonFiniteLoss, match="weight"):
        rf.fit(model, CORPUS.ids[:40], CORPUS.ids, epochs=1, batch_size=1, num_steps=39, callbacks=[Break()])


@pytest.mark.fault("N7")
@pytest.mark.parametrize(
    ("wrong", "error", "sentence"),
    [
        ({"temperature": nan}, ValueError, "temperature is nan"),
        ({"temperature": inf}, ValueError, "temperature is inf"),
        ({"temperature": -0.1}, ValueError, "temperature is -0.1"),
        ({"temperature": "0.8"}, TypeError, "temperature is '0.8', expected a number"),
        ({"temperature": None}, TypeError, "temperature is None, expected a number"),
        ({"top_p": 0}, ValueError, "top_p is 0"),
        ({"top_p": 1.1}, ValueError, "top_p is 1.1"),
        ({"top_p": nan}, ValueError, "top_p is nan"),
        ({"top_k": -1}, ValueError, "top_k is -1, expected at least 0"),
        ({"top_k": 2.0}, TypeError, "top_k is 2.0, expected an integer"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": 2**64}, ValueError, "seed is 18446744073709551616, expected 0 to 18446744073709551615"),
        ({"seed": None}, TypeError, "seed is None"),
        ({"length": -1}, ValueError, "length is -1"),
        ({"no_repeat_ngram_size": -1}, ValueError, "no_repeat_ngram_size is -1"),
        ({"stop": ""}, ValueError, "stop holds an empty string"),
        ({"stop": [1]}, TypeError, "stop holds 1, expected strings"),
    ],
)
def test_wrong_options_are_named_before_the_first_token(model, wrong, error, sentence):
    with pytest.raises(error, match=sentence):
        rf.generate(model, "the", **wrong)
    with pytest.raises(error, match=sentence):
        rf.stream(model, "the", **wrong)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.generate(MODELS["network"], "the", num_samples=0), ValueError, "num_samples is 0"),
        (lambda: rf.generate(MODELS["network"], "the", num_samples=2, beam_size=2), ValueError, "does not sample"),
        (lambda: rf.generate(MODELS["network"], ["the"]), TypeError, "the prompt is a list, expected one text"),
        (lambda: rf.generate(rf.Seq2Seq(5, 5, hidden_size=3), "the"), TypeError, r"rf\.translate translates them"),
        (lambda: rf.generate(MODELS["ngram"], "a", length=99, no_repeat_ngram_size=1), ValueError, "no token is left"),
        (
            lambda: rf.generate(MODELS["ngram"], "a", length=99, no_repeat_ngram_size=1, beam_size=2),
            ValueError,
            "no token is left",
        ),
    ],
)
def test_what_cannot_be_generated_is_refused(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_top_k_above_the_vocabulary_means_all_tokens(model):
    assert rf.generate(model, "the", length=20, top_k=10**30) == rf.generate(model, "the", length=20)
