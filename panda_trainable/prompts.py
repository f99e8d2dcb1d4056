"""Soft prompts: how they start, are averaged, and are kept as safetensors."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

NORMAL_STD = 0.02


@dataclass(frozen=True)
class SoftPrompt:
    """One trained prompt with the head that was trained beside it.

    Attributes:
        prompt: [L, 2, heads, P, d] keys and values in every layer.
        weight: [C, H] of the linear head.
        bias: [C].
    """

    prompt: Tensor
    weight: Tensor
    bias: Tensor

    def save(self, path: Path) -> None:
        """Writes it as safetensors."""
        tensors = {"prompt": self.prompt, "weight": self.weight, "bias": self.bias}
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)

    @classmethod
    def load(cls, path: Path) -> "SoftPrompt":
        """Reads one; tensors are mapped into memory."""
        return cls(**load_file(path))


def random_prompt(shape: tuple[int, ...], seed: int) -> Tensor:
    """A prompt drawn from N(0, 0.02): the seed and the shape decide it, so all tasks of a seed share it.

    Source: P-tuning v2 (the embeddings of its prefix encoder); sharing makes prompts comparable
    and averages of them meaningful.
    """
    return torch.empty(shape).normal_(0, NORMAL_STD, generator=torch.Generator().manual_seed(seed))


def average_prompt(prompts: list[Tensor], shares: tuple[float, ...]) -> Tensor:
    """Σ α_s · P_s.

    Args:
        prompts: [S] tensors of one shape.
        shares: [S] weights that sum to 1.

    Raises:
        ValueError: if shapes differ.

    Source: SPoT (arXiv:2110.07904), top-k weighted average.
    """
    shapes = {tuple(prompt.shape) for prompt in prompts}
    if len(shapes) != 1:
        raise ValueError(
            f"prompts of different shapes cannot be averaged, got {sorted(shapes)}; train the sources with one prompt length"
        )
    return torch.stack([share * prompt for share, prompt in zip(shares, prompts, strict=True)]).sum(0)


def tokens_of(prompt: Tensor) -> Tensor:
    """[P, L·2·heads·d]: a prefix flattened to one row per prompt token."""
    return prompt.movedim(3, 0).flatten(1)
