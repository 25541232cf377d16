"""The parts of the benchmarks that need no clock: bounds, weights of the frameworks, the worker protocol, the report."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").exists():
    pytest.skip("benchmarks are not part of this copy", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import peers, report  # noqa: E402
from benchmarks.bounds import Level, Rates, bound_seconds, measure_rates, product_seconds  # noqa: E402
from benchmarks.cases import COMMON, Case, all_cases, chosen, inputs, weights  # noqa: E402
from benchmarks.measure import Measured, Worker, WorkerFailed, largest_difference, measure  # noqa: E402

import rnnfast as rf  # noqa: E402
from rnnfast import _core  # noqa: E402

# A machine of round numbers: 100 GFLOP/s, a fast small cache, a slow memory.
RATES = Rates(1, 100e9, 200e9, (Level("L1", 1000, 200e9), Level("L2", 1e6, 100e9), Level("DRAM", math.inf, 10e9)))
SMALL = [
    Case("forward", "RNN", 5, 3, 7, 12),
    Case("forward", "GRU", 5, 3, 7, 12),
    Case("forward", "LSTM", 5, 3, 7, 12),
    Case("forward", "LSTM", 5, 3, 7, 12, layers=2),
    Case("forward", "GRU", 5, 3, 7, 12, bidirectional=True),
    Case("forward", "LSTM", 9, 4, 7, 12, ragged=True),
    Case("stream", "RNN", 1, 1, 7, 12),
    Case("stream", "GRU", 1, 1, 7, 12),
    Case("stream", "LSTM", 1, 1, 7, 12),
    Case("train", "RNN", 5, 3, 7, 12),
    Case("train", "GRU", 5, 3, 7, 12, layers=2),
    Case("train", "LSTM", 9, 4, 7, 12, ragged=True),
    Case("lm", "LSTM", 5, 3, 7, 12, layers=2, V=31),
    Case("lm", "RNN", 5, 3, 0, 12, V=31),
]


def names(cases):
    return [case.name for case in cases]


def test_a_product_is_bound_by_arithmetic_for_many_rows_and_by_reading_for_one():
    assert product_seconds(RATES, 1000, 1000) == pytest.approx(2 * 1000 * 1000 / 100e9)
    assert product_seconds(RATES, 1, 1000) == pytest.approx(4000 / 100e9)  # 4,000 bytes fit in L2
    assert product_seconds(RATES, 1, 1_000_000) == pytest.approx(4e6 / 10e9)
    assert product_seconds(RATES, 1, 1000, bf16=True) == pytest.approx(2000 / 100e9)
    # Two matrices of 600,000 bytes read in turn do not stay in a cache of 1,000,000.
    assert product_seconds(RATES, 1, 150_000, resident=150_000) == pytest.approx(600_000 / 10e9)


def test_the_bound_of_a_layer_adds_its_phases():
    # LSTM 10x1x32x50: W_ih 32·200 and W_hh 50·200 numbers, both in L2.
    forward = bound_seconds(Case("forward", "LSTM", 10, 1, 32, 50), RATES)
    over_rows = max(2 * 10 * 6400 / 100e9, 4 * 6400 / 100e9)
    over_time = 10 * 4 * 10_000 / 100e9  # one row: reading takes twice as long as the arithmetic
    assert forward == pytest.approx(over_rows + over_time)
    train = bound_seconds(Case("train", "LSTM", 10, 1, 32, 50), RATES)
    assert train == pytest.approx(3 * over_rows + 2 * over_time + 2 * 10 * 10_000 / 100e9)


def test_the_bound_of_a_language_model_has_three_products_over_the_vocabulary_and_none_for_one_hot_input():
    case = Case("lm", "RNN", 50, 20, 0, 10, V=30)
    recurrent = 50 * max(2 * 20 * 100 / 100e9, 400 / 200e9)
    assert bound_seconds(case, RATES) == pytest.approx(
        2 * recurrent + 2 * 1000 * 100 / 100e9 + 3 * 2 * 1000 * 300 / 100e9
    )
    assert case.flops == 6 * 1000 * (100 + 300)


def test_ragged_rows_count_only_the_steps_they_have():
    case = Case("forward", "RNN", 8, 4, 16, 16, ragged=True)
    assert case.lengths().tolist() == [8, 6, 4, 2]
    assert case.tokens == 20
    assert case.flops == 2 * 20 * 16 * 32


def test_every_case_has_a_unique_name_and_can_be_chosen_by_part_of_it_or_by_size():
    cases = list(all_cases(["layers", "stream", "train", "lm"], ["RNN", "GRU", "LSTM"], "all"))
    assert len(set(names(cases))) == len(cases)
    assert names(chosen(cases, "LSTM 35x1x256x256")) == ["forward LSTM 35x1x256x256", "train LSTM 35x1x256x256"]
    own = chosen(list(all_cases(["layers"], ["RNN", "GRU"])), "3x4x5x6")
    assert names(own) == ["forward RNN 3x4x5x6", "forward GRU 3x4x5x6"]
    with pytest.raises(ValueError, match="no case matches 'nothing'"):
        chosen(cases, "nothing")


def test_every_process_makes_the_same_weights_and_inputs():
    for case in SMALL:
        for make in (weights, inputs):
            first, second = make(case), make(case)
            assert first.keys() == second.keys()
            assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_machine_s_rates_are_measured_for_every_cache():
    rates = measure_rates(_core, 1, seconds=0.0)
    assert [level.name for level in rates.levels] == ["L1", "L2", "L3", "DRAM"]
    assert rates.fma_flops > 0
    assert all(level.bytes_per_second > 0 for level in rates.levels)
    with pytest.raises(ValueError, match="threads is 0"):
        _core.multiply_add_rate(0, 0.0)


@pytest.mark.parametrize("peer", [name for name in peers.PEERS if name not in ("rnnfast", "torch_compile")])
def test_a_framework_does_the_same_work(peer):
    """The gates' order, the biases, the lengths and the gradients; bf16 keeps two digits."""
    script = f"""
import json, sys, tempfile
sys.path.insert(0, {str(ROOT)!r})
from benchmarks.measure import Worker, Measured, prepare
from benchmarks.cases import Case
workers = {{name: Worker(name, 1) for name in ("rnnfast", {peer!r})}}
missing = workers[{peer!r}].missing
result = {{"missing": missing, "done": [], "skipped": {{}}, "wrong": {{}}}}
for case in json.loads(sys.argv[1]) if missing is None else []:
    measured = Measured()
    result["done"] += [Case(**case).name] * ({peer!r} in prepare(workers, Case(**case), measured))
    result["skipped"].update(measured.skipped)
    result["wrong"].update({{Case(**case).name: why for why in measured.wrong.values()}})
for worker in workers.values():
    worker.close()
print(json.dumps(result))
"""
    able = [case for case in SMALL if peers.PEERS[peer].supports(case)]
    cases = json.dumps([asdict(case) for case in able])
    run = subprocess.run([sys.executable, "-c", script, cases], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    if result["missing"]:
        pytest.skip(f"{peer}: {result['missing']}")
    assert not result["wrong"]
    assert result["done"] == names(able), result["skipped"]


def test_a_worker_answers_each_line_with_one_line_and_reports_errors():
    worker = Worker("rnnfast", 1)
    try:
        assert worker.missing is None
        with pytest.raises(WorkerFailed, match="nothing is prepared"):
            worker.ask("time", seconds=0.0)
        measured = measure({"rnnfast": worker}, SMALL[0], seconds=0.0, least_rounds=1)
        assert measured.rounds == 1
        assert min(measured.times["rnnfast"]) > 0
        assert measured.differences == {"rnnfast": 0.0}
    finally:
        worker.close()


def test_a_worker_that_dies_is_an_error_and_not_a_wait():
    worker = Worker("rnnfast", 1)
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(WorkerFailed, match="rnnfast: the process .*ended"):
        worker.ask("where")
    worker.close()


def test_a_framework_that_is_not_installed_is_named(tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('No module named onnxruntime')\n")
    worker = Worker("onnxruntime", 1, {"PYTHONPATH": str(tmp_path)})
    worker.close()
    assert "onnxruntime" in worker.missing


def test_differences_are_relative_to_the_largest_element_and_a_nan_is_one():
    reference = {"y": np.array([1.0, -4.0])}
    assert largest_difference(reference, {"y": np.array([1.0, -4.4])}) == pytest.approx(0.1)
    assert largest_difference(reference, {"y": np.array([np.nan, -4.0])}) == math.inf
    with pytest.raises(ValueError, match="y has shape"):
        largest_difference(reference, {"y": np.zeros(3)})


def example(ours, torch, jax):
    case = Case("forward", "RNN", 10, 4, 32, 32)
    times = {"rnnfast": ours, "torch": torch, "jax": jax}
    return report.summarise(case, RATES, Measured(times, dict.fromkeys(times, 0.0), rounds=3))


def test_the_report_gives_ratios_and_marks_what_loses():
    wins = example([1.0, 1.1, 1.2], [2.2, 2.2, 2.2], [1.65, 1.65, 1.65])
    assert wins["ratio"] == {"torch": pytest.approx(2.0), "jax": pytest.approx(1.5)}
    assert (wins["fastest_peer"], wins["ratio_to_fastest"]) == ("jax", pytest.approx(1.5))
    assert wins["loses_to"] == []
    loses = example([1.0, 1.1, 1.2], [2.2, 2.2, 2.2], [0.9, 1.2, 1.2])  # by its best run
    assert loses["loses_to"] == ["jax"]
    table = report.markdown([wins, loses]).splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert "loses" not in table[2]
    assert "**loses** to JAX" in table[3]
    assert report.summary([wins, loses])[0].endswith("1 of 2 lose")


def test_every_framework_has_a_column_and_a_mark():
    from benchmarks import plot
    from benchmarks.peers import PEERS

    others = {name for name in PEERS if not name.startswith("rnnfast")}
    assert others == set(report.LABELS) == set(plot.STYLES)


def test_bf16_is_compared_with_bf16_only():
    times = {"rnnfast": [2.0], "rnnfast_bf16": [1.0], "openvino": [3.0], "openvino_bf16": [1.5]}
    measured = Measured(times, dict.fromkeys(times, 0.0), rounds=1)
    result = report.summarise(Case("forward", "RNN", 10, 40, 32, 32), RATES, measured, "bf16")
    assert result["ratio"] == {"openvino_bf16": 1.5}
    assert result["speedup_over_f32"] == 2.0
    full = report.summarise(Case("forward", "RNN", 10, 40, 32, 32), RATES, measured)
    assert full["ratio"] == {"openvino": 1.5}
    assert full["bound_ms"] == pytest.approx(2 * result["bound_ms"])


def test_the_plot_is_drawn_from_what_json_holds(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.plot import plot

    result = {**example([1.0], [2.0], [0.9]), "info": {"isa_active": "avx2"}}
    plot([json.loads(json.dumps(result))], str(tmp_path / "ratios.png"))
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_perplexity_curves_are_drawn_from_a_log_and_from_nothing_else(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks import curves

    log, picture = tmp_path / "gru.json", tmp_path / "curves.png"
    epochs = [{"epoch": e, "rnnfast_train_perplexity": 20 / e, "torch_train_perplexity": 19 / e} for e in (1, 2, 3)]
    log.write_text("gru, 1 thread\n" + "".join(json.dumps(e) + "\n" for e in [*epochs, {"ratio": 2.0}]))
    curves.main([str(log), "--published", "1.1", "--plot", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert curves.read(log) == epochs
    log.write_text("{}\n")
    with pytest.raises(SystemExit, match=r"holds no epoch: give what benchmarks\.ptb_pytorch printed"):
        curves.read(log)


def test_stacks_of_equal_arithmetic_train_for_their_time_and_are_drawn(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    from benchmarks import scan_quality

    counts = [stack.multiplications(256) for stack in scan_quality.STACKS.values()]
    assert max(counts) <= 1.07 * min(counts)
    text = rf.Corpus.from_text("a rose is a rose. " * 60, tokenizer="char").split(0.8, 0.1, 0.1)
    monkeypatch.setattr(scan_quality, "corpora", lambda name: text)
    data = scan_quality.Data(width=8, batch_size=4, num_steps=8, lr=1e-2, dropout=0.1, unit="nats")
    monkeypatch.setitem(scan_quality.DATA, "tinyshakespeare", data)
    out, picture = tmp_path / "runs.json", tmp_path / "curves.png"
    options = ["tinyshakespeare", "--minutes", "0.002", "--threads", "1", "--models", "LSTM", "minGRU"]
    threads = rf.get_num_threads()
    try:
        scan_quality.main([*options, "--json", str(out), "--plot", str(picture)])
    finally:
        rf.set_num_threads(threads)
    runs = [json.loads(line) for line in out.read_text().splitlines()]
    assert [run["name"] for run in runs] == ["LSTM", "minGRU"]
    assert all(run["curve"] and run["curve"][-1]["seconds"] >= 0.12 for run in runs)
    assert picture.read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    scan_quality.main(["--from", str(out)])
    assert capsys.readouterr().out == shown


def test_the_recipe_of_the_hour_is_the_same_in_pytorch_and_its_speed_is_measured(monkeypatch, capsys):
    pytest.importorskip("torch")
    from benchmarks import hour_pytorch as hour

    text = " ".join(["a", "rose", "is", "a", "rose", "and", "so", "is", "this"] * 40)
    small = {"embedding_size": 8, "hidden_size": 8, "batch_size": 2, "num_steps": 6, "lr": 1.0}
    p = {**rf.presets.load("hour-ptb"), **small}
    monkeypatch.setattr(hour.rf.datasets, "load", lambda name: dict.fromkeys(("train", "valid", "test"), text))
    monkeypatch.setattr(hour.rf.presets, "load", lambda name: dict(p))
    for main in (["--seconds", "0.01", "--block", "1"], ["--epochs", "1"]):
        hour.main([*main, "--threads", "1", "--weights", "f32"])
    speed, *epochs = map(json.loads, capsys.readouterr().out.splitlines())
    assert speed["ratio"] > 0
    assert epochs[-1]["test"] == pytest.approx(epochs[0]["valid"], rel=0.2)

    plain = {**p, "dropout": 0.0, "embedding_dropout": 0.0, "output_dropout": 0.0, "weight_drop": 0.0}
    corpus = rf.Corpus.from_text(text, tokenizer="whitespace")
    ours = hour.Ours(corpus.vocab, plain, 0, "f32")
    theirs = hour.Theirs(ours, plain, 0, "f32")
    for x, y in hour.batches(corpus, plain, 0):
        assert ours.step(x, y, 2.0) == pytest.approx(theirs.step(x, y, 2.0), rel=1e-5)
    for name, mean in ours.mean.items():
        np.testing.assert_allclose(mean, theirs.mean[name], atol=1e-5)


def test_tokens_from_few_logits_are_measured_beside_those_from_all(capsys):
    from benchmarks import generation

    threads = rf.get_num_threads()
    try:
        generation.main(["--vocabularies", "4096", "--hidden", "128", "--threads", "1,2", "--seconds", "0", "--json"])
    finally:
        rf.set_num_threads(threads)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(case["threads"], case["how"]) for case in found] == [(t, how) for t in (1, 2) for how in generation.HOW]
    assert all(0 < case["ratio"] < 1000 for case in found)


def test_steps_of_pruned_layers_and_models_are_measured(tmp_path):
    from benchmarks import sparse

    layers = sparse.of_layer(32, 0.8)
    assert {"f32 dense", "bf16 16x1", "int8 16x4"} <= set(layers)
    assert all(time > 0 for time in sparse.measured(layers, 0.0).values())
    rf.LanguageModel(7, cell="lstm", embedding_size=16, hidden_size=32, seed=0).save(tmp_path / "model.safetensors")
    found = sparse.measured(sparse.of_model(str(tmp_path / "model.safetensors")), 0.0)
    assert {"f32 model dense", "bf16 model pruned", "int8 layers dense", "int8 layers pruned"} <= set(found)
    assert all(time > 0 for time in found.values())


def test_both_orders_of_import_are_measured_alone_and_in_turns(capsys, monkeypatch):
    pytest.importorskip("torch")
    from benchmarks import beside_torch

    monkeypatch.chdir(ROOT)
    beside_torch.main(["--threads", "1", "--cases", "5x3x7x12", "--rounds", "1"])
    _, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(row[1], row[3]) for row in rows] == [(cell, first) for first in ("rnnfast", "torch") for cell in COMMON]
    assert all(float(number) > 0 for row in rows for number in row[4:])


def test_the_command_names_what_it_does_not_know():
    for arguments, message in (
        (["nonsense"], "unknown kind 'nonsense'"),
        (["--peers", "tensorflow"], "unknown 'tensorflow'"),
        (["--threads", "many"], "expected numbers"),
        (["compare"], "compare needs a revision"),
    ):
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert run.returncode == 2
        assert message in run.stderr
