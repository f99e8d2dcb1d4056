"""Checks of a plan before anything starts."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from panda_trainable.config.setting import Setting, SimilaritySettings
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.overlap import texts_key
from panda_trainable.data.rows import imbalance
from panda_trainable.data.splits import replica_rows
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.files import load_tokenizer
from panda_trainable.prompt.initialisers import read_prompt
from panda_trainable.similarity.neurons import check_neurons
from panda_trainable.similarity.representations import check_layer
from panda_trainable.transfer.teachers import check_places
from panda_trainable.worker import load_encoder, release_encoder
from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Misuse
from tuning.planning.imported import source_artefacts
from tuning.planning.losses import asking, weak_losses
from tuning.planning.overlap import shared_texts
from tuning.planning.plan import Plan
from tuning.planning.resolve import make_plans

TOLD_TRUNCATED = 0.05
"""Share of truncated train rows from which a user is told."""
PLACED = ("tagging", "extractive_qa")
"""Kinds of tasks that are answered place by place."""


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
    problems = list(_problems_of_plm(plan.setting, plan.experiment.similarity_settings, measured))
    for other in plan.settings[1:]:
        problems += _problems_of_plm(other, plan.experiment.similarity_settings, [])
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


def _problems_of_plm(
    setting: Setting, similarity_settings: SimilaritySettings, similarities: Sequence[str]
) -> Iterator[str]:
    """Why a PLM cannot be used, or measured, as the plan asks."""
    try:
        encoder = load_encoder(setting.plm)
        shape = encoder.prompt_shape(setting.prompt.length, setting.prompt.form)
        known = len(encoder.model.get_input_embeddings().weight)
        if (needed := max(load_tokenizer(setting.plm).get_vocab().values()) + 1) > known:
            yield f"PLM {setting.plm.source!r}: its tokenizer has ids up to {needed - 1}, but the model embeds {known}"
        encoder.check_room(setting.prompt.length, setting.train.max_length, setting.prompt.form)
        if setting.prompt.init.kind == "file":
            read_prompt(Path(setting.prompt.init.file), shape)
        if "on" in similarities:
            check_neurons(encoder, similarity_settings.neurons.layers)
        if "task_embedding" in similarities:
            check_layer(setting.plm, similarity_settings.embedding.layer)
    except ValueError as error:
        yield str(error)
    finally:
        release_encoder()  # the driver needs it no more


def _problems_of_dropped(library: PromptLibrary, plan: Plan) -> Iterator[str]:
    """Sources of which a class would be lost with the texts that a target's report rows share."""
    here = {name for name, task in plan.tasks.items() if task.origin.has_rows}
    if not set(plan.experiment.members) <= set(plan.tasks):
        return  # of a plan that is refused anyway
    limit = plan.setting.limit.train
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
    if not task.origin.has_rows:
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
        raise ValueError(f"limit.train {setting.limit.train} leaves no row of class {', '.join(lost)}; raise it")
    roles = [setting.of_targets] if task.name in experiment.targets else []
    roles += [setting.of_sources] if any(task in source.tasks for source in plan.sources) else []
    for role in dict.fromkeys(roles):
        for seed in (*experiment.train.seeds, *experiment.confirm.seeds):
            rows = replica_rows(library, role, task, seed)
            if len(rows.train) < setting.train.batch_size:
                raise ValueError(
                    f"train.batch_size {setting.train.batch_size} is more than the {len(rows.train)} rows that are left to train on; "
                    "lower it"
                )
    taught = set(asking(experiment, "lambda")) & set(experiment.needs("teacher_plm"))
    if plan.teacher_plm and taught and task.name in experiment.targets and task.kind in PLACED:
        check_places(library, setting, replace(setting, plm=plan.teacher_plm), task)
    if table.truncated >= TOLD_TRUNCATED:
        yield f"{task.name}: {table.truncated:.0%} of its train rows are cut at {setting.train.max_length} tokens"
    if said := imbalance(task):
        yield said
