"""READERS: file formats of task data; each yields rows or error messages with their `file:line`."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from panda_trainable.config.origin import Row
from panda_trainable.config.task import SPLITS

LINE_MIB = 16
"""Longest line that is read; a longer one is told and not loaded."""

SHOWN = 80
"""Characters of a value that a message shows."""

MOST_NAMES = 8
"""Names that a message lists at most."""

Reader = Callable[[Path], Iterator[tuple[str, Row]]]


def shown(value: Any) -> str:
    """A value as messages show it: on one line, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def listed(names: Iterable[Any]) -> str:
    """Names as messages list them: on one line, not too many."""
    words = [" ".join(str(name).split())[:SHOWN] for name in names]
    more = f" and {len(words) - MOST_NAMES} more" if len(words) > MOST_NAMES else ""
    return ", ".join(words[:MOST_NAMES]) + more or "none"


def _lines(path: Path) -> Iterator[tuple[str, str | None, str]]:
    """The lines of a file as (place, text, problem); after a wrong encoding nothing more is read."""
    limit = LINE_MIB * 2**20
    with path.open("rb") as file:
        number = 0
        while line := file.readline(limit + 1):
            number += 1
            place = f"{path}:{number}"
            if len(line) > limit:
                while line and not line.endswith(b"\n"):
                    line = file.readline(limit)
                yield place, None, f"a line must be shorter than {LINE_MIB} MiB; split the file into lines"
                continue
            try:
                yield place, line.decode("utf-8-sig" if number == 1 else "utf-8"), ""
            except UnicodeDecodeError as error:
                reason = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
                yield place, None, f"must be UTF-8, got {reason}; save the file as UTF-8"
                return


def json_lines(path: Path) -> Iterator[tuple[str, Row]]:
    """One JSON object per line."""
    for place, line, problem in _lines(path):
        yield place, problem if line is None else _object(line)


def _object(line: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"a line must be one JSON object ({error})"
    return row if isinstance(row, dict) else f"a line must be one JSON object, got {shown(line.strip())}"


def _separated(delimiter: str) -> Reader:
    """A reader of tables with a header line; a quoted cell may hold lines and delimiters."""

    def read(path: Path) -> Iterator[tuple[str, Row]]:
        broken: list[tuple[str, str]] = []

        def texts() -> Iterator[str]:
            for place, line, problem in _lines(path):
                if line is None:
                    broken.append((place, problem))
                yield (line or "").replace("\0", "\ufffd")

        csv.field_size_limit(LINE_MIB * 2**20)
        table = csv.reader(texts(), delimiter=delimiter, strict=True)
        header: list[str] = []
        while True:
            place = f"{path}:{table.line_num + 1}"
            try:
                cells = next(table)
            except StopIteration:
                break
            except csv.Error as error:
                yield (
                    place,
                    f"is not a table of columns divided by {delimiter!r} ({error}); a quote in a text is written twice",
                )
                break
            yield from broken
            if broken or not cells:
                broken.clear()
            elif not header:
                header = [name.strip() for name in cells]
                if problem := _problem_of_header(header, delimiter):
                    yield place, problem
                    return
            elif len(cells) != len(header):
                yield place, f"has {len(cells)} fields where the header has {len(header)}: {listed(header)}"
            else:
                yield place, dict(zip(header, cells, strict=True))
        yield from broken

    return read


def _problem_of_header(header: list[str], delimiter: str) -> str:
    others = [other for other in ",;\t|" if other != delimiter and other in header[0]]
    if len(header) == 1 and others:
        return f"the columns seem to be divided by {others[0]!r}; here {delimiter!r} must divide them"
    if len(set(header)) != len(header) or not all(header):
        return f"the first line must name every column once, got {shown(header)}"
    return ""


def parquet(path: Path) -> Iterator[tuple[str, Row]]:
    """Rows of a Parquet file."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
        names = file.schema_arrow.names
        if len(set(names)) != len(names):
            yield str(path), f"must name every column once, got {listed(names)}"
            return
        number = 0
        for batch in file.iter_batches(1000):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (pa.ArrowException, OSError, ValueError, ArithmeticError, LookupError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        yield str(path), f"cannot be read as Parquet ({reason[:200]})"


def conll(path: Path) -> Iterator[tuple[str, Row]]:
    """Sentences of a file with a word per line: `words` from the first column, `tags` from the last.

    Columns are divided by spaces or tabs, sentences by empty lines; `-DOCSTART-` lines are left out.
    """
    words: list[str] = []
    tags: list[str] = []
    first, wrong = "", ""
    for place, line, problem in _lines(path):
        cells = re.findall(r"[^ \t\r\n]+", line or "")
        if line is None or (cells and not cells[0].startswith("-DOCSTART-")):
            if line is not None and len(cells) > 1:
                first = first or place
                words.append(cells[0])
                tags.append(cells[-1])
            elif not wrong:
                first = place
                wrong = problem or f"a line must hold a word and its tag, got {shown(line.strip() if line else '')}"
        elif words or wrong:
            yield first, wrong or {"words": words, "tags": tags}
            words, tags, first, wrong = [], [], "", ""
    if words or wrong:
        yield first, wrong or {"words": words, "tags": tags}


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "jsonl": json_lines,
        "csv": _separated(","),
        "tsv": _separated("\t"),
        "parquet": parquet,
        "conll": conll,
    }
)
"""File ending -> reader; in this order a split's file is looked for."""


def split_file(folder: Path, split: str) -> Path:
    """The file of a split in a folder; where there is none, the name that JSON lines would have.

    Raises:
        ValueError: if there are several, or the folder cannot be accessed.
    """
    try:
        found = [path for ending in READERS if (path := folder / f"{split}.{ending}").is_file()]
    except OSError as error:
        raise ValueError(f"{folder}: cannot be looked into ({error.strerror or error})") from error
    if len(found) > 1:
        raise ValueError(f"{folder}: {split} must be one file, got {', '.join(path.name for path in found)}")
    return found[0] if found else folder / f"{split}.jsonl"


@dataclass(frozen=True)
class FolderFiles:
    """An origin: a folder with one file per split.

    Attributes:
        folder: that holds `<split>.<ending>`.
    """

    folder: Path
    has_rows = True

    def splits(self) -> tuple[str, ...]:
        """The splits that have a file, in the order of SPLITS.

        Raises:
            ValueError: if a split has several, or the folder cannot be accessed.
        """
        return tuple(split for split in SPLITS if split_file(self.folder, split).is_file())

    def rows(self, split: str) -> Iterator[tuple[str, Row]]:
        """Pairs (`file:line`, row or error message) from the reader of the file format."""
        path = split_file(self.folder, split)
        try:
            yield from READERS[path.suffix.removeprefix(".")](path)
        except OSError as error:
            yield str(path), f"cannot be read ({error.strerror or error})"

    def place(self, split: str = "") -> str:
        """The path of a split's file, or of the folder."""
        return str(split_file(self.folder, split) if split else self.folder)

    def contents(self) -> str:
        """The names of the files in the folder."""
        names = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        return f"it holds {', '.join(names[:MOST_NAMES])}" if names else "it is empty or not there"
