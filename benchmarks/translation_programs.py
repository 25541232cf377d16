"""The programs of ``python -m benchmarks.translation``: rnnfast's translator and the same model in PyTorch, with one interface."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch  # first, so that both use torch's OpenMP runtime

import rnnfast as rf
from benchmarks.translation_torch import TorchSeq2Seq
from rnnfast.translate import translations

PAD, BOS, EOS = 1, 2, 3


class Ours:
    """rnnfast's model."""

    name = "rnnfast"

    def __init__(self, pairs: Any, structure: dict[str, Any], lr: float, clip: float, seed: int) -> None:
        self.model = rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, **structure, seed=seed)
        self.optimizer, self.clip = rf.Adam(self.model, lr=lr), clip

    def begin(self, epoch: int) -> None:
        """Random numbers depend only on the seed and the number of steps."""

    def step(self, batch: Any) -> float:
        loss, _ = self.model.loss(*batch)
        self.model.backward()
        rf.clip_grad_norm_(self.model, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def nll(self, batch: Any) -> np.ndarray:
        return np.asarray(self.model.nll(*batch))

    def greedy(self, sources: Sequence[Any], rows: int) -> list[str]:
        asked = [source[:-1] for source in sources]  # without <eos>
        calls = [[one] for one in asked] if rows == 1 else [asked]
        return [text for call in calls for text in rf.translate(self.model, call, batch_size=rows)]

    def search(self, sources: Sequence[Any], beam_size: int) -> tuple[list[Any], float]:
        """Returns the ids and the mean of the model's scores."""
        found = translations(self.model, [source[:-1] for source in sources], beam_size=beam_size)
        return [best.ids for [best] in found], float(np.mean([best.score for [best] in found]))

    def weights(self) -> dict[str, np.ndarray]:
        return {name: np.array(value) for name, value in self.model.state_dict().items()}

    def put(self, weights: dict[str, np.ndarray]) -> None:
        self.model.load_state_dict(weights)

    def state(self) -> dict[str, Any]:
        held = {f"optimizer/{name}": torch.from_numpy(np.array(v)) for name, v in self.optimizer.state_dict().items()}
        weights = {f"weights/{name}": torch.from_numpy(value) for name, value in self.weights().items()}
        return {**held, **weights, "steps": self.model.steps}

    def restore(self, state: dict[str, Any]) -> None:
        parts: dict[str, dict[str, np.ndarray]] = {"optimizer": {}, "weights": {}}
        for name, value in state.items():
            part, _, rest = name.partition("/")
            if rest:
                parts[part][rest] = value.numpy()
        self.put(parts["weights"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.model.steps = state["steps"]


class Rounded(Ours):
    """A trained model with 8-bit weights, for inference only."""

    name = "rnnfast_int8"

    def __init__(self, trained: Ours) -> None:
        model, sizes = trained.model, ("source_vocab_size", "target_vocab_size")
        config = {name: value for name, value in model.config.items() if name not in sizes}
        self.model = rf.Seq2Seq(model.source_vocab, model.target_vocab, **{**config, "weights": "int8"})
        self.put(trained.weights())


class Theirs:
    """The same model from torch.nn's layers, with the same initial weights."""

    name = "torch"

    def __init__(self, pairs: Any, structure: dict[str, Any], lr: float, clip: float, seed: int) -> None:
        model = rf.Seq2Seq(pairs.source_vocab, pairs.target_vocab, **structure, seed=seed)
        self.net, self.vocab, self.seed = TorchSeq2Seq(model.config), pairs.target_vocab, seed
        self.net.load(model.state_dict())
        self.optimizer = torch.optim.Adam(self.net.named().values(), lr=lr)
        self.clip, self.teacher_forcing = clip, model.config["teacher_forcing"]
        self.begin(0)

    def begin(self, epoch: int) -> None:
        torch.manual_seed(1000 * self.seed + epoch)  # dropout
        self.coins = np.random.default_rng([self.seed, epoch])

    def step(self, batch: Any) -> float:
        self.net.train()
        forced = self.coins.random(len(batch.target) - 1) < self.teacher_forcing
        counted = int((batch.target[1:] >= 0).sum())
        loss = self.net.nll(*batch, None if self.teacher_forcing == 1 else forced).sum() / counted
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        self.optimizer.step()
        return float(loss.detach())

    @torch.inference_mode()
    def nll(self, batch: Any, forced: Any = None) -> np.ndarray:
        self.net.eval()
        return self.net.nll(*batch, forced).double().numpy()

    def greedy(self, sources: Sequence[Any], rows: int) -> list[str]:
        return [self.vocab.decode(ids) for ids in self.search(sources, rows)]

    def search(self, sources: Sequence[Any], rows: int) -> list[list[int]]:
        """Decodes from short to long, so that the rows of a batch end together, and returns the ids in the given order."""
        self.net.eval()
        order, said = sorted(range(len(sources)), key=lambda i: len(sources[i])), {}
        for begin in range(0, len(order), rows):
            chosen = order[begin : begin + rows]
            lengths = np.array([len(sources[i]) for i in chosen])
            source = np.full((lengths.max(), len(chosen)), PAD)
            for row, i in enumerate(chosen):
                source[: lengths[row], row] = sources[i]
            rows_said = self.net.greedy(source, lengths, BOS, EOS, 2 * len(source) + 10)
            # the maximum length of each row does not depend on the batch, as in rnnfast
            said.update((i, row[: 2 * n + 10]) for i, n, row in zip(chosen, lengths, rows_said))
        return [said[i] for i in range(len(sources))]

    def weights(self) -> dict[str, np.ndarray]:
        return {name: p.detach().numpy().copy() for name, p in self.net.named().items()}

    def put(self, weights: dict[str, np.ndarray]) -> None:
        self.net.load(weights)

    def state(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])


def train_epoch(programs: Sequence[Any], batches: Sequence[Any], epoch: int, block: int) -> dict[str, Any]:
    """Trains all programs on the same batches, in turns of ``block``. Returns seconds of training steps and train perplexity."""
    told: dict[str, dict[str, float]] = {p.name: {"seconds": 0.0, "nll": 0.0} for p in programs}
    counts = [int((batch.target[1:] >= 0).sum()) for batch in batches]
    for program in programs:
        program.begin(epoch)
    for begin in range(0, len(batches), block):
        turn = list(zip(batches, counts))[begin : begin + block]
        for program in programs:
            tell, started = told[program.name], time.perf_counter()
            for batch, count in turn:
                tell["nll"] += program.step(batch) * count
            tell["seconds"] += time.perf_counter() - started
    record: dict[str, Any] = {"epoch": epoch + 1, "tokens": sum(counts)}
    for name, tell in told.items():
        record[f"{name}_seconds"] = tell["seconds"]
        record[f"{name}_train_perplexity"] = math.exp(tell["nll"] / sum(counts))
    return record


def perplexity(nll: Any, pairs: Any, batch_size: int = 64) -> float:
    """exp of the mean of -log P over all target tokens, including <eos>."""
    total = tokens = 0.0
    for numbers in pairs.in_order(batch_size):
        batch = pairs.batch(numbers)
        total += float(nll(batch).sum())
        tokens += int((batch.target[1:] >= 0).sum())
    return math.exp(total / tokens)


def free_perplexity(twin: Theirs, weights: dict[str, np.ndarray], pairs: Any) -> float:
    """Perplexity of a model that reads its own choices and predicts the true next token, which the tutorial reports.

    The PyTorch model computes it for both programs, because rnnfast has no such evaluation.
    """
    before = twin.weights()
    twin.put(weights)
    try:
        return perplexity(lambda batch: twin.nll(batch, [True] + [False] * (len(batch.target) - 2)), pairs)
    finally:
        twin.put(before)


def bleu(ids: Sequence[Any], pairs: Any) -> dict[str, Any]:
    """sacreBLEU of the unchanged tokens (``tok:none``) and of readable text (13a), with their signatures."""
    vocab = pairs.target_vocab
    tokens = rf.corpus_bleu(
        [" ".join(vocab.to_tokens(row)) for row in ids], [" ".join(vocab.tokenize(text)) for text in pairs.targets],
        tokenize="none",
    )  # fmt: skip
    text = rf.corpus_bleu([vocab.decode(row) for row in ids], pairs.targets, lower=True)
    return {"tokens": tokens.score, "signature": tokens.signature, "13a": text.score, "signature_13a": text.signature}


def greedy_speed(programs: Sequence[Any], pairs: Any, rows: int, sentences: int, block: int) -> dict[str, Any]:
    """Seconds to translate the first ``sentences`` greedily, ``rows`` per call, in turns; and the share of equal translations."""
    sources = pairs.source_ids[:sentences]
    seconds, said = {p.name: 0.0 for p in programs}, {p.name: [] for p in programs}
    for program in programs:
        program.greedy(sources[:rows], rows)  # warm
    for begin in range(0, len(sources), block):
        for program in programs:
            started = time.perf_counter()
            said[program.name] += program.greedy(sources[begin : begin + block], rows)
            seconds[program.name] += time.perf_counter() - started
    told: dict[str, Any] = {"rows": rows, "sentences": len(sources)}
    told.update((f"{name}_seconds", value) for name, value in seconds.items())
    for name in seconds.keys() - {"torch"} if "torch" in seconds else ():
        told[f"{name}_ratio"] = seconds["torch"] / seconds[name]
        told[f"{name}_same"] = sum(a == b for a, b in zip(said["torch"], said[name])) / len(sources)
    return told
