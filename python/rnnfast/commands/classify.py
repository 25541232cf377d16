"""``rnnfast classify``: a classifier of lines of text."""

from __future__ import annotations

import argparse
from typing import Any

from rnnfast.commands import fitting, streams
from rnnfast.commands.options import Formatter, groups, integer, real, say
from rnnfast.commands.ranks import ranks_of
from rnnfast.text.tokenise import TOKENIZERS


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    classify = commands.add_parser(
        "classify",
        help="train or apply a classifier of lines of text",
        description="With --output, trains a classifier on the lines of FILE: a label, a tab, and a text. With --model, prints the most "
        "probable label of each line of FILE, its probability and the text.",
        formatter_class=Formatter,
    )
    data, model, output, run_ = groups(classify, "data", "model", "output", "run")
    data.add_argument("file", metavar="FILE", help="UTF-8 text, also .gz; - is standard input")
    data.add_argument("--tokenizer", choices=TOKENIZERS, default="char", help="what counts as a token")
    data.add_argument("--test", type=real(0, 1), default=0.1, help="share of the lines to test with, not to train on")
    model.add_argument("--embedding-size", type=integer(1), default=32, help="size of the embedding of a token")
    model.add_argument(
        "--pooling", choices=("last", "mean"), default="last", help="read the last state, or the mean of all"
    )
    fitting.add_model(
        classify, model, {"cell": "gru", "hidden_size": 64, "epochs": 10, "lr": 3e-3},
        others=("tokenizer", "test", "embedding_size", "pooling"),
    )  # fmt: skip
    fitting.add_files(output)
    fitting.add_run(run_)
    classify.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Trains, or prints labels."""
    import rnnfast as rf

    if not fitting.trains(args):
        _apply(rf.load(args.model, kind=rf.SequenceClassifier), args)
        return
    args.works = True
    labels, texts = _labelled(args.file)
    train, test = fitting.held_out(list(zip(texts, labels)), args.test, args.seed)
    if not train:
        raise ValueError(f"{args.file} has no line to train on")
    model = rf.SequenceClassifier(
        tokenizer=args.tokenizer, embedding_size=args.embedding_size, pooling=args.pooling, input="tokens",
        **fitting.settings(args),
    )  # fmt: skip
    ranks = ranks_of(args.shards, threads=args.threads)
    model.fit([text for text, _ in train], [label for _, label in train], distributed=ranks)
    if ranks is not None and not ranks.leads:
        return
    model.save(args.output)
    accuracy = model.score([text for text, _ in test], [label for _, label in test]) if test else None
    tested = "" if accuracy is None else f"accuracy {accuracy:.4f} on {len(test):,} other lines; "
    say(
        f"trained on {len(train):,} lines with {len(model.classes_)} labels; {tested}wrote {args.output}\n"
        f"apply it with: rnnfast classify FILE --model {args.output}",
        args,
    )
    if args.json:
        streams.write_json(
            {"accuracy": accuracy, "lines": len(train), "labels": model.classes_.tolist(), "loss": model.loss_curve_}
        )


def _labelled(file: str) -> tuple[list[str], list[str]]:
    """The labels and the texts of the lines that are not empty."""
    labels, texts = [], []
    for place, line in fitting.lines_of(file):
        if not line.strip():
            continue
        label, tab, text = line.partition("\t")
        if not tab or not label or not text:
            raise ValueError(f"{place}: {line[:40]!r} is not a label, a tab and a text")
        labels.append(label)
        texts.append(text)
    return labels, texts


def _apply(model: Any, args: argparse.Namespace) -> None:
    if model.input_ != "tokens":
        raise ValueError(f"{args.model} classifies sequences of numbers, not text; apply it in Python")
    lines = [line for _, line in fitting.lines_of(args.file)]
    if lines and not lines[-1]:
        lines.pop()
    for begin in range(0, len(lines), 1024):
        some = lines[begin : begin + 1024]
        found = dict(
            zip(
                [n for n, line in enumerate(some) if line.strip()],
                model.predict_proba([line for line in some if line.strip()]),
            )
        )
        for n, line in enumerate(some):
            label, p = ("", 0.0) if n not in found else (str(model.classes_[found[n].argmax()]), float(found[n].max()))
            if args.json:
                streams.write_json({"label": label or None, "probability": p, "text": line})
            else:
                streams.write(f"{label}\t{p:.4f}\t{line}" if label else "")
