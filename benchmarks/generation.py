"""Compares tokens drawn from the largest logits alone with the same tokens drawn from all logits, interleaved in one process.

python -m benchmarks.generation [--vocabularies 10000,33000] [--hidden 512] [--threads 1,2] [--seconds 2] [--json]

A case is one LSTM layer, its embeddings as wide, with untrained weights: their logits are nearly equally large, so more words have a chance than
in a trained model. Times are medians of a token, the layer's step and the draw included, over turns of 40 tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import rnnfast as rf
from rnnfast import _core

TOKENS = 40  # of a turn
HOW = {"top_k=40": (1.0, 40), "temperature=0": (0.0, 0)}


def generator(model: rf.LanguageModel, how: str, *, all_logits: bool) -> _core.Generator:
    temperature, top_k = HOW[how]
    options = _core.SamplerOptions(temperature, top_k, 1.0, 7, 0, [])
    return _core.Generator(model._core, np.array([1, 2, 3], np.int32), options, all_logits=all_logits)


def measure(vocabulary: int, hidden: int, threads: int, seconds: float) -> Iterator[dict[str, Any]]:
    vocab = rf.Vocab([str(i) for i in range(vocabulary - 1)], tokenizer="word")
    model = rf.LanguageModel(vocab, cell="lstm", embedding_size=hidden, hidden_size=hidden, seed=1)
    rf.set_num_threads(threads)
    for how in HOW:
        programs = {name: generator(model, how, all_logits=name == "all") for name in ("all", "largest")}
        times: dict[str, list[float]] = {name: [] for name in programs}
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline or len(times["all"]) < 4:
            drawn = []
            for name, program in programs.items():
                program.next()
                started = time.perf_counter()
                drawn.append([program.next() for _ in range(TOKENS)])
                times[name].append((time.perf_counter() - started) / TOKENS)
            if drawn[0] != drawn[1]:
                raise SystemExit(f"{how}: the largest logits drew {drawn[1]}, all logits {drawn[0]}")
        # The first turn includes the packing of weights.
        median = {name: 1e6 * statistics.median(t[1:]) for name, t in times.items()}
        yield {"V": vocabulary, "H": hidden, "threads": threads, "how": how, "us": median,
               "ratio": median["all"] / median["largest"]}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", default="10000,33000")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each case")
    parser.add_argument("--json", action="store_true", help="print one JSON object per case")
    args = parser.parse_args(argv)
    if not args.json:
        print("| case | threads | all logits, µs a token | largest logits | ratio |\n| --- | --- | --- | --- | --- |")
    for vocabulary in map(int, args.vocabularies.split(",")):
        for threads in map(int, args.threads.split(",")):
            for found in measure(vocabulary, args.hidden, threads, args.seconds):
                us = found["us"]
                case = f"{found['how']}, V={vocabulary}, 1x{args.hidden}"
                print(
                    json.dumps(found)
                    if args.json
                    else f"| {case} | {threads} | {us['all']:.0f} | {us['largest']:.0f} | {found['ratio']:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
