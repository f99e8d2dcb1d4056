"""A heat map of the gain of each source on each target."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.figures.drawing import Drawing, NotDrawn
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
from analysis.records.measures import share_above
from analysis.records.studies import StudyRecord
from analysis.statistics.gains import Floats
from analysis.wording import counted, points

WIDEST = 0.95
"""Quantile of absolute gains at which the colour scale is clipped."""


def gain_map(evidence: Evidence, method: str) -> Drawing | NotDrawn:
    """The gain of every pair of a method: best sources at the top, targets with the largest gains on the left."""
    pairs = [pair for pair in evidence.pairs if pair.method == method]
    gains = table(evidence, pairs, lambda pair: pair.gained)
    if not gains.cells.size:
        return NotDrawn(f"gain-{method}", f"{method} has no confirmed pair")
    without = np.array([name in evidence.targets_without_signal for name in gains.targets])
    with_signal = gains.cells[:, ~without] if not without.all() else gains.cells
    columns = sorted(_descending(gains.cells.T), key=lambda column: bool(without[column]))
    shown = gains.ordered(_descending(with_signal), columns)
    unsure = _unsure(evidence, pairs, shown)
    known = shown.cells[~np.isnan(shown.cells)]
    limit = float(np.quantile(np.abs(known), WIDEST)) or 0.01
    return Drawing(
        f"gain-{method}",
        _says_gain(method, shown, evidence),
        f"Gain over prompt tuning in points on report rows, {counted(len(known), 'pair')}; rows sorted by mean gain "
        "on targets with a signal, columns by mean gain. "
        f"{_hatching(pairs, unsure)} {_beyond(known, limit)}{_brackets(evidence, shown)}{evidence.protocol}."
        + missing_pairs(int(np.isnan(shown.cells).sum())),
        f"Heat map of the gains of {method}: {extent(shown)}, from {points(float(known.min()))} to "
        f"{points(float(known.max()))} points; "
        f"{counted(int(unsure.sum()), 'cell')} hatched.",
        size_of(shown, tree=False),
        lambda figure: _paint_gain(figure, shown, unsure, limit, evidence.targets_without_signal),
    )


def _descending(cells: Floats) -> list[int]:
    """Rows by their mean, the highest first; those without a value last."""
    means = np.array([-math.inf if np.isnan(row).all() else np.nanmean(row) for row in cells])
    return [int(i) for i in np.argsort(-means, kind="stable")]


def _says_gain(method: str, shown: Table, evidence: Evidence) -> str:
    pairs = [pair for pair in evidence.pairs_with_signal if pair.method == method]
    if not pairs:
        return f"{method} has no pair on a target with a signal"
    gains = [pair.gained for pair in pairs]
    lows = [pair.gain.low for pair in pairs if pair.gain and pair.gain.low is not None]
    up = round(share_above(gains) * len(gains))
    clear = f", on {round(share_above(lows) * len(lows))} significantly" if lows else ""
    said = f"{method} beats prompt tuning on {up} of {counted(len(gains), 'pair')}{clear}"
    if len(shown.sources) == 1:
        return said
    best = fmean(pair.gained for pair in pairs if pair.source == shown.sources[0])
    how = "helps most" if best > 0 else "hurts least"
    return f"{said}; {shown.sources[0]} {how}, {points(best)} points on average"


def _beyond(known: Floats, limit: float) -> str:
    over = int((np.abs(known) > limit + 1e-12).sum())
    return (
        f"{over} beyond ±{points(limit, signed=False)} {'exceed' if over != 1 else 'exceeds'} the colour scale. "
        if over
        else ""
    )


def _brackets(evidence: Evidence, shown: Table) -> str:
    without = set(evidence.targets_without_signal) & set(shown.targets)
    return (
        "In parentheses: prompt tuning does not beat the best constant answer; the title does not count these. "
        if without
        else ""
    )


def _hatching(pairs: Sequence[StudyRecord], unsure: NDArray[np.bool_]) -> str:
    unknown = sum(_interval(pair) is None for pair in pairs)
    if unknown == len(pairs):
        return "No intervals are available."
    without = f"; {counted(unknown, 'pair')} without an interval" if unknown else ""
    return (
        f"Hatched: the 95\u00a0% interval over rows and seeds includes zero ({int(unsure.sum())}{without}); "
        "“significantly”: it lies above zero."
    )


def _unsure(evidence: Evidence, pairs: Sequence[StudyRecord], shown: Table) -> NDArray[np.bool_]:
    """[S, T] whether the interval includes zero."""
    ends = {
        (pair.source, evidence.place(pair.target, pair.plm)): _interval(pair) or (math.nan, math.nan) for pair in pairs
    }
    return np.array([[_spans(*ends.get((s, t), (math.nan, math.nan))) for t in shown.targets] for s in shown.sources])


def _interval(pair: StudyRecord) -> tuple[float, float] | None:
    return pair.gain.interval if pair.gain else None


def _spans(low: float, high: float) -> bool:
    return low <= 0 <= high


def _paint_gain(figure: Any, shown: Table, unsure: NDArray[np.bool_], limit: float, without: Sequence[str]) -> None:
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    axes = figure.add_subplot()
    named = Table(shown.sources, [f"({name})" if name in without else name for name in shown.targets], shown.cells)
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
    cross_out(axes, shown.cells)
    if len(shown.targets) <= NUMBERED:
        _numbers(axes, shown, limit)
    write_names(axes, named, on_right=False)
    over = np.nanmax(np.abs(shown.cells)) > limit + 1e-12
    figure.colorbar(
        drawn, ax=axes, label="gain (points)", pad=0.02, fraction=0.04, extend="both" if over else "neither"
    )


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
                fontsize=number_points(shown),
                color=ink_on(behind),
                bbox=box,
            )
