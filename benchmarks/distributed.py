"""Measures training on several ranks of this machine, and predicts it for clusters.

python -m benchmarks.distributed [--ranks 1,2,4] [--model small] [--json]          needs rnnfast[mpi]

A step is computation and exchange. The exchange of n bytes over R ranks, an Alltoall and an Allgather of n / R bytes a pair, takes

    2 (R - 1) alpha  +  2 n (R - 1) / R beta  +  n (R - 1) / R gamma

seconds: alpha for every message, beta for every byte sent, gamma for every byte added. Computation takes delta for every operation. The
four constants are fitted to measurements here; for another network, alpha and beta are replaced by its own. The prediction is checked
by making every exchange three times, and by another number of ranks than those that were fitted. Another table has the share of the
exchange that backward hides: here, where both need the processor, and with the waiting time of a network added.

Two more tables: the same batch of 20 and of 64 rows on one rank with one thread, one with two, and two with one each, next to what two processes
that share nothing but the machine lose to one another, which bounds what ranks can gain; and what eight shards of 64 rows cost one
process, for a language model, a translator and a network.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import rnnfast as rf
from rnnfast.distributed.ranks import TreeSum

T = 35
ROWS = 16  # of each rank
BATCH = 64  # rows of which shards are made
BATCHES = (20, 64)  # rows that all ranks share
SIZES = [1 << k for k in range(12, 23, 2)]  # floats of the exchanges that alpha and beta are fitted to
NETWORKS = {"10 Gb/s": (30e-6, 8 / 10e9), "100 Gb/s": (5e-6, 8 / 100e9)}  # seconds a message, seconds a byte
ETHERNET = 0.9  # the share of the bandwidth that messages get


@dataclass(frozen=True)
class Sizes:
    """An LSTM language model of two layers."""

    hidden: int
    vocabulary: int = 10_000

    def make(self) -> rf.LanguageModel:
        return rf.LanguageModel(
            self.vocabulary, cell="lstm", embedding_size=self.hidden, hidden_size=self.hidden, num_layers=2, dropout=0.5, seed=1
        )  # fmt: skip

    @property
    def parameters(self) -> int:
        h, v = self.hidden, self.vocabulary
        return 2 * v * h + v + 2 * (8 * h * h + 8 * h)

    def operations(self, rows: int) -> float:
        """Multiplications and additions of a step: forward, and twice as many backward."""
        h = self.hidden
        return 6.0 * T * rows * (2 * 8 * h * h + self.vocabulary * h)


MODELS = {"small": Sizes(200), "medium": Sizes(650), "large": Sizes(1500)}


@dataclass(frozen=True)
class Cost:
    """The constants of the model of costs, in seconds."""

    alpha: float
    beta: float
    gamma: float
    delta: float

    def exchange(self, ranks: int, size: float) -> float:
        """Of ``size`` bytes."""
        sent = size * (ranks - 1) / ranks
        return 2 * (ranks - 1) * self.alpha + sent * (2 * self.beta + self.gamma)

    def step(self, ranks: int, model: Sizes, rows: int = ROWS) -> float:
        """``rows``: of each rank."""
        return self.delta * model.operations(rows) + self.exchange(ranks, 4 * model.parameters)


def fitted(exchanges: list[tuple[int, int, float]], gamma: float, delta: float) -> Cost:
    """From (ranks, bytes, seconds) of exchanges: least squares of relative errors, with constants of at least 0.

    >>> true = Cost(1e-5, 1e-9, 1e-10, 1e-11)
    >>> cost = fitted([(r, n, true.exchange(r, n)) for r in (2, 4) for n in (1000, 10**6)], 1e-10, 1e-11)
    >>> round(cost.alpha * 1e5, 6), round(cost.beta * 1e9, 6)
    (1.0, 1.0)
    """
    rows = np.array([[2 * (r - 1), 2 * n * (r - 1) / r] for r, n, _ in exchanges])
    seconds = np.array([s - gamma * n * (r - 1) / r for r, n, s in exchanges])
    weights = 1 / np.array([s for *_, s in exchanges])
    scale = np.array([1e-6, 1e-10])
    found = np.linalg.lstsq(rows * weights[:, None] * scale, seconds * weights, rcond=None)[0] * scale
    if found.min() < 0:  # then the other one explains the times alone
        only = int(np.argmax(found))
        found = np.zeros(2)
        found[only] = np.median(seconds / rows[:, only])
    return Cost(float(found[0]), float(found[1]), gamma, delta)


# What runs on every rank


class Repeated(rf.distributed.MPI):
    """Ranks that exchange every sum several times: a slower network. ``wire``: the constants of another one, whose time passes as well,
    without work for the processor."""

    times = 1
    wire: Cost | None = None

    def add_(self, flat: Any, factor: float = 1.0) -> None:
        if self.wire is not None:
            seconds = self.wire.exchange(self.size, flat.nbytes)
            self.seconds += seconds
            time.sleep(seconds)
        copies = [flat.copy() for _ in range(self.times - 1)]
        for each in [*copies, flat]:
            super().add_(each, factor)


@dataclass
class Step:
    """Medians over steps, in seconds, of which ``processor`` is the least: the time of this process alone."""

    step: float = 0.0
    exchange: float = 0.0
    waited: float = 0.0
    processor: float = 0.0


def measured_steps(ranks: rf.distributed.MPI, model: rf.LanguageModel, repeats: int, rows: int | None = None) -> Step:
    """Of training ``model``, after the first step. ``rows``: of a batch; None: ``ROWS`` of each rank."""
    rows = ROWS * ranks.size if rows is None else rows
    random = np.random.default_rng(0)
    ids = random.integers(0, model.config["vocab_size"], rows * T * (repeats + 1) + T + 1)
    clocks = lambda: np.array([time.perf_counter(), ranks.seconds, ranks.waited, time.process_time()])  # noqa: E731
    seconds, last = [], [clocks()]

    class Clock(rf.Callback):
        def on_step(self, record: Any) -> None:
            now = clocks()
            seconds.append(now - last[0])
            last[0] = now

    options = {"batch_size": rows, "num_steps": T, "optimizer": "sgd", "lr": 0.1, "progress": False}
    rf.fit(model, ids, epochs=1, distributed=ranks, callbacks=[Clock()], **options)
    if not ranks.leads:  # callbacks are rank 0's
        return Step()
    every = np.array(seconds[1:-1])
    return Step(*np.median(every[:, :3], axis=0).tolist(), float(every[:, 3].min()))


def worker(name: str, repeats: int) -> None:
    """Prints the measurements of this number of ranks, at rank 0."""
    size = int(os.environ.get("PMI_SIZE") or os.environ.get("OMPI_COMM_WORLD_SIZE") or 1)
    ranks = Repeated(size)
    found: dict[str, Any] = {"ranks": ranks.size, "threads": rf.get_num_threads(), "exchanges": []}
    for count in SIZES:
        flat, seconds = np.ones(ranks.padded(count), np.float32), []
        for _ in range(7):
            ranks.gather(np.zeros(1))
            started = time.perf_counter()
            ranks.add_(flat)
            seconds.append(time.perf_counter() - started)
        found["exchanges"].append([4 * count, statistics.median(seconds)])
    for kind in ("before", "alongside"):  # the exchange ends before anything else begins, or not
        for wire in (None, "10 Gb/s"):
            ranks.overlaps = kind == "alongside" and ranks.size > 1
            ranks.wire = None if wire is None else Cost(NETWORKS[wire][0], NETWORKS[wire][1] / ETHERNET, 0.0, 0.0)
            found[f"{kind} {wire or 'here'}"] = asdict(measured_steps(ranks, MODELS[name].make(), repeats))
    ranks.times, ranks.overlaps, ranks.wire = 3, False, None
    found["slow"] = asdict(measured_steps(ranks, MODELS[name].make(), repeats))
    if ranks.leads:
        print(json.dumps(found), flush=True)


def batch_worker(name: str, repeats: int, rows: int) -> None:
    """Prints the step of a batch of ``rows``, at rank 0."""
    ranks = rf.distributed.MPI(int(os.environ.get("PMI_SIZE") or os.environ.get("OMPI_COMM_WORLD_SIZE") or 1))
    found = measured_steps(ranks, MODELS[name].make(), repeats, rows)
    if ranks.leads:
        print(json.dumps(asdict(found)), flush=True)


# The parent


def _batch_command(count: int, name: str, repeats: int, rows: int) -> list[str]:
    options = ["--worker", "--rows", str(rows), "--model", name, "--repeats", str(repeats)]
    return [_mpiexec(), "-n", str(count), sys.executable, "-m", "benchmarks.distributed", *options]


def _steps(commands: list[list[str]], threads: int) -> list[Step]:
    """Of programs that run at the same time."""
    environment = {**os.environ, "RNNFAST_NUM_THREADS": str(threads)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, env=environment, **pipes) for command in commands]
    outputs = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, outputs):
        if process.returncode:
            sys.exit(errors or f"a worker ended with status {process.returncode}")
    return [Step(**json.loads(out.splitlines()[-1])) for out, _ in outputs]


def same_batch(name: str, repeats: int, rows: int, rounds: int = 4) -> str:
    """The table of one batch on one and two cores; the least of several rounds, in which the ways take turns."""
    kinds = {"1 x 1": (1, 1), "1 x 2": (1, 2), "2 x 1": (2, 1)}
    wall: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    for _ in range(rounds):
        for kind, (count, threads) in kinds.items():
            (step,) = _steps([_batch_command(count, name, repeats, rows)], threads)
            wall.setdefault(kind, []).append(step.step)
            processor.setdefault(kind, []).append(step.processor)
        half = _batch_command(1, name, repeats, rows // 2)
        wall.setdefault("alone", []).append(_steps([half], 1)[0].step)
        wall.setdefault("both", []).append(max(step.step for step in _steps([half, half], 1)))
    best = {kind: min(seconds) for kind, seconds in wall.items()}
    lines = [
        f"{name}, a batch of {rows} rows:",
        "",
        "| ranks x threads | step ms | of 1 x 1 | processor time of rank 0 ms | 1 x 1's over it |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind in kinds:
        own = min(processor[kind])
        lines.append(
            f"| {kind} | {1e3 * best[kind]:.0f} | {best['1 x 1'] / best[kind]:.2f} times as fast | {1e3 * own:.0f} | "
            f"{min(processor['1 x 1']) / own:.2f} |"
        )
    return "\n".join(
        [
            *lines, "",
            f"2 x 1 is {best['1 x 2'] / best['2 x 1']:.2f} times as fast as 1 x 2.",
            f"What the machine allows: two independent processes with {rows // 2} rows each take {1e3 * best['both']:.0f} ms a step, one "
            f"alone {1e3 * best['alone']:.0f}: together they do {2 * best['alone'] / best['both']:.2f} times the work of one.",
        ]
    )  # fmt: skip


def _three_kinds(units: int) -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    """Makers of models, data and options of fit; several batches of 64 rows."""
    random = np.random.default_rng(0)
    words = [f"w{i}" for i in range(1000)]
    sentence = lambda: " ".join(random.choice(words, random.integers(8, 25)))  # noqa: E731
    pairs = rf.ParallelCorpus.from_pairs([(sentence(), sentence()) for _ in range(6 * BATCH)])
    x = [random.standard_normal((n, 16)).astype(np.float32) for n in random.integers(20, 60, 6 * BATCH)]
    ids = random.integers(0, 2000, BATCH * T * 6 + 1)
    return {
        "language model": (
            lambda: rf.LanguageModel(2000, cell="lstm", embedding_size=units, hidden_size=units, num_layers=2, dropout=0.5, seed=1),
            ids, {"num_steps": T},
        ),
        "translator": (
            lambda: rf.Seq2Seq(
                pairs.source_vocab, pairs.target_vocab, embedding_size=units, hidden_size=units, attention="additive", dropout=0.2, seed=0
            ),
            pairs, {},
        ),
        "network": (
            lambda: rf.Sequential(rf.LSTM(16, units, seed=0), rf.Dropout(0.2), rf.Pool("last"), rf.Linear(units, 10, seed=1), seed=2),
            (x, random.integers(0, 10, len(x))), {"loss": "cross_entropy"},
        ),
    }  # fmt: skip


def shards_cost(units: int, rounds: int = 6) -> str:
    """The table of eight shards in one process with one thread; least and median processor time of a step."""
    rf.set_num_threads(1)
    lines = [
        f"Eight shards of {BATCH} rows, {units} units, one thread; processor time of a step:",
        "",
        "| model | whole ms | eight shards ms | least more | median more |",
        "| --- | --- | --- | --- | --- |",
    ]

    class Clock(rf.Callback):
        def __init__(self) -> None:
            self.at: list[float] = []

        def on_step(self, record: Any) -> None:
            self.at.append(time.process_time())

    for name, (make, data, options) in _three_kinds(units).items():
        seconds: dict[int | None, list[float]] = {None: [], 8: []}
        for i in range(rounds):
            for shards in ((None, 8), (8, None))[i % 2]:
                clock = Clock()
                rf.fit(
                    make(),
                    data,
                    epochs=1,
                    batch_size=BATCH,
                    shards=shards,
                    progress=False,
                    callbacks=[clock],
                    **options,
                )
                seconds[shards] += np.diff(clock.at).tolist()
        whole, split = seconds[None], seconds[8]
        lines.append(
            f"| {name} | {1e3 * min(whole):.1f} | {1e3 * min(split):.1f} | {min(split) / min(whole) - 1:+.1%} | "
            f"{statistics.median(split) / statistics.median(whole) - 1:+.1%} |"
        )
    return "\n".join(lines)


def _mpiexec() -> str:
    found = os.environ.get("MPIEXEC") or shutil.which("mpiexec")
    if found is None:
        sys.exit("mpiexec is not installed: pip install 'rnnfast[mpi]', or set MPIEXEC")
    return found


def measured(count: int, name: str, repeats: int) -> dict[str, Any]:
    """What :func:`worker` prints on ``count`` ranks."""
    command = [_mpiexec(), "-n", str(count), sys.executable, "-m", "benchmarks.distributed", "--worker"]
    run = subprocess.run([*command, "--model", name, "--repeats", str(repeats)], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr or f"{count} ranks ended with status {run.returncode}")
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    if found["ranks"] != count:
        sys.exit(
            f"{command[0]} started {count} processes, but mpi4py saw {found['ranks']}: they belong to two MPIs; set MPIEXEC to the one "
            "of mpi4py's library, or see docs/distributed.md"
        )
    return found


def seconds_a_byte_added() -> float:
    """Of the tree: two arrays of 4 MB are read and one is written."""
    tree, seconds = TreeSum(1 << 20), []
    for _ in range(9):
        started = time.perf_counter()
        for _ in range(2):
            tree.add(tree.new())
        tree.total()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) / (4 << 20)


def report(found: list[dict[str, Any]], cost: Cost, name: str) -> str:
    """The tables of docs/distributed.md."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = [
        f"{name}: {MODELS[name].parameters:,} parameters, {T} steps, {ROWS} rows a rank; {cores} cores",
        "",
        "| ranks x threads | step ms | its processor time | exchange ms | predicted exchange | step, exchange x 3 | predicted |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in found:
        ranks, here = each["ranks"], Step(**each["before here"])
        predicted = cost.exchange(ranks, 4 * MODELS[name].parameters)
        slow = here.step + 2 * here.exchange
        note = " (oversubscribed)" if ranks * each["threads"] > (cores or 1) else ""
        lines.append(
            f"| {ranks} x {each['threads']}{note} | {1e3 * here.step:.1f} | {1e3 * here.processor:.1f} | {1e3 * here.exchange:.1f} | "
            f"{1e3 * predicted:.1f} | {1e3 * each['slow']['step']:.1f} | {1e3 * slow:.1f} |"
        )
    lines += ["", *hidden(found)]
    lines += ["", f"alpha {cost.alpha * 1e6:.1f} us, beta {cost.beta * 1e9:.3f} ns a byte, gamma {cost.gamma * 1e9:.3f} ns a byte, "
              f"delta {cost.delta * 1e12:.1f} ps an operation", "",
              "Predicted steps a second; in brackets the share of one rank's speed that each rank keeps:", ""]  # fmt: skip
    counts = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    lines += ["| model, network | " + " | ".join(map(str, counts)) + " |", "| --- " * (len(counts) + 1) + "|"]
    for model, sizes in MODELS.items():
        alone = cost.delta * sizes.operations(ROWS)
        for network, (alpha, beta) in NETWORKS.items():
            there = Cost(alpha, beta / ETHERNET, cost.gamma, cost.delta)
            steps = [there.step(count, sizes) for count in counts]
            lines.append(
                f"| {model}, {network} | " + " | ".join(f"{1 / s:.2f} ({alone / s:.0%})" for s in steps) + " |"
            )
    return "\n".join(lines)


def hidden(found: list[dict[str, Any]]) -> list[str]:
    """The table of exchanges alongside backward: here, and on a network on which they also take time without work."""
    lines = [
        "| ranks, network | step ms: exchange before | alongside backward | exchange ms | waited for | hidden |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in found:
        for network in ("here", "10 Gb/s"):
            before, alongside = (Step(**each[f"{kind} {network}"]) for kind in ("before", "alongside"))
            if each["ranks"] > 1:
                lines.append(
                    f"| {each['ranks']}, {network} | {1e3 * before.step:.1f} | {1e3 * alongside.step:.1f} | {1e3 * alongside.exchange:.1f} | "
                    f"{1e3 * alongside.waited:.1f} | {1 - alongside.waited / max(alongside.exchange, 1e-9):.0%} |"
                )
    return lines


def main() -> None:
    """Measures, fits, predicts, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="1,2,4", help="numbers of ranks to measure, powers of two")
    parser.add_argument("--model", choices=MODELS, default="small", help="the model to measure")
    parser.add_argument("--repeats", type=int, default=8, help="steps of each measurement")
    parser.add_argument("--json", action="store_true", help="print the measurements too")
    parser.add_argument("--units", type=int, default=256, help="of the models whose shards are measured")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker and args.rows:
        batch_worker(args.model, args.repeats, args.rows)
        return
    if args.worker:
        worker(args.model, args.repeats)
        return
    counts = [int(count) for count in args.ranks.split(",")]
    if max(counts) < 2:
        sys.exit(
            f"--ranks is {args.ranks}, expected at least one number above 1, to which the costs of an exchange are fitted"
        )
    found = [measured(count, args.model, args.repeats) for count in counts]
    single = min(found, key=lambda each: each["ranks"])
    delta = (single["before here"]["step"] - single["before here"]["exchange"]) / MODELS[args.model].operations(ROWS)
    several = [each for each in found if each["ranks"] > 1][:1]  # the other numbers check the fit
    exchanges = [(each["ranks"], size, seconds) for each in several for size, seconds in each["exchanges"]]
    cost = fitted(exchanges, seconds_a_byte_added(), delta)
    print(report(found, cost, args.model))
    for rows in BATCHES:
        print("", same_batch(args.model, args.repeats, rows), sep="\n")
    print("", shards_cost(args.units), sep="\n")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
