"""Watcher: shows every result of a search in MLflow and on the terminal."""

from collections import Counter
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from tuning.engine.journal import failure_of
from tuning.engine.searcher import StudySearcher
from tuning.planning.plan import Study
from tuning.run.progress import Progress
from tuning.tracking.trial_runs import of_trial, trial_id
from tuning.tracking.writer import Writer


class Watcher(tune.Callback):
    """Leaves a run per trial, as its journal has it, to be written, and keeps the progress line.

    Ray pickles callbacks: what is open stays behind.
    """

    def __init__(self, writer: Writer, progress: Progress, studies: dict[str, Study], searcher: StudySearcher):
        self.writer, self.progress, self.studies, self.searcher = writer, progress, studies, searcher
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
            self._write(self._study(trial), trial.config["number"])

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial ended by itself or was stopped."""
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's process was lost for good."""
        self._end(trial)

    def _end(self, trial: Trial) -> None:
        study, number = self._study(trial), trial.config["number"]
        ended = self.searcher.journals[study.key].trials[number]
        self._write(study, number)
        if failure := failure_of(ended):
            self._count_failure(study, f"trial {number}: {failure.failure}")
        elif ended.value is not None:
            score = ended.value, study.name
            self.best[study.pair.target] = max(self.best.get(study.pair.target, score), score)
        self.progress.advance(self._note(study.pair.target))

    def _write(self, study: Study, number: int) -> None:
        """Leaves a trial's run to the writer, which makes it of the journal when its turn comes."""
        journal = self.searcher.journals[study.key]
        self.writer.put(trial_id(study, number), lambda: of_trial(study, journal.trials[number]))

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
