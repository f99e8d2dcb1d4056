"""Heat-maps of sources × targets: how similar they are, and what was gained."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.drawing import GREY, INK, WIDTH, Drawing, NotDrawn, counted, minus, points
from analysis.evidence import Evidence
from analysis.measures import share_above
from analysis.records import GAIN, HIGH, LOW, SIMILARITY, StudyRecord

Floats = NDArray[np.float64]
NUMBERED = 30
"""Columns up to which cells hold their numbers."""
WIDEST = 0.95
"""Share of cells that the colours reach; the few beyond have the colour of the end."""


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


def table(evidence: Evidence, pairs: Sequence[StudyRecord], metric: str) -> Table:
    """A metric of pairs as a matrix; rows and columns without any value are left out."""
    known = {
        (pair.source or "", evidence.place(pair.target, pair.plm)): pair.metrics[metric]
        for pair in pairs
        if not math.isnan(pair.metrics.get(metric, math.nan))
    }
    sources, targets = (sorted({names[i] for names in known}) for i in (0, 1))
    cells = np.array([[known.get((s, t), math.nan) for t in targets] for s in sources]).reshape(
        len(sources), len(targets)
    )
    return Table(sources, targets, cells)


def similarity_map(evidence: Evidence, similarity: str) -> Drawing | NotDrawn:
    """One similarity of all pairs; sources and targets that are alike stand side by side."""
    name = f"similarity-{similarity}"
    measured = table(evidence, evidence.pairs, f"{SIMILARITY}/{similarity}")
    if not measured.cells.size:
        return NotDrawn(name, f"no pair has the similarity {similarity}")
    rows, columns = _clusters(measured.cells), _clusters(measured.cells.T)
    shown = measured.ordered(_leaves(rows, len(measured.sources)), _leaves(columns, len(measured.targets)))
    low, high = np.nanmin(shown.cells), np.nanmax(shown.cells)
    missing = int(np.isnan(shown.cells).sum())
    trees = " Trees: average linkage of rows and of columns." * bool(rows or columns)
    return Drawing(
        name,
        _says_similarity(similarity, measured),
        f"Similarity of {counted(shown.cells.size - missing, 'pair')}, {_extent(shown)}, mean over seeds.{trees}"
        + _missing(missing),
        f"Heat-map of {similarity}: {_extent(shown)}, from {minus(f'{low:.2f}')} to {minus(f'{high:.2f}')}.",
        _size(shown, tree=bool(columns)),
        lambda figure: _paint_similarity(figure, shown, rows, columns),
    )


def _says_similarity(similarity: str, measured: Table) -> str:
    """The pair that is most similar, but for tasks with themselves."""
    others = [
        [math.nan if s == t else v for t, v in zip(measured.targets, row, strict=True)]
        for s, row in zip(measured.sources, measured.cells, strict=True)
    ]
    if np.isnan(others).all():
        return f"By {similarity}, each task was compared with itself alone"
    s, t = np.unravel_index(np.nanargmax(others), measured.cells.shape)
    most = minus(f"{measured.cells[s, t]:.2f}")
    return f"By {similarity}, {measured.sources[s]} is the source most like a target: {measured.targets[t]} ({most})"


def _extent(shown: Table) -> str:
    return f"{counted(len(shown.sources), 'source')} (rows) × {counted(len(shown.targets), 'target')} (columns)"


def _missing(count: int) -> str:
    return f" Crossed out: {counted(count, 'pair')} without a value." if count else ""


def _clusters(cells: Floats) -> dict[str, Any] | None:
    """The tree of the rows; None for fewer than three, where it says nothing. Gaps count as the row's mean."""
    if len(cells) < 3:
        return None
    from scipy.cluster import hierarchy

    means = np.nanmean(cells, axis=1, keepdims=True)
    whole = np.where(np.isnan(cells), means, cells)
    tree = hierarchy.linkage(whole, "average", optimal_ordering=True)
    return dict(hierarchy.dendrogram(tree, no_plot=True))


def _leaves(tree: Mapping[str, Any] | None, count: int) -> list[int]:
    return list(tree["leaves"]) if tree else list(range(count))


def _size(shown: Table, tree: bool) -> tuple[float, float]:
    rows, columns = shown.cells.shape
    width = max(5.6, min(WIDTH, 1.1 * columns + 3), 0.44 * columns + 2.5)
    return width, max(0.8, 0.38 * rows) + 1.0 + 0.6 * tree


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
    _cross_out(axes, shown.cells)
    if len(shown.targets) <= NUMBERED:
        for (i, j), value in np.ndenumerate(shown.cells):
            if not math.isnan(value):
                behind = drawn.cmap(drawn.norm(value))
                axes.text(
                    j + 0.5,
                    i + 0.5,
                    minus(f"{value:.2f}"),
                    ha="center",
                    va="center",
                    fontsize=_points(shown),
                    color=_ink(behind),
                )
    _names(axes, shown, on_right=bool(rows))
    figure.colorbar(drawn, ax=axes, label="similarity", pad=0.02, fraction=0.04)
    if columns:
        _tree(figure.add_subplot(grid[0, -1], sharex=axes), columns, upright=True)
    if rows:
        _tree(figure.add_subplot(grid[-1, 0], sharey=axes), rows, upright=False)


def _points(shown: Table) -> float:
    return 9 if len(shown.targets) <= 12 else 7.5


def _ink(behind: Sequence[float]) -> str:
    """What is readable on a colour: by how bright it seems."""
    red, green, blue = behind[:3]
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.52 else INK


def _tree(axes: Any, tree: Mapping[str, Any], upright: bool) -> None:
    for place, height in zip(tree["icoord"], tree["dcoord"], strict=True):
        along = np.array(place) / 10
        axes.plot(*((along, height) if upright else (height, along)), color=GREY, linewidth=1)
    if not upright:
        axes.invert_xaxis()
    axes.set_axis_off()


def _names(axes: Any, shown: Table, on_right: bool) -> None:
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


def _cross_out(axes: Any, cells: Floats) -> None:
    for i, j in zip(*np.nonzero(np.isnan(cells)), strict=True):
        axes.plot([j + 0.3, j + 0.7], [i + 0.3, i + 0.7], color="#b0b0b0", linewidth=0.9)
        axes.plot([j + 0.3, j + 0.7], [i + 0.7, i + 0.3], color="#b0b0b0", linewidth=0.9)


def gain_map(evidence: Evidence, method: str) -> Drawing | NotDrawn:
    """The gain of every pair of a method: the best sources above, the targets that gain most at the left."""
    pairs = [pair for pair in evidence.pairs if pair.method == method]
    gains = table(evidence, pairs, GAIN)
    if not gains.cells.size:
        return NotDrawn(f"gain-{method}", f"{method} has no confirmed pair")
    shown = gains.ordered(_descending(gains.cells), _descending(gains.cells.T))
    unsure = _unsure(evidence, pairs, shown)
    known = shown.cells[~np.isnan(shown.cells)]
    limit = float(np.quantile(np.abs(known), WIDEST)) or 0.01
    return Drawing(
        f"gain-{method}",
        _says_gain(method, shown, pairs),
        f"Gain over prompt tuning in points on report rows, {counted(len(known), 'pair')}; rows and columns by mean gain. "
        f"{_hatching(pairs, unsure)} {_beyond(known, limit)}{_silent(evidence, shown)}{evidence.protocol}."
        + _missing(int(np.isnan(shown.cells).sum())),
        f"Heat-map of the gains of {method}: {_extent(shown)}, from {points(float(known.min()))} to {points(float(known.max()))} points; "
        f"{counted(int(unsure.sum()), 'cell')} hatched.",
        _size(shown, tree=False),
        lambda figure: _paint_gain(figure, shown, unsure, limit, evidence.silent),
    )


def _descending(cells: Floats) -> list[int]:
    """Rows by their mean, the highest first."""
    return [int(i) for i in np.argsort(-np.nanmean(cells, axis=1), kind="stable")]


def _says_gain(method: str, shown: Table, pairs: Sequence[StudyRecord]) -> str:
    gains = [pair.metrics[GAIN] for pair in pairs]
    lows = [pair.metrics[f"{GAIN}/{LOW}"] for pair in pairs if f"{GAIN}/{LOW}" in pair.metrics]
    up = round(share_above(gains) * len(gains))
    clear = f", on {round(share_above(lows) * len(lows))} clearly" if lows else ""
    said = f"{method} beats prompt tuning on {up} of {counted(len(gains), 'pair')}{clear}"
    if len(shown.sources) == 1:
        return said
    return f"{said}; {shown.sources[0]} helps most, {points(float(np.nanmean(shown.cells[0])))} points on average"


def _beyond(known: Floats, limit: float) -> str:
    over = int((np.abs(known) > limit + 1e-12).sum())
    return (
        f"{over} beyond ±{points(limit, signed=False)} {'have' if over != 1 else 'has'} the colour of the end. "
        if over
        else ""
    )


def _silent(evidence: Evidence, shown: Table) -> str:
    silent = [name for name in evidence.silent if name in shown.targets]
    return "In brackets: prompt tuning does not beat the majority class. " if silent else ""


def _hatching(pairs: Sequence[StudyRecord], unsure: NDArray[np.bool_]) -> str:
    unknown = sum(f"{GAIN}/{LOW}" not in pair.metrics for pair in pairs)
    if unknown == len(pairs):
        return "No intervals are known."
    without = f"; {counted(unknown, 'pair')} without an interval" if unknown else ""
    return f"Hatched: the 95\u00a0% interval over rows and seeds spans zero ({int(unsure.sum())}{without}); “clearly”: it lies above zero."


def _unsure(evidence: Evidence, pairs: Sequence[StudyRecord], shown: Table) -> NDArray[np.bool_]:
    """[S, T] whether the interval spans zero."""
    ends = {
        (pair.source, evidence.place(pair.target, pair.plm)): (
            pair.metrics.get(f"{GAIN}/{LOW}", math.nan),
            pair.metrics.get(f"{GAIN}/{HIGH}", math.nan),
        )
        for pair in pairs
    }
    return np.array([[_spans(*ends.get((s, t), (math.nan, math.nan))) for t in shown.targets] for s in shown.sources])


def _spans(low: float, high: float) -> bool:
    return low <= 0 <= high


def _paint_gain(figure: Any, shown: Table, unsure: NDArray[np.bool_], limit: float, silent: Sequence[str]) -> None:
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    axes = figure.add_subplot()
    named = Table(shown.sources, [f"({name})" if name in silent else name for name in shown.targets], shown.cells)
    drawn = axes.pcolormesh(
        np.ma.masked_invalid(100 * shown.cells),
        cmap="PuOr_r",
        norm=Normalize(-100 * limit, 100 * limit),
        edgecolors="white",
        linewidth=1,
    )
    for i, j in zip(*np.nonzero(unsure), strict=True):
        axes.add_patch(
            Rectangle((j + 0.03, i + 0.03), 0.94, 0.94, fill=False, hatch="////", edgecolor="#9a9a9a", linewidth=0)
        )
    _cross_out(axes, shown.cells)
    if len(shown.targets) <= NUMBERED:
        _numbers(axes, shown, limit)
    _names(axes, named, on_right=False)
    over = np.nanmax(np.abs(shown.cells)) > limit + 1e-12
    figure.colorbar(drawn, ax=axes, label="gain, points", pad=0.02, fraction=0.04, extend="both" if over else "neither")


def _numbers(axes: Any, shown: Table, limit: float) -> None:
    import matplotlib as mpl

    colours = mpl.colormaps["PuOr_r"]
    for (i, j), value in np.ndenumerate(shown.cells):
        if not math.isnan(value):
            behind = colours(0.5 + 0.5 * float(np.clip(value / limit, -1, 1)))
            box = {"facecolor": behind, "edgecolor": "none", "pad": 1.2}
            axes.text(
                j + 0.5,
                i + 0.5,
                points(value),
                ha="center",
                va="center",
                fontsize=_points(shown),
                color=_ink(behind),
                bbox=box,
            )
