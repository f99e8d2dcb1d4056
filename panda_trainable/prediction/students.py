"""HOLDS: what a replica of a winner is stored as, and the student that is made of it again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import load_file, save_file

from panda_trainable.prediction.winner import Holds, Winner
from panda_trainable.prompt.soft_prompt import SoftPrompt
from panda_trainable.prompt.sources import NoPrompt
from panda_trainable.training.heads import HEAD_PARTS
from panda_trainable.training.model_student import ModelStudent, read_model_heads
from panda_trainable.training.student import PromptStudent, Student, encoder_of, stored_student
from panda_trainable.training.trainer import Trainer

SCALE = "label_scale"


@dataclass(frozen=True)
class Stored:
    """How replicas are kept as files.

    Attributes:
        save: writes replica k of a trainer.
        student: the K replicas of a winner's files, in one student.
    """

    save: Callable[[Trainer, int, Path], None]
    student: Callable[[Winner], Student]


def _save_prompt(trainer: Trainer, replica: int, path: Path) -> None:
    trainer.prompts()[replica].save(path)


def stored_prompts(winner: Winner) -> list[SoftPrompt]:
    """[K] the prompts of a winner that has such."""
    return [SoftPrompt.load(path) for path in winner.paths]


def _prompted(winner: Winner) -> Student:
    return stored_student(winner.setting, winner.task, winner.seeds, stored_prompts(winner))


def _save_head(trainer: Trainer, replica: int, path: Path) -> None:
    student = trainer.student
    assert isinstance(student, PromptStudent), "only such a student has heads without prompts"
    parts = {name: student.heads[name][replica] for name in HEAD_PARTS} | {SCALE: trainer.label_scales[replica]}
    save_file({name: part.detach().cpu().contiguous().clone() for name, part in parts.items()}, path)


def _headed(winner: Winner) -> Student:
    read = [load_file(path) for path in winner.paths]
    weight, bias = (torch.stack([tensors[name] for tensors in read]) for name in HEAD_PARTS)
    return PromptStudent(encoder_of(winner.setting), winner.task, winner.seeds, NoPrompt(), (weight, bias))


def _save_model(trainer: Trainer, replica: int, path: Path) -> None:
    assert isinstance(trainer.student, ModelStudent), "only such a student has weights of its own"
    trainer.student.save_model(replica, path, {SCALE: trainer.label_scales[replica]})


def _modelled(winner: Winner) -> Student:
    return ModelStudent(winner.setting, winner.task, winner.seeds, winner.paths, read_model_heads(winner.paths))


HOLDS: Mapping[Holds, Stored] = MappingProxyType(
    {
        "prompt": Stored(_save_prompt, _prompted),
        "head": Stored(_save_head, _headed),
        "model": Stored(_save_model, _modelled),
    }
)
"""What a replica's file has -> how it is written and read."""


def holds(student: Student) -> Holds:
    """What files of a student's replicas have."""
    if isinstance(student, ModelStudent):
        return "model"
    return "head" if student.prompt() is None else "prompt"


def label_scales(winner: Winner) -> torch.Tensor:
    """[K, 2, O] mean and deviation of the labels that each output was trained on; 0 and 1 where they were not scaled."""
    return torch.stack([load_file(path)[SCALE] for path in winner.paths])
