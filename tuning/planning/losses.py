"""The distillation losses of an experiment: where they are not defined, and where they have little effect."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from panda_trainable.config.methods import INSTANCE_RELATIONS, KD_KINDS, TRAITS
from panda_trainable.config.task import TaskSpec
from search_spaces.space import Choice
from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Problem
from tuning.planning.plan import Plan

USUAL_KD = "mse"
LEAST_ROWS: Mapping[str, int] = MappingProxyType({"inter_instance": 2, "gram": 3, "distance": 3})
"""Relation of the examples of a batch -> examples below which it is constant, whatever the student's outputs."""
USUAL_ROWS = 16
"""Batch size from which the papers correlate the columns of a batch's outputs."""


def undefined_losses(experiment: Experiment, targets: Sequence[TaskSpec]) -> Iterator[Problem]:
    """Losses that the targets, or the batches, have no use for, and what to take instead."""
    for knob, loss, others in (
        ("lambda", experiment.kd, (USUAL_KD,)), ("inter_instance", experiment.relation, INSTANCE_RELATIONS),
    ):  # fmt: skip
        methods = methods_weighing(experiment, knob)
        for task in targets if methods else ():
            if task.kind not in KD_KINDS.get(loss, (task.kind,)):
                able = [name for name in others if task.kind in KD_KINDS[name]]
                remedy = f"use {' or '.join(able)}" if able else f"leave it out (space: {knob}: 0)"
                yield Problem(", ".join(methods), f"{loss} is not defined for {task.name} ({task.kind})", remedy=remedy)
    batch = experiment.train.batch_size
    for loss, methods in _losses(experiment).items():
        if methods and batch < (least := LEAST_ROWS.get(loss, 1)):
            rule = f"{loss} compares the examples of a batch and needs at least {least} of them"
            yield Problem(", ".join(methods), rule, str(batch), "raise train.batch_size")


def weak_losses(plan: Plan) -> Iterator[str]:
    """What a user should know of distillation losses with little effect. Source: docs/deviations.md#relations."""
    experiment, losses = plan.experiment, _losses(plan.experiment)
    for name in experiment.targets if losses["inter_class"] else ():
        yield from _few_classes(experiment, plan.tasks[name], losses["inter_class"])
    batch = experiment.train.batch_size
    if small := [loss for loss in LEAST_ROWS if losses.get(loss) and batch < USUAL_ROWS]:
        yield f"{', '.join(small)} compares the {batch} examples of a batch: with fewer than {USUAL_ROWS} that is mostly noise"
    weights = ("lambda", "inter_class", "inter_instance")
    for method in experiment.needs("teacher_plm"):
        if not any(method in methods_weighing(experiment, weight) for weight in weights):
            yield (
                f"{method} has no distillation term: lambda, inter_class and inter_instance are all 0; "
                f"give one of them a weight (space: {method})"
            )
        elif method not in methods_weighing(experiment, "lambda") and experiment.kd != USUAL_KD:
            yield (
                f"kd: {experiment.kd} has no part in {method}, whose lambda is 0; to compare it there, "
                f"space: {{{method}: {{lambda: {{log: [0.01, 10]}}}}}}"
            )


def _few_classes(experiment: Experiment, task: TaskSpec, methods: Sequence[str]) -> Iterator[str]:
    if task.kind not in KD_KINDS["inter_class"]:
        yield f"{task.name} has no classes, so {', '.join(methods)} is trained without inter_class there"
    elif (len(task.classes) or len(task.choices)) == 2:
        helped = [method for method in methods if method in methods_weighing(experiment, "inter_instance")]
        alone = [method for method in methods if method not in helped]
        effects = (
            [f"in {', '.join(helped)} only {experiment.relation} passes on what the larger PLM knows"] if helped else []
        )
        effects += [f"in {', '.join(alone)} next to nothing is learnt from the teacher"] if alone else []
        yield f"{task.name} has two classes, for which inter_class has almost no gradient: {'; '.join(effects)}"


def _losses(experiment: Experiment) -> dict[str, list[str]]:
    """Loss -> the methods that weigh it."""
    methods: dict[str, list[str]] = {}
    weights = (("lambda", experiment.kd), ("inter_class", "inter_class"), ("inter_instance", experiment.relation))
    for knob, loss in weights:
        methods.setdefault(loss, []).extend(methods_weighing(experiment, knob))
    return {loss: list(dict.fromkeys(names)) for loss, names in methods.items()}


def methods_weighing(experiment: Experiment, knob: str) -> list[str]:
    """The methods that have a loss of the file: their space gives its weight another value than zero."""
    methods = [m for m in experiment.methods if knob in TRAITS[m].knobs and not TRAITS[m].fixed_loss]
    domains = {method: experiment.method_space(method).domain(knob) for method in methods}
    return [m for m, domain in domains.items() if not (isinstance(domain, Choice) and not any(domain.values))]
