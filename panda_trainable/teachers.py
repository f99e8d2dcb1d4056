"""Prompts with a history: sources, embeddings' prompts and teachers, and what teachers say. Made once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from panda_trainable.config import Setting, TrialConfig, content_key
from panda_trainable.data import batches, selection_split
from panda_trainable.encoder import load_encoder
from panda_trainable.heads import reference_logits
from panda_trainable.initialisers import INITIALISERS, Ground
from panda_trainable.library import PromptLibrary
from panda_trainable.metrics import METRICS
from panda_trainable.prompts import SoftPrompt, average_prompt
from panda_trainable.session import Session, Teacher, device
from panda_trainable.tasks import TaskSpec
from panda_trainable.tokens import gold_of, token_table

FILE = "prompt.safetensors"


@dataclass(frozen=True)
class Lineage:
    """How a prompt came to be: plain prompt tuning at a constant rate, from some start.

    One value serves the three places where the field tunes plainly: a source prompt (random start),
    the short tuning that a task embedding needs, and PANDA's target-like teacher (which starts from
    source prompts). A constant rate makes every earlier step a snapshot of the same run.

    Attributes:
        setting: what the plan shares.
        task: the task it was tuned on.
        steps: steps so far; a snapshot of a longer run is the run of so many steps.
        learning_rate: constant.
        start: (share, lineage) of the prompts it starts from, averaged; empty: as `setting.init` says.
        apart_from: a target of which no report row shares a text with the rows it was tuned on; None where
            none does anyway.
    """

    setting: Setting
    task: TaskSpec
    steps: int
    learning_rate: float
    start: tuple[tuple[float, "Lineage"], ...] = ()
    apart_from: TaskSpec | None = None

    @property
    def kind(self) -> str:
        """The library's folder: `prompts` from a random start, `teachers` from source prompts."""
        return "teachers" if self.start else "prompts"

    def key(self, seed: int) -> str:
        """The content key of one seed's prompt."""
        return content_key(self.kind, self, seed)

    def at(self, steps: int) -> "Lineage":
        """The same run at another step."""
        return replace(self, steps=steps)


def source_lineage(config: TrialConfig, number: int) -> Lineage:
    """The source prompt that a trial's source number `number` brings."""
    source = config.sources[number]
    return Lineage(
        config.setting.of_sources, source.task, config.source_steps, config.source_learning_rate,
        apart_from=config.target if source.apart else None,
    )  # fmt: skip


def starting_prompts(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int]) -> Tensor:
    """[K, L, 2, heads, P, d] or [K, P, E] the prompts that a lineage starts from."""
    if not lineage.start:
        encoder, initial = (
            load_encoder(lineage.setting.plm, device(), lineage.setting.precision),
            INITIALISERS[lineage.setting.init.kind],
        )
        return torch.stack([initial(Ground(encoder, lineage.setting, lineage.task, seed)) for seed in seeds])
    shares = tuple(share for share, _ in lineage.start)
    parents = [[p.prompt for p in tuned_prompts(library, parent, seeds)] for _, parent in lineage.start]
    return torch.stack([average_prompt(list(of_seed), shares) for of_seed in zip(*parents, strict=True)])


def tuned_prompts(
    library: PromptLibrary, lineage: Lineage, seeds: Sequence[int], also: Sequence[int] = ()
) -> list[SoftPrompt]:
    """[K] the prompts of a lineage, one per seed; the missing are trained, stacked, in one run.

    Args:
        library: where they are kept.
        lineage: which.
        seeds: one prompt each.
        also: further steps of the same run to keep.
    """
    stops = sorted({lineage.steps, *also})
    if missing_seeds(library, lineage, seeds, stops):
        with library.lock(content_key(lineage.kind, lineage.at(0))):
            missing = missing_seeds(library, lineage, seeds, stops)  # another process may have made them
            if missing:
                _train(library, lineage.at(stops[-1]), missing, stops)
    return [SoftPrompt.load(library.get(lineage.kind, lineage.key(seed)) / FILE) for seed in seeds]


def missing_seeds(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int], stops: Sequence[int]) -> list[int]:
    """Seeds of which a snapshot is missing or damaged."""
    return [s for s in seeds if not all(library.sound(lineage.kind, lineage.at(n).key(s)) for n in stops)]


def _train(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int], stops: Sequence[int]) -> None:
    """One stacked run that leaves a snapshot at each stop."""
    start = starting_prompts(library, lineage, seeds)
    session = Session(
        library, lineage.setting, lineage.task, seeds, start,
        steps=lineage.steps, learning_rate=lineage.learning_rate, schedule="constant",
        apart_from=lineage.apart_from,
    )  # fmt: skip
    for stop in stops:
        session.advance(stop - session.done)
        scores = {} if lineage.start else _source_scores(session)
        for i, (seed, prompt) in enumerate(zip(seeds, session.prompts(), strict=True)):
            card = {**_card(lineage.at(stop), seed), **{name: values[i] for name, values in scores.items()}}
            library.put(lineage.kind, lineage.at(stop).key(seed), partial(_save, prompt), card)


def _save(prompt: SoftPrompt, draft: Path) -> None:
    prompt.save(draft / FILE)


def _source_scores(session: Session) -> dict[str, list[float]]:
    """Selection score of each replica, and its majority class's, so that a poor source can be flagged."""
    score = session.select()[session.task.metrics[0]]
    task, metric = session.task, METRICS[session.task.metrics[0]]
    labels = session.table.labels.numpy()
    selected = token_table(session.library, session.setting, task, selection_split(session.setting, task))
    majority = []
    for rows in session.rows:
        reference = reference_logits(task, labels[rows.train], selected, rows.selection)
        majority.append(metric(reference, gold_of(selected, task, rows.selection)))
    return {"score": score, "majority": majority}


def _card(lineage: Lineage, seed: int) -> dict[str, Any]:
    parents = [[share, parent.task.name, parent.key(seed)] for share, parent in lineage.start]
    return {
        "task": lineage.task.name, "plm": lineage.setting.plm.label, "seed": seed, "steps": lineage.steps,
        "learning_rate": lineage.learning_rate, "start": parents or lineage.setting.init.kind,
        **({"apart_from": lineage.apart_from.name} if lineage.apart_from else {}),
    }  # fmt: skip


def target_like_teachers(library: PromptLibrary, config: TrialConfig) -> list[Teacher]:
    """PANDA's teachers of a trial: source prompts after `teacher_steps` steps on the target.

    `early` fusion averages the source prompts first, which gives one teacher; `late` has a teacher
    of each source. Both weigh by α · sim, and are the same where there is one source.

    Source: PANDA (arXiv:2208.10160), its target-like teacher; the fusions as described in
    docs/deviations.md#fusion.
    """
    return [Teacher(weight, said(library, config, lineage)) for weight, lineage in teacher_lineages(config)]


def teacher_lineages(config: TrialConfig) -> list[tuple[float, Lineage]]:
    """Weight, > 0, and lineage of each of a trial's target-like teachers."""
    if config.lambda_ == 0:
        return []
    sources = [(share, source_lineage(config, i)) for i, share in enumerate(config.shares)]
    if config.fusion == "early":
        starts = [(config.lambda_effective, tuple(sources))]
    else:
        sims = [max(source.similarity, 0.0) for source in config.sources]
        starts = [(config.lambda_ * share * sim, ((1.0, s),)) for sim, (share, s) in zip(sims, sources, strict=True)]
    rate, steps = config.source_learning_rate, config.teacher_steps
    return [
        (weight, Lineage(config.setting.of_targets, config.target, steps, rate, start))
        for weight, start in starts
        if weight > 0
    ]


def said(library: PromptLibrary, config: TrialConfig, lineage: Lineage) -> tuple[Tensor, ...]:
    """[K] what a teacher says of the train rows: logits [N, …], NaN for rows no student meets; mapped.

    The rows are those that the seed's data order reaches; all trials of a study share them.
    """
    keys = [content_key("teachers", lineage, seed, "logits", config.steps) for seed in config.seeds]
    if not all(library.sound("teachers", key) for key in keys):
        with library.lock(content_key("teachers", lineage, "logits", config.steps)):
            gone = [i for i, key in enumerate(keys) if not library.sound("teachers", key)]
            if gone:
                _say(library, config, lineage, [config.seeds[i] for i in gone], [keys[i] for i in gone])
    maps = [np.load(library.get("teachers", key) / "logits.npy", mmap_mode="c") for key in keys]
    return tuple(torch.from_numpy(mapped) for mapped in maps)


def _say(library: PromptLibrary, config: TrialConfig, lineage: Lineage, seeds: Sequence[int], keys: list[str]) -> None:
    teachers = tuned_prompts(library, lineage, seeds, also=config.candidates)
    session = Session(
        library, replace(config.setting, mlp=0), config.target, seeds, torch.stack([t.prompt for t in teachers]),
        steps=config.steps, learning_rate=lineage.learning_rate,
    )  # fmt: skip
    with torch.no_grad():
        session.trainables["weight"].copy_(torch.stack([t.weight for t in teachers]))
        session.trainables["bias"].copy_(torch.stack([t.bias for t in teachers]))
    reached = [
        np.unique(batches(rows.train, seed, config.steps, config.setting.batch_size))
        for rows, seed in zip(session.rows, seeds, strict=True)
    ]
    for seed, key, rows, known in zip(seeds, keys, reached, session.logits(session.table, reached), strict=True):
        table = np.full((len(session.table), *known.shape[1:]), np.nan, np.float32)
        table[rows] = known
        library.put(
            "teachers",
            key,
            partial(_save_logits, table),
            {**_card(lineage, seed), "holds": "logits of train rows", "rows": len(rows)},
        )


def _save_logits(table: np.ndarray, draft: Path) -> None:
    np.save(draft / "logits.npy", table, allow_pickle=False)
