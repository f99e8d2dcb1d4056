"""Tasks from the Hugging Face hub, written once as Parquet into the storage: then they are files like any other."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from panda_trainable.config.task import Hub, TaskSpec

UNLABELLED = -1
"""The hub's label of rows without one."""

OPTIONAL = ("id", "start1", "end1", "start2", "end2", "span1_index", "span2_index")
"""Columns that are kept where there are some, for checks."""

READS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"copa": ("question",), "record": ("query", "entities", "answers")}
)
"""Row of PREPARE -> columns that it reads beside those of the task."""

MAKES: Mapping[str, tuple[str, ...]] = MappingProxyType({"copa": ("joiner",), "record": ("filled", "label")})
"""Row of PREPARE -> fields that it makes, which the hub does not have."""


def fetched(task: TaskSpec, data: Path, store: Path) -> Path:
    """The folder with a hub task's files, fetched where it is missing.

    Args:
        task: with a hub location.
        data: a copy of the dataset's repository at `<data>/<owner>/<name>` is read instead of the hub.
        store: folder of what was fetched.

    Raises:
        ValueError: if the columns of this task are not known, it cannot be had, or its columns are others.
    """
    hub = task.hub
    assert hub is not None, "only tasks with a hub location are fetched"
    if not hub.known:
        raise ValueError(
            f"task {task.name}: its columns on the hub ({hub.path}) are not known to this table; put its files into "
            f"{data / task.name}, or describe it under `tasks:`"
        )
    folder = store / "-".join(part for part in (*hub.path.split("/"), hub.config, task.name) if part)
    if not folder.is_dir():
        draft = folder.with_name(f".{folder.name}-{uuid4().hex[:8]}")
        draft.mkdir(parents=True)
        try:
            for ours, theirs in hub.splits.items():
                _write(task, _loaded(task, hub, data, theirs), draft / f"{ours}.parquet")
            if not folder.is_dir():
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def _loaded(task: TaskSpec, hub: Hub, data: Path, split: str) -> Any:
    from datasets import load_dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    copy = data / hub.path
    place = str(copy) if copy.is_dir() else hub.path
    revision = {"revision": hub.revision} if hub.revision and not copy.is_dir() else {}
    try:
        return load_dataset(place, hub.config or None, split=split, **revision)
    except Exception as error:  # datasets and the hub's client raise many kinds; for a user all mean the same
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"task {task.name}: split {split} of {hub.path} {hub.config} is not in {copy} and cannot be had from the hub "
            f"({reason[:200]}); put its files into {data / task.name}"
        ) from error


def _write(task: TaskSpec, table: Any, path: Path) -> None:
    """Keeps the columns that the task reads, under its names, and the rows that have a label and a text."""
    assert task.hub is not None
    made = MAKES.get(task.prepare, ())
    wanted = [name for name in (*task.fields, *READS.get(task.prepare, ())) if name not in made]
    columns = {name: task.hub.columns.get(name, name) for name in wanted}
    missing = [theirs for theirs in columns.values() if theirs not in table.column_names]
    if missing:
        raise ValueError(
            f"task {task.name}: {task.hub.path} {task.hub.config} must have the columns {', '.join(columns.values())}, but "
            f"{', '.join(missing)} is not among {', '.join(table.column_names)}"
        )
    columns |= {name: name for name in OPTIONAL if name in table.column_names and name not in columns}
    names = _names(table.features.get(columns.get(task.label, "")))
    table = table.select_columns(list(columns.values())).rename_columns(
        {theirs: ours for ours, theirs in columns.items()}
    )
    texts = [name for name in wanted if name != task.label]
    table = table.filter(lambda row: row.get(task.label) not in (None, UNLABELLED) or task.label in made)
    table = table.filter(lambda row: any(str(row[name] or "").strip() for name in texts))
    if names and set(names) == set(task.classes):  # by name, whatever the hub's order
        from datasets import Features, List, Value

        said = List(Value("string")) if task.kind == "tagging" else Value("string")
        features = Features({**table.features, task.label: said})
        table = table.map(lambda row: {task.label: _named(row[task.label], names)}, features=features)
    table.to_parquet(path)


def _names(feature: Any) -> list[str]:
    inner = getattr(feature, "feature", feature)
    return list(getattr(inner, "names", None) or [])


def _named(value: Any, names: list[str]) -> Any:
    return [names[number] for number in value] if isinstance(value, list) else names[value]
