"""Task losses and distillation losses: pure functions, one value per replica."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from panda_trainable.metrics import MASKED

Loss = Callable[[Tensor, Tensor], Tensor]
Distillation = Callable[[Tensor, Tensor, Tensor | None], Tensor]

IGNORED = -100
"""Label of what is not asked: padding, words behind the cut."""

KL_TEMPERATURE = 2.0


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy over what is asked, per replica.

    Args:
        logits: [K, B, …, C]: one question per example, one per word, or start and end.
        labels: [K, B, …] numbers of the right answers; IGNORED where nothing is asked.

    Returns:
        [K] non-negative, in nats; 0 where nothing is asked.
    """
    losses = functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), reduction="none", ignore_index=IGNORED
    ).view(len(labels), -1)
    return losses.sum(1) / (labels != IGNORED).flatten(1).sum(1).clamp(min=1)


def squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of a regression, per replica.

    Args:
        logits: [K, B, 1] predictions.
        labels: [K, B] values on the same scale.

    Returns:
        [K] non-negative.
    """
    return (logits[..., 0] - labels).square().mean(1)


def distillation_mse(student: Tensor, teacher: Tensor, asked: Tensor | None = None) -> Tensor:
    """Mean squared distance between student and teacher logits, per replica.

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
    _same_shape(student, teacher)
    squares = (student - teacher).square()
    if asked is None:
        return squares.flatten(1).mean(1)
    real = asked[..., None] & (teacher > MASKED)
    return (squares * real).flatten(1).sum(1) / real.flatten(1).sum(1).clamp(min=1)


def distillation_kl(student: Tensor, teacher: Tensor, asked: Tensor | None = None) -> Tensor:
    """τ² · KL(teacher ‖ student) of the softened answers at τ = 2, mean over what is asked, per replica.

    Args:
        student: [K, B, …, C] logits. Carries gradient.
        teacher: [K, B, …, C] logits. A constant.
        asked: [K, B, …] where padding is not; None: everywhere.

    Returns:
        [K] non-negative, in nats times τ².

    Raises:
        ValueError: if the two shapes differ.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, section 2.
    """
    _same_shape(student, teacher)
    soft = (student / KL_TEMPERATURE).log_softmax(-1)
    target = (teacher / KL_TEMPERATURE).log_softmax(-1)
    divergence = functional.kl_div(soft, target, log_target=True, reduction="none").sum(-1)  # [K, B, …]
    if asked is None:
        return KL_TEMPERATURE**2 * divergence.flatten(1).mean(1)
    return KL_TEMPERATURE**2 * (divergence * asked).flatten(1).sum(1) / asked.flatten(1).sum(1).clamp(min=1)


def _same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher logits must have one shape, got {list(student.shape)} and {list(teacher.shape)}"
        )


TASK_LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "classification": cross_entropy,
        "regression": squared_error,
        "multiple_choice": cross_entropy,
        "tagging": cross_entropy,
        "extractive_qa": cross_entropy,
    }
)
"""Task kind -> loss."""

KD_LOSSES: Mapping[str, Distillation] = MappingProxyType({"mse": distillation_mse, "kl": distillation_kl})
"""KD kind -> loss."""


def shares(asked: Tensor) -> Tensor:
    """The part of each example in its replica's mean, so that means can be summed group by group.

    Args:
        asked: [K, B, …] where something is asked; an example counts as often as it is asked.

    Returns:
        [K, B]; each replica's sum to 1, or are 0 where nothing is asked.
    """
    counts = asked.flatten(2).sum(2) if asked.dim() > 2 else asked.long()
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def kd_asked(kd: str, teacher: Tensor, asked: Tensor) -> Tensor:
    """What a distillation loss averages over: its answers, or for `mse` all their logits that are not masked.

    Args:
        kd: a row of KD_LOSSES.
        teacher: [K, B, …, C] logits.
        asked: [K, B, …] where padding is not.
    """
    return asked[..., None] & (teacher > MASKED) if kd == "mse" else asked


def total(task: Tensor, weighted: list[tuple[float, Tensor]]) -> Tensor:
    """Task loss plus weighted distillation terms, per replica.

    Args:
        task: [K] task loss.
        weighted: (λ · α · sim, [K] distillation loss) of each teacher.

    Returns:
        [K].

    Source: PANDA, L = CE + λ · Σ_k α_k · sim_k · KD_k.
    """
    return torch.stack([task, *(weight * loss for weight, loss in weighted)]).sum(0)
