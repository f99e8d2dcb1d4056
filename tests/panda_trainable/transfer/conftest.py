"""One library for all tests of transfer: what they need of sources and teachers is tuned once."""

from pathlib import Path

import pytest

from panda_trainable.library import PromptLibrary


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> PromptLibrary:
    """A library that is filled as tests go; keys are by content, so what it has is what a test would have made."""
    return PromptLibrary(tmp_path_factory.mktemp("shared") / "library")


@pytest.fixture
def empty_library(tmp_path: Path) -> PromptLibrary:
    """A library of its own, for a test that looks at what is made in it."""
    return PromptLibrary(tmp_path / "library")
