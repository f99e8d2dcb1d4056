"""An experiment file read: values with their lines, overrides, and every problem with its place. Imports no torch."""

import copy
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import ValidationError

from panda_trainable.config.section import Section, file_key, settings_of
from tuning.experiment.experiment import Experiment, sources_of
from tuning.experiment.problems import Misuse, near
from tuning.experiment.sections import MAPPING, TEXT, TaskSection, details

MOST_VALUES = 100_000
"""Nested aliases can make a short file stand for any number of values: beyond so many it is refused."""


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: `yes`, `no`, `on`, `off` are texts (a class may be called so), and 1e-2 is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag.rpartition(":")[2] not in ("bool", "int", "float")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$"
        r"|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def load(file: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a file.

    Args:
        file: the YAML file.
        overrides: `key.key=value` each, over what the file says.

    Raises:
        Misuse: with every problem, its place and what to do.
    """
    raw, lines = _read(file)
    places: dict[tuple[Any, ...], str] = {path: f"{file}:{line}" for path, line in lines.items()}
    problems = []
    for override in overrides:
        path, equals, value = override.partition("=")
        keys = tuple(path.split("."))
        try:
            parsed = yaml.load(value, _Loader)  # noqa: S506  # a safe loader
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            problems.append(f"-o {override}: is not YAML: {' '.join(str(error).split())}")
            continue
        if not equals or not _set(raw, keys, parsed):
            problems.append(f"-o {override}: must be key.key=value of the experiment file")
        places = {path: place for path, place in places.items() if path[: len(keys)] != keys}
        places[keys] = f"-o {override}"
    wrong: list[tuple[Any, ...]] = []
    try:
        experiment = Experiment.placed(raw, file.absolute().parent)
    except ValidationError as error:
        wrong = [detail["loc"] for detail in details(error)]
        problems += [_problem(file, places, raw, detail) for detail in details(error)]
        experiment = None
    partial = experiment or _without_errors(raw, file)
    for place, text in _task_problems(partial) if partial else ():
        if not any(loc[: len(place)] == place for loc in wrong):  # else it was told already
            problems.append(f"{_place(file, places, place)}: {text}")
    if experiment is None or problems:
        refused = Misuse("\n".join(dict.fromkeys(problems)))
        refused.partial = partial
        refused.doubtful = frozenset(str(loc[0]) for loc in wrong if loc)
        raise refused
    return experiment


def _without_errors(raw: dict[str, Any], file: Path) -> Experiment | None:
    """What can be checked of a file that has mistakes: the file without its wrong parts."""
    raw = {"name": "x", "plm": {"from": "x"}, **copy.deepcopy(raw)}
    while True:
        try:
            return Experiment.placed(raw, file.absolute().parent)
        except ValidationError as error:
            if not any(_drop(raw, _as_written(raw, detail["loc"])) for detail in details(error)):
                return None
            raw = {"name": "x", "plm": {"from": "x"}, **raw}


def _drop(raw: Any, path: tuple[Any, ...]) -> bool:
    """Removes the innermost part of a path that is there; whether there was one."""
    if not path:
        return False
    inside = (isinstance(raw, dict) and path[0] in raw) or (
        isinstance(raw, list) and isinstance(path[0], int) and path[0] < len(raw)
    )
    if inside and not _drop(raw[path[0]], path[1:]):
        del raw[path[0]]
    return inside


def _task_problems(experiment: Experiment) -> Iterator[tuple[tuple[str, ...], str]]:
    """Rules over several keys, own tasks and weights and pairs: the key and what is wrong."""
    for name in experiment.tasks:
        try:
            experiment.task(name)
        except ValueError as error:
            yield ("tasks", name), str(error)
    weighed = experiment.weigh_by if isinstance(experiment.weigh_by, dict) else {}
    for target in weighed:
        if target not in experiment.targets:
            yield ("weigh_by", target), f"weigh_by: unknown target {target!r}{near(target, experiment.targets)}"
    for target in experiment.targets if isinstance(experiment.weigh_by, dict) else ():
        missing = [name for name in sources_of(experiment, target) if name not in weighed.get(target, {})]
        if missing:
            yield ("weigh_by", target), f"weigh_by must weigh every source of {target}: {', '.join(missing)} missing"
    for key in ("teacher_plm", "source_plm"):
        if (asking := experiment.needs(key)) and getattr(experiment, key) is None:
            yield ("methods",), f"methods {', '.join(asking)} need another PLM: add `{key}: {{from: ...}}`"
    twice = [name for name, count in Counter(experiment.projector.tasks).items() if count > 1]
    if twice and experiment.needs("source_plm"):
        yield ("projector", "tasks"), f"each task trains the projector once, but {', '.join(twice)} is there again"
    foreign = [name for name in experiment.projector.tasks if name not in experiment.sources]
    foreign += [name for name in experiment.projector.tasks if name in experiment.mixtures]
    if foreign and experiment.needs("source_plm"):
        yield (
            ("projector", "tasks"),
            f"a projector needs a prompt of each task on both PLMs, and {', '.join(foreign)} is none of the source tasks",
        )
    needs = experiment.needs_source
    if needs and not experiment.sources:
        yield ("methods",), f"methods {', '.join(needs)} need sources: add `sources: [...]`"
    unpaired = [t for t in experiment.targets if needs and experiment.sources and not sources_of(experiment, t)]
    if unpaired:
        yield (
            ("sources",),
            f"no source is left for target {', '.join(unpaired)} (a task never is its own source: self_pairs: include)",
        )


def _read(file: Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    try:
        text = file.read_text(encoding="utf-8")
        node, raw = yaml.compose(text, _Loader), yaml.load(text, _Loader)  # noqa: S506  # a safe loader
        if _size(node, {}) > MOST_VALUES:
            raise Misuse(f"{file}: its aliases stand for more than {MOST_VALUES:,} values; write fewer of them")
        lines, twice = _lines(node, ()), _twice(node, ())
        found = dict(lines)
        problems = [f"{file}:{line}: {key}: stands twice; keep one" for key, line in twice]
    except FileNotFoundError:
        raise Misuse(
            f"{file}: no such file; write one (docs/experiment-file.md) or try: panda-tune quickstart"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{file}: cannot be read: {error}") from error
    except RecursionError:
        raise Misuse(f"{file}: is nested without end: an alias must not stand inside of what it names") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise Misuse(f"{file}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise Misuse(f"{file}: must map keys to values, got {type(raw).__name__}")
    if problems:
        raise Misuse("\n".join(problems))
    return _apart(raw), found


def _size(node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for once every alias is written out."""
    if id(node) not in known:
        inside: list[Any] = []
        if isinstance(node, yaml.MappingNode):
            inside = [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            inside = node.value
        known[id(node)] = 1 + sum(_size(value, known) for value in inside)
    return known[id(node)]


def _apart(value: Any) -> Any:
    """Values of which none is part of two others, as aliases make them: so that one can be changed."""
    if isinstance(value, dict):
        return {key: _apart(inside) for key, inside in value.items()}
    return [_apart(inside) for inside in value] if isinstance(value, list) else value


def _twice(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[str, int]]:
    """Keys that stand twice in one mapping: YAML would take the last in silence."""
    values: list[tuple[Any, Any]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                yield ".".join((*map(str, path), name)), key.start_mark.line + 1
            seen.add(name)
            values.append((name, value))
    elif isinstance(node, yaml.SequenceNode):
        values = list(enumerate(node.value))
    for name, value in values:
        yield from _twice(value, (*path, name))


def _lines(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Path in the file -> line, of every key and item."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = [(key.value, (key, value)) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(i, (value, value)) for i, value in enumerate(node.value)]
    for name, (at, value) in pairs:
        yield (*path, name), at.start_mark.line + 1
        yield from _lines(value, (*path, name))


def _set(raw: dict[str, Any], keys: tuple[str, ...], value: Any) -> bool:
    for key in keys[:-1]:
        raw[key] = {} if raw.get(key) is None else raw[key]
        raw = raw[key]
        if not isinstance(raw, dict):
            return False
    raw[keys[-1]] = value
    return True


def _place(file: Path, places: Mapping[tuple[Any, ...], str], path: tuple[Any, ...]) -> str:
    """Where a key stands: its line, else what is inside it, else what it is inside of."""
    for end in range(len(path), 0, -1):
        inside = [place for known, place in places.items() if known[:end] == path[:end]]
        if path[:end] in places or inside:
            return places.get(path[:end]) or inside[0]
    return str(file)


def _as_written(raw: Any, path: tuple[Any, ...]) -> tuple[Any, ...]:
    """A path of the model as the file has it: a single value may stand for a list, and alternatives have no name."""
    written, here = [], raw
    for part in path:
        if isinstance(part, int) and not isinstance(here, list):
            continue
        if part in (TEXT, MAPPING):
            continue
        written.append(part)
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            here = None
    return tuple(written)


def _problem(file: Path, places: Mapping[tuple[Any, ...], str], raw: Any, detail: Any) -> str:
    """One line: place, key, rule, value, likely name."""
    path = _as_written(raw, detail["loc"])
    key = ".".join(str(part) for part in path)
    text = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "unexpected_keyword_argument":
        meant = near(str(detail["loc"][-1]), _keys_beside(detail["loc"]))
        text = f"unknown key{meant}; there are {', '.join(_keys_beside(detail['loc']))}"
    elif detail["type"] == "missing":
        text = "is missing"
    elif detail["type"] != "value_error":
        text = f"{text}, got {detail['input']!r}"
    return " ".join(f"{_place(file, places, path)}: {key}: {text}".split())


def _keys_beside(path: tuple[Any, ...]) -> list[str]:
    """The keys that are known where an unknown one stands."""
    section: Any = Experiment
    parts = [part for part in path[:-1] if not isinstance(part, int)]
    if parts[:1] == ["tasks"]:
        section, parts = TaskSection, []  # behind `tasks` stands a task's own name
    for part in parts:
        hints = {file_key(name): hint for name, hint in get_type_hints(section).items()}
        if part not in hints:  # the name of one of several alternatives
            continue
        section = _section(hints[part])
        if section is None:
            return []
    return [file_key(name) for name in settings_of(section)]


def _section(annotation: Any) -> Any:
    """The section that a key holds, also inside of a list or an alternative; None: it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)
