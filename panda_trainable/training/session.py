"""Session: trains the K replicas of one trial, evaluates, saves and restores them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panda_trainable.config.setting import Schedule, Setting
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.data.gold import IGNORED
from panda_trainable.data.splits import Rows, mixed, mixing_size, replica_rows, selection_split, stream
from panda_trainable.data.tokens import TokenTable, gold_of, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.soft_prompt import MLP_PARTS, SoftPrompt, mlp_parameters, mlp_prompt
from panda_trainable.training.distillation import KD_LOSSES, RAMPS, kd_asked
from panda_trainable.training.forward import Answer, answered, joined
from panda_trainable.training.heads import HEAD_PARTS, HEADS, Head, linear_map, random_head
from panda_trainable.training.losses import TASK_LOSSES, shares, total
from panda_trainable.training.metrics import METRICS
from panda_trainable.training.optimiser import StackedAdamW
from panda_trainable.worker import device, load_encoder

MAP = "map"
"""What is trained to compare pooled vectors of different widths."""


@dataclass(frozen=True)
class Teacher:
    """What a teacher says of the student's rows, and how much it counts.

    Attributes:
        weight: λ · α · sim, >= 0.
        logits: one [N, …] per replica over the rows of the train table: logits, or the pooled vectors where
            the loss reads those; NaN where the replica's data order never looks.
        kd: a row of KD_LOSSES.
        temperature: τ; 0: the loss's own.
    """

    weight: float
    logits: tuple[Tensor, ...]
    kd: str = "mse"
    temperature: float = 0.0


@dataclass(frozen=True)
class Part:
    """A task of a session, and what of it the replicas meet when. Most sessions have one, a mixture's has several.

    Attributes:
        task: the task.
        table: its train rows.
        head: of its kind.
        rows: [K] what each replica trains on and holds out.
        labels: [K, N, …].
        outputs: its outputs among those of all heads.
        met: [K, M] its rows in the order in which the replicas meet them.
        met_there: the same where it is computed, so that no step waits for a GPU.
        bounds: [steps + 1] how many of them were met before each step.
    """

    task: TaskSpec
    table: TokenTable
    head: Head
    rows: list[Rows]
    labels: Tensor
    outputs: slice
    met: Tensor
    met_there: Tensor
    bounds: tuple[int, ...]

    def at(self, step: int) -> slice:
        """Which of the rows it meets are those of a step."""
        return slice(self.bounds[step], self.bounds[step + 1])


class Session:
    """K replicas of one soft prompt and head, trained together on a frozen encoder.

    Args:
        library: where token tables come from.
        setting: what the plan shares: PLM, prompt, batch size, rows.
        task: the task that is trained, or a mixture of tasks with a head each.
        seeds: [K] one replica each: its fold, head initialisation and data order.
        start: [K, L, 2, heads, P, d] or [K, P, E] the prompts at step 0; [K, 0]: there is no prompt.
        steps: steps of the whole run; `linear` reaches a rate of zero there. With 0 nothing is trained.
        learning_rate: at the first step.
        schedule: `linear` decay or `constant`.
        teachers: of all replicas; none is plain prompt tuning.
        ramp: a row of RAMPS: how the teachers' weights change over the steps.
        heads: [K, O, H] and [K, O] where heads start; None: drawn.
        exclude_overlap_with: a target whose report rows share no text with the rows that are trained on; None: no matter.
    """

    def __init__(
        self,
        library: PromptLibrary,
        setting: Setting,
        task: TaskSpec | Mixture,
        seeds: Sequence[int],
        start: Tensor,
        *,
        steps: int,
        learning_rate: float,
        schedule: Schedule = "linear",
        teachers: Sequence[Teacher] = (),
        ramp: str = "constant",
        heads: tuple[Tensor, Tensor] | None = None,
        exclude_overlap_with: TaskSpec | None = None,
    ):
        self.library, self.setting, self.whole, self.seeds = library, setting, task, tuple(seeds)
        self.steps, self.learning_rate, self.schedule = steps, learning_rate, schedule
        self.encoder = load_encoder(setting.plm, device(), setting.train.precision)
        place = self.encoder.device
        self.encoder.check_room(setting.prompt.length, setting.train.max_length, setting.prompt.form)
        self.parts = self._parts(task, exclude_overlap_with)
        self.replicas = torch.arange(len(seeds), device=place)[:, None]
        self.teachers = tuple(
            replace(teacher, logits=tuple(known.to(place) for known in teacher.logits)) for teacher in teachers
        )
        self.ramp = RAMPS[ramp]
        self._open(start, heads)
        self.done = 0
        self.loss_sum = torch.zeros(len(self.seeds), device=self.encoder.device)  # [K] since the last evaluation
        self.loss_steps = 0
        self.train_s = self.evaluate_s = 0.0

    @property
    def task(self) -> TaskSpec:
        """The task; of a mixture its first."""
        return self.parts[0].task

    @property
    def table(self) -> TokenTable:
        """The task's train rows."""
        return self.parts[0].table

    @property
    def head(self) -> Head:
        """The task's head."""
        return self.parts[0].head

    @property
    def rows(self) -> list[Rows]:
        """[K] what each replica trains on and holds out."""
        return self.parts[0].rows

    @property
    def labels(self) -> Tensor:
        """[K, N, …] the task's labels."""
        return self.parts[0].labels

    @property
    def order(self) -> Tensor:
        """[steps, K, B] the rows of each step, where there is one task."""
        return self.parts[0].met.view(len(self.seeds), self.steps, self.setting.train.batch_size).transpose(0, 1)

    def _parts(self, task: TaskSpec | Mixture, exclude_overlap_with: TaskSpec | None) -> list[Part]:
        tables = [token_table(self.library, self.setting, each, "train") for each in task.tasks]
        cap, shots = (task.cap, task.shots) if isinstance(task, Mixture) else (len(tables[0]), ())
        shots = shots or (self.setting.shots,) * len(tables)
        sizes = [mixing_size(each, len(table), few) for each, table, few in zip(task.tasks, tables, shots, strict=True)]
        owners = mixed(sizes, cap, self.steps * self.setting.train.batch_size)
        parts: list[Part] = []
        outputs = 0
        for number, (each, table) in enumerate(zip(task.tasks, tables, strict=True)):
            own = replace(self.setting, shots=shots[number])
            apart = exclude_overlap_with if each != exclude_overlap_with else None
            rows = [replica_rows(self.library, own, each, seed, apart) for seed in self.seeds]
            met = np.cumsum((owners == number).reshape(self.steps, self.setting.train.batch_size).sum(1))
            bounds = (0, *(int(count) for count in met))
            order = torch.from_numpy(
                np.stack([stream(of.train, seed, bounds[-1]) for of, seed in zip(rows, self.seeds, strict=True)])
            )
            place = self.encoder.device
            labels = scaled_labels(each, table, rows).to(place)
            span = slice(outputs, outputs + each.outputs)
            parts.append(Part(each, table, HEADS[each.kind], rows, labels, span, order, order.to(place), bounds))
            outputs += each.outputs
        return parts

    def _open(self, start: Tensor, heads: tuple[Tensor, Tensor] | None) -> None:
        """Makes what is trained, and its optimiser."""
        tensors = {"prompt": start.clone()} if start.numel() else {}
        self.base: Tensor | None = None
        if (
            self.setting.prompt.mlp and tensors
        ):  # the prompt is base + MLP, and base is such that it starts where it should
            tensors = mlp_parameters(start.shape[1:], self.setting.prompt.mlp, self.seeds)
            self.base = (start - mlp_prompt(tensors, start.shape[1:])).to(self.encoder.device)
        tensors |= dict(zip(HEAD_PARTS, heads or self._drawn_heads(), strict=True))
        for known in (t.logits[0] for t in self.teachers if KD_LOSSES[t.kd].reads == "hidden"):
            if known.shape[-1] != self.encoder.hidden:
                tensors[MAP] = linear_map(known.shape[-1], self.encoder.hidden, self.seeds)
        place, whole = self.encoder.device, torch.contiguous_format  # as files want them
        self._train({name: tensor.to(place).clone(memory_format=whole) for name, tensor in tensors.items()})

    def _train(self, tensors: dict[str, Tensor]) -> None:
        self.trainables = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
        self.heads = {name: self.trainables[name] for name in HEAD_PARTS if name in self.trainables}
        self.optimiser = StackedAdamW(self.trainables)

    def _drawn_heads(self) -> tuple[Tensor, Tensor]:
        drawn = [random_head(self.whole.outputs, self.encoder.hidden, seed) for seed in self.seeds]
        weight, bias = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        return weight, bias

    def prompt(self) -> Tensor | None:
        """[K, …] the prompts as they are now; None where there is none."""
        if self.base is None:
            return self.trainables.get("prompt")
        return self.base + mlp_prompt({name: self.trainables[name] for name in MLP_PARTS}, self.base.shape[1:])

    def _prompt_of(self, prompt: Tensor | None, _part: int) -> Tensor | None:
        """[K, …] a task's prompts: all tasks of a mixture train the same."""
        return prompt

    def _head_of(self, part: Part) -> tuple[Tensor, Tensor]:
        """[K, O, H] and [K, O] of a task."""
        return self.heads["weight"][:, part.outputs], self.heads["bias"][:, part.outputs]

    def advance(self, steps: int) -> None:
        """Trains for so many steps, but not beyond the last."""
        began = time.perf_counter()
        for _ in range(min(steps, self.steps - self.done)):
            self._step()
        self.train_s += time.perf_counter() - began

    def _step(self) -> None:
        """One step of every replica."""
        prompt = self.prompt()
        leaf = prompt if prompt is None or prompt.is_leaf else prompt.detach().requires_grad_()
        for number, part in enumerate(self.parts):
            self._learn(part, self._prompt_of(leaf, number), leaf)
        if prompt is not None and leaf is not None and leaf is not prompt:
            made_of = [tensor for name, tensor in self.trainables.items() if name not in (*HEAD_PARTS, MAP)]
            torch.autograd.backward(prompt, leaf.grad, inputs=made_of)
        self.optimiser.step(torch.full_like(self.loss_sum, self.rate()))
        self.loss_steps += 1
        self.done += 1

    def _learn(self, part: Part, prompt: Tensor | None, leaf: Tensor | None) -> None:
        """Gradients of a step's rows of a task, a length group at a time: the activations of one are alive at once."""
        rows, there = part.met[:, part.at(self.done)], part.met_there[:, part.at(self.done)]  # [K, b]
        if not rows.numel():
            return
        labels = part.labels[self.replicas, there]
        taught = self._taught(part, there, labels)
        counts = (shares(labels != IGNORED) * (rows.shape[1] / self.setting.train.batch_size)).flatten()
        flat, owner = labels.flatten(0, 1), torch.arange(len(rows)).repeat_interleave(rows.shape[1])
        trained = [leaf, *self.heads.values(), self.trainables.get(MAP)]
        inputs = [tensor for tensor in trained if tensor is not None and tensor.requires_grad]
        asked = self.encoder, part.table, part.head, prompt, *self._head_of(part), rows.flatten(), owner
        joint = any(KD_LOSSES[teacher.kd].joint for teacher in self.teachers)
        for answer in [joined(answered(*asked))] if joint else answered(*asked):
            loss = total(
                counts[answer.which] * TASK_LOSSES[part.task.kind](answer.logits[:, None], flat[answer.which, None]),
                [(much, distil(answer)) for much, distil in taught],
            )
            torch.autograd.backward(loss.sum(), inputs=inputs)
            self.loss_sum.index_add_(0, answer.owner, loss.detach())

    def _answers(self, table: TokenTable, rows: Tensor, owner: Tensor, number: int = 0) -> Tensor:
        """[n, …] logits of rows of a task's table, each by its own replica."""
        part, prompt = self.parts[number], self._prompt_of(self.prompt(), number)
        asked = self.encoder, table, part.head, prompt, *self._head_of(part), rows, owner
        return joined(answered(*asked)).logits

    def _taught(self, part: Part, rows: Tensor, labels: Tensor) -> list[tuple[float, Callable[[Answer], Tensor]]]:
        """Weight of each teacher, and its loss of answers [g]: their parts of the replicas' means."""
        asked = torch.ones_like(labels, dtype=torch.bool)
        if part.task.kind == "tagging":  # padding teaches nothing
            asked = labels != IGNORED
        now = self.ramp(self.done / self.steps)
        return [(now * teacher.weight, self._lesson(part, teacher, rows, asked)) for teacher in self.teachers]

    def _lesson(self, part: Part, teacher: Teacher, rows: Tensor, asked: Tensor) -> Callable[[Answer], Tensor]:
        said = torch.stack([known[row] for known, row in zip(teacher.logits, rows, strict=True)])  # [K, B, …]
        loss, wide = KD_LOSSES[teacher.kd], part.head.reads == "tokens"
        counts = shares(kd_asked(teacher.kd, said, asked) if wide else asked).flatten()
        heard, real = said.flatten(0, 1), asked.flatten(0, 1) if wide else None
        temperature = teacher.temperature or None

        def distil(answer: Answer) -> Tensor:
            ours = answer.logits if loss.reads == "logits" else self._mapped(answer)
            if loss.joint:  # all of the batch is here, in its order
                each = loss(ours.view(said.shape), said, None, temperature) / rows.shape[1]
                return each.repeat_interleave(rows.shape[1])
            where = None if real is None else real[answer.which, None]
            return counts[answer.which] * loss(ours[:, None], heard[answer.which, None], where, temperature)

        return distil

    def _mapped(self, answer: Answer) -> Tensor:
        """[g, …, H] the pooled vectors, brought to the teacher's width where that is another."""
        if MAP not in self.trainables:
            return answer.read
        maps = self.trainables[MAP][answer.owner]  # [g, H of the teacher, H]
        return torch.einsum("gth,g...h->g...t", maps, answer.read)

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

    def select(self, number: int = 0) -> dict[str, list[float]]:
        """Metric -> [K] on each replica's selection rows, of a mixture those of its task `number`."""
        part = self.parts[number]
        split = selection_split(self.setting, part.task)
        return self._scores(split, [rows.selection for rows in part.rows], number)[0]

    def report(self) -> tuple[dict[str, list[float]], NDArray[np.float32], NDArray[Any]]:
        """Scores on the report split: metric -> [K], logits [K, N, …], gold [N]. For `confirm` alone."""
        split = self.task.report_split
        table = token_table(self.library, self.setting, self.task, split)
        rows = np.arange(len(table))
        scores, logits = self._scores(split, [rows] * len(self.seeds))
        return scores, np.stack(logits), gold_of(table, self.task, rows)

    def _scores(
        self, split: str, rows: list[NDArray[np.int64]], number: int = 0
    ) -> tuple[dict[str, list[float]], list[NDArray[np.float32]]]:
        began, task = time.perf_counter(), self.parts[number].task
        table = token_table(self.library, self.setting, task, split)
        logits = self.logits(table, rows, number)
        gold = [gold_of(table, task, chosen) for chosen in rows]
        pairs = list(zip(logits, gold, strict=True))
        finite = [bool(np.isfinite(said).all()) for said, _ in pairs]
        scores = {
            name: [METRICS[name](*pair) if ok else float("nan") for pair, ok in zip(pairs, finite, strict=True)]
            for name in task.metrics
        }
        self.evaluate_s += time.perf_counter() - began
        return scores, logits

    def logits(self, table: TokenTable, rows: list[NDArray[np.int64]], number: int = 0) -> list[NDArray[np.float32]]:
        """[K] arrays of logits [n, …]: each replica on its own rows of a table, of a mixture one of its task `number`."""
        return self._of_rows(rows, lambda flat, owner: self._answers(table, flat, owner, number))

    def pooled(self, table: TokenTable, rows: list[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """[K] arrays of the vectors that the head reads [n, H], or [n, S, H] of a multiple choice."""
        asked = self.encoder, table, self.head, self.prompt(), *self._head_of(self.parts[0])
        return self._of_rows(rows, lambda flat, owner: joined(answered(*asked, flat, owner)).read)

    @torch.inference_mode()
    def _of_rows(
        self, rows: list[NDArray[np.int64]], make: Callable[[Tensor, Tensor], Tensor]
    ) -> list[NDArray[np.float32]]:
        counts = [len(chosen) for chosen in rows]
        owner = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(counts))
        made = make(torch.from_numpy(np.concatenate(rows)), owner)
        return [each.cpu().numpy() for each in made.split(counts)]

    @torch.no_grad()
    def prompts(self) -> list[SoftPrompt]:
        """[K] the prompts and heads as they are now; none where there is no prompt."""
        prompt = self.prompt()
        if prompt is None:
            return []
        stacks = [prompt, *self.heads.values()]
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
