"""Watcher: tells MLflow and the terminal of every result of a search."""

from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from tuning.engine.searcher import StudySearcher
from tuning.planning.plan import Study
from tuning.run.progress import Progress
from tuning.tracking.tracker import FINISHED, RUNNING, Tracker
from tuning.tracking.trial_runs import of_trial


class Watcher(tune.Callback):
    """Writes a run per trial and keeps the progress line.

    Ray pickles callbacks: what is open stays behind.
    """

    def __init__(self, tracker: Tracker, progress: Progress, studies: dict[str, Study], searcher: StudySearcher):
        self.tracker, self.progress, self.studies, self.searcher = tracker, progress, studies, searcher
        self.failures: list[str] = []
        self.best: dict[str, tuple[float, str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"failures": self.failures}

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A result that may be the last: how it ended is said when it ends."""
        self._write(trial, result, RUNNING)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial ended by itself or was stopped."""
        self._ended(trial, trial.last_result or {})

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's process was lost for good."""
        self._ended(trial, None)

    def _ended(self, trial: Trial, result: dict[str, Any] | None) -> None:
        study = self._write(trial, result, FINISHED)
        failure = "its process was lost" if result is None else result.get("failure")
        if failure:
            self.failures.append(f"trial {trial.config['number']} of {study.pair.name}: {failure}")
            self.progress.say(self.failures[-1])
        elif result:
            self.best[study.pair.target] = max(
                self.best.get(study.pair.target, (-2.0, "")), (result["score"], study.pair.name)
            )
        self.progress.advance(self._note(study.pair.target))

    def _write(self, trial: Trial, result: dict[str, Any] | None, status: str) -> Study:
        study = self.studies[trial.config["study"]]
        self.tracker.write(of_trial(study, trial.config["number"], trial.config["knobs"], result, status))
        return study

    def _note(self, target: str) -> str:
        busy = {live.key for live in self.searcher.live.values()}
        full = [key for key, s in self.searcher.searched.items() if self.searcher.count[key] >= s.budget]
        score, name = self.best.get(target, (0.0, "–"))
        return f"{len(set(full) - busy)} of {len(self.studies)} studies · best so far {score:.3f} {name}"
