"""Soft prompts: kept as safetensors, averaged, flattened to tokens, and reparameterised by an MLP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

MLP_PARTS = ("embedding", "weight_in", "bias_in", "weight_out", "bias_out")
"""What is trained instead of the prompt where it is reparameterised."""

STORED = ("prompt", "weight", "bias", "label_scale")
"""Tensors of every stored prompt; others are parts."""


@dataclass(frozen=True)
class SoftPrompt:
    """One trained prompt with the head that was trained beside it.

    Attributes:
        prompt: prefix [L, 2, heads, P, d]: keys and values in every layer; or input prompt [P, E].
        weight: [C, H] of the linear head.
        bias: [C].
        label_scale: [2, C] mean and deviation of the labels that each output was trained on; 0 and 1 where they
            were not scaled; None: the same.
        parts: name -> what else makes the prompts that are read, where `prompt` alone does not (`stored_source`).
    """

    prompt: Tensor
    weight: Tensor
    bias: Tensor
    label_scale: Tensor | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "SoftPrompt":
        """The prompt whose tensors have the names under which they are stored."""
        own = {name: tensor for name, tensor in tensors.items() if name in STORED}
        return cls(**own, parts={name: tensor for name, tensor in tensors.items() if name not in STORED})

    def scaled(self, label_scale: Tensor) -> "SoftPrompt":
        """A copy with the given label scale [2, C]: mean and standard deviation."""
        return replace(self, label_scale=label_scale)

    def in_units(self, logits: Tensor) -> Tensor:
        """Logits [n, C] rescaled to label units for regression; unchanged for other task kinds."""
        if self.label_scale is None or not self.label_scale.numel():
            return logits
        mean, deviation = self.label_scale
        return logits * deviation + mean

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor of all that is stored."""
        scale = {} if self.label_scale is None else {"label_scale": self.label_scale}
        return {"prompt": self.prompt, "weight": self.weight, "bias": self.bias, **scale, **self.parts}

    def save(self, path: Path) -> None:
        """Writes the prompt, its parts, its head and its label scale as safetensors."""
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}, path)

    @classmethod
    def load(cls, path: Path) -> "SoftPrompt":
        """Reads a prompt that `save` wrote; tensors are memory-mapped."""
        return cls.of(load_file(path))


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
    """[P, D] one row per prompt token: a prefix flattened to L·2·heads·d, an input prompt as it is."""
    return tokens_in(prompt, prompt.shape)


def tokens_in(prompts: Tensor, shape: Sequence[int]) -> Tensor:
    """[…, P, D] the tokens of prompts […, *shape]."""
    return prompts if len(shape) == 2 else prompts.movedim(-2, -5).flatten(-4)


def of_tokens(tokens: Tensor, shape: Sequence[int]) -> Tensor:
    """[…, *shape] prompts of their tokens […, P, D]: what `tokens_of` flattened."""
    if len(shape) == 2:
        return tokens
    layers, two, heads, _, dim = shape
    return tokens.unflatten(-1, (layers, two, heads, dim)).movedim(-5, -2)


def mlp_parameters(shape: Sequence[int], width: int, seeds: Sequence[int]) -> dict[str, Tensor]:
    """The MLP's parameters [K, …], as PyTorch draws linear layers; the seeds decide them.

    Args:
        shape: of one prompt: [L, 2, heads, P, d] or [P, E].
        width: of the middle layer.
        seeds: [K].

    Source: P-tuning v2, its prefix encoder with projection: Embedding(P, H) → Linear → tanh → Linear.
    """
    length, out = (shape[-2], prod(shape) // shape[-2])
    inner = shape[-1] * (shape[2] if len(shape) == 5 else 1)  # H: heads · d, or E
    drawn = [_drawn(length, inner, width, out, seed) for seed in seeds]
    return {name: torch.stack([parts[i] for parts in drawn]) for i, name in enumerate(MLP_PARTS)}


def _drawn(length: int, inner: int, width: int, out: int, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed + 2_000_003)  # another stream than prompt's and head's

    def linear(inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
        bound = inputs**-0.5
        sizes = (inputs, outputs), (outputs,)
        weight, bias = (torch.empty(size).uniform_(-bound, bound, generator=generator) for size in sizes)
        return weight, bias

    return torch.empty(length, inner).normal_(generator=generator), *linear(inner, width), *linear(width, out)


def mlp_prompt(parts: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
    """[K, …] the prompts that the MLP's parameters make.

    Args:
        parts: MLP_PARTS -> [K, …].
        shape: of one prompt.
    """
    middle = torch.baddbmm(parts["bias_in"][:, None], parts["embedding"], parts["weight_in"]).tanh()
    made = torch.baddbmm(parts["bias_out"][:, None], middle, parts["weight_out"])  # [K, P, D]
    if len(shape) == 2:
        return made
    layers, two, heads, length, dim = shape
    return made.view(-1, length, layers, two, heads, dim).permute(0, 2, 3, 4, 1, 5)
