"""Tables as text: columns side by side where a terminal is wide enough, else each row as a block of lines."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table

from tuning.experiment.names import printable

WIDTH = 200
"""Columns of a table that no terminal shows."""
UNKNOWN = "–"
GAP = "   "
"""Between two values of a block."""


def terminal_width() -> int | None:
    """Columns of the terminal that shows stdout; None where a file or a pipe takes it."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@dataclass(frozen=True)
class Grid:
    """A table, before it is known how wide its reader's terminal is.

    Attributes:
        title: above it; empty: none.
        head: names of the columns.
        rows: their cells.
        texts: how many columns in front are texts, left-aligned; the others are numbers.
        notes: lines below.
        folds: names of columns whose cells may be broken into lines to fit WIDTH.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[Sequence[str], ...]
    texts: int
    notes: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()

    def text(self, width: int | None = None) -> str:
        """The table, as wide as it is or, on a terminal that is narrower, folded.

        Args:
            width: columns of the terminal; None: there is none.
        """
        body = self._side_by_side()
        if width is not None and max(map(len, body)) > width:
            body = list(self._blocks(width))
        title = [self.title] if self.title else []
        return "\n".join([*title, *body, *wrapped(self.notes, width or WIDTH)])

    def _side_by_side(self) -> list[str]:
        table = Table(box=box.SIMPLE_HEAD)
        for number, name in enumerate(self.head):
            is_whole = name not in self.folds
            table.add_column(
                name, justify="left" if number < self.texts else "right", no_wrap=is_whole, overflow="fold"
            )
        for row in self.rows:
            table.add_row(*map(printable, row))
        console = Console(file=StringIO(), width=WIDTH, color_system=None)
        console.print(table)
        written = console.file
        assert isinstance(written, StringIO)
        return [line.rstrip() for line in written.getvalue().splitlines()]

    def _blocks(self, width: int) -> Iterator[str]:
        """Below the first cell of each row the others with their columns' names, as many to a line as fit."""
        yield ""
        for row in self.rows:
            named = [
                f"{name} {printable(cell)}" if cell not in ("", UNKNOWN) else ""
                for name, cell in zip(self.head, row, strict=True)
            ]
            yield from wrapped(map(printable, row[:1]), width)
            for part in (named[1 : self.texts], named[self.texts :]):
                yield from filled(filter(None, part), width)
            yield ""


def filled(values: Iterable[str], width: int) -> Iterator[str]:
    """Lines of values, indented, none of them broken that fits a line of its own."""
    line = ""
    for value in values:
        if line and len(f"{line}{GAP}{value}") <= width:
            line += f"{GAP}{value}"
            continue
        if line:
            yield line
        *whole, line = wrapped([f"  {value}"], width)
        yield from whole
    if line:
        yield line


def wrapped(lines: Iterable[str], width: int | None) -> list[str]:
    """Lines, broken at words where they are longer than a terminal."""
    if width is None:
        return list(lines)
    return [
        part
        for line in lines
        for part in textwrap.wrap(
            line, width, subsequent_indent="    ", replace_whitespace=False, break_on_hyphens=False
        )
        or [""]
    ]
