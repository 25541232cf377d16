"""The gradient of every row of a batch by itself, from one pass over all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable, cast

import numpy as np

from rnnfast._expect import kind_of
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.network import Groups, Network
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.nn.losses import LossLike
from rnnfast.protocols import Array, Trainable
from rnnfast.train.objective import Objective, objective_for


def per_sample_gradients(
    model: Trainable | Network, batch: Any, *, loss: LossLike | Mapping[str, LossLike] | None = None
) -> dict[str, Array]:
    r"""The gradients of each row of a batch by themselves: :math:`g_n = \partial L_n / \partial \theta`, where :math:`L_n` is the loss of row n
    alone, its mean over that row's predictions.

    The result maps the name of each parameter to an array (N, \*shape); frozen parameters are left out, and ``model.grads`` stay
    as they are. All rows run through the recurrent layers together; each row's gradient is bit-identical to that of a batch with
    this row only. Clipped, noised and averaged, these are the gradients of differentially private training.

    Memory is N times that of the parameters. Dropout acts as in training, with other masks for each row, and
    ``model.steps`` advances by one.

    Parameters
    ----------
    model : a language model, a translator, or a network
    batch : what ``model.loss`` takes: ``(x, y)`` of :func:`rnnfast.batches`, a batch of :meth:`rnnfast.ParallelCorpus.batches`; for a
        network ``(x, y)``, ``(x, y, lengths)`` or :class:`rnnfast.Examples`
    loss : of a network, as in :func:`rnnfast.fit`

    Raises ``ValueError``, ``TypeError`` and ``IndexError`` for batches as ``model.loss`` and :func:`rnnfast.fit` do.

    Source: M. Abadi et al., Deep Learning with Differential Privacy, arXiv:1607.00133, algorithm 1, line "Compute gradient".

    >>> import rnnfast as rf
    >>> model = rf.LanguageModel(5, cell="gru", hidden_size=3, seed=0)
    >>> x, y = np.array([[0, 1], [2, 3], [4, 0]]), np.array([[2, 3], [4, 0], [1, 1]])  # T = 3, N = 2
    >>> gradients = per_sample_gradients(model, (x, y))
    >>> gradients["output.weight"].shape
    (2, 5, 3)
    >>> loss, _ = model.loss(x, y)
    >>> model.backward()
    >>> bool(np.allclose(gradients["output.weight"].mean(axis=0), model.grads["output.weight"], atol=1e-6))
    True
    """
    objective = objective_for(model, loss, ())
    if not isinstance(model, (LanguageModel, Network, Seq2Seq)):
        raise TypeError(f"model is {kind_of(model)}, expected an rf.LanguageModel, an rf.Seq2Seq or an rf.Network")
    parts = objective.rows(batch)
    step, count = model.steps, len(parts)
    steps = [step * count + row + 1 for row in range(count)]
    core = cast("Any", model)._core

    def together() -> None:
        objective.group_losses(parts, None, Groups(steps, apart=True), None)
        objective.backward()

    try:
        if count > 1 and not objective.no_groups():
            found = core.gradients_apart(count, together)
        else:
            alone = [core.gradients_apart(1, _alone(model, objective, part, own)) for part, own in zip(parts, steps)]
            found = {name: np.concatenate([each[name] for each in alone]) for name in alone[0]}
    finally:
        model.steps = step
    model.steps = step + 1
    return {name: gradient for name, gradient in found.items() if name not in model.frozen}


def _alone(model: Trainable | Network, objective: Objective, part: Sequence[Any], step: int) -> Callable[[], None]:
    def run() -> None:
        model.steps = step - 1
        objective.loss(*part)
        objective.backward()

    return run
