"""The parts of the experiment file, each a checked value. Imports neither torch nor Ray."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from panda_trainable.config.task import METRIC_NAMES
from search_spaces.space import parse_domain


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


def as_list(value: Any) -> Any:
    """A single value stands for a list of one."""
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
    text: Annotated[list[str], BeforeValidator(as_list, json_schema_input_type=str | list[str])] = Field(
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


class TeacherTrainSection(Section):
    """How the larger PLM that teaches is tuned on the target."""

    trains: Literal["prompt", "model"] = Field("prompt", description="its prompt and head, or all its weights")
    steps: int | None = Field(None, ge=1, description="default: those of a trial")
    learning_rate: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="constant; default that of sources, and 5e-5 for all weights"
    )


class ProjectorSection(Section):
    """How prompts of `source_plm` become prompts of the PLM."""

    tasks: list[str] = Field([], description="sources whose prompts train it; default all; never the target")
    form: Literal["token", "flat"] = Field("token", description="token by token, or the whole prompt in two layers")
    objective: Literal["distance", "task"] = Field(
        "distance", description="nearest to the tasks' own prompts, or best at the tasks"
    )
    hidden: int = Field(768, ge=1, description="width of the middle layer of flat")
    steps: int = Field(200, ge=1, description="of its training")
    learning_rate: float = Field(0.005, gt=0, allow_inf_nan=False, description="of its training")


class EmbeddingSection(Section):
    """What task embeddings average."""

    pooling: Literal["head", "cls", "mean"] = Field("head", description="as heads read, first token, or all tokens")
    layer: int | None = Field(None, ge=1, description="states of this layer; default the last")


Window = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


class NeuronsSection(Section):
    """What the similarity `on` looks at: activated neurons."""

    inputs: Literal["dummy", "real"] = Field("dummy", description="one empty text, or train rows")
    layers: Window | None = Field(None, description="[first, last] layer; default all")

    @field_validator("layers")
    @classmethod
    def _ordered(cls, layers: list[int] | None) -> list[int] | None:
        if layers and layers[0] > layers[1]:
            raise ValueError(f"layers are [first, last], got {layers}")
        return layers


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


def written_as(value: Any) -> str:
    """Which of two ways to write a key a value is."""
    return MAPPING if isinstance(value, Mapping | Section) else TEXT


Alternatives = Discriminator(written_as)
