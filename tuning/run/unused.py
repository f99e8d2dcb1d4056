"""What of a storage no experiment uses: artefacts, drafts of killed processes, and what was set aside as damaged."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from panda_trainable.library import PromptLibrary
from tuning.engine.journal import only_driver
from tuning.experiment.problems import Misuse, Problem
from tuning.experiment.storage import USES

AT_WORK_S = 3600.0
"""Seconds after which a draft is one of a process that was killed."""


@dataclass(frozen=True)
class Unused:
    """A folder of the library that nothing needs.

    Attributes:
        path: of the folder.
        what: it is, for people.
        size: bytes of its files.
    """

    path: Path
    what: str
    size: int

    @property
    def kind(self) -> str:
        """The stage that it is of."""
        return self.path.parent.name

    def remove(self) -> None:
        """Deletes it, under another name: whoever reads meanwhile finds it whole or not at all."""
        gone = self.path.with_name(f".{self.path.name.lstrip('.')}.removed")
        self.path.replace(gone)
        shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def unused(storage: Path) -> Iterator[list[Unused]]:
    """What can be removed; until the block ends no search begins in the storage.

    Raises:
        Misuse: if a search is running, or an experiment has no note of what it uses.
    """
    with ExitStack() as stack:
        experiments = sorted(
            {path.parent for name in ("studies", USES) for path in storage.glob(f"searches/**/{name}/")}
        )
        for folder in experiments:
            stack.enter_context(only_driver(folder))
        yield _unused(PromptLibrary(storage / "library"), _used(experiments))


def _used(experiments: Sequence[Path]) -> set[tuple[str, str]]:
    """Kind and key of every artefact that an experiment uses."""
    without = [folder.name for folder in experiments if not (folder / USES).is_dir()]
    if without:
        rule = "was searched by a version that did not note what it uses"
        remedy = "run its command once more, or delete its folder"
        raise Misuse(*(Problem(name, rule, remedy=remedy) for name in without))
    return {(path.parent.name, path.name) for folder in experiments for path in (folder / USES).glob("*/*")}


def _unused(library: PromptLibrary, used: set[tuple[str, str]]) -> list[Unused]:
    cards = {(card["kind"], card["key"]): card for card in library.cards()}
    folders = [path for path in sorted(library.root.glob("*/*/")) if path.parent.name != "locks"]
    found = []
    for folder in folders:
        of = (folder.parent.name, folder.name)
        if folder.name.startswith("."):
            if time.time() - folder.stat().st_mtime > AT_WORK_S or ".damaged-" in folder.name:
                found.append(Unused(folder, "damaged" if ".damaged-" in folder.name else "a draft", _size(folder)))
        elif of not in used:
            card = cards.get(of, {})
            found.append(Unused(folder, str(card.get("task") or card.get("target") or ""), _size(folder)))
    return found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
