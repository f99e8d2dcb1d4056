"""FolderFiles: the files of a task's splits in a folder, whatever their format and however their splits are called."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from panda_trainable.config.origin import Reading
from panda_trainable.config.task import SPLITS
from panda_trainable.origins.columns import arrow, parquet
from panda_trainable.origins.documents import class_folders, document, documents, texts_below
from panda_trainable.origins.lines import MOST_NAMES, PLAIN, Rows, json_file, json_lines, listed
from panda_trainable.origins.nested import unnested
from panda_trainable.origins.sentences import conll
from panda_trainable.origins.tables import csv_table, tsv_table

Reader = Callable[[Path, Reading], Rows]


def _text_file(path: Path, reading: Reading) -> Rows:
    """A `.txt` file: a text, or a word per line for tagging, else a table, whose columns tabs divide as a rule."""
    if reading.documents:
        return document(path, reading)
    return (conll if reading.words else tsv_table)(path, reading)


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "jsonl": json_lines, "json": json_file, "csv": csv_table, "tsv": tsv_table, "parquet": parquet,
        "conll": conll, "arrow": arrow, "txt": _text_file,
    }
)  # fmt: skip
"""File ending -> reader; `.gz` may stand behind those of text files."""

COMPRESSED = ("jsonl", "json", "csv", "tsv", "conll", "txt")
SYNONYMS: Mapping[str, str] = MappingProxyType({"ndjson": "jsonl", "bio": "conll", "iob": "conll", "conllu": "conll"})
"""Other endings of the same formats."""

CALLED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("train", "training"),
        "validation": ("validation", "valid", "val", "dev", "development"),
        "test": ("test", "testing"),
    }
)
"""Split -> how its files may be called, in any case."""

_NAME = re.compile(
    r"(?P<split>[a-z]+)(?:[-_.](?P<shard>\d+)(?:-of-(?P<of>\d+)(?:-[0-9a-f]+)?)?)?\.(?P<ending>[a-z]+)(?P<gz>\.gz)?"
)
SAVED = ("dataset_info.json", "state.json")
"""What a folder holds beside its Arrow files where `datasets` saved it."""


@dataclass(frozen=True)
class FolderFiles:
    """An origin: a folder that holds a file, shards, a saved dataset or a folder per class of each split.

    Attributes:
        folder: where they are; also in its sub-folder `data`, as on the hub.
        reading: of the files.
        files_called: (split, other names of its file, with or without ending), where no file is called as usual.
    """

    folder: Path
    reading: Reading = PLAIN
    files_called: tuple[tuple[str, tuple[str, ...]], ...] = ()
    has_rows = True

    def splits(self) -> tuple[str, ...]:
        """The splits that have files, in the order of SPLITS.

        Raises:
            ValueError: if the files of a split are no whole, or the folder cannot be accessed.
        """
        return tuple(split for split in SPLITS if self.files(split))

    def files(self, split: str) -> tuple[Path, ...]:
        """The files of a split, in the order of their rows; none where it has none.

        Raises:
            ValueError: if there are several that are no shards of one, or the folder cannot be accessed.
        """
        try:
            inside = (_files(folder, split) for folder in (self.folder, self.folder / "data"))
            found = next(filter(None, inside), ()) or _named(self.folder, split, dict(self.files_called).get(split, ()))
            if self.reading.documents and split == "train" and not found:
                return _texts(self.folder)
            return found or (_undivided(self.folder) if split == "train" else ())
        except OSError as error:
            raise ValueError(f"{self.folder}: cannot be looked into ({error.strerror or error})") from error

    def rows(self, split: str) -> Rows:
        """Pairs (`file:line`, row, note or error message) from the readers of the file formats."""
        for path in self.files(split):
            yield from file_rows(path, self.reading)

    def place(self, split: str = "") -> str:
        """The path of a split's first file, or of the folder."""
        if not split:
            return str(self.folder)
        return str(next(iter(self.files(split)), self.folder / f"{split}.jsonl"))

    def unread(self) -> tuple[str, ...]:
        """Names of files that could be read but belong to no split."""
        used = {path for split in SPLITS for path in self.files(split)}
        there = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return tuple(path.name for path in there if path.is_file() and path not in used and format_of(path) in READERS)

    def contents(self) -> str:
        """The names of the files in the folder."""
        names = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        return f"it holds {', '.join(names[:MOST_NAMES])}" if names else "it is empty or not there"


def file_rows(path: Path, reading: Reading = PLAIN) -> Rows:
    """Pairs (`file:line`, row, note or error message) of a file of any format, or of a folder of texts."""
    read = READERS.get(format_of(path), _text_file)
    try:
        yield from unnested(documents(path) if path.is_dir() else read(path, reading))
    except OSError as error:
        yield str(path), f"cannot be read ({error.strerror or error})"


def format_of(path: Path) -> str:
    """The key of READERS for a file; empty for one that is no table of rows."""
    ending = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    return SYNONYMS.get(ending, ending)


def _files(folder: Path, split: str) -> tuple[Path, ...]:
    """The files of a split that lie in one folder."""
    if not folder.is_dir():
        return ()
    inside = sorted(folder.iterdir())
    single: list[Path] = []
    shards: dict[str, list[tuple[int, int, Path]]] = {}
    for path in inside:
        named = _NAME.fullmatch(path.name.lower())
        if named is None or named["split"] not in CALLED[split] or not _is_readable(path, bool(named["gz"])):
            continue
        if named["shard"] is None:
            single.append(path)
        else:
            shards.setdefault(f"{named['split']}.{named['ending']}", []).append(
                (int(named["shard"]), int(named["of"] or 0), path)
            )
    saved = [path for path in inside if path.name.lower() in CALLED[split] and path.is_dir()]
    if split == "train" and all((folder / name).is_file() for name in SAVED):
        saved.append(folder)
    found = [(path,) for path in single] + [_whole(folder, of_one) for of_one in shards.values()]
    found += [arrows for path in saved if (arrows := _of_folder(path))]
    if len(found) > 1:
        names = ", ".join(str(files[0].relative_to(folder)) for files in found)
        raise ValueError(f"{folder}: {split} must be one file, got {names}")
    return found[0] if found else ()


def _texts(folder: Path) -> tuple[Path, ...]:
    """The texts of a folder that is not divided into splits."""
    splits = {name for names in CALLED.values() for name in names}
    return tuple(
        path
        for path in texts_below(folder)
        if not splits & {part.lower() for part in path.relative_to(folder).parts[:-1]}
    )


def _undivided(folder: Path) -> tuple[Path, ...]:
    """The folders of classes in a task's folder that is not divided into splits."""
    classes = class_folders(folder) if folder.is_dir() else ()
    splits = {name for names in CALLED.values() for name in names}
    return classes if len(classes) > 1 and not splits & {path.name.lower() for path in classes} else ()


def _named(folder: Path, split: str, names: Sequence[str]) -> tuple[Path, ...]:
    """The file of a split that is called otherwise; of one file in two formats that which comes first in READERS.

    Raises:
        ValueError: if there are several.
    """
    if not names or not folder.is_dir():
        return ()
    formats = [*READERS, ""]
    there = [path for path in folder.iterdir() if path.is_file() and _stem(path) in names]
    there.sort(key=lambda path: formats.index(format_of(path) if format_of(path) in READERS else ""))
    if len({_stem(path) for path in there}) > 1:
        raise ValueError(f"{folder}: {split} must be one file, got {listed(sorted(path.name for path in there))}")
    return tuple(there[:1])


def _stem(path: Path) -> str:
    """A file's name without an ending that says its format; of others the whole name."""
    name = path.name.removesuffix(".gz")
    return name.rpartition(".")[0] if format_of(path) in READERS else name


def _is_readable(path: Path, compressed: bool) -> bool:
    known = format_of(path) in (COMPRESSED if compressed else READERS)
    return known and path.is_file()


def _whole(folder: Path, shards: list[tuple[int, int, Path]]) -> tuple[Path, ...]:
    """Shards in their order, none of them missing."""
    shards.sort()
    counts = {of for _, of, _ in shards} - {0}
    numbers = [number for number, _, _ in shards]
    missing = sorted(set(range(max(counts, default=0))) - set(numbers))
    if len(counts) > 1 or missing or len(set(numbers)) != len(numbers):
        names = ", ".join(path.name for _, _, path in shards[:MOST_NAMES])
        raise ValueError(f"{folder}: shards of a split must be all there, each once, got {names}")
    return tuple(path for _, _, path in shards)


def _of_folder(folder: Path) -> tuple[Path, ...]:
    """The files in a folder that is a split: what `datasets` saved, or shards of one format."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and format_of(path) in READERS]
    arrows = [path for path in files if format_of(path) == "arrow" and not path.name.startswith("cache-")]
    tables = [path for path in files if format_of(path) not in ("arrow", "json")]
    return tuple(arrows) or class_folders(folder) or tuple(tables)
