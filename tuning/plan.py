"""Experiment to plan: tasks located, pairs, studies and their keys. Imports no torch and no Ray."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from panda_trainable.config import (
    KD_KINDS,
    KNOBS,
    TRAITS,
    Plm,
    Projection,
    Setting,
    Source,
    TrialConfig,
    Tutor,
    content_key,
)
from panda_trainable.library import PromptLibrary
from panda_trainable.tasks import MIXING_CAP, Mixture, TaskSpec
from search_spaces.defaults import MODEL_RATE
from search_spaces.space import Choice, Int, Space
from tuning.experiment import LONGER, Experiment, Misuse, may_teach, sources_of
from tuning.sharing import IMPORTED

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
        overlap: texts that the pair's source, or all sources, share, in train rows, with the target's report rows.
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
    """An experiment on one PLM, its tasks located and the PLM identified; studies follow from similarities.

    Attributes:
        experiment: its file, checked.
        setting: what all trials share.
        tasks: name -> located task: targets, sources, and what mixtures hold.
        pairs: what becomes studies.
        teacher_plm: the larger PLM, where a method needs it.
        source_plm: the PLM whose prompts are projected, where a method needs it.
        left_out: pairs whose method takes over a source's head, which does not fit.
    """

    experiment: Experiment
    setting: Setting
    tasks: Mapping[str, TaskSpec]
    pairs: tuple[Pair, ...]
    teacher_plm: Plm | None = None
    source_plm: Plm | None = None
    left_out: tuple[Pair, ...] = ()

    @property
    def sources(self) -> list[TaskSpec | Mixture]:
        """The sources that some pair uses."""
        used = {name for target in self.experiment.targets for name in sources_of(self.experiment, target)}
        there = [n for n in self.experiment.sources if set(self.experiment.mixtures.get(n, [n])) <= set(self.tasks)]
        return [self.source(name) for name in there if name in used]

    def source(self, name: str) -> TaskSpec | Mixture:
        """A source by name."""
        return self.experiment.source(name, self.tasks)

    @property
    def settings(self) -> list[Setting]:
        """The setting, and the same on the other PLMs that methods need."""
        others = [plm for plm in (self.teacher_plm, self.source_plm) if plm]
        return [self.setting, *(replace(self.setting, plm=plm) for plm in others)]

    @property
    def measured(self) -> list[tuple[str, str]]:
        """(source, target) of which similarities are measured."""
        targets = self.experiment.targets
        return [(source, target) for target in targets for source in sources_of(self.experiment, target)]


def shared_texts(library: PromptLibrary, plan: Plan) -> dict[tuple[str, str], int]:
    """(source, target) -> how many texts of the source's train rows stand in the target's report rows.

    Raises:
        Misuse: if there are some and the experiment refuses them.
    """
    from panda_trainable.tokens import used_texts  # torch is imported late

    found = {}
    experiment = plan.experiment
    partners = [(name, target) for target in experiment.targets for name in _only_weighed(experiment, target)]
    taught = [
        (n, t) for t in experiment.targets if experiment.needs("source_plm") for n in _projected_for(experiment, t)
    ]
    for source, target in dict.fromkeys([*plan.measured, *partners, *taught]):
        task, limit = plan.tasks[target], plan.setting.limit_train
        mine = [used_texts(library, each, "train", limit) for each in plan.source(source).tasks if each != task]
        theirs = used_texts(library, task, task.report_split, None)
        if count := len(np.intersect1d(np.concatenate([theirs[:0], *mine]), theirs)):
            found[source, target] = count
    foreign = [pair for pair in found if any(task.path.startswith(IMPORTED) for task in plan.source(pair[0]).tasks)]
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
    alone = [
        t for t in experiment.targets if experiment.needs("source_plm") and not _projected_for(experiment, t, found)
    ]
    if alone:
        raise Misuse(
            f"projector: every task shares texts with the report rows of {', '.join(alone)}; name others, or use overlap: warn"
        )
    return found


def _projected_for(
    experiment: Experiment, target: str, shared: Mapping[tuple[str, str], int] | None = None
) -> list[str]:
    """The tasks that train a target's projector, which must not have seen it: not by shared texts either."""
    dropped = (shared or {}) if experiment.overlap == "drop" else {}
    return [name for name in experiment.projected if name != target and not dropped.get((name, target), 0)]


def _only_weighed(experiment: Experiment, target: str) -> list[str]:
    """Sources to which a table gives a weight for a target but `pairs` gives no study: they may be partners."""
    if not isinstance(experiment.weigh_by, dict):
        return []
    paired = sources_of(experiment, target)
    return [
        name
        for name in experiment.weigh_by.get(target, {})
        if name in experiment.sources and name not in paired and may_teach(experiment, name, target)
    ]


def study_base(
    plan: Plan, pair: Pair, sources: tuple[Source, ...], shared: Mapping[tuple[str, str], int] | None = None
) -> tuple[TrialConfig, Space]:
    """A study's base trial and its space, for the sources that it may use."""
    experiment, traits = plan.experiment, TRAITS[pair.method]
    steps = steps_of(experiment, pair.method)
    space = experiment.method_space(pair.method).resolved(steps, max(len(sources) - 1, 0))
    target = plan.tasks[pair.target]
    if space.domain("inter_class") and target.kind not in KD_KINDS["inter_class"]:
        space = space.overridden({"inter_class": Choice((0.0,))})
    teacher_steps = space.domain("teacher_steps")
    candidates = tuple(teacher_steps.values) if isinstance(teacher_steps, Choice) else ()
    transfers = bool(sources) or traits.another == "source_plm"
    rate = float(space.first().get("learning_rate", 0.0))
    given = experiment.source_train.learning_rate if traits.trains != "model" else MODEL_RATE.first
    distils = "lambda" in traits.knobs and not traits.as_released
    base = TrialConfig(
        setting=plan.setting if transfers else plan.setting.of_targets, target=target, method=pair.method,
        seeds=tuple(experiment.train.seeds), steps=steps, learning_rate=rate,
        sources=sources, source_steps=experiment.source_train.steps if transfers else 0,
        source_learning_rate=given if transfers else 0.0,
        teacher_steps=candidates[0] if candidates else 0,
        kd=experiment.kd if distils else "mse", candidates=candidates,
        lambda_schedule=experiment.lambda_schedule if distils else "constant",
        partner_weights=experiment.partner_weights if "partners" in traits.knobs else "similarity",
        relation=experiment.relation if "inter_instance" in traits.knobs else "inter_instance",
        tutor=_tutor(plan) if traits.another == "teacher_plm" else None,
        projection=_projection(plan, pair.target, shared or {}) if traits.another == "source_plm" else None,
        mixing_cap=experiment.mixing_cap if traits.mixes else MIXING_CAP,
    )  # fmt: skip
    return base, space


def _tutor(plan: Plan) -> Tutor:
    said, train = plan.experiment.teacher_train, plan.experiment.train
    assert plan.teacher_plm is not None, "a plan whose methods need another PLM has found it"
    usual = {"prompt": plan.experiment.source_train.learning_rate, "model": MODEL_RATE.first}
    return Tutor(plan.teacher_plm, said.trains, said.steps or train.steps, said.learning_rate or usual[said.trains])


def _projection(plan: Plan, target: str, shared: Mapping[tuple[str, str], int]) -> Projection:
    """How prompts of the other PLM are projected for a target, of which the projector knows nothing."""
    said = plan.experiment.projector
    assert plan.source_plm is not None, "a plan whose methods need another PLM has found it"
    tasks = tuple(plan.tasks[name] for name in _projected_for(plan.experiment, target, shared))
    return Projection(plan.source_plm, tasks, said.form, said.objective, said.hidden, said.steps, said.learning_rate)


def steps_of(experiment: Experiment, method: str) -> int:
    """Steps of a method's students: the control for longer tuning has those of the longest teacher too."""
    steps = experiment.train.steps if TRAITS[method].trains != "nothing" else 0
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
        weights = _weights(plan, pair, similarities) if TRAITS[pair.method].sources != "none" else {}
        if pair.source and "lambda" in KNOBS[pair.method] and weights[pair.source] <= 0:
            notes.append(f"{pair.name} is left out: its similarity {weights[pair.source]:.3f} is not positive")
            continue
        studies.append(_study(plan, pair, weights, similarities, shared or {}))
    return studies, notes


def _weights(plan: Plan, pair: Pair, similarities: Similarities) -> dict[str, float]:
    """Source -> the similarity that weighs it for this target and method."""
    weigh_by, target = plan.experiment.weigh_by, pair.target
    names = sources_of(plan.experiment, target)
    if weigh_by == "none" or TRAITS[pair.method].as_released or TRAITS[pair.method].sources == "all":
        return dict.fromkeys(names, 1.0)
    if isinstance(weigh_by, dict):
        missing = [name for name in names if name not in weigh_by.get(target, {})]
        if missing:
            raise Misuse(f"weigh_by must weigh every source of {target}: {', '.join(missing)} missing")
        return {name: weigh_by[target][name] for name in (*names, *_only_weighed(plan.experiment, target))}
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
        return Source(plan.source(name), weights[name], apart)

    if TRAITS[pair.method].sources == "all":
        sources = tuple(source_of(name) for name in weights)
    if pair.source:
        space = plan.experiment.method_space(pair.method)
        order = partner_order(space, pair.source, weights, _closeness(plan, pair.target, weights, similarities))
        order = _recorded_partners(plan, pair, set(weights), order, source_of)
        sources = tuple(source_of(name) for name in (pair.source, *order))
    base, space = study_base(plan, pair, sources, shared)
    key = content_key("study", base, space, *_searched_how(plan))
    measured = similarities.get((pair.source, pair.target), {}) if pair.source else {}
    own = sources[:1] if pair.source else sources  # its partners take part in some trials, and are pairs themselves
    overlap = sum(shared.get((source.task.name, pair.target), 0) for source in own)
    budget = 1 if space.size == 1 else plan.experiment.search.trials  # one configuration needs one trial
    return Study(key, pair, base, space, budget, measured, overlap)


def _closeness(
    plan: Plan, target: str, weights: Mapping[str, float], similarities: Similarities
) -> Mapping[str, float]:
    """Source -> how similar it is to the target: what weighs it, or the first that is measured where nothing does."""
    first = next(iter(plan.experiment.similarities), "")
    if plan.experiment.weigh_by != "none" or not first:
        return weights
    return {name: similarities.get((name, target), {}).get(first, 0.0) for name in weights}


def partner_order(space: Space, source: str, weights: Mapping[str, float], closeness: Mapping[str, float]) -> list[str]:
    """The partners a study may use: the most similar other sources, at most as many as its space asks for.

    Args:
        space: of the method.
        source: the pair's own.
        weights: source -> what weighs it; only those above zero can be partners.
        closeness: source -> by what they are ordered, ties by name.
    """
    domain = space.domain("partners")
    wanted = domain.high if isinstance(domain, Int) else max(domain.values) if isinstance(domain, Choice) else 0
    positive = weights[source] > 0  # otherwise no share of an average is defined
    others = [name for name in weights if positive and name != source and weights[name] > 0]
    return sorted(others, key=lambda name: (-closeness[name], name))[: int(wanted)]


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
