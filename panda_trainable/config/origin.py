"""Where the rows of a task come from: the values of `TaskSpec.origin`. Imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Row = dict[str, Any] | str
"""A row's fields; or, as a text, why it could not be read."""


class Origin(Protocol):
    """Where the rows of a task come from.

    There are four: `Unlocated` and `Imported` have no rows; `FolderFiles` (`data.readers`) reads the
    files of a folder, `Demonstration` (`data.demo`) writes text of its own.
    """

    @property
    def has_rows(self) -> bool:
        """Whether rows can be read; of an imported task there are prompts alone."""

    def splits(self) -> tuple[str, ...]:
        """The splits that can be read, in the order of SPLITS."""

    def rows(self, split: str) -> Iterator[tuple[str, Row]]:
        """The rows of a split, each with its place `file:line`; a text instead of a row says why there is none."""

    def place(self, split: str = "") -> str:
        """Where a split is, or all of them are, as messages say it."""

    def contents(self) -> str:
        """What is there, for the message that a split is missing."""


class _WithoutRows:
    """What has no rows to read."""

    has_rows = False

    def splits(self) -> tuple[str, ...]:
        return ()

    def rows(self, split: str) -> Iterator[tuple[str, Row]]:
        yield self.place(split), "has no rows"

    def place(self, split: str = "") -> str:
        return type(self).__name__.lower()

    def contents(self) -> str:
        return "it has no rows"


@dataclass(frozen=True)
class Unlocated(_WithoutRows):
    """Not yet looked for.

    Attributes:
        folder: inside the data folder; empty: that of the task's name.
    """

    folder: str = ""

    def folder_in(self, data: Path, task: str) -> Path:
        """The folder where a task's files belong.

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
    """Elsewhere: prompts trained on it were imported, its rows were not."""
