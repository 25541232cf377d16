"""``rnnfast eval``: the perplexity of a model on a text."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any, cast

from rnnfast.commands import streams
from rnnfast.commands.adapting import adapting, add_adapting
from rnnfast.commands.options import JSON_HELP, THREADS_HELP, groups, integer, named, perplexity, say, text_of

if TYPE_CHECKING:
    from rnnfast.markov.ngram import NGram
    from rnnfast.models.language_model import LanguageModel
    from rnnfast.text.corpus import Corpus
    from rnnfast.text.vocab import Vocab

_LINES = 1024  # scored together


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    evaluation = commands.add_parser(
        "eval",
        help="perplexity of a model on a text",
        description="Prints how well a language model, a network or n-grams in an ARPA file, predicts a text.",
    )
    data, output, run_ = groups(evaluation, "data", "output", "run")
    data.add_argument("model", metavar="MODEL", help="a model file, or an n-gram model in the ARPA format")
    data.add_argument("file", metavar="FILE", help="UTF-8 text, also .gz; - is standard input")
    output.add_argument(
        "--per-line", action="store_true",
        help="print one line per line of FILE: log-probability in nats, perplexity, tokens and text, separated by tabs; "
        "each line is predicted alone, from the previous line end to its own if the model knows line ends",
    )  # fmt: skip
    output.add_argument("--json", action="store_true", help=JSON_HELP + "; with --per-line, one object per line")
    adapt = evaluation.add_argument_group("adapting")
    add_adapting(lambda name, text, **kind: adapt.add_argument(name, help=text, **kind), "text")
    adapt.add_argument("--train-text", metavar="FILE", help="the training text, for --dynamic rms")
    run_.add_argument("--threads", type=integer(1, 4096), help=THREADS_HELP)
    evaluation.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Prints perplexity, bits per token and the share of unknown tokens."""
    import rnnfast as rf

    model = rf.load(args.model, kind="language_model")
    if model.vocab is None:
        raise ValueError(f"{args.model} has no vocabulary, so it cannot read a text")
    if args.per_line:
        _print_lines(model, model.vocab, args)
        return
    corpus = rf.Corpus.from_text(text_of(args.file), vocab=model.vocab, name=named(args.file))
    dynamic, cache = adapting(args.dynamic, args.cache, _training_text(model.vocab, args))
    result = rf.evaluate(cast("LanguageModel", model), corpus, dynamic=dynamic, cache=cache)
    say(
        f"perplexity {perplexity(result.perplexity)} on {result.tokens:,} tokens, {result.bits_per_token:.3f} bits per token; "
        f"{100 * result.oov_rate:.2f}% unknown, {perplexity(result.perplexity_without_oov)} without them",
        args,
    )
    if args.json:
        streams.write_json(result.as_dict())


def _training_text(vocab: Vocab, args: argparse.Namespace) -> Corpus | None:
    import rnnfast as rf

    if args.train_text is None:
        return None
    return rf.Corpus.from_text(text_of(args.train_text), vocab=vocab, name=named(args.train_text))


def _print_lines(model: LanguageModel | NGram, vocab: Vocab, args: argparse.Namespace) -> None:
    import rnnfast as rf

    lines = text_of(args.file).split("\n")
    if lines[-1] == "":
        lines.pop()
    ids = vocab.encode_text("\n")
    end = "\n" if len(ids) and (ids != vocab.unk).all() else ""
    for first in range(0, len(lines), _LINES):
        chunk = lines[first : first + _LINES]
        for line, tokens in zip(chunk, rf.surprisal(model, [line + end for line in chunk], context=end)):
            log_prob = -math.log(2) * sum(bits for _, bits in tokens)
            mean = -log_prob / len(tokens) if tokens else 0.0
            perplexity = math.exp(mean) if mean < 700 else math.inf
            if args.json:
                streams.write_json(
                    {"log_prob": log_prob, "perplexity": perplexity, "tokens": len(tokens), "text": line}
                )
            else:
                streams.write(f"{log_prob:.4f}\t{perplexity:.4f}\t{len(tokens)}\t{line}")
