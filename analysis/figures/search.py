"""Figures of the search: hyperparameter importance, progress over cost, and score per hyperparameter."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.figures.drawing import BLUE, INK, WIDTH, Drawing, NotDrawn, colour, dashes, marker, minus_ticks, zero_line
from analysis.findings.importance import LEAST, STABLE, Importance
from analysis.findings.search_history import COSTS, Progress, Slice
from analysis.statistics.gains import ROUNDING
from analysis.wording import by_reason, counted, counts, listed, points

LABELS = {"learning_rate": "learning rate", "lambda": "λ", "teacher_steps": "teacher steps"}


def importance_figure(found: Sequence[Importance]) -> Drawing | NotDrawn:
    """Hyperparameter importances of each method, compared with that of a random hyperparameter."""
    shown = [one for one in found if one.shares]
    if not shown:
        return NotDrawn(
            "importance", by_reason({one.method: one.note for one in found}) or "no trial has hyperparameters"
        )
    silent = [f"{one.method} ({one.note})" for one in found if not one.shares]
    return Drawing(
        "importance",
        _says_importance(shown),
        "Share of the explained variance of the score between trials of a study (fANOVA of complete trials, all studies of a method together). "
        "Dashed: importance of a random hyperparameter added for reference; bars below it show no effect. "
        f"{listed([_trials(one) for one in shown])}."
        + (f" Not shown: {listed(silent)}." if silent else "") + _constant(shown),
        "Bar charts of hyperparameter importance: " + "; ".join(f"{one.method} {_bars(one)}" for one in shown) + ".",
        (WIDTH, sum(0.62 + 0.34 * len(one.shares) for one in shown) + 0.5),
        lambda figure: _paint_importance(figure, shown),
    )  # fmt: skip


def _says_importance(shown: Sequence[Importance]) -> str:
    tops = {
        one.method: next(iter(one.shares)) for one in shown if next(iter(one.shares.values())) > one.chance + STABLE
    }
    if not tops:
        return "No hyperparameter is more important than a random one would be"
    by_knob: dict[str, list[str]] = {}
    for method, knob in tops.items():
        by_knob.setdefault(knob, []).append(method)
    return "; ".join(f"the {LABELS.get(k, k)} mattered most for {listed(m)}" for k, m in by_knob.items()).replace(
        "the", "The", 1
    )


def _trials(one: Importance) -> str:
    return f"{one.method}: {counted(one.trials, 'trial')} of {counted(one.studies, 'study')}"


def _constant(shown: Sequence[Importance]) -> str:
    names = sorted({name for one in shown for name in one.constant})
    return f" Not in every trial, or never varied: {listed(names)}." if names else ""


def _bars(one: Importance) -> str:
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in one.shares.items())


def _paint_importance(figure: Any, shown: Sequence[Importance]) -> None:
    rows = figure.subplots(
        len(shown), 1, sharex=True, squeeze=False, height_ratios=[1 + len(one.shares) for one in shown]
    )[:, 0]
    for axes, one in zip(rows, shown, strict=True):
        places = range(len(one.shares))
        axes.barh(places, [100 * share for share in one.shares.values()], height=0.62, color=BLUE)
        axes.axvline(100 * one.chance, color=INK, linewidth=1.3, linestyle=dashes(1))
        for place, share in zip(places, one.shares.values(), strict=True):
            axes.text(100 * share + 1, place, f"{100 * share:.0f}", va="center", fontsize=10)
        axes.set_yticks(places, [LABELS.get(name, name) for name in one.shares])
        axes.set_ylim(len(one.shares) - 0.4, -0.6)
        axes.set_title(one.method, fontweight="bold")
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 105)
        axes.grid(axis="x")
    rows[-1].set_xlabel("share of explained variance (%)")


def progress_figure(found: Mapping[str, Sequence[Progress]]) -> Drawing | NotDrawn:
    """Improvement of the best score so far over the published setting, against cost.

    Args:
        found: cost -> the methods' progress.
    """
    known = {cost: list(rows) for cost, rows in found.items() if rows}
    if not known:
        return NotDrawn("search", "no study has a complete first trial and another one")
    rows = next(iter(known.values()))
    best = max(rows, key=lambda one: one.above[-1])
    left_out = sum(one.left_out for one in rows)
    return Drawing(
        "search",
        _says_progress(best, len(rows)),
        "Best selection score of complete trials so far minus that of the first trial (the published setting), "
        "against the cost of all trials of a study, including stopped and failed "
        "ones (steps exclude teacher warm-ups); mean over studies with 95\u00a0% bands over studies. "
        f"{counts({one.method: one.studies for one in rows}, 'study')}."
        + (f" Left out, without a complete first trial: {counted(left_out, 'study')}." if left_out else "")
        + " The maximum over more trials is higher by chance alone: only confirmed scores are conclusive.",
        f"Line plots of the best score so far against {listed([COSTS[cost] for cost in known])}: " + "; ".join(f"{one.method} ends at {points(one.above[-1])} points" for one in rows) + ".",
        (WIDTH, 3.9),
        lambda figure: _paint_progress(figure, known),
    )  # fmt: skip


def _says_progress(best: Progress, methods: int) -> str:
    if best.above[-1] <= ROUNDING:
        return "The search found nothing better than the published setting"
    most = ", the most of all methods" if methods > 1 else ""
    return (
        f"The search improved {best.method} by {points(best.above[-1])} points of selection score over the published "
        f"setting{most}"
    )


def _paint_progress(figure: Any, known: Mapping[str, Sequence[Progress]]) -> None:
    methods = sorted({one.method for rows in known.values() for one in rows})
    panels = figure.subplots(1, len(known), sharey=True, squeeze=False)[0]
    for axes, (cost, rows) in zip(panels, known.items(), strict=True):
        for one in rows:
            place = methods.index(one.method)
            if one.band:
                axes.fill_between(
                    one.spent,
                    *(100 * np.array(side) for side in one.band),
                    color=colour(place),
                    alpha=0.13,
                    linewidth=0,
                )
            label = one.method if axes is panels[0] else None
            axes.plot(one.spent, 100 * np.array(one.above), color=colour(place), linestyle=dashes(place), label=label)
        axes.set_xlabel(f"{COSTS[cost]} per study")
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
        axes.grid()
        minus_ticks(axes.yaxis)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("gain over the first trial (points)")
    figure.legend(loc="outside upper center", ncols=min(4, len(methods)))


def slices_figure(found: Sequence[Slice]) -> Drawing | NotDrawn:
    """The score against single hyperparameters; all others vary as sampled."""
    if not found:
        return NotDrawn("slices", f"no hyperparameter varies over {LEAST} comparable complete trials")
    knobs = list(dict.fromkeys(one.knob for one in found))
    methods = sorted({one.method for one in found})
    trials = {method: max(len(one.values) for one in found if one.method == method) for method in methods}
    return Drawing(
        "slices",
        _says_slices(found),
        "Selection score of complete trials minus the mean of their study; all other hyperparameters vary as "
        "sampled. Faint: trials; lines: means of up to four bins of "
        f"neighbouring values with 95\u00a0% intervals over trials. {counts(trials, 'trial')}. {_below(found)}",
        f"Scatter plots of the centred score against {listed([LABELS.get(knob, knob) for knob in knobs])} for {listed(methods)}.",
        (WIDTH, 3.9),
        lambda figure: _paint_slices(figure, found, knobs, methods),
    )  # fmt: skip


def _floor(found: Sequence[Slice]) -> float:
    """Lower limit of the y-axis, so that a few collapsed trials do not compress all others."""
    return float(np.quantile(np.concatenate([np.array(one.scores) for one in found]), 0.02))


def _below(found: Sequence[Slice]) -> str:
    floor = _floor(found) - 0.005
    widest = [
        max((one for one in found if one.method == m), key=lambda one: len(one.scores))
        for m in {one.method for one in found}
    ]
    count = sum(score < floor for one in widest for score in one.scores)
    return f"{counted(count, 'trial')} below the axis range." if count else "No trial lies outside the axis range."


def _says_slices(found: Sequence[Slice]) -> str:
    """The best value of the hyperparameter whose bins differ most."""
    widest = max(found, key=lambda one: max(b.mean for b in one.bins) - min(b.mean for b in one.bins))
    best, worst = max(widest.bins, key=lambda b: b.mean), min(widest.bins, key=lambda b: b.mean)
    return (
        (
            f"{widest.method} scores best at a {LABELS.get(widest.knob, widest.knob)} near {best.middle:.2g}, "
            f"{points(best.mean - worst.mean, signed=False)} points better than near {worst.middle:.2g}"
        )
        .replace("at a λ", "at λ")
        .replace("at a teacher", "at teacher")
    )


def _paint_slices(figure: Any, found: Sequence[Slice], knobs: Sequence[str], methods: Sequence[str]) -> None:
    panels = figure.subplots(1, len(knobs), sharey=True, squeeze=False)[0]
    highest = max(max(one.scores) for one in found)
    for axes, knob in zip(panels, knobs, strict=True):
        zero_line(axes)
        for one in (one for one in found if one.knob == knob):
            place = methods.index(one.method)
            axes.plot(
                one.values,
                100 * np.array(one.scores),
                linestyle="none",
                marker=marker(place),
                markersize=3.5,
                color=colour(place),
                alpha=0.25,
                markeredgewidth=0,
            )
            shift = (1.05 if one.is_log else 1.0) ** (place - (len(methods) - 1) / 2)
            middles = [b.middle * shift for b in one.bins]
            for middle, b in zip(middles, one.bins, strict=True):
                if b.interval:
                    axes.plot([middle, middle], [100 * end for end in b.interval], color=colour(place), linewidth=1.5)
            axes.plot(
                middles,
                [100 * b.mean for b in one.bins],
                color=colour(place),
                linestyle=dashes(place),
                marker=marker(place),
                markersize=6.5,
                markeredgecolor="white",
            )
            if one.is_log:
                axes.set_xscale("log")
        minus_ticks(axes.xaxis)
        axes.set_xlabel(LABELS.get(knob, knob))
        axes.grid(axis="y")
    panels[0].set_ylabel("score − study mean (points)")
    panels[0].set_ylim(100 * _floor(found) - 0.5, 100 * highest + 0.5)
    minus_ticks(panels[0].yaxis)
    keys = [
        panels[0].plot([], [], color=colour(i), linestyle=dashes(i), marker=marker(i))[0] for i in range(len(methods))
    ]
    figure.legend(keys, methods, loc="outside upper center", ncols=min(4, len(methods)))
