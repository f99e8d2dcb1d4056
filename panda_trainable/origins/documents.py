"""Texts that are a file each, in a folder per class, as IMDB is published, or to be cut into windows for language modelling."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from panda_trainable.config.origin import Note, Origin, Reading, Row
from panda_trainable.origins.fields import Fields
from panda_trainable.origins.lines import PLAIN, Rows, opened

WITHOUT_CLASS = ("unsup", "unsupervised", "unlabeled", "unlabelled")
"""Folders of texts that have no class."""

TEXT_MIB = 16
"""Largest text that is read."""


def class_folders(split: Path) -> tuple[Path, ...]:
    """The folders of classes in a split's folder: those that hold `.txt` files."""
    return tuple(sorted(path for path in split.iterdir() if path.is_dir() and next(path.glob("*.txt"), None)))


def texts_below(folder: Path) -> tuple[Path, ...]:
    """The `.txt` files in a folder and the folders inside of it."""
    return tuple(path for path in sorted(folder.rglob("*.txt")) if path.is_file())


def documents(folder: Path) -> Rows:
    """A row per text of a class: `text`, and as `label` the folder's name."""
    if folder.name.lower() in WITHOUT_CLASS:
        yield str(folder), Note("its texts have no class and are left out")
        return
    for place, row in chain.from_iterable(document(path) for path in sorted(folder.glob("*.txt"))):
        yield place, {**row, "label": folder.name} if isinstance(row, dict) else row


def document(path: Path, _: Reading = PLAIN) -> Rows:
    """One row: the `text` of a file."""
    if path.stat().st_size > TEXT_MIB * 2**20:
        yield str(path), f"a text must be smaller than {TEXT_MIB} MiB"
        return
    try:
        with opened(path) as file:
            yield str(path), {"text": file.read().decode("utf-8-sig").strip()}
    except UnicodeDecodeError as error:
        reason = f"byte 0x{error.object[error.start]:02x} at {error.start + 1}"
        yield str(path), f"must be UTF-8, got {reason}; save the file as UTF-8"


@dataclass(frozen=True)
class Windows:
    """An origin: the texts of another one, cut into windows of which the first half is read and the rest is written.

    A language model thus learns to go on with a text. What is left at the end of a text, less than half a window, is
    left out; of a shorter text there is one row, if it has the words.

    Attributes:
        origin: whose texts are cut.
        text: the field of its texts, and of what is read of a window.
        label: the field of what is written.
        size: words of a window.
        fields: what text is called in the files.

    Source: the prefix language modelling of T5 (arXiv:1910.10683), section 3.2.1. Deviation: docs/deviations.md#language-modelling.
    """

    origin: Origin
    text: str
    label: str
    size: int
    fields: Fields = Fields()
    has_rows = True

    def splits(self) -> tuple[str, ...]:
        """Those of the texts."""
        return self.origin.splits()

    def rows(self, split: str) -> Iterator[tuple[str, Row]]:
        """A row per window, with the place of its text; what is no text stays as it is, for the check of rows."""
        for place, row in self.origin.rows(split):
            text = self.fields.of(row).get(self.text) if isinstance(row, dict) else None
            if not isinstance(text, str):
                yield place, row
                continue
            for number, (read, written) in enumerate(windows(text, self.size), 1):
                yield f"{place}, window {number}", {self.text: read, self.label: written}

    def place(self, split: str = "") -> str:
        """Where the texts are."""
        return self.origin.place(split)

    def contents(self) -> str:
        """What is there."""
        return self.origin.contents()


LEAST_WORDS = 2
"""Words of a window at least: one to read and one to write."""


def windows(text: str, size: int) -> Iterator[tuple[str, str]]:
    """The windows of a text, each as what is read and what is written: halves by words, the first as long or longer.

    Args:
        text: words divided by white space, which becomes single spaces.
        size: words of a window.
    """
    words = text.split()
    for first in range(0, len(words), size):
        piece = words[first : first + size]
        if len(piece) >= max(LEAST_WORDS, size // 2 if first else 0):
            half = (len(piece) + 1) // 2
            yield " ".join(piece[:half]), " ".join(piece[half:])
