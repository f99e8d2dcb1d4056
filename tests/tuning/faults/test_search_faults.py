"""A whole search whose process, trial or storage is taken away: it says what happened, leaves nothing behind, and goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.kits.command import experiment_file
from tests.kits.processes import TRIAL, process_below
from tests.tuning.run.test_search import statuses
from tuning.engine.journal import Journal

pytestmark = [pytest.mark.slow, pytest.mark.faults]

SETTINGS: dict[str, Any] = {"methods": [], "sources": [], "search": {"trials": 6, "per_study": 1}}
"""One study whose trials run one after another: there is one process to hit."""

LONGEST_S = 540
"""Until a step of a search must have been taken, however busy the machine is."""


class Search:
    """A search in a process of its own, with temporary folders of its own; `before` is put before its command."""

    def __init__(self, file: Path, temporary: Path, *overrides: str, before: Sequence[str] = ()):
        self.file, self.temporary = file, temporary
        hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "RAY_worker_niceness": "0",
            "TMPDIR": str(temporary),
            "RAY_TMPDIR": str(temporary),
        }
        options = [part for override in overrides for part in ("-o", override)]
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "tuning", "search", file, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=hears,
        )

    def wait_for(self, happened: Callable[[], Any]) -> Any:
        """Waits until something is so while the search runs."""
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := happened():
                return found
            time.sleep(0.002)  # a process starts within a tenth of a second
        raise AssertionError(self.end()[1])

    def end(self) -> tuple[int, str]:
        """Its exit code and what it said."""
        _, said = self.process.communicate(timeout=LONGEST_S)
        return self.process.returncode, said

    def actor(self) -> int:
        """The process of its trial; 0 while there is none."""
        return self.below(*TRIAL)

    def below(self, *names: bytes) -> int:
        """The process below it whose command line has one of the names in it; 0 while there is none."""
        return process_below(self.process.pid, *names)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files with a short name: Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="pt", dir="/tmp"))  # sockets have names of 107 characters
    yield folder
    shutil.rmtree(folder)


def results(storage: Path) -> int:
    """Results that journals hold so far."""
    return sum(path.read_text().count('"intermediate_value"') for path in storage.glob("searches/*/studies/*.journal"))


def left(folder: Path) -> list[str]:
    """What lies in a temporary folder, but for what Ray itself keeps of every cluster."""
    return sorted(path.name for path in folder.iterdir() if path.name not in ("ray", "torchinductor_root"))


def test_sigterm_ends_a_search_in_good_order_and_the_same_command_goes_on(
    tmp_path: Path, plms: Callable[[str], Path], temporary: Path
) -> None:
    file = experiment_file(tmp_path, plms("bert"), **SETTINGS)
    search = Search(file, temporary)
    search.wait_for(lambda: results(tmp_path / "runs"))
    search.process.send_signal(signal.SIGTERM)
    code, said = search.end()
    assert (code, said.splitlines()[-1]) == (143, "stopped; the same command goes on from here")
    assert "Traceback" not in said
    assert "RUNNING" not in statuses(tmp_path)
    assert left(temporary) == []
    assert list((temporary / "ray").glob("session_*")) == []
    assert (tmp_path / "runs").stat().st_mode & 0o777 == 0o750
    code, said = Search(file, temporary).end()
    assert code == 0, said
    assert statuses(tmp_path) == {"FINISHED"}


@pytest.mark.parametrize("hangs", ["at work", "as it starts"])
def test_a_trial_that_hangs_fails_with_that_reason_and_the_search_goes_on(
    tmp_path: Path, plms: Callable[[str], Path], temporary: Path, hangs: str
) -> None:
    file = experiment_file(tmp_path, plms("bert"), **SETTINGS)
    search = Search(file, temporary, "search.trial_timeout=60")
    if hangs == "at work":
        search.wait_for(lambda: results(tmp_path / "runs"))
    name = b"ray::ResourceTrainable.__init__"
    stopped = search.wait_for(search.actor if hangs == "at work" else partial(search.below, name))
    os.kill(stopped, signal.SIGSTOP)
    code, said = search.end()
    assert "hung: no result for 6" in said
    assert "; the search goes on" in said
    assert code == 1  # a trial failed
    assert not Path(f"/proc/{stopped}").exists()
    (journal,) = (tmp_path / "runs/searches/small/studies").glob("*.journal")
    ended = [json.loads(line) for line in journal.read_text().splitlines() if '"op_code":6' in line]
    assert len(ended) == 6
    assert sum("hung" in line for line in journal.read_text().splitlines()) == 1


def test_a_trial_whose_process_is_killed_is_begun_again_and_nothing_is_lost(
    tmp_path: Path, plms: Callable[[str], Path], temporary: Path
) -> None:
    search = Search(experiment_file(tmp_path, plms("bert"), **SETTINGS), temporary)
    search.wait_for(lambda: results(tmp_path / "runs"))
    os.kill(search.wait_for(search.actor), signal.SIGKILL)
    code, said = search.end()
    assert code == 0, said
    assert "Traceback" not in said
    assert "its process was lost; the trial begins again" in said
    assert states(tmp_path) <= {"COMPLETE", "PRUNED"}
    assert statuses(tmp_path) == {"FINISHED"}


def test_where_the_control_store_is_killed_the_same_command_goes_on(
    tmp_path: Path, plms: Callable[[str], Path], temporary: Path
) -> None:
    file = experiment_file(tmp_path, plms("bert"), **SETTINGS)
    search = Search(file, temporary)
    search.wait_for(lambda: results(tmp_path / "runs"))
    os.kill(search.wait_for(partial(search.below, b"gcs_server")), signal.SIGKILL)
    code, said = search.end()
    assert code != 0
    assert "Traceback" not in said
    assert len(said.splitlines()) < 30
    code, said = Search(file, temporary).end()
    assert code == 0, said
    assert states(tmp_path) <= {"COMPLETE", "PRUNED"}
    assert statuses(tmp_path) == {"FINISHED"}


def states(folder: Path) -> set[str]:
    """How the trials of all studies ended, of which there are as many as were asked for."""
    journals = [Journal(path.stem, path) for path in (folder / "runs/searches/small/studies").glob("*.journal")]
    assert {len(journal.trials) for journal in journals} == {SETTINGS["search"]["trials"]}
    return {trial.state.name for journal in journals for trial in journal.trials}


def test_a_deleted_storage_is_one_sentence_with_what_to_do(
    tmp_path: Path, plms: Callable[[str], Path], temporary: Path
) -> None:
    file = experiment_file(tmp_path, plms("bert"), **SETTINGS)
    search = Search(file, temporary)
    search.wait_for(lambda: results(tmp_path / "runs"))
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    code, said = search.end()
    assert code == 1
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert ": is gone, deleted or not mounted any more; bring it back, " in last
    log = Path(last.rsplit("(details: ", 1)[1].rstrip(")"))
    assert "Traceback" in log.read_text()


@pytest.fixture
def mere_user() -> Sequence[str]:
    """What is put before a command for which a folder's mode holds: for root it does not."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root can read and write all here: setpriv, of util-linux, takes that from a process")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of less than a MiB; root alone may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here: that takes root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_one_sentence_and_with_room_the_same_command_goes_on(
    tmp_path: Path, plms: Callable[[str], Path], temporary: Path, small_disk: Path
) -> None:
    file = experiment_file(tmp_path, plms("bert"), **SETTINGS, storage=str(small_disk / "runs"))
    code, said = Search(file, temporary).end()
    assert code == 1
    assert "Traceback" not in said
    assert len(said.splitlines()) < 30
    last = said.splitlines()[-1]
    assert "the disk is full; free some space, then the same command goes on from what is there" in last
    assert Path(last.rsplit("(details: ", 1)[1].rstrip(")")).is_file()
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    code, said = Search(file, temporary).end()
    assert code == 0, said


def test_a_lost_permission_is_one_sentence_no_failed_trial_and_once_it_is_back_the_same_command_goes_on(
    tmp_path: Path, plms: Callable[[str], Path], temporary: Path, mere_user: Sequence[str]
) -> None:
    """Trials meet it, which ask the library for their teacher: the driver can still write its journals."""
    file = experiment_file(tmp_path, plms("bert"), **{**SETTINGS, "methods": ["panda"], "sources": ["s1"]})
    search = Search(file, temporary, before=mere_user)
    library = tmp_path / "runs/library"
    search.wait_for(lambda: list(tmp_path.glob("runs/searches/*/studies/*.journal")))
    folders = [library, *(path for path in library.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    code, said = search.end()
    assert code == 1
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith(str(library))
    assert ": may not be read or written; have its permissions given back, then the same command goes on" in last
    for folder in folders:
        folder.chmod(0o755)
    code, said = Search(file, temporary, before=mere_user).end()
    assert code == 0, said
    assert states(tmp_path) <= {"COMPLETE", "PRUNED"}
