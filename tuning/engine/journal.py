"""A study's append-only Optuna journal: the only state of a search."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from search_spaces.space import Space
from tuning.experiment.problems import Misuse, Problem


@dataclass(frozen=True)
class StudyHandle:
    """What the searcher needs of a study."""

    key: str
    journal: Path
    space: Space
    budget: int
    steps: int


def only_driver(folder: Path) -> IO[str]:
    """Claims a search for this process; keep the file open: the kernel frees it when the process dies.

    Raises:
        Misuse: if another process searches here, or the folder cannot be written.
    """
    try:
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
