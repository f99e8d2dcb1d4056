"""A whole search whose MLflow server is away, comes back or is found again by the next call: real Ray, a real store."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from analysis.records.connection import client, runs
from tests.kits.small import new_store
from tuning.engine.journal import Journal, results_of
from tuning.experiment.experiment import Experiment
from tuning.planning.plan import Plan
from tuning.run import search as searching
from tuning.run.progress import Progress
from tuning.tracking import tracker as tracking

pytestmark = pytest.mark.slow


class Server:
    """The store of a search, away while its tables have other names."""

    def __init__(self, file: Path):
        self.file = file

    def stop(self) -> None:
        self._rename("metrics", "away")

    def answer(self) -> None:
        self._rename("away", "metrics")

    def _rename(self, old: str, new: str) -> None:
        with sqlite3.connect(self.file) as store:
            store.execute(f"ALTER TABLE {old} RENAME TO {new}")


class Notes(Progress):
    """Keeps what is said, and stops or starts the server when a stage or so many trials are done."""

    def __init__(self, events: dict[str, Callable[[], None]]):
        super().__init__()
        self.lines: list[str] = []
        self.events = events

    def stage(self, description: str, total: int) -> None:
        super().stage(description, total)
        self.events.get(description, lambda: None)()

    def advance(self, note: str = "", by: int = 1) -> None:
        super().advance(note, by)
        self.events.get(f"{self.description} {self.done}", lambda: None)()

    def say(self, text: str) -> None:
        self.lines.append(text)


def content(experiment: Experiment) -> dict[str, Any]:
    """Of every run: its status, what it holds but for times and run ids, and the steps of its score."""
    store = client(experiment.tracking_uri)
    found = {}
    for run in runs(store, experiment.name):
        name = run.data.tags["panda.id"]
        assert name not in found, f"{name} has two runs"
        steps = [point.step for point in store.get_metric_history(run.info.run_id, "score")]
        assert steps == sorted(set(steps))
        times = ("seconds", "evaluation_share")
        metrics = {key: value for key, value in run.data.metrics.items() if key not in times}
        tags = {
            k: v for k, v in run.data.tags.items() if k not in ("node", "winner_run") and not k.startswith("mlflow.")
        }
        found[name] = run.info.status, metrics, tags, run.data.params, steps
    return found


@pytest.fixture
def planned_here(planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Experiment]:
    """Experiments of one target and method, each with a store of its own, of which a driver asks often."""
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.2)

    def experiment(folder: Path) -> Experiment:
        folder.mkdir()
        plan = planned(folder, methods=["spot"], sources=["s1"], search={"trials": 2, "scheduler": "none"}, train={
            "steps": 4, "batch_size": 4, "max_length": 16, "eval_every": 2, "seeds": [0]})  # fmt: skip
        new_store(plan.experiment.storage_path)
        return plan.experiment

    return experiment


def answer_once_missed(server: Server, notes: Notes) -> None:
    """Lets a server answer again once the writer, which has a thread of its own, has found it away."""
    until = time.monotonic() + 60
    while not any("does not answer" in line for line in notes.lines):
        assert time.monotonic() < until
        time.sleep(0.05)
    server.answer()


def test_mlflow_is_whole_however_its_server_was_away(
    planned_here: Callable[[Path], Experiment], tmp_path: Path, ray_address: str
) -> None:
    whole = planned_here(tmp_path / "whole")
    assert not searching.search(whole, ray_address, Notes({})).failures
    expected = content(whole)
    assert {status for status, *_ in expected.values()} == {"FINISHED"}
    assert len([name for name in expected if name.startswith("trial:")]) == 4

    for name, gone, back in (
        ("during", "search 1", "search 3"),
        ("at-first", "search", "search 2"),
        ("to-the-end", "search 2", ""),
    ):
        experiment = planned_here(tmp_path / name)
        server = Server(experiment.storage_path / "mlflow.db")
        notes = Notes({gone: server.stop})
        notes.events[back] = partial(answer_once_missed, server, notes)
        assert not searching.search(experiment, ray_address, notes).failures
        assert len([text for text in notes.lines if "does not answer" in text and "still" not in text]) == 1
        assert any("still does not answer" in text for text in notes.lines) == (not back)
        if not back:
            server.answer()
            again = searching.search(experiment, ray_address, Notes({}))
            assert not again.computed
        assert content(experiment) == expected, name


def test_trials_that_a_killed_driver_did_not_write_have_their_loss_and_seconds(
    planned_here: Callable[[Path], Experiment], tmp_path: Path, ray_address: str
) -> None:
    experiment = planned_here(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt), ExitStack():
        searching.search(experiment, ray_address, Notes({"search 2": interrupt}))
    searching.search(experiment, ray_address, Notes({}))
    store = client(experiment.tracking_uri)
    trials = {run.data.tags["trial"]: run for run in runs(store, "small", "tags.stage = 'trial'")}
    for path in (experiment.search_path / "studies").glob("*.journal"):
        for trial in Journal(path.stem, path).trials:
            last, run = results_of(trial)[-1], trials[f"{path.stem}/{trial.number}"]
            assert run.data.metrics["loss"] == last.loss
            assert run.data.metrics["seconds"] == last.seconds
            assert run.info.status == "FINISHED"


def interrupt() -> None:
    raise KeyboardInterrupt
