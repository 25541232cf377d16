"""Effects of importing and running rnnfast on its process."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import rnnfast as rf
from rnnfast._moved import MOVED


def python(code, **env):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**os.environ, **env}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_loads_numpy_and_nothing_else_that_takes_time():
    """`python -X importtime` showed 20 ms, and 90 for numpy; any of these modules would add 60 to 1,700."""
    heavy = "torch matplotlib tqdm pooch onnx onnxruntime tokenizers safetensors rich typer".split()
    assert python(f"import sys, rnnfast; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_the_installed_package_is_small():
    folder = Path(rf._core.__file__).parent
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and f.suffix != ".pyc") < 9_100_000


def test_import_leaves_the_process_as_it_was():
    python(
        """
import locale, random, signal
import numpy as np
before = signal.getsignal(signal.SIGINT), random.getstate(), locale.setlocale(locale.LC_ALL)
numpy_state = np.random.get_state()[1].copy()
import rnnfast
assert (signal.getsignal(signal.SIGINT), random.getstate(), locale.setlocale(locale.LC_ALL)) == before
assert (np.random.get_state()[1] == numpy_state).all()
assert float(np.float32(1e-45)) > 0 and np.float32(1e-38) / np.float32(10) > 0, "denormals were switched off"
"""
    )


def test_a_forked_child_can_compute():
    code = """
import os, numpy as np, rnnfast as rf
rf.set_num_threads(2)
layer = rf.LSTM(64, 128, seed=0)
x = np.ones((20, 16, 64), np.float32)
expected, _ = layer(x)
pid = os.fork()
if pid == 0:
    y, _ = layer(x)
    os._exit(0 if np.array_equal(y, expected) else 1)
import signal; signal.alarm(60)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    python(code)


def test_thread_counts_from_the_environment():
    code = "import rnnfast as rf; print(rf.get_num_threads())"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    clean = {"OMP_NUM_THREADS": "", "RNNFAST_NUM_THREADS": ""}
    allowed = rf.info()["cores_allowed"]  # a container may have a quota below the cores of the machine
    assert 1 <= allowed <= cores
    assert int(python(code, **clean)) == allowed
    assert int(python(code, **clean | {"OMP_NUM_THREADS": "1"})) == 1
    assert int(python(code, **clean | {"RNNFAST_NUM_THREADS": "1"})) == 1


@pytest.mark.fault("R13")
def test_an_invalid_thread_count_in_the_environment_is_an_error_at_first_use():
    code = f"""
import os, numpy as np, rnnfast as rf
for bad in {["banana", "0", "-5", "4097", "99999", "9" * 30, "1e3", "2.0", "2 "]}:
    os.environ["RNNFAST_NUM_THREADS"] = bad
    for use in (rf.get_num_threads, rf.info, lambda: rf.LSTM(3, 4, seed=0)(np.ones((5, 2, 3), np.float32))):
        try:
            use()
        except ValueError as error:
            assert str(error).startswith(f"RNNFAST_NUM_THREADS={{bad}}: expected an integer from 1 to 4096"), error
        else:
            raise AssertionError(bad)
os.environ["RNNFAST_NUM_THREADS"] = "3"
os.environ["OMP_NUM_THREADS"] = "1,2"
assert rf.get_num_threads() == 1
"""
    python(code, OMP_NUM_THREADS="", RNNFAST_NUM_THREADS="")


@pytest.mark.fault("R13")
@pytest.mark.parametrize("threads", [0, -1, 4097, 10**14, 2**64])
def test_a_thread_count_out_of_range_is_refused(threads):
    with pytest.raises(ValueError, match=f"threads is {threads}, expected 1 to 4096"):
        rf.set_num_threads(threads)


def test_torch_in_the_same_process_keeps_its_threads_and_rnnfast_keeps_its_own():
    pytest.importorskip("torch")
    python(
        """
import numpy as np, rnnfast as rf, torch
torch.set_num_threads(1)
rf.set_num_threads(2)
layer, twin = rf.LSTM(32, 64, seed=0), torch.nn.LSTM(32, 64)
layer.load_state_dict(twin.state_dict())
x = torch.randn(10, 8, 32)
for _ in range(20):
    with torch.inference_mode():
        expected, _ = twin(x)
    y, _ = layer(x)
    assert np.abs(y - expected.numpy()).max() < 1e-5
assert torch.get_num_threads() == 1 and rf.get_num_threads() == 2
"""
    )


def test_many_python_threads_may_share_a_layer_and_a_model():
    layer, model = rf.GRU(8, 16, seed=0), rf.LanguageModel(20, hidden_size=16, seed=0)
    x = np.random.default_rng(0).normal(size=(12, 3, 8)).astype(np.float32)
    ids = np.arange(20)[:, None]
    expected, (nll, _) = layer(x)[0], model.nll(ids[:-1], ids[1:])
    wrong = []

    def work():
        for _ in range(50):
            if not np.array_equal(layer(x)[0], expected) or not np.array_equal(model.nll(ids[:-1], ids[1:])[0], nll):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_the_version_is_one():
    from importlib.metadata import version

    assert rf.__version__ == rf._core.__version__ == version("rnnfast")


@pytest.mark.parametrize("old", sorted(MOVED))
def test_a_module_that_has_moved_is_found_under_its_old_name_with_a_warning(old):
    new = importlib.import_module(f"rnnfast.{MOVED[old]}")
    sys.modules.pop(f"rnnfast.{old}", None)
    before = vars(rf).get(old)
    if callable(before):  # rf.gradient_flow is a function, so nobody had the module by attribute
        sys.modules[f"rnnfast.{old}"] = new
        assert importlib.import_module(f"rnnfast.{old}") is new
        assert getattr(rf, old) is before
        return
    with pytest.warns(DeprecationWarning, match=rf"rnnfast\.{old} is now {new.__name__}$") as told:
        assert importlib.import_module(f"rnnfast.{old}") is new
    assert new.__spec__.name == new.__name__
    assert len(told) == 1
    if before is None:  # an attribute, as it was while the package imported the module
        delattr(rf, old)
        with pytest.warns(DeprecationWarning, match="is now"):
            assert getattr(rf, old) is new


def test_public_modules_of_the_package_are_attributes_without_a_warning():
    assert rf.datasets is sys.modules["rnnfast.text.datasets"]
    assert rf.schedules is sys.modules["rnnfast.train.schedules"]
    assert callable(rf.text.tokenize)
    assert callable(rf.train.fit)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rf.nothing  # noqa: B018


@pytest.mark.filterwarnings("ignore:rnnfast.* is now:DeprecationWarning")
@pytest.mark.parametrize(
    ("value", "old"),
    [
        (rf.Vocab("abc"), "vocab"),
        (rf.Corpus.from_text("to be"), "data"),
        (rf.GRU(2, 3, seed=0), "nn"),
        (rf.LSTMCell(2, 3, seed=0), "cells"),
        (rf.LanguageModel(4, hidden_size=3, seed=0), "models"),
        (rf.Seq2Seq(4, 4, hidden_size=3, embedding_size=2, seed=0), "seq2seq"),
        (rf.LinearAR(2).fit(np.sin(np.arange(30.0))), "forecast"),
        (rf.GradientFlow(np.ones((1, 2)), 1.0), "gradient_flow"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_pickle_that_names_the_old_module_loads(value, old):
    kind = type(value)
    text = pickle.dumps(value, protocol=0)
    assert f"c{kind.__module__}\n".encode() in text
    moved = text.replace(f"c{kind.__module__}\n".encode(), f"crnnfast.{old}\n".encode())
    assert type(pickle.loads(moved)) is kind
