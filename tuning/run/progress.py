"""Progress on stderr: live lines on a terminal, plain lines elsewhere, and never a long silence."""

import sys
import time
from collections.abc import Iterable
from threading import Event, Thread
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from analysis.records.address import cleaned
from tuning.experiment.names import printable

EVERY_S = 10.0
"""Seconds between plain lines while parts are done one after the other."""
SILENCE_S = 18.0
"""Seconds after which a plain line says that the command is still at work."""
CHECKING = "checking files, tasks and PLMs"
"""What every command does first that trains something."""
BAR_WIDTHS = ((100, 24), (72, 10))
"""Columns that a terminal has at least -> width of the bar; counts and times need what is left."""


class Stages(Bars):
    """A line with bar, count and times for each stage, and below them what else there is to know, folded.

    Attributes:
        note: the text below.
    """

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The lines, the newest stage last."""
        yield from super().get_renderables()
        if self.note:
            yield Text(self.note, overflow="fold")


def columns_for(width: int) -> list[ProgressColumn]:
    """What a stage's line shows on a terminal of so many columns: the bar gives way first."""
    bars = [BarColumn(bar_width=bar) for columns, bar in BAR_WIDTHS if width >= columns]
    return [
        TextColumn("[bold]{task.description}"), *bars[:1], MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    ]  # fmt: skip


class Progress:
    """Stages with how much of them is done, the best so far and the time left."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.live = self.console.is_terminal and not self.console.is_dumb_terminal
        self.bars = Stages(*columns_for(self.console.width), console=self.console, refresh_per_second=4)
        self.began = self.said = time.monotonic()
        self.description, self.total, self.done, self.note = "", 0, 0, ""
        self._is_over = Event()

    def __enter__(self) -> Self:
        if self.live:
            self.bars.start()
        else:
            Thread(target=self._break_silence, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        if self.live:
            self.bars.note = ""
            self.bars.stop()
        sys.stderr.flush()

    def stage(self, description: str, total: int) -> None:
        """Begins a stage of so many parts."""
        self._begin(description, total)
        if self.live:
            self.bar = self.bars.add_task(description, total=total)
        else:
            self.say(f"{description}: {total} to do")

    def doing(self, description: str) -> None:
        """Begins something of which nobody can say how long it takes."""
        self._begin(description, 0)
        self.bars.note = f"{description} …"

    def _begin(self, description: str, total: int) -> None:
        self.description, self.total, self.done, self.note = description, total, 0, ""
        self.began, self.bars.note = time.monotonic(), ""

    def advance(self, note: str = "", by: int = 1) -> None:
        """Some parts are done.

        Args:
            note: best so far, studies done, or the part's name.
            by: how many.
        """
        self.done, self.note = self.done + by, note
        if self.live:
            self.bars.note = note
            self.bars.update(self.bar, advance=by)
        elif time.monotonic() - self.said >= EVERY_S or self.done >= self.total:
            self.say(self._state())

    def say(self, text: str) -> None:
        """A line for people."""
        self.said = time.monotonic()
        self.console.print(printable(cleaned(text)), markup=False, soft_wrap=True)

    def _state(self) -> str:
        """What is going on, in one line."""
        spent = time.monotonic() - self.began
        if not self.total:
            return f"{self.description}, {duration(spent)} spent"
        left = f", {duration(spent / self.done * (self.total - self.done))} left" if self.done else ""
        note = f"  {self.note}" if self.note else ""
        return f"{self.description}: {self.done}/{self.total}, {duration(spent)} spent{left}{note}"

    def _break_silence(self) -> None:
        """Says what is going on whenever nothing was said for a while, until all is over."""
        while not self._is_over.wait(min(1.0, SILENCE_S / 4)):
            if self.description and time.monotonic() - self.said >= SILENCE_S:
                self.said = time.monotonic()
                self.say(self._state())


def duration(seconds: float) -> str:
    """`1:05:09` or `5:09`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
