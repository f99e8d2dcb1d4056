"""Fixtures of all tests: random PLMs, small tasks, an empty library, and a finished search."""

import gc
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.library import PromptLibrary
from panda_trainable.worker import single_threaded
from tests.kits.command import experiment_file, panda_tune_here
from tests.kits.language_models import lm_plm, save_lm
from tests.kits.plms import save_plm
from tests.kits.tasks import small_task
from tests.kits.trials import small_setting
from tuning.cluster.connection import connected

pytest_plugins = ("tests.kits.processor_seconds",)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups for workers: slow tests, which start Ray, are one group and begin first; every other file is its own.

    Those that break a search mostly wait, for what is broken to be noticed: their files need not wait for one another.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        is_alone = item.get_closest_marker("slow") and not item.get_closest_marker("faults")
        group = "ray" if is_alone else item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Two threads in one process are slower than one, and their sums differ."""
    single_threaded()


@pytest.fixture(autouse=True, scope="module")
def _only_its_own_garbage() -> None:
    """What earlier modules imported and made is not looked through whenever a PLM gives its memory back."""
    gc.freeze()


@pytest.fixture(scope="session")
def plms(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of random PLMs, made once."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = save_plm(tmp_path_factory.mktemp("plm") / family, family)
        return made[family]

    return folder


@pytest.fixture(scope="session")
def lms(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Plm]:
    """Random language models that answer with their own head, as files, made once."""
    made: dict[str, Plm] = {}

    def plm(name: str) -> Plm:
        if name not in made:
            made[name] = lm_plm(save_lm(tmp_path_factory.mktemp("lm") / name, name), "lm")
        return made[name]

    return plm


@pytest.fixture
def library(tmp_path: Path) -> PromptLibrary:
    """An empty library."""
    return PromptLibrary(tmp_path / "library")


@pytest.fixture
def setting(plms: Callable[[str], Path]) -> Setting:
    """A small setting on the random bert."""
    return small_setting(plms("bert"))


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., TaskSpec]:
    """Makes located tasks of a few rows: task(name, classes=2, n=60, seed=0, kind="classification")."""

    return partial(small_task, tmp_path / "data")


def started(tries: int = 3) -> Any:
    """A Ray of one node with one processor: it gives a node 30 s to start, not enough where much else is to be done."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1, include_dashboard=False)
        cluster.wait_for_nodes()
    except Exception:
        cluster.shutdown()
        if tries == 1:
            raise
        return started(tries - 1)
    return cluster


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A running Ray with one slot, and this process's connection to it, which all of its searches share.

    A process that goes from one Ray to another and back loses its actors there, so no test starts its own in here.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")
    cluster = started()
    with connected(cluster.address):
        yield cluster
    cluster.shutdown()


@pytest.fixture(scope="session")
def ray_address(ray_cluster: Any) -> str:
    """Where that Ray is."""
    return str(ray_cluster.address)


@pytest.fixture(scope="session")
def searched(
    tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path], ray_address: str
) -> tuple[Path, Path, str]:
    """A finished search on random data: its folder, its file, and what it printed."""
    folder = tmp_path_factory.mktemp("searched")
    file = experiment_file(folder, plms("bert"))
    return folder, file, panda_tune_here("search", file, "--address", ray_address).stdout
