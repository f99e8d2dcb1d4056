"""MEASURES: what a study's winner, or its first trial, is measured by; and how it spreads over sources and seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean
from types import MappingProxyType

from analysis.records.names import (
    COMPARABLE,
    CONVERGENCE,
    EARLY,
    ERROR_REDUCTION,
    FIRST,
    GAIN,
    LOW,
    NEVER,
    RELATIVE,
    REPORT,
    STD,
    N,
)
from analysis.records.reader import StudyRecord, by_seed
from analysis.statistics.gains import ROUNDING, spread


@dataclass(frozen=True)
class Measure:
    """How good a transferred prompt is.

    Attributes:
        label: for people, with what it is measured on.
        winner: metric of a study's winner.
        first: metric of its first trial, the published setting that every pair ran; on selection rows.
        neutral: the value where transfer makes no difference; None where only other studies can tell.
        is_points: whether it is a share that people read in percent.
        higher_is_better: whether more is better, as it is of all here.
    """

    label: str
    winner: str
    first: str
    neutral: float | None
    is_points: bool = True
    higher_is_better: bool = True


def _measure(label: str, metric: str, neutral: float | None, is_points: bool = True) -> Measure:
    return Measure(label, metric, f"{FIRST}/{metric}", neutral, is_points)


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "gain": _measure("gain over prompt tuning", GAIN, 0.0),
        "score": Measure("score", REPORT, f"{FIRST}/score", None),
        "relative_performance": _measure("score as a multiple of prompt tuning's", RELATIVE, 1.0, is_points=False),
        "error_reduction": _measure("share of prompt tuning's error that is gone", ERROR_REDUCTION, 0.0),
        "early": _measure("score at the first evaluation", EARLY, None),
        "convergence": _measure("times sooner converged", CONVERGENCE, 1.0, is_points=False),
        "comparable": _measure("times sooner at prompt tuning's score", COMPARABLE, 1.0, is_points=False),
    }
)
"""Name -> measure."""

SCOPES = ("winner", "first")
"""Whose value: the confirmed winner's, or the first trial's."""


def value(study: StudyRecord, measure: str, scope: str = "winner") -> float | None:
    """A measure of a study; None where it is not known.

    A comparable speed-up is 0 where prompt tuning's score is never reached: the limit of ever more steps,
    and the worst there is, where leaving the pair out would hide it.

    Args:
        study: whose.
        measure: of MEASURES.
        scope: of SCOPES.

    Raises:
        ValueError: if the measure or the scope is unknown.
    """
    if measure not in MEASURES or scope not in SCOPES:
        raise ValueError(
            f"measure must be one of {', '.join(MEASURES)} and scope one of {', '.join(SCOPES)}, "
            f"got {measure!r} and {scope!r}"
        )
    name = MEASURES[measure].winner if scope == "winner" else MEASURES[measure].first
    found = study.metrics.get(name)
    never = NEVER if scope == "winner" else f"{FIRST}_{NEVER}"
    if found is None and measure == "comparable" and study.tags.get(never) == "true":
        return 0.0
    return None if found is None or isnan(found) else found


@dataclass(frozen=True)
class Spread:
    """The gains of one method on one target over its sources.

    Attributes:
        scope: of SCOPES: whose gains.
        method: the method.
        target: the target task.
        plm: the PLM's name.
        n: studies: sources, or 1 of a method without one.
        mean: gain, mean over sources, in score units.
        over_sources: deviation of the gain over sources; None for one.
        over_seeds: deviation of a pair's gain over seeds, root of the mean square over pairs; None where unknown.
        beat: share of pairs whose gain is above zero.
        beat_clearly: share of pairs whose 95 % interval is above zero; None where no pair has one, as of first trials.
    """

    scope: str
    method: str
    target: str
    plm: str
    n: int
    mean: float
    over_sources: float | None
    over_seeds: float | None
    beat: float
    beat_clearly: float | None


def spreads(studies: Iterable[StudyRecord]) -> list[Spread]:
    """How each method's gains spread, of winners and of first trials, by method, target and PLM; the baseline has none."""
    groups: dict[tuple[str, str, str], list[StudyRecord]] = {}
    for study in studies:
        if has_gain(study):
            groups.setdefault((study.method, study.target, study.plm), []).append(study)
    scoped = ((scope, names) for scope in SCOPES for names in sorted(groups))
    found = (_spread(scope, *names, groups[names]) for scope, names in scoped)
    return [one for one in found if one is not None]


def has_gain(study: StudyRecord) -> bool:
    """Whether a study is compared with prompt tuning: the baseline itself, with a gain over 0 seeds, is not."""
    return value(study, "gain") is not None and study.metrics.get(f"{GAIN}/{N}", 1) > 0


def _spread(scope: str, method: str, target: str, plm: str, studies: Sequence[StudyRecord]) -> Spread | None:
    prefix = "" if scope == "winner" else f"{FIRST}/"
    known = [(gain, study.metrics) for study in studies if (gain := value(study, "gain", scope)) is not None]
    if not known:
        return None
    gains = [gain for gain, _ in known]
    deviations = [_over_seeds(metrics, f"{prefix}{GAIN}") for _, metrics in known]
    variances = [std**2 for std in deviations if std is not None]
    lows = [metrics[f"{GAIN}/{LOW}"] for _, metrics in known if f"{GAIN}/{LOW}" in metrics and scope == "winner"]
    return Spread(
        scope, method, target, plm, len(gains), fmean(gains), spread(gains) if len(gains) > 1 else None,
        fmean(variances) ** 0.5 if variances else None, share_above(gains), share_above(lows) if lows else None,
    )  # fmt: skip


def _over_seeds(metrics: Mapping[str, float], name: str) -> float | None:
    """The deviation of a metric over seeds, as it was logged or of its values by seed; None of one seed."""
    values = list(by_seed(metrics, name).values())
    if f"{name}/{STD}" in metrics:
        return metrics[f"{name}/{STD}"] if metrics.get(f"{name}/{N}", 0) > 1 else None
    return spread(values) if len(values) > 1 else None


def share_above(values: Sequence[float], bound: float = 0.0) -> float:
    """The share of values above a bound by more than rounding."""
    return fmean(number > bound + ROUNDING for number in values)
