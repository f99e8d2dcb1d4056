"""The library: whole or not there, verified, made once by any number of processes."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from panda_trainable import library as module
from panda_trainable.library import CARD, STALE_S, DamagedArtefact, PromptLibrary

MAKER = """
import sys, time
from pathlib import Path
from panda_trainable.library import PromptLibrary
def make(draft):
    time.sleep(0.5)
    (draft / "value.txt").write_text("made")
    with open(sys.argv[2], "a") as file: file.write("made\\n")
print(PromptLibrary(Path(sys.argv[1])).get_or_make("prompts", "k", make, {}))
"""


def write(text: str = "made") -> Callable[[Path], None]:
    return lambda draft: (draft / "value.txt").write_text(text) and None


def never(draft: Path) -> None:
    raise AssertionError("it is there already")


def made(library: PromptLibrary) -> Path:
    return library.get_or_make("prompts", "k", write(), {"task": "t"})


def test_an_artefact_has_its_files_and_a_card_of_what_it_is(library: PromptLibrary) -> None:
    folder = made(library)
    assert (folder / "value.txt").read_text() == "made"
    card = json.loads((folder / CARD).read_text())
    assert (card["kind"], card["key"], card["task"], list(card["sha256"])) == ("prompts", "k", "t", ["value.txt"])
    assert list(library.cards()) == [card]


def test_what_is_there_is_not_made_again(library: PromptLibrary) -> None:
    made(library)
    assert library.get_or_make("prompts", "k", never, {}) == library.path("prompts", "k")


def test_finding_the_key_after_making_it_is_success_and_the_first_stays(library: PromptLibrary) -> None:
    made(library)
    library.put("prompts", "k", write("later"), {})
    assert (library.get("prompts", "k") / "value.txt").read_text() == "made"
    assert [path.name for path in (library.root / "prompts").iterdir()] == ["k"]


def test_nothing_half_written_is_visible(library: PromptLibrary) -> None:
    def half(draft: Path) -> None:
        (draft / "value.txt").write_text("half")
        assert not library.has("prompts", "k")
        assert list(library.cards()) == []
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        library.get_or_make("prompts", "k", half, {})
    assert not library.has("prompts", "k")
    assert list((library.root / "prompts").iterdir()) == []
    made(library)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "value.txt").write_text("mode"),
        lambda folder: (folder / "value.txt").unlink(),
        lambda folder: (folder / CARD).write_text("{"),
        lambda folder: (folder / CARD).write_text("{}"),
        lambda folder: (folder / CARD).unlink(),
    ],
    ids=["a changed file", "a lost file", "a card cut short", "a card without sums", "a lost card"],
)
def test_damage_is_noticed_set_aside_and_made_again(library: PromptLibrary, damage: Callable[[Path], None]) -> None:
    damage(made(library))
    fresh = PromptLibrary(library.root)  # of another process: it has verified nothing yet
    with pytest.raises(DamagedArtefact, match="prompts/k"):
        fresh.get("prompts", "k")
    folder = fresh.get_or_make("prompts", "k", write("again"), {})
    assert (folder / "value.txt").read_text() == "again"
    assert len(list(folder.parent.glob("*k.damaged-*"))) == 1
    assert [card["key"] for card in fresh.cards()] == ["k"]


def test_two_processes_that_want_the_same_make_it_once(library: PromptLibrary, tmp_path: Path) -> None:
    call = [sys.executable, "-c", MAKER, str(library.root), str(tmp_path / "log")]
    both = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert {process.communicate(timeout=60)[0].strip() for process in both} == {str(library.path("prompts", "k"))}
    assert (tmp_path / "log").read_text() == "made\n"


def lock_file(library: PromptLibrary, text: str, age_s: float = 0.0) -> Path:
    path = library.root / "locks" / "k.lock"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def owner(pid: int, host: str = "") -> str:
    return f"{host or socket.gethostname()} {pid} {uuid4().hex}"


def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def taken_within(library: PromptLibrary, seconds: float) -> bool:
    """Whether the lock `k` is got in time; a waiter that is left goes on waiting behind the test."""
    got = threading.Event()

    def take() -> None:
        with library.lock("k"):
            got.set()

    waiter = threading.Thread(target=take, daemon=True)
    waiter.start()
    if got.wait(seconds):
        waiter.join()  # it has given the lock back
    return got.is_set()


@pytest.mark.parametrize(
    ("text", "age_s"),
    [(owner(gone()), 0), (owner(1, "elsewhere"), STALE_S + 5), (owner(os.getpid()), STALE_S + 5), ("", STALE_S + 5)],
    ids=["its process is gone", "another host is silent", "its process hangs", "killed before it signed"],
)
def test_a_stale_lock_is_taken_over(library: PromptLibrary, text: str, age_s: float) -> None:
    path = lock_file(library, text, age_s)
    assert taken_within(library, 3)
    assert list(path.parent.glob("*.stale-*")) == []


@pytest.mark.parametrize("text", [owner(os.getpid()), owner(1, "elsewhere")], ids=["here", "elsewhere"])
def test_a_live_lock_is_waited_for(library: PromptLibrary, text: str) -> None:
    path = lock_file(library, text)
    assert not taken_within(library, 0.4)
    path.unlink()
    assert taken_within(library, 3)


def test_a_held_lock_beats(library: PromptLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
    with library.lock("k"):
        path = library.root / "locks" / "k.lock"
        os.utime(path, (0, 0))
        ends = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < ends:
            time.sleep(0.02)
        assert path.stat().st_mtime > 0
    assert not path.exists()


def test_a_lock_is_given_back_when_its_work_fails(library: PromptLibrary) -> None:
    with pytest.raises(RuntimeError), library.lock("k"):
        raise RuntimeError
    assert taken_within(library, 3)


def test_a_holder_that_was_taken_over_leaves_the_lock_to_the_next(library: PromptLibrary) -> None:
    with library.lock("k"):
        path = library.root / "locks" / "k.lock"
        path.unlink()
        path.write_text(owner(1, "elsewhere"))
    assert path.exists()
    path.unlink()


def test_of_two_waiters_the_later_leaves_the_lock_that_the_first_has_got(
    library: PromptLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, first = lock_file(library, owner(gone())), owner(os.getpid())

    class Clock:
        """Between reading the stale lock and removing it, another waiter takes it."""

        sleep = staticmethod(time.sleep)

        @staticmethod
        def time() -> float:
            path.unlink()
            path.write_text(first)
            return time.time()

    monkeypatch.setattr(module, "time", Clock)
    assert not module._acquired(path, owner(os.getpid()))
    assert path.exists()
    assert path.read_text() == first
