"""``rnnfast generate``: text from a model."""

from __future__ import annotations

import argparse
from typing import Any

from rnnfast.commands import streams
from rnnfast.commands.options import LARGEST_SEED, THREADS_HELP, Formatter, groups, real, whole


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    generate = commands.add_parser(
        "generate",
        help="text from a model",
        description="Prints a prompt and how a language model, a network or n-grams in an ARPA file, continues it.",
        formatter_class=Formatter,
    )
    model, sampling, run_ = groups(generate, "model and prompt", "sampling", "run")
    model.add_argument("model", metavar="MODEL", help="a model file, or an n-gram model in the ARPA format")
    model.add_argument("--prompt", help="where to start from; default: the vocabulary's most frequent token")
    model.add_argument("--length", type=whole(0), default=200, help="tokens to add")
    sampling.add_argument("--temperature", type=real(0), default=0.8, help="0: always the most probable token")
    sampling.add_argument("--top-k", type=whole(0), default=0, help="sample among so many tokens only; 0: all")
    sampling.add_argument(
        "--top-p", type=real(0, open_low=True), default=1.0,
        help="sample among the most probable tokens that together have this probability; 1: all",
    )  # fmt: skip
    sampling.add_argument(
        "--beam-size", type=whole(1), default=1, help="above 1: the most probable text that beam search finds"
    )
    sampling.add_argument("--seed", type=whole(0, LARGEST_SEED), default=0, help="the same seed gives the same text")
    run_.add_argument("--threads", type=whole(1, 4096), help=THREADS_HELP)
    generate.set_defaults(run=run, json=False)


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
        streams.note(f"note: the model does not know {unknown} and reads <unk> there")
    if args.beam_size > 1:
        streams.write(rf.generate(model, prompt, length=args.length, beam_size=args.beam_size))
        return
    pieces = rf.stream(
        model, prompt, length=args.length, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p,
        seed=args.seed,
    )  # fmt: skip
    streams.write(prompt, end="")
    for piece in pieces:
        streams.write(piece, end="")
    streams.write("")


def _unknown(vocab: Any, prompt: str) -> str:
    """The prompt's tokens that are not in the vocabulary, to be read by a person; byte pairs know every text."""
    tokens = dict.fromkeys(vocab.tokenize(prompt)) if vocab.rules is None else {}  # in their order, each once
    return ", ".join(repr(token) for token in tokens if token not in vocab)
