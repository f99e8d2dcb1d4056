"""The only reader of MLflow: studies and trials as values."""

import json
import os
import tempfile
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from analysis.records.contributions import Contributions, from_csv
from analysis.records.conversion import study_of_run, trial_of_run
from analysis.records.moved import follow
from analysis.records.names import CONFIG_FILE, CONTRIBUTIONS_FILE, CURRENT, STAGE, STUDY, UNCONFIRMED
from analysis.records.studies import StudyRecord, TrialRecord, with_repeats

AT_ONCE = 8
"""Runs of which artifacts are asked for at the same time."""


class NoRecords(Exception):
    """There is nothing to read: no such experiment, or no finished study in it."""


class Deleted(NoRecords):
    """MLflow has marked the experiment as deleted: it takes no runs and shows none."""


def client(uri: str, reads: bool = False) -> Any:
    """MLflow's client of a store; mlflow is imported here, since that takes a second."""
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:") and reads and not path.exists():
        raise NoRecords(f"{uri}: nothing recorded yet: run `panda-tune search` on the file first")
    if uri.startswith("sqlite:"):
        follow(path)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment_of(store: Any, experiment: str) -> Any:
    """An experiment as MLflow has it; None where there is none of that name.

    Raises:
        Deleted: if somebody has deleted it, with what to do.
    """
    found = store.get_experiment_by_name(experiment)
    if found is not None and found.lifecycle_stage == "deleted":
        raise Deleted(
            f"MLflow experiment {experiment!r} at {store.tracking_uri} is deleted; restore it "
            f"(MLFLOW_TRACKING_URI={store.tracking_uri} mlflow experiments restore --experiment-id {found.experiment_id}), "
            "or give the file another `name`"
        )
    return found


def runs(store: Any, experiment: str, condition: str = "") -> Iterator[Any]:
    """All runs of an experiment that meet a condition, page by page.

    Raises:
        NoRecords: if there is no such experiment, or it is deleted.
    """
    found = experiment_of(store, experiment)
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


def confirmed_studies(uri: str, experiment: str, target: str | None = None) -> list[StudyRecord]:
    """The current studies of all targets whose winners are confirmed.

    Args:
        uri: of MLflow.
        experiment: its name.
        target: of which one at least must be confirmed; None: of any.

    Raises:
        NoRecords: if there is none, with why.
    """
    records = current_studies(uri, experiment)
    confirmed = [record for record in records if record.is_confirmed]
    if not any(target in (None, record.target) for record in confirmed):
        raise NoRecords(
            _why_nothing([record for record in records if target in (None, record.target)], experiment, target)
        )
    return confirmed


def _why_nothing(records: list[StudyRecord], experiment: str, target: str | None) -> str:
    """Why none of some studies is confirmed, and what to do."""
    of = f"target {target!r} of experiment" if target else "experiment"
    ended = sum(record.state == UNCONFIRMED for record in records)
    if not records:
        reason = "no study of it is recorded"
    elif ended == len(records):
        reason = f"all {ended} studies ended without a winner; `panda-tune search` says why"
    else:
        reason = f"{len(records) - ended} of {len(records)} studies have not ended"
    return f"{of} {experiment!r} has no confirmed study yet: {reason}; run `panda-tune search` to its end"


def current_studies(uri: str, experiment: str) -> list[StudyRecord]:
    """The current studies, those that are not confirmed included; the first search of a pair holds its repeats.

    Raises:
        NoRecords: if there is no such experiment.
    """
    found = read(uri, experiment, f"tags.{STAGE} = 'study' and tags.{CURRENT} = 'true'")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return with_repeats(pool.map(partial(_record, uri), found))


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


def _record(uri: str, run: Any) -> StudyRecord:
    study = study_of_run(run.data.metrics, run.data.tags, run.data.params, run.info.run_id)
    if study.winner is None:
        return study
    return replace(study, winner=replace(study.winner, contributions=_contributions(uri, run)))


def _contributions(uri: str, run: Any) -> Contributions | None:
    """What each report row adds to a winner's scores; None where a run has no such artifact."""
    try:
        return from_csv(_artifact(uri, run.info.run_id, run.info.artifact_uri, CONTRIBUTIONS_FILE))
    except (NoRecords, ValueError):  # of a search before it was recorded
        return None


def _trial(run: Any) -> TrialRecord:
    steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}  # `metrics` has no steps
    return trial_of_run(run.data.metrics, run.data.tags, run.data.params, steps)


def winner_config(uri: str, run_id: str) -> dict[str, Any]:
    """The winner of a study as a complete experiment file.

    Raises:
        NoRecords: if the artifact is not where MLflow says, as after a move of the storage.
    """
    config: dict[str, Any] = json.loads(_artifact(uri, run_id, "", CONFIG_FILE))
    return config


def _artifact(uri: str, run_id: str, folder: str, name: str) -> str:
    """The text of a run's artifact.

    Args:
        uri: of MLflow.
        run_id: MLflow's id of the run.
        folder: the address of its artifacts, of which a local one is read without asking MLflow; empty: not known.
        name: of the artifact.

    Raises:
        NoRecords: if it is not where MLflow says.
    """
    if folder.startswith("file:"):
        path = Path(url2pathname(urlsplit(folder).path)) / name
        if path.is_file():
            return path.read_text(encoding="utf-8")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as copy:
        try:
            made = download_artifacts(run_id=run_id, artifact_path=name, dst_path=copy, tracking_uri=uri)
        except (MlflowException, OSError) as error:
            raise NoRecords(f"{name} of run {run_id} cannot be read ({str(error).splitlines()[0]})") from error
        return Path(made).read_text(encoding="utf-8")
