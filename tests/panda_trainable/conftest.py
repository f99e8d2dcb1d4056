"""Fixtures of tests of one trial: trainers, trials, and a small learnable task of each kind."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.training.trainer import Trainer
from tests.kits.plms import save_wide_plm
from tests.kits.tasks import task_of_kind
from tests.kits.trainers import prompt_trainer, random_starts
from tests.kits.trials import short_trial


@pytest.fixture(scope="session")
def _shared_library(tmp_path_factory: pytest.TempPathFactory) -> PromptLibrary:
    return PromptLibrary(tmp_path_factory.mktemp("shared") / "library")


@pytest.fixture
def library(request: pytest.FixtureRequest, tmp_path: Path, _shared_library: PromptLibrary) -> PromptLibrary:
    """One library for all tests: keys are by content, so what is there already is what a test would have made.

    A test that looks at what is made in it is marked `own_library` and has an empty one.
    """
    own = request.node.get_closest_marker("own_library")
    return PromptLibrary(tmp_path / "library") if own else _shared_library


@pytest.fixture
def kind_task(tmp_path: Path) -> Callable[..., TaskSpec]:
    """Makes located tasks of a kind: kind_task("tagging", name="t", n=60, seed=0)."""

    return partial(task_of_kind, tmp_path / "kinds")


@pytest.fixture
def opened(library: PromptLibrary, setting: Setting) -> Callable[..., Trainer]:
    """Opens plain trainers: opened(task, seeds=(0,), steps=10, setting=...)."""

    def make(task: TaskSpec, seeds: Sequence[int] = (0,), steps: int = 10, **changes: Any) -> Trainer:
        own = changes.pop("setting", setting)
        values = {"learning_rate": 0.02, "start": random_starts(own, seeds), **changes}
        return prompt_trainer(library, own, task, seeds, values.pop("start"), steps=steps, **values)

    return make


@pytest.fixture(scope="session")
def wide_plm(tmp_path_factory: pytest.TempPathFactory) -> Plm:
    """Another PLM: 24 wide, three layers, and other numbers for all words."""
    return save_wide_plm(tmp_path_factory.mktemp("wide"))


@pytest.fixture(scope="session")
def parting_plm(tmp_path_factory: pytest.TempPathFactory) -> Plm:
    """The same with a tokenizer that takes words apart."""
    return save_wide_plm(tmp_path_factory.mktemp("parting"), parted=True)


@pytest.fixture
def trial(setting: Setting, tmp_path: Path, wide_plm: Plm) -> Callable[..., TrialConfig]:
    """Makes short trials of a method on the task `t`: trial("panda", sources=2, lambda_=0.5)."""

    def make(method: str = "prompt_tuning", sources: int = 1, **changes: Any) -> TrialConfig:
        return short_trial(tmp_path / "data", changes.pop("setting", setting), wide_plm, method, sources, **changes)

    return make
