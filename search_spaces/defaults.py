"""SPACES: what is searched of each method, with the published setting as the first point."""

import math
from collections.abc import Mapping
from types import MappingProxyType

from panda_trainable.config.methods import FUSIONS
from search_spaces.space import Choice, Float, Int, Knob, Shares, Space

# PANDA's scripts train plain and transferred prompts with 1e-2 but PANDA with 7e-3, which confounds
# the method with its rate: here all start at 1e-2 and search the same range.
LEARNING_RATE = Knob("learning_rate", Float(1e-3, 6e-2, log=True), 1e-2)
PARTNERS = Knob("partners", Int(0, 2), 0)

# Usual rates of fine-tuning are 1e-5 to 5e-5, and ten times as much for the smallest PLMs.
MODEL_RATE = Knob("learning_rate", Float(1e-5, 5e-4, log=True), 5e-5)

# A head alone is a convex problem, which takes larger steps.
PROBE_RATE = Knob("learning_rate", Float(1e-3, 1e-1, log=True), 1e-2)
PANDA = (
    LEARNING_RATE,
    Knob("lambda", Float(1e-2, 10.0, log=True), 0.1),
    Knob("teacher_steps", Shares((0.1, 0.25, 0.5)), None),
    PARTNERS,
    Knob("fusion", Choice(FUSIONS[:2]), "early", when="partners"),
)

# ATTEMPT divides scores by the width of the embeddings times e.
ATTENTION = Knob("attention_temperature", Float(0.1, 10.0, log=True), math.e)

# DIST's defaults first (weights and temperature of 1), in the range that its students were trained in.
RELATIONS = (
    Knob("inter_class", Float(0.1, 5.0, log=True), 1.0),
    Knob("inter_instance", Float(0.1, 5.0, log=True), 1.0),
    Knob("temperature", Choice((1.0, 2.0, 4.0)), 1.0),
)

# The released scripts: rate 7e-3, weight 0.1 times beta of 0.1, a teacher of a whole run.
AS_RELEASED = (
    Knob("learning_rate", Choice((7e-3,)), 7e-3),
    Knob("lambda", Choice((0.01,)), 0.01),
    Knob("teacher_steps", Shares((1.0,)), None),
)

SPACES: Mapping[str, Space] = MappingProxyType(
    {
        "prompt_tuning": Space((LEARNING_RATE,)),
        "prompt_tuning_longer": Space((LEARNING_RATE,)),
        "plain_template": Space(()),
        "model_tuning": Space((MODEL_RATE,)),
        "multitask_model_tuning": Space((MODEL_RATE,)),
        "linear_probe": Space((PROBE_RATE,)),
        "spot": Space((LEARNING_RATE, PARTNERS)),
        "spot_mixture": Space((LEARNING_RATE, PARTNERS)),
        "attempt": Space((LEARNING_RATE, ATTENTION)),
        "mpt": Space((LEARNING_RATE,)),
        "zero_shot": Space(()),
        "random_prompt": Space(()),
        "panda": Space(PANDA),
        "panda_as_released": Space(AS_RELEASED),
        "distill": Space((LEARNING_RATE, Knob("lambda", Choice((0.0,)), 0.0), *RELATIONS)),
        "panda_distill": Space((*PANDA, *RELATIONS)),
        "tpt_model": Space((LEARNING_RATE,)),
        "tpt_model_zero_shot": Space(()),
        "tpt_relative": Space((LEARNING_RATE,)),
        "tpt_relative_zero_shot": Space(()),
    }
)
"""Method -> space."""
