"""``rnnfast translate``: sentences by a trained translator, line by line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from rnnfast.commands import streams
from rnnfast.commands.options import THREADS_HELP, Formatter, groups, integer, real
from rnnfast.commands.output import FORCE_HELP, check_picture

_CHUNK = 1024  # lines of a file that are sorted by length and translated together


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    translate = commands.add_parser(
        "translate",
        help="translate lines of text",
        description="Translates each line of FILE, or of standard input as it arrives. An empty line gives an empty line.",
        formatter_class=Formatter,
    )
    data, search, output, run_ = groups(translate, "data", "search", "output", "run")
    data.add_argument("model", metavar="MODEL", help="a translator's model file")
    data.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="UTF-8 text, also .gz, one sentence per line; without it, or with -, standard input",
    )
    search.add_argument("--beam-size", type=integer(1), default=1, help="1: the most probable token at each step")
    search.add_argument(
        "--max-length", type=integer(1), help="maximum number of tokens of a translation (default: twice those of the line plus ten)",
        default=argparse.SUPPRESS,
    )  # fmt: skip
    search.add_argument("--length-penalty", type=real(0), default=0.75, help="larger values favor longer translations")
    output.add_argument(
        "--n-best", type=integer(1), default=1,
        help="translations per line, at most the beam size; above 1, lines have number, score, log P and text, separated by tabs",
    )  # fmt: skip
    output.add_argument("--attention-plot", metavar="PICTURE", help="draw the attention of the first line")
    output.add_argument("--force", action="store_true", help=FORCE_HELP)
    output.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object per line of text; numbers that are not finite are null",
    )
    run_.add_argument("--batch-size", type=integer(1), default=64, help="lines of FILE translated at a time")
    run_.add_argument(
        "--weights", choices=("f32", "bf16", "int8"), help="precision of products (default: the file's)",
        default=argparse.SUPPRESS,
    )  # fmt: skip
    run_.add_argument("--threads", type=integer(1, 4096), help=THREADS_HELP)
    translate.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Prints the translations."""
    import rnnfast as rf
    from rnnfast.translate import translations

    given = vars(args)
    plot, number = check_picture("--attention-plot", args, inputs=[args.model, args.file]), 0
    model = rf.load(args.model, weights=given.get("weights"), kind="seq2seq")
    if model.source_vocab is None or model.target_vocab is None:
        raise ValueError(f"{args.model} has no vocabularies, so it cannot read and write text")
    options: dict[str, Any] = {
        "beam_size": args.beam_size, "n_best": args.n_best, "max_length": given.get("max_length"),
        "length_penalty": args.length_penalty, "batch_size": args.batch_size,
    }  # fmt: skip
    for lines in _typed() if args.file in (None, "-") else _chunks(args.file):
        found = translations(model, lines, **options, attention=plot is not None)
        for line, best in zip(lines, found):
            number += 1
            if plot is not None and best[0].attention is not None:  # before the text, whose reader may close the pipe
                best[0].plot(plot)
                streams.note(f"wrote {plot}")
                plot = None
            _print(line, best, number, args)


def _typed() -> Iterator[list[str]]:
    """Lines of standard input, each as soon as it arrives."""
    for number, line in enumerate(iter(sys.stdin.buffer.readline, b""), 1):
        try:
            yield [line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")]
        except UnicodeDecodeError as error:
            raise ValueError(
                f"line {number} of standard input is not UTF-8 (byte {line[error.start]:#04x} at {error.start}); "
                "convert it first, for example with iconv -t UTF-8"
            ) from None


def _chunks(path: str) -> Iterator[list[str]]:
    from rnnfast.text.tokenise import read_text

    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    for first in range(0, len(lines), _CHUNK):
        yield lines[first : first + _CHUNK]


def _print(line: str, best: list[Any], number: int, args: argparse.Namespace) -> None:
    if args.json:
        told = [{"text": t.text, "log_prob": t.log_prob, "score": t.score, "ended": t.ended} for t in best]
        streams.write_json({"source": line, "translations": told})
        return
    for t in best:
        text = " ".join(t.text.splitlines())  # one line per translation, even if it contains line ends
        streams.write(f"{number}\t{t.score:.4f}\t{t.log_prob:.4f}\t{text}" if args.n_best > 1 else text)
