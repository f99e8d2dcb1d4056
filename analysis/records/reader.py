"""The only reader of MLflow: studies and trials as values."""

import json
import os
import tempfile
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.records.names import (
    CONFIG_FILE,
    CURRENT,
    FAILURE,
    METHOD,
    PARTNERS,
    PLM,
    REPORT,
    SECONDS,
    SEED,
    SOURCE,
    STAGE,
    STATE,
    STUDY,
    TARGET,
    TRIAL,
    WINNER_RUN,
)


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


def by_seed(metrics: Mapping[str, float], name: str) -> dict[int, float]:
    """Seed -> value of a metric that was logged by seed; empty where it was not."""
    prefix = f"{name}/{SEED}/"
    found = {key.removeprefix(prefix): number for key, number in metrics.items() if key.startswith(prefix)}
    return {int(seed): found[seed] for seed in sorted(found, key=int)}


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
        by_seed: seed -> score of its last evaluation; empty where it was not logged.
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
    by_seed: Mapping[int, float] = field(default_factory=dict)

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


def read(uri: str, experiment: str, condition: str) -> list[Any]:
    """The runs of an experiment that meet a condition.

    Raises:
        NoRecords: if there is no such experiment, or MLflow does not answer.
    """
    with answering(uri, "does not answer"):
        return list(runs(client(uri, reads=True), experiment, condition))


@contextmanager
def answering(uri: str, what: str) -> Iterator[None]:
    """Turns whatever a store or its artifacts fail with into a message.

    Raises:
        NoRecords: `what` is what MLflow does.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise NoRecords(f"MLflow at {uri} {what} ({str(error).splitlines()[0]})") from error


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
    return [_record(run) for run in read(uri, experiment, f"tags.{STAGE} = 'study' and tags.{CURRENT} = 'true'")]


def trials(uri: str, experiment: str, studies: Container[str]) -> list[TrialRecord]:
    """The trials of some studies, by study and number.

    Args:
        uri: of MLflow.
        experiment: its name.
        studies: keys of those that are asked for; a study's trials stay marked current when it no longer is.

    Raises:
        NoRecords: if there is no such experiment.
    """
    found = read(uri, experiment, f"tags.{STAGE} = 'trial'")
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
        int(steps.get("score", 0)), metrics.get(SECONDS), tags.get(STATE, ""), tags.get(FAILURE, ""), by_seed(metrics, "score"),
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
