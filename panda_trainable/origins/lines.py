"""Lines of text files and what is made of them: JSON lines and JSON arrays."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from panda_trainable.config.origin import Note, Reading, Row

LINE_MIB = 16
"""Longest line that is read; a longer one is told and not loaded."""

JSON_MIB = 512
"""Largest file that is one JSON array: it is loaded whole."""

SHOWN = 80
"""Characters of a value that a message shows."""

MOST_NAMES = 8
"""Names that a message lists at most."""

Rows = Iterator[tuple[str, Row]]


PLAIN = Reading()
"""As the file's own look says it."""


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
    return not (alone and len(_arrays(value)) == 1)


def _arrays(value: dict[str, Any]) -> dict[str, list[Any]]:
    """The arrays of objects in an object, or else all its arrays that are empty."""
    lists = {key: inner for key, inner in value.items() if isinstance(inner, list)}
    of_rows = {key: inner for key, inner in lists.items() if inner and all(isinstance(row, dict) for row in inner)}
    return of_rows or {key: inner for key, inner in lists.items() if not inner}


def _of_array(path: Path, value: Any) -> Rows:
    if isinstance(value, dict) and len(arrays := _arrays(value)) == 1:
        ((key, value),) = arrays.items()
        yield str(path), Note(f"its rows are the array {key!r}")
    if not isinstance(value, list):
        yield str(path), f"must be a JSON array of objects, or one object per line, got {shown(value)}"
        return
    for number, row in enumerate(value, 1):
        wrong = f"an element of the array must be a JSON object, got {shown(row)}"
        yield f"{path}, row {number}", row if isinstance(row, dict) else wrong
