"""What is known of a source without looking at a target: how many rows it has, and of which labels. Kept, since it travels with exported prompts."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from panda_trainable.config.keys import content_key
from panda_trainable.config.task import Mixture
from panda_trainable.data.gold import IGNORED
from panda_trainable.data.splits import replica_rows
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.transfer.lineage import Lineage

FILE = "counts.json"


@dataclass(frozen=True)
class SourceRows:
    """The rows that a seed's source prompt is trained on.

    Attributes:
        sizes: [T] rows of each task, at most the mixture's cap.
        labels: [T, C] of each label in them, scaled so that a task's sum is its size; zero without classes.
    """

    sizes: Tensor
    labels: Tensor


def counts_key(lineage: Lineage, seed: int) -> str:
    """The content key of the counts of one seed's rows."""
    return content_key("counts", lineage, seed)


def source_rows(library: PromptLibrary, lineage: Lineage, seed: int) -> SourceRows | None:
    """The rows that one seed of a lineage is trained on; None of imported prompts that came without their counts.

    Args:
        library: where it is kept, and token tables are.
        lineage: of the source.
        seed: of the fold, or of the draw of a few-shot task.
    """
    key = counts_key(lineage, seed)
    if not all(task.origin.has_rows for task in lineage.task.tasks) and not library.sound("counts", key):
        return None
    card = {"task": lineage.task.name, "plm": lineage.setting.plm.label, "seed": seed}
    folder = library.get_or_make("counts", key, lambda draft: _count(draft, library, lineage, seed), card)
    kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return SourceRows(torch.tensor(kept["sizes"]).double(), torch.tensor(kept["labels"]).double())


def _count(draft: Path, library: PromptLibrary, lineage: Lineage, seed: int) -> None:
    task = lineage.trained_on
    cap, shots = (task.cap, task.shots) if isinstance(task, Mixture) else (sys.maxsize, ())
    sizes, labels = [], torch.zeros(len(task.tasks), max(len(each.classes) for each in task.tasks), dtype=torch.double)
    for number, each in enumerate(task.tasks):
        setting = replace(lineage.setting, shots=shots[number]) if shots else lineage.setting
        excluded = lineage.exclude_overlap_with if each != lineage.exclude_overlap_with else None
        rows = replica_rows(library, setting, each, seed, excluded).train
        sizes.append(min(len(rows), cap))
        if each.classes:
            found = token_table(library, setting, each, "train").labels[torch.from_numpy(rows)].flatten()
            counts = found[found != IGNORED].long().bincount(minlength=len(each.classes)).double()
            labels[number, : len(counts)] = counts / counts.sum() * sizes[-1]
    (draft / FILE).write_text(json.dumps({"sizes": sizes, "labels": labels.tolist()}), encoding="utf-8")
