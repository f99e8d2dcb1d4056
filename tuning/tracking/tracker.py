"""MLflow's only writer: one run per source, study, trial and confirmed configuration, found by tag before it is made."""

import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from analysis.records import names as records
from analysis.records.reader import client, runs

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


@dataclass(frozen=True)
class RunUpdate:
    """What is to be said of one run; saying it twice changes nothing.

    Attributes:
        id: `stage:key`, by which the run is found.
        name: for people.
        parent: id of the parent run; empty: none.
        tags: set, later ones win.
        params: written once.
        metrics: name -> value.
        step: of the metrics.
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
    step: int = 0
    links: Mapping[str, str] = field(default_factory=dict)
    status: str = FINISHED
    artifacts: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()


class Tracker:
    """Writes entries into MLflow in order; while the server is away they wait on disk.

    Args:
        uri: of MLflow.
        experiment: the experiment's name.
        folder: where waiting entries, and with sqlite the artifacts, are kept.
    """

    def __init__(self, uri: str, experiment: str, folder: Path):
        self.uri, self.experiment, self.folder = uri, experiment, folder
        self.spool = folder / "mlflow-waiting.jsonl"
        self._trim()
        self.waiting: deque[RunUpdate] = deque(self._spooled())
        self.retry_at = 0.0
        self._store: Any = None
        self._runs: dict[str, str] = {}
        self._steps: dict[str, int] = {}
        self._values: dict[str, dict[str, float]] = {}
        self._params: dict[str, set[str]] = {}
        self._status: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Strings alone: Ray pickles callbacks, and connections are made again where they are needed."""
        return {"uri": self.uri, "experiment": self.experiment, "folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # the state is exactly the arguments

    def write(self, entry: RunUpdate) -> None:
        """Says one entry, now or as soon as the server is there."""
        self.waiting.append(entry)
        if self.spool.exists():
            self._append([entry])
        if time.monotonic() >= self.retry_at:
            self.flush()

    def flush(self) -> bool:
        """Says what waits; whether all of it was said."""
        try:
            while self.waiting:
                self._say(self.waiting[0])
                self.waiting.popleft()
        except Exception as error:  # noqa: BLE001  # MLflow raises its own, requests' and SQLAlchemy's: all mean "later"
            logging.getLogger(__name__).debug("MLflow is away: %s", error)
            if not self.spool.exists():
                self._append(self.waiting)
            self.retry_at = time.monotonic() + PATIENCE_S
            self._store = None
            return False
        self.spool.unlink(missing_ok=True)
        return True

    def has_ended(self, entry_id: str) -> bool:
        """Whether a run is there and ended; True while the server is away, since nothing is known then."""
        return not self._connected() or self._status.get(entry_id) in (FINISHED, FAILED)

    def mark_current(self, keys: set[str]) -> None:
        """Marks the present plan's studies as current and all earlier ones as not."""
        if self._connected():
            for run in runs(self._store, self.experiment, f"tags.{records.STAGE} = 'study'"):
                current = str(run.data.tags.get(records.STUDY) in keys).lower()
                if run.data.tags.get(records.CURRENT) != current:
                    self._store.set_tag(run.info.run_id, records.CURRENT, current)

    def close_left_running(self) -> int:
        """Ends runs that a killed driver left running and nobody took up again; how many there were."""
        if not self._connected():
            return 0
        left = list(runs(self._store, self.experiment, "attributes.status = 'RUNNING'"))
        for run in left:
            self._store.set_terminated(run.info.run_id, "KILLED")
        return len(left)

    def _connected(self) -> bool:
        return self.flush() and self._connect()

    def _connect(self) -> bool:
        if self._store is None:
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # we retry ourselves, without blocking
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
            _quiet()
            store = client(self.uri)
            self._experiment_id = self._made_experiment(store)
            found = list(runs(store, self.experiment))
            self._runs = {run.data.tags.get(records.ID, ""): run.info.run_id for run in found}
            self._status = {run.data.tags.get(records.ID, ""): run.info.status for run in found}
            self._values = {run.info.run_id: dict(run.data.metrics) for run in found}
            self._params = {run.info.run_id: set(run.data.params) for run in found}
            self._steps = {}
            self._store = store
        return True

    def _made_experiment(self, store: Any) -> str:
        known = store.get_experiment_by_name(self.experiment)
        if known is not None:
            return str(known.experiment_id)
        local = self.uri.startswith("sqlite:")
        artifacts = (self.folder.parent.parent / "artifacts" / self.experiment).as_uri() if local else None
        return str(store.create_experiment(self.experiment, artifact_location=artifacts, tags=EXPERIMENT_TAGS))

    def _say(self, entry: RunUpdate) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._connect()
        run = self._runs.get(entry.id) or self._make(entry)
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, entry.step) for name, value in self._news(run, entry).items()]
        known = self._params.setdefault(run, set())
        params = [Param(name, str(value)) for name, value in entry.params.items() if name not in known]
        known |= set(entry.params)
        linked = {name: self._runs.get(other, "") for name, other in entry.links.items()}
        tags = [RunTag(name, str(value)) for name, value in {**entry.tags, **linked}.items()]
        if metrics or params or tags:
            self._store.log_batch(run, metrics, params, tags)
        for name, text in entry.artifacts.items():
            self._store.log_text(run, text, name)
        for path in entry.files:
            self._store.log_artifact(run, path)
        if self._status.get(entry.id) != entry.status:
            self._set_status(run, entry)

    def _set_status(self, run: str, entry: RunUpdate) -> None:
        if entry.status == RUNNING:
            self._store.update_run(run, RUNNING)
        else:
            self._store.set_terminated(run, entry.status)
        self._status[entry.id] = entry.status

    def _make(self, entry: RunUpdate) -> str:
        tags = {records.ID: entry.id, **({records.PARENT: self._runs[entry.parent]} if entry.parent else {})}
        run = self._store.create_run(self._experiment_id, tags=tags, run_name=entry.name)
        self._runs[entry.id], self._steps[run.info.run_id] = run.info.run_id, -1
        self._status[entry.id] = RUNNING
        return str(run.info.run_id)

    def _news(self, run: str, entry: RunUpdate) -> dict[str, float]:
        """The metrics that a run does not have yet: of a later step, or without steps and of another value."""
        if not entry.metrics:
            return {}
        if entry.step == 0:
            known = self._values.setdefault(run, {})
            news = {name: float(value) for name, value in entry.metrics.items() if known.get(name) != value}
            known.update(news)
            return news
        if run not in self._steps:
            history = self._store.get_metric_history(run, next(iter(entry.metrics)))
            self._steps[run] = max((point.step for point in history), default=-1)
        if entry.step <= self._steps[run]:
            return {}
        self._steps[run] = entry.step
        return {name: float(value) for name, value in entry.metrics.items()}

    def _trim(self) -> None:
        """Cuts a line that a killed driver left half written: it would swallow the next one."""
        if self.spool.exists():
            with self.spool.open("rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)

    def _spooled(self) -> Iterator[RunUpdate]:
        if self.spool.exists():
            for line in self.spool.read_text(encoding="utf-8").splitlines():
                try:
                    values = json.loads(line)
                except json.JSONDecodeError:  # the last line of a killed driver; its result is in the journal
                    continue
                yield RunUpdate(**{**values, "files": tuple(values["files"])})

    def _append(self, entries: deque[RunUpdate] | list[RunUpdate]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.spool.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(entry)) + "\n" for entry in entries)


def _quiet() -> None:
    for name in ("mlflow", "alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.ERROR)
