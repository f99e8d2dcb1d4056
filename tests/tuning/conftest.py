"""Plans of a small experiment, and a thread per process as in a worker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.trainable import single_threaded
from tests.conftest import experiment_file
from tuning.experiment import load
from tuning.plan import Plan, make_plan


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    single_threaded()


@pytest.fixture
def planned(tmp_path: Path, plms: Callable[[str], Path]) -> Callable[..., Plan]:
    """The plan of a small experiment: planned(folder=tmp_path, plm=bert, **changes of the file)."""

    def make(folder: Path = tmp_path, plm: Path | None = None, **changes: Any) -> Plan:
        return make_plan(load(experiment_file(folder, plm or plms("bert"), **changes)))

    return make
