"""Paired comparisons: early and late fusion, with and without partner sources, winners and their twins."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from analysis.figures.drawing import BLUE, GREY, INK, WIDTH, Drawing, NotDrawn, minus_ticks, zero_line
from analysis.findings.comparisons import TWIN, MethodComparison
from analysis.findings.contrasts import SIDES, Contrast
from analysis.records.evidence import Evidence, left_out
from analysis.wording import by_reason, counted, counts, listed, points


def contrasts_figure(found: Sequence[Contrast]) -> Drawing | NotDrawn:
    """Differences between variants of transfer, with their intervals."""
    shown = [one for one in found if one.difference is not None]
    if not shown:
        reasons = by_reason({f"{one.name} of {one.method}": one.note for one in found})
        return NotDrawn("contrasts", reasons or "no trial has partners or a fusion")
    missing = [f"{one.name} of {one.method} ({one.note})" for one in found if one.difference is None]
    return Drawing(
        "contrasts",
        _says_contrasts(shown),
        "Difference in selection score of complete trials, excluding each study's first trial; 95\u00a0% intervals "
        "over studies, if there are at least three. "
        + "; ".join(f"{one.name}, {one.method}: {counted(one.trials, 'trial')} of {counted(one.studies, 'study')}, {one.how}" for one in shown)
        + ". Other hyperparameters are not held constant." + (f" Not shown: {listed(missing)}." if missing else ""),
        "Interval plot: " + "; ".join(f"{one.name} of {one.method} {points(one.difference or 0.0)} points" for one in shown) + ".",
        (WIDTH, 1.0 + 0.45 * len(shown)),
        lambda figure: _paint_contrasts(figure, shown),
    )  # fmt: skip


def _says_contrasts(shown: Sequence[Contrast]) -> str:
    clear = [one for one in shown if one.interval and (one.interval[0] > 0 or one.interval[1] < 0)]
    if not clear:
        return "Neither partner sources nor the type of fusion makes a significant difference"
    return "; ".join(_says_contrast(one) for one in clear)


def _says_contrast(one: Contrast) -> str:
    better, worse = SIDES[one.name]
    far = points(abs(one.difference or 0.0), signed=False)
    return f"{one.method} scores {far} points {'higher' if (one.difference or 0.0) > 0 else 'lower'} with {better} than with {worse}"


def _paint_contrasts(figure: Any, shown: Sequence[Contrast]) -> None:
    axes = figure.add_subplot()
    zero_line(axes, vertical=True)
    for place, one in enumerate(shown):
        if one.interval:
            axes.plot([100 * end for end in one.interval], [place, place], color=BLUE)
        axes.plot(
            [100 * (one.difference or 0.0)],
            [place],
            marker="o",
            markersize=7,
            color=BLUE,
            markerfacecolor=BLUE if one.interval else "white",
        )
    axes.set_yticks(range(len(shown)), [f"{one.name}, {one.method}" for one in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.set_xlabel("difference (points)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    minus_ticks(axes.xaxis)


def twins_figure(evidence: Evidence, compared: Sequence[MethodComparison]) -> Drawing | NotDrawn:
    """Winners compared with the same configurations without transfer."""
    found = [one for one in compared if one.reference == TWIN]
    if not found:
        return NotDrawn("twins", "no confirmed winner has a twin")
    targets = sorted({target for one in found for target in one.differences})
    rows = len(targets) * len(found)
    return Drawing(
        "twins",
        _says_twins(found),
        "Report score of the winner minus that of its twin: the same settings, steps and seeds without transfer (λ "
        "= 0; for a prompt transferred with its head, a random prompt). Dots: "
        "studies; bars: target means; in parentheses: mean over targets with its 95\u00a0% interval, if there are "
        f"at least three targets. {counts({one.method: one.n for one in found}, 'study')}. "
        f"{left_out(evidence)}{evidence.protocol}.",
        "Dot plot of winner minus twin: " + "; ".join(f"{one.method} {_mean(one)} points on average" for one in found) + ".",
        (WIDTH, 0.9 + 0.5 * len(found) + 0.3 * rows),
        lambda figure: _paint_twins(figure, found, targets),
    )  # fmt: skip


def _mean(one: MethodComparison) -> str:
    return "unknown" if one.mean is None else points(one.mean)


def _says_twins(found: Sequence[MethodComparison]) -> str:
    said = [
        f"{one.method} scores {_difference(one.mean)} its twins without transfer{_certainty(one)}"
        for one in found
        if one.mean is not None
    ]
    return "; ".join(said) or "No target with a signal has a winner with a twin"


def _difference(mean: float) -> str:
    return f"{points(abs(mean), signed=False)} points {'below' if mean < 0 else 'above'}"


def _certainty(one: MethodComparison) -> str:
    return "" if one.interval is None else " (significant)" if one.is_significant else " (not significant)"


def _paint_twins(figure: Any, found: Sequence[MethodComparison], targets: Sequence[str]) -> None:
    panels = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
    for axes, one in zip(panels, found, strict=True):
        zero_line(axes, vertical=True)
        for place, target in enumerate(targets):
            values = [100 * value for value in one.differences.get(target, ())]
            if values:
                has_signal = target not in one.without_signal
                axes.plot(
                    values, [place] * len(values), linestyle="none", marker="o", markersize=6, color=BLUE if has_signal else GREY,
                    alpha=0.6, markeredgecolor="white", markeredgewidth=0.6,
                )  # fmt: skip
                axes.plot(
                    [fmean(values)],
                    [place],
                    marker="|",
                    markersize=15,
                    markeredgewidth=2.4,
                    color=INK if has_signal else GREY,
                )
        span = f", {points(one.interval[0])} to {points(one.interval[1])}" if one.interval else ""
        axes.set_title(f"{one.method} ({_mean(one)}{span})", fontweight="bold")
        axes.set_yticks(range(len(targets)), [f"{t} (no signal)" if t in one.without_signal else t for t in targets])
        axes.set_ylim(len(targets) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(color="#eeeeee")
        axes.margins(x=0.08)
    panels[-1].set_xlabel("winner − twin (points)")
    minus_ticks(panels[-1].xaxis)
