"""Experiment: the YAML file as a checked value. Imports neither torch nor Ray."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, Tag, ValidationInfo, field_validator

from panda_trainable.config.methods import FUSIONS, KD_KINDS, KNOBS, SIMILARITY_NAMES, TRAITS
from panda_trainable.config.origin import Unlocated
from panda_trainable.config.setting import SimilaritySettings
from panda_trainable.config.task import MIXING_CAP, Mixture, TaskSpec
from panda_trainable.data.task_table import TASKS, with_panda_metrics
from search_spaces.defaults import SPACES
from search_spaces.space import Choice, Domain, Float, Space
from tuning.experiment.problems import check_known
from tuning.experiment.sections import (
    MAPPING,
    TEXT,
    Alternatives,
    ConfirmSection,
    Domains,
    EmbeddingSection,
    LimitSection,
    NeuronsSection,
    PlmSection,
    ProjectorSection,
    PromptSection,
    ResourcesSection,
    SearchSection,
    Section,
    SelectionSection,
    ShotsSection,
    SourceTrainSection,
    TaskName,
    TaskSection,
    TeacherTrainSection,
    TrackingSection,
    TrainSection,
    Weights,
    as_list,
)

BASELINE = "prompt_tuning"
LONGER = "prompt_tuning_longer"
NAME_BYTES = 255
"""Longest name that file systems take."""


class Experiment(Section):
    """The experiment file. Paths are relative to it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the MLflow experiment and the folder")
    plm: Annotated[
        list[PlmSection],
        BeforeValidator(as_list, json_schema_input_type=PlmSection | list[PlmSection]),
        Field(min_length=1),
    ] = Field(description="the frozen pretrained language model, or a list of them")
    data: str = Field("data", description="holds <task>/{train,validation,test}.jsonl (csv, tsv, parquet, conll)")
    tasks: dict[TaskName, TaskSection] = Field({}, description="your own tasks beside the built-in table")
    metrics: Literal["glue", "panda"] = Field("glue", description="scores as GLUE and SuperGLUE, or PANDA, have them")
    mixtures: dict[TaskName, Annotated[list[str], Field(min_length=1)]] = Field(
        {}, description="name: [tasks] that train one prompt together; a source by that name"
    )
    mixing_cap: int = Field(MIXING_CAP, ge=1, description="rows of a task that count at most in a mixture")
    sources: list[str] = Field([], description="source tasks and mixtures")
    targets: list[str] = Field(min_length=1, description="target tasks")
    methods: list[str] = Field([], description="methods; prompt_tuning is always there")
    pairs: dict[str, list[str]] = Field({}, description="target: its sources, where not all of them")
    prompt: PromptSection = Field(PromptSection(), description="the soft prompt")
    train: TrainSection = Field(TrainSection(), description="students")
    source_train: SourceTrainSection = Field(SourceTrainSection(), description="sources, embeddings, teachers")
    shots: ShotsSection | None = Field(None, description="few-shot: so many rows of each class")
    limit: LimitSection = Field(LimitSection(), description="caps on rows")
    selection: SelectionSection = Field(SelectionSection(), description="rows the search looks at")
    similarities: list[str] = Field(
        [name for name in SIMILARITY_NAMES if name != "on"], description="measured for all pairs"
    )
    embedding: EmbeddingSection = Field(EmbeddingSection(), description="what task embeddings average")
    neurons: NeuronsSection = Field(NeuronsSection(), description="what `on` looks at")
    weigh_by: Annotated[Annotated[str, Tag(TEXT)] | Annotated[Weights, Tag(MAPPING)], Alternatives] = Field(
        "task_embedding", description="a similarity, none, or target: {source: value}"
    )
    kd: str = Field("mse", description=f"the distillation loss that lambda weighs: {', '.join(KD_KINDS)}")
    lambda_schedule: Literal["constant", "decay", "warmup_decay"] = Field(
        "constant", description="of all distillation, over the steps"
    )
    partner_weights: Literal["similarity", "uniform"] = Field(
        "similarity", description="how a source and its partners are averaged"
    )
    relation: Literal["inter_instance", "gram", "distance"] = Field(
        "inter_instance", description="the loss that inter_instance weighs"
    )
    teacher_plm: PlmSection | None = Field(None, description="the larger PLM of distill and panda_distill")
    teacher_train: TeacherTrainSection = Field(TeacherTrainSection(), description="how it is tuned on the target")
    source_plm: PlmSection | None = Field(None, description="the PLM whose prompts tpt_model projects")
    projector: ProjectorSection = Field(ProjectorSection(), description="how it projects them")
    search: SearchSection = Field(SearchSection(), description="the search")
    space: dict[str, Domains] = Field({}, description="overrides of the default spaces, per method")
    confirm: ConfirmSection = Field(ConfirmSection(), description="the confirmation")
    protocol: Literal["held_out", "paper"] = Field("held_out", description="select on train rows, or on validation")
    overlap: Literal["drop", "warn", "refuse"] = Field(
        "drop", description="train rows of a source that share a text with a target's report rows"
    )
    self_pairs: Literal["exclude", "include"] = Field("exclude", description="may a task be its own source")
    resources: Annotated[
        Annotated[Literal["auto"], Tag(TEXT)] | Annotated[ResourcesSection, Tag(MAPPING)], Alternatives
    ] = Field("auto", description="auto asks for the GPUs there are")
    storage: str = Field("runs", description="a folder that every node sees")
    tracking: TrackingSection = Field(TrackingSection(), description="MLflow")
    _folder: Path = PrivateAttr(Path())

    @field_validator("data", "storage")
    @classmethod
    def _possible_paths(cls, path: str) -> str:
        if "\0" in path or any(len(part.encode()) > NAME_BYTES for part in path.split("/")):
            raise ValueError(f"must be a folder's name of at most {NAME_BYTES} bytes a part, got {path[:60]!r}")
        return path

    @field_validator("sources", "targets")
    @classmethod
    def _known_tasks(cls, names: list[str], info: ValidationInfo) -> list[str]:
        own = (info.context or {}).get("tasks", info.data.get("tasks", {}))
        mixtures = (info.context or {}).get("mixtures", info.data.get("mixtures", {}))
        return check_known(names, [*TASKS, *own, *(mixtures if info.field_name == "sources" else ())], "task")

    @field_validator("mixtures")
    @classmethod
    def _known_mixtures(cls, mixtures: dict[str, list[str]], info: ValidationInfo) -> dict[str, list[str]]:
        own = (info.context or {}).get("tasks", info.data.get("tasks", {}))
        for name, members in mixtures.items():
            check_known(members, [*TASKS, *own], "task")
            if name in TASKS or name in own:
                raise ValueError(f"{name} is a task already; give the mixture another name")
        return mixtures

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
            names = [*info.data.get("similarities", SIMILARITY_NAMES), "none"]
            check_known([value], names, "similarity among `similarities`")
        return value

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
            raise ValueError(f"confirm.seeds must be fresh: different and none of train.seeds, got {confirm.seeds}")
        return confirm

    @classmethod
    def placed(cls, raw: Mapping[str, Any], folder: Path) -> "Experiment":
        """The experiment of a file's values; its paths are relative to the folder."""
        named = {key: list(raw[key]) for key in ("tasks", "mixtures") if isinstance(raw.get(key), Mapping)}
        experiment = cls.model_validate(raw, context=named)
        experiment._folder = folder  # noqa: SLF001  # its own
        return experiment

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self._folder

    @property
    def storage_path(self) -> Path:
        """The storage folder, absolute."""
        return (self.folder / self.storage).resolve()

    @property
    def data_path(self) -> Path:
        """The data folder, absolute."""
        return (self.folder / self.data).resolve()

    @property
    def search_path(self) -> Path:
        """The folder of this experiment's search, absolute."""
        return self.storage_path / "searches" / self.name

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
        return [m for m in self.methods if TRAITS[m].sources != "none" or TRAITS[m].another == "source_plm"]

    @property
    def members(self) -> list[str]:
        """The tasks whose rows it reads, by name: targets, sources, and what mixtures hold."""
        sources = [task for name in self.sources for task in self.mixtures.get(name, [name])]
        return list(dict.fromkeys([*self.targets, *sources]))

    @property
    def projected(self) -> list[str]:
        """The tasks that train the projector, by name."""
        return self.projector.tasks or [name for name in self.sources if name not in self.mixtures]

    @property
    def similarity_settings(self) -> SimilaritySettings:
        """What similarities that need the PLM look at."""
        window = self.neurons.layers
        return SimilaritySettings(
            self.embedding.pooling, self.embedding.layer, self.neurons.inputs,
            (window[0], window[1]) if window else None,
        )  # fmt: skip

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
        if name not in self.tasks:
            return with_panda_metrics(TASKS[name]) if self.metrics == "panda" else TASKS[name]
        own = self.tasks[name]
        return TaskSpec(
            name, own.kind, tuple(own.text), own.label, tuple(own.classes), own.all_metrics, Unlocated(own.path),
            choices=tuple(own.choices), id=own.id,
        )  # fmt: skip

    def method_space(self, method: str) -> Space:
        """A method's space with the file's overrides."""
        return SPACES[method].overridden(self.space.get(method, {}))


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
