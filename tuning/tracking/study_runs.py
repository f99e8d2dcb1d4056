"""What MLflow is told of a plan: runs of its source prompts, and of its studies as they begin."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from analysis.records import names as records
from analysis.records.conversion import identity_tags, study_run
from analysis.records.studies import StudyRecord
from panda_trainable.config.methods import TRAITS
from panda_trainable.config.section import as_filed, flattened
from panda_trainable.config.task import Mixture
from panda_trainable.config.trial import TrialConfig
from panda_trainable.origins.demo import DEMO
from tuning.experiment.pinned import trial_settings
from tuning.planning.jobs import Job
from tuning.planning.plan import Plan, Study
from tuning.tracking.costs import runs_tag, study_runs
from tuning.tracking.updates import RUNNING, RunUpdate


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
    """Whether a source prompt is no better than its best constant answer; of an imported one nobody knows."""
    return "score" in card and bool(card["score"] <= card["majority"])


def _of_source(card: Mapping[str, Any]) -> RunUpdate:
    if "imported" in card:
        return RunUpdate(
            f"source:{card['key']}", f"{card['task']} · imported",
            tags={records.STAGE: "source", records.SOURCE: card["task"], records.PLM: card["plm"]},
            params={name: card[name] for name in ("imported", "shape")},
        )  # fmt: skip
    return RunUpdate(
        f"source:{card['key']}", f"{card['task']} · seed {card['seed']}",
        tags={records.STAGE: "source", records.SOURCE: card["task"], records.PLM: card["plm"], "at_majority": str(_at_majority(card)).lower()},
        params={name: card[name] for name in ("seed", "steps", "learning_rate")},
        metrics={records.SELECTION: card["score"], records.MAJORITY: card["majority"]},
    )  # fmt: skip


def study_record(study: Study, weigh_by: object = None) -> StudyRecord:
    """A study before it has a winner.

    Args:
        study: the study.
        weigh_by: as the experiment's file has it; without it, whether the loss holds the similarity is left open.
    """
    pair, setting = study.pair, study.base.setting
    traits = TRAITS[pair.method]
    holds = records.NO if not traits.loss_holds_similarity else records.OFF if weigh_by == "none" else records.YES
    return StudyRecord(
        target=pair.target, source=pair.source, method=pair.method, plm=setting.plm.label, key=study.key,
        reference=traits.reference, similarity_in_loss=None if weigh_by is None else holds, similarities=study.similarities,
        protocol=setting.protocol, constructed=pair.target in DEMO, overlap=study.overlap, repeat=study.repeat,
    )  # fmt: skip


def study_tags(study: Study) -> dict[str, str]:
    """What a study's own run, its trials' and its winner's are found by."""
    return {**identity_tags(study_record(study)), records.CURRENT: "true"}


def _of_study(plan: Plan, study: Study, poor: bool) -> RunUpdate:
    base = study.base
    params = {
        **dict(flattened(trial_settings(plan.experiment, base))), "train.steps": base.steps, "metric": base.target.metrics[0],
        "partners_available": study.partners_in(base), "weigh_by": _weigh_by(plan),
        **_asked(base), **_mixtures(base), **_measured(plan, study), **_searched(plan, study),
    }  # fmt: skip
    run = study_run(replace(study_record(study, plan.experiment.weigh_by), source_at_majority=poor))
    return RunUpdate(
        f"study:{study.key}", study.name, tags={**run.tags, **runs_tag(study_runs(plan, study)), records.CURRENT: "true"}, params=params, metrics=run.metrics,
        status=RUNNING,
    )  # fmt: skip


def _asked(base: TrialConfig) -> dict[str, Any]:
    """How its target is asked of a language model; nothing where a trained head answers."""
    asked = base.target.asked
    return {"target.template": asked.template, "target.words": [list(words) for words in asked.words]} if asked else {}


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
    return {
        "sampler": search.sampler,
        "scheduler": search.scheduler,
        "search_seed": plan.search_seed(study.repeat),
        **domains,
    }


def _weigh_by(plan: Plan) -> str:
    weigh_by = plan.experiment.weigh_by
    return weigh_by if isinstance(weigh_by, str) else json.dumps(weigh_by)
