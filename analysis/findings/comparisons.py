"""A method against what it is to beat, over targets: how much better it is, and how little could have been seen."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from types import MappingProxyType

from scipy import stats

from analysis.findings.contrasts import FEWEST, Interval
from analysis.records.evidence import Evidence
from analysis.records.measures import share_above
from analysis.records.names import BASELINE, START
from analysis.records.studies import StudyRecord
from analysis.statistics.gains import LEVEL

POWER = 0.8
"""Chance to see a difference of the size that is called detectable."""
Reference = Callable[[Evidence, StudyRecord], float | None]


def _baseline(_: Evidence, study: StudyRecord) -> float | None:
    return study.confirmed.score.mean - study.gain.mean if study.gain else None


def _twin(_: Evidence, study: StudyRecord) -> float | None:
    return study.confirmed.twin


def _start(evidence: Evidence, study: StudyRecord) -> float | None:
    """The score of the study that takes the same source as a mere start."""
    place = (study.target, study.source, study.plm)
    same = (s for s in evidence.studies if s.reference == START and (s.target, s.source, s.plm) == place)
    found = next(same, None) if study.source and study.reference != START else None
    return found.confirmed.score.mean if found else None


TWIN = "twin"
REFERENCES: Mapping[str, Reference] = MappingProxyType({BASELINE: _baseline, START: _start, TWIN: _twin})
"""Reference -> report score of what a study's winner is compared with; None where there is none.

`baseline` is the target's prompt tuning, `start` the same source as a start (spot), `twin` the same settings
without what is transferred.
"""


def minimum_detectable_effect(means: Iterable[float]) -> float | None:
    """The smallest true mean that a two-sided t-test of so many values sees with a chance of POWER.

    Args:
        means: of targets, in any unit; their deviation is taken for the true one.

    Returns:
        In the same unit; None for fewer than FEWEST values.

    Source: Bloom (1995), minimum detectable effects: the sum of two quantiles of t times the standard error.
    """
    values = list(means)
    if len(values) < FEWEST:
        return None
    quantiles = sum(float(stats.t.ppf(share, len(values) - 1)) for share in ((1 + LEVEL) / 2, POWER))
    return quantiles * stdev(values) / sqrt(len(values))


@dataclass(frozen=True)
class MethodComparison:
    """Winners of a method against one of REFERENCES, in report score.

    Attributes:
        method: the method.
        reference: name of the method it is compared with, or `twin`.
        differences: target -> ours minus theirs, one per study, in score units.
        without_signal: those of its targets that carry no signal, and are in none of the numbers below.
        mean: of the other targets' means; None where there is none.
        interval: 95 %, over targets, by Student's t; None for fewer than FEWEST.
        minimum_detectable_effect: the smallest true difference that a test at 5 % over so many targets sees with
            a chance of POWER, from how much these differ; None for fewer than FEWEST.
        above_zero: share of the studies that are above 0; None where there is none.
    """

    method: str
    reference: str
    differences: Mapping[str, tuple[float, ...]]
    without_signal: tuple[str, ...]
    mean: float | None
    interval: Interval | None
    minimum_detectable_effect: float | None
    above_zero: float | None

    @property
    def n(self) -> int:
        """Studies."""
        return sum(map(len, self.with_signal.values()))

    @property
    def with_signal(self) -> dict[str, tuple[float, ...]]:
        """The differences of targets with a signal."""
        return {target: values for target, values in self.differences.items() if target not in self.without_signal}

    @property
    def is_significant(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def comparisons(evidence: Evidence) -> list[MethodComparison]:
    """Every method against every reference that some of its winners have, by method, in the order of REFERENCES."""
    methods = sorted({study.method for study in evidence.studies})
    found = (_compared(evidence, method, reference) for method in methods for reference in REFERENCES)
    return [one for one in found if one.differences]


def _compared(evidence: Evidence, method: str, reference: str) -> MethodComparison:
    differences: dict[str, list[float]] = {}
    for study in evidence.studies:
        theirs = REFERENCES[reference](evidence, study) if study.method == method else None
        if theirs is not None:
            ours = study.confirmed.score.mean
            differences.setdefault(evidence.place(study.target, study.plm), []).append(ours - theirs)
    without = tuple(target for target in evidence.targets_without_signal if target in differences)
    counted = [values for target, values in differences.items() if target not in without]
    means = [fmean(values) for values in counted]
    flat = [value for values in counted for value in values]
    return MethodComparison(
        method, evidence.reference_method(reference) or reference,
        {target: tuple(values) for target, values in differences.items()}, without, fmean(means) if means else None,
        _interval(means), minimum_detectable_effect(means), share_above(flat) if flat else None,
    )  # fmt: skip


def _interval(means: list[float]) -> Interval | None:
    if len(means) < FEWEST:
        return None
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(means) - 1)) * stdev(means) / sqrt(len(means))
    return fmean(means) - half, fmean(means) + half
