"""Experiment to plan: tasks located, pairs, studies and their keys. Imports no torch and no Ray."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from panda_trainable.config import KNOBS, SOURCELESS, Plm, Setting, Source, TrialConfig, content_key
from panda_trainable.plm import plm_files, plm_folder
from panda_trainable.tasks import TaskSpec, located
from search_spaces.space import Choice, Int, Space
from tuning.experiment import Experiment, Misuse, load, sources_of

Similarities = Mapping[tuple[str, str], Mapping[str, float]]
"""(source, target) -> similarity name -> value."""


@dataclass(frozen=True)
class Pair:
    """What becomes a study: a target, a method, and its source where the method has one."""

    target: str
    source: str | None
    method: str

    @property
    def name(self) -> str:
        """For people: `rte ← mnli · panda`."""
        return f"{self.target} ← {self.source} · {self.method}" if self.source else f"{self.target} · {self.method}"


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
    """

    key: str
    pair: Pair
    base: TrialConfig
    space: Space
    budget: int
    similarities: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """An experiment with its tasks located and its PLM identified; studies follow from similarities."""

    experiment: Experiment
    setting: Setting
    tasks: Mapping[str, TaskSpec]
    pairs: tuple[Pair, ...]

    @property
    def sources(self) -> list[TaskSpec]:
        """The source tasks that some pair uses."""
        used = {name for target in self.experiment.targets for name in sources_of(self.experiment, target)}
        return [self.tasks[name] for name in self.experiment.sources if name in used]

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
                make_plan(refused.partial)
        except Misuse as more:
            raise Misuse(f"{refused}\n{more}") from None
        raise


def make_plan(experiment: Experiment) -> Plan:
    """Locates every task, identifies the PLM, and lists the pairs.

    Raises:
        Misuse: with all that is missing or wrong.
    """
    problems: list[str] = []
    plm = _found_plm(experiment, problems)
    tasks = {}
    for name in dict.fromkeys([*experiment.targets, *experiment.sources]):
        try:
            tasks[name] = located(experiment.task(name), experiment.data_path)
        except ValueError as error:
            problems.append(str(error))
    problems += _without_classes(experiment, tasks)
    if problems or plm is None:
        raise Misuse("\n".join(problems))
    return Plan(experiment, setting_of(experiment, plm), tasks, tuple(_pairs(experiment)))


def _found_plm(experiment: Experiment, problems: list[str]) -> Plm | None:
    section = experiment.plm
    folder = experiment.folder / section.source
    source = str(folder.resolve()) if not section.source.startswith("package:") and folder.is_dir() else section.source
    try:
        files = plm_files(plm_folder(source))
    except ValueError as error:
        problems.append(str(error))
        return None
    return Plm(source, files, section.pooling, section.layers, section.positions)


def _without_classes(experiment: Experiment, tasks: Mapping[str, TaskSpec]) -> list[str]:
    if experiment.kd != "kl" or "panda" not in experiment.methods:
        return []
    regressions = [name for name in experiment.targets if name in tasks and tasks[name].kind == "regression"]
    return [f"kd: kl compares classes, and {name} is a regression: use kd: mse" for name in regressions]


def setting_of(experiment: Experiment, plm: Plm) -> Setting:
    """What all trials of the experiment share."""
    return Setting(
        plm=plm, prompt_form=experiment.prompt.form, prompt_length=experiment.prompt.length,
        batch_size=experiment.train.batch_size, max_length=experiment.train.max_length,
        eval_every=experiment.train.eval_every, limit_train=experiment.limit.train,
        limit_report=experiment.limit.report, selection_fraction=experiment.selection.fraction,
        selection_rows=experiment.selection.max_rows, protocol=experiment.protocol,
    )  # fmt: skip


def _pairs(experiment: Experiment) -> list[Pair]:
    pairs = []
    for target in experiment.targets:
        for method in experiment.all_methods:
            sources = [None] if method in SOURCELESS else sources_of(experiment, target)
            pairs += [Pair(target, source, method) for source in sources]
    return pairs


def study_base(plan: Plan, pair: Pair, sources: tuple[Source, ...]) -> tuple[TrialConfig, Space]:
    """A study's base trial and its space, for the sources that it may use."""
    experiment = plan.experiment
    steps = experiment.train.steps
    space = experiment.method_space(pair.method).resolved(steps, max(len(sources) - 1, 0))
    teacher_steps = space.domain("teacher_steps")
    candidates = tuple(teacher_steps.values) if isinstance(teacher_steps, Choice) else ()
    transfers = pair.source is not None
    base = TrialConfig(
        setting=plan.setting, target=plan.tasks[pair.target], method=pair.method,
        seeds=tuple(experiment.train.seeds), steps=steps, learning_rate=float(space.first()["learning_rate"]),
        sources=sources, source_steps=experiment.source_train.steps if transfers else 0,
        source_learning_rate=experiment.source_train.learning_rate if transfers else 0.0,
        teacher_steps=candidates[0] if candidates else 0,
        kd=experiment.kd if "lambda" in KNOBS[pair.method] else "mse", candidates=candidates,
    )  # fmt: skip
    return base, space


def make_studies(plan: Plan, similarities: Similarities) -> tuple[list[Study], list[str]]:
    """The studies of a plan, and what was left out and why.

    A study's partners are part of its key. A study of the pair that already exists and whose
    partners are all still among the sources goes on with them, so that a larger file extends.
    """
    studies, notes = [], []
    for pair in plan.pairs:
        weights = _weights(plan, pair.target, similarities) if pair.source else {}
        if pair.source and "lambda" in KNOBS[pair.method] and weights[pair.source] <= 0:
            notes.append(f"{pair.name} is left out: its similarity {weights[pair.source]:.3f} is not positive")
            continue
        studies.append(_study(plan, pair, weights, similarities))
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


def _study(plan: Plan, pair: Pair, weights: Mapping[str, float], similarities: Similarities) -> Study:
    sources: tuple[Source, ...] = ()
    if pair.source:
        order = partner_order(plan.experiment.method_space(pair.method), pair.source, weights)
        order = _recorded_partners(plan, pair, weights, order)
        sources = tuple(Source(plan.tasks[name], weights[name]) for name in (pair.source, *order))
    base, space = study_base(plan, pair, sources)
    key = content_key("study", base, space, *_searched_how(plan))
    measured = similarities.get((pair.source, pair.target), {}) if pair.source else {}
    return Study(key, pair, base, space, plan.experiment.search.trials, measured)


def partner_order(space: Space, source: str, weights: Mapping[str, float]) -> list[str]:
    """The partners a study may use: the most similar other sources, at most as many as its space asks for."""
    domain = space.domain("partners")
    wanted = domain.high if isinstance(domain, Int) else max(domain.values) if isinstance(domain, Choice) else 0
    positive = weights[source] > 0  # otherwise no share of an average is defined
    others = [name for name in weights if positive and name != source and weights[name] > 0]
    return sorted(others, key=lambda name: (-weights[name], name))[: int(wanted)]


def _recorded_partners(plan: Plan, pair: Pair, weights: Mapping[str, float], order: list[str]) -> list[str]:
    """The partners with which this pair's study began, where they are all still there; else today's order."""
    cards = (plan.experiment.search_path / "studies").glob("*.json")
    for path in sorted(cards, key=lambda path: path.stat().st_mtime):  # the oldest first
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["pair"] == [pair.target, pair.source, pair.method] and set(card["partners"]) <= set(weights):
            partners: list[str] = card["partners"]
            sources = tuple(Source(plan.tasks[name], weights[name]) for name in (pair.source or "", *partners))
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
