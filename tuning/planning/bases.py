"""A study's base trial, which suggestions turn into trials, and the space that is searched."""

from collections.abc import Mapping
from typing import Any

from panda_trainable.config.methods import KD_KINDS, TRAITS
from panda_trainable.config.section import shared_settings
from panda_trainable.config.trial import (
    MethodSettings,
    Projection,
    ProjectorSettings,
    Relative,
    RelativeSettings,
    Source,
    TeacherPlm,
    TeacherTrainSettings,
    TrialConfig,
)
from search_spaces.defaults import MODEL_RATE
from search_spaces.space import Choice, Space
from tuning.experiment.experiment import Experiment
from tuning.planning.overlap import projected_for
from tuning.planning.plan import Pair, Plan


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
    transfers = bool(sources) or bool(traits.moves)
    rate = float(space.first().get("learning_rate", 0.0))
    given = experiment.source_train.learning_rate if traits.trains != "model" else MODEL_RATE.first
    base = TrialConfig(
        setting=plan.setting if transfers else plan.setting.of_targets, target=target, method=pair.method,
        seeds=tuple(experiment.train.seeds), steps=steps, learning_rate=rate,
        sources=sources, source_steps=experiment.source_train.steps if transfers else 0,
        source_learning_rate=given if transfers else 0.0,
        teacher_steps=candidates[0] if candidates else 0,
        candidates=candidates,
        attention_temperature=float(space.first().get("attention_temperature", 0.0)),
        teacher_plm=_teacher_plm(plan) if traits.another == "teacher_plm" else None,
        projection=_projection(plan, pair.target, shared or {}) if traits.moves == "projector" else None,
        relative=_relative(plan) if traits.moves == "relative" else None,
        **_method_settings(experiment, pair.method),
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


def _relative(plan: Plan) -> Relative:
    assert plan.source_plm is not None, "a plan whose methods need another PLM has found it"
    return Relative(plan.source_plm, **shared_settings(RelativeSettings, plan.experiment.relative))


def _method_settings(experiment: Experiment, method: str) -> dict[str, Any]:
    """The file's settings of methods, as far as this one reads them."""
    settings = shared_settings(MethodSettings, experiment)
    return {name: value for name, value in settings.items() if TRAITS[method].reads(name)}


def steps_of(experiment: Experiment, method: str) -> int:
    """Steps of a method's students: a control for longer tuning has those of the longest teacher too."""
    traits = TRAITS[method]
    steps = experiment.train.steps if traits.trains != "nothing" else 0
    if not traits.as_long_as:
        return steps
    teachers = experiment.method_space(traits.as_long_as).resolved(steps, 0).domain("teacher_steps")
    return steps + (max(teachers.values) if isinstance(teachers, Choice) else 0)
