"""Experiment: the YAML file as a checked value. Imports neither torch nor Ray."""

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from panda_trainable.config import KNOBS, SIMILARITY_NAMES, SOURCELESS
from panda_trainable.tasks import METRIC_NAMES, TASKS, TaskSpec, with_panda_metrics
from search_spaces.defaults import SPACES
from search_spaces.space import Choice, Domain, Float, Space, parse_domain

BASELINE = "prompt_tuning"
LONGER = "prompt_tuning_longer"
NAME_BYTES = 255
"""Longest name that file systems take."""


class Misuse(Exception):
    """A user's mistake: one message with everything that is wrong. Exit code 2, no traceback.

    Attributes:
        partial: what of the experiment is right, so that more of it can be checked; None if nothing is.
        doubtful: keys of the file that are wrong or missing: what hangs on them is not checked.
        plans: what of its plans is right.
    """

    partial: "Experiment | None" = None
    doubtful: frozenset[str] = frozenset()
    plans: tuple[Any, ...] = ()


class Section(BaseModel):
    """A part of the file: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class PlmSection(Section):
    """The frozen PLM."""

    source: str = Field(alias="from", min_length=1, description="hub id, folder, or package:<module>/<folder>")
    pooling: Literal["cls", "mean"] = Field("mean", description="what heads read: first token, or mean of all")
    layers: int | None = Field(None, ge=1, description="keep so many layers; default all")
    positions: Literal["after_prompt", "from_zero"] = Field(
        "after_prompt", description="position of the first token: P, or 0"
    )


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _as_name(value: Any) -> Any:
    """A class as its name: YAML reads 1 and true as what they look like."""
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else value


Names = list[Annotated[str, BeforeValidator(_as_name, json_schema_input_type=str | float | bool)]]


class TaskSection(Section):
    """A task of your own."""

    kind: Literal[
        "classification", "regression", "multiple_choice", "tagging", "extractive_qa"
    ] = Field("classification", description="what is predicted")  # fmt: skip
    text: Annotated[list[str], BeforeValidator(_as_list, json_schema_input_type=str | list[str])] = Field(
        min_length=1,
        max_length=2,
        description="one text, or two read as a pair: fields, or templates of fields in braces",
    )
    choices: list[str] = Field([], description="multiple_choice: the fields of the choices")
    label: str = Field("label", description="field of the label")
    classes: Names = Field([], description="class names in the order of their numbers; tags for tagging")
    metrics: list[str] = Field([], description="metrics; the first is the score; default those of the kind")
    path: str = Field("", description="folder inside `data`; default the task's name")
    id: str = Field("id", description="field that must differ from row to row, where rows have it; '' for none")

    @property
    def all_metrics(self) -> tuple[str, ...]:
        """The metrics, or where none are named the kind's usual ones."""
        usual = ("accuracy", "macro_f1") if self.kind == "classification" else METRIC_NAMES[self.kind]
        return tuple(self.metrics or usual)


def _as_kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class InitSection(Section):
    """Where soft prompts start."""

    kind: Literal[
        "normal", "uniform", "uniform_positive", "zeros", "sparse", "vocabulary", "labels", "text", "file"
    ] = Field("normal", description="the initialiser")  # fmt: skip
    std: float = Field(0.02, gt=0, allow_inf_nan=False, description="of normal")
    scale: float = Field(0.5, gt=0, allow_inf_nan=False, description="of uniform: U(-scale, scale), or U[0, scale)")
    sparsity: float = Field(0.1, ge=0, le=1, description="share of zeros of sparse")
    population: int = Field(5000, ge=1, description="vocabulary draws from so many first ids")
    text: str = Field("", description="of text")
    file: str = Field("", description="of file: safetensors with a tensor `prompt`")

    @model_validator(mode="after")
    def _said(self) -> "InitSection":
        if self.kind in ("text", "file") and not getattr(self, self.kind).strip():
            raise ValueError(f"init {self.kind} needs `{self.kind}:`")
        return self


class PromptSection(Section):
    """The soft prompt."""

    form: Literal["prefix", "input"] = Field(
        "prefix", description="keys and values in every layer (P-tuning v2), or before the embeddings (Lester)"
    )
    length: int = Field(20, ge=1, le=512, description="P, prompt tokens")
    init: Annotated[InitSection, BeforeValidator(_as_kind, json_schema_input_type=str | InitSection)] = Field(
        InitSection(), description="where it starts"
    )
    mlp: int | None = Field(None, ge=1, le=8192, description="train it through an MLP of so many middle units")


class ShotsSection(Section):
    """Few-shot draws."""

    per_class: int = Field(ge=1, description="train rows of each class, drawn per seed, and as many to select on")
    of: Literal["targets", "sources", "both"] = Field("targets", alias="for", description="whose rows")


Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class TrainSection(Section):
    """How students are trained."""

    steps: int = Field(400, ge=1, description="steps of a trial")
    batch_size: int = Field(16, ge=1, description="B, examples per step and seed")
    max_length: int = Field(128, ge=8, description="tokens of an example; longer ones are cut")
    eval_every: int = Field(50, ge=1, description="steps between evaluations on selection rows")
    seeds: Seeds = Field([0, 1, 2], description="one replica and one whole pipeline each")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="of the frozen PLM's matrix products, in sources and teachers too"
    )

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"seeds must differ, got {seeds}")
        return seeds


class SourceTrainSection(Section):
    """How source prompts, embeddings' prompts and teachers are trained: plainly, at a constant rate."""

    steps: int = Field(1000, ge=1, description="steps of a source prompt")
    early_step: int = Field(200, ge=1, description="step of the snapshot that similarities compare")
    learning_rate: float = Field(0.01, gt=0, allow_inf_nan=False, description="constant; of teachers too")

    @field_validator("early_step")
    @classmethod
    def _within(cls, early: int, info: ValidationInfo) -> int:
        if "steps" in info.data and early > info.data["steps"]:
            raise ValueError(f"early_step must be at most steps, got {early} of {info.data['steps']}")
        return early


class LimitSection(Section):
    """Caps on rows."""

    train: int | None = Field(None, ge=10, description="rows of each train split at most, selection included")
    report: int | None = Field(None, ge=1, description="report rows at most")


class SelectionSection(Section):
    """Rows the search looks at."""

    fraction: float = Field(0.2, gt=0, lt=1, description="share of train rows held out")
    max_rows: int = Field(1000, ge=1, description="at most so many")


class SearchSection(Section):
    """The search."""

    trials: int = Field(24, ge=1, description="trials of each study")
    hours: float | None = Field(None, gt=0, description="no new trial starts after so many hours")
    sampler: Literal["tpe", "random"] = Field("tpe", description="how trials are suggested")
    scheduler: Literal["asha", "none"] = Field("asha", description="whether poor trials stop early")
    per_study: int = Field(4, ge=1, description="live trials of a study at most")
    seed: int = Field(0, ge=0, description="of the sampler")


class ConfirmSection(Section):
    """The best configurations again, with fresh seeds, on report rows."""

    top: int = Field(2, ge=1, description="configurations of each study")
    seeds: Seeds = Field([10, 11, 12], description="must differ from train.seeds")


class ResourcesSection(Section):
    """What a trial takes of the cluster."""

    cpu: float = Field(1, gt=0, description="CPUs of a trial")
    gpu: float = Field(0, ge=0, description="GPUs of a trial; fractions are fine")


class TrackingSection(Section):
    """Where MLflow is."""

    uri: str | None = Field(None, description="default: sqlite in the storage")


def _as_domains(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"a space maps knobs to domains, got {value!r}")
    return {name: parse_domain(domain) for name, domain in value.items()}


Domains = Annotated[dict[str, Any], BeforeValidator(_as_domains)]
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
Weights = dict[str, dict[str, Annotated[float, Field(allow_inf_nan=False)]]]

TEXT, MAPPING = "(text)", "(mapping)"
"""Tags of the two ways to write a key that takes either: pydantic's paths name them, messages leave them out."""


def _written_as(value: Any) -> str:
    return MAPPING if isinstance(value, Mapping | Section) else TEXT


Alternatives = Discriminator(_written_as)


class Experiment(Section):
    """The experiment file. Paths are relative to it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the MLflow experiment and the folder")
    plm: Annotated[
        list[PlmSection],
        BeforeValidator(_as_list, json_schema_input_type=PlmSection | list[PlmSection]),
        Field(min_length=1),
    ] = Field(description="the frozen pretrained language model, or a list of them")
    data: str = Field("data", description="holds <task>/{train,validation,test}.jsonl (csv, tsv, parquet, conll)")
    tasks: dict[TaskName, TaskSection] = Field({}, description="your own tasks beside the built-in table")
    metrics: Literal["glue", "panda"] = Field("glue", description="scores as GLUE and SuperGLUE, or PANDA, have them")
    sources: list[str] = Field([], description="source tasks")
    targets: list[str] = Field(min_length=1, description="target tasks")
    methods: list[str] = Field([], description="methods; prompt_tuning is always there")
    pairs: dict[str, list[str]] = Field({}, description="target: its sources, where not all of them")
    prompt: PromptSection = Field(PromptSection(), description="the soft prompt")
    train: TrainSection = Field(TrainSection(), description="students")
    source_train: SourceTrainSection = Field(SourceTrainSection(), description="sources, embeddings, teachers")
    shots: ShotsSection | None = Field(None, description="few-shot: so many rows of each class")
    limit: LimitSection = Field(LimitSection(), description="caps on rows")
    selection: SelectionSection = Field(SelectionSection(), description="rows the search looks at")
    similarities: list[str] = Field(list(SIMILARITY_NAMES), description="measured for all pairs")
    weigh_by: Annotated[Annotated[str, Tag(TEXT)] | Annotated[Weights, Tag(MAPPING)], Alternatives] = Field(
        "task_embedding", description="a similarity, none, or target: {source: value}"
    )
    kd: Literal["mse", "kl"] = Field("mse", description="distillation loss")
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
        return _known(names, [*TASKS, *own], "task")

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, names: list[str]) -> list[str]:
        return _known(names, list(KNOBS), "method")

    @field_validator("similarities")
    @classmethod
    def _known_similarities(cls, names: list[str]) -> list[str]:
        return _known(names, list(SIMILARITY_NAMES), "similarity")

    @field_validator("pairs")
    @classmethod
    def _known_pairs(cls, pairs: dict[str, list[str]], info: ValidationInfo) -> dict[str, list[str]]:
        _known(list(pairs), info.data.get("targets", list(pairs)), "target")
        for names in pairs.values():
            _known(names, info.data.get("sources", names), "source")
        return pairs

    @field_validator("weigh_by")
    @classmethod
    def _known_weights(cls, value: str | Weights, info: ValidationInfo) -> str | Weights:
        if isinstance(value, str):
            names = [*info.data.get("similarities", SIMILARITY_NAMES), "none"]
            _known([value], names, "similarity among `similarities`")
        return value

    @field_validator("space")
    @classmethod
    def _known_knobs(cls, space: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        _known(list(space), list(KNOBS), "method")
        for method, domains in space.items():
            _known(list(domains), list(KNOBS[method]), f"knob of {method}")
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
        own = raw.get("tasks")
        experiment = cls.model_validate(raw, context={"tasks": list(own)} if isinstance(own, Mapping) else None)
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
        """Its methods that start from or learn from a source."""
        return [method for method in self.methods if method not in SOURCELESS]

    def task(self, name: str) -> TaskSpec:
        """A task by name: of the file or of the table."""
        if name not in self.tasks:
            return with_panda_metrics(TASKS[name]) if self.metrics == "panda" else TASKS[name]
        own = self.tasks[name]
        return TaskSpec(
            name, own.kind, tuple(own.text), own.label, tuple(own.classes), own.all_metrics, own.path or name,
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
        "fusion": ("early and late", set(values) <= {"early", "late"}),
    }
    rule, holds = rules[knob]
    if not holds:
        raise ValueError(f"{knob} takes {rule}, got {list(values)}")


def _known(names: list[str], known: Sequence[str], what: str) -> list[str]:
    unknown = [f"{name!r}{near(name, known)}" for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; there are {', '.join(known) or 'none'}")
    if len(set(names)) != len(names):
        raise ValueError(f"each {what} once, got {names}")
    return names


def near(name: str, known: Sequence[str]) -> str:
    """What was probably meant, in words; empty where nothing is close."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def sources_of(experiment: Experiment, target: str) -> list[str]:
    """The sources that are paired with a target."""
    names = experiment.pairs.get(target, experiment.sources)
    return [name for name in names if name != target or experiment.self_pairs == "include"]
