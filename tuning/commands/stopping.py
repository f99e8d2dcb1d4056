"""Signals that ask a command to stop: the first ends it in good order, the second at once."""

import os
import signal
import threading
from collections.abc import Mapping
from types import FrameType, MappingProxyType

GOES_ON = "stopped; the same command goes on from here"
SAID: Mapping[str, str] = MappingProxyType(dict.fromkeys(("search", "quickstart", "retrieve"), GOES_ON))
"""Command -> what is said when it is stopped, where that is more than that it is."""

STOPS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C; and what Slurm, Kubernetes and `ray job stop` send."""


class Stopping:
    """Which signal a command was asked to stop by.

    Attributes:
        signal: its number; 0: none came.
    """

    def __init__(self) -> None:
        self.signal = 0

    def listen(self) -> None:
        """Takes the signals of this process, but for those that it was started deaf to."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOPS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._stop)

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
