"""A study's append-only Optuna journal, with the whole result of every evaluation: the only state of a search."""

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from panda_trainable.library import make_storage, set_aside
from panda_trainable.result import LOST, TrialResult
from search_spaces.space import Space
from tuning.engine.sealed import RESULT, Log, SealedBackend, mended, write_mended
from tuning.experiment.problems import Misuse, Problem

UNREADABLE = (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What Optuna raises of lines that it did not write."""

_FAILURE = "failure"


@dataclass(frozen=True)
class StudyHandle:
    """What the searcher needs of a study.

    Attributes:
        key: its content key.
        journal: the file of its trials.
        space: of its knobs.
        budget: trials, those that fail included; at most as many as there are configurations, of which none runs twice.
        steps: of a trial that runs to its end.
        seed: of its sampler.

    Raises:
        ValueError: if the budget is more than that.
    """

    key: str
    journal: Path
    space: Space
    budget: int
    steps: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the budget."""
        if self.budget > self.space.size:
            raise ValueError(
                f"budget must be at most the {self.space.size} configurations there are, got {self.budget}"
            )


def only_driver(folder: Path) -> IO[str]:
    """Claims a search for this process; keep the file open: the kernel frees it when the process dies.

    Raises:
        Misuse: if another process searches here, or the folder cannot be written.
    """
    try:
        make_storage(folder.parents[1])
        folder.mkdir(parents=True, exist_ok=True)
        claim = (folder / "driver.lock").open("a+")
    except OSError as error:
        problem = Problem("storage", f"{folder} cannot be written ({error.strerror})", remedy="choose another folder")
        raise Misuse(problem) from error
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        claim.seek(0)
        rule = f"is being searched by another process ({claim.read().strip()})"
        raise Misuse(Problem(str(folder), rule, remedy="wait for it or stop it")) from None
    claim.truncate(0)
    claim.write(f"process {os.getpid()} on {os.uname().nodename}")
    claim.flush()
    for left_over in folder.glob("studies/*.journal.lock"):  # of a driver that was killed
        left_over.unlink()
    return claim


class Journal:
    """A study's trials in an append-only file, made where there is none.

    Every evaluation is kept twice: its score as Optuna's intermediate value, which samplers read, and the whole
    result as an attribute of the trial, from which MLflow can be written again at any time.

    Args:
        key: name of the study.
        path: of the file. A line that a killed driver left half written is cut off first: it would swallow the
            next one and poison the file. Lines that changed since they were written are set aside with it.

    Attributes:
        damage: what was wrong with the file, and what is done about it; empty: nothing.
    """

    def __init__(self, key: str, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.damage = ""
        file = path.resolve()
        try:
            self._backend = SealedBackend(file, self._sound(key, path))
            self._storage = JournalStorage(self._backend)
        except UNREADABLE as error:  # lines of older versions, without checksums, that make no sense together
            self.damage = (
                f"{path} cannot be read ({error!r}); it is kept as {set_aside(path).name}, and its trials run again"
            )
            self._backend = SealedBackend(file, ())
            self._storage = JournalStorage(self._backend)
        if all(study.study_name != key for study in self._storage.get_all_studies()):  # creating anew appends a line
            self._storage.create_new_study([StudyDirection.MAXIMIZE], key)
        self._study = self._storage.get_study_id_from_name(key)

    def _sound(self, key: str, path: Path) -> Sequence[Log]:
        """What a file says; it is written anew where something in it is damaged."""
        if not path.exists():
            return ()
        with path.open("rb+") as file:
            *lines, torn = file.read().split(b"\n")
            if torn:
                file.seek(-len(torn), os.SEEK_END)
                file.truncate()
        left = mended(lines, key)
        if left.damaged:
            self.damage = f"{path}: {left}; it is kept as {write_mended(path, left.logs).name}"
        return left.logs

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials by number; not to be changed."""
        return self._storage.get_all_trials(self._study, deepcopy=False)

    def add(self, trial: FrozenTrial) -> None:
        """Adds a running trial as one record: a killed driver leaves all of it or nothing."""
        self._storage.create_new_trial(self._study, trial)

    def record(self, number: int, result: TrialResult) -> None:
        """Keeps an evaluation of a running trial; one that an earlier life left at this step is overwritten."""
        trial = self._trial_id(number)
        with self._backend.together():
            self._storage.set_trial_user_attr(trial, _attribute(result.step), result.as_json())
            self._storage.set_trial_intermediate_value(trial, result.step, result.score)

    def end(self, number: int, result: TrialResult, stopped: bool = False) -> None:
        """Ends a trial with its last result.

        Args:
            number: of the trial.
            result: its last; one with a failure ends the trial as failed.
            stopped: whether it was stopped early.
        """
        trial = self._trial_id(number)
        if result.failure:
            self._storage.set_trial_user_attr(trial, _FAILURE, result.as_json())
            self._storage.set_trial_state_values(trial, TrialState.FAIL)
        else:
            state = TrialState.PRUNED if stopped else TrialState.COMPLETE
            self._storage.set_trial_state_values(trial, state, [result.score])

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study, number)

    def best_trials(self, steps: int) -> list[FrozenTrial]:
        """The trials that ran all their steps, best first, one of each configuration."""
        best: dict[str, FrozenTrial] = {}
        for trial in sorted(self.trials, key=lambda t: (-(t.value or 0.0), t.number)):
            if _is_whole(trial, steps):
                best.setdefault(repr(sorted(trial.params.items())), trial)
        return list(best.values())

    def curves(self, steps: int) -> list["TrialCurve"]:
        """The selection score by step of each trial; empty where it did not run all its steps, whose last is no result."""
        return [TrialCurve(t.params, dict(t.intermediate_values) if _is_whole(t, steps) else {}) for t in self.trials]


@dataclass(frozen=True)
class TrialCurve:
    """How a trial learnt.

    Attributes:
        params: what Optuna suggested.
        scores: step -> selection score.
    """

    params: Mapping[str, Any]
    scores: Mapping[int, float]


def results_of(trial: FrozenTrial) -> list[TrialResult]:
    """The evaluations of a trial by step; how it failed is not among them."""
    kept = trial.user_attrs
    return [TrialResult.from_json(kept[_attribute(step)]) for step in sorted(trial.intermediate_values)]


def failure_of(trial: FrozenTrial) -> TrialResult | None:
    """How a trial failed; None where it did not."""
    if trial.state != TrialState.FAIL:
        return None
    kept = trial.user_attrs.get(_FAILURE)
    return TrialResult.from_json(kept) if kept else TrialResult.failed(LOST)


def _attribute(step: int) -> str:
    return f"{RESULT}{step}"


def _is_whole(trial: FrozenTrial, steps: int) -> bool:
    return trial.state == TrialState.COMPLETE and max(trial.intermediate_values, default=0) >= steps
