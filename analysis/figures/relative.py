"""A heat map of what source prompts reach untrained, relative to the target's own prompt: Su et al.'s matrix."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

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
from analysis.records.names import BASELINE
from analysis.records.studies import StudyRecord
from analysis.statistics.gains import relative_performance
from analysis.wording import counted, listed

COLOURS = "cividis"
CONTROL = "random prompt"


def untrained(evidence: Evidence) -> list[str]:
    """Methods that take a source's prompt as it is: they train nothing, and have the random prompt as their twin."""
    known = {pair.method for pair in evidence.pairs if pair.confirmed.steps == 0 and pair.confirmed.twin}
    return [method for method in evidence.methods if method in known]


def relative_map(evidence: Evidence, method: str) -> Drawing | NotDrawn:
    """Relative performance of every pair of a method that trains nothing; below it what needs no source.

    Source: Su et al. (2022), R(s → t) = score of the source's prompt / score of the target's own prompt.
    """
    pairs = [pair for pair in evidence.pairs if pair.method == method]
    found = table(evidence, pairs, lambda pair: pair.confirmed.relative_performance)
    if not found.cells.size:
        return NotDrawn(
            f"relative-{method}", f"{method} has no confirmed pair whose target's own prompt scores above 0"
        )
    means = [np.nanmean(cells) for cells in found.cells]
    columns = np.argsort(-np.nanmean(found.cells, axis=0), kind="stable")
    shown = found.ordered([int(i) for i in np.argsort(np.negative(means), kind="stable")], [int(i) for i in columns])
    below = _without_source(evidence, pairs, shown.targets)
    known = shown.cells[~np.isnan(shown.cells)]
    return Drawing(
        f"relative-{method}",
        _says(method, pairs, shown),
        f"Report score of the source's prompt, untrained on the target, over that of the target's own prompt, "
        f"{counted(len(known), 'pair')}; 1: as good as that. Below the line what needs no source: {listed(below.sources)}. "
        f"Rows and columns sorted by their means. {evidence.protocol}."
        + missing_pairs(int(np.isnan(shown.cells).sum())),
        f"Heat map of the relative performance of {method}: {extent(shown)}, from {known.min():.2f} to {known.max():.2f}; "
        f"below it {listed(below.sources)}.",
        size_of(_stacked(shown, below), tree=False),
        lambda figure: _paint(figure, shown, below),
    )


def _says(method: str, pairs: Sequence[StudyRecord], shown: Table) -> str:
    beaten = sum(pair.confirmed.score.mean > pair.confirmed.twin.mean for pair in pairs if pair.confirmed.twin)
    over = f"{method} scores higher than the random prompt on {beaten} of {counted(len(pairs), 'pair')}"
    if len(shown.sources) == 1:
        return over
    return f"{over}; {shown.sources[0]} reaches {np.nanmean(shown.cells[0]):.2f} of the targets' own prompts on average"


def _without_source(evidence: Evidence, pairs: Sequence[StudyRecord], targets: Sequence[str]) -> Table:
    """The random prompt, and methods that train nothing and have no source, on the same targets."""
    own = {evidence.place(s.target, s.plm): s.confirmed.score.mean for s in evidence.studies if s.reference == BASELINE}
    rows: dict[str, dict[str, list[float]]] = {CONTROL: {}}
    for pair in pairs:
        twin, place = pair.confirmed.twin, evidence.place(pair.target, pair.plm)
        relative = relative_performance(twin.mean, own[place]) if twin and place in own else None
        if relative is not None:
            rows[CONTROL].setdefault(place, []).append(relative)
    for study in evidence.studies:
        relative = study.confirmed.relative_performance
        if study.source is None and study.confirmed.steps == 0 and relative is not None:
            rows.setdefault(study.method, {})[evidence.place(study.target, study.plm)] = [relative]
    cells = [[fmean(of.get(target, [math.nan])) for target in targets] for of in rows.values()]
    return Table(list(rows), list(targets), np.array(cells))


def _stacked(above: Table, below: Table) -> Table:
    return Table([*above.sources, *below.sources], above.targets, np.vstack([above.cells, below.cells]))


def _paint(figure: Any, shown: Table, below: Table) -> None:
    from matplotlib.colors import Normalize

    axes, whole = figure.add_subplot(), _stacked(shown, below)
    scale = Normalize(float(np.nanmin(whole.cells)), max(1.0, float(np.nanmax(whole.cells))))
    drawn = axes.pcolormesh(
        np.ma.masked_invalid(whole.cells), cmap=COLOURS, norm=scale, edgecolors="white", linewidth=1
    )
    cross_out(axes, whole.cells)
    if len(whole.targets) <= NUMBERED:
        _numbers(axes, whole, scale)
    axes.axhline(len(shown.sources), color="white", linewidth=6)
    write_names(axes, whole, on_right=False)
    figure.colorbar(drawn, ax=axes, label="relative performance", pad=0.02, fraction=0.04)


def _numbers(axes: Any, shown: Table, scale: Any) -> None:
    import matplotlib as mpl

    for (i, j), value in np.ndenumerate(shown.cells):
        if not math.isnan(value):
            ink = ink_on(mpl.colormaps[COLOURS](scale(float(value))))
            axes.text(
                j + 0.5, i + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=number_points(shown), color=ink
            )
