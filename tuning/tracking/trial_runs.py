"""What MLflow is told of trials: what their journals hold."""

from collections.abc import Mapping
from types import MappingProxyType

from optuna.trial import FixedTrial, FrozenTrial, TrialState

from analysis.records import names as records
from panda_trainable.result import TrialResult
from tuning.engine.journal import failure_of, results_of
from tuning.planning.plan import Study
from tuning.tracking.costs import runs_tag, spent_by, trial_runs
from tuning.tracking.study_runs import study_tags
from tuning.tracking.updates import FAILED, FINISHED, RUNNING, RunUpdate

STATES: Mapping[TrialState, tuple[str, str]] = MappingProxyType(
    {
        TrialState.RUNNING: (records.RUNNING, RUNNING),
        TrialState.COMPLETE: (records.COMPLETE, FINISHED),
        TrialState.PRUNED: (records.STOPPED, FINISHED),
        TrialState.FAIL: (records.FAILED, FAILED),
    }
)
"""Optuna's state of a trial -> its tag `state`, and the status of its run."""


def trial_id(study: Study, number: int) -> str:
    """The id of a trial's run."""
    return f"trial:{study.key}/{number}"


def of_trial(study: Study, trial: FrozenTrial) -> RunUpdate:
    """A trial's run: knobs as params, every evaluation by its step, how it ended.

    Args:
        study: its study.
        trial: as its journal holds it, still running or ended.
    """
    results, failure = results_of(trial), failure_of(trial)
    state, status = STATES[trial.state]
    knobs = study.space(FixedTrial(trial.params, trial.number))
    config = study.base.with_knobs(knobs)
    ended = [result for result in (*results, failure) if result]
    nodes = [result.node for result in ended if result.node]
    return RunUpdate(
        trial_id(study, trial.number), f"trial {trial.number}", parent=f"study:{study.key}",
        tags={
            records.STAGE: "trial", **study_tags(study), records.TRIAL: f"{study.key}/{trial.number}",
            records.STATE: state,
            **(runs_tag(trial_runs(config)) if status != RUNNING else {}),
            **({records.NODE: nodes[-1]} if nodes else {}), **({records.FAILURE: failure.failure} if failure else {}),
        },
        params=knobs, metrics={records.SPENT: spent_by(config, ended)} if status != RUNNING else {},
        history={result.step: _metrics(result) for result in results}, status=status,
    )  # fmt: skip


def _metrics(result: TrialResult) -> dict[str, float]:
    by_seed = {f"{records.SCORE}/{records.SEED}/{seed}": score for seed, score in result.by_seed.items()}
    return {
        records.SCORE: result.score, records.SCORE_STD: result.score_std, records.LOSS: result.loss,
        records.SECONDS: result.seconds, records.EVALUATION_SHARE: result.evaluation_share,
        records.LAMBDA_EFFECTIVE: result.lambda_effective, **by_seed,
    }  # fmt: skip
