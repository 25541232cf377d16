from __future__ import annotations

import gzip
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnfast as rf

LINES = "the cat sat on the mat\nthe dog sat on the log\na cat and a dog\n" * 4 + "the end\n"
SMOOTHINGS = ["none", "laplace", "kneser_ney"]


@pytest.fixture
def lines():
    return rf.Corpus.from_text(LINES, tokenizer="whitespace")


def kneser_ney_by_hand(ids, order, size, end):
    """Chen and Goodman's definition word by word, with dictionaries: P(token, context)."""
    grams = {n: {} for n in range(1, order + 1)}
    for n in range(1, order + 1):
        for i in range(len(ids) - n + 1):
            gram = tuple(ids[i : i + n])
            if end not in gram[1:-1] or n < 3:
                grams[n][gram] = grams[n].get(gram, 0) + 1
    adjusted = {order: dict(grams[order])}
    for n in range(1, order):
        before = {}
        for gram in grams[n + 1]:
            before.setdefault(gram[1:], set()).add(gram[0])
        adjusted[n] = {g: c if n > 1 and g[0] == end else len(before.get(g, ())) for g, c in grams[n].items()}

    def discount(n, count):
        n1, n2, n3, n4 = (sum(c == k for c in adjusted[n].values()) for k in (1, 2, 3, 4))
        fallback = [0, 0.5, 1.0, 1.5]
        try:
            y = n1 / (n1 + 2 * n2)
            d = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
        except ZeroDivisionError:
            d = fallback
        return (d if all(0 <= x <= k for k, x in enumerate(d)) else fallback)[min(count, 3)]

    def p(token, context):
        context = tuple(context)[len(context) - order + 1 :] if len(context) >= order else tuple(context)
        n = len(context) + 1
        lower = 1 / size if n == 1 else p(token, context[1:])
        followers = {g[-1]: c for g, c in adjusted[n].items() if g[:-1] == context}
        total = sum(followers.values())
        if total == 0:
            return lower
        left = sum(discount(n, c) for c in followers.values()) / total
        count = followers.get(token, 0)
        return (count - discount(n, count)) / total + left * lower

    return p


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_is_chen_and_goodman_s_definition(lines, order):
    model = rf.NGram(order, "kneser_ney").fit(lines)
    size, end = len(lines.vocab), lines.vocab["<eos>"]
    expected = kneser_ney_by_hand(lines.ids.tolist(), order, size, end)
    for context in (["the"], ["the", "cat"], ["<eos>"], ["<eos>", "the", "dog"], ["on", "the", "log"], ["log", "cat"]):
        ids = lines.vocab.encode(context)
        got = model.distribution(context)
        np.testing.assert_allclose(got, [expected(w, ids.tolist()) for w in range(size)], rtol=1e-12)


@given(
    text=st.lists(st.integers(0, 6), min_size=2, max_size=60),
    context=st.lists(st.integers(0, 7), max_size=6),
    order=st.integers(1, 7),
    smoothing=st.sampled_from(SMOOTHINGS),
)
@settings(max_examples=300, deadline=None)
def test_the_probabilities_sum_to_one_after_any_context(text, context, order, smoothing):
    model = rf.NGram(order, smoothing).fit(np.array(text), vocab_size=8)
    p = model.distribution(context)
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1.0, abs=1e-9)
    if smoothing != "none":
        assert (p > 0).all()


@given(st.lists(st.text("abc\n ", max_size=20), min_size=1, max_size=6), st.text("abc", max_size=8))
@settings(max_examples=100, deadline=None)
def test_sentences_of_any_text_sum_to_one(texts, context):
    corpus = rf.Corpus.from_text("a b\n" + "\n".join(texts) + "\n", tokenizer="whitespace")
    model = rf.NGram(4).fit(corpus)
    for begin in ("", "\n"):
        assert model.distribution(begin + " ".join(context)).sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_nll_step_and_distribution_agree(lines, order, smoothing):
    model = rf.NGram(order, smoothing).fit(lines)
    ids = lines.ids[:24].reshape(12, 2, order="F")
    x, y = ids[:-1], ids[1:]
    whole, last = model.nll(x, y)
    first, state = model.nll(x[:4], y[:4])
    second, end = model.nll(x[4:], y[4:], state)
    assert np.array_equal(np.concatenate([first, second]), whole)
    assert np.array_equal(end, last)
    state = None
    for t in range(len(x)):
        logits, state = model.step(x[t], state)
        for row in range(2):
            p = model.distribution(x[: t + 1, row])
            np.testing.assert_allclose(whole[t, row], -np.log(p[y[t, row]]), rtol=1e-12)
            np.testing.assert_allclose(np.exp(logits[row]), p, rtol=1e-5)


def test_relative_frequencies_and_laplace_are_counts(lines):
    the, cat, dog = lines.vocab[["the", "cat", "dog"]]
    size = len(lines.vocab)
    p = rf.NGram(2, "none").fit(lines).distribution("the")
    assert p[[the, cat, dog]].tolist() == pytest.approx([0, 4 / 17, 4 / 17])
    p = rf.NGram(2, "laplace", alpha=0.5).fit(lines).distribution("the")
    assert p[cat] == pytest.approx(4.5 / (17 + 0.5 * size))
    assert p[the] == pytest.approx(0.5 / (17 + 0.5 * size))
    assert rf.NGram(3, "laplace").fit(lines).distribution("log cat")[the] == pytest.approx(1 / size)


def test_joint_log_probability_is_the_chain_rule(lines):
    model = rf.NGram(3).fit(lines)
    words = ["the", "cat", "sat"]
    expected = sum(math.log(model.distribution(words[:i])[lines.vocab[word]]) for i, word in enumerate(words))
    assert model.log_prob("the cat sat") == pytest.approx(expected, rel=1e-12)
    assert model.log_prob(words) == model.log_prob(lines.vocab.encode(words)) == pytest.approx(expected, rel=1e-12)
    assert model.log_prob("") == 0


@pytest.mark.fault("N20")
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_joint_probability_has_its_first_factor(order, smoothing):
    """P(x_1 ... x_T) = P(x_1) P(x_2 | x_1) ..., so that all texts of one length have the probability 1 together."""
    corpus = rf.Corpus.from_text("abacabcbab")
    model = rf.NGram(order, smoothing).fit(corpus)
    for length in (1, 2, 3):
        texts = ["".join(letters) for letters in itertools.product("zabc", repeat=length)]  # z reads as <unk>
        scores = rf.log_prob(model, texts)
        assert sum(math.exp(s) for s in scores) == pytest.approx(1.0, abs=1e-9)
    for text in ("a", "ab", "abac"):
        factors = [model.distribution(text[:i])[corpus.vocab[letter]] for i, letter in enumerate(text)]
        assert rf.log_prob(model, text) == pytest.approx(math.log(math.prod(factors)), rel=1e-12)
        assert rf.log_prob(model, text) == pytest.approx(model.log_prob(text), rel=1e-12)
        assert [t for t, _ in rf.surprisal(model, text)] == list(text)


def test_the_verbs_of_the_networks_work(lines):
    model = rf.NGram(3).fit(lines)
    result = rf.evaluate(model, lines)
    assert 1 < result.perplexity < 5
    assert result.tokens == len(lines) - 1
    assert rf.evaluate(model, lines, num_steps=3).perplexity == result.perplexity
    text = rf.generate(model, "the cat", length=12, seed=1)
    assert text.startswith("the cat")
    assert (
        text
        == rf.generate(model, "the cat", length=12, seed=1)
        == "the cat" + "".join(rf.stream(model, "the cat", length=12, seed=1))
    )
    assert rf.generate(model, "sat on", length=1, temperature=0) == "sat on the"


def test_samples_follow_the_distribution(lines):
    model = rf.NGram(2).fit(lines)
    ids = model.sample(20_000, context="the", seed=3)
    assert np.array_equal(ids, model.sample(20_000, context="the", seed=3))
    assert ids.dtype == np.int32
    after = ids[1:][ids[:-1] == lines.vocab["the"]]
    share = np.bincount(after, minlength=len(lines.vocab)) / len(after)
    np.testing.assert_allclose(share, model.distribution("the"), atol=0.025)  # 4 sigma of some 3,900 draws


def test_contexts_end_at_the_end_of_a_sentence_unless_told_otherwise(lines):
    bounded, free = rf.NGram(3).fit(lines), rf.NGram(3, sentence_end=None).fit(lines)
    assert np.array_equal(bounded.distribution("mat\n"), bounded.distribution("log\n"))
    assert not np.array_equal(free.distribution("mat\n"), free.distribution("log\n"))


@pytest.mark.parametrize("sentence_end", ["<eos>", None])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_arpa_files_keep_the_model(lines, tmp_path, smoothing, sentence_end):
    model = rf.NGram(3, smoothing, sentence_end=sentence_end).fit(lines)
    for name in ("m.arpa", "m.arpa.gz"):
        model.save_arpa(tmp_path / name)
        again = rf.NGram.from_arpa(tmp_path / name)
        assert again.vocab == lines.vocab
        assert again.counts == model.counts
        for context in ("", "the", "the cat", "\n", "mat\n", "log cat"):
            # 7 digits of a logarithm
            np.testing.assert_allclose(again.distribution(context), model.distribution(context), rtol=1e-5)
    assert not list(tmp_path.glob("*.tmp-*"))


def test_arpa_files_read_the_same_in_parts_of_any_size_and_without_optional_weights(lines, tmp_path, monkeypatch):
    model = rf.NGram(3).fit(lines)
    model.save_arpa(tmp_path / "m.arpa")
    text = (tmp_path / "m.arpa").read_text()
    assert "\t0.0000000\n" in text
    (tmp_path / "short.arpa").write_text(text.replace("\t0.0000000\n", "\n"))  # SRILM leaves these out
    (tmp_path / "short.arpa.gz").write_bytes(gzip.compress(text.replace("\n", "\r\n").encode("utf-8-sig")))
    whole = rf.NGram.from_arpa(tmp_path / "m.arpa")
    for part in (1, 50, 1 << 17):
        monkeypatch.setattr("rnnfast.markov.arpa._PART", part)
        for name in ("m.arpa", "short.arpa", "short.arpa.gz"):
            again = rf.NGram.from_arpa(tmp_path / name)
            assert again.vocab == whole.vocab
            for n in range(1, 4):
                assert np.array_equal(again.tokens_of(n), whole.tokens_of(n))
            for context in ("", "the", "the cat", "\n", "log cat"):
                assert np.array_equal(again.distribution(context), whole.distribution(context))


def test_kenlm_gives_our_arpa_files_the_same_log_probabilities(lines, tmp_path):
    kenlm = pytest.importorskip("kenlm")
    for order in (2, 3, 5):
        model = rf.NGram(order).fit(lines)
        model.save_arpa(tmp_path / "m.arpa")
        query = kenlm.Model(str(tmp_path / "m.arpa"))
        for line in ("the cat sat on the mat", "a dog", "mat mat the unknown cat", "", "log and the end a a"):
            ours = rf.log_prob(model, f"{line}\n", context="\n") / math.log(10)
            assert ours == pytest.approx(query.score(line, bos=True, eos=True), abs=1e-4)
    free = rf.NGram(3, sentence_end=None).fit(lines)
    free.save_arpa(tmp_path / "free.arpa")
    query = kenlm.Model(str(tmp_path / "free.arpa"))
    tokens = "the mat <eos> the dog <eos> <eos> a"
    ours = free.log_prob(tokens.split()) / math.log(10)
    assert ours == pytest.approx(query.score(tokens, bos=False, eos=False), abs=1e-4)


def test_penn_treebank_five_grams_reach_mikolov_s_perplexity(data_folder, tmp_path):
    """T. Mikolov et al. (Interspeech 2010, 2011) report 141.2 for their modified Kneser-Ney 5-gram."""
    texts = rf.datasets.load("ptb")
    train = rf.Corpus.from_text(texts["train"], tokenizer="whitespace")
    assert len(train) == 929_589
    model = rf.NGram(5, "kneser_ney").fit(train)
    result = rf.evaluate(model, rf.Corpus.from_text(texts["test"], vocab=train.vocab))
    assert result.tokens == 82_429
    assert result.perplexity == pytest.approx(141.183, abs=0.01)
    random = np.random.default_rng(0)
    for begin in random.integers(0, len(train) - 4, 50):
        assert model.distribution(train.ids[begin : begin + 4]).sum() == pytest.approx(1.0, abs=1e-9)
        assert model.distribution(random.integers(0, 10_000, 4)).sum() == pytest.approx(1.0, abs=1e-9)


UNIGRAMS = "-1.0\t<unk>\n-99\t<s>\t-0.3\n-0.8\t</s>\n-0.5\ta\t-0.2\n-0.6\tb\t-0.1\n"
BIGRAMS = "-0.2\t<s> a\n-0.3\ta b\n-0.4\tb </s>\n-0.7\tb a\n"
ARPA = f"\\data\\\nngram 1=5\nngram 2=4\n\n\\1-grams:\n{UNIGRAMS}\n\\2-grams:\n{BIGRAMS}\n\\end\\\n"
LAYOUTS = {
    "as written": [],
    "no blank line before the end": [("\n\n\\end", "\n\\end")],
    "no blank line before the 2-grams": [("\n\n\\2", "\n\\2")],
    "a line of blanks": [("\n\n\\2", "\n \t \n\\2")],
    "a blank line after the heading": [("\\1-grams:\n", "\\1-grams:\n\n"), ("\\2-grams:\n", "\\2-grams:\n\n")],
    "blank lines between n-grams": [("-0.5\ta", "\n-0.5\ta"), ("-0.3\ta b", "\n\n-0.3\ta b")],
    "many blank lines": [("\n\n", "\n\n\n\n")],
    "counts with blanks": [("ngram 1=5", "ngram  1=   5")],
    "an empty order": [("ngram 2=4\n", "ngram 2=4\nngram 3=0\n"), ("\\end", "\\3-grams:\n\n\\end")],
    "a word <eos> beside </s>": [("ngram 1=5", "ngram 1=6"), ("-0.5\ta", "-0.9\t<eos>\n-0.5\ta")],
    "a word <UNK> beside <unk>": [("ngram 1=5", "ngram 1=6"), ("-0.5\ta", "-1.0\t<UNK>\n-0.5\ta")],
    "<UNK>": [("<unk>", "<UNK>")],
    "carriage returns": [("\n", "\r\n")],
    "blank lines before the header": [("\\data\\", "\n\n\\data\\")],
}
OURS_ALONE = {
    "an empty order without its section": [("ngram 2=4\n", "ngram 2=4\nngram 3=0\n")],
    "blanks for tabs": [("\t", " ")],
    "words before the header": [("\\data\\", "made by hand\n\\data\\")],
    "no blank line before the 1-grams": [("\n\n\\1", "\n\\1")],
    "a blank line among the counts": [("ngram 2", "\nngram 2")],
}


def read_arpa(folder, text):
    file = folder / "m.arpa"
    file.write_text(text, newline="")
    return rf.NGram.from_arpa(file), file


def log10_of(model, line):
    """log10 P of a line and its end, after a line's beginning, as kenlm scores a sentence."""
    return rf.log_prob(model, f"{line}\n", context="\n") / math.log(10)


@pytest.mark.fault("N3", "N4")
@pytest.mark.parametrize("layout", [*LAYOUTS, *OURS_ALONE])
def test_arpa_files_of_every_layout_give_the_same_model(tmp_path, layout):
    text = ARPA
    for old, new in {**LAYOUTS, **OURS_ALONE}[layout]:
        assert old in text
        text = text.replace(old, new)
    model, file = read_arpa(tmp_path, text)
    for line, value in {"a b": -0.9, "a z": -2.2, "": -1.1, "a": -1.2, "b a b": -2.3}.items():
        assert log10_of(model, line) == pytest.approx(value, abs=1e-6), line
    if layout in LAYOUTS:
        query = pytest.importorskip("kenlm").Model(str(file))
        for line in ("a b", "a z", "", "a", "b a b", "z z", "<eos>"):
            if line != "<eos>":  # to a text of ours the end of a line
                assert log10_of(model, line) == pytest.approx(query.score(line), abs=1e-5), line


def test_words_that_would_be_the_same_token_are_refused(tmp_path):
    """With </s>, the word <eos> is renamed <<eos>>, which may be a word, too."""
    text = ARPA.replace("ngram 1=5", "ngram 1=7").replace("-0.5\ta", "-0.9\t<eos>\n-0.9\t<<eos>>\n-0.5\ta")
    with pytest.raises(ValueError, match="its words cannot form a vocabulary"):
        read_arpa(tmp_path, text)


@pytest.mark.parametrize("space", ["\u00a0", "\u0085", "\u3000", "\u2028", "\x1c"])
def test_only_ascii_s_white_space_separates_words(tmp_path, space):
    """So a word with any other, such as a French number, is read and written."""
    model, _ = read_arpa(tmp_path, ARPA.replace("b", f"1{space}000"))
    assert f"1{space}000" in model.vocab.idx_to_token
    model.save_arpa(tmp_path / "again.arpa")
    assert rf.NGram.from_arpa(tmp_path / "again.arpa").vocab == model.vocab


@pytest.mark.fault("N3")
@pytest.mark.parametrize("row", ["</s> <s>", "</s> a", "a <s>", "</s> </s>", "<s> <s>"])
def test_n_grams_across_the_end_of_a_sentence_are_ignored(tmp_path, row):
    bigrams = f"-0.3\ta b\n-0.4\tb </s>\n-0.01\t{row}\n"
    model, file = read_arpa(tmp_path, ARPA.replace(BIGRAMS, bigrams).replace("ngram 2=4", "ngram 2=3"))
    for line, value in {"": -1.1, "a b": -1.5, "a": -1.8}.items():
        assert log10_of(model, line) == pytest.approx(value, abs=1e-6)
        kenlm = pytest.importorskip("kenlm")
        assert kenlm.Model(str(file)).score(line) == pytest.approx(value, abs=1e-5)


@pytest.mark.fault("N4")
def test_a_word_eos_together_with_the_end_of_a_sentence_keeps_its_probability(tmp_path):
    text = ARPA.replace("ngram 1=5", "ngram 1=6").replace("-0.5\ta", "-0.9\t<eos>\n-0.5\ta")
    model, _ = read_arpa(tmp_path, text)
    assert model.vocab.idx_to_token == ["<unk>", "<eos>", "<<eos>>", "a", "b"]
    assert model.distribution()[2] == pytest.approx(10**-0.9)
    model.save_arpa(tmp_path / "again.arpa")
    assert rf.NGram.from_arpa(tmp_path / "again.arpa").vocab == model.vocab


@pytest.mark.fault("N5")
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_orders_without_n_grams_are_ignored(tmp_path, smoothing):
    corpus = rf.Corpus.from_text(
        "a b\nb a\n", tokenizer="whitespace"
    )  # no line has more than 4 tokens, its ends included
    model, lower = rf.NGram(7, smoothing).fit(corpus), rf.NGram(4, smoothing).fit(corpus)
    assert model.counts[4:] == [0, 0, 0]
    model.save_arpa(tmp_path / "m.arpa")
    again = rf.NGram.from_arpa(tmp_path / "m.arpa")
    assert again.counts == model.counts
    for one in (model, again):
        assert np.isfinite(rf.evaluate(one, corpus).perplexity)
        assert one.distribution("a b").sum() == pytest.approx(1.0)
        assert rf.log_prob(one, "a b\n", context="\n") == pytest.approx(one.log_prob("\na b\n") - one.log_prob("\n"))
        for options in ({"seed": 1}, {"beam_size": 2}):
            assert len(rf.generate(one, "a", length=5, **options)) > 1
        assert len(one.sample(4, context="a b\nb", seed=0)) == 4
        assert one.tokens_of(7).shape == (0, 7)
    if smoothing == "none":  # the others' discounts and fallbacks depend on the order
        for context in ("", "a", "a b", "\n a b"):
            np.testing.assert_allclose(model.distribution(context), lower.distribution(context), rtol=1e-12)
    tiny = rf.NGram(16, smoothing).fit([0, 1])
    assert np.isfinite(tiny.nll([[0]], [[1]])[0]).all()


def damage(text, kind):
    return {
        "no header": lambda: "hello\n",
        "count": lambda: text.replace("ngram 2=", "ngram 2=1"),
        "twice": lambda: text.replace("\tthe cat", "\tthe dog", 1),
        "number": lambda: text.replace("\\2-grams:\n-", "\\2-grams:\nx"),
        "positive": lambda: text.replace("\\2-grams:\n-", "\\2-grams:\n"),
        "columns": lambda: text.replace("\tthe cat", "\tthe the cat the", 1),
        "unknown": lambda: text.replace("\tthe cat", "\tthe unicorn", 1),
        "order": lambda: text.replace("ngram 2=", "ngram 4="),
        "cut": lambda: text[: len(text) // 2],
        # As many columns as before, but the words of one line are numbers that would do for the next.
        "shifted": lambda: text.replace("\\2-grams:\n", "\\2-grams:\n-1 the\n-1 the -1 -1 the the\n"),
        "no end": lambda: text.replace("\n\\end\\", ""),
        "prefix": lambda: text.replace("\tthe cat\t", "\tthe the\t", 1),
        "many orders": lambda: "\\data\\\n" + "".join(f"ngram {n}=1\n" for n in range(1, 20)),
        "unigram twice": lambda: text.replace("\tdog\t", "\tcat\t"),
        "between": lambda: text.replace("\n\\1-grams", "\nnoise\n\\1-grams"),
        "nan": lambda: text.replace("\\2-grams:\n", "\\2-grams:\nnan the the\n"),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("no header", "is not an ARPA file"),
        ("count", "line 21: 19 2-grams follow, its header says 119"),
        ("twice", r"line \d+: this 2-gram occurs twice"),
        ("number", "a word where a number is expected"),
        ("positive", "is not a log-probability"),
        ("columns", "columns, expected 3 or 4"),
        ("unknown", r"line \d+: the word 'unicorn' of a 2-gram is not a unigram"),
        ("order", "expected 'ngram 2=COUNT'"),
        ("cut", r"line \d+: .* (its header says|columns)"),
        ("no end", r"line \d+: 'the end of the file', expected '\\end\\'"),
        ("prefix", r"line \d+: the 3-gram 'the cat .*' is there, but not its first 2 words"),
        ("many orders", "line 18: 'ngram 17=1', expected orders up to 16"),
        ("unigram twice", r"line \d+: the word 'cat' occurs twice"),
        ("between", "line 6: 'noise', expected"),
        ("shifted", "line 22: 2 columns, expected 3 or 4"),
        ("nan", "line 22: 'nan the the' is not a log-probability"),
    ],
)
def test_damaged_arpa_files_are_refused(lines, tmp_path, kind, sentence):
    file = tmp_path / "m.arpa"
    rf.NGram(3).fit(lines).save_arpa(file)
    file.write_text(damage(file.read_text(), kind))
    with pytest.raises(ValueError, match=sentence):
        rf.NGram.from_arpa(file)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.NGram(0), ValueError, "order is 0"),
        (lambda: rf.NGram(2, "good_turing"), ValueError, "expected one of none, laplace, kneser_ney"),
        (lambda: rf.NGram(2, alpha=0), ValueError, "alpha is 0"),
        (lambda: rf.NGram(2).distribution([1]), ValueError, "call fit first"),
        (lambda: rf.NGram(2).fit([]), ValueError, "expected one row of at least 2 token ids"),
        (lambda: rf.NGram(3).fit([1]), ValueError, r"shape \(1,\), expected one row of at least 2 token ids"),
        (lambda: rf.NGram(2).fit([1, 9], vocab_size=5), IndexError, "token id 9, expected 0 to 4"),
        (lambda: rf.NGram(2).fit([1, 2]).distribution([7]), IndexError, "expected 0 to 2"),
        (lambda: rf.NGram(2).fit([1, 2]).distribution("a"), ValueError, "no vocabulary"),
        (lambda: rf.NGram(2).fit([1, 2]).save_arpa("m.arpa"), ValueError, "ARPA holds words"),
        (lambda: rf.NGram(2).fit([1, 2]).nll([[1]], [[3]]), IndexError, "token id 3"),
        (lambda: rf.NGram(2).fit(rf.Corpus.from_text("a b")).save_arpa("m.arpa"), ValueError, "white space"),
        (lambda: rf.generate(rf.NGram(2).fit([1, 2]), "a"), ValueError, "no vocabulary"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()
