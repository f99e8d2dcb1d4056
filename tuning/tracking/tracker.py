"""MLflow's only writer: one run per source, study, trial and confirmed configuration, found by tag before it is made."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from analysis.records import names as records
from analysis.records.address import cleaned
from analysis.records.connection import Deleted, client, experiment_of, reason_of, runs
from analysis.records.twins import one_of_each, others
from tuning.experiment.names import slug
from tuning.tracking.known import KnownRun, Lacking
from tuning.tracking.updates import RUNNING, RunUpdate

PATIENCE_S = 20.0
"""Seconds between two attempts to reach an MLflow server that is away."""

EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # the UI then shows training runs, not chats
    "mlflow.note.content": (
        "One run per study, its trials and confirmed configurations below it. Only the studies: "
        "`tags.stage = 'study' and tags.current = 'true'`; of one target: `and tags.target = '…'`. "
        "Chart view, scatter: x `similarity/task_embedding`, y `gain`."
    ),
}

LOGGER = logging.getLogger(__name__)
ANSWERS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
"""Errors of a server that is there."""
MOST_METRICS = 500
"""Metrics of a call; MLflow takes 1,000 at most, params and tags included."""
GOES_ON = "the search goes on"

T = TypeVar("T")


class Tracker:
    """Makes MLflow show what the plan, the library and the journals hold.

    While the server is away, updates are left out, and nothing waits here: since all of them can be made again,
    everything is written anew as soon as it answers, and only what it lacks is sent. No request is ever sent again
    before MLflow was asked what it holds: it may have done what it did not answer.

    Args:
        uri: of MLflow.
        experiment: the experiment's name.
        folder: of the search; with sqlite the artifacts lie in its storage.
        everything: all updates that can be made so far, parents first.
        notify: told when the server stops answering, and when it answers again.

    Attributes:
        is_behind: whether MLflow lacks something.
        is_away: whether it did not answer when it was asked last.
        is_told: whether it was told that it does not answer, and not yet that it does again.
        is_stopped: whether what is being written is to be left.
        answered_at: time.monotonic() of its last answer.
        waiting: how many runs have something to be written, for what is told.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        folder: Path,
        everything: Callable[[], Iterable[RunUpdate]] = tuple,
        notify: Callable[[str], None] = LOGGER.warning,
    ):
        self.uri, self.experiment, self.folder = uri, experiment, folder
        self.everything, self.notify = everything, notify
        self.is_behind = self.is_away = self.is_told = self._is_unsure = False
        self.is_stopped = False
        self.retry_at = 0.0
        self.answered_at = time.monotonic()
        self.waiting: Callable[[], int] = int
        self._store: Any = None
        self._runs: dict[str, KnownRun] = {}

    @property
    def place(self) -> str:
        """MLflow's address for people: without its password."""
        return cleaned(self.uri)

    @property
    def run_ids(self) -> dict[str, str]:
        """Id of an update -> MLflow's id of its run, as far as it is known."""
        return {name: run.id for name, run in self._runs.items()}

    def check(self) -> None:
        """Refuses an experiment that is deleted; a server that does not answer is told, and may do so later.

        Raises:
            Deleted: with what to do.
        """
        if self.uri.startswith("sqlite:") and not Path(self.uri.removeprefix("sqlite:///")).exists():
            return
        try:
            experiment_of(client(self.uri, reads=True), self.experiment)
        except Deleted:
            raise
        except Exception as error:  # noqa: BLE001  # as below: all mean "later"
            self._note_failure(error)

    def write(self, *updates: RunUpdate) -> bool:
        """Writes updates, and first whatever was left out before; whether MLflow has it all now."""
        if time.monotonic() < self.retry_at:
            return False
        return self._write(chain(self.everything(), updates) if self.is_behind else updates)

    def write_everything(self) -> bool:
        """Writes all updates that can be made so far, however short ago the server was away; whether MLflow has them."""
        if self._is_unsure:
            self._store, self._is_unsure = None, False  # what was not answered may have been made after we asked
        return self._write(self.everything())

    def _write(self, updates: Iterable[RunUpdate]) -> bool:
        self.is_behind = not all(not self.is_stopped and self._is_done(self._log, update) for update in updates)
        if self.is_told and not self.is_behind:  # one answer is not enough: what failed must have been done
            self.is_told = False
            self.notify(f"MLflow at {self.place} answers again, and has what it lacked")
        return not self.is_behind

    def mark_current(self, keys: set[str]) -> None:
        """Marks the present plan's studies as current and all earlier ones as not."""

        def mark() -> None:
            for run in runs(self._store, self.experiment, f"tags.{records.STAGE} = 'study'"):
                current = str(run.data.tags.get(records.STUDY) in keys).lower()
                if run.data.tags.get(records.CURRENT) != current:
                    self._store.set_tag(run.info.run_id, records.CURRENT, current)

        self.is_behind |= not self._is_done(mark)

    def close_left_running(self) -> int:
        """Ends runs that a killed driver left running and nobody took up again; how many there were."""
        closed = []

        def close() -> None:
            for run in list(runs(self._store, self.experiment, "attributes.status = 'RUNNING'")):
                self._store.set_terminated(run.info.run_id, "KILLED")
                closed.append(run)

        # An interrupted write may leave its connection in the midst of a transaction: the second try has a new one.
        _ = self._is_done(close) or self._is_done(close)
        return len(closed)

    def _is_done(self, action: Callable[..., None], *arguments: Any) -> bool:
        """Whether MLflow answered to an action; where not, it is left alone for a while, and asked anew what it holds."""
        try:
            self._connect()
            action(*arguments)
        except Exception as error:  # noqa: BLE001  # MLflow raises its own, requests' and SQLAlchemy's: all mean "later"
            self._note_failure(error)
            return False
        self.answered_at, self.is_away = time.monotonic(), False
        return True

    def _note_failure(self, error: Exception) -> None:
        self._store, self.retry_at = None, time.monotonic() + PATIENCE_S
        self.is_away = True
        if not self.is_told:
            self.is_told = True
            rest = f"{GOES_ON}, and what is missing is written as soon as it answers"
            self.notify(f"{self._reason(error)}; {rest}{self._told_waiting()}")

    def _told_waiting(self) -> str:
        count = self.waiting()
        return f" ({count} {'run waits' if count == 1 else 'runs wait'})" if count else ""

    def _reason(self, error: Exception) -> str:
        """Why something was not written: a server that answers with an error may have lost the experiment."""
        if getattr(error, "error_code", "") in ANSWERS:
            try:
                experiment_of(client(self.uri, reads=True), self.experiment)
            except Deleted as deleted:
                error = deleted
            except Exception:  # noqa: BLE001  # then the first error is what is to be told
                LOGGER.debug("MLflow at %s does not say why", self.place)
        if isinstance(error, Deleted):
            return str(error)
        return f"MLflow at {self.place} does not answer ({reason_of(error.__cause__ or error)})"

    def _connect(self) -> None:
        if self._store is not None:
            return
        store = client(self.uri)
        self._experiment_id = self._experiment_of(store)
        every = list(self._heard(runs(store, self.experiment)))
        for twin, kept in others(every):
            _merge(store, twin, kept)
        found = one_of_each(every)
        self._runs = {run.data.tags.get(records.ID, ""): KnownRun.of(run) for run in found}
        self._store = store

    def _heard(self, answers: Iterable[T]) -> Iterator[T]:
        for answer in answers:
            self.answered_at = time.monotonic()
            yield answer

    def _experiment_of(self, store: Any) -> str:
        found = experiment_of(store, self.experiment)
        if found is not None:
            return str(found.experiment_id)
        is_local = self.uri.startswith("sqlite:")
        artifacts = (self.folder.parent.parent / "artifacts" / slug(self.experiment)).as_uri() if is_local else None
        return str(store.create_experiment(self.experiment, artifact_location=artifacts, tags=EXPERIMENT_TAGS))

    def _log(self, update: RunUpdate) -> None:
        """Sends what a run lacks, its status last: a run that has ended in MLflow is complete there."""
        run = self._runs.get(update.id) or self._new_run(update)
        links = {name: self._runs[other].id for name, other in update.links.items()}
        lacking = run.lacks(update, {**self._parent(update), **links})
        if lacking or run.status != update.status:
            self._log_files(run, update)
            if lacking:
                self._log_batches(run, lacking)
            self._set_status(run, update.status)

    def _log_files(self, run: KnownRun, update: RunUpdate) -> None:
        for name, text in update.artifacts.items():
            self._store.log_text(run.id, text, name)
        for path in update.files:
            self._store.log_artifact(run.id, path)

    def _log_batches(self, run: KnownRun, lacking: Lacking) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = run.next_time()
        *before, last = list(_parts(lacking.metrics)) or [[]]
        for part in before:
            self._store.log_batch(run.id, [Metric(name, value, now, step) for step, name, value in part])
            run.add(part)
        self._store.log_batch(
            run.id, [Metric(name, value, now, step) for step, name, value in last],
            [Param(*item) for item in lacking.params.items()], [RunTag(*item) for item in lacking.tags.items()],
        )  # fmt: skip
        run.add(last, lacking.params, lacking.tags)

    def _set_status(self, run: KnownRun, status: str) -> None:
        if run.status == status:
            return
        if status == RUNNING:
            self._store.update_run(run.id, RUNNING)
        else:
            self._store.set_terminated(run.id, status)
        run.status = status

    def _new_run(self, update: RunUpdate) -> KnownRun:
        tags = {records.ID: update.id, **self._parent(update)}
        try:
            made = self._store.create_run(self._experiment_id, tags=tags, run_name=update.name)
        except Exception:
            self._is_unsure = True
            raise
        self._runs[update.id] = KnownRun(made.info.run_id, tags=tags)
        return self._runs[update.id]

    def _parent(self, update: RunUpdate) -> dict[str, str]:
        return {records.PARENT: self._runs[update.parent].id} if update.parent else {}


def _merge(store: Any, twin: Any, kept: Any) -> None:
    """Leaves one of two runs that stand for the same thing: whatever it lacks is written again from the journals."""
    store.set_tag(twin.info.run_id, records.TWIN_OF, kept.info.run_id)
    store.delete_run(twin.info.run_id)


def _parts(metrics: Sequence[tuple[int, str, float]]) -> Iterator[list[tuple[int, str, float]]]:
    """Metrics in calls that MLflow takes, those of one step together: a step that is there is there as a whole."""
    part: list[tuple[int, str, float]] = []
    for metric in metrics:
        if len(part) >= MOST_METRICS and metric[0] != part[-1][0]:
            yield part
            part = []
        part.append(metric)
    if part:
        yield part
