"""``rnnfast quantize``: a smaller file of the same model."""

from __future__ import annotations

import argparse
import os
from typing import Any

from rnnfast.commands import streams
from rnnfast.commands.options import JSON_HELP, Formatter, groups, say
from rnnfast.commands.output import FORCE_HELP, check_output, is_stdout, is_stream


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    quantize = commands.add_parser(
        "quantize",
        help="write a model file of a quarter (int8) or half (bf16) the size",
        description="Writes the same model with quantized matrices; the file loads like any model file.",
        formatter_class=Formatter,
    )
    model, output = groups(quantize, "model", "output")
    model.add_argument("model", metavar="MODEL", help="a model file")
    model.add_argument("--weights", choices=("int8", "bf16"), default="int8", help="a quarter or half of the size")
    output.add_argument("--output", required=True, metavar="PATH", help="the file to write")
    output.add_argument("--force", action="store_true", help=FORCE_HELP)
    output.add_argument("--json", action="store_true", help=JSON_HELP)
    quantize.set_defaults(run=run, threads=None, works=True)


def run(args: argparse.Namespace) -> None:
    """Writes the file and reports both sizes."""
    import rnnfast as rf

    check_output("--output", args.output, force=args.force, inputs=[args.model])
    args.stdout_taken = is_stdout(args.output)
    rf.quantize(args.model, args.output, weights=args.weights)
    before = os.path.getsize(args.model)
    after = None if is_stream(args.output) else os.path.getsize(args.output)
    sizes = "" if after is None else f": {after:,} bytes, {after / before:.3f} of {before:,}"
    say(f"wrote {args.output}{sizes}", args)
    if args.json:
        streams.write_json({"output": args.output, "bytes": after, "bytes_before": before})
