"""Three language models of equal size on one text: a causal conv stack, an LSTM, causal self-attention with positions.

Each is an ``rf.Network``. All three share embedding, output layer, loss, optimizer, batches and tokens, and differ in the layers
in between, which map (T, N, d) to (T, N, d).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
from numpy.typing import NDArray

from rnnfast.files import PathLike
from rnnfast.info import get_num_threads
from rnnfast.models.network import Network, NetworkStream, Run
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.layer import Array, Layer
from rnnfast.nn.linear import Linear
from rnnfast.nn.parts import Add, ReLU, Scale
from rnnfast.nn.recurrent import LSTM
from rnnfast.nn.sequence import Conv1d, SelfAttention
from rnnfast.text.corpus import Corpus, batches
from rnnfast.train.optim import Adam

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("conv", "lstm", "attention")
CONV_BLOCKS, KERNEL = 5, 3  # dilations 1, 2, 4, 8, 16 see 63 tokens
ATTENTION_BLOCKS, HEADS = 2, 4
NUM_STEPS, BATCH_SIZE, LEARNING_RATE, CLIP_NORM = 64, 32, 3e-3, 1.0
POSITIONS = (10, 100, 1000)

Layers = dict[str, Any]  # of rf.Network: a layer, or a layer and the names of what it reads


def _lstm(d: int, hidden: int, seed: int) -> Layers:
    """One LSTM layer."""
    return {"lstm": LSTM(d, d, seed=seed)}


def _conv(d: int, hidden: int, seed: int) -> Layers:
    """x ← x + relu(causal conv(x)) / sqrt(blocks), where the dilation doubles from block to block."""
    layers: Layers = {}
    x = "embedding"
    for i in range(CONV_BLOCKS):
        layers[f"conv{i}"] = (Conv1d(d, d, KERNEL, padding="causal", dilation=2**i, seed=seed + i), x)
        layers[f"relu{i}"] = ReLU()
        x = _add_scaled(layers, x, CONV_BLOCKS**-0.5)
    return layers


def _attention(d: int, hidden: int, seed: int) -> Layers:
    """Positions, then x ← x + attention(x) / s and x ← x + W relu(V x) / s with s = sqrt(2 blocks)."""
    layers: Layers = {"start": (Add(), "embedding", "positions")}
    x = "start"
    for i in range(ATTENTION_BLOCKS):
        layers[f"attention{i}"] = (SelfAttention(d, HEADS, causal=True, seed=seed + 10 * i), x)
        x = _add_scaled(layers, x, (2 * ATTENTION_BLOCKS) ** -0.5)
        layers[f"up{i}"] = (Linear(d, hidden, seed=seed + 10 * i + 1), x)
        layers[f"relu{i}"] = ReLU()
        layers[f"down{i}"] = Linear(hidden, d, seed=seed + 10 * i + 2)
        x = _add_scaled(layers, x, (2 * ATTENTION_BLOCKS) ** -0.5)
    return layers


def _add_scaled(layers: Layers, x: str, share: float) -> str:
    """Adds ``share`` times the last layer's output to ``x``; returns the name of the sum."""
    i = len(layers)
    layers[f"scaled{i}"] = Scale(share)
    layers[f"sum{i}"] = (Add(), x, f"scaled{i}")
    return f"sum{i}"


def positions(start: int, count: int, d: int) -> Array:
    """Sines and cosines of growing wavelength, (count, 1, d); A. Vaswani et al., arXiv:1706.03762, section 3.5."""
    rates = 10_000.0 ** (-np.arange(0, d, 2) / d)
    angles = np.arange(start, start + count)[:, None] * rates
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(count, 1, -1)[..., :d].astype(np.float32)


class Model:
    """A network from tokens to logits; trained on the mean cross-entropy of the next token."""

    def __init__(self, kind: str, vocabulary: int, d: int, hidden: int, seed: int) -> None:
        self.kind, self.d = kind, d
        body = {"conv": _conv, "lstm": _lstm, "attention": _attention}[kind]
        self.layers = {
            "embedding": (Embedding(vocabulary, d, seed=seed), "tokens"),
            **body(d, hidden, seed + 100),
            "output": Linear(d, vocabulary, seed=seed + 1),
        }
        inputs: dict[str, Any] = {"tokens": {"ids": vocabulary}}
        if kind == "attention":
            inputs["positions"] = d
        self.network = Network(inputs=inputs, layers=self.layers, seed=seed)

    def run(self, x: NDArray[np.int32], *, train: bool = False) -> Run:
        """The network on tokens (T, N), from the initial state."""
        if self.kind != "attention":
            return self.network.run(x, train=train)
        places = np.broadcast_to(positions(0, len(x), self.d), (*x.shape, self.d))
        return self.network.run(x, places, train=train)

    def loss(self, x: NDArray[np.int32], y: NDArray[np.int32], *, learn: bool) -> float:
        """Mean -log P of the targets y (T, N) in nats; with ``learn`` adds to the gradients."""
        run = self.run(x, train=learn)
        logits = run.outputs["output"]
        logits = logits - logits.max(-1, keepdims=True)
        weights = np.exp(logits)
        sums = weights.sum(-1, keepdims=True)
        at = (*np.ogrid[: y.shape[0], : y.shape[1]], y)
        nll = float((np.log(sums[..., 0]) - logits[at]).mean(dtype=np.float64))
        if learn:
            weights /= sums
            weights[at] -= 1
            run.backward({"output": weights / np.float32(y.size)}, input_gradient=False)
        return nll

    def clip(self, limit: float) -> None:
        """Scales all gradients so that their global norm is at most ``limit``."""
        grads = self.network.grads
        squares = sum(float((g.astype(np.float64) ** 2).sum()) for g in grads.values())
        if squares > limit**2:
            for gradient in grads.values():
                gradient *= np.float32(limit / math.sqrt(squares))

    def stream(self) -> NetworkStream | GrowingStream:
        """A function of one token (N,), here N = 1, that returns the logits of what follows it (N, V)."""
        return GrowingStream(self) if self.kind == "attention" else self.network.stream()


class GrowingStream:
    """The attention model one token at a time. A network's stream has a state of fixed size, but attention needs the keys and
    values of all earlier steps: so the network's layers step one after another, each with its cache."""

    def __init__(self, model: Model) -> None:
        weights = model.network.state_dict()
        self._layers = {n: (given if isinstance(given, tuple) else (given,)) for n, given in model.layers.items()}
        for name, (layer, *_) in self._layers.items():
            if isinstance(layer, Layer):
                layer.load_state_dict({key: weights[f"{name}.{key}"] for key in layer.parameters()})
        self._d, self._at = model.d, 0
        self._caches: dict[str, Any] = {}

    def __call__(self, token: NDArray[np.int32]) -> Array:
        values: dict[str, Any] = {"tokens": token, "positions": positions(self._at, 1, self._d)[0]}
        y: Any = None
        for name, (layer, *reads) in self._layers.items():
            x = [values[read] for read in reads] or [y]
            if isinstance(layer, SelfAttention):
                y, self._caches[name] = layer.step(x[0], self._caches.get(name))
            elif isinstance(layer, Add):
                y = x[0] + x[1]
            elif isinstance(layer, Scale):
                y = np.float32(layer.factor) * x[0]
            else:
                y = np.maximum(x[0], 0) if isinstance(layer, ReLU) else layer(x[0])
            values[name] = y
        self._at += 1
        return np.asarray(y)

    @property
    def bytes(self) -> int:
        """The size of the state in bytes."""
        return sum(cache.bytes for cache in self._caches.values())


def state_bytes(stream: NetworkStream | GrowingStream) -> int:
    """The size of a stream's state in bytes."""
    if isinstance(stream, GrowingStream):
        return stream.bytes
    states = (state if isinstance(state, tuple) else (state,) for state in stream.state.values())
    return sum(part.nbytes for parts in states for part in parts)


def _count(kind: str, vocabulary: int, d: int, hidden: int) -> int:
    ends = vocabulary * d + vocabulary * d + vocabulary
    if kind == "lstm":
        return ends + 4 * d * (2 * d + 2)
    if kind == "conv":
        return ends + CONV_BLOCKS * (KERNEL * d * d + d)
    return ends + ATTENTION_BLOCKS * (4 * d * d + 4 * d + 2 * d * hidden + hidden + d)


def equal_models(vocabulary: int, hidden_size: int, seed: int) -> list[Model]:
    """The three models with the LSTM's number of parameters, each within 2% of it."""
    target = _count("lstm", vocabulary, hidden_size, 0)
    conv = min(range(1, 4 * hidden_size), key=lambda d: abs(_count("conv", vocabulary, d, 0) - target))
    widths = range(2 * HEADS, 4 * hidden_size, 2 * HEADS)  # the inner width is twice the model's, then adjusted
    d = min(widths, key=lambda d: abs(_count("attention", vocabulary, d, 2 * d) - target))
    hidden = min(range(1, 8 * d), key=lambda h: abs(_count("attention", vocabulary, d, h) - target))
    sizes = {"conv": (conv, 0), "lstm": (hidden_size, 0), "attention": (d, hidden)}
    models = [Model(kind, vocabulary, *sizes[kind], seed) for kind in KINDS]
    for model in models:
        count = model.network.num_parameters
        if abs(count / target - 1) > 0.02:
            raise ValueError(
                f"{model.kind} cannot have as many parameters as the LSTM: {count:,} against {target:,}; "
                "choose a larger hidden size"
            )
    return models


def _train(model: Model, corpus: Corpus, tokens: int, seed: int) -> tuple[list[tuple[int, float]], float]:
    """Trains on ``tokens`` predictions; the loss along the way, and the seconds spent."""
    optimizer = Adam(model.network, lr=LEARNING_RATE)
    curve, seen, epoch, seconds = [], 0, 0, 0.0
    while seen < tokens:
        for x, y in batches(
            corpus, batch_size=BATCH_SIZE, num_steps=NUM_STEPS, sampling="random", seed=seed, epoch=epoch
        ):
            started = time.perf_counter()
            loss = model.loss(x, y, learn=True)
            model.clip(CLIP_NORM)
            optimizer.lr = LEARNING_RATE * max(0.1, 1 - seen / tokens)
            optimizer.step()
            optimizer.zero_grad()
            seconds += time.perf_counter() - started
            seen += x.size
            curve.append((seen, loss))
            if seen >= tokens:
                break
        epoch += 1
    return curve, seconds


def _perplexity(model: Model, corpus: Corpus) -> float:
    """Of chunks of 64 tokens, each read from the initial state, the same for all three models."""
    rows = (len(corpus) - 1) // NUM_STEPS
    size = min(BATCH_SIZE, rows)
    parts = batches(corpus, batch_size=size, num_steps=NUM_STEPS, sampling="random", seed=0)
    return math.exp(statistics.fmean(model.loss(x, y, learn=False) for x, y in parts))


def _generation(model: Model, vocabulary: int) -> dict[int, dict[str, float]]:
    """Microseconds for one more token, and bytes of state, after 10, 100 and 1,000 tokens."""
    tokens = np.random.default_rng(0).integers(0, vocabulary, (max(POSITIONS) + 16, 1)).astype(np.int32)
    times: list[list[float]] = []
    sizes: list[int] = []
    for turn in range(4):
        stream = model.stream()
        own = []
        for token in tokens:
            started = time.perf_counter()
            stream(token)
            own.append(time.perf_counter() - started)
            if turn == 0:
                sizes.append(state_bytes(stream))
        times.append(own)
    best = np.min(times[1:], axis=0)  # of every position, over the runs
    return {
        at: {"microseconds": 1e6 * float(np.median(best[at : at + 16])), "state_bytes": sizes[at - 1]}
        for at in POSITIONS
    }


def compare_text(
    path: str,
    *,
    tokens: int = 600_000,
    hidden_size: int = 128,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains the three models on the characters of a text: perplexity, tokens per second, cost of one more token.

    The first 90% of the text are for training, the rest for testing.
    """
    corpus = Corpus.from_file(path)
    train, test = corpus.split(0.9, 0.1)
    if len(test) <= NUM_STEPS or len(train) <= NUM_STEPS * BATCH_SIZE:
        raise ValueError(f"{path} has {len(corpus)} tokens, expected at least {10 * (NUM_STEPS + 2) * 4}")
    report(
        f"{path}: {len(corpus):,} characters, vocabulary of {len(corpus.vocab)}; {tokens:,} tokens to train each model"
    )
    result: dict[str, Any] = {"file": str(path), "tokens": tokens, "threads": get_num_threads(), "models": {}}
    for model in equal_models(len(corpus.vocab), hidden_size, seed):
        curve, seconds = _train(model, train, tokens, seed)
        perplexity = _perplexity(model, test)
        result["models"][model.kind] = {
            "parameters": model.network.num_parameters,
            "d": model.d,
            "perplexity": perplexity,
            "tokens_per_second": curve[-1][0] / seconds,
            "generation": _generation(model, len(corpus.vocab)),
            "curve": curve,
        }
        report(
            f"{model.kind}: {model.network.num_parameters:,} parameters, perplexity {perplexity:.3f}, {seconds:.1f} s"
        )
    return result


def table(result: Mapping[str, Any]) -> str:
    """The comparison in columns."""
    lines = [
        f"{'':11}{'parameters':>11}{'perplexity':>12}{'tokens/s':>11}"
        + "".join(f"{f'at {at:,}':>12}" for at in POSITIONS)
        + "".join(f"{f'at {at:,}':>12}" for at in POSITIONS),
        f"{'':11}{'':>11}{'(test)':>12}{'(training)':>11}{'microseconds for one more token':>36}{'KiB of state':>36}",
    ]
    for kind, m in result["models"].items():
        lines.append(
            f"{kind:11}{m['parameters']:>11,}{m['perplexity']:>12.3f}{m['tokens_per_second']:>11,.0f}"
            + "".join(f"{m['generation'][at]['microseconds']:>12.1f}" for at in POSITIONS)
            + "".join(f"{m['generation'][at]['state_bytes'] / 1024:>12.1f}" for at in POSITIONS)
        )
    return "\n".join(["", *lines])


def plot(result: Mapping[str, Any], path: PathLike | None = None) -> Figure:
    """Training loss over tokens; time and state of one more token over its position (extra: ``plot``)."""
    from rnnfast.plot import finish, new_figure

    figure, (left, middle, right) = new_figure(3)
    for kind, colour in zip(KINDS, ("#1b7837", "#b2182b", "#2166ac")):
        m = result["models"][kind]
        seen, loss = (np.asarray(part, float) for part in zip(*m["curve"]))
        width = max(1, len(loss) // 40)
        smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
        left.plot(seen[width - 1 :] / 1e3, smooth, color=colour, label=f"{kind}, test perplexity {m['perplexity']:.2f}")
        costs = [m["generation"][at] for at in POSITIONS]
        middle.semilogx(POSITIONS, [c["microseconds"] for c in costs], "o-", color=colour, label=kind)
        right.loglog(POSITIONS, [c["state_bytes"] / 1024 for c in costs], "o-", color=colour, label=kind)
    left.set_xlabel("thousand tokens seen")
    left.set_ylabel("training loss, nats per character")
    left.set_title("Learning", fontsize=10)
    middle.set_ylabel("microseconds for one more token")
    middle.set_ylim(bottom=0)
    middle.set_title("Time to generate", fontsize=10)
    right.set_ylabel("KiB of state")
    right.set_title("Memory to generate", fontsize=10)
    for axes in (middle, right):
        axes.set_xlabel("position in the text")
        axes.set_xticks(POSITIONS, [f"{at:,}" for at in POSITIONS])
        axes.minorticks_off()
    for axes in (left, middle, right):
        axes.legend(fontsize=8)
    return finish(figure, path, dpi=150)
