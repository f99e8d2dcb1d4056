"""Fixtures of tests of one trial: sessions, trials, and a small learnable task of each kind."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.config.methods import KD_KINDS, TRAITS
from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import Projection, Source, TeacherPlm, TrialConfig
from panda_trainable.data.rows import located
from panda_trainable.library import PromptLibrary
from panda_trainable.training.trainer import Trainer
from tests.kits.plms import save_wide_plm
from tests.kits.sessions import prompt_trainer, random_starts
from tests.kits.tasks import SPECS, kind_rows, write_task


@pytest.fixture
def kind_task(tmp_path: Path) -> Callable[..., TaskSpec]:
    """Makes located tasks of a kind: kind_task("tagging", name="t", n=60, seed=0)."""

    def make(kind: str, name: str = "k", n: int = 60, seed: int = 0, **changes: Any) -> TaskSpec:
        folder = tmp_path / "kinds"
        write_task(folder / name, kind_rows(kind, n, seed), kind_rows(kind, 24, seed + 99))
        return located(replace(SPECS[kind], name=name, **changes), folder)

    return make


@pytest.fixture
def opened(library: PromptLibrary, setting: Setting) -> Callable[..., Trainer]:
    """Opens plain sessions: opened(task, seeds=(0,), steps=10, setting=...)."""

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
def trial(setting: Setting, task: Callable[..., TaskSpec], wide_plm: Plm) -> Callable[..., TrialConfig]:
    """Makes short trials of a method on the task `t`: trial("panda", sources=2, lambda_=0.5)."""

    def make(method: str = "prompt_tuning", sources: int = 1, **changes: Any) -> TrialConfig:
        traits = TRAITS[method]
        steps, rate = (0, 0.0) if traits.trains == "nothing" else (8, 0.02)
        target = changes.pop("target") if "target" in changes else task("t")
        values: dict[str, Any] = {"seeds": (0, 1), "steps": steps, "learning_rate": rate}
        if traits.sources != "none":
            values["sources"] = tuple(Source(task(f"s{i}", seed=i + 1), 0.5 / (i + 1)) for i in range(sources))
        if traits.sources != "none" or traits.another == "source_plm":
            values |= {"source_steps": 6, "source_learning_rate": 0.02}
        if "lambda" in traits.knobs:
            values["lambda_"] = 1.0
        if "teacher_steps" in traits.knobs:
            values |= {"teacher_steps": 4, "candidates": (2, 4)}
        if traits.another == "teacher_plm":
            relations = {name: target.kind in KD_KINDS[name] for name in ("inter_class", "inter_instance")}
            values |= {name: 0.5 * fits for name, fits in relations.items()}
            values["teacher_plm"] = TeacherPlm(wide_plm, steps=6, learning_rate=0.02)
        if traits.another == "source_plm":
            values["projection"] = Projection(wide_plm, (task("p0", seed=11), task("p1", seed=12)), steps=5)
        return TrialConfig(changes.pop("setting", setting), target, method, **(values | changes))

    return make
