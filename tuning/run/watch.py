"""Watcher: shows every result of a search in MLflow and on the terminal."""

from collections import Counter
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from tuning.engine.journal import failure_of
from tuning.engine.searcher import StudySearcher
from tuning.planning.plan import Study
from tuning.run.progress import Progress
from tuning.tracking.tracker import Tracker
from tuning.tracking.trial_runs import of_trial


class Watcher(tune.Callback):
    """Writes a run per trial, as its journal has it, and keeps the progress line.

    Ray pickles callbacks: what is open stays behind.
    """

    def __init__(self, tracker: Tracker, progress: Progress, studies: dict[str, Study], searcher: StudySearcher):
        self.tracker, self.progress, self.studies, self.searcher = tracker, progress, studies, searcher
        self.first_failure: dict[str, str] = {}
        self.failed: Counter[str] = Counter()
        self.best: dict[str, tuple[float, str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @property
    def failures(self) -> list[str]:
        """A line per study with failed trials: how many, and why the first failed."""
        return [
            f"{count} of {self.studies[key].budget} trials of {self.studies[key].name} failed, "
            f"the first: {self.first_failure[key]}"
            for key, count in self.failed.items()
        ]

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An evaluation. The last is in the journal, and is written, when the trial ends."""
        if not result["done"]:
            study, number = self._study(trial), trial.config["number"]
            self.tracker.write(of_trial(study, self.searcher.journals[study.key].trials[number]))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial ended by itself or was stopped."""
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's process was lost for good."""
        self._end(trial)

    def _end(self, trial: Trial) -> None:
        study, number = self._study(trial), trial.config["number"]
        ended = self.searcher.journals[study.key].trials[number]
        self.tracker.write(of_trial(study, ended))
        if failure := failure_of(ended):
            self._count_failure(study, f"trial {number}: {failure.failure}")
        elif ended.value is not None:
            score = ended.value, study.name
            self.best[study.pair.target] = max(self.best.get(study.pair.target, score), score)
        self.progress.advance(self._note(study.pair.target))

    def _count_failure(self, study: Study, reason: str) -> None:
        """The first failure of a study is told at once, later ones are counted."""
        if not self.failed[study.key]:
            self.first_failure[study.key] = reason
            self.progress.say(f"{study.name}, {reason}; the search goes on")
        self.failed[study.key] += 1

    def _study(self, trial: Trial) -> Study:
        return self.studies[trial.config["study"]]

    def _note(self, target: str) -> str:
        score, name = self.best.get(target, (0.0, "–"))
        failed = f" · {self.failed.total()} trials failed" if self.failed else ""
        finished = f"{self.searcher.finished_studies()} of {len(self.studies)} studies"
        return f"{finished} · best so far {score:.3f} {name}{failed}"
