"""Compares accelerated PyTorch models (rnnfast.torch) with PyTorch itself, interleaved in one process.

python -m benchmarks torch [case ...] [--threads 1,2] [--seconds 2] [--best] [--json]      cases whose name contains all of these words
python -m benchmarks torch memory [case ...]                                               peak memory of training steps

A training case is a whole step: forward, loss, backward, clipping and SGD, the last two by PyTorch on both sides. Both sides do the same
work once and the results are compared; then they run in turn, and the ratio is that of the medians, or of the best times with --best, for
a machine that does other work too. `compile` is not in the default: it takes minutes (the time until torch.compile's first result).
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Callable

# torch before rnnfast, so that both use torch's OpenMP runtime. Two runtimes in one process slow each other down.
try:
    import torch
except ImportError:
    sys.exit("this comparison needs torch: pip install 'rnnfast[bench]'")
from torch import nn

import rnnfast.torch as rft
from benchmarks import torch_outside
from benchmarks.torch_memory import memory_results, peak

Program = Callable[[], Any]


@dataclass
class Case:
    """Two programs, made when the case runs: PyTorch's first. ``target``: the ratio that the case should reach."""

    name: str
    make: Callable[[], tuple[Program, Program]]
    target: float
    tolerance: float = 1e-4


class Net(nn.Module):
    """A recurrent layer and a linear one; its loss is the mean square."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 1)

    def forward(self, x: Any) -> torch.Tensor:
        y = self.layer(x)[0]
        return self.head(y.data if isinstance(y, nn.utils.rnn.PackedSequence) else y).square().mean()


class Cells(nn.Module):
    """A cell in a loop over the steps."""

    def __init__(self, cell: nn.Module, width: int) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = None
        for step in x:
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state).square().mean()


class WordModel(nn.Module):
    """The word-level language model of PyTorch's examples: embedding, LSTM, linear, with dropout 0 so that both sides agree."""

    def __init__(self, vocabulary: int, size: int, layers: int) -> None:
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(vocabulary, size), nn.LSTM(size, size, layers)
        self.decoder, self.fused = nn.Linear(size, vocabulary), False

    def forward(self, ids: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        y, _ = self.rnn(self.embedding(ids[0]))
        if self.fused:
            return rft.linear_cross_entropy(y, self.decoder.weight, ids[1], linear_bias=self.decoder.bias)
        return nn.functional.cross_entropy(self.decoder(y).flatten(0, 1), ids[1].flatten())


def training(model: nn.Module, x: Any) -> Program:
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=1e-6)

    def step() -> list[torch.Tensor]:
        optimizer.zero_grad()
        loss = model(x)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        return [loss.detach(), *(p.grad for p in parameters)]

    return step


def running(model: nn.Module, *inputs: Any) -> Program:
    @torch.inference_mode()
    def run() -> list[torch.Tensor]:
        y, state = model(*inputs)
        return [y]

    return run


def trained(make: Callable[[], nn.Module], x: Any, fused: bool = False) -> tuple[Program, Program]:
    torch.manual_seed(0)
    model = make()
    fast = rft.accelerate(copy.deepcopy(model))
    if fused:
        fast.fused = True
    return training(model, x), training(fast, x)


def ragged(rows: int, steps: int, size: int) -> nn.utils.rnn.PackedSequence:
    lengths = torch.linspace(steps // 4, steps, rows).long()
    return nn.utils.rnn.pack_padded_sequence(torch.randn(steps, rows, size), lengths, enforce_sorted=False)


KINDS = {"RNN": (nn.RNN, nn.RNNCell), "GRU": (nn.GRU, nn.GRUCell), "LSTM": (nn.LSTM, nn.LSTMCell)}


def layer_cases() -> Iterator[Case]:
    for kind, (layer, cell) in KINDS.items():
        for rows, hidden, target in [(32, 128, 1.4), (32, 256, 1.4), (1, 256, 3.0)]:
            wanted = target if kind != "LSTM" else {32: 0.98, 1: 1.3}[rows]

            def make(layer: Any = layer, rows: int = rows, hidden: int = hidden) -> tuple[Program, Program]:
                return trained(lambda: Net(layer(hidden, hidden), hidden), torch.randn(35, rows, hidden))

            yield Case(f"train {kind} T 35, N {rows}, H {hidden}", make, wanted)

        def packed(layer: Any = layer) -> tuple[Program, Program]:
            return trained(lambda: Net(layer(128, 128, bidirectional=True), 256), ragged(32, 60, 128))

        yield Case(f"train packed {kind} T 60, N 32, H 2x128", packed, 2.5)
        for steps, hidden in [(1, 8), (1, 256), (20, 128)]:

            def unrolled(cell: Any = cell, steps: int = steps, hidden: int = hidden) -> tuple[Program, Program]:
                rows = 1 if steps == 1 else 32
                return trained(lambda: Cells(cell(hidden, hidden), hidden), torch.randn(steps, rows, hidden))

            yield Case(f"train {kind}Cell T {steps}, N {1 if steps == 1 else 32}, H {hidden}", unrolled, 0.98)
        for steps, hidden, frozen, target in [
            (1, 256, False, 1.0),
            (1, 256, True, 4.0),
            (35, 256, True, 1.6),
            (1, 8, False, 1.0),
        ]:

            def run(
                layer: Any = layer, steps: int = steps, hidden: int = hidden, frozen: bool = frozen
            ) -> tuple[Program, Program]:
                model, x = layer(hidden, hidden), torch.randn(steps, 1, hidden)
                return running(model, x), running(rft.accelerate(copy.deepcopy(model), frozen=frozen), x)

            yield Case(f"run {kind} T {steps}, N 1, H {hidden}{', frozen' * frozen}", run, target)


class SelfAttending(nn.Module):
    """Causal self-attention, with heads of 64."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(width, width // 64), nn.Linear(width, 1)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(steps))

    def forward(self, x: torch.Tensor) -> Any:
        y = self.attention(x, x, x, need_weights=False, attn_mask=self.mask, is_causal=True)[0]
        return self.head(y).square().mean() if self.training else (y, None)


def attention_cases() -> Iterator[Case]:
    for rows, steps, width in [(1, 128, 256), (8, 128, 256), (1, 512, 512), (4, 512, 512)]:
        name = f"MultiheadAttention T {steps}, N {rows}, D {width}, causal"

        def train(rows: int = rows, steps: int = steps, width: int = width) -> tuple[Program, Program]:
            return trained(lambda: SelfAttending(width, steps), torch.randn(steps, rows, width))

        def run(rows: int = rows, steps: int = steps, width: int = width) -> tuple[Program, Program]:
            model, x = SelfAttending(width, steps).eval(), torch.randn(steps, rows, width)
            return running(model, x), running(rft.accelerate(copy.deepcopy(model), frozen=True), x)

        yield Case(f"train {name}", train, 1.0)
        yield Case(f"run {name}, frozen", run, 1.0)


def model_cases() -> Iterator[Case]:
    ids = torch.randint(10_000, (35, 20)), torch.randint(10_000, (35, 20))
    yield Case("train word model 2x200, V 10,000", lambda: trained(lambda: WordModel(10_000, 200, 2), ids), 0.98)
    yield Case(
        "train word model 2x200, V 10,000, our loss",
        lambda: trained(lambda: WordModel(10_000, 200, 2), ids, True),
        1.35,
    )

    for name, make in OUTSIDE.items():

        def outside(make: Any = make) -> tuple[Program, Program]:
            torch.manual_seed(0)
            model, batches = make()
            steps = [
                torch_outside.trainer(model, batches),
                torch_outside.trainer(rft.accelerate(copy.deepcopy(model)), make()[1]),
            ]
            theirs, ours = [lambda step=step: [step()] for step in steps]
            return theirs, ours

        yield Case(f"train outside {name}", outside, 1.0)

    def bf16() -> tuple[Program, Program]:
        model, x = rft.accelerate(nn.LSTM(256, 256)), torch.randn(35, 32, 256)
        return running(model, x), running(rft.accelerate(copy.deepcopy(model), weights="bf16"), x)

    yield Case("run LSTM in bf16 to f32, both ours, T 35, N 32, H 256", bf16, 1.7, 5e-2)


OUTSIDE = {
    "forecaster, T 60 + 20, N 64, H 64": lambda: torch_outside.forecasting(size=64, rows=64, past=60, future=20),
    "BiLSTM-CRF tagger, T 40, N 32, H 2x64": lambda: torch_outside.tagging(size=128, rows=32, steps=40),
    "word model, 2x200, V 5,000, T 35, N 20": lambda: torch_outside.language(words=5000, size=200, rows=20, steps=35),
}


class Tagger(nn.Module):
    """A bidirectional LSTM over sentences of different length; its loss is the cross-entropy of each word's tag."""

    def __init__(self, words: int, tags: int) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(words, 64), nn.LSTM(64, 128, bidirectional=True)
        self.head = nn.Linear(256, tags)

    def forward(self, sentences: list[torch.Tensor]) -> torch.Tensor:
        packed = nn.utils.rnn.pack_sequence([self.embedding(s) for s in sentences], enforce_sorted=False)
        tags = nn.utils.rnn.pack_sequence([s % self.head.out_features for s in sentences], enforce_sorted=False).data
        return nn.functional.cross_entropy(self.head(self.lstm(packed)[0].data), tags)


def document_cases() -> Iterator[Case]:
    """The three cases of docs/torch.md."""
    sentences = [torch.randint(1000, (int(n),)) for n in torch.linspace(5, 40, 32)]
    yield Case("train document case 1, tagger, 32 sentences", lambda: trained(lambda: Tagger(1000, 10), sentences), 2.5)
    ids = torch.randint(10_000, (35, 20)), torch.randint(10_000, (35, 20))
    yield Case("train document case 2, word model", lambda: trained(lambda: WordModel(10_000, 200, 2), ids, True), 1.35)

    def serving(weights: Any) -> tuple[Program, Program]:
        model, x, h = nn.GRU(64, 256).eval(), torch.randn(1, 1, 64), torch.randn(1, 1, 256)
        fast = rft.accelerate(model, weights=weights, frozen=True, inplace=False)
        return running(model, x, h), running(fast, x, h)

    for weights, tolerance in [("f32", 1e-4), ("int8", 5e-2)]:
        make = functools.partial(serving, weights)
        yield Case(f"run document case 3, one row in {weights}, frozen", make, 4.0, tolerance)


def compile_case(threads: int) -> dict[str, Any]:
    """Seconds until the first result of a compiled LSTM 2x64, T 32; PyTorch's unrolls it.

    Without oneDNN, since PyTorch 2.13 compiles a call of oneDNN's LSTM that fails.
    """
    torch.set_num_threads(threads)
    found = {}
    for name in ("rnnfast", "torch"):
        torch._dynamo.reset()
        torch._dynamo.config.allow_rnn = name == "torch"
        model, x = nn.LSTM(64, 64, 2), torch.randn(32, 8, 64)
        if name == "rnnfast":
            rft.accelerate(model)
        started = time.perf_counter()
        with torch.backends.mkldnn.flags(enabled=name == "rnnfast"):
            torch.compile(model)(x)[0].sum().backward()
        found[name] = time.perf_counter() - started
    return {
        "name": "torch.compile LSTM 2x64, T 32",
        "threads": threads,
        **found,
        "ratio": found["torch"] / found["rnnfast"],
        "target": 5.0,
    }


def all_cases() -> tuple[Case, ...]:
    return (*layer_cases(), *attention_cases(), *model_cases(), *document_cases())


def differ(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """The largest difference of two lists of tensors, relative to the largest element of each."""
    worst = 0.0
    for x, y in zip(a, b):
        worst = max(worst, float((x - y).abs().max() / x.abs().max().clamp(min=1e-30)))
    return worst


def measure(case: Case, threads: int, seconds: float, best: bool = False) -> dict[str, Any]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    programs = case.make()
    first, second = [[t.clone() for t in program()] for program in programs]
    if (difference := differ(first, second)) > case.tolerance:
        return {"name": case.name, "threads": threads, "wrong": f"results differ by {difference:.1e}: not timed"}
    once = []
    for program in programs:
        started = time.perf_counter()
        program()
        once.append(time.perf_counter() - started)
    inner = max(1, round(2e-3 / max(once)))
    times: tuple[list[float], list[float]] = ([], [])
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(times[0]) < 5:
        for program, taken in zip(programs, times):
            program()  # fills the caches after the other
            started = time.perf_counter()
            for _ in range(inner):
                program()
            taken.append((time.perf_counter() - started) / inner)
    theirs, ours = map(min if best else statistics.median, times)
    return {
        "name": case.name,
        "threads": threads,
        "torch": theirs,
        "rnnfast": ours,
        "ratio": theirs / ours,
        "target": case.target,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks torch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="only cases whose name contains all of these; or: compile")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=2.0, help="time of measurement for each case")
    parser.add_argument("--best", action="store_true", help="compare the best times, not the medians")
    parser.add_argument("--json", action="store_true", help="print one JSON object per case")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)  # one side of a case of `memory`, in a process of its own
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.peak_of:
        print(
            peak(
                next(c for c in all_cases() if c.name == args.peak_of),
                args.side,
                int(args.threads),
            )
        )
        return
    unit = "kilobytes" if "memory" in args.words else "times in microseconds"
    print(f"torch {torch.__version__}; {unit}", file=sys.stderr)
    words = [word for word in args.words if word != "memory"]
    for threads in map(int, args.threads.split(",")):
        cases = (case for case in all_cases() if all(word in case.name for word in words))
        results: Iterable[dict[str, Any]] = (measure(case, threads, args.seconds, args.best) for case in cases)
        if "memory" in args.words:
            results = memory_results(cases, threads)
        if "compile" in args.words:
            results = iter([compile_case(threads)])
        for result in results:
            if args.json:
                print(json.dumps(result), flush=True)
            elif "wrong" in result:
                print(f"{result['name']:<52} {result['wrong']}", flush=True)
            else:
                missed = "" if result["ratio"] >= result["target"] else f"  below {result['target']}"
                sides = [
                    result[f"{side}_bytes"] / 1e3 if "memory" in args.words else 1e6 * result[side]
                    for side in ("torch", "rnnfast")
                ]
                print(
                    f"{result['name']:<52} {threads} thread(s) {sides[0]:>11.1f} {sides[1]:>11.1f} {result['ratio']:>6.2f}{missed}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
