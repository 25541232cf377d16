from __future__ import annotations

import gzip
import hashlib
import http.server
import threading
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnnfast as rf
from rnnfast.text.tokenise import detokenize, read_text, tokenize
from rnnfast.text.vocab import Decoder


def test_frequency_sorts_the_vocabulary_and_ties_go_by_token():
    vocab = rf.Vocab(list("bbaaccz"), reserved=["<pad>"])
    assert vocab.idx_to_token == ["<unk>", "<pad>", "a", "b", "c", "z"]
    assert vocab.token_freqs[0] == ("a", 2)


def test_min_freq_leaves_rare_tokens_to_unk():
    vocab = rf.Vocab("a a a b".split(), min_freq=2)
    assert len(vocab) == 2
    assert vocab["b"] == vocab.unk == 0


@given(st.text())
def test_characters_survive_the_round_trip(text):
    vocab = rf.Vocab(tokenize(text))
    assert vocab.decode(vocab.encode_text(text)) == text


@given(st.lists(st.text(min_size=1)))
def test_ids_and_tokens_are_inverse(tokens):
    vocab = rf.Vocab(tokens)
    assert vocab.to_tokens(vocab[tokens]) == [t if t in vocab else "<unk>" for t in tokens]
    assert rf.Vocab.from_list(vocab.idx_to_token) == vocab


def test_words_keep_reserved_tokens_and_apostrophes_whole():
    assert tokenize("it's <unk>, N=3\n", "word") == ["it's", "<unk>", ",", "N", "=", "3", "<eos>"]


@pytest.mark.fault("N19")
@pytest.mark.parametrize(
    "word",
    [
        "हिन्दी",
        "क्‍ष",
        "e\u0301te\u0301",
        "l’e\u0301te\u0301",
        "مَرْحَبًا",
        "שָׁלוֹם",
        "İ".lower() + "stanbul",
        "می‌خواهم",
        "<e\u0301>",
        "❤️",
    ],
)
def test_a_word_keeps_its_combining_marks(word):
    text = f"a {word}, ({word})\n"
    assert tokenize(text, "word") == ["a", word, ",", "(", word, ")", "<eos>"]
    assert detokenize(tokenize(text, "word"), "word") == text
    vocab = rf.Vocab(tokenize(text, "word"), tokenizer="word", lower=True)
    assert vocab.encode_text(word).tolist() == [vocab[word.lower()]]


@pytest.mark.fault("N19")
def test_every_mark_of_unicode_stays_with_its_word():
    marks = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c))[0] == "M"]
    assert len(marks) > 2000
    words = [f"a{mark}b" for mark in marks]
    assert tokenize(" ".join(words), "word") == words


@pytest.mark.fault("N19")
def test_old_models_read_words_as_they_were_trained(tmp_path):
    text = "हिन्दी e\u0301té don't\n"
    old = rf.Vocab.from_list(["<unk>", "e", "té", "don't", "<eos>"], tokenizer="word-v1")
    new = rf.Vocab(tokenize(text, "word"), tokenizer="word")
    assert [old.description()["tokenizer"], new.description()["tokenizer"]] == ["word", "word-v2"]
    for vocab in (old, new):
        rf.LanguageModel(vocab, hidden_size=2, seed=0).save(tmp_path / "m.safetensors")
        vocab.save(tmp_path / "v.json")
        for again in (rf.load(tmp_path / "m.safetensors").vocab, rf.Vocab.load(tmp_path / "v.json")):
            assert again == vocab
            assert (again.tokenizer, again.tokenize(text)) == (vocab.tokenizer, vocab.tokenize(text))
    assert old.tokenize("e\u0301té don't") == ["e", "\u0301", "té", "don't"]
    with pytest.raises(ValueError, match="unknown tokenizer 'word-v1' in a file"):
        rf.Vocab.from_description({"tokenizer": "word-v1", "tokens": ["<unk>"]})


def test_a_sample_of_words_reads_like_text():
    text = "Well, it's here (now). Yes!\nNext line"
    assert detokenize(tokenize(text, "word"), "word") == text


def test_only_white_space_splits_the_penn_treebank_s_lines():
    assert tokenize(" a <unk> n't \n\n b", "whitespace") == ["a", "<unk>", "n't", "<eos>", "<eos>", "b"]
    assert detokenize(["a", "b", "<eos>", "c"], "whitespace") == "a b\nc"


def test_d2l_s_tokens_are_lower_case_letters(data_folder):
    assert tokenize("The Time-Traveller's 1st, é", "d2l-word") == ["the", "time", "traveller", "s", "st"]
    assert "".join(tokenize("A-b\n\nC!", "d2l-char")) == "a b c "
    text = rf.datasets.load("timemachine")
    assert len(tokenize(text, "d2l-word")) == 32_775
    assert len(rf.Vocab(tokenize(text, "d2l-char"))) == 28  # d2l's: 26 letters, the space, <unk>


def test_unicode_s_word_boundaries_keep_what_a_pattern_of_letters_splits():
    pytest.importorskip("regex")
    text = "can't pay 3.14 to e\u0301tude\u2019s naïve न्यूटन.\n"
    words = tokenize(text, "unicode")
    assert words == ["can't", "pay", "3.14", "to", "e\u0301tude\u2019s", "naïve", "न्यूटन", ".", "<eos>"]
    assert detokenize(words, "unicode") == text
    assert "3.14" not in tokenize(text, "word")


def test_byte_pairs_are_parts_of_words_and_know_every_text(tmp_path):
    pytest.importorskip("tokenizers")
    text = "lower lowest newer newest wider widest\n" * 20
    vocab = rf.Vocab.bpe(text, 270)
    assert (vocab.tokenizer, len(vocab), vocab.idx_to_token[0]) == ("bpe", 270, "<unk>")
    corpus = rf.Corpus.from_text(text, vocab=vocab)
    assert len(corpus) < len(text) / 3
    assert vocab.decode(corpus.ids) == text
    unseen = "Grüße, 世界! lowest"
    assert vocab.decode(vocab.encode_text(unseen)) == unseen
    assert (vocab.encode_text(unseen) != vocab.unk).all()
    vocab.save(tmp_path / "vocab.json")
    assert rf.Vocab.load(tmp_path / "vocab.json") == vocab
    model = rf.LanguageModel(vocab, hidden_size=4, seed=0)
    model.save(tmp_path / "m.safetensors")
    again = rf.load(tmp_path / "m.safetensors")
    assert again.vocab == vocab
    assert rf.generate(again, "low", length=4, seed=1) == rf.generate(model, "low", length=4, seed=1)
    with pytest.raises(ValueError, match="expected more than the 256"):
        rf.Vocab.bpe(text, 200)
    with pytest.raises(ValueError, match="rules of the byte-pair encoding cannot be read"):
        rf.Vocab.from_list(["<unk>"], tokenizer="bpe", rules="{}")


@pytest.fixture(scope="module")
def german():
    """A text, and byte pairs in which its ü, ß, 世 and the like are two tokens or more."""
    pytest.importorskip("tokenizers")
    text = "Grüße aus Köln, ça va? 世界 🙂!\n" * 3
    vocab = rf.Vocab.bpe("plain letters alone\n" * 4, 270)
    assert len(vocab.encode_text("ü世🙂")) == 9
    return rf.Corpus.from_text(text, vocab=vocab), text


@pytest.mark.fault("N6")
@given(ids=st.lists(st.integers(0, 269), max_size=40))
def test_byte_pairs_decoded_one_by_one_are_those_decoded_together(german, ids):
    vocab = german[0].vocab
    decoder = Decoder(vocab)
    assert "".join(map(decoder.text, ids)) + decoder.rest() == vocab.decode(ids) == "".join(vocab.readable(ids))


@pytest.mark.fault("N6")
def test_characters_of_several_tokens_stay_whole_when_a_text_is_generated(german):
    corpus, text = german
    model, prompt = rf.NGram(6).fit(corpus), text[: text.index("ü")]
    wanted = text[: len(text) // 3]  # a line
    added = len(corpus.vocab.encode_text(wanted)) - len(corpus.vocab.encode_text(prompt))
    for options in ({"temperature": 0.0}, {"beam_size": 3}):
        assert rf.generate(model, prompt, length=added, **options) == wanted
    assert "".join(rf.stream(model, prompt, length=added, temperature=0.0)) == wanted[len(prompt) :]
    assert rf.generate(model, prompt, length=1, temperature=0.0) == prompt + "\ufffd"  # half of ü
    network = rf.LanguageModel(corpus.vocab, hidden_size=4, seed=0)
    ids, state = corpus.vocab.encode_text("G"), None
    for _ in range(30):
        logits, state = network.step(ids[-1:], state)
        ids = np.append(ids, logits.argmax()).astype(np.int32)
    assert rf.generate(network, "G", length=30, temperature=0.0) == corpus.vocab.decode(ids)


@pytest.mark.fault("N6")
def test_surprisal_and_translations_show_text_and_not_the_spelling_of_bytes(german):
    shown = rf.surprisal(rf.NGram(3).fit(german[0]), " Grüße, 世!", context="\n")
    assert "".join(piece for piece, _ in shown) == " Grüße, 世!"
    pairs = rf.ParallelCorpus.from_pairs([("ü", "世界 ß")] * 2, tokenizer="bpe", vocab_size=270)
    model = rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, hidden_size=4, embedding_size=4, seed=0)
    for best in rf.translate(model, ["a ü"], n_best=2, beam_size=2, max_length=5)[0]:
        assert "".join(best.source_tokens) == "a ü<eos>"
        assert "".join(best.tokens) == best.text


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install 'rnnfast\[hf\]'"):
        rf.Vocab.bpe("a", 300)
    monkeypatch.setitem(__import__("sys").modules, "regex", None)
    with pytest.raises(ImportError, match=r"pip install 'rnnfast\[unicode\]'"):
        tokenize("a", "unicode")
    monkeypatch.setitem(__import__("sys").modules, "rjieba", None)
    with pytest.raises(ImportError, match=r"pip install 'rnnfast\[jieba\]'"):
        tokenize("a", "jieba")


CHINESE = "我来到北京清华大学。\n小明毕业于中国科学院计算所！ The end\n"


def test_jieba_finds_chinese_words_and_its_tokens_add_up_to_the_text(tmp_path):
    pytest.importorskip("rjieba")
    assert tokenize(CHINESE, "jieba")[:6] == ["我", "来到", "北京", "清华大学", "。", "\n"]
    corpus = rf.Corpus.from_text(CHINESE * 20, tokenizer="jieba")
    assert corpus.vocab.decode(corpus.ids) == CHINESE * 20
    model = rf.LanguageModel(corpus.vocab, cell="gru", hidden_size=24, seed=0)
    rf.fit(model, corpus, epochs=12, batch_size=2, num_steps=21, lr=2e-2, progress=False)
    model.save(tmp_path / "m.safetensors")
    assert (
        rf.generate(rf.load(tmp_path / "m.safetensors"), "我来到", length=3, temperature=0.0) == "我来到北京清华大学。"
    )


@pytest.mark.parametrize("tokenizer", ["d2l-char", "d2l-word"])
def test_tokenizers_for_a_to_z_say_what_to_use_for_other_letters(tokenizer, tmp_path):
    (tmp_path / "text.txt").write_text(CHINESE[:10], encoding="utf-8")
    wanted = f"none of the letters a to z, and the tokenizer '{tokenizer}' drops all others; use 'char', or 'jieba' for Chinese"
    for read in (
        lambda: tokenize(CHINESE[:10], tokenizer),
        lambda: rf.Corpus.from_text(CHINESE[:10], tokenizer=tokenizer),
        lambda: rf.Corpus.from_file(tmp_path / "text.txt", tokenizer=tokenizer),
        lambda: rf.Corpus.from_file(tmp_path / "text.txt", tokenizer=tokenizer, memory_map=True),
        lambda: rf.ParallelCorpus.from_pairs([("a cat", "一只猫"), ("two", "二")], tokenizer=tokenizer),
        lambda: rf.SequenceClassifier(tokenizer=tokenizer).fit(["北京", "上海"], [0, 1]),
        lambda: rf.Vocab("abc ", tokenizer=tokenizer).encode_text("北京"),
    ):
        with pytest.raises(ValueError, match=wanted):
            read()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.txt"]
    with pytest.raises(ValueError, match="use 'char' or 'word'"):
        tokenize("Здравствуй", tokenizer)
    with pytest.raises(ValueError, match="use 'char' or 'word'"):
        tokenize("日本語の文", tokenizer)
    with pytest.warns(UserWarning, match="keeps only the letters a to z: it drops 22 of the 28 letters of text"):
        corpus = rf.Corpus.from_text(CHINESE, tokenizer=tokenizer)
    assert corpus.vocab.decode(corpus.ids).strip() == "the end"
    rf.Corpus.from_text("Déjà vu, naïve café", tokenizer=tokenizer)  # without a warning
    tokenize("1 + 2 = 3", tokenizer)


def test_a_piece_of_a_file_may_lack_latin_letters(tmp_path, monkeypatch):
    monkeypatch.setattr(__import__("sys").modules["rnnfast.text.corpus"], "_PIECE", 8)
    (tmp_path / "text.txt").write_text("the long first line\n一二三\nand the last line\n", encoding="utf-8")
    whole = rf.Corpus.from_file(tmp_path / "text.txt", tokenizer="d2l-word")
    mapped = rf.Corpus.from_file(tmp_path / "text.txt", tokenizer="d2l-word", memory_map=True)
    assert np.array_equal(whole.ids, mapped.ids)


def test_vocabularies_are_saved_and_loaded(tmp_path):
    vocab = rf.Vocab(tokenize("to be or\nnot to be", "word"), reserved=["<pad>"], tokenizer="word")
    vocab.save(tmp_path / "vocab.json")
    again = rf.Vocab.load(tmp_path / "vocab.json")
    assert again == vocab
    assert again.token_freqs == vocab.token_freqs
    (tmp_path / "vocab.json").write_text('{"tokens": ["a"]}')
    with pytest.raises(ValueError, match="is not a vocabulary"):
        rf.Vocab.load(tmp_path / "vocab.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "is empty"), (b"ab\0c", "zero byte at 2"), (b"abc\xff", "byte 0xff at 3")],
)
def test_files_that_contain_no_text_are_refused(tmp_path, content, sentence):
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_text(file)


def test_gzip_is_unpacked_and_damage_is_named(tmp_path):
    file = tmp_path / "text.gz"
    file.write_bytes(gzip.compress("grüße".encode()))
    assert read_text(file) == "grüße"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="not a complete gzip"):
        read_text(file)


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: read_text("nowhere.txt"), FileNotFoundError, "does not exist"),
        (lambda: read_text("."), ValueError, "is a folder"),
        (lambda: rf.Corpus.from_text("ab", tokenizer="syllable"), ValueError, "expected one of char, word"),
        (lambda: rf.Corpus.from_text("a"), ValueError, "expected at least 2"),
        (lambda: rf.Corpus.from_text("abc").split(0.5, 0.6), ValueError, "sum to 1"),
        (lambda: rf.Corpus.from_text("abc").split(0.5, 0.5), ValueError, "too few"),
        (lambda: rf.Vocab("ab").to_tokens(3), IndexError, "expected 0 to 2"),
        (lambda: rf.Vocab("ab", min_freq=0), ValueError, "at least 1"),
        (lambda: rf.Vocab("ab", reserved=["<unk>"]), ValueError, "repeat"),
        (lambda: rf.datasets.load("mnist"), ValueError, "expected one of timemachine"),
    ],
)
def test_bad_input_is_named(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_penn_treebank_has_its_published_counts(data_folder):
    ptb = rf.datasets.load("ptb")
    vocab = rf.Vocab(tokenize(ptb["train"].replace(" \n", "\n"), "char"))
    assert len(vocab) > 40
    words = ptb["train"].replace("\n", "<eos>").split()
    assert len(words) == 929_589
    assert len(set(words)) == 10_000


@pytest.mark.parametrize(
    ("name", "size"),
    [("timemachine", 178_979), ("tinyshakespeare", 1_115_394), ("sunspots", 2_820), ("fra-eng", 167_130)],
)
def test_data_sets_have_the_size_their_sources_state(data_folder, name, size):
    assert len(rf.datasets.load(name)) == size


def test_line_aligned_and_listed_data_sets_are_whole(data_folder):
    pairs = rf.datasets.load("multi30k")
    assert len(pairs["train.de"]) == len(pairs["train.en"]) == 29_000
    names = rf.datasets.load("names")
    assert len(names) == 18
    assert sum(map(len, names.values())) > 20_000


def test_absent_data_says_where_to_put_what(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNFAST_DATA", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match=r"rnnfast\[data\].*put timemachine.txt.gz at timemachine.txt.gz"):
        rf.datasets.load("timemachine")


def test_a_data_set_with_a_wrong_sum_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNFAST_DATA", str(tmp_path))
    (tmp_path / "timemachine.txt.gz").write_bytes(gzip.compress(b"not it"))
    with pytest.raises(ValueError, match="sha256"):
        rf.datasets.load("timemachine")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine for a folder, and the requests it got."""
    pytest.importorskip("pooch")
    asked, folder = [], tmp_path / "public"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            asked.append(self.path)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RNNFAST_DATA", raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{web.server_port}", asked
        web.shutdown()


def test_a_download_is_checked_and_made_once(server, monkeypatch):
    folder, address, asked = server
    (folder / "a.txt").write_text("public text")
    known = hashlib.sha256(b"public text").hexdigest()
    file = rf.datasets._File("a.txt.gz", f"{address}/a.txt", known)
    monkeypatch.setitem(rf.datasets._FILES, "timemachine", {"text": file})
    assert rf.datasets.load("timemachine") == rf.datasets.load("timemachine") == "public text"
    assert len(asked) == 1


def test_a_damaged_download_is_not_kept(server, monkeypatch):
    folder, address, asked = server
    (folder / "a.txt").write_text("damaged")
    known = hashlib.sha256(b"public text").hexdigest()
    file = rf.datasets._File("a.txt.gz", f"{address}/a.txt", known)
    monkeypatch.setitem(rf.datasets._FILES, "timemachine", {"text": file})
    with pytest.raises(ValueError, match="get the file again"):
        rf.datasets.load("timemachine")
    (folder / "a.txt").write_text("public text")
    assert rf.datasets.load("timemachine") == "public text"


def test_corpus_encodes_with_a_given_vocabulary():
    corpus = rf.Corpus.from_text("aab", vocab=rf.Vocab("a"))
    assert corpus.ids.tolist() == [1, 1, 0]
    assert corpus.ids.dtype == np.int32


@pytest.mark.fault("C9")
def test_a_lone_surrogate_is_refused_when_it_is_read_and_not_when_it_is_written(tmp_path):
    text = "é" * 5 + "\udc80" + "the rest"
    model = rf.NGram(2).fit(rf.Corpus.from_text("abab"))
    for read in (
        rf.Corpus.from_text,
        lambda text: rf.Corpus.from_text(text, vocab=rf.Vocab("ab")),
        lambda text: rf.Vocab("ab").encode_text(text),
        lambda text: rf.Vocab("ab").encode_text(text * 3000),
        lambda text: tokenize(text, "word"),
        lambda text: rf.generate(model, text),
        lambda text: rf.log_prob(model, text),
        lambda text: rf.ParallelCorpus.from_pairs([("a", text)]),
        lambda text: rf.Vocab.bpe(text, 300),
    ):
        with pytest.raises(ValueError, match=r"lone surrogate, '\\udc80', at character 5"):
            read(text)
    far = "é" * (1 << 20) + "\ud800"
    with pytest.raises(ValueError, match="at character 1048576"):
        rf.Corpus.from_text(far)
    for make in (rf.Vocab, lambda tokens: rf.Vocab.from_list(["<unk>", *tokens])):
        with pytest.raises(ValueError, match="lone surrogate"):
            make(["a", "b\udc80"])


@pytest.mark.fault("C9")
def test_a_vocabulary_that_cannot_be_saved_leaves_the_old_file(tmp_path):
    file = tmp_path / "vocab.json"
    vocab = rf.Vocab("abc")
    vocab.save(file)
    before = file.read_bytes()
    vocab.idx_to_token.append("\udc80")
    with pytest.raises(ValueError, match="surrogates not allowed"):
        vocab.save(file)
    assert file.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["vocab.json"]


def test_the_most_frequent_tokens_are_kept():
    text = "d c c b b b a a a a"
    vocab = rf.Vocab(text.split(), max_size=2, reserved=["<pad>"], tokenizer="word")
    assert vocab.idx_to_token == ["<unk>", "<pad>", "a", "b"]
    assert len(vocab.token_freqs) == 4
    corpus = rf.Corpus.from_text(text, tokenizer="word", max_vocab=2)
    assert corpus.ids.tolist() == [0, 0, 0, 2, 2, 2, 1, 1, 1, 1]
    assert rf.evaluate(rf.NGram(1).fit(corpus), corpus).oov_rate == pytest.approx(2 / 9)
    assert rf.Vocab(text.split(), max_size=9, min_freq=2) == rf.Vocab(text.split(), min_freq=2)
    pairs = rf.ParallelCorpus.from_pairs([(text, text)], max_vocab=1)
    assert pairs.source_vocab.idx_to_token == ["<unk>", "<pad>", "<bos>", "<eos>", "a"]


def test_long_texts_of_characters_have_the_ids_of_short_ones():
    text = "aé世🙂z\n" * 5000
    for vocab in (rf.Vocab("aé世\n"), rf.Vocab(""), rf.Vocab("ab", reserved=["<pad>"]), rf.Vocab("🙂", lower=True)):
        assert np.array_equal(vocab.encode_text(text), np.tile(vocab.encode_text("aé世🙂z\n"), 5000))


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: rf.Vocab(None), TypeError, "tokens is None"),
        (lambda: rf.Vocab(b"ab"), TypeError, "token 97 is an int, expected a str"),
        (lambda: rf.Vocab(["a", None]), TypeError, "token None is None"),
        (lambda: rf.Vocab("ab", min_freq=1.5), TypeError, "min_freq is 1.5"),
        (lambda: rf.Vocab("ab", max_size=0), ValueError, "max_size is 0"),
        (lambda: rf.Vocab("ab", max_size=float("nan")), TypeError, "max_size is nan"),
        (lambda: rf.Vocab("ab", reserved="<pad>"), TypeError, "reserved is '<pad>', expected a list"),
        (lambda: rf.Vocab("ab", tokenizer=None), ValueError, "unknown tokenizer None"),
        (lambda: rf.Vocab("ab", tokenizer=["char"]), ValueError, "unknown tokenizer"),
        (lambda: rf.Vocab("ab").encode_text(b"ab"), TypeError, "the text is a bytes"),
        (lambda: rf.Vocab("ab").decode(None), TypeError, "ids"),
        (lambda: rf.Vocab("ab").to_tokens(2**70), IndexError, "expected 0 to 2"),
        (lambda: rf.Vocab("ab").to_tokens(True), TypeError, "bool"),
        (lambda: rf.Vocab("ab")[3], TypeError, "3 is an int, expected a token"),
        (lambda: rf.Vocab("ab")[["a", 3]], TypeError, "the token 3 is an int"),
        (lambda: rf.Vocab("ab").encode(np.array([1, 2])), TypeError, "is an int64"),
        (lambda: rf.Vocab("ab").encode(None), TypeError, "tokens is None"),
        (lambda: rf.Vocab.from_list(["<unk>", 3]), TypeError, "token 3 is an int"),
        (lambda: rf.Vocab.from_list(None), TypeError, "tokens"),
        (lambda: rf.Vocab.bpe(None, 300), TypeError, "the text is None"),
        (lambda: rf.Vocab.bpe("a", 300.5), TypeError, "size is 300.5"),
        (lambda: rf.Corpus.from_text(None), TypeError, "text is None"),
        (lambda: rf.Corpus.from_text(b"abc"), TypeError, "text is a bytes"),
        (lambda: rf.Corpus.from_text(""), ValueError, "0 tokens"),
        (lambda: rf.Corpus.from_text("abc", vocab="abc"), TypeError, "vocab is a str"),
        (lambda: rf.Corpus([1, 2], "abc"), TypeError, "vocab is a str"),
        (lambda: rf.Corpus([[1, 2]], rf.Vocab("ab")), ValueError, "1 dimension"),
        (lambda: rf.Corpus.from_file(None), TypeError, "path is None"),
        (lambda: rf.Corpus.from_text("abc" * 9).split(float("nan")), ValueError, "must be positive"),
        (lambda: rf.Corpus.from_text("abc" * 9).split("a"), TypeError, "split fraction"),
        (lambda: rf.batches([1, 2, 3], batch_size=1.0, num_steps=1), TypeError, "batch_size is 1.0"),
        (lambda: rf.batches([1, 2, 3], batch_size=1, num_steps=None), TypeError, "num_steps is None"),
        (lambda: rf.batches([1, 2, 3], batch_size=1, num_steps=1, seed=-1), ValueError, "seed is -1"),
        (lambda: rf.batches([1, 2, 3], batch_size=2**40, num_steps=2**40), ValueError, "expected at most 2147483647"),
        (lambda: rf.NGram(float("nan")), ValueError, "order is nan"),
        (lambda: rf.NGram(2**40), ValueError, "from 1 to 16"),
        (lambda: rf.NGram(2, None), ValueError, "unknown smoothing None"),
        (lambda: rf.NGram(2, ["none"]), ValueError, "unknown smoothing"),
        (lambda: rf.NGram(2, alpha="x"), TypeError, "alpha is 'x'"),
        (lambda: rf.NGram(2, alpha=float("nan")), ValueError, "alpha is nan"),
        (lambda: rf.NGram(2, sentence_end=3), TypeError, "sentence_end is 3"),
        (lambda: rf.NGram(2).fit(None), TypeError, "the text"),
        (lambda: rf.NGram(2).fit("abc"), TypeError, "the text"),
        (lambda: rf.NGram(2).fit([0, 1], vocab_size=float("inf")), TypeError, "vocab_size is inf"),
        (lambda: rf.NGram(2).fit([0, 1], vocab_size=0), ValueError, "vocab_size is 0, expected 1 to 67108864"),
        (lambda: rf.NGram(2).fit([0, 1], vocab_size=2**31), (ValueError, OverflowError), "vocab_size is 2147483648"),
        (lambda: rf.NGram(2).fit([0, 1]).sample(-1), ValueError, "length is -1"),
        (
            lambda: rf.NGram(2).fit([0, 1]).sample(2**70),
            (ValueError, OverflowError),
            "length is 1180591620717411303424",
        ),
        (lambda: rf.NGram(2).fit([0, 1]).sample(2.5), TypeError, "length is 2.5"),
        (lambda: rf.NGram(2).fit([0, 1]).tokens_of(3), ValueError, "n is 3, expected 1 to 2"),
        (lambda: rf.NGram(2).fit([0, 1]).tokens_of(0), ValueError, "n is 0, expected at least 1"),
        (lambda: rf.NGram(2).fit([0, 1]).distribution([[0, 1]]), ValueError, "1 dimension"),
        (lambda: rf.NGram(2).fit([0, 1]).distribution(None), TypeError, "the sequence"),
        (lambda: rf.NGram(2).fit([0, 1]).step([[0, 1]]), ValueError, "1 dimension"),
        (lambda: rf.NGram(2).fit([0, 1]).nll([0], [1]), ValueError, r"expected the same \(T, N\)"),
        (lambda: rf.NGram(2).fit([0, 1]).nll([[0]], [[1]], [[0, 1]]), ValueError, "state has shape"),
        (lambda: rf.ParallelCorpus.from_pairs(None), TypeError, "pairs is None"),
        (lambda: rf.ParallelCorpus.from_pairs([1]), TypeError, "pair 0 is 1"),
        (lambda: rf.ParallelCorpus.from_pairs([("a", "b")], max_length=2.5), TypeError, "max_length is 2.5"),
        (lambda: rf.ParallelCorpus.from_pairs([("a", "b")], source_vocab="x"), TypeError, "source_vocab is a str"),
        (lambda: rf.ParallelCorpus.from_pairs([("a", "b")])["a"], TypeError, "expected a slice or a list"),
        (lambda: rf.ParallelCorpus.from_pairs([("a", "b")]).batch([]), ValueError, "no pairs"),
        (lambda: rf.ParallelCorpus.from_pairs([("a", "b")]).split(float("nan")), ValueError, "must be positive"),
        (lambda: rf.ParallelCorpus.from_pairs([("a", "b")]).in_order(0), ValueError, "batch_size is 0"),
        (lambda: rf.NGram.from_arpa(None), TypeError, "path is None"),
        (lambda: rf.evaluate(None, [1, 2]), TypeError, "a NoneType does not predict"),
        (lambda: rf.evaluate(rf.NGram(2).fit([0, 1]), None), TypeError, "the text"),
        (lambda: rf.evaluate(rf.NGram(2).fit([0, 1]), [0, 1], num_steps=0), ValueError, "num_steps is 0"),
        (lambda: rf.evaluate(rf.NGram(2).fit([0, 1]), [0, 1], parts=1.5), TypeError, "parts is 1.5"),
        (lambda: rf.evaluate(rf.NGram(2).fit([0, 1]), [0]), ValueError, "1 token, expected at least 2"),
        (lambda: rf.evaluate(rf.NGram(2), [0, 1]), ValueError, "call fit first"),
        (lambda: rf.log_prob(None, "a"), TypeError, "model is None"),
        (lambda: read_text(b"t.txt"), TypeError, "path is a bytes"),
        (lambda: tokenize("a", None), ValueError, "unknown tokenizer None"),
        (lambda: tokenize(3, "word"), TypeError, "the text is an int"),
        (lambda: detokenize(["a", 3], "word"), TypeError, "token"),
    ],
)
def test_hostile_values_are_refused_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence) as raised:
        call()
    assert "\n" not in str(raised.value)
