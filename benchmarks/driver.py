"""The driver of a large search: what Ray, Optuna and MLflow cost per result, and whether it grows as trials pile up.

Many studies of trials that do nothing, on the real road: searcher, journals, scheduler, one Tuner, MLflow in sqlite.
Neighbours on the machine change times from one minute to the next, but not the calls of functions (`--calls`).
"""

import argparse
import cProfile
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.cases import Case, saved_plm, written_task
from panda_trainable.result import TrialResult
from panda_trainable.trainable import PandaTrainable
from tuning.cluster.connection import session_folder
from tuning.cluster.resources import slots
from tuning.engine.searcher import WAVE
from tuning.experiment.loading import load
from tuning.planning.resolve import make_plans
from tuning.run.progress import Progress
from tuning.run.search import Run
from tuning.tracking.tracker import Tracker
from tuning.tracking.updates import RunUpdate
from tuning.tracking.writer import Writer

RESULTS = 4
"""Evaluations of a trial."""

COSTS = {
    "seconds": ("ms", 1e3), "cpu_seconds": ("ms of the processor for Tune's loop", 1e3),
    "calls": ("calls of functions in it", 1.0),
}  # fmt: skip
"""What a result may cost more as trials pile up: the field of `Mark`, its unit when printed, and how many of them."""


class NoOp(PandaTrainable):
    """A trial that reports what it was asked, at once."""

    def _swap_in(self) -> None:
        """Needs no PLM."""

    def _open(self, config: dict[str, Any]) -> None:
        super()._open(config)
        self.at = 0

    def step(self) -> dict[str, Any]:
        """A result without work."""
        self.at += 1
        result = TrialResult(self.at, 0.0, self.node, {"accuracy": {0: 0.5}}, {0: 1.0}, is_last=self.at >= RESULTS)
        return result.as_ray()


class NoOps(Run):
    """A search of trials that do nothing."""

    trainable = NoOp


@dataclass(frozen=True)
class Mark:
    """The driver as a trial ends.

    Attributes:
        seconds: of the clock on the wall.
        cpu_seconds: that Tune's loop has had the processor.
        calls: of functions in Tune's loop so far; 0 where they are not counted.
        mib: of memory.
    """

    seconds: float
    cpu_seconds: float
    calls: int
    mib: float


class Marks(Progress):
    """Notes the driver's state as each trial ends.

    Args:
        calls: counts the calls of Tune's loop; None: they are not counted.
    """

    def __init__(self, calls: cProfile.Profile | None = None) -> None:
        super().__init__()
        self.calls = calls
        self.marks: list[Mark] = []

    def begin(self) -> None:
        """The search is about to begin."""

    def advance(self, note: str = "", by: int = 1) -> None:
        """A trial ended."""
        self.marks.append(Mark(time.perf_counter(), time.thread_time(), self._counted(), resident()))
        super().advance(note, by)

    def _counted(self) -> int:
        if self.calls is None:
            return 0
        self.calls.disable()  # its own calls are none of the loop's
        count = sum(function.callcount for function in self.calls.getstats())
        self.calls.enable()
        return count


class Timed(Tracker):
    """Notes how long MLflow takes."""

    spent = 0.0

    def write(self, *updates: RunUpdate) -> bool:
        """Writes, on the clock."""
        began = time.perf_counter()
        written = super().write(*updates)
        self.spent += time.perf_counter() - began
        return written


def resident() -> float:
    """MiB that this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def on_disk(folder: Path) -> int:
    """Bytes that a folder's files take, in whole blocks."""
    return sum(512 * path.lstat().st_blocks for path in folder.rglob("*") if not path.is_symlink())


def logged() -> int:
    """Bytes of the logs of the Ray that this process has started."""
    session = session_folder()
    return sum(path.stat().st_size for path in (session / "logs").rglob("*") if path.is_file()) if session else 0


def measured(
    trials: int, studies: int, marks: Marks, *, real: bool = False, wave: int = WAVE, sampler: str = "tpe",
    is_recorded: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Time per result, memory of the driver in the first and in the last quarter of the trials, disk and logs.

    Args:
        trials: of all studies together.
        studies: of one target each.
        marks: new, which notes them.
        real: whether trials train a tiny PLM.
        wave: trials of one Tuner at most.
        sampler: `tpe`, which draws a study's first ten trials at random and computes the others, or `random`.
        is_recorded: whether to wait until MLflow has all of it.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(marks)
        experiment = load(written(Path(folder), trials // studies, studies, sampler))
        run = (Run if real else NoOps)(make_plans(experiment), None, marks, stack)
        tracker = Timed(run.experiment.tracking_uri, run.experiment.name, run.experiment.search_path, run.updates)
        run.wave, run.tracker, run.writer = wave, tracker, Writer(tracker, marks.say)
        stack.callback(run.writer.close)
        for plan in run.plans:
            run.make_studies(plan)
        run.show()
        fit = slots(run.asked())
        marks.begin()
        tracker.spent, used, began = 0.0, on_disk(experiment.storage_path), time.perf_counter()
        with marks.calls or nullcontext():
            run.search()
        ended = time.perf_counter()
        if is_recorded:
            run.show_all()
        recorded = time.perf_counter()
        used, logs, failures = on_disk(experiment.storage_path) - used, logged(), list(run.failures)
    quarter = len(marks.marks) // 4
    first, last = marks.marks[:quarter], marks.marks[-quarter:]
    return {
        "trials": len(marks.marks), "studies": len(run.all_studies), "slots": fit, "failures": failures,
        "is_recorded": run.is_recorded, "seconds": ended - began, "seconds_per_trial": (ended - began) / len(marks.marks),
        "results_per_second": RESULTS * len(marks.marks) / (ended - began), "recording_seconds": recorded - ended,
        "mlflow_seconds_per_trial": tracker.spent / len(marks.marks),
        **growth(first, last),
        "first_mib": max(mark.mib for mark in first), "last_mib": max(mark.mib for mark in last),
        "ratio_memory": max(mark.mib for mark in last) / max(mark.mib for mark in first),
        "kb_per_trial": used / 1000 / len(marks.marks), "log_mb": logs / 1e6,
    }  # fmt: skip


def growth(first: Sequence[Mark], last: Sequence[Mark]) -> dict[str, float]:
    """What a result costs in the first quarter and in the last, and the ratio, of all that was measured."""
    found: dict[str, float] = {}
    for what in COSTS:
        then, now = (
            (getattr(part[-1], what) - getattr(part[0], what)) / (len(part) - 1) / RESULTS for part in (first, last)
        )
        if then:
            found |= {f"first_{what}_per_result": then, f"last_{what}_per_result": now, f"ratio_{what}": now / then}
    return found


def written(folder: Path, trials: int, studies: int, sampler: str) -> Path:
    """An experiment of as many targets as studies."""
    own = {"text": "text", "classes": ["no", "yes"], "metrics": ["accuracy"]}
    names = [f"t{number}" for number in range(studies)]
    for number, name in enumerate(names):  # other rows each: equal tasks would be one study
        written_task(name, Case(lengths="cola", rows=40), folder / "data", number)
    file = folder / "driver.yaml"
    values = {
        "name": "driver", "plm": {"from": str(saved_plm("tiny", folder / "plm"))}, "tasks": dict.fromkeys(names, own),
        "targets": names, "train": {"steps": RESULTS, "eval_every": 1, "seeds": [0]},
        "search": {"trials": trials, "scheduler": "none", "sampler": sampler},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="of all studies together")
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--real", action="store_true", help="trials train a tiny PLM")
    parser.add_argument("--wave", type=int, default=WAVE, help="trials of one Tuner at most")
    parser.add_argument(
        "--sampler", choices=("tpe", "random"), default="tpe", help="tpe computes from a study's 11th trial on"
    )
    parser.add_argument(
        "--calls", action="store_true", help="count the calls of functions, which makes the loop slower"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    marks = Marks(cProfile.Profile(subcalls=False) if asked.calls else None)
    found = measured(asked.trials, asked.studies, marks, real=asked.real, wave=asked.wave, sampler=asked.sampler)
    if asked.json:
        print(json.dumps(found))
        return
    print(f"{found['trials']} trials of {RESULTS} results in {found['studies']} studies: {found['seconds']:.0f} s")
    print(f"  {found['results_per_second']:.0f} results a second, {found['seconds_per_trial']:.3f} s per trial")
    print(f"  MLflow beside it: {found['mlflow_seconds_per_trial']:.3f} s per trial, ", end="")
    print(
        f"the rest {found['recording_seconds']:.0f} s after the last, {'all' if found['is_recorded'] else 'not all'} of it"
    )
    for what, (unit, scale) in COSTS.items():
        if ratio := found.get(f"ratio_{what}"):
            first, last = (scale * found[f"{which}_{what}_per_result"] for which in ("first", "last"))
            print(f"  per result {first:.4g} {unit} in the first quarter, {last:.4g} in the last: x{ratio:.2f}")
    print(
        f"  {found['first_mib']:.0f} MiB in the first quarter, {found['last_mib']:.0f} in the last: x{found['ratio_memory']:.2f}"
    )
    print(f"  disk {found['kb_per_trial']:.1f} kB per trial, Ray's logs {found['log_mb']:.2f} MB in all")
    for failure in found["failures"]:
        print(f"  failed: {failure}")


if __name__ == "__main__":
    main()
