"""Studies, MLflow stores and confirmed configurations, made without training anything."""

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from analysis.records import names as records
from analysis.records.connection import client
from analysis.statistics.contributions import contributions
from panda_trainable.config.methods import TRAITS
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.training.metrics import METRICS
from tests.kits.command import experiment_file
from tuning.experiment.loading import load
from tuning.planning.plan import Plan, Study
from tuning.planning.resolve import make_plans
from tuning.planning.results import (
    CONTRIBUTIONS,
    LOGITS,
    ROWS,
    SCORES,
    Candidate,
    Confirmed,
    Winner,
    confirm_key,
    read_confirmed,
)
from tuning.planning.studies import make_studies
from tuning.run.confirm import _logits_frame, winners
from tuning.tracking.study_runs import of_plan
from tuning.tracking.tracker import Tracker
from tuning.tracking.updates import RunUpdate
from tuning.tracking.winner_runs import of_study_end, of_winner

OWN = {"kind": "classification", "text": ["a"], "classes": ["no", "yes"], "metrics": ["accuracy"]}
MEASURED = {"s1": 0.8, "s2": 0.4, "s3": 0.9, "t": 1.0, "pool": 0.6}


WITH_HEADS = tuple(name for name, traits in TRAITS.items() if not traits.asked)
"""Methods of PLMs whose heads are trained."""


def like(value: float) -> dict[str, float]:
    """Similarities of a pair whose task embeddings are that similar."""
    return {"task_embedding": value, "c_mean": value / 2, "c_pair": -value}


def studies_of(plan: Plan, **weights: float) -> dict[str, Study]:
    """Name -> study, with similarities that were not measured but given by source."""
    said = {**MEASURED, **weights}
    return {study.name: study for study in make_studies(plan, {(s, t): like(said[s]) for s, t in plan.measured})[0]}


def every_method(plms: Callable[[str], Path], **changes: Any) -> dict[str, Any]:
    """Keys of a file of which every method has studies: a mixture among the sources, and other PLMs."""
    return {
        "methods": [method for method in WITH_HEADS if method != "prompt_tuning"],
        "mixtures": {"pool": ["s1", "s2"]},
        "sources": ["s1", "s2", "pool"],
        "teacher_plm": {"from": str(plms("distilbert"))},
        "source_plm": {"from": str(plms("roberta"))},
        **changes,
        "prompt": {"length": 3, "form": "input", **changes.get("prompt", {})},  # which every method takes
    }


UNUSUAL: dict[str, Any] = {
    "kd": "kl", "lambda_schedule": "decay", "partner_weights": "uniform", "relation": "gram", "mixing_cap": 40,
    "teacher_train": {"trains": "model", "steps": 3, "learning_rate": 1e-4},
    "projector": {"tasks": ["s2", "s1"], "form": "flat", "hidden": 5, "steps": 7, "learning_rate": 0.01},
    "relative": {"anchors": 11, "steps": 9, "learning_rate": 0.02},
}  # fmt: skip
"""Settings of methods, none at its default."""


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


def rewritten(file: Path, **values: Any) -> Path:
    """An experiment file with other values of some keys; those that are None are left out."""
    said = json.loads(file.read_text(encoding="utf-8")) | values
    kept = {name: value for name, value in said.items() if value is not None}
    file.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
    return file


def plans_of(folder: Path, *plms: Path | dict[str, Any], **changes: Any) -> tuple[Plan, ...]:
    """The plans of a small experiment in a folder, one per PLM: each a folder, or a section of the file."""
    sections = [plm if isinstance(plm, dict) else {"from": str(plm)} for plm in plms]
    return make_plans(load(rewritten(experiment_file(folder, Path("unused"), **changes), plm=sections)))


def plan_of(folder: Path, plm: Path, **changes: Any) -> Plan:
    """The plan of a small experiment with one PLM."""
    (plan,) = make_plans(load(experiment_file(folder, plm, **changes)))
    return plan


def put_confirmed(
    library: PromptLibrary,
    config: TrialConfig,
    selection: Sequence[float],
    report: Sequence[float],
    rows: int = 20,
    **scores: Any,
) -> Confirmed:
    """A configuration that was confirmed with these scores; its rows have the report scores as accuracy.

    Args:
        library: where it is put.
        config: what was confirmed.
        selection: [K].
        report: [K] multiples of one in `rows`.
        rows: report rows, of two classes in turn: the best constant answer is right half of the time.
        scores: other values of its scores file, such as `truncated`.
    """
    labels = np.arange(rows) % 2
    logits = np.zeros((len(report), rows, 2), np.float32)
    for replica, score in enumerate(report):
        said = np.where(np.arange(rows) < round(score * rows), labels, 1 - labels)
        logits[replica, np.arange(rows), said] = 1.0
    always_first = np.eye(2, dtype=np.float32)[np.zeros(rows, int)]
    metric = METRICS["accuracy"]
    said_scores = {
        "selection": {"accuracy": list(selection)},
        "constant_selection": [0.5] * len(report),
        "excess_error": [0.05] * len(report),
        "report": {"accuracy": list(report)},
        "majority": metric(always_first, labels),
        "truncated": {"train": 0.0, "report": 0.0},
        "seconds": 1.0,
        **scores,
    }

    def write(draft: Path) -> None:
        (draft / SCORES).write_text(json.dumps(said_scores), encoding="utf-8")
        rows_of = np.stack([metric.rows(said, labels) for said in logits])
        np.save(draft / ROWS, rows_of)
        np.save(draft / CONTRIBUTIONS, np.stack([contributions(own, metric.score) for own in rows_of]))
        _logits_frame(config.seeds, logits).to_parquet(draft / LOGITS, index=False)

    library.put("confirmed", confirm_key(config), write, {"target": config.target.name, "method": config.method})
    return read_confirmed(library, config)


def found(config: TrialConfig, searched: float = 0.9) -> Candidate:
    """A configuration as if the search had found it, the only one that it tried."""
    return Candidate(config, searched, 1)


def recorded(
    plan: Plan,
    library: PromptLibrary,
    uri: str,
    scores: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    teacher: Sequence[float] = (),
    searched: float = 0.9,
) -> dict[str, Winner]:
    """Says a search to MLflow whose studies ended with these selection and report scores; the winners by name.

    `teacher` has the report scores of the larger PLM, for the studies that have one; `searched` is what every
    configuration had in the search.
    """
    studies = [study for name, study in studies_of(plan).items() if name in scores]
    chosen = {s.key: [found(replace(s.base.with_knobs(s.space.first()), seeds=(10, 11)), searched)] for s in studies}
    for study in studies:
        taught = {"teacher": list(teacher)} if study.base.teacher_plm else {}
        put_confirmed(library, chosen[study.key][0].config, *scores[study.pair.name], **taught)
    ended = list(winners(library, studies, chosen))
    tracker = Tracker(uri, plan.experiment.name, plan.experiment.search_path)
    said = [*of_plan(plan, [], studies, lambda job: [])]
    said += [entry for winner in ended for entry in of_winner(winner)]
    for entry in [*said, *(of_study_end(plan.experiment, winner) for winner in ended)]:
        tracker.write(entry)
    tracker.mark_current({study.key for study in studies})
    assert not tracker.is_behind
    return {winner.study.pair.name: winner for winner in ended}


SAID = {
    "score/report": 0.5, "score/report/std": 0.0, "score/report/n": 2.0, "gain": 0.1, "gain/std": 0.0, "gain/low": 0.05,
    "gain/high": 0.2, "gain/p": 0.5, "gain/n": 2.0, "majority": 0.4, "steps": 8.0, "teacher_steps": 0.0, "seconds": 1.0,
    "truncated/train": 0.25, "truncated/report": 0.5,
}  # fmt: skip
"""What a study's winner says of itself in MLflow, where a test does not say otherwise."""


def study_entry(
    target: str, method: str, selection: float, *, plm: str = "bert", metrics: Mapping[str, float] | None = None, **tags: str
) -> RunUpdate:  # fmt: skip
    """A finished study as MLflow is told of it, written by hand.

    Args:
        target: its name.
        method: its method; the baseline has no source and no gain.
        selection: score by which winners are chosen.
        plm: its name.
        metrics: over those of SAID.
        tags: over the usual ones.
    """
    is_baseline = method == "prompt_tuning"
    usual = {
        records.STAGE: "study", records.CURRENT: "true", records.TARGET: target, records.METHOD: method, records.REFERENCE: {"prompt_tuning": "baseline", "spot": "start"}.get(method, ""), records.PLM: plm,
        records.SOURCE: "" if is_baseline else "s", records.SIGNAL: "true", records.OVERLAP: "0", records.POOR_SOURCE: "false",
        records.PROTOCOL: "held_out", records.CONSTRUCTED: "false",
    }  # fmt: skip
    none = {"gain": 0.0, "gain/low": 0.0, "gain/high": 0.0, "gain/p": 1.0, "gain/n": 0.0} if is_baseline else {}
    return RunUpdate(
        f"study:{target} {method} {plm} {tags.get(records.SOURCE, '')} {tags.get(records.REPEAT, '0')}", "study", tags={**usual, **tags},
        metrics={**SAID, **none, "score/selection": selection, **(metrics or {})}, params={"metric": "accuracy"},
        artifacts={records.CONFIG_FILE: '{"name": "x"}'},
    )  # fmt: skip


def told(uri: str, experiment: str, folder: Path, studies: Sequence[RunUpdate]) -> None:
    """Writes studies into MLflow."""
    tracker = Tracker(uri, experiment, folder)
    for entry in studies:
        tracker.write(entry)
    assert not tracker.is_behind
