"""Fixtures of tests of the command: plans of a small experiment, and an MLflow store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kits.small import new_store, plan_of
from tuning.planning.plan import Plan


@pytest.fixture
def planned(tmp_path: Path, plms: Callable[[str], Path]) -> Callable[..., Plan]:
    """The plan of a small experiment: planned(folder=tmp_path, plm=bert, **changes of the file)."""
    return lambda folder=tmp_path, plm=None, **changes: plan_of(folder, plm or plms("bert"), **changes)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """The address of an empty MLflow store."""
    return new_store(tmp_path / "store")
