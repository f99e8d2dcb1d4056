"""Correlation coefficients with their intervals, and scatter plots of gain against similarity per target."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from analysis.figures.drawing import BLUE, GREY, INK, ORANGE, WIDTH, Drawing, NotDrawn, dashes, minus_ticks, zero_line
from analysis.findings.answer import Answer, is_marked, is_significant, points_of
from analysis.records.evidence import Evidence, left_out
from analysis.records.studies import StudyRecord
from analysis.statistics.correlation import Correlation, OfTarget, Point
from analysis.wording import chance, counted, rho, span

COLUMNS = 3


def _columns(panels: int) -> int:
    """Number of panels per row; four panels form a 2 × 2 grid."""
    return 2 if panels == 4 else min(COLUMNS, panels)


def coefficients_figure(evidence: Evidence, found: Sequence[Correlation]) -> Drawing | NotDrawn:
    """Mean Spearman coefficient of each similarity, of winners and of the fixed first trials, with intervals."""
    rows = [c for c in found if c.measure in ("gain", "first_gain") and c.spearman_mean is not None]
    if not rows:
        return NotDrawn("coefficients", "no target has a coefficient")
    methods = list(dict.fromkeys(c.method for c in rows))
    similarities = sorted({c.similarity for c in rows}, key=lambda name: -_mean_of(rows, methods[0], name))
    marked = [method for method in methods if is_marked(evidence, method)]
    note = f" *: the loss of {', '.join(marked)} contains a similarity." if marked else ""
    return Drawing(
        "coefficients",
        _says_coefficients(rows, methods[0]),
        "Mean over targets of Spearman's coefficient between similarity and gain of the sources; lines: 95\u00a0% "
        "intervals over targets "
        "and sources. Filled: confirmed winners; hollow: the first trial, the same settings on every pair, scored "
        "on selection rows with the search seeds. Better than chance: p below 0.05 when means of sources are removed and "
        "each source permuted over targets, corrected over similarities; an interval may still include zero, since it also "
        "covers the choice of targets. Grey tick: noise ceiling, the coefficient "
        f"that a repeated measurement of the gain with other seeds and rows would reach as a predictor.{note} {_n(rows)} "
        f"{evidence.protocol}.",
        f"Interval plot of {counted(len(rows), 'coefficient')}: {counted(len(similarities), 'similarity')} × {counted(len(methods), 'method')}.",
        (WIDTH, 0.9 + len(methods) * 0.35 + 0.42 * len(similarities) * len(methods)),
        lambda figure: _paint_coefficients(figure, rows, methods, similarities, marked),
    )


def _mean_of(rows: Sequence[Correlation], method: str, similarity: str) -> float:
    return next(
        (c.spearman_mean or 0.0 for c in rows if (c.method, c.similarity, c.measure) == (method, similarity, "gain")),
        -2.0,
    )


def _says_coefficients(rows: Sequence[Correlation], method: str) -> str:
    own = [c for c in rows if c.method == method and c.measure == "gain"] or list(rows)
    significant = [c.similarity for c in own if is_significant(c)]
    best = max(own, key=lambda c: c.spearman_mean or 0.0)
    told = f"{best.similarity} {rho(best.spearman_mean)}"
    if len(own) == 1:
        return f"{best.similarity} {'orders' if significant else 'does not order'} the sources of {best.method} better than chance ({rho(best.spearman_mean)})"
    if not significant:
        return f"No similarity orders the sources of {best.method} better than chance; highest: {told}"
    if significant == [best.similarity]:
        return f"Of {len(own)} similarities only {best.similarity} orders the sources of {best.method} better than chance (mean ρ {rho(best.spearman_mean)})"
    spanning = all(c.mean_interval is None or c.mean_interval[0] <= 0 for c in own if is_significant(c))
    doubt = " on these targets, although every interval includes zero" if spanning else ""
    return f"{len(significant)} of {len(own)} similarities {'order' if len(significant) > 1 else 'orders'} the sources of {best.method} better than chance{doubt}; highest: {told}"


def _n(rows: Sequence[Correlation]) -> str:
    most = max(rows, key=lambda c: c.pooled.n)
    return f"{counted(sum(of.spearman is not None for of in most.targets.values()), 'target')}, {counted(most.pooled.n, 'pair')}."


def _paint_coefficients(
    figure: Any, rows: Sequence[Correlation], methods: Sequence[str], similarities: Sequence[str], marked: Sequence[str]
) -> None:
    axes = figure.subplots(len(methods), 1, sharex=True, squeeze=False)[:, 0]
    for panel, method in zip(axes, methods, strict=True):
        zero_line(panel, vertical=True)
        for c in rows:
            if c.method == method:
                first = c.measure == "first_gain"
                at = similarities.index(c.similarity) + (0.16 if first else -0.16)
                low, high = c.mean_interval or (math.nan, math.nan)
                shade = ORANGE if first else BLUE
                panel.plot([low, high], [at, at], color=shade, linewidth=1.6, zorder=2)
                panel.plot(
                    [c.spearman_mean],
                    [at],
                    marker="o",
                    markersize=6.5,
                    color=shade,
                    markerfacecolor="white" if first else shade,
                    zorder=3,
                )
                if c.ceiling is not None:
                    panel.plot([c.ceiling], [at], marker="|", markersize=11, color=GREY, markeredgewidth=1.8, zorder=2)
        panel.set_yticks(range(len(similarities)), similarities)
        panel.set_ylim(len(similarities) - 0.5, -0.5)
        panel.set_xlim(-1.03, 1.03)
        panel.set_title(method + " *" * (method in marked), fontweight="bold")
        panel.grid(axis="x")
        panel.tick_params(axis="y", length=0)
    axes[-1].set_xlabel("mean Spearman coefficient over targets")
    minus_ticks(axes[-1].xaxis)


def scatter_figure(evidence: Evidence, answer: Answer) -> Drawing | NotDrawn:
    """Gain against similarity, one panel per target; targets without signal are included in grey, but not counted."""
    if answer.found is None or answer.method is None or answer.similarity is None:
        return NotDrawn("scatter", "there is no correlation coefficient to illustrate")
    pairs = [pair for pair in evidence.transfer_pairs if pair.method == answer.method]
    shown = points_of(evidence, pairs, answer.similarity, "gain")
    targets = {
        target: [(p, pair) for p, pair in zip(shown, pairs, strict=True) if p.target == target and p.is_known]
        for target in answer.found.targets
    }
    up = sum((of.spearman or 0) > 0 for of in answer.found.targets.values())
    some = [of for of in answer.found.targets.values() if of.spearman is not None]
    rows = math.ceil(len(targets) / _columns(len(targets)))
    return Drawing(
        "scatter",
        f"{answer.similarity} and the gain of {answer.method} are positively correlated on {up} of "
        f"{counted(len(some), 'target')}",
        f"Gain over prompt tuning on report rows against {answer.similarity}, one point per source, "
        f"{counted(sum(map(len, targets.values())), 'pair')}; bars: 95\u00a0% "
        "intervals over rows and seeds. ρ: Spearman's coefficient, r: Pearson's with Fisher's 95\u00a0% interval, p "
        "of ρ, exact up to seven sources; dashed line: least squares. "
        "Axis scales differ between panels. The best and the worst source are labelled. "
        f"{left_out(evidence)}{evidence.protocol}.",
        f"{counted(len(targets), 'scatter plot')} of gain against {answer.similarity}: "
        + "; ".join(f"{t} ρ {rho(of.spearman)}" for t, of in answer.found.targets.items())
        + ".",
        (WIDTH if len(targets) > 1 else 5.6, (2.75 if len(targets) > 1 else 3.4) * rows),
        lambda figure: _paint_scatter(figure, targets, answer),
    )


def _paint_scatter(figure: Any, targets: dict[str, list[tuple[Point, StudyRecord]]], answer: Answer) -> None:
    assert answer.found is not None
    columns = _columns(len(targets))
    panels = figure.subplots(math.ceil(len(targets) / columns), columns, squeeze=False).ravel()
    for panel, (target, known) in zip(panels, targets.items(), strict=False):
        zero_line(panel)
        x, y = (np.array([getattr(p, side) for p, _ in known]) for side in ("similarity", "value"))
        for point, pair in known:
            ends = [100 * end for end in (pair.gain and pair.gain.interval) or ()]
            panel.plot([point.similarity] * len(ends), ends, color=BLUE, alpha=0.35, linewidth=1.4)
        panel.plot(x, 100 * y, "o", color=BLUE, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6)
        of = answer.found.targets[target]
        if of.spearman is not None and len(known) > 1:
            slope, start = np.polyfit(x, 100 * y, 1)
            sides = np.array([x.min(), x.max()])
            panel.plot(sides, start + slope * sides, color=INK, linewidth=1.4, linestyle=dashes(1))
        panel.set_title(textwrap.fill(target, 22), fontweight="bold", pad=31)
        panel.locator_params(nbins=5)
        panel.text(0, 1.03, _told(of), transform=panel.transAxes, fontsize=9.5, color=GREY, va="bottom")
        _name_ends(panel, known)
        panel.grid(axis="y")
        panel.margins(x=0.12, y=0.12)
        minus_ticks(panel.yaxis)
        minus_ticks(panel.xaxis)
    for panel in panels[len(targets) :]:
        panel.set_visible(False)
    figure.supxlabel(str(answer.similarity), fontsize=11)
    figure.supylabel("gain (points)", fontsize=11)


def _told(of: OfTarget) -> str:
    if of.spearman is None:
        return of.note
    r = f", r {rho(of.pearson)}" if of.pearson is not None else ""
    return (
        f"ρ {rho(of.spearman)} ({chance(of.p)}), n {of.n}\n{r[2:]} ({span(fisher(of.pearson, of.n))})"
        if r
        else f"ρ {rho(of.spearman)} ({chance(of.p)}), n {of.n}"
    )


def fisher(r: float | None, n: int) -> tuple[float, float] | None:
    """The 95 % interval of Pearson's coefficient; None for fewer than 4 pairs.

    Source: Fisher (1921), for pairs of normal values.
    """
    if r is None or n < 4 or abs(r) >= 1:
        return None
    half = stats.norm.ppf(0.975) / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def _name_ends(panel: Any, known: Sequence[tuple[Point, StudyRecord]]) -> None:
    """Names the sources that gain most and least, on the side where there is room."""
    if len(known) < 2:
        return
    middle = (min(p.similarity for p, _ in known) + max(p.similarity for p, _ in known)) / 2
    from matplotlib.patheffects import withStroke

    ends = (max(known, key=lambda k: k[0].value)[0], 1), (min(known, key=lambda k: k[0].value)[0], -1)
    for point, up in ends:
        left = point.similarity > middle
        panel.annotate(
            point.source, (point.similarity, 100 * point.value), (-5 if left else 5, 6 * up), textcoords="offset points", fontsize=9,
            ha="right" if left else "left", va="bottom" if up > 0 else "top", path_effects=[withStroke(linewidth=2.5, foreground="white")], zorder=5,
        )  # fmt: skip
