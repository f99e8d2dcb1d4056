"""What turns encodings into logits: one linear head per replica, stacked."""

import torch
from torch import Tensor

WEIGHT_STD = 0.02


def random_head(outputs: int, hidden: int, seed: int) -> tuple[Tensor, Tensor]:
    """A head's weight [C, H] from N(0, 0.02) and bias [C] of zeros; the seed decides it.

    Source: the classifier of Hugging Face's sequence classification models, which PANDA trains.
    """
    generator = torch.Generator().manual_seed(seed + 1_000_003)  # another stream than the prompt's
    return torch.empty(outputs, hidden).normal_(0, WEIGHT_STD, generator=generator), torch.zeros(outputs)


def logits(pooled: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Logits of every replica's own rows.

    Args:
        pooled: [K, B, H] encodings.
        weight: [K, C, H].
        bias: [K, C].

    Returns:
        [K, B, C].
    """
    return torch.baddbmm(bias[:, None], pooled, weight.transpose(1, 2))
