"""What must hold of PLMs, tasks and plans before anything starts: each a function that gives problems and notes.

A check refuses by a Problem, or by the ValueError of what it tries; a text is a note for the user.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from panda_trainable.config.given import GivenPrompt
from panda_trainable.config.kinds import TEXT_ANSWERS, TOKEN_LEVEL
from panda_trainable.config.methods import TRAITS
from panda_trainable.config.setting import InitSettings, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.rows import imbalance
from panda_trainable.data.splits import replica_rows
from panda_trainable.data.tokens import TokenTable, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.asking import asking_problems
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.pretrained.files import load_config, load_tokenizer
from panda_trainable.prompt.initialisers import read_prompt
from panda_trainable.similarity.neurons import check_neurons
from panda_trainable.similarity.readings import undefined
from panda_trainable.similarity.representations import check_layer
from panda_trainable.transfer.shared_words import shared_words
from panda_trainable.transfer.teachers import check_places
from panda_trainable.worker import device, load_encoder
from tuning.experiment.problems import Problem, problems_of
from tuning.planning.imported import given_problems, source_artefacts
from tuning.planning.jobs import source_lineage_of, target_lineage_of
from tuning.planning.losses import methods_weighing, weak_losses
from tuning.planning.overlap import overlap_problems, shared_texts
from tuning.planning.plan import Plan

Finding = Problem | str
"""What is wrong; or a note of what is allowed but worth knowing."""

NOTED_TRUNCATION = 0.05
"""Share of truncated train rows from which a user is told."""
MOST_COUNTED = 9
"""A seed alone up to this number may be meant as a count of seeds."""

NAMED_PAIRS = 3
"""Pairs that a note names at most."""
FROM_NOISE = ("normal", "uniform", "uniform_positive", "zeros", "sparse")
"""Initialisers that know nothing of the PLM's words."""
FEWEST_ANCHORS = 10
"""Shared words below which similarities to them tell nothing of a prompt."""


@dataclass(frozen=True)
class Checked:
    """What is checked, and for what.

    Attributes:
        library: where token tables are kept.
        plan: of one PLM; where its experiment is refused already, what is right of it.
        searches: whether similarities will be measured and winners confirmed, or one configuration trained.
    """

    library: PromptLibrary
    plan: Plan
    searches: bool


def config_loads(_: Checked, setting: Setting) -> None:
    """The PLM's config can be read."""
    load_config(setting.plm)


def tokenizer_loads(_: Checked, setting: Setting) -> None:
    """The PLM has a tokenizer."""
    load_tokenizer(setting.plm)


def encoder_loads(_: Checked, setting: Setting) -> None:
    """The PLM has all weights, as many layers as are asked for, is an encoder, and trains in the precision."""
    _encoder(setting)


def _encoder(setting: Setting) -> FrozenEncoder:
    """The encoder as trials will run it; what a CPU cannot do in bf16, a GPU may."""
    return load_encoder(setting.plm, precision=setting.train.precision if device() == "cpu" else "float32")


def tokens_have_embeddings(_: Checked, setting: Setting) -> Iterator[Finding]:
    """The tokenizer is that of the model."""
    embedded = len(_encoder(setting).model.get_input_embeddings().weight)
    largest = max(load_tokenizer(setting.plm).get_vocab().values())
    if largest >= embedded:
        yield Problem(
            _plm(setting), f"its tokenizer has ids up to {largest}, but the model embeds {embedded}",
            remedy="put the tokenizer files of this model into its folder",
        )  # fmt: skip


def prompt_form_fits(_: Checked, setting: Setting) -> None:
    """The PLM takes prompts of the form."""
    _encoder(setting).prompt_shape(setting.prompt.length, setting.prompt.form)


def positions_suffice(checked: Checked, setting: Setting) -> Iterator[Finding]:
    """Prompt, text and the text that answers are together no longer than the PLM's positions; so is what a decoder reads."""
    encoder, in_text = _encoder(setting), any(task.readout in TEXT_ANSWERS for task in checked.plan.tasks.values())
    most = setting.train.max_answer if in_text else 0
    behind = most if setting.plm.kind == "causal_lm" else 0
    encoder.check_room(setting.prompt.length, setting.train.max_length, setting.prompt.form, behind)
    if setting.plm.kind == "seq2seq_lm" and encoder.max_tokens is not None and most > encoder.max_tokens:
        rule = f"train.max_answer {most} is over the {encoder.max_tokens} positions of its decoder"
        yield Problem(_plm(setting), rule, remedy="lower it")


def initial_prompt_fits(_: Checked, setting: Setting) -> None:
    """The file to start from holds a prompt of the shape."""
    if setting.prompt.init.kind == "file":
        shape = _encoder(setting).prompt_shape(setting.prompt.length, setting.prompt.form)
        read_prompt(Path(setting.prompt.init.file), shape)


def start_of_language_models(checked: Checked, setting: Setting) -> Iterator[Finding]:
    """Notes where prompts start where a language model's own head answers: nothing but the prompt is trained there."""
    init = setting.prompt.init
    plan = checked.plan
    if setting == plan.setting and plan.experiment.prompt.init is None and init != InitSettings():
        yield f"input prompts start from {init.kind}, since {setting.plm.label} answers with its own head: prompt.init names another start"
    if setting.plm.has_own_head and setting.prompt.init.kind in FROM_NOISE:
        yield (
            f"{setting.plm.label} answers with its own head, and prompts start from {setting.prompt.init.kind}: "
            "prompt.init vocabulary or text is usual there, and mostly better"
        )


def neurons_can_be_compared(checked: Checked, setting: Setting) -> None:
    """The similarity `on` finds the neurons of the PLM's layers."""
    if _measures(checked, setting, "on"):
        check_neurons(_encoder(setting), checked.plan.experiment.similarity_settings.neurons.layers)


def embedded_layer_exists(checked: Checked, setting: Setting) -> None:
    """Task embeddings average a layer that the PLM has."""
    if _measures(checked, setting, "task_embedding"):
        check_layer(setting.plm, checked.plan.experiment.similarity_settings.embedding.layer)


def similarities_are_defined(checked: Checked, plan: Plan) -> Iterator[Finding]:
    """Every pair has the similarity that weighs it; notes pairs that have no value of another one."""
    experiment = plan.experiment
    weighing = [m for m in experiment.needs_source if TRAITS[m].weighs_sources and TRAITS[m].sources != "none"]
    for name in experiment.similarities if checked.searches else ():
        for why, pairs in pairs_without(plan, name).items():
            shown = ", ".join(pairs[:NAMED_PAIRS]) + f" and {len(pairs) - NAMED_PAIRS} more" * (
                len(pairs) > NAMED_PAIRS
            )
            if name == experiment.weigh_by and weighing:
                rule = f"{name} is to weigh the sources of {', '.join(weighing)}, and is not defined for {shown}: {why}"
                yield Problem("weigh_by", rule, remedy="name another similarity, or none")
            else:
                yield f"{name} is not measured for {shown}: {why}"


def pairs_without(plan: Plan, name: str) -> dict[str, list[str]]:
    """Why -> the pairs that have no value of a similarity, by name."""
    found: dict[str, list[str]] = {}
    for source, target in plan.measured:
        lineages = source_lineage_of(plan, plan.source(source)), target_lineage_of(plan, plan.tasks[target])
        if why := undefined(name, *lineages, plan.experiment.similarity_settings):
            found.setdefault(why, []).append(f"{target} ← {source}")
    return found


def _measures(checked: Checked, setting: Setting, similarity: str) -> bool:
    """Whether a similarity is measured on a PLM: similarities are those of the plan's own PLM."""
    own = setting.plm == checked.plan.setting.plm
    return own and checked.searches and similarity in checked.plan.experiment.similarities


def one_seed_may_be_meant_as_count(_: Checked, plan: Plan) -> Iterator[Finding]:
    """A number alone is the one seed of that number, not how many there are."""
    given = {"train.seeds": plan.experiment.train.seeds, "confirm.seeds": plan.experiment.confirm.seeds}
    for key, seeds in given.items():
        if len(seeds) == 1 and 1 < seeds[0] <= MOST_COUNTED:
            count, first = seeds[0], 0 if key.startswith("train") else 10
            several = list(range(first, first + count))
            yield f"{key} is the one seed {count}; for {count} seeds write {several}"


def words_fit(checked: Checked, task: TaskSpec) -> Iterator[Finding]:
    """The template and label words of a task suit the language models that are asked."""
    for setting in checked.plan.settings:
        try:
            wording = task.on(setting.plm).asked
        except ValueError:
            continue  # told by `resolve`, of the tasks that this PLM is asked
        for rule in asking_problems(load_tokenizer(setting.plm), setting.plm.kind, wording) if wording else ():
            yield Problem(f"task {task.name}", f"{setting.plm.label}: {rule}")


def _plm(setting: Setting) -> str:
    return f"PLM {setting.plm.source!r}"


def imported_prompts_are_whole(checked: Checked, task: TaskSpec) -> Iterator[Finding]:
    """Of a source without data all prompts that are needed were imported."""
    needed = source_artefacts(checked.plan, task, searches=checked.searches) if not task.origin.has_rows else ()
    missing = [kind for kind, key in needed if not checked.library.sound(kind, key)]
    if missing:
        rule = (
            f"its data is not here, and of its imported prompts {len(missing)} artefacts are missing for these settings "
            f"and seeds ({', '.join(sorted(set(missing)))})"
        )
        yield Problem(f"task {task.name}", rule, remedy="use the settings they were made with, or bring the data")


def given_prompts_fit(checked: Checked, plan: Plan) -> Iterator[Finding]:
    """Imported prompts are whole, and of the form and length of the experiment; notes that their texts are not known."""
    yield from given_problems(checked.library, plan)
    if names := [source.name for source in plan.sources if isinstance(source, GivenPrompt)]:
        yield (
            f"nothing is known of what {', '.join(names)} was trained on: texts shared with targets are not found, and "
            "similarities that read more than a prompt have no value"
        )


def reading_notes(_: Checked, task: TaskSpec) -> Iterator[Finding]:
    """Notes how the rows of a task were read, where its files did not say it plainly."""
    yield from task.notes


def classes_survive_limit(checked: Checked, task: TaskSpec) -> Iterator[Finding]:
    """The rows that `limit.train` leaves have every class."""
    if not task.origin.has_rows:
        return
    labels, counts = _table(checked, task).labels, dict(task.counts).get("train", ())
    lost = [name for i, name in enumerate(task.strata) if counts[i] and not (labels == i).any()]
    if lost:
        limit = checked.plan.setting.limit.train
        yield Problem(
            f"task {task.name}", f"limit.train {limit} leaves no row of class {', '.join(lost)}", remedy="raise it"
        )


def rows_can_be_split(checked: Checked, task: TaskSpec) -> Iterator[Finding]:
    """Every seed has rows to train and to select on, and a batch of them, in each role of the task."""
    plan, setting = checked.plan, checked.plan.setting
    roles = [setting.of_targets] if task.name in plan.experiment.targets else []
    roles += [setting.of_sources] if any(task in source.tasks for source in plan.sources) else []
    for role in dict.fromkeys(roles if task.origin.has_rows else ()):
        for seed in (*plan.experiment.train.seeds, *plan.experiment.confirm.seeds):
            rows = len(replica_rows(checked.library, role, task, seed).train)
            if rows < setting.train.batch_size:
                rule = f"train.batch_size {setting.train.batch_size} is more than the {rows} rows that are left to train on"
                yield Problem(f"task {task.name}", rule, remedy="lower it")
                return


def tokens_match_those_of_teacher(checked: Checked, task: TaskSpec) -> None:
    """Where outputs are per token, the larger PLM cuts the target's words as the PLM does."""
    plan = checked.plan
    distilled = set(methods_weighing(plan.experiment, "lambda")) & set(plan.experiment.needs("teacher_plm"))
    if plan.teacher_plm and distilled and task.name in plan.experiment.targets and task.kind in TOKEN_LEVEL:
        check_places(checked.library, plan.setting, replace(plan.setting, plm=plan.teacher_plm), task)


def truncated_rows(checked: Checked, task: TaskSpec) -> Iterator[Finding]:
    """Notes how many rows are cut."""
    if task.origin.has_rows and (share := _table(checked, task).truncated) >= NOTED_TRUNCATION:
        yield f"{task.name}: {share:.0%} of its train rows are cut at {checked.plan.setting.train.max_length} tokens"


def imbalanced_classes(_: Checked, task: TaskSpec) -> Iterator[Finding]:
    """Notes classes that are far apart in size."""
    if task.origin.has_rows and (note := imbalance(task)):
        yield note


def _table(checked: Checked, task: TaskSpec) -> TokenTable:
    return token_table(checked.library, checked.plan.setting, task, "train")


def weak_distillation(_: Checked, plan: Plan) -> Iterator[Finding]:
    """Notes distillation losses with little effect."""
    return weak_losses(plan)


def pairs_without_shared_head(_: Checked, plan: Plan) -> Iterator[Finding]:
    """Notes pairs that are left out since their method takes over a head, and the classes differ."""
    for method in dict.fromkeys(pair.method for pair in plan.left_out):
        names = [pair.name.removesuffix(f" · {method}") for pair in plan.left_out if pair.method == method]
        yield f"{method} is left out where source and target have other classes: {', '.join(names)}"


def anchors_are_shared(_: Checked, plan: Plan) -> Iterator[Finding]:
    """Both PLMs know words by which prompts are moved in relative space; notes where they are fewer than asked for."""
    moving = [method for method in plan.experiment.methods if TRAITS[method].moves == "relative"]
    if not moving or plan.source_plm is None:
        return
    count, asked = len(shared_words(plan.source_plm, plan.setting.plm)), plan.experiment.relative.anchors
    both = f"{plan.source_plm.label} and {plan.setting.plm.label} share {count} words that are one token for both"
    if count < FEWEST_ANCHORS:
        rule = f"{both}, and {', '.join(moving)} needs at least {FEWEST_ANCHORS}"
        yield Problem("source_plm", rule, remedy=f"name another PLM, or leave {', '.join(moving)} out")
    elif count < asked:
        yield f"{both}: fewer than relative.anchors {asked}"


def overlap_is_allowed(checked: Checked, plan: Plan) -> Iterator[Finding]:
    """Texts that sources share with targets are none that the experiment refuses, or cannot drop."""
    return overlap_problems(plan, shared_texts(checked.library, plan))


def classes_survive_drop(checked: Checked, plan: Plan) -> Iterator[Finding]:
    """No source loses a class with the texts that it shares with a target's report rows."""
    pairs = shared_texts(checked.library, plan) if plan.experiment.overlap == "drop" else {}
    for source, target in pairs:
        try:
            for task in (task for task in plan.source(source).tasks if task.origin.has_rows and task.name != target):
                for seed in (*plan.experiment.train.seeds, *plan.experiment.confirm.seeds):
                    replica_rows(checked.library, plan.setting.of_sources, task, seed, plan.tasks[target])
        except ValueError as error:
            yield from problems_of(error, f"task {source}")
