"""Tables with a header line: CSV, whose cells may be quoted, and TSV, whose quotes belong to the text."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from panda_trainable.config.origin import Note, Row
from panda_trainable.origins.lines import LINE_MIB, PLAIN, Reading, Rows, lines, listed, shown

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
    """

    names: tuple[str, ...]

    def row(self, cells: Sequence[str]) -> Row:
        """Cells as a row, or what is wrong with their number."""
        extra = cells[len(self.names) :]
        if len(cells) < len(self.names) or any(extra):
            named = listed(name for name in self.names if name)
            return f"has {len(cells)} fields where the header has {len(self.names)}: {named}"
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
            dialect = _dialect((line or "").strip("\r\n"), usual, reading.delimiter)
            break
    if dialect is None:
        return
    if dialect.delimiter != usual and not reading.delimiter:
        yield str(path), Note(f"its columns are divided by {dialect.called}")
    if dialect.quoted and dialect.delimiter == "\t":
        yield str(path), Note("its header is quoted, so quotes around its cells are none of the text")
    yield from _rows(dialect, _quoted(path, dialect) if dialect.quoted else _unquoted(path, dialect))


def _dialect(header: str, usual: str, given: str) -> Dialect:
    """The dialect of a header line: the usual delimiter, unless another one divides more than one column."""
    candidates = [given] if given else [usual, *(mark for mark in DELIMITERS if mark != usual)]
    counts = {mark: _columns(header, mark) for mark in candidates}
    delimiter = candidates[0]
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
    """A row may go over several lines where a cell stands in quotes."""
    broken: list[tuple[str, str]] = []

    def texts() -> Iterator[str]:
        for place, line, problem in lines(path):
            if line is None:
                broken.append((place, problem))
            yield (line or "").replace("\0", "\ufffd")

    csv.field_size_limit(LINE_MIB * 2**20)
    table = csv.reader(texts(), delimiter=dialect.delimiter, strict=True)
    while True:
        place = f"{path}:{table.line_num + 1}"
        try:
            cells = next(table)
        except StopIteration:
            break
        except csv.Error as error:
            rule = f"is not a table of columns divided by {dialect.delimiter!r} ({error}); a quote in a text is written twice"
            yield place, rule
            break
        if broken:
            yield from broken
            broken.clear()
        else:
            yield place, cells
    yield from broken


def _rows(dialect: Dialect, cells: Cells) -> Rows:
    """Rows under their header; what looks as if it was not meant is told."""
    header: Header | None = None
    doubled = swallowed = ""
    for place, found in cells:
        if isinstance(found, str):
            yield place, found
        elif not any(cell.strip() for cell in found):
            continue
        elif header is None:
            header, said = _header(found, dialect)
            yield from ((place, each) for each in said)
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


def _header(cells: Sequence[str], dialect: Dialect) -> tuple[Header | None, list[str | Note]]:
    """The header of a table, or None with the problem; and what is left out."""
    names = [name.strip() for name in cells]
    if not dialect.quoted:
        names = [name.strip('"').strip() for name in names]
    named = [name for name in names if name]
    if len(set(named)) != len(named) or not named:
        return None, [f"the first line must name every column once, got {shown(names)}"]
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
