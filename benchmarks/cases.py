"""The cases: sizes, and weights and inputs for every framework, which depend only on the sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.cells import GATES

COMMON = tuple(cell for cell in ("RNN", "GRU", "LSTM") if cell in GATES)  # cells that every measured framework has
KINDS = ("layers", "stream", "train", "lm")


@dataclass(frozen=True)
class Case:
    """One piece of work. T steps, N rows, D inputs, H hidden units; ``lm`` has V classes, and D = 0 is one-hot input.

    kind: ``forward`` is inference over a whole sequence, ``train`` forward and backward with all gradients, ``stream`` one
    step that keeps its state, ``lm`` a language model's training step: loss, gradients, clipping by norm, SGD; ``cutoffs`` are
    those of an adaptive softmax.
    """

    kind: str
    cell: str
    T: int
    N: int
    D: int
    H: int
    layers: int = 1
    bidirectional: bool = False
    ragged: bool = False
    V: int = 0
    cutoffs: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        if self.kind == "lm":
            output = " adaptive" if self.cutoffs else ""
            return f"lm {self.cell} T={self.T} N={self.N} V={self.V} E={self.D} H={self.H}x{self.layers}{output}"
        extra = [f"{self.layers} layers"] * (self.layers > 1) + ["bidirectional"] * self.bidirectional
        return " ".join([f"{self.kind} {self.cell} {self.size}", *extra, *["ragged"] * self.ragged])

    @property
    def size(self) -> str:
        return f"{self.T}x{self.N}x{self.D}x{self.H}"

    @property
    def directions(self) -> int:
        return 1 + self.bidirectional

    @property
    def tolerance(self) -> float:
        """Largest difference of two correct float32 programs, relative to the largest element.

        Sums of a thousand terms in another order differ by about 1e-6. ``lm`` compares the change of the weights in three
        steps, which keeps four of the weights' seven digits.
        """
        return 5e-3 if self.kind == "lm" else 1e-4

    def widths(self) -> list[int]:
        """Input width of every layer; 0 if token ids select rows in place of a product."""
        return [self.D] + [self.H * self.directions] * (self.layers - 1)

    def lengths(self) -> np.ndarray:
        """Steps of each row, long to short: all T, or from T down to a quarter of it."""
        last = max(1, self.T // 4) if self.ragged else self.T
        return np.linspace(self.T, last, self.N).astype(np.int32)

    @property
    def tokens(self) -> int:
        return int(self.lengths().sum())

    @property
    def flops(self) -> float:
        """Of all products, without pointwise work."""
        rows_of_gates = self.directions * GATES[self.cell] * self.H
        weights = sum(rows_of_gates * (width + self.H) for width in self.widths())
        passes = 6.0 if self.kind in ("train", "lm") else 2.0
        return passes * (self.tokens * weights + sum(rows * size for rows, size in self.output_products()))

    @property
    def head(self) -> int:
        """Classes of the softmax that every row needs."""
        return self.cutoffs[0] + len(self.cutoffs) if self.cutoffs else self.V

    def output_products(self) -> list[tuple[int, int]]:
        """Rows and weights of the output layer's products: of a cluster, the rows whose targets are in it."""
        targets = inputs(self)["targets"] if self.cutoffs else np.empty(0)
        rare = [
            (int(np.count_nonzero((targets >= a) & (targets < b))), w * (self.H + b - a)) for a, b, w in self.clusters()
        ]
        return [(self.tokens, self.H * self.head), *rare]

    def clusters(self) -> list[tuple[int, int, int]]:
        """First id, end and width of each cluster of an adaptive softmax, which shrinks by 4."""
        ends = (*self.cutoffs[1:], self.V)
        return [(a, b, self.H // 4 ** (i + 1)) for i, (a, b) in enumerate(zip(self.cutoffs, ends))]


def suffixes(case: Case) -> list[str]:
    """PyTorch's suffixes of weight names, for every layer and direction."""
    return [f"_l{k}{end}" for k in range(case.layers) for end in ("", "_reverse")[: case.directions]]


def weights(case: Case) -> dict[str, np.ndarray]:
    """Weights by PyTorch's names: uniform in ±1/sqrt(H), the same in every process. ``lm``: by the parts of a language model."""
    rng = np.random.default_rng(7)

    def uniform(*shape: int) -> np.ndarray:
        return (rng.uniform(-1, 1, shape) / np.sqrt(case.H)).astype(np.float32)

    rows = GATES[case.cell] * case.H
    widths = case.widths()
    if case.kind == "lm" and case.D == 0:
        widths[0] = case.V
    layer = {}
    for position, end in enumerate(suffixes(case)):
        layer["weight_ih" + end] = uniform(rows, widths[position // case.directions])
        layer["weight_hh" + end] = uniform(rows, case.H)
        layer["bias_ih" + end], layer["bias_hh" + end] = uniform(rows), uniform(rows)
    if case.kind != "lm":
        return layer
    model = {"rnn." + name: value for name, value in layer.items()}
    head = "output.head." if case.cutoffs else "output."
    model[head + "weight"], model[head + "bias"] = uniform(case.head, case.H), uniform(case.head)
    for i, (first, end, width) in enumerate(case.clusters()):
        model[f"output.tail.{i}.0.weight"] = uniform(width, case.H)
        model[f"output.tail.{i}.1.weight"] = uniform(end - first, width)
    if case.D:
        model["embedding.weight"] = uniform(case.V, case.D)
    return model


def inputs(case: Case) -> dict[str, np.ndarray]:
    """x (T, N, D) and the output's gradient dy; a stream's x has eight steps; ``lm``: ids and targets (T, N)."""
    rng = np.random.default_rng(11)
    if case.kind == "lm":
        ids = rng.integers(0, case.V, (case.T + 1, case.N)).astype(np.int32)
        if case.V > LARGE:  # as frequent as words are: Zipf's law
            ids = ((case.V + 1.0) ** rng.uniform(size=ids.shape)).astype(np.int32) - 1
        return {"ids": ids[:-1].copy(), "targets": ids[1:].copy()}
    steps = 8 if case.kind == "stream" else case.T
    x = rng.normal(size=(steps, case.N, case.D)).astype(np.float32)
    if case.kind != "train":
        return {"x": x}
    dy = rng.normal(size=(case.T, case.N, case.directions * case.H)).astype(np.float32)
    dy[np.arange(case.T)[:, None] >= case.lengths()] = 0  # no gradient beyond the end of a row
    return {"x": x, "dy": dy}


MAIN = [
    (35, 1, 128, 128), (35, 1, 256, 256), (35, 1, 512, 512), (35, 8, 256, 256), (35, 32, 28, 256),
    (35, 32, 256, 256), (35, 20, 650, 650), (64, 64, 512, 512), (100, 128, 1024, 1024),
]  # fmt: skip
# Sizes that nobody tuned for: odd, wide, thin, stacked, bidirectional, ragged.
OTHERS: list[tuple[tuple[int, int, int, int], dict[str, int]]] = [
    ((20, 16, 100, 200), {}),
    ((50, 3, 300, 300), {}),
    ((35, 64, 128, 384), {}),
    ((128, 10, 80, 320), {}),
    ((35, 2, 256, 256), {}),
    ((200, 1, 40, 96), {}),
    ((64, 33, 257, 129), {}),
    ((35, 32, 256, 256), {"layers": 2}),
    ((35, 32, 256, 256), {"bidirectional": True}),
    ((60, 32, 256, 256), {"ragged": True}),
]
STREAM = [64, 128, 256, 512]
LARGE = 20_000  # vocabularies beyond this have words by frequency
LANGUAGE_MODELS = [
    # T, N, V, D, H, layers, cells, and the cutoffs of an adaptive softmax
    (35, 32, 28, 0, 256, 1, tuple(GATES)),
    (20, 20, 10_000, 200, 200, 2, ("LSTM",)),
    (35, 20, 10_000, 200, 200, 2, tuple(GATES)),
    (35, 20, 10_000, 650, 650, 2, ("LSTM",)),
    (35, 32, 65, 0, 512, 1, ("LSTM",)),
    (35, 32, 65, 0, 1024, 1, ("LSTM",)),
    (35, 32, 33_000, 512, 512, 1, ("LSTM",)),
    (35, 32, 33_000, 512, 512, 1, ("LSTM",), (2000, 10_000)),
]


def all_cases(kinds: list[str], cells: list[str], grid: str = "main") -> Iterator[Case]:
    """The chosen kinds and cells of the grid ``main``, ``others`` or ``all``."""
    for kind in kinds:
        for cell in cells:
            if kind in ("layers", "train"):
                name = "forward" if kind == "layers" else kind
                if grid in ("main", "all"):
                    yield from (Case(name, cell, *sizes) for sizes in MAIN)
                if grid in ("others", "all"):
                    yield from (Case(name, cell, *sizes, **options) for sizes, options in OTHERS)
            elif kind == "stream":
                yield from (Case("stream", cell, 1, 1, size, size) for size in STREAM)
            else:
                yield from (
                    Case("lm", cell, T, N, D, H, layers=layers, V=V, cutoffs=sum(cutoffs, ()))
                    for T, N, V, D, H, layers, of_cells, *cutoffs in LANGUAGE_MODELS
                    if cell in of_cells
                )


def chosen(cases: list[Case], wanted: str) -> list[Case]:
    """Cases whose name contains one of the comma-separated words; a new size TxNxDxH adds a case of that size."""
    if not wanted:
        return cases
    picked = [case for word in wanted.split(",") for case in cases if word in case.name]
    for word in wanted.split(","):
        if re.fullmatch(r"\d+x\d+x\d+x\d+", word) and not any(case.size == word for case in cases):
            sizes = tuple(map(int, word.split("x")))
            pairs = dict.fromkeys((case.kind, case.cell) for case in cases if case.kind in ("forward", "train"))
            picked += [Case(kind, cell, *sizes) for kind, cell in pairs]
    if not picked:
        raise ValueError(
            f"no case matches {wanted!r}: give a part of a name such as {cases[0].name!r}, or a size TxNxDxH"
        )
    return list(dict.fromkeys(picked))
