"""The tracker on a real store: one run per id, one history, and nothing lost while the store is away."""

import socket
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.records.connection import Deleted, client, runs
from analysis.records.names import PARENT
from analysis.records.reader import read
from tuning.tracking import tracker as module
from tuning.tracking.tracker import Tracker
from tuning.tracking.updates import FAILED, FINISHED, RUNNING, RunUpdate

TRIAL = RunUpdate(
    "trial:a/0", "trial 0", parent="study:a", params={"lambda": 0.5}, history={2: {"score": 0.25}}, status=RUNNING
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


def trial(*steps: int, **changes: Any) -> RunUpdate:
    """The trial as its journal holds it after some evaluations."""
    return replace(TRIAL, history={step: {"score": step / 10} for step in steps}, **changes)


def test_a_run_is_found_by_its_id_and_not_made_twice(uri: str, tracker: Callable[[str], Tracker]) -> None:
    for driver in (tracker(uri), tracker(uri)):
        driver.write(STUDY, TRIAL, TRIAL)
    assert len(list(runs(client(uri), "small"))) == 2
    assert history(uri, "trial:a/0") == [(2, 0.25)]


def test_trials_are_nested_under_their_study(uri: str, tracker: Callable[[str], Tracker]) -> None:
    tracker(uri).write(STUDY)
    tracker(uri).write(TRIAL)
    assert found(uri)["trial:a/0"].data.tags[PARENT] == found(uri)["study:a"].info.run_id
    assert PARENT not in found(uri)["study:a"].data.tags
    assert found(uri)["study:a"].info.run_name == STUDY.name


def test_only_later_steps_than_a_run_has_are_written_whoever_wrote_them(
    uri: str, tracker: Callable[[str], Tracker]
) -> None:
    first = tracker(uri)
    first.write(STUDY, trial(2), trial(2, 4))
    second = tracker(uri)
    second.write(trial(2, 4, 6), trial(2, 4, 6, 8))
    assert history(uri, "trial:a/0") == [(2, 0.2), (4, 0.4), (6, 0.6), (8, 0.8)]


def test_a_long_history_is_written_in_calls_that_the_store_takes(uri: str, tracker: Callable[[str], Tracker]) -> None:
    many = {step: {"score": step / 1000, **{f"score/seed/{seed}": 0.5 for seed in range(9)}} for step in range(1, 121)}
    assert tracker(uri).write(STUDY, replace(TRIAL, history=many))
    assert history(uri, "trial:a/0") == [(step, step / 1000) for step in range(1, 121)]
    assert len(history(uri, "trial:a/0", "score/seed/8")) == 120


def test_a_run_without_steps_has_one_history_however_often_it_is_written(
    uri: str, tracker: Callable[[str], Tracker]
) -> None:
    for _ in range(3):
        tracker(uri).write(replace(STUDY, metrics={"similarity/c_mean": 0.5}))
    assert history(uri, "study:a", "similarity/c_mean") == [(0, 0.5)]


def test_a_later_value_without_a_step_wins(uri: str, tracker: Callable[[str], Tracker]) -> None:
    for value in (0.9, 0.4):
        tracker(uri).write(replace(STUDY, metrics={"gain": value}, tags={"signal": str(value > 0.5)}))
    assert found(uri)["study:a"].data.metrics["gain"] == 0.4
    assert found(uri)["study:a"].data.tags["signal"] == "False"


def test_params_are_written_once_and_a_later_value_holds_up_nothing(
    uri: str, tracker: Callable[[str], Tracker]
) -> None:
    tracker(uri).write(replace(STUDY, params={"weigh_by": "task_embedding"}))
    assert tracker(uri).write(replace(STUDY, params={"weigh_by": "none"}), TRIAL)
    assert found(uri)["study:a"].data.params == {"weigh_by": "task_embedding"}
    assert found(uri)["trial:a/0"].data.params == {"lambda": "0.5"}


@pytest.mark.parametrize("behind_ms", [1, 0, 3600_000])
def test_a_later_value_wins_where_the_clock_is_behind_that_of_the_last_driver(
    uri: str, tracker: Callable[[str], Tracker], monkeypatch: pytest.MonkeyPatch, behind_ms: int
) -> None:
    """MLflow takes the latest of a step by its time, and of one time the largest."""
    now = time.time()
    for ahead_s, value in ((7200.0, 0.9), (7200.0 - behind_ms / 1000, 0.4), (0.0, 0.2)):
        with monkeypatch.context() as clock:
            clock.setattr(time, "time", lambda ahead=ahead_s: now + ahead)
            assert tracker(uri).write(replace(STUDY, metrics={"gain": value}))
        assert found(uri)["study:a"].data.metrics["gain"] == value
    assert [value for _, value in history(uri, "study:a", "gain")] == [0.9, 0.4, 0.2]


def made_twice(uri: str, name: str) -> None:
    """Makes a run a second time, as a server does that is asked again since its answer was lost."""
    run = found(uri)[name]
    client(uri).create_run(run.info.experiment_id, tags=dict(run.data.tags), run_name=run.info.run_name)


def test_readers_take_one_of_two_runs_of_an_id_the_one_that_holds_more(
    uri: str, tracker: Callable[[str], Tracker]
) -> None:
    assert tracker(uri).write(STUDY, trial(2, 4))
    for name in ("study:a", "trial:a/0"):
        made_twice(uri, name)
    assert len(list(runs(client(uri), "small"))) == 4
    read_runs = read(uri, "small", "")
    assert sorted(run.data.tags["panda.id"] for run in read_runs) == ["study:a", "trial:a/0"]
    (of_trial,) = (run for run in read_runs if run.data.tags["panda.id"] == "trial:a/0")
    assert of_trial.data.metrics["score"] == 0.4


def test_of_two_runs_of_an_id_the_next_driver_keeps_one_with_the_children_of_both(
    uri: str, tracker: Callable[[str], Tracker]
) -> None:
    assert tracker(uri).write(replace(STUDY, metrics={"gain": 0.5}), TRIAL)
    kept = found(uri)["study:a"].info.run_id
    made_twice(uri, "study:a")
    every = {run.info.run_id for run in runs(client(uri), "small")}
    (twin,) = every - {kept, found(uri)["trial:a/0"].info.run_id}
    client(uri).set_tag(found(uri)["trial:a/0"].info.run_id, PARENT, twin)
    assert tracker(uri).write(STUDY, TRIAL)
    assert len(list(runs(client(uri), "small"))) == 2
    assert found(uri)["study:a"].info.run_id == kept
    assert found(uri)["trial:a/0"].data.tags[PARENT] == kept
    gone = client(uri).get_run(twin)
    assert (gone.info.lifecycle_stage, gone.data.tags["panda.twin_of"]) == ("deleted", kept)


@pytest.mark.parametrize("ended", [FINISHED, FAILED])
def test_a_run_has_the_status_that_was_written_last(uri: str, tracker: Callable[[str], Tracker], ended: str) -> None:
    driver = tracker(uri)
    driver.write(STUDY)
    assert found(uri)["study:a"].info.status == RUNNING
    driver.write(replace(STUDY, status=ended))
    assert found(uri)["study:a"].info.status == ended
    tracker(uri).write(STUDY)
    assert found(uri)["study:a"].info.status == RUNNING


def test_no_run_of_a_killed_driver_is_left_running(uri: str, tracker: Callable[[str], Tracker]) -> None:
    killed = tracker(uri)
    killed.write(STUDY, TRIAL, replace(TRIAL, id="trial:a/1", status=FINISHED))
    assert tracker(uri).close_left_running() == 2
    assert sorted(run.info.status for run in found(uri).values()) == [FINISHED, "KILLED", "KILLED"]
    assert tracker(uri).close_left_running() == 0


def test_only_studies_of_the_present_plan_are_current(uri: str, tracker: Callable[[str], Tracker]) -> None:
    driver = tracker(uri)
    for key in "abc":
        driver.write(replace(STUDY, id=f"study:{key}", tags={**STUDY.tags, "study": key}))
    driver.mark_current({"a", "b"})
    tracker(uri).mark_current({"b", "c"})
    current = {run.data.tags["study"]: run.data.tags["current"] for run in found(uri).values()}
    assert current == {"a": "false", "b": "true", "c": "true"}


def test_artifacts_of_a_local_store_lie_in_the_storage(
    uri: str, tracker: Callable[[str], Tracker], tmp_path: Path
) -> None:
    kept = tmp_path / "logits.parquet"
    kept.write_bytes(b"logits")
    tracker(uri).write(replace(STUDY, artifacts={"config.json": "{}"}, files=(str(kept),)))
    files = {path.name: path.read_text() for path in (tmp_path / "runs/artifacts/small").rglob("*") if path.is_file()}
    assert files == {"config.json": "{}", "logits.parquet": "logits"}


class Away:
    """A store whose answers stop and start again."""

    def __init__(self, uri: str):
        self.path = Path(uri.removeprefix("sqlite:///"))

    def stop(self) -> None:
        self._rename("metrics", "away")

    def answer(self) -> None:
        self._rename("away", "metrics")

    def _rename(self, old: str, new: str) -> None:
        with sqlite3.connect(self.path) as store:
            store.execute(f"ALTER TABLE {old} RENAME TO {new}")


EVERYTHING = (STUDY, trial(2, 4, 6, status=FINISHED), trial(2, id="trial:a/1"))


def test_a_server_that_is_away_is_told_once_asked_rarely_and_nothing_is_kept_on_disk(
    closed: str, tmp_path: Path
) -> None:
    notices: list[str] = []
    away = Tracker(closed, "small", tmp_path / "runs/searches/small", lambda: EVERYTHING, notices.append)
    began = time.monotonic()
    assert [away.write(STUDY), away.write(TRIAL), away.write(trial(2, 4))] == [False] * 3
    assert away.retry_at > began
    assert away.is_behind
    away.write_everything()
    away.mark_current({"a"})
    assert away.close_left_running() == 0
    assert len(notices) == 1
    assert closed in notices[0]
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_out_while_the_server_was_away_is_written_once_it_answers(
    uri: str, tracker: Callable[[str], Tracker]
) -> None:
    driver, store = tracker(uri), Away(uri)
    driver.everything = lambda: EVERYTHING
    driver.write(STUDY, trial(2))
    store.stop()
    assert not driver.write(trial(2, 4))
    assert not driver.write(trial(2, 4, 6, status=FINISHED))
    store.answer()
    assert not driver.write(TRIAL)  # not asked again before its time
    driver.retry_at = 0.0
    assert driver.write(trial(2, id="trial:a/1"))  # of another trial, and all that is missing comes with it
    assert not driver.is_behind
    assert history(uri, "trial:a/0") == [(2, 0.2), (4, 0.4), (6, 0.6)]
    assert {name: run.info.status for name, run in found(uri).items()} == {
        "study:a": RUNNING, "trial:a/0": FINISHED, "trial:a/1": RUNNING,
    }  # fmt: skip


def test_another_driver_writes_what_the_first_could_not(
    uri: str, closed: str, tracker: Callable[[str], Tracker]
) -> None:
    assert not tracker(closed).write(*EVERYTHING)
    later = tracker(uri)
    later.everything = lambda: EVERYTHING
    for _ in range(2):
        assert later.write_everything()
    assert history(uri, "trial:a/0") == [(2, 0.2), (4, 0.4), (6, 0.6)]
    assert len(list(runs(client(uri), "small"))) == 3


def test_a_run_that_lacks_nothing_is_not_written_again(
    uri: str, tracker: Callable[[str], Tracker], tmp_path: Path
) -> None:
    kept = tmp_path / "logits.parquet"
    kept.write_bytes(b"logits")
    confirmed = replace(STUDY, files=(str(kept),), metrics={"gain": 0.5}, status=FINISHED)
    assert tracker(uri).write(confirmed)
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as store:
        store.execute("CREATE TRIGGER tags_are_final BEFORE UPDATE ON tags BEGIN SELECT RAISE(ABORT, 'written'); END")
    (copy,) = (path for path in (tmp_path / "runs/artifacts").rglob("*.parquet"))
    copy.unlink()
    assert tracker(uri).write(confirmed)
    assert not copy.exists()


def test_a_run_names_another_by_its_id_in_the_store(uri: str, tracker: Callable[[str], Tracker]) -> None:
    driver = tracker(uri)
    driver.write(STUDY)
    driver.write(TRIAL)
    driver.write(replace(STUDY, links={"winner_run": TRIAL.id}))
    assert found(uri)["study:a"].data.tags["winner_run"] == found(uri)[TRIAL.id].info.run_id


def deleted(uri: str) -> str:
    """Deletes the experiment, as MLflow's page does; what must be told of it."""
    store = client(uri)
    number = store.get_experiment_by_name("small").experiment_id
    store.delete_experiment(number)
    return (
        f"MLflow experiment 'small' at {uri} is deleted; restore it "
        f"(MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {number}), or give the file another `name`"
    )


def test_an_experiment_that_is_deleted_is_called_so_with_what_to_do(
    uri: str, tracker: Callable[[str], Tracker]
) -> None:
    tracker(uri).write(STUDY)
    tracker(uri).check()
    told = deleted(uri)
    for ask in (tracker(uri).check, lambda: read(uri, "small", "")):
        with pytest.raises(Deleted) as refused:
            ask()
        assert str(refused.value) == told


def test_an_experiment_that_is_deleted_while_it_is_written_is_told_and_written_when_it_is_restored(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    said: list[str] = []
    writer = Tracker(uri, "small", tmp_path / "runs/searches/small", lambda: (STUDY, trial(2, 4)), said.append)
    assert writer.write(STUDY, trial(2))
    told = deleted(uri)
    assert not writer.write(trial(2, 4))
    assert said == [f"{told}; the search goes on, and what is missing is written as soon as it answers"]
    store = client(uri)
    store.restore_experiment(store.get_experiment_by_name("small").experiment_id)
    assert writer.write()
    assert history(uri, "trial:a/0") == [(2, 0.2), (4, 0.4)]


def test_a_store_that_is_not_there_or_away_is_no_reason_to_refuse(
    tmp_path: Path, closed: str, tracker: Callable[[str], Tracker]
) -> None:
    tracker(f"sqlite:///{tmp_path}/none.db").check()
    assert not (tmp_path / "none.db").exists()
    tracker(closed).check()
