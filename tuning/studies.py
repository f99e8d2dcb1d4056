"""Many Optuna studies in one Tuner, a journal each: the journals are the only state.

Starting, resuming and asking for more trials are one road: a new Tuner over the same journals.
"""

import fcntl
import math
import os
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search_spaces.space import Space
from tuning.experiment import Misuse

METRIC = "score"
REDUCTION = 3
"""ASHA keeps the best third at each rung; rungs lie at 1, 3, 9, … evaluations."""

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # multivariate and grouped TPE, which we mean


@dataclass(frozen=True)
class Searched:
    """What the searcher needs of a study."""

    key: str
    journal: Path
    space: Space
    budget: int
    steps: int


@dataclass(frozen=True)
class Rules:
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


def only_driver(folder: Path) -> IO[str]:
    """Claims a search for this process; keep the file open: the kernel frees it when the process dies.

    Raises:
        Misuse: if another process searches here, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        claim = (folder / "driver.lock").open("a+")
    except OSError as error:
        raise Misuse(f"storage: {folder} cannot be written ({error.strerror}); choose another folder") from error
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        claim.seek(0)
        raise Misuse(
            f"{folder} is being searched by another process ({claim.read().strip()}); wait for it or stop it"
        ) from None
    claim.truncate(0)
    claim.write(f"process {os.getpid()} on {os.uname().nodename}")
    claim.flush()
    for left_over in folder.glob("studies/*.journal.lock"):  # of a driver that was killed
        left_over.unlink()
    return claim


def open_study(key: str, journal: Path) -> optuna.Study:
    """The study in a journal, made where there is none. A torn last line is cut off first.

    A line that a killed driver left half written would swallow the next one and poison the file.
    """
    journal.parent.mkdir(parents=True, exist_ok=True)
    if journal.exists():
        with journal.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    path = str(journal.resolve())
    storage = optuna.storages.JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
    if any(study.study_name == key for study in storage.get_all_studies()):
        return optuna.load_study(study_name=key, storage=storage)  # creating anew would append a line each time
    return optuna.create_study(study_name=key, storage=storage, direction="maximize")


def best_trials(key: str, journal: Path, steps: int) -> list[FrozenTrial]:
    """The trials that ran to their end, best first, one of each configuration."""
    trials = open_study(key, journal).get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best: dict[str, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda t: (-(t.value or 0.0), t.number)):
        if max(trial.intermediate_values, default=0) >= steps:
            best.setdefault(repr(sorted(trial.params.items())), trial)
    return list(best.values())


def curves(key: str, journal: Path, steps: int) -> list[tuple[dict[str, Any], dict[int, float]]]:
    """Parameters of each trial of a study, and its selection score by step; the first is the published setting.

    A trial that did not run all its steps, for it failed or was stopped, has no curve: its last score is no result.
    """
    trials = open_study(key, journal).get_trials(deepcopy=False)
    whole = [t.state == TrialState.COMPLETE and max(t.intermediate_values, default=0) >= steps for t in trials]
    return [
        (trial.params, dict(trial.intermediate_values) if is_whole else {})
        for trial, is_whole in zip(trials, whole, strict=True)
    ]


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

    def __init__(self, studies: Sequence[Searched], rules: Rules):
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


class StudyScheduler(FIFOScheduler):
    """Asks the searcher whether a trial goes on."""

    def __init__(self, searcher: StudySearcher):
        super().__init__()  # type: ignore[no-untyped-call]  # ray's own
        self.searcher = searcher

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """The searcher knows the metric."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Remembers Tune's trial, to see when it is lost."""
        self.searcher.tune[trial.trial_id] = trial

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stops what the searcher gives up."""
        stop = self.searcher.judge(trial.trial_id, result)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Records the last result of a trial that ended by itself. Also called after a stop."""
        if trial.trial_id in self.searcher.live:
            self.searcher.record(trial.trial_id, result)

    def debug_string(self) -> str:
        """For Ray's own status line."""
        return f"{len(self.searcher.live)} live, {len(self.searcher.pruned)} stopped early"
