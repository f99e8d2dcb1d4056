"""Experiment to plan: tasks located, pairs, studies and their keys. Imports no torch and no Ray."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from panda_trainable.config import KNOBS, SOURCELESS, Initial, Plm, Setting, Source, TrialConfig, content_key
from panda_trainable.library import PromptLibrary
from panda_trainable.plm import plm_files, plm_folder
from panda_trainable.rows import located
from panda_trainable.tasks import TaskSpec
from search_spaces.space import Choice, Int, Space
from tuning.experiment import LONGER, Experiment, Misuse, PlmSection, sources_of
from tuning.reading import load
from tuning.sharing import IMPORTED, imported_task

Similarities = Mapping[tuple[str, str], Mapping[str, float]]
"""(source, target) -> similarity name -> value."""


@dataclass(frozen=True)
class Pair:
    """What becomes a study: a target, a method, and its source where the method has one."""

    target: str
    source: str | None
    method: str
    plm: str = ""

    @property
    def name(self) -> str:
        """For people: `rte ← mnli · panda`, with the PLM where there are several."""
        task = f"{self.target} ← {self.source}" if self.source else self.target
        return " · ".join(filter(None, (task, self.method, self.plm)))


@dataclass(frozen=True)
class Study:
    """One search: a pair on a PLM.

    Attributes:
        key: of what decides its numbers; not of names, paths, budgets or confirm settings.
        pair: target, source, method.
        base: the trial that suggestions turn into trials; its sources are the pair's own and all partners.
        space: what is searched.
        budget: trials.
        similarities: of the pair, by name.
        overlap: texts that the pair's source shares, in train rows, with the target's report rows.
    """

    key: str
    pair: Pair
    base: TrialConfig
    space: Space
    budget: int
    similarities: Mapping[str, float]
    overlap: int = 0


@dataclass(frozen=True)
class Plan:
    """An experiment on one PLM, its tasks located and the PLM identified; studies follow from similarities."""

    experiment: Experiment
    setting: Setting
    tasks: Mapping[str, TaskSpec]
    pairs: tuple[Pair, ...]

    @property
    def sources(self) -> list[TaskSpec]:
        """The source tasks that some pair uses."""
        used = {name for target in self.experiment.targets for name in sources_of(self.experiment, target)}
        return [self.tasks[name] for name in self.experiment.sources if name in used and name in self.tasks]

    @property
    def measured(self) -> list[tuple[str, str]]:
        """(source, target) of which similarities are measured."""
        targets = self.experiment.targets
        return [(source, target) for target in targets for source in sources_of(self.experiment, target)]


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
    initial = _found_initial(experiment, problems)
    tasks = {}
    for name in dict.fromkeys([*experiment.targets, *experiment.sources]) if "data" not in doubtful else ():
        try:
            tasks[name] = _located(experiment, name, fetches=fetches)
        except ValueError as error:
            problems.append(str(error))
    problems += _unfit(experiment, tasks)
    if len({replace(plm, source="") for plm in plms}) < len(plms):
        problems.append("plm: each PLM once, but two of the list are the same files, read the same way")
    plans = []
    for plm in _told_apart(plms):
        setting = setting_of(experiment, plm, initial)
        plans.append(Plan(experiment, setting, tasks, tuple(_pairs(experiment, plm.label if len(plms) > 1 else ""))))
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
        from panda_trainable.hub import fetched  # it imports `datasets`, which takes a second

        return fetched(hub_task, data, experiment.storage_path / "hub")

    imported = imported_task(experiment.storage_path / "library", task)
    if imported and name not in experiment.targets and not (data / (task.path or task.name)).is_dir():
        return imported
    return located(task, data, fetch if fetches else None)


def _found_plm(experiment: Experiment, section: PlmSection, problems: list[str]) -> Plm | None:
    folder = experiment.folder / section.source
    try:
        here = not section.source.startswith("package:") and folder.is_dir()
        source = str(folder.resolve()) if here else section.source
        files = plm_files(plm_folder(source))
    except (OSError, ValueError) as error:
        problems.append(str(error) if isinstance(error, ValueError) else f"PLM {section.source!r}: {error.strerror}")
        return None
    return Plm(source, files, section.pooling, section.layers, section.positions)


def _told_apart(plms: Sequence[Plm]) -> list[Plm]:
    """PLMs whose names differ: where two have one name, with their pooling and positions behind it."""
    labels = [plm.label for plm in plms]
    return [
        replace(plm, note=f"{plm.pooling}, {plm.positions}") if labels.count(plm.label) > 1 else plm for plm in plms
    ]


def _found_initial(experiment: Experiment, problems: list[str]) -> Initial:
    said = experiment.prompt.init
    used = {"normal": ("std",), "uniform": ("scale",), "uniform_positive": ("scale",), "sparse": ("sparsity",),
            "vocabulary": ("population",), "labels": ("population",), "text": ("text", "population")}  # fmt: skip
    if said.kind != "file":
        return Initial(said.kind, **{name: getattr(said, name) for name in used.get(said.kind, ())})
    path = experiment.folder / said.file
    try:
        content = hashlib.sha256(path.read_bytes()).hexdigest()[:20]
    except (OSError, ValueError) as error:
        problems.append(f"prompt.init.file {said.file!r}: cannot be read ({getattr(error, 'strerror', None) or error})")
        content = ""
    return Initial("file", file=str(path.absolute()), content=content)


def _unfit(experiment: Experiment, tasks: Mapping[str, TaskSpec]) -> list[str]:
    """Tasks that cannot do what the experiment asks of them."""
    targets = [tasks[name] for name in experiment.targets if name in tasks]
    problems = []
    if experiment.kd == "kl" and "panda" in experiment.methods:
        regressions = [task.name for task in targets if task.kind == "regression"]
        problems += [f"kd: kl compares classes, and {name} is a regression: use kd: mse" for name in regressions]
    if experiment.prompt.init.kind == "labels":
        bare = [task.name for task in tasks.values() if not task.classes]
        problems += [f"prompt.init: labels starts from class names, and {name} has none" for name in bare]
    return problems


def setting_of(experiment: Experiment, plm: Plm, initial: Initial) -> Setting:
    """What all trials of the experiment on a PLM share."""
    shots = experiment.shots
    few = {of: shots.per_class if shots and shots.of in (of, "both") else 0 for of in ("targets", "sources")}
    return Setting(
        plm=plm, prompt_form=experiment.prompt.form, prompt_length=experiment.prompt.length,
        batch_size=experiment.train.batch_size, max_length=experiment.train.max_length,
        eval_every=experiment.train.eval_every, limit_train=experiment.limit.train,
        limit_report=experiment.limit.report, selection_fraction=experiment.selection.fraction,
        selection_rows=experiment.selection.max_rows, protocol=experiment.protocol, init=initial,
        mlp=experiment.prompt.mlp or 0, shots=few["targets"], source_shots=few["sources"],
        precision=experiment.train.precision,
    )  # fmt: skip


def _pairs(experiment: Experiment, plm: str) -> list[Pair]:
    pairs = []
    for target in experiment.targets:
        for method in experiment.all_methods:
            sources = [None] if method in SOURCELESS else sources_of(experiment, target)
            pairs += [Pair(target, source, method, plm) for source in sources]
    return pairs


def shared_texts(library: PromptLibrary, plan: Plan) -> dict[tuple[str, str], int]:
    """(source, target) -> how many texts of the source's train rows stand in the target's report rows.

    Raises:
        Misuse: if there are some and the experiment refuses them.
    """
    from panda_trainable.tokens import used_texts  # torch is imported late

    found = {}
    weighed = plan.experiment.weigh_by if isinstance(plan.experiment.weigh_by, dict) else {}
    partners = [(name, target) for target in weighed for name in weighed[target] if name in plan.tasks]
    used = dict.fromkeys([*plan.measured, *(pair for pair in partners if pair[1] in plan.experiment.targets)])
    for source, target in used:
        task, limit = plan.tasks[target], plan.setting.limit_train
        mine, theirs = (
            used_texts(library, plan.tasks[source], "train", limit), used_texts(library, task, task.report_split, None)
        )  # fmt: skip
        if count := len(np.intersect1d(mine, theirs)):
            found[source, target] = count
    foreign = [pair for pair in found if plan.tasks[pair[0]].path.startswith(IMPORTED)]
    if foreign and plan.experiment.overlap == "drop":
        raise Misuse(
            f"the data of imported source {', '.join(sorted({source for source, _ in foreign}))} is not here, so that texts it "
            f"shares with {', '.join(target for _, target in foreign)} cannot be dropped; leave the pairs out, or use overlap: warn"
        )
    if found and plan.experiment.overlap == "refuse":
        said = [f"{source} and {target} ({count})" for (source, target), count in found.items()]
        raise Misuse(
            f"overlap: refuse, and texts of train rows of a source stand in report rows of a target: {', '.join(said)}; "
            "leave the pairs out, or use overlap: drop"
        )
    return found


def study_base(plan: Plan, pair: Pair, sources: tuple[Source, ...]) -> tuple[TrialConfig, Space]:
    """A study's base trial and its space, for the sources that it may use."""
    experiment = plan.experiment
    steps = steps_of(experiment, pair.method)
    space = experiment.method_space(pair.method).resolved(steps, max(len(sources) - 1, 0))
    teacher_steps = space.domain("teacher_steps")
    candidates = tuple(teacher_steps.values) if isinstance(teacher_steps, Choice) else ()
    transfers = pair.source is not None
    base = TrialConfig(
        setting=plan.setting if transfers else plan.setting.of_targets, target=plan.tasks[pair.target],
        method=pair.method,
        seeds=tuple(experiment.train.seeds), steps=steps, learning_rate=float(space.first()["learning_rate"]),
        sources=sources, source_steps=experiment.source_train.steps if transfers else 0,
        source_learning_rate=experiment.source_train.learning_rate if transfers else 0.0,
        teacher_steps=candidates[0] if candidates else 0,
        kd=experiment.kd if "lambda" in KNOBS[pair.method] else "mse", candidates=candidates,
    )  # fmt: skip
    return base, space


def steps_of(experiment: Experiment, method: str) -> int:
    """Steps of a method's students: the control for longer tuning has those of the longest teacher too."""
    steps = experiment.train.steps
    if method != LONGER:
        return steps
    teachers = experiment.method_space("panda").resolved(steps, 0).domain("teacher_steps")
    return steps + (max(teachers.values) if isinstance(teachers, Choice) else 0)


def make_studies(
    plan: Plan, similarities: Similarities, shared: Mapping[tuple[str, str], int] | None = None
) -> tuple[list[Study], list[str]]:
    """The studies of a plan, and what was left out and why.

    Args:
        plan: of one PLM.
        similarities: of its pairs.
        shared: (source, target) -> texts that they share; None: none.

    A study's partners are part of its key. A study of the pair that already exists and whose
    partners are all still among the sources goes on with them, so that a larger file extends.
    """
    studies, notes = [], []
    for pair in plan.pairs:
        weights = _weights(plan, pair.target, similarities) if pair.source else {}
        if pair.source and "lambda" in KNOBS[pair.method] and weights[pair.source] <= 0:
            notes.append(f"{pair.name} is left out: its similarity {weights[pair.source]:.3f} is not positive")
            continue
        studies.append(_study(plan, pair, weights, similarities, shared or {}))
    return studies, notes


def _weights(plan: Plan, target: str, similarities: Similarities) -> dict[str, float]:
    """Source -> the similarity that weighs it for this target."""
    weigh_by = plan.experiment.weigh_by
    names = sources_of(plan.experiment, target)
    if isinstance(weigh_by, dict):
        missing = [name for name in names if name not in weigh_by.get(target, {})]
        if missing:
            raise Misuse(f"weigh_by must weigh every source of {target}: {', '.join(missing)} missing")
        weighed = [name for name in weigh_by.get(target, {}) if name in plan.tasks and name not in (*names, target)]
        return {name: weigh_by[target][name] for name in (*names, *weighed)}
    if weigh_by == "none":
        return dict.fromkeys(names, 1.0)
    return {name: similarities[name, target][weigh_by] for name in names}


def _study(
    plan: Plan,
    pair: Pair,
    weights: Mapping[str, float],
    similarities: Similarities,
    shared: Mapping[tuple[str, str], int],
) -> Study:
    sources: tuple[Source, ...] = ()

    def source_of(name: str) -> Source:
        apart = plan.experiment.overlap == "drop" and shared.get((name, pair.target), 0) > 0
        return Source(plan.tasks[name], weights[name], apart)

    if pair.source:
        order = partner_order(plan.experiment.method_space(pair.method), pair.source, weights)
        order = _recorded_partners(plan, pair, set(weights), order, source_of)
        sources = tuple(source_of(name) for name in (pair.source, *order))
    base, space = study_base(plan, pair, sources)
    key = content_key("study", base, space, *_searched_how(plan))
    measured = similarities.get((pair.source, pair.target), {}) if pair.source else {}
    overlap = shared.get((pair.source or "", pair.target), 0)
    return Study(key, pair, base, space, plan.experiment.search.trials, measured, overlap)


def partner_order(space: Space, source: str, weights: Mapping[str, float]) -> list[str]:
    """The partners a study may use: the most similar other sources, at most as many as its space asks for."""
    domain = space.domain("partners")
    wanted = domain.high if isinstance(domain, Int) else max(domain.values) if isinstance(domain, Choice) else 0
    positive = weights[source] > 0  # otherwise no share of an average is defined
    others = [name for name in weights if positive and name != source and weights[name] > 0]
    return sorted(others, key=lambda name: (-weights[name], name))[: int(wanted)]


def _recorded_partners(
    plan: Plan, pair: Pair, there: set[str], order: list[str], source_of: Callable[[str], Source]
) -> list[str]:
    """The partners with which this pair's study began, where they are all still there; else today's order."""
    cards = (plan.experiment.search_path / "studies").glob("*.json")
    for path in sorted(cards, key=lambda path: path.stat().st_mtime):  # the oldest first
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["pair"] == [pair.target, pair.source, pair.method] and set(card["partners"]) <= there:
            partners: list[str] = card["partners"]
            sources = tuple(source_of(name) for name in (pair.source or "", *partners))
            base, space = study_base(plan, pair, sources)
            if card["without_partners"] == _without_partners(plan, base, space):
                return partners
    return order


def _without_partners(plan: Plan, base: TrialConfig, space: Space) -> str:
    """A study's key as it were without partners: tells whether an earlier study is the same but for them."""
    domains = tuple(knob for knob in space.knobs if knob.name != "partners")
    asked = plan.experiment.method_space(base.method).domain("partners")
    return content_key("study", replace(base, sources=base.sources[:1]), domains, asked, *_searched_how(plan))


def _searched_how(plan: Plan) -> tuple[int | str | None, ...]:
    """What of the search decides a study's numbers, beside its base trial and space; budgets do not."""
    search = plan.experiment.search
    # On paper's protocol the search looks at validation rows, and the report limit cuts them.
    rows = (plan.setting.limit_report,) if plan.setting.protocol == "paper" else ()
    return plan.setting.eval_every, search.sampler, search.scheduler, search.seed, *rows


def record_study(plan: Plan, study: Study) -> None:
    """Keeps a study's card beside its journal: what it is and with which partners it began."""
    path = study_path(plan.experiment, study, "json")
    if path.exists():
        return
    card = {
        "key": study.key,
        "pair": [study.pair.target, study.pair.source, study.pair.method],
        "partners": [source.task.name for source in study.base.sources[1:]],
        "without_partners": _without_partners(plan, study.base, study.space),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(card, indent=1), encoding="utf-8")
    draft.rename(path)


def study_path(experiment: Experiment, study: Study, suffix: str) -> Path:
    """A study's file: `json` its card, `journal` its trials."""
    return experiment.search_path / "studies" / f"{study.key}.{suffix}"
