"""Tasks from the Hugging Face Hub, downloaded once and stored as Parquet; from then on they are ordinary task files."""

import shutil
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from panda_trainable.config.task import Hub, TaskSpec
from panda_trainable.config.templates import EXTRA_FIELDS

UNLABELLED = -1
"""Label that the Hub uses for unlabelled rows."""

OPTIONAL = ("id", "start1", "end1", "start2", "end2", "span1_index", "span2_index")
"""Columns that are kept where present, for checks."""

DERIVED_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType({"copa": ("joiner",), "record": ("filled", "label")})
"""Row of PREPARE -> fields that it computes, which are no columns on the Hub."""


def fetch_task(task: TaskSpec, data: Path, store: Path) -> Path:
    """The folder with a Hub task's files, downloaded if it does not exist.

    Args:
        task: with a Hub location.
        data: a local copy of the dataset repository at `<data>/<owner>/<name>` takes precedence over the Hub; when it
            changes, its files are converted again.
        store: folder of downloaded tasks.

    Raises:
        ValueError: if the task's columns are not known, it cannot be loaded, or it lacks a required column.
    """
    hub = task.hub
    assert hub is not None, "only tasks with a hub location can be downloaded"
    if not hub.known:
        raise ValueError(
            f"task {task.name}: its columns on the hub ({hub.path}) are not known to this table; put its files into "
            f"{data / task.name}, or describe it under `tasks:`"
        )
    folder = _folder(store, task, data / hub.path)
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


def _folder(store: Path, task: TaskSpec, copy: Path) -> Path:
    """Where a task's files are kept: of a local copy as it is now, else what was kept last."""
    assert task.hub is not None
    name = "-".join(part for part in (*task.hub.path.split("/"), task.hub.config, task.name) if part)
    if state := _state(copy):
        return store / f"{name}-{state}"
    kept = [path for path in store.glob(f"{name}-*") if path.is_dir()] if not (store / name).is_dir() else []
    return max(kept, key=lambda path: path.stat().st_mtime, default=store / name)


def _state(copy: Path) -> str:
    """What a local copy is like: a hash of its files' names, sizes and times; empty where there is none."""
    if not copy.is_dir():
        return ""
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    state = [(str(path.relative_to(copy)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return sha256(repr(state).encode()).hexdigest()[:8]


def _loaded(task: TaskSpec, hub: Hub, data: Path, split: str) -> Any:
    from datasets import load_dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    copy = data / hub.path
    path = str(copy) if copy.is_dir() else hub.path
    revision = {"revision": hub.revision} if hub.revision and not copy.is_dir() else {}
    try:
        return load_dataset(path, hub.config or None, split=split, **revision)
    except Exception as error:  # datasets and huggingface_hub raise many types; all mean the same to a user
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"task {task.name}: split {split} of {hub.path} {hub.config} is not in {copy} and cannot be loaded from "
            f"the hub ({reason[:200]}); put its files into {data / task.name}"
        ) from error


def _write(task: TaskSpec, table: Any, path: Path) -> None:
    """Writes the columns that the task reads, as the hub calls them, and the rows with a label and a text."""
    assert task.hub is not None
    derived = DERIVED_FIELDS.get(task.prepare, ())
    required = [name for name in (*task.fields, *EXTRA_FIELDS.get(task.prepare, ())) if name not in derived]
    columns = {name: task.hub.columns.get(name, name) for name in required}
    there = {name: _column(theirs, table.column_names) for name, theirs in columns.items()}
    missing = [theirs for name, theirs in columns.items() if not there[name]]
    if missing:
        raise ValueError(
            f"task {task.name}: {task.hub.path} {task.hub.config} must have the columns "
            f"{', '.join(columns.values())}, but {', '.join(missing)} is not among {', '.join(table.column_names)}"
        )
    kept = dict.fromkeys([*there.values(), *(name for name in OPTIONAL if name in table.column_names)])
    table = table.select_columns(list(kept))
    label, texts = there.get(task.label), [column for name, column in there.items() if name != task.label]
    table = table.filter(lambda row: label is None or row[label] not in (None, UNLABELLED))
    table = table.filter(lambda row: any(str(row[column] or "").strip() for column in texts))
    table.to_parquet(path)  # with the names of its classes, by which labels are read whatever the hub numbers them


def _column(name: str, columns: Sequence[str]) -> str:
    """The column that holds a field, which may lie inside of it; empty: there is none."""
    return next((column for column in (name, name.split(".", maxsplit=1)[0]) if column in columns), "")
