"""Figures over all targets: gain against similarity, and the gain retained by trying only similar sources."""

import textwrap
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from analysis.figures.drawing import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    WIDTH,
    Drawing,
    NotDrawn,
    colour,
    dashes,
    marker,
    minus_ticks,
    zero_line,
)
from analysis.findings.answer import Answer, points_of
from analysis.findings.retrieval import TopK, hindsight_gains, random_order, top_k, tried_shares
from analysis.records.evidence import Evidence, left_out
from analysis.statistics.coefficients import shares
from analysis.statistics.correlation import Point
from analysis.wording import chance, counted, minus, points, rho, span


def pooled_figure(evidence: Evidence, answer: Answer) -> Drawing | NotDrawn:
    """All pairs as ranks within their target, of similarity and of gain: the data of the pooled coefficient."""
    found = answer.found
    if found is None or found.pooled.spearman is None or answer.method is None or answer.similarity is None:
        return NotDrawn("pooled", found.pooled.note if found else "there is no pooled coefficient")
    pairs = [pair for pair in evidence.transfer_pairs if pair.method == answer.method]
    known = [point for point in points_of(evidence, pairs, answer.similarity, "gain") if point.is_known]
    names = sorted({point.target for point in known})
    return Drawing(
        "pooled",
        f"Over all pairs, the correlation of {answer.similarity} and the gain of {answer.method} is "
        f"{rho(found.pooled.spearman)} "
        f"({span(found.pooled.spearman_interval)}; {chance(found.pooled.p_adjusted)})",
        f"{counted(len(known), 'pair')} of {counted(len(names), 'target')}; similarity and gain as ranks within their target, best "
        "source at the top, most similar one on the right. Black: mean rank in equal-count bins of "
        "similarity. Spearman's coefficient with its 95\u00a0% interval over targets and sources; p from permuting "
        "the source labels jointly over targets, "
        f"corrected for the number of similarities. {left_out(evidence)}{evidence.protocol}.",
        f"Scatter plot of {counted(len(known), 'pair')}: rank of the gain against that of {answer.similarity}, within targets, Spearman {rho(found.pooled.spearman)}.",
        (WIDTH, 4.2),
        lambda figure: _paint_pooled(figure, known, names, str(answer.similarity)),
    )


def _paint_pooled(figure: Any, known: Sequence[Point], names: Sequence[str], similarity: str) -> None:
    axes = figure.add_subplot()
    xs, ys = [], []
    few, series = len(names) <= len(COLOURS), []
    for place, name in enumerate(names):
        own = [point for point in known if point.target == name]
        near, ranks = (shares(np.array(side)) for side in ([p.similarity for p in own], [p.value for p in own]))
        series += axes.plot(
            near, ranks, linestyle="none", marker=marker(place) if few else "o", markersize=6.5,
            color=colour(place) if few else BLUE, alpha=0.85, markeredgecolor="white", markeredgewidth=0.6,
        )  # fmt: skip
        xs += list(near)
        ys += list(ranks)
    _binned_means(axes, np.array(xs), np.array(ys))
    axes.set_xlabel(f"rank of {similarity} within target")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylabel("rank of gain within target")
    axes.set_ylim(-0.02, 1.02)
    axes.grid()
    minus_ticks(axes.xaxis)
    if few and len(names) > 1:
        figure.legend(
            series,
            [textwrap.fill(name, 22) for name in names],
            loc="outside right upper",
            title="target",
            alignment="left",
        )


def _binned_means(axes: Any, x: Any, y: Any) -> None:
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, min(5, len(x) // 4)) if len(part)] if len(x) >= 8 else []
    if len(parts) > 1:
        axes.plot(
            [x[part].mean() for part in parts],
            [y[part].mean() for part in parts],
            "-",
            color=INK,
            marker="_",
            markersize=14,
            markeredgewidth=2.5,
            linewidth=1.2,
        )


def retrieval_figure(evidence: Evidence, answer: Answer) -> Drawing | NotDrawn:
    """The gain retained by trying only the most similar sources."""
    own = [pair for pair in evidence.transfer_pairs if pair.method == answer.method]
    curves = {
        name: rows for name in evidence.similarities if (rows := top_k(own, str(answer.method), name) if own else [])
    }
    if not curves or max(map(len, curves.values())) < 2:
        return NotDrawn("retrieval", "no target has at least two sources to choose from")
    count = max(map(len, curves.values()))
    chances = [random_order(own, str(answer.method), k) for k in range(1, count + 1)]
    oracle, most = chances[-1], [gain for gain in hindsight_gains(own, str(answer.method)) if gain is not None]
    best = max(curves, key=lambda name: (name == answer.similarity, curves[name][0].gain))
    curves = {best: curves[best], **curves}
    return Drawing(
        "retrieval",
        _says_retrieval(best, str(answer.method), curves[best][0], chances[0], oracle, count),
        "Gain over prompt tuning of the best of the k most similar sources, chosen by selection score; mean over "
        f"{counted(len({evidence.place(p.target, p.plm) for p in own}), 'target')}, "
        f"{counted(len(own), 'pair')}. Random: expected gain of randomly drawn sources. All sources: independent of "
        f"the order (SPoT's oracle). {_says_hindsight(most)} {left_out(evidence)}{evidence.protocol}.",
        f"Line plot of the gain against the share of sources tried for {counted(len(curves), 'similarity')}, random "
        "order and all sources.",
        (WIDTH, 3.9),
        lambda figure: _paint_retrieval(
            figure,
            {name: [(1 - row.left_out, row.gain) for row in rows] for name, rows in curves.items()},
            list(zip(tried_shares(own, str(answer.method)), chances, strict=True)),
            best,
            curves[best][0].kept is not None,
        ),
    )


def _says_hindsight(gains: Sequence[float]) -> str:
    """What one would gain who knew the report scores; empty where rows were not recorded."""
    if not gains:
        return ""
    return (
        f"Choosing in hindsight, by other report rows and seeds than are scored, gains {points(fmean(gains))} points."
    )


def _says_retrieval(best: str, method: str, first: TopK, drawn: float, oracle: float, count: int) -> str:
    if first.kept is not None:
        return (
            f"The most similar source by {best} retains {minus(f'{100 * first.kept:.0f}')}\u00a0% of what "
            f"{method} gains with all {count}; a random source retains {minus(f'{100 * drawn / oracle:.0f}')}\u00a0%"
        )
    return (
        f"With all {count} sources {method} gains {points(oracle)} points, not above zero beyond doubt; the most "
        f"similar by {best} gains {points(first.gain)}"
    )


def _paint_retrieval(
    figure: Any,
    curves: dict[str, list[tuple[float, float]]],
    chances: Sequence[tuple[float, float]],
    best: str,
    in_shares: bool,
) -> None:
    axes = figure.add_subplot()
    zero_line(axes)
    oracle = chances[-1][1]
    axes.axhline(100 * oracle, color=INK, linewidth=1.2, linestyle=dashes(1), label="all sources", zorder=1)
    axes.plot(
        [100 * share for share, _ in chances],
        [100 * gain for _, gain in chances],
        color=GREY,
        linewidth=1.8,
        linestyle=dashes(2),
        label="random",
    )
    for place, (name, rows) in enumerate(curves.items()):
        main = name == best
        axes.plot(
            [100 * share for share, _ in rows], [100 * gain for _, gain in rows], color=colour(place), marker=marker(place), markersize=5.5 if main else 4.5,
            linewidth=2.6 if main else 1.4, linestyle="-" if main else dashes(place), label=name, zorder=4 if main else 3, alpha=1 if main else 0.85,
        )  # fmt: skip
    axes.set_xlabel("sources tried (%)")
    axes.set_ylabel("gain (points)")
    axes.set_xlim(0, 103)
    axes.grid(axis="y")
    minus_ticks(axes.yaxis)
    if in_shares:
        retained = axes.secondary_yaxis("right", functions=(lambda gain: gain / oracle, lambda share: share * oracle))
        retained.set_ylabel("share of the gain of all (%)")
        retained.spines["right"].set_visible(False)
        minus_ticks(retained.yaxis)
    figure.legend(loc="outside right upper", alignment="left")
