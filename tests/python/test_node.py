"""The example in Node.js: the library as WebAssembly, which is built here with PyPI's ziglang."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rnnfast as rf

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "node"
pytestmark = pytest.mark.large

STREAMS = """
import {{ readFile }} from "node:fs/promises";
import {{ Module }} from {wrapper!r};
const module = await Module.load({wasm!r});
const model = module.model(await readFile({path!r}));
const alone = model.stream();
const expected = [1, 2, 3].map((token) => alone.step(token).slice());
const [a, b] = [model.stream(), model.stream()];
for (const [i, token] of [1, 2, 3].entries()) {{
  const [x, y] = [a, b].map((each) => each.step(token).slice());
  if (Buffer.compare(Buffer.from(x.buffer), Buffer.from(expected[i].buffer)) || x.some((v, j) => v !== y[j])) throw new Error("other bits");
}}
const before = module.wasm.memory.buffer.byteLength;
for (let i = 0; i < 20000; ++i) {{
  const stream = model.stream();
  stream.step(1);
  stream.free();
}}
console.log(module.wasm.memory.buffer.byteLength - before);
try {{
  a.step(10 ** 6);
}} catch (error) {{
  console.log(error instanceof WebAssembly.RuntimeError);
}}
"""


def run(*command, check=True, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=1800, **options)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def wasm():
    for program in ("node", "cmake", "ninja"):
        if not shutil.which(program):
            pytest.skip(f"no {program} on the PATH")
    found = importlib.util.find_spec("ziglang")
    if found is None:
        pytest.skip("no ziglang: pip install ziglang")
    zig, folder = Path(found.origin).parent / "zig", ROOT / "build" / "node"
    run("cmake", "-S", EXAMPLE, "-B", folder, "-G", "Ninja", f"-DRNNFAST_ZIG={zig}")
    run("cmake", "--build", folder, "-j", "2")
    return folder / "rnnfast.wasm"


@pytest.fixture
def model(corpus, tmp_path):
    model = rf.LanguageModel(corpus.vocab, cell="gru", hidden_size=24, embedding_size=8, seed=3)
    model.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_the_program_writes_what_python_writes_without_fused_multiply_adds(wasm, model):
    if "baseline" not in rf.info()["isas_supported"]:
        pytest.skip("this CPU has no table without fused multiply-adds")
    code = f"import rnnfast as rf; print(rf.generate(rf.load({str(model)!r}), 'the time ', length=60, temperature=0.8, seed=7))"
    expected = run(sys.executable, "-c", code, env={**os.environ, "RNNFAST_ISA": "baseline"}).stdout
    assert run("node", EXAMPLE / "generate.mjs", wasm, model, "the time ", 60, 0.8, 7).stdout == expected


def test_errors_reach_the_user(wasm, model, tmp_path):
    program = EXAMPLE / "generate.mjs"
    (tmp_path / "damaged").write_bytes(model.read_bytes()[:-100])
    for path, sentence in ((tmp_path / "missing", "no such file"), (tmp_path / "damaged", "lies outside the file")):
        done = run("node", program, wasm, path, "a", check=False)
        assert done.returncode == 1
        assert sentence in done.stderr
    assert run("node", program, wasm, check=False).returncode == 2


def test_streams_share_a_model_and_return_their_memory(wasm, model, tmp_path):
    script = tmp_path / "streams.mjs"
    script.write_text(STREAMS.format(wrapper=str(EXAMPLE / "rnnfast.mjs"), wasm=str(wasm), path=str(model)))
    done = run("node", script)
    assert done.stdout.split() == ["0", "true"]
