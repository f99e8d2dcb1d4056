"""Fixtures of all tests: random PLMs, small tasks, an empty library, and a finished search."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.config.setting import Plm, PromptSettings, Setting, TrainSettings
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.rows import located
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.files import plm_files
from panda_trainable.worker import single_threaded
from tests.kits.command import experiment_file, panda_tune_here
from tests.kits.plms import save_plm
from tests.kits.tasks import rows_of, write_task

pytest_plugins = ("tests.kits.processor_seconds",)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups for workers: slow tests, which start Ray, are one group and begin first; every other file is its own."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        group = "ray" if item.get_closest_marker("slow") else item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Two threads in one process are slower than one, and their sums differ."""
    single_threaded()


@pytest.fixture(scope="session")
def plms(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of random PLMs, made once."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = save_plm(tmp_path_factory.mktemp("plm") / family, family)
        return made[family]

    return folder


@pytest.fixture
def library(tmp_path: Path) -> PromptLibrary:
    """An empty library."""
    return PromptLibrary(tmp_path / "library")


@pytest.fixture
def setting(plms: Callable[[str], Path]) -> Setting:
    """A small setting on the random bert."""
    folder = plms("bert")
    return Setting(
        Plm(str(folder), plm_files(folder)),
        prompt=PromptSettings(length=3),
        train=TrainSettings(batch_size=4, max_length=16, eval_every=4),
    )


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., TaskSpec]:
    """Makes located tasks of a few rows: task(name, classes=2, n=60, seed=0, kind="classification")."""

    def make(
        name: str, classes: int = 2, n: int = 60, seed: int = 0, kind: str = "classification", **changes: Any
    ) -> TaskSpec:
        write_task(
            tmp_path / "data" / name,
            rows_of(n, classes, seed=seed, kind=kind),
            rows_of(24, classes, seed=seed + 99, kind=kind),
        )
        names = tuple(f"c{i}" for i in range(classes)) if kind == "classification" else ()
        metric = "accuracy" if kind == "classification" else "pearson"
        spec = TaskSpec(name, kind, ("a",), "label", names, (metric,))
        return located(replace(spec, **changes), tmp_path / "data")

    return make


def _two_nodes(tries: int = 3) -> Any:
    """Ray gives a node 30 s to start, which is not enough where the machine has much else to do."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, include_dashboard=False)
        cluster.wait_for_nodes()
    except Exception:
        cluster.shutdown()
        if tries == 1:
            raise
        return _two_nodes(tries - 1)
    return cluster


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """A running Ray of two nodes with a processor each, for all searches that need none of their own."""
    os.environ.setdefault("RAY_worker_niceness", "0")
    cluster = _two_nodes()
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="session")
def searched(
    tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path], ray_address: str
) -> tuple[Path, Path, str]:
    """A finished search on random data: its folder, its file, and what it printed."""
    folder = tmp_path_factory.mktemp("searched")
    file = experiment_file(folder, plms("bert"))
    return folder, file, panda_tune_here("search", file, "--address", ray_address).stdout
