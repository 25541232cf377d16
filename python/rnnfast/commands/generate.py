"""``rnnfast generate``: text from a model."""

from __future__ import annotations

import argparse
from typing import Any

from rnnfast.commands.options import real, whole


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    generate = commands.add_parser(
        "generate", help="text from a model", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    generate.add_argument("model", metavar="MODEL")
    generate.add_argument("--prompt", help="default: the vocabulary's most frequent token")
    generate.add_argument("--length", type=whole(0), default=200, help="tokens to add")
    generate.add_argument("--temperature", type=real(0), default=0.8, help="0: always the likeliest token")
    generate.add_argument("--top-k", type=whole(0), default=0, help="0: all tokens")
    generate.add_argument("--seed", type=whole(0), default=0)
    generate.set_defaults(run=run, threads=None, json=False)


def run(args: argparse.Namespace) -> None:
    """Prints the prompt and its continuation, token by token."""
    import rnnfast as rf

    model = rf.load(args.model)
    if model.vocab is None:
        raise ValueError(f"{args.model} has no vocabulary, so it cannot write text")
    prompt = args.prompt
    if prompt is None:
        prompt = model.vocab.decode([min(1, len(model.vocab) - 1)])
    print(prompt, end="")
    for piece in rf.stream(
        model, prompt, length=args.length, temperature=args.temperature, top_k=args.top_k, seed=args.seed
    ):
        print(piece, end="", flush=True)
    print()
