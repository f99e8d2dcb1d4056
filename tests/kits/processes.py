"""Processes below another, by what their command lines say."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TRIAL = (b"ray::PandaTrainable", b"ray::ResourceTrainable")
"""What Ray calls a process of trials: between calls, and while it runs one."""


def descendants(pid: int) -> Iterator[int]:
    """The processes below one, as far as they are still there."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue  # the thread has just ended
        for child in map(int, children):
            yield child
            yield from descendants(child)


def process_below(pid: int, *names: bytes) -> int:
    """The process below one whose command line has one of the names in it; 0 while there is none."""
    for process in descendants(pid):
        try:
            line = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue  # it has just ended
        if any(name in line for name in names):
            return process
    return 0


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process does nothing within the block."""
    assert pid, "there is no such process"  # 0 would be all of our own group
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
