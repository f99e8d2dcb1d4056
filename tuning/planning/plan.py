"""A plan: an experiment on one PLM, its tasks and pairs, and the trial that a pair's study varies. Imports no torch and no Ray."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from panda_trainable.config.given import GivenPrompt
from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import AnySource, TaskSpec
from panda_trainable.config.trial import TrialConfig
from search_spaces.space import Space
from tuning.experiment.experiment import Experiment, sources_of

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
        overlap: texts that the pair's source, or all sources, share, in train rows, with the target's report rows,
            and report rows that stand in the target's own train rows.
        repeat: which search of the pair it is: 0 is reported, the others show how much of its gain is the search's luck.
    """

    key: str
    pair: Pair
    base: TrialConfig
    space: Space
    budget: int
    similarities: Mapping[str, float]
    overlap: int = 0
    repeat: int = 0

    @property
    def name(self) -> str:
        """For people: the pair's, with the repeat behind the first search."""
        return f"{self.pair.name} · repeat {self.repeat}" if self.repeat else self.pair.name

    def partners_in(self, trial: TrialConfig) -> list[str]:
        """The sources of one of its trials beside its own: all of them where it is a study of the target alone."""
        return [source.task.name for source in trial.sources[bool(self.pair.source) :]]

    @property
    def compared(self) -> tuple[str, str, int]:
        """Target, PLM and repeat: studies of one are compared."""
        return self.pair.target, self.base.setting.plm.label, self.repeat


@dataclass(frozen=True)
class Plan:
    """An experiment on one PLM, its tasks located and the PLM identified; studies follow from similarities.

    Attributes:
        experiment: its file, checked.
        setting: what all trials share.
        tasks: name -> located task: targets, sources, and what mixtures hold.
        pairs: what becomes studies.
        teacher_plm: the larger PLM, where a method needs it.
        source_plm: the PLM whose prompts are projected or moved, where a method needs it.
        left_out: pairs whose method takes over a source's head, which does not fit.
        given: name -> source that is an imported prompt of this PLM.
    """

    experiment: Experiment
    setting: Setting
    tasks: Mapping[str, TaskSpec]
    pairs: tuple[Pair, ...]
    teacher_plm: Plm | None = None
    source_plm: Plm | None = None
    left_out: tuple[Pair, ...] = ()
    given: Mapping[str, GivenPrompt] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether all tasks and imported prompts of its experiment were found."""
        given = {*self.experiment.imported} & {*self.experiment.sources}
        return set(self.experiment.members) <= set(self.tasks) and given <= set(self.given)

    @property
    def sources(self) -> list[AnySource]:
        """The sources that some pair uses."""
        used = {name for target in self.experiment.targets for name in sources_of(self.experiment, target)}
        known = {*self.tasks, *self.given}
        names = [n for n in self.experiment.sources if set(self.experiment.mixtures.get(n, [n])) <= known]
        return [self.source(name) for name in names if name in used]

    def source(self, name: str) -> AnySource:
        """A source by name."""
        return self.given.get(name) or self.experiment.source(name, self.tasks)

    def search_seed(self, repeat: int) -> int:
        """The seed of a repeat's search: a repeat is what a file with that `search.seed` would search."""
        return self.experiment.search.seed + repeat

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
