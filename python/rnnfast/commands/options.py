"""The common part of the commands: the parser, types of option values, and output of text."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rnnfast.commands import streams
from rnnfast.text.tokenise import decode_bytes, read_text, unpacked

BAD_INPUT = 2
JSON_HELP = "print one JSON object to stdout at the end, text to stderr; numbers that are not finite are null"
THREADS_HELP = "1 to 4096; default: all cores this process may use"
LARGEST_SEED = 2**64 - 1
LARGEST_COUNT = 2**31 - 1


class Parser(argparse.ArgumentParser):
    """argparse's parser, with errors in one line that suggest corrections."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Like argparse's, but an unknown option is reported before missing ones."""
        words = list(sys.argv[1:] if args is None else args)
        for word in words:
            if word == "--" or (not word.startswith("-") and self._subparsers is not None):
                break  # the rest is not for this parser
            self._check_option(word)
        return super().parse_known_args(words, namespace)

    def _check_option(self, word: str) -> None:
        name = word.partition("=")[0]
        if not re.match(r"--?[A-Za-z]", name) or re.search(r"\s", name):
            return  # a value, such as a negative number
        known = list(self._option_string_actions)
        if name in known or (name.startswith("--") and any(option.startswith(name) for option in known)):
            return
        self.error(f"unknown option {name}{meant('--' + name.lstrip('-'), known)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action, f"invalid choice: {value!r}{meant(str(value), choices)}; expected one of {', '.join(choices)}"
            )

    def error(self, message: str) -> NoReturn:
        """One line, and status 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {message} ({self.prog} --help explains)\n")


class Formatter(argparse.HelpFormatter):
    """Help with the defaults that are informative."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        plain = any(action.default is value for value in (None, False, argparse.SUPPRESS)) or "default:" in (text or "")
        return text if plain else f"{text} (default: %(default)s)"


def meant(word: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` if one of the ``known`` words is close to ``word``, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def say(text: str, args: argparse.Namespace) -> None:
    """Prints text to stdout, or to stderr when stdout is used for JSON or for the model.

    If stdout is closed, a command with another result (``args.works``) continues; a command that only prints ends.
    """
    if args.json or getattr(args, "stdout_taken", False):
        streams.note(text)
        return
    try:
        streams.write(text)
    except (streams.ReaderGone, OSError):
        if not getattr(args, "works", False):
            raise


def sidecar(model: Path, ending: str) -> Path:
    """The file next to ``model`` with the suffix ``ending``."""
    return model.with_name((model.stem if model.suffix == ".safetensors" else model.name) + ending)


def integer(least: int, most: int = LARGEST_COUNT) -> Any:
    """The type of an option: an integer from ``least`` to ``most``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not an integer") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is below {least}")
        if value > most:
            raise argparse.ArgumentTypeError(f"{text[:40]} is above {most}")
        return value

    return parse


def real(low: float, high: float = float("inf"), *, open_low: bool = False) -> Any:
    """The type of an option: a number from ``low``, exclusive if ``open_low``, to ``high``, exclusive."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number") from None
        if not (low < value if open_low else low <= value) or not value < high:
            raise argparse.ArgumentTypeError(f"{text[:40]} is outside {low} to {high}")
        return value

    return parse


def block(text: str) -> str:
    """The type of an option: a block of pruned weights, such as 16x1."""
    from rnnfast.train.pruning import sparsity_of

    try:
        sparsity_of(None, block_of(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def block_of(text: str) -> tuple[int, int]:
    """The units and inputs of ``16x1``."""
    if not re.fullmatch(r"\d{1,9}x\d{1,9}", text):
        raise ValueError(f"{text[:40]!r} is not a block: expected units and inputs, such as 16x1")
    units, _, inputs = text.partition("x")
    return int(units), int(inputs)


def perplexity(value: float) -> str:
    """A perplexity for printing: three decimals, or a power of ten if it is large."""
    return f"{value:.3f}" if value < 1e6 else f"{value:.2e}"


def named(file: str) -> str:
    """The name of a text file in messages."""
    return "standard input" if file == "-" else file


def text_of(file: str) -> str:
    """The text of a file, or of standard input for ``-``."""
    if file != "-":
        return read_text(file)
    return decode_bytes(unpacked(sys.stdin.buffer.read()), named(file))


def groups(parser: Any, *titles: str) -> Sequence[Any]:
    """Argument groups of a command's help, in this order."""
    return [parser.add_argument_group(title) for title in titles]
