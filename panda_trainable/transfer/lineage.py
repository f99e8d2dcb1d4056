"""Lineage: how a prompt was trained; prompts are trained once and kept in the library."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from panda_trainable.config.given import GivenPrompt
from panda_trainable.config.keys import content_key
from panda_trainable.config.setting import Setting
from panda_trainable.config.task import AnySource, Mixture, TaskSpec
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.initialisers import INITIALISERS, InitContext
from panda_trainable.prompt.product import ProductPrompts, unit_parts
from panda_trainable.prompt.soft_prompt import SoftPrompt, average_prompt, tokens_of
from panda_trainable.training.data import training_data
from panda_trainable.training.evaluation import constant_scores
from panda_trainable.training.model_student import ModelStudent, read_model_heads
from panda_trainable.training.student import Around, Student, encoder_of, prompt_student, stored_student
from panda_trainable.training.trainer import Recipe, Trainer

FILE, MODEL_FILE = "prompt.safetensors", "model.safetensors"


@dataclass(frozen=True)
class Lineage:
    """How a prompt was trained: prompt tuning at a constant learning rate from a given initialisation.

    One value serves the three places where the field tunes plainly: a source prompt (random start),
    the short tuning that a task embedding needs, and PANDA's target-like teacher (which starts from
    source prompts). A constant rate makes every earlier step a snapshot of the same run.

    Attributes:
        setting: what the plan shares.
        task: the task it was tuned on; of a prompt made elsewhere, that prompt, whatever the training here would be.
        steps: steps so far; a snapshot of a longer run is the run of so many steps.
        learning_rate: constant.
        start: (share, lineage) of the prompts it starts from, averaged; empty: as `setting.prompt.init` says.
        exclude_overlap_with: a target of which no report row shares a text with the rows it was tuned on; None where
            none does anyway.
        trains: `prompt` (and head); `product`: a prompt that the tasks of a mixture share, times a part of each (MPT);
            or `model`: all weights.
    """

    setting: Setting
    task: AnySource
    steps: int
    learning_rate: float
    start: tuple[tuple[float, "Lineage"], ...] = ()
    exclude_overlap_with: TaskSpec | None = None
    trains: Literal["prompt", "product", "model"] = "prompt"

    @property
    def kind(self) -> str:
        """The library's folder: `models`, or `prompts` from a random start and `teachers` from source prompts."""
        return "models" if self.trains == "model" else "teachers" if self.start else "prompts"

    @classmethod
    def of_source(
        cls, setting: Setting, task: AnySource, steps: int, learning_rate: float,
        exclude_overlap_with: TaskSpec | None = None,
    ) -> "Lineage":  # fmt: skip
        """The source prompt of a task under a plan's setting; whoever names a source prompt calls this."""
        return cls(setting.of_sources, task, steps, learning_rate, exclude_overlap_with=exclude_overlap_with)

    @classmethod
    def of_target(
        cls, setting: Setting, task: TaskSpec, steps: int, learning_rate: float,
        start: tuple[tuple[float, "Lineage"], ...] = (),
    ) -> "Lineage":  # fmt: skip
        """A target's plain tuning under a plan's setting: for its embedding, as a teacher, or (0 steps) a start."""
        return cls(setting.of_targets, task, steps, learning_rate, start)

    def key(self, seed: int) -> str:
        """The content key of one seed's prompt."""
        if isinstance(self.task, GivenPrompt):
            return self.task.key
        return content_key(self.kind, self, seed)

    @property
    def trained_on(self) -> TaskSpec | Mixture:
        """The task whose rows it is trained on.

        Raises:
            ValueError: if it was made elsewhere: what is not there of it cannot be trained.
        """
        if isinstance(self.task, GivenPrompt):
            raise ValueError(
                f"the imported prompt {self.task.name} is missing in the library, or damaged; import its file again"
            )
        return self.task

    def at(self, steps: int) -> "Lineage":
        """The same training run at another step."""
        return replace(self, steps=steps)


def starting_prompts(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int]) -> Tensor:
    """[K, L, 2, heads, P, d] or [K, P, E] the prompts that a lineage starts from."""
    if not lineage.start:
        encoder, initial = encoder_of(lineage.setting), INITIALISERS[lineage.setting.prompt.init.kind]
        return torch.stack([initial(InitContext(encoder, lineage.setting, lineage.trained_on, seed)) for seed in seeds])
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
    return [SoftPrompt.load(folder / FILE) for folder in tuned(library, lineage, seeds, also)]


def tuned(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int], also: Sequence[int] = ()) -> list[Path]:
    """[K] the folders of what a lineage tuned; the missing are made. The arguments are those of `tuned_prompts`."""
    stops = sorted({lineage.steps, *also})
    if missing_seeds(library, lineage, seeds, stops):
        with library.lock(content_key(lineage.kind, lineage.at(0))):
            missing = missing_seeds(library, lineage, seeds, stops)  # another process may have made them
            if missing:
                _train(library, lineage.at(stops[-1]), missing, stops)
    return [library.get(lineage.kind, lineage.key(seed)) for seed in seeds]


def missing_seeds(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int], stops: Sequence[int]) -> list[int]:
    """Seeds with a missing or damaged snapshot."""
    return [s for s in seeds if not all(library.sound(lineage.kind, lineage.at(n).key(s)) for n in stops)]


def _train(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int], stops: Sequence[int]) -> None:
    """Runs that leave a snapshot at each stop: prompts of all seeds stacked, whole models one after the other."""
    for together in [seeds] if lineage.trains != "model" else [[seed] for seed in seeds]:
        trainer = _opened(library, lineage, together)
        for stop in stops:
            trainer.advance(stop - trainer.done)
            scores = {} if lineage.start else _source_scores(trainer)
            for i, (seed, save) in enumerate(zip(together, _savers(trainer), strict=True)):
                card = {**lineage_card(lineage.at(stop), seed), **{name: values[i] for name, values in scores.items()}}
                library.put(lineage.kind, lineage.at(stop).key(seed), save, card)


def _opened(library: PromptLibrary, lineage: Lineage, seeds: Sequence[int]) -> Trainer:
    student: Student
    if lineage.trains == "model":
        student = ModelStudent(lineage.setting, lineage.trained_on, seeds)
    else:
        start = starting_prompts(library, lineage, seeds)
        student = prompt_student(lineage.setting, lineage.trained_on, seeds, start, around=_around(lineage, start))
    data = training_data(
        library, lineage.setting, lineage.trained_on, seeds, lineage.steps, student.encoder.device,
        lineage.exclude_overlap_with,
    )  # fmt: skip
    return Trainer(student, data, Recipe(lineage.steps, lineage.learning_rate, "constant"))


def _around(lineage: Lineage, start: Tensor) -> Around | None:
    """What a lineage's trained prompts [K, …] are a part of."""
    if lineage.trains != "product":
        return None
    length, wide = tokens_of(start[0]).shape
    return partial(ProductPrompts, parts=unit_parts(len(start), len(lineage.task.tasks), length, wide))


def _savers(trainer: Trainer) -> list[Callable[[Path], None]]:
    """[K] what writes each replica into a folder."""
    student = trainer.student
    if isinstance(student, ModelStudent):
        return [partial(_save_model, student, replica) for replica in range(len(student.seeds))]
    return [partial(_save, prompt) for prompt in trainer.prompts()]


def _save(prompt: SoftPrompt, draft: Path) -> None:
    prompt.save(draft / FILE)


def _save_model(student: ModelStudent, replica: int, draft: Path) -> None:
    student.save_model(replica, draft / MODEL_FILE)


def _source_scores(trainer: Trainer) -> dict[str, list[float]]:
    """Selection score of each replica, and that of the best constant answer, so that a poor source can be flagged.

    Of a mixture the means over its tasks.
    """
    parts = trainer.data.parts
    scores = [trainer.select(number)[part.task.metrics[0]] for number, part in enumerate(parts)]
    data = trainer.data
    constants = [constant_scores(data.library, data.setting, part.task, part.rows) for part in parts]
    return {"score": np.mean(scores, 0).tolist(), "majority": np.mean(constants, 0).tolist()}


def lineage_card(lineage: Lineage, seed: int) -> dict[str, Any]:
    """Metadata of one seed's prompt for the library's card."""
    parents = [[share, parent.task.name, parent.key(seed)] for share, parent in lineage.start]
    return {
        "task": lineage.task.name, "plm": lineage.setting.plm.label, "seed": seed, "steps": lineage.steps,
        "learning_rate": lineage.learning_rate, "start": parents or lineage.setting.prompt.init.kind,
        **({"exclude_overlap_with": lineage.exclude_overlap_with.name} if lineage.exclude_overlap_with else {}),
    }  # fmt: skip


def tuned_student(lineage: Lineage, seeds: Sequence[int], folders: Sequence[Path]) -> Student:
    """The student that a lineage tuned, as it is stored.

    Args:
        lineage: how it was tuned.
        seeds: [K].
        folders: [K] of the library, as `tuned` gives them.
    """
    if lineage.trains == "model":
        files = [folder / MODEL_FILE for folder in folders]
        return ModelStudent(lineage.setting, lineage.trained_on, seeds, files, read_model_heads(files))
    stored = [SoftPrompt.load(folder / FILE) for folder in folders]
    return stored_student(lineage.setting, lineage.trained_on, seeds, stored)
