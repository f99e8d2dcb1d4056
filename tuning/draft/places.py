"""Where tasks lie: a folder of tasks, one task's folder, or a single file. Imports no torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from panda_trainable.config.origin import Reading
from panda_trainable.config.task import SPLITS
from panda_trainable.data.task_table import TASKS
from panda_trainable.origins.folder import CALLED, READERS, FolderFiles, format_of
from panda_trainable.origins.lines import listed
from tuning.experiment.problems import Misuse, Problem


@dataclass(frozen=True)
class Place:
    """Where the files of a task are.

    Attributes:
        name: of the task, as an experiment file can call it.
        folder: of its files.
        path: of the folder, inside the data folder.
        files: split -> name of its file without ending, where it is not called as usual.
        asked: names of files, where nobody can say which is which.
    """

    name: str
    folder: Path
    path: str
    files: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()

    def origin(self, reading: Reading) -> FolderFiles:
        """Its files, read in a way."""
        return FolderFiles(self.folder, reading, tuple((split, (name,)) for split, name in self.files.items()))


@dataclass(frozen=True)
class Places:
    """What lies in a folder.

    Attributes:
        data: the `data` folder of the experiment.
        own: tasks to describe.
        known: names of tasks known by name, whose files are there.
    """

    data: Path
    own: tuple[Place, ...]
    known: tuple[str, ...] = ()


def places_in(given: Path) -> Places:
    """What lies in a folder of tasks, in the folder of one task, or in a file.

    Raises:
        Misuse: if there is nothing that could be read.
    """
    given = given.expanduser()
    if given.is_file():
        return _of_file(given)
    if not given.is_dir():
        raise Misuse(Problem(str(given), "no such folder or file", remedy="name the folder of your data"))
    try:
        own = _of_folder(given)
        if own and not _holds_tasks(given):
            return Places(given, (own,))
        return _of_folders(given)
    except (OSError, ValueError) as error:
        raise Misuse(Problem("", str(error))) from error


def _of_file(file: Path) -> Places:
    if format_of(file) not in READERS:
        rule = f"is no file of rows: there are {', '.join(f'.{ending}' for ending in READERS)}"
        raise Misuse(Problem(str(file), rule))
    stem = stem_of(file)
    if stem.lower() in {name for names in CALLED.values() for name in names}:
        return places_in(file.parent)
    used = FolderFiles(file.parent).files("train")
    if used:
        rule = f"lies beside {used[0].name}, which would be read in its place"
        raise Misuse(Problem(str(file), rule, remedy="put it into a folder of its own"))
    return Places(file.parent, (Place(task_name(stem), file.parent, ".", {"train": stem}),))


def _of_folder(folder: Path) -> Place | None:
    """A folder as one task; None: its files are not called as splits."""
    if not FolderFiles(folder).files("train"):
        return None
    return Place(task_name(folder.resolve().name), folder, ".")


def _holds_tasks(folder: Path) -> bool:
    """Whether what looks like folders of classes are folders of tasks: their files are called as splits."""
    of_train = FolderFiles(folder).files("train")
    return all(path.is_dir() and path.parent == folder and FolderFiles(path).files("train") for path in of_train)


def _of_folders(data: Path) -> Places:
    """A task per folder that holds files of rows, and per file that lies beside them."""
    own, known = [], []
    for folder in sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if (name := _known_name(folder)) is not None:
            known.append(name)
        elif place := _place(folder):
            own.append(place)
    tables = [path for path in sorted(data.iterdir()) if _is_table(path)]
    own += [Place(task_name(stem_of(path)), data, ".", {"train": stem_of(path)}) for path in tables]
    if not own and not known:
        there = listed(sorted(path.name for path in data.iterdir()))
        rule = f"holds no task: a folder per task with train, validation and test as {', '.join(f'.{e}' for e in READERS)}; it holds {there}"
        raise Misuse(Problem(str(data), rule, remedy="name such a folder, the folder of one task, or a file"))
    return Places(data, tuple(own), tuple(known))


def _known_name(folder: Path) -> str | None:
    """The name under which a folder's task is known, by the folder's name."""
    published = {task.original.folder: name for name, task in TASKS.items() if task.original and task.original.folder}
    name = published.get(folder.name, folder.name)
    return name if name in TASKS and not name.startswith("demo_") else None


def _place(folder: Path) -> Place | None:
    """A folder's task; None: it holds no rows."""
    name = task_name(folder.name)
    if FolderFiles(folder).files("train"):
        return Place(name, folder, folder.name)
    stems = [stem_of(path) for path in sorted(folder.iterdir()) if _is_table(path)]
    if not stems:
        return None
    if len(stems) == 1:
        return Place(name, folder, folder.name, {"train": stems[0]})
    files = {split: stem for split in SPLITS if (stem := _named_like(split, stems))}
    if "train" in files and len(set(files.values())) == len(stems):
        return Place(name, folder, folder.name, files)
    return Place(name, folder, folder.name, {"train": files.get("train", stems[0])}, tuple(stems))


def _named_like(split: str, stems: list[str]) -> str:
    """The one file whose name has the split as a part; empty: there is none, or several."""
    found = [stem for stem in stems if set(re.split(r"[-_. ]+", stem.lower())) & set(CALLED[split])]
    return found[0] if len(found) == 1 else ""


def _is_table(path: Path) -> bool:
    return path.is_file() and format_of(path) in READERS and not path.name.startswith(".")


def stem_of(path: Path) -> str:
    """A file's name without its ending."""
    return path.name.removesuffix(".gz").rpartition(".")[0]


def task_name(name: str) -> str:
    """A name that a task can have: letters, digits, `.`, `_` and `-`, of which the first is no sign."""
    return re.sub(r"^[^A-Za-z0-9_]+", "", re.sub(r"[^A-Za-z0-9_.-]+", "_", name)) or "task"
