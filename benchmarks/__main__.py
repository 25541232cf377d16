"""``python -m benchmarks [layers|train|lm ...] [--cells RNN,...] [--threads 1,2] [--json]``"""

from __future__ import annotations

import argparse
import json
import sys

# torch first: then both use the one OpenMP runtime it brings. Two in one process slow each other down.
try:
    import torch  # noqa: F401
except ImportError:
    print("torch is not installed: pip install 'rnnfast[bench]' compares with it", file=sys.stderr)

import rnnfast as rf
from benchmarks.cases import GATES, all_cases
from benchmarks.measure import measure, set_threads


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="layers|train|lm", help="default: all")
    parser.add_argument("--cells", default="RNN", help="of RNN, GRU, LSTM, separated by commas")
    parser.add_argument("--threads", default="1,2", help="counts to run with, separated by commas")
    parser.add_argument("--seconds", type=float, default=2.0, help="of measuring for each case")
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    args = parser.parse_args()
    kinds, cells = args.kinds or ["layers", "train", "lm"], args.cells.split(",")
    for kind in set(kinds) - {"layers", "train", "lm"}:
        parser.error(f"unknown kind {kind!r}: expected layers, train or lm")
    for cell in set(cells) - set(GATES):
        parser.error(f"unknown cell {cell!r}: expected {', '.join(GATES)}")

    info = rf.info()
    if not args.json:
        print(f"rnnfast {info['version']}, {info['isa_active']}, {info['compiler']}; median of interleaved runs")
        print(f"{'case':34}{'threads':>8}{'rnnfast ms':>12}{'torch ms':>11}{'ratio':>8}{'of best':>9}{'GF/s':>8}")
    if len(info["openmp_runtimes"]) > 1:
        print(f"warning: several OpenMP runtimes in this process: {info['openmp_runtimes']}", file=sys.stderr)
    for make in all_cases(kinds, cells):
        for threads in map(int, args.threads.split(",")):
            set_threads(threads)
            result = measure(make(), args.seconds)
            if args.json:
                print(json.dumps(result), flush=True)
                continue
            ms, peer = result["median_ms"], "torch" in result["ratio"]
            print(
                f"{result['case']:34}{threads:>8}{ms['rnnfast']:>12.3f}"
                + (
                    f"{ms['torch']:>11.3f}{result['ratio']['torch']:>8.2f}{result['best_ratio']['torch']:>9.2f}"
                    if peer
                    else " " * 28
                )
                + f"{result['gflops']['rnnfast']:>8.1f}",
                flush=True,
            )


main()
