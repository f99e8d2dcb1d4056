"""What an archive of source prompts may hold: names, sizes and contents, checked before anything of it is kept."""

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from panda_trainable.library import CARD
from tuning.experiment.explanations import TASK_NAME

FILES: Mapping[str, str] = MappingProxyType(
    {
        "prompts": "prompt.safetensors",
        "embeddings": "embedding.npy",
        "texts": "texts.npy",
        "counts": "counts.json",
    }
)
"""Kind of artefact -> the one file that it holds beside its card."""

TENSORS = ("prompt", "weight", "bias")
"""What a stored prompt has at least."""

MIB = 2**20
TEXT_MIB = 16
"""MiB of a card or of counts at most."""
RATIO, SPARED_MIB = 50, 64
"""An archive may grow to so many times its size; below so many MiB nobody counts. Trained numbers hardly shrink."""

_ARTEFACT = re.compile(rf"({'|'.join(FILES)})/[0-9a-f]{{20}}/([A-Za-z0-9_.-]+)")
_TASK = re.compile(r"tasks/[A-Za-z0-9_][A-Za-z0-9_.-]*\.json")


def is_known(name: str) -> bool:
    """Whether `export` writes entries of such a name."""
    artefact = _ARTEFACT.fullmatch(name)
    return bool(_TASK.fullmatch(name)) or bool(artefact and artefact[2] in (CARD, FILES[artefact[1]]))


def size_problem(entries: Sequence[zipfile.ZipInfo], archive: Path, root: Path) -> str:
    """What is wrong with the sizes that an archive declares; empty: nothing is.

    Args:
        entries: of the archive.
        archive: the file.
        root: the library, or a folder that will be.
    """
    names = [entry.filename for entry in entries]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        return f"holds {twice} twice"
    for entry in entries:
        if entry.filename.endswith(".json") and entry.file_size > TEXT_MIB * MIB:
            return f"holds {entry.filename} of {_mib(entry.file_size)}, and at most {TEXT_MIB} MiB are read"
    total, packed = sum(entry.file_size for entry in entries), archive.stat().st_size
    if total > max(RATIO * packed, SPARED_MIB * MIB):
        return f"unpacks {_mib(packed)} to {_mib(total)}, more than {RATIO} times its size, which prompts never do"
    free = shutil.disk_usage(next(folder for folder in (root, *root.parents) if folder.is_dir())).free
    return f"needs {_mib(total)}, and {root} has {_mib(free)} left" if total > free else ""


def _mib(size: int) -> str:
    return f"{size / MIB:.1f} MiB"


def artefact_problem(folder: Path) -> str:
    """What is wrong with an unpacked artefact whose checksums hold; empty: nothing is.

    Args:
        folder: `<kind>/<key>`.
    """
    kind, key = folder.parent.name, folder.name
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    told = card.get("kind"), card.get("key")
    if told != (kind, key):
        return f"{kind}/{key}: its card says {told[0]}/{told[1]}"
    found = {path.name for path in folder.iterdir()} - {CARD}
    if not (found == set(card["sha256"]) == {FILES[kind]}):
        return f"{kind}/{key}: holds {sorted(found)} and lists {sorted(card['sha256'])}, not {FILES[kind]} alone"
    try:
        wrong = _CONTENTS[kind](folder / FILES[kind])
    except (SafetensorError, OSError, ValueError, EOFError, KeyError, TypeError, MemoryError) as error:
        wrong = str(error) or type(error).__name__
    return f"{kind}/{key}/{FILES[kind]}: {wrong}" if wrong else ""


def _prompt_problem(path: Path) -> str:
    with safe_open(path, framework="np") as file:
        lacking = [name for name in TENSORS if name not in file.keys()]  # noqa: SIM118  # it is no mapping
    return f"has no tensor {', '.join(lacking)}" if lacking else ""


def _array_problem(path: Path) -> str:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    kind, dimensions = ("u", 1) if path.name == FILES["texts"] else ("f", 1)
    fits = array.dtype.kind == kind and array.ndim == dimensions
    return "" if fits else f"has numbers of type {array.dtype} and shape {[*array.shape]}"


def _counts_problem(path: Path) -> str:
    counts = json.loads(path.read_text(encoding="utf-8"))
    rows = [counts["sizes"], *counts["labels"]]
    numbers = all(isinstance(value, int | float) for row in rows for value in row)
    return "" if numbers and len(counts["labels"]) == len(counts["sizes"]) else "has no rows of numbers"


_CONTENTS: Mapping[str, Callable[[Path], str]] = MappingProxyType(
    {"prompts": _prompt_problem, "embeddings": _array_problem, "texts": _array_problem, "counts": _counts_problem}
)
"""Kind -> what is wrong with its file."""


def task_names(folder: Path) -> Iterator[str]:
    """Names of the tasks whose cards lie in a folder, each as `imported_task` will read it.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: if a card is none, or is that of another name.
    """
    for path in sorted(folder.glob("*.json")):
        card: Any = json.loads(path.read_text(encoding="utf-8"))
        name = card["task"]
        if name != path.stem or not re.fullmatch(TASK_NAME, name):
            raise ValueError(f"tasks/{path.name} is the card of {name!r}")
        _ = card["is"].items(), [(s, str(d)) for s, d in card["fingerprints"]], [(s, [*c]) for s, c in card["counts"]]
        yield name
