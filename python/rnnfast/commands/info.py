"""``rnnfast info``: compiler, instruction sets, threads."""

from __future__ import annotations

import argparse
from typing import Any

from rnnfast.commands import streams
from rnnfast.commands.options import JSON_HELP, say
from rnnfast.distributed.mpi import share_cores, started_rank, started_ranks


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    info = commands.add_parser(
        "info",
        help="compiler, instruction sets, threads",
        description="Prints version, compiler, instruction sets (built, supported, active), the class of their results, threads and the ranks of an MPI job.",
    )
    info.add_argument("--json", action="store_true", help=JSON_HELP)
    info.set_defaults(run=run, threads=None)


def run(args: argparse.Namespace) -> None:
    """Prints the result of :func:`rnnfast.info`."""
    import rnnfast as rf

    if started_ranks() > 1:
        share_cores()
    if started_rank() > 0:
        return
    info = rf.info()
    for name, value in info.items():
        say(
            f"{name + ':':18}{', '.join(value) if isinstance(value, list) else 'none' if value is None else value}",
            args,
        )
    if args.json:
        streams.write_json(info)
