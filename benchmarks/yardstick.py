"""The yardstick: the published PANDA loop in plain Hugging Face modules.

What a user would run without this project: P-tuning v2's model (`BertModel` with a prefix as its cache of keys and
values, or an input prompt before the embeddings) inside the loop that PANDA's authors published. Every batch is padded
to 128 tokens. At each step the teacher runs forward *and backward*, because its logits are not detached, and the student
runs forward and backward, both in train mode, each with its own model; then clipping, AdamW and the linear schedule.
One trial with one seed at a time. It is neither helped nor hindered: transformers' default attention (SDPA), frozen
weights without gradients, no work beside what the loop does; starting a process, importing and loading are not counted.
One thing differs from the published code: dropout is 0, without which no two runs could be compared.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, mse_loss
from torch.nn.utils import clip_grad_norm_
from transformers import BertModel, DynamicCache

from benchmarks.cases import MAX_LENGTH
from panda_trainable.data.tokens import TokenTable
from panda_trainable.prompt.soft_prompt import SoftPrompt


@dataclass(frozen=True)
class Padded:
    """A task's rows as the published loop has them: [N, 128] ids and mask, [N] labels."""

    ids: Tensor
    mask: Tensor
    labels: Tensor

    @classmethod
    def of(cls, table: TokenTable, device: str) -> "Padded":
        """The rows of a token table, each padded to 128."""
        ids = torch.zeros(len(table), MAX_LENGTH, dtype=torch.long)
        ids[:, : table.ids.shape[1]] = table.ids
        mask = torch.arange(MAX_LENGTH) < table.lengths[:, None]
        return cls(ids.to(device), mask.long().to(device), table.labels.to(device))


class Network:
    """A frozen BERT with one trained prompt and head."""

    def __init__(self, model: BertModel, start: SoftPrompt, pooling: str):
        self.model, self.pooling = model, pooling
        device = model.device
        self.prompt, self.weight, self.bias = (
            nn.Parameter(part.clone().to(device)) for part in (start.prompt, start.weight, start.bias)
        )

    @property
    def trained(self) -> list[nn.Parameter]:
        """The parameters."""
        return [self.prompt, self.weight, self.bias]

    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[B, C]."""
        batch, length = ids.shape
        prompt = self.prompt
        positions = torch.arange(length, device=ids.device)
        if prompt.dim() == 2:
            embeds = torch.cat((prompt.expand(batch, -1, -1), self.model.get_input_embeddings()(ids)), 1)
            whole = torch.cat((mask.new_ones(batch, len(prompt)), mask), 1)
            hidden = self.model(inputs_embeds=embeds, attention_mask=whole).last_hidden_state[:, len(prompt) :]
        else:
            cache = DynamicCache()
            for layer, (keys, values) in enumerate(prompt):
                cache.update(keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1), layer)
            before = prompt.shape[3]
            whole = torch.cat((mask.new_ones(batch, before), mask), 1)
            inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": whole, "past_key_values": cache}
            hidden = self.model(**inputs, position_ids=positions[None] + before).last_hidden_state
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return linear(pooled, self.weight, self.bias)


class Loop:
    """One trial with one seed.

    Args:
        network: what is trained.
        rows: the task's rows.
        order: [steps, B] which rows each step sees.
        rate: learning rate of the first step.
        constant: whether it stays; else it decays linearly to zero over the order's steps.
        teacher: whose logits are distilled; None: plain prompt tuning.
        weight: of the distillation loss.
        precision: `float32` or `bf16` (autocast).
    """

    def __init__(
        self, network: Network, rows: Padded, order: Tensor, rate: float, *, constant: bool = False,
        teacher: Network | None = None, weight: float = 0.0, precision: str = "float32",
    ):  # fmt: skip
        self.network, self.rows, self.order, self.teacher, self.weight = network, rows, order, teacher, weight
        self.optimiser = torch.optim.AdamW(network.trained, lr=rate, weight_decay=0.0)
        steps = len(order)
        decay = (lambda _: 1.0) if constant else (lambda step: 1 - step / steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, decay)
        self.precision = precision
        self.losses: list[Tensor] = []

    def _cast(self) -> AbstractContextManager[Any]:
        device = self.network.model.device.type
        return torch.autocast(device, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def advance(self, steps: int) -> None:
        """So many steps."""
        networks = [self.network, *filter(None, (self.teacher,))]
        for network in networks:
            network.model.train()
        for at in self.order[len(self.losses) : len(self.losses) + steps].to(self.rows.ids.device):
            ids, mask, labels = self.rows.ids[at], self.rows.mask[at], self.rows.labels[at]
            with self._cast():
                said = self.network.logits(ids, mask)
                loss = cross_entropy(said, labels)
                if self.teacher:
                    loss = loss + self.weight * mse_loss(said, self.teacher.logits(ids, mask))
            self.optimiser.zero_grad()
            loss.backward()
            clip_grad_norm_(self.network.trained, 1.0)
            self.optimiser.step()
            self.schedule.step()
            self.losses.append(loss.detach())

    @torch.no_grad()
    def evaluate(self, at: Sequence[int]) -> Tensor:
        """[n, C] logits of rows."""
        self.network.model.eval()
        index = torch.as_tensor(at, device=self.rows.ids.device)
        with self._cast():
            pieces = [self.network.logits(self.rows.ids[part], self.rows.mask[part]) for part in index.split(32)]
        return torch.cat(pieces).float().cpu()


def plain_models(folder: str, count: int, device: str) -> list[BertModel]:
    """Frozen copies of a PLM, as the published loop loads one for the student and one for the teacher."""
    models: list[Any] = [BertModel.from_pretrained(folder, add_pooling_layer=False) for _ in range(count)]
    return [model.to(device).requires_grad_(False) for model in models]
