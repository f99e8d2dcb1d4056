"""A small setting, and short trials of every method."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from panda_trainable.config.methods import KD_KINDS, TRAITS
from panda_trainable.config.setting import InitSettings, Plm, PromptSettings, Setting, TrainSettings
from panda_trainable.config.trial import Projection, Relative, Source, TeacherPlm, TrialConfig
from panda_trainable.config.wording import Wording
from panda_trainable.pretrained.files import plm_files
from panda_trainable.pretrained.kinds import KINDS
from tests.kits.tasks import small_task


def small_setting(plm: Path) -> Setting:
    """Three prompt tokens, and texts of 16 tokens, on the PLM of a folder."""
    return Setting(
        Plm(str(plm), plm_files(plm)),
        prompt=PromptSettings(length=3),
        train=TrainSettings(batch_size=4, max_length=16, eval_every=4),
    )


def setting_on(plm: Plm, form: str = "input", **train: Any) -> Setting:
    """A small setting on a PLM, with prompts that start from its vocabulary."""
    setting = replace(small_setting(Path(plm.source)), plm=plm)
    prompt = PromptSettings(form, 3, InitSettings("vocabulary"))
    return replace(setting, prompt=prompt, train=replace(setting.train, **{"max_length": 24, **train}))


def short_trial(
    folder: Path, setting: Setting, wide: Plm, method: str = "prompt_tuning", sources: int = 1, **changes: Any
) -> TrialConfig:
    """A trial of eight steps and two seeds.

    Args:
        folder: where its tasks are made.
        setting: a small one.
        wide: another PLM, for methods that have a part on one.
        method: which.
        sources: how many, where the method has sources.
        changes: fields of the trial; its target is the task `t` otherwise.
    """
    traits = TRAITS[method]
    steps, rate = (0, 0.0) if traits.trains == "nothing" else (8, 0.02)
    target = changes.pop("target") if "target" in changes else small_task(folder, "t")
    values: dict[str, Any] = {"seeds": (0, 1), "steps": steps, "learning_rate": rate}
    if traits.sources != "none":
        values["sources"] = tuple(
            Source(small_task(folder, f"s{i}", seed=i + 1), 0.5 / (i + 1)) for i in range(sources)
        )
    if setting.prompt.form not in traits.forms:
        setting = replace(setting, prompt=replace(setting.prompt, form=traits.forms[0]))
    if traits.sources != "none" or traits.moves:
        values |= {"source_steps": 6, "source_learning_rate": 0.02}
    if "lambda" in traits.knobs:
        values["lambda_"] = 1.0
    if "attention_temperature" in traits.knobs:
        values["attention_temperature"] = 0.5
    if "teacher_steps" in traits.knobs:
        values |= {"teacher_steps": 4, "candidates": (2, 4)}
    if traits.another == "teacher_plm":
        relations = {name: target.kind in KD_KINDS[name] for name in ("inter_class", "inter_instance")}
        values |= {name: 0.5 * fits for name, fits in relations.items()}
        values["teacher_plm"] = TeacherPlm(wide, steps=6, learning_rate=0.02)
    if traits.moves == "relative":
        values["relative"] = Relative(wide, anchors=20, steps=30, learning_rate=0.05)
    if traits.moves == "projector":
        tasks = small_task(folder, "p0", seed=11), small_task(folder, "p1", seed=12)
        values["projection"] = Projection(wide, tasks, steps=5)
    return TrialConfig(setting, target, method, **(values | changes))


def asked_trial(
    folder: Path, plm: Plm, wide: Plm, method: str = "prompt_tuning", form: str = "input", **changes: Any
) -> TrialConfig:
    """A trial of four steps on a language model that is asked in words; source and target have other classes.

    Args:
        folder: where its tasks are made.
        plm: a language model.
        wide: another PLM, for methods that have a part on one.
        method: which.
        form: of prompts.
        changes: fields of the trial.
    """
    setting = replace(small_setting(Path(plm.source)), plm=plm)
    setting = replace(setting, prompt=replace(setting.prompt, form=form, init=InitSettings("vocabulary")))
    wording = Wording("{a} It was {answer}.", (("terrible",), ("great",)))
    three = Wording("{a} This is a {answer}.", (("person",), ("place", "very time"), ("quantity",)))
    if KINDS[plm.kind].slot == "mask":
        three = replace(three, words=(("person",), ("place", "time"), ("quantity",)))
    target = small_task(folder, "t", wording=wording)
    trial = short_trial(folder, setting, wide, method, 1, target=target, **changes)
    sources = tuple(
        Source(small_task(folder, f"asked{i}", classes=3, seed=i + 1, wording=three).on(plm), source.similarity)
        for i, source in enumerate(trial.sources)
    )
    trial = replace(trial, target=target.on(plm), sources=sources, steps=4 if trial.steps else 0)
    if not trial.projection:
        return trial
    tasks = tuple(replace(task, wording=wording).on(plm) for task in trial.projection.tasks)
    return replace(trial, projection=replace(trial.projection, tasks=tasks))
