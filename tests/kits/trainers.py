"""What tests of training share: trainers, random prompts, loss curves, and equality of what was trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.library import PromptLibrary
from panda_trainable.training.data import training_data
from panda_trainable.training.model_student import ModelStudent
from panda_trainable.training.student import Heads, prompt_student
from panda_trainable.training.trainer import Recipe, Trainer
from panda_trainable.worker import load_encoder


def prompt_trainer(
    library: PromptLibrary, setting: Setting, task: TaskSpec | Mixture, seeds: Sequence[int], start: torch.Tensor,
    *, heads: Heads | None = None, exclude_overlap_with: TaskSpec | None = None, **recipe: Any,
) -> Trainer:  # fmt: skip
    """A trainer of prompts and heads, or without a prompt [K, 0] of heads."""
    student = prompt_student(setting, task, seeds, start, heads)
    steps, device = int(recipe["steps"]), student.encoder.device
    data = training_data(library, setting, task, seeds, steps, device, exclude_overlap_with)
    return Trainer(student, data, Recipe(**recipe))


def model_trainer(
    library: PromptLibrary, setting: Setting, task: TaskSpec | Mixture, seeds: Sequence[int],
    *, weights: Sequence[Path] = (), heads: Heads | None = None, **recipe: Any,
) -> Trainer:  # fmt: skip
    """A trainer of all weights."""
    student = ModelStudent(setting, task, seeds, weights, heads)
    data = training_data(library, setting, task, seeds, int(recipe["steps"]), student.encoder.device)
    return Trainer(student, data, Recipe(**recipe))


def order_of(trainer: Trainer) -> torch.Tensor:
    """[steps, K, B] the rows of each step, where there is one task."""
    shape = len(trainer.student.seeds), trainer.recipe.steps, trainer.data.setting.train.batch_size
    return trainer.data.parts[0].order.view(*shape).transpose(0, 1)


def first_gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Name -> ten times AdamW's mean, which after one step is the clipped gradient."""
    state = trainer.state()
    return {name: 10 * state[f"exp_avg.{name}"] for name in trainer.trainables}


def random_prompt(shape: Sequence[int], seed: int) -> torch.Tensor:
    """A prompt from N(0, 0.02), as `init: normal` draws it."""
    return torch.empty(tuple(shape)).normal_(0, 0.02, generator=torch.Generator().manual_seed(seed))


def random_starts(setting: Setting, seeds: Sequence[int]) -> torch.Tensor:
    """[K, L, 2, heads, P, d] or [K, P, E] the random prompts of the seeds."""
    shape = load_encoder(setting.plm).prompt_shape(setting.prompt.length, setting.prompt.form)
    return torch.stack([random_prompt(shape, seed) for seed in seeds])


def loss_curve(trainer: Trainer, steps: int) -> torch.Tensor:
    """[steps, K] the loss of every step from here."""
    curve = []
    for _ in range(steps):
        trainer.advance(1)
        curve.append(trainer.losses())
    return torch.tensor(curve, dtype=torch.float64)


def trained(trainer: Trainer) -> dict[str, torch.Tensor]:
    """The trainables as they are now."""
    return {name: tensor.detach().clone() for name, tensor in trainer.trainables.items()}


def state_of_trained(trainer: Trainer) -> dict[str, torch.Tensor]:
    """A copy of all that may be trained, as it is stored: without a pooler, which nothing reads and files may lack."""
    parts = trainer.state().items()
    return {n.removeprefix("trained."): t.clone() for n, t in parts if n.startswith("trained.") and ".pooler." not in n}


def said_of_selection(trainer: Trainer) -> list[NDArray[np.float32]]:
    """[K] the logits of the rows that each replica holds out."""
    part = trainer.data.parts[0]
    return trainer.student.logits(part.table, [rows.selection for rows in part.rows])


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of named tensors are one, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
