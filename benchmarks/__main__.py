"""Compares rnnfast with other frameworks on the same work, in one interleaved run.

python -m benchmarks [layers|stream|train|lm ...]     the cases of cases.py
python -m benchmarks memory                           peak memory of a training step; a million steps
python -m benchmarks torch [words ...]                accelerated PyTorch models compared with PyTorch itself
python -m benchmarks compare REV [kinds ...]          this revision compared with another one
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.bounds import Level, Rates
from benchmarks.cases import COMMON, KINDS, Case, all_cases, chosen
from benchmarks.cells import GATES
from benchmarks.measure import Worker, measure
from benchmarks.peers import PEERS, USUAL
from benchmarks.report import columns


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=[], help="default: all four kinds")
    parser.add_argument("--threads", default="1,2", help="counts, separated by commas; streams always use one")
    parser.add_argument("--cells", default=",".join(COMMON), help=f"of {', '.join(GATES)}; default: %(default)s")
    parser.add_argument("--grid", choices=["main", "others", "all"], default="main", help="sizes of layers and train")
    parser.add_argument("--cases", default="", help="only cases whose name contains this; or your own sizes TxNxDxH")
    parser.add_argument("--peers", default=",".join(USUAL), help=f"of {', '.join(PEERS)}; default: %(default)s")
    parser.add_argument("--weights", default="f32", help="f32, bf16 or both, separated by commas")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of measurement for each framework and case")
    parser.add_argument("--json", action="store_true", help="print one JSON object per case")
    parser.add_argument("--markdown", action="store_true", help="print a table for docs/performance.md")
    parser.add_argument("--plot", metavar="PNG", help="draw the ratios")
    parser.add_argument("--from", dest="source", metavar="FILE", help="read the output of --json instead of measuring")
    args = parser.parse_args()
    lists = {"cells": list(GATES), "peers": list(PEERS), "weights": ["f32", "bf16"]}
    for name, known in lists.items():
        values = [value for value in getattr(args, name).split(",") if value]
        for value in set(values) - set(known):
            parser.error(f"--{name}: unknown {value!r}, expected some of {', '.join(known)}")
        setattr(args, name, values)
    if not args.threads.replace(",", "").isdigit():
        parser.error(f"--threads: got {args.threads!r}, expected numbers such as 1,2")
    args.peers = [name for name in args.peers if "bf16" in args.weights or not name.endswith("_bf16")]
    args.threads = [int(count) for count in args.threads.split(",")]
    args.parser = parser
    return args


def selected(args: argparse.Namespace, kinds: list[str]) -> list[Case]:
    for kind in set(kinds) - set(KINDS):
        args.parser.error(f"unknown kind {kind!r}: expected some of {', '.join(KINDS)}, or memory, or compare REV")
    kinds = kinds or list(KINDS)
    try:
        return chosen(list(all_cases(kinds, args.cells, args.grid)), args.cases)
    except ValueError as error:
        args.parser.error(str(error))


@contextlib.contextmanager
def workers_for(args: argparse.Namespace, threads: int) -> Iterator[tuple[dict[str, Worker], dict[str, str]]]:
    """Yields workers for rnnfast and the installed frameworks, and the reasons why others are missing."""
    names = ["rnnfast"] + ["rnnfast_bf16"] * ("bf16" in args.weights)
    names += [name for name in args.peers if name not in names]
    workers, missing = {}, {}
    with contextlib.ExitStack() as stack:
        for name in names:
            worker = Worker(name, threads)
            stack.callback(worker.close)
            if worker.missing is None:
                workers[name] = worker
            else:
                missing[name] = worker.missing
        if threads > 1:
            workers[report.ALONE] = Worker("rnnfast", 1)
            stack.callback(workers[report.ALONE].close)
        yield workers, missing


def rates_from(reply: dict[str, Any]) -> Rates:
    levels = tuple(Level(**level) for level in reply.pop("levels"))
    return Rates(**reply, levels=levels)


def run(args: argparse.Namespace, cases: list[Case]) -> Iterator[dict[str, Any]]:
    """Yields the results one by one as they are measured."""
    for threads in args.threads:
        todo = [case for case in cases if threads == 1 or case.kind != "stream"]
        if not todo:
            continue
        if threads > cores_allowed():
            say(args, f"warning: {threads} threads on {cores_allowed()} cores, so these times are not reliable")
        with workers_for(args, threads) as (workers, missing):
            if "rnnfast" not in workers:
                sys.exit(f"rnnfast cannot be imported: {missing['rnnfast']}")
            answer = workers["rnnfast"].ask("rates")
            rates, info = rates_from(answer["rates"]), answer["info"]
            say(args, report.rates_line(rates, info))
            for name, why in missing.items():
                say(args, f"skipped {name}: {why} (pip install 'rnnfast[bench]' installs all frameworks)")
            for case in todo:
                measured = measure(workers, case, args.seconds)
                for weights in args.weights:
                    if ("rnnfast_bf16" if weights == "bf16" else "rnnfast") not in measured.times:
                        say(args, f"{case.name} {weights}: {measured.skipped | measured.wrong}")
                        continue
                    result = report.summarise(case, rates, measured, weights)
                    result["versions"] = {name: worker.version for name, worker in workers.items()}
                    yield {**result, "info": info, "missing": missing}


def cores_allowed() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def say(args: argparse.Namespace, text: str) -> None:
    """Prints a message: to stderr if stdout is for machines."""
    print(text, file=sys.stderr if args.json or args.markdown else sys.stdout, flush=True)


def show(args: argparse.Namespace, results: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prints each result as it arrives, then the tables and the summary."""
    kept, shown = [], None
    for result in results:
        kept.append(result)
        kind, peers = result["case_kind"], columns(args.peers, result["case_kind"])
        unit = report.unit_of(kind)
        widths = report.widths_for(peers)
        if args.json:
            print(json.dumps(result), flush=True)
            continue
        if (kind, result["threads"]) != shown:
            shown = kind, result["threads"]
            say(args, "\n" + report.aligned(report.header(peers, unit), widths))
        say(args, report.aligned(report.row(result, peers, unit), widths))
    if args.markdown:
        print(report.markdown(kept))
    say(args, "\n" + "\n".join(report.summary(kept)))
    return kept


def main() -> None:
    if sys.argv[1:2] == ["torch"]:
        from benchmarks.torch_models import main as torch_models

        return torch_models(sys.argv[2:])
    args = parse()
    if args.what[:1] == ["memory"]:
        from benchmarks.memory import main as memory

        return memory(args)
    if args.what[:1] == ["compare"]:
        from benchmarks.compare import main as compare

        return compare(args)
    if args.source:
        lines = Path(args.source).read_text().splitlines()
        results: Iterator[dict[str, Any]] = (json.loads(line) for line in lines if line.startswith("{"))
    else:
        results = run(args, selected(args, args.what))
    kept = show(args, results)
    if args.plot:
        from benchmarks.plot import plot

        plot(kept, args.plot)
    if any(result["wrong"] for result in kept):
        sys.exit("the outputs of a framework differ: see above")


if __name__ == "__main__":
    main()
