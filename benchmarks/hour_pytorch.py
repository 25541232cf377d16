"""The recipe of the preset hour-ptb in PyTorch: its speed compared with rnnfast's, and what it learns in the same time.

    python -m benchmarks.hour_pytorch                     tokens a second of both programs, in turns, and epochs in the preset's time
    python -m benchmarks.hour_pytorch --epochs 18         PyTorch alone, for so many epochs: perplexities of validation and test

Both programs have the same model, batches and settings: tied weights, dropout with one mask for all steps of a batch, weight drop, SGD with
clipping by norm and one cycle of the rate, an average of the weights. PyTorch's program is written for speed: whole sequences in
torch.lstm, one product for all logits, ``torch.autocast`` with bfloat16 for ``--weights bf16``, masks drawn once a batch.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch  # first, so that both use torch's OpenMP runtime

import rnnfast as rf
from benchmarks import ptb_pytorch
from rnnfast.train.averaging import average_named, include
from rnnfast.train.schedules import schedule_named

PRESET = "hour-ptb"


class Ours(ptb_pytorch.Ours):
    """One training step of rnnfast's model, with the average of its weights."""

    def __init__(self, vocab: rf.Vocab, p: dict[str, Any], seed: int, weights: str) -> None:
        super().__init__(vocab, p, seed, weights)
        self.mean = {n: w.copy() for n, w in self.model.parameters().items()}
        self.average, self.count = average_named(p["average"]), 0

    def step(self, x: Any, y: Any, lr: float) -> float:
        loss = super().step(x, y, lr)
        self.count += 1
        include(self.mean, self.model.parameters(), self.average.share(self.count))
        return loss


class Theirs:
    """The same of torch, from the same initial weights."""

    name = "torch"

    def __init__(self, ours: Ours, p: dict[str, Any], seed: int, weights: str) -> None:
        torch.manual_seed(seed)
        self.p, self.vocab, self.state, self.count = p, ours.vocab, None, 0
        self.bf16 = weights == "bf16"
        self.layers: int = p["num_layers"]
        self.weights = {n: torch.from_numpy(w.copy()).requires_grad_() for n, w in ours.model.state_dict().items()}
        self.mean = {n: w.detach().clone() for n, w in self.weights.items()}
        self.average = average_named(p["average"])
        self.optimizer = torch.optim.SGD(self.weights.values(), lr=1.0)

    @staticmethod
    def _drop(x: Any, share: float) -> Any:
        mask = torch.empty(1, *x.shape[1:]).bernoulli_(1 - share).div_(1 - share)
        return x * mask

    def _logits(self, w: dict[str, Any], x: Any, state: Any, training: bool) -> tuple[Any, Any]:
        p = self.p
        h, states = torch.nn.functional.embedding(x, w["embedding.weight"]), []
        for layer in range(self.layers):
            if training:
                h = self._drop(h, p["dropout"] if layer else p["embedding_dropout"])
            flat = [w[f"rnn.{kind}_l{layer}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            if training:
                flat[1] = torch.nn.functional.dropout(flat[1], p["weight_drop"])
            at = state[layer] if state else tuple(torch.zeros(1, x.shape[1], p["hidden_size"]) for _ in range(2))
            h, *last = torch.lstm(h, at, flat, True, 1, 0.0, training, False, False)
            states.append(tuple(last))
        if training:
            h = self._drop(h, p["output_dropout"])
        return torch.nn.functional.linear(h, w["embedding.weight"], w["output.bias"]).flatten(0, 1), states

    def step(self, x: Any, y: Any, lr: float) -> float:
        x, y = (torch.from_numpy(np.ascontiguousarray(ids)).long() for ids in (x, y))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits, state = self._logits(self.weights, x, self.state, True)
            loss = torch.nn.functional.cross_entropy(logits, y.flatten())
        self.state = [tuple(s.detach().float() for s in layer) for layer in state]
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), self.p["clip_norm"])
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.count += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(self.mean.values()), list(self.weights.values()), self.average.share(self.count))
        return float(loss.detach())

    def nll(self, x: Any, y: Any, state: Any = None) -> tuple[Any, Any]:
        """With the averaged weights: the method that :func:`rnnfast.evaluate` needs."""
        x, y = (torch.from_numpy(np.ascontiguousarray(ids)).long() for ids in (x, y))
        with torch.no_grad():
            logits, state = self._logits(self.mean, x, state, False)
            loss = torch.nn.functional.cross_entropy(logits, y.flatten(), reduction="none", ignore_index=-1)
        return loss.double().numpy().reshape(x.shape), state


def batches(train: rf.Corpus, p: dict[str, Any], epoch: int) -> Iterator[tuple[Any, Any]]:
    return iter(rf.batches(train, batch_size=p["batch_size"], num_steps=p["num_steps"], epoch=epoch))


def speed(programs: list[Any], train: rf.Corpus, p: dict[str, Any], seconds: float, block: int) -> dict[str, Any]:
    """Tokens a second of each, in turns of ``block`` steps, and the epochs that fit into the preset's time."""
    spent, read, steps = (
        dict.fromkeys((one.name for one in programs), 0.0),
        0,
        itertools.chain.from_iterable(batches(train, p, epoch) for epoch in itertools.count()),
    )
    while min(spent.values()) < seconds:
        taken = [next(steps) for _ in range(block)]
        for program in programs:
            start = time.perf_counter()
            for x, y in taken:
                program.step(x, y, p["lr"] / 10)
            spent[program.name] += time.perf_counter() - start
        read += sum(y.size for _, y in taken)
    found: dict[str, Any] = {f"{name}_tokens_per_second": read / took for name, took in spent.items()}
    found.update((f"{name}_epochs", p["minutes"] * 60 * read / took / len(train.ids)) for name, took in spent.items())
    return {**found, "ratio": spent["torch"] / spent["rnnfast"]}


def learn(program: Theirs, train: rf.Corpus, p: dict[str, Any], parts: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Trains PyTorch's program by the preset's schedule, and prints each epoch; the perplexities at the end."""
    schedule, rows = schedule_named(p["schedule"]), p["batch_size"]
    seconds = 0.0
    record: dict[str, Any] = {}
    for epoch in range(epochs):
        taken, total, start = list(batches(train, p, epoch)), 0.0, time.perf_counter()
        program.state = None
        for i, (x, y) in enumerate(taken):
            total += program.step(x, y, p["lr"] * schedule.factor(epoch + i / len(taken), epochs, ()))
        seconds += time.perf_counter() - start
        valid = rf.evaluate(program, parts["valid"], parts=rows, batch_size=rows).perplexity
        record = {"epoch": epoch + 1, "train": math.exp(total / len(taken)), "valid": valid, "seconds": seconds}
        print(json.dumps(record), flush=True)
    return {**record, "test": rf.evaluate(program, parts["test"], parts=1, batch_size=1).perplexity}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", choices=("f32", "bf16"), default="bf16")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each program, to measure their speed")
    parser.add_argument("--block", type=int, default=10, help="steps per turn")
    parser.add_argument("--epochs", type=int, help="train PyTorch's program for so many epochs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    rf.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    p, texts = rf.presets.load(PRESET), rf.datasets.load("ptb")
    train = rf.Corpus.from_text(texts["train"], tokenizer=p["tokenizer"])
    ours = Ours(train.vocab, p, args.seed, args.weights)
    theirs = Theirs(ours, p, args.seed, args.weights)
    print(f"{PRESET}, {args.weights}, {args.threads} threads, torch {torch.__version__}", file=sys.stderr)
    if args.epochs is None:
        return print(json.dumps(speed([ours, theirs], train, p, args.seconds, args.block)))
    parts = {name: rf.Corpus.from_text(texts[name], vocab=train.vocab).ids for name in ("valid", "test")}
    return print(json.dumps(learn(theirs, train, p, parts, args.epochs)))


if __name__ == "__main__":
    main()
