"""A heat map of the similarity of sources and targets."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.figures.drawing import GREY, Drawing, NotDrawn
from analysis.figures.matrix import (
    NUMBERED,
    Table,
    cross_out,
    extent,
    ink_on,
    missing_pairs,
    number_points,
    size_of,
    table,
    write_names,
)
from analysis.records.evidence import Evidence
from analysis.statistics.gains import Floats
from analysis.wording import counted, minus


def similarity_map(evidence: Evidence, similarity: str) -> Drawing | NotDrawn:
    """One similarity of all pairs; rows and columns are ordered by hierarchical clustering."""
    name = f"similarity-{similarity}"
    measured = table(evidence, evidence.pairs, lambda pair: pair.similarities.get(similarity))
    if not measured.cells.size:
        return NotDrawn(name, f"no pair has the similarity {similarity}")
    rows, columns = _clusters(measured.cells), _clusters(measured.cells.T)
    shown = measured.ordered(_leaves(rows, len(measured.sources)), _leaves(columns, len(measured.targets)))
    low, high = (minus(f"{end:.{_decimals(shown.cells)}f}") for end in (np.nanmin(shown.cells), np.nanmax(shown.cells)))
    missing = int(np.isnan(shown.cells).sum())
    trees = " Dendrograms: average linkage of rows and of columns." * bool(rows or columns)
    return Drawing(
        name,
        _says_similarity(similarity, measured),
        f"Similarity of {counted(shown.cells.size - missing, 'pair')}, {extent(shown)}, mean over seeds.{trees}"
        + missing_pairs(missing),
        f"Heat map of {similarity}: {extent(shown)}, from {low} to {high}.",
        size_of(shown, tree=bool(columns)),
        lambda figure: _paint_similarity(figure, shown, rows, columns),
    )


def _says_similarity(similarity: str, measured: Table) -> str:
    """Names the most similar pair, excluding pairs of a task with itself."""
    others = [
        [math.nan if s == t else v for t, v in zip(measured.targets, row, strict=True)]
        for s, row in zip(measured.sources, measured.cells, strict=True)
    ]
    if np.isnan(others).all():
        return f"By {similarity}, each task was compared only with itself"
    s, t = np.unravel_index(np.nanargmax(others), measured.cells.shape)
    most = minus(f"{measured.cells[s, t]:.{_decimals(measured.cells)}f}")
    return (
        f"By {similarity}, the most similar source and target are {measured.sources[s]} and {measured.targets[t]} "
        f"({most})"
    )


def _decimals(cells: Floats) -> int:
    """Decimal places that distinguish most cells: two, or up to four where values are close."""
    spread = float(np.nanmax(cells) - np.nanmin(cells))
    return min(4, max(2, math.ceil(-math.log10(spread)) + 1)) if spread > 0 else 2


def _clusters(cells: Floats) -> dict[str, Any] | None:
    """The dendrogram of the rows; None for fewer than three. Missing values are imputed by the row mean."""
    if len(cells) < 3:
        return None
    from scipy.cluster import hierarchy

    means = np.nanmean(cells, axis=1, keepdims=True)
    whole = np.where(np.isnan(cells), means, cells)
    tree = hierarchy.linkage(whole, "average", optimal_ordering=True)
    return dict(hierarchy.dendrogram(tree, no_plot=True))


def _leaves(tree: Mapping[str, Any] | None, count: int) -> list[int]:
    return list(tree["leaves"]) if tree else list(range(count))


def _paint_similarity(
    figure: Any, shown: Table, rows: Mapping[str, Any] | None, columns: Mapping[str, Any] | None
) -> None:
    grid = figure.add_gridspec(
        2 if columns else 1,
        2 if rows else 1,
        height_ratios=[0.12, 1][-1 - bool(columns) :],
        width_ratios=[0.1, 1][-1 - bool(rows) :],
    )
    axes = figure.add_subplot(grid[-1, -1])
    drawn = axes.pcolormesh(np.ma.masked_invalid(shown.cells), cmap="cividis", edgecolors="white", linewidth=1)
    cross_out(axes, shown.cells)
    if len(shown.targets) <= NUMBERED:
        places = _decimals(shown.cells)
        for (i, j), value in np.ndenumerate(shown.cells):
            if not math.isnan(value):
                behind = drawn.cmap(drawn.norm(value))
                axes.text(
                    j + 0.5,
                    i + 0.5,
                    minus(f"{value:.{places}f}"),
                    ha="center",
                    va="center",
                    fontsize=number_points(shown),
                    color=ink_on(behind),
                )
    write_names(axes, shown, on_right=bool(rows))
    figure.colorbar(drawn, ax=axes, label="similarity", pad=0.02, fraction=0.04)
    if columns:
        _tree(figure.add_subplot(grid[0, -1], sharex=axes), columns, upright=True)
    if rows:
        _tree(figure.add_subplot(grid[-1, 0], sharey=axes), rows, upright=False)


def _tree(axes: Any, tree: Mapping[str, Any], upright: bool) -> None:
    for place, height in zip(tree["icoord"], tree["dcoord"], strict=True):
        along = np.array(place) / 10
        axes.plot(*((along, height) if upright else (height, along)), color=GREY, linewidth=1)
    if not upright:
        axes.invert_xaxis()
    axes.set_axis_off()
