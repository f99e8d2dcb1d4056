"""Parameterisations of a student's prompts: what each gives, and those that are trained directly or through an MLP."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from panda_trainable.prompt.soft_prompt import MLP_PARTS, mlp_parameters, mlp_prompt


class PromptSource(ABC):
    """Makes the prompts of K replicas of parameters that are trained.

    Attributes:
        trainables: name -> [K, …] the parameters.
        per_row: whether each row has a prompt of its own, made of its input.
    """

    trainables: dict[str, Tensor]
    per_row: bool = False

    @abstractmethod
    def prompts(self) -> Tensor | None:
        """[K, …] the prompts as they are now; None where there is none."""

    def of_task(self, prompts: Tensor | None, _number: int) -> Tensor | None:
        """[K, …] the prompts of a task of a mixture, out of all prompts: all tasks train the same."""
        return prompts

    def of_rows(self, prompts: Tensor, _embeddings: Tensor, _lengths: Tensor, owner: Tensor) -> Tensor:
        """[n, …] the prompt of each row, where each has its own.

        Args:
            prompts: [K, …] of the rows' task.
            _embeddings: [n, T, E] of the rows' tokens.
            _lengths: [n] tokens of each row.
            owner: [n] the replica of each row.
        """
        return prompts.index_select(0, owner)

    def kept(self) -> dict[str, Tensor]:
        """Name -> [K, …] what is stored: the `prompt`, and the parts without which it is none; none without a prompt."""
        prompts = self.prompts()
        return {} if prompts is None else {"prompt": prompts}


class NoPrompt(PromptSource):
    """No prompt: the source of students that train a head or a model only."""

    def __init__(self) -> None:
        self.trainables: dict[str, Tensor] = {}

    def prompts(self) -> None:
        """None, since there is no prompt."""


class TrainedPrompts(PromptSource):
    """Prompts that are trained directly.

    Args:
        start: [K, …] the prompts at step 0.
        device: where they are trained.
    """

    def __init__(self, start: Tensor, device: torch.device):
        self.trainables = trained_on(device, {"prompt": start})

    def prompts(self) -> Tensor:
        """[K, …] the trained parameter itself."""
        return self.trainables["prompt"]


class MlpPrompts(PromptSource):
    """Prompts that an MLP makes, on top of a constant that lets them start where they should.

    Args:
        start: [K, …] the prompts at step 0.
        width: of the MLP.
        seeds: [K] of its parameters.
        device: where they are trained.

    Source: P-tuning v2's reparameterisation.
    """

    def __init__(self, start: Tensor, width: int, seeds: Sequence[int], device: torch.device):
        drawn = mlp_parameters(start.shape[1:], width, seeds)
        self.base = (start - mlp_prompt(drawn, start.shape[1:])).to(device)
        self.trainables = trained_on(device, drawn)

    def prompts(self) -> Tensor:
        """[K, …] the constant plus the MLP's output."""
        return self.base + mlp_prompt({name: self.trainables[name] for name in MLP_PARTS}, self.base.shape[1:])


def trained_on(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies of tensors on a device, with gradients enabled."""
    copies = {name: t.to(device).clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    return {name: tensor.requires_grad_() for name, tensor in copies.items()}


def prompt_source(start: Tensor, mlp: int | None, seeds: Sequence[int], device: torch.device) -> PromptSource:
    """The source of prompts that start somewhere.

    Args:
        start: [K, L, 2, heads, P, d] or [K, P, E] the prompts at step 0; [K, 0]: there is no prompt.
        mlp: width of the MLP through which they are trained; None: none.
        seeds: [K].
        device: where they are trained.
    """
    if not start.numel():
        return NoPrompt()
    return MlpPrompts(start, mlp, seeds, device) if mlp else TrainedPrompts(start, device)
