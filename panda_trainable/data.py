"""TaskSpec to TokenTable: token ids, lengths and labels, tokenised once, mapped, and the rows of each split."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from panda_trainable.config import Setting, content_key
from panda_trainable.library import PromptLibrary
from panda_trainable.plm import load_tokenizer
from panda_trainable.tasks import TaskSpec, checked_row, fingerprint, raw_rows

FOLD_PER_REPLICA_BELOW = 2000
"""Train rows below which each replica holds out its own fold: one small fold would decide too much."""

REGRESSION_STRATA = 5


@dataclass(frozen=True)
class TokenTable:
    """The rows of one split as the PLM reads them, mapped into memory.

    Attributes:
        ids: [N, T] token ids, padded to the longest row.
        types: [N, T] token types: 0, and 1 in the second text of a pair.
        lengths: [N] tokens of each row.
        labels: [N] class numbers (int64) or values (float32).
        groups: [N] rows with the same number share a text.
        truncated: share of rows that were cut at the maximum length, in [0, 1].
    """

    ids: Tensor
    types: Tensor
    lengths: Tensor
    labels: Tensor
    groups: np.ndarray
    truncated: float

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class Rows:
    """Which rows of the train table a replica trains on and which it holds out.

    Attributes:
        train: row numbers of the train table.
        selection: row numbers of the table that selection reads: train, or validation for `paper`.
    """

    train: np.ndarray
    selection: np.ndarray


def tokens_key(setting: Setting, task: TaskSpec, split: str) -> str:
    """Key of a token table: the PLM's files, the split's rows, how they are read and cut."""
    limit = setting.limit_train if split == "train" else setting.limit_report
    fingerprint = dict(task.fingerprints)[split]
    return content_key("tokens", setting.plm.files, task.kind, task.classes, fingerprint, setting.max_length, limit)


@lru_cache(maxsize=32)
def token_table(library: PromptLibrary, setting: Setting, task: TaskSpec, split: str) -> TokenTable:
    """The token table of a split, made where it is missing and then mapped.

    Source: truncation from the longer text first, as Hugging Face's `longest_first`.
    """
    folder = library.get_or_make(
        "tokens",
        tokens_key(setting, task, split),
        lambda draft: _tokenise(draft, setting, task, split),
        {"task": task.name, "split": split, "plm": setting.plm.label},
    )
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in _ARRAYS}
    tensors = {name: torch.from_numpy(arrays[name]) for name in ("ids", "types", "lengths", "labels")}
    return TokenTable(**tensors, groups=arrays["groups"], truncated=float(arrays["truncated"]))


_ARRAYS = ("ids", "types", "lengths", "labels", "groups", "truncated")


def _tokenise(draft: Path, setting: Setting, task: TaskSpec, split: str) -> None:
    """Writes the arrays of a TokenTable into a folder."""
    if fingerprint(task, split, []) != dict(task.fingerprints)[split]:
        raise ValueError(f"{task.file(split)}: changed since the plan was made; start the search again")
    rows = [checked_row(task, place, row) for place, row in raw_rows(task, split)]
    limit = setting.limit_train if split == "train" else setting.limit_report
    rows = [rows[i] for i in capped(len(rows), limit)]
    texts = [[row[0][field] for row in rows] for field in range(len(task.text))]
    tokenizer = load_tokenizer(setting.plm)
    encoded = tokenizer(*texts, truncation="longest_first", max_length=setting.max_length, return_token_type_ids=True)
    lengths = np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64)
    whole = _whole_lengths(tokenizer, texts)
    types = encoded.get("token_type_ids") or [[0] * n for n in lengths]
    arrays = {
        "ids": _padded(encoded["input_ids"], lengths, np.int32, tokenizer.pad_token_id or 0),
        "types": _padded(types, lengths, np.uint8, 0),
        "lengths": lengths,
        "labels": np.array([row[1] for row in rows], np.float32 if task.kind == "regression" else np.int64),
        "groups": sharing_a_text([row[0] for row in rows]),
        "truncated": np.array((whole > lengths).mean()),
    }
    for name, array in arrays.items():
        np.save(draft / f"{name}.npy", array, allow_pickle=False)


def _whole_lengths(tokenizer: Any, texts: list[list[str]]) -> np.ndarray:
    return np.array([len(ids) for ids in tokenizer(*texts, truncation=False, verbose=False)["input_ids"]])


def _padded(rows: list[list[int]], lengths: np.ndarray, kind: Any, fill: int) -> np.ndarray:
    table = np.full((len(rows), lengths.max()), fill, kind)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


def capped(n: int, limit: int | None) -> np.ndarray:
    """At most `limit` of `n` rows, drawn without replacement, the same each time, in file order."""
    if limit is None or limit >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).permutation(n)[:limit])


def sharing_a_text(texts: list[tuple[str, ...]]) -> np.ndarray:
    """[N] group numbers: rows that share a text (case and spaces folded), also by way of others."""
    numbers: dict[str, int] = {}
    pairs = [
        (row, numbers.setdefault(" ".join(text.lower().split()), len(numbers)))
        for row, fields in enumerate(texts)
        for text in fields
    ]
    rows, columns = np.array(pairs).T
    nodes = len(texts) + len(numbers)
    graph = coo_array((np.ones(len(pairs)), (rows, len(texts) + columns)), (nodes, nodes))
    return connected_components(graph, directed=False)[1][: len(texts)]


def replica_rows(library: PromptLibrary, setting: Setting, task: TaskSpec, seed: int) -> Rows:
    """The train and selection rows of a replica.

    Below 2,000 train rows each seed holds out its own fold, else all seeds the same one. With
    `protocol: paper` all of train is trained on and validation selects.
    """
    table = token_table(library, setting, task, "train")
    if setting.protocol == "paper":
        selection = token_table(library, setting, task, selection_split(setting, task))
        return Rows(np.arange(len(table)), np.arange(len(selection)))
    fold = seed if len(table) < FOLD_PER_REPLICA_BELOW else 0
    wanted = min(round(setting.selection_fraction * len(table)), setting.selection_rows)
    held_out = held_out_rows(_strata(table.labels), table.groups, wanted, fold)
    return Rows(np.flatnonzero(~held_out), np.flatnonzero(held_out))


def selection_split(setting: Setting, task: TaskSpec) -> str:
    """The split whose rows the search looks at."""
    splits = dict(task.fingerprints)
    if setting.protocol != "paper":
        return "train"
    return "validation" if "validation" in splits else "test"


def _strata(labels: Tensor) -> np.ndarray:
    """[N] class numbers, or fifths of the values of a regression."""
    values = labels.numpy()
    if values.dtype.kind == "i":
        return np.asarray(values)
    edges = np.quantile(values, np.linspace(0, 1, REGRESSION_STRATA + 1)[1:-1])
    return np.searchsorted(edges, values, side="right")


def held_out_rows(strata: np.ndarray, groups: np.ndarray, wanted: int, seed: int) -> np.ndarray:
    """A stratified draw of whole groups.

    Args:
        strata: [N] class of each row.
        groups: [N] rows of one group stay together.
        wanted: rows to hold out; each class gets its share, at least one row.
        seed: of the draw.

    Returns:
        [N] booleans: held out.

    Raises:
        ValueError: if no row of a class could be held out, or none would be left to train on.
    """
    classes, strata = np.unique(strata, return_inverse=True)
    counts = np.bincount(strata)
    quota = np.maximum(np.round(counts * wanted / len(strata)), 1).astype(int)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])
    held_out = np.zeros(len(strata), bool)
    for group in np.random.default_rng([seed, 1]).permutation(len(members)):
        brought = np.bincount(strata[members[group]], minlength=len(counts))
        if (brought <= quota).all():
            held_out[members[group]] = True
            quota = quota - brought
    missing = [c for c, name in enumerate(classes) if not held_out[strata == c].any() or held_out[strata == c].all()]
    if missing:
        raise ValueError(
            f"selection and training both need rows of every class, but class {classes[missing[0]]} has "
            f"{counts[missing[0]]} rows, of which {int(held_out[strata == missing[0]].sum())} would be held out; "
            "raise selection.fraction or limit.train, or use protocol: paper"
        )
    return held_out


def batches(rows: np.ndarray, seed: int, steps: int, batch_size: int) -> np.ndarray:
    """[steps, B] row numbers: epoch after epoch, each a new order of all rows, decided by the seed."""
    generator = np.random.default_rng([seed, 2])
    epochs = -(-steps * batch_size // len(rows))
    stream = np.concatenate([generator.permutation(rows) for _ in range(epochs)])
    return stream[: steps * batch_size].reshape(steps, batch_size)
