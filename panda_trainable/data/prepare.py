"""PREPARE: what checks and completes the rows of tasks with fields of their own."""

import re
from collections.abc import Callable, Iterator, Mapping
from string import Formatter
from types import MappingProxyType
from typing import Any

from panda_trainable.config.origin import ClassValue
from panda_trainable.config.templates import fields_of
from panda_trainable.origins.lines import shown


def _copa(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """COPA's premise goes on with `because` where the cause is asked for, and with `so` for the effect."""
    joiners, asked = {"cause": "because", "effect": "so"}, row.get("question")
    if not isinstance(asked, str) or asked not in joiners:
        raise ValueError(f"question must be cause or effect, got {shown(asked)}")
    text_of({"premise": "", **row}, "premise")  # which the joiner would hide
    yield {**row, "joiner": joiners[asked]}


def _wic(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """WiC's start and end are offsets of characters, where they are given."""
    for number in "12":
        text, start, end = (row.get(f"{name}{number}") for name in ("sentence", "start", "end"))
        if not isinstance(text, str) or start is None or end is None:
            continue
        if not (is_whole(start) and is_whole(end) and 0 <= int(start) < int(end) <= len(text)):
            raise ValueError(
                f"start{number} and end{number} must lie in sentence{number} of {len(text)} characters, got {shown(start)} to {shown(end)}"
            )
    yield row


def _wsc(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """WSC's span indices are offsets of words divided by spaces, where they are given."""
    words = str(row.get("text", "")).split()
    for number in "12":
        index, span = row.get(f"span{number}_index"), row.get(f"span{number}_text")
        if index is None or not isinstance(span, str):
            continue
        if not is_whole(index) or not 0 <= int(index) <= len(words) - len(span.split()):
            raise ValueError(
                f"span{number}_index must place {shown(span)} within the {len(words)} words of text, got {shown(index)}"
            )
    yield row


def _record(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """ReCoRD: a row per entity, put into the query's place, right where it is among the answers."""
    query, entities, answers = row.get("query"), row.get("entities"), row.get("answers")
    if not isinstance(query, str) or "@placeholder" not in query:
        raise ValueError(f"query must be a text with @placeholder, got {shown(query)}")
    lists = [names if isinstance(names, list) else [None] for names in (entities, answers)]
    if not entities or not all(isinstance(name, str) and name.strip() for names in lists for name in names):
        raise ValueError("entities and answers must be lists of texts, with at least one entity")
    for entity in map(str, lists[0]):
        yield {**row, "filled": query.replace("@placeholder", entity), "label": int(entity in lists[1])}


PREPARE: Mapping[str, Callable[[dict[str, Any]], Iterator[dict[str, Any]]]] = MappingProxyType(
    {"copa": _copa, "wic": _wic, "wsc": _wsc, "record": _record}
)
"""Name -> what checks and completes a task's own rows. Source: P-tuning v2's input formats for SuperGLUE."""

LABELLED_BY: Mapping[str, str] = MappingProxyType({"record": "answers"})
"""Row of PREPARE -> the field from which it makes the label."""

MADE_OF: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"copa": {"joiner": ("question",)}, "record": {"filled": ("query", "entities")}}
)
"""Row of PREPARE -> field that it makes -> the fields of which it is made."""


def is_whole(value: Any) -> bool:
    """Whether a value is an integer, or a text of one, of at most 18 digits."""
    if isinstance(value, str):
        return re.fullmatch(r"\s*-?\d{1,18}\s*", value, re.ASCII) is not None
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 10**18:
        return False
    return float(value).is_integer()


def text_of(row: Mapping[str, Any], text: str, *, may_be_empty: bool = False) -> str:
    """A row's text: the value of a field, or a template filled with the values of its fields.

    Args:
        row: with the fields.
        text: a field, or a template.
        may_be_empty: whether nothing may be said, as in the second text of a pair.
    """
    values = {name: "" if row[name] is None and may_be_empty else _as_name(row[name]) for name in fields_of(text)}
    said = may_be_empty or any(isinstance(value, str) and value.strip() for value in values.values())
    for name, value in values.items():  # of a template one field may be empty, as some answers of MultiRC are
        if not isinstance(value, str) or not said:
            raise ValueError(f"{name} must be a text that is not empty, got {shown(value)}")
        if not is_unicode(value):
            raise ValueError(f"{name} must be a text, but holds half of a surrogate pair: {shown(value)}")
    if "{" not in text:
        return str(values[text])
    return "".join(said + (str(values[name]) if name else "") for said, name, _, _ in Formatter().parse(text))


def _as_name(value: Any) -> Any:
    return value.name if isinstance(value, ClassValue) else value


def is_unicode(text: str) -> bool:
    """Whether a text can be written: JSON can hold half of a character that takes two escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
