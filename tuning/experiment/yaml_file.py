"""A YAML file as values with the line of every key: words stay words, 1e-2 is a number, no key stands twice."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tuning.experiment.problems import Misuse, Problem

KeyPath = tuple[Any, ...]
"""Keys and list positions from the top of a file to a value."""

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


def read_yaml(file: Path) -> tuple[dict[str, Any], Mapping[KeyPath, int]]:
    """The values of a file, and path -> line of every key and item.

    Raises:
        Misuse: if it cannot be read, is no YAML, or has a key twice: then nothing else of it can be told.
    """
    try:
        loader = _Loader(file.read_text(encoding="utf-8"))
        node = loader.get_node() if loader.check_node() else None
        if loader.check_node():
            raise Misuse(_several(file, _names_in(file)))
        lines, duplicates = _lines(file, node)
        values = loader.construct_document(node) if node else None
    except FileNotFoundError:
        missing = Problem(
            str(file),
            "no such file",
            remedy="write one by panda-tune new FOLDER of your data, or try: panda-tune quickstart",
        )
        raise Misuse(missing) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(Problem(str(file), f"cannot be read: {error}", remedy="name a readable file in UTF-8")) from error
    except RecursionError:
        endless = Problem(str(file), "is nested without end", remedy="an alias must not stand inside of what it names")
        raise Misuse(endless) from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise Misuse(Problem(str(file), f"is not YAML: {' '.join(str(error).split())}")) from error
    values, lines = _of_answers(file, values, lines)
    if not isinstance(values, dict):
        raise Misuse(
            Problem(str(file), "must map keys to values", type(values).__name__, "see docs/experiment-file.md")
        )
    if duplicates:
        raise Misuse(*duplicates)
    return _copied(values), lines


def _of_answers(file: Path, values: Any, lines: dict[KeyPath, int]) -> tuple[Any, dict[KeyPath, int]]:
    """The experiment in what `best --format yaml` prints: an answer per target, each with its configuration.

    Raises:
        Misuse: if there are several.
    """
    is_printed = isinstance(values, list) and values and all(_is_answer(each) for each in values)
    if not is_printed:
        return values, lines
    if len(values) > 1:
        raise Misuse(_several(file, [str(each.get("target", "?")) for each in values]))
    place = (0, CONFIG)
    return values[0][CONFIG], {path[2:]: line for path, line in lines.items() if path[:2] == place and len(path) > 2}


CONFIG = "config"
"""Where an answer of `best` holds its configuration."""


def _is_answer(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get(CONFIG), dict)


def _names_in(file: Path) -> list[str]:
    documents = yaml.load_all(file.read_text(encoding="utf-8"), _Loader)  # a safe loader
    return [str(each.get("name", "?")) if isinstance(each, dict) else "?" for each in documents]


def _several(file: Path, names: Sequence[str]) -> Problem:
    """Several experiments in one file, as `best --format yaml` prints them for several targets."""
    remedy = "keep one; panda-tune best FILE --format yaml --target NAME prints one"
    return Problem(
        str(file), f"holds {len(names)} experiments, and one is wanted: {', '.join(names[:8])}", remedy=remedy
    )


def parse_yaml(text: str) -> Any:
    """The value that a text stands for.

    Raises:
        ValueError: if it is no YAML.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a safe loader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _lines(file: Path, node: Any) -> tuple[dict[KeyPath, int], list[Problem]]:
    """Path -> line of all that a file stands for, and its duplicate keys."""
    lines: dict[KeyPath, int] = {}
    duplicates = []
    for number, (path, line, first) in enumerate(_keys(node, ())):
        if number >= MOST_VALUES:
            raise Misuse(
                Problem(str(file), f"its aliases stand for more than {MOST_VALUES:,} values", remedy="write fewer")
            )
        lines[path] = line
        if first:
            place = f"{file}:{line}: {'.'.join(map(str, path))}"
            duplicates.append(Problem(place, f"duplicate key, first on line {first}", remedy="remove one"))
    return lines, duplicates


def _keys(node: Any, path: KeyPath) -> Iterator[tuple[KeyPath, int, int | None]]:
    """Path and line of every key and item, aliases written out; and the line on which the same key stood before."""
    pairs: list[tuple[Any, Any, Any]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(number, value, value) for number, value in enumerate(node.value)]
    seen: dict[Any, int] = {}
    for name, at, value in pairs:
        line = at.start_mark.line + 1
        yield (*path, name), line, seen.get(name)
        seen.setdefault(name, line)
        yield from _keys(value, (*path, name))


def _copied(value: Any) -> Any:
    """Values of which none is part of two others, as aliases make them: so that one can be changed alone."""
    if isinstance(value, dict):
        return {key: _copied(inside) for key, inside in value.items()}
    return [_copied(inside) for inside in value] if isinstance(value, list) else value
