"""Texts shared between sources' train rows and targets' report rows."""

from collections.abc import Iterator, Mapping

import numpy as np

from panda_trainable.library import PromptLibrary
from tuning.experiment.experiment import Experiment, may_teach, sources_of
from tuning.experiment.problems import Problem
from tuning.planning.plan import Plan

Shared = Mapping[tuple[str, str], int]
"""(source, target) -> how many texts of the source's train rows stand in the target's report rows, where some do."""


def shared_texts(library: PromptLibrary, plan: Plan) -> dict[tuple[str, str], int]:
    """The texts that sources share with the targets they may serve, as partners and in projectors too."""
    from panda_trainable.data.overlap import split_text_hashes  # torch is imported late

    shared = {}
    experiment, limit = plan.experiment, plan.setting.limit.train
    partners = [(name, target) for target in experiment.targets for name in only_weighed(experiment, target)]
    targets = experiment.targets if experiment.projecting else []
    projected = [(name, target) for target in targets for name in projected_for(experiment, target)]
    for source, target in dict.fromkeys([*plan.measured, *partners, *projected]):
        task = plan.tasks[target]
        ours = [split_text_hashes(library, each, "train", limit) for each in plan.source(source).tasks if each != task]
        theirs = split_text_hashes(library, task, task.report_split, None)
        if count := len(np.intersect1d(np.concatenate([theirs[:0], *ours]), theirs)):
            shared[source, target] = count
    return shared


def overlap_problems(plan: Plan, shared: Shared) -> Iterator[Problem]:
    """What an experiment refuses of the texts that are shared, and where it cannot drop them."""
    experiment = plan.experiment
    imported = [pair for pair in shared if not all(task.origin.has_rows for task in plan.source(pair[0]).tasks)]
    if imported and experiment.overlap == "drop":
        sources = ", ".join(sorted({source for source, _ in imported}))
        targets = ", ".join(target for _, target in imported)
        yield Problem(
            "overlap: drop",
            f"the data of imported source {sources} is not here, so that texts it shares with {targets} cannot be dropped",
            remedy="leave the pairs out, or use overlap: warn",
        )
    if shared and experiment.overlap == "refuse":
        pairs = ", ".join(f"{source} and {target} ({count})" for (source, target), count in shared.items())
        yield Problem(
            "overlap: refuse",
            f"texts of train rows of a source stand in report rows of a target: {pairs}",
            remedy="leave the pairs out, or use overlap: drop",
        )
    leaking = [task for name in experiment.targets if (task := plan.tasks[name]).leaked]
    if leaking and experiment.overlap == "refuse":
        told = ", ".join(f"{task.name} ({task.leaked})" for task in leaking)
        yield Problem(
            "overlap: refuse",
            f"report rows of a target stand in its own train rows: {told}",
            remedy="take them out of one of the files, or use overlap: warn",
        )
    alone = [
        target
        for target in (experiment.targets if experiment.projecting else ())
        if projected_for(experiment, target) and not projected_for(experiment, target, shared)
    ]
    if alone:
        yield Problem(
            "projector",
            f"every task shares texts with the report rows of {', '.join(alone)}",
            remedy="name others, or use overlap: warn",
        )


def projected_for(experiment: Experiment, target: str, shared: Shared | None = None) -> list[str]:
    """The tasks that train a target's projector, which must not have seen it: not by shared texts either."""
    dropped = (shared or {}) if experiment.overlap == "drop" else {}
    return [name for name in experiment.projected if name != target and not dropped.get((name, target), 0)]


def only_weighed(experiment: Experiment, target: str) -> list[str]:
    """Sources to which a table gives a weight for a target but `pairs` gives no study: they may be partners."""
    if not isinstance(experiment.weigh_by, dict):
        return []
    paired = sources_of(experiment, target)
    return [
        name
        for name in experiment.weigh_by.get(target, {})
        if name in experiment.sources and name not in paired and may_teach(experiment, name, target)
    ]
