"""What methods spent on a target, trial by trial: steps of all seeds, of students and of all that was trained for them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from analysis.records.evidence import Evidence
from analysis.records.names import RUNNING
from analysis.records.studies import TrialRecord

IN_FULL, SHARED = "in full", "shared"
ACCOUNTS: Mapping[str, str] = MappingProxyType(
    {
        IN_FULL: "every target pays for all that a method needs there, as if it were the only one",
        SHARED: "what serves several targets of a method is divided among them",
    }
)
"""Account -> who pays for source prompts and other runs; a run is paid once per method and target in either."""
ROUNDING = 1e-6
"""Steps by which sums may differ."""


@dataclass(frozen=True)
class Spending:
    """All trials of a method on a target, those of its sources in turn, and what was spent after each.

    Attributes:
        method: the method.
        place: the target, with its PLM where there are several.
        trials: by number, then source: as the search interleaves studies.
        spent: [N] steps of all seeds after each trial, rising.

    Raises:
        ValueError: if there are not as many sums as trials, or they fall.
    """

    method: str
    place: str
    trials: tuple[TrialRecord, ...]
    spent: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.spent) != len(self.trials) or list(self.spent) != sorted(self.spent):
            raise ValueError(f"spent must rise with the {len(self.trials)} trials, got {list(self.spent)}")

    @property
    def total(self) -> float:
        """Steps of the whole search."""
        return self.spent[-1] if self.spent else 0.0

    def within(self, budget: float) -> tuple[TrialRecord, ...]:
        """The trials that had ended before more than a budget was spent."""
        return tuple(trial for trial, spent in zip(self.trials, self.spent, strict=True) if spent <= budget + ROUNDING)


def unrecorded(evidence: Evidence) -> int:
    """How many trials that have ended were recorded without what they cost, by an earlier version."""
    studies = _study_runs(evidence)
    return sum(
        trial.spent is None or trial.runs is None or studies.get(trial.study) is None for trial in _ended(evidence)
    )


def spendings(evidence: Evidence, account: str) -> list[Spending]:
    """What every method spent on every target that carries a signal.

    Trials that failed or were stopped cost as far as they ran. A run that several trials of a method need is paid by
    the first of them; where a later one needs it for longer, that one pays the rest.

    Args:
        evidence: of the experiment; `unrecorded` of it is 0.
        account: of ACCOUNTS.
    """
    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for trial in sorted(_ended(evidence), key=lambda t: (t.number, t.source or "")):
        groups.setdefault((trial.method, evidence.place(trial.target, trial.plm)), []).append(trial)
    studies = {key: runs or {} for key, runs in _study_runs(evidence).items()}
    needs = {place: [_needs(trial, studies) for trial in own] for place, own in groups.items()}
    payers = _payers(needs) if account == SHARED else {}
    return [
        Spending(method, place, tuple(own), _sums(own, needs[method, place], payers.get(method, Counter())))
        for (method, place), own in sorted(groups.items())
    ]


def _ended(evidence: Evidence) -> list[TrialRecord]:
    return [trial for trial in evidence.trials_with_signal if trial.state != RUNNING]


def _study_runs(evidence: Evidence) -> dict[str, Mapping[str, int] | None]:
    return {study.key: study.runs for study in (*evidence.studies, *evidence.unfinished)}


def _needs(trial: TrialRecord, studies: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The runs of a trial and of its study."""
    runs = dict(studies.get(trial.study, {}))
    for run, steps in (trial.runs or {}).items():
        runs[run] = max(runs.get(run, 0), steps)
    return runs


def _payers(needs: Mapping[tuple[str, str], Iterable[Mapping[str, int]]]) -> dict[str, Counter[str]]:
    """Method -> run -> targets on which some trial needs it."""
    payers: dict[str, Counter[str]] = {}
    for (method, _), of_trials in needs.items():
        payers.setdefault(method, Counter()).update({run for runs in of_trials for run in runs})
    return payers


def _sums(trials: Sequence[TrialRecord], needs: Sequence[Mapping[str, int]], payers: Counter[str]) -> tuple[float, ...]:
    """[N] what was spent after each trial."""
    paid: dict[str, int] = {}
    spent, sums = 0.0, []
    for trial, runs in zip(trials, needs, strict=True):
        spent += trial.spent or 0.0
        for run, steps in runs.items():
            spent += max(steps - paid.get(run, 0), 0) / max(payers[run], 1)
            paid[run] = max(steps, paid.get(run, 0))
        sums.append(spent)
    return tuple(sums)
