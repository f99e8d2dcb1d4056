"""Columnar files: Parquet and the Arrow files of saved datasets, whose class columns know their names."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from panda_trainable.config.origin import ClassValue, Reading, Row
from panda_trainable.origins.lines import PLAIN, Rows, listed

BATCH = 1000
"""Rows that are in memory at once."""


def parquet(path: Path, _: Reading = PLAIN) -> Rows:
    """Rows of a Parquet file."""
    from pyarrow.parquet import ParquetFile

    def batches() -> Iterator[Any]:
        file = ParquetFile(path)
        yield file.schema_arrow
        yield from file.iter_batches(BATCH)

    return _rows(path, "Parquet", batches())


def arrow(path: Path, _: Reading = PLAIN) -> Rows:
    """Rows of an Arrow stream, as `datasets` saves it."""
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            yield stream.schema
            for batch in stream:
                batch.validate(full=True)  # an Arrow file says itself where its values lie; a damaged one lies
                yield from (batch.slice(first, BATCH) for first in range(0, len(batch), BATCH))

    return _rows(path, "Arrow", batches())


def _rows(path: Path, kind: str, batches: Iterator[Any]) -> Rows:
    """Rows of a schema and the batches that follow it."""
    import pyarrow as pa

    try:
        schema = next(batches)
        if len(set(schema.names)) != len(schema.names):
            yield str(path), f"must name every column once, got {listed(schema.names)}"
            return
        classes, number = class_columns(schema.metadata), 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", _named(row, classes)
    except (pa.ArrowException, OSError, ValueError, ArithmeticError, LookupError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        yield str(path), f"cannot be read as {kind} ({reason[:200]})"


def class_columns(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Column -> class names, of the columns that `datasets` knows as ClassLabel, alone or in lists."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    found = {column: _class_names(feature) for column, feature in features.items()}
    return {column: names for column, names in found.items() if names}


def _class_names(feature: Any) -> tuple[str, ...]:
    if isinstance(feature, list):
        feature = {"feature": feature[0] if feature else {}}
    inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
    return tuple(map(str, inner.get("names") or ())) if isinstance(inner, dict) else ()


def _named(row: dict[str, Any], classes: Mapping[str, Sequence[str]]) -> Row:
    for column, names in classes.items():
        value = row.get(column)
        row[column] = [_value(each, names) for each in value] if isinstance(value, list) else _value(value, names)
    return row


def _value(number: Any, names: Sequence[str]) -> Any:
    """A class number with its name; a number outside of the names, such as -1, stays a number."""
    return ClassValue(number, tuple(names)) if isinstance(number, int) and 0 <= number < len(names) else number
