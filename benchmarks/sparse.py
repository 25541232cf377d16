"""Compares one step of a stream of a pruned LSTM with the same layer not pruned, and with ONNX Runtime in float32.

python -m benchmarks.sparse [--hidden 512] [--density 0.2] [--seconds 1] [--model FILE] [--json]

The layer is an LSTM of H features to H units, one row, one thread, called from Python. Blocks of the smallest mean magnitude are zero in
both matrices. `--model` is a pruned language model in a file: its step, from a token to logits, and that of its LSTM layers alone are timed
as they are and with the zeros replaced by small numbers. Times are medians of runs in turn, in microseconds; before, outputs of layers are
compared with those of a batch, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np

import rnnfast as rf
from benchmarks.cases import Case
from rnnfast.train.pruning import Pruning, Sparsity

PRECISIONS = ("f32", "bf16", "int8")
BLOCKS = ((16, 1), (16, 4))
Program = Callable[[], Any]


def pruned(layer: Any, share: float, block: tuple[int, int]) -> dict[str, np.ndarray]:
    """The weights of a layer with zeros in a share of the blocks."""
    masks = Pruning(layer, Sparsity(share, block))
    masks.advance(1.0)
    weights = layer.state_dict()
    return {**weights, **{name: matrix.masked(weights[name]).copy() for name, matrix in masks.matrices.items()}}


def stream(D: int, H: int, weights: str, state: Mapping[str, np.ndarray], layers: int = 1) -> Program:
    """A step of LSTM layers, whose outputs have the bits of a batch."""
    layer = rf.LSTM(D, H, layers, seed=0, weights=weights)
    layer.load_state_dict(state)
    x = np.random.default_rng(0).normal(size=(4, 16, D)).astype(np.float32)
    step = layer.stream()
    alone = np.stack([step(row[:1]) for row in x])
    assert alone.tobytes() == np.ascontiguousarray(layer(x)[0][:, :1]).tobytes(), "a stream and a batch differ"
    row, out = x[0, :1].copy(), np.empty((1, H), np.float32)
    return lambda: step(row, out=out)


def onnx(H: int) -> Program | None:
    """ONNX Runtime's step on one thread; None if it is not installed."""
    try:
        from benchmarks.peers.onnxruntime import Peer
    except ImportError:
        return None
    return Peer(1).prepare(Case("stream", "LSTM", 1, 1, H, H)).run


def model_step(model: rf.LanguageModel) -> Program:
    tokens, states = np.zeros(1, np.int32), [None]

    def step() -> None:
        states[0] = model.step(tokens, states[0])[1]

    return step


def filled(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same matrices with small numbers in place of zeros."""
    random = np.random.default_rng(0)
    return {
        name: np.where(w == 0, random.uniform(-0.01, 0.01, w.shape).astype(np.float32), w) if w.ndim == 2 else w
        for name, w in state.items()
    }


def of_model(file: str) -> dict[str, Program]:
    model = rf.load(file, kind=rf.LanguageModel)
    config, state = model.config, model.state_dict()
    layers = {name.partition(".")[2]: w for name, w in state.items() if name.startswith("rnn.")}
    programs: dict[str, Program] = {}
    for weights in PRECISIONS:
        sparse, dense = (rf.load(file, weights=weights, kind=rf.LanguageModel) for _ in range(2))
        dense.load_state_dict(filled(state))
        programs.update({f"{weights} model dense": model_step(dense), f"{weights} model pruned": model_step(sparse)})
        if config["cell"] == "lstm":
            shape = layers["weight_ih_l0"].shape[1], config["hidden_size"], weights
            programs[f"{weights} layers dense"] = stream(*shape, filled(layers), config["num_layers"])
            programs[f"{weights} layers pruned"] = stream(*shape, layers, config["num_layers"])
    one_lstm = config["cell"] == "lstm" and config["num_layers"] == 1
    if one_lstm and (other := onnx(config["hidden_size"])) is not None:
        programs["ONNX Runtime f32"] = other
    return programs


def of_layer(H: int, share: float) -> dict[str, Program]:
    whole = rf.LSTM(H, H, seed=0)
    programs: dict[str, Program] = {}
    for weights in PRECISIONS:
        programs[f"{weights} dense"] = stream(H, H, weights, whole.state_dict())
        for units, inputs in BLOCKS:
            state = pruned(whole, share, (units, inputs))
            programs[f"{weights} {units}x{inputs}"] = stream(H, H, weights, state)
    if (other := onnx(H)) is not None:
        programs["ONNX Runtime f32"] = other
    return programs


def measured(programs: Mapping[str, Program], seconds: float) -> dict[str, float]:
    """The median of runs taken in turn, in microseconds."""
    calls = 50
    times: dict[str, list[float]] = {name: [] for name in programs}
    end = time.perf_counter() + seconds * len(programs)
    while time.perf_counter() < end or len(times[next(iter(times))]) < 5:
        for name, program in programs.items():
            program()
            start = time.perf_counter()
            for _ in range(calls):
                program()
            times[name].append((time.perf_counter() - start) / calls)
    return {name: 1e6 * statistics.median(runs) for name, runs in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--density", type=float, default=0.2, help="the share of blocks that are not zero")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each program")
    parser.add_argument("--model", help="a pruned language model")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rf.set_num_threads(1)
    programs = of_model(args.model) if args.model else of_layer(args.hidden, 1 - args.density)
    found = measured(programs, args.seconds)
    if args.json:
        return print(
            json.dumps({"isa": rf.info()["isa_active"], "hidden": args.hidden, "density": args.density, **found})
        )
    print(f"{args.model or f'LSTM {args.hidden}, density {args.density}'}, {rf.info()['isa_active']}, us a step")
    for name, value in found.items():
        dense = found.get(f"{name.rpartition(' ')[0]} dense", value)
        print(f"{name:20}{value:8.1f}{dense / value:8.2f} times dense")
    return None


if __name__ == "__main__":
    main()
