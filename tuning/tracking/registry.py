"""MLflow's model registry: each target's winner a version of a model, the best of them its champion."""

import re
import tempfile
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

from analysis.findings.best import winners as target_winners
from analysis.records.address import cleaned
from analysis.records.connection import client, reason_of
from analysis.records.reader import confirmed_studies
from analysis.records.studies import StudyRecord
from tuning.planning.results import Winner, confirm_key

CHAMPION = "champion"
CONFIRMED, SELECTION, METRIC = "confirmed", "selection", "metric"
"""Tags of a version: key of the configuration, the score that chose it, and which score that is."""


def model_name(experiment: str, target: str) -> str:
    """What a target's model is called: `<experiment>.<target>`, without what MLflow takes in no name."""
    return re.sub(r"[/:'\"%\\]", "-", f"{experiment}.{target}")


def grounds(record: StudyRecord) -> float:
    """The selection score by which a study was chosen: with one confirm seed that of the search."""
    winner = record.confirmed
    return next(iter(winner.chosen_by.values())) if len(winner.chosen_by) == 1 else winner.selection.mean


class Registry:
    """Registers winners; what MLflow does not take is told once and left out.

    Args:
        uri: of MLflow.
        experiment: its name.
        notify: told when a server takes no models, and what is registered.
    """

    def __init__(self, uri: str, experiment: str, notify: Callable[[str], None]):
        self.uri, self.experiment, self.notify = uri, experiment, notify
        self.is_silent = False
        self._records: dict[str, StudyRecord] = {}
        self._store: Any = None

    def missing(self, winners: Sequence[Winner]) -> list[Winner]:
        """The winners of targets, one of each PLM, that are not registered yet; the others' aliases are looked at."""
        found: list[Winner] = []
        self._tried(lambda: found.extend(self._missing(winners)))
        return found

    def _missing(self, winners: Sequence[Winner]) -> list[Winner]:
        self._store = client(self.uri)
        chosen = target_winners(confirmed_studies(self.uri, self.experiment))
        self._records = {record.key: record for record in chosen}
        own = [winner for winner in winners if winner.study.key in self._records]
        there = {winner.study.key: self._version(winner) for winner in own}
        for winner in own:
            if version := there[winner.study.key]:
                self._crown(winner, version)
        return [winner for winner in own if not there[winner.study.key]]

    def register(self, winner: Winner, folder: Path) -> None:
        """Makes a winner a version of its target's model, and the champion where it is better than that.

        Args:
            winner: of a study.
            folder: its winner's folder.
        """
        if not self.is_silent:
            self._tried(lambda: self._register(winner, folder))

    def _tried(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001  # MLflow raises its own, requests' and SQLAlchemy's: winners are there all the same
            self.is_silent = True
            self.notify(
                f"MLflow at {cleaned(self.uri)} registers no models ({reason_of(error)}); the search is complete without; "
                "tracking.register: false leaves it out"
            )

    def _register(self, winner: Winner, folder: Path) -> None:
        from panda_trainable.prediction.folder import copy_winner
        from tuning.tracking.served import ARTEFACT, save

        name, key, record = self._name(winner), confirm_key(winner.confirmed.config), self._records[winner.study.key]
        path = f"models/{key}"
        with tempfile.TemporaryDirectory(prefix="panda-tune-") as draft:
            copy_winner(folder, Path(draft) / ARTEFACT)
            save(Path(draft) / ARTEFACT, winner.confirmed.config.target, Path(draft) / "model")
            self._store.log_artifacts(record.run_id, str(Path(draft) / "model"), path)
        if not self._store.search_registered_models(f"name='{name}'"):
            about = (
                f"Winners of target {winner.study.pair.target} in {self.experiment}; alias {CHAMPION}: the best of them"
            )
            self._store.create_registered_model(name, description=about)
        tags = {
            CONFIRMED: key, SELECTION: repr(grounds(record)), METRIC: winner.confirmed.config.target.metrics[0],
            "method": record.method, "source": record.source or "", "plm": record.plm,
        }  # fmt: skip
        made = self._store.create_model_version(name, f"runs:/{record.run_id}/{path}", record.run_id, tags)
        self._crown(winner, made)

    def _crown(self, winner: Winner, version: Any) -> None:
        """Gives a version the alias, where none has it or the one that has it is not as good."""
        name = self._name(winner)
        (model,) = self._store.search_registered_models(f"name='{name}'")
        held = model.aliases.get(CHAMPION)
        if held is None or _is_better(version.tags, self._store.get_model_version(name, held).tags):
            self._store.set_registered_model_alias(name, CHAMPION, version.version)
            self.notify(f"models:/{name}@{CHAMPION} is {winner.study.pair.name} (version {version.version})")

    def _version(self, winner: Winner) -> Any:
        """The version that a winner has already; None where it has none."""
        key = confirm_key(winner.confirmed.config)
        found = self._store.search_model_versions(f"name='{self._name(winner)}'")
        return next((version for version in found if version.tags.get(CONFIRMED) == key), None)

    def _name(self, winner: Winner) -> str:
        return model_name(self.experiment, winner.study.pair.target)


def _is_better(tags: dict[str, str], others: dict[str, str]) -> bool:
    """Whether a version has a higher score than another; scores of other metrics do not compare, and the new one counts."""
    if tags.get(METRIC) != others.get(METRIC):
        return True
    return float(tags[SELECTION]) > float(others.get(SELECTION, -inf))
