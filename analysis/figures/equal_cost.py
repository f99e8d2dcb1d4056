"""Figure of methods at equal cost: what each had found along what it had spent."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from analysis.figures.drawing import WIDTH, Drawing, NotDrawn, colour, dashes, marker, minus_ticks, zero_line
from analysis.findings.costs import IN_FULL
from analysis.findings.equal_cost import SHARES, WHOLE, AtCost, EqualCost
from analysis.wording import counts, points

CURVE = (*SHARES, *(float(2**power) for power in range(1, 8)), WHOLE)
"""Budgets of the figure."""
Line = list[tuple[float, float]]
"""Cost, as a multiple of the baseline's, and score above the baseline's whole search."""


def equal_cost_figure(found: EqualCost) -> Drawing | NotDrawn:
    """Selection score minus that of prompt tuning's whole search, against the steps that were spent for it.

    Args:
        found: at the budgets of CURVE.
    """
    lines = _lines(found)
    if len(lines) < 2:  # the baseline's own, and another's
        return NotDrawn("equal_cost", found.note or f"no method but {found.baseline} has complete trials")
    others = {method: line[-1] for method, line in lines.items() if method != found.baseline}
    ends = "; ".join(f"{m} ends at {points(above)} points for ×{cost:.1f} the steps" for m, (cost, above) in others.items())  # fmt: skip
    return Drawing(
        "equal_cost",
        _says(found),
        f"Selection score of the best complete trial so far minus that of {found.baseline}'s whole search, mean over targets with a signal, "
        f"against the steps of all seeds, with all that was trained for a method, as a multiple of {found.baseline}'s. "
        "A line begins where every target has a complete trial; every target pays its sources in full. "
        + ("Scores are of seeds that did not choose. " if found.is_cross_fitted else "Scores are of the seeds that chose, so that more trials look better by chance alone. ")
        + f"{counts({m: found.of(IN_FULL)[m][0].targets for m in lines}, 'target')}. Deviations over targets are in the table.",
        f"Line plot of the score against cost: {ends}.",
        (WIDTH, 3.6),
        lambda figure: _paint(figure, found.baseline, lines),
    )  # fmt: skip


def _lines(found: EqualCost) -> dict[str, Line]:
    """Method -> its line, the baseline first."""
    own = found.of(IN_FULL)
    if not own:
        return {}
    base = own[found.baseline][-1].scores
    lines = {method: _line(rows, base) for method, rows in own.items()}
    return {method: line for method, line in lines.items() if line}


def _line(rows: list[AtCost], base: Mapping[str, float]) -> Line:
    known = [row for row in rows if row.score is not None]
    line = {row.cost: fmean(score - base[place] for place, score in row.scores.items()) for row in known}
    return sorted(line.items())


def _says(found: EqualCost) -> str:
    """The methods at the baseline's own cost, as far as they have a score there."""
    equal = [row for row in found.rows if row.account == IN_FULL and row.share == 1 and not row.is_baseline]
    known = [f"{row.method} {points(row.difference)}" for row in equal if row.difference is not None]
    if not known:
        return f"For the steps of {found.baseline} no other method has a complete trial on all of its targets"
    return f"For the steps of {found.baseline}: {', '.join(known)} points"


def _paint(figure: Any, baseline: str, lines: Mapping[str, Line]) -> None:
    axes = figure.subplots()
    zero_line(axes)
    for place, (method, line) in enumerate(lines.items()):
        costs, above = zip(*line, strict=True)
        axes.plot(
            costs, [100 * value for value in above], label=method, color=colour(place), linestyle=dashes(place),
            marker=marker(place), markersize=6, markeredgecolor="white",
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    lowest, highest = axes.get_xlim()
    ticks = [share for share in CURVE if lowest <= share <= highest]
    axes.set_xticks(ticks, [f"{share:g}" for share in ticks])
    axes.set_xlabel(f"steps spent (multiples of {baseline}'s whole search)")
    axes.set_ylabel(f"above {baseline} (points)")
    minus_ticks(axes.yaxis)
    axes.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=min(4, len(lines)))
