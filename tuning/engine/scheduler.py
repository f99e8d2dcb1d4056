"""StudyScheduler: stops trials as the searcher decides, and gives processes to those that wait."""

import time
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from panda_trainable.result import TrialResult
from tuning.engine.searcher import StudySearcher

PATIENCE_S = 60.0
"""Seconds that a trial waits for a process of its own before it takes one that another trial leaves."""


class StudyScheduler(FIFOScheduler):
    """Asks the searcher whether a trial goes on.

    Attributes:
        waits_since: trial -> time.monotonic() when it asked for a process.
    """

    def __init__(self, searcher: StudySearcher):
        super().__init__()  # type: ignore[no-untyped-call]  # ray's own
        self.searcher = searcher
        self.waits_since: dict[str, float] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """The searcher knows the metric."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Remembers Tune's trial, to see when it is lost or hangs."""
        self.searcher.processes.controller = tune_controller
        self.searcher.tune_trials[trial.trial_id] = trial

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A trial that lost its process asks for another."""
        self.waits_since.pop(trial.trial_id, None)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The next trial to get a process: one that waits for too long, or one that has not asked for any.

        Tune's own choice is the first that waits, even where its process is just starting. A process that another
        trial leaves then takes the place of that one, which is ended: with short trials none ever gets to work.
        """
        now = time.monotonic()
        waiting = [trial for trial in self.searcher.tune_trials.values() if trial.status == Trial.PENDING]
        new = [trial for trial in waiting if trial.trial_id not in self.waits_since]  # Tune asks for all of them now
        self.waits_since = {trial.trial_id: self.waits_since.get(trial.trial_id, now) for trial in waiting}
        late = [trial for trial in waiting if now - self.waits_since[trial.trial_id] > PATIENCE_S]
        return next(iter(late + new), None)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stops what the searcher gives up."""
        stop = self.searcher.should_stop(trial.trial_id, TrialResult.from_ray(result))
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Records the last result of a trial that ended by itself. Also called after a stop."""
        if trial.trial_id in self.searcher.running:
            self.searcher.record(trial.trial_id, TrialResult.from_ray(result))

    def debug_string(self) -> str:
        """For Ray's own status line."""
        return f"{len(self.searcher.running)} trials running"
