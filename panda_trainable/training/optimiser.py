"""AdamW over stacked replicas: step size and clipping per replica, so that none touches another."""

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8
CLIP_NORM = 1.0


class StackedAdamW:
    """Adam for trainables `[K, …]`: weight decay 0 and gradients clipped at norm 1 per replica.

    Source: P-tuning v2's and PANDA's optimiser (AdamW, betas 0.9 and 0.999, epsilon 1e-8, clip 1.0).
    """

    def __init__(self, trainables: dict[str, Tensor]):
        self.trainables = trainables
        self.mean = {name: torch.zeros_like(tensor) for name, tensor in trainables.items()}
        self.square = {name: torch.zeros_like(tensor) for name, tensor in trainables.items()}
        self.steps = 0

    @torch.no_grad()
    def step(self, learning_rate: Tensor) -> None:
        """One update from the gradients, which are then cleared.

        Args:
            learning_rate: [K] step size of each replica.
        """
        self.steps += 1
        gradients = {name: tensor.grad for name, tensor in self.trainables.items() if tensor.grad is not None}
        squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients.values()])
        scale = (CLIP_NORM / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)  # [K]
        unbias = 1 - BETAS[0] ** self.steps, 1 - BETAS[1] ** self.steps
        for name, gradient in gradients.items():
            per_replica = (-1, *[1] * (gradient.dim() - 1))
            clipped = gradient * scale.view(per_replica)
            mean = self.mean[name].lerp_(clipped, 1 - BETAS[0])
            square = self.square[name].lerp_(clipped.square(), 1 - BETAS[1])
            rate = learning_rate.view(per_replica) / unbias[0]
            self.trainables[name].sub_(rate * mean / ((square / unbias[1]).sqrt_().add_(EPSILON)))
            self.trainables[name].grad = None
