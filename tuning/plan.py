"""A plan: an experiment on one PLM, its tasks and pairs, and the trial that a pair's study varies. Imports no torch and no Ray."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from panda_trainable.config import (
    KD_KINDS,
    TRAITS,
    Plm,
    Projection,
    Setting,
    Source,
    TrialConfig,
    Tutor,
)
from panda_trainable.library import PromptLibrary
from panda_trainable.tasks import MIXING_CAP, Mixture, TaskSpec
from search_spaces.defaults import MODEL_RATE
from search_spaces.space import Choice, Space
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
    partners = [(name, target) for target in experiment.targets for name in only_weighed(experiment, target)]
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


def only_weighed(experiment: Experiment, target: str) -> list[str]:
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
