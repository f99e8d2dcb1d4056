"""Sources of a task's rows: the values of `TaskSpec.origin`. Imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Row = dict[str, Any] | str
"""A row's fields, or an error message if it could not be read."""


class Origin(Protocol):
    """Where the rows of a task come from.

    There are four: `Unlocated` and `Imported` have no rows; `FolderFiles` (`data.readers`) reads the
    files of a folder, `Demonstration` (`data.demo`) generates synthetic text.
    """

    @property
    def has_rows(self) -> bool:
        """Whether rows can be read; an imported task has only prompts."""

    def splits(self) -> tuple[str, ...]:
        """The splits that can be read, in the order of SPLITS."""

    def rows(self, split: str) -> Iterator[tuple[str, Row]]:
        """Pairs (`file:line`, row or error message) of a split, in file order."""

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
        folder: relative to the data folder; empty: the task's name.
    """

    folder: str = ""

    def folder_in(self, data: Path, task: str) -> Path:
        """The folder where a task's files are expected.

        Args:
            data: the folder of all tasks.
            task: its name.

        Raises:
            ValueError: if it would lie outside of the data folder.
        """
        inside = Path(self.folder or task)
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(
                f"task {task}: its folder must lie inside the data folder {data}, got {str(inside)!r}; point `data:` there"
            )
        return data / inside


@dataclass(frozen=True)
class Imported(_WithoutRows):
    """A task whose prompts were imported from an archive, without its rows."""
