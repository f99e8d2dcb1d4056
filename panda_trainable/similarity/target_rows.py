"""What a source's prompt makes of a target's train rows, and the scores of it, kept once for each pair and seed."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from panda_trainable.config.keys import content_key
from panda_trainable.data.limits import capped
from panda_trainable.data.splits import replica_rows
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.similarity.neurons import READ_ROWS
from panda_trainable.similarity.similarities import SIMILARITIES
from panda_trainable.training.forward import encoded
from panda_trainable.transfer.lineage import Lineage, tuned_prompts
from panda_trainable.worker import device, load_encoder

FILE = "scores.json"


@dataclass(frozen=True)
class TargetRows:
    """A target's train rows behind a source's prompt.

    Attributes:
        features: [N, H] what heads read.
        logits: [N, Z] of the source's head.
        labels: [N] the target's.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor


READ_OF_ROWS: Mapping[str, Callable[[TargetRows], tuple[Tensor, Tensor]]] = MappingProxyType(
    {"features": lambda rows: (rows.features, rows.labels), "answers": lambda rows: (rows.logits, rows.labels)}
)
"""What a similarity reads of a target's rows -> the two tensors."""


def scored(source: Lineage, target: Lineage) -> tuple[str, ...]:
    """The similarities of a pair that read the target's rows, by name."""
    rows = ((name, row) for name, row in SIMILARITIES.items() if row.reads in READ_OF_ROWS)
    return tuple(name for name, row in rows if not row.misfit(source.task, target.task))


def scores_key(source: Lineage, target: Lineage, seed: int) -> str:
    """The content key of a pair's scores on one seed's rows; how the target is tuned does not matter to them."""
    return content_key("scores", source, target.setting, target.task, seed, READ_ROWS, scored(source, target))


def pair_scores(library: PromptLibrary, source: Lineage, target: Lineage, seed: int) -> dict[str, float]:
    """Name -> score of a pair: of a target's train rows, at most 1,000, as one seed's source prompt has them encoded.

    Neither selection nor report rows are read.

    Args:
        library: where they are kept, and where prompts come from.
        source: whose prompt.
        target: whose rows; of a few-shot task those of its draw.
        seed: of both.
    """
    folder = library.get_or_make(
        "scores",
        scores_key(source, target, seed),
        lambda draft: _score(draft, library, source, target, seed),
        {"task": target.task.name, "source": source.task.name, "plm": source.setting.plm.label, "seed": seed,
         "steps": source.steps},
    )  # fmt: skip
    found: dict[str, float] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return found


def _score(draft: Path, library: PromptLibrary, source: Lineage, target: Lineage, seed: int) -> None:
    rows = target_rows(library, source, target, seed)
    found = {
        name: row(*READ_OF_ROWS[row.reads](rows)) for name in scored(source, target) for row in [SIMILARITIES[name]]
    }
    (draft / FILE).write_text(json.dumps(found), encoding="utf-8")


def target_rows(library: PromptLibrary, source: Lineage, target: Lineage, seed: int) -> TargetRows:
    """The train rows of a seed, at most 1,000, of a target whose rows are one sequence and have one label each."""
    (task,) = target.task.tasks
    tuned = tuned_prompts(library, source, [seed])[0]
    encoder = load_encoder(source.setting.plm, device(), source.setting.train.precision)
    table = token_table(library, target.setting, task, "train")
    train = replica_rows(library, target.setting, task, seed).train
    rows = torch.from_numpy(train[capped(np.arange(len(train)), READ_ROWS)])
    front = tuned.prompt[None].to(encoder.device)
    with torch.inference_mode():
        features = encoded(encoder, table, encoder.in_front(front), rows, torch.zeros_like(rows)).float().cpu()
    return TargetRows(features, features @ tuned.weight.T + tuned.bias, table.labels[rows])
