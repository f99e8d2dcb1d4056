"""Texts shared by two splits, detected by hashes of normalised texts."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panda_trainable.config.keys import content_key
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.limits import kept_rows
from panda_trainable.library import PromptLibrary
from panda_trainable.origins.texts import text_hashes


def texts_key(task: TaskSpec, split: str, limit: int | None) -> str:
    """Key of the hashes of a split's texts."""
    return content_key("texts", dict(task.fingerprints)[split], task.compared_fields, task.question, limit)


@lru_cache(maxsize=64)
def split_text_hashes(library: PromptLibrary, task: TaskSpec, split: str, limit: int | None) -> NDArray[np.uint64]:
    """Sorted unique hashes of the texts of a split's rows, by which overlaps are detected.

    Args:
        library: caches them; hashes can be shared where the texts themselves cannot.
        task: with known files.
        split: one of its splits.
        limit: maximum number of rows, as in a token table; None: all.
    """
    key = texts_key(task, split, limit)
    folder = library.get_or_make(
        "texts", key, lambda draft: _hash_texts(draft, task, split, limit), {"task": task.name, "split": split}
    )
    hashes: NDArray[np.uint64] = np.load(folder / "texts.npy")
    return hashes


def _hash_texts(draft: Path, task: TaskSpec, split: str, limit: int | None) -> None:
    rows, _ = kept_rows(task, split, limit)
    hashes = np.unique(text_hashes([row.compared for row in rows]))
    np.save(draft / "texts.npy", hashes[hashes > 0], allow_pickle=False)
