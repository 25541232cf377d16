"""The library in a C++ or C program: other builds find it, and results are bit-identical to Python's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rnnfast as rf
from rnnfast import _core

ROOT = Path(__file__).parents[2]
TEXT = "the time traveller for so it will be convenient to speak of him was expounding a recondite matter to us.\n" * 12
WEIGHTS = ("f32", "bf16", "int8")


def run(*command, check=True, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, **options)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def cmake_dir():
    if Path(rf.__file__).is_relative_to(ROOT / "python"):
        pytest.skip("an editable install has no C++ library")
    printed = run(sys.executable, "-m", "rnnfast", "--cmake-dir", env={**os.environ, "COLUMNS": "20"}).stdout
    folder = Path(printed.rstrip("\n"))  # one line, however narrow the terminal
    assert (folder / "rnnfast-config.cmake").exists(), printed
    return folder


def build(source, folder, *options):
    """Configures and builds as README describes."""
    if not shutil.which("cmake"):
        pytest.skip("no cmake on the PATH")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run("cmake", "-S", ROOT / source, "-B", folder, *generator, *options)
    run("cmake", "--build", folder)
    return folder


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The examples, built against the wheel; set RNNFAST_BUILD to a CMake build folder to install that one instead."""
    folder = tmp_path_factory.mktemp("examples")
    return build("examples", folder, f"-Drnnfast_DIR={cmake_dir()}")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return build("tests/install", tmp_path_factory.mktemp("programs"), f"-Drnnfast_DIR={cmake_dir()}")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """An empty prefix, with the library of a CMake build installed into it."""
    built = os.environ.get("RNNFAST_BUILD")
    if not built:
        pytest.skip("RNNFAST_BUILD names no CMake build of the library to install")
    folder = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", built, "--prefix", folder, "--component", "development")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One file for each of several cells, with a vocabulary of characters; one of words."""
    folder = tmp_path_factory.mktemp("models")
    char, word = (rf.Corpus.from_text(TEXT, tokenizer=kind).vocab for kind in ("char", "word"))
    paths = {}
    for name, vocab, options in (
        ("rnn", char, {"hidden_size": 21}),
        ("gru", char, {"hidden_size": 40, "embedding_size": 17, "num_layers": 2}),
        ("lstm", char, {"hidden_size": 64, "embedding_size": 32}),
        (
            "tied",
            char,
            {"cell": "gru", "hidden_size": 24, "embedding_size": 24, "tie_weights": True, "variational": True},
        ),
        ("projected", char, {"cell": "gru", "hidden_size": 24, "embedding_size": 10, "tie_weights": True}),
        (
            "residual",
            char,
            {
                "cell": "mingru",
                "hidden_size": 24,
                "embedding_size": 24,
                "num_layers": 3,
                "residual": True,
                "norm": "rms",
            },
        ),
        ("window", char, {"cell": "qrnn", "window": 2, "hidden_size": 24, "embedding_size": 17, "num_layers": 2}),
        (
            "windows apart",
            char,
            {
                "cell": "qrnn",
                "window": 2,
                "hidden_size": 24,
                "embedding_size": 17,
                "num_layers": 3,
                "norm": "layer",
            },
        ),
        ("words", word, {"cell": "lstm", "hidden_size": 33, "embedding_size": 20, "num_layers": 2}),
    ):
        model = rf.LanguageModel(vocab, seed=3, **{"cell": name, **options})
        paths[name] = folder / f"{name}.safetensors"
        model.save(paths[name])
    return paths


def bits(logits):
    return "".join(f"{word:08x}" for word in np.asarray(logits, np.float32).ravel().view(np.uint32))


PYTHON_LOGITS = """
import sys, numpy as np, rnnfast as rf
path, text, weights = sys.argv[1:]
model = rf.load(path, weights=None if weights == "stored" else weights)
state = None
for token in model.vocab.encode_text(text):
    logits, state = model.step(np.array([token], np.int32), state)
    print("".join(f"{word:08x}" for word in logits.ravel().view(np.uint32)))
"""


@pytest.mark.parametrize("isa", _core.info()["isas_supported"])
def test_logits_of_a_cpp_program_are_bit_identical_to_python_s(programs, models, isa):
    text = "the time machine, isn't it?\nünd so"
    environment = {**os.environ, "RNNFAST_ISA": isa}
    for path in models.values():
        for weights in WEIGHTS:
            theirs = run(programs / "logits", path, text, weights, env=environment).stdout
            ours = run(sys.executable, "-c", PYTHON_LOGITS, path, text, weights, env=environment).stdout
            assert len(ours) > 1000
            assert theirs == ours, (path, weights)


@pytest.mark.parametrize("weights", ["bf16", "int8"])
def test_a_quantized_file_gives_what_quantizing_at_load_gives(tmp_path, programs, models, weights):
    for path in models.values():
        smaller = tmp_path / "smaller.safetensors"
        rf.quantize(path, smaller, weights=weights)
        at_load = run(programs / "logits", path, "the matter", weights).stdout
        assert run(programs / "logits", smaller, "the matter", "stored").stdout == at_load
        assert run(sys.executable, "-c", PYTHON_LOGITS, smaller, "the matter", "stored").stdout == at_load


def test_the_generator_writes_what_python_writes(examples, models):
    for name, path in models.items():
        expected = rf.generate(rf.load(path), "the time ", length=60, temperature=0.8, seed=7) + "\n"
        assert run(examples / "generate", path, "the time ", 60, 0.8, 7).stdout == expected
        if name != "words":  # the C program writes each token as it comes
            assert run(examples / "generate_c", path, "the time ", 60, 0.8, 7).stdout == expected


@pytest.fixture(scope="module")
def translators(tmp_path_factory):
    """Untrained translators of every attention: of words in lower case, and of characters."""
    folder = tmp_path_factory.mktemp("translators")
    pairs = [("Ich sehe DICH, Ärger!", "I see you, trouble!"), ("er geht nach hause", "he goes home")]
    paths = {}
    for name, tokenizer, options in (
        ("deep", "word", {"cell": "lstm", "num_layers": 2, "decoder": "d2l"}),
        ("both", "word", {"bidirectional": True, "readout": "all", "attention": "additive"}),
        ("previous", "char", {"decoder": "previous", "attention": "general"}),
        ("mean", "char", {"cell": "rnn", "context": "mean", "attention": "dot"}),
    ):
        corpus = rf.ParallelCorpus.from_pairs(pairs, tokenizer=tokenizer, lower=tokenizer == "word")
        model = rf.Seq2Seq(
            corpus.source_vocab, corpus.target_vocab, embedding_size=9, hidden_size=21, seed=4,
            **options,
        )  # fmt: skip
        model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})
        paths[name] = folder / f"{name}.safetensors"
        model.save(paths[name])
    return paths


PYTHON_TRANSLATIONS = """
import sys, rnnfast as rf
from rnnfast.translate import translations
path, beam, best = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lines = sys.stdin.read().split("\\n")[:-1]
for found in translations(rf.load(path), lines, beam_size=beam, n_best=best):
    for t in found:
        print(f"{t.log_prob:.17g}\\t{t.text}")
"""
LINES = "Ich sehe dich!\nÄRGER <eos> nach hause\n\ner\ngeht unbekannt nach\n"


@pytest.mark.parametrize("isa", _core.info()["isas_supported"])
def test_translations_of_a_cpp_program_are_bit_identical_to_python_s(examples, translators, isa):
    environment = {**os.environ, "RNNFAST_ISA": isa, "PYTHONIOENCODING": "utf-8"}
    for path in translators.values():
        for beam in (1, 4):
            theirs = run(examples / "translate", path, beam, beam, input=LINES, env=environment).stdout
            ours = run(sys.executable, "-c", PYTHON_TRANSLATIONS, path, beam, beam, input=LINES, env=environment).stdout
            assert len(ours.splitlines()) == 4 * beam + 1  # an empty line has only the empty translation
            assert theirs == ours, (path, beam)


def test_the_c_program_translates_too(tmp_path, examples, translators):
    path = tmp_path / "small.safetensors"
    rf.quantize(translators["both"], path, weights="int8")
    from rnnfast.translate import translations

    found = translations(rf.load(path), ["er geht"], beam_size=3, n_best=2)[0]
    expected = "".join(f"{t.log_prob:.17g}\t{t.text}\n" for t in found)
    assert run(examples / "translate_c", path, "er geht", 3, 2).stdout == expected
    done = run(examples / "translate_c", path, "er geht", 0, check=False)
    assert (done.returncode, "beam_size is 0" in done.stderr) == (1, True)


def test_each_kind_of_file_says_how_it_is_loaded(examples, models, translators):
    done = run(examples / "translate", models["gru"], check=False, input="")
    assert (done.returncode, "load it as a LanguageModel" in done.stderr) == (1, True)
    done = run(examples / "generate", translators["mean"], "a", 3, check=False)
    assert (done.returncode, "load it as a Translator" in done.stderr) == (1, True)


def test_the_scorer_s_threads_give_python_s_probabilities(tmp_path, examples, models):
    lines = ["the time traveller", "", "a recondite matter to us", "x", "speak of him"] * 5
    (tmp_path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    for path in models.values():
        model = rf.load(path)
        out = run(examples / "score", path, tmp_path / "lines.txt", 8).stdout.splitlines()
        total, tokens = 0.0, 0
        for line, text in zip(out, lines):
            ids = model.vocab.encode_text(text)
            expected = 0.0
            if len(ids) > 1:
                nll, _ = model.nll(ids[:-1, None], ids[1:, None])
                expected, tokens = -float(nll.sum()), tokens + len(nll)
            total += expected
            assert float(line.split("\t")[0]) == pytest.approx(expected, rel=1e-8, abs=1e-12)
        shown = re.match(r"perplexity ([\d.]+) on (\d+) tokens", out[-1])
        assert int(shown.group(2)) == tokens
        assert float(shown.group(1)) == pytest.approx(np.exp(-total / tokens), rel=1e-6)


def test_the_sensor_program_runs_your_own_weights(tmp_path, examples):
    lstm, head = rf.LSTM(3, 20, 2, seed=1), rf.Linear(20, 3, seed=2)
    tensors = {f"rnn.{n}": v for n, v in lstm.state_dict().items()}
    tensors |= {f"head.{n}": v for n, v in head.state_dict().items()}
    _core.write_safetensors(str(tmp_path / "weights.safetensors"), tensors, {})
    rows = np.sin(np.arange(60, dtype=np.float32)[:, None] * [0.1, 0.2, 0.3]).astype(np.float32)
    csv = "\n".join(",".join(f"{v:.9g}" for v in row) for row in rows)
    out = run(examples / "sensor", tmp_path / "weights.safetensors", input=csv).stdout.splitlines()
    found = np.array([[float(v) for v in line.split(",")] for line in out], np.float32)
    y, _ = lstm(rows[:, None, :])
    expected = head(y[:, 0])
    assert bits(found[:, 1:]) == bits(expected)
    error = np.sqrt(np.mean((rows[1:].astype(float) - expected[:-1]) ** 2, axis=1))
    np.testing.assert_allclose(found[1:, 0], error, rtol=1e-5)
    done = run(examples / "sensor", tmp_path / "weights.safetensors", input="1,2\n", check=False)
    assert done.returncode == 1
    assert "expected 3 numbers" in done.stderr


def test_steps_allocate_nothing_after_the_first(programs, models):
    for path in models.values():
        out = run(programs / "allocations", path).stdout.splitlines()
        assert len(out) == len(WEIGHTS)
        assert all(re.fullmatch(r"\d: loading \d+, 1000 steps 0, 100 steps of 20 streams 0", line) for line in out), out


def test_a_program_gives_memory_and_threads_of_its_own(programs, models):
    held = r"set_allocator: the library holds \d+ blocks of memory; set it before anything else is called"
    status = r"C: [1-9]\d*"
    expected = [
        "memory was asked for: 1", held, status, held, "1 parts: 1 1", "3 parts: 1 1", "9 parts: 1 1", "C: 1 1",
        "the executor ran 0 of 0 parts: execute must call run once for every index, and return when all have returned",
        "1", "no memory", status,
    ]  # fmt: skip
    for path in models.values():
        lines = run(programs / "host", path).stdout.splitlines()
        assert len(lines) == len(expected), lines
        assert all(re.fullmatch(wanted, line) for wanted, line in zip(expected, lines)), lines


def test_a_program_receives_events_for_its_log(programs, models):
    file = models["lstm"]
    size = file.stat().st_size
    environment = {**os.environ, "RNNFAST_NUM_THREADS": "4096", "RNNFAST_ISA": _core.info()["isa_active"]}
    lines = run(programs / "log", file, env=environment).stdout.splitlines()
    forked = "warning: calls of this process use one thread: it was forked after OpenMP had started its threads"
    if forked in lines:  # not on one core, nor without OpenMP
        lines.remove(forked)
    lines = [line for line in lines if "huge pages" not in line]
    threads = lines.pop(2)
    assert re.fullmatch(
        r"warning: threads: (\d+), fewer than RNNFAST_NUM_THREADS; cores that affinity and CPU quota allow: \d+",
        threads,
    )
    assert lines == [
        f"info: {file}: {size} bytes, mapped",
        f"info: instruction set {_core.info()['isa_active']}",
        f"info: the model in memory: {size} bytes, not copied",
        "steps: 0",
        f"C 0: {file}: {size} bytes, mapped",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="counts the page faults of a thread")
@pytest.mark.parametrize("api", ["lm", "c", "network", "n"])
def test_a_step_after_prefault_causes_no_page_fault(programs, tmp_path, api):
    file = tmp_path / "model.safetensors"
    if api in ("lm", "c"):
        vocab = rf.Corpus.from_text(TEXT).vocab
        rf.LanguageModel(vocab, cell="lstm", embedding_size=200, hidden_size=700, num_layers=2, seed=0).save(file)
    else:
        rf.Sequential(rf.LSTM(20, 500, 2, seed=1), rf.LayerNorm(500), rf.Linear(500, 3000, seed=2)).save(file)
    for count in (1, 12):
        (cold, expected), *ready = (
            run(programs / "prefault", api, file, count, prefault).stdout.split() for prefault in (0, 1, 1, 1)
        )
        assert int(cold) > 0
        assert min(int(faults) for faults, _ in ready) == 0  # the system may move a page at any moment
        assert {result for _, result in ready} == {expected}  # and the states are as before


def test_steps_make_no_system_call_after_the_first(tmp_path, programs, models):
    if not shutil.which("strace"):
        pytest.skip("no strace here")
    trace = tmp_path / "trace"
    done = run("strace", "-f", "-o", trace, programs / "allocations", models["lstm"], check=False)
    if done.returncode:
        pytest.skip(f"strace may not trace here: {done.stderr[-200:]}")
    calls = re.sub(r"^\d+ +", "", trace.read_text(encoding="utf-8"), flags=re.MULTILINE)
    between = re.findall(r"steps begin.*\n([\s\S]*?)write\(2, \"steps end", calls)
    assert between == [""] * len(WEIGHTS)


@pytest.mark.parametrize("isa", _core.info()["isas_supported"])
def test_a_program_without_exceptions_prints_the_bits_that_every_platform_has(programs, isa):
    golden = ROOT / "tests" / "golden"
    out = run(programs / "smoke", golden, env={**os.environ, "RNNFAST_ISA": isa}).stdout.splitlines()
    expected = (golden / ("bits_unfused.txt" if isa == "baseline" else "bits_fused.txt")).read_text(encoding="utf-8")
    assert out == [f"table: {isa}", *expected.splitlines(), "errors are reported", "done"]


def test_denormals_are_kept_and_the_mode_of_the_processor_is_left_alone(programs):
    lines = run(programs / "denormals").stdout.splitlines()
    assert float.fromhex(lines[0]) == float(np.float32(1e-20) * np.float32(1e-20))


def test_the_library_is_found_in_an_empty_prefix(tmp_path, prefix, models):
    for shared in ("OFF", "ON"):
        folder = tmp_path / shared
        build("examples", folder, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DRNNFAST_EXAMPLES_SHARED={shared}")
        expected = rf.generate(rf.load(models["lstm"]), "the ", length=20, temperature=0.8, seed=1) + "\n"
        assert run(folder / "generate", models["lstm"], "the ", 20, 0.8, 1).stdout == expected
        linked = run("ldd", folder / "generate").stdout
        assert ("librnnfast.so.0" in linked) == (shared == "ON")


def test_pkg_config_builds_the_c_program(tmp_path, prefix, models):
    if not shutil.which("pkg-config"):
        pytest.skip("no pkg-config here")
    folder = next(prefix.rglob("rnnfast.pc")).parent
    flags = run("pkg-config", "--cflags", "--libs", "rnnfast", env={**os.environ, "PKG_CONFIG_PATH": str(folder)})
    program = tmp_path / "generate_c"
    source = ROOT / "examples" / "generate.c"
    run("cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", source, *flags.stdout.split(), "-o", program)
    expected = rf.generate(rf.load(models["gru"]), "the ", length=20, temperature=0.8, seed=1) + "\n"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder.parent)}
    assert run(program, models["gru"], "the ", 20, 0.8, 1, env=environment).stdout == expected


def test_the_shared_library_exports_only_the_api(prefix):
    library = next(p for p in prefix.rglob("librnnfast.so*") if not p.is_symlink())
    assert "SONAME               librnnfast.so.0" in run("objdump", "-p", library).stdout
    names = [line.split()[-1] for line in run("nm", "-D", "--defined-only", library).stdout.splitlines()]
    assert not [n for n in names if not re.match(r"rnnfast_|_ZNK?7rnnfast|_ZT[ISV]N?K?7rnnfast|_ZTIN7rnnfast", n)]
    shown = run("nm", "-DC", "--defined-only", library).stdout
    assert "rnnfast_step" in shown
    assert "rnnfast::v1::LanguageModel::load" in shown
    assert "rnnfast::v1::Translator::translate" in shown
    assert not re.search(r"rnnfast::(PackedMatrix|scan_forward|avx2|baseline|parse_json|Recurrent::)", shown)


def test_the_stripped_shared_library_with_all_isas_is_below_2_mb(tmp_path):
    """Linked from the wheel's objects, which are a Release build without the tests' own table."""
    archive = cmake_dir().parents[1] / "librnnfast.a"
    library = tmp_path / "librnnfast.so"
    run("c++", "-shared", "-fopenmp", "-s", "-Wl,--whole-archive", archive, "-Wl,--no-whole-archive", "-Wl,--gc-sections",
        f"-Wl,--version-script={ROOT / 'cmake' / 'rnnfast.map'}", "-o", library)  # fmt: skip
    assert library.stat().st_size < 2_000_000, library.stat().st_size


def test_the_public_headers_need_nothing_else(tmp_path):
    include = ROOT / "cpp" / "include"
    for header, compiler in (
        ("rnnfast.h", ["cc", "-std=c99", "-x", "c"]),
        ("layers.hpp", ["c++", "-std=c++17", "-x", "c++"]),
        ("translator.hpp", ["c++", "-std=c++17", "-x", "c++"]),
        ("network.hpp", ["c++", "-std=c++17", "-x", "c++"]),
        ("estimators.hpp", ["c++", "-std=c++17", "-x", "c++"]),
    ):
        if not shutil.which(compiler[0]):
            pytest.skip(f"no {compiler[0]} here")
        run(*compiler, "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{include}", "-fsyntax-only", "-include",
            f"rnnfast/{header}", "/dev/null")  # fmt: skip


WORDS_WITH_MARKS = [
    "हिन्दी",
    "क्‍ष",
    "e\u0301te\u0301",
    "مَرْحَبًا",
    "שָׁלוֹם",
    "İstanbul",
    "می‌خواهم",
    "1️⃣",
    "❤️",
    "«\u0301",
    "\u0301a",
    "<ह‌ि>",
]


@pytest.mark.fault("N19")
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("tokenizer", ["char", "word", "word-v1", "whitespace", "d2l-char", "d2l-word", "d2l-nmt"])
def test_cpp_reads_text_as_python_does(tmp_path, programs, tokenizer, lower):
    """Every character of Unicode this Python and the library's table know alike, as a word and between words."""
    import unicodedata

    letters = [chr(c) for c in range(0x3000) if unicodedata.category(chr(c)) not in ("Cc", "Cs", "Cn")]
    letters += [chr(c) for c in range(0x3000, 0x110000) if unicodedata.category(chr(c))[0] == "M"]
    text = (
        "".join(f"{c} a{c}b <{c}> '{c}\n" for c in letters)
        + f"{' '.join(WORDS_WITH_MARKS)}\n"
        + "don't l’été <unk> <a b> x''y 日本語 😀é\n\n (a) [b], $5 100% “q” \n"
        + "ΟΔΟΣ ΟΔΟΣ. ΣΑΣ'Σ Σ ΑΣ\u0301 ΑΣ\u0301Α 1Σ İSTANBUL ẞ Ǆ Go... Va\u202f! a\xa0, b ,c\n"
    )
    read = rf.Vocab(tokenizer=tokenizer, lower=lower)
    vocab = rf.Vocab(read.tokenize(text), tokenizer=tokenizer, lower=lower)
    path = tmp_path / "m.safetensors"
    rf.LanguageModel(vocab, hidden_size=2, seed=0).save(path)
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    out = run(programs / "encode", path, tmp_path / "text.txt").stdout.split("\0")
    ids = vocab.encode_text(text)
    assert [int(i) for i in out[0].split()] == ids.tolist()
    assert out[1] == vocab.decode(ids)
