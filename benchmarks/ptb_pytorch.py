"""Trains the language model of a preset with rnnfast and with PyTorch: same initial weights, batches and schedule.

    python -m benchmarks.ptb_pytorch --preset zaremba-small --threads 2             the Penn Treebank
    python -m benchmarks.ptb_pytorch --preset d2l-rnn --cell gru --until 1.3        The Time Machine, d2l's setting
    python -m benchmarks.ptb_pytorch --preset zaremba-medium --only torch           one program alone: perplexities, no ratio

The two programs take turns of ``--block`` steps, so that a drift of the machine favors neither. Each epoch prints one JSON object
with the seconds of training and the train and validation perplexity of each program. The last object has the total seconds and, for the
Treebank, test perplexities. Only the seconds of training steps count. ``--only`` trains one program on the same batches from the same
initial weights. A plateau schedule then uses the program's own validation perplexities; with both programs, it uses rnnfast's.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import sys
import time
from typing import Any

import numpy as np
import torch  # first, so that both use torch's OpenMP runtime

import rnnfast as rf
from rnnfast.train.schedules import schedule_named


class Ours:
    """rnnfast's model with one method per training step."""

    name = "rnnfast"

    def __init__(self, vocab: rf.Vocab, p: dict[str, Any], seed: int, weights: str = "f32") -> None:
        options = {name: p[name] for name in inspect.signature(rf.LanguageModel).parameters if name in p}
        self.model = rf.LanguageModel(vocab, **options, weights=weights, seed=seed)
        self.optimizer, self.clip_norm, self.state = rf.SGD(self.model, lr=1.0), p["clip_norm"], None
        self.vocab, self.nll = vocab, self.model.nll

    def step(self, x: Any, y: Any, lr: float) -> float:
        loss, self.state = self.model.loss(x, y, self.state)
        self.model.backward()
        rf.clip_grad_norm_(self.model, self.clip_norm)
        self.optimizer.lr = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss


class Theirs:
    """The same model from torch.nn's layers, with the same initial weights."""

    name = "torch"

    def __init__(self, ours: Ours, p: dict[str, Any], seed: int) -> None:
        torch.manual_seed(seed)
        nn, size, hidden, layers = torch.nn, len(ours.vocab), p["hidden_size"], p["num_layers"]
        width, dropout = p["embedding_size"] or size, p.get("dropout", 0.0)
        kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[p["cell"]]
        parts = {"rnn": kind(width, hidden, layers, dropout=dropout if layers > 1 else 0.0)}
        parts["output"] = nn.Linear(hidden, size)
        if p["embedding_size"]:
            parts["embedding"] = nn.Embedding(size, width)
        self.net, self.drop, self.size = nn.ModuleDict(parts), nn.Dropout(dropout), size
        self.net.load_state_dict({n: torch.from_numpy(w) for n, w in ours.model.state_dict().items()})
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1.0)
        self.clip_norm, self.state, self.vocab = p["clip_norm"], None, ours.vocab

    def _losses(self, x: Any, y: Any, state: Any, reduction: str) -> tuple[Any, Any]:
        x, y = torch.from_numpy(np.ascontiguousarray(x)).long(), torch.from_numpy(np.ascontiguousarray(y)).long()
        inputs = self.net["embedding"](x) if "embedding" in self.net else torch.nn.functional.one_hot(x, self.size)
        h, state = self.net["rnn"](self.drop(inputs.float()), state)
        logits = self.net["output"](self.drop(h)).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, y.flatten(), reduction=reduction, ignore_index=-1)
        return loss, state

    def step(self, x: Any, y: Any, lr: float) -> float:
        self.net.train()
        self.drop.train()
        loss, state = self._losses(x, y, self.state, "mean")
        self.state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.clip_norm)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        return float(loss.detach())

    def nll(self, x: Any, y: Any, state: Any = None) -> tuple[Any, Any]:
        """The method that :func:`rnnfast.evaluate` needs."""
        self.net.eval()
        self.drop.eval()
        with torch.no_grad():
            loss, state = self._losses(x, y, state, "none")
        return loss.double().numpy().reshape(x.shape), state


def train_epoch(programs: list[Any], source: Any, lr: float, block: int, limit: int | None) -> list[dict[str, float]]:
    """Trains all programs on the same batches, in turns of ``block`` batches."""
    batches = list(source)[:limit]
    told = [{"seconds": 0.0, "nll": 0.0, "tokens": 0} for _ in programs]
    for program in programs:
        program.state = None
    for begin in range(0, len(batches), block):
        for program, tell in zip(programs, told):
            started = time.perf_counter()
            for x, y in batches[begin : begin + block]:
                tell["nll"] += program.step(x, y, lr) * y.size
                tell["tokens"] += y.size
            tell["seconds"] += time.perf_counter() - started
    return told


def corpora(p: dict[str, Any], short: bool) -> tuple[rf.Corpus, dict[str, Any]]:
    """The training corpus, and the ids for evaluation by name."""
    if p["tokenizer"] == "d2l-char":
        book = rf.Corpus.from_text(rf.datasets.load("timemachine"), tokenizer="d2l-char")
        return rf.Corpus(book.ids[: p["max_tokens"]], book.vocab), {}
    texts = rf.datasets.load("ptb")
    train = rf.Corpus.from_text(texts["train"], tokenizer=p["tokenizer"])
    parts = {name: rf.Corpus.from_text(texts[name], vocab=train.vocab).ids for name in ("valid", "test")}
    return train, {name: ids[: 2000 if short else None] for name, ids in parts.items()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="zaremba-small", choices=rf.presets.names())
    parser.add_argument("--epochs", type=int, help="default: the preset's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--block", type=int, default=100, help="steps per turn")
    parser.add_argument("--batches", type=int, help="batches per epoch, and short evaluations: for a smoke test")
    parser.add_argument("--cell", choices=("rnn", "gru", "lstm"), help="in place of the preset's")
    parser.add_argument("--only", choices=("rnnfast", "torch"), help="train only this program")
    parser.add_argument("--until", type=float, default=0.0, help="stop when all programs reach this train perplexity")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    p = rf.presets.load(args.preset)
    p["cell"] = args.cell or p["cell"]
    rf.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    train, evaluated = corpora(p, bool(args.batches))
    ours = Ours(train.vocab, p, args.seed)
    programs = [one for one in (ours, Theirs(ours, p, args.seed)) if args.only in (None, one.name)]
    schedule, seen = schedule_named(p.get("schedule", "constant")), []
    reading = {"batch_size": p["batch_size"], "num_steps": p["num_steps"]}
    heading = f"{args.preset}, {p['cell']}, {args.threads} thread{'s' * (args.threads > 1)}, {rf.info()['isa_active']}, torch {torch.__version__}"
    print(heading, file=sys.stderr)

    def perplexity(program: Any, name: str) -> float:
        rows = p["batch_size"]
        return rf.evaluate(program, evaluated[name], parts=rows, batch_size=rows).perplexity

    seconds, reached = {program.name: 0.0 for program in programs}, {}
    for epoch in range(args.epochs or p["epochs"]):
        lr = p["lr"] * schedule.factor(epoch, p["epochs"], seen)
        told = train_epoch(programs, rf.batches(train, **reading, epoch=epoch), lr, args.block, args.batches)
        record: dict[str, Any] = {"epoch": epoch + 1, "lr": lr}
        for name, tell, program in zip(seconds, told, programs):
            seconds[name] += tell["seconds"]
            record[f"{name}_seconds"] = tell["seconds"]
            record[f"{name}_train_perplexity"] = math.exp(tell["nll"] / tell["tokens"])
            if "valid" in evaluated:
                record[f"{name}_valid_perplexity"] = perplexity(program, "valid")
            if record[f"{name}_train_perplexity"] <= args.until:
                reached.setdefault(name, seconds[name])
        if not args.only:
            record["ratio"] = record["torch_seconds"] / record["rnnfast_seconds"]
        if "valid" in evaluated:
            seen.append(record[f"{programs[0].name}_valid_perplexity"])
        print(json.dumps(record), flush=True)
        if len(reached) == len(programs):
            break
    total: dict[str, Any] = {f"{name}_seconds": value for name, value in seconds.items()}
    if not args.only:
        total["ratio"] = seconds["torch"] / seconds["rnnfast"]
    total.update((f"{name}_seconds_until_{args.until:g}", value) for name, value in reached.items())
    if "test" in evaluated:
        total.update((f"{program.name}_test_perplexity", perplexity(program, "test")) for program in programs)
    print(json.dumps(total), flush=True)


if __name__ == "__main__":
    main()
