"""ModelSession: full fine-tuning under the same protocol, replica after replica, each on a private copy."""

import time
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from panda_trainable.encoder import FrozenEncoder
from panda_trainable.heads import random_head
from panda_trainable.objectives import TASK_LOSSES
from panda_trainable.optimiser import BETAS, CLIP_NORM, EPSILON
from panda_trainable.plm import load_model
from panda_trainable.prompts import SoftPrompt
from panda_trainable.session import Session, answers
from panda_trainable.tokens import TokenTable


class ModelSession(Session):
    """K replicas that train all weights of the PLM and a head; no prompt, no teacher.

    The frozen PLM of the process is not touched, and nothing of the copies outlives the session.

    Source: the model-tuning baseline of P-tuning v2 and PANDA: AdamW, linear decay, gradients clipped at 1.
    Deviation: no dropout and no weight decay, as everywhere here; docs/deviations.md#model-tuning.
    """

    def _open(self, start: Tensor) -> None:
        plm, device = self.setting.plm, self.encoder.device
        self.copies, self.heads = [], []
        for seed in self.seeds:
            copy = FrozenEncoder(load_model(plm).to(device), plm.pooling, precision=self.setting.precision)
            copy.model.requires_grad_(True)
            self.copies.append(copy)
            drawn = random_head(self.task.outputs, copy.hidden, seed)
            self.heads.append([nn.Parameter(part.to(device)) for part in drawn])
        self.optimisers = [
            torch.optim.AdamW(
                [*copy.model.parameters(), *head], lr=self.learning_rate, betas=BETAS, eps=EPSILON, weight_decay=0.0
            )
            for copy, head in zip(self.copies, self.heads, strict=True)
        ]

    def advance(self, steps: int) -> None:
        """Trains every replica for so many steps, but not beyond the last."""
        began = time.perf_counter()
        last = min(self.done + steps, self.steps)
        for replica in range(len(self.seeds)):
            for step in range(self.done, last):
                self._replica_step(replica, step)
        self.loss_steps += last - self.done
        self.done = last
        self.train_s += time.perf_counter() - began

    def _replica_step(self, replica: int, step: int) -> None:
        rows = self.order[step, replica]  # [B]
        logits = self._said(replica, self.table, rows)
        labels = self.labels[replica, self.order_there[step, replica]]
        loss = TASK_LOSSES[self.task.kind](logits[None], labels[None])
        loss.sum().backward()
        optimiser = self.optimisers[replica]
        clip_grad_norm_(chain.from_iterable(group["params"] for group in optimiser.param_groups), CLIP_NORM)
        for group in optimiser.param_groups:
            group["lr"] = self.rate(step)
        optimiser.step()
        optimiser.zero_grad()
        self.loss_sum[replica] += loss.detach()[0]

    def _said(self, replica: int, table: TokenTable, rows: Tensor) -> Tensor:
        """[n, …] logits of one replica."""
        weight, bias = self.heads[replica]
        return answers(
            self.copies[replica], table, self.head, None, weight[None], bias[None], rows, torch.zeros_like(rows),
        )  # fmt: skip

    @torch.inference_mode()
    def logits(self, table: TokenTable, rows: list[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """[K] arrays of logits [n, …]: each replica on its own rows of a table."""
        return [self._said(k, table, torch.from_numpy(chosen)).cpu().numpy() for k, chosen in enumerate(rows)]

    def prompts(self) -> list[SoftPrompt]:
        """None: there is no prompt."""
        return []

    def _named(self) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {}
        for k, (copy, head) in enumerate(zip(self.copies, self.heads, strict=True)):
            parts = [*copy.model.named_parameters(), *zip(("head.weight", "head.bias"), head, strict=True)]
            named |= {f"{k}.{name}": tensor for name, tensor in parts}
        return named

    def state(self) -> dict[str, Tensor]:
        """All that decides what comes next: weights and moments of every replica."""
        tensors = {"done": torch.tensor(self.done)}
        moments = {id(p): s for optimiser in self.optimisers for p, s in optimiser.state.items()}
        for name, tensor in self._named().items():
            tensors[f"trained.{name}"] = tensor.detach().clone()
            for part, moment in moments.get(id(tensor), {}).items():
                tensors[f"{part}.{name}"] = moment.detach().clone()
        return tensors

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Goes back to a state: what follows is what followed then."""
        for k, optimiser in enumerate(self.optimisers):
            optimiser.state.clear()
            for name, tensor in self._named().items():
                if name.startswith(f"{k}."):
                    tensor.copy_(state[f"trained.{name}"])
                    parts = [part for part in ("step", "exp_avg", "exp_avg_sq") if f"{part}.{name}" in state]
                    if parts:
                        optimiser.state[tensor] = {part: state[f"{part}.{name}"].clone() for part in parts}
        self.done = int(state["done"])
        self.losses()
