"""TRAITS: what each method takes, one row a method. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args


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

Fusion = Literal["early", "late", "late_logits"]
LambdaSchedule = Literal["constant", "decay", "warmup_decay"]
PartnerWeights = Literal["similarity", "uniform"]
InstanceRelation = Literal["inter_instance", "gram", "distance"]
"""Losses that compare the examples of a batch: the forms of the inter-instance relation."""

FUSIONS: tuple[str, ...] = get_args(Fusion)
LAMBDA_SCHEDULES: tuple[str, ...] = get_args(LambdaSchedule)
PARTNER_WEIGHTS: tuple[str, ...] = get_args(PartnerWeights)
INSTANCE_RELATIONS: tuple[str, ...] = get_args(InstanceRelation)
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

SIMILARITY_NAMES = ("task_embedding", "c_mean", "c_pair", "c_concat", "e_concat", "e_avg", "on")
