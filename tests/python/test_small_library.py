"""The smallest library: one instruction set, networks alone, no training. It takes minutes to compile."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import rnnfast as rf

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
LARGEST = 400_000
OPTIONS = {
    "CMAKE_BUILD_TYPE": "MinSizeRel",
    "CMAKE_INTERPROCEDURAL_OPTIMIZATION": "ON",
    "RNNFAST_ISAS": "avx2",
    "RNNFAST_TRAINING": "OFF",
    "RNNFAST_EXPORTS": "networks",
}


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    if platform.machine() != "x86_64" or not (shutil.which("cmake") and shutil.which("cc")):
        pytest.skip("needs cmake, a C compiler, and a CPU of the x86-64 family")
    folder = tmp_path_factory.mktemp("small")
    run("cmake", "-S", ROOT, "-B", folder, *(f"-D{name}={value}" for name, value in OPTIONS.items()))
    run("cmake", "--build", folder, "-j2")
    return folder


def test_the_shared_library_of_networks_is_small(build):
    library = (build / "librnnfast.so").resolve()
    names = run("nm", "-DC", "--defined-only", library)
    assert "rnnfast_network_step" in names
    assert "rnnfast::v1::Network::load" in names
    assert "LanguageModel" not in names
    assert library.stat().st_size <= LARGEST


def test_a_program_with_one_network_linked_statically_is_small(build, tmp_path):
    run("cc", "-Os", f"-I{ROOT / 'cpp' / 'include'}", "-c", ROOT / "examples" / "network.c", "-o", tmp_path / "main.o")
    flags = ["-Os", "-flto", "-fopenmp", "-s", "-Wl,--gc-sections"]
    run("c++", *flags, tmp_path / "main.o", build / "librnnfast.a", "-o", tmp_path / "network")
    assert (tmp_path / "network").stat().st_size <= LARGEST


STEPS = r"""
#include <rnnfast/rnnfast.h>
#include <stdio.h>

int main(int count, char** arguments) {
    float x[2], y[3];
    rnnfast_network* network;
    rnnfast_network_state* state;
    const rnnfast_values in = {x, NULL, 2};
    const rnnfast_result out = {y, 3};
    if (count < 2 || rnnfast_network_load(arguments[1], RNNFAST_AS_STORED, &network) ||
        rnnfast_network_state_new(network, &state))
        return printf("%s\n", rnnfast_last_error()), 1;
    while (scanf("%a %a", x, x + 1) == 2) {
        if (rnnfast_network_step(network, &in, 1, state, &out, 1)) return 1;
        printf("%a %a %a\n", y[0], y[1], y[2]);
    }
    return 0;
}
"""


@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
def test_steps_have_the_same_bits_as_in_python(build, tmp_path, weights):
    """With kernels at -O2 and everything else at -Os, optimized at link time."""
    layers = (
        rf.Conv1d(2, 19, 3, padding="causal", seed=0),
        rf.GELU(),
        rf.LSTM(19, 37, 2, seed=1),
        rf.GRU(37, 21, seed=2),
        rf.LayerNorm(21),
        rf.Linear(21, 3, seed=3),
    )
    rf.Sequential(*layers).save(tmp_path / "net.safetensors", weights=weights)
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    stream = rf.load(tmp_path / "net.safetensors").stream()
    expected = np.stack([stream(row) for row in x])
    (tmp_path / "steps.c").write_text(STEPS)
    include, library = f"-I{ROOT / 'cpp' / 'include'}", f"-L{build}"
    run("cc", "-std=c99", include, tmp_path / "steps.c", library, "-lrnnfast", "-o", tmp_path / "steps")
    lines = "".join(f"{float(a).hex()} {float(b).hex()}\n" for a, b in x)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(build)}
    printed = run(tmp_path / "steps", tmp_path / "net.safetensors", input=lines, env=environment)
    found = [[float.fromhex(value) for value in line.split()] for line in printed.splitlines()]
    np.testing.assert_array_equal(np.array(found, np.float32), expected)
