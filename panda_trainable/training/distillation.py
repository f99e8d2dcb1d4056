"""Distillation losses, by example and by relation between classes or examples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn import functional

from panda_trainable.data.gold import MASKED

CORRELATION_EPS = 1e-8
"""Added to the product of two spreads. Source: the code of DIST."""

ROUNDING = 8
"""Spreads of a vector up to so many machine epsilons of its length are rounding: it is constant."""


def distillation_inter_class(
    student: Tensor, teacher: Tensor, _asked: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """τ² · (1 - Pearson's ρ over the classes of the softened answers), mean over examples, per replica.

    With two classes it has almost no gradient: two rows of two numbers always correlate by 1 or -1.

    Args:
        student: [K, B, C] logits. Carries gradient.
        teacher: [K, B, C] logits. A constant.
        temperature: τ, > 0.

    Returns:
        [K] from 0 to 2 τ²; τ² of an example for which either answers all classes alike.

    Raises:
        ValueError: if the two shapes differ.

    Source: DIST (arXiv:2205.10536), the inter-class relation; Yuan & Lang (2024) for prompt tuning.
    Deviation: Yuan & Lang's full text was not at hand; docs/deviations.md#relations.
    """
    check_shapes(student, teacher)
    alike = _correlation(_softened(student, temperature), _softened(teacher, temperature), -1)  # [K, B]
    return temperature**2 * (1 - alike).mean(1)


def distillation_inter_instance(
    student: Tensor, teacher: Tensor, _asked: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """τ² · (1 - Pearson's ρ over the batch of a class's softened answers), mean over classes, per replica.

    Of a regression the predictions themselves are correlated, and τ plays no part: a softmax of one is constant.

    Args:
        student: [K, B, C] logits, or choices. Carries gradient.
        teacher: [K, B, C] logits. A constant.
        temperature: τ, > 0.

    Returns:
        [K] from 0 to 2 τ²; τ² of a class that either gives all examples alike. 0 of a single example.

    Raises:
        ValueError: if the two shapes differ.

    Source: DIST (arXiv:2205.10536), the intra-class relation; Yuan & Lang (2024) for prompt tuning.
    Deviation: one of three readings of Yuan & Lang; docs/deviations.md#relations.
    """
    check_shapes(student, teacher)
    if student.shape[1] < 2:
        return _nothing(student, teacher)
    if student.shape[2] == 1:
        return (1 - _correlation(student, teacher, 1)).mean(1)
    alike = _correlation(_softened(student, temperature), _softened(teacher, temperature), 1)  # [K, C]
    return temperature**2 * (1 - alike).mean(1)


def distillation_gram(
    student: Tensor, teacher: Tensor, _asked: Tensor | None = None, _temperature: float = 1.0
) -> Tensor:
    """1 - Pearson's ρ of the cosines of an example to the others of its batch, mean over examples, per replica.

    Args:
        student: [K, B, C] logits of at least two classes. Carries gradient.
        teacher: [K, B, C] logits. A constant.

    Returns:
        [K] from 0 to 2; 1 of an example to which either has all others alike. 0 of fewer than three examples,
        since each then has one other at most.

    Raises:
        ValueError: if the two shapes differ.

    Source: a reading of Yuan & Lang's (2024) inter-instance relation, of which the abstract alone was at hand.
    Deviation: docs/deviations.md#relations.
    """
    check_shapes(student, teacher)
    if student.shape[1] < 3:
        return _nothing(student, teacher)
    return (1 - _correlation(_cosines(student), _cosines(teacher), -1)).mean(1)


def distillation_distance(
    student: Tensor, teacher: Tensor, _asked: Tensor | None = None, _temperature: float = 1.0
) -> Tensor:
    """Huber loss (δ = 1) of the distances between the examples of a batch, mean over pairs, per replica.

    Args:
        student: [K, B, C] logits. Carries gradient.
        teacher: [K, B, C] logits. A constant.

    Returns:
        [K] non-negative, in squared mean distances; 0 of fewer than three examples, since a single distance
        is its own mean.

    Raises:
        ValueError: if the two shapes differ.

    Source: RKD (arXiv:1904.05068), the distance-wise loss (RKD-D).
    Deviation: the authors' code averages over distances to oneself too; docs/deviations.md#relations.
    """
    check_shapes(student, teacher)
    if student.shape[1] < 2:
        return _nothing(student, teacher)
    return functional.smooth_l1_loss(_distances(student), _distances(teacher), reduction="none").mean(1)


def check_shapes(student: Tensor, teacher: Tensor) -> None:
    """Refuses what cannot be compared.

    Raises:
        ValueError: if the two shapes differ (broadcasting would hide it).
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must have one shape, got {list(student.shape)} and {list(teacher.shape)}"
        )


def _nothing(student: Tensor, teacher: Tensor) -> Tensor:
    """[K] zeros, but not of a replica that is not finite."""
    return (0 * (student + teacher)).flatten(1).sum(1)


def _softened(logits: Tensor, temperature: float) -> Tensor:
    """[K, B, C] softmax; a logit of -inf is not finite here, where the softmax alone would make it 0."""
    return (logits / temperature).softmax(-1) + 0 * logits


def _correlation(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Pearson's ρ along a dimension; 0, and without gradient, where either is constant."""
    a, b = one - one.mean(dim, keepdim=True), other - other.mean(dim, keepdim=True)
    spreads = [vector_norm(centred, dim=dim) for centred in (a, b)]
    least = [ROUNDING * torch.finfo(one.dtype).eps * vector_norm(raw, dim=dim) for raw in (one, other)]
    constant = (spreads[0] <= least[0]) | (spreads[1] <= least[1])
    products = (a * b).sum(dim)
    # 0 · products keeps what is not finite; the quotient's gradient at a constant would be 1 / eps.
    return torch.where(constant, 0 * products, products / (spreads[0] * spreads[1] + CORRELATION_EPS))


def _cosines(logits: Tensor) -> Tensor:
    """[K, B, B - 1] of every example to the others; 0 where either's logits are all zero."""
    length = vector_norm(logits, dim=-1, keepdim=True)
    unit = logits / torch.where(length == 0, 1.0, length)
    others = ~torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    return (unit @ unit.mT)[:, others].view(*logits.shape[:2], -1)


def _distances(logits: Tensor) -> Tensor:
    """[K, B · (B - 1) / 2] of every pair of examples, over their mean; 0 where all are alike."""
    first, second = torch.triu_indices(logits.shape[1], logits.shape[1], 1, device=logits.device)
    apart = vector_norm(logits[:, first] - logits[:, second], dim=-1)  # its gradient at 0 is 0
    mean = apart.mean(1, keepdim=True)
    return apart / torch.where(mean == 0, 1.0, mean)


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


def kd_asked(kd: str, teacher: Tensor, asked: Tensor) -> Tensor:
    """What a distillation loss averages over: its answers, or for `mse` all their logits that are not masked.

    Args:
        kd: a row of KD_LOSSES.
        teacher: [K, B, …, C] logits.
        asked: [K, B, …] where padding is not.
    """
    return asked[..., None] & (teacher > MASKED) if kd == "mse" else asked
