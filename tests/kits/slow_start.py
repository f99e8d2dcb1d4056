"""`python -m tests.kits.slow_start FOLDER`: a search of one trial whose cluster has no room at first, and whose process starts slowly.

Prints a letter for each look: `w` while the trial waits for its process, `s` once that sets the trial up, capitals where
the trial counts as at work.
"""

import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from panda_trainable.result import TrialResult
from tests.kits.by_hand import studies
from tuning.cluster.connection import connected
from tuning.engine import processes
from tuning.engine.scheduler import StudyScheduler
from tuning.engine.searcher import SearchPolicy, StudySearcher

HELD_S, STARTS_S = 4.0, 6.0


@ray.remote(num_cpus=1)
def hold(seconds: float) -> None:
    """Takes the cluster's room."""
    time.sleep(seconds)


class Looks(tune.Callback):
    """Notes whether the trial counts as at work, at each of Tune's steps."""

    def __init__(self, searcher: StudySearcher, began: Path):
        self.searcher, self.began, self.seen = searcher, began, ""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Looks."""
        letter = "s" if self.began.exists() else "w"
        self.seen += letter.upper() if self.searcher.at_work() else letter


def run(folder: Path) -> str:
    """Runs it to its end."""
    began = folder / "began"

    class Slow(tune.Trainable):
        """A trial of one result whose process takes its time to start."""

        def setup(self, config: dict[str, Any]) -> None:
            began.touch()
            time.sleep(STARTS_S)

        def step(self) -> dict[str, Any]:
            return TrialResult(8, 0.0, "host/1", {"accuracy": {0: 0.5}}, {0: 1.0}, is_last=True).as_ray()

    processes.LOOKS_EVERY_S = 0.2
    searcher = StudySearcher(studies(folder, budget=1, methods=("spot",)), SearchPolicy(scheduler="none"))
    looks = Looks(searcher, began)
    with connected("local"):
        cpus = int(ray.cluster_resources()["CPU"])
        held = [hold.remote(HELD_S) for _ in range(cpus)]
        ray.wait(held, timeout=1)  # they have begun
        tune.Tuner(
            tune.with_resources(Slow, {"cpu": cpus}),
            tune_config=tune.TuneConfig(search_alg=searcher, scheduler=StudyScheduler(searcher), num_samples=-1),
            run_config=tune.RunConfig(
                storage_path=str(folder / "ray"),
                verbose=0,
                callbacks=[looks],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    return looks.seen


if __name__ == "__main__":
    print(run(Path(sys.argv[1])))
