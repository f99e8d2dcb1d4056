"""`python -m tests.kits.short_trials FOLDER MOST [dies]`: a search of MOST trials of one result each, on a Ray of its own.

A process of its own runs it: one that already holds a connection to a Ray could not start another. FOLDER/began gets a
line for each trial process that began, FOLDER/worked one for each result: the process's id. With `dies`, the first
process that turns to another trial dies. Prints how many trials are complete.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray import tune

from panda_trainable.result import TrialResult
from tests.kits.by_hand import studies
from tuning.cluster.connection import connected
from tuning.engine.scheduler import StudyScheduler
from tuning.engine.searcher import SearchPolicy, StudySearcher

POLICY = SearchPolicy(scheduler="none", per_study=2, slots=2)


def run(folder: Path, most: int, dies: bool) -> None:
    """Runs it to its end."""
    began, worked, died = folder / "began", folder / "worked", folder / "died"

    class Short(tune.Trainable):
        """A trial of one result, which does not wait once two processes work."""

        def setup(self, config: dict[str, Any]) -> None:
            with began.open("a") as file:
                file.write(f"{os.getpid()}\n")

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            if dies and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return True

        def step(self) -> dict[str, Any]:
            with worked.open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(0.0 if len(began.read_text().split()) > 1 else 0.3)
            return TrialResult(8, 0.0, "host/1", {"accuracy": {0: 0.5}}, {0: 1.0}, is_last=True).as_ray()

    searcher = StudySearcher(studies(folder, budget=most // 2), POLICY)
    with connected("local"):
        tune.Tuner(
            tune.with_resources(Short, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=searcher, scheduler=StudyScheduler(searcher), num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                storage_path=str(folder / "ray"),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    ended = (trial for journal in searcher.journals.values() for trial in journal.trials)
    print(sum(trial.state == TrialState.COMPLETE for trial in ended))


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), "dies" in sys.argv[3:])
