"""TASKS: the tasks known by name. Imports no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from panda_trainable.config.section import as_list
from panda_trainable.config.task import Hub, Original, TaskSpec
from panda_trainable.config.task_section import TaskSection, WordingSection
from panda_trainable.origins.demo import DEMO, KINDS, SENTIMENTS, Demonstration

TABLE = Path(__file__).with_name("tasks.yaml")

DEMO_WORDINGS: Mapping[tuple[str, ...], Mapping[str, Any]] = MappingProxyType(
    {
        SENTIMENTS: {"template": "{sentence} It was {answer}.", "words": (("terrible",), ("great",))},
        KINDS: {"template": "{sentence} This is about a {answer}.", "words": tuple((kind,) for kind in KINDS)},
    }
)
"""Classes of a demonstration -> how a language model is asked."""


def _tasks() -> Iterator[TaskSpec]:
    """The tasks of the file, and the demonstrations."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for name, filed in yaml.load(TABLE.read_text(encoding="utf-8"), loader).items():  # noqa: S506  # a safe loader
        yield _section(filed).spec(name)
    for name, demo in DEMO.items():
        section = TaskSection(
            text=("sentence",), classes=demo.labels, metrics=("accuracy",), **DEMO_WORDINGS[demo.labels]
        )  # fmt: skip
        yield replace(section.spec(name), origin=Demonstration(name))


def _section(filed: Mapping[str, Any]) -> TaskSection:
    """A section of the file, which needs no checks of types: a test reads it as users' files are read."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in filed.items()}
    values |= {"text": tuple(as_list(filed["text"])), "hub": Hub(**filed["hub"]), "words": _words(filed)}
    if "t5" in filed:
        values["t5"] = WordingSection(template=filed["t5"]["template"], words=_words(filed["t5"]))
    if original := filed.get("original"):
        names = {key: _tuples(original.get(key, {})) for key in ("files", "fields")}
        values["original"] = Original(**{**original, **names})
    return TaskSection(**values)


def _tuples(names: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(as_list(value)) for key, value in names.items()}


def _words(filed: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(as_list(words)) for words in filed.get("words", ()))


TASKS: Mapping[str, TaskSpec] = MappingProxyType({task.name: task for task in _tasks()})
"""Name -> the tasks known by name; `demo_*` are constructed and need no files."""

PANDA_METRICS: Mapping[str, str] = MappingProxyType({"mrpc": "accuracy", "qqp": "accuracy", "cb": "accuracy"})
"""Task -> PANDA's score where it differs from that of GLUE and SuperGLUE."""


def with_panda_metrics(task: TaskSpec) -> TaskSpec:
    """A task of the table scored as PANDA scores it. Source: the authors' code, see methods' metrics there."""
    first = PANDA_METRICS.get(task.name)
    if first is None:
        return task
    return replace(task, metrics=(first, *(name for name in task.metrics if name != first)))
