"""BLEU of a sentence, as in d2l, and of a corpus."""

from __future__ import annotations

import collections
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnnfast as rf

sentences = st.lists(st.sampled_from("abc"), min_size=1, max_size=9)


def textbook(prediction, reference, k):
    """d2l's loop, section 10.7.6, the matches counted one by one."""
    score = math.exp(min(0, 1 - len(reference) / len(prediction)))
    for n in range(1, min(k, len(prediction)) + 1):
        left = collections.defaultdict(int)
        for i in range(len(reference) - n + 1):
            left[tuple(reference[i : i + n])] += 1
        matches = 0
        for i in range(len(prediction) - n + 1):
            gram = tuple(prediction[i : i + n])
            if left[gram] > 0:
                matches += 1
                left[gram] -= 1
        score *= math.pow(matches / (len(prediction) - n + 1), math.pow(0.5, n))
    return score


@given(sentences, sentences, st.integers(1, 6))
def test_the_sentence_s_bleu_is_the_book_s(prediction, reference, k):
    expected = textbook(prediction, reference, k)
    assert rf.bleu(prediction, reference, k) == pytest.approx(expected, rel=1e-12)
    assert rf.bleu(" ".join(prediction), " ".join(reference), k=k) == rf.bleu(prediction, reference, k)


def test_the_ends_of_the_scale_and_the_book_s_example():
    assert rf.bleu("va !", "va !", k=2) == 1
    assert rf.bleu("", "va !") == 0
    assert rf.bleu("a b c", "x y z") == 0
    # Section 10.7.6: for A B C D E F and A B B C D the precisions of 1- to 4-grams are 4/5, 3/4, 1/3, 0.
    p = [4 / 5, 3 / 4, 1 / 3]
    expected = math.exp(1 - 6 / 5) * p[0] ** 0.5 * p[1] ** 0.25 * p[2] ** 0.125
    assert rf.bleu("A B B C D", "A B C D E F", k=3) == pytest.approx(expected, rel=1e-12)
    assert rf.bleu("A B B C D", "A B C D E F", k=4) == 0
    with pytest.raises(ValueError, match="k is 0"):
        rf.bleu("a", "a", k=0)
    with pytest.raises(ValueError, match="reference has no token"):
        rf.bleu("a", "")


def test_the_corpus_s_bleu_is_sacrebleu_s_and_says_how_it_was_computed():
    sacrebleu = pytest.importorskip("sacrebleu")
    predictions = ["The cat sat on the mat.", "A dog runs in the park ."]
    references = ["The cat sat on a mat.", "A dog is running in the park."]
    found = rf.corpus_bleu(predictions, references)
    expected = sacrebleu.corpus_bleu(predictions, [references])
    assert found.score == pytest.approx(expected.score, rel=1e-12)
    assert found.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert rf.corpus_bleu(references, references).score == pytest.approx(100)
    lowered = rf.corpus_bleu([p.lower() for p in predictions], references, lower=True)
    assert lowered.score == pytest.approx(found.score)
    assert "case:lc" in lowered.signature
    several = rf.corpus_bleu(predictions, [[r, p] for r, p in zip(references, predictions)])
    assert several.score == pytest.approx(100)
    assert several.signature.startswith("nrefs:2")
    assert set(found.as_dict()) == {"score", "precisions", "brevity_penalty", "length_ratio", "signature"}
    with pytest.raises(ValueError, match="2 predictions and 1 references"):
        rf.corpus_bleu(predictions, references[:1])
    with pytest.raises(ValueError, match="different numbers of references"):
        rf.corpus_bleu(predictions, [["a"], ["a", "b"]])


def test_a_missing_sacrebleu_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(ImportError, match=r"pip install 'rnnfast\[mt\]'"):
        rf.corpus_bleu(["a"], ["a"])
