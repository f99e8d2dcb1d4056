"""Sources of a task's rows: the values of `TaskSpec.origin`. Imports no torch."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Note:
    """What a user should know of how a file was read.

    Attributes:
        text: in a sentence without its place.
    """

    text: str


@dataclass(frozen=True)
class ClassValue:
    """A class number from a file that has the names of its classes.

    Attributes:
        number: as the file has it.
        names: of the file's classes, in the order of its numbers.
    """

    number: int
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of this class."""
        return self.names[self.number]


@dataclass(frozen=True)
class Reading:
    """How files are read, where their own look does not say it.

    Attributes:
        delimiter: of tables; empty: found in the header line.
        columns: names of a table's columns, whose files have no header line.
        words: whether `.txt` files hold a word per line, and no table.
        drops_broken: whether lines of tables with too few or too many cells are left out, and not refused.
        documents: whether `.txt` files are a text each, and no table.
    """

    delimiter: str = ""
    columns: tuple[str, ...] = ()
    words: bool = False
    drops_broken: bool = False
    documents: bool = False


Row = dict[str, Any] | str | Note
"""A row's fields; an error message if it could not be read; or what is worth knowing."""


class Origin(Protocol):
    """Where the rows of a task come from.

    There are four: `Unlocated` and `Imported` have no rows; `FolderFiles` (`origins.folder`) reads the
    files of a folder, `Demonstration` (`origins.demo`) generates synthetic text.
    """

    @property
    def has_rows(self) -> bool:
        """Whether rows can be read; an imported task has only prompts."""

    def splits(self) -> tuple[str, ...]:
        """The splits that can be read, in the order of SPLITS."""

    def rows(self, split: str) -> Iterator[tuple[str, Row]]:
        """Pairs (`file:line`, row, note or error message) of a split, in file order."""

    def place(self, split: str = "") -> str:
        """The location of a split, or of all splits if empty, for error messages."""

    def contents(self) -> str:
        """What the location contains, for the error message about a missing split."""


class _WithoutRows:
    """An origin without rows."""

    has_rows = False

    def splits(self) -> tuple[str, ...]:
        """No splits."""
        return ()

    def rows(self, split: str) -> Iterator[tuple[str, Row]]:
        """A single error message instead of rows."""
        yield self.place(split), "has no rows"

    def place(self, split: str = "") -> str:
        """The kind of origin, in lower case, whatever the split."""
        return type(self).__name__.lower()

    def contents(self) -> str:
        """That there are no rows."""
        return "it has no rows"


@dataclass(frozen=True)
class Unlocated(_WithoutRows):
    """Files not yet located.

    Attributes:
        folder: absolute, or relative to the data folder; empty: the task's name. `~` and `$VARS` are filled in.
        reading: of its files.
    """

    folder: str = ""
    reading: Reading = Reading()

    def folder_in(self, data: Path, task: str) -> Path:
        """The folder where a task's files are expected.

        Args:
            data: the folder of all tasks.
            task: its name.

        Raises:
            ValueError: if it names a variable that is not set.
        """
        try:
            return data / expanded(self.folder or task)
        except ValueError as error:
            raise ValueError(f"task {task}: path: {error}") from error


def expanded(path: str) -> str:
    """A path with `~` and `$VARS` filled in.

    Raises:
        ValueError: if a variable is not set.
    """
    filled = os.path.expandvars(str(Path(path).expanduser()) if path.startswith("~") else path)
    missing = re.findall(r"\$\w+|\$\{[^}]*\}", filled)
    if missing:
        raise ValueError(f"{path!r} names {', '.join(missing)}, which is not set; set it, or write the path out")
    return filled


@dataclass(frozen=True)
class Imported(_WithoutRows):
    """A task whose prompts were imported from an archive, without its rows."""
