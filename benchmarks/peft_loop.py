"""The yardstick of causal models: prompt tuning with PEFT, as a user would write it, and as a careful one would.

Both pad a batch to its longest row, train one seed at a time, compare the logits of the label words behind the text
(the same loss as the engine's, so that losses can be compared), clip, and step AdamW with a linear schedule. The plain
loop pads on the right and lets the model compute the logits of all positions, which is what `model(**batch)` does. The
careful one pads on the left and asks for the last position's logits alone (`logits_to_keep`), the best that such a loop
can do; PEFT then counts the padding between prompt and text as positions, so that its losses are slightly others.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from panda_trainable.training.heads import Verbaliser
from panda_trainable.training.trainer import Trainer


@dataclass(frozen=True)
class Batch:
    """How a loop lays out a batch.

    Attributes:
        pads_left: whether padding stands before texts; else behind them.
        keeps: positions at the end whose logits are computed; 0: all.
    """

    pads_left: bool
    keeps: int


PLAIN = Batch(pads_left=False, keeps=0)
CAREFUL = Batch(pads_left=True, keeps=1)


def rows_of(trainer: Trainer) -> tuple[list[tuple[list[int], int]], list[int]]:
    """Tokens and class of each train row, and the token of each class's word."""
    table, head = trainer.data.parts[0].table, trainer.student.readouts[0].head
    assert isinstance(head, Verbaliser), "the task is asked in words"
    words = [word[0][0] for word in head.answers.words]
    rows = [
        (ids[:n].tolist(), int(label)) for ids, n, label in zip(table.ids, table.lengths, table.labels, strict=True)
    ]
    return rows, words


class PeftLoop:
    """Prompt tuning of one seed.

    Args:
        model: frozen, with its head; it is wrapped anew.
        start: [P, E] the prompt at step 0.
        rows: tokens and class of each row.
        words: [C] the token that answers for each class.
        order: [steps, B] which rows each step sees.
        rate: learning rate of the first step; it decays linearly to zero.
        batch: how batches are laid out.
        precision: `float32` or `bf16` (autocast).
    """

    def __init__(
        self, model: Any, start: Tensor, rows: Sequence[tuple[list[int], int]], words: Sequence[int], order: Tensor,
        rate: float, batch: Batch, precision: str = "float32",
    ):  # fmt: skip
        from peft import PromptTuningConfig, get_peft_model  # an extra, which the other benchmarks do without

        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(start))
        self.model: Any = get_peft_model(model, config)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        (self.prompt,) = self.trained
        with torch.no_grad():
            self.prompt.copy_(start)
        self.rows, self.batch, self.precision = rows, batch, precision
        self.words = torch.tensor(words, device=model.device)
        self.optimiser = torch.optim.AdamW(self.trained, lr=rate, weight_decay=0.0)
        self.order = order.tolist()
        steps = len(self.order)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: 1 - step / steps)
        self._losses: list[Tensor] = []

    @property
    def losses(self) -> list[float]:
        """The loss of each step so far."""
        return [float(loss) for loss in self._losses]

    def advance(self, steps: int) -> None:
        """So many steps."""
        self.model.train()
        for at in self.order[len(self._losses) : len(self._losses) + steps]:
            texts, labels = zip(*(self.rows[i] for i in at), strict=True)
            lowered = self.precision == "bf16"
            with torch.autocast(self.words.device.type, torch.bfloat16) if lowered else nullcontext():
                said = self._word_logits(texts)
            loss = cross_entropy(said.float(), torch.tensor(labels, device=self.words.device))
            self.optimiser.zero_grad()
            loss.backward()
            clip_grad_norm_(self.trained, 1.0)
            self.optimiser.step()
            self.schedule.step()
            self._losses.append(loss.detach())

    def _word_logits(self, texts: Sequence[list[int]]) -> Tensor:
        """[B, C] the logits of the classes' words behind each text."""
        longest = max(map(len, texts))
        gaps = [[0] * (longest - len(text)) for text in texts]
        ones = [[1] * len(text) for text in texts]
        if self.batch.pads_left:
            ids, mask = ([gap + row for gap, row in zip(gaps, of, strict=True)] for of in (texts, ones))
        else:
            ids, mask = ([row + gap for gap, row in zip(gaps, of, strict=True)] for of in (texts, ones))
        device, more = self.words.device, {"logits_to_keep": self.batch.keeps} if self.batch.keeps else {}
        given = {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}
        logits = self.model(**given, **more).logits
        last = -1 - torch.tensor([0 if self.batch.pads_left else len(gap) for gap in gaps], device=device)
        return logits[torch.arange(len(texts), device=device), logits.shape[1] + last][:, self.words]
