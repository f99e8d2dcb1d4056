"""Student: K replicas that turn rows into logits. PromptStudent: prompts and heads on a frozen PLM."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.data.tokens import TokenTable
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.plm.places import Prompts
from panda_trainable.prompt.soft_prompt import SoftPrompt
from panda_trainable.prompt.sources import PromptSource, prompt_source, trained_on
from panda_trainable.prompt.stored import stored_source
from panda_trainable.training.forward import OfRows, Outputs, concatenated, forward, written
from panda_trainable.training.heads import HEAD_PARTS, Writer, random_head, readouts_of
from panda_trainable.worker import device, load_encoder

Heads = tuple[Tensor, Tensor]
"""[K, O, H] and [K, O]: weights and biases."""

Around = Callable[[PromptSource], PromptSource]
"""Makes of trained prompts those that are read."""


@dataclass(frozen=True)
class Block:
    """Replicas that are stepped together.

    Attributes:
        replicas: which of the K.
        parameters: name -> tensor that is trained.
        stacked: whether the tensors are [K, …]; else they are one replica's own.
    """

    replicas: slice
    parameters: dict[str, Tensor]
    stacked: bool


class Student(ABC):
    """K replicas that turn rows of a task's table into logits; of a mixture, with a head for each task.

    Attributes:
        task: what it is for.
        seeds: [K].
        encoder: the PLM of the process.
        readouts: one of each task.
    """

    def __init__(self, encoder: FrozenEncoder, task: TaskSpec | Mixture, seeds: Sequence[int]):
        self.encoder, self.task, self.seeds = encoder, task, tuple(seeds)
        self.readouts = readouts_of(encoder, task)

    @property
    @abstractmethod
    def blocks(self) -> list[Block]:
        """What is trained."""

    @abstractmethod
    def forward(
        self, table: TokenTable, rows: Tensor, owner: Tensor, number: int = 0, front: Prompts | None = None
    ) -> Iterator[Outputs]:
        """Forward pass over rows of a task's table, in buckets.

        Args:
            table: of the task.
            rows: [n] of the table.
            owner: [n] the replica of each.
            number: of the task, in a mixture.
            front: what `front` gave, so that it is made once a step; None: it is made here.
        """

    @abstractmethod
    def write(
        self, writer: Writer, table: TokenTable, rows: Tensor, owner: Tensor, number: int, most: int
    ) -> NDArray[np.str_]:
        """[n] what is written behind rows of a task's table, in at most so many tokens; the arguments are those of `forward`."""

    def prompt(self) -> Tensor | None:
        """[K, …] the prompts as they are now; None where there is none."""
        return None

    def front(self, _prompts: Tensor | None, _number: int = 0) -> Prompts | None:
        """What the PLM reads in front of a task's texts, out of all prompts [K, …]; None where there is none."""
        return None

    def prompts(self) -> list[SoftPrompt]:
        """[K] prompts and heads as they are now; none where there is no prompt."""
        return []

    def logits(
        self, table: TokenTable, rows: Sequence[NDArray[np.int64]], number: int = 0
    ) -> list[NDArray[np.float32]]:
        """[K] arrays of logits [n, …]: each replica on its own rows of a task's table."""
        return self._of_rows(table, rows, number, lambda outputs: outputs.logits)

    def predictions(
        self, table: TokenTable, rows: Sequence[NDArray[np.int64]], number: int = 0, *, most: int
    ) -> list[NDArray[Any]]:
        """[K] arrays of what metrics read: logits [n, …], or texts [n] where the PLM writes.

        Args:
            table: of the task.
            rows: [K] of the table.
            number: of the task, in a mixture.
            most: tokens that are written at most.
        """
        writer = self.readouts[number].head
        if not isinstance(writer, Writer):
            return list(self.logits(table, rows, number))
        owner = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(chosen) for chosen in rows]))
        texts = self.write(writer, table, torch.from_numpy(np.concatenate(rows)), owner, number, most)
        return np.split(texts, np.cumsum([len(chosen) for chosen in rows])[:-1])

    def pooled(
        self, table: TokenTable, rows: Sequence[NDArray[np.int64]], number: int = 0
    ) -> list[NDArray[np.float32]]:
        """[K] arrays of the vectors that the head reads [n, H], or [n, S, H] of a multiple choice."""
        return self._of_rows(table, rows, number, lambda outputs: outputs.pooled)

    @torch.inference_mode()
    def _of_rows(
        self, table: TokenTable, rows: Sequence[NDArray[np.int64]], number: int, read: Callable[[Outputs], Tensor]
    ) -> list[NDArray[np.float32]]:
        counts = [len(chosen) for chosen in rows]
        owner = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(counts))
        made = read(concatenated(self.forward(table, torch.from_numpy(np.concatenate(rows)), owner, number)))
        return [each.cpu().numpy() for each in made.split(counts)]


class PromptStudent(Student):
    """K soft prompts and heads, stacked, on one frozen encoder. Without a prompt the head is trained alone.

    Args:
        encoder: the frozen PLM.
        task: a task, or a mixture of tasks with a head each.
        seeds: [K] of heads that are drawn.
        source: of its prompts.
        heads: where heads start; None: drawn.
        trains_heads: whether the heads are trained, too.
    """

    def __init__(
        self, encoder: FrozenEncoder, task: TaskSpec | Mixture, seeds: Sequence[int], source: PromptSource,
        heads: Heads | None = None, *, trains_heads: bool = True,
    ):  # fmt: skip
        super().__init__(encoder, task, seeds)
        self.source = source
        given = heads or drawn_heads(task.outputs, encoder.hidden, seeds)
        self.heads = trained_on(encoder.device, dict(zip(HEAD_PARTS, given, strict=True)))
        for tensor in self.heads.values():
            tensor.requires_grad_(trains_heads)
        self.trainables = source.trainables | (self.heads if trains_heads and task.outputs else {})

    @property
    def blocks(self) -> list[Block]:
        """All replicas at once; none where nothing is trained."""
        return [Block(slice(None), self.trainables, stacked=True)] if self.trainables else []

    def prompt(self) -> Tensor | None:
        """[K, …] the prompts as they are now; None where there is none."""
        return self.source.prompts()

    def front(self, prompts: Tensor | None, number: int = 0) -> Prompts | None:
        """What the PLM reads in front of a task's texts, out of all prompts [K, …]; None where there is none."""
        return self.encoder.in_front(self.source.of_task(prompts, number))

    def forward(
        self, table: TokenTable, rows: Tensor, owner: Tensor, number: int = 0, front: Prompts | None = None
    ) -> Iterator[Outputs]:
        """Forward pass over rows, one length bucket at a time, of all replicas mixed."""
        made = self.front(self.prompt(), number) if front is None else front
        readout = self.readouts[number]
        weight, bias = (self.heads[part][:, readout.outputs] for part in HEAD_PARTS)
        return forward(self.encoder, table, readout.head, made, weight, bias, rows, owner, self._of_rows_own)

    @torch.inference_mode()
    def write(
        self, writer: Writer, table: TokenTable, rows: Tensor, owner: Tensor, number: int, most: int
    ) -> NDArray[np.str_]:
        """[n] what is written, of all replicas mixed."""
        made = self.source.of_task(self.prompt(), number)
        tokens = written(self.encoder, table, writer, made, rows, owner, most, self._of_rows_own)
        return writer.texts(self.encoder, tokens)

    @property
    def _of_rows_own(self) -> OfRows | None:
        """What makes the prompt of each row, where each has its own."""
        return self.source.of_rows if self.source.per_row else None

    @torch.no_grad()
    def prompts(self) -> list[SoftPrompt]:
        """[K] the prompts and heads as they are now; none where there is no prompt."""
        kept = self.source.kept()
        if not kept:
            return []
        copies = {name: tensor.detach().cpu().clone() for name, tensor in (kept | self.heads).items()}
        return [SoftPrompt.of({name: tensor[k] for name, tensor in copies.items()}) for k in range(len(self.seeds))]


def prompt_student(
    setting: Setting, task: TaskSpec | Mixture, seeds: Sequence[int], start: Tensor, heads: Heads | None = None,
    around: Around | None = None,
) -> PromptStudent:  # fmt: skip
    """A student on the frozen PLM of a setting.

    Args:
        setting: PLM, prompt and MLP.
        task: a task, or a mixture of tasks.
        seeds: [K].
        start: [K, L, 2, heads, P, d] or [K, P, E] the prompts at step 0; [K, 0]: there is no prompt.
        heads: where heads start; None: drawn.
        around: what the prompts that start there are a part of; None: they are read as they are.

    Raises:
        ValueError: if prompt and texts are longer than the PLM's positions.
    """
    encoder = encoder_of(setting)
    source = prompt_source(start, setting.prompt.mlp, seeds, encoder.device)
    return PromptStudent(encoder, task, seeds, around(source) if around else source, heads)


def stored_student(
    setting: Setting, task: TaskSpec | Mixture, seeds: Sequence[int], stored: Sequence[SoftPrompt]
) -> PromptStudent:
    """The student of stored prompts and their heads, which answers as the one that they were stored of.

    Args:
        setting: its PLM.
        task: what it was trained on.
        seeds: [K].
        stored: [K].
    """
    encoder = encoder_of(setting)
    heads = torch.stack([prompt.weight for prompt in stored]), torch.stack([prompt.bias for prompt in stored])
    return PromptStudent(encoder, task, seeds, stored_source(stored, encoder.device), heads)


def encoder_of(setting: Setting) -> FrozenEncoder:
    """The process's encoder, which has room for a setting's prompts and texts."""
    encoder = load_encoder(setting.plm, device(), setting.train.precision)
    encoder.check_room(setting.prompt.length, setting.train.max_length, setting.prompt.form)
    return encoder


def drawn_heads(outputs: int, hidden: int, seeds: Sequence[int]) -> Heads:
    """[K, O, H] and [K, O] heads that the seeds decide."""
    weight, bias = (torch.stack(p) for p in zip(*(random_head(outputs, hidden, s) for s in seeds), strict=True))
    return weight, bias
