"""Watcher: shows every result of a search in MLflow and on the terminal."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from analysis.wording import counted
from tuning.engine.journal import failure_of, results_of
from tuning.engine.searcher import StudySearcher
from tuning.engine.silence import Silence
from tuning.planning.plan import Study
from tuning.run.progress import Progress
from tuning.tracking.trial_runs import of_trial, trial_id
from tuning.tracking.writer import Writer

LOOKS_EVERY_S = 5.0
"""Seconds between two looks at the cluster's nodes."""

NAMED = 3
"""Studies whose trials failed alike and that are named."""


class Watcher(tune.Callback):
    """Leaves a run per trial, as its journal has it, to be written, and keeps the progress line.

    Ray pickles callbacks: what is open stays behind.

    Args:
        writer: takes the runs.
        progress: the terminal.
        studies: key -> study.
        searcher: runs them.
        room: gives the trials that fit the cluster now, told how many there is work for.
        trial_timeout: seconds without a result after which a trial is ended; None: never.
    """

    def __init__(
        self,
        writer: Writer,
        progress: Progress,
        studies: dict[str, Study],
        searcher: StudySearcher,
        room: Callable[[int], int],
        trial_timeout: float | None = None,
    ):
        self.writer, self.progress, self.studies, self.searcher = writer, progress, studies, searcher
        self.first_failure: dict[str, tuple[int, str]] = {}
        self.failed: Counter[str] = Counter()
        self.best: dict[str, tuple[float, str]] = {}
        self.silence = Silence(trial_timeout)
        self.room, self.looked_at = room, 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @property
    def failures(self) -> list[str]:
        """A line per study with failed trials, how many and why the first failed; one for many that failed alike."""
        alike: dict[str, list[str]] = {}
        for key, (_, reason) in self.first_failure.items():
            alike.setdefault(reason, []).append(key)
        return [line for reason, keys in alike.items() for line in self._failed_alike(reason, keys)]

    def _failed_alike(self, reason: str, keys: Sequence[str]) -> Iterator[str]:
        if len(keys) > NAMED:
            count = sum(self.failed[key] for key in keys)
            names = ", ".join(self.studies[key].name for key in keys[:NAMED])
            yield f"{count} trials of {len(keys)} studies ({names} and others) failed: {reason}"
            return
        for key in keys:
            study, number = self.studies[key], self.first_failure[key][0]
            yield (
                f"{self.failed[key]} of {study.budget} trials of {study.name} failed, the first: trial {number}: {reason}"
            )

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Looks from time to time whether nodes came or went: more trials run at once then, or fewer."""
        if time.monotonic() - self.looked_at < LOOKS_EVERY_S:
            return
        fit, policy = self.room(self.searcher.wanted()), self.searcher.policy
        self.looked_at = time.monotonic()
        if fit != policy.slots:
            self.searcher.policy = replace(policy, slots=fit)
            self.progress.say(f"nodes came or went: {counted(fit, 'trial')} at once from now on")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An evaluation. The last is in the journal, and is written, when the trial ends."""
        self.silence.hear(trial.trial_id)
        if not result["done"]:
            self._write(self._study(trial), trial.config["number"])

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tells which trials said nothing for long, and ends those that hang.

        Raises:
            OSError: where the storage failed in this step: it ends the search.
        """
        if self.searcher.storage_error:
            raise self.searcher.storage_error
        self.silence.watch(self.searcher.at_work())
        for silent, seconds in self.silence.to_tell():
            remedy = "" if self.silence.timeout else "; search.trial_timeout ends trials that hang"
            self.progress.say(f"no result for {seconds / 60:.0f} min: {self._named(silent)}{remedy}")
        for silent, seconds in self.silence.hanging():
            self.searcher.give_up(silent, f"hung: no result for {seconds:.0f} s")

    def _named(self, trial_id: str) -> str:
        """A running trial in words, with where it last ran."""
        running = self.searcher.running[trial_id]
        told = results_of(self.searcher.journals[running.key].trials[running.number])
        where = f" on {told[-1].node}" if told else ", which is to tell its first"
        return f"trial {running.number} of {self.studies[running.key].name}{where}"

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial ended by itself or was stopped; where the storage failed, it is to run again."""
        if not self.searcher.storage_error:
            self._end(trial)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A node said beforehand that it goes: Tune counts no loss, and begins its trial again itself."""
        self._say_again(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's process was lost: it begins again, or has failed where that was so too often."""
        if trial.config["number"] in self.searcher.requeued[self._study(trial).key]:
            self._say_again(trial)
        else:
            self._end(trial)

    def _say_again(self, trial: Trial) -> None:
        name, number = self._study(trial).name, trial.config["number"]
        self.progress.say(f"{name}, trial {number}: its process was lost; the trial begins again")

    def _end(self, trial: Trial) -> None:
        study, number = self._study(trial), trial.config["number"]
        ended = self.searcher.journals[study.key].trials[number]
        self._write(study, number)
        if failure := failure_of(ended):
            self._count_failure(study, number, failure.failure)
        elif ended.value is not None:
            score = ended.value, study.name
            self.best[study.pair.target] = max(self.best.get(study.pair.target, score), score)
        self.progress.advance(self._note(study.pair.target))

    def _write(self, study: Study, number: int) -> None:
        """Leaves a trial's run to the writer, which makes it of the journal when its turn comes."""
        journal = self.searcher.journals[study.key]
        self.writer.put(trial_id(study, number), lambda: of_trial(study, journal.trials[number]))

    def _count_failure(self, study: Study, number: int, reason: str) -> None:
        """The first failure of a study is told at once, if none was of that kind; later ones are counted."""
        if not self.failed[study.key]:
            if all(reason != known for _, known in self.first_failure.values()):
                self.progress.say(f"{study.name}, trial {number}: {reason}; the search goes on")
            self.first_failure[study.key] = number, reason
        self.failed[study.key] += 1

    def _study(self, trial: Trial) -> Study:
        return self.studies[trial.config["study"]]

    def _note(self, target: str) -> str:
        score, name = self.best.get(target, (0.0, "–"))
        failed = f" · {self.failed.total()} trials failed" if self.failed else ""
        finished = f"{self.searcher.finished_studies()} of {len(self.studies)} studies"
        return f"{finished} · best so far {score:.3f} {name}{failed}"
