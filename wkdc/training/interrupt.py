"""Ctrl-C between two steps, never within one."""

import signal
import threading
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A KeyboardInterrupt that came between two steps, so that what was learned is whole."""


class Deferred:
    """For the time of the block, what would raise KeyboardInterrupt sets `caught`.

    A second signal raises it. Outside the main thread, which alone gets signals, nothing
    changes.
    """

    def __init__(self) -> None:
        self.caught = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is signal.default_int_handler:
                    self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.caught:
            signal.default_int_handler(number, frame)
        self.caught = True
