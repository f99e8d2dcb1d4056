"""Everything that decides one trial, as frozen values with a content key. Imports no torch."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from panda_trainable.tasks import TaskSpec

KNOBS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "prompt_tuning": ("learning_rate",),
        "prompt_tuning_longer": ("learning_rate",),
        "model_tuning": ("learning_rate",),
        "spot": ("learning_rate", "partners"),
        "panda": ("learning_rate", "lambda", "teacher_steps", "partners", "fusion"),
    }
)
"""Method -> the hyperparameters that a search may vary."""

SOURCELESS = ("prompt_tuning", "prompt_tuning_longer", "model_tuning")
"""Methods without a source: one study per target."""

FUSIONS = ("early", "late")
KD_KINDS = ("mse", "kl")
SIMILARITY_NAMES = ("task_embedding", "c_mean", "c_pair")
SELF_PAIRS = ("exclude", "include")

VERSIONS: Mapping[str, int] = MappingProxyType(
    {"tokens": 2, "texts": 1, "prompts": 2, "teachers": 2, "embeddings": 2, "study": 2, "confirmed": 2, "gains": 1}
)
"""Stage -> an integer that is raised when its numbers change; part of every key."""

Pooling = Literal["cls", "mean"]
Positions = Literal["after_prompt", "from_zero"]
Schedule = Literal["constant", "linear"]
Precision = Literal["float32", "bf16"]


def unkeyed(default: Any) -> Any:
    """A field that does not decide numbers (a name, a path): left out of content keys."""
    return field(default=default, metadata={"keyed": False})


@dataclass(frozen=True)
class Plm:
    """A frozen pretrained language model.

    Attributes:
        source: hub id, folder or `package:<module>/<folder>`, as the experiment file names it.
        files: hash of its weights, config and tokenizer files: its identity.
        pooling: what the head reads: the first token or the mean of all tokens.
        layers: layers kept, counted from the first; None keeps all.
        positions: position ids of the tokens begin after the prompt (P-tuning v2) or at zero.
        note: what tells it apart from another of the same name.
    """

    source: str = field(metadata={"keyed": False})
    files: str
    pooling: Pooling = "mean"
    layers: int | None = None
    positions: Positions = "after_prompt"
    note: str = unkeyed("")

    @property
    def label(self) -> str:
        """A short name for people: where it comes from and what was changed."""
        name = self.source.split(":")[-1].strip("/")
        return " · ".join(filter(None, (name, f"{self.layers} layers" if self.layers else "", self.note)))


@dataclass(frozen=True)
class Initial:
    """Where soft prompts start.

    Attributes:
        kind: a row of INITIALISERS.
        std: of `normal`, > 0.
        scale: of `uniform` and `uniform_positive`, > 0.
        sparsity: share of zeros of `sparse`, in [0, 1].
        population: `vocabulary` draws from so many first ids.
        text: of `text`.
        file: path of `file`, safetensors.
        content: hash of the file: its identity.
    """

    kind: str = "normal"
    std: float = 0.02
    scale: float = 0.5
    sparsity: float = 0.1
    population: int = 5000
    text: str = ""
    file: str = unkeyed("")
    content: str = ""


@dataclass(frozen=True)
class Setting:
    """What all trials of a plan on one PLM share.

    Attributes:
        prompt_form: `prefix` (keys and values in every layer) or `input` (before the token embeddings).
        prompt_length: P, tokens.
        batch_size: B, examples per step and replica.
        max_length: T at most, tokens of one example without the prompt.
        eval_every: steps between evaluations.
        limit_train: rows of the train split used at most; None is all.
        limit_report: rows of the report split used at most; None is all.
        selection_fraction: share of train rows held out for selection, in (0, 1).
        selection_rows: selection rows at most.
        protocol: `held_out` selects on rows of train; `paper` on validation, as the papers do.
        init: where prompts start.
        mlp: width of the MLP through which prompts are trained; 0: none.
        shots: train rows of each class that a seed draws for the task that is trained; 0: all.
        source_shots: the same for source tasks.
        precision: `float32`, or `bf16` for the frozen PLM's matrix products; what is trained stays float32.
    """

    plm: Plm
    prompt_form: str = "prefix"
    prompt_length: int = 20
    batch_size: int = 16
    max_length: int = 128
    eval_every: int = unkeyed(50)
    limit_train: int | None = None
    limit_report: int | None = unkeyed(None)
    selection_fraction: float = 0.2
    selection_rows: int = 1000
    protocol: str = "held_out"
    init: Initial = Initial()
    mlp: int = 0
    shots: int = 0
    source_shots: int = 0
    precision: Precision = "float32"

    @property
    def of_sources(self) -> "Setting":
        """The setting under which source prompts are trained."""
        return dataclasses.replace(self, shots=self.source_shots, source_shots=0)

    @property
    def of_targets(self) -> "Setting":
        """The setting under which a target alone is trained: it knows nothing of sources."""
        return dataclasses.replace(self, source_shots=0)


@dataclass(frozen=True)
class Source:
    """A source task in a trial, with its predicted transferability to the target.

    Attributes:
        task: the task.
        similarity: its weight.
        apart: whether its train rows that share a text with the target's report rows are dropped
            (False where there are none).
    """

    task: TaskSpec
    similarity: float
    apart: bool = False


@dataclass(frozen=True)
class TrialConfig:
    """One configuration of a study, trained with all its seeds.

    Attributes:
        setting: what the whole plan shares.
        target: the task to be good at.
        method: a row of METHODS.
        seeds: one replica, and one whole pipeline, each.
        steps: steps of the student.
        learning_rate: of prompt and head, at the first step; decays linearly to zero.
        sources: the pair's own source first, then the partners that take part.
        source_steps: steps of the source prompts that are transferred.
        source_learning_rate: constant rate of the source prompts and of teachers.
        lambda_: weight of distillation, >= 0; 0 is plain prompt tuning.
        teacher_steps: steps of the source prompt on the target before it teaches, > 0.
        fusion: `early` or `late`: how several sources teach one student.
        kd: distillation loss: `mse` or `kl`.
        candidates: all `teacher_steps` that its study may try: one warm-up run serves them.

    Raises:
        ValueError: if a value is impossible; the message lists all of them.
    """

    setting: Setting
    target: TaskSpec
    method: str
    seeds: tuple[int, ...]
    steps: int
    learning_rate: float
    sources: tuple[Source, ...] = ()
    source_steps: int = 0
    source_learning_rate: float = 0.0
    lambda_: float = 0.0
    teacher_steps: int = 0
    fusion: str = "early"
    kd: str = "mse"
    candidates: tuple[int, ...] = unkeyed(())

    def __post_init__(self) -> None:
        teaches = "lambda" in KNOBS.get(self.method, ())
        rules = {
            f"method must be one of {', '.join(KNOBS)}, got {self.method!r}": self.method in KNOBS,
            f"seeds must be different and at least one, got {self.seeds}": 0 < len(set(self.seeds)) == len(self.seeds),
            f"steps must be positive, got {self.steps}": self.steps > 0,
            f"learning_rate must be positive, got {self.learning_rate}": self.learning_rate > 0,
            f"lambda must not be negative, got {self.lambda_}": self.lambda_ >= 0,
            f"{self.method} needs a source": self.method in SOURCELESS or bool(self.sources),
            f"{self.method} takes no source": self.method not in SOURCELESS or not self.sources,
            f"source_steps must be positive, got {self.source_steps}": not self.sources or self.source_steps > 0,
            f"source_learning_rate must be positive, got {self.source_learning_rate}": not self.sources
            or self.source_learning_rate > 0,
            f"teacher_steps must be positive, got {self.teacher_steps}": not teaches or self.teacher_steps > 0,
            f"fusion must be one of {FUSIONS}, got {self.fusion!r}": self.fusion in FUSIONS,
            f"kd must be one of {KD_KINDS}, got {self.kd!r}": self.kd in KD_KINDS,
            "kl compares classes, and a regression has none: use kd: mse": not teaches
            or self.kd != "kl"
            or self.target.kind != "regression",
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise ValueError("; ".join(broken))

    def with_knobs(self, knobs: Mapping[str, Any]) -> "TrialConfig":
        """The trial that a search's suggestion describes.

        Args:
            knobs: values of KNOBS; `partners` counts how many of the sources behind the first take part.
        """
        known = {"lambda": "lambda_"}
        values = {known.get(name, name): value for name, value in knobs.items() if name != "partners"}
        sources = self.sources[: 1 + int(knobs.get("partners", 0))]
        return dataclasses.replace(self, sources=sources, **values)

    @property
    def shares(self) -> tuple[float, ...]:
        """[S] α: similarities clipped at zero and normalised to sum 1 over the sources; 1 where it is one."""
        if len(self.sources) == 1:
            return (1.0,)
        return normalised([source.similarity for source in self.sources])

    @property
    def lambda_effective(self) -> float:
        """λ · Σ α·sim: the weight that distillation really has."""
        pairs = zip(self.shares, self.sources, strict=True)
        return self.lambda_ * sum(share * max(source.similarity, 0.0) for share, source in pairs)


def normalised(weights: list[float]) -> tuple[float, ...]:
    """Weights clipped at zero that sum to 1.

    Raises:
        ValueError: if none is positive.
    """
    clipped = [max(weight, 0.0) for weight in weights]
    if weights and not sum(clipped) > 0:
        raise ValueError(f"at least one similarity must be positive to weigh sources, got {weights}")
    return tuple(weight / sum(clipped) for weight in clipped)


def content(value: Any) -> Any:
    """What of a value decides numbers, as plain JSON data.

    Names and paths are left out, and fields at their defaults: so a setting that is added later,
    with a default that does what was done before, leaves old keys as they were.
    """
    if dataclasses.is_dataclass(value):
        fields = [f for f in dataclasses.fields(value) if f.metadata.get("keyed", True)]
        said = {f.name: getattr(value, f.name) for f in fields}
        return {f.name: content(said[f.name]) for f in fields if said[f.name] != f.default}
    if isinstance(value, Mapping):
        return {str(k): content(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [content(item) for item in value]
    return value


def content_key(stage: str, *values: Any) -> str:
    """The name under which a result is stored: 20 hex digits of what decides it.

    Args:
        stage: a name of VERSIONS; its version is part of the key.
        values: all that decides the result.
    """
    text = json.dumps([stage, VERSIONS[stage], content(values)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
