"""A method against what it is to beat, over targets: how much better it is, and how little could have been seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from types import MappingProxyType

from analysis.records.evidence import Evidence
from analysis.records.measures import share_above
from analysis.records.names import BASELINE, START
from analysis.records.studies import StudyRecord
from analysis.statistics.gains import LEVEL, holm
from analysis.statistics.means import Mean, mean_of
from analysis.statistics.power import Detectable, minimum_detectable_effect

Reference = Callable[[Evidence, StudyRecord], float | None]


def _baseline(_: Evidence, study: StudyRecord) -> float | None:
    return study.confirmed.score.mean - study.gain.mean if study.gain else None


def _twin(_: Evidence, study: StudyRecord) -> float | None:
    return study.confirmed.twin.mean if study.confirmed.twin else None


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


@dataclass(frozen=True)
class MethodComparison:
    """Winners of a method against one of REFERENCES, in report score.

    Attributes:
        method: the method.
        reference: name of the method it is compared with, or `twin`.
        differences: target -> ours minus theirs, one per study, in score units.
        without_signal: those of its targets that carry no signal, and are in none of the numbers below.
        found: mean of the other targets' means, with its interval over targets; None where there is none.
        detectable: the smallest true difference that a test at 5 % over so many targets sees with a chance of 80 %,
            from how much these differ; None where that cannot be said.
        p: of no difference, corrected by Holm for the number of methods with this reference; None for few targets.
        above_zero: share of the studies that are above 0; None where there is none.
    """

    method: str
    reference: str
    differences: Mapping[str, tuple[float, ...]]
    without_signal: tuple[str, ...]
    found: Mean | None
    detectable: Detectable | None
    above_zero: float | None
    p: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean difference over targets with a signal; None where there is none."""
        return self.found.mean if self.found else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % over targets, not corrected; None for few."""
        return self.found.interval if self.found else None

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
        """Whether there is a difference, corrected for the number of methods that are compared."""
        return self.p is not None and self.p < 1 - LEVEL


def comparisons(evidence: Evidence) -> list[MethodComparison]:
    """Every method against every reference that some of its winners have, by method, in the order of REFERENCES."""
    methods = sorted({study.method for study in evidence.studies})
    found = (_compared(evidence, method, reference) for method in methods for reference in REFERENCES)
    return _corrected([one for one in found if one is not None])


def _corrected(found: list[tuple[str, MethodComparison]]) -> list[MethodComparison]:
    """With p-values corrected over the methods of each reference, of which one may look clear by chance."""
    result = [one for _, one in found]
    for reference in REFERENCES:
        own = [i for i, (name, one) in enumerate(found) if name == reference and one.found and one.found.p is not None]
        ps = [one.found.p for one in (result[i] for i in own) if one.found and one.found.p is not None]
        for i, p in zip(own, holm(ps), strict=True):
            result[i] = replace(result[i], p=p)
    return result


def _compared(evidence: Evidence, method: str, reference: str) -> tuple[str, MethodComparison] | None:
    differences: dict[str, list[float]] = {}
    for study in evidence.studies:
        theirs = REFERENCES[reference](evidence, study) if study.method == method else None
        if theirs is not None:
            ours = study.confirmed.score.mean
            differences.setdefault(evidence.place(study.target, study.plm), []).append(ours - theirs)
    if not differences:
        return None
    without = tuple(target for target in evidence.targets_without_signal if target in differences)
    counted = [values for target, values in differences.items() if target not in without]
    means = [fmean(values) for values in counted]
    flat = [value for values in counted for value in values]
    return reference, MethodComparison(
        method, evidence.reference_method(reference) or reference,
        {target: tuple(values) for target, values in differences.items()}, without, mean_of(means) if means else None,
        minimum_detectable_effect(means), share_above(flat) if flat else None,
    )  # fmt: skip
