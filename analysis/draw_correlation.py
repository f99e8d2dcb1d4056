"""Figures that answer: coefficients with their intervals, similarity against gain, and what retrieval keeps."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from analysis.answer import Answer, is_clear, is_marked, points_of
from analysis.correlation import Correlation, OfTarget, Point, levels
from analysis.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    WIDTH,
    Drawing,
    NotDrawn,
    chance,
    colour,
    counted,
    dashes,
    marker,
    minus,
    minus_ticks,
    points,
    rho,
    span,
    zero_line,
)
from analysis.evidence import Evidence
from analysis.records import GAIN, HIGH, LOW, StudyRecord
from analysis.retrieval import hindsight, random_order, top_k

COLUMNS = 3


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
        "Mean over targets of Spearman's coefficient between similarity and gain of the sources; lines are 95\u00a0% intervals over targets "
        "and sources. Filled: confirmed winners; hollow: the first trial, the same settings on every pair. Grey tick: the ceiling, what "
        f"another measurement of the gain with other seeds would reach.{note} {_n(rows)} {evidence.protocol}.",
        f"Interval plot of {counted(len(rows), 'coefficient')}: {counted(len(similarities), 'similarity')} × {counted(len(methods), 'method')}.",
        (WIDTH, 0.9 + len(methods) * 0.35 + 0.42 * len(similarities) * len(methods)),
        lambda figure: _paint_coefficients(figure, rows, methods, similarities, marked),
    )


def _mean_of(rows: Sequence[Correlation], method: str, similarity: str) -> float:
    return next((c.spearman_mean or 0.0 for c in rows if (c.method, c.similarity, c.measure) == (method, similarity, "gain")), -2.0)


def _says_coefficients(rows: Sequence[Correlation], method: str) -> str:
    own = [c for c in rows if c.method == method and c.measure == "gain"] or list(rows)
    clear = [c.similarity for c in own if is_clear(c)]
    best = max(own, key=lambda c: c.spearman_mean or 0.0)
    told = f"{best.similarity} {rho(best.spearman_mean)}"
    if len(own) == 1:
        return f"{best.similarity} {'orders' if clear else 'does not order'} the sources of {best.method} better than chance ({rho(best.spearman_mean)})"
    if not clear:
        return f"No similarity orders the sources of {best.method} better than chance; highest: {told}"
    if len(clear) == 1:
        return f"Of {len(own)} similarities only {clear[0]} orders the sources of {best.method} better than chance; highest: {told}"
    return f"{len(clear)} of {len(own)} similarities order the sources of {best.method} better than chance; highest: {told}"


def _n(rows: Sequence[Correlation]) -> str:
    most = max(rows, key=lambda c: c.pooled.n)
    return f"{counted(sum(of.spearman is not None for of in most.targets.values()), 'target')}, {counted(most.pooled.n, 'pair')}."


def _paint_coefficients(figure: Any, rows: Sequence[Correlation], methods: Sequence[str], similarities: Sequence[str], marked: Sequence[str]) -> None:
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
                panel.plot([c.spearman_mean], [at], marker="o", markersize=6.5, color=shade, markerfacecolor="white" if first else shade, zorder=3)
                if c.ceiling is not None:
                    panel.plot([c.ceiling], [at], marker="|", markersize=11, color=GREY, markeredgewidth=1.8, zorder=2)
        panel.set_yticks(range(len(similarities)), similarities)
        panel.set_ylim(len(similarities) - 0.5, -0.5)
        panel.set_xlim(-1.03, 1.03)
        panel.set_title(method + " *" * (method in marked), fontweight="bold")
        panel.grid(axis="x")
        panel.tick_params(axis="y", length=0)
    axes[-1].set_xlabel("Spearman's coefficient, mean over targets")
    minus_ticks(axes[-1].xaxis)


def scatter_figure(evidence: Evidence, answer: Answer) -> Drawing | NotDrawn:
    """Similarity against gain, a panel per target; those without signal too, in grey, for they count nowhere."""
    if answer.found is None or answer.method is None or answer.similarity is None:
        return NotDrawn("scatter", "there is no coefficient to show the pairs of")
    pairs = [pair for pair in evidence.heard_others if pair.method == answer.method]
    shown = points_of(evidence, pairs, answer.similarity, "gain")
    targets = {target: [(p, pair) for p, pair in zip(shown, pairs, strict=True) if p.target == target and p.is_known] for target in answer.found.targets}
    up = sum((of.spearman or 0) > 0 for of in answer.found.targets.values())
    some = [of for of in answer.found.targets.values() if of.spearman is not None]
    rows = math.ceil(len(targets) / COLUMNS)
    return Drawing(
        "scatter",
        f"{answer.similarity} and the gain of {answer.method} rise together on {up} of {counted(len(some), 'target')}",
        f"Gain over prompt tuning on report rows against {answer.similarity}, a point per source, {counted(sum(map(len, targets.values())), 'pair')}; bars: 95\u00a0% "
        "intervals over rows and seeds. ρ: Spearman's coefficient, r: Pearson's with Fisher's 95\u00a0% interval, p of ρ; line: least squares. "
        f"Each panel has its own scales. The best and the worst source are named. {_left_out(evidence)}{evidence.protocol}.",
        f"{counted(len(targets), 'scatter plot')} of gain against {answer.similarity}: " + "; ".join(f"{t} ρ {rho(of.spearman)}" for t, of in answer.found.targets.items()) + ".",
        (WIDTH if len(targets) > 1 else 5.6, (2.75 if len(targets) > 1 else 3.4) * rows),
        lambda figure: _paint_scatter(figure, targets, answer),
    )


def _left_out(evidence: Evidence) -> str:
    return f"Left out, without signal: {', '.join(evidence.silent)}. " if evidence.silent else ""


def _paint_scatter(figure: Any, targets: dict[str, list[tuple[Point, StudyRecord]]], answer: Answer) -> None:
    assert answer.found is not None
    columns = min(COLUMNS, len(targets))
    panels = figure.subplots(math.ceil(len(targets) / columns), columns, squeeze=False).ravel()
    for panel, (target, known) in zip(panels, targets.items(), strict=False):
        zero_line(panel)
        x, y = (np.array([getattr(p, side) for p, _ in known]) for side in ("similarity", "value"))
        for (point, pair) in known:
            ends = [100 * pair.metrics[f"{GAIN}/{end}"] for end in (LOW, HIGH) if f"{GAIN}/{end}" in pair.metrics]
            panel.plot([point.similarity] * len(ends), ends, color=BLUE, alpha=0.35, linewidth=1.4)
        panel.plot(x, 100 * y, "o", color=BLUE, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6)
        of = answer.found.targets[target]
        if of.spearman is not None and len(known) > 1:
            slope, start = np.polyfit(x, 100 * y, 1)
            ends = np.array([x.min(), x.max()])
            panel.plot(ends, start + slope * ends, color=INK, linewidth=1.4, linestyle=dashes(1))
        panel.set_title(target, fontweight="bold", pad=31)
        panel.locator_params(nbins=5)
        panel.text(0, 1.03, _told(of), transform=panel.transAxes, fontsize=9, color=GREY, va="bottom")
        _name_ends(panel, known)
        panel.grid(axis="y")
        panel.margins(x=0.12, y=0.12)
        minus_ticks(panel.yaxis)
        minus_ticks(panel.xaxis)
    for panel in panels[len(targets):]:
        panel.set_visible(False)
    figure.supxlabel(str(answer.similarity), fontsize=11)
    figure.supylabel("gain, points", fontsize=11)


def _told(of: OfTarget) -> str:
    if of.spearman is None:
        return of.note
    r = f", r {rho(of.pearson)}" if of.pearson is not None else ""
    return f"ρ {rho(of.spearman)} ({chance(of.spearman_p)}), n {of.n}\n{r[2:]} ({span(fisher(of.pearson, of.n))})" if r else f"ρ {rho(of.spearman)} ({chance(of.spearman_p)}), n {of.n}"


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


def pooled_figure(evidence: Evidence, answer: Answer) -> Drawing | NotDrawn:
    """All pairs in one picture, gains as ranks within their target: what the pooled coefficient is of."""
    found = answer.found
    if found is None or found.pooled.spearman is None or answer.method is None or answer.similarity is None:
        return NotDrawn("pooled", found.pooled.note if found else "there is no pooled coefficient")
    pairs = [pair for pair in evidence.heard_others if pair.method == answer.method]
    known = [point for point in points_of(evidence, pairs, answer.similarity, "gain") if point.is_known]
    names = sorted({point.target for point in known})
    return Drawing(
        "pooled",
        f"Over all pairs, {answer.similarity} and the gain of {answer.method} correlate by {rho(found.pooled.spearman)} "
        f"({span(found.pooled.spearman_interval)}; {chance(found.pooled.p_adjusted)})",
        f"{counted(len(known), 'pair')} of {counted(len(names), 'target')}; gain as its rank within the target, 1 is the best source. Black: mean rank of each fifth of the pairs by "
        "similarity. Spearman's coefficient with its 95\u00a0% interval over targets and sources; p by permuting the sources' names jointly over targets, "
        f"corrected for the number of similarities. {_left_out(evidence)}{evidence.protocol}.",
        f"Scatter plot of {counted(len(known), 'pair')}: {answer.similarity} against the rank of the gain within its target, Spearman {rho(found.pooled.spearman)}.",
        (WIDTH, 4.2),
        lambda figure: _paint_pooled(figure, known, names, str(answer.similarity)),
    )


def _paint_pooled(figure: Any, known: Sequence[Point], names: Sequence[str], similarity: str) -> None:
    axes = figure.add_subplot()
    xs, ys = [], []
    for place, name in enumerate(names):
        own = [point for point in known if point.target == name]
        ranks = (stats.rankdata(levels(np.array([p.value for p in own]))) - 0.5) / len(own)
        several = len(names) <= 7
        axes.plot(
            [p.similarity for p in own], ranks, linestyle="none", marker=marker(place) if several else "o", markersize=6.5, label=name,
            color=colour(place) if several else BLUE, alpha=0.85, markeredgecolor="white", markeredgewidth=0.6,
        )  # fmt: skip
        xs += [p.similarity for p in own]
        ys += list(ranks)
    _fifths(axes, np.array(xs), np.array(ys))
    axes.set_xlabel(similarity)
    axes.set_ylabel("rank of the gain in its target")
    axes.set_ylim(-0.02, 1.02)
    axes.grid()
    minus_ticks(axes.xaxis)
    if 1 < len(names) <= 7:
        figure.legend(loc="outside right upper", title="target", alignment="left")


def _fifths(axes: Any, x: Any, y: Any) -> None:
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, min(5, len(x) // 4)) if len(part)] if len(x) >= 8 else []
    if len(parts) > 1:
        axes.plot([x[part].mean() for part in parts], [y[part].mean() for part in parts], "-", color=INK, marker="_", markersize=14, markeredgewidth=2.5, linewidth=1.2)


def retrieval_figure(evidence: Evidence, answer: Answer) -> Drawing | NotDrawn:
    """The gain that is kept where only the most similar sources are tried."""
    own = [pair for pair in evidence.heard_others if pair.method == answer.method]
    curves = {name: rows for name in evidence.similarities if (rows := top_k(own, str(answer.method), name) if own else [])}
    if not curves or max(map(len, curves.values())) < 2:
        return NotDrawn("retrieval", "there are not two sources of a target to choose from")
    count = max(map(len, curves.values()))
    chances = [random_order(own, str(answer.method), k) for k in range(1, count + 1)]
    oracle, most = chances[-1], hindsight(own, str(answer.method))
    best = max(curves, key=lambda name: (name == answer.similarity, curves[name][0].gain))
    return Drawing(
        "retrieval",
        _says_retrieval(best, str(answer.method), curves[best][0].gain, chances[0], oracle, count),
        f"Gain over prompt tuning of the best of so many sources, the most similar first, chosen by selection score, mean over {counted(len({evidence.place(p.target, p.plm) for p in own}), 'target')}, "
        f"{counted(len(own), 'pair')}. Random: expected, with sources drawn. All sources: the same for every order (the oracle of SPoT). Hindsight, {points(most)} points, chooses by the "
        f"report score itself. {_left_out(evidence)}{evidence.protocol}.",
        f"Line plot of the gain kept against the share of sources tried for {counted(len(curves), 'similarity')}, random order and all sources.",
        (WIDTH, 3.9),
        lambda figure: _paint_retrieval(figure, {name: [(1 - row.left_out, row.gain) for row in rows] for name, rows in curves.items()}, chances, best),
    )


def _says_retrieval(best: str, method: str, first: float, drawn: float, oracle: float, count: int) -> str:
    if oracle > 1e-9:
        return f"The most similar source by {best} keeps {minus(f'{100 * first / oracle:.0f}')}\u00a0% of what {method} gains with all {count}; one at random keeps {minus(f'{100 * drawn / oracle:.0f}')}\u00a0%"
    return f"With all {count} sources {method} gains {points(oracle)} points, so there is nothing to keep; the most similar by {best} gains {points(first)}"


def _paint_retrieval(figure: Any, curves: dict[str, list[tuple[float, float]]], chances: Sequence[float], best: str) -> None:
    axes = figure.add_subplot()
    zero_line(axes)
    oracle, count = chances[-1], len(chances)
    axes.axhline(100 * oracle, color=INK, linewidth=1.2, linestyle=dashes(1), label="all sources", zorder=1)
    axes.plot([100 * k / count for k in range(1, count + 1)], [100 * g for g in chances], color=GREY, linewidth=1.8, linestyle=dashes(2), label="random")
    for place, (name, rows) in enumerate(curves.items()):
        main = name == best
        axes.plot(
            [100 * share for share, _ in rows], [100 * gain for _, gain in rows], color=colour(place), marker=marker(place), markersize=5.5 if main else 4.5,
            linewidth=2.6 if main else 1.4, linestyle="-" if main else dashes(place), label=name, zorder=4 if main else 3, alpha=1 if main else 0.85,
        )  # fmt: skip
    axes.set_xlabel("sources tried, %")
    axes.set_ylabel("gain, points")
    axes.set_xlim(0, 103)
    axes.grid(axis="y")
    minus_ticks(axes.yaxis)
    if oracle > 1e-9:
        kept = axes.secondary_yaxis("right", functions=(lambda gain: gain / oracle, lambda share: share * oracle))
        kept.set_ylabel("of the gain of all, %")
        kept.spines["right"].set_visible(False)
        minus_ticks(kept.yaxis)
    figure.legend(loc="outside right upper", alignment="left")
