"""Which sources a target should start from: SPoT's library, asked by similarity."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from analysis.findings.retrieval import retrieval_rows
from analysis.records.connection import NoRecords
from analysis.statistics.gains import spread
from panda_trainable.library import PromptLibrary
from tuning.cluster.address import check_address
from tuning.experiment.experiment import Experiment, sources_of
from tuning.experiment.problems import Misuse, Problem, check_target
from tuning.experiment.storage import library_of
from tuning.planning.checks import pairs_without
from tuning.planning.jobs import Job, source_jobs, source_lineage_of, target_jobs, target_lineage_of
from tuning.planning.plan import Plan
from tuning.planning.preflight import preflight
from tuning.run.jobs import source_cards
from tuning.run.progress import CHECKING, Progress
from tuning.run.search import Run


def retrieve(
    experiment: Experiment, target: str, by: str, address: str | None = None, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """The sources of a target, the most similar first; prompts that are missing are trained.

    Args:
        experiment: its file, checked.
        target: one of its targets.
        by: a similarity.
        address: of a running Ray cluster; None starts Ray here.
        progress: where it is shown.

    Returns:
        A row per PLM and source that has the similarity: rank, similarity {mean, std, n} over seeds of early snapshots,
        its own selection score, whether that beats its best constant answer (None of imported prompts), and the folders of its last prompts, one per seed.

    Raises:
        Misuse: before anything starts, for whatever the user must mend.

    Source: SPoT (arXiv:2110.07904): early checkpoints are the library's keys, last ones its values.
    """
    check_address(address)
    check_target(target, experiment.targets)
    if not sources_of(experiment, target):
        raise Misuse(Problem(f"--target {target}", "has no sources to choose from", remedy="add `sources: [...]`"))
    asked = experiment.changed(targets=[target], methods=[], similarities=[by])
    progress = progress or Progress()
    with ExitStack() as stack:
        stack.enter_context(progress)
        library = library_of(asked)
        progress.doing(CHECKING)
        plans, notes = preflight(asked, library)
        for plan in plans:
            _check_defined(plan, target, by)
        run = Run(plans, address, progress, stack)
        for note in notes:
            progress.say(note)
        run.make_prompts(
            "sources and embeddings", [job for plan in plans for job in (*source_jobs(plan), *target_jobs(plan))]
        )
        if not run.failures:
            run.score_pairs()
        if run.failures:
            raise Misuse(*(Problem("failed", failure) for failure in run.failures))
        return [row for plan in plans for row in _ranked(library, plan, target, by)]


def _check_defined(plan: Plan, target: str, by: str) -> None:
    """Refuses a similarity that no source of the target has."""
    why = pairs_without(plan, by)
    if sum(len(pairs) for pairs in why.values()) == len(plan.measured):
        rule = f"is defined for no source of {target}: {'; '.join(why)}"
        raise Misuse(Problem(f"--by {by}", rule, remedy="name another similarity"))


def _ranked(library: PromptLibrary, plan: Plan, target: str, by: str) -> list[dict[str, Any]]:
    from panda_trainable.similarity.readings import seed_similarities

    seeds, early = plan.experiment.train.seeds, plan.experiment.source_train.early_step
    goal = target_lineage_of(plan, plan.tasks[target])
    rows = []
    for job in source_jobs(plan):
        source = source_lineage_of(plan, job.lineage.task).at(early)
        found = seed_similarities(library, [by], source, goal, seeds, plan.experiment.similarity_settings)
        if values := found.get(by):  # a note of the preflight says why it is not defined for a source
            rows.append({"source": job.lineage.task.name, **_similarity(values), **_own(library, job)})
    rows.sort(key=lambda row: (-row["similarity"]["mean"], row["source"]))
    return [
        {"target": target, "plm": plan.setting.plm.label, "rank": i, "by": by, **row} for i, row in enumerate(rows, 1)
    ]


def _similarity(values: Sequence[float]) -> dict[str, Any]:
    return {"similarity": {"mean": float(np.mean(values)), "std": spread(list(values)), "n": len(values)}}


def _own(library: PromptLibrary, job: Job) -> dict[str, Any]:
    cards = list(source_cards(library, job))
    known = all("score" in card for card in cards)  # of an imported prompt nobody knows
    score, majority = (
        float(np.mean([card[name] for card in cards])) if known else None for name in ("score", "majority")
    )
    folders = [str(library.path(job.lineage.kind, job.lineage.key(seed))) for seed in job.seeds]
    return {"own_score": score, "own_majority": majority, "prompts": folders}


def kept(experiment: Experiment, by: str, target: str) -> list[dict[str, Any]]:
    """What taking the best of the top-k sources would have kept of the gain, from the studies; empty before there are any."""
    try:
        return retrieval_rows(experiment.tracking_uri, experiment.name, by, target)
    except NoRecords:
        return []
