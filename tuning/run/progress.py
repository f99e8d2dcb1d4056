"""Progress on stderr: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

EVERY_S = 10.0
"""Seconds between plain lines."""


class Progress:
    """Stages with how much of them is done, the best so far and the time left."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        columns = ("[bold]{task.description}", "{task.fields[note]}")
        self.bars = Bars(
            TextColumn(columns[0]), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn(columns[1]), console=self.console,
        )  # fmt: skip
        self.live = self.console.is_terminal
        self.began = self.said = 0.0
        self.description, self.total, self.done = "", 0, 0

    def __enter__(self) -> Self:
        if self.live:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bars.stop()
        sys.stderr.flush()

    def stage(self, description: str, total: int) -> None:
        """Begins a stage of so many parts."""
        self.description, self.total, self.done = description, total, 0
        self.began = self.said = time.monotonic()
        if self.live:
            self.bar = self.bars.add_task(description, total=total, note="")
        else:
            self.say(f"{description}: {total} to do")

    def advance(self, note: str = "", by: int = 1) -> None:
        """Some parts are done.

        Args:
            note: best so far, studies done, or the part's name.
            by: how many.
        """
        self.done += by
        if self.live:
            self.bars.update(self.bar, advance=by, note=note)
            return
        now = time.monotonic()
        if now - self.said >= EVERY_S or self.done >= self.total:
            self.said, spent = now, now - self.began
            left = spent / max(self.done, 1) * (self.total - self.done)
            self.say(
                f"{self.description}: {self.done}/{self.total}, {duration(spent)} spent, {duration(left)} left  {note}"
            )

    def say(self, text: str) -> None:
        """A line for people."""
        self.console.print(text, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """`1:05:09` or `5:09`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
