"""``rnnfast generate``: text from a model."""

from __future__ import annotations

import argparse
import sys
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
    generate.add_argument("--top-p", type=real(0, open_low=True), default=1.0, help="1: all tokens")
    generate.add_argument("--beam-size", type=whole(1), default=1, help="above 1: the likeliest text, no chance")
    generate.add_argument("--seed", type=whole(0), default=0)
    generate.set_defaults(run=run, threads=None, json=False)


def run(args: argparse.Namespace) -> None:
    """Prints the prompt and its continuation, token by token."""
    import rnnfast as rf

    model = rf.load(args.model, kind="language_model")
    if model.vocab is None:
        raise ValueError(f"{args.model} has no vocabulary, so it cannot write text")
    prompt = args.prompt
    if prompt is None:
        prompt = model.vocab.decode([min(1, len(model.vocab) - 1)])
    if unknown := _unknown(model.vocab, prompt):
        print(f"note: the model does not know {unknown} and reads <unk> there", file=sys.stderr)
    if args.beam_size > 1:
        print(rf.generate(model, prompt, length=args.length, beam_size=args.beam_size))
        return
    print(prompt, end="")
    for piece in rf.stream(
        model, prompt, length=args.length, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p,
        seed=args.seed,
    ):  # fmt: skip
        print(piece, end="", flush=True)
    print()


def _unknown(vocab: Any, prompt: str) -> str:
    """The prompt's tokens that are not in the vocabulary, to be read by a person; byte pairs know every text."""
    tokens = dict.fromkeys(vocab.tokenize(prompt)) if vocab.rules is None else {}  # in their order, each once
    return ", ".join(repr(token) for token in tokens if token not in vocab)
