"""Sources and embeddings: what is trained before the search, as Ray tasks, and the similarities it gives."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from panda_trainable.config import Measuring, Setting
from panda_trainable.data import replica_rows
from panda_trainable.encoder import load_encoder, release_encoder
from panda_trainable.initialisers import read_prompt
from panda_trainable.library import PromptLibrary
from panda_trainable.neurons import USUAL, check_neurons, neurons_key
from panda_trainable.plm import load_tokenizer
from panda_trainable.rows import imbalance
from panda_trainable.similarity import REPRESENTATIONS, SIMILARITIES, check_layer, embedding_key, mean_similarities
from panda_trainable.tasks import Mixture, TaskSpec
from panda_trainable.teachers import Lineage, check_places, missing_seeds, tuned
from panda_trainable.tokens import texts_key, token_table
from panda_trainable.trainable import single_threaded
from tuning.experiment import Experiment, Misuse
from tuning.locate import make_plans
from tuning.losses import asking, weak_losses
from tuning.plan import Plan, shared_texts
from tuning.sharing import IMPORTED, source_artefacts

TOLD_TRUNCATED = 0.05
"""Share of truncated train rows from which a user is told."""
PLACED = ("tagging", "extractive_qa")
"""Kinds of tasks that are answered place by place."""


KEPT: Mapping[str, tuple[str, Callable[[Lineage, int, Measuring], str]]] = MappingProxyType(
    {"embedding": ("embeddings", embedding_key), "neurons": ("neurons", neurons_key)}
)
"""What similarities read that needs the PLM -> its folder of the library, and its key."""


@dataclass(frozen=True)
class Job:
    """A stacked run that leaves prompts: a source, or a target for its embedding.

    Attributes:
        lineage: the last state.
        seeds: replicas.
        also: further steps to keep: the early snapshot.
        reads: what similarities read of its early snapshot, and is kept: of KEPT.
        measuring: how.
    """

    lineage: Lineage
    seeds: tuple[int, ...]
    also: tuple[int, ...]
    reads: tuple[str, ...] = ()
    measuring: Measuring = USUAL

    @property
    def early(self) -> Lineage:
        """The snapshot that similarities compare."""
        return self.lineage.at(min(self.also, default=self.lineage.steps))


def source_lineage_of(plan: Plan, task: TaskSpec | Mixture) -> Lineage:
    """A source prompt's last state."""
    train = plan.experiment.source_train
    return Lineage(plan.setting.of_sources, task, train.steps, train.learning_rate)


def source_jobs(plan: Plan) -> list[Job]:
    """The source prompts of the plan."""
    seeds, early = tuple(plan.experiment.train.seeds), plan.experiment.source_train.early_step
    return [Job(source_lineage_of(plan, task), seeds, (early,), *_measured(plan)) for task in plan.sources]


def _measured(plan: Plan) -> tuple[tuple[str, ...], Measuring]:
    """What the plan's similarities read, and how."""
    reads = dict.fromkeys(SIMILARITIES[name].reads for name in plan.experiment.similarities)
    return tuple(kind for kind in reads if kind in KEPT), plan.experiment.measuring


def target_lineage_of(plan: Plan, task: TaskSpec) -> Lineage:
    """A short plain tuning of a target, for its embedding."""
    train = plan.experiment.source_train
    return Lineage(plan.setting.of_targets, task, train.early_step, train.learning_rate)


def target_jobs(plan: Plan) -> list[Job]:
    """A short plain tuning of each target that is compared with sources."""
    seeds = tuple(plan.experiment.train.seeds)
    names = dict.fromkeys(target for _, target in plan.measured)
    return [Job(target_lineage_of(plan, plan.tasks[name]), seeds, (), *_measured(plan)) for name in names]


def prepared(
    experiment: Experiment, library: PromptLibrary, *, searches: bool = True
) -> tuple[tuple[Plan, ...], list[str]]:
    """The plans of an experiment, a PLM each, and what a user should know of the tasks.

    Refuses what no worker could train, before anything starts; leaves the train tables tokenised.

    Args:
        experiment: its file, checked.
        library: where token tables are kept.
        searches: whether similarities will be measured and winners confirmed, or one configuration trained.

    Raises:
        Misuse: with all that is wrong with files, PLMs, tasks and settings.
    """
    problems: list[str] = []
    notes: list[str] = []
    with ExitStack() as stack:
        try:
            plans = make_plans(experiment)
        except Misuse as refused:
            problems += str(refused).splitlines()
            plans = refused.plans  # what of it can be checked further, without writing into the storage
            library = PromptLibrary(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        for plan in plans:
            try:
                notes += prepare(library, plan, searches=searches)
            except Misuse as refused:
                problems += str(refused).splitlines()
    if problems:
        raise Misuse("\n".join(dict.fromkeys(problems)))
    return plans, list(dict.fromkeys(notes))


def prepare(library: PromptLibrary, plan: Plan, *, searches: bool = True) -> list[str]:
    """What a user should know of a plan's tasks: truncated texts, classes far apart in size.

    Raises:
        Misuse: if the PLM takes no such prompt or too few tokens, or a task's rows cannot be split.
    """
    measured = plan.experiment.similarities if searches else []
    problems = list(_problems_of_plm(plan.setting, plan.experiment.measuring, measured))
    for other in plan.settings[1:]:
        problems += _problems_of_plm(other, plan.experiment.measuring, [])
    if problems and any("cannot be loaded" in problem or "tokenizer" in problem for problem in problems):
        raise Misuse("\n".join(problems))
    notes = list(weak_losses(plan)) if set(plan.experiment.members) <= set(plan.tasks) else []
    for method in dict.fromkeys(pair.method for pair in plan.left_out):
        names = [pair.name.removesuffix(f" · {method}") for pair in plan.left_out if pair.method == method]
        notes.append(f"{method} is left out where source and target have other classes: {', '.join(names)}")
    for task in plan.tasks.values():
        try:
            notes += _checked_rows(library, plan, task, searches=searches)
        except ValueError as error:
            problems.append(f"task {task.name}: {error}")
    try:
        problems += _problems_of_dropped(library, plan)
    except Misuse as refused:
        problems.append(str(refused))
    if problems:
        raise Misuse("\n".join(problems))
    return notes


def _problems_of_plm(setting: Setting, measuring: Measuring, similarities: Sequence[str]) -> Iterator[str]:
    """Why a PLM cannot be used, or measured, as the plan asks."""
    try:
        encoder = load_encoder(setting.plm)
        shape = encoder.prompt_shape(setting.prompt_length, setting.prompt_form)
        known = len(encoder.model.get_input_embeddings().weight)
        if (needed := max(load_tokenizer(setting.plm).get_vocab().values()) + 1) > known:
            yield f"PLM {setting.plm.source!r}: its tokenizer has ids up to {needed - 1}, but the model embeds {known}"
        encoder.check_room(setting.prompt_length, setting.max_length, setting.prompt_form)
        if setting.init.kind == "file":
            read_prompt(Path(setting.init.file), shape)
        if "on" in similarities:
            check_neurons(encoder, measuring.window)
        if "task_embedding" in similarities:
            check_layer(setting.plm, measuring.layer)
    except ValueError as error:
        yield str(error)
    finally:
        release_encoder()  # the driver needs it no more


def _problems_of_dropped(library: PromptLibrary, plan: Plan) -> Iterator[str]:
    """Sources of which a class would be lost with the texts that a target's report rows share."""
    here = {name for name, task in plan.tasks.items() if not task.path.startswith(IMPORTED)}
    if not set(plan.experiment.members) <= set(plan.tasks):
        return  # of a plan that is refused anyway
    limit = plan.setting.limit_train
    if not all(
        library.sound("texts", texts_key(task, "train", limit)) for name, task in plan.tasks.items() if name not in here
    ):
        return  # of an imported source too much is missing, and is told
    for source, target in shared_texts(library, plan):
        members = [task for task in plan.source(source).tasks if task.name in here and task.name != target]
        if plan.experiment.overlap != "drop":
            continue
        try:
            for task in members:
                for seed in (*plan.experiment.train.seeds, *plan.experiment.confirm.seeds):
                    replica_rows(library, plan.setting.of_sources, task, seed, plan.tasks[target])
        except ValueError as error:
            yield f"task {source}: {error}"


def _checked_rows(library: PromptLibrary, plan: Plan, task: TaskSpec, *, searches: bool) -> Iterator[str]:
    """Splits a task's rows as every seed will, in the roles that it has."""
    experiment, setting = plan.experiment, plan.setting
    if task.path.startswith(IMPORTED):
        missing = [
            kind for kind, key in source_artefacts(plan, task, searches=searches) if not library.sound(kind, key)
        ]
        if missing:
            raise ValueError(
                f"its data is not here, and of its imported prompts {len(missing)} artefacts are missing for these settings "
                f"and seeds ({', '.join(sorted(set(missing)))}); use the settings they were made with, or bring the data"
            )
        return
    table = token_table(library, setting, task, "train")
    counts = dict(task.counts).get("train", ())
    lost = [name for i, name in enumerate(task.strata) if counts[i] and not (table.labels == i).any()]
    if lost:
        raise ValueError(f"limit.train {setting.limit_train} leaves no row of class {', '.join(lost)}; raise it")
    roles = [setting.of_targets] if task.name in experiment.targets else []
    roles += [setting.of_sources] if any(task in source.tasks for source in plan.sources) else []
    for role in dict.fromkeys(roles):
        for seed in (*experiment.train.seeds, *experiment.confirm.seeds):
            rows = replica_rows(library, role, task, seed)
            if len(rows.train) < setting.batch_size:
                raise ValueError(
                    f"train.batch_size {setting.batch_size} is more than the {len(rows.train)} rows that are left to train on; "
                    "lower it"
                )
    taught = set(asking(experiment, "lambda")) & set(experiment.needs("teacher_plm"))
    if plan.teacher_plm and taught and task.name in experiment.targets and task.kind in PLACED:
        check_places(library, setting, replace(setting, plm=plan.teacher_plm), task)
    if table.truncated >= TOLD_TRUNCATED:
        yield f"{task.name}: {table.truncated:.0%} of its train rows are cut at {setting.max_length} tokens"
    if said := imbalance(task):
        yield said


def is_made(library: PromptLibrary, job: Job) -> bool:
    """Whether nothing of a job is left to do."""
    if missing_seeds(library, job.lineage, job.seeds, [job.lineage.steps, *job.also]):
        return False
    kept = [KEPT[kind] for kind in job.reads]
    return all(library.sound(kind, key(job.early, seed, job.measuring)) for kind, key in kept for seed in job.seeds)


def make(root: str, job: Job) -> None:
    """Trains a job's prompts, and keeps what similarities read of them. Runs on a worker."""
    single_threaded()
    library = PromptLibrary(Path(root))
    tuned(library, job.lineage, job.seeds, job.also)
    for seed in job.seeds:
        for kind in job.reads:
            REPRESENTATIONS[kind](library, job.early, seed, job.measuring)


def measure(library: PromptLibrary, plan: Plan) -> dict[tuple[str, str], dict[str, float]]:
    """All similarities of all pairs, mean over seeds; what they compare must be made."""
    names, seeds = plan.experiment.similarities, plan.experiment.train.seeds
    early = plan.experiment.source_train.early_step
    measured = {
        (source, target): mean_similarities(
            library, names, source_lineage_of(plan, plan.source(source)).at(early),
            target_lineage_of(plan, plan.tasks[target]), seeds, plan.experiment.measuring,
        )
        for source, target in plan.measured
    }  # fmt: skip
    # Rounded, since keys of studies hold them: noise of another machine must not make other studies.
    return {pair: {name: round(value, 6) for name, value in values.items()} for pair, values in measured.items()}


def source_cards(library: PromptLibrary, job: Job) -> Iterator[dict[str, Any]]:
    """The cards of a source's prompts, one per seed: score and majority beside it."""
    import json

    for seed in job.seeds:
        folder = library.get(job.lineage.kind, job.lineage.key(seed))
        yield json.loads((folder / "card.json").read_text(encoding="utf-8"))
