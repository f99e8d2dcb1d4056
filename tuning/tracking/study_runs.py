"""What MLflow is told of a plan: runs of its source prompts, and of its studies as they begin."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from analysis.records import names as records
from panda_trainable.config.methods import TRAITS
from panda_trainable.config.section import as_filed, flattened
from panda_trainable.config.task import Mixture
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.demo import DEMO
from tuning.experiment.pinned import trial_settings
from tuning.planning.jobs import Job
from tuning.planning.plan import Plan, Study
from tuning.tracking.tracker import RUNNING, RunUpdate


def of_plan(
    plan: Plan, sources: Sequence[Job], studies: Sequence[Study], cards: Callable[[Job], list[dict[str, Any]]]
) -> Iterator[RunUpdate]:
    """Runs of the source prompts, and of the studies as they begin."""
    for job in sources:
        yield from (_of_source(card) for card in cards(job))
    poor = {job.lineage.task.name for job in sources if any(_at_majority(card) for card in cards(job))}
    for study in studies:
        yield _of_study(plan, study, study.pair.source in poor)


def _at_majority(card: Mapping[str, Any]) -> bool:
    """Whether a source prompt is no better than its majority class."""
    return bool(card["score"] <= card["majority"])


def _of_source(card: Mapping[str, Any]) -> RunUpdate:
    return RunUpdate(
        f"source:{card['key']}", f"{card['task']} · seed {card['seed']}",
        tags={records.STAGE: "source", records.SOURCE: card["task"], records.PLM: card["plm"], "at_majority": str(_at_majority(card)).lower()},
        params={name: card[name] for name in ("seed", "steps", "learning_rate")},
        metrics={records.SELECTION: card["score"], records.MAJORITY: card["majority"]},
    )  # fmt: skip


def study_tags(study: Study) -> dict[str, str]:
    """What a study's own run, its trials' and its winner's are found by."""
    pair, base = study.pair, study.base
    return {
        records.TARGET: pair.target, records.SOURCE: pair.source or "", records.METHOD: pair.method,
        records.PLM: base.setting.plm.label, records.STUDY: study.key, records.CURRENT: "true",
        records.PROTOCOL: base.setting.protocol, records.CONSTRUCTED: str(pair.target in DEMO).lower(),
        records.OVERLAP: str(study.overlap), records.LOSS_HOLDS_SIMILARITY: str(TRAITS[pair.method].loss_holds_similarity).lower(),
    }  # fmt: skip


def _of_study(plan: Plan, study: Study, poor: bool) -> RunUpdate:
    base = study.base
    params = {
        **dict(flattened(trial_settings(plan.experiment, base))), "train.steps": base.steps, "metric": base.target.metrics[0],
        "partners_available": [source.task.name for source in base.sources[1:]], "weigh_by": _weigh_by(plan),
        **_mixtures(base), **_measured(plan, study), **_searched(plan, study),
    }  # fmt: skip
    similarities = {f"{records.SIMILARITY}/{name}": value for name, value in study.similarities.items()}
    return RunUpdate(
        f"study:{study.key}", study.pair.name, tags={records.STAGE: "study", **study_tags(study), records.POOR_SOURCE: str(poor).lower()},
        params=params, metrics=similarities, status=RUNNING,
    )  # fmt: skip


def _mixtures(base: TrialConfig) -> dict[str, Any]:
    """What its mixtures hold."""
    mixtures = [source.task for source in base.sources if isinstance(source.task, Mixture)]
    return {f"mixture.{mixture.name}": [task.name for task in mixture.tasks] for mixture in mixtures}


def _measured(plan: Plan, study: Study) -> dict[str, Any]:
    """Of what its similarities were measured; nothing where there are none."""
    measured = plan.experiment.similarity_settings
    return dict(flattened(as_filed(measured))) if study.similarities else {}


def _searched(plan: Plan, study: Study) -> dict[str, Any]:
    """How it is searched, and among which values."""
    search = plan.experiment.search
    domains = {f"space.{knob.name}": str(knob.domain) for knob in study.space.knobs}
    return {"sampler": search.sampler, "scheduler": search.scheduler, "search_seed": search.seed, **domains}


def _weigh_by(plan: Plan) -> str:
    weigh_by = plan.experiment.weigh_by
    return weigh_by if isinstance(weigh_by, str) else json.dumps(weigh_by)
