"""Tasks drafted: their rows looked at, what they are guessed, and the guess tried on all rows. Imports no torch."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from panda_trainable.config.kinds import tag_schemes
from panda_trainable.config.origin import Reading
from panda_trainable.config.task import Original, TaskSpec
from panda_trainable.config.task_section import TaskSection
from panda_trainable.data.classes import RARE
from panda_trainable.data.locate import located
from panda_trainable.data.rows import IMBALANCED
from panda_trainable.data.task_table import TASKS
from panda_trainable.origins.folder import format_of
from panda_trainable.origins.lines import listed
from panda_trainable.origins.tables import looks_like_row
from tuning.draft.columns import ENDS, Column, columns_of
from tuning.draft.kinds import recognised
from tuning.draft.places import Place
from tuning.draft.values import Guess, TaskDraft
from tuning.experiment.questions import OPEN

LOOKED_AT = 20_000
"""Train rows from which a task is guessed; all are read when the guess is tried."""

SHOWN_CLASSES = 20
"""Classes that are written out."""

TABLES = ("csv", "tsv", "txt")


def known_draft(name: str, data: Path) -> TaskDraft | None:
    """A task that is known by name; None: its files here are others."""
    try:
        task = located(TASKS[name], data)
    except ValueError:
        return None
    rows = _rows(task) or sum(isinstance(row, dict) for _, row in task.origin.rows("train"))
    return TaskDraft(name, task.kind, len(task.text), rows, _words(task), told=f"known by name: {task.kind}")


def draft(place: Place, data: Path) -> TaskDraft:
    """A task of one's own, as far as it can be guessed."""
    reading = Reading(words=_is_word_per_line(place))
    rows, problems = _looked_at(place, reading)
    if not rows:
        return TaskDraft(place.name, problem=problems[0] if problems else f"{place.folder}: its train file has no rows")
    guesses: dict[str, Guess] = {}
    if heads := _header_asked(place, rows):
        guesses["columns"] = heads
        names = tuple(f"column{number}" for number in range(1, len(rows[0]) + 1))
        rows, _ = _looked_at(place, Reading(columns=names))
    columns = columns_of(rows)
    found = recognised(columns)
    if "columns" in guesses:
        guesses["columns"], found = _columns_asked(list(columns.values()), found)
    guesses = {**_place_guesses(place), **found, **guesses}
    if (ids := columns.get("id")) and len(ids.values) != ids.distinct:
        guesses["id"] = Guess("", "id repeats, so it does not tell rows apart")
    drafted = TaskDraft(place.name, found["kind"].value, _texts(found), len(rows), _length(columns, found), guesses)
    return drafted if drafted.is_open else _tried(drafted, data)


def _texts(found: Mapping[str, Guess]) -> int:
    text = found["text"].value
    return len(text) if isinstance(text, list) else 1


def _length(columns: Mapping[str, Column], found: Mapping[str, Guess]) -> int:
    """Words of the texts together, but for the longest twentieth."""
    text = found["text"].value
    names = text if isinstance(text, list) else [text]
    values = zip(*(columns[name].values for name in names if name in columns), strict=False)
    return _most(sum(len(each.split()) if isinstance(each, str) else len(each) for each in row) for row in values)


def _most(lengths: Iterable[int]) -> int:
    found = sorted(lengths)
    return found[min(int(ENDS * len(found)), len(found) - 1)] if found else 0


def _looked_at(place: Place, reading: Reading) -> tuple[list[dict[str, Any]], list[str]]:
    """The first train rows, and what could not be read of them."""
    try:
        found = list(islice(place.origin(reading).rows("train"), LOOKED_AT))
    except (OSError, ValueError) as error:
        return [], [str(error)]
    problems = [f"{at}: {row}" for at, row in found if isinstance(row, str)]
    return [row for _, row in found if isinstance(row, dict)], problems


def _is_word_per_line(place: Place) -> bool:
    """Whether `.txt` files hold a word per line and its tag, and no table."""
    files = place.origin(Reading()).files("train")
    if not files or format_of(files[0]) != "txt" or files[0].parent != place.folder:
        return False
    rows, problems = _looked_at(place, Reading(words=True))
    tags = {tag for row in rows for tag in row["tags"]}
    return (
        bool(rows)
        and not problems
        and bool(tag_schemes(sorted(tags)))
        and len(rows) < sum(len(row["tags"]) for row in rows)
    )


def _header_asked(place: Place, rows: list[dict[str, Any]]) -> Guess | None:
    """The question of what columns are called, where the first line seems to be a row."""
    files = place.origin(Reading()).files("train")
    if not files or format_of(files[0]) not in TABLES or files[0].is_dir():
        return None
    repeated = [name for name in rows[0] if Counter(str(row.get(name)) for row in rows)[name] > 1]
    return Guess(OPEN) if looks_like_row(rows[0]) or repeated else None


def _columns_asked(columns: list[Column], found: Mapping[str, Guess]) -> tuple[Guess, dict[str, Guess]]:
    """The question of what columns are called, with a proposal; and the task in the words of the proposal."""
    text, label = found["text"].value, found["label"].value
    texts = text if isinstance(text, list) else [text]
    called = {name: "text" if len(texts) == 1 else f"text{number}" for number, name in enumerate(texts, 1)}
    called |= {label: "label"}
    names = [called.get(column.name, "''") for column in columns]
    shown = ", ".join(column.told.partition(" ")[2] for column in columns)
    said = f"the first line seems to be a row: name {len(columns)} columns, such as [{', '.join(names)}]; they hold {shown}"
    renamed = {
        **found,
        "text": Guess([called[name] for name in texts] if len(texts) > 1 else "text", "as `columns` calls it"),
        "label": Guess("label", "as `columns` calls it"),
    }
    plain = {
        key: Guess(guess.value, re.sub(r"\bcolumn(\d+)\b", r"column \1", guess.reason))
        for key, guess in renamed.items()
    }
    return Guess(OPEN, said), plain


def _place_guesses(place: Place) -> dict[str, Guess]:
    """Where the files are, and which is which."""
    found = {}
    if place.path != place.name:
        found["path"] = Guess(place.path, "inside `data`")
    if place.asked:
        question = f"which file is which split? write {{train: {place.asked[0]}}}, and validation or test; there are: {listed(place.asked)}"
        found["original.files"] = Guess(OPEN, question)
    elif place.files:
        found["original.files"] = Guess(dict(place.files), "split: its file, without ending")
    return found


def _tried(drafted: TaskDraft, data: Path) -> TaskDraft:
    """A draft with what reading all its rows has found."""
    guesses = dict(drafted.guesses)
    try:
        task = located(_spec(drafted.name, guesses), data)
    except ValueError as error:
        try:
            guesses["rare_classes"] = Guess("drop", "some classes have fewer than two train rows; or other, or refuse")
            task = located(_spec(drafted.name, guesses), data)
        except ValueError:
            return TaskDraft(drafted.name, problem=str(error))
    if drafted.kind == "classification" and not guesses.get("rare_classes") and _rare(task):
        guesses["rare_classes"] = Guess(
            "drop", f"{listed(_rare(task))}: fewer than two train rows; or other, or refuse"
        )
        try:
            task = located(_spec(drafted.name, guesses), data)
        except ValueError as error:
            return TaskDraft(drafted.name, problem=str(error))
    guesses |= _of_classes(task, dropped="rare_classes" in guesses)
    notes = (note.removeprefix(f"{task.name}: ").replace(f"{data}/", "") for note in task.notes)
    told = "; ".join(note for note in notes if not note.startswith("classes are those"))
    return TaskDraft(
        drafted.name, task.kind, drafted.texts, _rows(task) or drafted.rows, drafted.words, guesses, told=told
    )


def _rare(task: TaskSpec) -> list[str]:
    counts = dict(task.counts).get("train", ())
    return [name for name, count in zip(task.classes, counts, strict=False) if count < RARE]


def _of_classes(task: TaskSpec, *, dropped: bool) -> dict[str, Guess]:
    """Classes with their rows, metrics where one class is far larger, and how a language model is asked."""
    found: dict[str, Guess] = {}
    if task.kind != "classification":
        return found
    counts = dict(task.counts)["train"]
    sizes = f"{', '.join(map(str, counts[:SHOWN_CLASSES]))} train rows"
    if len(task.classes) <= SHOWN_CLASSES and not dropped and not any(task.labels.filed):
        found["classes"] = Guess(list(task.classes), sizes)
    if max(counts) >= IMBALANCED * max(min(counts), 1):
        found["metrics"] = Guess(["macro_f1", "accuracy"], f"classes of {max(counts)} and {min(counts)} train rows")
    slots = " ".join(f"{{{name}}}" if "{" not in name else name for name in task.text)
    found["template"] = Guess(f"{slots} This is {{answer}}.", "how a language model is asked; encoders do not read it")
    return found


def _rows(task: TaskSpec) -> int:
    """Train rows; 0 where they are not counted by classes."""
    return sum(dict(task.counts).get("train", ()))


def _words(task: TaskSpec) -> int:
    """Words of a known task's texts, but for the longest twentieth."""
    rows = (row for _, row in islice(task.origin.rows("train"), LOOKED_AT) if isinstance(row, dict))
    fields = task.text_fields
    return _most(sum(len(str(row.get(name, "")).split()) for name in fields) for row in rows)


def _spec(name: str, guesses: Mapping[str, Guess]) -> TaskSpec:
    """The task as its guesses have it.

    Raises:
        ValueError: with all rules that it breaks.
    """
    values: dict[str, Any] = {key: guess.value for key, guess in guesses.items() if "." not in key}
    for key in ("text", "choices"):
        if key in values:
            values[key] = tuple(values[key]) if isinstance(values[key], list) else (values[key],)
    if files := guesses.get("original.files"):
        values["original"] = Original(files={split: (stem,) for split, stem in files.value.items()})
    return TaskSection(**values).spec(name)
