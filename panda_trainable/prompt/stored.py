"""Stored prompts as sources of prompts again: what a file holds says what makes the prompts."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from panda_trainable.prompt.attention import DOWN, GAIN, SHIFT, SOURCES, TEMPERATURE, UP, AttendedPrompts
from panda_trainable.prompt.product import COLUMNS, ProductPrompts
from panda_trainable.prompt.soft_prompt import SoftPrompt
from panda_trainable.prompt.sources import PromptSource, TrainedPrompts

Parts = Mapping[str, Tensor]


def _attended(own: PromptSource, parts: Parts) -> PromptSource:
    network = {name: parts[name] for name in (DOWN, UP, GAIN, SHIFT)}
    return AttendedPrompts(own, parts[SOURCES], network, float(parts[TEMPERATURE][0]))


MADE_OF: Mapping[str, Callable[[PromptSource, Parts], PromptSource]] = MappingProxyType(
    {SOURCES: _attended, COLUMNS: ProductPrompts}
)
"""A part that only such prompts have -> what makes prompts of a stored prompt and its parts [K, …]."""


def stored_source(stored: Sequence[SoftPrompt], device: torch.device) -> PromptSource:
    """The source of K prompts as they are stored.

    Args:
        stored: [K] of one method.
        device: where they are read.
    """
    prompts = TrainedPrompts(torch.stack([prompt.prompt for prompt in stored]), device)
    parts = {name: torch.stack([prompt.parts[name] for prompt in stored]) for name in stored[0].parts}
    makes = next((make for part, make in MADE_OF.items() if part in parts), None)
    return makes(prompts, parts) if makes else prompts
