"""Sources and embeddings: what is trained before the search, as Ray tasks, and the similarities it gives."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panda_trainable.data import replica_rows
from panda_trainable.encoder import load_encoder
from panda_trainable.library import PromptLibrary
from panda_trainable.similarity import mean_similarities, task_embedding
from panda_trainable.teachers import Lineage, missing_seeds, tuned_prompts
from panda_trainable.trainable import single_threaded
from tuning.experiment import Misuse
from tuning.plan import Plan


@dataclass(frozen=True)
class Job:
    """A stacked run that leaves prompts: a source, or a target for its embedding.

    Attributes:
        lineage: the last state.
        seeds: replicas.
        also: further steps to keep: the early snapshot.
        embeds: the lineages of which the task embedding is wanted too.
    """

    lineage: Lineage
    seeds: tuple[int, ...]
    also: tuple[int, ...]
    embeds: bool

    @property
    def early(self) -> Lineage:
        """The snapshot that similarities compare."""
        return self.lineage.at(min(self.also, default=self.lineage.steps))


def source_jobs(plan: Plan) -> list[Job]:
    """The source prompts of the plan."""
    train = plan.experiment.source_train
    seeds = tuple(plan.experiment.train.seeds)
    return [
        Job(Lineage(plan.setting, task, train.steps, train.learning_rate), seeds, (train.early_step,), embeds=True)
        for task in plan.sources
    ]


def target_jobs(plan: Plan) -> list[Job]:
    """A short plain tuning of each target that is compared with sources."""
    train = plan.experiment.source_train
    names = dict.fromkeys(target for _, target in plan.measured)
    seeds = tuple(plan.experiment.train.seeds)
    return [
        Job(Lineage(plan.setting, plan.tasks[name], train.early_step, train.learning_rate), seeds, (), embeds=True)
        for name in names
    ]


def prepare(library: PromptLibrary, plan: Plan) -> None:
    """Refuses what no worker could train, before anything starts; leaves the train tables tokenised.

    Raises:
        Misuse: if the PLM takes no prefix or too few tokens, or a task's rows cannot be split.
    """
    problems = []
    try:
        encoder = load_encoder(plan.setting.plm)
        encoder.check_room(plan.setting.prompt_length, plan.setting.max_length)
    except ValueError as error:
        problems.append(str(error))
    seeds = (*plan.experiment.train.seeds, *plan.experiment.confirm.seeds)
    for task in plan.tasks.values():
        try:
            for seed in seeds:
                replica_rows(library, plan.setting, task, seed)
        except ValueError as error:
            problems.append(f"task {task.name}: {error}")
    load_encoder.cache_clear()  # the driver needs it no more
    if problems:
        raise Misuse("\n".join(problems))


def is_made(library: PromptLibrary, job: Job) -> bool:
    """Whether nothing of a job is left to do."""
    return not missing_seeds(library, job.lineage, job.seeds, [job.lineage.steps, *job.also])


def make(root: str, job: Job) -> None:
    """Trains a job's prompts and embeds its task. Runs on a worker."""
    single_threaded()
    library = PromptLibrary(Path(root))
    tuned_prompts(library, job.lineage, job.seeds, job.also)
    if job.embeds:
        for seed in job.seeds:
            task_embedding(library, job.early, seed)


def measure(library: PromptLibrary, plan: Plan) -> dict[tuple[str, str], dict[str, float]]:
    """All similarities of all pairs, mean over seeds; what they compare must be made."""
    train, seeds = plan.experiment.source_train, plan.experiment.train.seeds

    def early(name: str) -> Lineage:
        return Lineage(plan.setting, plan.tasks[name], train.early_step, train.learning_rate)

    names = plan.experiment.similarities
    measured = {
        pair: mean_similarities(library, names, early(pair[0]), early(pair[1]), seeds) for pair in plan.measured
    }
    # Rounded, since keys of studies hold them: noise of another machine must not make other studies.
    return {pair: {name: round(value, 6) for name, value in values.items()} for pair, values in measured.items()}


def source_cards(library: PromptLibrary, job: Job) -> Iterator[dict[str, Any]]:
    """The cards of a source's prompts, one per seed: score and majority beside it."""
    import json

    for seed in job.seeds:
        folder = library.get(job.lineage.kind, job.lineage.key(seed))
        yield json.loads((folder / "card.json").read_text(encoding="utf-8"))
