"""Signals that ask a command to stop: the first ends it in good order, the second at once."""

import os
import signal
import threading
from collections.abc import Mapping
from types import FrameType, MappingProxyType
from typing import Any, Self

GOES_ON = "stopped; the same command goes on from here"
SAID: Mapping[str, str] = MappingProxyType(dict.fromkeys(("search", "quickstart", "retrieve"), GOES_ON))
"""Command -> what is said when it is stopped, where that is more than that it is."""

STOPS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C; and what Slurm, Kubernetes and `ray job stop` send."""


class Stopping:
    """Takes the signals of this process for a block, but for those that it was started deaf to.

    Attributes:
        signal: its number; 0: none came.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heard = {number: signal.getsignal(number) for number in STOPS}
            self._before = {number: handler for number, handler in heard.items() if handler != signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            os._exit(self.exit_code)
        self.signal = number
        raise KeyboardInterrupt

    @property
    def exit_code(self) -> int:
        """As shells have it: 128 and the signal's number; Ctrl-C's where none came."""
        return 128 + (self.signal or signal.SIGINT)


def said(command: str) -> str:
    """What is told of a command that was stopped."""
    return SAID.get(command, "stopped")
