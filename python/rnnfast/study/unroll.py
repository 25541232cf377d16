"""The unrolled network, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast._arrays import as_ids, positive
from rnnfast._expect import offers
from rnnfast.files import PathLike
from rnnfast.models.language_model import LanguageModel
from rnnfast.plot import finish, literals, new_figure
from rnnfast.reference.recurrent import CELLS, NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GATES = {
    "lstm": "ifgo",
    "lstm_peephole": "ifgo",
    "gru": "rzn",
    "mgu": "fn",
    "mingru": "nz",
    "minlstm": "nfi",
    "sru": "ufr",
    "qrnn": "zfo",
}
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 16  # of a state in a terminal


@dataclass(frozen=True)
class UnrolledStep:
    """One step: the token read, the states after it (layers, H), the gates of the top layer (H,) by their letters, the most
    probable next tokens with their probabilities, and the loss -log P of the token that follows (None at the end).

    >>> import rnnfast as rf
    >>> step = rf.unroll(rf.LanguageModel(5, cell="lstm", hidden_size=8, seed=0), [0, 3, 1])[0]
    >>> step.h.shape, step.c.shape, sorted(step.gates)
    ((1, 8), (1, 8), ['f', 'g', 'i', 'o'])
    """

    token: str
    h: NDArray[np.float32]
    c: NDArray[np.float32] | None
    gates: Mapping[str, NDArray[np.float64]]
    next: Sequence[tuple[str, float]]
    loss: float | None


@dataclass(frozen=True)
class Unrolled:
    """What :func:`unroll` returns: ``steps``, displayed as a table; ``plot()`` draws the states.

    >>> import rnnfast as rf
    >>> unrolled = rf.unroll(rf.LanguageModel(5, hidden_size=8, seed=0), [0, 3, 1])
    >>> len(unrolled), [len(step.next) for step in unrolled]
    (3, [3, 3, 3])
    """

    steps: Sequence[UnrolledStep]
    model: str

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, t: int) -> UnrolledStep:
        return self.steps[t]

    @property
    def perplexity(self) -> float | None:
        """exp of the mean loss; None for a single token, after which nothing is predicted."""
        losses = [step.loss for step in self.steps if step.loss is not None]
        return float(np.exp(np.mean(losses))) if losses else None

    def _title(self) -> str:
        return self.model if self.perplexity is None else f"{self.model}; perplexity {self.perplexity:.3f}"

    def __str__(self) -> str:
        rows = [self._heads(), *(self._row(t) for t in range(len(self)))]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [self._title()]
        return "\n".join(
            lines + ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        )

    def _heads(self) -> list[str]:
        gates = " ".join(self.steps[0].gates)
        state = f"h ({' × '.join(map(str, self.steps[0].h.shape))})"
        return ["t", "token", state, *([f"mean of {gates}"] if gates else []), "most probable next", "loss"]

    def _row(self, t: int) -> list[str]:
        step = self.steps[t]
        gates = " ".join(f"{float(gate.mean()):.2f}" for gate in step.gates.values())
        following = "  ".join(f"{token!r} {p:.2f}" for token, p in step.next)
        loss = "" if step.loss is None else f"{step.loss:.3f}"
        return [str(t + 1), repr(step.token), _spark(step.h[-1]), *([gates] if gates else []), following, loss]

    def _repr_html_(self) -> str:
        rows = []
        for t, step in enumerate(self.steps):
            cells = [escape(cell) for cell in self._row(t)]
            cells[2] = _heat(step.h[-1])
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        head = "".join(f"<th>{escape(name)}</th>" for name in self._heads())
        caption = escape(self._title())
        return (
            f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )

    def plot(self, path: PathLike | None = None) -> Figure:
        """The top layer's state over the steps as a heat map, written to ``path`` if given (extra: ``plot``)."""
        figure, axes = new_figure()
        axes.grid(False)
        states = np.stack([step.h[-1] for step in self.steps], axis=1)
        limit = float(np.abs(states).max()) or 1.0
        image = axes.imshow(states, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axes.set_xticks(range(len(self)), literals(step.token for step in self.steps))
        axes.set(xlabel="token", ylabel="unit of h_t")
        figure.colorbar(image, label="value")
        return finish(figure, path)


def unroll(model: LanguageModel, text: str | ArrayLike, *, top: int = 3) -> Unrolled:
    """The network unrolled over a text: at each step the token, the state h_t, the gates of the top layer, the ``top`` most
    probable next tokens, and the loss.

    Parameters
    ----------
    model : a LanguageModel
    text : a text, or token ids (T,)
    top : how many next tokens

    The result prints as a table, and is displayed as one with a heat map of h_t in a notebook. Gates are computed in double
    precision from the states and weights. Raises ``ValueError`` for a text without tokens.

    >>> from rnnfast.models.language_model import LanguageModel
    >>> steps = unroll(LanguageModel(5, cell="gru", hidden_size=8, seed=0), [0, 3, 1])
    >>> len(steps), sorted(steps[0].gates), steps[0].h.shape, steps[2].loss
    (3, ['n', 'r', 'z'], (1, 8), None)
    """
    offers(model, "model", "a LanguageModel", "config", "state_dict", "step")
    positive(top, "top")
    vocab, size = model.vocab, int(model.config["vocab_size"])
    if isinstance(text, str):
        if vocab is None:
            raise ValueError("the model has no vocabulary: give token ids in place of a text")
        ids = vocab.encode_text(text)
    else:
        ids = as_ids(text, "the text", size, ndim=1)
    if len(ids) == 0:
        raise ValueError("the text has no tokens, expected at least one")
    names = [str(i) for i in range(size)] if vocab is None else vocab.idx_to_token
    weights = {name: value.astype(float) for name, value in model.state_dict().items()}
    state: Any = None
    steps = []
    for t, token in enumerate(ids):
        before = state
        logits, state = model.step([int(token)], state)
        h, c = (state if isinstance(state, tuple) else (state, None))[:2]
        p = np.exp(logits[0].astype(float) - logits.max())
        p /= p.sum()
        likely = [(names[i], float(p[i])) for i in np.argsort(-p, kind="stable")[:top]]
        loss = -float(np.log(p[int(ids[t + 1])])) if t + 1 < len(ids) else None
        gates = _gates(model.config, weights, int(token), before, h)
        steps.append(UnrolledStep(names[int(token)], h[:, 0], None if c is None else c[:, 0], gates, likely, loss))
    return Unrolled(steps, f"{model.config['cell']}, {len(ids)} step{'s' * (len(ids) > 1)}")


def _gates(
    config: Mapping[str, Any], weights: dict[str, Any], token: int, before: Any, h: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """The gates of the top layer, by their letters."""
    cell, layer, size = config["cell"], int(config["num_layers"]) - 1, int(config["hidden_size"])
    if cell not in GATES:
        return {}
    if "embedding.weight" in weights:
        x = weights["embedding.weight"][[token]]
    else:
        x = np.eye(1, int(config["vocab_size"]), token)
    for below in h[:layer].astype(float):
        x = x + below if config.get("residual") else below
    start, end = ("rnn.", f"_l{layer}") if f"rnn.weight_ih_l{layer}" in weights else (f"layers.{layer}.rnn.", "_l0")
    norm = {n: w for n in ("weight", "bias") if (w := weights.get(f"layers.{layer}.norm.{n}")) is not None}
    if norm:
        x = x - (x.mean() if config["norm"] == "layer" else 0.0)
        x = x / np.sqrt((x * x).mean() + 1e-5) * norm["weight"] + norm.get("bias", 0.0)
    if config.get("window") == 2:
        x = np.hstack([x, _x_before(config, before, layer, x.shape[1])])
    parts = (before if isinstance(before, tuple) else (before, None))[:2]
    h_prev, c_prev = (np.zeros((1, size)) if part is None else part[layer].astype(float) for part in parts)
    w_ih, w_hh, b_ih, b_hh, w_c = (weights.get(start + name + end) for name in NAMES)
    assert w_ih is not None
    gx = x @ w_ih.T + (0 if b_ih is None else b_ih)
    step = CELLS[cell][0]
    if w_hh is None:
        saved = step(gx, x, h_prev, c_prev, w_c)[2]
    else:
        saved = step(gx, h_prev @ w_hh.T + (0 if b_hh is None else b_hh), h_prev, c_prev, *[w_c] * (w_c is not None))[2]
    return {letter: gate[0] for letter, gate in zip(GATES[cell], saved)}


def _x_before(config: Mapping[str, Any], before: Any, layer: int, width: int) -> Any:
    """What this layer read in the step before."""
    if before is None:
        return np.zeros((1, width))
    h, _, x = before
    if layer and not (config.get("residual") or config.get("norm")):
        return h[layer - 1]
    first = int(config["embedding_size"]) + (layer - 1) * int(config["hidden_size"]) if layer else 0
    return x[0, :, first : first + width]


def _binned(h: NDArray[np.float32]) -> NDArray[np.float64]:
    """Means of at most _WIDTH neighboring groups of units."""
    return np.array([float(part.mean()) for part in np.array_split(h, min(_WIDTH, len(h)))])


def _spark(h: NDArray[np.float32]) -> str:
    """A state as bars: the lowest is -1 or less, the highest 1 or more."""
    at = np.clip((_binned(h) + 1) / 2 * len(_BARS), 0, len(_BARS) - 1)
    return "".join(_BARS[int(i)] for i in at)


def _heat(h: NDArray[np.float32]) -> str:
    """A state as a row of colored cells: blue is -1, white 0, red 1."""
    parts = []
    for value in np.clip(h, -1, 1):
        fade = int(255 * (1 - abs(float(value))))
        color = f"rgb(255,{fade},{fade})" if value > 0 else f"rgb({fade},{fade},255)"
        parts.append(f'<span style="display:inline-block;width:4px;height:14px;background:{color}"></span>')
    return "".join(parts)
