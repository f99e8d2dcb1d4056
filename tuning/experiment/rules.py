"""Rules over several keys of an experiment file, each a function of the experiment. Imports no torch."""

from collections import Counter
from collections.abc import Callable, Iterator

from tuning.experiment.experiment import Experiment, sources_of
from tuning.experiment.problems import near
from tuning.experiment.yaml_file import KeyPath

Broken = Iterator[tuple[KeyPath, str, str]]
"""The key at which a rule is broken, the rule with what breaks it, and what to do."""


def own_tasks(experiment: Experiment) -> Broken:
    """Each of the file's own tasks is a possible one."""
    for name in experiment.tasks:
        try:
            experiment.task(name)
        except ValueError as error:
            yield ("tasks", name), str(error), ""


def weights_of_targets(experiment: Experiment) -> Broken:
    """A table of weights is of targets, and weighs all their sources."""
    if not isinstance(experiment.weigh_by, dict):
        return
    for target in experiment.weigh_by:
        if target not in experiment.targets:
            yield ("weigh_by", target), f"weigh_by: unknown target {target!r}{near(target, experiment.targets)}", ""
    for target in experiment.targets:
        weights = experiment.weigh_by.get(target, {})
        missing = [name for name in sources_of(experiment, target) if name not in weights]
        if missing:
            yield (
                ("weigh_by", target),
                f"weigh_by must weigh every source of {target}: {', '.join(missing)} missing",
                "",
            )


def other_plms(experiment: Experiment) -> Broken:
    """Methods that need another PLM have it."""
    for key in ("teacher_plm", "source_plm"):
        if (methods := experiment.needs(key)) and getattr(experiment, key) is None:
            yield ("methods",), f"methods {', '.join(methods)} need another PLM: add `{key}: {{from: ...}}`", ""


def projector_tasks(experiment: Experiment) -> Broken:
    """The tasks of the projector are sources, no mixtures, each once."""
    if not experiment.projecting:
        return
    repeated = [name for name, count in Counter(experiment.projector.tasks).items() if count > 1]
    if repeated:
        yield (
            ("projector", "tasks"),
            f"each task trains the projector once, but {', '.join(repeated)} is listed more than once",
            "list it once",
        )
    strangers = [name for name in experiment.projector.tasks if name not in experiment.sources]
    strangers += [name for name in experiment.projector.tasks if name in {*experiment.mixtures, *experiment.imported}]
    if strangers:
        yield (
            ("projector", "tasks"),
            f"a projector needs a prompt of each task on both PLMs, and {', '.join(strangers)} is none of the source tasks",
            "name source tasks, no mixtures and no imported prompts"
            if experiment.imported
            else "name source tasks, no mixtures",
        )


def sources_of_methods(experiment: Experiment) -> Broken:
    """Methods that transfer have sources, for every target."""
    needs = experiment.needs_source
    if needs and not experiment.sources:
        yield ("methods",), f"methods {', '.join(needs)} need sources: add `sources: [...]`", ""
    unpaired = [
        name for name in experiment.targets if needs and experiment.sources and not sources_of(experiment, name)
    ]
    if unpaired:
        yield (
            ("sources",),
            f"no source is left for target {', '.join(unpaired)} (a task never is its own source: self_pairs: include)",
            "",
        )


RULES: tuple[Callable[[Experiment], Broken], ...] = (
    own_tasks, weights_of_targets, other_plms, projector_tasks, sources_of_methods,
)  # fmt: skip
