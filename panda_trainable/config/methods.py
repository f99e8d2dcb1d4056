"""TRAITS: what each method takes, one row a method; and the names of losses and similarities. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from panda_trainable.config.setting import PromptForm


@dataclass(frozen=True)
class Traits:
    """What a method takes: all that planning its trials needs to know of it.

    Attributes:
        knobs: the hyperparameters that a search may vary.
        sources: `pair`: a study per source; `none`, or `all` sources of the target at once: a study per target.
        another: the other PLM it needs, by its key of the experiment file: `teacher_plm`, `source_plm`, or none.
        moves: how prompts of `source_plm` become prompts of this PLM: by a `projector`, which is trained on sources, or in
            the `relative` space of words that both know; empty: no method of these.
        forms: the forms of prompts that it takes.
        trains: `prompt` (and head), `head`, `model` (all weights), or `nothing`.
        shares_head: whether it takes over a source's head, which must fit the target's classes.
        mixes: whether it trains on several sources at once, which `mixing_cap` caps.
        reference: what other methods' winners are compared with: `baseline`, which gains are over, or `start`,
            a source's prompt as a mere start; empty for all others.
        twin: the method that is the same without what is transferred, with which its winners are compared; empty:
            the winner of the baseline serves.
        as_long_as: the method whose whole cost it has in steps, those of the student and of the longest teacher; empty: its own.
        weighs_sources: whether a similarity weighs its sources; else all weigh 1.
        loss_holds_similarity: whether that weight is part of its loss, so that it decides a gain that it is to predict.
        fixed_loss: whether its distillation loss and schedule are its own, whatever the file says.
        lambda_over_batch: whether λ is divided by the batch size.
        asked: whether it is defined only where a language model's own head answers.
    """

    knobs: tuple[str, ...]
    sources: Literal["none", "pair", "all"] = "none"
    another: Literal["", "teacher_plm", "source_plm"] = ""
    moves: Literal["", "projector", "relative"] = ""
    forms: tuple[PromptForm, ...] = ("prefix", "input")
    trains: Literal["prompt", "head", "model", "nothing"] = "prompt"
    shares_head: bool = False
    mixes: bool = False
    reference: Literal["", "baseline", "start"] = ""
    twin: str = ""
    as_long_as: str = ""
    weighs_sources: bool = True
    loss_holds_similarity: bool = False
    fixed_loss: bool = False
    lambda_over_batch: bool = False
    asked: bool = False

    def reads(self, setting: str) -> bool:
        """Whether a setting of methods matters to this one; else it has its default."""
        if setting == "mixing_cap":
            return self.mixes
        if self.fixed_loss and setting in ("kd", "lambda_schedule"):
            return False
        return SETTINGS_OF_KNOBS.get(setting, "") in ("", *self.knobs)


SETTINGS_OF_KNOBS: Mapping[str, str] = MappingProxyType(
    {"kd": "lambda", "lambda_schedule": "lambda", "partner_weights": "partners", "relation": "inter_instance"}
)
"""Setting of methods -> the knob without which a method does not read it."""

BASELINE = "prompt_tuning"
"""The method over which gains are counted: every target has a study of it."""

_RATE = ("learning_rate",)
_PANDA = ("learning_rate", "lambda", "teacher_steps", "partners", "fusion")
_RELATIONS = ("inter_class", "inter_instance", "temperature")

TRAITS: Mapping[str, Traits] = MappingProxyType(
    {
        BASELINE: Traits(_RATE, reference="baseline"),
        "prompt_tuning_longer": Traits(_RATE, as_long_as="panda"),
        "plain_template": Traits((), trains="nothing", asked=True),
        "model_tuning": Traits(_RATE, trains="model"),
        "multitask_model_tuning": Traits(_RATE, "all", trains="model", mixes=True, weighs_sources=False),
        "linear_probe": Traits(_RATE, trains="head"),
        "spot": Traits(("learning_rate", "partners"), "pair", reference="start"),
        "spot_mixture": Traits(("learning_rate", "partners"), "pair", mixes=True),
        "attempt": Traits((*_RATE, "attention_temperature"), "all", weighs_sources=False),
        "mpt": Traits(_RATE, "all", mixes=True, weighs_sources=False),
        "zero_shot": Traits((), "pair", trains="nothing", shares_head=True, twin="random_prompt"),
        "random_prompt": Traits((), "pair", trains="nothing", shares_head=True),
        "panda": Traits(_PANDA, "pair", twin=BASELINE, loss_holds_similarity=True),
        "panda_as_released": Traits(
            _PANDA[:3], "pair", twin=BASELINE, weighs_sources=False, fixed_loss=True, lambda_over_batch=True
        ),
        "distill": Traits(("learning_rate", "lambda", *_RELATIONS), another="teacher_plm", twin=BASELINE),
        "panda_distill": Traits(
            (*_PANDA, *_RELATIONS), "pair", another="teacher_plm", twin=BASELINE, loss_holds_similarity=True
        ),
        "tpt_model": Traits(_RATE, another="source_plm", moves="projector"),
        "tpt_model_zero_shot": Traits(
            (),
            "pair",
            another="source_plm",
            moves="projector",
            trains="nothing",
            shares_head=True,
            twin="random_prompt",
        ),
        "tpt_relative": Traits(_RATE, another="source_plm", moves="relative", forms=("input",)),
        "tpt_relative_zero_shot": Traits(
            (),
            "pair",
            another="source_plm",
            moves="relative",
            forms=("input",),
            trains="nothing",
            shares_head=True,
            twin="random_prompt",
        ),
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
        "mse": ("classification", "regression", "multiple_choice", "tagging", "extractive_qa", "generation"),
        "kl": ("classification", "multiple_choice", "tagging", "extractive_qa"),
        "hidden": ("classification", "regression", "multiple_choice", "generation"),
        "inter_class": ("classification", "multiple_choice"),
        "inter_instance": ("classification", "regression", "multiple_choice"),
        "gram": ("classification", "multiple_choice"),
        "distance": ("classification", "regression", "multiple_choice"),
    }
)
"""Distillation loss -> the task kinds it is defined for."""

COMPARISONS = ("task_embedding", "c_mean", "c_pair", "c_concat", "e_concat", "e_avg", "on")
"""Similarities of two tuned prompts, or of what the PLM does behind them."""
CHANGES = ("c_mean_change", "c_concat_change", "e_avg_change")
"""Similarities of what training changed: two prompts, each less its start."""
SCORES = ("logme", "leep")
"""Scores of the target's train rows as the source's prompt has them encoded."""
SOURCE_ONLY = ("source_size", "label_entropy")
"""Trivial baselines, which know nothing of the target: measured always, so that the others can be compared with them."""
SIMILARITY_NAMES = (*COMPARISONS, *CHANGES, *SCORES, *SOURCE_ONLY)
WEIGHING = (*COMPARISONS, *CHANGES)
"""Those within -1 and 1 that know the target: shares of λ and of averages."""
