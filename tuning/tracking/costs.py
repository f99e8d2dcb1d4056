"""What MLflow is told of costs: steps of training, those of all seeds counted, and the runs that they stand on."""

import json
from collections.abc import Mapping, Sequence

from analysis.records import names as records
from panda_trainable.config.methods import TRAITS
from panda_trainable.config.trial import TrialConfig
from panda_trainable.result import TrialResult
from panda_trainable.transfer.costs import runs_of, training_runs
from tuning.planning.jobs import source_lineage_of, target_lineage_of
from tuning.planning.plan import Plan, Study


def spent_by(config: TrialConfig, results: Sequence[TrialResult]) -> float:
    """Steps that a trial's student was trained, of all its seeds together; as far as it came where it failed."""
    return float(max((result.step for result in results), default=0) * len(config.seeds))


def runs_tag(runs: Mapping[str, int]) -> dict[str, str]:
    """The tag that names runs with their steps."""
    return {records.RUNS: json.dumps(dict(sorted(runs.items())), separators=(",", ":"))}


def trial_runs(config: TrialConfig) -> dict[str, int]:
    """The runs that a trial starts from or learns from, under short names, since a tag holds 5,000 characters."""
    return _short(training_runs(config))


def study_runs(plan: Plan, study: Study) -> dict[str, int]:
    """The runs behind the similarities that a study uses: of what weighs its source, and of what orders its partners.

    The target's embedding, and of the sources that are compared the steps up to the snapshot that is.
    """
    target, named = study.pair.target, [source.task.name for source in study.base.sources]
    if not (named and uses_similarities(plan, study)):
        return {}
    compared = [source for source, other in plan.measured if other == target] if len(named) > 1 else named
    early, seeds = plan.experiment.source_train.early_step, len(study.base.seeds)
    sources = [source_lineage_of(plan, plan.source(name)).at(early) for name in compared]
    return _short(runs_of([target_lineage_of(plan, plan.tasks[target]), *sources], seeds))


def uses_similarities(plan: Plan, study: Study) -> bool:
    """Whether similarities that are measured decide anything of a study."""
    weigh_by = plan.experiment.weigh_by
    if isinstance(weigh_by, dict):
        return False
    if weigh_by == "none":  # the first that is measured orders partners all the same
        return bool(study.pair.source) and len(study.base.sources) > 1 and bool(plan.experiment.similarities)
    return TRAITS[study.pair.method].weighs_sources


def _short(runs: Mapping[str, int]) -> dict[str, int]:
    return {run.split("/")[-1][:12]: steps for run, steps in runs.items()}
