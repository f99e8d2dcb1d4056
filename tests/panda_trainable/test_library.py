"""The library: whole or not there, verified, made once by any number of processes."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from panda_trainable import library as module
from panda_trainable.library import CARD, DamagedArtefact, PromptLibrary, set_aside

pytestmark = pytest.mark.own_library  # these tests look at what is made in it

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
        lambda folder: (folder / CARD).write_text('{"sha256": {}}'),
        lambda folder: (folder / CARD).write_text('{"sha256": {"/dev/zero": "x"}}'),
        lambda folder: (folder / CARD).write_text('{"sha256": {"../k/value.txt": "x"}}'),
        lambda folder: (folder / CARD).write_text("[" * 100_000),
    ],
    ids=[
        "a changed file",
        "a lost file",
        "a card cut short",
        "a card without sums",
        "a lost card",
        "empty sums",
        "a device",
        "another folder",
        "a card without end",
    ],
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


def test_a_new_storage_is_for_its_owner_and_group_alone_and_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    made(PromptLibrary(tmp_path / "new/library"))
    assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o750
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o2775)
    made(PromptLibrary(tmp_path / "shared/library"))
    assert (tmp_path / "shared").stat().st_mode & 0o7777 == 0o2775
    assert (tmp_path / "shared/library").stat().st_mode & 0o2000


def test_damaged_files_are_kept_beside_each_under_a_name_of_its_own(tmp_path: Path) -> None:
    for content in ("a", "b"):
        (tmp_path / "x.json").write_text(content)
        set_aside(tmp_path / "x.json")
    assert [(tmp_path / f"x.json.damaged-{n}").read_text() for n in (1, 2)] == ["a", "b"]


def test_two_processes_that_want_the_same_make_it_once(library: PromptLibrary, tmp_path: Path) -> None:
    call = [sys.executable, "-c", MAKER, str(library.root), str(tmp_path / "log")]
    both = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert {process.communicate(timeout=60)[0].strip() for process in both} == {str(library.path("prompts", "k"))}
    assert (tmp_path / "log").read_text() == "made\n"


HOLDER = """
import sys, time
from pathlib import Path
from panda_trainable.library import PromptLibrary
with PromptLibrary(Path(sys.argv[1])).lock("k"):
    print("held", flush=True)
    time.sleep(100)
"""
EMPTY = ""


def marker(host: str, pid: int) -> str:
    """A lock file as filelock writes it, of a lease as long as the tests have it."""
    lines = (f"pid={pid}", f"host={host}", "mode=lease", f"token={'0' * 32}", f"duration={module.LEASE_S}", "start=1")
    return "".join(f"{line}\n" for line in ("filelock/2", *lines))


def taken_within(library: PromptLibrary, seconds: float) -> bool:
    """Whether the lock `k` is acquired in time; a waiter that is not goes on waiting behind the test."""
    got = threading.Event()

    def take() -> None:
        with library.lock("k"):
            got.set()

    waiter = threading.Thread(target=take, daemon=True)
    waiter.start()
    if got.wait(seconds):
        waiter.join()  # it has released the lock
    return got.is_set()


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_S", 0.5)


def test_the_lock_of_a_killed_process_is_taken_over_at_once(library: PromptLibrary) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(library.root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    assert taken_within(library, 10)


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize(("host", "pid"), [("elsewhere", 1), (EMPTY, 0)], ids=["another host is silent", "unsigned"])
def test_a_lock_without_a_sign_of_life_is_taken_over_when_its_lease_ends(
    library: PromptLibrary, host: str, pid: int
) -> None:
    path = library.root / "locks" / "k.lock"
    path.parent.mkdir(parents=True)
    path.write_text(marker(host, pid) if host else EMPTY)
    assert not taken_within(library, 0.3)
    assert taken_within(library, 10)


@pytest.mark.usefixtures("short_lease")
def test_a_held_lock_is_waited_for_longer_than_its_lease(library: PromptLibrary) -> None:
    with library.lock("k"):
        assert not taken_within(library, 3 * module.LEASE_S)
    assert taken_within(library, 10)


def test_a_lock_is_released_when_its_work_fails(library: PromptLibrary) -> None:
    with pytest.raises(RuntimeError), library.lock("k"):
        raise RuntimeError
    assert taken_within(library, 3)


def test_a_superseded_holder_leaves_the_lock_to_the_next(library: PromptLibrary) -> None:
    path = library.root / "locks" / "k.lock"
    with library.lock("k"):
        path.unlink()
        path.write_text(marker("elsewhere", 1))
    assert path.read_text() == marker("elsewhere", 1)
