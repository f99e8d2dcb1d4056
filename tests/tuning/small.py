"""Studies, MLflow stores and confirmed configurations, made without training anything."""

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from analysis.records import client
from panda_trainable.config import TrialConfig
from panda_trainable.library import PromptLibrary
from tests.conftest import experiment_file
from tuning import entries
from tuning.confirm import LOGITS, SCORES, Confirmed, Winner, _logits_frame, confirm_key, read_confirmed, winners
from tuning.experiment import load
from tuning.plan import Plan, Study, make_plan, make_studies
from tuning.tracking import Tracker

OWN = {"kind": "classification", "text": ["a"], "classes": ["no", "yes"], "metrics": ["accuracy"]}
MEASURED = {"s1": 0.8, "s2": 0.4, "s3": 0.9, "t": 1.0}


def like(value: float) -> dict[str, float]:
    """Similarities of a pair whose task embeddings are that similar."""
    return {"task_embedding": value, "c_mean": value / 2, "c_pair": -value}


def studies_of(plan: Plan, **weights: float) -> dict[str, Study]:
    """Name -> study, with similarities that were not measured but given by source."""
    said = {**MEASURED, **weights}
    return {
        study.pair.name: study for study in make_studies(plan, {(s, t): like(said[s]) for s, t in plan.measured})[0]
    }


@cache
def _empty_store() -> Path:
    """An initialised store, made once: that takes seconds."""
    folder = Path(tempfile.mkdtemp(prefix="mlflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    client(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


def new_store(folder: Path) -> str:
    """The address of a fresh sqlite store in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_empty_store(), folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


def plan_of(folder: Path, plm: Path, **changes: Any) -> Plan:
    """The plan of a small experiment in a folder."""
    return make_plan(load(experiment_file(folder, plm, **changes)))


def put_confirmed(
    library: PromptLibrary, config: TrialConfig, selection: Sequence[float], report: Sequence[float], rows: int = 20
) -> Confirmed:
    """A configuration that was confirmed with these scores; its logits have the report scores as accuracy."""
    labels = np.arange(rows) % 2
    logits = np.zeros((len(report), rows, 2), np.float32)
    for replica, score in enumerate(report):
        said = np.where(np.arange(rows) < round(score * rows), labels, 1 - labels)
        logits[replica, np.arange(rows), said] = 1.0
    scores = {
        "selection": {"accuracy": list(selection)},
        "report": {"accuracy": list(report)},
        "majority": 0.5,
        "seconds": 1.0,
    }

    def write(draft: Path) -> None:
        (draft / SCORES).write_text(json.dumps(scores), encoding="utf-8")
        _logits_frame(config.seeds, logits, labels).to_parquet(draft / LOGITS, index=False)

    library.put("confirmed", confirm_key(config), write, {"target": config.target.name, "method": config.method})
    return read_confirmed(library, config)


def recorded(
    plan: Plan, library: PromptLibrary, uri: str, scores: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> dict[str, Winner]:
    """Says a search to MLflow whose studies ended with these selection and report scores; the winners by name."""
    studies = [study for name, study in studies_of(plan).items() if name in scores]
    chosen = {s.key: [replace(s.base.with_knobs(s.space.first()), seeds=(10, 11))] for s in studies}
    for study in studies:
        put_confirmed(library, chosen[study.key][0], *scores[study.pair.name])
    found = list(winners(library, studies, chosen))
    tracker = Tracker(uri, plan.experiment.name, plan.experiment.search_path)
    said = [*entries.of_plan(plan, [], studies, lambda job: [])]
    said += [entry for winner in found for entry in entries.of_winner(winner)]
    for entry in [*said, *(entries.of_study_end(plan, winner) for winner in found)]:
        tracker.write(entry)
    tracker.mark_current({study.key for study in studies})
    assert not tracker.waiting
    return {winner.study.pair.name: winner for winner in found}
