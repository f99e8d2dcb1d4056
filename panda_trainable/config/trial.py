"""TrialConfig: everything that decides one trial, as a frozen value. Imports no torch."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from panda_trainable.config.keys import unkeyed
from panda_trainable.config.methods import (
    FUSIONS,
    INSTANCE_RELATIONS,
    KD_KINDS,
    LAMBDA_SCHEDULES,
    PARTNER_WEIGHTS,
    TRAITS,
    InstanceRelation,
    LambdaSchedule,
    PartnerWeights,
)
from panda_trainable.config.section import Doc, Section
from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import MIXING_CAP, AnySource, TaskSpec


@dataclass(frozen=True)
class Source:
    """A source task in a trial, with its predicted transferability to the target.

    Attributes:
        task: the task, or a mixture of tasks; or a prompt made elsewhere.
        similarity: its weight.
        drop_overlap: whether its train rows that share a text with the target's report rows are dropped
            (False where there are none).
    """

    task: AnySource
    similarity: float
    drop_overlap: bool = False


@dataclass(frozen=True, kw_only=True)
class TeacherTrainSettings(Section):
    """How the larger PLM that teaches is tuned on the target, at a constant rate."""

    trains: Annotated[Literal["prompt", "model"], Doc("its prompt and head, or all its weights")] = "prompt"
    steps: Annotated[int | None, Ge(1), Doc("default: those of a trial")] = None
    learning_rate: Annotated[
        float | None, Gt(0), Doc("constant; default that of sources, and 5e-5 for all weights")
    ] = None  # fmt: skip


@dataclass(frozen=True)
class TeacherPlm(TeacherTrainSettings):
    """Another PLM, usually a larger one, that is tuned on the target and then teaches.

    Attributes:
        plm: the PLM.
        steps: of its tuning.
        learning_rate: of its tuning.

    Source: Yuan & Lang (2024).
    """

    plm: Plm
    steps: int = field(default=400, kw_only=True)
    learning_rate: float = field(default=1e-2, kw_only=True)


@dataclass(frozen=True, kw_only=True)
class ProjectorSettings(Section):
    """How prompts of another PLM become prompts of this one."""

    form: Annotated[
        Literal["token", "flat"], Doc("every token through one linear map, or the whole prompt through two layers")
    ] = "token"
    objective: Annotated[
        Literal["distance", "task"], Doc("nearest to the tasks' own prompts, or best at the tasks")
    ] = "distance"  # fmt: skip
    hidden: Annotated[int, Ge(1), Doc("width of the middle layer of flat")] = 768
    steps: Annotated[int, Ge(1), Doc("of its training")] = 200
    learning_rate: Annotated[float, Gt(0), Doc("of its training")] = 0.005


@dataclass(frozen=True)
class Projection(ProjectorSettings):
    """Whose prompts become prompts of this PLM, and how.

    Attributes:
        plm: where the prompts come from.
        tasks: tasks whose prompts train the projector; the target is not among them.

    Source: Su et al. (2022), TPT_MODEL.
    """

    plm: Plm
    tasks: tuple[TaskSpec, ...]


@dataclass(frozen=True, kw_only=True)
class RelativeSettings(Section):
    """How prompts of another PLM become prompts of this one in relative space."""

    anchors: Annotated[int, Ge(1), Doc("words that both PLMs know, drawn once; fewer where they share fewer")] = 8192
    steps: Annotated[int, Ge(1), Doc("of the search of a prompt with the same similarities to them")] = 2000
    learning_rate: Annotated[float, Gt(0), Doc("of that search")] = 0.005


@dataclass(frozen=True)
class Relative(RelativeSettings):
    """From which PLM prompts are moved in relative space, and how.

    Attributes:
        plm: where the prompts come from.

    Source: Wu et al. (arXiv:2310.01691).
    """

    plm: Plm


@dataclass(frozen=True, kw_only=True)
class MethodSettings(Section):
    """Settings of what methods have in common: distillation, several sources."""

    kd: Annotated[str, Doc(f"the distillation loss that lambda weighs: {', '.join(KD_KINDS)}")] = "mse"
    lambda_schedule: Annotated[LambdaSchedule, Doc("of all distillation, over the steps")] = "constant"
    partner_weights: Annotated[PartnerWeights, Doc("how a source and its partners are averaged")] = "similarity"
    relation: Annotated[InstanceRelation, Doc("the loss that inter_instance weighs")] = "inter_instance"
    mixing_cap: Annotated[
        int, Ge(1), Doc("rows of a task that count at most where tasks are mixed")
    ] = MIXING_CAP  # fmt: skip


@dataclass(frozen=True)
class TrialConfig(MethodSettings):
    """One configuration of a study, trained with all its seeds.

    Attributes:
        setting: what the whole plan shares.
        target: the task to be good at.
        method: a row of METHODS.
        seeds: one replica, and one whole pipeline, each.
        steps: steps of the student.
        learning_rate: of prompt and head, at the first step; decays linearly to zero.
        sources: the pair's own source first, then the partners that take part.
        source_steps: steps of the source prompts that are transferred.
        source_learning_rate: constant rate of the source prompts and of teachers.
        lambda_: weight of distillation, >= 0; 0 is plain prompt tuning.
        teacher_steps: steps of the source prompt on the target before it teaches, > 0.
        fusion: `early` or `late`: how several sources teach one student.
        candidates: all `teacher_steps` that its study may try: one warm-up run serves them.
        inter_class: weight of the larger PLM's inter-class relation, >= 0.
        inter_instance: weight of the larger PLM's inter-instance relation, >= 0.
        temperature: τ of the larger PLM's losses; 0: each loss's own.
        teacher_plm: the larger PLM that teaches.
        projection: from which PLM, and how, the student's start is projected.
        relative: from which PLM, and how, the student's start is moved in relative space.
        attention_temperature: of attention over source prompts, times the width of their tokens, > 0 where there is any.

    Raises:
        ValueError: if a value is impossible; the message lists all of them.
    """

    setting: Setting
    target: TaskSpec
    method: str
    seeds: tuple[int, ...]
    steps: int
    learning_rate: float
    sources: tuple[Source, ...] = ()
    source_steps: int = 0
    source_learning_rate: float = 0.0
    lambda_: float = 0.0
    teacher_steps: int = 0
    fusion: str = "early"
    candidates: tuple[int, ...] = unkeyed(())
    inter_class: float = 0.0
    inter_instance: float = 0.0
    temperature: float = 0.0
    teacher_plm: TeacherPlm | None = None
    projection: Projection | None = None
    relative: Relative | None = None
    attention_temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in TRAITS:
            raise ValueError(f"method must be one of {', '.join(TRAITS)}, got {self.method!r}")
        traits = TRAITS[self.method]
        idle = traits.trains == "nothing"
        prompted = bool(self.sources or self.projection or self.relative)
        form, moved = self.setting.prompt.form, {"projector": self.projection, "relative": self.relative}
        rules = {
            f"seeds must be different and at least one, got {self.seeds}": 0 < len(set(self.seeds)) == len(self.seeds),
            f"steps must be positive, got {self.steps}": self.steps > 0 or idle,
            f"{self.method} trains nothing: steps must be 0, got {self.steps}": self.steps == 0 or not idle,
            f"learning_rate must be positive, got {self.learning_rate}": self.learning_rate > 0 or idle,
            f"lambda must not be negative, got {self.lambda_}": self.lambda_ >= 0,
            f"{self.method} needs a source": traits.sources == "none" or bool(self.sources),
            f"{self.method} takes no source": traits.sources != "none" or not self.sources,
            f"{self.method} needs a teacher_plm": traits.another != "teacher_plm" or self.teacher_plm is not None,
            f"{self.method} needs a source_plm": not traits.moves or moved[traits.moves] is not None,
            f"{self.method} takes {', '.join(traits.forms)} prompts alone, got prompt.form {form}": form
            in traits.forms,
            f"source_steps must be positive, got {self.source_steps}": not prompted or self.source_steps > 0,
            f"source_learning_rate must be positive, got {self.source_learning_rate}": not prompted
            or self.source_learning_rate > 0,
            f"teacher_steps must be positive, got {self.teacher_steps}": "teacher_steps" not in traits.knobs
            or self.teacher_steps > 0,
            f"attention_temperature must be positive, got {self.attention_temperature}": "attention_temperature"
            not in traits.knobs
            or self.attention_temperature > 0,
            f"fusion must be one of {FUSIONS}, got {self.fusion!r}": self.fusion in FUSIONS,
            f"kd must be one of {', '.join(KD_KINDS)}, got {self.kd!r}": self.kd in KD_KINDS,
            **{
                f"{name} must be one of {words}, got {getattr(self, name)!r}": getattr(self, name) in words
                for name, words in (
                    ("lambda_schedule", LAMBDA_SCHEDULES),
                    ("partner_weights", PARTNER_WEIGHTS),
                    ("relation", INSTANCE_RELATIONS),
                )
            },
            f"weights of relations must not be negative, got {self.inter_class} and {self.inter_instance}": min(
                self.inter_class, self.inter_instance
            )
            >= 0,
            f"temperature must not be negative, got {self.temperature}": self.temperature >= 0,
            **{
                f"{name} is not defined for a {self.target.kind}": self.target.kind in KD_KINDS.get(name, ())
                for name in self.asked_losses
            },
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise ValueError("; ".join(broken))

    @property
    def asked_losses(self) -> tuple[str, ...]:
        """The distillation losses that have a weight."""
        weights = ((self.kd, self.lambda_), ("inter_class", self.inter_class), (self.relation, self.inter_instance))
        return tuple(dict.fromkeys(name for name, weight in weights if weight and name in KD_KINDS))

    def with_knobs(self, knobs: Mapping[str, Any]) -> "TrialConfig":
        """The trial that a search's suggestion describes.

        Args:
            knobs: values of KNOBS; `partners` counts how many of the sources behind the first take part.
        """
        known = {"lambda": "lambda_"}
        values = {known.get(name, name): value for name, value in knobs.items() if name != "partners"}
        taken = None if TRAITS[self.method].sources == "all" else 1 + int(knobs.get("partners", 0))
        sources = self.sources[:taken]
        return dataclasses.replace(self, sources=sources, **values)

    @property
    def knobs(self) -> dict[str, Any]:
        """Knob -> value, as `with_knobs` takes them."""
        called = {"lambda": self.lambda_, "partners": len(self.sources) - 1}
        return {knob: called.get(knob, getattr(self, knob, None)) for knob in TRAITS[self.method].knobs}

    @property
    def shares(self) -> tuple[float, ...]:
        """[S] α: similarities clipped at zero and normalised to sum 1 over the sources, or all the same."""
        if len(self.sources) == 1 or self.partner_weights == "uniform":
            return tuple(1 / len(self.sources) for _ in self.sources)
        return normalised([source.similarity for source in self.sources])

    @property
    def lambda_effective(self) -> float:
        """λ · Σ α·sim, or λ where there is no source: the weight that distillation really has."""
        return sum(self.source_weights) if self.sources else self.scaled_lambda

    @property
    def scaled_lambda(self) -> float:
        """λ, over B where the method divides by it."""
        return self.lambda_ / (self.setting.train.batch_size if TRAITS[self.method].lambda_over_batch else 1)

    @property
    def source_weights(self) -> tuple[float, ...]:
        """[S] λ · α · sim of each source."""
        pairs = zip(self.shares, self.sources, strict=True)
        return tuple(self.scaled_lambda * share * max(source.similarity, 0.0) for share, source in pairs)


def normalised(weights: list[float]) -> tuple[float, ...]:
    """Weights clipped at zero that sum to 1.

    Raises:
        ValueError: if none is positive.
    """
    clipped = [max(weight, 0.0) for weight in weights]
    if weights and not sum(clipped) > 0:
        raise ValueError(f"at least one similarity must be positive to weigh sources, got {weights}")
    return tuple(weight / sum(clipped) for weight in clipped)
