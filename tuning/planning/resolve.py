"""Experiment to plans: tasks located, PLMs identified, and what cannot be done told. Imports no torch and no Ray."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from panda_trainable.config.methods import SOURCELESS, TRAITS
from panda_trainable.config.origin import expanded
from panda_trainable.config.section import shared_settings
from panda_trainable.config.setting import (
    CommonSettings,
    InitSettings,
    Plm,
    PlmSettings,
    PromptForm,
    PromptSettings,
    Setting,
    TrainSettings,
)
from panda_trainable.config.task import TaskSpec, shared_head
from panda_trainable.data.locate import is_here, located
from panda_trainable.pretrained.files import family_version, plm_files, plm_place
from panda_trainable.pretrained.gguf import dequantised
from panda_trainable.pretrained.kinds import kind_in, used_as
from tuning.experiment.experiment import Experiment, sources_of
from tuning.experiment.loading import read
from tuning.experiment.problems import Misuse, Problem, problems_of
from tuning.experiment.storage import library_of
from tuning.planning.imported import given_prompts, imported_task
from tuning.planning.losses import undefined_losses
from tuning.planning.plan import Pair, Plan

OTHER_PLMS = ("teacher_plm", "source_plm")


@dataclass(frozen=True)
class Resolved:
    """What an experiment names, as far as it is there, and what is wrong with it.

    Attributes:
        experiment: its file, checked.
        tasks: name -> task with its rows checked: targets, sources, and what mixtures hold.
        plms: told apart by their labels.
        others: `teacher_plm` and `source_plm`, where a method needs them.
        init: where prompts start, None where nobody says; and the hash of the file that they start from, if any.
        problems: what is missing or wrong.
    """

    experiment: Experiment
    tasks: Mapping[str, TaskSpec]
    plms: tuple[Plm, ...]
    others: Mapping[str, Plm]
    init: tuple[InitSettings | None, str]
    problems: tuple[Problem, ...]

    @property
    def plans(self) -> tuple[Plan, ...]:
        """A plan per PLM, of what is right."""
        return tuple(self._plan(plm) for plm in self.plms)

    def _plan(self, plm: Plm) -> Plan:
        pairs, tasks = _pairs(self.experiment, plm.label if len(self.plms) > 1 else ""), self.tasks_on(plm)
        able = [pair for pair in pairs if _shares_its_head(self.experiment, tasks, pair)]
        left_out = tuple(pair for pair in pairs if pair not in able)
        said, file = self.init
        setting = setting_of(self.experiment, plm, said or usual_init(plm, self.experiment.prompt.form), file)
        given = given_prompts(self.experiment, plm)
        return Plan(self.experiment, setting, tasks, tuple(able), **self.others, left_out=left_out, given=given)

    def tasks_on(self, plm: Plm) -> dict[str, TaskSpec]:
        """Name -> task as a PLM answers it; one that it cannot answer is left out, which is a problem."""
        found = {}
        for name, task in self.tasks.items():
            with suppress(ValueError):
                found[name] = task.on(plm)
        return found


def load_whole(file: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a file; where it is refused, problems of its tasks' files and PLMs are told too.

    Raises:
        Misuse: with all that is wrong.
    """
    experiment, problems = read(file, overrides)
    if experiment and problems:
        problems += resolve(experiment, fetches=False).problems
    if experiment is None or problems:
        raise Misuse(*problems)
    return experiment


def make_plans(experiment: Experiment) -> tuple[Plan, ...]:
    """A plan per PLM.

    Raises:
        Misuse: with all that is missing or wrong.
    """
    resolved = resolve(experiment)
    if resolved.problems:
        raise Misuse(*resolved.problems)
    return resolved.plans


def resolve(experiment: Experiment, *, fetches: bool = True) -> Resolved:
    """Locates every task and identifies the PLMs.

    Args:
        experiment: its file, checked; or what is right of it.
        fetches: whether tasks that are not here are fetched from the hub.
    """
    problems: list[Problem] = []
    plms = [plm for section in experiment.plm if (plm := _plm(experiment, section, problems))]
    others = {
        key: plm
        for key in OTHER_PLMS
        if (section := getattr(experiment, key)) and experiment.needs(key)
        if (plm := _plm(experiment, section, problems))
    }
    init = _init(experiment, problems)
    tasks = {}
    for name in experiment.members:
        try:
            tasks[name] = _located(experiment, name, fetches=fetches)
        except ValueError as error:
            problems += problems_of(error)
    resolved = Resolved(experiment, tasks, tuple(_told_apart(plms)), others, init, ())
    broken = [problem for find in CHECKS for problem in find(resolved)]
    return replace(resolved, problems=(*storage_problems(experiment), *problems, *broken))


def storage_problems(experiment: Experiment) -> Iterator[Problem]:
    """Why the storage cannot be written; nothing is made to find out."""
    try:
        path = experiment.storage_path
        folder = next(folder for folder in (path, *path.parents) if folder.exists())
    except (OSError, ValueError) as error:
        yield Problem("storage", f"{experiment.storage!r} is no folder's name ({error})", remedy="name another")
        return
    if not folder.is_dir():
        yield Problem("storage", f"{folder} is no folder", remedy="name another")
    elif experiment.tracking.uri is None and set("?%") & set(str(path)):
        rule = f"the database of MLflow cannot lie in {path}: ? and % mean something else in its address"
        yield Problem("storage", rule, remedy="rename the folder, or give tracking.uri")
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield Problem("storage", f"{folder} cannot be written", remedy="name another folder, or have it opened for you")


def _located(experiment: Experiment, name: str, *, fetches: bool) -> TaskSpec:
    """A task with its rows checked; one that only gives prompts may be known from imported ones."""
    task, data = experiment.task(name), experiment.data_path

    def fetch(hub_task: TaskSpec) -> Path:
        from panda_trainable.origins.hub import fetch_task  # it imports `datasets`, which takes a second

        return fetch_task(hub_task, data, experiment.storage_path / "hub")

    imported = imported_task(experiment.storage_path / "library", task)
    if imported and name not in experiment.targets and not is_here(task, data):
        return imported
    return located(task, data, fetch if fetches else None)


def plms_of(experiment: Experiment) -> tuple[Plm, ...]:
    """The PLMs of an experiment, identified; no task is looked for.

    Raises:
        Misuse: if one is not there.
    """
    problems: list[Problem] = []
    plms = [plm for section in experiment.plm if (plm := _plm(experiment, section, problems))]
    if problems:
        raise Misuse(*problems)
    return tuple(_told_apart(plms))


def _plm(experiment: Experiment, section: PlmSettings, problems: list[Problem]) -> Plm | None:
    """A PLM with its identity; where it is not there, that is added to the problems."""
    try:
        folder = experiment.folder / expanded(section.source)
        is_local = not section.source.startswith("package:") and folder.exists()
        source = str(folder.resolve()) if is_local else section.source
        place, made = plm_place(source), ""
        if place.is_file():
            place = dequantised(place, library_of(experiment))
            made = str(place)
        files = plm_files(place)
        kind, head = used_as(kind_in(place), section.head)
    except OSError as error:
        problems.append(
            Problem(
                f"PLM {section.source!r}", error.strerror or str(error), remedy="check the path and its permissions"
            )
        )
        return None
    except ValueError as error:
        problems += problems_of(error)
        return None
    reads = section.pooling if kind == "encoder" else "answer"
    settings = {**shared_settings(PlmSettings, section), "source": source, "head": head, "pooling": reads}
    return Plm(**settings, files=files, folder=made, family_version=family_version(place), kind=kind)


def _unnamed(plm: Plm) -> Plm:
    """What a PLM is, wherever its files lie and whatever it is called."""
    return replace(plm, source="", note="", folder="")


def _told_apart(plms: Sequence[Plm]) -> list[Plm]:
    """PLMs whose names differ: where two have one name, with their pooling and positions behind it."""
    labels = [plm.label for plm in plms]
    return [
        replace(plm, note=f"{plm.pooling}, {plm.positions}") if labels.count(plm.label) > 1 else plm for plm in plms
    ]


def usual_init(plm: Plm, form: PromptForm) -> InitSettings:
    """Where prompts start where nobody says: an input prompt of a PLM whose own head answers from words of its vocabulary.

    Nothing but the prompt is trained there, so that its start matters as much as its rate. The PLM is that of the
    plan; prompts on a larger PLM, or on the one that prompts are projected from, start the same.
    """
    return InitSettings("vocabulary" if plm.has_own_head and form == "input" else "normal").as_read


def _init(experiment: Experiment, problems: list[Problem]) -> tuple[InitSettings | None, str]:
    """Where the file says that prompts start, and the hash of the file that they start from, if any.

    It is the usual start where the file cannot be read, which is a problem.
    """
    init = experiment.prompt.init and experiment.prompt.init.as_read
    if init is None or init.kind != "file":
        return init, ""
    try:
        path = experiment.folder / expanded(init.file)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:20]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        problems.append(
            Problem(f"prompt.init.file {init.file!r}", f"cannot be read ({reason})", remedy="name a .safetensors file")
        )
        return None, ""
    return replace(init, file=str(path.absolute())), digest


def _repeated_plms(resolved: Resolved) -> Iterator[Problem]:
    if len({_unnamed(plm) for plm in resolved.plms}) < len(resolved.plms):
        yield Problem(
            "plm", "each PLM once, but two of the list are the same files, read the same way", remedy="remove one"
        )
    for plm in resolved.plms:
        for key, other in resolved.others.items():
            if _unnamed(other) == _unnamed(plm):
                yield Problem("plm", f"{plm.label} is its own {key}", remedy="name another")


def _undefined_losses(resolved: Resolved) -> Iterator[Problem]:
    answered = [resolved.tasks_on(plm) for plm in resolved.plms] or [dict(resolved.tasks)]
    targets = {(n, tasks[n].kind): tasks[n] for tasks in answered for n in resolved.experiment.targets if n in tasks}
    return undefined_losses(resolved.experiment, list(targets.values()))


def _starts_without_class_names(resolved: Resolved) -> Iterator[Problem]:
    if resolved.init[0] and resolved.init[0].kind == "labels":
        for task in resolved.tasks.values():
            if not task.classes:
                yield Problem(
                    "prompt.init", f"labels starts from class names, and {task.name} has none", remedy="use another"
                )


def _heads_of_nobody(resolved: Resolved) -> Iterator[Problem]:
    """Methods that take over a source's head, where no source has the classes of a target."""
    experiment = resolved.experiment
    taking = [method for method in experiment.methods if TRAITS[method].shares_head]
    answered = [resolved.tasks_on(plm) for plm in resolved.plms] or [dict(resolved.tasks)]
    for method in taking if set(experiment.members) <= set(resolved.tasks) else ():
        pairs = [pair for pair in _pairs(experiment, "") if pair.method == method]
        if not any(_shares_its_head(experiment, tasks, pair) for tasks in answered for pair in pairs):
            rule = f"{method} takes over a source's head, and no source has the classes of a target"
            yield Problem("methods", rule, remedy=f"leave {method} out")


def _projectors_of_nothing(resolved: Resolved) -> Iterator[Problem]:
    """Projectors whose only tasks are their targets, of which they must not know."""
    experiment = resolved.experiment
    for method in experiment.projecting:
        alone = [name for name in experiment.targets if not set(experiment.projected) - {name}]
        if alone:
            rule = f"no source is left to train a projector for {', '.join(alone)}"
            yield Problem(method, rule, remedy="add sources or projector.tasks")


def _rows_that_were_not_imported(resolved: Resolved) -> Iterator[Problem]:
    """Where tasks of which there are imported prompts alone would be trained on."""
    experiment = resolved.experiment
    absent = [name for name, task in resolved.tasks.items() if not task.origin.has_rows]
    mixed = {member for name in experiment.sources for member in experiment.mixtures.get(name, [])}
    given = {*experiment.imported} & {*experiment.sources}
    absent += sorted(given)
    readers = {f"mixtures of {name}": {name} & mixed for name in absent}
    readers |= {method: {*experiment.members, *given} for method in experiment.methods if TRAITS[method].mixes}
    readers |= {method: set(experiment.projected) for method in experiment.projecting}
    for reader, names in readers.items():
        if gone := [name for name in absent if name in names]:
            rule = f"trains on rows of {', '.join(gone)}, of which prompts were imported but no data is here"
            yield Problem(reader, rule, remedy="bring it")


def _prompts_not_imported(resolved: Resolved) -> Iterator[Problem]:
    """Imported prompts that are not in the library, or there for other PLMs alone."""
    experiment = resolved.experiment
    for plm in resolved.plms:
        there = given_prompts(experiment, plm)
        for name in experiment.imported:
            if name in experiment.sources and name not in there:
                rule = f"no prompt of that name was imported for {plm.label} into {experiment.storage_path}"
                yield Problem(f"imported {name}", rule, remedy=f"panda-tune library import FILE PROMPT --name {name}")


def _tasks_not_answered(resolved: Resolved) -> Iterator[Problem]:
    """Tasks that a PLM with its own head cannot be asked, since of their kind or since nobody says how."""
    experiment = resolved.experiment
    asked = {plm: list(resolved.tasks) for plm in resolved.plms}
    asked |= {plm: [*experiment.targets] for key, plm in resolved.others.items() if key == "teacher_plm"}
    projected = experiment.projected if experiment.projecting else []
    asked |= {plm: [*experiment.targets, *projected] for key, plm in resolved.others.items() if key == "source_plm"}
    for plm, names in asked.items():
        for name in dict.fromkeys(names):
            try:
                _ = resolved.tasks[name].on(plm) if name in resolved.tasks else None
            except ValueError as error:
                yield from problems_of(error)


def _heads_to_train(resolved: Resolved) -> Iterator[Problem]:
    """Methods that train a head alone where a language model's own head answers, or that need such a head."""
    methods = resolved.experiment.methods
    trained = [method for method in methods if TRAITS[method].trains == "head"]
    asked = [method for method in methods if TRAITS[method].asked]
    for plm in resolved.plms:
        if trained and plm.has_own_head:
            rule = f"{', '.join(trained)} trains a head alone, and {plm.label} answers with its own"
            yield Problem("methods", rule, remedy="leave it out, or use plm.head: linear")
        if asked and not plm.has_own_head:
            rule = f"{', '.join(asked)} needs a language model that answers with its own head, and {plm.label} does not"
            yield Problem("methods", rule, remedy="leave it out, or use plm.head: lm")


def _forms_not_taken(resolved: Resolved) -> Iterator[Problem]:
    """Methods that take no prompts of the experiment's form."""
    form = resolved.experiment.prompt.form
    for method in resolved.experiment.methods:
        if form not in (forms := TRAITS[method].forms):
            rule = f"{method} takes prompts of form {', '.join(forms)} alone, got {form}"
            yield Problem("prompt.form", rule, remedy=f"use prompt.form: {forms[0]}, or leave {method} out")


CHECKS: tuple[Callable[[Resolved], Iterator[Problem]], ...] = (
    _undefined_losses, _starts_without_class_names, _heads_of_nobody, _projectors_of_nothing,
    _rows_that_were_not_imported, _prompts_not_imported, _repeated_plms,
    _tasks_not_answered, _heads_to_train, _forms_not_taken,
)  # fmt: skip
"""What of an experiment cannot be done with the tasks and PLMs that it names, without reading a row or a weight."""


def _shares_its_head(experiment: Experiment, tasks: Mapping[str, TaskSpec], pair: Pair) -> bool:
    """Whether a pair's method finds the head it takes over; true for those that take none."""
    if pair.source in experiment.imported:  # a prompt without a head
        return not TRAITS[pair.method].shares_head or pair.target not in tasks or tasks[pair.target].asked is not None
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
        "prompt": PromptSettings(**shared_settings(PromptSettings, experiment.prompt) | {"init": init}),
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
