"""Which waiting trial gets the next process, and that with short trials every process comes to work."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.experiment import Trial

from panda_trainable.result import TrialResult
from tests.kits.by_hand import studies
from tuning.cluster.connection import connected
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


@pytest.mark.slow
def test_with_short_trials_a_second_process_comes_to_work_and_none_is_replaced(tmp_path: Path) -> None:
    began, worked, most = tmp_path / "began", tmp_path / "worked", 300

    class Short(tune.Trainable):
        """A trial of one result, which does not wait once two processes work."""

        def setup(self, config: dict[str, Any]) -> None:
            with began.open("a") as file:
                file.write(f"{os.getpid()}\n")

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

        def step(self) -> dict[str, Any]:
            with worked.open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(0.0 if len(began.read_text().split()) > 1 else 0.3)
            return TrialResult(8, 0.0, "host/1", {"accuracy": {0: 0.5}}, {0: 1.0}, is_last=True).as_ray()

    searcher = StudySearcher(studies(tmp_path, budget=most // 2), POLICY)
    with connected("local"):
        tune.Tuner(
            tune.with_resources(Short, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=searcher, scheduler=StudyScheduler(searcher), num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                storage_path=str(tmp_path / "ray"),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    assert searcher.remaining() == 0
    assert len(worked.read_text().split()) == most
    assert len(began.read_text().split()) == len(set(worked.read_text().split())) == 2
