"""Configurations of one trial that cover all methods, and all pairs of settings that could meet in a fault."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from panda_trainable.config.methods import KD_KINDS, TRAITS
from panda_trainable.config.setting import Plm
from panda_trainable.config.trial import Source, TrialConfig
from tests.kits.plms import FAMILIES
from tests.kits.tasks import HEADED, task_of_kind
from tests.kits.trials import short_trial, small_setting

_ROWS = """
prompt_tuning multiple_choice input 6 roberta mean 1 early mse
prompt_tuning tagging prefix - bert mean 1 early mse
prompt_tuning_longer extractive_qa prefix - bert cls 1 early mse
prompt_tuning_longer tagging input 6 roberta mean 1 early mse
plain_template classification prefix - bert mean 1 early mse
plain_template classification input - bert mean 1 early mse
model_tuning regression prefix - electra mean 1 early mse
multitask_model_tuning regression prefix - distilbert cls 2 early mse
multitask_model_tuning regression prefix - roberta mean 1 early mse
linear_probe tagging input - distilbert cls 1 early mse
linear_probe regression prefix - bert cls 1 early mse
spot classification input 6 bert cls 1 early mse
spot extractive_qa prefix - distilbert cls 2 early mse
spot_mixture tagging prefix 6 distilbert mean 1 early mse
spot_mixture classification input - bert mean 2 early mse
attempt classification input - bert mean 2 early mse
attempt tagging prefix 6 distilbert cls 1 early mse
attempt multiple_choice prefix - bert mean 2 early mse
mpt regression input 6 electra mean 2 early mse
mpt extractive_qa prefix - bert cls 1 early mse
zero_shot tagging prefix - bert mean 1 early mse
zero_shot multiple_choice input - bert cls 1 early mse
random_prompt regression input - bert cls 1 early mse
random_prompt tagging prefix - bert cls 1 early mse
panda classification prefix - electra cls 2 late hidden
panda extractive_qa input 6 electra mean 1 early kl
panda tagging input - electra mean 2 late_logits mse
panda tagging prefix - distilbert cls 2 late kl
panda multiple_choice prefix - bert mean 2 late hidden
panda multiple_choice prefix 6 bert mean 2 late_logits mse
panda_as_released multiple_choice input - electra cls 1 early mse
panda_as_released regression prefix 6 roberta mean 1 early mse
distill multiple_choice prefix 6 bert mean 1 early kl
distill multiple_choice input - distilbert cls 1 early hidden
distill tagging prefix - roberta cls 1 early mse
panda_distill regression input 6 roberta mean 2 late hidden
panda_distill extractive_qa prefix - roberta cls 2 late_logits mse
panda_distill classification input - roberta mean 1 early kl
panda_distill extractive_qa prefix 6 distilbert mean 2 late mse
panda_distill classification prefix - distilbert mean 2 late_logits kl
panda_distill regression prefix - distilbert mean 2 late_logits mse
tpt_model tagging input 6 roberta cls 1 early mse
tpt_model tagging prefix - electra mean 1 early mse
tpt_model_zero_shot classification prefix - distilbert mean 1 early mse
tpt_model_zero_shot multiple_choice input - electra mean 1 early mse
tpt_relative extractive_qa input - roberta cls 1 early mse
tpt_relative classification input 6 bert mean 1 early mse
tpt_relative_zero_shot regression input - distilbert cls 1 early mse
"""
"""Method, kind, form, width of the prompt's MLP, family, pooling, sources, fusion, distillation loss."""


@dataclass(frozen=True)
class Configuration:
    """One trial's method and settings."""

    method: str
    kind: str
    form: str
    mlp: int | None
    family: str
    pooling: str
    sources: int
    fusion: str
    kd: str

    def pairs(self) -> set[tuple[str, object, str, object]]:
        """The pairs of settings that meet in it, of those that should all meet somewhere."""
        return {(a, getattr(self, a), b, getattr(self, b)) for a, b in TOGETHER}

    def trial(self, folder: Path, plms: Callable[[str], Path], wide: Plm) -> TrialConfig:
        """The trial, its tasks in a folder."""
        setting = small_setting(plms(self.family))
        setting = replace(
            setting, plm=replace(setting.plm, pooling=self.pooling),
            prompt=replace(setting.prompt, form=self.form, mlp=self.mlp),
        )  # fmt: skip
        traits = TRAITS[self.method]
        changes: dict[str, Any] = {"target": task_of_kind(folder, self.kind)}
        if "fusion" in traits.knobs:
            changes["fusion"] = self.fusion
        if "lambda" in traits.knobs and not traits.fixed_loss:
            changes["kd"] = self.kd
        trial = short_trial(folder, setting, wide, self.method, self.sources, **changes)
        if traits.shares_head:
            return replace(trial, sources=(Source(task_of_kind(folder, self.kind, "source", seed=1), 0.5),))
        return trial


_AXES = {
    "method": tuple(TRAITS), "kind": HEADED, "form": ("prefix", "input"), "mlp": (None, 6), "family": FAMILIES,
    "pooling": ("mean", "cls"), "sources": (1, 2), "fusion": ("early", "late", "late_logits"), "kd": ("mse", "kl", "hidden"),
}  # fmt: skip
TOGETHER = (
    *((a, b) for a, b in combinations(_AXES, 2) if {a, b} <= {"kind", "form", "mlp", "family", "kd"}),
    *(("method", other) for other in ("form", "mlp", "sources", "fusion", "kd")),
    ("family", "pooling"), ("kind", "pooling"), ("kind", "fusion"), ("form", "fusion"),
)  # fmt: skip
"""Settings that one computation reads."""

CONFIGURATIONS = tuple(
    Configuration(method, kind, form, None if mlp == "-" else int(mlp), family, pooling, int(sources), fusion, kd)
    for method, kind, form, mlp, family, pooling, sources, fusion, kd in map(str.split, _ROWS.strip().splitlines())
)


def makes_sense(a: str, one: object, b: str, other: object) -> bool:
    """Whether two settings can meet at all."""
    both = {a: one, b: other}
    if "method" in both:
        traits = TRAITS[str(both["method"])]
        trains_prompts, loss_is_free = traits.trains == "prompt", "lambda" in traits.knobs and not traits.fixed_loss
        return (
            (both.get("mlp") is None or trains_prompts)
            and both.get("form", "input") in traits.forms
            and (both.get("form") != "input" or traits.trains != "model")
            and (both.get("sources") != 2 or "partners" in traits.knobs or traits.sources == "all")
            and (both.get("fusion", "early") == "early" or "fusion" in traits.knobs)
            and (both.get("kd", "mse") == "mse" or loss_is_free)
        )
    return "kd" not in both or "kind" not in both or both["kind"] in KD_KINDS[str(both["kd"])]


def expected_pairs() -> set[tuple[str, object, str, object]]:
    """All pairs of settings that can meet, of those that should."""
    return {
        (a, one, b, other)
        for a, b in TOGETHER for one in _AXES[a] for other in _AXES[b] if makes_sense(a, one, b, other)
    }  # fmt: skip
