"""Networks in C++ and C: random networks give Python's bits, whole and step by step."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rnnfast as rf

ROOT = Path(__file__).parents[2]
WEIGHTS = ("f32", "bf16", "int8")
ACTIVATIONS = (
    rf.nn.ReLU,
    rf.nn.LeakyReLU,
    rf.nn.ELU,
    rf.nn.GELU,
    rf.nn.SiLU,
    rf.nn.Tanh,
    rf.nn.Sigmoid,
    rf.nn.Hardsigmoid,
)


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The options for CMake to find the wheel's library; set RNNFAST_BUILD to a CMake build folder to install that one instead."""
    if not shutil.which("cmake"):
        pytest.skip("no cmake on the PATH")
    if built := os.environ.get("RNNFAST_BUILD"):
        prefix = tmp_path_factory.mktemp("prefix")
        run("cmake", "--install", built, "--prefix", prefix, "--component", "development")
        return [f"-DCMAKE_PREFIX_PATH={prefix}"]
    if Path(rf.__file__).is_relative_to(ROOT / "python"):
        pytest.skip("an editable install has no C++ library; RNNFAST_BUILD names a build of it")
    return [f"-Drnnfast_DIR={run(sys.executable, '-m', 'rnnfast', '--cmake-dir').strip()}"]


def build(source, folder, package, *targets):
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run("cmake", "-S", ROOT / source, "-B", folder, *generator, *package)
    run("cmake", "--build", folder, *(["--target", *targets] if targets else []))
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory, package):
    return build("tests/install", tmp_path_factory.mktemp("driver"), package, "networks", "estimators") / "networks"


class Random:
    """A network of 1 to 8 layers after one of the inputs, with residual sums, products and concatenations."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.inputs = {"x": self.pick(range(1, 20))}
        self.layers = {}
        self.widths = dict(self.inputs)
        self.pooled = False
        if self.random.random() < 0.4:
            self.inputs["ids"] = {"ids": self.pick(range(2, 30))}
            width = self.inputs["x"]
            self.add(rf.Embedding(self.inputs["ids"]["ids"], width, seed=seed), width, "ids")
            self.add(rf.nn.Add(), width, "x", self.last)
        self.last = self.last if self.layers else "x"
        size = self.pick(range(1, 9))
        while len(self.layers) < size:
            self.layer(seed + len(self.layers))
        if self.random.random() < 0.5:
            self.add(rf.Linear(self.width, 3, seed=seed), 3)
        several = [name for name in self.layers if self.random.random() < 0.2 and name != self.last]
        self.network = rf.Network(inputs=self.inputs, layers=self.layers, outputs=[*several, self.last], seed=seed)

    def pick(self, some):
        return some[int(self.random.integers(len(some)))]

    @property
    def width(self):
        return self.widths[self.last]

    def add(self, layer, width, *reads):
        name = f"l{len(self.layers)}"
        self.layers[name] = (layer, *(reads or (self.last,)))
        self.widths[name] = width
        self.last = name

    def layer(self, seed):
        before, width = self.last, self.width
        kind = self.pick(
            ["recurrent"] * 3
            + ["linear", "norm", "activation", "dropout", "conv", "attention", "join", "pool", "inside"]
        )
        if kind == "recurrent":
            hidden, both = self.pick((1, 5, 16, 23)), bool(self.random.random() < 0.15)
            cell = self.pick(list(rf.nn.LAYERS.values()))
            layer = cell(width, hidden, self.pick((1, 1, 2)), bidirectional=both, seed=seed)
            self.add(layer, hidden * (1 + both))
        elif kind == "linear":
            self.add(rf.Linear(width, 7, bias=bool(self.random.random() < 0.7), seed=seed), 7)
        elif kind == "norm":
            self.add(self.pick((rf.LayerNorm, rf.RMSNorm))(width), width)
        elif kind == "activation":
            self.add(self.pick(ACTIVATIONS)(), width)
        elif kind == "dropout":
            self.add(rf.nn.Dropout(0.3), width)
        elif kind == "inside" and width < 100:
            convolution = rf.Conv1d(1, 4, self.pick((1, 2, 3)), padding=self.pick(("causal", "same")), seed=seed)
            self.add(rf.TimeDistributed(convolution, rf.Magnitude(), steps=width), 2 * width)
        elif kind == "conv" and not self.pooled:
            padding = self.pick(("causal", "causal", "causal", "same"))
            self.add(
                rf.Conv1d(width, 6, self.pick((1, 2, 3)), dilation=self.pick((1, 2)), padding=padding, seed=seed), 6
            )
        elif kind == "attention" and self.random.random() < 0.4:
            self.add(rf.SelfAttention(width, 1, causal=bool(self.random.random() < 0.5), seed=seed), width)
        elif kind == "join":
            joined = self.pick((rf.nn.Add, rf.nn.Multiply, rf.nn.Concatenate))
            self.add(rf.Linear(width, width, seed=seed), width)
            self.add(joined(), 2 * width if joined is rf.nn.Concatenate else width, before, self.last)
        elif kind == "pool" and not self.pooled and self.random.random() < 0.5:
            self.pooled = True
            self.add(rf.nn.Pool(self.pick(("last", "first", "mean", "max"))), width)

    def data(self, steps, rows):
        """(T, N, width) or (T, N) for each input."""
        x = self.random.standard_normal((steps, rows, self.inputs["x"])).astype(np.float32)
        ids = (
            self.random.integers(0, self.inputs["ids"]["ids"], (steps, rows)).astype(np.int32)
            if "ids" in self.inputs
            else None
        )
        return [x] if ids is None else [x, ids]


def flat(arrays):
    return np.concatenate([np.asarray(a, np.float32).ravel() for a in arrays]) if arrays else np.empty(0, np.float32)


class Case:
    """A network's file and inputs for the driver, and Python's outputs."""

    def __init__(self, folder, seed):
        made = Random(seed)
        self.network, pick = made.network, made.pick
        self.steps, self.rows = pick((1, 4, 9)), pick((1, 2, 5))
        self.model, self.inputs, self.outputs = (folder / f"{seed}.{end}" for end in ("safetensors", "in", "out"))
        self.stored, self.weights = pick(WEIGHTS), pick(("stored", *WEIGHTS))
        self.network.save(self.model, weights=self.stored)
        self.data = made.data(self.steps, self.rows)
        self.inputs.write_bytes(b"".join(a.tobytes() for a in self.data))
        self.lengths = None
        if made.random.random() < 0.3:
            self.lengths = made.random.integers(0, self.steps + 1, self.rows)

    def line(self):
        weights = -1 if self.weights == "stored" else WEIGHTS.index(self.weights)
        lengths = "-" if self.lengths is None else ",".join(map(str, self.lengths))
        return f"{self.model} {self.inputs} {self.outputs} {weights} {self.steps} {self.rows} {lengths}\n"

    def expected(self):
        network = rf.load(self.model, weights=None if self.weights == "stored" else self.weights)
        whole = flat(list(network.run(*self.data, lengths=self.lengths).outputs.values()))
        if self.lengths is not None:
            return [whole, whole]
        try:
            step = network.stream(self.rows)
        except ValueError:
            return [whole, whole]
        streamed = []
        for t in range(self.steps):
            y = step(*[a[t] for a in self.data])
            streamed.append(flat(y if isinstance(y, tuple) else [y]))
        return [whole, whole, flat(streamed), flat(streamed)]


def compare(driver, folder, seeds):
    cases = [Case(folder, seed) for seed in seeds]
    run(driver, input="".join(case.line() for case in cases))
    streams = 0
    for case in cases:
        found = np.fromfile(case.outputs, np.float32)
        expected = case.expected()
        streams += len(expected) > 2
        assert np.array_equal(found.view(np.uint32), flat(expected).view(np.uint32)), (case.model.name, case.network)
    return len(cases), streams


def test_random_networks_give_the_same_bits_in_python_cpp_and_c(tmp_path, driver):
    count, streams = compare(driver, tmp_path, range(30))
    assert (count, streams >= 8) == (30, True)


@pytest.mark.slow
def test_300_random_networks_give_the_same_bits_in_python_cpp_and_c(tmp_path, driver):
    count, streams = compare(driver, tmp_path, range(1000, 1300))
    assert (count, streams >= 80) == (300, True)


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    """A network of one input and output, its file, a series (T, 3) for it, and what it makes of that step by step."""
    layers = (
        rf.Conv1d(3, 8, 3, padding="causal", seed=1),
        rf.nn.ReLU(),
        rf.GRU(8, 20, 2, seed=2),
        rf.Linear(20, 3, seed=3),
    )
    path = tmp_path_factory.mktemp("denoiser") / "denoiser.v2.safetensors"
    network = rf.Sequential(*layers)
    network.save(path)
    x = np.sin(np.arange(60, dtype=np.float32)[:, None] * [0.1, 0.2, 0.3]).astype(np.float32)
    return path, x, network(x)


def bits(text):
    return np.array([[float(v) for v in line.split(",")] for line in text.splitlines()], np.float32).view(np.uint32)


def test_the_example_programs_step_a_network(tmp_path, package, denoiser):
    path, x, y = denoiser
    folder = build("examples", tmp_path, package, "network", "network_c")
    csv = "\n".join(",".join(f"{v:.9g}" for v in row) for row in x)
    assert np.array_equal(bits(run(folder / "network", path, input=csv)), y.view(np.uint32))
    eighth = rf.load(path, weights="int8")(x)
    assert np.array_equal(bits(run(folder / "network", path, "int8", input=csv)), eighth.view(np.uint32))
    assert np.array_equal(bits(run(folder / "network_c", path, input=csv.replace(",", " "))), y.view(np.uint32))


def embed(*args, check=True):
    done = subprocess.run(
        [sys.executable, "-m", "rnnfast", "embed", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def test_embed_writes_c_that_returns_the_bytes_of_the_model(tmp_path, denoiser):
    if not shutil.which("cc") or not shutil.which("c++"):
        pytest.skip("no C and C++ compilers here")
    path, _, _ = denoiser
    small = tmp_path / "small.safetensors"
    rf.quantize(path, small, weights="int8")
    (tmp_path / "main.c").write_text(
        "#include <stdio.h>\n#include <stdint.h>\n"
        '#ifdef __cplusplus\nextern "C" {\n#endif\n'
        "const void* denoiser_bytes(void);\nsize_t denoiser_size(void);\n"
        "#ifdef __cplusplus\n}\n#endif\n"
        "int main(void) { fwrite(denoiser_bytes(), 1, denoiser_size(), stdout); return (int)((uintptr_t)denoiser_bytes() % 64); }\n"
    )
    for options, expected in (([], path), (["--weights", "int8"], small)):
        output = tmp_path / "model.c"
        done = embed(path, "--output", output, "--force", *options)
        assert "denoiser_bytes()" in done.stdout
        for compiler in (["cc", "-std=c99"], ["c++", "-std=c++17", "-x", "c++"]):
            program = tmp_path / "program"
            run(*compiler, "-Wall", "-Wextra", "-Werror", "-pedantic", tmp_path / "main.c", output, "-o", program)
            printed = subprocess.run([program], capture_output=True, timeout=60, check=True)  # 0: aligned
            assert printed.stdout == expected.read_bytes()


def test_embed_refuses_what_c_cannot_load_or_name(tmp_path, denoiser):
    path, _, _ = denoiser
    for options, sentence in (
        ([path, "--output", tmp_path / "a.c", "--name", "1st"], "--name 1st is not a name in C"),
        ([path, "--output", path, "--force"], "would overwrite the input"),
        ([tmp_path / "none", "--output", tmp_path / "a.c"], "does not exist"),
    ):
        done = embed(*options, check=False)
        assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "a.c").exists()


def test_an_embedded_network_needs_no_file(tmp_path, package, denoiser):
    path, x, y = denoiser
    embed(path, "--output", tmp_path / "embedded.c", "--name", "embedded")
    shutil.copy(ROOT / "examples" / "network.c", tmp_path / "program.c")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(embedded LANGUAGES C CXX)\nfind_package(rnnfast REQUIRED)\n"
        "add_executable(program program.c embedded.c)\ntarget_compile_definitions(program PRIVATE EMBEDDED)\n"
        "target_link_libraries(program PRIVATE rnnfast::rnnfast)\nset_target_properties(program PROPERTIES LINKER_LANGUAGE CXX)\n"
    )
    folder = build(tmp_path, tmp_path / "build", package)
    numbers = "\n".join(" ".join(f"{v:.9g}" for v in row) for row in x)
    assert np.array_equal(bits(run(folder / "program", input=numbers)), y.view(np.uint32))


@pytest.mark.slow
def test_a_small_library_that_only_runs_models_has_the_same_bits(tmp_path):
    """One instruction set, no training, optimized for size but for the kernels. test_small_library.py has the smaller one."""
    if not shutil.which("cmake"):
        pytest.skip("no cmake on the PATH")
    isa = next((name for name in ("avx2", "neon", "generic") if name in rf.info()["isas_supported"]), None)
    if isa is None:
        pytest.skip("this CPU has none of the instruction sets that this test builds")
    small, prefix = tmp_path / "small", tmp_path / "prefix"
    options = [f"-DRNNFAST_ISAS={isa}", "-DRNNFAST_TRAINING=OFF", "-DCMAKE_BUILD_TYPE=MinSizeRel"]
    options += ["-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=ON", "-DCMAKE_CXX_FLAGS_MINSIZEREL=-Oz -DNDEBUG"]
    run("cmake", "-S", ROOT, "-B", small, *(["-G", "Ninja"] if shutil.which("ninja") else []), *options)
    run("cmake", "--build", small)
    run("cmake", "--install", small, "--prefix", prefix, "--component", "development")
    library = next(path for path in prefix.rglob("librnnfast.so*") if not path.is_symlink())
    assert library.stat().st_size < 700_000, library.stat().st_size
    for shared in ("OFF", "ON"):
        package = [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DRNNFAST_PROGRAMS_SHARED={shared}"]
        folder = build("tests/install", tmp_path / f"programs-{shared}", package, "networks")
        cases = tmp_path / f"cases-{shared}"
        cases.mkdir()
        compare(folder / "networks", cases, range(2000, 2030))


# Estimators -----------------------------------------------------------------------------------------------------------


def lines_of(printed):
    """(the first word, the numbers after it) of each line."""
    return [(line.split(" ")[0], np.array([float(v) for v in line.split(" ")[1:]])) for line in printed.splitlines()]


def check_classifier(driver, path, model, sequences, mode, lines):
    model.save(path)
    found = lines_of(run(driver.parent / "estimators", mode, path, input="".join(f"{line}\n" for line in lines)))
    expected = model.predict_proba(sequences)
    assert [label for label, _ in found] == [str(label) for label in model.classes_[expected.argmax(1)]]
    # The logits are bit-identical; NumPy's exp and sum round differently.
    np.testing.assert_allclose([p for _, p in found], expected, rtol=1e-13, atol=1e-300)


def test_classifiers_of_texts_in_cpp_and_c_agree_with_python(tmp_path, driver):
    texts = ["Ärger", "aba", "ab ba", "xyx", "unknown?", "a"]
    for cell, pooling, labels in (("gru", "last", ["b", "a", "c"]), ("lstm", "mean", [10, -3, 7])):
        model = rf.SequenceClassifier(cell, 9, num_layers=2, pooling=pooling, epochs=2, seed=1)
        model.fit(["aba", "xyx", "Ära", "bab"], [*labels, labels[0]])
        check_classifier(driver, tmp_path / "model", model, texts, "texts", texts)


def test_classifiers_of_numbers_in_cpp_and_c_agree_with_python(tmp_path, driver):
    random = np.random.default_rng(0)
    sequences = [random.normal(5, 3, (steps, 2)) for steps in (3, 7, 1, 4)]
    model = rf.SequenceClassifier("gru", 8, epochs=2, seed=1).fit(sequences, [True, False, True, False])
    lines = [" ".join(f"{v:.17g}" for v in x.ravel()) for x in sequences]
    check_classifier(driver, tmp_path / "model", model, sequences, "numbers", lines)


def tagged(driver, mode, path, lines):
    return lines_of(run(driver.parent / "estimators", mode, path, input="".join(f"{line}\n" for line in lines)))


@pytest.mark.parametrize("both", [True, False])
def test_taggers_in_cpp_and_c_agree_with_python(tmp_path, driver, both):
    random = np.random.default_rng(0)
    texts, path = ["Ärger", "aba", "unknown?", "a"], tmp_path / "model"
    sequences = [random.normal(5, 3, (steps, 2)) for steps in (3, 7, 1, 4)]
    of_texts = rf.SequenceTagger("lstm", 9, num_layers=2, bidirectional=both, epochs=2, seed=1)
    of_texts.fit(["aba", "Ära"], [["x", "y", "x"], ["z", "x", "x"]])
    of_numbers = rf.SequenceTagger("gru", 8, bidirectional=both, epochs=2, seed=1)
    of_numbers.fit(sequences, [[n % 2 for n in range(len(x))] for x in sequences])
    lines = [" ".join(f"{v:.17g}" for v in x.ravel()) for x in sequences]
    for model, mode, given, words in (
        (of_texts, "tag-texts", texts, texts),
        (of_numbers, "tag-numbers", sequences, lines),
    ):
        model.save(path)
        found = tagged(driver, mode, path, words)
        expected = np.concatenate(model.predict_proba(given))
        assert [label for label, _ in found] == [str(label) for label in model.classes_[expected.argmax(1)]]
        np.testing.assert_allclose([p for _, p in found], expected, rtol=1e-13, atol=1e-300)


def check_interval(driver, path, mode, k, steps, numbers, expected):
    text = " ".join(f"{v:.17g}" for v in np.concatenate([np.ravel(part) for part in numbers]))
    found = lines_of(run(driver.parent / "estimators", mode, path, k, steps, input=text))
    for (_, values), wanted in zip(found, expected):
        # The network's inputs and outputs are bit-identical; NumPy adds the terms of the linear part in another order.
        np.testing.assert_allclose(values, np.ravel(wanted), rtol=1e-9)


@pytest.mark.parametrize(("season", "columns", "outside"), [(None, 1, 0), (6, 1, 2), (4, 2, 0), (12, 2, 1)])
def test_intervals_of_forecasters_in_cpp_and_c_agree_with_python(tmp_path, driver, season, columns, outside):
    random, t, path = np.random.default_rng(season or 0), np.arange(90.0), tmp_path / "model"
    waves = 10 + np.sin(t * 2 * np.pi / (season or 7))
    series = np.stack([waves * (1 + t / 30) + random.normal(0, 0.3, 90), np.cos(t / 5)], 1)[:, :columns]
    known = random.normal(size=(100, outside))
    model = rf.Forecaster("gru", 5, horizon=5, season=season, calibration=20, epochs=2, num_layers=2, seed=1)
    model.fit(series[:70], exogenous=known[:70] if outside else None)
    model.save(path)
    later = known[70:74] if outside else None
    check_interval(driver, path, "interval", 4, 0, [known[70:74]], model.predict_interval(4, exogenous=later))
    for other in (series, series[:75], series[20:] + 0.5):  # continued, and another one
        rows = known[: len(other) + 5]
        wanted = model.predict_interval(5, other, exogenous=rows if outside else None)
        check_interval(driver, path, "interval-of", 5, len(other), [other, rows], wanted)


def test_forecasters_in_cpp_and_c_have_the_bits_of_python(tmp_path, driver):
    t = np.arange(120.0)
    two = np.stack([100 + 20 * np.sin(t / 5), np.cos(t / 7)], 1)
    for cell, series in (("gru", two[:, 0]), ("lstm", two), ("sru", two)):
        model = rf.Autoregressor(cell, 11, num_layers=2, epochs=2, seed=1).fit(series)
        model.save(tmp_path / "model")
        other = series[20:50] + 1
        numbers = " ".join(f"{v:.17g}" for v in other.ravel())
        printed = run(driver.parent / "estimators", "forecast", tmp_path / "model", "5", input=numbers)
        after, after_other, stepped = (values for _, values in lines_of(printed))
        assert np.array_equal(after, model.forecast(5).ravel())
        assert np.array_equal(after_other, model.forecast(5, other).ravel())
        whole = model.forecast(1, np.concatenate([series, other])).ravel()
        np.testing.assert_allclose(stepped[-len(whole) :], whole, rtol=1e-6)  # fitted on from the end of the series
