"""The cases: each gives the same work to rnnfast and to PyTorch, with the same weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np

import rnnfast as rf


@dataclass
class Case:
    """Programs to time by peer; calling one does the work once and returns what is compared before the clock starts."""

    name: str
    flops: float
    programs: dict[str, Callable[[], Any]] = field(default_factory=dict)
    tolerance: float = 1e-4


GRID = [
    (35, 1, 128, 128),
    (35, 1, 256, 256),
    (35, 8, 256, 256),
    (35, 32, 28, 256),
    (35, 32, 256, 256),
    (35, 20, 650, 650),
    (64, 64, 512, 512),
]
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch


def _layer(cell: str, D: int, H: int) -> tuple[Any, Any, Any]:
    torch = _torch()
    layer = getattr(rf, cell)(D, H, seed=0)
    twin = None
    if torch is not None:
        twin = getattr(torch.nn, cell)(D, H)
        twin.load_state_dict({n: torch.from_numpy(v) for n, v in layer.state_dict().items()})
    return torch, layer, twin


def forward(cell: str, T: int, N: int, D: int, H: int) -> Case:
    """Inference over a whole sequence, nothing saved; PyTorch in inference mode."""
    torch, layer, twin = _layer(cell, D, H)
    x = np.random.default_rng(0).normal(size=(T, N, D)).astype(np.float32)
    case = Case(f"forward {cell} {T}x{N}x{D}x{H}", 2.0 * T * N * GATES[cell] * H * (D + H))
    case.programs["rnnfast"] = lambda: layer(x)[0]
    if torch is not None:
        tensor = torch.from_numpy(x)

        def run() -> Any:
            with torch.inference_mode():
                return twin(tensor)[0].numpy()

        case.programs["torch"] = run
    return case


def train(cell: str, T: int, N: int, D: int, H: int) -> Case:
    """Forward, backward and all gradients, the input's too."""
    torch, layer, twin = _layer(cell, D, H)
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(size=(T, N, size)).astype(np.float32) for size in (D, H))
    case = Case(f"train {cell} {T}x{N}x{D}x{H}", 6.0 * T * N * GATES[cell] * H * (D + H))

    def ours() -> Any:
        layer.zero_grad()
        _, _, backward = layer.forward(x)
        return backward(dy)[0]

    case.programs["rnnfast"] = ours
    if torch is not None:
        tensor, gradient = torch.from_numpy(x.copy()).requires_grad_(), torch.from_numpy(dy)

        def theirs() -> Any:
            twin.zero_grad()
            tensor.grad = None
            twin(tensor)[0].backward(gradient)
            return tensor.grad.numpy()

        case.programs["torch"] = theirs
    return case


def language_model(cell: str, T: int, N: int, V: int, E: int, H: int, layers: int) -> Case:
    """One training step: loss, gradients, clipping by norm, SGD. E = 0 is one-hot input."""
    torch = _torch()
    ids = np.random.default_rng(0).integers(0, V, (T + 1, N)).astype(np.int32)
    x, y = ids[:-1].copy(), ids[1:].copy()
    model = rf.LanguageModel(V, cell=cell.lower(), embedding_size=E, hidden_size=H, num_layers=layers, seed=0)
    initial = model.state_dict()
    optimizer = rf.SGD(model, lr=1e-3)
    G = GATES[cell]
    per_token = sum(G * H * ((H if k or E else 0) + H) for k in range(layers)) + V * H
    case = Case(f"lm {cell} T={T} N={N} V={V} E={E} H={H}x{layers}", 6.0 * T * N * per_token, tolerance=1e-3)

    def ours() -> float:
        loss, _ = model.loss(x, y)
        model.backward()
        rf.clip_grad_norm_(model, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    case.programs["rnnfast"] = ours
    if torch is not None:
        nn = torch.nn
        width = E or V
        embedding = nn.Embedding(V, E) if E else None
        rnn, output = getattr(nn, cell)(width, H, layers), nn.Linear(H, V)
        tensors = {name: torch.from_numpy(value) for name, value in initial.items()}
        rnn.load_state_dict({n[4:]: v for n, v in tensors.items() if n.startswith("rnn.")})
        output.load_state_dict({n[7:]: v for n, v in tensors.items() if n.startswith("output.")})
        if embedding is not None:
            embedding.load_state_dict({"weight": tensors["embedding.weight"]})
        parameters = [*rnn.parameters(), *output.parameters(), *(embedding.parameters() if embedding else ())]
        sgd = torch.optim.SGD(parameters, lr=1e-3)
        inputs, targets = torch.from_numpy(x).long(), torch.from_numpy(y).long().flatten()

        def theirs() -> float:
            hidden, _ = rnn(embedding(inputs) if embedding else nn.functional.one_hot(inputs, V).float())
            loss = nn.functional.cross_entropy(output(hidden).flatten(0, 1), targets)
            sgd.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            sgd.step()
            return loss.item()

        case.programs["torch"] = theirs
    return case


def all_cases(kinds: list[str], cells: list[str]) -> list[Callable[[], Case]]:
    """Makers of the chosen cases, so that only one case's memory is alive at a time."""
    makers: list[Callable[[], Case]] = []
    for cell in cells:
        for shape in GRID:
            if "layers" in kinds:
                makers.append(lambda cell=cell, shape=shape: forward(cell, *shape))  # type: ignore[misc]
            if "train" in kinds:
                makers.append(lambda cell=cell, shape=shape: train(cell, *shape))  # type: ignore[misc]
        if "lm" in kinds:
            for sizes in ((35, 32, 28, 0, 256, 1), (35, 20, 10_000, 200, 200, 2)):
                makers.append(lambda cell=cell, sizes=sizes: language_model(cell, *sizes))  # type: ignore[misc]
    return makers
