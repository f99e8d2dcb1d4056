"""Distillation losses: the KD_LOSSES table, losses by example, and schedules of λ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import Tensor
from torch.nn import functional

from panda_trainable.data.gold import MASKED
from panda_trainable.training.relations import (
    check_shapes,
    distillation_distance,
    distillation_gram,
    distillation_inter_class,
    distillation_inter_instance,
)

KL_TEMPERATURE = 2.0

WARMUP = 0.1
"""Share of the steps in which λ rises. Source: PANDA's code."""


def distillation_mse(
    student: Tensor, teacher: Tensor, asked: Tensor | None = None, _temperature: float = 1.0
) -> Tensor:
    """Mean squared distance between student and teacher logits, or pooled vectors, per replica.

    The mean runs over examples and classes, so the value does not change with B.

    Args:
        student: [K, B, …, C] logits of K replicas. Carries gradient.
        teacher: [K, B, …, C] logits of their teachers. A constant.
        asked: [K, B, …] where padding is not; None: everywhere.

    Returns:
        [K] non-negative, in squared logits.

    Raises:
        ValueError: if the two shapes differ (broadcasting would hide it).

    Source: PANDA (arXiv:2208.10160), the KD term of its objective.
    Deviation: the authors' code divides by B once more, and averages over padding too; docs/deviations.md#kd-mean.
    """
    check_shapes(student, teacher)
    squares = (student - teacher).square()
    if asked is None:
        return squares.flatten(1).mean(1)
    real = asked[..., None] & (teacher > MASKED)
    return (squares * real).flatten(1).sum(1) / real.flatten(1).sum(1).clamp(min=1)


def distillation_kl(
    student: Tensor, teacher: Tensor, asked: Tensor | None = None, temperature: float = KL_TEMPERATURE
) -> Tensor:
    """τ² · KL(teacher ‖ student) of the softened answers, mean over what is asked, per replica.

    Args:
        student: [K, B, …, C] logits. Carries gradient.
        teacher: [K, B, …, C] logits. A constant.
        asked: [K, B, …] where padding is not; None: everywhere.
        temperature: τ, > 0.

    Returns:
        [K] non-negative, in nats times τ².

    Raises:
        ValueError: if the two shapes differ.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, section 2.
    """
    check_shapes(student, teacher)
    soft, target = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    divergence = functional.kl_div(soft, target, log_target=True, reduction="none").sum(-1)  # [K, B, …]
    if asked is None:
        return temperature**2 * divergence.flatten(1).mean(1)
    return temperature**2 * (divergence * asked).flatten(1).sum(1) / asked.flatten(1).sum(1).clamp(min=1)


@dataclass(frozen=True)
class Distillation:
    """A distillation loss.

    Attributes:
        loss: (student [K, B, …, C], teacher, asked [K, B, …] or None, temperature) -> [K].
        reads: what of student and teacher is compared: `logits`, or `hidden`: pooled vectors [K, B, H] or [K, B, S, H].
        joint: whether it compares the examples of a batch with one another, which must then be given in one piece;
            otherwise it is the mean over examples of a loss of each.
        temperature: the published τ, used where none is given; 1 where it plays no part.
        origin: where it was published.
    """

    loss: Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
    reads: Literal["logits", "hidden"]
    joint: bool
    temperature: float
    origin: str

    def __call__(
        self, student: Tensor, teacher: Tensor, asked: Tensor | None = None, temperature: float | None = None
    ) -> Tensor:
        """The loss of each replica.

        Args:
            student: [K, B, …, C] logits or pooled vectors of K replicas. Carries gradient.
            teacher: of the same shape. A constant.
            asked: [K, B, …] where padding is not, for losses of words; None: everywhere.
            temperature: τ, > 0; None: the published.

        Returns:
            [K], not finite where a value of the replica is not, and only there.

        Raises:
            ValueError: if the two shapes differ, as with a teacher of other labels or width; if τ is not positive.
        """
        if temperature is not None and temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}: leave it out for the published one")
        return self.loss(student, teacher, asked, self.temperature if temperature is None else temperature)


KD_LOSSES: Mapping[str, Distillation] = MappingProxyType(
    {
        "mse": Distillation(distillation_mse, "logits", False, 1.0, "PANDA (2022)"),
        "kl": Distillation(distillation_kl, "logits", False, KL_TEMPERATURE, "Hinton et al. (2015)"),
        "hidden": Distillation(distillation_mse, "hidden", False, 1.0, "PANDA's code, where it is commented out"),
        "inter_class": Distillation(distillation_inter_class, "logits", False, 1.0, "DIST (2022); Yuan & Lang (2024)"),
        "inter_instance": Distillation(
            distillation_inter_instance, "logits", True, 1.0, "DIST (2022); Yuan & Lang (2024)"
        ),
        "gram": Distillation(distillation_gram, "logits", True, 1.0, "a reading of Yuan & Lang (2024)"),
        "distance": Distillation(distillation_distance, "logits", True, 1.0, "RKD, Park et al. (2019)"),
    }
)
"""KD kind -> loss; `config.KD_KINDS` has the task kinds it is defined for."""

RAMPS: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "constant": lambda _: 1.0,
        "decay": lambda share: 1 - share,
        "warmup_decay": lambda share: share / WARMUP if share < WARMUP else (1 - share) / (1 - WARMUP),
    }
)
"""λ schedule -> factor of λ at a share of the steps, in [0, 1).

Source: PANDA's code, get_beta (`warmup_decay`) and get_beta2, which are computed and never used.
Deviation: get_beta2 stays at λ for the first tenth before it falls; `decay` falls from the start;
docs/deviations.md#ramps.
"""


def averaged_over(kd: str, teacher: Tensor, asked: Tensor) -> Tensor:
    """What a distillation loss averages over: the examples or words, or for `mse` all their logits that are not masked.

    Args:
        kd: a row of KD_LOSSES.
        teacher: [K, B, …, C] logits.
        asked: [K, B, …] where padding is not.
    """
    return asked[..., None] & (teacher > MASKED) if kd == "mse" else asked
