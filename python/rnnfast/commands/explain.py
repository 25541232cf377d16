"""``rnnfast explain``: a page that shows what a model computes as it reads a text."""

from __future__ import annotations

import argparse
import os
from typing import Any

from rnnfast.commands import streams
from rnnfast.commands.options import JSON_HELP, Formatter, groups, integer, named, say, text_of
from rnnfast.commands.output import FORCE_HELP, check_output, is_stdout, is_stream


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    explain = commands.add_parser(
        "explain",
        help="write a page that shows what a model computes as it reads a text",
        description="Writes one HTML file: the text in the colors of a unit's state or gate, the surprisal of each token, and a prompt box "
        "in which the model runs. Of a translator it shows the translations and their attention.",
        formatter_class=Formatter,
    )
    data, output = groups(explain, "model and text", "output")
    data.add_argument("model", metavar="MODEL", help="a language model or a translator; it computes in float32")
    data.add_argument("--text", required=True, metavar="FILE", help="UTF-8 text, also .gz; - is standard input")
    data.add_argument(
        "--max-tokens",
        type=integer(1),
        default=1000,
        metavar="N",
        help="show this many tokens from the text's beginning",
    )
    output.add_argument("--output", required=True, metavar="PAGE", help="the HTML file to write, at most 32 MB")
    output.add_argument(
        "--no-model",
        action="store_true",
        help="leave out the weights and the prompt box: a smaller page, for any model",
    )
    output.add_argument("--force", action="store_true", help=FORCE_HELP)
    output.add_argument("--json", action="store_true", help=JSON_HELP)
    explain.set_defaults(run=run, threads=None, works=True)


def run(args: argparse.Namespace) -> None:
    """Writes the page and reports its size."""
    import rnnfast as rf

    check_output("--output", args.output, force=args.force, inputs=[args.model, args.text])
    args.stdout_taken = is_stdout(args.output)
    model = rf.load(args.model, weights="f32")
    if not isinstance(model, (rf.LanguageModel, rf.Seq2Seq)):
        raise ValueError(f"{args.model} holds {type(model).__name__}; language models and translators have a page")
    name = "" if args.text == "-" else f": {os.path.basename(named(args.text))}"
    title = os.path.splitext(os.path.basename(args.model))[0] + name
    rf.explain(
        model, text_of(args.text), args.output, max_tokens=args.max_tokens, with_model=not args.no_model, title=title
    )
    size = None if is_stream(args.output) else os.path.getsize(args.output)
    say(f"wrote {args.output}" + ("" if size is None else f": {size:,} bytes; open it in a browser"), args)
    if args.json:
        streams.write_json({"output": args.output, "bytes": size})
