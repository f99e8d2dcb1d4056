"""Runs that stand for the same thing: made twice where the answer to the first was lost."""

from collections.abc import Iterable
from typing import Any

from analysis.records.names import ID

ENDED = "FINISHED"


def one_of_each(runs: Iterable[Any]) -> list[Any]:
    """The runs of MLflow, of twins the one that holds most; in their order."""
    found: dict[str, list[Any]] = {}
    for run in runs:
        found.setdefault(run.data.tags.get(ID) or run.info.run_id, []).append(run)
    return [max(twins, key=_content) for twins in found.values()]


def others(runs: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Each twin that is too many, with the one to keep."""
    every = list(runs)
    kept = {run.data.tags.get(ID): run for run in one_of_each(every)}
    twins = [(run, kept[name]) for run in every if (name := run.data.tags.get(ID))]
    return [(run, keep) for run, keep in twins if run is not keep]


def _content(run: Any) -> tuple[int, int, bool, int, str]:
    """How much a run holds; of equals always the same one, whatever any clock says."""
    last = max((metric.step for metric in run.data.to_proto().metrics), default=-1)
    return last, len(run.data.metrics), run.info.status == ENDED, len(run.data.params), run.info.run_id
