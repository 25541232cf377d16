"""Training: the loop, optimizers, learning-rate schedules, callbacks, checkpoints and the history."""

from rnnfast.train.checkpoint import checkpoint_run
from rnnfast.train.fit import fit
from rnnfast.train.run import NonFiniteLoss
from rnnfast.train.signals import Interrupted

__all__ = ["Interrupted", "NonFiniteLoss", "checkpoint_run", "fit"]
