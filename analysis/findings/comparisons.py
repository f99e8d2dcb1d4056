"""A method against what it is to beat, over targets: how much better it is, and how little could have been seen."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from types import MappingProxyType

from scipy import stats

from analysis.findings.contrasts import FEWEST, Interval
from analysis.records.evidence import Evidence
from analysis.records.measures import has_gain, share_above
from analysis.records.names import GAIN, REPORT, TWIN
from analysis.records.reader import StudyRecord
from analysis.statistics.gains import LEVEL

POWER = 0.8
"""Chance to see a difference of the size that is called detectable."""
Reference = Callable[[Evidence, StudyRecord], float | None]


def _baseline(_: Evidence, study: StudyRecord) -> float | None:
    return study.metrics[REPORT] - study.metrics[GAIN] if has_gain(study) else None


def _twin(_: Evidence, study: StudyRecord) -> float | None:
    return study.metrics.get(TWIN)


def _started(evidence: Evidence, study: StudyRecord) -> float | None:
    asked = ("spot", study.target, study.source, study.plm)
    same = (s.metrics[REPORT] for s in evidence.studies if (s.method, s.target, s.source, s.plm) == asked)
    return next(same, None) if study.source and study.method != "spot" else None


REFERENCES: Mapping[str, Reference] = MappingProxyType({"prompt_tuning": _baseline, "spot": _started, "twin": _twin})
"""Name -> report score of what a study's winner is compared with; None where there is none.

`prompt_tuning` is the target's baseline, `spot` the same source as a start, `twin` the same settings without
what is transferred.
"""


def detectable(means: Iterable[float]) -> float | None:
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
class Against:
    """Winners of a method against one of REFERENCES, in report score.

    Attributes:
        method: the method.
        reference: its name.
        differences: target -> ours minus theirs, one per study, in score units.
        silent: those targets of it that carry no signal, and are in none of the numbers below.
        mean: of the other targets' means; None where there is none.
        interval: 95 %, over targets, by Student's t; None for fewer than FEWEST.
        detectable: the smallest true difference that a test at 5 % over so many targets sees with a chance of
            POWER, from how much these differ; None for fewer than FEWEST.
        better: share of the studies that are above 0; None where there is none.
    """

    method: str
    reference: str
    differences: Mapping[str, tuple[float, ...]]
    silent: tuple[str, ...]
    mean: float | None
    interval: Interval | None
    detectable: float | None
    better: float | None

    @property
    def n(self) -> int:
        """Studies."""
        return sum(map(len, self.heard.values()))

    @property
    def heard(self) -> dict[str, tuple[float, ...]]:
        """The differences of targets with a signal."""
        return {target: values for target, values in self.differences.items() if target not in self.silent}

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def comparisons(evidence: Evidence) -> list[Against]:
    """Every method against every reference that some of its winners have, by method, in the order of REFERENCES."""
    methods = sorted({study.method for study in evidence.studies})
    found = (_compared(evidence, method, reference) for method in methods for reference in REFERENCES)
    return [one for one in found if one.differences]


def _compared(evidence: Evidence, method: str, reference: str) -> Against:
    differences: dict[str, list[float]] = {}
    for study in evidence.studies:
        theirs = REFERENCES[reference](evidence, study) if study.method == method else None
        if theirs is not None:
            differences.setdefault(evidence.place(study.target, study.plm), []).append(study.metrics[REPORT] - theirs)
    silent = tuple(target for target in evidence.silent if target in differences)
    heard = [values for target, values in differences.items() if target not in silent]
    means = [fmean(values) for values in heard]
    flat = [value for values in heard for value in values]
    return Against(
        method, reference, {target: tuple(values) for target, values in differences.items()}, silent,
        fmean(means) if means else None, _interval(means), detectable(means), share_above(flat) if flat else None,
    )  # fmt: skip


def _interval(means: list[float]) -> Interval | None:
    if len(means) < FEWEST:
        return None
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(means) - 1)) * stdev(means) / sqrt(len(means))
    return fmean(means) - half, fmean(means) + half
