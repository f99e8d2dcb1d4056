"""Texts that are a file each, in a folder per class, as IMDB is published."""

from pathlib import Path

from panda_trainable.config.origin import Note
from panda_trainable.origins.lines import Rows

WITHOUT_CLASS = ("unsup", "unsupervised", "unlabeled", "unlabelled")
"""Folders of texts that have no class."""

TEXT_MIB = 16
"""Largest text that is read."""


def class_folders(split: Path) -> tuple[Path, ...]:
    """The folders of classes in a split's folder: those that hold `.txt` files."""
    return tuple(sorted(path for path in split.iterdir() if path.is_dir() and next(path.glob("*.txt"), None)))


def documents(folder: Path) -> Rows:
    """A row per text of a class: `text`, and as `label` the folder's name."""
    if folder.name.lower() in WITHOUT_CLASS:
        yield str(folder), Note("its texts have no class and are left out")
        return
    for path in sorted(folder.glob("*.txt")):
        if path.stat().st_size > TEXT_MIB * 2**20:
            yield str(path), f"a text must be smaller than {TEXT_MIB} MiB"
            continue
        try:
            yield str(path), {"text": path.read_text(encoding="utf-8-sig").strip(), "label": folder.name}
        except UnicodeDecodeError as error:
            reason = f"byte 0x{error.object[error.start]:02x} at {error.start + 1}"
            yield str(path), f"must be UTF-8, got {reason}; save the file as UTF-8"
