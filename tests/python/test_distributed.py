"""Training in shards: the same bits on one process and on several ranks of MPI; what happens when a rank fails."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ranks_program as program

import rnnfast as rf
from rnnfast import _core, cli
from rnnfast.commands import fitting
from rnnfast.commands.ranks import ranks_of
from rnnfast.distributed import mpi
from rnnfast.distributed.ranks import TreeSum, round_bf16_, share_of, tree_sum_
from rnnfast.train.checkpoint import read_checkpoint
from rnnfast.train.sharded import ShardedSteps

PROGRAM = Path(program.__file__)


def mpiexec():
    """The starter of ranks and its environment: ``MPIEXEC``, or the one of a wheel, beside which its MPI library lies."""
    mpi4py = pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install '.[mpi]'")
    if "MPIEXEC" in os.environ:
        return os.environ["MPIEXEC"], os.environ
    prefix = Path(mpi4py.__file__).parents[4]
    found = shutil.which("mpiexec", path=os.pathsep.join([str(prefix / "bin"), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("mpiexec is not installed: pip install '.[mpi]'")
    library = os.pathsep.join(filter(None, [str(prefix / "lib"), os.environ.get("LD_LIBRARY_PATH")]))
    return found, {**os.environ, "LD_LIBRARY_PATH": library}


def on_ranks(count, *arguments, timeout=180):
    command, environment = mpiexec()
    return subprocess.run(
        [command, "-n", str(count), sys.executable, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


# One process


def test_the_tree_does_not_depend_on_who_adds_which_subtree():
    rows = np.random.default_rng(0).standard_normal((8, 1000)).astype(np.float32) * 10.0 ** np.arange(8)[:, None]
    rows = rows.astype(np.float32)
    whole = tree_sum_(rows.copy())
    for ranks in (1, 2, 4, 8):
        totals = []
        for rank in range(ranks):
            tree = TreeSum(1000)
            for shard in share_of(8, rank, ranks):
                buffer = tree.new()
                buffer[:] = rows[shard]
                tree.add(buffer)
            totals.append(tree.total().copy())
        np.testing.assert_array_equal(tree_sum_(np.array(totals)), whole)
    assert not np.array_equal(whole, rows.sum(axis=0, dtype=np.float32))  # another order gives other bits


def test_rounding_to_bf16_is_to_nearest_even():
    x = np.random.default_rng(0).standard_normal(10000).astype(np.float32)
    x[:6] = [np.inf, -np.inf, 1 + 2**-8, 1 + 3 * 2**-8, 0.0, -0.0]
    wanted = (_core.bf16_rows(x[None]).astype(np.uint32) << 16).view(np.float32)[0]
    round_bf16_(x)
    assert x[2:4].tolist() == [1.0, 1 + 4 * 2**-8]
    np.testing.assert_array_equal(x, wanted)


@pytest.fixture(scope="module")
def alone():
    return program.results(rf.distributed.Ranks(4))


def test_shards_give_the_same_bits_for_any_number_of_threads(alone):
    before = rf.get_num_threads()
    try:
        rf.set_num_threads(3)
        assert program.results(rf.distributed.Ranks(4)) == alone
    finally:
        rf.set_num_threads(before)
    model = program.language_model()
    options = {"epochs": 2, "batch_size": 8, "num_steps": 7, "keep_best": True, "progress": False}
    rf.fit(model, program.IDS[:1200], program.IDS[1200:], shards=4, **options)
    assert program.digest(model) == alone["language model"][0]


def test_ranks_exchange_only_the_rows_of_an_embedding_that_were_read(alone):
    """Two ranks in one process: what a rank would send, and the sum that it would get back."""
    sent = []

    class OneOfTwo(rf.distributed.Ranks):
        size = 2
        own = range(4)

        def add_(self, flat, factor=1.0):
            sent.append(len(flat))
            super().add_(flat, factor)

    model = program.language_model()
    rf.fit(model, program.IDS[:1200], epochs=2, batch_size=8, num_steps=7, distributed=OneOfTwo(4), progress=False)
    assert max(sent) <= model.num_parameters - (program.VOCABULARY - 40) * 8 + 1
    assert program.digest(model) != program.digest(program.language_model())
    whole = program.language_model()
    rf.fit(whole, program.IDS[:1200], epochs=2, batch_size=8, num_steps=7, shards=4, progress=False)
    assert program.digest(model) == program.digest(whole)


def test_without_dropout_the_gradient_is_that_of_the_whole_batch():
    """Up to the order of sums: 1e-6 of weights that have moved by 0.01 in each step of Adam."""
    models = [rf.LanguageModel(40, cell="gru", hidden_size=12, seed=1) for _ in range(2)]
    for model, shards in zip(models, (None, 8)):
        rf.fit(model, program.IDS, epochs=1, batch_size=12, num_steps=8, lr=1e-2, optimizer="sgd", shards=shards)
    for name, value in models[0].state_dict().items():
        np.testing.assert_allclose(models[1].state_dict()[name], value, atol=1e-6)


def test_a_network_s_gradient_in_shards_is_that_of_the_whole_batch():
    """The mean over predictions that count, with weights; up to the order of sums."""
    models = []
    for shards in (None, 4):
        models.append(
            rf.Sequential(rf.LSTM(3, 12, seed=0), rf.LayerNorm(12), rf.Pool("last"), rf.Linear(12, 2, seed=1))
        )
        options = {"loss": "cross_entropy", "epochs": 1, "batch_size": 13, "optimizer": "sgd", "lr": 0.1}
        history = rf.fit(models[-1], program.network_data(50, 0), shards=shards, progress=False, **options)
        assert math.isfinite(history[-1]["train_loss"])
    for name, value in models[0].state_dict().items():
        np.testing.assert_allclose(models[1].state_dict()[name], value, atol=1e-5)


def test_estimators_in_shards_learn_what_they_learn_without():
    """Without dropout, up to the order of sums: after two epochs of Adam."""
    random = np.random.default_rng(2)
    texts = ["".join(random.choice(list("abcd"), random.integers(1, 9))) for _ in range(37)]
    labels = [text.count("a") > 1 for text in texts]
    weights = random.random(37)
    whole, split = (
        rf.SequenceClassifier(hidden_size=6, epochs=2, batch_size=8, seed=3).fit(texts, labels, weights, shards=shards)
        for shards in (None, 4)
    )
    np.testing.assert_allclose(split.loss_curve_, whole.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(split.predict_proba(texts), whole.predict_proba(texts), atol=1e-3)
    assert program.fitted_estimators(rf.distributed.Ranks(4)) != program.fitted_estimators(None)


def test_outputs_of_unequal_weight_are_refused_in_shards():
    layers = {"rnn": rf.GRU(3, 4), "each": rf.Linear(4, 1), "pool": (rf.Pool("last"), "rnn"), "one": rf.Linear(4, 1)}
    model = rf.Network(inputs={"x": 3}, layers=layers, outputs=["each", "one"])
    x = np.zeros((5, 4, 3), np.float32)
    data = rf.Examples(x, {"each": np.zeros((5, 4, 1)), "one": np.zeros((4, 1))})
    rf.fit(model, data, loss={"each": "mse", "one": "mse"}, epochs=1, progress=False)
    with pytest.raises(ValueError, match="shards need outputs that predict equally often"):
        rf.fit(model, data, loss={"each": "mse", "one": "mse"}, epochs=1, shards=2, progress=False)


def test_several_ranks_refuse_batch_norm():
    class OneOfTwo(rf.distributed.Ranks):
        size = 2

    model = rf.Sequential(rf.Linear(3, 4), rf.BatchNorm1d(4), rf.Linear(4, 1))
    data = np.zeros((5, 4, 3)), np.zeros((5, 4))
    rf.fit(model, data, loss="mse", epochs=1, shards=2, progress=False)
    with pytest.raises(
        ValueError, match="layer '1' is a BatchNorm1d, whose running statistics several ranks cannot share"
    ):
        rf.fit(model, data, loss="mse", epochs=1, distributed=OneOfTwo(2), progress=False)


def test_every_rank_sees_at_a_save_that_weights_are_not_finite(tmp_path):
    """A rank that does not write raises too; else the others would wait for rank 0."""

    class Other(rf.distributed.Ranks):
        leads = False

    model = rf.Sequential(rf.Linear(3, 1, seed=0))
    options = {"loss": "mse", "optimizer": "sgd", "lr": 3e38, "clip_norm": None, "progress": False}
    file = tmp_path / "run.safetensors"
    with pytest.raises(rf.train.NonFiniteLoss, match="the weight .* at step 2"):
        rf.fit(
            model, (np.ones((5, 4, 3)), np.full((5, 4), 100.0)), distributed=Other(2), checkpoint=file, checkpoint_every=0.0,
            batch_size=2, **options,
        )  # fmt: skip
    assert not file.exists()


def test_a_callback_s_error_is_reported_where_the_weights_are_not_finite(tmp_path):
    class Fails(rf.Callback):
        def on_step(self, record):
            raise OSError("no more space for logs")

    model = rf.Sequential(rf.Linear(3, 1, seed=0))
    options = {
        "loss": "mse",
        "optimizer": "sgd",
        "lr": 3e38,
        "clip_norm": None,
        "progress": False,
        "callbacks": [Fails()],
    }
    with pytest.raises(OSError, match="no more space for logs"):
        rf.fit(model, (np.ones((5, 4, 3)), np.full((5, 4), 100.0)), checkpoint=tmp_path / "run.safetensors", **options)


def test_each_shard_has_dropout_of_its_own():
    digests = set()
    for shards in (None, 1, 2, 4):
        model = program.language_model()
        rf.fit(model, program.IDS, epochs=1, batch_size=8, num_steps=50, shards=shards, progress=False)
        digests.add(program.digest(model))
    assert len(digests) == 3  # one shard is the whole batch


@pytest.mark.parametrize(
    ("shards", "sentence"),
    [(3, "shards is 3, expected a power of two"), (0, "shards"), (16, "batch_size is 8, fewer than the 16 shards")],
)
def test_shards_that_cannot_be_are_refused(shards, sentence):
    with pytest.raises(ValueError, match=sentence):
        rf.fit(program.language_model(), program.IDS, epochs=1, batch_size=8, shards=shards, progress=False)


def test_ranks_of_another_kind_are_refused():
    with pytest.raises(TypeError, match=r"distributed is a str, expected an rf\.distributed\.MPI"):
        rf.fit(program.language_model(), program.IDS, distributed="mpi")
    with pytest.raises(ValueError, match="shards is 2, but distributed has 4; give one of them"):
        rf.fit(program.language_model(), program.IDS, distributed=rf.distributed.Ranks(4), shards=2)
    with pytest.raises(ValueError, match="compress is 'f16', expected 'bf16' or None"):
        rf.distributed.Ranks(4, compress="f16")


def test_ranks_that_do_not_divide_the_shards_are_refused():
    run = on_ranks(3, "-c", "import rnnfast as rf; rf.distributed.MPI(4)")
    assert run.returncode != 0
    assert "ValueError: shards is 4, which 3 ranks do not divide: start 1, 2, 4 ranks" in run.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm", "embedding_size": 9, "num_layers": 2, "dropout": 0.3},
        {"cell": "gru", "embedding_size": 8, "dropout": 0.3, "variational": True},
        {"cell": "rnn"},
        {"cell": "gru", "weights": "bf16"},
        {"cell": "sru", "embedding_size": 12, "num_layers": 2, "dropout": 0.2},
        {"cell": "mingru"},
        {"cell": "lstm", "embedding_size": 20, "tie_weights": True},
        {"cell": "mingru", "embedding_size": 20, "num_layers": 2, "residual": True, "norm": "rms"},
        {"cell": "mingru", "embedding_size": 20, "num_layers": 2, "residual": True},
        {"cell": "lstm", "embedding_size": 20, "num_layers": 2, "residual": True, "dropout": 0.3},
        {"cell": "gru", "embedding_size": 20, "num_layers": 2, "residual": True, "norm": "rms", "dropout": 0.3},
        {"cell": "qrnn", "embedding_size": 12, "num_layers": 2, "dropout": 0.2},
        {"cell": "qrnn", "embedding_size": 12, "num_layers": 2, "dropout": 0.2, "window": 2},
        {"cell": "qrnn", "embedding_size": 12, "num_layers": 2, "dropout": 0.2, "window": 2, "norm": "rms"},
        {"cell": "gru_reset_before", "embedding_size": 12},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_shards_computed_together_have_the_bits_of_each_computed_alone(options, monkeypatch):
    digests = []
    before = rf.get_num_threads()
    for threads, together in ((1, True), (3, True), (1, False)):
        if not together:
            monkeypatch.setattr(ShardedSteps, "_can_run_together", lambda *_: False)
        rf.set_num_threads(threads)
        model = rf.LanguageModel(40, hidden_size=20, seed=1, **options)
        history = rf.fit(model, program.IDS, epochs=1, batch_size=24, num_steps=9, shards=8, progress=False)
        digests.append((program.digest(model), history[-1]["train_perplexity"]))
    rf.set_num_threads(before)
    assert digests[0] == digests[1] == digests[2]


def test_frozen_parameters_stay_and_the_others_learn():
    model = program.language_model().requires_grad_(False, "embedding")
    before = model.state_dict()
    rf.fit(model, program.IDS, epochs=1, batch_size=8, shards=2, progress=False)
    moved = {name for name, value in model.state_dict().items() if not np.array_equal(value, before[name])}
    assert moved == set(before) - {"embedding.weight"}


def test_a_checkpoint_of_shards_resumes_only_with_as_many(tmp_path, alone):
    file = tmp_path / "run.safetensors"
    program.fit_language_model(rf.distributed.Ranks(4), epochs=1, checkpoint=file)
    for other, sentence in (
        (rf.distributed.Ranks(2), "shards is 2, in the checkpoint 4"),
        (None, "shards is None, in"),
    ):
        with pytest.raises(ValueError, match=sentence):
            program.fit_language_model(other, checkpoint=file, resume=True)
    model, _ = program.fit_language_model(rf.distributed.Ranks(4), checkpoint=file, resume=True)
    assert program.digest(model) == alone["language model"][0]


def test_beats_are_read_also_where_no_single_wait_is_long(monkeypatch):
    clock = itertools.count()
    times = SimpleNamespace(monotonic=lambda: 0.01 * next(clock), sleep=lambda _: None)  # a wait takes 10 ms
    monkeypatch.setattr(mpi, "time", times)
    ranks, listened = object.__new__(rf.distributed.MPI), []
    ranks._mpi, ranks._listened = SimpleNamespace(Exception=OSError), times.monotonic()
    ranks._listen = lambda: listened.append(times.monotonic())
    for _ in range(50):
        answers = iter((False, True))
        ranks._wait(SimpleNamespace(Test=lambda answers=answers: next(answers)))
    assert len(listened) > 10


# Several ranks


@pytest.mark.parametrize("count", [2, 4])
def test_the_two_ways_to_exchange_give_the_same_bits(count):
    """In pieces between the ranks of one machine, and as a whole."""
    run = on_ranks(count, PROGRAM, "exchange")
    assert run.returncode == 0, run.stderr
    rows = np.array([program.numbers(rank) for rank in range(count)])
    assert run.stdout.split() == [program.check_of(tree_sum_(rows) * np.float32(0.25))]


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_give_the_bits_of_one_process_and_one_process_resumes_them(count, alone, tmp_path):
    file = tmp_path / "run.safetensors"
    run = on_ranks(count, PROGRAM, "train", file)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found.pop("interrupted") == "interrupted by SIGTERM"
    assert found.pop("bytes") > 0
    rounded, _ = program.fit_language_model(rf.distributed.Ranks(4, compress="bf16"), epochs=1)
    assert found.pop("compressed") == program.digest(rounded)
    model = program.language_model()
    optimizer = rf.AdamW(model, lr=2e-3)
    program.fit_language_model(rf.distributed.Ranks(4), model, epochs=1, optimizer=optimizer)
    assert found.pop("held") == 2 * -(-model.num_parameters // count)
    assert found.pop("split") == [program.digest(model), program.digest(optimizer)]
    assert found == json.loads(json.dumps(alone))
    place = read_checkpoint(file).place
    assert place["batch"] > 0  # in the middle of an epoch, with the states of all rows
    model, _ = program.fit_language_model(rf.distributed.Ranks(4), checkpoint=file, resume=True)
    assert program.digest(model) == alone["language model"][0]


FAULTS = {
    "raise": "OSError: the text has gone",
    "nan": "the gradient's norm is nan at step",
    "SIGKILL": "",
    "SIGSTOP": "rank 1 has been silent for 3 seconds",
    "disk full": "No space left on device",
    "text": "the training text of rank 1, 1200 ids",
}


@pytest.mark.parametrize(
    "kind", [kind if kind == "raise" else pytest.param(kind, marks=pytest.mark.slow) for kind in FAULTS]
)
def test_a_failing_rank_ends_all_and_the_checkpoint_is_whole(kind, alone, tmp_path):
    file = tmp_path / "run.safetensors"
    program.fit_language_model(rf.distributed.Ranks(4), epochs=1, checkpoint=file)
    before = file.read_bytes()
    rank = 0 if kind == "disk full" else 1
    run = on_ranks(2, PROGRAM, "fault", kind, rank, tmp_path / "new.safetensors" if kind == "raise" else file)
    assert run.returncode != 0
    assert FAULTS[kind] in run.stderr, run.stderr
    kept = file if kind in ("disk full", "text") else None
    if kept is not None:
        assert kept.read_bytes() == before
    elif kind != "raise":
        model, _ = program.fit_language_model(rf.distributed.Ranks(4), checkpoint=file, resume=True)
        assert program.digest(model) == alone["language model"][0]


@pytest.mark.slow
def test_a_rank_killed_at_any_of_20_moments_costs_no_bit(tmp_path):
    command, environment = mpiexec()
    wanted = program.digest(program.fit_language_model(rf.distributed.Ranks(4), epochs=program.EPOCHS)[0])
    random = np.random.default_rng(0)
    stopped = 0
    for moment in range(20):
        file = tmp_path / f"{moment}.safetensors"
        count = int(random.choice([2, 4]))
        job = subprocess.Popen(
            [command, "-n", str(count), sys.executable, str(PROGRAM), "long", str(file)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        pids = [tmp_path / f"{file.name}.{rank}" for rank in range(count)]
        while not all(pid.exists() and pid.read_text() for pid in pids):
            assert job.poll() is None
            time.sleep(0.01)
        time.sleep(float(random.uniform(0, 1.5)))
        with contextlib.suppress(ProcessLookupError):  # it has finished already
            os.kill(int(pids[random.integers(count)].read_text()), signal.SIGKILL)
        stopped += job.wait(timeout=10) != 0
        resume = file.exists()
        model, _ = program.fit_language_model(
            rf.distributed.Ranks(4), epochs=program.EPOCHS, checkpoint=file, resume=resume
        )
        assert program.digest(model) == wanted, moment
    assert stopped > 5


@pytest.mark.slow
def test_a_job_that_is_suspended_as_a_whole_continues(tmp_path):
    """Slurm's suspend, or Ctrl-Z, for longer than the ranks wait for one that is silent."""
    file = tmp_path / "run.safetensors"
    command, environment = mpiexec()
    job = subprocess.Popen(
        [command, "-n", "2", sys.executable, str(PROGRAM), "long", str(file)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not file.exists():
        assert job.poll() is None
        time.sleep(0.01)
    pids = [int((tmp_path / f"{file.name}.{rank}").read_text()) for rank in range(2)]
    for sent, seconds in ((signal.SIGSTOP, 4), (signal.SIGCONT, 0)):
        for pid in pids:
            os.kill(pid, sent)
        time.sleep(seconds)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 0, errors
    model, _ = program.fit_language_model(rf.distributed.Ranks(4), epochs=program.EPOCHS, checkpoint=file, resume=True)
    wanted = program.fit_language_model(rf.distributed.Ranks(4), epochs=program.EPOCHS)[0]
    assert program.digest(model) == program.digest(wanted)


@pytest.fixture(scope="module")
def fifty_steps():
    return {kind: program.after_fifty_steps(kind, rf.distributed.Ranks(4)) for kind in program.FITS}


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_fifty_steps_give_the_same_bits_for_any_number_of_ranks_and_threads(count, threads, fifty_steps, monkeypatch):
    monkeypatch.setenv("RNNFAST_NUM_THREADS", str(threads))
    run = on_ranks(count, PROGRAM, "steps", "all", timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == list(fifty_steps.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", program.FITS)
@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2), (4, 1)])
def test_a_killed_run_resumes_on_other_ranks_with_the_same_bits(kind, before, after, fifty_steps, tmp_path):
    file = tmp_path / "run.safetensors"
    command, environment = mpiexec()
    job = subprocess.Popen(
        [command, "-n", str(before), sys.executable, str(PROGRAM), "steps", kind, str(file)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not file.exists():
        assert job.poll() is None
        time.sleep(0.01)
    os.kill(int((tmp_path / f"{file.name}.1").read_text()), signal.SIGKILL)
    assert job.wait(timeout=20) != 0
    place = read_checkpoint(file).place
    assert (place["epoch"], place["batch"]) < (program.FIFTY_STEPS[kind], 0)
    run = on_ranks(after, PROGRAM, "steps", kind, file)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [fifty_steps[kind]]


@pytest.mark.slow
def test_the_command_line_refuses_ranks_without_shards():
    run = on_ranks(2, "-m", "rnnfast", "train", PROGRAM)
    assert run.returncode == 2
    assert "rnnfast: 2 ranks were started without --shards; give a power of two that 2 divides" in run.stderr


def test_the_command_line_refuses_options_of_ranks_without_shards_and_ranks_without_shards(
    monkeypatch, capsys, tmp_path
):
    text = tmp_path / "text.txt"
    text.write_text("a\tb\n" * 20)
    for option in (["--split-optimizer"], ["--compress", "bf16"]):
        assert cli.main(["train", str(text), *option, "--output", str(tmp_path / "model.safetensors")]) == 2
        assert f"{option[0]} is for training in shards: give --shards as well" in capsys.readouterr().err
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(ValueError, match="2 ranks were started, but rnnfast classify applies a model in one process"):
        fitting.trains(argparse.Namespace(model="m", output=None, command="classify", of_training={}))
    with pytest.raises(ValueError, match="2 ranks were started without --shards; give a power of two that 2 divides"):
        ranks_of(None, threads=None)


@pytest.mark.slow
def test_estimators_of_the_command_line_train_on_ranks(tmp_path):
    text, series = tmp_path / "text.txt", tmp_path / "series.csv"
    text.write_text("".join(f"{'even' if n % 2 == 0 else 'odd'}\t{n}\n" for n in range(60)))
    series.write_text("x\n" + "".join(f"{np.sin(n / 3)}\n" for n in range(90)))
    for command, file in (("classify", text), ("forecast", series)):
        options = [command, file, "--hidden-size", 6, "--epochs", 2, "--shards", 4]
        for count in (1, 2):
            run = on_ranks(count, "-m", "rnnfast", *options, "--output", tmp_path / f"{command}-{count}.safetensors")
            assert run.returncode == 0, run.stderr
        files = [(tmp_path / f"{command}-{count}.safetensors").read_bytes() for count in (1, 2)]
        assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--split-optimizer", "--no-overlap"], ["--compress", "bf16"]])
def test_the_command_line_trains_on_ranks_and_resumes_on_others(tmp_path, more):
    text = tmp_path / "text.txt"
    text.write_text("\n".join("the time traveller for so it will be convenient to speak of him".split()) * 60)
    options = ["--hidden-size", 16, "--dropout", 0.2, "--epochs", 2, "--batch-size", 8, "--shards", 4, *more]
    for count in (1, 4):
        run = on_ranks(count, "-m", "rnnfast", "train", text, *options, "--output", tmp_path / f"{count}.safetensors")
        assert run.returncode == 0, run.stderr
        assert run.stdout.count("test perplexity") == 1
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "4.safetensors").read_bytes()
