"""Sources and embeddings: what is trained before the search, as Ray tasks, and the similarities it gives."""

from collections.abc import Iterator
from typing import Any

from panda_trainable.config.methods import SOURCE_ONLY
from panda_trainable.library import PromptLibrary
from panda_trainable.similarity.readings import mean_similarities
from panda_trainable.similarity.representations import REPRESENTATIONS
from panda_trainable.similarity.target_rows import pair_scores, scores_key
from panda_trainable.transfer.lineage import missing_seeds, tuned
from panda_trainable.worker import single_threaded
from tuning.planning.jobs import KEPT, Job, ScoreJob, source_lineage_of, target_lineage_of
from tuning.planning.plan import Plan


def is_made(library: PromptLibrary, job: Job) -> bool:
    """Whether nothing of a job is left to do."""
    if missing_seeds(library, job.lineage, job.seeds, [job.lineage.steps, *job.also]):
        return False
    kept = [KEPT[kind] for kind in job.reads]
    return all(
        library.sound(kind, key(job.early, seed, job.similarity_settings)) for kind, key in kept for seed in job.seeds
    )


def make(library: PromptLibrary, job: Job) -> None:
    """Trains a job's prompts, and keeps what similarities read of them. Runs on a worker."""
    single_threaded()
    tuned(library, job.lineage, job.seeds, job.also)
    for seed in job.seeds:
        for kind in job.reads:
            REPRESENTATIONS[kind](library, job.early, seed, job.similarity_settings)


def is_scored(library: PromptLibrary, job: ScoreJob) -> bool:
    """Whether nothing of a pair is left to score."""
    return all(library.sound("scores", scores_key(job.source, job.target, seed)) for seed in job.seeds)


def score(library: PromptLibrary, job: ScoreJob) -> None:
    """Keeps a pair's scores, for all seeds. Runs on a worker."""
    single_threaded()
    for seed in job.seeds:
        pair_scores(library, job.source, job.target, seed)


def measure(library: PromptLibrary, plan: Plan) -> dict[tuple[str, str], dict[str, float]]:
    """All similarities of all pairs, and the trivial baselines, mean over seeds; what they compare must be made."""
    names, seeds = list(dict.fromkeys([*plan.experiment.similarities, *SOURCE_ONLY])), plan.experiment.train.seeds
    early = plan.experiment.source_train.early_step
    measured = {
        (source, target): mean_similarities(
            library, names, source_lineage_of(plan, plan.source(source)).at(early),
            target_lineage_of(plan, plan.tasks[target]), seeds, plan.experiment.similarity_settings,
        )
        for source, target in plan.measured
    }  # fmt: skip
    # Rounded, since keys of studies hold them: noise of another machine must not make other studies.
    return {pair: {name: round(value, 6) for name, value in values.items()} for pair, values in measured.items()}


def source_cards(library: PromptLibrary, job: Job) -> Iterator[dict[str, Any]]:
    """The cards of a source's prompts, one per seed: score and majority beside it; an imported one has one card, without them."""
    import json

    for key in dict.fromkeys(map(job.lineage.key, job.seeds)):
        folder = library.get(job.lineage.kind, key)
        yield json.loads((folder / "card.json").read_text(encoding="utf-8"))
