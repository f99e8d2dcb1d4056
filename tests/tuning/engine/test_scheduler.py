"""Which waiting trial gets the next process, and that with short trials every process comes to work."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ray.tune.experiment import Trial

from tests.kits.by_hand import studies
from tuning.engine import scheduler as module
from tuning.engine.scheduler import StudyScheduler
from tuning.engine.searcher import SearchPolicy, StudySearcher

POLICY = SearchPolicy(scheduler="none", per_study=2, slots=2)


def scheduler_of(folder: Path, *names: str) -> tuple[StudyScheduler, list[Trial]]:
    """A scheduler of trials that wait for a process."""
    scheduler = StudyScheduler(StudySearcher(studies(folder, budget=3), POLICY))
    trials = [Trial(name, stub=True, trial_id=name) for name in names]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    return scheduler, trials


def test_a_trial_that_waits_is_chosen_when_it_is_new_and_not_while_its_process_starts(tmp_path: Path) -> None:
    scheduler, (first, second) = scheduler_of(tmp_path, "first", "second")
    second.set_status(Trial.RUNNING)
    assert [scheduler.choose_trial_to_run(None) for _ in range(2)] == [first, None]
    third = Trial("third", stub=True, trial_id="third")
    scheduler.on_trial_add(None, third)
    assert [scheduler.choose_trial_to_run(None) for _ in range(2)] == [third, None]


def test_a_trial_that_waits_for_long_takes_what_another_leaves_before_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler, (first,) = scheduler_of(tmp_path, "first")
    assert [scheduler.choose_trial_to_run(None) for _ in range(2)] == [first, None]
    monkeypatch.setattr(module, "PATIENCE_S", -1.0)
    scheduler.on_trial_add(None, Trial("second", stub=True, trial_id="second"))
    assert scheduler.choose_trial_to_run(None) is first
    first.set_status(Trial.RUNNING)
    chosen = scheduler.choose_trial_to_run(None)
    assert chosen is not None
    assert chosen.trial_id == "second"


def test_a_trial_that_lost_its_process_asks_for_another(tmp_path: Path) -> None:
    scheduler, (first,) = scheduler_of(tmp_path, "first")
    assert scheduler.choose_trial_to_run(None) is first
    assert scheduler.choose_trial_to_run(None) is None
    scheduler.on_trial_error(None, first)
    assert scheduler.choose_trial_to_run(None) is first


def completed(folder: Path, most: int, *how: str) -> int:
    """How many trials of a search of real processes are complete."""
    command = [sys.executable, "-m", "tests.kits.short_trials", str(folder), str(most), *how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_a_trial_is_at_work_once_its_process_starts_and_not_while_it_waits_for_room(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kits.slow_start", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert re.fullmatch("w{10,}W*S{10,}s*", done.stdout.split()[-1]), done.stdout + done.stderr


@pytest.mark.slow
def test_a_trial_whose_process_dies_as_it_turns_to_it_begins_again(tmp_path: Path) -> None:
    assert completed(tmp_path, 6, "dies") == 6
    assert (tmp_path / "died").exists()


@pytest.mark.slow
def test_with_short_trials_a_second_process_comes_to_work_and_none_is_replaced(tmp_path: Path) -> None:
    most = 300
    assert completed(tmp_path, most) == most
    began, worked = ((tmp_path / name).read_text().split() for name in ("began", "worked"))
    assert len(worked) == most
    assert len(began) == len(set(worked)) == 2
