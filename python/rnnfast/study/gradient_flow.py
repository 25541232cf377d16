"""The norms of gradients on their way back through time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import html
from rnnfast._arrays import as_int32
from rnnfast._expect import brief, offers
from rnnfast.files import PathLike
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.network import Network
from rnnfast.nn.embedding import Embedding
from rnnfast.nn.recurrent import LAYERS
from rnnfast.plot import finish, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class GradientFlow:
    """``norms`` (layers, T): the norm of dL/dh_t of each layer; ``gradient_norm``: that of the gradients of all weights.

    >>> import rnnfast as rf
    >>> flow = rf.gradient_flow(rf.LanguageModel(5, hidden_size=8, num_layers=2, seed=0), ([[0], [1], [2]], [[1], [2], [3]]))
    >>> flow.norms.shape, flow.gradient_norm > 0
    ((2, 3), True)
    """

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
    if model.config.get("cutoffs"):
        raise ValueError(
            "the model has an adaptive output layer: expected one with a softmax over the whole vocabulary"
        )
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(f"batch is {brief(batch)}, expected the pair (x, y)")
    x, y = as_int32(batch[0], "x"), as_int32(batch[1], "y")
    if x.ndim != 2 or x.shape != y.shape or x.size == 0:
        raise ValueError(f"x and y have shapes {x.shape} and {y.shape}, expected the same (T, N)")
    if min(x.min(), y.min()) < 0 or max(x.max(), y.max()) >= model.config["vocab_size"]:
        raise IndexError(f"token ids must be 0 to {model.config['vocab_size'] - 1}, the model's vocabulary")
    network, top = _one_by_one(model)
    runs, state = [], None
    for tokens in x:  # every step separately, to get its own gradient
        runs.append(network.run(tokens[None], state=state, train=True))
        state = runs[-1].state
    hidden = np.stack([run.outputs[top][0] for run in runs])
    weights = model.state_dict()
    dy, output_norm = _output_gradient(weights, hidden, y, last_only)
    names = [entry["name"] for entry in network.config["layers"]]
    layers = [name for name in names if name != "embedding"]
    norms = np.zeros((len(layers), len(x)))
    later: Any = None
    dembedded = np.zeros((*x.shape, model.config["embedding_size"]), np.float32)
    for t in reversed(range(len(x))):
        gradients, before = runs[t].backward({top: dy[t][None]}, later, input_gradient=False, of=names)
        for at, name in enumerate(layers):
            dh = gradients[name]
            assert dh is not None
            from_later = 0.0 if later is None else _h(later[name])[0]
            norms[at, t] = np.linalg.norm((dh[0] + from_later).astype(np.float64))
        if "embedding" in names:
            dembedded[t] = gradients["embedding"]
        later = before
    own_grads = [g for n, g in network.grads.items() if n != "embedding.weight"]
    squares = sum(float(np.square(g, dtype=np.float64).sum()) for g in own_grads)
    if "embedding" in names:
        table = np.zeros_like(weights["embedding.weight"], np.float64)
        np.add.at(table, x, dembedded)
        output_norm[0] += table if "output.weight" not in weights else 0.0
        squares += float(np.square(table).sum()) if "output.weight" in weights else 0.0
    squares += sum(float(np.square(g).sum()) for g in output_norm)
    return GradientFlow(norms, float(np.sqrt(squares)))


def _h(state: Any) -> Any:
    return state[0] if isinstance(state, tuple) else state


def _one_by_one(model: LanguageModel) -> tuple[Network, str]:
    """The model up to its last hidden state, with the layers of its stack as layers of a network; and the name of the top one."""
    config, weights = model.config, model.state_dict()
    width, hidden = config["embedding_size"], config["hidden_size"]
    layers: dict[str, Any] = {"embedding": Embedding(config["vocab_size"], width, seed=0)} if width else {}
    values = {"embedding.weight": weights["embedding.weight"]} if width else {}
    for i in range(config["num_layers"]):
        name, suffix = f"rnn{i}", f"_l{i}"
        options = {"window": config["window"]} if "window" in config else {}
        layers[name] = LAYERS[config["cell"]](hidden if i else width or config["vocab_size"], hidden, seed=0, **options)
        own = {n[4:]: w for n, w in weights.items() if n.startswith("rnn.") and n.endswith(suffix)}
        values.update((f"{name}.{n[: -len(suffix)]}_l0", w) for n, w in own.items())
    network = Network(inputs={"tokens": {"ids": config["vocab_size"]}}, layers=layers, seed=0)
    network.load_state_dict(values)
    return network, name


def _output_gradient(weights: dict[str, Any], h: Any, y: NDArray[np.int32], last_only: bool) -> tuple[Any, list[Any]]:
    """dL/dh of the top layer, and the gradients of the output's weight and bias, and of a projection's before it."""
    weight, projection = weights.get("output.weight", weights.get("embedding.weight")), weights.get("projection.weight")
    z = h if projection is None else h.astype(np.float64) @ projection.T + weights["projection.bias"]
    logits = z.astype(np.float64) @ weight.T + weights["output.bias"]
    d = np.exp(logits - logits.max(-1, keepdims=True))
    d /= d.sum(-1, keepdims=True)
    np.put_along_axis(d, y[..., None], np.take_along_axis(d, y[..., None], -1) - 1, -1)
    if last_only:
        d[:-1] = 0
    d /= y.shape[1] if last_only else y.size
    dz, gradients = d @ weight, [np.einsum("tnv,tnh->vh", d, z), d.sum((0, 1))]
    if projection is not None:
        gradients += [np.einsum("tnd,tnh->dh", dz, h), dz.sum((0, 1))]
        dz = dz @ projection
    return dz.astype(np.float32), gradients
