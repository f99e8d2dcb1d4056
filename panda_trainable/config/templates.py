"""Texts of rows: a field, or a template of fields in braces. Imports no torch."""

from collections.abc import Mapping
from string import Formatter
from types import MappingProxyType

EXTRA_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"copa": ("question",), "record": ("query", "entities", "answers")}
)
"""Row of PREPARE -> fields that it reads in addition to the task's, which a wording may name, too."""


def fields_of(text: str) -> tuple[str, ...]:
    """The fields that a text is made of: its own name, or the braces of a template."""
    if "{" not in text:
        return (text,)
    return tuple(dict.fromkeys(name for _, name, _, _ in Formatter().parse(text) if name))


def as_template(text: str) -> str:
    """A text as a template of fields."""
    return text if "{" in text else f"{{{text}}}"


def template_problem(text: str) -> str:
    """What is wrong with a text; empty: nothing."""
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        return f"{text!r} is no template ({error}); write fields in braces"
    named = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    odd = any(
        not name or name.isdecimal() or spec or conversion or set(name) & set("[]") for name, spec, conversion in named
    )
    if not text.strip() or odd or ("{" in text and not named):
        return f"{text!r} is no template: braces hold the name of a field, as in '{{question}} {{answer}}'"
    return ""
