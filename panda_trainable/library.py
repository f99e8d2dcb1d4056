"""PromptLibrary: prompts, teacher logits, token tables and confirmed runs, each made once and kept under its content key."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import SoftFileLease, Timeout

CARD = "card.json"
CARD_MIB = 16
"""MiB of a card at most."""
STORAGE_MODE = 0o750
"""Permissions of a new storage, less those that the umask takes."""
LEASE_S = 60.0
"""Seconds without a sign of life after which a lock's holder is superseded; one that is known to be dead is at once."""

POLL_S = 0.1
"""Seconds between two attempts to get a lock."""


class DamagedArtefact(Exception):
    """A stored artefact does not match its checksums."""


@dataclass(frozen=True)
class PromptLibrary:
    """A folder of artefacts `<kind>/<key>/`, shared by all processes of a cluster.

    An artefact is written under a temporary name and then renamed, so that it is complete or absent;
    it is verified when a process first reads it. Nothing in it is ever unpickled.

    Attributes:
        root: of the artefacts.
        uses: a folder in which an experiment's artefacts are noted, as empty files `<kind>/<key>`, when they are made or
            first read: what no experiment uses can be removed. None: nothing is noted.
    """

    root: Path
    uses: Path | None = None
    _verified: set[Path] = field(default_factory=set, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process verifies for itself."""
        return PromptLibrary, (self.root, self.uses)

    def path(self, kind: str, key: str) -> Path:
        """The folder of an artefact, whether it exists or not."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether an artefact exists; its checksums are verified only on reading."""
        return (self.path(kind, key) / CARD).is_file()

    def get(self, kind: str, key: str) -> Path:
        """The folder of an artefact, verified.

        Raises:
            DamagedArtefact: if it is missing or its checksums do not hold.
        """
        folder = self.path(kind, key)
        if folder not in self._verified:
            verify(folder)
            self.note_use(kind, key)
            self._verified.add(folder)
        return folder

    def note_use(self, kind: str, key: str) -> None:
        """Notes that an artefact is used; deleting the folder of uses takes that back."""
        if self.uses is not None:
            path = self.uses / kind / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

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
        """Whether an artefact exists and its checksums hold; a damaged one is renamed, so that it is made again."""
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
        """Creates an artefact; if another process has created it meanwhile, that one is kept."""
        folder = self.path(kind, key)
        draft = folder.with_name(f".{key}-{uuid4().hex[:8]}")
        make_storage(self.root.parent)
        draft.mkdir(parents=True)
        try:
            make(draft)
            sums = {path.name: _checksum(path) for path in sorted(draft.iterdir())}
            card = {"kind": kind, "key": key, **card, "sha256": sums}
            (draft / CARD).write_text(json.dumps(card, indent=1), encoding="utf-8")
            self.note_use(kind, key)
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
                of = {"kind": path.parent.parent.name, "key": path.parent.name}
                try:
                    yield {**_card_of(path.parent), **of}
                except (OSError, ValueError, TypeError, RecursionError):
                    yield {**of, "task": "a damaged card"}

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One holder at a time over all hosts; a holder that was killed or hangs is superseded.

        The lock spares work, it guards no data: two holders make the same artefact, and `put` keeps one.

        Args:
            name: what is locked: part of a file name.
        """
        path = self.root / "locks" / f"{name}.lock"
        make_storage(self.root.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        lease = SoftFileLease(path, lease_duration=LEASE_S, poll_interval=POLL_S)
        while not lease.is_locked:
            with suppress(Timeout):
                lease.acquire(timeout=LEASE_S)
            _remove_unsigned(path)
        try:
            yield
        finally:
            lease.release()


def _remove_unsigned(path: Path) -> None:
    """Removes an old lock file without an owner, whose holder was killed before it could sign: filelock never does."""
    with suppress(FileNotFoundError):
        found = path.stat()
        if not found.st_size and time.time() - found.st_mtime > LEASE_S:
            path.unlink()


def make_storage(storage: Path) -> None:
    """Makes a storage that is not there for its owner and group alone: prompts and logits tell of the data.

    One that is there keeps the mode that its owner gave it.
    """
    if not storage.exists():
        storage.parent.mkdir(parents=True, exist_ok=True)
        storage.mkdir(mode=STORAGE_MODE, exist_ok=True)


def set_aside(path: Path) -> Path:
    """Keeps a damaged file beside as `<name>.damaged-<n>`; where it is then."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return path.replace(kept)


def verify(folder: Path) -> None:
    """Checks an artefact's files against its card, which may come from others: no name in it leads out of the folder.

    Raises:
        DamagedArtefact: if the card or a file is missing, unreadable or changed.
    """
    try:
        sums = dict(_card_of(folder)["sha256"])
        lost = [name for name in sums if name != Path(name).name or not (folder / name).is_file()]
        wrong = [] if lost else [name for name, checksum in sums.items() if _checksum(folder / name) != checksum]
    except (OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DamagedArtefact(f"{folder}: cannot be read ({error})") from error
    if lost or not sums:
        said = f"lists {', '.join(map(repr, lost))}, which it does not hold" if lost else "lists no file"
        raise DamagedArtefact(f"{folder}: {said}")
    if wrong:
        raise DamagedArtefact(f"{folder}: {', '.join(wrong)} changed since it was written")


def _card_of(folder: Path) -> Any:
    """The card of an artefact; a huge one is none.

    Raises:
        OSError, ValueError: if it cannot be read.
    """
    path = folder / CARD
    if path.stat().st_size > CARD_MIB * 2**20:
        raise ValueError(f"a card has at most {CARD_MIB} MiB")
    return json.loads(path.read_text(encoding="utf-8"))


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
