"""What MLflow is told of trials."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from optuna.trial import FixedTrial, FrozenTrial

from analysis.records import names as records
from tuning.planning.plan import Study
from tuning.tracking.study_runs import study_tags
from tuning.tracking.tracker import FAILED, FINISHED, RUNNING, RunUpdate


def trial_id(study: Study, number: int) -> str:
    """The id of a trial's run."""
    return f"trial:{study.key}/{number}"


def of_trial(
    study: Study, number: int, knobs: Mapping[str, Any], result: Mapping[str, Any] | None, status: str
) -> RunUpdate:
    """A trial's run: knobs as params, scores by step, how it ended.

    Args:
        study: its study.
        number: in the study.
        knobs: what was suggested.
        result: as the trainable reported it; None when its process was lost.
        status: RUNNING, FINISHED or FAILED.
    """
    said = result or {}
    failure = said.get("failure") or ("" if result else "its process was lost")
    ended = "failed" if failure else "complete" if said.get("step", 0) >= study.base.steps else "stopped early"
    state = "running" if status == RUNNING else ended
    by_seed = [name for name in said if name.startswith(f"score/{records.SEED}/")]
    names = ["score", "score_std", "loss", "seconds", "evaluation_share", "lambda_effective", *by_seed]
    metrics = {name: said[name] for name in names if name in said and np.isfinite(said[name])}
    tags = {records.STAGE: "trial", **study_tags(study), records.TRIAL: f"{study.key}/{number}", records.STATE: state}
    if "node" in said:
        tags[records.NODE] = said["node"]
    if failure:
        tags[records.FAILURE] = failure
    return RunUpdate(
        trial_id(study, number), f"trial {number}", parent=f"study:{study.key}", tags=tags,
        params=knobs, metrics=metrics if not failure else {}, step=int(said.get("step", 0)),
        status=FAILED if failure else status,
    )  # fmt: skip


def of_journal(study: Study, trial: FrozenTrial) -> Iterator[RunUpdate]:
    """A trial's run as its journal tells it: for one whose driver died before it could tell MLflow."""
    knobs = study.space(FixedTrial(trial.params, trial.number))
    last = max(trial.intermediate_values, default=0)
    for step, score in sorted(trial.intermediate_values.items()):
        yield of_trial(study, trial.number, knobs, {"score": score, "step": step}, RUNNING)
    failure = trial.user_attrs.get("failure", "")
    yield of_trial(study, trial.number, knobs, {"step": last, "failure": failure}, FINISHED)
