"""A trial's values can't be wrong, its shares are worked by hand, and its key holds all that decides numbers."""

from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import pytest

from panda_trainable.config import keys
from panda_trainable.config.keys import VERSIONS, content, content_key
from panda_trainable.config.methods import FUSIONS, KNOBS, SOURCELESS, TRAITS
from panda_trainable.config.origin import Unlocated
from panda_trainable.config.setting import (
    EmbeddingSettings,
    InitSettings,
    LimitSettings,
    NeuronSettings,
    Plm,
    PromptSettings,
    SelectionSettings,
    Setting,
    TrainSettings,
)
from panda_trainable.config.task import Hub, LabelRules, Mixture, Original, SplitSettings, TaskSpec
from panda_trainable.config.trial import Projection, Relative, Source, TeacherPlm, TrialConfig, normalised
from panda_trainable.config.wording import Wording

TASK = TaskSpec("t", "classification", ("a",), "label", ("no", "yes"), ("accuracy",), "data/t", (("train", "ab12"),))
REGRESSION = replace(TASK, kind="regression", classes=(), metrics=("pearson",))
WRITTEN = replace(TASK, kind="generation", classes=(), metrics=("rouge_l",))
CHOICE = replace(TASK, kind="multiple_choice", classes=(), choices=("a", "b"))
SETTING = Setting(Plm("models/tiny", "c0ffee"))
SOURCE = Source(replace(TASK, fingerprints=(("train", "cd34"),)), 0.5)
TEACHER, PROJECTION, RELATIVE = TeacherPlm(SETTING.plm), Projection(SETTING.plm, (TASK,)), Relative(SETTING.plm)
TRIAL = TrialConfig(
    SETTING, TASK, "panda", (0, 1), 100, 0.01, (SOURCE,), source_steps=50, source_learning_rate=0.02,
    lambda_=1.0, teacher_steps=20,
)  # fmt: skip

OTHERS: dict[Any, dict[str, Any]] = {
    TASK: {
        "name": "u", "kind": "regression", "text": ("a", "b"), "label": "l", "classes": ("yes", "no"),
        "metrics": ("f1",), "origin": Unlocated("elsewhere"), "fingerprints": (("train", "ab13"),), "prepare": "wic",
        "compared": ("b",), "question": ("q",), "id": "", "hub": Hub("somebody/t"), "counts": (("train", (3, 4)),),
        "labels": LabelRules("drop"), "split": SplitSettings(), "leaked": 3, "notes": ("classes are those of its labels",), "original": Original("T"),
        "choices_in": "endings", "wording": Wording("{a} {answer}"), "t5": Wording("t a: {a} {answer}"), "asked": Wording("{a} {answer}"),
        "passages": True,
    },
    CHOICE: {"choices": ("b", "a")},
    WRITTEN: {"window": 8},
    SETTING.plm: {
        "source": "/mnt/tiny", "files": "c0ffed", "pooling": "cls", "layers": 1, "positions": "from_zero",
        "note": "cls", "folder": "/mnt/made", "family_version": 1, "head": "linear", "kind": "causal_lm",
    },
    SETTING.prompt.init: {
        "kind": "zeros", "std": 0.1, "scale": 0.1, "sparsity": 0.2, "population": 100, "text": "good",
        "file": "a.safetensors",
    },
    SETTING.prompt: {"form": "input", "length": 21, "init": InitSettings("zeros"), "mlp": 8},
    SETTING.train: {"batch_size": 8, "max_length": 64, "eval_every": 10, "precision": "bf16", "max_answer": 8},
    SETTING.limit: {"train": 100, "report": 100},
    SETTING.selection: {"fraction": 0.3, "max_rows": 500},
    SETTING: {
        "plm": Plm("models/tiny", "decade"), "prompt": PromptSettings(mlp=8), "train": TrainSettings(8),
        "limit": LimitSettings(100), "selection": SelectionSettings(0.3), "protocol": "paper", "shots": 4,
        "source_shots": 4, "init_file": "f11e",
    },
    SOURCE: {"task": TASK, "similarity": 0.4, "drop_overlap": True},
    TRIAL: {
        "setting": replace(SETTING, train=replace(SETTING.train, batch_size=8)), "target": SOURCE.task, "method": "spot", "seeds": (0, 2),
        "steps": 101, "learning_rate": 0.02, "sources": (SOURCE, SOURCE), "source_steps": 51,
        "source_learning_rate": 0.03, "lambda_": 2.0, "teacher_steps": 21, "fusion": "late", "kd": "kl",
        "candidates": (20, 40), "lambda_schedule": "decay", "partner_weights": "uniform", "inter_class": 0.5,
        "inter_instance": 0.5, "relation": "gram", "temperature": 2.0, "teacher_plm": TEACHER, "projection": PROJECTION, "mixing_cap": 40,
        "attention_temperature": 2.0, "relative": RELATIVE,
    },
    RELATIVE: {"plm": Plm("models/tiny", "decade"), "anchors": 7, "steps": 201, "learning_rate": 0.1},
    TEACHER: {"plm": Plm("models/tiny", "decade"), "trains": "model", "steps": 401, "learning_rate": 0.1},
    PROJECTION: {
        "plm": Plm("models/tiny", "decade"), "tasks": (TASK, SOURCE.task), "form": "flat", "objective": "task",
        "hidden": 8, "steps": 201, "learning_rate": 0.1,
    },
    Mixture("m", (TASK,)): {"name": "n", "tasks": (SOURCE.task, TASK), "cap": 100, "shots": (4,)},
    EmbeddingSettings(): {"pooling": "cls", "layer": 1},
    NeuronSettings(): {"inputs": "real", "layers": (1, 2)},
}  # fmt: skip
DECIDE_NOTHING = {
    "name", "origin", "source", "eval_every", "report", "candidates", "id", "hub", "counts", "note", "file", "labels", "split", "leaked", "notes",
    "original", "choices_in", "wording", "t5", "folder", "passages",
}  # fmt: skip
ALONE = {CHOICE: "choices", WRITTEN: "window"}
"""Task of a kind -> the field that this kind alone has."""
CHANGES = [
    (value, f.name) for value in OTHERS for f in fields(value) if value not in ALONE and f.name not in ALONE.values()
]
CHANGES += list(ALONE.items())


@pytest.mark.parametrize(("value", "name"), CHANGES, ids=[f"{type(v).__name__}.{n}" for v, n in CHANGES])
def test_a_key_changes_with_all_that_decides_numbers_and_with_nothing_else(value: Any, name: str) -> None:
    other = OTHERS[value][name]
    assert other != getattr(value, name)
    more = {"classes": (), "metrics": ("pearson",)} if other == "regression" else {}
    changed = content_key("study", replace(value, **{name: other}, **more)) != content_key("study", value)
    assert changed == (name not in DECIDE_NOTHING)


def test_a_change_deep_inside_changes_the_key_of_the_trial() -> None:
    plm = replace(SETTING, plm=replace(SETTING.plm, layers=1))
    names = replace(SETTING, plm=replace(SETTING.plm, source="elsewhere"))
    assert content_key("study", replace(TRIAL, setting=plm)) != content_key("study", TRIAL)
    assert content_key("study", replace(TRIAL, setting=names)) == content_key("study", TRIAL)


def test_a_field_at_its_default_is_no_part_of_the_content() -> None:
    assert content(SETTING) == {"plm": {"files": "c0ffee"}}
    often = replace(SETTING, train=TrainSettings(eval_every=1), limit=LimitSettings(report=3))
    assert content(often) == content(SETTING)  # a section in which nothing that decides numbers is other than usual


def test_stages_share_no_key_and_a_raised_version_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {content_key(stage, TRIAL) for stage in VERSIONS}
    assert len(made) == len(VERSIONS)
    monkeypatch.setattr(keys, "VERSIONS", MappingProxyType({**VERSIONS, "study": 99}))
    assert content_key("study", TRIAL) not in made


def test_normalised_shares_by_hand() -> None:
    assert normalised([1.0, 3.0]) == (0.25, 0.75)
    assert normalised([0.2, -5.0, 0.2]) == (0.5, 0.0, 0.5)
    assert normalised([]) == ()


def test_shares_of_sources_of_which_none_is_positive_are_refused_with_their_values() -> None:
    with pytest.raises(ValueError, match=r"at least one similarity must be positive .* got \[0.0, -0.5\]"):
        normalised([0.0, -0.5])


def test_the_effective_lambda_by_hand() -> None:
    two = replace(TRIAL, lambda_=2.0, sources=(SOURCE, replace(SOURCE, similarity=0.25)))
    assert two.shares == pytest.approx((2 / 3, 1 / 3))
    assert two.lambda_effective == pytest.approx(2 * (2 / 3 * 0.5 + 1 / 3 * 0.25))


@pytest.mark.parametrize(("similarity", "effective"), [(0.5, 1.0), (0.0, 0.0), (-0.5, 0.0)])
def test_a_source_alone_has_the_whole_share_and_counts_by_its_similarity(similarity: float, effective: float) -> None:
    alone = replace(TRIAL, lambda_=2.0, sources=(replace(SOURCE, similarity=similarity),))
    assert alone.shares == (1.0,)
    assert alone.lambda_effective == effective


def test_a_method_that_divides_lambda_by_the_batch_size_counts_so_much_less() -> None:
    released = replace(TRIAL, method="panda_as_released", lambda_=8.0)  # B 16, and a similarity of 0.5
    assert released.scaled_lambda == 0.5
    assert released.lambda_effective == 0.25
    assert replace(TRIAL, lambda_=8.0).scaled_lambda == 8.0


def test_lambda_is_the_whole_weight_where_there_is_no_source() -> None:
    assert replace(TRIAL, method="distill", sources=(), teacher_plm=TEACHER, lambda_=2.0).lambda_effective == 2.0


def test_uniform_shares_are_the_same_whatever_the_similarities() -> None:
    sources = tuple(replace(SOURCE, similarity=s) for s in (0.5, 0.25, -1.0, 0.0))
    uniform = replace(TRIAL, lambda_=4.0, sources=sources, partner_weights="uniform")
    assert uniform.shares == (0.25, 0.25, 0.25, 0.25)
    assert uniform.source_weights == (0.5, 0.25, 0.0, 0.0)


@pytest.mark.parametrize("method", [name for name, traits in TRAITS.items() if traits.trains == "nothing"])
def test_a_method_that_trains_nothing_has_no_steps_and_no_rate(method: str) -> None:
    setting = replace(SETTING, prompt=replace(SETTING.prompt, form=TRAITS[method].forms[-1]))
    sources = TRIAL.sources if TRAITS[method].sources == "pair" else ()
    changes = {
        "steps": 0, "learning_rate": 0.0, "sources": sources, "projection": PROJECTION, "relative": RELATIVE,
    }  # fmt: skip
    assert replace(TRIAL, setting=setting, method=method, **changes).steps == 0


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"lambda_": 0.0}, ()),
        ({}, ("mse",)),
        ({"kd": "kl", "inter_class": 1.0}, ("kl", "inter_class")),
        ({"lambda_": 0.0, "inter_instance": 0.1, "relation": "distance"}, ("distance",)),
        ({"kd": "inter_class"}, ("inter_class",)),
        ({"kd": "gram", "relation": "gram", "inter_instance": 0.1}, ("gram",)),
    ],
)
def test_the_losses_that_are_asked_for_are_those_with_a_weight(changes: dict[str, Any], asked: tuple[str, ...]) -> None:
    assert replace(TRIAL, **changes).asked_losses == asked


def test_knobs_turn_the_base_into_a_trial_and_partners_count_behind_the_first_source() -> None:
    partners = tuple(replace(SOURCE, similarity=s) for s in (0.5, 0.4, 0.3))
    knobs = {"learning_rate": 0.3, "lambda": 4.0, "teacher_steps": 40, "partners": 1, "fusion": "late"}
    made = replace(TRIAL, sources=partners).with_knobs(knobs)
    assert (made.learning_rate, made.lambda_, made.teacher_steps, made.fusion) == (0.3, 4.0, 40, "late")
    assert made.sources == partners[:2]
    assert replace(TRIAL, sources=partners).with_knobs({"learning_rate": 0.3}).sources == partners[:1]


def test_every_knob_is_a_value_of_the_trial() -> None:
    known = {f.name for f in fields(TrialConfig)} | {"lambda", "partners"}
    assert {knob for knobs in KNOBS.values() for knob in knobs} <= known
    assert set(SOURCELESS) <= set(KNOBS)


def test_all_wrong_values_are_told_at_once_with_what_was_given() -> None:
    with pytest.raises(ValueError, match="seeds must") as refusal:
        replace(TRIAL, seeds=(1, 1), steps=0, learning_rate=float("nan"), lambda_=-1.0, teacher_steps=0, fusion="mid")
    for told in (
        "seeds must be different and at least one, got (1, 1)",
        "steps must be positive, got 0",
        "learning_rate must be positive, got nan",
        "lambda must not be negative, got -1.0",
        "teacher_steps must be positive, got 0",
        f"fusion must be one of {FUSIONS}, got 'mid'",
    ):
        assert told in str(refusal.value).split("; ")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "pada"}, "method must be one of prompt_tuning, .*, panda, .*, got 'pada'"),
        ({"seeds": ()}, r"at least one, got \(\)"),
        ({"sources": ()}, "panda needs a source"),
        ({"method": "prompt_tuning"}, "prompt_tuning takes no source"),
        ({"method": "prompt_tuning_longer"}, "prompt_tuning_longer takes no source"),
        ({"method": "model_tuning"}, "model_tuning takes no source"),
        ({"method": "multitask_model_tuning", "sources": ()}, "multitask_model_tuning needs a source"),
        ({"method": "distill", "sources": ()}, "distill needs a teacher_plm"),
        ({"method": "distill", "teacher_plm": TEACHER}, "distill takes no source"),
        ({"method": "tpt_model", "sources": ()}, "tpt_model needs a source_plm"),
        ({"method": "tpt_model_zero_shot", "projection": PROJECTION, "sources": ()}, "tpt_model_zero_shot needs a sou"),
        ({"method": "spot", "steps": 0}, "steps must be positive, got 0"),
        ({"kd": "cosine"}, "kd must be one of mse, kl, hidden, .*, got 'cosine'"),
        ({"kd": "kl", "target": REGRESSION}, "kl is not defined for a regression"),
        ({"inter_class": 1.0, "target": REGRESSION}, "inter_class is not defined for a regression"),
        ({"inter_instance": 1.0, "relation": "gram", "target": REGRESSION}, "gram is not defined for a regression"),
        ({"inter_class": -1.0}, "weights of relations must not be negative, got -1.0 and 0.0"),
        ({"relation": "kl"}, r"relation must be one of \('inter_instance', 'gram', 'distance'\), got 'kl'"),
        ({"temperature": -1.0}, "temperature must not be negative, got -1.0"),
        ({"lambda_schedule": "up"}, r"lambda_schedule must be one of \('constant', .*\), got 'up'"),
        ({"partner_weights": "best"}, r"partner_weights must be one of \('similarity', 'uniform'\), got 'best'"),
        ({"source_steps": 0}, "source_steps must be positive, got 0"),
        ({"source_learning_rate": 0.0}, "source_learning_rate must be positive, got 0"),
        ({"method": "tpt_model", "sources": (), "projection": PROJECTION, "source_steps": 0}, "source_steps must be"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_wrong_value_is_refused_with_its_rule(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(TRIAL, **changes)


def test_a_setting_knows_the_shots_of_sources_and_of_targets() -> None:
    both = replace(SETTING, prompt=replace(SETTING.prompt, mlp=2), shots=4, source_shots=8)
    assert both.of_sources == replace(SETTING, prompt=replace(SETTING.prompt, mlp=2), shots=8)
    assert both.of_targets == replace(SETTING, prompt=replace(SETTING.prompt, mlp=2), shots=4)
    assert SETTING.of_sources == SETTING.of_targets == SETTING


def test_a_target_tuned_alone_has_one_key_whatever_the_shots_of_sources() -> None:
    alone = [content_key("prompts", replace(SETTING, shots=4, source_shots=n).of_targets) for n in (0, 8)]
    assert alone[0] == alone[1]


@pytest.mark.parametrize("kind", ["classification", "multiple_choice", "tagging", "extractive_qa"])
def test_kl_is_refused_for_a_regression_alone(kind: str) -> None:
    spec = {
        "classification": TASK,
        "multiple_choice": CHOICE,
        "tagging": replace(TASK, kind="tagging", classes=("O", "B-X"), metrics=("entity_f1",)),
        "extractive_qa": replace(TASK, kind="extractive_qa", classes=(), text=("q", "p"), metrics=("answer_f1",)),
    }[kind]
    assert replace(TRIAL, target=spec, kd="kl").kd == "kl"


def test_a_regression_may_be_plainly_tuned_whatever_its_distillation_would_be() -> None:
    assert TrialConfig(SETTING, REGRESSION, "prompt_tuning", (0,), 1, 0.1, kd="kl").kd == "kl"
