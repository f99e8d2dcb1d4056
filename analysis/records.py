"""The names of runs, tags and metrics in MLflow, the only reader of them, and the writer of an analysis."""

import json
import os
import re
import tempfile
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
PARTNERS = "partners"
"""Tag: the sources that joined the winner's own, with commas between."""

SIMILARITY = "similarity"
TEACHER, GAP_CLOSED, RELATIVE, ERROR_REDUCTION = "teacher", "gap_closed", "relative_performance", "error_reduction"
CONVERGENCE, COMPARABLE, EARLY = "speedup/convergence", "speedup/comparable", "early"
FIRST = "first"
"""Before the measures of a study's first trial, the published setting that every pair ran: its selection score,
and gain, speed-ups and so on over the first trial of the baseline."""

SEED = "seed"
"""Before a seed: `score/report/seed/10`, `gain/seed/10`."""

NEVER = "never_comparable"
"""Tag of a study whose winner never reached, in the search, what the baseline's ended with; `first_…` of its first trial."""

SUPERSEDED = "superseded_by"
"""Tag of an earlier analysis: the run of the later one."""

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
        params: settings of the study, as logged: texts.
    """

    target: str
    source: str | None
    method: str
    plm: str
    run_id: str
    winner_run: str
    metrics: dict[str, float]
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)

    @property
    def is_confirmed(self) -> bool:
        """Whether its winner has a report score; without one, there is only what was known beforehand."""
        return REPORT in self.metrics

    @property
    def sources(self) -> tuple[str, ...]:
        """All sources that its winner used: its own and the partners; none of methods without one."""
        partners = (name for name in self.tags.get(PARTNERS, "").split(",") if name)
        return (self.source, *partners) if self.source else ()

    @property
    def name(self) -> str:
        """For people: `panda ← mnli`."""
        return f"{self.method} ← {self.source}" if self.source else self.method


@dataclass(frozen=True)
class TrialRecord:
    """What MLflow knows of a trial.

    Attributes:
        study: the key of its study.
        number: in the study; 0 is the published setting.
        target: the target task.
        source: the source task; None for methods without one.
        method: the method.
        plm: the PLM's name.
        knobs: hyperparameter -> value, a number where it is one.
        score: of its last evaluation, mean over seeds; None where it has none.
        step: of that evaluation.
        seconds: from its start to that evaluation; None where it has none.
        state: `complete`, `stopped early`, `failed` or `running`.
        failure: why it failed; empty otherwise.
    """

    target: str
    source: str | None
    method: str
    plm: str
    study: str
    number: int
    knobs: dict[str, float | str]
    score: float | None
    step: int
    seconds: float | None
    state: str
    failure: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether it ran all its steps, so that its score may be compared with others'."""
        return self.state == "complete" and self.score is not None


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
    records = [record for record in current_studies(uri, experiment) if record.is_confirmed]
    if not records:
        raise NoRecords(f"experiment {experiment!r} has no confirmed study yet: run `panda-tune search` to its end")
    return records


def current_studies(uri: str, experiment: str) -> list[StudyRecord]:
    """The current studies, those that are not confirmed included.

    Raises:
        NoRecords: if there is no such experiment.
    """
    return [_record(run) for run in _read(uri, experiment, f"tags.{STAGE} = 'study' and tags.{CURRENT} = 'true'")]


def trials(uri: str, experiment: str, studies: Container[str]) -> list[TrialRecord]:
    """The trials of some studies, by study and number.

    Args:
        uri: of MLflow.
        experiment: its name.
        studies: keys of those that are asked for; a study's trials stay marked current when it no longer is.

    Raises:
        NoRecords: if there is no such experiment.
    """
    found = _read(uri, experiment, f"tags.{STAGE} = 'trial'")
    return sorted(
        (_trial(run) for run in found if run.data.tags.get(STUDY) in studies), key=lambda t: (t.study, t.number)
    )


def _record(run: Any) -> StudyRecord:
    tags = run.data.tags
    return StudyRecord(
        tags[TARGET], tags.get(SOURCE) or None, tags[METHOD], tags[PLM], run.info.run_id,
        tags.get(WINNER_RUN, ""), dict(run.data.metrics), dict(tags), dict(run.data.params),
    )  # fmt: skip


def _trial(run: Any) -> TrialRecord:
    tags, metrics = run.data.tags, run.data.metrics
    steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}  # `metrics` has no steps
    return TrialRecord(
        tags[TARGET], tags.get(SOURCE) or None, tags[METHOD], tags[PLM], tags[STUDY], int(tags[TRIAL].split("/")[-1]),
        {name: _number(text) for name, text in run.data.params.items()}, metrics.get("score"),
        int(steps.get("score", 0)), metrics.get(SECONDS), tags.get(STATE, ""), tags.get(FAILURE, ""),
    )  # fmt: skip


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def winner_config(uri: str, run_id: str) -> dict[str, Any]:
    """The winner of a study as a complete experiment file.

    Raises:
        NoRecords: if the artifact is not where MLflow says, as after a move of the storage.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            path = download_artifacts(run_id=run_id, artifact_path=CONFIG_FILE, dst_path=folder, tracking_uri=uri)
        except (MlflowException, OSError) as error:
            raise NoRecords(f"{CONFIG_FILE} of run {run_id} cannot be read ({str(error).splitlines()[0]})") from error
        config: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return config


def write_analysis(
    uri: str, experiment: str, folder: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]], metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> str:  # fmt: skip
    """Writes the run `analysis` of an experiment; earlier ones are marked as superseded once it is whole.

    Args:
        uri: of MLflow.
        experiment: its name.
        folder: whose files become artifacts.
        tables: name -> rows, each with the same columns; empty ones are left out.
        metrics: name -> value.
        tags: beside stage and currency.

    Returns:
        The run's id.

    Raises:
        NoRecords: if there is no such experiment.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    earlier = _read(uri, experiment, f"tags.{STAGE} = 'analysis'")
    store = client(uri, reads=True)
    from mlflow.entities import Metric, RunTag

    found = store.get_experiment_by_name(experiment)
    run: str = store.create_run(found.experiment_id, tags={STAGE: "analysis"}, run_name="analysis").info.run_id
    try:
        now = int(time.time() * 1000)
        store.log_batch(run, tags=[RunTag(name, value[:5000]) for name, value in tags.items()])
        logged = [Metric(_allowed(name), value, now, 0) for name, value in metrics.items()]
        for start in range(0, len(logged), BATCH):
            store.log_batch(run, metrics=logged[start : start + BATCH])
        store.log_artifacts(run, str(folder))
        for name, rows in tables.items():
            if rows:
                store.log_table(
                    run, {column: [row[column] for row in rows] for column in rows[0]}, f"tables/{name}.json"
                )
    except BaseException:
        store.set_terminated(run, "FAILED")
        raise
    store.set_tag(run, CURRENT, "true")
    store.set_terminated(run, "FINISHED")
    for old in earlier:
        store.set_tag(old.info.run_id, CURRENT, "false")
        store.set_tag(old.info.run_id, SUPERSEDED, run)
    return run


BATCH = 500
"""Metrics that one request may hold, with room."""


def _allowed(name: str) -> str:
    """A metric's name without signs that MLflow refuses."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
