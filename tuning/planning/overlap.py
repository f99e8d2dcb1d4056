"""Texts shared between sources' train rows and targets' report rows."""

from collections.abc import Mapping

import numpy as np

from panda_trainable.library import PromptLibrary
from tuning.experiment.experiment import Experiment, may_teach, sources_of
from tuning.experiment.problems import Misuse
from tuning.planning.plan import Plan


def shared_texts(library: PromptLibrary, plan: Plan) -> dict[tuple[str, str], int]:
    """(source, target) -> how many texts of the source's train rows stand in the target's report rows.

    Raises:
        Misuse: if there are some and the experiment refuses them.
    """
    from panda_trainable.data.overlap import used_texts  # torch is imported late

    found = {}
    experiment = plan.experiment
    partners = [(name, target) for target in experiment.targets for name in only_weighed(experiment, target)]
    taught = [
        (n, t) for t in experiment.targets if experiment.needs("source_plm") for n in projected_for(experiment, t)
    ]
    for source, target in dict.fromkeys([*plan.measured, *partners, *taught]):
        task, limit = plan.tasks[target], plan.setting.limit.train
        mine = [used_texts(library, each, "train", limit) for each in plan.source(source).tasks if each != task]
        theirs = used_texts(library, task, task.report_split, None)
        if count := len(np.intersect1d(np.concatenate([theirs[:0], *mine]), theirs)):
            found[source, target] = count
    foreign = [pair for pair in found if not all(task.origin.has_rows for task in plan.source(pair[0]).tasks)]
    if foreign and plan.experiment.overlap == "drop":
        raise Misuse(
            f"the data of imported source {', '.join(sorted({source for source, _ in foreign}))} is not here, so that texts it "
            f"shares with {', '.join(target for _, target in foreign)} cannot be dropped; leave the pairs out, or use overlap: warn"
        )
    if found and plan.experiment.overlap == "refuse":
        said = [f"{source} and {target} ({count})" for (source, target), count in found.items()]
        raise Misuse(
            f"overlap: refuse, and texts of train rows of a source stand in report rows of a target: {', '.join(said)}; "
            "leave the pairs out, or use overlap: drop"
        )
    alone = [
        t for t in experiment.targets if experiment.needs("source_plm") and not projected_for(experiment, t, found)
    ]
    if alone:
        raise Misuse(
            f"projector: every task shares texts with the report rows of {', '.join(alone)}; name others, or use overlap: warn"
        )
    return found


def projected_for(
    experiment: Experiment, target: str, shared: Mapping[tuple[str, str], int] | None = None
) -> list[str]:
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
