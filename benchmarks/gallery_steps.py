"""One step of one stream of the gallery's networks: rnnfast in Python and C++, and their ONNX files in ONNX Runtime.

``python -m benchmarks.gallery_steps`` prints a table. Networks that read a sequence in both directions have no steps.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import rnnfast as rf
from benchmarks.gallery import GALLERY

Step = Callable[[np.ndarray], Any]


def runtime_step(path: str) -> Step:
    """A step of a file with states: inputs and outputs are bound once, and the states alternate between two buffers."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    value = ort.OrtValue.ortvalue_from_numpy
    (ids, *states), results = session.get_inputs(), session.get_outputs()
    (output,) = [r for r in results if not r.name.endswith("_last")]
    token = value(np.zeros((1, 1), np.int64))
    y = value(np.zeros((1, 1, output.shape[2]), np.float32))
    pairs = [{s.name: value(np.zeros((s.shape[0], 1, s.shape[2]), np.float32)) for s in states} for _ in range(2)]
    bindings = []
    for before, after in (pairs, pairs[::-1]):
        binding = session.io_binding()
        binding.bind_ortvalue_input(ids.name, token)
        binding.bind_ortvalue_output(output.name, y)
        for name in before:
            binding.bind_ortvalue_input(name, before[name])
            binding.bind_ortvalue_output(f"{name}_last", after[name])
        bindings.append(binding)

    def step(ids: np.ndarray) -> Any:
        token.update_inplace(ids.astype(np.int64)[None])
        session.run_with_iobinding(bindings[0])
        bindings.reverse()
        return y.numpy()[0]

    return step


def compiled(folder: str) -> Path:
    """The C++ program, with the library of the installed package."""
    package, program = Path(rf.__file__).parent / "cpp", Path(folder) / "gallery_steps"
    subprocess.run(
        ["c++", "-std=c++17", "-O2", f"-I{package / 'include'}", Path(__file__).with_suffix(".cpp"), "-o", program,
         package / "lib" / "librnnfast.a", "-fopenmp"], check=True,
    )  # fmt: skip
    return program


def microseconds(steps: list[Step], tokens: list[np.ndarray], rounds: int = 100) -> list[float]:
    """Median times of the steps, in turns in one run."""
    taken: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for step, times in zip(steps, taken):
            start = time.perf_counter()
            for token in tokens:
                step(token)
            times.append((time.perf_counter() - start) / len(tokens) * 1e6)
    return [float(np.median(times)) for times in taken]


def rows() -> Iterator[str]:
    """The table, in Markdown."""
    yield "| network | ONNX Runtime | rnnfast, Python | times as fast | rnnfast, C++ | times as fast |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    with tempfile.TemporaryDirectory() as folder:
        program, onnx, model = compiled(folder), f"{folder}/net.onnx", f"{folder}/net.safetensors"
        for name, make in GALLERY.items():
            try:
                networks = make().networks
            except ImportError as error:
                print(f"{name}: {error}", flush=True)
                continue
            for net in networks:
                try:
                    stream = net.stream()
                except ValueError:  # it reads the whole sequence
                    continue
                known = next(iter(net.config["inputs"]))["ids"]
                if known == 0:  # it reads numbers: its steps are in the gallery's own table
                    continue
                net.to_onnx(onnx, states=True)
                net.save(model)
                tokens = list(np.random.default_rng(0).integers(0, known, (50, 1)).astype(np.int32))
                runtime = runtime_step(onnx)
                for token in tokens:
                    np.testing.assert_allclose(stream(token), runtime(token), atol=1e-4)
                theirs, ours = microseconds([runtime, stream], tokens)
                cpp = subprocess.run([program, model, *(str(t[0]) for t in tokens)], capture_output=True, check=True)
                core = float(cpp.stdout)
                kind = "decoder" if "linear" in [layer["type"] for layer in net.config["layers"]] else "encoder"
                yield (
                    f"| {name}, {kind} | {theirs:.1f} µs | {ours:.1f} µs | {theirs / ours:.2f} | {core:.1f} µs "
                    f"| {theirs / core:.2f} |"
                )


def main() -> None:
    """Prints the table, on one thread."""
    rf.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the packages
    for row in rows():
        print(row, flush=True)


if __name__ == "__main__":
    main()
