"""Gradients that explode and vanish, and what clipping changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rnnfast import html
from rnnfast._arrays import positive
from rnnfast.files import PathLike
from rnnfast.plot import finish, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Reals = NDArray[np.float64]
_HEADS = ("spectral radius", "|dL/dh_1| / |dL/dh_T|", "|dL/dW_hh|", "last loss", "with clipping")


@dataclass(frozen=True)
class ExplodingGradients:
    """``norms`` (radii, T): ‖dL/dh_t‖; ``gradient_norms`` (radii,): ‖dL/dW_hh‖ before the first update; ``losses`` and
    ``clipped_losses`` (radii, updates): of gradient descent without and with clipping to ``clip_norm``. A loss that is no
    longer a number is inf.

    >>> from rnnfast.study import exploding_gradients
    >>> found = exploding_gradients((0.5, 2.0), num_steps=20, updates=5)
    >>> found.norms.shape, found.losses.shape
    ((2, 20), (2, 5))
    """

    spectral_radius: tuple[float, ...]
    norms: Reals
    gradient_norms: Reals
    losses: Reals
    clipped_losses: Reals
    clip_norm: float

    def _rows(self) -> list[list[str]]:
        return [
            [f"{radius:g}", f"{norms[0] / norms[-1]:.1e}", f"{norm:.1e}", f"{plain[-1]:.3g}", f"{clipped[-1]:.3g}"]
            for radius, norms, norm, plain, clipped in zip(
                self.spectral_radius, self.norms, self.gradient_norms, self.losses, self.clipped_losses
            )
        ]

    def __str__(self) -> str:
        rows = [[*_HEADS], *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS))]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)

    def _repr_html_(self) -> str:
        return html.table(f"Gradients over {self.norms.shape[1]} steps", _HEADS, self._rows())

    def plot(self, path: PathLike | None = None) -> Figure:
        """‖dL/dh_t‖ over the steps, and the loss over the updates, dashed with clipping (extra: ``plot``)."""
        figure, (left, right) = new_figure(2)
        for i, radius in enumerate(self.spectral_radius):
            left.plot(np.arange(1, self.norms.shape[1] + 1), self.norms[i], color=f"C{i}", label=f"radius {radius:g}")
            right.plot(self.losses[i], color=f"C{i}", label=f"radius {radius:g}")
            right.plot(self.clipped_losses[i], "--", color=f"C{i}", label=f"radius {radius:g}, clipped")
        left.set(xlabel="step t", ylabel="norm of dL/dh_t", yscale="log")
        right.set(xlabel="update", ylabel="loss", yscale="log")
        left.legend()
        right.legend()
        return finish(figure, path)


def exploding_gradients(
    spectral_radius: float | Iterable[float] = (0.5, 1.0, 1.2),
    *,
    hidden_size: int = 32,
    num_steps: int = 30,
    clip_norm: float = 1.0,
    lr: float = 0.01,
    updates: int = 100,
    seed: int = 0,
) -> ExplodingGradients:
    r"""Gradients of a network h_t = W_hh h_{t-1}, without a nonlinearity, whose W_hh has a given spectral radius.

    :math:`\partial L / \partial h_t = (W_{hh}^T)^{T-t}\, \partial L / \partial h_T`, so the norm changes by about the spectral radius, the
    largest absolute eigenvalue, per step. h_1 is the input, and the last state has to give its sign.
    Gradient descent changes W_hh and the weights that read h_T, once as it is and once with all gradients scaled to a norm of at
    most ``clip_norm``.

    Parameters
    ----------
    spectral_radius : one or several
    hidden_size, num_steps : H and T
    clip_norm, lr, updates : θ, η and the number of updates by g ← min(1, θ / ‖g‖) g
    seed : of the weights and inputs

    Computed in double precision NumPy. Source: R. Pascanu, T. Mikolov and Y. Bengio, arXiv:1211.5063.

    >>> study = exploding_gradients((0.5, 2.0), num_steps=20, updates=5)
    >>> bool(study.norms[0, 0] < 1e-3 < 1e3 < study.norms[1, 0])
    True
    """
    given = spectral_radius if isinstance(spectral_radius, Iterable) else (spectral_radius,)
    radii = tuple(float(radius) for radius in given)
    for name, number in (*(("spectral_radius", radius) for radius in radii), ("clip_norm", clip_norm), ("lr", lr)):
        if not (number > 0 and np.isfinite(number)):
            raise ValueError(f"{name} is {number}, expected a number above 0")
    if not radii:
        raise ValueError("spectral_radius is empty, expected at least one number")
    for name, count in (("hidden_size", hidden_size), ("num_steps", num_steps), ("updates", updates)):
        positive(count, name)
    random = np.random.default_rng(seed)
    drawn = random.normal(size=(hidden_size, hidden_size))
    drawn /= np.abs(np.linalg.eigvals(drawn)).max()
    readout = random.normal(size=hidden_size) / np.sqrt(hidden_size)
    signs = np.where(np.arange(8) % 2, 1.0, -1.0)  # of the first inputs of eight sequences
    first = np.outer(signs, random.normal(size=hidden_size)) + 0.1 * random.normal(size=(8, hidden_size))
    found = [_backward(radius * drawn, readout, first, signs, num_steps) for radius in radii]
    curves = [
        [_descend(radius * drawn, readout, (first, signs, num_steps), (lr, updates, limit)) for radius in radii]
        for limit in (np.inf, float(clip_norm))
    ]
    norms, weight_norms = np.array([f[1] for f in found]), np.array([np.linalg.norm(f[2]) for f in found])
    return ExplodingGradients(radii, norms, weight_norms, np.array(curves[0]), np.array(curves[1]), float(clip_norm))


def _backward(w: Reals, v: Reals, first: Reals, signs: Reals, steps: int) -> tuple[float, Reals, Reals, Reals]:
    """The loss, ‖dL/dh_t‖ for every t, dL/dW_hh and dL/dv of the mean squared error of v . h_T."""
    states = [first]
    for _ in range(steps - 1):
        states.append(states[-1] @ w.T)
    error = states[-1] @ v - signs
    dh = np.outer(error, v) / len(signs)
    dv, dw, norms = error @ states[-1] / len(signs), np.zeros_like(w), np.zeros(steps)
    for t in reversed(range(steps)):
        norms[t] = np.linalg.norm(dh)
        if t:
            dw += dh.T @ states[t - 1]
            dh = dh @ w
    return float(np.mean(error**2) / 2), norms, dw, dv


def _descend(w: Reals, v: Reals, data: tuple[Reals, Reals, int], how: tuple[float, int, float]) -> list[float]:
    """The losses of gradient descent, ended by inf once one is not a number."""
    lr, updates, limit = how
    losses: list[float] = []
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(updates):
            loss, _, dw, dv = _backward(w, v, *data)
            if not np.isfinite(loss):
                return losses + [np.inf] * (updates - len(losses))
            losses.append(loss)
            scale = min(1.0, limit / max(float(np.sqrt((dw**2).sum() + (dv**2).sum())), 1e-300))
            w, v = w - lr * scale * dw, v - lr * scale * dv
    return losses
