"""Language models that learn from the text that they have predicted: dynamic evaluation, and the neural cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rnnfast import _core
from rnnfast._arrays import positive, real
from rnnfast._expect import kind_of
from rnnfast.models.language_model import LanguageModel
from rnnfast.nn.layer import Array
from rnnfast.nn.linear import Linear
from rnnfast.text.corpus import Corpus, batches

_OF_TRAINING = ("embedding_dropout", "output_dropout", "weight_drop", "num_sampled")


def _check(value: Any, name: str, least: float, most: float = 3e38) -> None:
    if not least <= real(value, name) <= most:
        raise ValueError(f"{name} is {value}, expected {least:g} to {most:g}")


@dataclass(frozen=True, eq=False)
class DynamicEvaluation:
    r"""Dynamic evaluation: after each segment of the text, whose tokens are predicted first, a step along the gradient of its mean loss
    L, and back towards the trained weights :math:`w_0`:

    .. math:: w \leftarrow w - \eta \frac{\partial L / \partial w}{s + \epsilon} + \min(\lambda \frac{s}{\bar s}, 1) (w_0 - w)

    ``train``, the training text, gives s, the root of the mean squared gradient of each weight over ``num_batches`` batches of it;
    :math:`\bar s` is the mean of s over all weights. Without ``train`` the step is plain SGD: s = 1, without :math:`\epsilon`.

    Parameters
    ----------
    lr, decay, eps : :math:`\eta, \lambda, \epsilon`
    num_steps : tokens of a segment
    train : Corpus or ids, for the statistics
    batch_size, num_batches : of the statistics: rows of ``num_steps`` tokens in a batch, and how many batches at most

    The model is not changed. There is no dropout. Source: B. Krause et al., arXiv:1709.07432; the rule with ``train`` is "RMS + RMS decay".

    >>> import rnnfast as rf
    >>> model, text = rf.LanguageModel(3, hidden_size=4, seed=0), np.array([0, 1, 2] * 20)
    >>> rf.evaluate(model, text, dynamic=DynamicEvaluation(lr=0.5)).perplexity < rf.evaluate(model, text).perplexity
    True
    """

    lr: float = 0.002
    decay: float = 0.02
    eps: float = 0.001
    num_steps: int = 5
    train: Corpus | ArrayLike | None = None
    batch_size: int = 100
    num_batches: int = 500

    def __post_init__(self) -> None:
        _check(self.lr, "lr", 0)
        _check(self.decay, "decay", 0, 1)
        _check(self.eps, "eps", 0)
        for name in ("num_steps", "batch_size", "num_batches"):
            positive(getattr(self, name), name)


@dataclass(frozen=True)
class NeuralCache:
    r"""A neural cache: the prediction is mixed with the words that followed similar states among the last ``size`` tokens,

    .. math:: P(w) = (1 - \lambda) P_{model}(w) + \lambda \frac{\sum_i 1[w = x_{i+1}] \exp(\theta h_t \cdot h_i)}{\sum_i \exp(\theta h_t \cdot h_i)}

    h is what the output layer reads. Source: E. Grave, A. Joulin and N. Usunier, arXiv:1612.04426.

    Parameters
    ----------
    size : tokens of the cache
    theta : :math:`\theta`, how much similarity counts
    share : :math:`\lambda`, the share of the cache

    >>> import rnnfast as rf
    >>> model, text = rf.LanguageModel(3, hidden_size=4, seed=0), np.array([0, 1, 2] * 20)
    >>> rf.evaluate(model, text, cache=NeuralCache(theta=5.0, share=0.5)).perplexity < rf.evaluate(model, text).perplexity
    True
    """

    size: int = 2000
    theta: float = 0.3
    share: float = 0.1

    def __post_init__(self) -> None:
        positive(self.size, "size")
        _check(self.theta, "theta", 0)
        _check(self.share, "share", 0, 1)


class _Adapting:
    """A copy of a model whose weights move while it reads; without dropout and with the softmax of all tokens."""

    def __init__(self, model: LanguageModel, how: DynamicEvaluation | None) -> None:
        config = {name: value for name, value in model.config.items() if name not in _OF_TRAINING}
        if config.get("output") == "sampled":
            del config["output"]
        self._how = how
        self.model = model if how is None else LanguageModel.from_config({**config, "dropout": 0.0}, {})
        if how is None:
            return
        if config["weights"] == "int8":
            raise ValueError('dynamic evaluation trains, int8 weights are for inference only: load with weights="f32"')
        self.model.load_state_dict(model.state_dict())
        self._core = self.model._core
        scales = None if how.train is None else self._statistics(how)
        mean = 1.0 if scales is None else sum(float(s.sum(dtype=np.float64)) for s in scales.values())
        if scales is not None:
            mean /= sum(s.size for s in scales.values())
        if not mean > 0:
            raise ValueError("the gradients of the training text are zero: there is nothing to learn from it")
        # The core's rule has s / mean(s) in place of s.
        self._lr, eps = how.lr / mean, 0.0 if scales is None else how.eps / mean
        self._optimizer = self._core.make_optimizer(_core.OptimizerOptions("dynamic", epsilon=eps))
        for name, scale in (scales or {}).items():
            self._optimizer.state()[f"second.{name}"][...] = scale / np.float32(mean)

    def _statistics(self, how: DynamicEvaluation) -> dict[str, Array]:
        """The root of the mean squared gradient of each weight."""
        squares = {name: np.zeros_like(gradient) for name, gradient in self.model.grads.items()}
        state, count = None, 0
        assert how.train is not None
        for x, y in batches(how.train, batch_size=how.batch_size, num_steps=how.num_steps):
            _, state = self.model.loss(x, y, state)
            self.model.backward()
            for name, gradient in self.model.grads.items():
                squares[name] += np.square(gradient)
            self.model.zero_grad()
            count += 1
            if count == how.num_batches:
                break
        return {name: np.sqrt(square / np.float32(count)) for name, square in squares.items()}

    def read(self, x: NDArray[np.int32], y: NDArray[np.int32], state: Any) -> tuple[NDArray[np.float64], Any]:
        """-log P of the targets, by the weights before they move."""
        if self._how is None:
            return self.model.nll(x, y, state)
        nll, after = self.model._loss(x, y, state, train=True)
        self.model.backward()
        return nll, after

    def move(self) -> None:
        """One step along the gradient of the last segment."""
        if self._how is not None:
            self._optimizer.step(self._lr, self._how.decay)
            self._core.weights_changed()
            self._core.zero_grad()


class _Cached:
    """The states and the tokens after them that a cache holds, the oldest first, and behind them those of the segment."""

    def __init__(self, how: NeuralCache, width: int, steps: int) -> None:
        self._how, self._held, rows = how, 0, how.size + steps
        self._keys, self._words = np.zeros((rows, width), np.float32), np.full(rows, -1, np.int32)
        self._products = Linear(width, rows, bias=False, seed=0)

    def mix(self, nll: NDArray[np.float64], hidden: Array, targets: NDArray[np.int32]) -> NDArray[np.float64]:
        """-log P of the targets of some steps, mixed with the cache, which then takes them in."""
        size, count = self._how.size, len(targets)
        self._keys[size : size + count], self._words[size : size + count] = hidden, targets
        self._products.load_state_dict({"weight": self._keys})
        scores = self._products(hidden).astype(np.float64) * self._how.theta
        at = np.arange(len(self._keys))[None, :]
        back = size + np.arange(count)[:, None] - at  # 1: the token before
        scores[(back < 1) | (back > size) | (at < size - self._held)] = -np.inf
        top = scores.max(1, keepdims=True)
        weights = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
        total = weights.sum(1)
        of_target = np.where(self._words[None, :] == targets[:, None], weights, 0.0).sum(1)
        share = np.where(total > 0, self._how.share, 0.0)  # an empty cache predicts nothing
        p = (1 - share) * np.exp(-nll) + share * of_target / np.maximum(total, 1e-300)
        self._held = min(self._held + count, size)
        self._keys[:size], self._words[:size] = self._keys[count : count + size], self._words[count : count + size]
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log(p))


def adapted_nll(
    model: object, ids: NDArray[Any], dynamic: DynamicEvaluation | None, cache: NeuralCache | None
) -> NDArray[np.float64]:
    """-log P of every token of a text but the first, each given those before it."""
    if not isinstance(model, LanguageModel):
        raise TypeError(f"model is {kind_of(model)}: dynamic evaluation and caches are for an rf.LanguageModel")
    for given, kind, name in ((dynamic, DynamicEvaluation, "dynamic"), (cache, NeuralCache, "cache")):
        if given is not None and not isinstance(given, kind):
            raise TypeError(f"{name} is {kind_of(given)}, expected an rf.{kind.__name__}")
    steps = 64 if dynamic is None else dynamic.num_steps
    adapting, cached = _Adapting(model, dynamic), None
    if cache is not None:
        width = "embedding_size" if model.config.get("tie_weights") else "hidden_size"
        cached = _Cached(cache, model.config[width], steps)
    found, state = np.empty(len(ids) - 1), None
    for t in range(0, len(found), steps):
        x, y = (ids[t + i : min(t + steps, len(found)) + i].astype(np.int32)[:, None] for i in (0, 1))
        before = state
        nll, state = adapting.read(x, y, before)
        nll = nll[:, 0]
        if cached is not None:
            hidden, _ = adapting.model._core.read(x, adapting.model._split(before))
            nll = cached.mix(nll, hidden[:, 0], y[:, 0])
        found[t : t + len(nll)] = nll
        adapting.move()
    return found
