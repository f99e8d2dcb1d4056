"""Source × target matrices of pairwise values, and how they are drawn."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.figures.drawing import INK, WIDTH
from analysis.records.evidence import Evidence
from analysis.records.studies import StudyRecord
from analysis.statistics.gains import Floats
from analysis.wording import counted

NUMBERED = 30
"""Largest number of columns for which cells are annotated with their values."""


@dataclass(frozen=True)
class Table:
    """A matrix of sources × targets.

    Attributes:
        sources: names of rows.
        targets: names of columns.
        cells: [S, T]; NaN where there is no pair.
    """

    sources: list[str]
    targets: list[str]
    cells: Floats

    def ordered(self, rows: Sequence[int], columns: Sequence[int]) -> "Table":
        """The same with rows and columns in another order."""
        cells = self.cells[np.ix_(list(rows), list(columns))]
        return Table([self.sources[i] for i in rows], [self.targets[i] for i in columns], cells)


def table(evidence: Evidence, pairs: Sequence[StudyRecord], read: Callable[[StudyRecord], float | None]) -> Table:
    """A value of pairs as a matrix; rows and columns without any value are left out."""
    known = {
        (pair.source or "", evidence.place(pair.target, pair.plm)): value
        for pair in pairs
        if (value := read(pair)) is not None
    }
    sources, targets = (sorted({names[i] for names in known}) for i in (0, 1))
    cells = np.array([[known.get((s, t), math.nan) for t in targets] for s in sources]).reshape(
        len(sources), len(targets)
    )
    return Table(sources, targets, cells)


def extent(shown: Table) -> str:
    """Dimensions of a matrix, for captions."""
    return f"{counted(len(shown.sources), 'source')} (rows) × {counted(len(shown.targets), 'target')} (columns)"


def missing_pairs(count: int) -> str:
    """How many cells are crossed out, for captions; empty for none."""
    return f" Crossed out: {counted(count, 'pair')} without a value." if count else ""


def size_of(shown: Table, tree: bool) -> tuple[float, float]:
    """Width and height in inches that a matrix needs, with a tree above it or without."""
    rows, columns = shown.cells.shape
    width = max(5.6, min(WIDTH, 1.1 * columns + 3), 0.44 * columns + 2.5)
    return width, max(0.8, 0.38 * rows) + 1.0 + 0.6 * tree


def write_names(axes: Any, shown: Table, on_right: bool) -> None:
    """Target names below and source names beside the cells; first row at the top."""
    long = max(map(len, shown.targets)) * len(shown.targets) > 56
    axes.set_xticks(
        np.arange(len(shown.targets)) + 0.5,
        shown.targets,
        rotation=45 if long else 0,
        ha="right" if long else "center",
        rotation_mode="anchor" if long else "default",
    )
    axes.set_yticks(np.arange(len(shown.sources)) + 0.5, shown.sources)
    if on_right:
        axes.yaxis.tick_right()
    axes.tick_params(length=0)
    axes.invert_yaxis()
    for side in axes.spines.values():
        side.set_visible(False)


def cross_out(axes: Any, cells: Floats) -> None:
    """Crosses where there is no value."""
    for i, j in zip(*np.nonzero(np.isnan(cells)), strict=True):
        axes.plot([j + 0.3, j + 0.7], [i + 0.3, i + 0.7], color="#b0b0b0", linewidth=0.9)
        axes.plot([j + 0.3, j + 0.7], [i + 0.7, i + 0.3], color="#b0b0b0", linewidth=0.9)


def number_points(shown: Table) -> float:
    """Size of the numbers in the cells, in points."""
    return 9 if len(shown.targets) <= 12 else 7.5


def ink_on(behind: Sequence[float]) -> str:
    """The readable text colour on a background, by its luma."""
    red, green, blue = behind[:3]
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.52 else INK
