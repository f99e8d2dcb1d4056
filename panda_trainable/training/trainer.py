"""Trainer: trains a student: data order, losses, optimiser, schedule, evaluation, state."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from panda_trainable.config.setting import Schedule
from panda_trainable.data.gold import IGNORED
from panda_trainable.data.splits import selection_split
from panda_trainable.plm.places import Prefilled, Prompts
from panda_trainable.prompt.soft_prompt import SoftPrompt
from panda_trainable.prompt.sources import trained_on
from panda_trainable.training.data import TaskData, TrainingData
from panda_trainable.training.distillation import KD_LOSSES, RAMPS
from panda_trainable.training.distillation_terms import MAP, Teacher, distillation_terms, width_maps
from panda_trainable.training.evaluation import Scores, report_scores, scores_on
from panda_trainable.training.forward import Outputs, concatenated
from panda_trainable.training.losses import TASK_LOSSES, shares, total
from panda_trainable.training.student import Block, Student

BETAS = (0.9, 0.999)
EPSILON = 1e-8
CLIP_NORM = 1.0
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of each tensor."""


@dataclass(frozen=True)
class Recipe:
    """How a student is taught.

    Attributes:
        steps: of the whole run; `linear` reaches a rate of zero there. With 0 nothing is trained.
        learning_rate: at the first step.
        schedule: `linear` decay or `constant`.
        teachers: of all replicas; none is training on labels alone.
        ramp: a row of RAMPS: how the teachers' weights change over the steps.
    """

    steps: int
    learning_rate: float
    schedule: Schedule = "linear"
    teachers: tuple[Teacher, ...] = ()
    ramp: str = "constant"

    def rate(self, step: int) -> float:
        """The learning rate of a step. Source: Hugging Face's linear schedule without warm-up."""
        return self.learning_rate * (1 - step / self.steps if self.schedule == "linear" else 1.0)


class Trainer:
    """Teaches the K replicas of a student.

    Attributes:
        student: who is taught.
        data: the rows, in their order.
        recipe: how.
        done: steps so far.
        train_s: seconds of training so far.
        evaluate_s: seconds of evaluation so far.
    """

    def __init__(self, student: Student, data: TrainingData, recipe: Recipe):
        self.student, self.data = student, data
        place = student.encoder.device
        self.recipe = replace(recipe, teachers=tuple(teacher.on(place) for teacher in recipe.teachers))
        maps = width_maps(recipe.teachers, student.encoder.hidden, student.seeds)
        self.maps = trained_on(place, maps)
        self.blocks = [replace(block, parameters={**block.parameters, **self.maps}) for block in student.blocks]
        self.optimisers = [adamw(block.parameters.values(), recipe.learning_rate) for block in self.blocks]
        self.done = 0
        self.loss_sum = torch.zeros(len(student.seeds), device=place)  # [K] since the last evaluation
        self.loss_steps = 0
        self.train_s = self.evaluate_s = 0.0

    @property
    def trainables(self) -> dict[str, Tensor]:
        """Name -> trained parameter, stacked over replicas [K, …]."""
        return {name: tensor for block in self.blocks for name, tensor in block.parameters.items()}

    def advance(self, steps: int) -> None:
        """Trains for `steps` steps, at most up to `recipe.steps`."""
        began = time.perf_counter()
        last = min(self.done + steps, self.recipe.steps)
        for block, optimiser in zip(self.blocks, self.optimisers, strict=True):
            for step in range(self.done, last):
                self._step(block, optimiser, step)
        self.loss_steps += last - self.done
        self.done = last
        self.train_s += time.perf_counter() - began

    def _step(self, block: Block, optimiser: torch.optim.AdamW, step: int) -> None:
        """One step of the replicas of a block."""
        self._gather_gradients(block, step)
        tensors = list(block.parameters.values())
        clip_replicas(tensors) if block.stacked else clip_grad_norm_(tensors, CLIP_NORM)
        for group in optimiser.param_groups:
            group["lr"] = self.recipe.rate(step)
        optimiser.step()
        optimiser.zero_grad()

    def _gather_gradients(self, block: Block, step: int) -> None:
        """Gradients of a step; what makes the prompts is run backward once for all length buckets."""
        prompts = self.student.prompt()
        leaf = prompts if prompts is None or prompts.is_leaf else prompts.detach().requires_grad_()
        for number, part in enumerate(self.data.parts):
            if part.order[block.replicas, part.at(step)].numel():
                self._task_gradients(block, step, number, leaf)
        if prompts is not None and leaf is not None and leaf is not prompts:
            torch.autograd.backward(prompts, leaf.grad)

    def _task_gradients(self, block: Block, step: int, number: int, prompts: Tensor | None) -> None:
        """Gradients of a step's rows of a task: the activations of one length bucket are alive at once.

        What the PLM makes of prompts without a text is run backward once for all buckets, too.
        """
        part = self.data.parts[number]
        rows, on_device = (
            order[block.replicas, part.at(step)] for order in (part.order, part.order_on_device)
        )  # [K, b]
        replicas = torch.arange(len(self.student.seeds))[block.replicas]
        labels = part.labels[replicas.to(on_device.device)[:, None], on_device]
        factor = RAMPS[self.recipe.ramp](step / self.recipe.steps)
        terms = distillation_terms(part, self.recipe.teachers, factor, on_device, labels, self.maps.get(MAP))
        counts = (shares(labels != IGNORED) * (rows.shape[1] / self.data.setting.train.batch_size)).flatten()
        flat, owner = labels.flatten(0, 1), replicas.repeat_interleave(rows.shape[1])
        made = self.student.front(prompts, number)
        front = made.leaf() if isinstance(made, Prefilled) else made
        for outputs in self._outputs(part, rows.flatten(), owner, number, front):
            loss = total(
                counts[outputs.position]
                * TASK_LOSSES[part.task.kind](outputs.logits[:, None], flat[outputs.position, None]),
                [(weight, term(outputs)) for weight, term in terms],
            )
            loss.sum().backward()
            self.loss_sum.index_add_(0, outputs.owner, loss.detach())
        if isinstance(made, Prefilled) and isinstance(front, Prefilled):
            made.backward(front)

    def _outputs(
        self, part: TaskData, rows: Tensor, owner: Tensor, number: int, front: Prompts | None
    ) -> Iterator[Outputs]:
        """The student's outputs: in one piece where a loss compares the examples of a batch."""
        buckets = self.student.forward(part.table, rows, owner, number, front)
        joint = any(KD_LOSSES[teacher.kd].joint for teacher in self.recipe.teachers)
        return iter([concatenated(buckets)]) if joint else buckets

    def losses(self) -> list[float]:
        """[K] mean training loss since the previous call; NaN or infinite where a replica diverged."""
        mean = (self.loss_sum / max(self.loss_steps, 1)).tolist()
        self.loss_sum.zero_()
        self.loss_steps = 0
        return [float(loss) for loss in mean]

    def select(self, number: int = 0) -> Scores:
        """Metric -> [K] scores on each replica's selection rows; for a mixture, those of task `number`."""
        began, part = time.perf_counter(), self.data.parts[number]
        split = selection_split(self.data.setting, part.task)
        rows = [of.selection for of in part.rows]
        scores, _ = scores_on(self.student, self.data.library, self.data.setting, split, rows, number)
        self.evaluate_s += time.perf_counter() - began
        return scores

    def report(self) -> tuple[Scores, NDArray[np.float32], NDArray[Any]]:
        """Scores on the report split: metric -> [K], logits [K, N, …], gold [N]. For `confirm` and `train` alone."""
        return report_scores(self.student, self.data.library, self.data.setting)

    def prompts(self) -> list[SoftPrompt]:
        """[K] the prompts and heads as they are now, with the scale of the labels; none where there is no prompt."""
        return [prompt.scaled(scale) for prompt, scale in zip(self.student.prompts(), self.label_scales, strict=False)]

    @property
    def label_scales(self) -> Tensor:
        """[K, 2, O] mean and deviation of the labels that each output was trained on."""
        parts = self.data.parts
        return torch.cat([part.scale[..., None].expand(-1, -1, part.task.outputs) for part in parts], 2)

    def state(self) -> dict[str, Tensor]:
        """The complete training state (parameters, optimiser, step) as named tensors."""
        tensors = {"done": torch.tensor(self.done)}
        for block, optimiser in zip(self.blocks, self.optimisers, strict=True):
            for name, tensor in block.parameters.items():
                kept = {"trained": tensor, **optimiser.state.get(tensor, {})}
                tensors |= {f"{part}.{name}": value.detach().clone() for part, value in kept.items()}
        return tensors

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Restores a state; training then continues bit for bit as it did from there."""
        for block, optimiser in zip(self.blocks, self.optimisers, strict=True):
            optimiser.state.clear()
            for name, tensor in block.parameters.items():
                tensor.copy_(state[f"trained.{name}"])
                moments = {part: state[f"{part}.{name}"] for part in MOMENTS if f"{part}.{name}" in state}
                if moments:
                    optimiser.state[tensor] = {
                        part: value.to(tensor.device, copy=True) for part, value in moments.items()
                    }
        self.done = int(state["done"])
        self.losses()  # those of the steps that were undone


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
