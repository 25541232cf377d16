"""Teams on the OpenMP runtime of another library, where builds without OpenMP compute; a child of a fork starts its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rnnfast as rf
from rnnfast import _core

if sys.platform != "linux":
    pytest.skip("the runtime is found on Linux", allow_module_level=True)

PROGRAM = """
import ctypes, os
import numpy as np
import rnnfast as rf
from rnnfast import _core

def bits():
    rf.set_num_threads(3)
    x = np.random.default_rng(0).normal(size=(9, 40, 64)).astype(np.float32)
    return rf.LSTM(64, 64, seed=0)(x)[0].tobytes()

own = rf.info()["openmp"] > 0
before = _core.team_on_openmp_of_process(3)
alone = bits()
ctypes.CDLL("libgomp.so.1")  # as another library does
after = _core.team_on_openmp_of_process(3)
assert before == (after if own else []), (before, after)
assert after == [0, 1, 2], after
assert _core.team_on_openmp_of_process(2) == [0, 1]
assert "libgomp" in rf.info()["openmp_library"]
assert bits() == alone
child = os.fork()
if child == 0:
    os._exit(0 if _core.team_on_openmp_of_process(3) == [] and bits() == alone else 1)
assert os.waitpid(child, 0)[1] == 0
print("passed")
"""


def test_a_team_runs_on_the_runtime_that_another_library_has_loaded():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    if "libgomp.so.1: cannot open" in run.stderr:
        pytest.skip("no libgomp.so.1")
    assert run.stdout == "passed\n", run.stderr
    for threads in (0, 65):  # none, which OpenMP takes for its default, and more than any test needs
        with pytest.raises(ValueError, match=f"got {threads} threads, expected 1 to 64"):
            _core.team_on_openmp_of_process(threads)


def test_pytorch_and_rnnfast_compute_on_one_runtime():
    pytest.importorskip("torch")
    if rf.info()["openmp"]:
        pytest.skip("this build has OpenMP itself")
    program = "import rnnfast as rf, torch; print(rf.info()['openmp_library'] in rf.info()['openmp_runtimes'])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "True\n"
