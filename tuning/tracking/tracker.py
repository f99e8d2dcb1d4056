"""MLflow's only writer: one run per source, study, trial and confirmed configuration, found by tag before it is made."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from analysis.records import names as records
from analysis.records.reader import Deleted, client, experiment_of, runs
from tuning.experiment.names import slug

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

RUNNING, FINISHED, FAILED = "RUNNING", "FINISHED", "FAILED"

LOGGER = logging.getLogger(__name__)
ANSWERS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
"""Errors of a server that is there."""
MOST_METRICS = 500
"""Metrics of a call; MLflow takes 1,000 at most, params and tags included."""


@dataclass(frozen=True)
class RunUpdate:
    """What MLflow must show of one run; writing it twice changes nothing.

    Attributes:
        id: `stage:key`, by which the run is found.
        name: for people.
        parent: id of the parent run; empty: none.
        tags: set, later ones win.
        params: written once.
        metrics: name -> value, without a step: later ones win.
        history: step -> name -> value, by rising steps; those that the run has are skipped.
        links: tag -> id of another run, whose MLflow id becomes the tag's value.
        status: RUNNING, FINISHED or FAILED.
        artifacts: file name -> text, for small ones.
        files: paths of files that are already on disk.
    """

    id: str
    name: str
    parent: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    status: str = FINISHED
    artifacts: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()


@dataclass
class _KnownRun:
    """What a run in MLflow holds."""

    id: str
    status: str = RUNNING
    tags: dict[str, str] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    metrics: dict[str, float] = field(default_factory=dict)
    last_step: int = -1

    @classmethod
    def of(cls, run: Any) -> "_KnownRun":
        """As MLflow's search gives it; only its protocol buffer has the steps of metrics."""
        data = run.data
        last_step = max((metric.step for metric in data.to_proto().metrics), default=-1)
        return cls(run.info.run_id, run.info.status, dict(data.tags), set(data.params), dict(data.metrics), last_step)

    def unseen_metrics(self, update: RunUpdate) -> list[tuple[int, str, float]]:
        """Step, name and value of the metrics that the run lacks: of later steps, or without steps and of another value."""
        changed = [(0, name, float(v)) for name, v in update.metrics.items() if self.metrics.get(name) != v]
        later = [
            (step, name, float(value))
            for step, values in sorted(update.history.items())
            if step > self.last_step
            for name, value in values.items()
        ]
        return changed + later


class Tracker:
    """Makes MLflow show what the plan, the library and the journals hold.

    While the server is away, updates are left out, and nothing waits anywhere: since all of them can be made again,
    everything is written anew as soon as it answers, and only what it lacks is sent.

    Args:
        uri: of MLflow.
        experiment: the experiment's name.
        folder: of the search; with sqlite the artifacts lie in its storage.
        everything: all updates that can be made so far, parents first.
        notify: told once, when the server stops answering.
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
        self.is_behind = False
        self.retry_at = 0.0
        self._store: Any = None
        self._runs: dict[str, _KnownRun] = {}

    def check(self) -> None:
        """Refuses an experiment that is deleted; a server that does not answer now may do so later.

        Raises:
            Deleted: with what to do.
        """
        _prepare()
        try:
            experiment_of(client(self.uri, reads=True), self.experiment)
        except Deleted:
            raise
        except Exception as error:  # noqa: BLE001  # as below: told when there is something to write
            LOGGER.debug("MLflow at %s does not answer: %s", self.uri, error)

    def write(self, *updates: RunUpdate) -> bool:
        """Writes updates, and first whatever was left out before; whether MLflow has it all now."""
        if time.monotonic() < self.retry_at:
            return False
        return self._write(chain(self.everything(), updates) if self.is_behind else updates)

    def write_everything(self) -> bool:
        """Writes all updates that can be made so far, however short ago the server was away; whether MLflow has them."""
        return self._write(self.everything())

    def _write(self, updates: Iterable[RunUpdate]) -> bool:
        self.is_behind = not all(self._is_done(self._log, update) for update in updates)
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
            self._store, self.retry_at = None, time.monotonic() + PATIENCE_S
            if not self.is_behind:
                rest = "the search goes on, and what is missing is written as soon as it answers"
                self.notify(f"{self._reason(error)}; {rest}")
            return False
        return True

    def _reason(self, error: Exception) -> str:
        """Why something was not written: a server that answers with an error may have lost the experiment."""
        if getattr(error, "error_code", "") in ANSWERS:
            try:
                self.check()
            except Deleted as deleted:
                error = deleted
        if isinstance(error, Deleted):
            return str(error)
        return f"MLflow at {self.uri} does not answer ({_first_line(error)})"

    def _connect(self) -> None:
        if self._store is not None:
            return
        _prepare()
        store = client(self.uri)
        self._experiment_id = self._experiment_of(store)
        self._runs = {run.data.tags.get(records.ID, ""): _KnownRun.of(run) for run in runs(store, self.experiment)}
        self._store = store

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
        tags = {name: str(value) for name, value in {**update.tags, **links}.items()}
        tags = {name: value for name, value in tags.items() if run.tags.get(name) != value}
        params = {name: str(value) for name, value in update.params.items() if name not in run.params}
        metrics = run.unseen_metrics(update)
        if tags or params or metrics or run.status != update.status:
            self._log_files(run, update)
            self._log_batch(run, metrics, params, tags)
            self._set_status(run, update.status)

    def _log_files(self, run: _KnownRun, update: RunUpdate) -> None:
        for name, text in update.artifacts.items():
            self._store.log_text(run.id, text, name)
        for path in update.files:
            self._store.log_artifact(run.id, path)

    def _log_batch(
        self, run: _KnownRun, metrics: Sequence[tuple[int, str, float]], params: dict[str, str], tags: dict[str, str]
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        for part in _parts(metrics):
            self._store.log_batch(run.id, [Metric(name, value, now, step) for step, name, value in part])
            run.metrics |= {name: value for _, name, value in part}
            run.last_step = max(run.last_step, part[-1][0])
        if params or tags:
            self._store.log_batch(
                run.id, params=[Param(*item) for item in params.items()], tags=[RunTag(*item) for item in tags.items()]
            )
        run.params |= set(params)
        run.tags |= tags

    def _set_status(self, run: _KnownRun, status: str) -> None:
        if run.status == status:
            return
        if status == RUNNING:
            self._store.update_run(run.id, RUNNING)
        else:
            self._store.set_terminated(run.id, status)
        run.status = status

    def _new_run(self, update: RunUpdate) -> _KnownRun:
        tags = {records.ID: update.id, **({records.PARENT: self._runs[update.parent].id} if update.parent else {})}
        made = self._store.create_run(self._experiment_id, tags=tags, run_name=update.name)
        self._runs[update.id] = _KnownRun(made.info.run_id, tags=tags)
        return self._runs[update.id]


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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _prepare() -> None:
    """We retry ourselves, without blocking, and tell ourselves, in one line, that a store does not answer."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    for name in ("mlflow", "alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
