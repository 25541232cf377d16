"""Sentence pairs: files, vocabularies, batches, splits, and their errors."""

from __future__ import annotations

import gzip
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnnfast as rf
from rnnfast.text.pairs import BOS, EOS, PAD, RESERVED, encode_sentence

PAIRS = [("Go on.", "Va !"), ("Stop!", "Ça suffit !"), ("I lost it.", "Je l'ai perdu."), ("Hi.", "Salut !")] * 5


def numbered(lengths):
    """Pairs whose tokens identify their pair and side."""
    pairs = [(f"{i}s " * s, f"{i}t " * t) for i, (s, t) in enumerate(lengths)]
    return rf.ParallelCorpus.from_pairs(pairs, tokenizer="whitespace")


def rows(batch):
    """The ids of each row of a batch, without padding."""
    for n in range(batch.source.shape[1]):
        length = int(batch.source_lengths[n])
        assert (batch.source[length:, n] == PAD).all()
        target = batch.target[:, n]
        assert target[0] == BOS
        counted = target[1:][target[1:] >= 0]
        assert (target[1 + len(counted) :] == -1).all()
        yield batch.source[:length, n].tolist(), counted.tolist()


def test_both_sides_have_the_reserved_tokens_first_and_end_with_eos():
    pairs = rf.ParallelCorpus.from_pairs(PAIRS)
    for vocab in (pairs.source_vocab, pairs.target_vocab):
        assert vocab.idx_to_token[:4] == ["<unk>", "<pad>", "<bos>", "<eos>"]
    assert pairs.source_vocab.to_tokens(pairs.source_ids[0]) == ["Go", "on", ".", "<eos>"]
    assert pairs.target_vocab.to_tokens(pairs.target_ids[2]) == ["Je", "l'ai", "perdu", ".", "<eos>"]
    assert pairs.sources[2] == "I lost it."
    assert pairs.source_ids[0].dtype == np.int32


lengths = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=60)


@given(lengths, st.integers(1, 7), st.integers(0, 3))
def test_every_pair_comes_once_an_epoch_and_keeps_its_partner(lengths, batch_size, epoch):
    pairs = numbered(lengths)
    made = pairs.batches(batch_size, seed=1, epoch=epoch)
    seen, predicted = [], 0
    for batch in made:
        assert batch.source.dtype == batch.target.dtype == np.int32
        assert batch.source_lengths.dtype == np.int64
        assert batch.source.flags.c_contiguous and batch.target.flags.c_contiguous  # noqa: PT018
        assert batch.source.shape[0] == batch.source_lengths.max()
        predicted += made.predictions(batch)
        seen += list(rows(batch))
    assert sorted(seen) == sorted((s.tolist(), t.tolist()) for s, t in zip(pairs.source_ids, pairs.target_ids))
    assert predicted == made.tokens == sum(t + 1 for _, t in lengths)
    assert len(made) == -(-len(pairs) // batch_size)


@given(lengths, st.integers(1, 5), st.integers(0, 9))
def test_starting_at_a_batch_gives_the_rest_of_the_epoch(lengths, batch_size, start):
    pairs = numbered(lengths)
    whole = list(pairs.batches(batch_size, seed=3, epoch=2))
    rest = list(pairs.batches(batch_size, seed=3, epoch=2, start=start))
    assert len(rest) == max(0, len(whole) - start)
    for a, b in zip(whole[start:], rest):
        assert all(np.array_equal(x, y) for x, y in zip(a, b))


def test_rows_of_similar_length_come_together_and_epochs_differ():
    chance = random.Random(0)
    pairs = numbered([(chance.randint(1, 40), chance.randint(1, 40)) for _ in range(3000)])
    filled, places = 0, 0
    for batch in pairs.batches(32):
        filled += int((batch.target[1:] >= 0).sum())
        places += batch.target[1:].size
    assert filled / places > 0.95  # in random order it is 0.55
    firsts = {next(iter(pairs.batches(8, epoch=e))).source.tobytes() for e in range(5)}
    assert len(firsts) == 5
    tokens = [batch.target.shape[0] for batch in pairs.batches(32)]
    assert tokens != sorted(tokens)
    assert sorted(np.concatenate(pairs.in_order(7)).tolist()) == list(range(3000))


def test_truncated_sentences_keep_eos():
    pairs = rf.ParallelCorpus.from_pairs([("a b c d", "x"), ("a", "x y z w v")], max_length=3)
    assert [len(ids) for ids in pairs.source_ids] == [3, 2]
    assert pairs.source_vocab.to_tokens(pairs.source_ids[0]) == ["a", "b", "<eos>"]
    assert pairs.target_vocab.to_tokens(pairs.target_ids[1]) == ["x", "y", "<eos>"]
    assert pairs.truncated == 2
    assert "2 truncated" in repr(pairs)
    vocab = pairs.source_vocab
    assert encode_sentence(vocab, "a b c d", 3).tolist() == pairs.source_ids[0].tolist()
    with pytest.raises(ValueError, match="max_length is 1, expected at least 2"):
        rf.ParallelCorpus.from_pairs(PAIRS, max_length=1)


def test_sentences_of_one_token_are_pairs_like_others():
    pairs = rf.ParallelCorpus.from_pairs([("a", "b")])
    (batch,) = pairs.batches(4)
    assert batch.source.T.tolist() == [[4, EOS]]
    assert batch.target.T.tolist() == [[BOS, 4, EOS]]


def test_reserved_tokens_written_in_a_sentence_are_unknown_words():
    pairs = rf.ParallelCorpus.from_pairs([("a <eos> b <pad>", "<bos> c")])
    assert pairs.source_ids[0].tolist() == [4, 0, 5, 0, EOS]
    assert pairs.target_ids[0].tolist() == [0, 4, EOS]


def test_rare_tokens_are_unknown_and_capitals_may_be_lowered():
    pairs = rf.ParallelCorpus.from_pairs([("A a b", "X x"), ("c", "y")], min_freq=2, lower=True)
    assert pairs.source_vocab.idx_to_token == ["<unk>", *RESERVED, "a"]
    assert pairs.source_ids[0].tolist() == [4, 4, 0, EOS]
    assert pairs.target_vocab.lower
    again = rf.Vocab.from_description(pairs.target_vocab.description())
    assert again == pairs.target_vocab
    assert again.encode_text("X") == [4]
    assert rf.Vocab("ab", lower=True) != rf.Vocab("ab")
    assert "lower" not in rf.Vocab("ab").description()


@pytest.mark.parametrize("tokenizer", [*rf.text.TOKENIZERS, "bpe"])
def test_every_tokenizer_reads_pairs(tokenizer):
    pytest.importorskip({"bpe": "tokenizers", "unicode": "regex", "jieba": "rjieba"}.get(tokenizer, "numpy"))
    pairs = rf.ParallelCorpus.from_pairs(PAIRS, tokenizer=tokenizer, vocab_size=290)
    assert len(pairs) == 20
    for vocab, ids in ((pairs.source_vocab, pairs.source_ids), (pairs.target_vocab, pairs.target_ids)):
        assert vocab.idx_to_token[1:4] == list(RESERVED)
        assert vocab.tokenizer == tokenizer
        assert all(i[-1] == EOS and (i[:-1] > EOS).all() and len(i) > 1 for i in ids)
    if tokenizer in ("char", "bpe"):
        assert pairs.target_vocab.decode(pairs.target_ids[1][:-1]) == "Ça suffit !"
    fresh = rf.ParallelCorpus.from_pairs(
        [("Stop! Go on.", "Va !")], source_vocab=pairs.source_vocab, target_vocab=pairs.target_vocab
    )
    assert fresh.target_vocab is pairs.target_vocab
    assert (fresh.source_ids[0] != 0).all()


def test_lowered_byte_pairs_and_their_size():
    pytest.importorskip("tokenizers")
    pairs = rf.ParallelCorpus.from_pairs(PAIRS, tokenizer="bpe", vocab_size=300, lower=True)
    assert pairs.source_vocab.decode(encode_sentence(pairs.source_vocab, "STOP!")[:-1]) == "stop!"
    assert len(pairs.source_vocab) <= 300
    with pytest.raises(ValueError, match="expected more than the 259 of the bytes and the reserved tokens"):
        rf.ParallelCorpus.from_pairs(PAIRS, tokenizer="bpe", vocab_size=259)


def test_d2l_s_preprocessing_is_the_book_s():
    assert rf.text.tokenize("Go, Now!\u202f", "d2l-nmt") == ["go", ",", "now", "!"]
    assert rf.text.tokenize("Ça\u202fsuffit\xa0! Hm...", "d2l-nmt") == ["ça", "suffit", "!", "hm", ".", ".", "."]
    assert rf.text.detokenize(["va", "!"], "d2l-nmt") == "va !"


def test_files_of_aligned_lines_and_of_tabs_give_the_same_pairs(tmp_path):
    sources, targets = zip(*PAIRS)
    (tmp_path / "en").write_bytes("\r\n".join(sources).encode())  # no newline at the end, Windows' line ends
    (tmp_path / "fr.gz").write_bytes(gzip.compress(("\n".join(targets) + "\n").encode()))
    (tmp_path / "both.tsv").write_text("".join(f"{s}\t{t}\tCC-BY\n" for s, t in PAIRS), encoding="utf-8")
    two = rf.ParallelCorpus.from_files(tmp_path / "en", tmp_path / "fr.gz", tokenizer="char")
    one = rf.ParallelCorpus.from_file(tmp_path / "both.tsv", tokenizer="char")
    listed = rf.ParallelCorpus.from_pairs(PAIRS, tokenizer="char")
    for corpus in (two, one):
        assert corpus.sources == listed.sources
        assert all(np.array_equal(a, b) for a, b in zip(corpus.target_ids, listed.target_ids))


def test_characters_that_only_look_like_line_ends_do_not_part_the_sides(tmp_path):
    (tmp_path / "a").write_text("one\u2028still one\ntwo\x0b\n", encoding="utf-8")
    (tmp_path / "b").write_text("eins\nzwei\n", encoding="utf-8")
    assert rf.ParallelCorpus.from_files(tmp_path / "a", tmp_path / "b").targets == ["eins", "zwei"]


def test_pairs_with_an_empty_side_are_left_out_and_counted(tmp_path):
    (tmp_path / "a").write_text("one\n\nthree\n \n")
    (tmp_path / "b").write_text("eins\nzwei\n\n\n")
    pairs = rf.ParallelCorpus.from_files(tmp_path / "a", tmp_path / "b")
    assert (len(pairs), pairs.skipped) == (1, 3)
    assert "3 empty ones left out" in repr(pairs)
    (tmp_path / "t").write_text("one\teins\n\n\tzwei\n")
    assert rf.ParallelCorpus.from_file(tmp_path / "t").skipped == 2
    nothing_left = rf.ParallelCorpus.from_pairs([("123", "a"), ("b", "c")], tokenizer="d2l-word")
    assert (nothing_left.skipped, nothing_left.sources) == (1, ["b"])


def test_bad_files_are_named(tmp_path):
    (tmp_path / "a").write_text("one\ntwo\n")
    (tmp_path / "b").write_text("eins\n")
    with pytest.raises(ValueError, match=r"a has 2 lines and .*b has 1: expected equal numbers"):
        rf.ParallelCorpus.from_files(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match="line 1 has no tab"):
        rf.ParallelCorpus.from_file(tmp_path / "a")
    (tmp_path / "latin").write_bytes("Grüße\tHi\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8"):
        rf.ParallelCorpus.from_file(tmp_path / "latin")
    (tmp_path / "blank").write_text("\n\n")
    with pytest.raises(ValueError, match="no pair of sentences: all 2 have an empty side"):
        rf.ParallelCorpus.from_files(tmp_path / "blank", tmp_path / "blank")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        rf.ParallelCorpus.from_file(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.ParallelCorpus.from_pairs([]), ValueError, "no pair"),
        (lambda: rf.ParallelCorpus.from_pairs([("a", "b", "c")]), TypeError, "pair 0 is .*expected two sentences"),
        (lambda: rf.ParallelCorpus.from_pairs([("a", b"b")]), TypeError, "expected two sentences"),
        (lambda: rf.ParallelCorpus.from_pairs(PAIRS, tokenizer="syllable"), ValueError, "expected one of char, word"),
        (lambda: rf.ParallelCorpus.from_pairs(PAIRS, min_freq=0), ValueError, "at least 1"),
        (lambda: rf.ParallelCorpus.from_pairs(PAIRS, source_vocab=rf.Vocab("abc")), ValueError, "at ids 1 to 3"),
        (lambda: rf.ParallelCorpus.from_pairs(PAIRS).batches(0), ValueError, "batch_size is 0"),
        (lambda: rf.ParallelCorpus.from_pairs(PAIRS).split(0.5, 0.6), ValueError, "sum to 1"),
        (lambda: rf.ParallelCorpus.from_pairs(PAIRS[:2]).split(0.9, 0.05, 0.05), ValueError, "too few"),
        (lambda: rf.ParallelCorpus.from_pairs(PAIRS)[3], TypeError, "expected a slice"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


@given(st.lists(st.integers(0, 30), min_size=40, max_size=90), st.integers(0, 5))
def test_a_split_parts_no_source_and_loses_no_pair(sources, seed):
    pairs = rf.ParallelCorpus.from_pairs([(str(s), str(i)) for i, s in enumerate(sources)])
    try:
        parts = pairs.split(0.6, 0.2, 0.2, seed=seed)
    except ValueError as error:
        largest = max(map(sources.count, sources))
        assert "too few" in str(error) and largest >= 0.2 * len(sources) - 1  # noqa: PT017, PT018 it took a part's place
        return
    assert sorted(t for part in parts for t in part.targets) == sorted(pairs.targets)
    for i, one in enumerate(parts):
        for other in parts[i + 1 :]:
            assert not set(one.sources) & set(other.sources)


def test_a_split_has_about_the_sizes_wanted_and_repeats_with_its_seed():
    pairs = numbered([(2, 2)] * 1000)
    parts = pairs.split(0.8, 0.1, 0.1)
    assert [len(p) for p in parts] == [800, 100, 100]
    assert parts[0].source_vocab is pairs.source_vocab
    assert pairs.split(0.8, 0.1, 0.1)[1].sources == parts[1].sources != pairs.split(0.8, 0.1, 0.1, seed=1)[1].sources
    assert pairs[:5].sources == pairs.sources[:5]
    assert pairs[[7, 3]].targets == [pairs.targets[7], pairs.targets[3]]


def test_corpora_made_of_ids_have_readable_texts():
    vocab = rf.Vocab(list("abc"), reserved=RESERVED)
    ids = [np.array([4, 5, EOS], np.int32)]
    assert rf.ParallelCorpus(ids, ids, vocab, vocab).sources == ["ab"]
    with pytest.raises(ValueError, match="1 sources and 2 targets"):
        rf.ParallelCorpus(ids, ids * 2, vocab, vocab)


def test_multi30k_has_the_published_sizes(data_folder):
    parts = rf.datasets.load("multi30k-de-en")
    assert {name: len(part) for name, part in parts.items()} == {"train": 29_000, "valid": 1_014, "test": 1_000}
    assert parts["test"][0][0].startswith("Ein Mann mit einem orangefarbenen Hut")
    train = rf.ParallelCorpus.from_pairs(parts["train"], lower=True, min_freq=2)
    assert (len(train), train.skipped) == (29_000, 0)
    assert 5_000 < len(train.target_vocab) < 7_000 < len(train.source_vocab) < 9_000
    assert rf.datasets.load("multi30k-en-fr")["valid"][0][0] == parts["valid"][0][1]


def test_d2l_s_first_600_pairs_have_its_vocabularies(data_folder):
    pairs = rf.datasets.load("fra-eng")
    assert pairs[:2] == [("Go.", "Va !"), ("Hi.", "Salut !")]
    train = rf.ParallelCorpus.from_pairs(pairs[:600], tokenizer="d2l-nmt", min_freq=2, max_length=10)
    assert (len(train.source_vocab), len(train.target_vocab)) == (184, 201)  # the book's, with <unk> <pad> <bos> <eos>


def test_the_interface_s_pairs_are_clean_and_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"rnnfast\[demo\]"):
        rf.datasets.interface_pairs()
    monkeypatch.undo()
    pytest.importorskip("jupyterlab_language_pack_fr_FR")
    pairs = rf.datasets.interface_pairs()
    assert 2_500 < len(pairs) < 4_000
    assert len(set(pairs)) == len(pairs)
    assert ("Delete Cell", "Supprimer la cellule") in pairs  # the singular
    assert all("\4" not in s and "\n" not in s + t and s != t and s.strip() and t.strip() for s, t in pairs)
    assert all(s.count("%1") == t.count("%1") for s, t in pairs)
