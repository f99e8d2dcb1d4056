"""Relation losses of distillation: between the classes of an answer, and between the examples of a batch."""

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn import functional

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
        return _zeros(student, teacher)
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
        return _zeros(student, teacher)
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
        return _zeros(student, teacher)
    return functional.smooth_l1_loss(_distances(student), _distances(teacher), reduction="none").mean(1)


def check_shapes(student: Tensor, teacher: Tensor) -> None:
    """Checks that student and teacher logits have the same shape.

    Raises:
        ValueError: if the two shapes differ (broadcasting would hide it).
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must have one shape, got {list(student.shape)} and {list(teacher.shape)}"
        )


def _zeros(student: Tensor, teacher: Tensor) -> Tensor:
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
    distances = vector_norm(logits[:, first] - logits[:, second], dim=-1)  # its gradient at 0 is 0
    mean = distances.mean(1, keepdim=True)
    return distances / torch.where(mean == 0, 1.0, mean)
