"""Session: trains the K replicas of one trial, evaluates, saves and restores them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from panda_trainable import heads
from panda_trainable.config import Schedule, Setting
from panda_trainable.data import Rows, TokenTable, batches, replica_rows, selection_split, token_table
from panda_trainable.encoder import FrozenEncoder, load_encoder
from panda_trainable.library import PromptLibrary
from panda_trainable.metrics import METRICS
from panda_trainable.objectives import KD_LOSSES, TASK_LOSSES, total
from panda_trainable.optimiser import StackedAdamW
from panda_trainable.prompts import SoftPrompt
from panda_trainable.tasks import TaskSpec

GROUP_TOKENS = {"cpu": 600, "cuda": 65536}
"""Device -> padded tokens of one length group: small ones stay in a CPU's caches, large ones fill a GPU."""


@dataclass(frozen=True)
class Teacher:
    """What a teacher says of the student's rows, and how much it counts.

    Attributes:
        weight: λ · α · sim, >= 0.
        logits: one [N, C] per replica over the rows of the train table; NaN where the replica's
            data order never looks.
    """

    weight: float
    logits: tuple[Tensor, ...]


def device() -> str:
    """Where sessions of this process run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class Session:
    """K replicas of one soft prompt and head, trained together on a frozen encoder.

    Args:
        library: where token tables come from.
        setting: what the plan shares: PLM, prompt, batch size, rows.
        task: the task that is trained.
        seeds: [K] one replica each: its fold, head initialisation and data order.
        start: [K, L, 2, heads, P, d] the prompts at step 0.
        steps: steps of the whole run; `linear` reaches a rate of zero there.
        learning_rate: at the first step.
        schedule: `linear` decay or `constant`.
        teachers: of all replicas; none is plain prompt tuning.
        kd: a row of KD_LOSSES.
    """

    def __init__(
        self,
        library: PromptLibrary,
        setting: Setting,
        task: TaskSpec,
        seeds: Sequence[int],
        start: Tensor,
        *,
        steps: int,
        learning_rate: float,
        schedule: Schedule = "linear",
        teachers: Sequence[Teacher] = (),
        kd: str = "mse",
    ):
        self.library, self.setting, self.task, self.seeds = library, setting, task, tuple(seeds)
        self.steps, self.learning_rate, self.schedule = steps, learning_rate, schedule
        self.encoder = load_encoder(setting.plm, device())
        self.encoder.check_room(setting.prompt_length, setting.max_length)
        self.table = token_table(library, setting, task, "train")
        self.rows = [replica_rows(library, setting, task, seed) for seed in seeds]
        order = [
            batches(rows.train, seed, steps, setting.batch_size) for rows, seed in zip(self.rows, seeds, strict=True)
        ]
        self.order = torch.from_numpy(np.stack(order, 1))  # [steps, K, B]
        self.labels = scaled_labels(task, self.table, self.rows)  # [K, N]
        self.teachers, self.kd = tuple(teachers), kd
        self.trainables = self._trainables(start)
        self.optimiser = StackedAdamW(self.trainables)
        self.done = 0
        self.loss_sum = torch.zeros(len(self.seeds), device=self.encoder.device)  # [K] since the last evaluation
        self.loss_steps = 0
        self.train_s = self.evaluate_s = 0.0

    def _trainables(self, start: Tensor) -> dict[str, Tensor]:
        drawn = [heads.random_head(self.task.outputs, self.encoder.hidden, seed) for seed in self.seeds]
        tensors = {
            "prompt": start.clone(),
            "weight": torch.stack([weight for weight, _ in drawn]),
            "bias": torch.stack([bias for _, bias in drawn]),
        }
        return {name: tensor.to(self.encoder.device).requires_grad_() for name, tensor in tensors.items()}

    def advance(self, steps: int) -> None:
        """Trains for so many steps, but not beyond the last."""
        began = time.perf_counter()
        for _ in range(min(steps, self.steps - self.done)):
            self._step()
        self.train_s += time.perf_counter() - began

    def _step(self) -> None:
        rows = self.order[self.done]  # [K, B]
        replicas = torch.arange(len(self.seeds))[:, None].expand_as(rows)
        prompt, weight, bias = self.trainables.values()
        pooled = pooled_rows(self.encoder, self.table, prompt, rows.flatten(), replicas.flatten())
        logits = heads.logits(pooled.view(*rows.shape, -1), weight, bias)  # [K, B, C]
        labels = self.labels[replicas, rows].to(logits.device)
        loss = total(TASK_LOSSES[self.task.kind](logits, labels), self._distillation(logits, rows))
        torch.autograd.backward(loss.sum(), inputs=list(self.trainables.values()))
        self.optimiser.step(torch.full_like(self.loss_sum, self.rate()))
        self.loss_sum += loss.detach()
        self.loss_steps += 1
        self.done += 1

    def _distillation(self, logits: Tensor, rows: Tensor) -> list[tuple[float, Tensor]]:
        terms = []
        for teacher in self.teachers:
            said = torch.stack([known[row] for known, row in zip(teacher.logits, rows, strict=True)])
            terms.append((teacher.weight, KD_LOSSES[self.kd](logits, said.to(logits.device))))
        return terms

    def rate(self) -> float:
        """The learning rate of the next step. Source: Hugging Face's linear schedule without warm-up."""
        left = 1 - self.done / self.steps if self.schedule == "linear" else 1.0
        return self.learning_rate * left

    def losses(self) -> list[float]:
        """[K] mean training loss since it was last asked for; NaN or infinite where a replica diverged."""
        mean = (self.loss_sum / max(self.loss_steps, 1)).tolist()
        self.loss_sum.zero_()
        self.loss_steps = 0
        return [float(loss) for loss in mean]

    def select(self) -> dict[str, list[float]]:
        """Metric -> [K] on each replica's selection rows."""
        split = selection_split(self.setting, self.task)
        return self._scores(split, [rows.selection for rows in self.rows])[0]

    def report(self) -> tuple[dict[str, list[float]], np.ndarray, np.ndarray]:
        """Scores on the report split: metric -> [K], logits [K, N, C], labels [N]. For `confirm` alone."""
        split = self.task.report_split
        labels = token_table(self.library, self.setting, self.task, split).labels.numpy()
        scores, logits = self._scores(split, [np.arange(len(labels))] * len(self.seeds))
        return scores, np.stack(logits), labels

    def _scores(self, split: str, rows: list[np.ndarray]) -> tuple[dict[str, list[float]], list[np.ndarray]]:
        began = time.perf_counter()
        table = token_table(self.library, self.setting, self.task, split)
        logits = self.logits(table, rows)
        labels = [table.labels.numpy()[chosen] for chosen in rows]
        pairs = list(zip(logits, labels, strict=True))
        finite = [bool(np.isfinite(said).all()) for said, _ in pairs]
        scores = {
            name: [METRICS[name](*pair) if ok else float("nan") for pair, ok in zip(pairs, finite, strict=True)]
            for name in self.task.metrics
        }
        self.evaluate_s += time.perf_counter() - began
        return scores, logits

    @torch.inference_mode()
    def logits(self, table: TokenTable, rows: list[np.ndarray]) -> list[np.ndarray]:
        """[K] arrays of logits [n, C]: each replica on its own rows of a table."""
        flat = torch.from_numpy(np.concatenate(rows))
        counts = [len(chosen) for chosen in rows]
        owner = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(counts))
        prompt, weight, bias = self.trainables.values()
        pooled = pooled_rows(self.encoder, table, prompt, flat, owner).split(counts)
        return [
            heads.logits(x[None], w[None], b[None])[0].cpu().numpy()
            for x, w, b in zip(pooled, weight, bias, strict=True)
        ]

    def prompts(self) -> list[SoftPrompt]:
        """[K] the prompts and heads as they are now."""
        stacks = [tensor.detach().cpu().clone() for tensor in self.trainables.values()]
        return [SoftPrompt(*parts) for parts in zip(*stacks, strict=True)]

    def state(self) -> dict[str, Tensor]:
        """All that decides what comes next, as named tensors."""
        parts = {"trained": self.trainables, "mean": self.optimiser.mean, "square": self.optimiser.square}
        tensors = {
            f"{part}.{name}": tensor.detach().clone() for part, named in parts.items() for name, tensor in named.items()
        }
        return {**tensors, "done": torch.tensor(self.done)}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Goes back to a state: what follows is what followed then."""
        parts = {"trained": self.trainables, "mean": self.optimiser.mean, "square": self.optimiser.square}
        for part, named in parts.items():
            for name, tensor in named.items():
                tensor.copy_(state[f"{part}.{name}"])
        self.done = self.optimiser.steps = int(state["done"])
        self.losses()  # those of the steps that were undone


def scaled_labels(task: TaskSpec, table: TokenTable, rows: list[Rows]) -> Tensor:
    """[K, N] class numbers, or values scaled to mean 0 and deviation 1 of each replica's train rows."""
    if task.kind == "classification":
        return table.labels.expand(len(rows), -1)
    scaled = []
    for replica in rows:
        known = table.labels[torch.from_numpy(replica.train)]
        scaled.append((table.labels - known.mean()) / known.std(correction=0))
    return torch.stack(scaled)


def pooled_rows(
    encoder: FrozenEncoder, table: TokenTable, prefix: Tensor | None, rows: Tensor, owner: Tensor
) -> Tensor:
    """Encodings of rows, computed in groups of like length: padding costs little, numbers stay the same.

    Args:
        encoder: the frozen encoder.
        table: where the rows are.
        prefix: [K, L, 2, heads, P, d]; None: no prompt.
        rows: [n] row numbers of the table.
        owner: [n] the replica of each row.

    Returns:
        [n, H] in the order of `rows`.
    """
    lengths, order = table.lengths[rows].sort(stable=True)
    pieces = []
    for chosen in _length_groups(lengths.tolist(), GROUP_TOKENS[encoder.device.type]):
        index = order[chosen]
        longest = int(lengths[chosen][-1])
        parts = (table.ids[rows[index], :longest].long(), table.types[rows[index], :longest].long(), lengths[chosen])
        ids, types, sizes = (part.to(encoder.device, non_blocking=True) for part in parts)
        pieces.append(encoder.encode(ids, types, sizes, prefix, owner[index].to(encoder.device)))
    return torch.cat(pieces).index_select(0, order.argsort().to(encoder.device))


def _length_groups(lengths: list[int], tokens: int) -> list[slice]:
    """Cuts ascending lengths into runs of at most so many padded tokens, at least one row each."""
    groups, first = [], 0
    for last, length in enumerate(lengths):
        if last > first and (last - first + 1) * length > tokens:
            groups.append(slice(first, last))
            first = last
    return [*groups, slice(first, len(lengths))]
