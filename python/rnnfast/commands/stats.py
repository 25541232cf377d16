"""``rnnfast stats``: token statistics of a text."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rnnfast.commands import streams
from rnnfast.commands.options import JSON_HELP, Formatter, groups, integer, named, say, text_of
from rnnfast.commands.output import FORCE_HELP, check_picture
from rnnfast.text.tokenise import TOKENIZERS


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    stats = commands.add_parser(
        "stats",
        help="tokens, vocabulary and frequent n-grams of a text",
        description="Counts the tokens of a text, and shows its most frequent unigrams, bigrams and trigrams.",
        formatter_class=Formatter,
    )
    data, output = groups(stats, "data", "output")
    data.add_argument("file", metavar="FILE", help="UTF-8 text, also .gz; - is standard input")
    data.add_argument("--tokenizer", choices=TOKENIZERS, default="word", help="what counts as a token")
    data.add_argument(
        "--max-vocab", type=integer(1), metavar="N", help="count all but the N most frequent tokens as <unk>"
    )
    output.add_argument("--top", type=integer(1), default=10, help="number of n-grams of each order")
    output.add_argument("--plot", metavar="PICTURE", help="draw the frequencies, both axes logarithmic (PNG, PDF, SVG)")
    output.add_argument("--force", action="store_true", help=FORCE_HELP)
    output.add_argument("--json", action="store_true", help=JSON_HELP)
    stats.set_defaults(run=run, threads=None)


def run(args: argparse.Namespace) -> None:
    """Prints the counts; draws the frequency of n-grams over their rank."""
    import numpy as np

    import rnnfast as rf
    from rnnfast.markov.grams import count, tokens_of

    picture = check_picture("--plot", args, inputs=[args.file])
    name = named(args.file)
    corpus = rf.Corpus.from_text(text_of(args.file), tokenizer=args.tokenizer, max_vocab=args.max_vocab, name=name)
    levels = count(corpus.ids.astype(np.int64), 3, len(corpus.vocab), -1)
    kinds, result = ("unigrams", "bigrams", "trigrams"), {}
    if picture is not None:  # before the text, whose reader may close the pipe
        _plot({kind: level.counts for kind, level in zip(kinds, levels)}, picture)
    say(f"{name}: {len(corpus):,} {args.tokenizer} tokens, {len(corpus.vocab) - 1:,} different", args)
    for n, (kind, level) in enumerate(zip(kinds, levels), 1):
        ids = tokens_of([below.keys for below in levels[:n]], len(corpus.vocab))
        best = [i for i in np.argsort(-level.counts, kind="stable")[: args.top] if level.counts[i]]
        rows = [(corpus.vocab.to_tokens(ids[i]), int(level.counts[i])) for i in best]
        result[kind] = [{"tokens": tokens, "count": times} for tokens, times in rows]
        say(f"\n{int((level.counts > 0).sum()):,} different {kind}, the most frequent:", args)
        for tokens, times in rows:
            say(f"{times:>9,}  {' '.join(json.dumps(t, ensure_ascii=False)[1:-1] for t in tokens)}", args)
    if picture is not None:
        say(f"\nwrote {picture}", args)
    if args.json:
        streams.write_json({"tokens": len(corpus), "vocabulary": len(corpus.vocab) - 1, **result})


def _plot(counts: dict[str, Any], path: Path) -> None:
    """Frequency over rank, both logarithmic: a straight line is Zipf's law."""
    import numpy as np

    from rnnfast.plot import finish, new_figure

    figure, axes = new_figure()
    for kind, values in counts.items():
        falling = np.sort(values[values > 0])[::-1]
        axes.loglog(np.arange(1, len(falling) + 1), falling, label=kind)
    axes.set(xlabel="rank", ylabel="frequency")
    axes.legend()
    finish(figure, path)
