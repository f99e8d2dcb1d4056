"""Texts as they are compared: normalised, hashed, and the groups of rows that share one. Imports no torch."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_GROUP_SHARE = 0.25
"""Largest share of rows that shared texts may connect; beyond it, a field is treated as a category, not a text."""


def normalised(text: str) -> str:
    """A text as compared: its words in lower case, without punctuation; a text without words is only stripped."""
    return " ".join(re.findall(r"\w+", text.lower())) or text.strip()


def text_hashes(texts: Sequence[tuple[str, ...]]) -> NDArray[np.uint64]:
    """[N, F] 64-bit hashes of normalised texts, of the fields that are compared for shared texts; 0: no text."""
    columns = _compared_fields(texts)[0]
    hashes = [[_hash(text) for text in column] for column in columns]
    return np.array(hashes, np.uint64).T


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") if text else 0


def shared_text_groups(texts: Sequence[tuple[str, ...]]) -> NDArray[np.int64]:
    """[N] group numbers: rows connected by shared normalised texts, transitively; empty texts are ignored.

    A field that connects more than a quarter of the rows is a category, or one question about every
    passage. Such fields are dropped, the one with the fewest distinct texts first, until one is left.
    """
    return _compared_fields(texts)[1]


def _compared_fields(texts: Sequence[tuple[str, ...]]) -> tuple[list[list[str]], NDArray[np.int64]]:
    """Normalised texts of the fields that distinguish rows, and the groups [N] of rows connected by them."""
    columns = [[normalised(text) for text in column] for column in zip(*texts, strict=True)]
    columns.sort(key=lambda column: -len(set(column)))  # stable: among ties the first field is dropped last
    groups = _connected_rows(columns)
    while len(columns) > 1 and np.bincount(groups).max() > len(texts) * MAX_GROUP_SHARE:
        columns.pop()
        groups = _connected_rows(columns)
    return columns, groups


def _connected_rows(columns: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """[N] component of each row in the bipartite graph of rows and the texts of these fields."""
    from scipy.sparse import coo_array  # imported late: it takes a quarter of a second
    from scipy.sparse.csgraph import connected_components

    n = len(columns[0])
    edges = [(row, text) for column in columns for row, text in enumerate(column) if text]
    rows, texts = np.array([row for row, _ in edges], np.int64), numbered([text for _, text in edges])
    nodes = n + (int(texts.max()) + 1 if len(texts) else 0)
    graph = coo_array((np.ones(len(texts)), (rows, n + texts)), (nodes, nodes))
    return connected_components(graph, directed=False)[1][:n].astype(np.int64)


def numbered(names: Sequence[str]) -> NDArray[np.int64]:
    """[N] the number of each name: equal names have one."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)
