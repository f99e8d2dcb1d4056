"""TrainingData: the train rows of each task for K replicas, and their order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.data.splits import Rows, data_order, mixing_size, mixture_schedule, replica_rows
from panda_trainable.data.tokens import TokenTable, token_table
from panda_trainable.library import PromptLibrary


@dataclass(frozen=True)
class TaskData:
    """One task's train rows, and when replicas train on them. A mixture has several.

    Attributes:
        task: the task.
        table: its train rows.
        rows: [K] what each replica trains on and holds out.
        labels: [K, N, …], on the device; of a regression at mean 0 and deviation 1.
        scale: [K, 2] mean and deviation that a regression's labels were divided by; 0 and 1 of other kinds.
        order: [K, M] its rows in the order in which the replicas train on them.
        order_on_device: the same where it is computed, so that no step waits for a GPU.
        step_offsets: [steps + 1] how many of them come before each step.
    """

    task: TaskSpec
    table: TokenTable
    rows: list[Rows]
    labels: Tensor
    scale: Tensor
    order: Tensor
    order_on_device: Tensor
    step_offsets: tuple[int, ...]

    def at(self, step: int) -> slice:
        """The positions of a step's rows in the data order."""
        return slice(self.step_offsets[step], self.step_offsets[step + 1])


@dataclass(frozen=True)
class TrainingData:
    """The rows of a run of K replicas.

    Attributes:
        library: where token tables come from.
        setting: PLM, batch size, rows.
        seeds: [K] one replica each: its fold and data order.
        parts: one of each task.
    """

    library: PromptLibrary
    setting: Setting
    seeds: tuple[int, ...]
    parts: tuple[TaskData, ...]


def training_data(
    library: PromptLibrary, setting: Setting, task: TaskSpec | Mixture, seeds: Sequence[int], steps: int,
    device: torch.device, exclude_overlap_with: TaskSpec | None = None,
) -> TrainingData:  # fmt: skip
    """The rows that replicas train on, in an order that the seeds decide.

    Args:
        library: where token tables come from.
        setting: PLM, batch size, rows.
        task: the task that is trained, or a mixture of tasks.
        seeds: [K].
        steps: of the whole run.
        device: where it is computed.
        exclude_overlap_with: a target whose report rows share no text with the rows that are trained on; None: none.
    """
    tables = [token_table(library, setting, each, "train") for each in task.tasks]
    cap, shots = (task.cap, task.shots) if isinstance(task, Mixture) else (len(tables[0]), ())
    shots = shots or (setting.shots,) * len(tables)
    sizes = [mixing_size(each, len(table), few) for each, table, few in zip(task.tasks, tables, shots, strict=True)]
    owners = mixture_schedule(sizes, cap, steps * setting.train.batch_size)
    parts = []
    for number, (each, table) in enumerate(zip(task.tasks, tables, strict=True)):
        excluded = exclude_overlap_with if each != exclude_overlap_with else None
        own = replace(setting, shots=shots[number])
        rows = [replica_rows(library, own, each, seed, excluded) for seed in seeds]
        counts = np.cumsum((owners == number).reshape(steps, setting.train.batch_size).sum(1))
        offsets = (0, *(int(count) for count in counts))
        order = torch.from_numpy(
            np.stack([data_order(of.train, seed, offsets[-1]) for of, seed in zip(rows, seeds, strict=True)])
        )
        scale = label_scale(each, table, rows)
        labels = scaled_labels(each, table, scale).to(device)
        parts.append(TaskData(each, table, rows, labels, scale, order, order.to(device), offsets))
    return TrainingData(library, setting, tuple(seeds), tuple(parts))


def label_scale(task: TaskSpec, table: TokenTable, rows: Sequence[Rows]) -> Tensor:
    """[K, 2] mean and deviation of a regression's labels over each replica's train rows; 0 and 1 of other kinds, and of words."""
    if task.kind != "regression" or task.asked:
        return torch.tensor([0.0, 1.0]).expand(len(rows), 2)
    known = [table.labels[torch.from_numpy(replica.train)] for replica in rows]
    return torch.stack([torch.stack((values.mean(), values.std(correction=0))) for values in known])


def scaled_labels(task: TaskSpec, table: TokenTable, scale: Tensor) -> Tensor:
    """[K, N, …] labels; a regression's values less the mean, over the deviation."""
    if task.kind != "regression":
        return table.labels.expand(len(scale), *table.labels.shape)
    return (table.labels - scale[:, :1]) / scale[:, 1:]
