"""Decoding: searches against the float64 reference, the same bits in any batch, and the command line."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from test_cli import run

import rnnfast as rf
from rnnfast.reference.seq2seq import DECODERS, Translator
from rnnfast.translate import translations

BOS, EOS, V = 2, 3, 17


def model_of(decoder="context_and_previous", scale=1.5, **options):
    """A small model whose weights are large enough for probabilities that differ."""
    model = rf.Seq2Seq(13, V, embedding_size=5, hidden_size=6, decoder=decoder, seed=1, **options)
    weights = {name: value * scale for name, value in model.state_dict().items()}
    weights["output.bias"][EOS] += 1.0  # so that sentences end
    model.load_state_dict(weights)
    return model


def reference_of(model):
    return Translator(model.state_dict(), model.config)


def sources(count, longest=7, seed=5):
    rng = np.random.default_rng(seed)
    return [rng.integers(4, 13, 1 + i % longest).astype(np.int32) for i in range(count)]


def log_probabilities(model, source, prefixes):
    """log P (N, V) of what follows each prefix (all of one length), and attention (steps, S, N)."""
    ids = np.append(source, EOS)
    N = len(prefixes)
    inputs = np.concatenate([np.full((1, N), BOS), np.array(prefixes, int).reshape(N, -1).T])
    reference = reference_of(model)
    reference.forward(np.tile(ids[:, None], N), np.full(N, len(ids)), inputs, np.zeros_like(inputs))
    logits = reference.logits[-1].value
    top = logits.max(1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True)), np.array(reference.attention)


def plain_search(model, source, beam_size, max_length, length_penalty):
    """Beam search according to its description: (tokens, log P, score, ended), best first."""
    running, done = [([], 0.0)], []
    while running and len(done) < beam_size:
        log_p, _ = log_probabilities(model, source, [tokens for tokens, _ in running])
        log_p[:, [1, BOS]] = -np.inf
        every = [([*t, v], p + log_p[r, v]) for r, (t, p) in enumerate(running) for v in range(V)]
        best = sorted(every, key=lambda item: -item[1])[: beam_size - len(done)]
        running = []
        for tokens, p in best:
            if tokens[-1] == EOS or len(tokens) == max_length:
                ended = tokens[-1] == EOS
                done.append((tokens[:-1] if ended else tokens, p, p / len(tokens) ** length_penalty, ended))
            else:
                running.append((tokens, p))
    return sorted(done, key=lambda item: (not item[3], -item[2]))


SHAPES = [
    *[(decoder, {"cell": cell}) for decoder, cell in zip(DECODERS, ("rnn", "gru", "lstm", "rnn_relu", "lstm"))],
    ("d2l", {"cell": "lstm", "num_layers": 2, "bidirectional": True, "readout": "all"}),
    ("context_and_previous", {"attention": "additive", "readout": "all", "bidirectional": True}),
    ("previous", {"attention": "general", "num_layers": 2, "cell": "lstm"}),
    ("d2l", {"attention": "dot", "context": "mean"}),
]


@pytest.mark.parametrize(("decoder", "options"), SHAPES, ids=str)
def test_searches_find_what_the_float64_reference_finds(decoder, options):
    model = model_of(decoder, **options)
    attention = model.config["attention"] != "none"
    for beam_size in (1, 4):
        found = translations(
            model, sources(6), beam_size=beam_size, n_best=beam_size, max_length=8, attention=attention
        )
        for source, best in zip(sources(6), found):
            expected = plain_search(model, source, beam_size, 8, 0.75)
            assert [list(t.ids) for t in best] == [e[0] for e in expected]
            assert [t.ended for t in best] == [e[3] for e in expected]
            np.testing.assert_allclose([t.log_prob for t in best], [e[1] for e in expected], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose([t.score for t in best], [e[2] for e in expected], rtol=1e-4, atol=1e-5)
            for t in best if attention else []:
                read = t.ids if t.ended else t.ids[:-1]
                _, weights = log_probabilities(model, source, [read])
                np.testing.assert_allclose(t.attention, weights[:, :, 0], atol=1e-5)
                assert t.attention.shape == (len(t.ids) + t.ended, len(source) + 1)


def same(a, b):
    return (
        a.text == b.text
        and a.ids.tobytes() == b.ids.tobytes()
        and (a.log_prob, a.score, a.ended) == (b.log_prob, b.score, b.ended)
        and (a.attention is None) == (b.attention is None)
        and (a.attention is None or a.attention.tobytes() == b.attention.tobytes())
    )


@pytest.mark.parametrize(("decoder", "options"), SHAPES, ids=str)
@pytest.mark.parametrize("beam_size", [1, 5])
def test_together_and_one_by_one_give_the_same_bits(decoder, options, beam_size):
    model = model_of(decoder, **options)
    attention = model.config["attention"] != "none"
    sentences = sources(40)
    ways = [
        translations(
            model, sentences, beam_size=beam_size, n_best=beam_size, batch_size=batch_size, attention=attention
        )
        for batch_size in (1, 7, 64)
    ]
    for alone, some, together in zip(*ways):
        assert len(alone) == len(some) == len(together) == beam_size
        assert all(same(a, b) and same(a, c) for a, b, c in zip(alone, some, together))


@pytest.mark.parametrize("weights", ["bf16", "int8"])
def test_low_precision_gives_the_same_bits_in_any_batch_too(tmp_path, weights):
    model = model_of("context_and_previous", attention="additive", readout="all")
    model.save(tmp_path / "m.safetensors")
    model = rf.load(tmp_path / "m.safetensors", weights=weights)
    alone, together = (translations(model, sources(30), beam_size=3, batch_size=n) for n in (1, 30))
    assert all(same(a[0], b[0]) for a, b in zip(alone, together))


@pytest.mark.parametrize("batch_size", [1, 5, 30])
def test_texts_without_scores_are_those_with_scores(batch_size):
    """Greedy translation to text computes few logits exactly; it takes a vocabulary large enough for that."""
    model = rf.Seq2Seq(50, 3000, embedding_size=16, hidden_size=32, decoder="d2l", seed=3)
    sentences = [np.random.default_rng(i).integers(4, 50, 6).astype(np.int32) for i in range(30)]
    texts = rf.translate(model, sentences, max_length=12, batch_size=batch_size)
    assert texts == [t[0].text for t in translations(model, sentences, max_length=12)]
    assert len(set(texts)) > 10


def test_a_beam_as_wide_as_all_prefixes_is_exhaustive_search():
    model = model_of("d2l", cell="lstm")
    (best,) = translations(model, [[5, 6, 7]], beam_size=5000, n_best=30, max_length=3, length_penalty=0.5)
    every = []
    tokens = [v for v in range(V) if v not in (1, BOS, EOS)]
    for length, prefixes in enumerate(([[]], [[a] for a in tokens], [[a, b] for a in tokens for b in tokens])):
        total = np.zeros(len(prefixes))
        for t in range(length):
            before = log_probabilities(model, np.array([5, 6, 7]), [p[:t] for p in prefixes])[0]
            total += before[np.arange(len(prefixes)), [p[t] for p in prefixes]]
        last = log_probabilities(model, np.array([5, 6, 7]), prefixes)[0]
        every += [(p / (length + 1) ** 0.5, ids) for p, ids in zip(total + last[:, EOS], prefixes)]
    every.sort(key=lambda item: -item[0])
    assert [list(t.ids) for t in best] == [ids for _, ids in every[:30]]
    np.testing.assert_allclose([t.score for t in best], [score for score, _ in every[:30]], rtol=1e-5)


def test_forced_scores_are_those_of_the_search_and_of_training():
    model = model_of("previous", attention="general")
    sentences = sources(20)
    found = translations(model, sentences, beam_size=3, n_best=3, max_length=20)
    flat = [(s, t) for s, best in zip(sentences, found) for t in best if t.ended]
    assert len(flat) > 10
    scores = rf.score_pairs(model, [s for s, _ in flat], [t.ids for _, t in flat], batch_size=7)
    assert scores.tolist() == [t.log_prob for _, t in flat]
    for (source, t), score in zip(flat, scores):
        ids = np.append(source, EOS).astype(np.int32)[:, None]
        target = np.array([BOS, *t.ids, EOS], np.int32)[:, None]
        assert model.nll(ids, np.array([len(ids)]), target).sum() == pytest.approx(-score, rel=1e-5)


def test_length_penalty_and_maximum_length_do_what_they_say():
    model = model_of("d2l")
    long = translations(model, sources(30), beam_size=8, length_penalty=3.0)
    short = translations(model, sources(30), beam_size=8, length_penalty=0.0)
    assert sum(len(t[0].ids) for t in long) > sum(len(t[0].ids) for t in short)
    for (t,) in short:
        assert t.score == t.log_prob
    cut = translations(model, sources(30), beam_size=2, n_best=2, max_length=1)
    assert all(len(t.ids) + t.ended <= 1 for best in cut for t in best)
    assert any(not t.ended for best in cut for t in best)
    for best in cut:
        for t in best:
            assert t.score == t.log_prob / math.pow(len(t.ids) + t.ended, 0.75)


PAIRS = [("ich sehe den hund", "i see the dog"), ("du hast Äpfel .", "you have apples."), ("geh !", "go!")]


@pytest.fixture(scope="module")
def worded():
    """A word model that has memorized three sentences."""
    corpus = rf.ParallelCorpus.from_pairs(PAIRS, tokenizer="word", lower=True)
    model = rf.Seq2Seq(
        corpus.source_vocab, corpus.target_vocab, embedding_size=16, hidden_size=32, attention="additive", seed=2
    )
    optimizer = rf.Adam(model, lr=0.02)
    for _ in range(60):
        for batch in corpus.batches(3):
            model.loss(*batch)
            model.backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


def test_texts_come_as_texts(worded):
    wanted = [target for _, target in PAIRS]
    assert rf.translate(worded, [source for source, _ in PAIRS]) == wanted
    assert rf.translate(worded, ["Geh !", "", "   ", "ich sehe den HUND"], beam_size=3) == ["go!", "", "", PAIRS[0][1]]
    ((best, second),) = rf.translate(worded, ["geh !"], beam_size=2, n_best=2)
    assert (best.text, best.tokens, best.ended) == ("go!", ["go", "!"], True)
    assert best.score >= second.score
    assert best.attention is None
    ((drawn,),) = rf.translate(worded, ["geh !"], attention=True)
    assert drawn.source_tokens == ["geh", "!", "<eos>"]
    assert drawn.attention.shape == (3, 3)
    np.testing.assert_allclose(drawn.attention.sum(1), 1, rtol=1e-5)
    assert rf.translate(worded, ["unbekannt"])  # reads as <unk>
    assert rf.translate(worded, []) == []
    known, reserved = rf.score_pairs(worded, ["geh !", "geh <eos> !"], ["go !", "go !"])
    assert known == best.log_prob
    assert reserved == rf.score_pairs(worded, ["geh unbekannt !"], ["go !"])[0]


def test_a_picture_of_attention(worded, tmp_path):
    pytest.importorskip("matplotlib")
    ((t,),) = rf.translate(worded, ["ich sehe den hund"], attention=True)
    axes = t.plot(tmp_path / "a.png").axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("token that is read", "token that is written")
    assert [label.get_text() for label in axes.get_xticklabels()] == t.source_tokens
    assert [label.get_text() for label in axes.get_yticklabels()] == [*t.tokens, "<eos>"][: len(t.attention)]
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    t, _ = rf.translate(worded, ["geh !"], beam_size=2, n_best=2)[0]
    with pytest.raises(ValueError, match="attention=True"):
        t.plot(tmp_path / "b.png")


def test_wrong_arguments_are_reported():
    model = model_of()
    lm = rf.LanguageModel(5, hidden_size=3, seed=0)
    for call, error, sentence in (
        (lambda: rf.translate(model, [[5]], beam_size=0), ValueError, "beam_size is 0"),
        (lambda: rf.translate(model, [[5]], beam_size=2, n_best=3), ValueError, "n_best is 3"),
        (lambda: rf.translate(model, [[5]], max_length=0), ValueError, "max_length is 0"),
        (lambda: rf.translate(model, [[5]], length_penalty=-1.0), ValueError, "length_penalty"),
        (lambda: rf.translate(model, [[5]], length_penalty=math.nan), ValueError, "length_penalty"),
        (lambda: rf.translate(model, [[5]], batch_size=0), ValueError, "batch_size"),
        (lambda: rf.translate(model, [[5]], attention=True), ValueError, "no attention"),
        (lambda: rf.translate(model, [[13]]), IndexError, "expected 0 to 12"),
        (lambda: rf.translate(model, [[1.5]]), TypeError, "integers"),
        (lambda: rf.translate(model, ["text"]), ValueError, "no vocabulary"),
        (lambda: rf.translate(model, "text"), TypeError, "list of sentences"),
        (lambda: rf.translate(lm, ["text"]), ValueError, "a LanguageModel does not translate"),
        (lambda: rf.score_pairs(model, [[5]], []), ValueError, "1 sources and 0 targets"),
        (lambda: rf.score_pairs(model, [[5]], [[V]]), IndexError, "expected 0 to 16"),
    ):
        with pytest.raises(error, match=sentence):
            call()


@pytest.fixture
def folder(worded, tmp_path):
    worded.save(tmp_path / "m.safetensors")
    return tmp_path


def test_the_command_translates_files_and_lines(folder):
    lines = ["geh !", "", "ich sehe den Hund", "du hast Äpfel ."]
    (folder / "in.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    wanted = "go!\n\ni see the dog\nyou have apples.\n"
    assert run("translate", "m.safetensors", "in.txt", cwd=folder).stdout == wanted
    assert run("translate", "m.safetensors", cwd=folder, input="\r\n".join(lines)).stdout == wanted
    options = ["--beam-size", 3, "--max-length", 9, "--length-penalty", 1, "--threads", 1, "--weights", "bf16"]
    assert run("translate", "m.safetensors", "in.txt", *options, "--batch-size", 2, cwd=folder).stdout == wanted
    best = run("translate", "m.safetensors", "in.txt", "--beam-size", 2, "--n-best", 2, cwd=folder).stdout
    table = [line.split("\t") for line in best.splitlines()]
    assert [row[0] for row in table] == ["1", "1", "2", "3", "3", "4", "4"]
    assert [row[3] for row in table[::2]][:1] == ["go!"]
    assert float(table[0][1]) >= float(table[1][1])
    told = run("translate", "m.safetensors", "in.txt", "--json", cwd=folder).stdout.splitlines()
    told = [json.loads(line) for line in told]
    assert [t["source"] for t in told] == lines
    assert [t["translations"][0]["text"] for t in told] == wanted.split("\n")[:-1]
    assert told[0]["translations"][0]["log_prob"] < 0


def test_each_line_is_answered_immediately(folder):
    command = [sys.executable, "-m", "rnnfast", "translate", "m.safetensors"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, text=True, encoding="utf-8") as process:
        for line, answer in (("geh !", "go!"), ("", ""), ("ich sehe den Hund", "i see the dog")):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == answer + "\n"
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_the_command_draws_attention(folder):
    pytest.importorskip("matplotlib")
    done = run("translate", "m.safetensors", "--attention-plot", "a.png", cwd=folder, input="\ngeh !\ngeh !\n")
    assert done.stdout == "\ngo!\ngo!\n"
    assert "wrote a.png" in done.stderr
    assert (folder / "a.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ("nowhere.safetensors", "does not exist"),
        ("lm.safetensors", "holds a language model"),
        ("sizes.safetensors", "has no vocabularies"),
        ("m.safetensors nowhere.txt", "does not exist"),
        ("m.safetensors latin.txt", "is not UTF-8"),
        ("m.safetensors empty.txt", "is empty"),
        ("m.safetensors --beam-size 0", "0 is below 1"),
        ("m.safetensors --beam-size 2 --n-best 3", "at most beam_size"),
        ("m.safetensors --max-length 0", "0 is below 1"),
        ("m.safetensors --length-penalty -1", "outside"),
        ("m.safetensors --weights int4", "invalid choice"),
        ("plain.safetensors --attention-plot a.png", "no attention"),
    ],
)
def test_bad_input_to_the_command_is_one_line_and_status_2(folder, worded, args, sentence):
    if "--attention-plot" in args:
        pytest.importorskip("matplotlib")  # without it the command asks for that first
    rf.LanguageModel(rf.Vocab("abc"), hidden_size=3, seed=0).save(folder / "lm.safetensors")
    model_of().save(folder / "sizes.safetensors")
    rf.Seq2Seq(worded.source_vocab, worded.target_vocab, hidden_size=4, embedding_size=3, seed=0).save(
        folder / "plain.safetensors"
    )
    (folder / "latin.txt").write_bytes("Grüße\n".encode("latin-1"))
    (folder / "empty.txt").write_bytes(b"")
    done = run("translate", *args.split(), cwd=folder, input="geh !\n")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_invalid_utf_8_on_standard_input_names_the_line(folder):
    done = subprocess.run(
        [sys.executable, "-m", "rnnfast", "translate", "m.safetensors"], cwd=folder, input=b"geh !\nGr\xfc\xdfe\n",
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == b"go!\n"  # earlier translations stay
    assert b"line 2 of standard input is not UTF-8 (byte 0xfc at 2)" in done.stderr
