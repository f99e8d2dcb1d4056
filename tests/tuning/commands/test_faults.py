"""What stops a command: one sentence with cause and remedy, and all the rest in a file that it names."""

import errno
import os
from pathlib import Path

import pytest

from tests.kits.command import panda_tune_here
from tuning.commands.faults import BY_NUMBER, Failed, explained, explanation, failed


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """An error as it is caught: with its traceback, and what it came from."""
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return caught.value


@pytest.mark.parametrize("number", BY_NUMBER)
def test_every_number_of_an_error_has_what_happened_where_and_what_to_do(number: int, tmp_path: Path) -> None:
    happened, remedy = explanation(OSError(number, os.strerror(number), "/storage/a"), tmp_path)
    assert happened.startswith("/storage/a: ")
    assert remedy
    assert explanation(OSError(number, os.strerror(number)), tmp_path)[0].startswith(f"{tmp_path}: ")


def test_the_cause_is_found_behind_others_and_in_the_words_of_another_process(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/storage/a")
    expected = "/storage/a: the disk is full"
    assert explanation(raised(RuntimeError("trial failed"), raised(ValueError("x"), full)))[0] == expected
    remote = RuntimeError("a task failed")
    remote.cause = full  # type: ignore[attr-defined]  # as Ray has it
    assert explanation(remote)[0] == expected
    text = "Traceback …\n  File …\nOSError: [Errno 28] No space left on device: '/x'\n"
    assert explanation(RuntimeError(text), tmp_path)[0] == f"{tmp_path}: the disk is full"


def test_memory_and_processes_of_ray_are_told_by_name() -> None:
    died = type("ActorDiedError", (Exception,), {})("The actor died\nunexpectedly")
    assert explanation(died)[0] == "Ray's processes were lost"
    assert "not enough memory" in explanation(MemoryError())[0]


def test_what_nobody_expected_is_told_in_its_last_line(tmp_path: Path) -> None:
    told = str(failed(raised(ValueError("first line\nlast line")), tmp_path))
    assert told.startswith("unexpected ValueError: last line; run the same command again; if it comes back, report it")
    assert "\n" not in told


def test_the_whole_is_in_a_file_that_the_sentence_names_without_passwords(tmp_path: Path) -> None:
    error = raised(OSError(errno.EIO, "https://me:secret@host/x does not answer", str(tmp_path / "x")))
    told = str(failed(error, tmp_path))
    (log,) = (tmp_path / "log").iterdir()
    assert told == (
        f"{tmp_path}/x: its file system does not answer; have it mounted again, then the same command goes on from "
        f"what is there (details: {log})"
    )
    assert "Traceback" in log.read_text()
    assert "https://me:***@host/x" in log.read_text()
    assert "secret" not in log.read_text() + told


def test_where_the_search_is_gone_the_file_is_elsewhere_and_nothing_is_made_anew(tmp_path: Path) -> None:
    told = str(failed(raised(ValueError("x")), tmp_path / "gone"))
    log = Path(told.rsplit("(details: ", 1)[1].rstrip(")"))
    assert "Traceback" in log.read_text()
    assert not (tmp_path / "gone").exists()
    log.unlink()
    log.parent.rmdir()


def test_what_says_itself_what_to_do_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(KeyError), explained(tmp_path, frozenset({"KeyError"})):
        raise KeyError("x")
    with pytest.raises(Failed), explained(tmp_path, frozenset()):
        raise KeyError("x")
    with pytest.raises(KeyboardInterrupt), explained(tmp_path, frozenset()):
        raise KeyboardInterrupt


def test_a_command_that_meets_the_unexpected_ends_with_one_line_and_exit_code_1(tmp_path: Path) -> None:
    """A file of rows that is a device in truth: whatever the reader makes of it, nobody sees a traceback."""
    done = panda_tune_here("correlate", "/proc/self/mem", "/proc/self/mem", code=None)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
