"""The norms of gradients on their way back through time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import html
from rnnfast._arrays import as_int32
from rnnfast._expect import brief, offers
from rnnfast.files import PathLike
from rnnfast.models.language_model import LanguageModel
from rnnfast.nn.recurrent import LAYERS, Recurrent
from rnnfast.plot import finish, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class GradientFlow:
    """``norms`` (layers, T): the norm of dL/dh_t of each layer; ``gradient_norm``: that of the gradients of all weights."""

    norms: NDArray[np.float64]
    gradient_norm: float

    def clipped(self, clip_norm: float) -> NDArray[np.float64]:
        """The norms when the gradients are clipped to ``clip_norm``."""
        if not clip_norm > 0:
            raise ValueError(f"clip_norm is {clip_norm}, expected more than 0")
        scaled: NDArray[np.float64] = self.norms * min(1.0, clip_norm / max(self.gradient_norm, 1e-300))
        return scaled

    def _repr_html_(self) -> str:
        rows = [[layer, float(norms[0]), float(norms[-1])] for layer, norms in enumerate(self.norms)]
        caption = f"Norm of dL/dh_t over {self.norms.shape[1]} steps; of all gradients {self.gradient_norm:.4g}"
        return html.table(caption, ("layer", "first step", "last step"), rows)

    def plot(self, path: PathLike | None = None, *, clip_norm: float | None = None) -> Figure:
        """The norms over the steps, with clipping as dashed lines, written to ``path`` if given (extra: ``plot``)."""
        figure, axes = new_figure()
        steps = np.arange(1, self.norms.shape[1] + 1)
        for layer, norms in enumerate(self.norms):
            axes.plot(steps, norms, color=f"C{layer}", label=f"layer {layer}")
        if clip_norm is not None:
            for layer, norms in enumerate(self.clipped(clip_norm)):
                axes.plot(steps, norms, "--", color=f"C{layer}", label=f"layer {layer}, clipped to {clip_norm:g}")
        axes.set(xlabel="step t", ylabel="norm of dL/dh_t", yscale="log")
        axes.legend()
        return finish(figure, path)


def gradient_flow(model: LanguageModel, batch: tuple[ArrayLike, ArrayLike], *, last_only: bool = False) -> GradientFlow:
    r"""The norm of :math:`\partial L / \partial h_t` at every step of a language model's batch (x, y), each (T, N).

    L is the mean loss of the batch, or with ``last_only`` that of its last step: then a norm that falls or grows from right to
    left shows gradients that vanish or explode,
    :math:`\partial L / \partial h_t = \prod_{s>t} (\partial h_s / \partial h_{s-1})^T \, \partial L / \partial h_T`.
    Neither the weights nor their gradients are changed; there is no dropout.

    Source: R. Pascanu, T. Mikolov and Y. Bengio, arXiv:1211.5063.

    >>> from rnnfast.models.language_model import LanguageModel
    >>> model = LanguageModel(5, hidden_size=8, num_layers=2, seed=0)
    >>> gradient_flow(model, ([[0], [1], [2]], [[1], [2], [3]])).norms.shape
    (2, 3)
    """
    offers(model, "model", "a LanguageModel", "config", "state_dict", "step")
    if model.config.get("residual") or model.config.get("norm"):
        raise ValueError("the model has residuals or norms between its layers: expected one of plain recurrent layers")
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(f"batch is {brief(batch)}, expected the pair (x, y)")
    x, y = as_int32(batch[0], "x"), as_int32(batch[1], "y")
    if x.ndim != 2 or x.shape != y.shape or x.size == 0:
        raise ValueError(f"x and y have shapes {x.shape} and {y.shape}, expected the same (T, N)")
    if min(x.min(), y.min()) < 0 or max(x.max(), y.max()) >= model.config["vocab_size"]:
        raise IndexError(f"token ids must be 0 to {model.config['vocab_size'] - 1}, the model's vocabulary")
    weights = model.state_dict()
    layers = [_single_layer(model.config, weights, layer) for layer in range(model.config["num_layers"])]
    inputs = _embedded(weights, x, model.config["vocab_size"])
    backwards = []
    for layer in layers:  # every step separately, to get its own gradient
        state: Any = None
        outputs, steps = [], []
        for step in inputs:
            output, state, backward = layer.forward(step[None], state)
            outputs.append(output[0])
            steps.append(backward)
        inputs = np.stack(outputs)
        backwards.append(steps)
    dy, output_norm = _output_gradient(weights, inputs, y, last_only)
    norms = np.zeros((len(layers), len(x)))
    for at in reversed(range(len(layers))):
        later: Any = None
        below = np.zeros((*x.shape, layers[at].input_size), np.float32)
        for t in reversed(range(len(x))):
            from_later = 0.0 if later is None else (later[0] if isinstance(later, tuple) else later)[0]
            norms[at, t] = np.linalg.norm((dy[t] + from_later).astype(np.float64))
            dx, later = backwards[at][t](dy[t][None], later)
            assert dx is not None
            below[t] = dx[0]
        dy = below
    squares = sum(float(np.square(g, dtype=np.float64).sum()) for layer in layers for g in layer.grads.values())
    if "embedding.weight" in weights:
        table = np.zeros_like(weights["embedding.weight"], np.float64)
        np.add.at(table, x, dy)
        output_norm[0] += table if "output.weight" not in weights else 0.0
        squares += float(np.square(table).sum()) if "output.weight" in weights else 0.0
    squares += sum(float(np.square(g).sum()) for g in output_norm)
    return GradientFlow(norms, float(np.sqrt(squares)))


def _single_layer(config: Mapping[str, Any], weights: dict[str, Any], layer: int) -> Recurrent:
    suffix = f"_l{layer}"
    own = {n[4:]: w for n, w in weights.items() if n.startswith("rnn.") and n.endswith(suffix)}
    inputs = own[f"weight_ih{suffix}"].shape[1]
    single = LAYERS[config["cell"]](inputs, config["hidden_size"], seed=0)
    single.load_state_dict({n[: -len(suffix)] + "_l0": w for n, w in own.items()})
    return single


def _embedded(weights: dict[str, Any], x: NDArray[np.int32], vocab_size: int) -> Any:
    return weights["embedding.weight"][x] if "embedding.weight" in weights else np.eye(vocab_size, dtype=np.float32)[x]


def _output_gradient(weights: dict[str, Any], h: Any, y: NDArray[np.int32], last_only: bool) -> tuple[Any, list[Any]]:
    """dL/dh of the top layer, and the gradients of the output's weight and bias."""
    weight = weights.get("output.weight", weights.get("embedding.weight"))
    logits = h.astype(np.float64) @ weight.T + weights["output.bias"]
    d = np.exp(logits - logits.max(-1, keepdims=True))
    d /= d.sum(-1, keepdims=True)
    np.put_along_axis(d, y[..., None], np.take_along_axis(d, y[..., None], -1) - 1, -1)
    if last_only:
        d[:-1] = 0
    d /= y.shape[1] if last_only else y.size
    return (d @ weight).astype(np.float32), [np.einsum("tnv,tnh->vh", d, h), d.sum((0, 1))]
