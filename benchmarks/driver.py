"""The driver of a large search: what Ray, Optuna and MLflow cost per result, and whether it grows as trials pile up.

Many studies of trials that do nothing, on the real road: searcher, journals, scheduler, one Tuner, MLflow in sqlite.
"""

import argparse
import json
import os
import tempfile
import time
from contextlib import ExitStack
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


class Marks(Progress):
    """Notes the time, the processor time of Tune's loop, and the driver's memory as each trial ends."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[float, float, float]] = []

    def advance(self, note: str = "", by: int = 1) -> None:
        """A trial ended."""
        self.marks.append((time.perf_counter(), time.thread_time(), resident()))
        super().advance(note, by)


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
    trials: int, studies: int, *, real: bool = False, wave: int = WAVE, sampler: str = "tpe"
) -> dict[str, Any]:
    """Time per result, memory of the driver in the first and in the last quarter of the trials, disk and logs.

    Args:
        trials: of all studies together.
        studies: of one target each.
        real: whether trials train a tiny PLM.
        wave: trials of one Tuner at most.
        sampler: `tpe`, which draws a study's first ten trials at random and computes the others, or `random`.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        marks = stack.enter_context(Marks())
        experiment = load(written(Path(folder), trials // studies, studies, sampler))
        run = (Run if real else NoOps)(make_plans(experiment), None, marks, stack)
        tracker = Timed(run.experiment.tracking_uri, run.experiment.name, run.experiment.search_path, run.updates)
        run.wave, run.tracker, run.writer = wave, tracker, Writer(tracker, marks.say)
        stack.callback(run.writer.close)
        for plan in run.plans:
            run.make_studies(plan)
        run.show()
        fit = slots(run.asked())
        tracker.spent, used, began = 0.0, on_disk(experiment.storage_path), time.perf_counter()
        run.search()
        ended = time.perf_counter()
        run.show_all()
        recorded = time.perf_counter()
        used, logs, failures = on_disk(experiment.storage_path) - used, logged(), list(run.failures)
    quarter = len(marks.marks) // 4
    first, last = marks.marks[:quarter], marks.marks[-quarter:]

    def per_result(part: list[tuple[float, float, float]], clock: int = 0) -> float:
        return (part[-1][clock] - part[0][clock]) / (len(part) - 1) / RESULTS

    return {
        "trials": len(marks.marks), "studies": len(run.all_studies), "slots": fit, "failures": failures,
        "is_recorded": run.is_recorded, "seconds": ended - began, "seconds_per_trial": (ended - began) / len(marks.marks),
        "results_per_second": RESULTS * len(marks.marks) / (ended - began), "recording_seconds": recorded - ended,
        "mlflow_seconds_per_trial": tracker.spent / len(marks.marks),
        "first_seconds_per_result": per_result(first), "last_seconds_per_result": per_result(last),
        "ratio_seconds": per_result(last) / per_result(first),
        "first_cpu_seconds_per_result": per_result(first, 1), "last_cpu_seconds_per_result": per_result(last, 1),
        "first_mib": max(mib for *_, mib in first), "last_mib": max(mib for *_, mib in last),
        "ratio_memory": max(mib for *_, mib in last) / max(mib for *_, mib in first),
        "kb_per_trial": used / 1000 / len(marks.marks), "log_mb": logs / 1e6,
    }  # fmt: skip


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
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    found = measured(asked.trials, asked.studies, real=asked.real, wave=asked.wave, sampler=asked.sampler)
    if asked.json:
        print(json.dumps(found))
        return
    print(f"{found['trials']} trials of {RESULTS} results in {found['studies']} studies: {found['seconds']:.0f} s")
    print(f"  {found['results_per_second']:.0f} results a second, {found['seconds_per_trial']:.3f} s per trial")
    print(f"  MLflow beside it: {found['mlflow_seconds_per_trial']:.3f} s per trial, ", end="")
    print(
        f"the rest {found['recording_seconds']:.0f} s after the last, {'all' if found['is_recorded'] else 'not all'} of it"
    )
    print(f"  {1e3 * found['first_seconds_per_result']:.1f} ms per result in the first quarter, ", end="")
    print(f"{1e3 * found['last_seconds_per_result']:.1f} in the last: x{found['ratio_seconds']:.2f}")
    first, last = (found[f"{which}_cpu_seconds_per_result"] for which in ("first", "last"))
    print(
        f"  of which Tune's loop has the processor for {1e3 * first:.1f} ms and {1e3 * last:.1f}: x{last / first:.2f}"
    )
    print(
        f"  {found['first_mib']:.0f} MiB in the first quarter, {found['last_mib']:.0f} in the last: x{found['ratio_memory']:.2f}"
    )
    print(f"  disk {found['kb_per_trial']:.1f} kB per trial, Ray's logs {found['log_mb']:.2f} MB in all")
    for failure in found["failures"]:
        print(f"  failed: {failure}")


if __name__ == "__main__":
    main()
