"""ModelSession: full fine-tuning under the same protocol, replica after replica, each on a private copy."""

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from panda_trainable.config.setting import Plm
from panda_trainable.data.tokens import TokenTable
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.plm.files import load_model
from panda_trainable.prompt.soft_prompt import SoftPrompt
from panda_trainable.training.forward import Answer, answered, joined
from panda_trainable.training.heads import HEAD_PARTS
from panda_trainable.training.losses import TASK_LOSSES
from panda_trainable.training.optimiser import BETAS, CLIP_NORM, EPSILON
from panda_trainable.training.session import Part, Session

HEAD = "head."
"""Before the names of a head's tensors, in files of whole models."""


def read_model_heads(files: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """[K, O, H] and [K, O] the heads of files that `save_model` wrote."""
    read = [load_file(path) for path in files]
    weight, bias = (torch.stack([tensors[HEAD + name] for tensors in read]) for name in HEAD_PARTS)
    return weight, bias


class ModelSession(Session):
    """K replicas that train all weights of the PLM and a head; no prompt, no teacher.

    Args:
        weights: [K] files of `save_model` that replicas start from; none: the PLM's own weights.

    The frozen PLM of the process is not touched, and nothing of the copies outlives the session.

    Source: the model-tuning baseline of P-tuning v2 and PANDA: AdamW, linear decay, gradients clipped at 1.
    Deviation: no dropout and no weight decay, as everywhere here; docs/deviations.md#model-tuning.
    """

    def __init__(self, *args: Any, weights: Sequence[Path] = (), **options: Any):
        self.weights = tuple(weights)
        super().__init__(*args, **options)

    def _open(self, start: Tensor, heads: tuple[Tensor, Tensor] | None) -> None:
        plm, device = self.setting.plm, self.encoder.device
        self.copies = [self._copy(plm, replica) for replica in range(len(self.seeds))]
        drawn = heads or self._drawn_heads()
        self.own_heads = [[nn.Parameter(part.to(device).clone()) for part in pair] for pair in zip(*drawn, strict=True)]
        self.optimisers = [
            torch.optim.AdamW(
                [*copy.model.parameters(), *head], lr=self.learning_rate, betas=BETAS, eps=EPSILON, weight_decay=0.0
            )
            for copy, head in zip(self.copies, self.own_heads, strict=True)
        ]

    def _copy(self, plm: Plm, replica: int) -> FrozenEncoder:
        """A private copy of the PLM, with the weights of a file where it starts from one."""
        model = load_model(plm)
        if self.weights:
            model.load_state_dict(load_file(self.weights[replica]), strict=False)
        copy = FrozenEncoder(model.to(self.encoder.device), plm.pooling, precision=self.setting.train.precision)
        copy.model.requires_grad_(True)
        return copy

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
        for part in self.parts:
            rows = part.met[replica, part.at(step)]  # [b]
            if len(rows):
                logits = self._said(replica, part, part.table, rows)
                labels = part.labels[replica, part.met_there[replica, part.at(step)]]
                loss = TASK_LOSSES[part.task.kind](logits[None], labels[None])
                loss = loss * (len(rows) / self.setting.train.batch_size)
                loss.sum().backward()
                self.loss_sum[replica] += loss.detach()[0]
        optimiser = self.optimisers[replica]
        clip_grad_norm_(chain.from_iterable(group["params"] for group in optimiser.param_groups), CLIP_NORM)
        for group in optimiser.param_groups:
            group["lr"] = self.rate(step)
        optimiser.step()
        optimiser.zero_grad()

    def _answer(self, replica: int, part: Part, table: TokenTable, rows: Tensor) -> Answer:
        """What one replica answers."""
        weight, bias = (tensor[None, part.outputs] for tensor in self.own_heads[replica])
        owner = torch.zeros_like(rows)
        return joined(answered(self.copies[replica], table, part.head, None, weight, bias, rows, owner))

    def _said(self, replica: int, part: Part, table: TokenTable, rows: Tensor) -> Tensor:
        return self._answer(replica, part, table, rows).logits

    @torch.inference_mode()
    def logits(self, table: TokenTable, rows: list[NDArray[np.int64]], number: int = 0) -> list[NDArray[np.float32]]:
        """[K] arrays of logits [n, …]: each replica on its own rows of a table."""
        part = self.parts[number]
        return [self._said(k, part, table, torch.from_numpy(chosen)).cpu().numpy() for k, chosen in enumerate(rows)]

    @torch.inference_mode()
    def pooled(self, table: TokenTable, rows: list[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """[K] arrays of the vectors that the head reads."""
        pairs = [(k, torch.from_numpy(chosen)) for k, chosen in enumerate(rows)]
        return [self._answer(k, self.parts[0], table, chosen).read.cpu().numpy() for k, chosen in pairs]

    def prompt(self) -> None:
        """None: there is no prompt."""

    def prompts(self) -> list[SoftPrompt]:
        """None: there is no prompt."""
        return []

    def save_model(self, replica: int, path: Path) -> None:
        """Writes all weights of a replica and its head as safetensors."""
        parts = {f"{HEAD}{name}": part for name, part in zip(HEAD_PARTS, self.own_heads[replica], strict=True)}
        tensors = {**dict(self.copies[replica].model.named_parameters()), **parts}
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)

    def _named(self) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {}
        for k, (copy, head) in enumerate(zip(self.copies, self.own_heads, strict=True)):
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
