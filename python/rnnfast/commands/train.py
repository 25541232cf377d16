"""``rnnfast train``: a language model from a text."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnnfast import _core
from rnnfast.commands.options import JSON_HELP, real, say, sidecar, whole
from rnnfast.text import TOKENIZERS


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    train = commands.add_parser(
        "train",
        help="train a language model on a text",
        description="Trains a recurrent language model. Without FILE it reads Python's own help texts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.add_argument("file", nargs="?", metavar="FILE", help="UTF-8 text, .gz too")
    train.add_argument("--tokenizer", choices=TOKENIZERS, default="char")
    train.add_argument("--min-freq", type=whole(1), default=1, help="rarer tokens read as <unk>")
    train.add_argument("--cell", choices=_core.cells(), default="rnn")
    train.add_argument("--hidden-size", type=whole(1), default=256)
    train.add_argument("--num-layers", type=whole(1), default=1)
    train.add_argument("--embedding-size", type=whole(0), default=0, help="0: one-hot input")
    train.add_argument("--batch-size", type=whole(1), default=32)
    train.add_argument("--num-steps", type=whole(1), default=50)
    train.add_argument("--epochs", type=whole(1), default=12)
    train.add_argument("--optimizer", choices=("sgd", "adam", "adamw"), default="adam")
    train.add_argument("--lr", type=real(0, open_low=True), default=2e-3, help="learning rate")
    train.add_argument("--clip-norm", type=real(0), default=1.0, help="largest gradient norm; 0: no clipping")
    train.add_argument("--sampling", choices=("sequential", "random"), default="sequential")
    train.add_argument("--dropout", type=real(0, 1), default=0.0)
    train.add_argument("--seed", type=whole(0), default=0)
    train.add_argument("--threads", type=whole(1), help="default: all cores this process may use")
    train.add_argument("--output", default="rnnfast-model.safetensors", metavar="PATH", help="the model file")
    train.add_argument("--resume", metavar="PATH", help="continue from a checkpoint, with its settings and its text")
    train.add_argument("--json", action="store_true", help=JSON_HELP)
    train.set_defaults(run=run)


_SETTINGS = (
    "file tokenizer min_freq cell hidden_size num_layers embedding_size batch_size num_steps epochs optimizer lr "
    "clip_norm sampling dropout seed output"
).split()


def run(args: argparse.Namespace) -> None:
    """Trains, tests, writes the model and its companions, shows a sample."""
    import rnnfast as rf
    from rnnfast.train import checkpoint_run, fit

    checkpoint = sidecar(Path(args.output), ".checkpoint.safetensors")
    resume = args.resume is not None
    if resume:
        checkpoint = Path(args.resume)
        for name, value in checkpoint_run(checkpoint)["settings"].items():
            setattr(args, name, value)
    output = Path(args.output)
    if not output.parent.is_dir():
        raise ValueError(f"{output.parent} is not a folder; make it, or give another --output")
    corpus, digest = _read_corpus(args)
    if resume and checkpoint_run(checkpoint)["sha256"] != digest:
        raise ValueError(f"{corpus.name} has changed since {checkpoint} was written; start anew without --resume")
    train, valid, test = corpus.split(0.9, 0.05, 0.05)
    model = rf.LanguageModel(
        corpus.vocab, cell=args.cell, embedding_size=args.embedding_size, hidden_size=args.hidden_size,
        num_layers=args.num_layers, dropout=args.dropout, seed=args.seed,
    )  # fmt: skip
    say(f"{corpus.name}: {len(corpus):,} {args.tokenizer} tokens, vocabulary of {len(corpus.vocab):,}", args)
    say(
        f"{args.cell}, {model.num_parameters:,} parameters, {rf.get_num_threads()} threads, {rf.info()['isa_active']}",
        args,
    )

    log = sidecar(output, ".history.jsonl")
    if not resume:
        log.unlink(missing_ok=True)

    def on_epoch(record: Mapping[str, float]) -> None:
        with log.open("a", encoding="utf-8") as lines:
            print(json.dumps(record), file=lines, flush=True)
        say(
            f"epoch {record['epoch']:>3}/{args.epochs}  train perplexity {record['train_perplexity']:8.3f}  "
            f"validation {record['valid_perplexity']:8.3f}  {record['tokens_per_second']:10,.0f} tokens/s",
            args,
        )

    settings = {name: getattr(args, name) for name in _SETTINGS}
    if args.file is not None:
        settings["file"] = os.path.abspath(args.file)
    settings["output"] = os.path.abspath(args.output)
    started = time.monotonic()
    history = fit(
        model, train, valid, epochs=args.epochs, batch_size=args.batch_size, num_steps=args.num_steps,
        optimizer=args.optimizer, lr=args.lr, clip_norm=args.clip_norm or None, sampling=args.sampling, seed=args.seed,
        checkpoint=checkpoint, resume=resume, run={"settings": settings, "sha256": digest}, on_epoch=on_epoch,
    )  # fmt: skip
    seconds = time.monotonic() - started
    model.save(output)
    checkpoint.unlink(missing_ok=True)
    log.write_text("".join(json.dumps(record) + "\n" for record in history), encoding="utf-8")
    result = rf.evaluate(model, test)
    say(
        f"test perplexity {result.perplexity:.3f}  ({result.bits_per_token:.3f} bits per {args.tokenizer})",
        args,
    )
    prompt = _opening(corpus.vocab.decode(test.ids))
    sample = rf.generate(
        model, prompt, length=300 if args.tokenizer.endswith("char") else 80, temperature=0.7, seed=args.seed
    )
    say(f"\n--- a sample ---\n{sample}\n---\n", args)
    written = [str(output), str(log)]
    try:
        history.plot(curve := sidecar(output, ".png"))
        written.append(str(curve))
    except ImportError as error:
        say(f"no loss curve: {error}", args)
    say(f"wrote {', '.join(written)}", args)
    say(f"try: rnnfast generate {output} --prompt {prompt!r}", args)
    if args.json:
        last = history[-1]
        print(
            json.dumps(
                {
                    "train_perplexity": last["train_perplexity"],
                    "valid_perplexity": last["valid_perplexity"],
                    "test_perplexity": result.perplexity,
                    "tokens_per_second": sum(r["tokens"] for r in history) / sum(r["seconds"] for r in history),
                    "seconds": seconds,
                    "parameters": model.num_parameters,
                    "epochs": len(history),
                    "model": str(output),
                }
            )
        )


def _read_corpus(args: argparse.Namespace) -> tuple[Any, str]:
    import rnnfast as rf
    from rnnfast.datasets import python_topics
    from rnnfast.text import read_text

    name = args.file or "Python's help texts"
    text = python_topics() if args.file is None else read_text(args.file)
    corpus = rf.Corpus.from_text(text, tokenizer=args.tokenizer, min_freq=args.min_freq, name=name)
    return corpus, hashlib.sha256(text.encode()).hexdigest()


def _opening(text: str) -> str:
    """The first two words of a line that begins like a sentence; else of the text."""
    return (re.search(r"^[A-Z][a-z]+ [a-z]+", text, re.MULTILINE) or re.search(r"\S+( \S+)?", text) or [text[:1]])[0]
