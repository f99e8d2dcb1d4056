"""What MLflow would show of studies, from the library and the journals alone: for when it does not answer."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.records import names as records
from analysis.records.contributions import from_csv
from analysis.records.conversion import study_of_run
from analysis.records.studies import StudyRecord, with_repeats
from tuning.tracking.updates import RunUpdate


@dataclass
class _Run:
    """A run as its updates leave it, later ones over earlier ones."""

    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)

    def add(self, update: RunUpdate, links: Mapping[str, str]) -> None:
        self.tags |= {**update.tags, **links}
        self.params = {**{name: str(value) for name, value in update.params.items()}, **self.params}
        self.metrics |= update.metrics
        self.artifacts |= update.artifacts


@dataclass(frozen=True)
class LocalRecords:
    """The studies of a search, as MLflow would give them.

    Attributes:
        studies: the first search of a pair holds its repeats.
        configs: run id of a study -> its winner as a complete experiment file, in JSON.
    """

    studies: tuple[StudyRecord, ...]
    configs: Mapping[str, str]

    def config(self, run_id: str) -> dict[str, Any]:
        """The winner of a study as a complete experiment file."""
        config: dict[str, Any] = json.loads(self.configs[run_id])
        return config


def local_records(updates: Iterable[RunUpdate], run_ids: Mapping[str, str]) -> LocalRecords:
    """The studies among updates.

    Args:
        updates: all that MLflow should show.
        run_ids: id of an update -> MLflow's id of its run, of those that it has; the others stand under their own.
    """
    found: dict[str, _Run] = {}
    for update in updates:
        if update.tags.get(records.STAGE) == "study" or update.id in found:
            links = {tag: run_ids.get(other, "") for tag, other in update.links.items()}
            found.setdefault(update.id, _Run()).add(update, links)
    named = {run_ids.get(name, name): run for name, run in found.items()}
    configs = {
        name: run.artifacts[records.CONFIG_FILE] for name, run in named.items() if records.CONFIG_FILE in run.artifacts
    }
    return LocalRecords(tuple(with_repeats(_record(run, name) for name, run in named.items())), configs)


def _record(run: _Run, name: str) -> StudyRecord:
    study = study_of_run(run.metrics, run.tags, run.params, name)
    text: Any = run.artifacts.get(records.CONTRIBUTIONS_FILE)
    if study.winner is None or text is None:
        return study
    return replace(study, winner=replace(study.winner, contributions=from_csv(text)))
