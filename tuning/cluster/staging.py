"""What a worker is given: our four packages, in a working directory of their own, and a few variables."""

import os
import shutil
from pathlib import Path

PACKAGES = ("panda_trainable", "search_spaces", "tuning", "analysis")


def passed_on() -> dict[str, str]:
    """Variables of this process that workers need, too."""
    return {name: os.environ[name] for name in ("HF_HUB_OFFLINE", "HF_HOME") if name in os.environ}


def stage(folder: Path) -> None:
    """Copies the four packages into a working directory of our own.

    A user's folder that happens to be called `analysis` must not shadow ours on the workers.
    """
    here = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        shutil.copytree(here / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
