"""The distillation terms of a step: what teachers' outputs, stored by row, add to the loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from panda_trainable.config.kinds import TOKEN_LEVEL
from panda_trainable.data.gold import IGNORED
from panda_trainable.training.data import TaskData
from panda_trainable.training.distillation import KD_LOSSES, averaged_over
from panda_trainable.training.forward import Outputs
from panda_trainable.training.heads import linear_map
from panda_trainable.training.losses import shares

MAP = "map"
"""What is trained to compare pooled vectors of different widths."""

Term = tuple[float, Callable[[Outputs], Tensor]]
"""A weight, and a loss of outputs: [g], each row's part of its replica's mean."""


@dataclass(frozen=True)
class Teacher:
    """A teacher's outputs on the student's train rows, and how much they weigh.

    Attributes:
        weight: λ · α · sim, >= 0.
        outputs: one [N, …] per replica over the rows of the train table: logits, or the pooled vectors where
            the loss reads those; NaN where the replica's data order never looks.
        kd: a row of KD_LOSSES.
        temperature: τ; 0: the loss's own.
    """

    weight: float
    outputs: tuple[Tensor, ...]
    kd: str = "mse"
    temperature: float = 0.0

    def on(self, device: torch.device) -> "Teacher":
        """The same with its outputs on a device."""
        return replace(self, outputs=tuple(table.to(device) for table in self.outputs))


def width_maps(teachers: Sequence[Teacher], hidden: int, seeds: Sequence[int]) -> dict[str, Tensor]:
    """The map [K, H of the teacher, H] that is trained where pooled vectors of another width are compared."""
    widths = [t.outputs[0].shape[-1] for t in teachers if KD_LOSSES[t.kd].reads == "hidden"]
    others = [width for width in widths if width != hidden]
    return {MAP: linear_map(others[-1], hidden, seeds)} if others else {}


def distillation_terms(
    part: TaskData, teachers: Sequence[Teacher], factor: float, rows: Tensor, labels: Tensor, maps: Tensor | None
) -> list[Term]:
    """The weighted distillation losses of a step's rows.

    Args:
        part: the task.
        teachers: of all replicas.
        factor: of every weight, at this step.
        rows: [K, b] of the task's train table.
        labels: [K, b, …] of them.
        maps: [K, H of the teacher, H]; None: the widths are one.
    """
    asked = torch.ones_like(labels, dtype=torch.bool)
    if part.task.kind in ("tagging", "generation"):  # padding teaches nothing
        asked = labels != IGNORED
    return [(factor * teacher.weight, _term(part, teacher, rows, asked, maps)) for teacher in teachers]


def _term(
    part: TaskData, teacher: Teacher, rows: Tensor, asked: Tensor, maps: Tensor | None
) -> Callable[[Outputs], Tensor]:
    target = torch.stack([table[row] for table, row in zip(teacher.outputs, rows, strict=True)])  # [K, b, …]
    loss = KD_LOSSES[teacher.kd]
    by_token = part.task.kind in TOKEN_LEVEL and loss.reads == "logits"
    asked = asked if by_token else asked.new_ones(rows.shape)
    counts = shares(averaged_over(teacher.kd, target, asked) if by_token else asked).flatten()
    flat_target, flat_asked = target.flatten(0, 1), asked.flatten(0, 1) if by_token else None
    temperature = teacher.temperature or None

    def term(outputs: Outputs) -> Tensor:
        ours, known = outputs.logits, flat_target[outputs.position]
        if loss.reads == "hidden":
            ours, known = _of_each_choice(_mapped(outputs, maps), known)
        if loss.joint:  # all of the batch is here, in its order
            each = loss(ours.view(target.shape), target, None, temperature) / rows.shape[1]
            return each.repeat_interleave(rows.shape[1])
        where = None if flat_asked is None else flat_asked[outputs.position, None]
        return counts[outputs.position] * loss(ours[:, None], known[:, None], where, temperature)

    return term


def _of_each_choice(ours: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of students and teachers [g, H], or [g, S, H] with one for every choice, in the shape of the larger.

    A model that names the right choice has one vector, which then stands for every choice.
    """
    if ours.dim() < known.dim():
        return ours[:, None].expand_as(known), known
    return ours, known[:, None].expand_as(ours) if known.dim() < ours.dim() else known


def _mapped(outputs: Outputs, maps: Tensor | None) -> Tensor:
    """[g, …, H] the pooled vectors, brought to the teacher's width where that is another."""
    if maps is None:
        return outputs.pooled
    return torch.einsum("gth,g...h->g...t", maps[outputs.owner], outputs.pooled)
