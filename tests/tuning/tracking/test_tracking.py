"""The tracker on a real store: one run per entry, one history, and nothing lost while the store is away."""

import pickle
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.records.names import PARENT
from analysis.records.reader import client, runs
from tuning.tracking.tracker import FAILED, FINISHED, RUNNING, RunUpdate, Tracker

TRIAL = RunUpdate(
    "trial:a/0", "trial 0", parent="study:a", params={"lambda": 0.5}, metrics={"score": 0.25}, step=2, status=RUNNING
)
STUDY = RunUpdate(
    "study:a", "rte ← sst2 · spot", tags={"stage": "study", "study": "a", "current": "true"}, status=RUNNING
)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server that is not there."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def tracker(tmp_path: Path) -> Callable[[str], Tracker]:
    """Trackers of one search, each as a new driver would make it."""
    return lambda uri: Tracker(uri, "small", tmp_path / "runs/searches/small")


def found(uri: str) -> dict[str, Any]:
    return {run.data.tags["panda.id"]: run for run in runs(client(uri), "small")}


def history(uri: str, name: str, metric: str = "score") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client(uri).get_metric_history(found(uri)[name].info.run_id, metric)]


def said(entry: RunUpdate, **changes: Any) -> RunUpdate:
    return RunUpdate(**{**entry.__dict__, **changes})


def test_a_run_is_found_by_its_id_and_not_made_twice(uri: str, tracker: Callable[[str], Tracker]) -> None:
    for driver in (tracker(uri), tracker(uri)):
        for entry in (STUDY, TRIAL, TRIAL):
            driver.write(entry)
    assert len(list(runs(client(uri), "small"))) == 2
    assert history(uri, "trial:a/0") == [(2, 0.25)]


def test_trials_are_nested_under_their_study(uri: str, tracker: Callable[[str], Tracker]) -> None:
    tracker(uri).write(STUDY)
    tracker(uri).write(TRIAL)
    assert found(uri)["trial:a/0"].data.tags[PARENT] == found(uri)["study:a"].info.run_id
    assert PARENT not in found(uri)["study:a"].data.tags
    assert found(uri)["study:a"].info.run_name == STUDY.name


def test_steps_that_are_there_already_are_skipped_by_the_next_driver(
    uri: str, tracker: Callable[[str], Tracker]
) -> None:
    first, second = tracker(uri), tracker(uri)
    first.write(STUDY)
    for step in (2, 4):
        first.write(said(TRIAL, step=step, metrics={"score": step / 10}))
    for step in (2, 4, 6):
        second.write(said(TRIAL, step=step, metrics={"score": step / 10}))
    assert history(uri, "trial:a/0") == [(2, 0.2), (4, 0.4), (6, 0.6)]


def test_an_entry_without_steps_has_one_history_however_often_it_is_said(
    uri: str, tracker: Callable[[str], Tracker]
) -> None:
    for _ in range(3):
        tracker(uri).write(said(STUDY, metrics={"similarity/c_mean": 0.5}))
    assert history(uri, "study:a", "similarity/c_mean") == [(0, 0.5)]


def test_a_later_value_of_an_entry_without_steps_wins(uri: str, tracker: Callable[[str], Tracker]) -> None:
    for value in (0.9, 0.4):
        tracker(uri).write(said(STUDY, metrics={"gain": value}, tags={"signal": str(value > 0.5)}))
    assert found(uri)["study:a"].data.metrics["gain"] == 0.4
    assert found(uri)["study:a"].data.tags["signal"] == "False"


def test_params_are_written_once_and_a_later_value_holds_up_nothing(
    uri: str, tracker: Callable[[str], Tracker]
) -> None:
    tracker(uri).write(said(STUDY, params={"weigh_by": "task_embedding"}))
    later = tracker(uri)
    later.write(said(STUDY, params={"weigh_by": "none"}))
    later.write(TRIAL)
    assert list(later.waiting) == []
    assert found(uri)["study:a"].data.params == {"weigh_by": "task_embedding"}
    assert found(uri)["trial:a/0"].data.params == {"lambda": "0.5"}


@pytest.mark.parametrize("ended", [FINISHED, FAILED])
def test_a_run_has_the_status_that_was_said_last(uri: str, tracker: Callable[[str], Tracker], ended: str) -> None:
    driver = tracker(uri)
    driver.write(STUDY)
    assert found(uri)["study:a"].info.status == RUNNING
    driver.write(said(STUDY, status=ended))
    assert found(uri)["study:a"].info.status == ended
    tracker(uri).write(STUDY)
    assert found(uri)["study:a"].info.status == RUNNING


def test_no_run_of_a_killed_driver_is_left_running(uri: str, tracker: Callable[[str], Tracker]) -> None:
    killed = tracker(uri)
    for entry in (STUDY, TRIAL, said(TRIAL, id="trial:a/1", status=FINISHED)):
        killed.write(entry)
    assert tracker(uri).close_left_running() == 2
    assert sorted(run.info.status for run in found(uri).values()) == [FINISHED, "KILLED", "KILLED"]
    assert tracker(uri).close_left_running() == 0


def test_only_studies_of_the_present_plan_are_current(uri: str, tracker: Callable[[str], Tracker]) -> None:
    driver = tracker(uri)
    for key in "abc":
        driver.write(said(STUDY, id=f"study:{key}", tags={**STUDY.tags, "study": key}))
    driver.mark_current({"a", "b"})
    tracker(uri).mark_current({"b", "c"})
    current = {run.data.tags["study"]: run.data.tags["current"] for run in found(uri).values()}
    assert current == {"a": "false", "b": "true", "c": "true"}


def test_artifacts_of_a_local_store_lie_in_the_storage(
    uri: str, tracker: Callable[[str], Tracker], tmp_path: Path
) -> None:
    kept = tmp_path / "logits.parquet"
    kept.write_bytes(b"logits")
    tracker(uri).write(said(STUDY, artifacts={"config.json": "{}"}, files=(str(kept),)))
    files = {path.name: path.read_text() for path in (tmp_path / "runs/artifacts/small").rglob("*") if path.is_file()}
    assert files == {"config.json": "{}", "logits.parquet": "logits"}


def test_entries_wait_on_disk_while_the_store_is_away_and_are_replayed_in_order(
    uri: str, closed: str, tracker: Callable[[str], Tracker]
) -> None:
    away = tracker(closed)
    for entry in (
        STUDY,
        TRIAL,
        said(TRIAL, step=4, metrics={"score": 0.5}),
        said(TRIAL, step=6, metrics={"score": 0.75}, status=FINISHED),
    ):
        away.write(entry)
    assert (away.flush(), away.close_left_running()) == (False, 0)
    assert len(away.spool.read_text().splitlines()) == 4
    back = tracker(uri)
    assert back.flush()
    assert history(uri, "trial:a/0") == [(2, 0.25), (4, 0.5), (6, 0.75)]
    assert found(uri)["trial:a/0"].info.status == FINISHED
    assert not back.spool.exists()
    assert tracker(uri).flush()
    assert len(found(uri)) == 2


def test_a_result_that_was_being_written_when_the_store_went_away_is_written_when_it_is_back(
    uri: str, tracker: Callable[[str], Tracker]
) -> None:
    driver = tracker(uri)
    driver.write(STUDY)
    driver.write(TRIAL)
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as store:
        store.execute("ALTER TABLE metrics RENAME TO away")
        driver.write(said(TRIAL, step=4, metrics={"score": 0.5}))
        assert len(driver.waiting) == 1
        store.execute("ALTER TABLE away RENAME TO metrics")
    assert driver.flush()
    assert history(uri, "trial:a/0") == [(2, 0.25), (4, 0.5)]


def test_a_run_names_another_by_its_id_in_the_store(uri: str, tracker: Callable[[str], Tracker]) -> None:
    driver = tracker(uri)
    driver.write(STUDY)
    driver.write(TRIAL)
    driver.write(said(STUDY, links={"winner_run": TRIAL.id}))
    assert found(uri)["study:a"].data.tags["winner_run"] == found(uri)[TRIAL.id].info.run_id


def test_entries_of_several_drivers_without_a_store_wait_together(
    uri: str, closed: str, tracker: Callable[[str], Tracker]
) -> None:
    tracker(closed).write(STUDY)
    tracker(closed).write(TRIAL)
    assert len(tracker(uri).waiting) == 2
    assert tracker(uri).flush()
    assert found(uri).keys() == {"study:a", "trial:a/0"}


@pytest.mark.parametrize("torn", [1, 20, 60])
def test_a_torn_last_line_of_the_spool_is_skipped_and_swallows_nothing(
    uri: str, closed: str, tracker: Callable[[str], Tracker], torn: int
) -> None:
    killed = tracker(closed)
    killed.write(STUDY)
    whole = killed.spool.read_bytes()
    killed.write(TRIAL)
    killed.spool.write_bytes(whole + killed.spool.read_bytes()[len(whole) :][:torn])
    again = tracker(closed)
    assert list(again.waiting) == [STUDY]
    again.write(TRIAL)
    assert tracker(uri).flush()
    assert found(uri).keys() == {"study:a", "trial:a/0"}


def test_a_tracker_is_pickled_as_its_addresses_alone(uri: str, tracker: Callable[[str], Tracker]) -> None:
    driver = tracker(uri)
    driver.write(STUDY)
    copy = pickle.loads(pickle.dumps(driver))
    assert (copy.uri, copy.experiment, copy.folder, copy._store) == (uri, "small", driver.folder, None)
    copy.write(TRIAL)
    assert found(uri).keys() == {"study:a", "trial:a/0"}
