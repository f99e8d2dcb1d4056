"""Where an experiment keeps what it makes."""

from pathlib import Path

from panda_trainable.library import PromptLibrary
from tuning.experiment.experiment import Experiment

USES = "uses"
"""The folder of a search that notes which artefacts it uses."""


def library_of(experiment: Experiment) -> PromptLibrary:
    """The library of an experiment's storage, which notes what the experiment uses of it."""
    return PromptLibrary(experiment.storage_path / "library", uses_of(experiment))


def uses_of(experiment: Experiment) -> Path:
    """Where it is noted."""
    return experiment.search_path / USES
