"""Many Optuna studies in one Tuner, a journal each: the journals are the only state.

Starting, resuming and asking for more trials are one road: a new Tuner over the same journals.
"""

import math
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from tuning.engine.journal import StudyHandle, open_study

METRIC = "score"
REDUCTION = 3
"""ASHA keeps the best third at each rung; rungs lie at 1, 3, 9, … evaluations."""

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # multivariate and grouped TPE, which we mean


@dataclass(frozen=True)
class SearchPolicy:
    """How studies are searched.

    Attributes:
        sampler: `tpe` or `random`.
        scheduler: `asha` or `none`.
        seed: of the sampler.
        per_study: live trials of a study at most.
        slots: live trials of all studies at most.
        eval_every: steps between evaluations: the first rung.
        deadline: time.time() after which no trial starts; None: never.
    """

    sampler: str = "tpe"
    scheduler: str = "asha"
    seed: int = 0
    per_study: int = 4
    slots: int = 1
    eval_every: int = 50
    deadline: float | None = None


@dataclass
class _Live:
    """A trial that runs now."""

    key: str
    number: int
    last_step: int = -1


class StudySearcher(Searcher):
    """Gives the next trial to the study with the smallest share of its budget used.

    A suggestion depends on the study's history alone; a trial that a dead driver left running is
    run again under its number with its parameters.
    """

    def __init__(self, studies: Sequence[StudyHandle], rules: SearchPolicy):
        super().__init__(METRIC, "max")
        self.rules = rules
        self.searched = {study.key: study for study in studies}
        self.study = {study.key: open_study(study.key, study.journal) for study in studies}
        self.again = {key: [t.number for t in self._trials(key) if t.state == TrialState.RUNNING] for key in self.study}
        self.count = {key: len(self._trials(key)) for key in self.study}
        self.live: dict[str, _Live] = {}
        self.pruned: set[str] = set()
        self.tune: dict[str, Trial] = {}

    def left(self) -> int:
        """Trials still to run, those to run again included."""
        return sum(max(s.budget - self.count[key], 0) + len(self.again[key]) for key, s in self.searched.items())

    def ended(self, key: str) -> list[FrozenTrial]:
        """The trials of a study that have ended, however."""
        return [trial for trial in self._trials(key) if trial.state.is_finished()]

    def _trials(self, key: str) -> list[FrozenTrial]:
        return self.study[key].get_trials(deepcopy=False)

    def suggest(self, trial_id: str) -> Any:
        """The next trial's config; None: not now; FINISHED: never again."""
        for lost, trial in list(self.tune.items()):  # Tune tells of no trial that it lost between two
            if lost in self.live and trial.is_finished():
                self.on_trial_complete(lost, error=True)
        late = self.rules.deadline is not None and time.time() > self.rules.deadline
        open_keys = [] if late else [k for k, s in self.searched.items() if self.again[k] or self.count[k] < s.budget]
        if not open_keys:
            return Searcher.FINISHED
        busy = [live.key for live in self.live.values()]
        free = [key for key in open_keys if busy.count(key) < self.rules.per_study]
        if not free or len(busy) >= self.rules.slots:
            return None
        key = min(free, key=self._progress)
        number = self.again[key].pop(0) if self.again[key] else self._ask(key)
        self.live[trial_id] = _Live(key, number)
        knobs = self.searched[key].space(FixedTrial(self._trials(key)[number].params, number))
        return {"study": key, "number": number, "knobs": knobs}

    def _progress(self, key: str) -> float:
        return (self.count[key] - len(self.again[key])) / self.searched[key].budget

    def _ask(self, key: str) -> int:
        """Samples in a throw-away copy, then adds the whole trial as one record, never half a trial."""
        number, space = self.count[key], self.searched[key].space
        draft = optuna.create_study(direction="maximize", sampler=self._sampler(key, number))
        draft.add_trials(self._trials(key))
        if number == 0:
            draft.enqueue_trial(space.first())
        trial = draft.ask()
        space(trial)
        params = {name: trial.params[name] for name in trial.distributions}
        self.study[key].add_trial(
            optuna.create_trial(state=TrialState.RUNNING, params=params, distributions=trial.distributions)
        )
        self.count[key] += 1
        return number

    def _sampler(self, key: str, number: int) -> BaseSampler:
        seed = zlib.crc32(f"{self.rules.seed}/{key}/{number}".encode())
        if self.rules.sampler == "random":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)

    def record(self, trial_id: str, result: dict[str, Any]) -> None:
        """Writes one result into the journal; the same step again is overwritten."""
        live = self.live[trial_id]
        step, score = int(result.get("step", 0)), float(result.get(METRIC, math.nan))
        if step > live.last_step and math.isfinite(score):
            trial = self._trials(live.key)[live.number]
            storage = self.study[live.key]._storage  # noqa: SLF001  # Trial.report keeps the old value of a step
            storage.set_trial_intermediate_value(trial._trial_id, step, score)  # noqa: SLF001
            live.last_step = step

    def judge(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial must stop: ASHA, whose rungs are what the journal holds at this step.

        A study's first trial, the published setting, runs to its end whatever ASHA says.
        """
        self.record(trial_id, result)
        live = self.live[trial_id]
        step, score = int(result.get("step", 0)), float(result.get(METRIC, math.nan))
        if not math.isfinite(score) or step >= self.searched[live.key].steps:
            return True
        if self.rules.scheduler == "none" or live.number == 0 or not self._is_rung(step):
            return False
        others = [
            t.intermediate_values[step]
            for t in self._trials(live.key)
            if step in t.intermediate_values and t.number != live.number
        ]
        if others and score < np.percentile(others, 100 * (1 - 1 / REDUCTION)):
            self.pruned.add(trial_id)
        return trial_id in self.pruned

    def _is_rung(self, step: int) -> bool:
        evaluations = step / self.rules.eval_every
        return any(evaluations == REDUCTION**power for power in range(32))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the study how a trial ended. Tune calls this by keyword."""
        self.tune.pop(trial_id, None)
        live = self.live.pop(trial_id, None)
        if live is None:
            return
        score = float((result or {}).get(METRIC, math.nan))
        study = self.study[live.key]
        if error or not math.isfinite(score):
            reason = (result or {}).get("failure") or "its process was lost"
            trial = self._trials(live.key)[live.number]
            study._storage.set_trial_user_attr(trial._trial_id, "failure", reason)  # noqa: SLF001  # as above
            study.tell(live.number, state=TrialState.FAIL)
        elif trial_id in self.pruned:
            study.tell(live.number, state=TrialState.PRUNED)
        else:
            study.tell(live.number, score)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """The scheduler records results: it also sees the one that stops a trial."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journals are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
