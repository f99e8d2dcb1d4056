"""new: the text of a first experiment file for a folder of data."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from panda_trainable.config.kinds import OWN_HEAD
from panda_trainable.data.task_table import TASKS
from panda_trainable.origins.lines import listed
from tuning.draft.fitting import fitted
from tuning.draft.places import Place, places_in
from tuning.draft.plms import SMOLLM_ON_HUB, PlmDraft, hub_is_near, plm_draft
from tuning.draft.presets import STANDARD, UNMEASURED, Keys, PresetName, Size, keys_of, published
from tuning.draft.tasks import draft, known_draft
from tuning.draft.values import Guess, TaskDraft
from tuning.draft.writing import comments, line, task_lines
from tuning.experiment.names import MOST
from tuning.experiment.problems import Misuse, Problem, near, problems_of
from tuning.experiment.questions import OPEN

PUBLIC: Mapping[tuple[str, int], tuple[str, ...]] = MappingProxyType(
    {
        ("classification", 1): ("sst2", "ag_news", "tweet_sentiment"),
        ("classification", 2): ("mnli", "qnli", "qqp"),
        ("regression", 1): ("sst2", "stsb"),
        ("regression", 2): ("stsb", "mnli"),
        ("tagging", 1): ("conll03",),
        ("extractive_qa", 2): ("squad",),
        ("multiple_choice", 1): ("copa", "mnli"),
        ("multiple_choice", 0): ("copa",),
        ("generation", 1): ("squad",),
        ("generation", 2): ("squad",),
    }
)
"""(kind, texts) of a target -> tasks known by name that are like it: sentiment and topics of single texts, inference of pairs."""

METHODS = ("spot", "panda")


@dataclass(frozen=True)
class Draft:
    """What goes into the file.

    Attributes:
        name: of the experiment.
        data: the `data` folder, as the file names it.
        tasks: those of the folder that can be used, own and known.
        broken: those that cannot.
        targets: names.
        sources: names that are taken.
        offered: names of tasks of the hub that are not taken, since it is far.
        plm: proposed.
        preset: of sizes.
        folder: of the file.
    """

    name: str
    data: str
    tasks: tuple[TaskDraft, ...]
    broken: tuple[TaskDraft, ...]
    targets: tuple[str, ...]
    sources: tuple[str, ...]
    offered: tuple[str, ...]
    plm: PlmDraft
    preset: PresetName
    folder: Path

    @property
    def target(self) -> TaskDraft:
        """The task to be good at."""
        return next(task for task in self.tasks if task.name in self.targets)

    @property
    def used(self) -> tuple[TaskDraft, ...]:
        """Tasks of the folder that the search reads."""
        return tuple(task for task in self.tasks if task.name in (*self.targets, *self.sources))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of all tasks that the search reads."""
        return tuple(
            dict.fromkeys([*(t.kind for t in self.used), *(TASKS[n].kind for n in self.sources if n in TASKS)])
        )

    @property
    def plm_settings(self) -> dict[str, str]:
        """`plm` of the file."""
        return self.plm.settings(self.kinds)

    def values(self, size: Size) -> dict[str, Any]:
        """The experiment as the file has it, at a size, but for its own tasks that are not used."""
        keys = self.keys(size)
        own = {task.name: _section(task.guesses) for task in self.used if not task.is_known}
        return {
            "name": self.name, "plm": self.plm_settings, "data": self.data, "tasks": own, "targets": list(self.targets),
            "sources": list(self.sources), "methods": list(METHODS) if self.sources else [], **self.prompt,
            **{key: value for key, (value, _) in keys.items() if key},
        }  # fmt: skip

    @property
    def prompt(self) -> dict[str, Any]:
        """`prompt` of the file, where it is not the usual one."""
        return {"prompt": {"form": "input", "length": 20}} if self.plm.asks(self.kinds) else {}

    def keys(self, size: Size) -> Keys:
        """The keys of a size."""
        words = max((task.words for task in self.used), default=0)
        rows = min((task.rows for task in self.used), default=0)
        return keys_of(size, self.preset, words=words, rows=rows)


def new(
    given: Path, folder: Path, *, target: str | None = None, plm: str | None = None, preset: PresetName = "standard",
    online: bool | None = None,
) -> str:  # fmt: skip
    """The text of an experiment file; what cannot be guessed stands there as `???` with a question.

    Args:
        given: the `data` folder, the folder of one task, or a file of rows.
        folder: where the file will lie, to which its paths are relative.
        target: the task to be good at; None: the smallest of one's own.
        plm: None: one that is installed, or else a small one of the hub.
        preset: how much is trained.
        online: whether tasks may be fetched from the hub; None: where its name can be resolved. Nothing is fetched here.

    Raises:
        Misuse: if there is no task that could be used, or no such target.
    """
    drafted = _drafted(given, folder, target, plm, preset, online=hub_is_near() if online is None else online)
    size = _size(drafted)
    return "\n".join([*_head(drafted), *_tasks(drafted), *_roles(drafted), *_sizes(drafted, size), ""])


def _drafted(
    given: Path, folder: Path, target: str | None, plm: str | None, preset: PresetName, *, online: bool
) -> Draft:
    places = places_in(given)
    known = [found for name in places.known if (found := known_draft(name, places.data))]
    others = [name for name in places.known if name not in {task.name for task in known}]
    own = [
        draft(place, places.data)
        for place in (*places.own, *(Place(name, places.data / name, name) for name in others))
    ]
    usable = tuple(task for task in (*own, *known) if not task.problem)
    broken = tuple(task for task in own if task.problem)
    if not usable:
        raise Misuse(*(problem for task in broken for problem in problems_of(ValueError(task.problem))))
    names = [task.name for task in usable]
    if target is not None and target not in names:
        if why := next((task.problem for task in broken if task.name == target), ""):
            raise Misuse(*problems_of(ValueError(why)))
        rule = f"is no task of {given}{near(target, names)}"
        raise Misuse(Problem(f"--target {target}", rule, remedy=f"there are {', '.join(names)}"))
    own_first = [task for task in usable if not task.is_known] or list(usable)
    aimed = next((task for task in usable if task.name == target), None) or min(own_first, key=lambda task: task.rows)
    proposed = plm_draft(plm, folder, writes=aimed.kind == "generation")
    here = [task.name for task in usable if task.name != aimed.name and _goes_with(task.kind, aimed.kind, proposed)]
    public = [name for name in PUBLIC.get((aimed.kind, aimed.texts), ()) if name not in names]
    data = os.path.relpath(places.data.resolve(), folder.resolve())
    return Draft(
        _title(places.data, usable), data, usable, broken, (aimed.name,), (*here, *(public if online else ())),
        () if online else tuple(public), proposed, preset, folder,
    )  # fmt: skip


def _goes_with(kind: str, target: str, plm: PlmDraft) -> bool:
    """Whether a task may be a source: what writes its answers is no encoder."""
    if plm.asks((target,)):
        return kind in OWN_HEAD
    return kind != "generation"


def _title(data: Path, tasks: Sequence[TaskDraft]) -> str:
    name = tasks[0].name if len(tasks) == 1 else data.resolve().name
    said = "".join(sign for sign in name if sign.isprintable()).strip()[:MOST]
    return said or "experiment"


def _size(drafted: Draft) -> Size:
    """How much is trained: of a small search as much as ends in time."""
    if drafted.preset == "paper":
        return published(drafted.target.rows)
    if drafted.preset == "standard":
        return STANDARD
    if drafted.target.is_open or drafted.plm.place is None:
        what = "the target is not known yet" if drafted.target.is_open else "the plm is not on this machine"
        why = f"no step could be measured, since {what}: few steps and trials; --dry-run says how long it takes"
        return replace(UNMEASURED, why=why)
    return fitted(drafted.values, drafted.folder, drafted.plm.place)


def _head(drafted: Draft) -> Iterator[str]:
    yield from comments(
        "Written by panda-tune new: each guess has its reason behind it. All keys: docs/experiment-file.md."
    )
    if any(task.is_open for task in drafted.tasks):
        yield from comments(f"{OPEN} stands where only you can say it: the search does not start before.")
    yield from line("name", drafted.name)
    yield from line("plm", drafted.plm_settings, drafted.plm.reason)
    other = {"from": SMOLLM_ON_HUB} if not drafted.plm.asks(drafted.kinds) else None
    if other and all(kind in OWN_HEAD for kind in drafted.kinds):
        yield from (f"# {each}" for each in line("plm", other, "or a causal language model, which is asked in words"))
    yield from (each for key, value in drafted.prompt.items() for each in line(key, value, "of a language model"))
    flat = any(guess.value == "." for task in drafted.tasks if (guess := task.guesses.get("path")))
    yield from line("data", drafted.data, "holds the files" if flat else "holds a folder per task")


def _tasks(drafted: Draft) -> Iterator[str]:
    own = [task for task in drafted.tasks if not task.is_known]
    known = [task.name for task in drafted.tasks if task.is_known]
    yield ""
    if known:
        yield from comments(f"Known by name, and here: {', '.join(known)}.")
    if own:
        yield "tasks:"
    for task in own:
        yield from task_lines(task)
    for task in drafted.broken:
        yield from comments(f"{task.name} is left out: {task.problem}", 1)


def _roles(drafted: Draft) -> Iterator[str]:
    names = [task.name for task in drafted.tasks]
    others = [name for name in names if name not in drafted.targets]
    target = drafted.target
    why = f"the task to be good at: {target.rows:,} train rows" + (f"; or one of {listed(others)}" if others else "")
    yield ""
    yield from line("targets", list(drafted.targets), why)
    fetched = [name for name in drafted.sources if name not in names]
    told = f"{', '.join(fetched)}: like {target.name} ({target.kind}), and fetched from the hub" if fetched else ""
    yield from line("sources", list(drafted.sources), told or "tasks whose prompts may help")
    if drafted.offered:
        offered = line("sources", [*drafted.sources, *drafted.offered])[0]
        yield f"# {offered}  # like {target.name} ({target.kind}); fetched from the hub, which this machine does not see"
    without = (
        "" if drafted.sources else f"{', '.join(METHODS)} need sources; without them the baseline alone is searched"
    )
    yield from line(
        "methods", list(METHODS) if drafted.sources else [], without or "beside the baseline, prompt_tuning"
    )


def _sizes(drafted: Draft, size: Size) -> Iterator[str]:
    yield ""
    for key, (value, comment) in drafted.keys(size).items():
        yield from line(key, value, comment) if key else comments(comment)


def _section(guesses: Mapping[str, Guess]) -> dict[str, Any]:
    """A task as the file has it."""
    section: dict[str, Any] = {}
    for key, guess in guesses.items():
        outer, dot, inner = key.partition(".")
        if dot:
            section.setdefault(outer, {})[inner] = guess.value
        else:
            section[key] = guess.value
    return section
