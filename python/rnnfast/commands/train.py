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

from rnnfast import _core, presets
from rnnfast.commands.options import JSON_HELP, real, say, sidecar, whole
from rnnfast.text import BPE, TOKENIZERS

_DATA = ("ptb", "timemachine", "tinyshakespeare")
# What is not given on the command line comes from the preset, else from here. All of it goes into the checkpoint.
_DEFAULTS: dict[str, Any] = {
    "file": None, "data": None, "tokenizer": "char", "vocab_size": 8000, "min_freq": 1, "max_tokens": 0,
    "cell": "rnn", "hidden_size": 256, "num_layers": 1, "embedding_size": 0, "dropout": 0.0, "variational": False,
    "tie_weights": False, "init_scale": 0.0,
    "batch_size": 32, "num_steps": 50, "epochs": 12, "sampling": "sequential", "seed": 0,
    "optimizer": "adam", "lr": 2e-3, "schedule": "constant", "clip_norm": 1.0, "clip_value": 0.0,
    "patience": 0, "keep_best": False,
    "output": "rnnfast-model.safetensors",
}  # fmt: skip


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    train = commands.add_parser(
        "train",
        help="train a language model on a text",
        description="Trains a recurrent language model. Without FILE and --data it reads Python's own help texts.",
    )

    def option(name: str, text: str = "", **kind: Any) -> None:
        default = _DEFAULTS[name.lstrip("-").replace("-", "_")]
        train.add_argument(name, default=argparse.SUPPRESS, help=f"{text} (default: {default})".strip(), **kind)

    train.add_argument("file", nargs="?", metavar="FILE", default=argparse.SUPPRESS, help="UTF-8 text, .gz too")
    option("--data", "a public data set in place of FILE", choices=_DATA)
    train.add_argument(
        "--preset", choices=presets.names(), help="settings of a published model; other options still count"
    )
    option("--tokenizer", choices=(*TOKENIZERS, BPE))
    option("--vocab-size", "of the tokenizer bpe", type=whole(1))
    option("--min-freq", "rarer tokens read as <unk>", type=whole(1))
    option("--max-tokens", "read no more of the text; 0: all", type=whole(0))
    option("--cell", choices=_core.cells())
    option("--hidden-size", type=whole(1))
    option("--num-layers", type=whole(1))
    option("--embedding-size", "0: one-hot input", type=whole(0))
    option("--dropout", type=real(0, 1))
    option("--variational", "the same dropout masks at every step", action="store_true")
    option("--tie-weights", "one table for embedding and output", action="store_true")
    option("--init-scale", "first weights uniform in plus or minus this; 0: PyTorch's", type=real(0))
    option("--batch-size", type=whole(1))
    option("--num-steps", type=whole(1))
    option("--epochs", type=whole(1))
    option("--sampling", choices=("sequential", "random"))
    option("--seed", type=whole(0))
    option("--optimizer", choices=("sgd", "adam", "adamw"))
    option("--lr", "learning rate", type=real(0, open_low=True))
    option("--schedule", "constant, step:decay=0.5,start=4, cosine:warmup=1, plateau:decay=0.5", metavar="SCHEDULE")
    option("--clip-norm", "largest gradient norm; 0: no clipping", type=real(0))
    option("--clip-value", "largest gradient; 0: no clipping", type=real(0))
    option("--patience", "end after so many epochs without improvement; 0: never", type=whole(0))
    option("--keep-best", "keep the weights of the best epoch, not the last", action="store_true")
    option("--output", "the model file", metavar="PATH")
    train.add_argument("--threads", type=whole(1), help="default: all cores this process may use")
    train.add_argument("--tensorboard", metavar="FOLDER", help="write curves for TensorBoard there")
    train.add_argument("--resume", metavar="PATH", help="continue from a checkpoint, with its settings and its text")
    train.add_argument("--json", action="store_true", help=JSON_HELP)
    train.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Trains, tests, writes the model and its companions, shows a sample."""
    import rnnfast as rf
    from rnnfast.train import fit

    s, recorded = _settings(args)
    output, checkpoint = Path(s.output), Path(args.resume or sidecar(Path(s.output), ".checkpoint.safetensors"))
    if not output.parent.is_dir():
        raise ValueError(f"{output.parent} is not a folder; make it, or give another --output")
    train, valid, test, digest = _read(s)
    if recorded is not None and recorded["sha256"] != digest:
        raise ValueError(f"{train.name} has changed since {checkpoint} was written; start anew without --resume")
    model = rf.LanguageModel(
        train.vocab, cell=s.cell, embedding_size=s.embedding_size, hidden_size=s.hidden_size,
        num_layers=s.num_layers, dropout=s.dropout, init_scale=s.init_scale or None, variational=s.variational,
        tie_weights=s.tie_weights, seed=s.seed,
    )  # fmt: skip
    tokens = len(train) + len(valid) + len(test)
    say(f"{train.name}: {tokens:,} {s.tokenizer} tokens, vocabulary of {len(train.vocab):,}", args)
    say(
        f"{s.cell}, {model.num_parameters:,} parameters, {rf.get_num_threads()} threads, {rf.info()['isa_active']}",
        args,
    )
    log = sidecar(output, ".history.jsonl")
    if recorded is None:
        log.unlink(missing_ok=True)

    def on_epoch(record: Mapping[str, float]) -> None:
        with log.open("a", encoding="utf-8") as lines:
            print(json.dumps(record), file=lines, flush=True)
        say(
            f"epoch {record['epoch']:>3}/{s.epochs}  train perplexity {record['train_perplexity']:8.3f}  "
            f"validation {record['valid_perplexity']:8.3f}  {record['tokens_per_second']:10,.0f} tokens/s",
            args,
        )

    absolute = {name: os.path.abspath(vars(s)[name]) for name in ("file", "output") if vars(s)[name] is not None}
    started = time.monotonic()
    history = fit(
        model, train, valid, epochs=s.epochs, batch_size=s.batch_size, num_steps=s.num_steps, sampling=s.sampling,
        seed=s.seed, optimizer=s.optimizer, lr=s.lr, schedule=s.schedule, clip_norm=s.clip_norm or None,
        clip_value=s.clip_value or None, patience=s.patience or None, keep_best=s.keep_best, checkpoint=checkpoint,
        resume=recorded is not None, run={"settings": {**vars(s), **absolute}, "sha256": digest}, on_epoch=on_epoch,
        callbacks=[rf.TensorBoard(args.tensorboard)] if args.tensorboard else [],
    )  # fmt: skip
    seconds = time.monotonic() - started
    model.save(output)
    checkpoint.unlink(missing_ok=True)
    log.write_text("".join(json.dumps(record) + "\n" for record in history), encoding="utf-8")
    if history.stopped:
        say(f"stopped: {history.stopped}", args)
    result = rf.evaluate(model, test)
    say(f"test perplexity {result.perplexity:.3f}  ({result.bits_per_token:.3f} bits per token)", args)
    _show(model, test, history, output, log, s, args)
    if args.json:
        _print_result(model, history, result, seconds, output)


def _settings(args: argparse.Namespace) -> tuple[argparse.Namespace, Any]:
    """What is asked for, and what the checkpoint to resume from recorded, if there is one."""
    from rnnfast.train import checkpoint_run

    if args.resume is not None:
        recorded = checkpoint_run(Path(args.resume))
        return argparse.Namespace(**{**_DEFAULTS, **recorded["settings"]}), recorded
    given = {name: value for name, value in vars(args).items() if name in _DEFAULTS}
    chosen = presets.load(args.preset) if args.preset else {}
    settings = argparse.Namespace(**{**_DEFAULTS, **chosen, **given})
    if settings.file is not None and settings.data is not None:
        raise ValueError(f"both the file {settings.file} and --data {settings.data} are given; give one of them")
    return settings, None


def _read(s: argparse.Namespace) -> tuple[Any, Any, Any, str]:
    """Train, validation and test text, and the sum of all."""
    import rnnfast as rf
    from rnnfast.datasets import python_topics
    from rnnfast.text import read_text

    if s.data is not None:
        name, text = s.data, rf.datasets.load(s.data)
    else:
        name = s.file or "Python's help texts"
        text = python_topics() if s.file is None else read_text(s.file)
    parts = [text] if isinstance(text, str) else [text["train"], text["valid"], text["test"]]
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    vocab = rf.Vocab.bpe(parts[0], s.vocab_size) if s.tokenizer == BPE else None
    corpus = rf.Corpus.from_text(parts[0], tokenizer=s.tokenizer, min_freq=s.min_freq, vocab=vocab, name=name)
    if s.max_tokens:
        corpus = rf.Corpus(corpus.ids[: s.max_tokens], corpus.vocab, name=name)
    if len(parts) == 1:
        train, valid, test = corpus.split(0.9, 0.05, 0.05)
        return train, valid, test, digest
    valid, test = (rf.Corpus.from_text(part, vocab=corpus.vocab, name=name) for part in parts[1:])
    return corpus, valid, test, digest


def _show(
    model: Any, test: Any, history: Any, output: Path, log: Path, s: argparse.Namespace, args: argparse.Namespace
) -> None:
    """A sample, the loss curve, and which files there are now."""
    import rnnfast as rf

    prompt = _opening(test.vocab.decode(test.ids))
    sample = rf.generate(
        model, prompt, length=300 if s.tokenizer.endswith("char") else 80, temperature=0.7, seed=s.seed
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


def _print_result(model: Any, history: Any, result: Any, seconds: float, output: Path) -> None:
    last = history[-1]
    print(
        json.dumps(
            {
                "train_perplexity": last["train_perplexity"],
                "valid_perplexity": last["valid_perplexity"],
                "test_perplexity": result.perplexity,
                "tokens_per_second": sum(history.column("tokens")) / sum(history.column("seconds")),
                "seconds": seconds,
                "parameters": model.num_parameters,
                "epochs": len(history),
                "stopped": history.stopped,
                "model": str(output),
            }
        )
    )


def _opening(text: str) -> str:
    """The first two words of a line that begins like a sentence; else of the text."""
    return (re.search(r"^[A-Z][a-z]+ [a-z]+", text, re.MULTILINE) or re.search(r"\S+( \S+)?", text) or [text[:1]])[0]
