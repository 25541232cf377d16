"""A callback that ends training after a step."""

from __future__ import annotations

import rnnfast as rf


class Enough(Exception):
    """What such a callback raises."""


class StopAt(rf.Callback):
    """Raises after a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, record):
        if record["step"] == self.step:
            raise Enough
