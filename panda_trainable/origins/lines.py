"""Lines of text files and what is made of them: JSON lines, JSON arrays, and sentences with a word per line."""

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from panda_trainable.config.origin import Note, Row

LINE_MIB = 16
"""Longest line that is read; a longer one is told and not loaded."""

JSON_MIB = 512
"""Largest file that is one JSON array: it is loaded whole."""

SHOWN = 80
"""Characters of a value that a message shows."""

MOST_NAMES = 8
"""Names that a message lists at most."""

Rows = Iterator[tuple[str, Row]]


@dataclass(frozen=True)
class Reading:
    """How a file is read, where its own look does not say it.

    Attributes:
        delimiter: of tables; empty: found in the header line.
    """

    delimiter: str = ""


PLAIN = Reading()


def shown(value: Any) -> str:
    """A value as messages show it: on one line, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def listed(names: Iterable[Any]) -> str:
    """Names as messages list them: on one line, not too many."""
    words = [" ".join(str(name).split())[:SHOWN] for name in names]
    more = f" and {len(words) - MOST_NAMES} more" if len(words) > MOST_NAMES else ""
    return ", ".join(words[:MOST_NAMES]) + more or "none"


def lines(path: Path) -> Iterator[tuple[str, str | None, str]]:
    """The lines of a file, compressed by gzip or not, as (place, text, problem); after a wrong encoding nothing more."""
    limit = LINE_MIB * 2**20
    number = 0
    try:
        with opened(path) as file:
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
    except _BROKEN as error:
        yield f"{path}:{number + 1}", None, f"is not a whole gzip file ({error}); compress it again"


_BROKEN = (gzip.BadGzipFile, EOFError, zlib.error)


def opened(path: Path) -> IO[bytes]:
    """A file's bytes; of one that ends in .gz what was compressed."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]  # a stream


def json_lines(path: Path, _: Reading = PLAIN) -> Rows:
    """One JSON object per line; empty lines are none."""
    for place, line, problem in lines(path):
        if line is None:
            yield place, problem
        elif line.strip():
            yield place, _object(line)


def _object(line: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"a line must be one JSON object ({error})"
    return row if isinstance(row, dict) else f"a line must be one JSON object, got {shown(line.strip())}"


def json_file(path: Path, reading: Reading = PLAIN) -> Rows:
    """A JSON array of objects, or an object that holds one, or else JSON lines."""
    try:
        with opened(path) as file:
            content = file.read(JSON_MIB * 2**20 + 1)
    except _BROKEN as error:
        yield str(path), f"is not a whole gzip file ({error}); compress it again"
        return
    head = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    first = head.split(b"\n", 1)[0].strip()
    if not head.startswith(b"[") and _is_row(first, alone=b"\n" not in content.strip()):
        yield from json_lines(path, reading)
        return
    if len(content) > JSON_MIB * 2**20:
        yield str(path), f"must be smaller than {JSON_MIB} MiB, or JSON lines: one object per line"
        return
    try:
        value = json.loads(content.decode("utf-8-sig")) if content.strip() else []
    except (ValueError, RecursionError) as error:
        yield str(path), f"must be a JSON array of objects, or one object per line ({error})"
        return
    yield from _of_array(path, value)


def _is_row(line: bytes, *, alone: bool) -> bool:
    """Whether a line is a row of JSON lines: an object, and where it is alone none that holds an array of objects."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict):
        return False
    held = [inner for inner in value.values() if isinstance(inner, list)]
    holds_rows = len(held) == 1 and bool(held[0]) and all(isinstance(row, dict) for row in held[0])
    return not (alone and holds_rows)


def _of_array(path: Path, value: Any) -> Rows:
    arrays = {key: inner for key, inner in value.items() if isinstance(inner, list)} if isinstance(value, dict) else {}
    if len(arrays) == 1:
        ((key, value),) = arrays.items()
        yield str(path), Note(f"its rows are the array {key!r}")
    if not isinstance(value, list):
        yield str(path), f"must be a JSON array of objects, or one object per line, got {shown(value)}"
        return
    for number, row in enumerate(value, 1):
        wrong = f"an element of the array must be a JSON object, got {shown(row)}"
        yield f"{path}, row {number}", row if isinstance(row, dict) else wrong


_COMMENT = re.compile(r"#(begin|end)\b|#\S*\s*$|# *\S+ *=|#\s+\S+\s+\S+")
"""A line before a sentence that is none of its words: of two cells only `# tag` can be a word."""


def conll(path: Path, _: Reading = PLAIN) -> Rows:
    """Sentences of a file with a word per line: `words` from the first column, `tags` from the last.

    Columns are divided by spaces or tabs, sentences by empty lines; `-DOCSTART-` lines are left out.
    """
    words: list[str] = []
    tags: list[str] = []
    first, wrong = "", ""
    for place, line, problem in lines(path):
        cells = [] if line and not words and _COMMENT.match(line) else re.findall(r"[^ \t\r\n]+", line or "")
        if line and not cells and line.startswith("#"):
            continue
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


def with_nested(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A row in which `a.b` names the field b inside of the field a, of those names that have dots."""
    found = dict(row)
    for name in names:
        inside: Any = row
        for part in name.split("."):
            inside = inside[part] if isinstance(inside, Mapping) and part in inside else _ABSENT
        if inside is not _ABSENT:
            found.setdefault(name, inside)
    return found


_ABSENT = object()
