from __future__ import annotations

import gzip
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnnfast as rf
from rnnfast.text.tokenise import TOKENIZERS, whole_tokens

sizes = st.integers(1, 7)


@given(st.integers(60, 200), sizes, sizes, st.integers(0, 5), st.sampled_from(["sequential", "random"]))
def test_targets_are_the_inputs_shifted_by_one_and_no_target_comes_twice(length, rows, steps, epoch, sampling):
    seen = []
    made = rf.batches(np.arange(length), batch_size=rows, num_steps=steps, sampling=sampling, epoch=epoch, seed=3)
    for x, y in made:
        assert x.dtype == y.dtype == np.int32
        assert x.flags.c_contiguous
        assert x.shape[1] == rows
        assert np.array_equal(x + 1, y)
        assert np.array_equal(np.diff(x, axis=0), np.ones_like(x[1:]))
        seen += y.ravel().tolist()
    assert len(seen) == len(set(seen)) == made.tokens
    assert length - 1 - made.tokens < steps + rows * (steps if sampling == "random" else 1)


@given(st.integers(30, 200), sizes, sizes, st.integers(0, 3))
def test_sequential_rows_continue_where_they_stopped(length, rows, steps, epoch):
    made = rf.batches(np.arange(length), batch_size=rows, num_steps=steps, epoch=epoch)
    assert made.carries_state
    last = None
    for x, y in made:
        assert last is None or np.array_equal(x[0], last)
        last = y[-1]


@given(sizes, st.integers(0, 4), st.sampled_from(["sequential", "random"]))
def test_starting_at_a_batch_gives_the_rest_of_the_epoch(rows, start, sampling):
    options = {"batch_size": rows, "num_steps": 4, "sampling": sampling, "seed": 1}
    whole = list(rf.batches(np.arange(160), **options))
    rest = list(rf.batches(np.arange(160), **options, start=start))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(whole[start:], rest))
    assert len(rest) == len(whole) - start


def test_the_offset_changes_from_epoch_to_epoch():
    firsts = {
        int(next(iter(rf.batches(np.arange(500), batch_size=2, num_steps=10, epoch=e)))[0][0, 0]) for e in range(20)
    }
    assert len(firsts) > 3


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"batch_size": 0, "num_steps": 2}, ValueError, "batch_size is 0"),
        ({"batch_size": 2, "num_steps": -1}, ValueError, "num_steps is -1"),
        ({"batch_size": 2, "num_steps": 2, "sampling": "sorted"}, ValueError, "sequential, random"),
        ({"batch_size": 50, "num_steps": 2}, ValueError, "fewer than one batch"),
        ({"batch_size": 3, "num_steps": 30, "sampling": "random"}, ValueError, "smaller batch_size"),
    ],
)
def test_bad_options_are_named(options, error, sentence):
    with pytest.raises(error, match=sentence):
        rf.batches(np.arange(40), **options)


WRONG_IDS = [
    ([2**32 + 3, 1, 2], IndexError, "4294967299"),
    (np.array([1, 2, 2**63 + 1], np.uint64), IndexError, "9223372036854775809"),
    ([1, 2**70, 2], IndexError, "1180591620717411303424"),
    ([1.9, 1, 2], TypeError, "float64"),
    ([1, float("nan"), 2], TypeError, "float64"),
    ([True, False, True], TypeError, "bool"),
    ([1, None, 2], TypeError, "object"),
    (["a", "b"], TypeError, "<U1"),
    ([2, -1, 1], IndexError, "-1"),
]
READERS = {
    "batches": lambda ids: rf.batches(ids, batch_size=1, num_steps=1),
    "Corpus": lambda ids: rf.Corpus(ids, rf.Vocab("abc")),
    "evaluate a network": lambda ids: rf.evaluate(rf.LanguageModel(4, hidden_size=2, seed=0), ids),
    "evaluate an n-gram model": lambda ids: rf.evaluate(rf.NGram(2).fit([0, 1, 2, 3]), ids),
    "NGram.fit": lambda ids: rf.NGram(2).fit(ids),
    "fit": lambda ids: rf.fit(rf.LanguageModel(4, hidden_size=2, seed=0), ids, epochs=1, batch_size=1, num_steps=1),
    "nll": lambda ids: rf.LanguageModel(4, hidden_size=2, seed=0).nll([ids], [[1, 1, 1][: len(ids)]]),
    "NGram.step": lambda ids: rf.NGram(2).fit([0, 1, 2, 3]).step(ids),
    "Vocab.decode": lambda ids: rf.Vocab("abc").decode(ids),
    "ParallelCorpus": lambda ids: rf.ParallelCorpus([ids], [[3]], *[rf.Vocab("a", reserved=rf.text.RESERVED)] * 2),
    "translate": lambda ids: rf.translate(rf.Seq2Seq(6, 6, hidden_size=2, embedding_size=2, seed=0), [ids]),
}


@pytest.mark.fault("N2")
@pytest.mark.parametrize(("ids", "error", "what"), WRONG_IDS)
@pytest.mark.parametrize("reader", READERS)
def test_token_ids_are_never_narrowed(reader, ids, error, what):
    if reader in ("Vocab.decode", "ParallelCorpus") and isinstance(ids[0], str):
        error = TypeError
    with pytest.raises(error, match=what) as raised:
        READERS[reader](ids)
    assert str(raised.value).count(". ") == 0


@pytest.mark.fault("N2")
def test_n_gram_texts_and_targets_take_minus_one_only_where_it_means_nothing():
    model = rf.NGram(2).fit([0, 1, 2, 3, 1])
    nll, _ = model.nll([[-1], [1]], [[1], [-1]])
    assert nll[:, 0].tolist() == [-np.log(model.distribution()[1]), 0.0]
    for wrong in ([2**32 + 1], [1.0], [-1], [4]):
        with pytest.raises((IndexError, TypeError)):
            model.distribution(wrong)
    with pytest.raises(IndexError, match="token id -2"):
        model.nll([[-2]], [[1]])
    with pytest.raises(IndexError, match="state holds token id 4294967296"):
        model.nll([[1]], [[1]], [[2**32]])
    with pytest.raises(ValueError, match="give vocab_size=2147483648"):
        rf.NGram(2).fit([1, 2**31 - 1])


@pytest.mark.fault("N2")
def test_an_id_outside_the_vocabulary_is_found_before_training():
    model, steps = rf.LanguageModel(4, hidden_size=2, seed=0), []
    for wrong in ([1, 2, 4], [1, 2**32 + 1, 2], [1, -1, 2]):
        with pytest.raises(IndexError, match="the text holds token id"):
            rf.fit(model, [1, 2, 3] * 5, wrong, epochs=1, batch_size=1, num_steps=2, on_epoch=steps.append)
    assert model.steps == 0
    corpus = rf.Corpus([1, 2, 3, 1], rf.Vocab("abc"))
    corpus.ids[2] = 9  # a corpus may have been changed since it was made
    with pytest.raises(IndexError, match="text holds token id 9, expected 0 to 3"):
        rf.evaluate(model, corpus)
    assert rf.evaluate(model, [1, 2, 3]).tokens == 2


TEXT = (
    "It's (so) big, isn't it? 3.14 %\n\n  Two blanks\t\ttabs \u00a0 hard \u202f! a\n"
    "हिन्दी e\u0301té ΟΔΟΣ ΣΑΣ Σ İstanbul \U0001f642\U0001f642 世界,世界\r\nline <unk> <a b> l’été x\x1cy !\x1c z\u2028w\r\n"
    "end...\r no newline "
) * 3


@pytest.fixture
def small_pieces(monkeypatch):
    """A function that sets how many bytes of a text are read at a time."""
    return lambda size: monkeypatch.setattr(sys.modules["rnnfast.text.corpus"], "_PIECE", size)


@pytest.mark.parametrize("name", ["t.txt", "t.txt.gz"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_text_read_in_pieces_has_the_tokens_of_the_whole(tmp_path, small_pieces, tokenizer, name):
    pytest.importorskip({"unicode": "regex", "jieba": "rjieba"}.get(tokenizer, "numpy"))
    file, data = tmp_path / name, b"\xef\xbb\xbf" + TEXT.encode()
    file.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    whole = rf.Corpus.from_file(file, tokenizer=tokenizer, min_freq=4, max_vocab=20)
    lower = rf.Vocab(whole.vocab.tokenize(TEXT.lower()), tokenizer=tokenizer, lower=True)
    in_lower_case = rf.Corpus.from_file(file, vocab=lower)
    for size in (1, 7, 64, 1 << 20):
        small_pieces(size)
        mapped = rf.Corpus.from_file(file, tokenizer=tokenizer, min_freq=4, max_vocab=20, memory_map=tmp_path / "ids")
        assert mapped.vocab == whole.vocab
        assert mapped.vocab.token_freqs == whole.vocab.token_freqs
        assert np.array_equal(mapped.ids, whole.ids)
        assert np.array_equal(rf.Corpus.from_file(file, vocab=lower, memory_map=True).ids, in_lower_case.ids)
    again = rf.Corpus.from_memory_map(tmp_path / "ids")
    assert again.vocab == whole.vocab
    assert np.array_equal(again.ids, whole.ids)
    assert again.ids.dtype == np.uint16
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["ids", name, f"{name}.ids"])


def test_byte_pairs_read_in_pieces_are_those_of_the_whole(tmp_path, small_pieces):
    pytest.importorskip("tokenizers")
    file = tmp_path / "t.txt"
    file.write_text(TEXT * 3, encoding="utf-8", newline="")
    vocab = rf.Vocab.bpe(TEXT, 330)
    whole = rf.Corpus.from_file(file, vocab=vocab)
    for size in (1, 13, 100):
        small_pieces(size)
        assert np.array_equal(rf.Corpus.from_file(file, vocab=vocab, memory_map=True).ids, whole.ids)


@given(
    st.text("aσΣ .,<>'\u0301\u200d\t\n\r\u00a0\x1c\x85१!é"),
    st.integers(1, 9),
    st.sampled_from(TOKENIZERS),
    st.booleans(),
)
def test_any_text_may_be_split_where_white_space_begins(text, size, tokenizer, lower):
    text = text.replace("\r\n", "\n")
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    vocab = rf.Vocab(tokenizer=tokenizer, lower=lower)
    cut = list(whole_tokens(pieces, tokenizer, lower=lower))
    assert "".join(cut) == text
    assert [token for piece in cut for token in vocab.tokenize(piece)] == vocab.tokenize(text)


def test_a_mapped_corpus_trains_and_is_evaluated_like_one_in_memory(tmp_path, small_pieces, monkeypatch):
    small_pieces(100)
    file = tmp_path / "t.txt"
    file.write_text("the time traveller for so it will be convenient to speak of him\n" * 12)
    corpora = rf.Corpus.from_file(file), rf.Corpus.from_file(file, memory_map=True)
    weights, results = [], []
    for corpus in corpora:
        train, valid = corpus.split(0.8, 0.2)
        model = rf.LanguageModel(corpus.vocab, hidden_size=4, seed=0)
        rf.fit(model, train, valid, epochs=1, batch_size=4, num_steps=9)
        weights.append(model.state_dict()["output.weight"])
        results.append([rf.evaluate(model, valid, parts=n) for n in (1, 5)])
        results[-1].append(rf.evaluate(rf.NGram(3).fit(train), valid))
        for sampling in ("sequential", "random"):
            for x, y in rf.batches(train, batch_size=3, num_steps=5, sampling=sampling, epoch=1):
                assert x.dtype == y.dtype == np.int32
                assert x.flags.c_contiguous
    assert np.array_equal(*weights)
    assert results[0] == results[1]
    monkeypatch.setattr(sys.modules["rnnfast.evaluate"], "_WHOLE", 10)  # a text of which not every -log P is kept
    for parts, known in zip((1, 5), results[1]):
        in_blocks = rf.evaluate(model, valid, parts=parts, num_steps=7, batch_size=2)
        assert in_blocks.as_dict() == pytest.approx(known.as_dict(), rel=1e-12)
    assert np.array_equal(pickle.loads(pickle.dumps(corpora[1])).ids, corpora[0].ids)
    with pytest.raises(ValueError, match="read-only"):
        corpora[1].ids[0] = 3


def test_several_files_are_one_text(tmp_path):
    files = [tmp_path / f"{i}.txt" for i in range(3)]
    for i, file in enumerate(files):
        file.write_text(f"text {i} here\n")
    whole = rf.Corpus.from_text("text 0 here\ntext 1 here\ntext 2 here\n", tokenizer="word")
    for memory_map in (False, True):
        corpus = rf.Corpus.from_file(files, tokenizer="word", memory_map=memory_map)
        assert corpus.vocab == whole.vocab
        assert corpus.ids.tolist() == whole.ids.tolist()


def test_many_tokens_take_four_bytes_each(tmp_path):
    file = tmp_path / "t.txt"
    file.write_text(" ".join(f"w{i}" for i in range(1 << 16)))  # with <unk>, one more than two bytes can distinguish
    corpus = rf.Corpus.from_file(file, tokenizer="whitespace", memory_map=True)
    assert corpus.ids.dtype == np.int32
    assert corpus.ids.max() == 1 << 16
    kept = rf.Corpus.from_file(file, tokenizer="whitespace", memory_map=True, max_vocab=(1 << 16) - 1)
    assert kept.ids.dtype == np.uint16
    assert np.count_nonzero(kept.ids == 0) == 1


def test_a_memory_map_replaces_only_memory_maps_and_only_when_it_is_complete(tmp_path, small_pieces):
    small_pieces(8)
    text, ids, bad = tmp_path / "t.txt", tmp_path / "t.ids", tmp_path / "bad.txt"
    text.write_text("to be or not to be")
    bad.write_bytes(b"to be or not to be or \xff")
    rf.Corpus.from_file(text, memory_map=ids)
    before = ids.read_bytes()
    with pytest.raises(ValueError, match=r"byte 0xff at 22"):
        rf.Corpus.from_file(bad, memory_map=ids, vocab=rf.Vocab("tobe"))
    assert ids.read_bytes() == before
    for path in (text, tmp_path):
        with pytest.raises(ValueError, match="give another memory_map"):
            rf.Corpus.from_file(text, memory_map=path)
    assert text.read_text() == "to be or not to be"
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(ValueError, match="is empty"):
        rf.Corpus.from_file("/dev/null")
    with pytest.raises(ValueError, match="not a regular file"):
        rf.Corpus.from_file("/dev/null", memory_map=ids)
    with pytest.raises(ValueError, match="at least one"):
        rf.Corpus.from_file([])


@pytest.mark.parametrize("kind", ["cut", "long", "id", "kind", "no header", "json", "dtype", "vocabulary", "empty"])
def test_damaged_memory_maps_are_refused(tmp_path, kind):
    text, file = tmp_path / "t.txt", tmp_path / "t.ids"
    text.write_text("to be or not to be")
    rf.Corpus.from_file(text, memory_map=file)
    data = file.read_bytes()
    file.write_bytes(
        {
            "cut": lambda: data[:-1],
            "long": lambda: data + b"\0\0",
            "id": lambda: data[:-2] + b"\xff\xff",
            "kind": lambda: data.replace(b'"corpus"', b'"korpus"'),
            "no header": lambda: b"\xff" * len(data),
            "json": lambda: data.replace(b"{", b"[", 1),
            "dtype": lambda: data.replace(b'"U16"', b'"F16"'),
            "vocabulary": lambda: data.replace(b"<unk>", b"<unq>"),
            "empty": lambda: b"",
        }[kind]()
    )
    with pytest.raises(ValueError, match="is not a file of a corpus's ids|outside its vocabulary"):
        rf.Corpus.from_memory_map(file)


def test_memory_maps_are_safetensors_files(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    text = tmp_path / "t.txt"
    text.write_text("to be or not to be")
    corpus = rf.Corpus.from_file(text, memory_map=tmp_path / "t.ids")
    assert np.array_equal(numpy.load_file(tmp_path / "t.ids")["ids"], corpus.ids)
