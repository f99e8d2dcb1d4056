"""PartOfTrain: a validation split drawn from the train rows of a task that has no other. Imports no torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panda_trainable.config.origin import Origin, Row
from panda_trainable.origins.fields import Fields
from panda_trainable.origins.texts import numbered, shared_text_groups

Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PartOfTrain:
    """An origin: the train rows of another one, of which a stratified part is the validation split.

    Attributes:
        origin: whose train split is divided.
        label: the field that rows are stratified by; empty: they are not.
        texts: fields by which rows share a text: such rows stay together.
        fraction: of the rows that are validation, in (0, 1).
        seed: of the draw.
        fields: what label and texts are called in the files.
    """

    origin: Origin
    label: str
    texts: tuple[str, ...]
    fraction: float
    seed: int
    fields: Fields = Fields()
    has_rows = True

    def splits(self) -> tuple[str, ...]:
        """Train and validation."""
        return ("train", "validation")

    def rows(self, split: str) -> Iterator[tuple[str, Row]]:
        """The rows of one part, with their places; notes and errors come with train."""
        found = list(self.origin.rows("train"))
        held_out = iter(self._held_out([row for _, row in found if isinstance(row, dict)]))
        for place, row in found:
            validates = isinstance(row, dict) and bool(next(held_out))
            if validates == (split == "validation"):
                yield place, row

    def place(self, split: str = "") -> str:
        """Where the rows are that are divided."""
        return self.origin.place("train" if split else "")

    def contents(self) -> str:
        """What is there."""
        return self.origin.contents()

    def _held_out(self, rows: Sequence[dict[str, Any]]) -> Mask:
        """[N] which rows are validation; a class of one row keeps it for training."""
        rows = [self.fields.of(row) for row in rows]
        labels = numbered([str(row.get(self.label)) if self.label else "" for row in rows])
        texts = [tuple(str(row.get(name, "")) for name in self.texts) for row in rows]
        groups = shared_text_groups(texts) if rows and self.texts else np.arange(len(rows))
        held_out = stratified_part(labels, groups, round(self.fraction * len(rows)), self.seed)
        for label in np.unique(labels):
            if held_out[labels == label].all():
                held_out[labels == label] = False
        return held_out


def group_members(groups: Indices) -> list[Indices]:
    """Row numbers of each group, in the order of group numbers."""
    return np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])


def stratified_part(strata: Indices, groups: Indices, size: int, seed: int) -> Mask:
    """A stratified random part of whole groups.

    Args:
        strata: [N] class of each row.
        groups: [N] rows of one group stay together.
        size: rows of the part, proportionally from each class, at least one.
        seed: of the draw.

    Returns:
        [N] mask of the part.
    """
    _, strata = np.unique(strata, return_inverse=True)
    counts = np.bincount(strata)
    quota = np.maximum(np.round(counts * size / max(len(strata), 1)), 1).astype(int)
    members = group_members(groups) if len(groups) else []
    part = np.zeros(len(strata), bool)
    for group in np.random.default_rng([seed, 1]).permutation(len(members)):
        class_counts = np.bincount(strata[members[group]], minlength=len(counts))
        if (class_counts <= quota).all():
            part[members[group]] = True
            quota = quota - class_counts
    return part
