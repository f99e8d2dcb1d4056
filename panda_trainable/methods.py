"""Methods as rows: where the student's prompt starts, who teaches it, what is trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from panda_trainable.config import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.model_session import ModelSession
from panda_trainable.session import Session, Teacher
from panda_trainable.teachers import Lineage, source_lineage, starting_prompts, target_like_teachers

Start = Callable[[PromptLibrary, TrialConfig], Tensor]
Teach = Callable[[PromptLibrary, TrialConfig], list[Teacher]]


@dataclass(frozen=True)
class Method:
    """A named way to adapt.

    Attributes:
        start: gives the prompts [K, L, 2, heads, P, d] at step 0.
        teachers: gives the student's teachers; none is an empty list.
        trains: what is trained, a row of SESSIONS: `prompt` is the soft prompt and the head, `model` all weights.
        origin: where it was published.
    """

    start: Start
    teachers: Teach
    trains: str
    origin: str


def random_start(library: PromptLibrary, config: TrialConfig) -> Tensor:
    """Prompts as `setting.init` says, decided by the seeds."""
    return starting_prompts(library, Lineage(config.setting.of_targets, config.target, 0, 0.0), config.seeds)


def from_sources(library: PromptLibrary, config: TrialConfig) -> Tensor:
    """The source prompt, or with partners their similarity-weighted average. Source: SPoT."""
    start = tuple((share, source_lineage(config, i)) for i, share in enumerate(config.shares))
    return starting_prompts(library, Lineage(config.setting.of_targets, config.target, 0, 0.0, start), config.seeds)


def no_prompt(_library: PromptLibrary, config: TrialConfig) -> Tensor:
    """[K, 0] there is none."""
    return torch.empty(len(config.seeds), 0)


def no_teacher(_library: PromptLibrary, _config: TrialConfig) -> list[Teacher]:
    """Nobody teaches."""
    return []


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "prompt_tuning": Method(random_start, no_teacher, "prompt", "Lester et al. (2021); P-tuning v2 (2022)"),
        "prompt_tuning_longer": Method(random_start, no_teacher, "prompt", "SPoT's control for longer tuning"),
        "spot": Method(from_sources, no_teacher, "prompt", "SPoT (2022); PANDA's vanilla prompt transfer"),
        "panda": Method(random_start, target_like_teachers, "prompt", "PANDA (2022)"),
        "model_tuning": Method(no_prompt, no_teacher, "model", "the usual fine-tuning"),
    }
)
"""Name -> method; `config.KNOBS` has what a search may vary of each."""


SESSIONS: Mapping[str, type[Session]] = MappingProxyType({"prompt": Session, "model": ModelSession})
"""What is trained -> the session that trains it."""


def open_session(library: PromptLibrary, config: TrialConfig) -> Session:
    """The session of a trial; what it needs and is not in the library is made first."""
    method = METHODS[config.method]
    return SESSIONS[method.trains](
        library, config.setting, config.target, config.seeds, method.start(library, config),
        steps=config.steps, learning_rate=config.learning_rate,
        teachers=method.teachers(library, config), kd=config.kd,
    )  # fmt: skip
