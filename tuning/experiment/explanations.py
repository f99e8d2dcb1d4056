"""What pydantic finds wrong, in words that say what to write instead. Imports no torch."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from panda_trainable.config.methods import BASELINE, KNOBS
from tuning.experiment.problems import near

TASK_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
NAMES: Mapping[str, str] = {
    TASK_NAME: "a name begins with a letter, digit or '_' and has only letters, digits, '.', '_' and '-'",
}
"""Pattern of names -> what it says; the letters are those of ASCII."""


def rule_of(detail: Mapping[str, Any]) -> str:
    """What must hold: pydantic's sentence, but for patterns."""
    if detail["type"] == "string_pattern_mismatch":
        return NAMES[detail["ctx"]["pattern"]]
    return str(detail["msg"]).removeprefix("Value error, ")


def remedy_of(detail: Mapping[str, Any], key: str, keys: Sequence[str], required: Sequence[str]) -> str:
    """What to write instead; empty where the rule says it.

    Args:
        detail: of pydantic.
        key: what is wrong.
        keys: those of the section that it should be; empty where it is none.
        required: those of them that have no default.
    """
    value, kind = detail["input"], detail["type"]
    if value is None and isinstance(detail["loc"][-1], str) and not kind.startswith(("dataclass", "dict")):
        return "give it a value"
    if kind in ("list_type", "tuple_type") and isinstance(value, str | int | float):
        return f"write [{value}]"
    if kind == "literal_error":
        return near(str(value), re.findall(r"'([^']*)'", detail["ctx"]["expected"])).strip(" ()")
    if kind == "dataclass_type" and isinstance(value, str | int | float) and len(required) == 1:
        return f"write {key}: {{{required[0]}: {value}}}"
    if kind in ("dataclass_type", "dict_type"):
        return f"its keys are {', '.join(keys)}" if keys else f"write {key}: {{name: value}}"
    return ""


def misplaced_knobs(space: Any, methods: Sequence[str]) -> str:
    """What is wrong with a space whose knobs stand where a method's name belongs; empty: nothing is.

    Args:
        space: as the file has it.
        methods: of the experiment, beside the baseline.
    """
    for knob in space if isinstance(space, Mapping) else ():
        having = [method for method in KNOBS if knob in KNOBS[method]]
        own = [method for method in dict.fromkeys((BASELINE, *methods)) if method in having] or having
        if knob not in KNOBS and own:
            one = f"a knob of {', '.join(own)}, which stands below a method's name"
            return f"{knob} is {one}: write {{{own[-1]}: {{{knob}: …}}}}"
    return ""
