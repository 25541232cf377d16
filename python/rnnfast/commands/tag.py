"""``rnnfast tag``: a label for every token of sentences."""

from __future__ import annotations

import argparse
from typing import Any

from rnnfast.commands import fitting, streams
from rnnfast.commands.options import Formatter, groups, integer, real, say
from rnnfast.commands.ranks import ranks_of


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    tag = commands.add_parser(
        "tag",
        help="train or apply a tagger, which labels every token",
        description="With --output, trains a tagger on FILE: a token, a tab and its label in each line, and an empty line after each "
        "sentence. With --model, reads tokens, one a line (what follows a tab is ignored), and prints them with their labels.",
        formatter_class=Formatter,
    )
    data, model, output, run_ = groups(tag, "data", "model", "output", "run")
    data.add_argument("file", metavar="FILE", help="UTF-8 text, also .gz; - is standard input")
    data.add_argument(
        "--test", type=real(0, 1), default=0.1, help="share of the sentences to test with, not to train on"
    )
    model.add_argument("--embedding-size", type=integer(1), default=32, help="size of the embedding of a token")
    model.add_argument("--one-direction", action="store_true", help="labels depend on earlier tokens only")
    model.add_argument("--dropout", type=real(0, 1), default=0.1, help="of embeddings and hidden states in training")
    fitting.add_model(
        tag, model, {"cell": "lstm", "hidden_size": 64, "epochs": 10, "lr": 5e-3},
        others=("test", "embedding_size", "one_direction", "dropout"),
    )  # fmt: skip
    fitting.add_files(output)
    fitting.add_run(run_)
    tag.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Trains, or prints labels."""
    import rnnfast as rf

    if not fitting.trains(args):
        _apply(rf.load(args.model, kind=rf.SequenceTagger), args)
        return
    args.works = True
    train, test = fitting.held_out(_sentences(args.file, labelled=True), args.test, args.seed)
    if not train:
        raise ValueError(f"{args.file} has no sentence to train on")
    model = rf.SequenceTagger(
        embedding_size=args.embedding_size, bidirectional=not args.one_direction, dropout=args.dropout, input="tokens",
        **fitting.settings(args),
    )  # fmt: skip
    ranks = ranks_of(args.shards, threads=args.threads)
    labels = [[label for _, label in one] for one in train]
    model.fit([[token for token, _ in one] for one in train], labels, distributed=ranks)
    if ranks is not None and not ranks.leads:
        return
    model.save(args.output)
    accuracy = None
    if test:
        accuracy = model.score(
            [[token for token, _ in one] for one in test], [[label for _, label in one] for one in test]
        )
    tested = "" if accuracy is None else f"accuracy {accuracy:.4f} on {len(test):,} other sentences; "
    say(
        f"trained on {len(train):,} sentences with {len(model.classes_)} labels; {tested}wrote {args.output}\n"
        f"apply it with: rnnfast tag FILE --model {args.output}",
        args,
    )
    if args.json:
        streams.write_json(
            {
                "accuracy": accuracy,
                "sentences": len(train),
                "labels": model.classes_.tolist(),
                "loss": model.loss_curve_,
            }
        )


def _sentences(file: str, *, labelled: bool) -> list[list[tuple[str, str]]]:
    """Tokens and labels of the sentences, without empty ones."""
    sentences: list[list[tuple[str, str]]] = [[]]
    for place, line in fitting.lines_of(file):
        if not line.strip():
            sentences.append([])
            continue
        token, _, label = line.partition("\t")
        if not token or (labelled and not label):
            raise ValueError(f"{place}: {line[:40]!r} is not a token{', a tab and a label' if labelled else ''}")
        sentences[-1].append((token, label))
    return [one for one in sentences if one]


def _apply(model: Any, args: argparse.Namespace) -> None:
    if model.input_ != "tokens":
        raise ValueError(f"{args.model} tags sequences of numbers, not text; apply it in Python")
    sentences = [[token for token, _ in one] for one in _sentences(args.file, labelled=False)]
    for begin in range(0, len(sentences), 256):
        some = sentences[begin : begin + 256]
        for tokens, labels in zip(some, model.predict(some)):
            if args.json:
                streams.write_json({"tokens": tokens, "labels": labels.tolist()})
            else:
                streams.write("".join(f"{token}\t{label}\n" for token, label in zip(tokens, labels)))
