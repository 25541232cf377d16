"""The command ``rnnfast``: train, eval, generate, info."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnnfast import _core

# The rest is imported where it is used: `rnnfast --help` should not wait for it.

_BAD_INPUT = 2


def _say(text: str, args: argparse.Namespace) -> None:
    """Human text: on stdout, or on stderr when stdout belongs to JSON."""
    print(text, file=sys.stderr if args.json else sys.stdout, flush=True)


def _sidecar(model: Path, ending: str) -> Path:
    return model.with_name((model.stem if model.suffix == ".safetensors" else model.name) + ending)


def _whole(least: int) -> Any:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is below {least}")
        return value

    return parse


def _real(low: float, high: float = float("inf"), *, open_low: bool = False) -> Any:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not (low < value if open_low else low <= value) or not value < high:
            raise argparse.ArgumentTypeError(f"{text} is outside {low} to {high}")
        return value

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rnnfast", description="Fast recurrent networks on CPUs.")
    parser.add_argument("--version", action="version", version=f"rnnfast {_core.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    json_help = "print one JSON object last on stdout, human text on stderr"

    train = commands.add_parser(
        "train",
        help="train a language model on a text",
        description="Trains a recurrent language model. Without FILE it reads Python's own help texts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.add_argument("file", nargs="?", metavar="FILE", help="UTF-8 text, .gz too")
    train.add_argument("--tokenizer", choices=("char", "word"), default="char")
    train.add_argument("--min-freq", type=_whole(1), default=1, help="rarer tokens read as <unk>")
    train.add_argument("--cell", choices=_core.cells(), default="rnn")
    train.add_argument("--hidden-size", type=_whole(1), default=256)
    train.add_argument("--num-layers", type=_whole(1), default=1)
    train.add_argument("--embedding-size", type=_whole(0), default=0, help="0: one-hot input")
    train.add_argument("--batch-size", type=_whole(1), default=32)
    train.add_argument("--num-steps", type=_whole(1), default=50)
    train.add_argument("--epochs", type=_whole(1), default=12)
    train.add_argument("--optimizer", choices=("sgd", "adam", "adamw"), default="adam")
    train.add_argument("--lr", type=_real(0, open_low=True), default=2e-3, help="learning rate")
    train.add_argument("--clip-norm", type=_real(0), default=1.0, help="largest gradient norm; 0: no clipping")
    train.add_argument("--sampling", choices=("sequential", "random"), default="sequential")
    train.add_argument("--dropout", type=_real(0, 1), default=0.0)
    train.add_argument("--seed", type=_whole(0), default=0)
    train.add_argument("--threads", type=_whole(1), help="default: all cores this process may use")
    train.add_argument("--output", default="rnnfast-model.safetensors", metavar="PATH", help="the model file")
    train.add_argument("--resume", metavar="PATH", help="continue from a checkpoint, with its settings and its text")
    train.add_argument("--json", action="store_true", help=json_help)
    train.set_defaults(run=_train)

    evaluation = commands.add_parser("eval", help="perplexity of a model on a text")
    evaluation.add_argument("model", metavar="MODEL")
    evaluation.add_argument("file", metavar="FILE")
    evaluation.add_argument("--threads", type=_whole(1))
    evaluation.add_argument("--json", action="store_true", help=json_help)
    evaluation.set_defaults(run=_eval)

    generate = commands.add_parser(
        "generate", help="text from a model", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    generate.add_argument("model", metavar="MODEL")
    generate.add_argument("--prompt", help="default: the vocabulary's most frequent token")
    generate.add_argument("--length", type=_whole(0), default=200, help="tokens to add")
    generate.add_argument("--temperature", type=_real(0), default=0.8, help="0: always the likeliest token")
    generate.add_argument("--top-k", type=_whole(0), default=0, help="0: all tokens")
    generate.add_argument("--seed", type=_whole(0), default=0)
    generate.set_defaults(run=_generate, threads=None, json=False)

    info = commands.add_parser("info", help="compiler, instruction sets, threads")
    info.add_argument("--json", action="store_true", help=json_help)
    info.set_defaults(run=_info, threads=None)
    return parser


def _train(args: argparse.Namespace) -> None:
    import rnnfast as rf
    from rnnfast.train import checkpoint_run, fit

    checkpoint = _sidecar(Path(args.output), ".checkpoint.safetensors")
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
    _say(f"{corpus.name}: {len(corpus):,} {args.tokenizer} tokens, vocabulary of {len(corpus.vocab):,}", args)
    _say(
        f"{args.cell}, {model.num_parameters:,} parameters, {rf.get_num_threads()} threads, {rf.info()['isa_active']}",
        args,
    )

    log = _sidecar(output, ".history.jsonl")
    if not resume:
        log.unlink(missing_ok=True)

    def on_epoch(record: Mapping[str, float]) -> None:
        with log.open("a", encoding="utf-8") as lines:
            print(json.dumps(record), file=lines, flush=True)
        _say(
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
    _say(
        f"test perplexity {result.perplexity:.3f}  ({result.bits_per_token:.3f} bits per {args.tokenizer})",
        args,
    )
    prompt = _opening(corpus.vocab.decode(test.ids))
    sample = rf.generate(model, prompt, length=300 if args.tokenizer == "char" else 80, temperature=0.7, seed=args.seed)
    _say(f"\n--- a sample ---\n{sample}\n---\n", args)
    written = [str(output), str(log)]
    try:
        history.plot(curve := _sidecar(output, ".png"))
        written.append(str(curve))
    except ImportError as error:
        _say(f"no loss curve: {error}", args)
    _say(f"wrote {', '.join(written)}", args)
    _say(f"try: rnnfast generate {output} --prompt {prompt!r}", args)
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


_SETTINGS = (
    "file tokenizer min_freq cell hidden_size num_layers embedding_size batch_size num_steps epochs optimizer lr "
    "clip_norm sampling dropout seed output"
).split()


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


def _eval(args: argparse.Namespace) -> None:
    import rnnfast as rf

    model = rf.load(args.model)
    if model.vocab is None:
        raise ValueError(f"{args.model} has no vocabulary, so it cannot read a text")
    result = rf.evaluate(model, rf.Corpus.from_file(args.file, vocab=model.vocab))
    _say(
        f"perplexity {result.perplexity:.3f} on {result.tokens:,} tokens, {result.bits_per_token:.3f} bits per token; "
        f"{100 * result.oov_rate:.2f}% unknown, {result.perplexity_without_oov:.3f} without them",
        args,
    )
    if args.json:
        print(json.dumps(result.as_dict()))


def _generate(args: argparse.Namespace) -> None:
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


def _info(args: argparse.Namespace) -> None:
    import rnnfast as rf

    info = rf.info()
    for name, value in info.items():
        _say(f"{name + ':':18}{', '.join(value) if isinstance(value, list) else value}", args)
    if args.json:
        print(json.dumps(info))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status: 0, 2 for bad input, 128 + signal when interrupted."""
    args = _parser().parse_args(argv)
    from rnnfast.train import Interrupted, NonFiniteLoss

    try:
        if args.threads is not None:
            _core.set_num_threads(args.threads)
        args.run(args)
    except Interrupted as interruption:
        print(
            f"\n{interruption}; resume with: rnnfast train --resume {interruption.checkpoint}",
            file=sys.stderr,
        )
        return 128 + interruption.number
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has seen enough, as in `rnnfast generate ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, LookupError, OSError, MemoryError, NonFiniteLoss) as error:
        print(f"rnnfast: {str(error) or type(error).__name__}", file=sys.stderr)
        return _BAD_INPUT
    return 0
