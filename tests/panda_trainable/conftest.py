"""What the tests of one trial share: prompts, sessions and trial configurations on the random bert."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from panda_trainable.config import Setting, Source, TrialConfig
from panda_trainable.encoder import load_encoder
from panda_trainable.library import PromptLibrary
from panda_trainable.prompts import random_prompt
from panda_trainable.session import Session
from panda_trainable.tasks import TaskSpec


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Two threads in one process are slower than one, and their sums differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_starts(setting: Setting, seeds: Sequence[int]) -> torch.Tensor:
    """[K, L, 2, heads, P, d] the random prompts of the seeds."""
    shape = load_encoder(setting.plm).prompt_shape(setting.prompt_length)
    return torch.stack([random_prompt(shape, seed) for seed in seeds])


def loss_curve(session: Session, steps: int) -> torch.Tensor:
    """[steps, K] the loss of every step from here."""
    curve = []
    for _ in range(steps):
        session.advance(1)
        curve.append(session.losses())
    return torch.tensor(curve, dtype=torch.float64)


@pytest.fixture
def opened(library: PromptLibrary, setting: Setting) -> Callable[..., Session]:
    """Opens plain sessions: opened(task, seeds=(0,), steps=10)."""

    def make(task: TaskSpec, seeds: Sequence[int] = (0,), steps: int = 10, **changes: Any) -> Session:
        values = {"learning_rate": 0.02, "start": random_starts(setting, seeds), **changes}
        return Session(library, setting, task, seeds, values.pop("start"), steps=steps, **values)

    return make


@pytest.fixture
def trial(setting: Setting, task: Callable[..., TaskSpec]) -> Callable[..., TrialConfig]:
    """Makes short trials of a method on the task `t`: trial("panda", sources=2, lambda_=0.5)."""

    def make(method: str = "prompt_tuning", sources: int = 1, **changes: Any) -> TrialConfig:
        values: dict[str, Any] = {"target": task("t"), "seeds": (0, 1), "steps": 8, "learning_rate": 0.02}
        if method != "prompt_tuning":
            pairs = tuple(Source(task(f"s{i}", seed=i + 1), 0.5 / (i + 1)) for i in range(sources))
            values |= {"sources": pairs, "source_steps": 6, "source_learning_rate": 0.02}
        if method == "panda":
            values |= {"lambda_": 1.0, "teacher_steps": 4, "candidates": (2, 4)}
        return TrialConfig(setting, method=method, **(values | changes))

    return make
