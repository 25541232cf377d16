"""The common part of the commands that fit an estimator or apply one: classify, tag, forecast."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from rnnfast.commands.options import JSON_HELP, LARGEST_SEED, THREADS_HELP, integer, named, real, text_of
from rnnfast.commands.output import FORCE_HELP, check_output
from rnnfast.distributed.mpi import started_ranks
from rnnfast.nn.recurrent import LAYERS

Item = TypeVar("Item")


_SETTINGS = ("cell", "hidden_size", "num_layers", "epochs", "batch_size", "lr", "seed")


def add_model(command: argparse.ArgumentParser, parser: Any, defaults: dict[str, Any], others: Sequence[str]) -> None:
    """The options of a model and its training; ``others`` are options of the command that only training reads, too."""
    parser.add_argument("--cell", choices=list(LAYERS), default=defaults["cell"], help="cell of the recurrent layer")
    parser.add_argument(
        "--hidden-size", type=integer(1), default=defaults["hidden_size"], help="units of the recurrent layer"
    )
    parser.add_argument("--num-layers", type=integer(1), default=1, help="recurrent layers")
    parser.add_argument("--epochs", type=integer(1), default=defaults["epochs"], help="passes over the data")
    parser.add_argument(
        "--batch-size", type=integer(1), default=defaults.get("batch_size", 32), help="sequences of a step"
    )
    parser.add_argument(
        "--lr", type=real(0, open_low=True), default=defaults["lr"], help="learning rate, which decreases to 0"
    )
    parser.add_argument(
        "--seed", type=integer(0, LARGEST_SEED - 2), default=0, help="the same seed gives the same model"
    )
    parser.add_argument(
        "--shards", type=integer(1),
        help="split every batch into this many groups, a power of two: the model is then the same for any number of MPI ranks",
    )  # fmt: skip
    command.set_defaults(of_training={name: command.get_default(name) for name in (*others, *_SETTINGS, "shards")})


def add_files(parser: Any) -> None:
    """Where a model goes to or comes from."""
    parser.add_argument("--output", metavar="MODEL", help="train, and write the model to this file")
    parser.add_argument("--model", metavar="MODEL", help="apply the model in this file instead of training one")
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)
    parser.add_argument("--json", action="store_true", help=JSON_HELP)


def add_run(parser: Any) -> None:
    """How a command runs."""
    parser.add_argument("--threads", type=integer(1, 4096), help=THREADS_HELP)


def trains(args: argparse.Namespace) -> bool:
    """Whether the command trains; checks its files."""
    if (args.model is None) == (args.output is None):
        raise ValueError("give --output MODEL to train a model, or --model MODEL to apply one")
    if args.output is not None:
        check_output("--output", args.output, force=args.force, inputs=[args.file])
    else:
        check_applied(args)
    return args.output is not None


def check_applied(args: argparse.Namespace) -> None:
    """``ValueError`` if an option of training is given with a finished model, or several ranks would apply it."""
    if started_ranks() > 1:
        raise ValueError(
            f"{started_ranks()} ranks were started, but rnnfast {args.command} applies a model in one process: start it without mpiexec"
        )
    given = [
        f"--{name.replace('_', '-')}" for name, default in args.of_training.items() if getattr(args, name) != default
    ]
    if given:
        raise ValueError(
            f"--model {args.model} is trained already, and {given[0]} belongs to training; leave out {', '.join(given)}"
        )


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The options of :func:`add_model` as an estimator takes them."""
    return {
        **{name: getattr(args, name) for name in _SETTINGS},
        "verbose": sys.stderr is not None and sys.stderr.isatty(),
    }


def lines_of(file: str) -> list[tuple[str, str]]:
    """The lines of a file, each with its place for messages."""
    return [(f"{named(file)}, line {n}", line.rstrip("\r")) for n, line in enumerate(text_of(file).split("\n"), 1)]


def held_out(items: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """The items to train on, and the share to test with, by chance."""
    order = np.random.default_rng(seed).permutation(len(items))
    count = int(len(items) * share)
    return [items[i] for i in np.sort(order[count:])], [items[i] for i in np.sort(order[:count])]
