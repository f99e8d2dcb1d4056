"""Methods at equal cost: what each had found when it had spent as much as prompt tuning, in parts and in whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from analysis.findings.best import winners
from analysis.findings.costs import ACCOUNTS, Spending, spendings, unrecorded
from analysis.records.evidence import Evidence
from analysis.records.studies import TrialRecord
from analysis.statistics.crossfit import first_best, grounds_of
from analysis.statistics.means import mean_of
from analysis.statistics.resampling import Interval

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Budgets, as shares of what the baseline's whole search spent on the same target."""
WHOLE = float("inf")
"""The share of a whole search, whatever it cost."""


@dataclass(frozen=True)
class AtCost:
    """A method at a budget, over its targets.

    Attributes:
        account: of ACCOUNTS.
        method: the method.
        share: of SHARES, or WHOLE.
        cost: what it had spent, as a multiple of the baseline's whole search; mean over targets.
        scores: target -> selection score of what it had found; targets where it had found nothing yet have none.
        differences: the same minus the baseline's at the same share, where both had found something.
        reports: target -> report score of the winner; of whole searches alone.
        targets: how many it has.
        is_baseline: whether it is what it is compared with.
    """

    account: str
    method: str
    share: float
    cost: float
    scores: Mapping[str, float]
    differences: Mapping[str, float]
    reports: Mapping[str, float]
    targets: int
    is_baseline: bool = False

    @property
    def score(self) -> float | None:
        """Mean over targets; None where it had found nothing yet on one of them: a mean of others would be another's."""
        return _mean(self.scores, self.targets)

    @property
    def difference(self) -> float | None:
        """Mean over targets; None as of the score."""
        return _mean(self.differences, self.targets)

    @property
    def report(self) -> float | None:
        """Mean over targets; None where it has no winner on one of them."""
        return _mean(self.reports, self.targets)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the differences over targets; None for one target."""
        known = self.difference is not None and self.targets > 1
        return stdev(self.differences.values()) if known else None

    @property
    def interval(self) -> Interval | None:
        """95 % of the mean difference, over targets (t); None for fewer than three."""
        return mean_of(list(self.differences.values())).interval if self.difference is not None else None


def _mean(values: Mapping[str, float], targets: int) -> float | None:
    return fmean(values.values()) if len(values) == targets else None


@dataclass(frozen=True)
class EqualCost:
    """All methods at all budgets.

    Attributes:
        rows: by account, method (the baseline first) and share.
        baseline: the method whose cost is the unit.
        unit: steps of its whole search, of all seeds, mean over targets.
        is_cross_fitted: whether scores are of seeds that did not choose; else each is that of the seeds that chose it.
        note: why there are no rows; empty where there are.
    """

    rows: tuple[AtCost, ...] = ()
    baseline: str = ""
    unit: float = 0.0
    is_cross_fitted: bool = False
    note: str = ""

    def of(self, account: str) -> dict[str, list[AtCost]]:
        """Method -> its budgets, of an account."""
        found: dict[str, list[AtCost]] = {}
        for row in self.rows:
            if row.account == account:
                found.setdefault(row.method, []).append(row)
        return found


def equal_cost(evidence: Evidence, shares: Sequence[float] = (*SHARES, WHOLE)) -> EqualCost:
    """Every method's score as a function of all steps spent.

    The unit is what the baseline's whole search spent on a target. A method's trials are those of all its sources in
    turn; what it had found is the complete trial with the best selection score among those that had ended.

    Args:
        evidence: of the experiment.
        shares: budgets.
    """
    if missing := unrecorded(evidence):
        remedy = "run panda-tune search on the file again: it computes nothing and adds it"
        return EqualCost(note=f"{missing} trials were recorded by an earlier version, without what they cost; {remedy}")
    found = {account: spendings(evidence, account) for account in ACCOUNTS}
    every = [trial for one in next(iter(found.values())) for trial in one.trials if trial.is_complete]
    baselines = {account: _of_baseline(own, evidence.baseline) for account, own in found.items()}
    if not any(baselines.values()):
        return EqualCost(note="no target that carries a signal has a complete trial of prompt tuning")
    is_cross_fitted = _has_seeds(every)
    score = cross_fitted if is_cross_fitted else best_score
    reports = _reports(evidence)
    rows = [
        _at(account, own, share, baselines[account], score, reports)
        for account, spent in found.items()
        for own in _by_method(spent, baselines[account], evidence.baseline)
        for share in shares
    ]
    units = [one.total for one in next(iter(baselines.values())).values()]
    return EqualCost(tuple(rows), evidence.baseline, fmean(units), is_cross_fitted)


Chosen = Callable[[Sequence[TrialRecord]], float | None]


def best_score(trials: Sequence[TrialRecord]) -> float | None:
    """The best score of some complete trials; None where there is none. Higher by chance with every trial more."""
    return max((trial.score for trial in trials if trial.score is not None), default=None)


def cross_fitted(trials: Sequence[TrialRecord]) -> float | None:
    """What the best of some complete trials scores with seeds that did not choose it; None where there is none.

    Of each seed in turn: the trial that the other seeds choose by their mean, scored with this one; averaged.

    Args:
        trials: complete, all with the same two seeds or more.
    """
    if not trials:
        return None
    table = np.array([[trial.by_seed[seed] for seed in sorted(trial.by_seed)] for trial in trials])  # [N, K]
    chosen = first_best(grounds_of(table, [0.0] * len(table)))
    return float(table[chosen, np.arange(table.shape[1])].mean())


def _has_seeds(trials: Sequence[TrialRecord]) -> bool:
    """Whether all trials of a target and PLM were scored with the same seeds, two at least."""
    seeds: dict[tuple[str, str], set[tuple[int, ...]]] = {}
    for trial in trials:
        seeds.setdefault((trial.target, trial.plm), set()).add(tuple(sorted(trial.by_seed)))
    return all(len(own) == 1 and len(next(iter(own))) > 1 for own in seeds.values())


def _of_baseline(spent: Sequence[Spending], baseline: str) -> dict[str, Spending]:
    """Target -> what the baseline spent, where it has something to show for it."""
    return {one.place: one for one in spent if one.method == baseline and _found_something(one)}


def _found_something(one: Spending) -> bool:
    return one.total > 0 and any(trial.is_complete for trial in one.trials)


def _by_method(spent: Sequence[Spending], baselines: Mapping[str, Spending], baseline: str) -> list[list[Spending]]:
    """Methods, the baseline first, on the targets on which they ever found something, as the baseline did."""
    methods = sorted({one.method for one in spent}, key=lambda name: (name != baseline, name))
    usable = [one for one in spent if one.place in baselines and any(trial.is_complete for trial in one.trials)]
    groups = ([one for one in usable if one.method == method] for method in methods)
    return [own for own in groups if own]


def _at(
    account: str, spent: Sequence[Spending], share: float, baselines: Mapping[str, Spending], score: Chosen,
    reports: Mapping[tuple[str, str], float],
) -> AtCost:  # fmt: skip
    budgets = {one.place: share * baselines[one.place].total for one in spent}
    scores = {one.place: score(_complete(one.within(budgets[one.place]))) for one in spent}
    theirs = {place: score(_complete(baselines[place].within(budget))) for place, budget in budgets.items()}
    costs = [min(one.total, budgets[one.place]) / baselines[one.place].total for one in spent]
    method = spent[0].method
    known = {place: value for place, value in scores.items() if value is not None}
    differences = {place: value - base for place, value in known.items() if (base := theirs[place]) is not None}
    whole = {place: reports[method, place] for place in budgets if share == WHOLE and (method, place) in reports}
    is_baseline = all(one == baselines[one.place] for one in spent)
    return AtCost(account, method, share, fmean(costs), known, differences, whole, len(spent), is_baseline)


def _complete(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [trial for trial in trials if trial.is_complete]


def _reports(evidence: Evidence) -> dict[tuple[str, str], float]:
    """(method, target) -> report score of the winner over the method's sources."""
    methods = {study.method for study in evidence.studies}
    chosen = [(m, one) for m in methods for one in winners([s for s in evidence.studies if s.method == m])]
    return {(m, evidence.place(one.target, one.plm)): one.confirmed.score.mean for m, one in chosen}
