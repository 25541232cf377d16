"""SIGINT and SIGTERM during ``fit``: the current step is finished first."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from rnnfast.train.history import History


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM, after the current step was finished and the checkpoint written.

    The weights are those of that step, or with ``keep_best`` those of the best epoch; ``history`` has the finished epochs,
    ``number`` is the signal, ``checkpoint`` the file to resume from or None.
    """

    history = History()

    def __init__(self, number: int, checkpoint: Path | None) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number, self.checkpoint = number, checkpoint


class Signals:
    """Turns SIGINT and SIGTERM into a flag that is checked between steps, so that no step is interrupted.

    A second signal has its usual effect: Ctrl-C raises KeyboardInterrupt immediately, SIGTERM ends the program. Signals that the
    program ignores stay ignored.
    """

    def __init__(self, checkpoint: Path | None) -> None:
        self.received = 0
        self._checkpoint = checkpoint
        self._before: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            self._restore()
            signal.raise_signal(number)
        self.received = number

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, received: int | None = None) -> None:
        """Raises ``Interrupted`` if a signal was received; ``received``: by any rank, as all ranks know."""
        number = self.received if received is None else received
        if number:
            self.received = number
            raise Interrupted(number, self._checkpoint)

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (
                    None,
                    signal.SIG_IGN,
                ):  # None: a handler that was not installed from Python
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if self.received and not isinstance(error, KeyboardInterrupt):
            raise Interrupted(self.received, self._checkpoint) from error
