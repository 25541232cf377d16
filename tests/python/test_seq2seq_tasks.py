"""Tasks that cannot be passed by luck: sequences that were never trained on, written out without a mistake."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import rnnfast as rf


def sequences(count, shortest, longest, symbols=8, seed=0):
    """Different sequences of letters, by chance."""
    random, found = np.random.default_rng(seed), {}
    while len(found) < count:
        found[
            " ".join("abcdefghij"[i] for i in random.integers(0, symbols, random.integers(shortest, longest + 1)))
        ] = None
    return list(found)


def sums(most, seed=0):
    """All sums of two numbers up to ``most``, shuffled, digits apart and the least one first."""
    order = np.random.default_rng(seed).permutation([(a, b) for a in range(most + 1) for b in range(most + 1)])
    return [(" ".join(f"{a}+{b}"[::-1]), " ".join(str(a + b)[::-1])) for a, b in order]


def exact(pairs, held_out, *, epochs, lr=1e-2, batch_size=64, **options):
    """The share of held-out targets that a model, trained on the others, writes exactly."""
    assert not {s for s, _ in pairs[:-held_out]} & {s for s, _ in pairs[-held_out:]}
    corpus = rf.ParallelCorpus.from_pairs(pairs, tokenizer="whitespace")
    train, test = corpus[:-held_out], corpus[-held_out:]
    options = {"embedding_size": 32, "hidden_size": 96, **options}
    model = rf.Seq2Seq(corpus.source_vocab, corpus.target_vocab, seed=0, **options)
    rf.fit(model, train, epochs=epochs, batch_size=batch_size, lr=lr, schedule="cosine:warmup=0.5", progress=False)
    found = rf.translate(model, test.sources)
    return float(np.mean([a == b for a, b in zip(found, test.targets)]))


@pytest.fixture(autouse=True)
def one_thread():
    """Steps of a few microseconds: a second thread only helps on an idle machine, and costs much on a busy one."""
    threads = rf.get_num_threads()
    rf.set_num_threads(1)
    yield
    rf.set_num_threads(threads)


ATTENTIVE = {"decoder": "d2l", "attention": "additive", "bidirectional": True}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("task", "options"),
    [
        pytest.param("copy", ATTENTIVE, marks=SLOW, id="copy-attention"),
        pytest.param("reverse", ATTENTIVE, marks=SLOW, id="reverse-attention"),
        pytest.param("copy", {"decoder": "previous"}, id="copy-previous"),
        pytest.param("reverse", {"decoder": "previous"}, marks=SLOW, id="reverse-previous"),
        pytest.param("copy", {"decoder": "d2l"}, marks=SLOW, id="copy-d2l"),
        pytest.param("reverse", {"decoder": "d2l"}, id="reverse-d2l"),
    ],
)
def test_sequences_are_copied_and_reversed(task, options):
    pairs = [(s, s if task == "copy" else s[::-1]) for s in sequences(5_000, 2, 5, symbols=6)]
    assert exact(pairs, 300, epochs=15, **options) > 0.99


@SLOW
def test_two_numbers_are_added():
    assert exact(sums(49), 250, epochs=40, **ATTENTIVE) > 0.99


@pytest.mark.parametrize("decoder", ["context_as_state", "context_as_input"])
def test_decoders_that_read_no_token_depend_only_on_the_context(decoder):
    every = [" ".join(letters) for letters in itertools.product("abcdefghij", repeat=3)]
    np.random.default_rng(0).shuffle(every)
    assert exact([(s, s[::-1]) for s in every], 200, epochs=60, batch_size=16, decoder=decoder) > 0.99


@pytest.mark.large
@pytest.mark.parametrize("task", ["copy", "reverse"])
def test_sequences_of_more_letters_are_copied_and_reversed_without_attention(task):
    pairs = [(s, s if task == "copy" else s[::-1]) for s in sequences(8_000, 2, 5)]
    assert exact(pairs, 300, epochs=20, decoder="d2l") > 0.99


@pytest.mark.large
@pytest.mark.parametrize("task", ["copy", "reverse"])
@pytest.mark.parametrize("attention", ["additive", "dot", "general"])
def test_long_sequences_are_copied_and_reversed_with_attention(task, attention):
    pairs = [(s, s if task == "copy" else s[::-1]) for s in sequences(12_000, 5, 20, symbols=10)]
    options = {"decoder": "d2l", "attention": attention, "hidden_size": 128}
    options["bidirectional"] = attention != "dot"  # whose two widths must agree
    assert exact(pairs, 500, epochs=15, lr=4e-3, **options) > 0.99
