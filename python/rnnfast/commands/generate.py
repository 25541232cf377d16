"""``rnnfast generate``: text from a model."""

from __future__ import annotations

import argparse
from typing import Any

from rnnfast.commands import streams
from rnnfast.commands.options import LARGEST_SEED, THREADS_HELP, Formatter, groups, integer, real
from rnnfast.text.vocab import Vocab


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
    model.add_argument("--prompt", help="the text to continue (default: the most frequent token of the vocabulary)")
    model.add_argument("--length", type=integer(0), default=200, help="tokens to add")
    sampling.add_argument("--temperature", type=real(0), default=0.8, help="0: always the most probable token")
    sampling.add_argument(
        "--top-k", type=integer(0), default=0, help="sample from this many most probable tokens; 0: from all"
    )
    sampling.add_argument(
        "--top-p", type=real(0, open_low=True), default=1.0,
        help="sample from the most probable tokens that together have this probability; 1: from all",
    )  # fmt: skip
    sampling.add_argument(
        "--beam-size", type=integer(1), default=1, help="above 1: the most probable text that beam search finds"
    )
    sampling.add_argument(
        "--no-repeat-ngram", type=integer(0), default=0, metavar="N", help="never repeat N tokens in a row; 0: allow it"
    )
    sampling.add_argument("--no-unk", action="store_true", help="never generate <unk>, <pad> or <bos>")
    sampling.add_argument(
        "--stop", action="append", metavar="TEXT", help="end before this text; may be given several times"
    )
    sampling.add_argument(
        "--num-samples", type=integer(1), metavar="N", help="print N texts, separated by lines of ---"
    )
    sampling.add_argument("--seed", type=integer(0, LARGEST_SEED), default=0, help="the same seed gives the same text")
    run_.add_argument("--json", action="store_true", help="print one JSON object: the prompt and a list of texts")
    run_.add_argument("--threads", type=integer(1, 4096), help=THREADS_HELP)
    generate.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Prints the prompt and its continuation, token by token."""
    import rnnfast as rf

    model = rf.load(args.model, kind="language_model")
    if model.vocab is None:
        raise ValueError(f"{args.model} has no vocabulary, so it cannot generate text")
    prompt = args.prompt
    if prompt is None:
        prompt = model.vocab.decode([min(1, len(model.vocab) - 1)])
    if unknown := _unknown(model.vocab, prompt):
        streams.note(f"note: the model does not know {unknown} and reads <unk> instead")
    options: dict[str, Any] = {
        "length": args.length, "no_repeat_ngram_size": args.no_repeat_ngram, "allow_unk": not args.no_unk, "stop": args.stop,
    }  # fmt: skip
    if args.beam_size > 1:
        if args.num_samples is not None:
            raise ValueError("--beam-size is not random and gives one text; leave out --num-samples")
        options["beam_size"] = args.beam_size
    else:
        options.update(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, seed=args.seed)
    if args.beam_size == 1 and args.num_samples is None and not args.json:
        pieces = rf.stream(model, prompt, **options)
        streams.write(prompt, end="")
        for piece in pieces:
            streams.write(piece, end="")
        streams.write("")
        return
    texts = rf.generate(model, prompt, **options, num_samples=args.num_samples)
    texts = [texts] if isinstance(texts, str) else texts
    if args.json:
        streams.write_json({"prompt": prompt, "texts": texts})
    else:
        streams.write("\n---\n".join(texts))


def _unknown(vocab: Vocab, prompt: str) -> str:
    """The prompt's tokens that are not in the vocabulary, for a message; byte pairs know every text."""
    tokens = dict.fromkeys(vocab.tokenize(prompt)) if vocab.rules is None else {}  # in their order, each once
    return ", ".join(repr(token) for token in tokens if token not in vocab)
