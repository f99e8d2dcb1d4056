"""ModelStudent: full fine-tuning under the same protocol, each replica on a private copy of the PLM."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.data.tokens import TokenTable
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.plm.language_model import wrapped
from panda_trainable.plm.places import Prompts
from panda_trainable.pretrained.files import load_model
from panda_trainable.training.forward import Outputs, concatenated, forward, written
from panda_trainable.training.heads import HEAD_PARTS, Writer
from panda_trainable.training.student import Block, Heads, Student, drawn_heads, encoder_of

HEAD = "head."
"""Before the names of a head's tensors, in files of whole models."""

_NOTHING: Mapping[str, Tensor] = MappingProxyType({})


def read_model_heads(files: Sequence[Path]) -> Heads:
    """[K, O, H] and [K, O] the heads of files that `save_model` wrote."""
    read = [load_file(path) for path in files]
    weight, bias = (torch.stack([tensors[HEAD + name] for tensors in read]) for name in HEAD_PARTS)
    return weight, bias


class ModelStudent(Student):
    """K replicas whose PLM and head are trained; no prompt.

    Args:
        setting: of the PLM.
        task: a task, or a mixture of tasks with a head each.
        seeds: [K] of heads that are drawn.
        weights: [K] files of `save_model` that replicas start from; none: the PLM's own weights.
        heads: where heads start; None: drawn.

    The frozen PLM of the process is not touched, and nothing of the copies outlives the student.

    Source: the model-tuning baseline of P-tuning v2 and PANDA: AdamW, linear decay, gradients clipped at 1.
    Deviation: no dropout and no weight decay, as everywhere here; docs/deviations.md#model-tuning.
    """

    def __init__(
        self, setting: Setting, task: TaskSpec | Mixture, seeds: Sequence[int], weights: Sequence[Path] = (),
        heads: Heads | None = None,
    ):  # fmt: skip
        super().__init__(encoder_of(setting), task, seeds)
        files: Sequence[Path | None] = weights or [None] * len(self.seeds)
        self.copies = [self._copy(setting, file) for file in files]
        given = heads or drawn_heads(task.outputs, self.encoder.hidden, seeds)
        self.own_heads = [
            [nn.Parameter(part.to(self.encoder.device).clone()) for part in pair] for pair in zip(*given, strict=True)
        ]

    def _copy(self, setting: Setting, file: Path | None) -> FrozenEncoder:
        """A private copy of the PLM, with the weights of a file where it starts from one."""
        model = load_model(setting.plm)
        if file:
            model.load_state_dict(load_file(file), strict=False)
        copy = wrapped(setting.plm, model.to(self.encoder.device), setting.train.precision)
        copy.whole.requires_grad_(True)
        return copy

    @property
    def blocks(self) -> list[Block]:
        """One replica after the other: the activations and gradients of one are alive at once."""
        return [Block(slice(k, k + 1), self._named(k), stacked=False) for k in range(len(self.seeds))]

    def _named(self, k: int) -> dict[str, Tensor]:
        head = zip((HEAD + part for part in HEAD_PARTS), self.own_heads[k], strict=True)
        return {f"{k}.{name}": tensor for name, tensor in (*self.copies[k].whole.named_parameters(), *head)}

    def forward(
        self, table: TokenTable, rows: Tensor, owner: Tensor, number: int = 0, _front: Prompts | None = None
    ) -> Iterator[Outputs]:
        """Forward pass over rows, one replica at a time."""
        readout = self.readouts[number]
        for k in owner.unique().tolist():
            at = (owner == k).nonzero()[:, 0]
            weight, bias = (tensor[None, readout.outputs] for tensor in self.own_heads[k])
            made = forward(
                self.copies[k], table, readout.head, None, weight, bias, rows[at], torch.zeros_like(at)
            )  # fmt: skip
            outputs = concatenated(made)
            yield outputs._replace(
                position=at.to(outputs.position.device)[outputs.position], owner=torch.full_like(outputs.owner, k)
            )

    @torch.inference_mode()
    def write(
        self, writer: Writer, table: TokenTable, rows: Tensor, owner: Tensor, _number: int, most: int
    ) -> NDArray[np.str_]:
        """[n] what is written, one replica at a time."""
        texts = np.full(len(rows), "", object)
        for k in owner.unique().tolist():
            at = (owner == k).nonzero()[:, 0]
            made = written(self.copies[k], table, writer, None, rows[at], torch.zeros_like(at), most)
            texts[at.numpy()] = writer.texts(self.copies[k], made)
        return texts.astype(np.str_)

    def save_model(self, replica: int, path: Path, more: Mapping[str, Tensor] = _NOTHING) -> None:
        """Writes all weights of a replica and its head as safetensors, and what else belongs to it."""
        parts = {f"{HEAD}{name}": part for name, part in zip(HEAD_PARTS, self.own_heads[replica], strict=True)}
        tensors = {**dict(self.copies[replica].whole.named_parameters()), **parts, **more}
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)
