"""TrialConfig: everything that decides one trial, as a frozen value. Imports no torch."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from panda_trainable.config.keys import unkeyed
from panda_trainable.config.methods import (
    FUSIONS,
    INSTANCE_RELATIONS,
    KD_KINDS,
    LAMBDA_SCHEDULES,
    PARTNER_WEIGHTS,
    TRAITS,
)
from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import MIXING_CAP, Mixture, TaskSpec


@dataclass(frozen=True)
class Source:
    """A source task in a trial, with its predicted transferability to the target.

    Attributes:
        task: the task, or a mixture of tasks.
        similarity: its weight.
        drop_overlap: whether its train rows that share a text with the target's report rows are dropped
            (False where there are none).
    """

    task: TaskSpec | Mixture
    similarity: float
    drop_overlap: bool = False


@dataclass(frozen=True)
class TeacherPlm:
    """Another PLM, usually a larger one, that is tuned on the target and then teaches.

    Attributes:
        plm: the PLM.
        trains: `prompt` (and head), or `model` (all weights).
        steps: of its tuning, at a constant rate.
        learning_rate: of its tuning.

    Source: Yuan & Lang (2024).
    """

    plm: Plm
    trains: Literal["prompt", "model"] = "prompt"
    steps: int = 400
    learning_rate: float = 1e-2


@dataclass(frozen=True)
class Projection:
    """How prompts of another PLM become prompts of this one.

    Attributes:
        plm: where the prompts come from.
        tasks: tasks whose prompts train the projector; the target is not among them.
        form: `flat` (the whole prompt through two layers) or `token` (every token through one linear map).
        objective: `distance` to the task's own prompt on this PLM, or `task`: the loss of that task.
        hidden: width of the middle layer of `flat`.
        steps: of its training.
        learning_rate: of its training.

    Source: Su et al. (2022), TPT_MODEL.
    """

    plm: Plm
    tasks: tuple[TaskSpec, ...]
    form: Literal["flat", "token"] = "token"
    objective: Literal["distance", "task"] = "distance"
    hidden: int = 768
    steps: int = 200
    learning_rate: float = 5e-3


@dataclass(frozen=True)
class TrialConfig:
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
        kd: a name of KD_KINDS: the loss that λ weighs.
        candidates: all `teacher_steps` that its study may try: one warm-up run serves them.
        lambda_schedule: a name of LAMBDA_SCHEDULES; weighs every teacher.
        partner_weights: α: by `similarity`, or `uniform`.
        inter_class: weight of the larger PLM's inter-class relation, >= 0.
        inter_instance: weight of the larger PLM's inter-instance relation, >= 0.
        relation: which of INSTANCE_RELATIONS `inter_instance` weighs.
        temperature: τ of the larger PLM's losses; 0: each loss's own.
        teacher_plm: the larger PLM that teaches.
        projection: from which PLM, and how, the student's start is projected.
        mixing_cap: rows of a task that count at most where the method trains on several at once.

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
    kd: str = "mse"
    candidates: tuple[int, ...] = unkeyed(())
    lambda_schedule: str = "constant"
    partner_weights: str = "similarity"
    inter_class: float = 0.0
    inter_instance: float = 0.0
    relation: str = "inter_instance"
    temperature: float = 0.0
    teacher_plm: TeacherPlm | None = None
    projection: Projection | None = None
    mixing_cap: int = MIXING_CAP

    def __post_init__(self) -> None:
        if self.method not in TRAITS:
            raise ValueError(f"method must be one of {', '.join(TRAITS)}, got {self.method!r}")
        traits = TRAITS[self.method]
        idle = traits.trains == "nothing"
        prompted = bool(self.sources or self.projection)
        rules = {
            f"seeds must be different and at least one, got {self.seeds}": 0 < len(set(self.seeds)) == len(self.seeds),
            f"steps must be positive, got {self.steps}": self.steps > 0 or idle,
            f"{self.method} trains nothing: steps must be 0, got {self.steps}": self.steps == 0 or not idle,
            f"learning_rate must be positive, got {self.learning_rate}": self.learning_rate > 0 or idle,
            f"lambda must not be negative, got {self.lambda_}": self.lambda_ >= 0,
            f"{self.method} needs a source": traits.sources == "none" or bool(self.sources),
            f"{self.method} takes no source": traits.sources != "none" or not self.sources,
            f"{self.method} needs a teacher_plm": traits.another != "teacher_plm" or self.teacher_plm is not None,
            f"{self.method} needs a source_plm": traits.another != "source_plm" or self.projection is not None,
            f"source_steps must be positive, got {self.source_steps}": not prompted or self.source_steps > 0,
            f"source_learning_rate must be positive, got {self.source_learning_rate}": not prompted
            or self.source_learning_rate > 0,
            f"teacher_steps must be positive, got {self.teacher_steps}": "teacher_steps" not in traits.knobs
            or self.teacher_steps > 0,
            f"fusion must be one of {FUSIONS}, got {self.fusion!r}": self.fusion in FUSIONS,
            f"kd must be one of {', '.join(KD_KINDS)}, got {self.kd!r}": self.kd in KD_KINDS,
            f"lambda_schedule must be one of {LAMBDA_SCHEDULES}, got {self.lambda_schedule!r}": self.lambda_schedule
            in LAMBDA_SCHEDULES,
            f"partner_weights must be one of {PARTNER_WEIGHTS}, got {self.partner_weights!r}": self.partner_weights
            in PARTNER_WEIGHTS,
            f"relation must be one of {INSTANCE_RELATIONS}, got {self.relation!r}": self.relation in INSTANCE_RELATIONS,
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
        return self.lambda_ / (self.setting.batch_size if TRAITS[self.method].as_released else 1)

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
