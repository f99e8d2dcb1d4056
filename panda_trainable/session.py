"""Session: trains the K replicas of one trial, evaluates, saves and restores them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panda_trainable.config import Schedule, Setting
from panda_trainable.data import Rows, batches, replica_rows, selection_split
from panda_trainable.encoder import FrozenEncoder, load_encoder
from panda_trainable.heads import HEADS, outputs, random_head
from panda_trainable.library import PromptLibrary
from panda_trainable.metrics import METRICS
from panda_trainable.objectives import IGNORED, KD_LOSSES, TASK_LOSSES, total
from panda_trainable.optimiser import StackedAdamW
from panda_trainable.prompts import MLP_PARTS, SoftPrompt, mlp_parameters, mlp_prompt
from panda_trainable.tasks import TaskSpec
from panda_trainable.tokens import TokenTable, gold_of, token_table

GROUP_VALUES = {"cpu": 3 * 2**16, "cuda": 2**23}
"""Device -> padded tokens times H of one length group: a layer's states stay in a CPU's cache, or fill a GPU.

On a CPU that is 1,536 tokens for BERT-tiny and 512 for MiniLM (docs/performance.md).
"""


@dataclass(frozen=True)
class Teacher:
    """What a teacher says of the student's rows, and how much it counts.

    Attributes:
        weight: λ · α · sim, >= 0.
        logits: one [N, …] per replica over the rows of the train table; NaN where the replica's
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
        start: [K, L, 2, heads, P, d] or [K, P, E] the prompts at step 0.
        steps: steps of the whole run; `linear` reaches a rate of zero there.
        learning_rate: at the first step.
        schedule: `linear` decay or `constant`.
        teachers: of all replicas; none is plain prompt tuning.
        kd: a row of KD_LOSSES.
        apart_from: a target whose report rows share no text with the rows that are trained on; None: no matter.
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
        apart_from: TaskSpec | None = None,
    ):
        self.library, self.setting, self.task, self.seeds = library, setting, task, tuple(seeds)
        self.steps, self.learning_rate, self.schedule = steps, learning_rate, schedule
        self.encoder = load_encoder(setting.plm, device(), setting.precision)
        place = self.encoder.device
        self.encoder.check_room(setting.prompt_length, setting.max_length, setting.prompt_form)
        self.table = token_table(library, setting, task, "train")
        self.head = HEADS[task.kind]
        self.rows = [replica_rows(library, setting, task, seed, apart_from) for seed in seeds]
        order = [
            batches(rows.train, seed, steps, setting.batch_size) for rows, seed in zip(self.rows, seeds, strict=True)
        ]
        self.order = torch.from_numpy(np.stack(order, 1))  # [steps, K, B]
        # What a step looks up lies where it is computed, so that no step waits for a GPU.
        self.order_there = self.order.to(place)
        self.labels = scaled_labels(task, self.table, self.rows).to(place)  # [K, N, …]
        self.replicas = torch.arange(len(seeds), device=place)[:, None]
        self.teachers = tuple(
            replace(teacher, logits=tuple(known.to(place) for known in teacher.logits)) for teacher in teachers
        )
        self.kd = kd
        self._open(start)
        self.done = 0
        self.loss_sum = torch.zeros(len(self.seeds), device=self.encoder.device)  # [K] since the last evaluation
        self.loss_steps = 0
        self.train_s = self.evaluate_s = 0.0

    def _open(self, start: Tensor) -> None:
        """Makes what is trained, and its optimiser."""
        tensors = {"prompt": start.clone()}
        self.base: Tensor | None = None
        if self.setting.mlp:  # the prompt is base + MLP, and base is such that it starts where it should
            tensors = mlp_parameters(start.shape[1:], self.setting.mlp, self.seeds)
            self.base = (start - mlp_prompt(tensors, start.shape[1:])).to(self.encoder.device)
        drawn = [random_head(self.task.outputs, self.encoder.hidden, seed) for seed in self.seeds]
        tensors |= {
            name: torch.stack(parts) for name, parts in zip(("weight", "bias"), zip(*drawn, strict=True), strict=True)
        }
        self.trainables = {name: tensor.to(self.encoder.device).requires_grad_() for name, tensor in tensors.items()}
        self.optimiser = StackedAdamW(self.trainables)

    def prompt(self) -> Tensor:
        """[K, …] the prompts as they are now."""
        if self.base is None:
            return self.trainables["prompt"]
        return self.base + mlp_prompt({name: self.trainables[name] for name in MLP_PARTS}, self.base.shape[1:])

    def advance(self, steps: int) -> None:
        """Trains for so many steps, but not beyond the last."""
        began = time.perf_counter()
        for _ in range(min(steps, self.steps - self.done)):
            self._step()
        self.train_s += time.perf_counter() - began

    def _step(self) -> None:
        rows = self.order[self.done]  # [K, B]
        owner = torch.arange(len(self.seeds)).repeat_interleave(rows.shape[1])
        logits = self._answers(self.table, rows.flatten(), owner).unflatten(0, rows.shape)  # [K, B, …]
        rows = self.order_there[self.done]
        labels = self.labels[self.replicas, rows]
        loss = total(TASK_LOSSES[self.task.kind](logits, labels), self._distillation(logits, rows, labels))
        torch.autograd.backward(loss.sum(), inputs=list(self.trainables.values()))
        self.optimiser.step(torch.full_like(self.loss_sum, self.rate()))
        self.loss_sum += loss.detach()
        self.loss_steps += 1
        self.done += 1

    def _answers(self, table: TokenTable, rows: Tensor, owner: Tensor) -> Tensor:
        """[n, …] logits of rows of a table, each by its own replica."""
        return answers(
            self.encoder, table, self.head.reads, self.head.arrange, self.prompt(), self.trainables["weight"],
            self.trainables["bias"], rows, owner,
        )  # fmt: skip

    def _distillation(self, logits: Tensor, rows: Tensor, labels: Tensor) -> list[tuple[float, Tensor]]:
        asked = None
        if self.head.reads == "tokens":  # padding teaches nothing
            asked = labels != IGNORED if self.task.kind == "tagging" else torch.ones_like(labels, dtype=torch.bool)
        terms = []
        for teacher in self.teachers:
            said = torch.stack([known[row] for known, row in zip(teacher.logits, rows, strict=True)])
            terms.append((teacher.weight, KD_LOSSES[self.kd](logits, said, asked)))
        return terms

    def rate(self, step: int | None = None) -> float:
        """The learning rate of a step, by default the next. Source: Hugging Face's linear schedule without warm-up."""
        at = self.done if step is None else step
        return self.learning_rate * (1 - at / self.steps if self.schedule == "linear" else 1.0)

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

    def report(self) -> tuple[dict[str, list[float]], NDArray[np.float32], NDArray[Any]]:
        """Scores on the report split: metric -> [K], logits [K, N, …], gold [N]. For `confirm` alone."""
        split = self.task.report_split
        table = token_table(self.library, self.setting, self.task, split)
        rows = np.arange(len(table))
        scores, logits = self._scores(split, [rows] * len(self.seeds))
        return scores, np.stack(logits), gold_of(table, self.task, rows)

    def _scores(
        self, split: str, rows: list[NDArray[np.int64]]
    ) -> tuple[dict[str, list[float]], list[NDArray[np.float32]]]:
        began = time.perf_counter()
        table = token_table(self.library, self.setting, self.task, split)
        logits = self.logits(table, rows)
        gold = [gold_of(table, self.task, chosen) for chosen in rows]
        pairs = list(zip(logits, gold, strict=True))
        finite = [bool(np.isfinite(said).all()) for said, _ in pairs]
        scores = {
            name: [METRICS[name](*pair) if ok else float("nan") for pair, ok in zip(pairs, finite, strict=True)]
            for name in self.task.metrics
        }
        self.evaluate_s += time.perf_counter() - began
        return scores, logits

    @torch.inference_mode()
    def logits(self, table: TokenTable, rows: list[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """[K] arrays of logits [n, …]: each replica on its own rows of a table."""
        flat = torch.from_numpy(np.concatenate(rows))
        counts = [len(chosen) for chosen in rows]
        owner = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(counts))
        return [said.cpu().numpy() for said in self._answers(table, flat, owner).split(counts)]

    @torch.no_grad()
    def prompts(self) -> list[SoftPrompt]:
        """[K] the prompts and heads as they are now."""
        stacks = [self.prompt(), self.trainables["weight"], self.trainables["bias"]]
        copies = [tensor.detach().cpu().clone() for tensor in stacks]
        return [SoftPrompt(*parts) for parts in zip(*copies, strict=True)]

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
    """[K, N, …] labels; values are scaled to mean 0 and deviation 1 of each replica's train rows."""
    if task.kind != "regression":
        return table.labels.expand(len(rows), *table.labels.shape)
    scaled = []
    for replica in rows:
        known = table.labels[torch.from_numpy(replica.train)]
        scaled.append((table.labels - known.mean()) / known.std(correction=0))
    return torch.stack(scaled)


def answers(
    encoder: FrozenEncoder, table: TokenTable, reads: str, arrange: Callable[[Tensor, TokenTable, Tensor], Tensor],
    prompt: Tensor | None, weight: Tensor, bias: Tensor, rows: Tensor, owner: Tensor,
) -> Tensor:  # fmt: skip
    """Logits of rows.

    Args:
        encoder: the encoder.
        table: where the rows are.
        reads: `pooled` or `tokens`, of the task's head.
        arrange: of the task's head: outputs of sequences -> logits of examples.
        prompt: [K, …] the replicas' prompts; None: no prompt.
        weight: [K, O, H] of the heads.
        bias: [K, O].
        rows: [n] of the table.
        owner: [n] the replica of each row.

    Returns:
        [n, …] logits.
    """
    here = table.on(encoder.device)
    if reads == "tokens":  # an example is one sequence

        def finish(hidden: Tensor, at: Tensor, whose: Tensor) -> Tensor:
            return arrange(outputs(hidden, weight, bias, whose), here, at)

        return encoded(encoder, table, prompt, rows, owner, finish)
    sequences = (rows[:, None] * table.sequences + torch.arange(table.sequences)).flatten()
    owners = owner.repeat_interleave(table.sequences)
    pooled = encoded(encoder, table, prompt, sequences, owners)
    return arrange(outputs(pooled, weight, bias, _sent(owners, encoder.device)), here, rows)


def encoded(
    encoder: FrozenEncoder, table: TokenTable, prompt: Tensor | None, sequences: Tensor, owner: Tensor,
    finish: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """Encodings of sequences, computed in groups of like length: padding costs little, numbers stay the same.

    Args:
        encoder: the frozen encoder.
        table: where the sequences are.
        prompt: [K, …] the replicas' prompts; None: no prompt.
        sequences: [n] numbers of the table's sequences.
        owner: [n] the replica of each.
        finish: makes rows of one shape of every token's vector, from [g, T, H], the numbers [g] of the
            group's sequences and their replicas [g]; None: the pooled vectors.

    Returns:
        [n, …] in the order of `sequences`.
    """
    lengths, order = table.lengths[sequences].sort(stable=True)
    sent = _sent(torch.stack((sequences[order], owner[order], order.argsort())), encoder.device)  # one transfer
    at, whose, back = sent.unbind()
    here, sizes = table.on(encoder.device), lengths.tolist()
    before = (
        prompt.shape[1] if prompt is not None and prompt.dim() == 3 else 0
    )  # an input prompt's tokens are padded too
    pieces = []
    room = GROUP_VALUES[encoder.device.type] // encoder.hidden
    # A model that takes no prefix has attention of its own, which may see padding: then there is none.
    groups = _length_groups([size + before for size in sizes], room, not encoder.refusal)
    for group in groups:
        longest = sizes[group.stop - 1]
        rows, owners = at[group], whose[group]
        ids, types = here.ids[rows, :longest].long(), here.types[rows, :longest].long()
        made = encoder.encode(
            ids, types, here.lengths[rows], prompt, owners, finish is not None, sizes[group.start] < longest
        )
        pieces.append(finish(made, rows, owners) if finish else made)
    return torch.cat(pieces).index_select(0, back)


def _sent(numbers: Tensor, place: torch.device) -> Tensor:
    """A tensor of the CPU on another device; nobody waits for it."""
    return numbers if place.type == "cpu" else numbers.pin_memory().to(place, non_blocking=True)


def _length_groups(lengths: list[int], tokens: int, mixed: bool) -> list[slice]:
    """Cuts ascending lengths into runs of at most so many padded tokens, at least one row each; mixed: of any lengths."""
    groups, first = [], 0
    for last, length in enumerate(lengths):
        if last > first and ((last - first + 1) * length > tokens or (length > lengths[first] and not mixed)):
            groups.append(slice(first, last))
            first = last
    return [*groups, slice(first, len(lengths))]
