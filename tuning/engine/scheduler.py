"""StudyScheduler: stops trials as the searcher decides."""

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from panda_trainable.result import TrialResult
from tuning.engine.searcher import StudySearcher


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
        self.searcher.tune_trials[trial.trial_id] = trial

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
