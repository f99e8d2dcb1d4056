"""Tables with a header line: CSV, whose cells may be quoted, and TSV, whose quotes belong to the text."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from panda_trainable.config.origin import Note, Reading, Row
from panda_trainable.origins.lines import LINE_MIB, PLAIN, Rows, lines, listed, shown

DELIMITERS = (",", ";", "\t", "|")
CALLED = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        delimiter: divides columns.
        quoted: whether a cell may stand in quotes, in which it may hold delimiters and line breaks.
    """

    delimiter: str
    quoted: bool

    @property
    def called(self) -> str:
        """What divides the columns, in words."""
        return CALLED.get(self.delimiter, repr(self.delimiter))


@dataclass(frozen=True)
class Header:
    """The named columns of a table.

    Attributes:
        names: of all columns; empty for those that are left out.
        given_by: what has the names, for messages.
    """

    names: tuple[str, ...]
    given_by: str = "the header"

    def row(self, cells: Sequence[str]) -> Row:
        """Cells as a row, or what is wrong with their number."""
        extra = cells[len(self.names) :]
        if len(cells) < len(self.names) or any(extra):
            named = listed(name for name in self.names if name)
            return f"has {len(cells)} fields where {self.given_by} has {len(self.names)}: {named}"
        return {name: cell for name, cell in zip(self.names, cells, strict=False) if name}


def csv_table(path: Path, reading: Reading = PLAIN) -> Rows:
    """Rows of a table whose columns are divided by commas, unless its header says something else."""
    return _table(path, ",", reading)


def tsv_table(path: Path, reading: Reading = PLAIN) -> Rows:
    """Rows of a table whose columns are divided by tabs, unless its header says something else."""
    return _table(path, "\t", reading)


def _table(path: Path, usual: str, reading: Reading) -> Rows:
    dialect: Dialect | None = None
    for _, line, _ in lines(path):
        if line is None or line.strip():
            dialect = _dialect((line or "").strip("\r\n"), usual, reading)
            break
    if dialect is None:
        return
    if dialect.delimiter != usual and not reading.delimiter:
        yield str(path), Note(f"its columns are divided by {dialect.called}")
    if dialect.quoted and dialect.delimiter == "\t":
        yield str(path), Note("its header is quoted, so quotes around its cells are none of the text")
    cells = _quoted(path, dialect) if dialect.quoted else _unquoted(path, dialect)
    rows = _rows(dialect, cells, reading.columns)
    yield from _without_broken(path, rows) if reading.drops_broken else rows


def _without_broken(path: Path, rows: Rows) -> Rows:
    """Rows without the lines that have another number of cells than the header, which are counted."""
    broken = 0
    for place, row in rows:
        if isinstance(row, str) and row.startswith("has "):
            broken += 1
        else:
            yield place, row
    if broken:
        yield str(path), Note(f"{broken} of its lines with too few or too many cells are left out")


def _dialect(header: str, usual: str, reading: Reading) -> Dialect:
    """The dialect of a first line: the usual delimiter, unless another one divides more than one column, or as many as are named."""
    candidates = [reading.delimiter] if reading.delimiter else [usual, *(mark for mark in DELIMITERS if mark != usual)]
    counts = {mark: _columns(header, mark) for mark in candidates}
    delimiter = next((mark for mark in candidates if counts[mark] == len(reading.columns)), candidates[0])
    if counts[delimiter] < 2:
        delimiter = max(candidates, key=lambda mark: counts[mark])
    cells = header.split(delimiter)
    in_quotes = all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
    return Dialect(delimiter, delimiter != "\t" or in_quotes)


def _columns(header: str, delimiter: str) -> int:
    """Columns of a header line, whose names may be quoted."""
    try:
        return len(next(csv.reader([header], delimiter=delimiter), []))
    except csv.Error:
        return header.count(delimiter) + 1


Cells = Iterator[tuple[str, list[str] | str]]
"""The place of a row, and its cells or what is wrong with it."""


def _unquoted(path: Path, dialect: Dialect) -> Cells:
    """A row per line: a quote is a part of the text."""
    for place, line, problem in lines(path):
        if line is None:
            yield place, problem
        elif text := line.rstrip("\r\n").replace("\0", "\ufffd"):
            yield place, text.split(dialect.delimiter)


def _quoted(path: Path, dialect: Dialect) -> Cells:
    """A row may go over several lines where a cell stands in quotes, also behind a space."""
    broken: list[tuple[str, str]] = []
    source = _Lines(path, broken)
    csv.field_size_limit(LINE_MIB * 2**20)
    while True:
        place, cells = f"{path}:{source.number + 1}", source.row(dialect.delimiter)
        if cells is None:
            break
        if isinstance(cells, list) and any(cell.startswith(" ") and cell.lstrip(" ")[:1] == '"' for cell in cells):
            cells = source.row_again(dialect.delimiter) or cells
        if isinstance(cells, str):
            rule = f"is not a table of columns divided by {dialect.delimiter!r} ({cells}); a quote in a text is written twice"
            yield place, rule
            break
        if broken:
            yield from broken
            broken.clear()
        else:
            yield place, cells
    yield from broken


class _Lines:
    """The lines of a file for csv.reader, of which those of the last row can be read once more.

    Attributes:
        number: lines that were read.
    """

    def __init__(self, path: Path, broken: list[tuple[str, str]]):
        self._lines = lines(path)
        self._broken = broken
        self._taken: list[str] = []
        self._back: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._back:
            text = self._back.pop(0)
        else:
            place, line, problem = next(self._lines)
            if line is None:
                self._broken.append((place, problem))
            text = (line or "").replace("\0", "\ufffd")
        self.number += 1
        self._taken.append(text)
        return text

    def row(self, delimiter: str, *, spaced: bool = False) -> list[str] | str | None:
        """The cells of the next row, or why there are none; None: there is no other."""
        self._taken.clear()
        try:
            return next(csv.reader(self, delimiter=delimiter, strict=True, skipinitialspace=spaced), None)
        except csv.Error as error:
            return str(error)

    def row_again(self, delimiter: str) -> list[str] | None:
        """The cells of the last row where spaces before a quote are none of its text; None: then it is no table."""
        before = list(self._taken)
        self._put_back()
        cells = self.row(delimiter, spaced=True)
        if isinstance(cells, list):
            return cells
        self._put_back()
        self.row(delimiter)
        assert self._taken == before, "the same lines give the same row"
        return None

    def _put_back(self) -> None:
        self._back = [*self._taken, *self._back]
        self.number -= len(self._taken)


def _rows(dialect: Dialect, cells: Cells, columns: Sequence[str]) -> Rows:
    """Rows under their header or these names of columns; what looks as if it was not meant is told."""
    header: Header | None = None
    doubled = swallowed = ""
    for place, found in cells:
        if isinstance(found, str):
            yield place, found
        elif not any(cell.strip() for cell in found):
            continue
        elif header is None:
            header, first = _first_line(found, dialect, columns)
            yield from ((place, each) for each in first)
            if header is None:
                return
        else:
            row = header.row(found)
            if isinstance(row, str) and not dialect.quoted:
                row += "; a text that holds a tab or a line break belongs into a CSV or JSON lines file"
            yield place, row
            if not dialect.quoted and not doubled and any(_is_quoted(cell) for cell in found):
                doubled = place
            if dialect.quoted and not swallowed and header and _swallows(found, dialect, len(header.names)):
                swallowed = place
    if doubled:
        yield doubled, Note("quotes are read as parts of the text, since columns are divided by tabs")
    if swallowed:
        yield (
            swallowed,
            Note("a quoted cell holds lines that look like rows of their own: is its quote part of the text?"),
        )


def _first_line(cells: Sequence[str], dialect: Dialect, columns: Sequence[str]) -> tuple[Header | None, Sequence[Row]]:
    """The names of a table's columns, or None; and what its first line is beside them: a row, what is told, or wrong."""
    if not columns:
        return _header(cells, dialect)
    named, said = Header(tuple(columns), "`columns`"), [cell.strip().lower() for cell in cells]
    called = [name.lower() for name in columns]
    if not set(said) & set(filter(None, called)):
        return named, [named.row(cells)]
    in_place = all(name not in called or name == other for name, other in zip(said, called, strict=False))
    if len(cells) == len(columns) and in_place:
        return named, [Note("its first line names columns and is no row; they are called as `columns` says")]
    spelt = [columns[called.index(name)] if name in called else cell for name, cell in zip(said, cells, strict=True)]
    header, told = _header(spelt, dialect)
    return header, [*told, Note("its first line names its columns, which are not as `columns` says; they are read as the file has them")]  # fmt: skip


def proposed(columns: int) -> str:
    """What a task says of files without a header line."""
    return f"`columns: [...]` in the task, a name for each of {columns} columns, '' for one that is not read"


def looks_like_row(names: Iterable[str]) -> bool:
    """Whether what stands as names of columns is rather a row: numbers, or texts."""
    return any(re.fullmatch(r"[+-]?\d+(\.\d+)?", name) or len(name.split()) > 4 or len(name) > 60 for name in names)


def _header(cells: Sequence[str], dialect: Dialect) -> tuple[Header | None, list[str | Note]]:
    """The header of a table, or None with the problem; and what is left out."""
    names = [name.strip() for name in cells]
    if not dialect.quoted:
        names = [name.strip('"').strip() for name in names]
    named = [name for name in names if name]
    if len(set(named)) != len(named) or not named:
        return None, [
            f"the first line must name every column once, got {shown(names)}; if it is a row, write {proposed(len(names))}"
        ]
    unnamed = [str(number) for number, name in enumerate(names, 1) if not name]
    told: list[str | Note] = [Note(f"column {listed(unnamed)} has no name and is left out")] if unnamed else []
    return Header(tuple(names)), told


def _is_quoted(cell: str) -> bool:
    """Whether a cell seems to have been written with quotes around it."""
    return len(cell) > 1 and cell[0] == cell[-1] == '"' and '""' in cell[1:-1]


def _swallows(cells: Iterable[str], dialect: Dialect, columns: int) -> bool:
    """Whether a line inside of a cell has the columns of a row."""
    inside = (line for cell in cells if "\n" in cell for line in cell.splitlines()[1:-1])
    return columns > 1 and any(line.count(dialect.delimiter) == columns - 1 for line in inside)
