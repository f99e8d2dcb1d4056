"""Many Optuna studies in one Tuner, a journal each: the journals are the only state.

Starting, resuming and asking for more trials are one road: a new Tuner over the same journals.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ray
from optuna.trial import FixedTrial, TrialState
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from panda_trainable.result import METRIC, TrialResult, storage_failure
from tuning.engine.journal import Journal, StudyHandle
from tuning.engine.processes import TrialProcesses
from tuning.engine.suggestions import Suggestions

REDUCTION = 3
"""ASHA keeps the best third at each rung; rungs lie at 1, 3, 9, … evaluations."""

WAVE = 5000
"""Trials of one Tuner at most: what it keeps grows with them."""

WORKER_LOSSES = 3
"""How often a trial is begun again when its process or node dies."""


@dataclass(frozen=True)
class SearchPolicy:
    """How studies are searched.

    Attributes:
        sampler: `tpe` or `random`.
        scheduler: `asha` or `none`.
        per_study: live trials of a study at most.
        slots: live trials of all studies at most.
        eval_every: steps between evaluations: the first rung.
        deadline: time.time() after which no trial starts; None: never.
        wave: trials that one Tuner begins at most.
    """

    sampler: str = "tpe"
    scheduler: str = "asha"
    per_study: int = 4
    slots: int = 1
    eval_every: int = 50
    deadline: float | None = None
    wave: int = WAVE


@dataclass
class _RunningTrial:
    """A trial that runs now."""

    key: str
    number: int
    last_step: int = -1
    is_stopped: bool = False


class StudySearcher(Searcher):
    """Gives the next trial to the study with the smallest share of its budget used.

    A suggestion depends on the study's history alone; a trial that a dead driver left running, or whose process
    died, is run again under its number with its parameters. Tune's own recovery, which gives up a trial whose
    process dies while it turns to that trial, is left to nodes that say beforehand that they go.

    Attributes:
        studies: key -> study.
        journals: key -> its trials.
        suggestions: key -> what may be its next trials.
        requeued: key -> numbers of the trials to run again.
        asked: key -> trials that its journal holds.
        running: Tune's id -> the trial that runs under it.
        tune_trials: Tune's id -> Tune's trial, as the scheduler saw it begin.
        processes: of these trials.
        given_up: Tune's id -> why a trial's process was ended.
        losses: key and number of a trial -> how often its process died.
        begun: trials of the present wave so far.
        storage_error: of the storage, met by a trial or here: nothing is recorded any more, and the search is to end.
            Tune takes what is raised as a trial ends for a lost process.
    """

    def __init__(self, studies: Sequence[StudyHandle], policy: SearchPolicy):
        super().__init__(METRIC, "max")
        self.policy = policy
        self.studies = {study.key: study for study in studies}
        self.journals = {study.key: Journal(study.key, study.journal) for study in studies}
        self.suggestions = {
            study.key: Suggestions(study.key, study.space, study.seed, policy.sampler) for study in studies
        }
        self.requeued = {
            key: [t.number for t in journal.trials if t.state == TrialState.RUNNING]
            for key, journal in self.journals.items()
        }
        self.asked = {key: len(journal.trials) for key, journal in self.journals.items()}
        self.running: dict[str, _RunningTrial] = {}
        self.tune_trials: dict[str, Trial] = {}
        self.processes = TrialProcesses()
        self.given_up: dict[str, str] = {}
        self.losses: Counter[tuple[str, int]] = Counter()
        self.begun = 0
        self.storage_error: OSError | None = None

    def remaining(self) -> int:
        """Trials still to run, those to run again included."""
        return sum(map(self._left, self.studies))

    def wanted(self) -> int:
        """Trials that could run at once, those that do included."""
        busy = Counter(trial.key for trial in self.running.values())
        return sum(min(busy[key] + self._left(key), self.policy.per_study) for key in self.studies)

    def is_late(self) -> bool:
        """Whether no trial may start any more."""
        return self.policy.deadline is not None and time.time() > self.policy.deadline

    def begin_wave(self) -> None:
        """A new Tuner takes over."""
        self.begun = 0
        self.tune_trials.clear()
        self.processes = TrialProcesses()

    def finished_studies(self) -> int:
        """How many studies have used their budget and run no trial."""
        busy = {trial.key for trial in self.running.values()}
        full = {key for key, study in self.studies.items() if self.asked[key] >= study.budget}
        return len({key for key in full if not self.requeued[key]} - busy)

    def suggest(self, trial_id: str) -> Any:
        """The next trial's config; None: not now; FINISHED: never again in this wave."""
        self._end_lost_trials()
        if len(self.running) >= self.policy.slots:
            return None
        if self.is_late() or self.begun >= self.policy.wave:
            return Searcher.FINISHED
        unfinished = [key for key in self.studies if self._left(key)]
        if not unfinished:  # while trials run, one may have to begin again
            return None if self.running else Searcher.FINISHED
        busy = [trial.key for trial in self.running.values()]
        free = [key for key in unfinished if busy.count(key) < self.policy.per_study]
        if not free:
            return None
        key = min(free, key=self._used_share)
        number = self.requeued[key].pop(0) if self.requeued[key] else self._ask(key)
        self.running[trial_id] = _RunningTrial(key, number)
        self.begun += 1
        knobs = self.studies[key].space(FixedTrial(self.journals[key].trials[number].params, number))
        return {"study": key, "number": number, "knobs": knobs}

    def _end_lost_trials(self) -> None:
        """Ends the trials that Tune lost between two results, of which it tells no searcher."""
        for trial_id, trial in list(self.tune_trials.items()):
            if trial_id in self.running and trial.is_finished():
                self.on_trial_complete(trial_id, error=True)

    def at_work(self) -> list[str]:
        """Tune's ids of the trials that have a process now, be it just starting, and do not wait for room."""
        known = ((trial_id, self.tune_trials.get(trial_id)) for trial_id in self.running)
        return [
            trial_id
            for trial_id, trial in known
            if trial and trial_id not in self.given_up and self.processes.of(trial) is not None
        ]

    def give_up(self, trial_id: str, reason: str) -> None:
        """Ends the process of a trial, which then fails with this reason and is not begun again."""
        self.given_up[trial_id] = reason
        if (actor := self.processes.of(self.tune_trials[trial_id])) is not None:
            ray.kill(actor)

    def _left(self, key: str) -> int:
        """Trials of a study still to run, those to run again included."""
        return max(self.studies[key].budget - self.asked[key], 0) + len(self.requeued[key])

    def _used_share(self, key: str) -> float:
        return (self.asked[key] - len(self.requeued[key])) / self.studies[key].budget

    def _ask(self, key: str) -> int:
        """Adds the study's next trial to its journal as one record, never half a trial."""
        journal = self.journals[key]
        journal.add(self.suggestions[key].next(journal.trials))
        self.asked[key] += 1
        return self.asked[key] - 1

    def record(self, trial_id: str, result: TrialResult) -> None:
        """Keeps a result in the journal; one that is begun again on another worker reports old steps, which stay."""
        trial = self.running[trial_id]
        if result.step > trial.last_step and not result.failure:
            self._write(partial(self.journals[trial.key].record, trial.number, result))
            trial.last_step = result.step

    def _write(self, change: Callable[[], None]) -> None:
        """Changes a journal, unless the storage has failed."""
        try:
            if self.storage_error is None:
                change()
        except OSError as error:
            self.storage_error = error

    def should_stop(self, trial_id: str, result: TrialResult) -> bool:
        """Whether the trial must stop: ASHA, whose rungs are what the journal holds at this step.

        A study's first trial, the published setting, runs to its end whatever ASHA decides.
        """
        self.record(trial_id, result)
        trial = self.running[trial_id]
        if result.failure or result.step >= self.studies[trial.key].steps:
            return True
        if self.policy.scheduler == "none" or trial.number == 0 or not self._is_rung(result.step):
            return False
        others = [
            other.intermediate_values[result.step]
            for other in self.journals[trial.key].trials
            if result.step in other.intermediate_values and other.number != trial.number
        ]
        if others and result.score < np.percentile(others, 100 * (1 - 1 / REDUCTION)):
            trial.is_stopped = True
        return trial.is_stopped

    def _is_rung(self, step: int) -> bool:
        evaluations = step / self.policy.eval_every
        return any(evaluations == REDUCTION**power for power in range(32))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ends a trial in its journal, or leaves it to be begun again. Tune calls this by keyword."""
        self.tune_trials.pop(trial_id, None)
        trial = self.running.pop(trial_id, None)
        if trial is None:
            return
        reason = self.given_up.pop(trial_id, "")
        if error and not reason:
            self.losses[trial.key, trial.number] += 1
            if self.losses[trial.key, trial.number] <= WORKER_LOSSES:
                self.requeued[trial.key].append(trial.number)
                return
        last = TrialResult.failed(reason) if reason else TrialResult.from_ray(None if error else result)
        self.storage_error = self.storage_error or storage_failure(last.failure)  # no fault of the trial
        self._write(partial(self.journals[trial.key].end, trial.number, last, trial.is_stopped))
        if self.storage_error:
            self.requeued[trial.key].append(trial.number)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """The scheduler records results: it also sees the one that stops a trial."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journals are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
