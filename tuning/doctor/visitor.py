"""What is called on a node: functions that say what they see there and judge nothing."""

import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis.wording import counted
from panda_trainable.config.methods import BASELINE
from tuning.cluster.staging import PACKAGES
from tuning.planning.plan import Plan

COMPARED = ("torch", "transformers", "ray", "numpy", "optuna", "tokenizers")
"""Packages that must be the same everywhere: numbers and messages depend on them."""
TRAINED_STEPS = 3
NVIDIA = ("nvidia-smi", "--query-gpu=name,memory.used,memory.total", "--format=csv,noheader,nounits")


def versions() -> dict[str, str]:
    """Python and the packages that must be the same everywhere, as they are here."""
    return {"python": platform.python_version(), **{name: _version(name) for name in COMPARED}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def project() -> str:
    """A digest of our four packages as they are imported here."""
    import tuning

    root = Path(str(tuning.__file__)).parents[1]
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))
    said = "".join(f"{file.relative_to(root)} {sha256(file.read_bytes()).hexdigest()}\n" for file in files)
    return sha256(said.encode()).hexdigest()[:12]


def gpus() -> list[tuple[str, float, float]]:
    """Name, used and whole MiB of each GPU that the driver of this node shows."""
    try:
        shown = subprocess.run(NVIDIA, capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603  # a command of our own
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[part.strip() for part in line.rsplit(",", 2)] for line in shown.splitlines() if line.count(",") >= 2]
    return [(name, _number(used), _number(whole)) for name, used, whole in rows]


def _number(text: str) -> float:
    """Some GPUs share their memory with others, and tell none of their own."""
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def mark(storage: Path, name: str) -> Path:
    """Where a node, or the driver, leaves its sign in the storage while it is looked at."""
    return storage / f".doctor-{name}"


def facts(storage: str, sign: str, own: str) -> dict[str, Any]:
    """What is quick to see.

    Args:
        storage: the folder that every node should see.
        sign: of the driver, which lies there.
        own: of this node, which is left there.
    """
    return {
        "versions": versions(),
        "project": project(),
        "gpus": gpus(),
        "scratch": shutil.disk_usage(tempfile.gettempdir()).free,
        "storage": _storage(Path(storage), sign, own),
    }


def _storage(storage: Path, sign: str, own: str) -> str:
    """Why the storage is none that can be searched in from here; empty: it is."""
    if not storage.is_dir():
        return f"{storage} is not there"
    try:
        seen = mark(storage, sign).exists()
        mark(storage, own).write_text(own, encoding="utf-8")
    except OSError as error:
        return f"{storage} is not writable ({error.strerror})"
    return "" if seen else f"{storage} is another folder than the driver's"


def clock() -> float:
    """Seconds since the epoch, as this node has them."""
    return time.time()


def load_all(plans: Sequence[Plan]) -> str:
    """Loads every PLM and reads every task as trials do; what was read."""
    from panda_trainable.data.limits import kept_rows
    from panda_trainable.worker import load_encoder, release_encoder, single_threaded

    single_threaded()
    settings = list(dict.fromkeys(setting for plan in plans for setting in plan.settings))
    tasks = list(dict.fromkeys(task for plan in plans for task in plan.tasks.values() if task.origin.has_rows))
    for setting in settings:
        load_encoder(setting.plm)
    release_encoder()
    rows = sum(len(kept_rows(task, "train", None)[0]) for task in tasks)
    return f"{counted(len(settings), 'PLM')}, {counted(len(tasks), 'task')} with {counted(rows, 'train row')}"


def train(plan: Plan) -> str:
    """Trains and scores a student for a few steps, as a trial does; how long that took."""
    from panda_trainable.library import PromptLibrary
    from panda_trainable.transfer.methods import open_trainer
    from panda_trainable.worker import device, single_threaded
    from tuning.planning.bases import study_base

    single_threaded()
    pair = next(pair for pair in plan.pairs if pair.method == BASELINE)
    trainer = open_trainer(PromptLibrary(plan.experiment.storage_path / "library"), study_base(plan, pair, ())[0])
    began = time.perf_counter()
    trainer.advance(TRAINED_STEPS)
    trained = time.perf_counter()
    trainer.select()
    scored = time.perf_counter() - trained
    return f"{pair.target} on {device()}: {(trained - began) / TRAINED_STEPS:.2f} s a step, {scored:.2f} s a scoring"
