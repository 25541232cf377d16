"""The measured frameworks: one file each, all with the same weights and inputs. A missing one is named and skipped."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

import numpy as np

from benchmarks.cases import COMMON, Case
from benchmarks.cells import GATES

Arrays = dict[str, np.ndarray]


class Unsupported(Exception):
    """The framework does not support the case, which is measured without it."""


@dataclass
class Program:
    """check() does the work and returns the arrays to compare; run() does it once, inside context()."""

    check: Callable[[], Arrays]
    run: Callable[[], Any]
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    keep: Any = None  # arrays that the framework reads but does not own


class Peer(Protocol):
    """Made once per process, after the process has its cores and OMP_NUM_THREADS."""

    version: str

    def prepare(self, case: Case) -> Program: ...


@dataclass(frozen=True)
class Entry:
    """The module of a framework, the kinds of cases and the cells that it supports, and the options of its Peer."""

    module: str
    kinds: tuple[str, ...] = ("forward", "stream", "train", "lm")
    options: dict[str, Any] = field(default_factory=dict)
    cells: tuple[str, ...] = COMMON

    def supports(self, case: Case) -> bool:
        return case.kind in self.kinds and case.cell in self.cells


FORWARD = ("forward", "stream")
PEERS = {
    "rnnfast": Entry("rnnfast", cells=tuple(GATES)),
    "rnnfast_bf16": Entry("rnnfast", options={"weights": "bf16"}, cells=tuple(GATES)),
    "torch": Entry("torch"),
    "torch_bf16": Entry("torch", ("forward", "train", "lm"), {"autocast": True}),
    "torch_cell": Entry("torch", ("stream",), {"single_step": True}),
    "torch_compile": Entry("torch", options={"compiled": True}),
    "onnxruntime": Entry("onnxruntime", FORWARD),
    "openvino": Entry("openvino", FORWARD),
    "openvino_bf16": Entry("openvino", FORWARD, {"precision": "bf16"}),
    "jax": Entry("jax", ("forward", "stream", "train")),
}
USUAL = [
    "torch",
    "torch_bf16",
    "torch_cell",
    "onnxruntime",
    "openvino",
    "openvino_bf16",
    "jax",
]  # torch_compile is slow to start


def load(name: str, threads: int) -> Peer:
    """Imports the framework; raises ImportError if it is not installed."""
    entry = PEERS[name]
    peer: Peer = importlib.import_module(f"benchmarks.peers.{entry.module}").Peer(threads, **entry.options)
    return peer


def twice_over(steps: list[Any]) -> Iterator[Any]:
    """Repeats the steps for ever, for states that alternate between two buffers: a b a b ..."""
    while True:
        yield from steps
