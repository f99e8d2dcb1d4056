"""Content keys: hashes of everything that decides numbers. Imports no torch."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any

VERSIONS: Mapping[str, int] = MappingProxyType(
    {"tokens": 2, "texts": 1, "prompts": 3, "teachers": 3, "embeddings": 2, "study": 3, "confirmed": 3,
     "models": 1, "projectors": 1, "neurons": 1, "changes": 1, "scores": 1, "counts": 1, "plms": 1,
     "winners": 1}
)  # fmt: skip
"""Stage -> an integer that is raised when its numbers change; part of every key."""

FAMILY_VERSIONS: Mapping[str, int] = MappingProxyType({"nystromformer": 1, "marian": 1, "esm": 1})
"""Model type of a PLM -> an integer that is raised when its numbers alone change; part of the PLM in every key, others have 0.

1: positions of Nystromformer begin at 2, embeddings of Marian are scaled, and those of ESM-2 by its share of masks.
"""


def unkeyed(default: Any) -> Any:
    """A field that does not decide numbers (a name, a path): left out of content keys."""
    return field(default=default, metadata={"keyed": False})


def content(value: Any) -> Any:
    """What of a value decides numbers, as plain JSON data.

    Names and paths are left out, and fields at their defaults: so a setting that is added later,
    with a default that does what was done before, leaves old keys as they were.
    """
    if dataclasses.is_dataclass(value):
        fields = [f for f in dataclasses.fields(value) if f.metadata.get("keyed", True)]
        found = {f.name: content(getattr(value, f.name)) for f in fields}
        return {f.name: found[f.name] for f in fields if found[f.name] != content(f.default)}
    if isinstance(value, Mapping):
        return {str(k): content(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [content(item) for item in value]
    return value


def content_key(stage: str, *values: Any) -> str:
    """The name under which a result is stored: 20 hex digits of what decides it.

    Args:
        stage: a name of VERSIONS; its version is part of the key.
        values: all that decides the result.
    """
    text = json.dumps([stage, VERSIONS[stage], content(values)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
