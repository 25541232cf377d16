"""A network with a loss for each of its outputs: what training and evaluation ask of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, Union

import numpy as np
from numpy.typing import NDArray

from rnnfast._expect import choice, kind_of, listed
from rnnfast.distributed.ranks import Ranks
from rnnfast.models.examples import Batch, batches_of
from rnnfast.models.network import Groups, Network, Run
from rnnfast.nn.ctc import CTCLoss, ctc_decode, edit_distance, labels_of
from rnnfast.nn.loss import Loss, numbers_of_targets
from rnnfast.nn.losses import CrossEntropyLoss, loss_named
from rnnfast.protocols import Array

Metric = Callable[[Array, Any], NDArray[Any]]
Metrics = Union[Sequence[str], Mapping[str, Metric]]
Sums = tuple[list[NDArray[Any]], list[NDArray[Any]]]  # values times weights, and weights


class Supervised:
    """A network and its losses. The loss of a network with several outputs is the sum of theirs."""

    def __init__(self, network: Network, loss: Any, metrics: Metrics = ()) -> None:
        self.network, self.losses = network, _losses(network, loss)
        self.metrics = _metrics(metrics)
        self._backward: Callable[[], object] | None = None
        self.terms: list[tuple[float, float]] = []  # mean and Σ weights of each output in the last loss

    def loss(self, *batch: Any) -> tuple[float, None]:
        """The mean loss of a :class:`Batch`, for :meth:`backward`."""
        given = Batch(*batch)
        run = self.network.run(*given.inputs, lengths=given.lengths, train=True)
        total, gradients = self._losses(run, given)
        self._backward = lambda: run.backward(gradients, input_gradient=False)
        return total, None

    def _losses(self, run: Run, given: Batch) -> tuple[float, dict[str, Array]]:
        """The sum of the losses of all outputs, and their gradients."""
        total, gradients = 0.0, {}
        self.terms = []
        for name, loss in self.losses.items():
            y, target, options = self._read(run, given, name)
            value, dy, weight = loss.weighted(y, target, **options)
            self.terms.append((value, weight))
            total += value
            gradients[name] = self._swapped(dy, name)
        return total, gradients

    def group_losses(self, parts: Sequence[Batch], groups: Groups) -> list[tuple[float, float]]:
        """The :meth:`loss` and :meth:`weight` of each of several batches of equally many rows, computed together; :meth:`backward` adds
        the gradients of their sum, times their weights unless the ``groups`` are ``apart``."""
        axis = 0 if self.network.batch_first else 1
        columns = zip(*(part.inputs for part in parts))
        lengths = _joined_lengths(parts, 1 - axis)
        run = self.network._run_groups([joined(column, axis, 1 - axis) for column in columns], lengths, groups)
        rows = parts[0].inputs[0].shape[axis]
        if any(loss.targets == "labels" for loss in self.losses.values()):
            found, gradients = self._each_part(run, parts, rows)
        else:
            found, gradients = self._parts_at_once(run, parts, rows)
        losses = []
        for terms in found:
            self.terms = terms
            losses.append((sum((value for value, _ in terms), 0.0), 1.0 if groups.apart else self.weight()))
        if not groups.apart:
            groups.weights = [weight for _, weight in losses]
        self._backward = lambda: run.backward(gradients, input_gradient=False)
        return losses

    def _each_part(
        self, run: Run, parts: Sequence[Batch], rows: int
    ) -> tuple[list[list[tuple[float, float]]], dict[str, Array]]:
        """The terms of each of several batches of ``rows`` rows, one after another, and the gradients of all."""
        gradients = {name: np.zeros_like(y) for name, y in run.outputs.items()}
        terms = []
        for i, part in enumerate(parts):
            own, places = self._part(run, slice(i * rows, (i + 1) * rows))
            _, found = self._losses(own, part)
            for name, dy in found.items():
                gradients[name][places[name]] = dy
            terms.append(self.terms)
        return terms, gradients

    def _parts_at_once(
        self, run: Run, parts: Sequence[Batch], rows: int
    ) -> tuple[list[list[tuple[float, float]]], dict[str, Array]]:
        """:meth:`_each_part`, with the losses of all predictions computed together: only their sums are those of a part."""
        whole, gradients = self._joined_targets(parts), {}
        terms: list[list[tuple[float, float]]] = [[] for _ in parts]
        for name, loss in self.losses.items():
            y, target, options = self._read(run, whole, name)
            each = loss.terms(y, target, **options, gradient=True)
            assert each.gradient is not None
            lengths = options.get("lengths")
            for i, of_part in enumerate(terms):
                own = slice(i * rows, (i + 1) * rows)
                steps = (
                    ()
                    if name in self.network._pooled
                    else (slice(None if lengths is None else int(lengths[own].max())),)
                )
                counted = np.ascontiguousarray(each.weights[(*steps, own)])
                total = float(counted.sum(dtype=np.float64))
                if not total > 0:
                    each.gradient[(*steps, own)] = 0.0
                    of_part.append((0.0, 0.0))
                    continue
                losses = np.ascontiguousarray(each.losses[(*steps, own)])
                each.gradient[(*steps, own)] *= np.float32(1 / total)
                of_part.append((float(losses.sum(dtype=np.float64)) / total, total))
            gradients[name] = self._swapped(each.gradient, name)
        return terms, gradients

    def _joined_targets(self, parts: Sequence[Batch]) -> Batch:
        """Of several batches, with as many steps as the longest has."""
        rows = 0 if self.network.batch_first else 1

        def side_by_side(arrays: Sequence[NDArray[Any]], pooled: bool) -> NDArray[Any]:
            if pooled or arrays[0].ndim < 2:
                return np.concatenate(arrays)
            return joined(arrays, rows, 1 - rows)

        targets = {
            name: side_by_side([np.asarray(part.targets[name]) for part in parts], name in self.network._pooled)
            for name in self.losses
        }
        own = [part.weights for part in parts if part.weights is not None]
        return parts[0]._replace(targets=targets, weights=side_by_side(own, False) if own else None)

    def _part(self, run: Run, rows: slice) -> tuple[Run, dict[str, tuple[slice, ...]]]:
        """Some rows of a run, without the steps that none of them has, and where they lie in the outputs."""
        outputs, lengths = {}, {}
        places: dict[str, tuple[slice, ...]] = {}
        for name, y in run.outputs.items():
            every = run.lengths[name]
            own = None if every is None else np.asarray(every[rows])
            steps = slice(None) if own is None else slice(int(own.max()))
            places[name] = (
                (rows,)
                if name in self.network._pooled
                else (rows, steps)
                if self.network.batch_first
                else (steps, rows)
            )
            outputs[name] = np.ascontiguousarray(y[places[name]])
            lengths[name] = None if own is None or (own == own[0]).all() else own
        return Run(outputs, lengths, {}, run.backward), places

    def weight(self) -> float:
        """Σ weights of the last loss, a mean, in a mean over several batches."""
        weights = [weight for _, weight in self.terms]
        if any(weight != weights[0] for weight in weights):
            raise ValueError(
                f"the outputs {', '.join(self.losses)} have the weights {', '.join(f'{w:g}' for w in weights)} in a shard; shards "
                "need outputs that predict equally often: leave out shards and distributed"
            )
        return weights[0]

    def backward(self) -> None:
        """Adds the gradients of the last loss to those of the network."""
        if self._backward is None:
            raise ValueError("nothing was saved for backward: call loss first")
        self._backward()
        self._backward = None

    def evaluate(self, data: Any, batch_size: int, ranks: Ranks | None = None) -> tuple[float, int, dict[str, float]]:
        """The loss, the number of predictions, and the metrics; the same bits for any ``batch_size`` and any number of ranks."""
        sums: dict[tuple[str, str], Sums] = {}
        ranks = Ranks(1) if ranks is None else ranks
        batches = batches_of(self.network, self.losses, data, batch_size)
        for batch in itertools.islice(batches, ranks.rank, None, ranks.size):
            run = self.network.run(*batch.inputs, lengths=batch.lengths)
            for name, loss in self.losses.items():
                y, target, options = self._read(run, batch, name)
                terms = loss.terms(y, target, **options)
                _add(sums, (name, ""), terms.losses, terms.weights)
                for metric, function in self.metrics.items():
                    values = np.asarray(function(loss, y, target, options.get("lengths")), np.float64)
                    if values.shape != terms.weights.shape:
                        raise ValueError(
                            f"the metric {metric} has values of shape {values.shape}, expected {terms.weights.shape}: one per prediction"
                        )
                    counts = terms.weights > 0
                    weights = _plain_weights(terms.weights, options.get("weights"))
                    _add(sums, (name, metric), np.where(counts, values, 0) * weights, weights)
        if ranks.size > 1:
            every, sums = ranks.all(sums), {}
            for own in every:
                for key, (terms_of, weights_of) in own.items():
                    sums.setdefault(key, ([], []))[0].extend(terms_of)
                    sums[key][1].extend(weights_of)
        means = {key: _mean(*both) for key, both in sums.items()}
        count = sum(int((w > 0).sum()) for (_, metric), (_, ws) in sums.items() if not metric for w in ws)
        several = len(self.losses) > 1
        named = {f"{name}.{metric}" if several else metric: v for (name, metric), v in means.items() if metric}
        return math.fsum(v for (_, metric), v in means.items() if not metric), count, named

    def _read(self, run: Run, batch: Batch, name: str) -> tuple[Array, Any, dict[str, Any]]:
        """An output with steps first, its target, and the weights and lengths of the loss."""
        y, target, weights = run.outputs[name], batch.targets[name], batch.weights
        if name in self.network._pooled:
            if weights is not None and weights.ndim > 1:
                raise ValueError(f"weights has shape {weights.shape}, expected one for each row of the output {name!r}")
            return y, target, {"weights": weights}
        y = self._swapped(y, name)
        if self.losses[name].targets != "labels":
            target = self._swapped(np.asarray(target), name)
            if weights is not None:
                whole = self._swapped(weights, name) if weights.ndim > 1 else np.broadcast_to(weights, y.shape[:2])
                weights = whole
        return y, target, {"weights": weights, "lengths": run.lengths[name]}

    def _swapped(self, array: NDArray[Any], name: str) -> NDArray[Any]:
        """Between the network's layout and steps first."""
        if not self.network.batch_first or name in self.network._pooled or array.ndim < 2:
            return array
        return np.ascontiguousarray(array.swapaxes(0, 1))


def joined(arrays: Sequence[NDArray[Any]], rows: int, steps: int, padding: int = 0) -> NDArray[Any]:
    """Batches side by side, with ``padding`` behind the shorter ones; ``rows`` and ``steps``: the axes."""
    most = max(array.shape[steps] for array in arrays)
    if all(array.shape[steps] == most for array in arrays):
        return np.concatenate(arrays, axis=rows)
    shape = list(arrays[0].shape)
    shape[rows], shape[steps] = sum(array.shape[rows] for array in arrays), most
    whole = np.full(shape, padding, arrays[0].dtype)
    first = 0
    for array in arrays:
        own = [slice(None)] * array.ndim
        own[rows], own[steps] = slice(first, first + array.shape[rows]), slice(array.shape[steps])
        whole[tuple(own)] = array
        first += array.shape[rows]
    return whole


def _joined_lengths(parts: Sequence[Batch], steps: int) -> NDArray[Any] | None:
    """Those of all rows; None if each has all steps."""
    every = [part.inputs[0].shape[steps] for part in parts]
    if all(part.lengths is None for part in parts) and len(set(every)) == 1:
        return None
    rows = parts[0].inputs[0].shape[1 - steps]
    own = [
        np.full(rows, count, np.int32) if part.lengths is None else part.lengths for part, count in zip(parts, every)
    ]
    return np.concatenate(own)


def _add(sums: dict[tuple[str, str], Sums], key: tuple[str, str], values: NDArray[Any], weights: NDArray[Any]) -> None:
    both = sums.setdefault(key, ([], []))
    both[0].append(values[weights > 0])
    both[1].append(weights[weights > 0])


def _mean(values: Iterable[NDArray[Any]], weights: Iterable[NDArray[Any]]) -> float:
    """Exactly rounded sums, which do not depend on an order."""
    total = math.fsum(float(w) for part in weights for w in part.ravel())
    return math.fsum(float(v) for part in values for v in part.ravel()) / total if total > 0 else math.nan


def _plain_weights(counted: NDArray[Any], given: Any) -> NDArray[Any]:
    """The caller's weights, without those of classes, where a prediction counts."""
    return (counted > 0) * (1.0 if given is None else np.asarray(given, np.float64))


def _losses(network: Network, loss: Any) -> dict[str, Loss]:
    """The loss of each output."""
    names = network._outputs
    if isinstance(loss, Mapping):
        if set(loss) != set(names):
            raise ValueError(f"loss names {', '.join(map(str, loss))}, expected the outputs: {', '.join(names)}")
        return {name: loss_named(loss[name], f"loss of {name!r}") for name in names}
    if len(names) > 1:
        raise ValueError(f"the network has the outputs {', '.join(names)}: give loss={{name: loss, ...}}")
    return {names[0]: loss_named(loss)}


# Metrics --------------------------------------------------------------------------------------------------------------


def _accuracy(loss: Loss, y: Array, target: Any, lengths: Any) -> NDArray[Any]:
    if isinstance(loss, CrossEntropyLoss):
        return np.asarray(y.argmax(-1) == np.asarray(target))
    if loss.targets != "numbers":
        raise ValueError("accuracy is for cross_entropy and binary; for ctc there is error_rate")
    right = (y > 0) == (numbers_of_targets(target, y.shape) > 0.5)
    return np.asarray(right.mean(-1))


def _absolute(loss: Loss, y: Array, target: Any, lengths: Any) -> NDArray[Any]:
    return np.asarray(np.abs(y - _numbers(loss, y, target, "mae")).mean(-1, dtype=np.float64))


def _squared(loss: Loss, y: Array, target: Any, lengths: Any) -> NDArray[Any]:
    return np.asarray(np.square(y - _numbers(loss, y, target, "mse")).mean(-1, dtype=np.float64))


def _numbers(loss: Loss, y: Array, target: Any, name: str) -> Array:
    if loss.targets != "numbers":
        raise ValueError(f"{name} is for losses of numbers, not for {type(loss).__name__}")
    return numbers_of_targets(target, y.shape)


def _error_rate(loss: Loss, y: Array, target: Any, lengths: Any) -> NDArray[Any]:
    """Edits between the decoded labels and the true ones, for each true label."""
    if not isinstance(loss, CTCLoss):
        raise ValueError("error_rate is for ctc; for cross_entropy and binary there is accuracy")
    labels = labels_of(target, y.shape[1], y.shape[2], loss.blank)
    decoded = ctc_decode(y, lengths, blank=loss.blank)
    pairs = zip(decoded, labels.ids, labels.lengths)
    return np.array([edit_distance(found, true[:count]) / max(1, count) for found, true, count in pairs])


_Function = Callable[[Loss, Array, Any, Any], NDArray[Any]]
METRICS: dict[str, _Function] = {"accuracy": _accuracy, "mae": _absolute, "mse": _squared, "error_rate": _error_rate}


def _metrics(metrics: Metrics) -> dict[str, _Function]:
    if isinstance(metrics, Mapping):
        for name, function in metrics.items():
            if not callable(function):
                raise TypeError(f"the metric {name} is {kind_of(function)}, expected a function of output and target")
        return {name: _of_pair(function) for name, function in metrics.items()}
    names = listed(metrics, "metrics", "a list of names, or a mapping from names to functions")
    return {name: METRICS[choice(name, METRICS, "metric")] for name in names}


def _of_pair(function: Metric) -> _Function:
    return lambda loss, y, target, lengths: function(y, target)
