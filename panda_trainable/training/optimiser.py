"""AdamW over stacked replicas, with gradients clipped per replica, so that none touches another."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8
CLIP_NORM = 1.0


def adamw(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.AdamW:
    """PyTorch's fused AdamW without weight decay; its update is elementwise, so stacked replicas stay independent.

    Source: P-tuning v2's and PANDA's optimiser (AdamW, betas 0.9 and 0.999, epsilon 1e-8, clip 1.0).
    """
    return torch.optim.AdamW(parameters, lr=learning_rate, betas=BETAS, eps=EPSILON, weight_decay=0.0, fused=True)


@torch.no_grad()
def clip_replicas(tensors: Sequence[Tensor]) -> None:
    """Scales the gradients of stacked tensors [K, …] so that no replica's norm, over all tensors, is above 1.

    Args:
        tensors: those that are trained; one without a gradient is left out.
    """
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients])
    scale = (CLIP_NORM / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)  # [K]
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))
