"""Experiment: the YAML file as a checked value. Imports neither torch nor Ray."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import MinLen
from pydantic import AfterValidator, BeforeValidator, Tag, TypeAdapter, ValidationInfo, field_validator

from panda_trainable.config.methods import (
    BASELINE,
    COMPARISONS,
    FUSIONS,
    KD_KINDS,
    KNOBS,
    SCORES,
    SIMILARITY_NAMES,
    SOURCE_ONLY,
    TRAITS,
    WEIGHING,
)
from panda_trainable.config.origin import expanded
from panda_trainable.config.section import Doc, ShortFor, as_list, shared_settings
from panda_trainable.config.setting import (
    CommonSettings,
    PlmSettings,
    SimilaritySettings,
)
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.config.task_section import TaskSection
from panda_trainable.config.trial import MethodSettings, RelativeSettings, TeacherTrainSettings
from panda_trainable.data.task_table import TASKS, with_panda_metrics
from search_spaces.defaults import SPACES
from search_spaces.space import Choice, Domain, Float, Space
from tuning.experiment.explanations import misplaced_knobs
from tuning.experiment.names import readable, slug
from tuning.experiment.problems import check_known
from tuning.experiment.sections import (
    MAPPING,
    TEXT,
    Alternatives,
    ConfirmSection,
    Domains,
    Names,
    ProjectorSection,
    PromptSection,
    ResourcesSection,
    SearchSection,
    ShotsSection,
    SourceTrainSection,
    TaskName,
    TrackingSection,
    TrainSection,
    Weights,
)

NamedPlm = Annotated[PlmSettings, ShortFor("from")]
NAME_BYTES = 255
"""Longest name that file systems take."""


@dataclass(frozen=True, kw_only=True)
class TrialKeys(CommonSettings, MethodSettings):
    """Keys that decide a trial: MLflow is told them, and a pinned file has them."""

    metrics: Annotated[Literal["glue", "panda"], Doc("scores as GLUE and SuperGLUE, or PANDA, have them")] = "glue"
    prompt: Annotated[PromptSection, Doc("the soft prompt")] = PromptSection()
    train: Annotated[TrainSection, Doc("students")] = TrainSection()
    source_train: Annotated[SourceTrainSection, Doc("sources, embeddings, teachers")] = SourceTrainSection()
    shots: Annotated[ShotsSection | None, ShortFor("per_class", "int"), Doc("few-shot: so many rows of each class")] = (
        None
    )
    overlap: Annotated[
        Literal["drop", "warn", "refuse"], Doc("train rows of a source that share a text with a target's report rows")
    ] = "drop"
    template: Annotated[
        Literal["natural", "t5"], Doc("how language models are asked the tasks known by name: in words, or as T5 is")
    ] = "natural"
    self_pairs: Annotated[Literal["exclude", "include"], Doc("may a task be its own source")] = "exclude"


@dataclass(frozen=True, kw_only=True)
class Experiment(TrialKeys, SimilaritySettings):
    """The experiment file. Paths are relative to it."""

    name: Annotated[
        str, AfterValidator(readable), Doc("names the MLflow experiment, and the folder of the search as far as it can")
    ]
    plm: Annotated[
        tuple[NamedPlm, ...],
        MinLen(1),
        BeforeValidator(as_list, json_schema_input_type=NamedPlm | list[NamedPlm]),
        Doc("the frozen pretrained language model, or a list of them"),
    ]
    data: Annotated[str, Doc("holds <task>/{train,validation,test}.jsonl (csv, tsv, parquet, conll)")] = "data"
    tasks: Annotated[dict[TaskName, TaskSection], Doc("your own tasks beside the built-in table")] = field(
        default_factory=dict
    )
    mixtures: Annotated[
        dict[TaskName, Annotated[Names, MinLen(1)]],
        Doc("name: [tasks] that train one prompt together; a source by that name"),
    ] = field(default_factory=dict)
    imported: Annotated[Names, Doc("prompts that `library import` took in; sources by these names")] = field(
        default_factory=list
    )
    sources: Annotated[Names, Doc("source tasks, mixtures and imported prompts")] = field(default_factory=list)
    targets: Annotated[Names, MinLen(1), Doc("target tasks")]
    methods: Annotated[Names, Doc(f"methods; {BASELINE} is always there")] = field(default_factory=list)
    pairs: Annotated[dict[str, Names], Doc("target: its sources, where not all of them")] = field(default_factory=dict)
    similarities: Annotated[Names, Doc("measured for all pairs")] = field(
        default_factory=lambda: [name for name in COMPARISONS if name != "on"]
    )
    weigh_by: Annotated[
        Annotated[Annotated[str, Tag(TEXT)] | Annotated[Weights, Tag(MAPPING)], Alternatives],
        Doc("a similarity, none, or target: {source: value}"),
    ] = "task_embedding"
    teacher_plm: Annotated[NamedPlm | None, Doc("the larger PLM of distill and panda_distill")] = None
    teacher_train: Annotated[TeacherTrainSettings, Doc("how it is tuned on the target")] = TeacherTrainSettings()
    source_plm: Annotated[NamedPlm | None, Doc("the PLM whose prompts tpt_model projects, and tpt_relative moves")] = (
        None
    )
    projector: Annotated[ProjectorSection, Doc("how it projects them")] = ProjectorSection()
    relative: Annotated[RelativeSettings, Doc("how tpt_relative moves them")] = RelativeSettings()
    search: Annotated[SearchSection, Doc("the search")] = SearchSection()
    space: Annotated[dict[str, Domains], Doc("overrides of the default spaces, per method")] = field(
        default_factory=dict
    )
    confirm: Annotated[ConfirmSection, Doc("the confirmation")] = ConfirmSection()
    resources: Annotated[
        Annotated[Annotated[Literal["auto"], Tag(TEXT)] | Annotated[ResourcesSection, Tag(MAPPING)], Alternatives],
        Doc("auto asks for the GPUs there are"),
    ] = "auto"
    storage: Annotated[str, Doc("a folder that every node sees")] = "runs"
    tracking: Annotated[TrackingSection, Doc("MLflow")] = TrackingSection()
    _folder: ClassVar[Path] = Path()

    @field_validator("data", "storage")
    @classmethod
    def _possible_paths(cls, path: str) -> str:
        if "\0" in path or any(len(part.encode()) > NAME_BYTES for part in path.split("/")):
            raise ValueError(f"must be a folder's name of at most {NAME_BYTES} bytes a part, got {path[:60]!r}")
        expanded(path)  # which refuses variables that are not set
        return path

    @field_validator("sources", "targets")
    @classmethod
    def _known_tasks(cls, names: list[str], info: ValidationInfo) -> list[str]:
        own = (info.context or {}).get("tasks", info.data.get("tasks", {}))
        others = [
            name for key in ("mixtures", "imported") for name in (info.context or {}).get(key, info.data.get(key, ()))
        ]
        return check_known(names, [*TASKS, *own, *(others if info.field_name == "sources" else ())], "task")

    @field_validator("mixtures")
    @classmethod
    def _known_mixtures(cls, mixtures: dict[str, list[str]], info: ValidationInfo) -> dict[str, list[str]]:
        own = (info.context or {}).get("tasks", info.data.get("tasks", {}))
        for name, members in mixtures.items():
            check_known(members, [*TASKS, *own], "task")
            if name in TASKS or name in own:
                raise ValueError(f"{name} is a task already; give the mixture another name")
        return mixtures

    @field_validator("imported")
    @classmethod
    def _known_imported(cls, names: list[str], info: ValidationInfo) -> list[str]:
        taken = {*TASKS, *info.data.get("tasks", {}), *info.data.get("mixtures", {})}
        if clash := [name for name in names if name in taken]:
            raise ValueError(f"{', '.join(clash)} is a task or mixture already; import the prompt under another name")
        return check_known(names, names, "imported prompt")

    @field_validator("kd")
    @classmethod
    def _known_kd(cls, name: str) -> str:
        return check_known([name], list(KD_KINDS), "distillation loss")[0]

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, names: list[str]) -> list[str]:
        return check_known(names, list(KNOBS), "method")

    @field_validator("similarities")
    @classmethod
    def _known_similarities(cls, names: list[str]) -> list[str]:
        return check_known(names, list(SIMILARITY_NAMES), "similarity")

    @field_validator("pairs")
    @classmethod
    def _known_pairs(cls, pairs: dict[str, list[str]], info: ValidationInfo) -> dict[str, list[str]]:
        check_known(list(pairs), info.data.get("targets", list(pairs)), "target")
        for names in pairs.values():
            check_known(names, info.data.get("sources", names), "source")
        return pairs

    @field_validator("weigh_by")
    @classmethod
    def _known_weights(cls, value: str | Weights, info: ValidationInfo) -> str | Weights:
        if isinstance(value, str):
            able = [name for name in info.data.get("similarities", SIMILARITY_NAMES) if name in WEIGHING]
            if value in (*SCORES, *SOURCE_ONLY):
                raise ValueError(
                    f"weighs a loss, by a similarity of source and target within -1 and 1, which {value} is not; "
                    f"there are {', '.join([*able, 'none'])}"
                )
            check_known([value], [*able, "none"], "similarity among `similarities`")
        return value

    @field_validator("space", mode="before")
    @classmethod
    def _below_methods(cls, space: Any, info: ValidationInfo) -> Any:
        if told := misplaced_knobs(space, info.data.get("methods", ())):
            raise ValueError(told)
        return space

    @field_validator("space")
    @classmethod
    def _known_knobs(cls, space: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        check_known(list(space), list(KNOBS), "method")
        for method, domains in space.items():
            check_known(list(domains), list(KNOBS[method]), f"knob of {method}")
            for knob, domain in domains.items():
                _check_domain(knob, domain)
        return space

    @field_validator("confirm")
    @classmethod
    def _fresh_seeds(cls, confirm: ConfirmSection, info: ValidationInfo) -> ConfirmSection:
        seen = set(info.data["train"].seeds) & set(confirm.seeds) if "train" in info.data else set()
        if seen or len(set(confirm.seeds)) != len(confirm.seeds):
            given = list(confirm.seeds)
            raise ValueError(f"confirm.seeds must be fresh: different and none of train.seeds, got {given}")
        return confirm

    @classmethod
    def placed(cls, raw: Mapping[str, Any], folder: Path) -> "Experiment":
        """The experiment of a file's values; its paths are relative to the folder."""
        named = {key: list(raw[key]) for key in ("tasks", "mixtures") if isinstance(raw.get(key), Mapping)}
        named |= {"imported": as_list(raw["imported"])} if isinstance(raw.get("imported"), str | list) else {}
        return _within(_ADAPTER.validate_python(raw, context=named), folder)

    def changed(self, **values: Any) -> "Experiment":
        """The same file with other values of some keys."""
        return _within(dataclasses.replace(self, **values), self.folder)

    @property
    def filed(self) -> dict[str, Any]:
        """All keys of the file with their values, as plain JSON data."""
        filed: dict[str, Any] = _ADAPTER.dump_python(self, mode="json", by_alias=True)
        return filed

    @staticmethod
    def schema() -> dict[str, Any]:
        """The JSON schema of experiment files."""
        return _ADAPTER.json_schema(by_alias=True)

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self._folder

    @property
    def slug(self) -> str:
        """The name as a folder can be called."""
        return slug(self.name)

    @property
    def storage_path(self) -> Path:
        """The storage folder, absolute."""
        return (self.folder / expanded(self.storage)).resolve()

    @property
    def data_path(self) -> Path:
        """The data folder, absolute."""
        return (self.folder / expanded(self.data)).resolve()

    @property
    def search_path(self) -> Path:
        """The folder of this experiment's search, absolute."""
        return self.storage_path / "searches" / self.slug

    @property
    def tracking_uri(self) -> str:
        """MLflow's address."""
        return self.tracking.uri or f"sqlite:///{self.storage_path / 'mlflow.db'}"

    @property
    def all_methods(self) -> list[str]:
        """The baseline first, then the file's methods."""
        return list(dict.fromkeys([BASELINE, *self.methods]))

    @property
    def needs_source(self) -> list[str]:
        """Its methods that start from or learn from sources."""
        return [m for m in self.methods if TRAITS[m].sources != "none" or TRAITS[m].moves == "projector"]

    @property
    def projecting(self) -> list[str]:
        """Its methods that train a projector."""
        return [m for m in self.methods if TRAITS[m].moves == "projector"]

    @property
    def members(self) -> list[str]:
        """The tasks whose rows it reads, by name: targets, sources, and what mixtures hold."""
        sources = [
            task for name in self.sources if name not in self.imported for task in self.mixtures.get(name, [name])
        ]
        return list(dict.fromkeys([*self.targets, *sources]))

    @property
    def projected(self) -> list[str]:
        """The tasks that train the projector, by name."""
        return list(self.projector.tasks) or [
            name for name in self.sources if name not in self.mixtures and name not in self.imported
        ]

    @property
    def similarity_settings(self) -> SimilaritySettings:
        """What similarities that need the PLM look at."""
        return SimilaritySettings(**shared_settings(SimilaritySettings, self))

    def needs(self, key: str) -> list[str]:
        """Its methods that need another PLM: `teacher_plm` or `source_plm`."""
        return [method for method in self.methods if TRAITS[method].another == key]

    def source(self, name: str, tasks: Mapping[str, TaskSpec]) -> TaskSpec | Mixture:
        """A source by name: one of these located tasks, or a mixture of some."""
        if name not in self.mixtures:
            return tasks[name]
        return Mixture(name, tuple(tasks[member] for member in self.mixtures[name]), self.mixing_cap)

    def task(self, name: str) -> TaskSpec:
        """A task by name: of the file or of the table."""
        if name in self.tasks:
            own = self.tasks[name].spec(name)
            return own if own.wording else own.worded(self.template)
        task = TASKS[name].worded(self.template)
        return with_panda_metrics(task) if self.metrics == "panda" else task

    def method_space(self, method: str) -> Space:
        """A method's space with the file's overrides."""
        return SPACES[method].overridden(self.space.get(method, {}))


_ADAPTER = TypeAdapter(Experiment)


def _within(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment of a file that lies in a folder, which is no key of the file."""
    object.__setattr__(experiment, "_folder", folder)
    return experiment


def _check_domain(knob: str, domain: Domain) -> None:
    """Refuses values that a knob can't take."""
    values: Sequence[Any] = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
    whole = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    rules = {
        "learning_rate": ("positive numbers", len(numbers) == len(values) and min(numbers, default=0) > 0),
        "lambda": ("numbers of at least 0", len(numbers) == len(values) and min(numbers, default=-1) >= 0),
        "teacher_steps": (
            "a choice of positive integers",
            isinstance(domain, Choice) and len(whole) == len(values) and min(whole) > 0,
        ),
        "partners": (
            "integers of at least 0",
            not isinstance(domain, Float) and len(whole) == len(values) and min(whole) >= 0,
        ),
        "fusion": (f"{', '.join(FUSIONS)}", set(values) <= set(FUSIONS)),
        "inter_class": ("numbers of at least 0", len(numbers) == len(values) and min(numbers, default=-1) >= 0),
        "inter_instance": ("numbers of at least 0", len(numbers) == len(values) and min(numbers, default=-1) >= 0),
        "temperature": ("positive numbers", len(numbers) == len(values) and min(numbers, default=0) > 0),
        "attention_temperature": ("positive numbers", len(numbers) == len(values) and min(numbers, default=0) > 0),
    }
    rule, holds = rules[knob]
    if not holds:
        raise ValueError(f"{knob} takes {rule}, got {list(values)}")


def sources_of(experiment: Experiment, target: str) -> list[str]:
    """The sources that are paired with a target."""
    names = experiment.pairs.get(target, experiment.sources)
    return [name for name in names if may_teach(experiment, name, target)]


def may_teach(experiment: Experiment, source: str, target: str) -> bool:
    """Whether a source may serve a target: a task is no source of its own, alone or in a mixture, unless asked for."""
    return experiment.self_pairs == "include" or target not in experiment.mixtures.get(source, [source])
