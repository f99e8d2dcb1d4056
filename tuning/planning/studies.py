"""Plan to studies: their pairs, partners, keys and journals."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from panda_trainable.config.keys import content_key
from panda_trainable.config.methods import KD_KINDS, KNOBS, TRAITS
from panda_trainable.config.section import shared_settings
from panda_trainable.config.task import MIXING_CAP
from panda_trainable.config.trial import (
    Projection,
    ProjectorSettings,
    Source,
    TeacherPlm,
    TeacherTrainSettings,
    TrialConfig,
)
from search_spaces.defaults import MODEL_RATE
from search_spaces.space import Choice, Int, Space
from tuning.experiment.experiment import LONGER, Experiment, sources_of
from tuning.experiment.problems import Misuse
from tuning.planning.overlap import only_weighed, projected_for
from tuning.planning.plan import Pair, Plan, Similarities, Study


def make_studies(
    plan: Plan, similarities: Similarities, shared: Mapping[tuple[str, str], int] | None = None
) -> tuple[list[Study], list[str]]:
    """The studies of a plan, and what was left out and why.

    Args:
        plan: of one PLM.
        similarities: of its pairs.
        shared: (source, target) -> texts that they share; None: none.

    A study's partners are part of its key. A study of the pair that already exists and whose
    partners are all still among the sources goes on with them, so that a larger file extends.
    """
    studies, notes = [], []
    for pair in plan.pairs:
        weights = _weights(plan, pair, similarities) if TRAITS[pair.method].sources != "none" else {}
        if pair.source and "lambda" in KNOBS[pair.method] and weights[pair.source] <= 0:
            notes.append(f"{pair.name} is left out: its similarity {weights[pair.source]:.3f} is not positive")
            continue
        studies.append(_study(plan, pair, weights, similarities, shared or {}))
    return studies, notes


def _weights(plan: Plan, pair: Pair, similarities: Similarities) -> dict[str, float]:
    """Source -> the similarity that weighs it for this target and method."""
    weigh_by, target = plan.experiment.weigh_by, pair.target
    names = sources_of(plan.experiment, target)
    if weigh_by == "none" or TRAITS[pair.method].as_released or TRAITS[pair.method].sources == "all":
        return dict.fromkeys(names, 1.0)
    if isinstance(weigh_by, dict):
        missing = [name for name in names if name not in weigh_by.get(target, {})]
        if missing:
            raise Misuse(f"weigh_by must weigh every source of {target}: {', '.join(missing)} missing")
        return {name: weigh_by[target][name] for name in (*names, *only_weighed(plan.experiment, target))}
    return {name: similarities[name, target][weigh_by] for name in names}


def _study(
    plan: Plan,
    pair: Pair,
    weights: Mapping[str, float],
    similarities: Similarities,
    shared: Mapping[tuple[str, str], int],
) -> Study:
    sources: tuple[Source, ...] = ()

    def source_of(name: str) -> Source:
        drops = plan.experiment.overlap == "drop" and shared.get((name, pair.target), 0) > 0
        return Source(plan.source(name), weights[name], drops)

    if TRAITS[pair.method].sources == "all":
        sources = tuple(source_of(name) for name in weights)
    if pair.source:
        space = plan.experiment.method_space(pair.method)
        order = partner_order(space, pair.source, weights, _closeness(plan, pair.target, weights, similarities))
        order = _recorded_partners(plan, pair, set(weights), order, source_of)
        sources = tuple(source_of(name) for name in (pair.source, *order))
    base, space = study_base(plan, pair, sources, shared)
    key = content_key("study", base, space, *_searched_how(plan))
    measured = similarities.get((pair.source, pair.target), {}) if pair.source else {}
    own = sources[:1] if pair.source else sources  # its partners take part in some trials, and are pairs themselves
    overlap = sum(shared.get((source.task.name, pair.target), 0) for source in own)
    budget = 1 if space.size == 1 else plan.experiment.search.trials  # one configuration needs one trial
    return Study(key, pair, base, space, budget, measured, overlap)


def _closeness(
    plan: Plan, target: str, weights: Mapping[str, float], similarities: Similarities
) -> Mapping[str, float]:
    """Source -> how similar it is to the target: what weighs it, or the first that is measured where nothing does."""
    first = next(iter(plan.experiment.similarities), "")
    if plan.experiment.weigh_by != "none" or not first:
        return weights
    return {name: similarities.get((name, target), {}).get(first, 0.0) for name in weights}


def partner_order(space: Space, source: str, weights: Mapping[str, float], closeness: Mapping[str, float]) -> list[str]:
    """The partners a study may use: the most similar other sources, at most as many as its space asks for.

    Args:
        space: of the method.
        source: the pair's own.
        weights: source -> what weighs it; only those above zero can be partners.
        closeness: source -> by what they are ordered, ties by name.
    """
    domain = space.domain("partners")
    wanted = domain.high if isinstance(domain, Int) else max(domain.values) if isinstance(domain, Choice) else 0
    positive = weights[source] > 0  # otherwise no share of an average is defined
    others = [name for name in weights if positive and name != source and weights[name] > 0]
    return sorted(others, key=lambda name: (-closeness[name], name))[: int(wanted)]


def _recorded_partners(
    plan: Plan, pair: Pair, there: set[str], order: list[str], source_of: Callable[[str], Source]
) -> list[str]:
    """The partners with which this pair's study began, where they are all still there; else today's order."""
    cards = (plan.experiment.search_path / "studies").glob("*.json")
    for path in sorted(cards, key=lambda path: path.stat().st_mtime):  # the oldest first
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["pair"] == [pair.target, pair.source, pair.method] and set(card["partners"]) <= there:
            partners: list[str] = card["partners"]
            sources = tuple(source_of(name) for name in (pair.source or "", *partners))
            base, space = study_base(plan, pair, sources)
            if card["without_partners"] == _without_partners(plan, base, space):
                return partners
    return order


def _without_partners(plan: Plan, base: TrialConfig, space: Space) -> str:
    """A study's key as it were without partners: tells whether an earlier study is the same but for them."""
    domains = tuple(knob for knob in space.knobs if knob.name != "partners")
    asked = plan.experiment.method_space(base.method).domain("partners")
    return content_key("study", replace(base, sources=base.sources[:1]), domains, asked, *_searched_how(plan))


def _searched_how(plan: Plan) -> tuple[int | str | None, ...]:
    """What of the search decides a study's numbers, beside its base trial and space; budgets do not."""
    search = plan.experiment.search
    # On paper's protocol the search looks at validation rows, and the report limit cuts them.
    rows = (plan.setting.limit.report,) if plan.setting.protocol == "paper" else ()
    return plan.setting.train.eval_every, search.sampler, search.scheduler, search.seed, *rows


def record_study(plan: Plan, study: Study) -> None:
    """Keeps a study's card beside its journal: what it is and with which partners it began."""
    path = study_path(plan.experiment, study, "json")
    if path.exists():
        return
    card = {
        "key": study.key,
        "pair": [study.pair.target, study.pair.source, study.pair.method],
        "partners": [source.task.name for source in study.base.sources[1:]],
        "without_partners": _without_partners(plan, study.base, study.space),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(card, indent=1), encoding="utf-8")
    draft.rename(path)


def study_path(experiment: Experiment, study: Study, suffix: str) -> Path:
    """A study's file: `json` its card, `journal` its trials."""
    return experiment.search_path / "studies" / f"{study.key}.{suffix}"


def study_base(
    plan: Plan, pair: Pair, sources: tuple[Source, ...], shared: Mapping[tuple[str, str], int] | None = None
) -> tuple[TrialConfig, Space]:
    """A study's base trial and its space, for the sources that it may use."""
    experiment, traits = plan.experiment, TRAITS[pair.method]
    steps = steps_of(experiment, pair.method)
    space = experiment.method_space(pair.method).resolved(steps, max(len(sources) - 1, 0))
    target = plan.tasks[pair.target]
    if space.domain("inter_class") and target.kind not in KD_KINDS["inter_class"]:
        space = space.overridden({"inter_class": Choice((0.0,))})
    teacher_steps = space.domain("teacher_steps")
    candidates = tuple(teacher_steps.values) if isinstance(teacher_steps, Choice) else ()
    transfers = bool(sources) or traits.another == "source_plm"
    rate = float(space.first().get("learning_rate", 0.0))
    given = experiment.source_train.learning_rate if traits.trains != "model" else MODEL_RATE.first
    distils = "lambda" in traits.knobs and not traits.as_released
    base = TrialConfig(
        setting=plan.setting if transfers else plan.setting.of_targets, target=target, method=pair.method,
        seeds=tuple(experiment.train.seeds), steps=steps, learning_rate=rate,
        sources=sources, source_steps=experiment.source_train.steps if transfers else 0,
        source_learning_rate=given if transfers else 0.0,
        teacher_steps=candidates[0] if candidates else 0,
        kd=experiment.kd if distils else "mse", candidates=candidates,
        lambda_schedule=experiment.lambda_schedule if distils else "constant",
        partner_weights=experiment.partner_weights if "partners" in traits.knobs else "similarity",
        relation=experiment.relation if "inter_instance" in traits.knobs else "inter_instance",
        teacher_plm=_teacher_plm(plan) if traits.another == "teacher_plm" else None,
        projection=_projection(plan, pair.target, shared or {}) if traits.another == "source_plm" else None,
        mixing_cap=experiment.mixing_cap if traits.mixes else MIXING_CAP,
    )  # fmt: skip
    return base, space


def _teacher_plm(plan: Plan) -> TeacherPlm:
    asked, train = plan.experiment.teacher_train, plan.experiment.train
    assert plan.teacher_plm is not None, "a plan whose methods need another PLM has found it"
    usual = {"prompt": plan.experiment.source_train.learning_rate, "model": MODEL_RATE.first}
    found = {"steps": asked.steps or train.steps, "learning_rate": asked.learning_rate or usual[asked.trains]}
    return TeacherPlm(plan.teacher_plm, **{**shared_settings(TeacherTrainSettings, asked), **found})


def _projection(plan: Plan, target: str, shared: Mapping[tuple[str, str], int]) -> Projection:
    """How prompts of the other PLM are projected for a target, of which the projector knows nothing."""
    assert plan.source_plm is not None, "a plan whose methods need another PLM has found it"
    tasks = tuple(plan.tasks[name] for name in projected_for(plan.experiment, target, shared))
    return Projection(plan.source_plm, tasks, **shared_settings(ProjectorSettings, plan.experiment.projector))


def steps_of(experiment: Experiment, method: str) -> int:
    """Steps of a method's students: the control for longer tuning has those of the longest teacher too."""
    steps = experiment.train.steps if TRAITS[method].trains != "nothing" else 0
    if method != LONGER:
        return steps
    teachers = experiment.method_space("panda").resolved(steps, 0).domain("teacher_steps")
    return steps + (max(teachers.values) if isinstance(teachers, Choice) else 0)
