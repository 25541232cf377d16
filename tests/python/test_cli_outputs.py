"""Output of commands: nothing is lost, whatever happens to the streams and wherever the output goes."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import threading

import numpy as np
import pytest

import rnnfast as rf
from rnnfast import cli
from rnnfast.commands import streams

TEXT = "It would be remarkably convenient for the historian to travel back.\n" * 12
TRAIN = ["train", "text.txt", "--hidden-size", "6", "--batch-size", "2", "--num-steps", "9", "--threads", "1"]
posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices and closed descriptors of POSIX")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, with a text, an untrained model and a translator."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    rf.LanguageModel(rf.Vocab(TEXT), hidden_size=6, seed=0).save("m.safetensors")
    return tmp_path


@pytest.fixture
def call(folder, capfd, monkeypatch):
    """Runs the command line in this process, without drawing loss curves: (status, stdout, stderr)."""
    monkeypatch.setattr(rf.History, "plot", lambda history, path: None)

    def run(*args):
        status = cli.main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        return status, out, err

    return run


def refused(result, *words):
    """The status is 2, and one line gives the reason."""
    status, out, err = result
    assert status == 2, out + err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err
    return True


PROGRAM = [
    sys.executable,
    "-c",
    "import sys; sys.modules['matplotlib'] = None; import rnnfast.cli; sys.exit(rnnfast.cli.main())",
]


def program(*args, **options):
    """The command line in a process, without drawing loss curves."""
    return subprocess.run([*PROGRAM, *map(str, args)], timeout=300, **options)


@posix
@pytest.mark.fault("C1")
@pytest.mark.parametrize("gone", ["stdout", "stderr"])
def test_training_continues_when_nobody_reads_its_progress(folder, gone):
    read, write = os.pipe()
    os.close(read)
    json_option = ["--json"] if gone == "stderr" else []
    streams_ = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, gone: write}
    process = program(*TRAIN, "--epochs", 3, *json_option, cwd=folder, **streams_)
    os.close(write)
    assert process.returncode == 0
    assert process.stderr in (b"", None)
    rf.load("rnnfast-model.safetensors")
    assert not list(folder.glob("*checkpoint*"))
    assert len((folder / "rnnfast-model.history.jsonl").read_text().splitlines()) == 3
    if gone == "stderr":
        assert json.loads(process.stdout)["epochs"] == 3


@posix
@pytest.mark.fault("C1")
def test_a_command_that_only_prints_ends_quietly_like_cat_when_its_reader_has_gone(folder):
    process = subprocess.Popen(
        [*PROGRAM, "generate", "m.safetensors", "--length", "20000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=300) == 141


@pytest.mark.fault("C1")
def test_a_bar_whose_stream_breaks_does_not_stop_training(corpus, monkeypatch):
    class Broken:
        encoding, closed = "utf-8", False

        def isatty(self):
            return True

        def flush(self):
            pass

        def write(self, text):
            raise BrokenPipeError

    for stream in (Broken(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        for show in (True, None):
            model = rf.LanguageModel(corpus.vocab, hidden_size=3, seed=0)
            assert len(rf.fit(model, corpus, epochs=1, batch_size=2, progress=show)) == 1


@pytest.mark.fault("C2")
def test_a_second_training_does_not_overwrite_the_first_model(call, folder):
    assert call(*TRAIN, "--epochs", 1)[0] == 0
    first = (folder / "rnnfast-model.safetensors").read_bytes()
    assert refused(call(*TRAIN, "--epochs", 1, "--seed", 1), "exists already", "--force", "--resume", "--output")
    assert (folder / "rnnfast-model.safetensors").read_bytes() == first
    assert call(*TRAIN, "--epochs", 1, "--seed", 1, "--output", "other.safetensors")[0] == 0
    assert call(*TRAIN, "--epochs", 1, "--seed", 1, "--force")[0] == 0
    assert (folder / "rnnfast-model.safetensors").read_bytes() != first


@pytest.mark.fault("C2")
@pytest.mark.parametrize("companion", ["book.png", "book.history.jsonl", "book.checkpoint.safetensors"])
def test_no_file_next_to_the_model_is_overwritten(call, folder, companion):
    (folder / companion).write_text("mine")
    assert refused(
        call(*TRAIN, "--epochs", 1, "--output", "book.safetensors"), f"{companion} exists already", "--force"
    )
    assert (folder / companion).read_text() == "mine"


@pytest.mark.fault("C2", "C5")
@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("text.txt", "would overwrite the input text.txt"),
        ("./text.txt", "would overwrite the input text.txt"),
        ("link.txt", "would overwrite the input text.txt"),
        (".", "--output . is a folder"),
        ("models", "--output models is a folder"),
        ("new/", "--output new/ is a folder"),
        ("nowhere/model", "is not a folder"),
        ("text.txt/model", "is not a folder"),
        ("x" * 250, "name too long"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_training(call, folder, output, sentence):
    (folder / "models").mkdir()
    (folder / "link.txt").symlink_to("text.txt")
    before = sorted(folder.rglob("*"))
    for command in (["--force"], []):
        status, out, err = call(*TRAIN, "--epochs", 1, "--output", output, *command)
        assert refused((status, out, err.replace("File name", "name")), sentence)
        assert "epoch" not in out
    assert sorted(folder.rglob("*")) == before
    assert (folder / "text.txt").read_text() == TEXT


@posix
@pytest.mark.fault("C2")
def test_a_folder_that_cannot_be_written_to_is_found_before_training(call, folder):
    (folder / "closed").mkdir(mode=0o555)
    if os.access(folder / "closed", os.W_OK):
        pytest.skip("this user may write everywhere")
    assert refused(call(*TRAIN, "--output", "closed/model.safetensors"), "cannot be written", "ermission denied")


@pytest.mark.fault("C2")
def test_every_command_that_writes_refuses_the_same_outputs(call, folder):
    pytest.importorskip("matplotlib")
    (folder / "old.png").write_bytes(b"old")
    (folder / "old.safetensors").write_bytes(b"old")
    quantize = ["quantize", "m.safetensors", "--output"]
    assert refused(call(*quantize, "m.safetensors", "--force"), "would overwrite the input")
    assert refused(call(*quantize, "old.safetensors"), "exists already", "--force")
    assert refused(call(*quantize, "."), "is a folder")
    assert refused(call("train-translation", "text.txt", "--output", "text.txt"), "would overwrite the input")
    assert refused(call("train-translation", "text.txt", "--output", "old.safetensors"), "exists already")
    for command in (["stats", "text.txt", "--plot"], ["compare", "--plot"]):
        assert refused(call(*command, "old.png"), "exists already", "--force")
        assert refused(call(*command, "."), "is a folder")
        assert refused(call(*command, "picture.txt"), "not a picture format", ".png")
    assert refused(call("translate", "m.safetensors", "text.txt", "--attention-plot", "old.png"), "exists already")
    assert (folder / "old.png").read_bytes() == b"old"
    assert call(*quantize, "old.safetensors", "--force")[0] == 0
    rf.load("old.safetensors")
    assert call("stats", "text.txt", "--plot", "old.png", "--force")[0] == 0
    assert (folder / "old.png").read_bytes()[:4] == b"\x89PNG"


def open_and_read(path):
    with open(path, "rb") as file:
        return file.read()


@posix
@pytest.mark.fault("C2")
def test_devices_and_pipes_are_written_to_and_stay_what_they_are(call, folder):
    os.mkfifo("fifo")
    got = []
    reader = threading.Thread(target=lambda: got.append(open_and_read("fifo")))
    reader.start()
    assert call("quantize", "m.safetensors", "--output", "fifo")[0] == 0
    reader.join()
    (folder / "copy.safetensors").write_bytes(got[0])
    assert rf.load("copy.safetensors").config["weights"] == "int8"
    before = sorted(folder.iterdir())
    status, out, _ = call(*TRAIN, "--epochs", 1, "--output", "/dev/null")
    assert status == 0
    assert "wrote /dev/null" in out
    assert sorted(folder.iterdir()) == before
    assert not os.path.exists("/dev/null.history.jsonl")
    assert (folder / "fifo").is_fifo()
    assert not os.path.isfile("/dev/null")


@posix
@pytest.mark.fault("C2")
def test_a_model_may_go_to_standard_output_with_the_text_on_standard_error(folder):
    with open("redirected", "wb") as file:
        for stdout in (subprocess.PIPE, file):
            result = program(
                "quantize", "m.safetensors", "--output", "/dev/stdout", stdout=stdout, stderr=subprocess.PIPE
            )
            assert result.returncode == 0
            assert result.stderr.startswith(b"wrote /dev/stdout")
            if stdout == subprocess.PIPE:
                (folder / "piped").write_bytes(result.stdout)
    assert rf.load("piped").config == rf.load("redirected").config


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("--seed 18446744073709551616", ["--seed", "above 18446744073709551615"]),
        ("--threads 99999999999999", ["--threads", "above 4096"]),
        ("--epochs 0", ["--epochs", "below 1"]),
        ("--hidden-size 1000000000", ["weights needs", "GB of memory", "choose smaller sizes"]),
        ("--hidden-size 1000000000 --cell lstm --num-layers 3", ["GB of memory"]),
        ("--embedding-size 2000000000", ["GB of memory"]),
        ("--num-layers 2147483647", ["GB of memory"]),
        ("--hidden-size 99999999999999999999", ["--hidden-size", "above"]),
        ("--lr nan", ["--lr", "outside"]),
        ("--lr inf", ["--lr", "outside"]),
    ],
)
def test_numbers_that_cannot_be_are_refused_in_one_line(call, args, words):
    assert refused(call("train", "text.txt", *args.split()), *words)


@pytest.mark.fault("C5")
def test_the_largest_seed_works(call):
    assert call(*TRAIN, "--epochs", 1, "--seed", 2**64 - 1)[0] == 0
    assert call("generate", "rnnfast-model.safetensors", "--length", 2, "--seed", 2**64 - 1)[0] == 0


@pytest.mark.fault("C5")
def test_a_translator_too_large_for_the_machine_is_refused_in_one_line():
    with pytest.raises(MemoryError, match="GB of memory"):
        rf.Seq2Seq(9, 9, hidden_size=10**9)


@pytest.mark.fault("C5")
def test_a_text_given_as_a_model_is_reported_as_a_text(call):
    assert refused(call("eval", "text.txt", "text.txt"), "text.txt: looks like text, not a safetensors file")
    with pytest.raises(rf.FileFormatError, match="looks like text"):
        rf.load("text.txt")


@pytest.mark.fault("C6")
def test_json_has_no_infinity_and_no_nan():
    value = {"a": float("inf"), "b": [float("nan"), 1.5, np.float64("-inf")], "c": "Infinity", "d": (1, {"e": np.nan})}
    assert json.loads(streams.to_json(value)) == {
        "a": None,
        "b": [None, 1.5, None],
        "c": "Infinity",
        "d": [1, {"e": None}],
    }
    assert "Infinity" not in streams.to_json({"a": float("inf")})


@pytest.mark.fault("C6")
def test_a_perplexity_that_is_not_finite_is_null(call):
    rf.NGram(1, "none").fit(rf.Corpus.from_text("aaaab\n" * 3, tokenizer="whitespace")).save_arpa("m.arpa")
    status, out, _ = call("eval", "m.arpa", "text.txt", "--json")
    assert status == 0
    assert json.loads(out, parse_constant=pytest.fail)["perplexity_without_oov"] is None or "null" in out


@posix
@pytest.mark.fault("C6")
def test_a_closed_standard_error_does_not_mix_text_into_json(folder):
    command = shlex.join([*PROGRAM, "eval", "m.safetensors", "text.txt", "--json"]) + " 2>&-"
    result = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, timeout=300)
    assert result.returncode == 0
    assert json.loads(result.stdout)["tokens"] == len(TEXT) - 1


@posix
@pytest.mark.fault("C6")
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_training_works_with_closed_streams(folder, closed):
    command = shlex.join([*PROGRAM, *TRAIN, "--epochs", "1"]) + " " + closed
    result = subprocess.run(["sh", "-c", command], timeout=300, capture_output="2" not in closed)
    assert result.returncode == 0, result.stderr
    rf.load("rnnfast-model.safetensors")
    for file in folder.iterdir():
        assert b"perplexity 1" not in file.read_bytes(), "text went into a file that got the number of a closed stream"


@pytest.mark.fault("C7")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_streams_that_are_not_utf_8_lose_nothing(call, folder, monkeypatch, encoding):
    text = "世🙂界 Grüße\n" * 30
    (folder / "wörld.txt").write_text(text, encoding="utf-8")
    rf.LanguageModel(rf.Vocab(text), hidden_size=6, seed=0).save("世.safetensors")

    def printed(*args):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        assert call(*args)[0] == 0
        return stream.buffer.getvalue().decode(encoding)

    for args in (
        ["generate", "世.safetensors", "--prompt", "Grüße 世", "--length", 30],
        ["stats", "wörld.txt", "--tokenizer", "char"],
        [*TRAIN[:1], "wörld.txt", *TRAIN[2:], "--epochs", 1, "--output", "世界.safetensors"],
    ):
        assert r"\u4e16" in printed(*args)
    rows = json.loads(printed("stats", "wörld.txt", "--tokenizer", "char", "--top", 20, "--json"))["unigrams"]
    assert {"世", "🙂"} <= {row["tokens"][0] for row in rows}


@pytest.mark.fault("C11")
def test_the_bare_command_prints_help(call):
    status, out, err = call()
    assert (status, err) == (0, "")
    assert out.startswith("usage: rnnfast")
    assert "train-translation" in out
    assert "141" in out  # statuses are explained


def parsers():
    whole = cli.parser()
    commands = next(action for action in whole._actions if action.dest == "command")
    return {"": whole, **commands.choices}


@pytest.mark.fault("C11")
@pytest.mark.parametrize("command", parsers())
def test_every_option_has_a_help_text_and_large_commands_have_groups(command):
    parser = parsers()[command]
    for action in parser._actions:
        assert action.help, f"{command} {action.option_strings or action.dest}"
        assert "none" not in str(action.help).lower().split("default:")[-1].split(), action.help
    assert parser.format_help()
    if len(parser._actions) > 6:
        titles = {group.title for group in parser._action_groups if group._group_actions}
        assert len(titles) >= 3
    if command.startswith("train"):
        assert {"data", "model", "optimization", "output", "run"} <= titles


def test_the_examples_of_the_help_are_commands_that_read_what_earlier_ones_wrote():
    lines = [line.strip() for line in cli.parser().format_help().splitlines() if line.startswith("  rnnfast ")]
    assert len(lines) == 8
    written = set()
    for line in lines:
        args = cli.parser().parse_args(shlex.split(line.split("   ")[0].split(" < ")[0])[1:])
        if getattr(args, "model", None) is not None:
            assert args.model in written, line
        written.add(getattr(args, "output", None))


@pytest.mark.fault("C11")
@pytest.mark.parametrize(
    ("args", "suggestion"),
    [
        ("traim text.txt", "did you mean train?"),
        ("quantise m.safetensors", "did you mean quantize?"),
        ("train text.txt --hiden-size 8", "unknown option --hiden-size; did you mean --hidden-size?"),
        ("train --epoch-s=3", "did you mean --epochs?"),
        ("train -hidden-size 3", "did you mean --hidden-size?"),
        ("eval m.safetensors --jsno", "did you mean --json?"),
        ("train text.txt --cell ltsm", "did you mean lstm?"),
        ("train text.txt --preset zaremba-smal", "did you mean zaremba-small?"),
        ("train text.txt --nothing-like-it", "unknown option --nothing-like-it ("),
        ("--verson", "did you mean --version?"),
    ],
)
def test_what_was_probably_meant_is_suggested(call, args, suggestion):
    assert refused(call(*args.split()), suggestion)


@pytest.mark.fault("C11")
def test_values_that_look_like_options_are_values(call):
    assert call("generate", "m.safetensors", "--prompt=--It would", "--length", 1)[0] == 0
    assert call("generate", "m.safetensors", "--prompt", "-- It would", "--length", 1)[0] == 0
    assert refused(call("generate", "m.safetensors", "--temperature", "-1"), "outside")
    assert call("stats", "--", "text.txt")[0] == 0
    assert call("train", "--hel")[0] == 0  # an unambiguous prefix


@pytest.mark.fault("C12")
@pytest.mark.parametrize("name", ["m.lm", "m.arpa", "m.arpa.gz", "m.lm.gz", "m"])
def test_n_gram_files_are_recognized_by_their_content(call, folder, name):
    model = rf.NGram(2).fit(rf.Corpus.from_text(TEXT, tokenizer="whitespace"))
    model.save_arpa("m.arpa.gz" if name.endswith("gz") else "m.arpa")
    (folder / ("m.arpa.gz" if name.endswith("gz") else "m.arpa")).rename(name)
    assert call("eval", name, "text.txt")[1].startswith("perplexity")
    assert call("generate", name, "--prompt", "It", "--length", 1, "--temperature", 0)[1] == "It would\n"
    assert refused(call("translate", name, "text.txt"), "holds an n-gram model")


@pytest.mark.fault("C12")
def test_a_dash_is_standard_input(call, monkeypatch):
    def piped(*args):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
        status, out, err = call(*args)
        assert status == 0, err
        return out

    for command in (["eval", "m.safetensors"], ["stats"]):
        assert piped(*command, "-", "--json") == call(*command, "text.txt", "--json")[1]
    assert "standard input: 816 char tokens" in piped("train", "-", *TRAIN[2:], "--epochs", 1)


@pytest.mark.fault("C10")
def test_a_picture_without_an_extension_is_the_announced_file(call, folder):
    pytest.importorskip("matplotlib")
    status, out, _ = call("stats", "text.txt", "--plot", "pictures/curve")
    assert status == 0
    assert "wrote pictures/curve.png" in out
    assert [file.name for file in (folder / "pictures").iterdir()] == ["curve.png"]
    assert call("stats", "text.txt", "--plot", "curve.svg")[0] == 0
    assert "<svg" in (folder / "curve.svg").read_text()


def test_lines_are_scored_one_by_one(call, folder):
    arpa = "\\data\\\nngram 1=5\nngram 2=4\n\n\\1-grams:\n-1.0\t<unk>\n-99\t<s>\t-0.3\n-0.8\t</s>\n-0.5\ta\t-0.2\n-0.6\tb\t-0.1\n\n"
    arpa += "\\2-grams:\n-0.2\t<s> a\n-0.3\ta b\n-0.4\tb </s>\n-0.7\tb a\n\n\\end\\\n"
    (folder / "m.lm").write_text(arpa)
    (folder / "lines.txt").write_text("a b\n\na\n")
    status, out, _ = call("eval", "m.lm", "lines.txt", "--per-line")
    rows = [line.split("\t") for line in out.splitlines()]
    assert status == 0
    assert [row[2:] for row in rows] == [["3", "a b"], ["1", ""], ["2", "a"]]
    expected = [-0.9, -1.1, -1.2]  # log10: kenlm's scores of these sentences
    assert [float(row[0]) / np.log(10) for row in rows] == pytest.approx(expected, abs=1e-4)
    assert float(rows[0][1]) == pytest.approx(10**0.3, abs=1e-4)
    objects = [json.loads(line) for line in call("eval", "m.lm", "lines.txt", "--per-line", "--json")[1].splitlines()]
    assert objects[0]["log_prob"] == pytest.approx(-0.9 * np.log(10), abs=1e-6)
    assert [each["text"] for each in objects] == ["a b", "", "a"]
    objects = call("eval", "m.safetensors", "text.txt", "--per-line", "--json")[
        1
    ].splitlines()  # a network of characters
    assert [json.loads(line)["tokens"] for line in objects] == [68] * 12


@pytest.mark.fault("C12")
@pytest.mark.parametrize("tokenizer", ["word", "whitespace", "char"])
def test_a_space_at_the_end_of_a_prompt_is_not_doubled(call, tokenizer):
    vocab = rf.Corpus.from_text(TEXT, tokenizer=tokenizer).vocab
    rf.LanguageModel(vocab, hidden_size=6, seed=0).save("w.safetensors")
    for options in (["--temperature", 1, "--seed", 4], ["--beam-size", 2], ["--num-samples", 1]):
        with_blank = call("generate", "w.safetensors", "--prompt", "It would ", "--length", 3, "--no-unk", *options)[1]
        without = call("generate", "w.safetensors", "--prompt", "It would", "--length", 3, "--no-unk", *options)[1]
        assert "  " not in with_blank or tokenizer == "char"
        if tokenizer != "char":  # before a full stop the prompt's blank stays
            assert with_blank.replace("would ", "would") == without.replace("would ", "would")


def test_generation_takes_samples_stops_and_refusals(call, folder):
    rf.NGram(2).fit(rf.Corpus.from_text(TEXT, tokenizer="whitespace")).save_arpa("m.arpa")
    prompt = ["generate", "m.arpa", "--prompt", "It", "--length", 6]
    assert (
        call(*prompt, "--temperature", 0, "--stop", "nowhere", "--stop", " convenient")[1] == "It would be remarkably\n"
    )
    texts = call(*prompt, "--num-samples", 3)[1].rstrip("\n").split("\n---\n")
    assert len(texts) == 3
    told = json.loads(call(*prompt, "--num-samples", 3, "--json")[1])
    assert told == {"prompt": "It", "texts": texts}
    assert "<unk>" not in call("generate", "m.safetensors", "--prompt", "It", "--no-unk", "--temperature", 9)[1]
    words = call("generate", "m.safetensors", "--prompt", "It", "--no-repeat-ngram", 2, "--length", 90)[1].rstrip("\n")
    assert len({words[i : i + 2] for i in range(len(words) - 1)}) == len(words) - 1 or "<unk>" in words
    assert refused(call(*prompt, "--num-samples", 2, "--beam-size", 2), "leave out --num-samples")


@pytest.mark.fault("C10")
@pytest.mark.filterwarnings("error", "ignore:no installed font has the characters 中文; the picture shows boxes")
def test_labels_are_drawn_literally_and_characters_without_a_font_give_one_warning_at_most(folder):
    pytest.importorskip("matplotlib")
    from matplotlib.cbook import is_math_text

    from rnnfast.plot import literal

    names = ["$x_$", "a $ b", r"\$", "中文", "$$"]
    classifier = rf.SequenceClassifier("gru", 3, epochs=1, seed=0).fit(["ab", "ba", "cc", "cb", "a"], names)
    figure = classifier.plot_confusion(["ab", "ba"], ["$x_$", "中文"], "confusion.png")
    shown = {label.get_text() for label in figure.axes[0].get_xticklabels()}
    assert shown == {literal(name) for name in names}
    for name in names:
        text, is_formula = type(figure.axes[0].title)(0, 0, "")._preprocess_math(literal(name))
        assert (text, bool(is_formula)) == (name, False)
    assert is_math_text("$x_$")
    assert (folder / "confusion.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.fault("C10", "C13")
def test_every_plotting_function_makes_its_folder_and_the_file_it_names(corpus, folder):
    pytest.importorskip("matplotlib")
    model = rf.LanguageModel(corpus.vocab, hidden_size=3, seed=0)
    series = np.sin(np.arange(90) / 5)
    flow = rf.gradient_flow(model, next(iter(rf.batches(corpus, batch_size=2, num_steps=5))))
    vocab = rf.Vocab(["the"], reserved=["<pad>", "<bos>", "<eos>"], tokenizer="word")
    seq2seq = rf.Seq2Seq(vocab, vocab, hidden_size=4, attention="dot", seed=0)
    classifier = rf.SequenceClassifier(hidden_size=4, epochs=1, seed=0).fit(["ab", "ba"] * 4, ["x", "y"] * 4)
    draw = {
        "flow": flow.plot,
        "history": rf.History([{"epoch": 1, "train_perplexity": 9.5, "lr": 0.1, "grad_norm": 1.0}]).plot,
        "series": lambda path: rf.LinearAR(2).fit(series).plot(series, path),
        "fan": rf.Forecaster(horizon=3, epochs=1, seed=0).fit(series).plot,
        "unrolled": rf.unroll(model, "the time").plot,
        "exploding": rf.study.exploding_gradients(0.5, num_steps=5, updates=2).plot,
        "attention": rf.translate(seq2seq, ["the"], attention=True)[0][0].plot,
        "confusion": lambda path: classifier.plot_confusion(["ab", "ba"], ["x", "y"], path),
    }
    for name, plot in draw.items():
        figure = plot(f"new/{name}/a.png")
        assert (folder / "new" / name / "a.png").read_bytes()[:4] == b"\x89PNG"
        assert figure._repr_png_()[:4] == b"\x89PNG"  # what a notebook displays
        with pytest.raises(ValueError, match="not a picture format"):
            plot(f"{name}.docx")


def test_the_most_frequent_tokens_make_the_vocabulary(call):
    words = ["--tokenizer", "word", "--max-vocab", 4]
    assert call(*TRAIN, "--epochs", 1, *words)[0] == 0
    assert len(rf.load("rnnfast-model.safetensors").vocab) == 5
    assert json.loads(call("stats", "text.txt", *words, "--json")[1])["vocabulary"] == 4
    assert refused(
        call(*TRAIN[:2], "--from", "m.safetensors", "--output", "b.safetensors", "--max-vocab", 4), "max-vocab"
    )
