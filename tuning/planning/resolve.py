"""Experiment to plans: tasks located, PLMs identified, and what cannot be done refused. Imports no torch and no Ray."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from panda_trainable.config.methods import SOURCELESS, TRAITS
from panda_trainable.config.section import shared_settings
from panda_trainable.config.setting import CommonSettings, InitSettings, Plm, PlmSettings, Setting, TrainSettings
from panda_trainable.config.task import TaskSpec, shared_head
from panda_trainable.data.rows import is_here, located
from panda_trainable.plm.files import plm_files, plm_folder
from tuning.experiment.experiment import Experiment, sources_of
from tuning.experiment.loading import load
from tuning.experiment.problems import Misuse
from tuning.planning.imported import imported_task
from tuning.planning.losses import undefined_losses
from tuning.planning.plan import Pair, Plan


def load_whole(file: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a file; where it is refused, problems of its tasks' files and PLM are told too.

    Raises:
        Misuse: with all that is wrong.
    """
    try:
        return load(file, overrides)
    except Misuse as refused:
        try:
            if refused.partial:
                make_plans(refused.partial, fetches=False, doubtful=refused.doubtful)
        except Misuse as more:
            told = [line for line in str(more).splitlines() if line not in str(refused)]
            raise Misuse("\n".join([str(refused), *told])) from None
        raise


def make_plans(
    experiment: Experiment, *, fetches: bool = True, doubtful: frozenset[str] = frozenset()
) -> tuple[Plan, ...]:
    """Locates every task, identifies the PLMs, and lists the pairs: a plan per PLM.

    Args:
        experiment: its file, checked.
        fetches: whether tasks that are not here are fetched from the hub.
        doubtful: keys of the file that are wrong: what hangs on them is not looked for.

    Raises:
        Misuse: with all that is missing or wrong.
    """
    problems = [] if "storage" in doubtful else storage_problems(experiment)
    sections = [] if "plm" in doubtful else experiment.plm
    plms = [plm for section in sections if (plm := _found_plm(experiment, section, problems))]
    others = {
        key: _found_plm(experiment, getattr(experiment, key), problems)
        for key in ("teacher_plm", "source_plm")
        if experiment.needs(key) and key not in doubtful and getattr(experiment, key)
    }
    init = _found_init(experiment, problems)
    tasks = {}
    for name in experiment.members if "data" not in doubtful else ():
        try:
            tasks[name] = _located(experiment, name, fetches=fetches)
        except ValueError as error:
            problems.append(str(error))
    problems += [*_unfit(experiment, tasks), *_without_rows(experiment, tasks)]
    if len({_unnamed(plm) for plm in plms}) < len(plms):
        problems.append("plm: each PLM once, but two of the list are the same files, read the same way")
    plans = []
    for plm in _told_apart(plms):
        setting = setting_of(experiment, plm, *init)
        pairs = tuple(_pairs(experiment, plm.label if len(plms) > 1 else ""))
        able = [pair for pair in pairs if _shares_its_head(experiment, tasks, pair)]
        left_out = tuple(pair for pair in pairs if pair not in able)
        problems += [
            f"plm: {plm.label} is its own {key}; name another"
            for key, other in others.items()
            if other and _unnamed(other) == _unnamed(plm)
        ]
        plans.append(Plan(experiment, setting, tasks, tuple(able), **others, left_out=left_out))
    if problems:
        refused = Misuse("\n".join(problems))
        refused.plans = tuple(plans)
        raise refused
    return tuple(plans)


def storage_problems(experiment: Experiment) -> list[str]:
    """Why the storage cannot be written; nothing is made to find out."""
    try:
        path = experiment.storage_path
        there = next(folder for folder in (path, *path.parents) if folder.exists())
    except (OSError, ValueError) as error:
        return [f"storage: {experiment.storage!r} is no folder's name ({error}); name another"]
    if not there.is_dir():
        return [f"storage: {there} is no folder; name another"]
    if not os.access(there, os.W_OK | os.X_OK):
        return [f"storage: {there} cannot be written; name another folder, or have it opened for you"]
    return []


def _located(experiment: Experiment, name: str, *, fetches: bool) -> TaskSpec:
    """A task with its rows checked; one that only gives prompts may be known from imported ones."""
    task, data = experiment.task(name), experiment.data_path

    def fetch(hub_task: TaskSpec) -> Path:
        from panda_trainable.data.hub import fetched  # it imports `datasets`, which takes a second

        return fetched(hub_task, data, experiment.storage_path / "hub")

    imported = imported_task(experiment.storage_path / "library", task)
    if imported and name not in experiment.targets and not is_here(task, data):
        return imported
    return located(task, data, fetch if fetches else None)


def _found_plm(experiment: Experiment, section: PlmSettings, problems: list[str]) -> Plm | None:
    folder = experiment.folder / section.source
    try:
        here = not section.source.startswith("package:") and folder.is_dir()
        source = str(folder.resolve()) if here else section.source
        files = plm_files(plm_folder(source))
    except (OSError, ValueError) as error:
        problems.append(str(error) if isinstance(error, ValueError) else f"PLM {section.source!r}: {error.strerror}")
        return None
    return Plm(**{**shared_settings(PlmSettings, section), "source": source}, files=files)


def _unnamed(plm: Plm) -> Plm:
    """What a PLM is, wherever its files lie and whatever it is called."""
    return replace(plm, source="", note="")


def _told_apart(plms: Sequence[Plm]) -> list[Plm]:
    """PLMs whose names differ: where two have one name, with their pooling and positions behind it."""
    labels = [plm.label for plm in plms]
    return [
        replace(plm, note=f"{plm.pooling}, {plm.positions}") if labels.count(plm.label) > 1 else plm for plm in plms
    ]


def _found_init(experiment: Experiment, problems: list[str]) -> tuple[InitSettings, str]:
    """Where prompts start, as far as it is read, and the hash of the file that they start from, if any."""
    asked = experiment.prompt.init.as_read
    if asked.kind != "file":
        return asked, ""
    path = experiment.folder / asked.file
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:20]
    except (OSError, ValueError) as error:
        problems.append(
            f"prompt.init.file {asked.file!r}: cannot be read ({getattr(error, 'strerror', None) or error})"
        )
        digest = ""
    return replace(asked, file=str(path.absolute())), digest


def _unfit(experiment: Experiment, tasks: Mapping[str, TaskSpec]) -> Iterator[str]:
    """Why tasks cannot do what the experiment asks of them."""
    yield from undefined_losses(experiment, [tasks[name] for name in experiment.targets if name in tasks])
    if experiment.prompt.init.kind == "labels":
        bare = [task.name for task in tasks.values() if not task.classes]
        yield from (f"prompt.init: labels starts from class names, and {name} has none" for name in bare)
    for method in experiment.methods:
        if TRAITS[method].shares_head and set(experiment.members) <= set(tasks):
            pairs = [pair for pair in _pairs(experiment, "") if pair.method == method]
            if not any(_shares_its_head(experiment, tasks, pair) for pair in pairs):
                yield f"{method} takes over a source's head, and no source has the classes of a target; leave {method} out"
        alone = [
            name
            for name in experiment.targets
            if TRAITS[method].another == "source_plm" and not _others(experiment, name)
        ]
        if alone:
            yield f"{method}: no source is left to train a projector for {', '.join(alone)}; add sources or projector.tasks"


def _without_rows(experiment: Experiment, tasks: Mapping[str, TaskSpec]) -> Iterator[str]:
    """Where tasks of which there are imported prompts alone would be trained on."""
    absent = [name for name, task in tasks.items() if not task.origin.has_rows]
    mixed = {member for name in experiment.sources for member in experiment.mixtures.get(name, [])}
    readers = {f"mixtures of {name}": {name} & mixed for name in absent}
    readers |= {m: set(experiment.members) for m in experiment.methods if TRAITS[m].mixes}
    readers |= {method: set(experiment.projected) for method in experiment.needs("source_plm")}
    for reader, names in readers.items():
        if gone := [name for name in absent if name in names]:
            yield f"{reader}: trains on rows of {', '.join(gone)}, of which prompts were imported but no data is here; bring it"


def _others(experiment: Experiment, target: str) -> list[str]:
    """The tasks that train the projector of a target: it must not have seen it."""
    return [name for name in experiment.projected if name != target]


def _shares_its_head(experiment: Experiment, tasks: Mapping[str, TaskSpec], pair: Pair) -> bool:
    """Whether a pair's method finds the head it takes over; true for those that take none."""
    members = experiment.mixtures.get(pair.source or "", [pair.source])
    if not TRAITS[pair.method].shares_head or pair.source is None or not {*members, pair.target} <= set(tasks):
        return True
    return shared_head(experiment.source(pair.source, tasks), tasks[pair.target]) is not None


def setting_of(experiment: Experiment, plm: Plm, init: InitSettings, init_file: str = "") -> Setting:
    """What all trials of the experiment on a PLM share."""
    shots = experiment.shots
    few = {of: shots.per_class if shots and shots.of in (of, "both") else 0 for of in ("targets", "sources")}
    common = shared_settings(CommonSettings, experiment)
    common |= {
        "prompt": replace(experiment.prompt, init=init),
        "train": TrainSettings(**shared_settings(TrainSettings, experiment.train)),
    }
    return Setting(plm, few["targets"], few["sources"], init_file, **common)


def _pairs(experiment: Experiment, plm: str) -> list[Pair]:
    pairs = []
    for target in experiment.targets:
        for method in experiment.all_methods:
            sources = [None] if method in SOURCELESS else sources_of(experiment, target)
            pairs += [Pair(target, source, method, plm) for source in sources]
    return pairs
