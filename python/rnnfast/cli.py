"""The command line: dispatches to the commands, and turns errors into one line and an exit status."""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from rnnfast import _core
from rnnfast.commands import (
    classify,
    compare,
    convert,
    embed,
    eval,
    explain,
    forecast,
    generate,
    info,
    quantize,
    stats,
    streams,
    tag,
    train,
    train_translation,
    translate,
)
from rnnfast.commands.options import BAD_INPUT, Parser
from rnnfast.distributed.mpi import abort, started_rank

_AFTER_RANK_0 = 1.5  # seconds
_SHELLS = ("bash", "zsh", "tcsh")
_GROUPS = {
    "language models": (train, eval, generate),
    "translators": (train_translation, translate),
    "labels and series": (classify, tag, forecast),
    "understanding": (explain, stats, compare),
    "files and machine": (quantize, convert, embed, info),
}
_EXAMPLES = """\
examples:
  rnnfast train book.txt --cell lstm --output book.safetensors
                                                      train a language model
  rnnfast generate book.safetensors --prompt "The "   let it write
  rnnfast eval book.safetensors other.txt             print its perplexity on another text
  rnnfast explain book.safetensors --text other.txt --output page.html
                                                      show what its units do, as a page for a browser
  rnnfast train-translation de.txt en.txt --output de-en.safetensors
                                                      train a translator on two files of lines
  rnnfast translate de-en.safetensors < lines.txt     let it translate
  rnnfast forecast sales.csv --season 12 --backtest   forecast the columns of a table, and test the forecasts
  rnnfast compare                                     measure convolution, recurrence and attention

`rnnfast COMMAND --help` lists the options of a command. Exit status: 0; 1 if training diverged; 2 for bad input, with one
line on stderr; 128 + the signal when interrupted; 141 when the reader of a command that only prints has closed the pipe, as in
`rnnfast generate ... | head`."""


class _Help(argparse.RawDescriptionHelpFormatter):
    """The commands in groups."""

    def _format_action(self, action: argparse.Action) -> str:
        if not isinstance(action, argparse._SubParsersAction):
            return super()._format_action(action)
        known = {choice.dest: choice for choice in action._choices_actions}
        lines = []
        for title, commands in _GROUPS.items():
            lines.append(f"{'':{self._current_indent}}{title}\n")
            self._indent()
            lines += [super(_Help, self)._format_action(known[name_of(command)]) for command in commands]
            self._dedent()
        return "".join(lines)


def name_of(command: ModuleType) -> str:
    """The name that a user gives to the command of a module."""
    return command.__name__.rpartition(".")[2].replace("_", "-")


class _PrintCMakeDir(argparse.Action):
    """Prints the folder in one line: argparse's own "version" action would wrap a long path."""

    def __call__(self, *_: object) -> None:
        print(Path(_core.__file__).parent / "cpp" / "lib" / "cmake" / "rnnfast")
        raise SystemExit(0)


class _PrintCompletion(argparse.Action):
    """Prints a script for a shell."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, option_string: str | None = None
    ) -> None:
        try:
            import shtab
        except ImportError:
            parser.exit(BAD_INPUT, "rnnfast: --print-completion needs shtab: pip install 'rnnfast[completion]'\n")
        streams.write(shtab.complete(parser, str(values)))
        raise SystemExit(0)


def parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="rnnfast", description="Fast recurrent neural networks for CPUs.", epilog=_EXAMPLES,
        formatter_class=_Help,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"rnnfast {_core.__version__}", help="print the version")
    parser.add_argument(
        "--cmake-dir", action=_PrintCMakeDir, nargs=0,
        help="print the folder that lets CMake build C++ against this install, as rnnfast_DIR",
    )  # fmt: skip
    parser.add_argument(
        "--print-completion", choices=_SHELLS, action=_PrintCompletion,
        help="print the script that lets a shell complete commands and options (extra: completion)",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", help="what to do")
    for command in itertools.chain(*_GROUPS.values()):
        command.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status: 0, 1 if training diverged, 2 for bad input, 128 + signal when interrupted,
    141 when standard output is closed."""
    streams.prepare()
    try:
        status = _run(argv)
    except SystemExit as end:  # argparse's, after help or an error
        status = end.code if isinstance(end.code, int) else 0
    except streams.ReaderGone:
        status = streams.READER_GONE
    return status if streams.finish() or status else streams.READER_GONE


def _run(argv: Sequence[str] | None) -> int:
    whole = parser()
    args = whole.parse_args(argv)
    if args.command is None:
        streams.write(whole.format_help(), end="")
        return 0
    from rnnfast.distributed import RankFailed
    from rnnfast.train import Interrupted, NonFiniteLoss

    try:
        if args.threads is not None:
            _core.set_num_threads(args.threads)
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: streams.note(f"warning: {message}")
            args.run(args)
    except Interrupted as interruption:
        kept = interruption.checkpoint
        advice = (
            f"resume with: rnnfast {args.command} --resume {kept}" if kept else "there is no checkpoint to resume from"
        )
        if started_rank() == 0:
            streams.note(f"\n{interruption}; {advice}")
        return 128 + interruption.number
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, LookupError, OSError, ImportError, ArithmeticError, NonFiniteLoss) as error:
        return _bad_input(str(error) or type(error).__name__)
    except RankFailed as error:
        if not error.told:
            streams.note(f"rnnfast: {error}")
        abort(BAD_INPUT, patient=error.told)
        return BAD_INPUT
    except MemoryError as error:
        text = str(error)
        return _bad_input("not enough memory; choose smaller sizes" if text in ("", "std::bad_alloc") else text)
    return 0


def _bad_input(text: str) -> int:
    """Prints one line; in an MPI job, ends it."""
    rank = started_rank()
    if rank > 0:
        time.sleep(_AFTER_RANK_0)  # which ends the job if it has the same error
    streams.note(f"rnnfast: {f'rank {rank}: ' if rank else ''}{' '.join(text.split())}")
    abort(BAD_INPUT, patient=False)
    return BAD_INPUT
