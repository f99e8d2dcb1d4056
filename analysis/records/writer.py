"""The writer of an analysis: its run in MLflow, with figures, tables and coefficients."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.records.connection import answering, client
from analysis.records.names import CURRENT, STAGE, SUPERSEDED
from analysis.records.reader import read

BATCH = 500
"""Metrics that one request may hold, with room."""


def write_analysis(
    uri: str, experiment: str, files: Mapping[str, Path], tables: Mapping[str, Sequence[Mapping[str, Any]]], metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> str:  # fmt: skip
    """Writes the run `analysis` of an experiment; earlier ones are marked as superseded once it is whole.

    Args:
        uri: of MLflow.
        experiment: its name.
        files: artifact path -> the file.
        tables: name -> rows, each with the same columns; empty ones are left out.
        metrics: name -> value.
        tags: beside stage and currency.

    Returns:
        The run's id.

    Raises:
        NoRecords: if there is no such experiment, or MLflow does not take the run.
    """
    earlier = read(uri, experiment, f"tags.{STAGE} = 'analysis'")
    store = client(uri, reads=True)
    with answering(uri, "does not take the run of the analysis"):
        return _write_analysis(store, experiment, files, tables, metrics, tags, [run.info.run_id for run in earlier])


def _write_analysis(
    store: Any, experiment: str, files: Mapping[str, Path], tables: Mapping[str, Sequence[Mapping[str, Any]]],
    metrics: Mapping[str, float], tags: Mapping[str, str], earlier: Sequence[str],
) -> str:  # fmt: skip
    from mlflow.entities import Metric, RunTag

    found = store.get_experiment_by_name(experiment)
    run: str = store.create_run(found.experiment_id, tags={STAGE: "analysis"}, run_name="analysis").info.run_id
    try:
        now = int(time.time() * 1000)
        store.log_batch(run, tags=[RunTag(name, value[:5000]) for name, value in tags.items()])
        logged = [Metric(_allowed(name), value, now, 0) for name, value in metrics.items()]
        for start in range(0, len(logged), BATCH):
            store.log_batch(run, metrics=logged[start : start + BATCH])
        for name, file in files.items():
            store.log_artifact(run, str(file), str(Path(name).parent) if "/" in name else None)
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
        store.set_tag(old, CURRENT, "false")
        store.set_tag(old, SUPERSEDED, run)
    return run


def _allowed(name: str) -> str:
    """A metric's name without signs that MLflow refuses."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
