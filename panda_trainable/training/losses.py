"""Task losses, and how losses of a batch are weighted."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from panda_trainable.data.gold import IGNORED

Loss = Callable[[Tensor, Tensor], Tensor]


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


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy over the tokens that are written, per replica.

    Args:
        logits: [K, B, A, 1] log-probability of each token.
        labels: [K, B, A] the tokens; IGNORED where there is none.

    Returns:
        [K] non-negative, in nats; 0 where nothing is written.
    """
    asked = labels != IGNORED
    return -(logits[..., 0] * asked).flatten(1).sum(1) / asked.flatten(1).sum(1).clamp(min=1)


TASK_LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "classification": cross_entropy,
        "regression": squared_error,
        "multiple_choice": cross_entropy,
        "tagging": cross_entropy,
        "extractive_qa": cross_entropy,
        "generation": negative_log_likelihood,
    }
)
"""Task kind -> loss."""


def shares(asked: Tensor) -> Tensor:
    """The part of each example in its replica's mean, so that means can be summed group by group.

    Args:
        asked: [K, B, …] where something is asked; an example counts as often as it is asked.

    Returns:
        [K, B]; each replica's sum to 1, or are 0 where nothing is asked.
    """
    counts = asked.flatten(2).sum(2) if asked.dim() > 2 else asked.long()
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


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
