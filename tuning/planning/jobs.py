"""Jobs: the prompts that are trained, and the pairs that are scored, before the search."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from panda_trainable.config.given import GivenPrompt
from panda_trainable.config.setting import SimilaritySettings
from panda_trainable.config.task import AnySource, TaskSpec
from panda_trainable.similarity.neurons import USUAL, neurons_key
from panda_trainable.similarity.representations import change_key, embedding_key
from panda_trainable.similarity.similarities import OF_PROMPTS, SIMILARITIES
from panda_trainable.similarity.target_rows import scored
from panda_trainable.transfer.lineage import Lineage
from tuning.planning.plan import Plan

KEPT: Mapping[str, tuple[str, Callable[[Lineage, int, SimilaritySettings], str]]] = MappingProxyType(
    {"embedding": ("embeddings", embedding_key), "neurons": ("neurons", neurons_key), "change": ("changes", change_key)}
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
        similarity_settings: how.
    """

    lineage: Lineage
    seeds: tuple[int, ...]
    also: tuple[int, ...]
    reads: tuple[str, ...] = ()
    similarity_settings: SimilaritySettings = USUAL

    @property
    def early(self) -> Lineage:
        """The snapshot that similarities compare."""
        return self.lineage.at(min(self.also, default=self.lineage.steps))


def source_lineage_of(plan: Plan, task: AnySource) -> Lineage:
    """A source prompt's last state."""
    train = plan.experiment.source_train
    return Lineage.of_source(plan.setting, task, train.steps, train.learning_rate)


def source_jobs(plan: Plan) -> list[Job]:
    """The source prompts of the plan."""
    seeds, early = tuple(plan.experiment.train.seeds), plan.experiment.source_train.early_step
    return [Job(source_lineage_of(plan, task), seeds, (early,), *_measured(plan, task)) for task in plan.sources]


def _measured(plan: Plan, task: AnySource) -> tuple[tuple[str, ...], SimilaritySettings]:
    """What the plan's similarities read of a task's prompt, and how."""
    settings = plan.experiment.similarity_settings
    reads = dict.fromkeys(SIMILARITIES[name].reads for name in plan.experiment.similarities)
    if isinstance(task, GivenPrompt):
        rows = {"neurons"} if settings.neurons.inputs == "real" else set()
        reads = dict.fromkeys(kind for kind in reads if kind in OF_PROMPTS and kind not in rows)
    return tuple(kind for kind in reads if kind in KEPT), settings


def target_lineage_of(plan: Plan, task: TaskSpec) -> Lineage:
    """A short plain tuning of a target, for its embedding."""
    train = plan.experiment.source_train
    return Lineage.of_target(plan.setting, task, train.early_step, train.learning_rate)


def target_jobs(plan: Plan) -> list[Job]:
    """A short plain tuning of each target that is compared with sources."""
    seeds = tuple(plan.experiment.train.seeds)
    names = dict.fromkeys(target for _, target in plan.measured)
    return [
        Job(target_lineage_of(plan, plan.tasks[name]), seeds, (), *_measured(plan, plan.tasks[name])) for name in names
    ]


@dataclass(frozen=True)
class ScoreJob:
    """A pair whose target's rows are scored behind its source's prompt.

    Attributes:
        source: its early snapshot.
        target: whose train rows.
        seeds: of both.
    """

    source: Lineage
    target: Lineage
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.target.task.name} ← {self.source.task.name}"


def score_jobs(plan: Plan) -> list[ScoreJob]:
    """The pairs of the plan that have similarities of a target's rows; their prompts must be made."""
    asked, seeds = set(plan.experiment.similarities), tuple(plan.experiment.train.seeds)
    early = plan.experiment.source_train.early_step
    lineages = (
        (source_lineage_of(plan, plan.source(source)).at(early), target_lineage_of(plan, plan.tasks[target]))
        for source, target in plan.measured
    )
    return [ScoreJob(*pair, seeds) for pair in lineages if asked & set(scored(*pair))]
