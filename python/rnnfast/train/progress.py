"""A progress bar whose errors never stop the training."""

from __future__ import annotations

import importlib.util
import math
import sys
from contextlib import suppress
from typing import Any

from rnnfast.models.examples import UNKNOWN
from rnnfast.train.objective import Objective

_UNITS = {"tokens": "tok", "predictions": "pred"}


class Bar:
    """A bar over the tokens of one epoch: a widget in a notebook that has ipywidgets, text elsewhere.

    ``show``: None shows it in a notebook and on a terminal only. If the stream breaks, or is missing as under ``pythonw``, only the
    bar ends.
    """

    def __init__(
        self, show: bool | None, total: int, done: int, epoch: int, epochs: float, objective: Objective
    ) -> None:
        self._bar: Any = None
        self._objective = objective
        notebook = in_notebook()
        if not (notebook or _on_terminal() if show is None else show and (notebook or sys.stderr is not None)):
            return
        if notebook and importlib.util.find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm
        else:
            from tqdm import tqdm
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._bar = tqdm(
                total=total if total < UNKNOWN else None, initial=done, unit=_UNITS[objective.unit], unit_scale=True, leave=False, dynamic_ncols=True,
                desc=f"epoch {epoch + 1}" + (f"/{math.ceil(epochs)}" if math.isfinite(epochs) else ""),
            )  # fmt: skip

    def update(self, tokens: int, loss: float) -> None:
        """Counts ``tokens`` more, at this mean ``loss``."""
        if self._bar is None:
            return
        try:
            measure, value = self._objective.measure, self._objective.recorded(loss)
            self._bar.set_postfix(
                {measure: f"{value:.2f}" if measure == "perplexity" else f"{value:.4g}"}, refresh=False
            )
            self._bar.update(tokens)
        except (OSError, ValueError):
            self._give_up()

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is None:
            return
        try:
            self._bar.close()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        self._bar.disable = True  # so that it does not write when it is garbage-collected
        self._bar = None


def tell(text: str) -> None:
    """A line on standard error, where there is one that can be written."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _on_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed
        return False
