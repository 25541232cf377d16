"""rnnfast and PyTorch in one process: training steps of each alone, then both in turns, for either order of the imports.

    python -m benchmarks.beside_torch --threads 2 --cases 35x32x256x256

If the process has two OpenMP runtimes, the idle threads of one spin on the cores that the other needs. Times are medians in ms; a ratio is the time in
turns divided by the time alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings

from benchmarks.cases import COMMON, Case, all_cases, chosen
from benchmarks.peers import Peer, Program, load
from benchmarks.report import aligned

ORDERS = [("rnnfast", "torch"), ("torch", "rnnfast")]
WIDTHS = [30, 16, 10, 10, 8, 13, 10, 0]
STEPS = 10  # of each program in each round, alone and in turns
PAUSE = 0.01  # seconds, in which idle threads fall asleep

Times = dict[str, dict[str, float]]  # of each program, "alone" and "turns", in seconds


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", default="35x32x256x256", help="as in python -m benchmarks train")
    parser.add_argument(
        "--rounds", type=int, default=20, help=f"each of {STEPS} steps of each program alone and in turns"
    )
    parser.add_argument("--order", help="measure in this process: rnnfast,torch or torch,rnnfast")
    args = parser.parse_args(arguments)
    args.cases = chosen(list(all_cases(["train"], list(COMMON))), args.cases)
    return args


def seconds_of(program: Program) -> float:
    started = time.perf_counter()
    program.run()
    return time.perf_counter() - started


def measured(case: Case, peers: dict[str, Peer], rounds: int) -> Times:
    """Medians. Each round has steps of both kinds, so that drift of the machine favors neither."""
    programs = {name: peer.prepare(case) for name, peer in peers.items()}
    times: dict[str, dict[str, list[float]]] = {name: {"alone": [], "turns": []} for name in peers}
    for _ in range(rounds):
        for name, program in programs.items():
            time.sleep(PAUSE)
            program.run()
            times[name]["alone"] += [seconds_of(program) for _ in range(STEPS)]
        for _ in range(STEPS):
            for name, program in programs.items():
                times[name]["turns"].append(seconds_of(program))
    return {name: {kind: statistics.median(found) for kind, found in kinds.items()} for name, kinds in times.items()}


def measure_here(args: argparse.Namespace) -> None:
    """Prints a line of JSON for each case."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two OpenMP runtimes, which are what is measured
        peers = {name: load(name, args.threads) for name in args.order.split(",")}
    for case in args.cases:
        print(json.dumps(measured(case, peers, args.rounds)), flush=True)


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parsed(arguments)
    if args.order:
        measure_here(args)
        return
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(args.threads))
    print(aligned(["case", "imported first", "alone", "in turns", "ratio", "torch alone", "in turns", "ratio"], WIDTHS))
    for order in ORDERS:
        command = [sys.executable, "-m", "benchmarks.beside_torch", *arguments, "--order", ",".join(order)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **counts})
        for case, line in zip(args.cases, done.stdout.splitlines()):
            cells, times = [case.name, order[0]], json.loads(line)
            for alone, turns in ((times[name]["alone"], times[name]["turns"]) for name in ("rnnfast", "torch")):
                cells += [f"{1e3 * alone:.2f}", f"{1e3 * turns:.2f}", f"{turns / alone:.2f}"]
            print(aligned(cells, WIDTHS), flush=True)


if __name__ == "__main__":
    main()
