"""The table of the experiment file's keys, from their lines; `python -m tuning.experiment.reference FILE` puts it into a page."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

from panda_trainable.config.section import Section, as_filed, file_key, section_in, settings_of
from tuning.experiment.experiment import Experiment

HEAD = "| key | default | meaning |\n|---|---|---|\n"


def table() -> str:
    """A row for every key of the experiment file: default and meaning."""
    return HEAD + "".join(f"| `{key}` | {default} | {meaning} |\n" for key, default, meaning in _rows(Experiment, ""))


def with_table(page: str) -> str:
    """A page with its table of keys replaced by that of the code."""
    before, _, rest = page.partition(HEAD)
    _, _, after = rest.partition("\n\n")
    return f"{before}{table()}\n{after}"


def _rows(section: type, above: str, known: frozenset[type] = frozenset()) -> Iterator[tuple[str, str, str]]:
    """(key, default, meaning) of a section, then of the sections that it holds, each once."""
    hints = get_type_hints(section)
    defaults = {field.name: field for field in dataclasses.fields(section)}
    for name, meaning in settings_of(section).items():
        yield above + file_key(name), _default(defaults[name]), meaning
    for name in settings_of(section):
        inner = section_in(hints[name])
        if inner and inner not in known:
            known |= {inner}
            of_each = "<name>." if getattr(hints[name], "__origin__", None) is dict else ""
            yield from _rows(inner, f"{above}{file_key(name)}.{of_each}", known)


def _default(field: Any) -> str:
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "required"
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return "" if isinstance(value, Section) else f"`{json.dumps(as_filed(value))}`"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        file = Path(name)
        file.write_text(with_table(file.read_text(encoding="utf-8")), encoding="utf-8")
