"""``rnnfast eval``: the perplexity of a model on a text."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rnnfast.commands.options import JSON_HELP, say, whole


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    evaluation = commands.add_parser("eval", help="perplexity of a model on a text")
    evaluation.add_argument("model", metavar="MODEL")
    evaluation.add_argument("file", metavar="FILE")
    evaluation.add_argument("--threads", type=whole(1))
    evaluation.add_argument("--json", action="store_true", help=JSON_HELP)
    evaluation.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Prints perplexity, bits per token and the share of unknown tokens."""
    import rnnfast as rf

    model = rf.load(args.model, kind="language_model")
    if model.vocab is None:
        raise ValueError(f"{args.model} has no vocabulary, so it cannot read a text")
    result = rf.evaluate(model, rf.Corpus.from_file(args.file, vocab=model.vocab))
    say(
        f"perplexity {result.perplexity:.3f} on {result.tokens:,} tokens, {result.bits_per_token:.3f} bits per token; "
        f"{100 * result.oov_rate:.2f}% unknown, {result.perplexity_without_oov:.3f} without them",
        args,
    )
    if args.json:
        print(json.dumps(result.as_dict()))
