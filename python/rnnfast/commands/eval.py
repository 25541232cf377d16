"""``rnnfast eval``: the perplexity of a model on a text."""

from __future__ import annotations

import argparse
from typing import Any

from rnnfast.commands import streams
from rnnfast.commands.options import JSON_HELP, THREADS_HELP, groups, named, perplexity, say, text_of, whole


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    evaluation = commands.add_parser(
        "eval",
        help="perplexity of a model on a text",
        description="Prints how well a language model, a network or n-grams in an ARPA file, predicts a text.",
    )
    data, output, run_ = groups(evaluation, "data", "output", "run")
    data.add_argument("model", metavar="MODEL", help="a model file, or an n-gram model in the ARPA format")
    data.add_argument("file", metavar="FILE", help="UTF-8 text, .gz too; - is standard input")
    output.add_argument("--json", action="store_true", help=JSON_HELP)
    run_.add_argument("--threads", type=whole(1, 4096), help=THREADS_HELP)
    evaluation.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Prints perplexity, bits per token and the share of unknown tokens."""
    import rnnfast as rf

    model = rf.load(args.model, kind="language_model")
    if model.vocab is None:
        raise ValueError(f"{args.model} has no vocabulary, so it cannot read a text")
    result = rf.evaluate(model, rf.Corpus.from_text(text_of(args.file), vocab=model.vocab, name=named(args.file)))
    say(
        f"perplexity {perplexity(result.perplexity)} on {result.tokens:,} tokens, {result.bits_per_token:.3f} bits per token; "
        f"{100 * result.oov_rate:.2f}% unknown, {perplexity(result.perplexity_without_oov)} without them",
        args,
    )
    if args.json:
        streams.write_json(result.as_dict())
