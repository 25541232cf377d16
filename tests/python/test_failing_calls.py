"""Every open, write, fsync, close and rename of a written file fails once: the path has the whole old or the whole new file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# Runs in its own process, with failing_calls.c before libc: one writer, every call, every kind of failure.
DRIVER = '''
import contextlib, ctypes, errno, io, os, sys
from pathlib import Path
import numpy as np
import rnnfast as rf
from rnnfast import files
from rnnfast.cli import main

shim = ctypes.CDLL(None)
folder = Path(sys.argv[1])
corpus = rf.Corpus.from_text("abcab" * 9)
options = {"batch_size": 2, "num_steps": 10, "progress": False}


def model(seed):
    return rf.LanguageModel(corpus.vocab, hidden_size=2, seed=seed)


def train(path, seed):
    model_ = model(seed)
    rf.fit(model_, corpus, epochs=1, checkpoint=path, checkpoint_every=0, seed=seed, **options)


series = np.sin(np.arange(40.0))
models = [model(seed) for seed in (0, 1)]
forecasters = [rf.Autoregressor("rnn", 2, epochs=1, seed=seed).fit(series) for seed in (0, 1)]
ngrams = [rf.NGram(1 + seed).fit(corpus) for seed in (0, 1)]
sources = [folder.parent / f"source{seed}" for seed in (0, 1)]
for held, source in zip(models, sources):
    held.save(source)

WRITERS = {
    "save": (lambda path, seed: models[seed].save(path), "m.safetensors", rf.load),
    "fit": (train, "run.safetensors", rf.load),
    "quantize": (lambda path, seed: rf.quantize(sources[seed], path), "small.safetensors", rf.load),
    "vocabulary": (lambda path, seed: rf.Vocab("abc"[seed:]).save(path), "vocab.json", rf.Vocab.load),
    "arpa": (lambda path, seed: ngrams[seed].save_arpa(path), "m.arpa", rf.load),
    "arpa.gz": (lambda path, seed: ngrams[seed].save_arpa(path), "m.arpa.gz", rf.load),
    "forecaster": (lambda path, seed: forecasters[seed].save(path), "f.safetensors", rf.load),
    "text": (lambda path, seed: files.write_text(path, "ab" * (20_000 + seed)), "a.txt", Path.read_text),
}


def check(writer):
    write, name, load = WRITERS[writer]
    path = folder / name

    def content():
        data = path.read_bytes()
        return data[:4] + data[8:] if name.endswith(".gz") else data  # without the time

    def attempt(call, error):
        """The contents of the path before and after a new file is written over it, the exception, and the calls."""
        write(path, 0)
        before, raised = content(), None
        shim.fail_call(os.fsencode(folder), call, error)
        try:
            write(path, 1)
        except OSError as caught:
            raised = caught
        made = shim.calls_made()
        shim.fail_call(b"", 0, 0)
        return before, content(), raised, made

    old, new, raised, made = attempt(0, 0)
    assert raised is None and old != new, (writer, raised)
    assert made >= 6, (writer, made)  # open, write, fsync, close, rename, and the folder's
    for error in (errno.ENOSPC,) if writer == "fit" else (errno.ENOSPC, errno.EIO, errno.EINTR, 0):
        for call in range(1, made + 1):
            before, after, raised, _ = attempt(call, error)
            case = writer, call, os.strerror(error) if error else "short write", repr(raised)
            load(path)  # whole
            assert os.listdir(folder) == [name], (case, os.listdir(folder))
            assert writer == "fit" or after in (before, new), case  # fit writes several
            assert raised is not None or error in (errno.EINTR, 0), (case, "nothing was told")
            if raised is None:
                assert writer == "fit" or after == new, case
                continue
            assert error != 0, case  # half of a write is followed by the other half
            text = str(raised)
            assert raised.errno == error, case
            assert text.startswith(str(path)) and "cannot be written: " in text and "; " in text, case
            assert chr(10) not in text, case
    path.unlink()


def check_command():
    """`rnnfast train` over an old model: checkpoint, history and model."""
    text, output = folder.parent / "text.txt", folder / "m.safetensors"
    text.write_text("abcab" * 30)
    rf.History.plot = no_plot
    arguments = ["train", text, "--output", output, "--force", "--epochs", 1, "--hidden-size", 2, "--batch-size", 2]
    arguments = [*map(str, arguments), "--num-steps", "10"]

    def attempt(call):
        for file in folder.iterdir():
            file.unlink()
        models[0].save(output)
        told = io.StringIO()
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            shim.fail_call(os.fsencode(folder), call, errno.ENOSPC)
            status = main(arguments)
            made = shim.calls_made()
            shim.fail_call(b"", 0, 0)
        return status, told.getvalue(), made, output.read_bytes()

    old, (status, told, made, new) = sources[0].read_bytes(), attempt(0)
    assert status == 0 and made > 18 and old != new, (status, told, made)
    for call in range(1, made + 1):
        status, told, _, left = attempt(call)
        case = call, status, told
        assert left in (old, new), case
        assert (status, told.count(chr(10))) == (2, 1), case
        assert str(folder) in told and "cannot be written: No space left on device; " in told, case
        names = {file.name for file in folder.iterdir()}
        assert names <= {"m.safetensors", "m.checkpoint.safetensors", "m.history.jsonl"}, (case, names)
        for name in names - {"m.history.jsonl"}:
            rf.load(folder / name)
        if left == old and "m.checkpoint.safetensors" in names:
            assert "--resume" in told, case


def no_plot(*_):
    raise ImportError("not here")


for writer in WRITERS:
    check(writer)
check_command()
'''


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler for the library that makes calls fail, or not Linux")
    library = tmp_path_factory.mktemp("shim") / "failing_calls.so"
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", str(HERE / "failing_calls.c"), "-o", str(library), "-ldl"],
        capture_output=True, text=True,
    )  # fmt: skip
    if built.returncode:
        pytest.skip(f"the library that makes calls fail does not compile: {built.stderr[:200]}")
    return library


@pytest.mark.fault("C9", "C2")
def test_whatever_call_fails_the_path_has_the_old_or_the_new_file(shim, tmp_path):
    (tmp_path / "files").mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path / "files")],
        env={**os.environ, "LD_PRELOAD": str(shim), "RNNFAST_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
