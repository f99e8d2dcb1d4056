"""What MLflow is to show of one run, as a value that may be written any number of times."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RUNNING, FINISHED, FAILED = "RUNNING", "FINISHED", "FAILED"
"""Statuses of runs."""


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
