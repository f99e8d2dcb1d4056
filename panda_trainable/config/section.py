"""Section: settings as a frozen value, each with its range and its documentation in one line. Imports no torch and no pydantic.

A setting is one line of a section, `name: Annotated[type, range, Doc("meaning")] = default`. The experiment file's keys and
their checks, its JSON schema, the table of docs/experiment-file.md, MLflow's parameters and pinned files follow from that line.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import get_annotations
from types import MappingProxyType
from typing import Any, ClassVar, get_args, get_type_hints

FILE_KEYS: Mapping[str, str] = MappingProxyType({"source": "from", "of": "for"})
"""Settings whose key in the experiment file is a word of Python."""


@dataclass(frozen=True)
class Doc:
    """What a setting means, in one line: marks a field of a section as a setting that users may give."""

    text: str

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """The setting's JSON schema with its meaning."""
        return {**handler(schema), "description": self.text}


@dataclass(frozen=True)
class ShortFor:
    """A text or number alone may stand for a section of which it is one setting: `init: zeros` for `init: {kind: zeros}`.

    Attributes:
        setting: its key.
        type: of what stands alone, as pydantic's core calls it: str, int, float.
    """

    setting: str
    type: str = "str"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> dict[str, Any]:
        """The section's schema, in front of which a text becomes a section."""
        inner = handler(source)
        function = {"type": "no-info", "function": self._section_of}
        both = {"type": "union", "choices": [{"type": self.type}, inner]}
        return {"type": "function-before", "function": function, "schema": inner, "json_schema_input_schema": both}

    def _section_of(self, value: Any) -> Any:
        alone = isinstance(value, _ALONE[self.type]) and not isinstance(value, bool)
        return {self.setting: value} if alone else value


_ALONE: Mapping[str, tuple[type, ...]] = MappingProxyType({"str": (str,), "int": (int,), "float": (int, float)})


@dataclass(frozen=True)
class ReadBy:
    """A setting that may be written in other ways, of which a function makes what its type wants.

    Attributes:
        function: value as written -> value of the type.
        also: types of the other ways to write it, as pydantic's core calls them.
    """

    function: Callable[[Any], Any]
    also: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> dict[str, Any]:
        """The setting's schema behind the function."""
        inner = handler(source)
        written = {"type": "union", "choices": [*({"type": name} for name in self.also), inner]}
        function = {"type": "no-info", "function": self.function}
        return {"type": "function-before", "function": function, "schema": inner, "json_schema_input_schema": written}


def as_list(value: Any) -> Any:
    """A single value stands for a list of one."""
    return value if isinstance(value, list) else [value]


def as_name(value: Any) -> Any:
    """A class as its name: YAML reads 1 and true as what they look like."""
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value


def one_as_list(value: Any) -> Any:
    """A name or number alone stands for a list of one."""
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


class WrongSetting(ValueError):
    """A setting that does not fit the others of its section.

    Attributes:
        setting: its name.
    """

    def __init__(self, setting: str, rule: str):
        super().__init__(rule)
        self.setting = setting


def file_key(name: str) -> str:
    """What a setting is called in the experiment file."""
    return FILE_KEYS.get(name, name)


@dataclass(frozen=True)
class Section:
    """A part of the experiment file: unknown keys are refused, and numbers that are not finite."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "alias_generator": file_key,
        "allow_inf_nan": False,
    }


def settings_of(section: type) -> dict[str, str]:
    """Name -> meaning of the settings of a section: its own, then those of the sections that it extends."""
    hints = get_type_hints(section, include_extras=True)
    names = dict.fromkeys(name for part in section.__mro__ for name in get_annotations(part))
    docs = {name: _doc(hints[name]) for name in names if name in hints}
    return {name: doc.text for name, doc in docs.items() if doc}


def _doc(annotation: Any) -> Doc | None:
    return next((note for note in getattr(annotation, "__metadata__", ()) if isinstance(note, Doc)), None)


def section_in(annotation: Any) -> Any:
    """The section that a key holds, also inside of a list or an alternative; None: it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)


def shared_settings(section: type, value: Any) -> dict[str, Any]:
    """Name -> value of a section's settings, taken from a value that has them, too.

    Use it to build a section of the settings of a larger one: `Small(**shared_settings(Small, large))`.
    """
    return {name: getattr(value, name) for name in settings_of(section)}


def as_filed(value: Any, section: type[Section] | None = None) -> Any:
    """A section as the experiment file writes it: plain JSON data, all settings, under the file's keys.

    Args:
        value: the section, or a value that extends it.
        section: which of its settings are written; None: all.
    """
    if isinstance(value, Section):
        names = settings_of(section or type(value))
        return {file_key(name): as_filed(getattr(value, name)) for name in names}
    return [as_filed(item) for item in value] if isinstance(value, tuple) else value


def flattened(filed: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(`section.key`, value) of every key of nested sections."""
    for key, value in filed.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
