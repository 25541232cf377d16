"""``rnnfast quantize``: a smaller file of the same model."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from rnnfast.commands.options import JSON_HELP, say


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    quantize = commands.add_parser("quantize", help="a file of a quarter (int8) or half (bf16) the size")
    quantize.add_argument("model", metavar="MODEL")
    quantize.add_argument("--weights", choices=("int8", "bf16"), default="int8")
    quantize.add_argument("--output", required=True, metavar="PATH", help="the file to write")
    quantize.add_argument("--json", action="store_true", help=JSON_HELP)
    quantize.set_defaults(run=run, threads=None)


def run(args: argparse.Namespace) -> None:
    """Writes the file and tells both sizes."""
    import rnnfast as rf

    rf.quantize(args.model, args.output, weights=args.weights)
    before, after = os.path.getsize(args.model), os.path.getsize(args.output)
    say(f"wrote {args.output}: {after:,} bytes, {after / before:.3f} of {before:,}", args)
    if args.json:
        print(json.dumps({"output": args.output, "bytes": after, "bytes_before": before}))
