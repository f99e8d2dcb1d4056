"""Everything that decides one trial, as frozen values with a content key. Imports no torch."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from panda_trainable.tasks import MIXING_CAP, Mixture, TaskSpec


@dataclass(frozen=True)
class Traits:
    """What a method takes: all that planning its trials needs to know of it.

    Attributes:
        knobs: the hyperparameters that a search may vary.
        sources: `pair`: a study per source; `none`, or `all` sources of the target at once: a study per target.
        another: the other PLM it needs, by its key of the experiment file: `teacher_plm`, `source_plm`, or none.
        trains: `prompt` (and head), `head`, `model` (all weights), or `nothing`.
        shares_head: whether it takes over a source's head, which must fit the target's classes.
        mixes: whether it trains on several sources at once, which `mixing_cap` caps.
        as_released: whether it is the authors' code as it runs: no similarity, λ over the batch size, and its
            own loss and schedule whatever the file says.
    """

    knobs: tuple[str, ...]
    sources: Literal["none", "pair", "all"] = "none"
    another: Literal["", "teacher_plm", "source_plm"] = ""
    trains: Literal["prompt", "head", "model", "nothing"] = "prompt"
    shares_head: bool = False
    mixes: bool = False
    as_released: bool = False


_RATE = ("learning_rate",)
_PANDA = ("learning_rate", "lambda", "teacher_steps", "partners", "fusion")
_RELATIONS = ("inter_class", "inter_instance", "temperature")

TRAITS: Mapping[str, Traits] = MappingProxyType(
    {
        "prompt_tuning": Traits(_RATE),
        "prompt_tuning_longer": Traits(_RATE),
        "model_tuning": Traits(_RATE, trains="model"),
        "multitask_model_tuning": Traits(_RATE, "all", trains="model", mixes=True),
        "linear_probe": Traits(_RATE, trains="head"),
        "spot": Traits(("learning_rate", "partners"), "pair"),
        "spot_mixture": Traits(("learning_rate", "partners"), "pair", mixes=True),
        "zero_shot": Traits((), "pair", trains="nothing", shares_head=True),
        "random_prompt": Traits((), "pair", trains="nothing", shares_head=True),
        "panda": Traits(_PANDA, "pair"),
        "panda_as_released": Traits(_PANDA[:3], "pair", as_released=True),
        "distill": Traits(("learning_rate", "lambda", *_RELATIONS), another="teacher_plm"),
        "panda_distill": Traits((*_PANDA, *_RELATIONS), "pair", another="teacher_plm"),
        "tpt_model": Traits(_RATE, another="source_plm"),
        "tpt_model_zero_shot": Traits((), "pair", another="source_plm", trains="nothing", shares_head=True),
    }
)
"""Method -> what it takes; `methods.METHODS` has what it does."""

KNOBS: Mapping[str, tuple[str, ...]] = MappingProxyType({name: traits.knobs for name, traits in TRAITS.items()})
"""Method -> the hyperparameters that a search may vary."""

SOURCELESS = tuple(name for name, traits in TRAITS.items() if traits.sources != "pair")
"""Methods with one study per target."""

FUSIONS = ("early", "late", "late_logits")
KD_KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mse": ("classification", "regression", "multiple_choice", "tagging", "extractive_qa"),
        "kl": ("classification", "multiple_choice", "tagging", "extractive_qa"),
        "hidden": ("classification", "regression", "multiple_choice"),
        "inter_class": ("classification", "multiple_choice"),
        "inter_instance": ("classification", "regression", "multiple_choice"),
        "gram": ("classification", "multiple_choice"),
        "distance": ("classification", "regression", "multiple_choice"),
    }
)
"""Distillation loss -> the task kinds it is defined for."""

INSTANCE_RELATIONS = ("inter_instance", "gram", "distance")
"""Losses that compare the examples of a batch: the forms of the inter-instance relation."""

LAMBDA_SCHEDULES = ("constant", "decay", "warmup_decay")
PARTNER_WEIGHTS = ("similarity", "uniform")
SIMILARITY_NAMES = ("task_embedding", "c_mean", "c_pair", "c_concat", "e_concat", "e_avg", "on")
SELF_PAIRS = ("exclude", "include")

VERSIONS: Mapping[str, int] = MappingProxyType(
    {"tokens": 2, "texts": 1, "prompts": 2, "teachers": 2, "embeddings": 2, "study": 2, "confirmed": 2, "gains": 1,
     "models": 1, "projectors": 1, "neurons": 1}
)  # fmt: skip
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
        task: the task, or a mixture of tasks.
        similarity: its weight.
        apart: whether its train rows that share a text with the target's report rows are dropped
            (False where there are none).
    """

    task: TaskSpec | Mixture
    similarity: float
    apart: bool = False


@dataclass(frozen=True)
class Tutor:
    """Another PLM, usually a larger one, that is tuned on the target and then teaches.

    Attributes:
        plm: the PLM.
        trains: `prompt` (and head), or `model` (all weights).
        steps: of its tuning, at a constant rate.
        learning_rate: of its tuning.

    Source: Yuan & Lang (2024).
    """

    plm: Plm
    trains: Literal["prompt", "model"] = "prompt"
    steps: int = 400
    learning_rate: float = 1e-2


@dataclass(frozen=True)
class Projection:
    """How prompts of another PLM become prompts of this one.

    Attributes:
        plm: where the prompts come from.
        tasks: tasks whose prompts train the projector; the target is not among them.
        form: `flat` (the whole prompt through two layers) or `token` (every token through one linear map).
        objective: `distance` to the task's own prompt on this PLM, or `task`: the loss of that task.
        hidden: width of the middle layer of `flat`.
        steps: of its training.
        learning_rate: of its training.

    Source: Su et al. (2022), TPT_MODEL.
    """

    plm: Plm
    tasks: tuple[TaskSpec, ...]
    form: Literal["flat", "token"] = "token"
    objective: Literal["distance", "task"] = "distance"
    hidden: int = 768
    steps: int = 200
    learning_rate: float = 5e-3


@dataclass(frozen=True)
class Measuring:
    """What similarities that need the PLM look at.

    Attributes:
        pooling: of task embeddings: `head` (as heads read), `cls` or `mean`.
        layer: of task embeddings: the layer whose states are averaged, from 1; None is the last.
        inputs: of activated neurons: one `dummy` input (special tokens alone), or `real` train rows.
        window: of activated neurons: first and last layer, from 1; None is all.
    """

    pooling: Literal["head", "cls", "mean"] = "head"
    layer: int | None = None
    inputs: Literal["dummy", "real"] = "dummy"
    window: tuple[int, int] | None = None


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
        kd: a name of KD_KINDS: the loss that λ weighs.
        candidates: all `teacher_steps` that its study may try: one warm-up run serves them.
        lambda_schedule: a name of LAMBDA_SCHEDULES; weighs every teacher.
        partner_weights: α: by `similarity`, or `uniform`.
        inter_class: weight of the tutor's inter-class relation, >= 0.
        inter_instance: weight of the tutor's inter-instance relation, >= 0.
        relation: which of INSTANCE_RELATIONS `inter_instance` weighs.
        temperature: τ of the tutor's losses; 0: each loss's own.
        tutor: the larger PLM that teaches.
        projection: from which PLM, and how, the student's start is projected.
        mixing_cap: rows of a task that count at most where the method trains on several at once.

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
    lambda_schedule: str = "constant"
    partner_weights: str = "similarity"
    inter_class: float = 0.0
    inter_instance: float = 0.0
    relation: str = "inter_instance"
    temperature: float = 0.0
    tutor: Tutor | None = None
    projection: Projection | None = None
    mixing_cap: int = MIXING_CAP

    def __post_init__(self) -> None:
        if self.method not in TRAITS:
            raise ValueError(f"method must be one of {', '.join(TRAITS)}, got {self.method!r}")
        traits = TRAITS[self.method]
        idle = traits.trains == "nothing"
        prompted = bool(self.sources or self.projection)
        rules = {
            f"seeds must be different and at least one, got {self.seeds}": 0 < len(set(self.seeds)) == len(self.seeds),
            f"steps must be positive, got {self.steps}": self.steps > 0 or idle,
            f"{self.method} trains nothing: steps must be 0, got {self.steps}": self.steps == 0 or not idle,
            f"learning_rate must be positive, got {self.learning_rate}": self.learning_rate > 0 or idle,
            f"lambda must not be negative, got {self.lambda_}": self.lambda_ >= 0,
            f"{self.method} needs a source": traits.sources == "none" or bool(self.sources),
            f"{self.method} takes no source": traits.sources != "none" or not self.sources,
            f"{self.method} needs a teacher_plm": traits.another != "teacher_plm" or self.tutor is not None,
            f"{self.method} needs a source_plm": traits.another != "source_plm" or self.projection is not None,
            f"source_steps must be positive, got {self.source_steps}": not prompted or self.source_steps > 0,
            f"source_learning_rate must be positive, got {self.source_learning_rate}": not prompted
            or self.source_learning_rate > 0,
            f"teacher_steps must be positive, got {self.teacher_steps}": "teacher_steps" not in traits.knobs
            or self.teacher_steps > 0,
            f"fusion must be one of {FUSIONS}, got {self.fusion!r}": self.fusion in FUSIONS,
            f"kd must be one of {', '.join(KD_KINDS)}, got {self.kd!r}": self.kd in KD_KINDS,
            f"lambda_schedule must be one of {LAMBDA_SCHEDULES}, got {self.lambda_schedule!r}": self.lambda_schedule
            in LAMBDA_SCHEDULES,
            f"partner_weights must be one of {PARTNER_WEIGHTS}, got {self.partner_weights!r}": self.partner_weights
            in PARTNER_WEIGHTS,
            f"relation must be one of {INSTANCE_RELATIONS}, got {self.relation!r}": self.relation in INSTANCE_RELATIONS,
            f"weights of relations must not be negative, got {self.inter_class} and {self.inter_instance}": min(
                self.inter_class, self.inter_instance
            )
            >= 0,
            f"temperature must not be negative, got {self.temperature}": self.temperature >= 0,
            **{
                f"{name} is not defined for a {self.target.kind}": self.target.kind in KD_KINDS.get(name, ())
                for name in self.asked_losses
            },
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise ValueError("; ".join(broken))

    @property
    def asked_losses(self) -> tuple[str, ...]:
        """The distillation losses that have a weight."""
        weights = ((self.kd, self.lambda_), ("inter_class", self.inter_class), (self.relation, self.inter_instance))
        return tuple(dict.fromkeys(name for name, weight in weights if weight and name in KD_KINDS))

    def with_knobs(self, knobs: Mapping[str, Any]) -> "TrialConfig":
        """The trial that a search's suggestion describes.

        Args:
            knobs: values of KNOBS; `partners` counts how many of the sources behind the first take part.
        """
        known = {"lambda": "lambda_"}
        values = {known.get(name, name): value for name, value in knobs.items() if name != "partners"}
        taken = None if TRAITS[self.method].sources == "all" else 1 + int(knobs.get("partners", 0))
        sources = self.sources[:taken]
        return dataclasses.replace(self, sources=sources, **values)

    @property
    def shares(self) -> tuple[float, ...]:
        """[S] α: similarities clipped at zero and normalised to sum 1 over the sources, or all the same."""
        if len(self.sources) == 1 or self.partner_weights == "uniform":
            return tuple(1 / len(self.sources) for _ in self.sources)
        return normalised([source.similarity for source in self.sources])

    @property
    def lambda_effective(self) -> float:
        """λ · Σ α·sim, or λ where there is no source: the weight that distillation really has."""
        return sum(self.source_weights) if self.sources else self.scaled_lambda

    @property
    def scaled_lambda(self) -> float:
        """λ, over B where the method divides by it."""
        return self.lambda_ / (self.setting.batch_size if TRAITS[self.method].as_released else 1)

    @property
    def source_weights(self) -> tuple[float, ...]:
        """[S] λ · α · sim of each source."""
        pairs = zip(self.shares, self.sources, strict=True)
        return tuple(self.scaled_lambda * share * max(source.similarity, 0.0) for share, source in pairs)


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
