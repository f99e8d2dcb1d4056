"""The only reader of MLflow: studies and trials as values."""

import json
import tempfile
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from analysis.records.address import log_in
from analysis.records.connection import NoRecords, answering, client, reason_of, runs
from analysis.records.contributions import Contributions, from_csv
from analysis.records.conversion import study_of_run, trial_of_run
from analysis.records.names import CONFIG_FILE, CONTRIBUTIONS_FILE, CURRENT, STAGE, STUDY, UNCONFIRMED
from analysis.records.studies import StudyRecord, TrialRecord, with_repeats
from analysis.records.twins import one_of_each

AT_ONCE = 8
"""Runs of which artifacts are asked for at the same time."""


def read(uri: str, experiment: str, condition: str) -> list[Any]:
    """The runs of an experiment that meet a condition, one of each id.

    Raises:
        NoRecords: if there is no such experiment, or MLflow does not answer.
    """
    store = client(uri, reads=True)
    with answering(uri, "does not answer"):
        return one_of_each(runs(store, experiment, condition))


def confirmed_studies(uri: str, experiment: str, target: str | None = None) -> list[StudyRecord]:
    """The current studies of all targets whose winners are confirmed.

    Args:
        uri: of MLflow.
        experiment: its name.
        target: of which one at least must be confirmed; None: of any.

    Raises:
        NoRecords: if there is none, with why.
    """
    return confirmed_of(current_studies(uri, experiment), experiment, target)


def confirmed_of(records: Sequence[StudyRecord], experiment: str, target: str | None = None) -> list[StudyRecord]:
    """Those of some studies whose winners are confirmed, wherever they were read; as `confirmed_studies`."""
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
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as copy:
        try:
            made = download_artifacts(run_id=run_id, artifact_path=name, dst_path=copy, tracking_uri=log_in(uri))
        except (MlflowException, OSError) as error:
            raise NoRecords(f"{name} of run {run_id} cannot be read ({reason_of(error)})") from error
        return Path(made).read_text(encoding="utf-8")
