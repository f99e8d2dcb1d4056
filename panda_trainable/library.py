"""What was made once: prompts, teacher logits, token tables, confirmed runs, each under its content key."""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any
from uuid import uuid4

CARD = "card.json"
HEARTBEAT_S = 5.0
STALE_S = 60.0


class DamagedArtefact(Exception):
    """What lies under a key is not what was written there."""


@dataclass(frozen=True)
class PromptLibrary:
    """A folder of artefacts `<kind>/<key>/`, shared by all processes of a cluster.

    An artefact is written under a temporary name and then renamed, so a key is there whole or not
    at all; it is verified when a process first reads it. Nothing in it is ever unpickled.
    """

    root: Path
    _verified: set[Path] = field(default_factory=set, compare=False, repr=False)

    def path(self, kind: str, key: str) -> Path:
        """Where an artefact lies or would lie."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether a key was made; its files are verified only when they are read."""
        return (self.path(kind, key) / CARD).is_file()

    def get(self, kind: str, key: str) -> Path:
        """The folder of an artefact, verified.

        Raises:
            DamagedArtefact: if it is missing or its checksums do not hold.
        """
        folder = self.path(kind, key)
        if folder not in self._verified:
            verify(folder)
            self._verified.add(folder)
        return folder

    def get_or_make(self, kind: str, key: str, make: Callable[[Path], None], card: dict[str, Any]) -> Path:
        """The folder of an artefact, made first where it is missing or damaged.

        Args:
            kind: a stage of `config.VERSIONS`: `tokens`, `prompts`, `teachers`, and so on.
            key: the content key.
            make: writes the artefact's files into the empty folder it is given.
            card: what it is, for people: settings and parents.
        """
        if not self.sound(kind, key):
            with self.lock(f"{kind}-{key}"):
                if not self.sound(kind, key):
                    self.put(kind, key, make, card)
        return self.get(kind, key)

    def sound(self, kind: str, key: str) -> bool:
        """Whether the artefact is there and whole; a damaged one is set aside, beside the others."""
        folder = self.path(kind, key)
        if not folder.exists():
            return False
        try:
            self.get(kind, key)
        except DamagedArtefact:
            with suppress(FileNotFoundError):  # another process has just done so
                folder.rename(folder.with_name(f".{key}.damaged-{uuid4().hex[:8]}"))
            return False
        return True

    def put(self, kind: str, key: str, make: Callable[[Path], None], card: dict[str, Any]) -> None:
        """Makes an artefact; finding the key there afterwards is success."""
        folder = self.path(kind, key)
        draft = folder.with_name(f".{key}-{uuid4().hex[:8]}")
        draft.mkdir(parents=True)
        try:
            make(draft)
            sums = {path.name: _checksum(path) for path in sorted(draft.iterdir())}
            card = {"kind": kind, "key": key, **card, "sha256": sums}
            (draft / CARD).write_text(json.dumps(card, indent=1), encoding="utf-8")
            try:
                draft.rename(folder)
            except OSError:
                if not self.has(kind, key):
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def cards(self) -> Iterator[dict[str, Any]]:
        """The cards of all artefacts, by kind and key."""
        for path in sorted(self.root.glob(f"*/*/{CARD}")):
            if not path.parent.name.startswith("."):
                try:
                    yield json.loads(path.read_text(encoding="utf-8"))
                except ValueError:
                    yield {"kind": path.parent.parent.name, "key": path.parent.name, "task": "a damaged card"}

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One holder at a time over all hosts; a holder that no longer beats is taken over.

        Args:
            name: what is locked: part of a file name.
        """
        path = self.root / "locks" / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        owner = f"{socket.gethostname()} {os.getpid()} {uuid4().hex}"
        while not _acquired(path, owner):
            time.sleep(0.1)
        stop = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
        beat.start()
        try:
            yield
        finally:
            stop.set()
            beat.join()
            _remove(path, owner)


def _remove(path: Path, owner: str) -> None:
    """Removes a lock file if it still is this owner's; one that is not is put back."""
    aside = path.with_name(f"{path.name}.stale-{uuid4().hex[:8]}")
    with suppress(FileNotFoundError):
        path.rename(aside)  # atomic: of several only one gets the file
        if aside.read_text(encoding="utf-8") != owner:
            with suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink()


def verify(folder: Path) -> None:
    """Checks an artefact's files against its card.

    Raises:
        DamagedArtefact: if the card or a file is missing, unreadable or changed.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        found = {name: _checksum(folder / name) for name in card["sha256"]}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DamagedArtefact(f"{folder}: cannot be read ({error})") from error
    wrong = [name for name, checksum in card["sha256"].items() if found[name] != checksum]
    if wrong:
        raise DamagedArtefact(f"{folder}: {', '.join(wrong)} changed since it was written")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _acquired(path: Path, owner: str) -> bool:
    """Tries once: creates the lock file, or removes it for the next try when its holder is gone."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(owner)
        return True
    except FileExistsError:
        pass
    try:
        holder = path.read_text(encoding="utf-8")
        age_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return False
    host, pid, *_ = [*holder.split(), "", ""]  # nothing yet: its holder is signing, or died before
    dead = host == socket.gethostname() and not Path(f"/proc/{pid}").exists()
    if age_s > STALE_S or (dead and Path("/proc/self").exists()):
        _remove(path, holder)
    return False


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            os.utime(path)
        except FileNotFoundError:
            return
