"""PyTorch: its layers in inference mode or with autograd; its cells for streams; torch.compile and bf16 on request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.cases import Case, inputs, weights
from benchmarks.peers import Arrays, Program


class Peer:
    def __init__(
        self, threads: int, *, compiled: bool = False, single_step: bool = False, autocast: bool = False
    ) -> None:
        torch.set_num_threads(threads)
        if torch.get_num_interop_threads() != 1:  # can be set only once
            torch.set_num_interop_threads(1)
        self._compiled, self._single_step = compiled, single_step
        self._precision = partial(torch.autocast, "cpu", torch.bfloat16, enabled=autocast)
        self.version = torch.__version__

    def prepare(self, case: Case) -> Program:
        return getattr(self, "_cell_stream" if self._single_step else "_" + case.kind)(case)

    def _maybe_compiled(self, module: Any) -> Any:
        return torch.compile(module) if self._compiled else module

    def _layer(self, case: Case) -> tuple[nn.Module, Any]:
        layer = getattr(nn, case.cell)(case.D, case.H, case.layers, bidirectional=case.bidirectional)
        layer.load_state_dict(_tensors(weights(case)))
        return layer, self._maybe_compiled(layer)

    def _forward(self, case: Case) -> Program:
        layer, call = self._layer(case)
        layer.eval()
        apply, x = _whole_sequence(case, call), torch.from_numpy(inputs(case)["x"])

        def check() -> Arrays:
            with self._inference():
                return {"y": apply(x).float().numpy()}

        return Program(check, lambda: apply(x), self._inference)

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        with torch.inference_mode(), self._precision():
            yield

    def _train(self, case: Case) -> Program:
        layer, call = self._layer(case)
        data = _tensors(inputs(case))
        apply, x, dy = _whole_sequence(case, call), data["x"].requires_grad_(), data["dy"]

        def run() -> torch.Tensor:
            layer.zero_grad()
            x.grad = None
            with self._precision():
                y = apply(x)
            y.backward(dy.to(y.dtype))
            return y

        def check() -> Arrays:
            y = run().detach().float().numpy()
            return {"y": y, "dx": x.grad.numpy(), **{f"d{n}": p.grad.numpy() for n, p in layer.named_parameters()}}

        return Program(check, run)

    def _stream(self, case: Case) -> Program:
        _, call = self._layer(case)
        state = None

        def step(x: torch.Tensor) -> torch.Tensor:
            nonlocal state
            y, state = call(x[None], state)
            return y[0]

        return _stream_program(step, case)

    def _cell_stream(self, case: Case) -> Program:
        cell = getattr(nn, case.cell + "Cell")(case.D, case.H)
        cell.load_state_dict({name.replace("_l0", ""): w for name, w in _tensors(weights(case)).items()})
        call, state = self._maybe_compiled(cell), None

        def step(x: torch.Tensor) -> torch.Tensor:
            nonlocal state
            state = call(x, state)
            return state[0] if case.cell == "LSTM" else state

        return _stream_program(step, case)

    def _lm(self, case: Case) -> Program:
        start = weights(case)
        model = _LanguageModel(case)
        model.load_state_dict(_tensors(start))
        call, parameters = self._maybe_compiled(model), list(model.parameters())
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        data = {name: tensor.long() for name, tensor in _tensors(inputs(case)).items()}
        ids, targets = data["ids"], data["targets"].flatten()

        def run() -> float:
            with self._precision():
                loss = call(ids, targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            return loss.item()

        def check() -> Arrays:
            losses = np.array([run() for _ in range(3)])
            return {"loss": losses, **{f"change of {n}": v.numpy() - start[n] for n, v in model.state_dict().items()}}

        return Program(check, run)


class _LanguageModel(nn.Module):
    """The names are those of rnnfast's parts, so that its weights load as they are."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(case.V, case.D) if case.D else None
        self.rnn = getattr(nn, case.cell)(case.D or case.V, case.H, case.layers)
        self._classes, self._adaptive = case.V, bool(case.cutoffs)
        if self._adaptive:
            self.output: nn.Module = nn.AdaptiveLogSoftmaxWithLoss(case.H, case.V, list(case.cutoffs), head_bias=True)
        else:
            self.output = nn.Linear(case.H, case.V)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        one_hot = nn.functional.one_hot
        x = one_hot(ids, self._classes).float() if self.embedding is None else self.embedding(ids)
        h = self.rnn(x)[0].flatten(0, 1)
        if self._adaptive:
            return self.output(h, targets).loss
        return nn.functional.cross_entropy(self.output(h), targets)


def _tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def _whole_sequence(case: Case, layer: Any) -> Any:
    """A function from x to y. It packs ragged rows, so that PyTorch skips the steps beyond their ends, and pads them again."""
    if not case.ragged:
        return lambda x: layer(x)[0]
    lengths = torch.from_numpy(case.lengths()).long()

    def apply(x: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=True)
        return nn.utils.rnn.pad_packed_sequence(layer(packed)[0], total_length=case.T)[0]

    return apply


def _stream_program(step: Any, case: Case) -> Program:
    x = torch.from_numpy(inputs(case)["x"])
    first = x[0]

    def check() -> Arrays:
        with torch.inference_mode():
            return {"y": np.stack([step(row).numpy().copy() for row in x])}

    return Program(check, lambda: step(first), torch.inference_mode)
