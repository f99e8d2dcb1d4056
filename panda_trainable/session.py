"""Session: trains the K replicas of one trial, evaluates, saves and restores them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panda_trainable.config import Schedule, Setting
from panda_trainable.data import Rows, batches, replica_rows, selection_split
from panda_trainable.encoder import FrozenEncoder, load_encoder
from panda_trainable.heads import HEADS, Head, outputs, random_head
from panda_trainable.library import PromptLibrary
from panda_trainable.metrics import METRICS
from panda_trainable.objectives import IGNORED, KD_LOSSES, TASK_LOSSES, kd_asked, shares, total
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
        """One step of every replica, a length group at a time: the activations of one group are alive at once."""
        there = self.order_there[self.done]  # [K, B]
        labels = self.labels[self.replicas, there]
        taught, counts = self._taught(there, labels), shares(labels != IGNORED).flatten()
        flat, prompt = labels.flatten(0, 1), self.prompt()
        leaf = prompt if prompt.is_leaf else prompt.detach().requires_grad_()
        weight, bias = self.trainables["weight"], self.trainables["bias"]
        order, trained = self.order[self.done], [leaf, weight, bias]
        owner = torch.arange(len(order)).repeat_interleave(order.shape[1])
        groups = answered(self.encoder, self.table, self.head, leaf, weight, bias, order.flatten(), owner)
        for logits, which, whose in groups:
            loss = total(
                counts[which] * TASK_LOSSES[self.task.kind](logits[:, None], flat[which, None]),
                [(much, distil(logits[:, None], which)) for much, distil in taught],
            )
            torch.autograd.backward(loss.sum(), inputs=trained)
            self.loss_sum.index_add_(0, whose, loss.detach())
        if leaf is not prompt:
            torch.autograd.backward(prompt, leaf.grad, inputs=[self.trainables[name] for name in MLP_PARTS])
        self.optimiser.step(torch.full_like(self.loss_sum, self.rate()))
        self.loss_steps += 1
        self.done += 1

    def _answers(self, table: TokenTable, rows: Tensor, owner: Tensor) -> Tensor:
        """[n, …] logits of rows of a table, each by its own replica."""
        weight, bias = self.trainables["weight"], self.trainables["bias"]
        return answers(self.encoder, table, self.head, self.prompt(), weight, bias, rows, owner)

    def _taught(self, rows: Tensor, labels: Tensor) -> list[tuple[float, Callable[[Tensor, Tensor], Tensor]]]:
        """Weight of each teacher, and its loss of logits [g, 1, …] of examples [g]: their parts of the replicas' means."""
        asked = torch.ones_like(labels, dtype=torch.bool)
        if self.task.kind == "tagging":  # padding teaches nothing
            asked = labels != IGNORED
        return [(teacher.weight, self._lesson(teacher, rows, asked)) for teacher in self.teachers]

    def _lesson(self, teacher: Teacher, rows: Tensor, asked: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        said = torch.stack([known[row] for known, row in zip(teacher.logits, rows, strict=True)])  # [K, B, …]
        wide = self.head.reads == "tokens"
        counts = shares(kd_asked(self.kd, said, asked) if wide else asked).flatten()
        heard, real = said.flatten(0, 1), asked.flatten(0, 1) if wide else None

        def distil(logits: Tensor, which: Tensor) -> Tensor:
            where = None if real is None else real[which, None]
            return counts[which] * KD_LOSSES[self.kd](logits, heard[which, None], where)

        return distil

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
    encoder: FrozenEncoder, table: TokenTable, head: Head, prompt: Tensor | None, weight: Tensor, bias: Tensor,
    rows: Tensor, owner: Tensor,
) -> Tensor:  # fmt: skip
    """[n, …] logits of rows, in their order; the arguments are those of `answered`."""
    pieces = list(answered(encoder, table, head, prompt, weight, bias, rows, owner))
    which = torch.cat([which for _, which, _ in pieces])
    return torch.cat([logits for logits, _, _ in pieces]).index_select(0, which.argsort())


def answered(
    encoder: FrozenEncoder, table: TokenTable, head: Head, prompt: Tensor | None, weight: Tensor, bias: Tensor,
    rows: Tensor, owner: Tensor,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
    """Logits of rows, a length group after the other.

    Args:
        encoder: the encoder.
        table: where the rows are.
        head: of the task's kind.
        prompt: [K, …] the replicas' prompts; None: no prompt.
        weight: [K, O, H] of the heads.
        bias: [K, O].
        rows: [n] of the table.
        owner: [n] the replica of each row.

    Yields:
        [g, …] logits, which of the n rows they are of [g], and their replicas [g].
    """
    here = table.on(encoder.device)
    if table.sequences == 1:
        for made, at, whose, which in grouped(encoder, table, prompt, rows, owner, tokens=head.reads == "tokens"):
            yield head.arrange(outputs(made, weight, bias, whose), here, at), which, whose
        return
    # The choices of an example are of different lengths, and its loss compares them: all in one piece.
    sequences = (rows[:, None] * table.sequences + torch.arange(table.sequences)).flatten()
    owners = owner.repeat_interleave(table.sequences)
    pooled = encoded(encoder, table, prompt, sequences, owners)
    sent = _sent(torch.stack((owner, torch.arange(len(owner)))), encoder.device)
    whose = sent[0].repeat_interleave(table.sequences)
    yield head.arrange(outputs(pooled, weight, bias, whose), here, rows), sent[1], sent[0]


def encoded(
    encoder: FrozenEncoder, table: TokenTable, prompt: Tensor | None, sequences: Tensor, owner: Tensor
) -> Tensor:
    """[n, H] the pooled vectors of sequences, in their order; the arguments are those of `grouped`."""
    pieces = list(grouped(encoder, table, prompt, sequences, owner, tokens=False))
    which = torch.cat([which for *_, which in pieces])
    return torch.cat([made for made, *_ in pieces]).index_select(0, which.argsort())


def grouped(
    encoder: FrozenEncoder, table: TokenTable, prompt: Tensor | None, sequences: Tensor, owner: Tensor, *, tokens: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Encodings of sequences in groups of like length: padding costs little, numbers stay the same.

    Args:
        encoder: the frozen encoder.
        table: where the sequences are.
        prompt: [K, …] the replicas' prompts; None: no prompt.
        sequences: [n] numbers of the table's sequences.
        owner: [n] the replica of each.
        tokens: whether every token's vector is wanted, or the pooled one.

    Yields:
        [g, H] or [g, T, H], the numbers of the group's sequences [g], their replicas [g], and which of the n they
        are [g].
    """
    lengths, order = table.lengths[sequences].sort(stable=True)
    sent = _sent(torch.stack((sequences[order], owner[order], order)), encoder.device)  # one transfer for all groups
    here, sizes = table.on(encoder.device), lengths.tolist()
    before = prompt.shape[1] if prompt is not None and prompt.dim() == 3 else 0  # an input prompt's tokens count too
    room = GROUP_VALUES[encoder.device.type] // encoder.hidden
    # A model that takes no prefix has attention of its own, which may see padding: then there is none.
    for group in _length_groups([size + before for size in sizes], room, not encoder.refusal):
        longest = sizes[group.stop - 1]
        at, whose, which = sent[:, group]
        ids, types = here.ids[at, :longest].long(), here.types[at, :longest].long()
        padded = sizes[group.start] < longest
        yield encoder.encode(ids, types, here.lengths[at], prompt, whose, tokens, padded), at, whose, which


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
