"""The command ``rnnfast``: finds the command that is meant, and turns errors into one line and an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rnnfast import _core
from rnnfast.commands import compare, eval, generate, info, quantize, stats, train, train_translation, translate

_BAD_INPUT = 2


class _PrintCMakeDir(argparse.Action):
    """Prints the folder as it is: argparse's own "version" would break a long path into lines."""

    def __call__(self, *_: object) -> None:
        print(Path(_core.__file__).parent / "cpp" / "lib" / "cmake" / "rnnfast")
        raise SystemExit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rnnfast", description="Fast recurrent networks on CPUs.")
    parser.add_argument("--version", action="version", version=f"rnnfast {_core.__version__}")
    parser.add_argument(
        "--cmake-dir", action=_PrintCMakeDir, nargs=0,
        help="print the folder that lets CMake build C++ against this install, as rnnfast_DIR",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (train, train_translation, eval, generate, translate, stats, compare, quantize, info):
        command.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status: 0, 2 for bad input, 128 + signal when interrupted."""
    args = _parser().parse_args(argv)
    from rnnfast.train import Interrupted, NonFiniteLoss

    try:
        if args.threads is not None:
            _core.set_num_threads(args.threads)
        args.run(args)
    except Interrupted as interruption:
        print(
            f"\n{interruption}; resume with: rnnfast {args.command} --resume {interruption.checkpoint}",
            file=sys.stderr,
        )
        return 128 + interruption.number
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has seen enough, as in `rnnfast generate ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, LookupError, OSError, MemoryError, NonFiniteLoss) as error:
        print(f"rnnfast: {str(error) or type(error).__name__}", file=sys.stderr)
        return _BAD_INPUT
    return 0
