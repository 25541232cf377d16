"""Uses the package as a service does for months: threads step, generate, save and load models, and pickle states.

    python tests/soak/soak.py SECONDS [THREADS]

Ends with status 1 if a result has other bits than the first one, if the resident memory grew by more than 1 MB after the first fifth of the
time (at most a minute), or if a call raised. Times of steps are printed; they contain the waits for Python's global lock.
"""

from __future__ import annotations

import math
import pickle
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

import rnnfast as rf

STEPS, SEEDS = 24, 8
TEXT = "the time traveller smiled round at us. "
MOST_GROWTH = 1.0  # MB


def models() -> list[rf.LanguageModel]:
    vocab = rf.Corpus.from_text(TEXT).vocab
    return [
        rf.LanguageModel(vocab, cell=cell, embedding_size=16, hidden_size=48, num_layers=2, seed=1)
        for cell in ("gru", "lstm")
    ]


def network() -> rf.Sequential:
    return rf.Sequential(
        rf.Conv1d(4, 8, 3, padding="causal"), rf.ReLU(), rf.GRU(8, 16, seed=0), rf.Linear(16, 2, seed=0)
    )


class Times:
    """Counts of times by their logarithm, each within 2%: it takes no memory while it counts."""

    def __init__(self) -> None:
        self.counts = np.zeros(32 * 40, np.int64)
        self.counts += 0  # touches its memory

    def add(self, seconds: float) -> None:
        self.counts[min(int(32 * math.log2(max(1.0, 1e9 * seconds))), len(self.counts) - 1)] += 1

    def percentile(self, share: float) -> float:
        """Microseconds."""
        sums = np.cumsum(self.counts)
        return float(2 ** (int(np.searchsorted(sums, share * sums[-1])) / 32)) / 1000


class Soak:
    def __init__(self, folder: Path) -> None:
        self.folder, self.models, self.network = folder, models(), network()
        self.x = np.random.default_rng(0).normal(size=(STEPS, 4)).astype(np.float32)
        self.phase = "warm"
        self.counts: Counter[str] = Counter()
        self.times = {"first": Times(), "last": Times()}
        self.expected = [[self.follow(model, seed) for seed in range(SEEDS)] for model in self.models]
        self.texts = [rf.generate(model, "the ", length=STEPS, seed=3) for model in self.models]
        self.outputs = self.stream()

    def follow(self, model: rf.LanguageModel, seed: int, times: Times | None = None) -> bytes:
        """The logits of one stream, which is saved and restored halfway."""
        rng, state, found = random.Random(seed), None, []
        for t in range(STEPS):
            if t == STEPS // 2:
                state = pickle.loads(pickle.dumps(state))
            started = time.perf_counter()
            logits, state = model.step([rng.randrange(len(TEXT) // 3)], state)
            if times is not None:
                times.add(time.perf_counter() - started)
            found.append(logits.tobytes())
        return b"".join(found)

    def stream(self) -> bytes:
        step = self.network.stream()
        return b"".join(np.asarray(step(row)).tobytes() for row in self.x)

    def loaded(self, which: int, name: str) -> rf.LanguageModel:
        path = self.folder / f"{name}.safetensors"
        self.models[which].save(path)
        self.counts["models loaded"] += 1
        return rf.load(path)

    def round(self, rng: random.Random, name: str) -> bool:
        """Whether the results had the right bits."""
        which, seed, kind = rng.randrange(len(self.models)), rng.randrange(SEEDS), rng.randrange(8)
        model = self.models[which]
        if kind == 0:
            return rf.generate(model, "the ", length=STEPS, seed=3) == self.texts[which]
        if kind == 1:
            return self.stream() == self.outputs
        if kind == 2:
            model = self.loaded(which, name)
        return self.follow(model, seed, self.times.get(self.phase)) == self.expected[which][seed]

    def work(self, number: int) -> None:
        rng = random.Random(number)
        while self.phase != "over":
            try:
                good = self.round(rng, str(number))
            except Exception as error:
                if self.counts["wrong"] < 10:
                    print(f"soak: {error!r}", file=sys.stderr)
                good = False
            self.counts["rounds" if good else "wrong"] += 1


def resident() -> float:
    """MB, on Linux."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


def main(seconds: float, count: int = 8) -> int:
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder))
        threads = [threading.Thread(target=soak.work, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        warm = min(seconds / 5, 60)
        time.sleep(warm)
        before, window = resident(), (seconds - warm) / 4
        for soak.phase, length in (("first", window), ("middle", 2 * window), ("last", window)):
            time.sleep(length)
        after = resident()
        soak.phase = "over"
        for thread in threads:
            thread.join()
    counted = ", ".join(f"{soak.counts[name]} {name}" for name in ("rounds", "models loaded", "wrong"))
    print(f"{count} threads, {seconds:.0f} s: {counted}")
    print(f"resident memory: {before:.2f} MB after {warm:.0f} s, {after:.2f} MB at the end")
    for share in (0.5, 0.99, 0.999):
        first, last = (soak.times[name].percentile(share) for name in ("first", "last"))
        print(f"a step, {100 * share:.1f}%: {first:.0f} us in the first quarter, {last:.0f} us in the last")
    return int(soak.counts["wrong"] > 0 or after - before > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), *map(int, sys.argv[2:3])))
