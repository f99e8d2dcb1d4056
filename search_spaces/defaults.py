"""SPACES: what is searched of each method, with the published setting as the first point."""

from collections.abc import Mapping
from types import MappingProxyType

from panda_trainable.config import FUSIONS
from search_spaces.space import Choice, Float, Int, Knob, Shares, Space

# PANDA's scripts train plain and transferred prompts with 1e-2 but PANDA with 7e-3, which confounds
# the method with its rate: here all start at 1e-2 and search the same range.
LEARNING_RATE = Knob("learning_rate", Float(1e-3, 6e-2, log=True), 1e-2)
PARTNERS = Knob("partners", Int(0, 2), 0)

SPACES: Mapping[str, Space] = MappingProxyType(
    {
        "prompt_tuning": Space((LEARNING_RATE,)),
        "prompt_tuning_longer": Space((LEARNING_RATE,)),
        # Usual rates of fine-tuning are 1e-5 to 5e-5, and ten times as much for the smallest PLMs.
        "model_tuning": Space((Knob("learning_rate", Float(1e-5, 5e-4, log=True), 5e-5),)),
        "spot": Space((LEARNING_RATE, PARTNERS)),
        "panda": Space(
            (
                LEARNING_RATE,
                Knob("lambda", Float(1e-2, 10.0, log=True), 0.1),
                Knob("teacher_steps", Shares((0.1, 0.25, 0.5)), None),
                PARTNERS,
                Knob("fusion", Choice(FUSIONS), "early", when="partners"),
            )
        ),
    }
)
"""Method -> space."""
