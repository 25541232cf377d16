"""Training on minibatches of a text, of sentence pairs, or of sequences with targets, with checkpoints from which runs resume bit-identically."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, Callable, cast

import numpy as np

from rnnfast import _core
from rnnfast._arrays import positive
from rnnfast._expect import brief, kind_of, listed, offers
from rnnfast.distributed.ranks import Ranks, RanksDiffer, checksum, ranks_for
from rnnfast.evaluate import Text
from rnnfast.files import PathLike, sweep
from rnnfast.models.examples import Data
from rnnfast.models.network import Network
from rnnfast.models.supervised import Metrics
from rnnfast.nn.layer import Layer
from rnnfast.nn.losses import LossLike
from rnnfast.protocols import EpochReader, Minibatches, OptimizerName, Sampling, Trainable
from rnnfast.train.averaging import Average, average_named
from rnnfast.train.callbacks import Callback
from rnnfast.train.history import History
from rnnfast.train.objective import Objective, objective_for
from rnnfast.train.optim import OPTIMIZERS, Optimizer
from rnnfast.train.progress import Bar, tell
from rnnfast.train.pruning import sparsity_of
from rnnfast.train.run import NonFiniteLoss, Run, Settings
from rnnfast.train.schedules import Schedule, schedule_named
from rnnfast.train.signals import Interrupted, Signals

LEARNING_RATE = 2e-3
_WANTED = "a model, such as an rf.LanguageModel"


def fit(
    model: Trainable | Network,
    train: Text | Data,
    valid: Text | Data | None = None,
    *,
    loss: LossLike | Mapping[str, LossLike] | None = None,
    metrics: Metrics = (),
    epochs: int = 10,
    batch_size: int = 32,
    num_steps: int | None = None,
    optimizer: OptimizerName | Optimizer = "adam",
    lr: float | None = None,
    schedule: str | Schedule = "constant",
    minutes: float | None = None,
    average: str | Average | None = None,
    sparsity: float | None = None,
    block: tuple[int, int] = (16, 1),
    clip_norm: float | None = 1.0,
    clip_value: float | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
    patience: float | None = None,
    keep_best: bool = False,
    checkpoint: PathLike | None = None,
    checkpoint_every: float = 20.0,
    resume: bool = False,
    run: Mapping[str, object] | None = None,
    progress: bool | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
    callbacks: Sequence[Callback] = (),
    shards: int | None = None,
    distributed: Ranks | None = None,
) -> History:
    """Trains ``model`` on ``train`` and returns the history: a language model on a text, a translator on pairs, a network on
    sequences and their targets with a ``loss``.

    A model that was trained before continues from its weights, with any text and settings.

    With sequential sampling of a text the state carries over from batch to batch within an epoch, as plain numbers: gradients stop
    at the first step of each batch (truncated back-propagation through time).

    Parameters
    ----------
    train, valid : Corpus, ids or ParallelCorpus; ``valid`` is evaluated after every epoch. For an ``rf.Sequential`` or ``rf.Network``:
        ``(x, y)``, ``(x, y, lengths)`` or :class:`rnnfast.Examples`, which describes them, or batches of these: a list, or a loader
        that can be read in every epoch
    loss : of a network: ``"cross_entropy"``, ``"mse"``, ``"mae"``, ``"huber"``, ``"quantile"``, ``"binary"`` (with logits),
        ``"ctc"``, or a loss of :mod:`rnnfast.losses` with options; for several outputs, a mapping from their names
    metrics : of the validation data: a list of ``"accuracy"``, ``"mae"``, ``"mse"``, ``"error_rate"`` (of CTC), or a mapping from names
        to functions of output and target, which return a value for each prediction
    epochs, batch_size, seed : as in :func:`rnnfast.batches` and :meth:`rnnfast.ParallelCorpus.batches`
    num_steps, sampling : of a text, as in :func:`rnnfast.batches`; None: 35 and ``"sequential"``. Rows of a network's data come in
        random order, or with ``sampling="sequential"`` in theirs
    optimizer : ``"sgd"``, ``"adam"``, ``"adamw"``, or an optimizer made for this model, which has its own learning rate
    lr : learning rate; None: 0.002, or that of the checkpoint when resuming
    schedule : of the learning rate, a :mod:`rnnfast.schedules` or its name: ``"step:decay=0.5,start=4"``, ``"cosine:warmup=1"``,
        ``"onecycle:rise=0.3"``, ``"plateau:decay=0.5"``
    minutes : train for this time, with its evaluations, instead of ``epochs``. The first seconds are measured, and ``schedule`` is planned
        for as many epochs, with a fraction, as fit; the plan is corrected when the pace changes by more than 1% of the time
    average : of the weights after each step, which then take the place of the last ones in validation, in ``keep_best`` and at the
        end: ``"ema:decay=0.999"``, or ``"asgd:start=10"``, ``"asgd:trigger=5"`` (:mod:`rnnfast.averages`)
    sparsity : set this share of every matrix of the recurrent layers to zero, in blocks of the smallest mean magnitude, more and more
        blocks between 10% and 50% of the run (gradual pruning: M. Zhu and S. Gupta, arXiv:1710.01878). Streams leave such blocks out
        (docs/deploy.md). Only epochs of the whole sparsity count for ``patience`` and ``keep_best``. None: no pruning
    block : of ``sparsity``: (units, inputs), units a multiple of 16; (16, 4) makes int8 streams faster
    clip_norm, clip_value : the largest global norm, and the largest absolute value, of the gradients; None: no clipping
    patience : stop after this many epochs in a row without a lower validation perplexity or loss; None: never
    keep_best : restore the weights of the epoch with the lowest validation perplexity or loss, however training ends
    checkpoint : file to save to every ``checkpoint_every`` seconds, after every epoch, and when interrupted
    resume : continue from ``checkpoint``; the result is bit-identical to that of an uninterrupted run. A run that a callback
        stopped stays stopped. ``lr``, ``epochs`` and ``patience`` may change, which is reported and noted in ``history.notes``;
        ``ValueError`` lists all other differences: texts, vocabulary and settings
    run : any JSON value, which the checkpoint stores
    progress : show a bar; None: on a terminal and in a notebook only
    on_epoch : called with each epoch's record, after the checkpoint is written
    callbacks : see :class:`rnnfast.Callback`; ``TensorBoard(folder)`` is one
    shards : split the rows of every batch into this many groups, a power of two, and add their gradients in a binary tree: the result
        is that of any number of ranks with as many shards. The text ``valid`` is evaluated in ``shards`` parts. None: one group
    distributed : the ranks that train together, an ``rf.distributed.MPI(shards=...)``; rank 0 writes the checkpoint, calls the callbacks
        and shows progress (docs/distributed.md)

    Raises ``NonFiniteLoss`` when a number is not finite any more, and warns when the perplexity is ten times that of guessing; the
    last good checkpoint stays. Raises ``Interrupted`` after SIGINT or SIGTERM, as soon as the current step or end of an epoch is
    finished and the checkpoint written; a second Ctrl-C does not wait for that. Both have the ``history``.

    Source: R. J. Williams and J. Peng, Neural Computation 2 (1990), for truncated back-propagation through time.

    >>> import rnnfast as rf
    >>> corpus = rf.Corpus.from_text("to be or not to be " * 20)
    >>> model = rf.LanguageModel(corpus.vocab, cell="gru", hidden_size=16, seed=0)
    >>> history = fit(model, corpus, epochs=10, batch_size=4, num_steps=19, lr=2e-2, clip_norm=1.0)
    >>> history[9]["train_perplexity"] < 2 < 5 < history[0]["train_perplexity"]
    True

    A network, with a loss:

    >>> net = rf.Sequential(rf.Linear(2, 8, seed=0), rf.Tanh(), rf.Linear(8, 1, seed=1))
    >>> x = np.random.default_rng(0).normal(size=(1, 64, 2))
    >>> history = fit(net, (x, x[:, :, :1] * x[:, :, 1:]), loss="mse", epochs=2, batch_size=8)
    >>> len(history)
    2
    """
    objective = objective_for(model, loss, metrics)
    positive(epochs, "epochs")
    moving, own_lr = _optimizer_for(model, optimizer, lr)
    settings = Settings(
        epochs=epochs, schedule=schedule_named(schedule), clip_norm=clip_norm, clip_value=clip_value, keep_best=keep_best,
        patience=None if patience == math.inf else patience, checkpoint=None if checkpoint is None else Path(checkpoint),
        checkpoint_every=checkpoint_every, run=_as_json(run), progress=progress, on_epoch=on_epoch, callbacks=_as_callbacks(callbacks),
        ranks=_as_ranks(model, shards, distributed), average=average_named(average), minutes=minutes, sparsity=sparsity_of(sparsity, block),
    )  # fmt: skip
    settings.check(validates=valid is not None)
    if len(model.frozen) == len(model.parameters()):
        raise ValueError("every parameter of the model is frozen: unfreeze some with model.requires_grad_(True)")
    if resume and settings.checkpoint is None:
        raise ValueError("resume needs a checkpoint to resume from")
    read_as = objective.reading(train, batch_size=batch_size, num_steps=num_steps, sampling=sampling, seed=seed)
    for epoch in range(min(epochs, 2)):  # errors in the text appear now and not after hours
        read_as.epoch(epoch)
    for data in (train, valid):
        if data is not None:
            objective.check(data)
    rules = _rules(model, objective, moving, settings, (train, valid))
    training = _Training(Run(model, objective, moving, settings, read_as, rules), read_as, valid)
    with training.together():
        if resume:
            training.resume(own_lr)
        training.check_ranks(train)
    return training.until_the_end()


def _as_ranks(model: Trainable | Network, shards: int | None, distributed: Ranks | None) -> Ranks | None:
    ranks = ranks_for(shards, distributed)
    if ranks is not None and ranks.size > 1 and isinstance(model, Network):
        for layer in model.config["layers"]:
            types = {layer["type"], *(inner["type"] for inner in layer.get("layers", ()))}
            if "batch_norm" in types:  # each rank would move its running statistics by its own rows only
                raise ValueError(
                    f"layer {layer['name']!r} is a BatchNorm1d, whose running statistics several ranks cannot share: train on one rank, "
                    "or put a LayerNorm in its place"
                )
    return ranks


def _rules(
    model: Trainable | Network, objective: Objective, optimizer: Optimizer, settings: Settings, data: Sequence[Any]
) -> dict[str, Any]:
    """What must not change when the run is resumed."""
    rules = settings.rules(optimizer)
    if settings.checkpoint is not None:
        train, valid = map(objective.fingerprint, data)
        rules.update(frozen=sorted(model.frozen), train=train, valid=valid, **objective.rules())
    return rules


def _as_callbacks(callbacks: Sequence[Callback]) -> list[Callback]:
    given = listed(callbacks, "callbacks", "a list of rf.Callback")
    for i, callback in enumerate(given):
        offers(callback, f"callbacks[{i}]", "an rf.Callback", "on_step", "on_epoch", "on_end")
    return given


def _as_json(run: Mapping[str, object] | None) -> str:
    try:
        return json.dumps(run, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"run cannot be stored in a checkpoint as JSON: {error}") from None


class _Training:
    """The loop over epochs and batches; ``run`` has everything that a checkpoint stores."""

    def __init__(self, run: Run, read_as: EpochReader, valid: Text | Data | None) -> None:
        self.run, self.settings, self.read_as, self.valid = run, run.settings, read_as, valid

    def resume(self, lr: float | None) -> None:
        """Continues from the checkpoint."""
        assert self.settings.checkpoint is not None
        self.run.load(self.settings.checkpoint, lr, self.read_as)
        for note in self.run.notes:
            if self.settings.progress is not False and self.settings.leads:
                tell(note)

    def together(self) -> AbstractContextManager[None]:
        """Work that all ranks do."""
        ranks = self.settings.ranks
        return nullcontext() if ranks is None else ranks.together(RanksDiffer, Interrupted, NonFiniteLoss)

    def check_ranks(self, train: Text | Data) -> None:
        """Checks that all ranks train the same model in the same way on the same data."""
        run, ranks = self.run, self.settings.ranks
        if ranks is None or ranks.size == 1:
            return
        ranks.check_same(
            {
                "version of rnnfast": _core.__version__,
                "model": f"{type(run.model).__name__} {dict(run.model.config)}",
                "training text": run.objective.fingerprint(train),
                "validation text": run.objective.fingerprint(self.valid),
                "way to train": str(
                    {**run.reading, **run.rules, "lr": run.lr, "epochs": run.epochs, "patience": run.patience}
                ),
                "place to resume from": f"epoch {run.epoch + 1}, batch {run.batch}",
                "checksum of the weights": checksum(run.model.parameters()),
                "checksum of the optimizer": checksum(run.optimizer.state_dict()),
            }
        )

    def until_the_end(self) -> History:
        run, file = self.run, self.settings.checkpoint
        if file is not None and self.settings.leads:
            sweep(file)
        run.model.zero_grad()
        run.split_optimizer()
        with ExitStack() as ending:
            for callback in reversed(self.settings.callbacks):  # each is called, even if another one raises
                ending.callback(callback.on_end)
            try:
                with Signals(file) as signals:
                    try:
                        with self.together():
                            stopped = self._epochs(signals)
                            run.join_optimizer()
                    finally:
                        run.optimizer.lr = run.lr
                        if (kept := run.best or run.mean) is not None:
                            run.model.load_state_dict(kept)
            except (Interrupted, NonFiniteLoss) as end:
                end.history = run.result()
                raise
        return run.result(stopped)

    def _epochs(self, signals: Signals) -> str | None:
        """Trains the remaining epochs; the reason if they ended early."""
        run = self.run
        stopped = run.ended()
        if run.clock is not None:
            run.clock.start()
        while not run.finished(run.epoch) and stopped is None:
            started, fresh = time.monotonic(), run.tokens
            self._train_epoch(signals)
            self._end_epoch(fresh, time.monotonic() - started)
            stopped = run.ended()
            signals.check(self._of_all(signals.received))
        return stopped

    def _of_all(self, received: int) -> int:
        """The signal that any rank has received, as all ranks know."""
        ranks = self.settings.ranks
        return received if ranks is None else int(ranks.gather(np.array([float(received)])).max())

    def _train_epoch(self, signals: Signals) -> None:
        run, settings = self.run, self.settings
        source, ranks = self.read_as.epoch(run.epoch, start=run.batch), settings.ranks
        shown = settings.progress if settings.leads else False
        run.begin_average()
        bar = Bar(shown, source.tokens, run.tokens, run.epoch, run.length(run.epoch), run.objective)
        try:
            for batch in source if ranks is None else source.shards(ranks.own, ranks.shards):
                position = run.epoch + run.batch / len(source)
                run.optimizer.lr = run.lr * settings.schedule.factor(position, run.length(position), run.measured())
                before = run.tokens
                record, received, due = self._step(source, batch, signals)
                run.count_time(position := run.epoch + run.batch / len(source))
                run.prune(position)
                bar.update(run.tokens - before, run.mean_loss())
                if settings.callbacks and settings.leads:
                    with run.kept():
                        for callback in settings.callbacks:
                            callback.on_step(record)
                if received or due:
                    run.save()
                signals.check(received)
                if run.clock is not None and run.finished(position):
                    break
        finally:
            bar.close()

    def _step(self, source: Minibatches[Any], batch: Any, signals: Signals) -> tuple[dict[str, float], int, bool]:
        """One step: its record, the signal that was received, and whether it is time to save."""
        run = self.run
        if run.sharded is None:
            tokens = source.predictions(batch)
            record = run.step((*batch, run.state) if source.carries_state else tuple(batch), tokens)
            return record, signals.received, self._is_due()
        record, notes = run.step_shards(batch, source, signals.received, self._is_due())
        return record, int(notes[:, 0].max()), bool(notes[0, 1])  # a signal to any rank, the clock of rank 0

    def _is_due(self) -> bool:
        return time.monotonic() - self.run.saved_at > self.settings.checkpoint_every

    def _end_epoch(self, fresh: int, seconds: float) -> None:
        """Evaluates and saves; ``fresh``: the tokens of the epoch that were read before the run was resumed."""
        run, settings, ranks = self.run, self.settings, self.settings.ranks
        run.check_weights()
        if ranks is not None and ranks.size > 1:
            ranks.check_same({f"checksum of the weights after epoch {run.epoch + 1}": checksum(run.model.parameters())})
            seconds = ranks.first(seconds)
        record = run.finish_epoch(run.tokens - fresh, seconds)
        with run.with_average():
            if self.valid is not None:
                record.update(run.objective.validate(self.valid, ranks))
            if settings.keep_best and run.is_best(record):
                run.best = run.model.state_dict()
        if run.clock is not None:
            run.clock.evaluated()
        if settings.leads:
            with run.kept():
                for callback in settings.callbacks:  # before saving, so that a killed run remembers that it was stopped
                    run.stopped = callback.on_epoch(record, cast("Trainable", run.model)) or run.stopped
        if ranks is not None:  # a callback may have stopped the run, or added to the record
            run.stopped, kept = ranks.first((run.stopped, record))
            record.update(kept)
        run.save()
        if settings.leads:
            if settings.on_epoch is not None:
                settings.on_epoch(record)
            run.warn_if_diverging(record)


def _optimizer_for(
    model: Trainable | Network, optimizer: OptimizerName | Optimizer, lr: float | None
) -> tuple[Optimizer, float | None]:
    """The optimizer, and the learning rate if the caller gave one."""
    if not isinstance(model, Layer):
        raise TypeError(f"model is {kind_of(model)}, expected {_WANTED}")
    if isinstance(optimizer, type):
        raise TypeError(f"optimizer is the class {optimizer.__name__}; give {optimizer.__name__}(model) or its name")
    if not isinstance(optimizer, (str, Optimizer)):
        raise TypeError(f"optimizer is {kind_of(optimizer)}, expected a name, or an optimizer made for this model")
    if not isinstance(optimizer, str):
        if lr is not None and lr != optimizer.lr:
            raise ValueError(f"lr is {lr}, but the optimizer has its own, {optimizer.lr}; give one of them")
        if not optimizer.covers(model):
            raise ValueError(
                "the optimizer was made for another model and would not change this one; make one for this model"
            )
        return optimizer, optimizer.lr
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {brief(optimizer)}: expected one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[optimizer](model, lr=LEARNING_RATE if lr is None else lr), lr
