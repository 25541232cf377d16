"""Trains recurrent stacks of equal arithmetic for equal time: an LSTM, and LSTM, SRU, QRNN and minGRU with residuals.

RNNFAST_DATA=... python -m benchmarks.scan_quality [tinyshakespeare ptb] [--minutes 10] [--threads 2]
                                                   [--models LSTM minGRU ...] [--rates FILE]
                                                   [--json FILE] [--plot PNG]
RNNFAST_DATA=... python -m benchmarks.scan_quality --measure FILE [...]    only the rates, interleaved, for --rates
python -m benchmarks.scan_quality --from FILE [--plot PNG]        the table and the picture of an earlier run

Every model multiplies about as often for a token as an LSTM of two layers: layers of SRU and QRNN have 3 H² multiplications, those
of minGRU 2 H², those of an LSTM 8 H². All of them have the same width, embedding, output layer, batches, optimizer (Adam, its learning
rate falling to zero on a cosine over the minutes) and dropout. Only training counts as time; the clock stops for evaluation. With
--rates a model trains on as many tokens as it can in that time at the rate that --measure found: since the bits of a model do not
depend on threads or on the speed, the result is that of a quiet machine even where other programs run. The test figure belongs to the
weights with the best validation loss.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import rnnfast as rf
from benchmarks.plot import GRID, INK
from rnnfast.nn.recurrent import TABLE

EVALUATIONS = 20  # of a run, evenly in time


@dataclass(frozen=True)
class Stack:
    """A model of the comparison."""

    cell: str
    layers: int
    residual: bool = True

    def multiplications(self, width: int) -> int:
        """Of the recurrent layers, for one token."""
        return self.layers * TABLE[self.cell].gates * (1 + TABLE[self.cell].recurrent) * width * width


STACKS = {
    "LSTM": Stack("lstm", 2, residual=False), "LSTM, residual": Stack("lstm", 2), "SRU": Stack("sru", 5),
    "QRNN": Stack("qrnn", 5), "minGRU": Stack("mingru", 8),
}  # fmt: skip
COLOURS = {"LSTM": INK, "LSTM, residual": "#8795a1", "SRU": "#d1495b", "QRNN": "#2e86ab", "minGRU": "#59a14f"}


@dataclass(frozen=True)
class Data:
    """A text and the settings that all models train on it with."""

    width: int
    batch_size: int
    num_steps: int
    lr: float
    dropout: float
    unit: str  # how the loss is shown: nats a character, or perplexity of words

    def shown(self, nats: float) -> float:
        return nats if self.unit == "nats" else math.exp(nats)


DATA = {
    "tinyshakespeare": Data(width=256, batch_size=32, num_steps=64, lr=4e-3, dropout=0.1, unit="nats"),
    "ptb": Data(width=256, batch_size=32, num_steps=35, lr=2e-3, dropout=0.4, unit="perplexity"),
}


def corpora(name: str) -> tuple[rf.Corpus, rf.Corpus, rf.Corpus]:
    """Training, validation and test text; tiny Shakespeare's first 90% are to train on."""
    if name == "ptb":
        text = rf.datasets.load("ptb")
        train = rf.Corpus.from_text(text["train"], tokenizer="whitespace")
        valid, test = (rf.Corpus.from_text(text[part], vocab=train.vocab) for part in ("valid", "test"))
        return train, valid, test
    return rf.Corpus.from_text(rf.datasets.load("tinyshakespeare"), tokenizer="char").split(0.9, 0.05, 0.05)


def model_of(stack: Stack, data: Data, vocab: rf.Vocab, seed: int) -> rf.LanguageModel:
    return rf.LanguageModel(
        vocab, cell=stack.cell, embedding_size=data.width, hidden_size=data.width, num_layers=stack.layers,
        dropout=data.dropout, tie_weights=data.unit == "perplexity", residual=stack.residual,
        norm="rms" if stack.residual else None, seed=seed,
    )  # fmt: skip


def loss_of(model: rf.LanguageModel, text: rf.Corpus) -> float:
    return math.log(rf.evaluate(model, text).perplexity)


def step(model: rf.LanguageModel, optimizer: rf.Adam, x: np.ndarray, y: np.ndarray, state: Any) -> Any:
    _, state = model.loss(x, y, state)
    model.backward()
    rf.clip_grad_norm_(model, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return state


def trained(name: str, stack: Stack, texts: Any, data: Data, args: argparse.Namespace) -> dict[str, Any]:
    """Trains one model for the minutes asked; its curve and figures."""
    train, valid, test = texts
    model = model_of(stack, data, train.vocab, args.seed)
    optimizer, budget = rf.Adam(model, lr=data.lr), 60 * args.minutes
    rate = args.known_rates.get(name)  # tokens a second, or None: the clock decides
    spent, tokens, epoch = 0.0, 0, 0
    curve: list[dict[str, float]] = []
    best, weights, state = math.inf, model.state_dict(), None
    while spent < budget:
        for x, y in rf.batches(
            train, batch_size=data.batch_size, num_steps=data.num_steps, seed=args.seed, epoch=epoch
        ):
            started = time.perf_counter()
            optimizer.lr = data.lr * (0.5 + 0.5 * math.cos(math.pi * min(1.0, spent / budget)))
            state = step(model, optimizer, x, y, state)
            tokens += x.size
            spent = tokens / rate if rate else spent + time.perf_counter() - started
            if spent >= budget * (len(curve) + 1) / EVALUATIONS:
                curve.append({"seconds": spent, "tokens": tokens, "valid": loss_of(model, valid)})
                if curve[-1]["valid"] < best:
                    best, weights = curve[-1]["valid"], model.state_dict()
                print(
                    f"{name}: {spent:6.0f} s, valid {data.shown(curve[-1]['valid']):.4g}", file=sys.stderr, flush=True
                )
            if spent >= budget:
                break
        epoch, state = epoch + 1, None
    model.load_state_dict(weights)
    return {
        "name": name, "cell": stack.cell, "layers": stack.layers, "parameters": model.num_parameters,
        "multiplications": stack.multiplications(data.width), "tokens_per_second": tokens / spent,
        "epochs": tokens / len(train), "valid": best, "test": loss_of(model, test), "curve": curve,
    }  # fmt: skip


def measured_rates(
    names: list[str], args: argparse.Namespace, rounds: int = 4, seconds: float = 1.2
) -> dict[str, float]:
    """Tokens a second of every model, each the best of some rounds in which all take turns."""
    rates: dict[str, float] = {}
    for name in names:
        data, (train, _, _) = DATA[name], corpora(name)
        models = {model: model_of(STACKS[model], data, train.vocab, args.seed) for model in args.models}
        optimizers = {name: rf.Adam(model, lr=data.lr) for name, model in models.items()}
        batches = rf.batches(train, batch_size=data.batch_size, num_steps=data.num_steps, seed=args.seed)
        x, y = next(iter(batches))
        for _ in range(rounds):
            for key, model in models.items():
                started, tokens = time.perf_counter(), 0
                while time.perf_counter() < started + seconds:
                    step(model, optimizers[key], x, y, None)
                    tokens += x.size
                title = f"{name}, {key}"
                rates[title] = max(rates.get(title, 0.0), tokens / (time.perf_counter() - started))
    return rates


def table(results: list[dict[str, Any]]) -> str:
    lines = []
    for name in dict.fromkeys(r["data"] for r in results):
        of_text = [r for r in results if r["data"] == name]
        data, first = DATA[name], of_text[0]
        lines += [
            f"{name}: {first['minutes']:g} minutes each, {first['threads']} thread{'s' * (first['threads'] > 1)}, "
            f"{'nats a character' if data.unit == 'nats' else 'perplexity'}",
            f"{'':16}{'layers':>10}{'parameters':>12}{'M mult.':>9}{'tokens/s':>10}{'epochs':>8}{'valid':>9}{'test':>9}",
        ]
        lines += [
            f"{r['name']:16}{r['layers']:>6}x{data.width}{r['parameters']:>12,}{r['multiplications'] / 1e6:>9.2f}"
            f"{r['tokens_per_second']:>10,.0f}{r['epochs']:>8.1f}{data.shown(r['valid']):>9.4g}{data.shown(r['test']):>9.4g}"
            for r in of_text
        ]
        lines.append("")
    return "\n".join(lines)


def plot(results: list[dict[str, Any]], path: str) -> None:
    """Validation loss over seconds of training, a panel for each text."""
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit("--plot needs matplotlib: pip install 'rnnfast[bench]'") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(r["data"] for r in results))
    figure, axes = plt.subplots(
        1, len(names), squeeze=False, layout="constrained", figsize=(4.4 * len(names) + 0.4, 3.6)
    )
    for axis, name in zip(axes[0], names):
        data, last = DATA[name], []
        for r in (r for r in results if r["data"] == name):
            values = [data.shown(point["valid"]) for point in r["curve"]]
            seconds = [point["seconds"] / 60 for point in r["curve"]]
            axis.plot(seconds, values, color=COLOURS[r["name"]], label=r["name"], linewidth=1.4)
            last += values[len(values) // 5 :]
        if last:
            axis.set_ylim(min(last) - 0.05 * np.ptp(last), max(last) + 0.05 * np.ptp(last) + 1e-9)
        axis.set_title(name, loc="left", fontsize=10, color=INK)
        axis.set_xlabel("minutes of training")
        axis.set_ylabel("validation, " + ("nats per character" if data.unit == "nats" else "perplexity"))
        axis.grid(color=GRID, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110, facecolor="white")
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", metavar="DATA", help=f"of {', '.join(DATA)}; default: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training for each model")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--models", nargs="+", choices=list(STACKS), default=list(STACKS), help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--measure", metavar="FILE", type=Path, help="write the models' tokens a second, and train nothing"
    )
    parser.add_argument("--rates", metavar="FILE", type=Path, help="count time by these tokens a second")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write one JSON object per model")
    parser.add_argument("--plot", metavar="PNG", help="draw the curves")
    parser.add_argument("--from", dest="source", metavar="FILE", type=Path, help="read the output of --json instead")
    args = parser.parse_args(argv)
    for name in set(args.data) - set(DATA):
        parser.error(f"unknown data {name!r}, expected some of {', '.join(DATA)}")
    results = []
    if args.source:
        results = [json.loads(line) for line in args.source.read_text(encoding="utf-8").splitlines() if line]
    else:
        rf.set_num_threads(args.threads)
        if args.measure:
            args.measure.write_text(json.dumps(measured_rates(args.data or list(DATA), args), indent=1) + "\n")
            return
        args.known_rates = json.loads(args.rates.read_text()) if args.rates else {}
        for name in args.data or DATA:
            texts = corpora(name)
            for model in args.models:
                result = trained(f"{name}, {model}", STACKS[model], texts, DATA[name], args)
                results.append(
                    {**result, "name": model, "data": name, "minutes": args.minutes, "threads": args.threads}
                )
                if args.json:
                    args.json.write_text("".join(json.dumps(r) + "\n" for r in results), encoding="utf-8")
    print(table(results))
    if args.plot:
        plot(results, args.plot)


if __name__ == "__main__":
    main()
