"""A user's CSV file: its rows with their lines, and every mistake with its place."""

import csv
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A row of a file.

    Attributes:
        line: where it begins, from 1.
        cells: column -> text, without spaces around it; "" for a column that the file lacks.
    """

    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


@dataclass
class Mistakes:
    """What is wrong with a file, gathered to be told at once."""

    file: Path
    told: list[str] = field(default_factory=list)

    def add(self, line: int, what: str) -> None:
        """Notes a mistake at a line."""
        self.told.append(f"{self.file}:{line}: {what}")

    def number(self, row: Row, column: str) -> float:
        """A cell as a finite number; NaN after noting that it is none."""
        text = row[column]
        try:
            value = float(text) if "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.add(row.line, f"{column} must be a finite number, got {shortened(text)}{_advice(text)}")
            return math.nan
        return value

    def name(self, row: Row, column: str) -> str:
        """A cell that must not be empty."""
        if not row[column]:
            self.add(row.line, f"{column} is empty")
        return row[column]

    def refuse(self) -> None:
        """Raises what was noted, if anything was.

        Raises:
            Unreadable: with all mistakes, or the first of many and how many more.
        """
        if self.told:
            more = len(self.told) - MOST_TOLD
            raise Unreadable("\n".join([*self.told[:MOST_TOLD], *([f"… and {more} more"] if more > 0 else [])]))


MOST_TOLD = 20
"""Mistakes that one message holds."""


class Unreadable(Exception):
    """A file is not what it must be: `file:line: what is wrong`, a line for each mistake."""


def shortened(text: str) -> str:
    """A text in quotes, cut where it is long."""
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


def _advice(text: str) -> str:
    if text.strip().lower() in ("", "nan", "na", "n/a", "none", "null", "-"):
        return "; leave the row out where there is none: the pair is counted as missing"
    if "," in text:
        return "; write a decimal point"
    if text.endswith("%"):
        return "; write it without the sign"
    return ""


def closest(name: str, known: Sequence[str]) -> str:
    """The most similar of some names, whatever their case; empty where none is close."""
    folded = {one.lower(): one for one in known}
    return next((folded[one] for one in difflib.get_close_matches(name.lower(), folded, n=1)), "")


def near(name: str, known: Sequence[str]) -> str:
    """What was probably meant, in words; empty where nothing is close."""
    meant = closest(name, known)
    return f" (did you mean {meant}?)" if meant else ""


def rows_of(file: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a CSV file with a header; empty lines are skipped, other columns are kept.

    Args:
        file: in UTF-8, with commas.
        columns: that it must have.

    Raises:
        Unreadable: if it is no such file, lacks a column, or a row does not fit the header.
    """
    records = _records(file, _text(file))
    line, header = next(records, (1, []))
    if not header:
        raise Unreadable(f"{file}:1: is empty; its first line must name the columns {', '.join(columns)}")
    _check_header(file, line, header, columns)
    mistakes, rows = Mistakes(file), []
    for line, cells in records:
        if len(cells) != len(header):
            mistakes.add(line, f"has {len(cells)} cells, but the header has {len(header)}")
        rows.append(Row(line, dict(zip(header, cells, strict=False))))
    mistakes.refuse()
    return rows


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Unreadable(f"{file}: {(error.strerror or str(error)).lower()}") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable(f"{file}:1: is UTF-16; save it as CSV in UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"{file}:{line}: is not UTF-8; save it as CSV in UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Unreadable(f"{file}:{line}: holds bytes that no text has; save it as CSV in UTF-8")
    return text


def _records(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of every record that is not empty."""
    reader, line = csv.reader(StringIO(text, newline=""), strict=True), 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, [cell.strip() for cell in cells]
            line = reader.line_num + 1
    except csv.Error as error:
        raise Unreadable(f"{file}:{line}: is not CSV: {error}") from error


def _check_header(file: Path, line: int, header: Sequence[str], columns: Sequence[str]) -> None:
    if len(header) == 1:
        for sign, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if sign in header[0]:
                raise Unreadable(f"{file}:{line}: columns are divided by {name}; divide them by commas")
    mistakes = Mistakes(file)
    for name in dict.fromkeys(name for name in header if header.count(name) > 1):
        mistakes.add(line, f"has several columns {shortened(name)}")
    there = ", ".join(shortened(name) for name in header[:MOST_TOLD])
    missing = [name for name in columns if name not in header]
    for name in missing:
        unknown = [one for one in header if one not in columns and closest(one, missing) == name]
        mistakes.add(line, f"has no column {name}{near(name, unknown)}; it has {there}")
    mistakes.refuse()
