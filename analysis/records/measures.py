"""MEASURES: what a study's winner, or its first trial, is measured by; and how it spreads over sources and seeds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from types import MappingProxyType

from analysis.records.studies import Estimate, Outcome, StudyRecord
from analysis.statistics.gains import ROUNDING, spread


@dataclass(frozen=True)
class Measure:
    """How good a transferred prompt is.

    Attributes:
        label: for people, with what it is measured on.
        read: its value of an outcome; an estimate where it has values by seed, None where it is not known.
    """

    label: str
    read: Callable[[Outcome], Estimate | float | None]


def _convergence(outcome: Outcome) -> float | None:
    return outcome.speedups.convergence if outcome.speedups else None


def _comparable(outcome: Outcome) -> float | None:
    """0 where prompt tuning's score is never reached.

    That is the limit of ever more steps, and the worst there is, where leaving the pair out would hide it.
    """
    return None if outcome.speedups is None else outcome.speedups.comparable or 0.0


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "gain": Measure("gain over prompt tuning", lambda outcome: outcome.gain),
        "score": Measure("score", lambda outcome: outcome.score),
        "relative_performance": Measure(
            "score as a multiple of prompt tuning's", lambda outcome: outcome.relative_performance
        ),
        "error_reduction": Measure(
            "share of prompt tuning's error that is gone", lambda outcome: outcome.error_reduction
        ),
        "early": Measure("score at the first evaluation", lambda outcome: outcome.early),
        "convergence": Measure("steps of prompt tuning until convergence / own steps", _convergence),
        "comparable": Measure("steps of prompt tuning until convergence / own steps to its score", _comparable),
    }
)
"""Name -> measure."""

SCOPES = ("winner", "first")
"""Whose value: the confirmed winner's on report rows, or the first trial's on selection rows."""


def value(study: StudyRecord, measure: str, scope: str = "winner") -> float | None:
    """A measure of a study; None where it is not known, or infinite.

    Args:
        study: whose.
        measure: of MEASURES.
        scope: of SCOPES.

    Raises:
        ValueError: if the measure or the scope is unknown.
    """
    found = _read(study, measure, scope)
    number = found.mean if isinstance(found, Estimate) else found
    return None if number is None or not isfinite(number) else number


def seed_values(study: StudyRecord, measure: str, scope: str = "winner") -> Mapping[int, float]:
    """A measure of a study by seed; empty where it is not known by seed. Arguments and errors as of `value`."""
    found = _read(study, measure, scope)
    return found.by_seed if isinstance(found, Estimate) else {}


def _read(study: StudyRecord, measure: str, scope: str) -> Estimate | float | None:
    if measure not in MEASURES or scope not in SCOPES:
        raise ValueError(
            f"measure must be one of {', '.join(MEASURES)} and scope one of {', '.join(SCOPES)}, "
            f"got {measure!r} and {scope!r}"
        )
    outcome = study.winner if scope == "winner" else study.first
    return MEASURES[measure].read(outcome) if outcome else None


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
        if study.gain:
            groups.setdefault((study.method, study.target, study.plm), []).append(study)
    scoped = ((scope, names) for scope in SCOPES for names in sorted(groups))
    found = (_spread(scope, *names, groups[names]) for scope, names in scoped)
    return [one for one in found if one is not None]


def _spread(scope: str, method: str, target: str, plm: str, studies: Sequence[StudyRecord]) -> Spread | None:
    outcomes = (study.winner if scope == "winner" else study.first for study in studies)
    known = [outcome.gain for outcome in outcomes if outcome and outcome.gain]
    if not known:
        return None
    gains = [gain.mean for gain in known]
    variances = [std**2 for gain in known if (std := _over_seeds(gain)) is not None]
    lows = [gain.low for gain in known if gain.low is not None and scope == "winner"]
    return Spread(
        scope, method, target, plm, len(gains), fmean(gains), spread(gains) if len(gains) > 1 else None,
        fmean(variances) ** 0.5 if variances else None, share_above(gains), share_above(lows) if lows else None,
    )  # fmt: skip


def _over_seeds(gain: Estimate) -> float | None:
    """The deviation over seeds, as it was logged or of the values by seed; None of one seed."""
    if gain.std is not None:
        return gain.std if (gain.n or 0) > 1 else None
    return spread(list(gain.by_seed.values())) if len(gain.by_seed) > 1 else None


def share_above(values: Sequence[float], bound: float = 0.0) -> float:
    """The share of values above a bound by more than rounding."""
    return fmean(number > bound + ROUNDING for number in values)
