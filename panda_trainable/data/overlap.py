"""Texts that two splits share, found by hashes of folded texts."""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from panda_trainable.config.keys import content_key
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.limits import kept_rows, numbered
from panda_trainable.library import PromptLibrary

LARGEST_GROUP = 0.25
"""Share of the rows that one shared text may tie together; beyond, its field is no text but a category."""


def texts_key(task: TaskSpec, split: str, limit: int | None) -> str:
    """Key of the hashes of a split's texts."""
    return content_key("texts", dict(task.fingerprints)[split], task.compared_fields, task.question, limit)


@lru_cache(maxsize=64)
def used_texts(library: PromptLibrary, task: TaskSpec, split: str, limit: int | None) -> NDArray[np.uint64]:
    """Hashes of the texts of a split's rows, each once, sorted: what overlaps are found by.

    Args:
        library: where they are kept; they can be shared where the texts cannot.
        task: located.
        split: one of its splits.
        limit: rows at most, as in a token table; None: all.
    """
    key = texts_key(task, split, limit)
    folder = library.get_or_make(
        "texts", key, lambda draft: _hash_texts(draft, task, split, limit), {"task": task.name, "split": split}
    )
    hashes: NDArray[np.uint64] = np.load(folder / "texts.npy")
    return hashes


def _hash_texts(draft: Path, task: TaskSpec, split: str, limit: int | None) -> None:
    found, _ = kept_rows(task, split, limit)
    hashes = np.unique(text_hashes([row.compared for row in found]))
    np.save(draft / "texts.npy", hashes[hashes > 0], allow_pickle=False)


def folded(text: str) -> str:
    """A text as it is compared: only its words count, without case, spaces and punctuation (or its signs alone)."""
    return " ".join(re.findall(r"\w+", text.lower())) or text.strip()


def text_hashes(texts: Sequence[tuple[str, ...]]) -> NDArray[np.uint64]:
    """[N, F] 64-bit hashes of folded texts, of the fields that tell whether rows share a text; 0: no text."""
    columns = _telling(texts)[0]
    hashes = [[_hash(text) for text in column] for column in columns]
    return np.array(hashes, np.uint64).T


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") if text else 0


def sharing_a_text(texts: Sequence[tuple[str, ...]]) -> NDArray[np.int64]:
    """[N] group numbers: rows that share a text, as `folded`, also by way of others; an empty one does not count.

    A field that ties more than a quarter of the rows together is a category, or one question asked of
    every passage: it is left out, the field of the fewest texts first, as long as there is another.
    """
    return _telling(texts)[1]


def _telling(texts: Sequence[tuple[str, ...]]) -> tuple[list[list[str]], NDArray[np.int64]]:
    """The folded texts of the fields that tell rows apart, and the groups [N] that they make."""
    columns = [[folded(text) for text in column] for column in zip(*texts, strict=True)]
    columns.sort(key=lambda column: -len(set(column)))  # stable: among equals the first field stays longest
    groups = _tied(columns)
    while len(columns) > 1 and np.bincount(groups).max() > len(texts) * LARGEST_GROUP:
        columns.pop()
        groups = _tied(columns)
    return columns, groups


def _tied(columns: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """[N] numbers of the connected rows, by the texts of some fields."""
    n = len(columns[0])
    pairs = [(row, text) for column in columns for row, text in enumerate(column) if text]
    rows, texts = np.array([row for row, _ in pairs], np.int64), numbered([text for _, text in pairs])
    nodes = n + (int(texts.max()) + 1 if len(texts) else 0)
    graph = coo_array((np.ones(len(texts)), (rows, n + texts)), (nodes, nodes))
    return connected_components(graph, directed=False)[1][:n].astype(np.int64)
