"""How soon a transferred prompt is good: two speed-ups from recorded curves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.statistics.gains import ROUNDING

Curve = Mapping[int, float]
"""Evaluated step -> selection score, mean over seeds, in [-1, 1]; finite."""

TOLERANCE = 0.005
"""Half a point: what a converged curve may still gain, in score units."""


@dataclass(frozen=True)
class Speedups:
    """How many times fewer steps than the baseline; above 1 is sooner, below 1 later.

    Attributes:
        convergence: steps of the baseline to converge / steps of ours to converge, in [0, inf].
        comparable: steps of the baseline to converge / steps of ours to reach the baseline's final score,
            in [0, inf]; None where ours never reaches it.
    """

    convergence: float
    comparable: float | None


def converged(curve: Curve, tolerance: float = TOLERANCE) -> int:
    """The step at which a curve has converged: the first whose score is within a tolerance of the best.

    No later score is more than the tolerance above it, since none is above the best.

    Args:
        curve: with one evaluation or more, in any order.
        tolerance: in score units, not negative.

    Raises:
        ValueError: if the curve is empty or the tolerance negative.

    Source: Su et al. (NAACL 2022) name the convergence time; the rule is ours.
    """
    if not curve or not tolerance >= 0:
        raise ValueError(
            f"a curve needs an evaluation and a tolerance of 0 or more to converge, got {len(curve)} and {tolerance}"
        )
    return _reached(curve, max(curve.values()) - tolerance)[0]


def speedups(baseline: Curve, ours: Curve, tolerance: float = TOLERANCE) -> Speedups | None:
    """Both speed-ups of a curve over the baseline's; None where either curve is empty.

    The final score is that of the last evaluation. It may be up to the tolerance above the score at
    which the baseline counts as converged: a curve compared with itself may have a comparable speed-up
    below 1. A zero-shot start that is already there, at step 0, is infinitely faster; where the
    baseline needs no step either, the speed-up is 1.

    Args:
        baseline: of plain prompt tuning.
        ours: of the transferred prompt, evaluated at the same steps.
        tolerance: of convergence, in score units.

    Source: Su et al. (NAACL 2022), convergence and comparable-result speedup.
    """
    if not baseline or not ours:
        return None
    steps = converged(baseline, tolerance)
    comparable = _reached(ours, baseline[max(baseline)])
    return Speedups(_ratio(steps, converged(ours, tolerance)), _ratio(steps, comparable[0]) if comparable else None)


def _reached(curve: Curve, score: float) -> list[int]:
    """The steps, in order, at which a curve is at a score or above."""
    return [step for step in sorted(curve) if curve[step] >= score - ROUNDING]


def _ratio(theirs: int, ours: int) -> float:
    if ours == 0:
        return math.inf if theirs else 1.0
    return theirs / ours
