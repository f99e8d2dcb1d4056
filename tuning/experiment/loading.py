"""An experiment file read: its values, overrides, and every problem with its place. Imports no torch."""

import copy
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ValidationError

from panda_trainable.config.section import file_key, section_in, settings_of
from panda_trainable.config.task_section import TaskSection
from tuning.experiment.experiment import Experiment
from tuning.experiment.explanations import remedy_of, rule_of
from tuning.experiment.problems import Misuse, Problem, near
from tuning.experiment.questions import questions
from tuning.experiment.rules import RULES
from tuning.experiment.sections import MAPPING, TEXT, details
from tuning.experiment.yaml_file import KeyPath, parse_yaml, read_yaml

KEY_ITSELF = "[key]"
"""What pydantic's paths end in where a mapping's key is wrong, not its value."""

REQUIRED: Mapping[str, Any] = {"name": "x", "plm": {"from": "x"}}
"""Stand in for required keys that are missing or wrong, so that the rest can be checked; nothing looks for them."""


def load(file: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a file.

    Args:
        file: the YAML file.
        overrides: `key.key=value` each, over what the file says.

    Raises:
        Misuse: with every problem of the file itself.
    """
    experiment, problems = read(file, overrides)
    if experiment is None or problems:
        raise Misuse(*problems)
    return experiment


def read(file: Path, overrides: Sequence[str] = ()) -> tuple[Experiment | None, list[Problem]]:
    """The experiment of a file and what is wrong with it; with problems it is what is right of it, None if nothing is.

    Raises:
        Misuse: if the file is no YAML, or asks something still: then nothing else of it can be told.
    """
    values, lines = read_yaml(file)
    places = {path: f"{file}:{line}" for path, line in lines.items()}
    problems = [problem for override in overrides if (problem := _override(values, places, override))]
    text = file.read_text(encoding="utf-8").splitlines()
    if asked := list(questions(values, places, lines, text)):
        raise Misuse(*problems, *asked)  # what hangs on an answer cannot be checked
    return _checked(file, values, places, problems)


def from_values(values: Mapping[str, Any], folder: Path) -> Experiment:
    """The experiment of values as a file would hold them; its paths are relative to the folder.

    Raises:
        Misuse: with every problem of the values.
    """
    if asked := list(questions(values, {}, {}, ())):
        raise Misuse(*asked)
    experiment, problems = _checked(folder / "experiment", copy.deepcopy(dict(values)), {}, [])
    if experiment is None or problems:
        raise Misuse(*(replace(problem, place=problem.place.replace(f"{folder}/", "")) for problem in problems))
    return experiment


def _checked(
    file: Path, values: dict[str, Any], places: dict[KeyPath, str], problems: list[Problem]
) -> tuple[Experiment | None, list[Problem]]:
    """The experiment of values and what is wrong with it, beside what is known already."""
    wrong: list[KeyPath] = []
    try:
        experiment: Experiment | None = Experiment.placed(values, file.absolute().parent)
    except ValidationError as error:
        wrong = [detail["loc"] for detail in details(error)]
        problems += [_problem(file, places, values, detail) for detail in details(error)]
        experiment = _without_errors(values, file)
    if experiment is None:
        return None, problems
    for path, rule, remedy in (broken for find in RULES for broken in find(experiment)):
        if not any(location[: len(path)] == path for location in wrong):  # what is wrong with it is told already
            problems.append(Problem(_place(file, places, path), rule, remedy=remedy))
        wrong.append(path)
    return _without(experiment, wrong), problems


def _override(values: dict[str, Any], places: dict[KeyPath, str], override: str) -> Problem | None:
    """Puts `key.key=value` over a file's values, which then have the override as their place."""
    path, equals, text = override.partition("=")
    keys = tuple(path.split("."))
    try:
        value = parse_yaml(text)
    except ValueError as error:
        return Problem(f"-o {override}", f"is not YAML: {error}")
    taken = bool(equals) and _set(values, keys, value)
    for below in [below for below in places if below[: len(keys)] == keys]:
        del places[below]
    places[keys] = f"-o {override}"
    return None if taken else Problem(f"-o {override}", "must be key.key=value of the experiment file")


def _set(values: dict[str, Any], keys: tuple[str, ...], value: Any) -> bool:
    for key in keys[:-1]:
        values[key] = {} if values.get(key) is None else values[key]
        values = values[key]
        if not isinstance(values, dict):
            return False
    values[keys[-1]] = value
    return True


def _without_errors(values: dict[str, Any], file: Path) -> Experiment | None:
    """What can be checked of a file that has mistakes: the file without its wrong parts."""
    values = {**REQUIRED, **copy.deepcopy(values)}
    while True:
        try:
            return Experiment.placed(values, file.absolute().parent)
        except ValidationError as error:
            if not any(_drop(values, _as_written(values, detail["loc"])) for detail in details(error)):
                return None
            values = {**REQUIRED, **values}


def _drop(values: Any, path: KeyPath) -> bool:
    """Removes the innermost part of a path that is there; whether there was one."""
    if not path:
        return False
    inside = (isinstance(values, dict) and path[0] in values) or (
        isinstance(values, list) and isinstance(path[0], int) and path[0] < len(values)
    )
    if inside and not _drop(values[path[0]], path[1:]):
        del values[path[0]]
    return inside


def _without(experiment: Experiment, wrong: Collection[KeyPath]) -> Experiment:
    """An experiment in which wrong keys hold nothing, so that nothing is looked for on their account."""
    keys = {path[0] for path in wrong if path}
    impossible = {path[1] for path in wrong if path[:1] == ("tasks",) and len(path) > 1}
    emptied: dict[str, Any] = {"plm": (), "storage": "", "teacher_plm": None, "source_plm": None}
    changes = {key: nothing for key, nothing in emptied.items() if key in keys}
    for key in ("targets", "sources"):
        names = [] if "data" in keys else getattr(experiment, key)
        changes[key] = [name for name in names if not impossible & {*experiment.mixtures.get(name, [name])}]
    return experiment.changed(**changes) if wrong else experiment


def _place(file: Path, places: Mapping[KeyPath, str], path: KeyPath) -> str:
    """Where a key stands: its line, else what is inside it, else what it is inside of."""
    for end in range(len(path), 0, -1):
        inside = [place for known, place in places.items() if known[:end] == path[:end]]
        if path[:end] in places or inside:
            return places.get(path[:end]) or inside[0]
    return str(file)


def _as_written(values: Any, path: KeyPath) -> KeyPath:
    """A path of the model as the file has it: a single value may stand for a list, and alternatives have no name."""
    written, here = [], values
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


def _problem(file: Path, places: Mapping[KeyPath, str], values: Any, detail: Any) -> Problem:
    """What pydantic found, with place, key, rule, value and likely name."""
    path = _as_written(values, detail["loc"])
    key = ".".join(str(part) for part in path if part != KEY_ITSELF)
    place = f"{_place(file, places, path)}: {key}"
    if detail["type"] == "unexpected_keyword_argument":
        known = _keys_beside(detail["loc"])
        return Problem(
            place, f"unknown key{near(str(detail['loc'][-1]), known)}", remedy=f"there are {', '.join(known)}"
        )
    if detail["type"] == "missing":
        return Problem(place, "is missing")
    got = "" if detail["type"] == "value_error" else repr(detail["input"])
    section = _section_at((*detail["loc"], ""))
    remedy = remedy_of(detail, key, *_keys(section)) if got else ""
    return Problem(place, rule_of(detail), got, remedy)


def _keys_beside(path: KeyPath) -> list[str]:
    """The keys that are known where an unknown one stands."""
    return _keys(_section_at(path))[0]


def _keys(section: Any) -> tuple[list[str], list[str]]:
    """The keys of a section, and those of them that have no default; none where there is no section."""
    if section is None:
        return [], []
    fields = {field.name: field for field in dataclasses.fields(section)}
    names = list(settings_of(section))
    required = [n for n in names if fields[n].default is fields[n].default_factory is dataclasses.MISSING]
    return [file_key(name) for name in names], [file_key(name) for name in required]


def _section_at(path: KeyPath) -> Any:
    """The section in which the last key of a path stands; None where none does."""
    section: Any = Experiment
    parts = [part for part in path[:-1] if not isinstance(part, int)]
    if parts[:1] == ["tasks"]:
        section, parts = TaskSection, parts[2:]  # behind `tasks` stands a task's own name
    for part in parts:
        hints = {file_key(name): hint for name, hint in get_type_hints(section).items()}
        if part not in hints:  # the name of one of several alternatives
            continue
        section = section_in(hints[part])
        if section is None:
            return None
    return section
