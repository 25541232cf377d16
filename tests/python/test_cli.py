"""The command line as a user meets it."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest

import rnnfast as rf
from rnnfast import cli

TEXT = "It would be remarkably convenient for the historian to travel back.\n" * 120
SMALL = ["--hidden-size", "24", "--batch-size", "8", "--num-steps", "10", "--lr", "0.01"]


def run(*args, cwd, env=None, input=None):
    """The command line in this process, which needs no start-up; with ``env`` or ``input``, in a new process."""
    if env is not None or input is not None:
        program = [sys.executable, "-m", "rnnfast", *map(str, args)]
        return subprocess.run(program, cwd=cwd, capture_output=True, text=True, env=env, input=input)
    out, err, before = io.StringIO(), io.StringIO(), os.getcwd()
    os.chdir(cwd)
    try:
        with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("always")
            status = cli.main([str(arg) for arg in args])
    finally:
        os.chdir(before)
    return subprocess.CompletedProcess(args, status, out.getvalue(), err.getvalue())


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.mark.parametrize("tokenizer", ["char", "word"])
def test_train_eval_and_generate_work_together(text, tokenizer):
    train = run("train", "text.txt", *SMALL, "--epochs", 4, "--tokenizer", tokenizer, "--json", cwd=text)
    assert train.returncode == 0, train.stderr
    result = json.loads(train.stdout.splitlines()[-1])
    assert result["train_perplexity"] < 8
    assert result["valid_perplexity"] > 1
    assert result["tokens_per_second"] > 0
    assert result["parameters"] == rf.load(text / result["model"]).num_parameters
    assert "a sample" in train.stderr
    history = [json.loads(line) for line in (text / "rnnfast-model.history.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in history] == [1, 2, 3, 4]
    assert history[-1]["train_perplexity"] < history[0]["train_perplexity"]
    assert not list(text.glob("*checkpoint*"))

    evaluation = run("eval", result["model"], "text.txt", "--json", cwd=text)
    assert json.loads(evaluation.stdout)["perplexity"] < 8
    one, two = (run("generate", result["model"], "--prompt", "It would", "--seed", 3, cwd=text) for _ in range(2))
    assert one.stdout == two.stdout
    assert one.stdout.startswith("It would")
    assert len(one.stdout) > 100


def test_without_a_file_python_s_own_help_texts_are_read(tmp_path):
    pytest.importorskip("pydoc_data.topics")
    result = run("train", *SMALL, "--epochs", 1, "--batch-size", 128, "--num-steps", 50, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"Python {platform.python_version()}'s help texts" in result.stdout
    assert "test perplexity" in result.stdout


def test_stats_counts_and_draws(text):
    drawn = importlib.util.find_spec("matplotlib") is not None
    result = run("stats", "text.txt", "--top", 3, "--json", *(["--plot", "zipf.png"] if drawn else []), cwd=text)
    assert result.returncode == 0, result.stderr
    counted = json.loads(result.stdout)
    assert (counted["tokens"], counted["vocabulary"]) == (13 * 120, 13)
    assert counted["unigrams"][0]["count"] == 120
    assert {"tokens": ["It", "would", "be"], "count": 120} in counted["trigrams"]
    assert len(counted["bigrams"]) == 3
    assert "trigrams, the most frequent" in run("stats", "text.txt", "--tokenizer", "char", cwd=text).stdout
    if drawn:
        assert (text / "zipf.png").read_bytes()[:4] == b"\x89PNG"


def test_generate_takes_top_p_and_beams(text):
    rf.LanguageModel(rf.Vocab(TEXT), hidden_size=8, seed=0).save(text / "m.safetensors")
    for options in (["--top-p", 0.5], ["--beam-size", 3]):
        result = run("generate", "m.safetensors", "--prompt", "It", "--length", 5, *options, cwd=text)
        assert len(result.stdout.rstrip("\n")) in (6, 7), result.stderr


def test_generate_names_the_unknown_tokens_of_the_prompt(text):
    rf.LanguageModel(rf.Vocab(TEXT), hidden_size=8, seed=0).save(text / "m.safetensors")
    result = run("generate", "m.safetensors", "--prompt", "Zut! It", "--length", 5, cwd=text)
    assert result.returncode == 0
    assert result.stdout.startswith("Zut! It")
    assert result.stderr == "note: the model does not know 'Z', '!' and reads <unk> instead\n"
    assert run("generate", "m.safetensors", "--prompt", "It", "--length", 5, cwd=text).stderr == ""


def test_quantize_writes_a_smaller_file_that_generates(text):
    rf.LanguageModel(rf.Vocab(TEXT), hidden_size=64, seed=0).save(text / "m.safetensors")
    result = run("quantize", "m.safetensors", "--weights", "int8", "--output", "small.safetensors", "--json", cwd=text)
    sizes = json.loads(result.stdout.splitlines()[-1])
    assert sizes["bytes"] == (text / "small.safetensors").stat().st_size < sizes["bytes_before"] / 2
    assert run("generate", "small.safetensors", "--prompt", "It", "--length", 5, cwd=text).returncode == 0


def test_eval_and_generate_read_arpa_files(text):
    corpus = rf.Corpus.from_text(TEXT, tokenizer="whitespace")
    model = rf.NGram(3).fit(corpus)
    model.save_arpa(text / "m.arpa")
    result = json.loads(run("eval", "m.arpa", "text.txt", "--json", cwd=text).stdout)
    assert result["perplexity"] == pytest.approx(rf.evaluate(model, corpus).perplexity, rel=1e-5)
    options = ["--prompt", "It", "--length", 4, "--temperature", 0]
    assert run("generate", "m.arpa", *options, cwd=text).stdout == "It would be remarkably convenient\n"


def test_info_reports_what_runs(tmp_path):
    info = json.loads(run("info", "--json", cwd=tmp_path).stdout)
    assert info["isa_active"] in info["isas_supported"] + info["isas_on_request"]
    assert set(info["isas_supported"]) <= set(info["isas_built"])
    expected = {"baseline": "unfused", "amx_bf16": "fused, bf16 in tiles"}.get(info["isa_active"], "fused")
    assert info["bits"] == expected
    assert info["version"] == rf.__version__
    assert "isa_active" in run("info", cwd=tmp_path).stdout


# The command line with a checkpoint after every step; killed, as by kill -9, at step KILL_AT, or soon after from another thread
# and so perhaps in the middle of writing a file. -1: never.
KILLED = """
import os, signal, sys, threading, time, rnnfast.cli, rnnfast.train
from rnnfast import Callback
fit, left, delay = rnnfast.train.fit, int(os.environ["KILL_AT"]), float(os.environ["KILL_AFTER"])

def kill():
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)

class Killer(Callback):
    def on_step(self, record):
        global left
        if left == 0:
            threading.Thread(target=kill).start() if delay else kill()
        left -= 1

rnnfast.train.fit = lambda *a, **k: fit(*a, **{**k, "checkpoint_every": 0, "callbacks": [Killer()]})
sys.modules["matplotlib"] = None
sys.exit(rnnfast.cli.main(sys.argv[1:]))
"""


def train_and_kill(command, options, folder, *, steps, delays):
    """Trains undisturbed to whole.safetensors, and to cut.safetensors in as many processes as ``steps``, each killed at that step
    of its own, and one more."""

    def start(*args, step=-1, delay=0.0):
        return subprocess.run(
            [sys.executable, "-c", KILLED, command, *map(str, args)], cwd=folder, capture_output=True, text=True, timeout=600,
            env={**os.environ, "KILL_AT": str(step), "KILL_AFTER": str(delay)},
        )  # fmt: skip

    checkpoint = folder / "cut.checkpoint.safetensors"

    def begin():
        return (
            ["--resume", checkpoint.name]
            if checkpoint.exists()
            else [*options, "--output", "cut.safetensors", "--force"]
        )

    assert start(*options, "--output", "whole.safetensors").returncode == 0
    for step, delay in zip(steps, delays):
        result = start(*begin(), step=step, delay=delay)
        assert result.returncode == -signal.SIGKILL, result.stderr
        if checkpoint.exists():
            rf.load(checkpoint)  # never half a file
    result = start(*begin())
    assert result.returncode == 0, result.stderr


def assert_the_same(folder, epochs):
    """The killed run's model is the undisturbed one's, and its log has every epoch once."""
    whole, cut = (rf.load(folder / f"{name}.safetensors").state_dict() for name in ("whole", "cut"))
    assert all(np.array_equal(cut[name], whole[name]) for name in whole)
    lines = (folder / "cut.history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, epochs + 1))
    assert not list(folder.glob("*.tmp-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.fault("C15")
@pytest.mark.parametrize(
    ("kills", "cell"),
    [(3, "lstm"), pytest.param(20, "gru", marks=pytest.mark.slow), pytest.param(20, "lstm", marks=pytest.mark.slow)],
)
def test_kills_at_random_steps_change_no_bit(text, kills, cell):
    random, epochs = np.random.default_rng(kills), 2 * kills
    options = ["text.txt", *SMALL, "--max-tokens", 2000, "--epochs", epochs, "--cell", cell, "--embedding-size", 8]
    options += ["--dropout", 0.1, "--keep-best", "--schedule", "plateau:decay=0.7,patience=1", "--threads", 1]
    steps = [0, *random.integers(1, 22, kills - 1)]  # an epoch has 22: no kill comes too late
    train_and_kill("train", options, text, steps=steps, delays=random.choice([0, 0, 0.0005, 0.002, 0.01], kills))
    assert_the_same(text, epochs)


def test_presets_are_defaults_that_other_options_change(text):
    for preset in rf.presets.names():
        settings = rf.presets.load(preset)
        embedding = 8 if settings.get("tie_weights") else 6
        options = [
            "--hidden-size",
            8,
            "--embedding-size",
            embedding,
            "--epochs",
            2,
            "--batch-size",
            4,
            "--num-steps",
            5,
        ]
        options += ["--cutoffs", "4"] if "cutoffs" in settings else []
        result = run("train", "text.txt", "--preset", preset, *options, "--json", "--force", cwd=text)
        assert result.returncode == 0, result.stderr
        model = rf.load(text / "rnnfast-model.safetensors")
        assert model.config["cell"] == rf.presets.load(preset)["cell"]
        assert model.config["num_layers"] == rf.presets.load(preset)["num_layers"]
        assert model.config["hidden_size"] == 8
        assert json.loads(result.stdout)["epochs"] == 2


@pytest.mark.parametrize(
    ("option", "sentence"), [("--dynamic", "unknown dynamic 'sdg'"), ("--cache", "unknown cache 'sdg'")]
)
def test_how_a_model_adapts_is_checked_before_it_trains(text, option, sentence):
    result = run("train", "text.txt", *SMALL, "--epochs", 1, option, "sdg", cwd=text)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "epoch" not in result.stderr
    assert not list(text.glob("*.safetensors"))


def test_none_takes_back_what_a_preset_says_of_adapting(text):
    sizes = ["--hidden-size", 8, "--embedding-size", 8, "--epochs", 1, "--batch-size", 4, "--num-steps", 5]
    result = run("train", "text.txt", "--preset", "hour-ptb", *sizes, "--dynamic", "none", "--json", cwd=text)
    assert result.returncode == 0, result.stderr
    assert "adapted_perplexity" not in json.loads(result.stdout)


def test_presets_name_options_that_exist():
    from rnnfast.commands.train import _DEFAULTS
    from rnnfast.train.schedules import schedule_named

    for preset in rf.presets.names():
        settings = rf.presets.load(preset)
        assert set(settings) <= set(_DEFAULTS)
        assert schedule_named(settings.get("schedule", "constant"))


def test_the_penn_treebank_is_a_data_set_of_three_parts(data_folder, text):
    options = ["--preset", "zaremba-small", "--hidden-size", 8, "--embedding-size", 4, "--num-layers", 1]
    result = run("train", "--data", "ptb", *options, "--max-tokens", 9_000, "--epochs", 1, "--json", cwd=text)
    assert result.returncode == 0, result.stderr
    assert "whitespace tokens, vocabulary of 10,000" in result.stderr
    result = run("train", "text.txt", "--data", "ptb", "--force", cwd=text)
    assert (result.returncode, "give one of them" in result.stderr) == (2, True)


def test_tensorboard_early_stopping_and_the_best_epoch_from_the_command_line(text):
    options = [*SMALL[:-1], "0.3", "--epochs", 40, "--patience", 2, "--keep-best", "--tensorboard", "curves"]
    result = run("train", "text.txt", *options, "--json", cwd=text)
    assert result.returncode == 0, result.stderr
    assert list((text / "curves").glob("events.out.tfevents.*"))
    told = json.loads(result.stdout)
    assert told["epochs"] < 40
    assert "no lower validation perplexity for 2 epochs" in told["stopped"]
    assert "stopped: no lower" in result.stderr


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupt_saves_and_says_how_to_resume(text, name, status):
    process = subprocess.Popen(
        [sys.executable, "-m", "rnnfast", "train", "text.txt", *SMALL, "--epochs", "5000"],
        cwd=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert "rnnfast train --resume rnnfast-model.checkpoint.safetensors" in errors
    assert "Traceback" not in errors
    rf.load(text / "rnnfast-model.checkpoint.safetensors")


def bad_files(folder):
    (folder / "empty.txt").write_text("")
    (folder / "binary.txt").write_bytes(b"\x7fELF\0\0")
    (folder / "latin.txt").write_bytes("Grüße".encode("latin-1") * 100)
    (folder / "short.txt").write_text("too short")
    model = rf.LanguageModel(rf.Vocab(TEXT), hidden_size=8, seed=0)
    model.save(folder / "good.safetensors")
    rf.Seq2Seq(9, 9, embedding_size=2, hidden_size=3, seed=0).save(folder / "translator.safetensors")
    good = (folder / "good.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(good[:-100])
    (folder / "long.safetensors").write_bytes(good + b"x")
    (folder / "version.safetensors").write_bytes(good.replace(b'"format_version":"1"', b'"format_version":"7"'))
    (folder / "kind.safetensors").write_bytes(good.replace(b"language_model", b"languagemodel!"))
    (folder / "sizes.safetensors").write_bytes(good.replace(rb"hidden_size\": 8", rb"hidden_size\": 9"))
    tensors, metadata = rf._core.read_safetensors(str(folder / "good.safetensors"))
    huge = json.dumps({**json.loads(metadata["config"]), "hidden_size": 10**9})
    rf._core.write_safetensors(str(folder / "huge.safetensors"), tensors, {**metadata, "config": huge})
    (folder / "cell.safetensors").write_bytes(good.replace(rb"\"rnn\"", rb"\"nnr\""))
    nan = bytearray(good)
    nan[-4:] = np.float32(np.nan).tobytes()
    (folder / "nan.safetensors").write_bytes(nan)
    rf._core.write_safetensors(str(folder / "other.safetensors"), {"w": np.zeros(3, np.float32)}, {})


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ("train nowhere.txt", "does not exist"),
        ("train empty.txt", "is empty"),
        ("train binary.txt", "looks binary"),
        ("train latin.txt", "is not UTF-8"),
        ("train short.txt", "too few"),
        ("train text.txt --batch-size 9000", "smaller batch_size"),
        ("train text.txt --cell grru", "invalid choice"),
        ("train text.txt --hidden-size 0", "0 is below 1"),
        ("train text.txt --hidden-size x", "not an integer"),
        ("train text.txt --lr -1", "outside"),
        ("train text.txt --dropout 1", "outside"),
        ("train text.txt --output nowhere/model", "is not a folder"),
        ("train --resume nowhere.safetensors", "does not exist"),
        ("train --resume good.safetensors", "not a checkpoint"),
        ("train text.txt --optimizer sgd --lr 1e6 --cell rnn_relu --clip-norm 0", "try a smaller lr"),
        ("train text.txt --schedule sine", "expected one of constant"),
        ("train text.txt --schedule cosine:warmup=99", "does not end in 12"),
        ("train text.txt --preset gpt", "invalid choice"),
        ("eval nowhere.safetensors text.txt", "does not exist"),
        ("eval good.safetensors nowhere.txt", "does not exist"),
        ("eval text.txt text.txt", "not a safetensors file"),
        ("eval cut.safetensors text.txt", "truncated"),
        ("eval long.safetensors text.txt", "do not belong to a tensor"),
        ("eval version.safetensors text.txt", "update rnnfast"),
        ("eval kind.safetensors text.txt", "update rnnfast"),
        (
            "eval translator.safetensors text.txt",
            "holds a translator, for `rnnfast translate`; expected a language model",
        ),
        ("generate translator.safetensors", "holds a translator, for `rnnfast translate`; expected a language model"),
        ("eval sizes.safetensors text.txt", "rnn.weight_ih_l0 has shape [8, 25], expected [9, 25]"),
        ("eval huge.safetensors text.txt", "expected [1000000000, 25]"),
        ("eval cell.safetensors text.txt", "unknown cell 'nnr': expected one of"),
        ("eval nan.safetensors text.txt", "NaN or infinity"),
        ("eval other.safetensors text.txt", "not a model of rnnfast"),
        ("generate good.safetensors --prompt= ", "at least one to start from"),
        ("generate good.safetensors --temperature -1", "outside"),
        ("generate good.safetensors --top-k -1", "below 0"),
        ("generate good.safetensors --top-p 2", "top_p is 2"),
        ("stats nowhere.txt", "does not exist"),
        ("train text.txt --threads 0", "0 is below 1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(text, args, sentence):
    bad_files(text)
    result = run(
        *args.split(),
        *(SMALL if "train text" in args and "size" not in args and "lr" not in args else []),
        cwd=text,
    )
    assert result.returncode == 2, result.stdout + result.stderr
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(text.glob("*.tmp-*"))


def test_an_unknown_instruction_set_is_one_line_and_status_2(tmp_path):
    result = run("info", cwd=tmp_path, env={**os.environ, "RNNFAST_ISA": "avx1"})
    assert result.returncode == 2
    assert "choose one of" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_full_disk_leaves_the_old_model(text):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    model = rf.LanguageModel(4, hidden_size=3, seed=0)
    with pytest.raises(OSError, match="cannot be written"):
        model.save("/dev/nowhere/model.safetensors")


def test_the_reader_may_stop_early(text):
    model = rf.LanguageModel(rf.Vocab(TEXT), hidden_size=8, seed=0)
    model.save(text / "m.safetensors")
    process = subprocess.Popen(
        [sys.executable, "-m", "rnnfast", "generate", "m.safetensors", "--length", "20000"],
        cwd=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.read(10)
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)


def test_help_lists_every_command_in_a_group_with_examples_and_is_what_no_command_prints(capsys):
    from rnnfast.cli import _GROUPS, main, name_of, parser

    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert main([]) == 0
    assert capsys.readouterr().out == text
    listed = text.partition("commands:\n")[2].partition("\nexamples:")[0]
    commands = [name_of(command) for group in _GROUPS.values() for command in group]
    assert re.findall(r"^    ([\w-]+) ", listed, re.MULTILINE) == commands
    assert re.findall(r"^  (\w.*)$", listed, re.MULTILINE) == list(_GROUPS)
    known = next(a for a in parser()._actions if a.dest == "command").choices
    assert sorted(commands) == sorted(known)
    examples = re.findall(r"^  rnnfast ([\w-]+) (.*?)(?:   |$)", text, re.MULTILINE)
    assert len(examples) >= 8
    for command, rest in examples:  # each is a command line that the parser takes
        known[command].parse_args(shlex.split(rest.partition(" < ")[0]))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["traim", "a.txt"], "train"),
        (["explainn"], "explain"),
        (["train", "a.txt", "--hiden-size", "3"], "--hidden-size"),
        (["explain", "m", "--txt", "a"], "--text"),
        (["train", "a.txt", "--cell", "ltsm"], "lstm"),
        (["--versoin"], "--version"),
    ],
)
def test_a_misspelt_word_gets_a_suggestion(words, meant, capsys):
    from rnnfast.cli import main

    assert main(words) == 2
    message = capsys.readouterr().err
    assert f"did you mean {meant}?" in message
    assert message.count("\n") == 1


def test_completion_scripts_name_every_command_and_option_or_the_extra_to_install(capsys):
    from rnnfast.cli import main, parser

    try:
        import shtab  # noqa: F401
    except ImportError:
        assert main(["--print-completion", "bash"]) == 2
        assert "pip install 'rnnfast[completion]'" in capsys.readouterr().err
    else:
        for shell in ("bash", "zsh", "tcsh"):
            assert main(["--print-completion", shell]) == 0
            script = capsys.readouterr().out
            known = next(a for a in parser()._actions if a.dest == "command").choices
            for name, command in known.items():
                assert name in script
                options = [o for action in command._actions for o in action.option_strings if o.startswith("--")]
                # tcsh has no place for the options of a command
                assert all(option in script for option in options) or shell == "tcsh"
