"""The names of runs, tags and metrics in MLflow, and the only reader of them."""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ID = "panda.id"
"""Tag by which a run is found before it is made: its stage and key."""

STAGE, TARGET, SOURCE, METHOD, PLM = "stage", "target", "source", "method", "plm"
STUDY, TRIAL, CURRENT, STATE, FAILURE, NODE = "study", "trial", "current", "state", "failure", "node"
SIGNAL, PROTOCOL, WINNER_RUN, CONSTRUCTED = "signal", "protocol", "winner_run", "constructed"
OVERLAP, POOR_SOURCE = "overlap", "source_at_majority"
STAGES = ("source", "study", "trial", "confirm", "analysis")
PARENT = "mlflow.parentRunId"

SELECTION, REPORT, GAIN, TWIN, MAJORITY = "score/selection", "score/report", "gain", "twin", "majority"
STD, N, LOW, HIGH, P = "std", "n", "low", "high", "p"
STEPS, TEACHER_STEPS, SECONDS, TRUNCATED = "steps", "teacher_steps", "seconds", "truncated"
SIMILARITY = "similarity"
TEACHER, GAP_CLOSED, RELATIVE, ERROR_REDUCTION = "teacher", "gap_closed", "relative_performance", "error_reduction"
CONVERGENCE, COMPARABLE = "speedup/convergence", "speedup/comparable"
NEVER = "never_comparable"
"""Tag of a study whose first trial never reached what the baseline's first trial ended with."""

CONFIG_FILE = "config.json"
"""Artifact of a study's run: the winner as a complete experiment file."""


class NoRecords(Exception):
    """There is nothing to read: no such experiment, or no finished study in it."""


@dataclass(frozen=True)
class StudyRecord:
    """What MLflow knows of a study whose winner is confirmed.

    Attributes:
        target: the target task.
        source: the source task; None for methods without one.
        method: the method.
        plm: the PLM's name.
        run_id: of the study's run.
        winner_run: of the confirmed winner's run.
        metrics: as logged: scores, gain, similarities, cost.
        tags: as logged.
    """

    target: str
    source: str | None
    method: str
    plm: str
    run_id: str
    winner_run: str
    metrics: dict[str, float]
    tags: dict[str, str]

    @property
    def name(self) -> str:
        """For people: `panda ← mnli`."""
        return f"{self.method} ← {self.source}" if self.source else self.method


def client(uri: str, reads: bool = False) -> Any:
    """MLflow's client of a store; mlflow is imported here, since that takes a second."""
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:") and reads and not path.exists():
        raise NoRecords(f"{uri}: nothing recorded yet: run `panda-tune search` on the file first")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def runs(store: Any, experiment: str, condition: str = "") -> Iterator[Any]:
    """All runs of an experiment that meet a condition, page by page.

    Raises:
        NoRecords: if there is no such experiment.
    """
    found = store.get_experiment_by_name(experiment)
    if found is None:
        raise NoRecords(f"MLflow has no experiment {experiment!r} yet: run `panda-tune search` on its file first")
    token: str | None = None
    while True:
        page = store.search_runs([found.experiment_id], condition, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _read(uri: str, experiment: str, condition: str) -> list[Any]:
    store = client(uri, reads=True)
    from mlflow.exceptions import MlflowException

    try:
        return list(runs(store, experiment, condition))
    except MlflowException as error:
        raise NoRecords(f"MLflow at {uri} does not answer ({str(error).splitlines()[0]})") from error


def confirmed_studies(uri: str, experiment: str) -> list[StudyRecord]:
    """The current studies whose winners are confirmed.

    Raises:
        NoRecords: if there is none.
    """
    found = _read(uri, experiment, f"tags.{STAGE} = 'study' and tags.{CURRENT} = 'true'")
    records = [_record(run) for run in found if REPORT in run.data.metrics]
    if not records:
        raise NoRecords(f"experiment {experiment!r} has no confirmed study yet: run `panda-tune search` to its end")
    return records


def _record(run: Any) -> StudyRecord:
    tags = run.data.tags
    return StudyRecord(
        tags[TARGET], tags.get(SOURCE) or None, tags[METHOD], tags[PLM], run.info.run_id,
        tags.get(WINNER_RUN, ""), dict(run.data.metrics), dict(tags),
    )  # fmt: skip


def winner_config(uri: str, run_id: str) -> dict[str, Any]:
    """The winner of a study as a complete experiment file."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        path = download_artifacts(run_id=run_id, artifact_path=CONFIG_FILE, dst_path=folder, tracking_uri=uri)
        config: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return config
