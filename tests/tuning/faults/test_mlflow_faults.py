"""MLflow that loses answers, is silent, dead or slow: a real server behind a proxy with such faults."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.records.connection import Away, client, runs
from tests.kits.command import experiment_file, panda_tune_here
from tests.kits.faulty_server import FaultyServer, faulty, mlflow_server
from tests.kits.small import new_store
from tuning.tracking import tracker as tracking
from tuning.tracking import writer as writing
from tuning.tracking.tracker import Tracker
from tuning.tracking.updates import FINISHED, RUNNING, RunUpdate
from tuning.tracking.writer import Writer

pytestmark = [pytest.mark.faults, pytest.mark.slow]  # the server alone takes ten seconds to start

LOGIN = "anna:geheim-4711"
STUDY = RunUpdate("study:a", "a", tags={"stage": "study", "study": "a", "current": "true"}, status=RUNNING)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server, for all tests of this file: each has an experiment of its own."""
    folder = tmp_path_factory.mktemp("server")
    store = new_store(folder / "empty").removeprefix("sqlite:///")
    with mlflow_server(folder / "server", Path(store)) as address:
        yield address


@pytest.fixture
def server(upstream: str) -> Iterator[FaultyServer]:
    """That server behind a proxy."""
    with faulty(upstream) as proxy:
        yield proxy


def trial(number: int, *steps: int, status: str = FINISHED) -> RunUpdate:
    history = {step: {"score": step / 10} for step in steps}
    return RunUpdate(f"trial:a/{number}", f"trial {number}", parent="study:a", history=history, status=status)


@pytest.fixture
def tracker(server: FaultyServer, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Tracker]:
    """Trackers of this test's experiment."""
    name = request.node.name

    def made(updates: Callable[[], Any] = tuple, notify: Callable[[str], None] = print) -> Tracker:
        return Tracker(server.uri, name, tmp_path / "runs/searches/x", updates, notify)

    return made


def steps_of(tracker: Tracker) -> dict[str, list[int]]:
    """Id of each run -> steps of its score; no id has two runs."""
    store = client(tracker.uri)
    found: dict[str, list[int]] = {}
    for run in runs(store, tracker.experiment):
        name = run.data.tags["panda.id"]
        assert name not in found, f"{name} has two runs"
        found[name] = [point.step for point in store.get_metric_history(run.info.run_id, "score")]
    return found


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("path", ["experiments/create", "runs/create", "runs/log-batch", "runs/update"])
def test_a_lost_answer_doubles_nothing(server: FaultyServer, tracker: Callable[..., Tracker], path: str) -> None:
    said: list[str] = []
    driver = tracker(lambda: (STUDY, trial(0, 2, 4)), said.append)
    server.lose(path)
    assert not driver.write(STUDY, trial(0, 2, 4))
    driver.retry_at = 0.0
    assert driver.write()
    assert steps_of(driver) == {"study:a": [], "trial:a/0": [2, 4]}
    assert server.requests.count("POST /api/2.0/mlflow/runs/create") == 2
    assert ["does not answer" in line for line in said] == [True, False]
    assert "answers again" in said[1]


def test_nothing_waits_for_a_silent_server_and_it_has_everything_when_it_answers(
    server: FaultyServer, tracker: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.5)
    said: list[str] = []
    trials = {number: trial(number, 2) for number in range(30)}
    writer = Writer(tracker(lambda: (STUDY, *trials.values()), said.append), said.append)
    writer.show({"a"})
    until(lambda: not writer.tracker.is_behind and len(writer.tracker.run_ids) == 31)
    server.silent()
    slowest = 0.0
    for step in (4, 6):
        for number in range(30):
            trials[number] = trial(number, *range(2, step + 1, 2))
            began = time.perf_counter()
            writer.put(f"trial:a/{number}", lambda number=number: trials[number])
            slowest = max(slowest, time.perf_counter() - began)
    assert slowest < 1.0, "where MLflow is written in the loop, each takes the two seconds of the request"
    until(lambda: any("does not answer" in line for line in said))
    assert writer.waiting() == 30
    server.well()
    until(lambda: writer.waiting() == 0)
    assert writer.show_all({"a"})
    writer.close()
    assert len([line for line in said if "does not answer" in line]) == 1
    assert "(30 runs wait)" in said[0]
    assert len([line for line in said if "answers again" in line]) == 1
    found = steps_of(writer.tracker)
    assert {name: steps for name, steps in found.items() if name != "study:a"} == {
        f"trial:a/{number}": [2, 4, 6] for number in range(30)
    }


def test_what_a_slow_server_leaves_no_room_for_is_written_at_the_end(
    server: FaultyServer, tracker: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MOST_WAITING", 5)
    monkeypatch.setattr(writing, "SLOW_S", 1.0)
    said: list[str] = []
    trials: dict[int, RunUpdate] = {}
    writer = Writer(tracker(lambda: (STUDY, *trials.values()), said.append), said.append)
    assert writer.wait_for(writer.call(writer.tracker.write_everything))
    server.slow(0.4)
    for number in range(20):
        trials[number] = trial(number, 2, 4)
        writer.put(f"trial:a/{number}", lambda number=number: trials[number])
        time.sleep(0.1)
    assert writer.waiting() > 10
    server.well()
    assert writer.show_all({"a"})
    writer.close()
    assert len(steps_of(writer.tracker)) == 21
    assert len([line for line in said if "is slow to answer" in line]) == 1


def test_an_end_does_not_wait_for_a_silent_server(
    server: FaultyServer, tracker: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tracker(lambda: (STUDY,)), print)
    assert writer.show_all({"a"})
    monkeypatch.setattr(writing, "STALLED_S", 2.0)
    monkeypatch.setattr(writing, "CLOSING_S", 1.0)
    server.silent()
    writer.tracker.everything = lambda: (replace(STUDY, status=FINISHED), trial(0, 2))
    began = time.monotonic()
    assert not writer.show_all({"a"})
    writer.close()
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("fault", ["silent", "dead"])
def test_commands_tell_within_seconds_that_nobody_answers(
    server: FaultyServer, tmp_path: Path, plms: Callable[[str], Path], fault: str
) -> None:
    file = experiment_file(tmp_path, plms("bert"), tracking={"uri": server.uri.replace("//", f"//{LOGIN}@")})
    (tmp_path / "rows.jsonl").write_text('{"a": "w1"}\n')
    getattr(server, fault)()
    asked = (
        ("best", file), ("best", file, "--format", "json"), ("analyze", file), ("ui", file),
        ("predict", "models:/small.t@champion", tmp_path / "rows.jsonl", "--tracking", f"http://{LOGIN}@127.0.0.1:{server.port}"),
    )  # fmt: skip
    for arguments in asked:
        began = time.monotonic()
        done = panda_tune_here(*arguments, code=2)
        assert time.monotonic() - began < 25, arguments  # five seconds, and a busy machine
        assert f"MLflow at http://anna:***@127.0.0.1:{server.port} does not answer" in done.stderr
        assert "start it, or correct `tracking.uri`" in done.stderr
        assert "geheim" not in done.stdout + done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_refusal_is_no_absence(upstream: str) -> None:
    with faulty(upstream, LOGIN) as locked:
        with pytest.raises(Exception, match="no such user, or another password") as refused:
            client(f"http://anna:falsch@127.0.0.1:{locked.port}", reads=True)
        assert not isinstance(refused.value, Away)
        assert "falsch" not in str(refused.value)
        assert client(locked.uri, reads=True)


def without_run_ids(text: str) -> list[str]:
    """What `best` said but for MLflow's ids of runs, which the library does not know."""
    return [line for line in text.splitlines() if '"run_id"' not in line]


def everything_under(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


def test_a_search_survives_each_fault_tells_it_and_shows_its_password_to_nobody(
    upstream: str, tmp_path: Path, plms: Callable[[str], Path], ray_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    with faulty(upstream, LOGIN) as server:
        plan = {"methods": ["spot"], "sources": ["s1"], "search": {"trials": 2, "scheduler": "none"}}
        file = experiment_file(tmp_path, plms("bert"), name="faults", tracking={"uri": server.uri}, **plan)
        server.silent_after("runs/create", 6)  # some sources and studies, and a trial
        first = panda_tune_here("search", file, "--address", ray_address)
        assert "does not answer" in first.stderr
        assert "still does not answer" in first.stderr
        assert "Best configuration per target" in first.stdout
        assert "Confirmed winner of each study" in first.stdout
        server.well()
        server.slow(0.5)
        second = panda_tune_here("search", file, "--address", ray_address)
        assert second.stdout == first.stdout
        assert "nothing was computed" in second.stderr
        server.slow(0.0)
        known = {form: panda_tune_here("best", file, "--format", form).stdout for form in ("table", "json")}
        assert known["table"] in first.stdout
        analysed = panda_tune_here("analyze", file)
        server.dead()
        third = panda_tune_here("search", file, "--address", ray_address)
        assert third.stdout == first.stdout
        for form, text in known.items():
            told = panda_tune_here("best", file, "--format", form)
            assert without_run_ids(told.stdout) == without_run_ids(text)
            assert "does not answer" in told.stderr
            assert "what follows is from the library" in told.stderr
        server.well()
        store = client(server.uri)
        found = list(runs(store, "faults"))
        ids = [run.data.tags["panda.id"] for run in found if "panda.id" in run.data.tags]
        assert len(ids) == len(set(ids))
        assert {run.info.status for run in found} == {"FINISHED"}
        session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
        written = str([(run.data.tags, run.data.params) for run in found])
        said = "".join(done.stdout + done.stderr for done in (first, second, third, analysed))
        assert "geheim" not in written + said
        assert len(list(everything_under(session / "logs"))) > 3
        for path, content in everything_under(tmp_path / "runs", session / "logs"):
            assert b"geheim" not in content, path
