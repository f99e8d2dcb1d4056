"""Frozen values as plain JSON data and back, by the types of their fields. Imports no torch."""

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def as_data(value: Any) -> Any:
    """A value as JSON data: of a dataclass all fields, but for those that are empty as they usually are."""
    if dataclasses.is_dataclass(value):
        named = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {field.name: as_data(own) for field, own in named.items() if own not in _EMPTY or own != _default(field)}
    if isinstance(value, Mapping):
        return {str(key): as_data(each) for key, each in value.items()}
    return [as_data(each) for each in value] if isinstance(value, list | tuple) else value


_EMPTY: tuple[Any, ...] = (None, "", (), {})


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def of_data(kind: Any, data: Any, place: str = "") -> Any:
    """The value of a type that `as_data` wrote.

    Args:
        kind: a dataclass, a tuple, mapping or union of such, a literal, or a type of JSON.
        data: as JSON has it.
        place: where it stands, for messages.

    Raises:
        ValueError: if it is no value of the type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if data is None and NoneType in arguments else of_data(_other(arguments), data, place)
    if origin is Literal:
        return _checked(data in arguments, data, f"one of {', '.join(map(repr, arguments))}", place)
    if origin is tuple:
        given = _checked(isinstance(data, list), data, "a list", place)
        kinds = arguments[:1] * len(given) if arguments[-1:] == (...,) else arguments
        _checked(len(kinds) == len(given), data, f"a list of {len(kinds)}", place)
        return tuple(
            of_data(each, item, f"{place}.{i}") for i, (each, item) in enumerate(zip(kinds, given, strict=True))
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        given = _checked(isinstance(data, dict), data, "a mapping", place)
        return {key: of_data(arguments[1], item, f"{place}.{key}") for key, item in given.items()}
    if dataclasses.is_dataclass(kind):
        return _of_fields(kind, data, place)
    if kind is float:
        return float(_checked(isinstance(data, int | float) and not isinstance(data, bool), data, "a number", place))
    fits = kind is Any or (isinstance(data, kind) and (kind is bool or not isinstance(data, bool)))
    return _checked(fits, data, f"a value of type {getattr(kind, '__name__', kind)}", place)


def _other(arguments: tuple[Any, ...]) -> Any:
    """The type of an optional value."""
    (kind,) = (each for each in arguments if each is not NoneType)
    return kind


def _checked(holds: bool, data: Any, rule: str, place: str) -> Any:
    if not holds:
        raise ValueError(f"{place.lstrip('.') or 'it'} must be {rule}, got {str(data)[:80]!r}")
    return data


def _of_fields(kind: Any, data: Any, place: str) -> Any:
    given, hints = _checked(isinstance(data, dict), data, "a mapping", place), _hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    needed = [name for name, field in fields.items() if _default(field) is dataclasses.MISSING and name not in given]
    _checked(not needed, data, f"a mapping with {', '.join(needed)}", place)
    _checked(set(given) <= set(fields), sorted(set(given) - set(fields)), f"a mapping of {', '.join(fields)}", place)
    return kind(**{name: of_data(hints[name], item, f"{place}.{name}") for name, item in given.items()})


@lru_cache(maxsize=32)
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
