"""Training: the loop, optimizers, learning-rate schedules, callbacks, checkpoints and the history."""

from rnnfast.train.checkpoint import checkpoint_run
from rnnfast.train.fit import Interrupted, NonFiniteLoss, fit

__all__ = ["Interrupted", "NonFiniteLoss", "checkpoint_run", "fit"]
