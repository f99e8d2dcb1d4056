"""A configuration as a complete experiment file, from which it is trained again."""

from collections.abc import Iterator
from typing import Any

from panda_trainable.config.methods import BASELINE, TRAITS
from panda_trainable.config.section import as_filed, file_key, settings_of
from panda_trainable.config.task import Mixture
from panda_trainable.config.trial import (
    MethodSettings,
    ProjectorSettings,
    RelativeSettings,
    TeacherTrainSettings,
    TrialConfig,
)
from tuning.experiment.experiment import Experiment, TrialKeys


def pinned(experiment: Experiment, config: TrialConfig, pair_source: str | None) -> dict[str, Any]:
    """A configuration as a complete experiment file: every searched value fixed, its seeds the confirm seeds.

    Args:
        experiment: in which it was found.
        config: the configuration.
        pair_source: the source of its study; None where there is a study per target.
    """
    filed, target = experiment.filed, config.target.name
    method = _trained_as(config)
    own = {name: filed["tasks"][name] for name in _tasks(config) if name in filed["tasks"]}
    return {
        "name": f"{experiment.name}-{target}-{config.method}",
        "data": str(experiment.data_path),
        "targets": [target],
        **({"methods": [method]} if method != BASELINE else {}),
        **({"tasks": own} if own else {}),
        **_sources(filed, config, pair_source),
        **trial_settings(experiment, config),
        **_projected(config),
        "space": {method: config.knobs},
        "confirm": {"seeds": list(experiment.train.seeds)},
    }


def trial_settings(experiment: Experiment, config: TrialConfig) -> dict[str, Any]:
    """All settings that decide a trial, under the keys of the experiment file, with the values that the trial has.

    Args:
        experiment: in which the trial is.
        config: the trial.
    """
    filed = experiment.filed
    settings = {key: filed[key] for key in map(file_key, settings_of(TrialKeys))} | as_filed(config, MethodSettings)
    settings["mixing_cap"] = experiment.mixing_cap
    if not (TRAITS[config.method].mixes or any(isinstance(source.task, Mixture) for source in config.sources)):
        del settings["mixing_cap"]
    steps = config.steps or experiment.train.steps  # a trial that trains nothing has no steps, a file needs some
    settings["train"] |= {"steps": steps, "seeds": list(config.seeds)}
    settings["prompt"]["init"] = as_filed(config.setting.prompt.init)
    return {"plm": as_filed(config.setting.plm), **settings, **_other_plms(config)}


def _trained_as(config: TrialConfig) -> str:
    """The method as which it is trained anew: tuning for longer is the baseline with the steps that it had."""
    return BASELINE if TRAITS[config.method].as_long_as else config.method


def _tasks(config: TrialConfig) -> Iterator[str]:
    """The tasks that it reads, by name."""
    yield config.target.name
    yield from (task.name for source in config.sources for task in source.task.tasks)
    yield from (task.name for task in config.projection.tasks) if config.projection else ()


def _sources(filed: dict[str, Any], config: TrialConfig, pair_source: str | None) -> dict[str, Any]:
    """Its sources with their weights, and what they are mixed of."""
    names = [source.task.name for source in config.sources]
    if not names:
        return {}
    target = config.target.name
    mixed = {name: filed["mixtures"][name] for name in names if name in filed["mixtures"]}
    given = [name for name in names if name in filed["imported"]]
    return {
        **({"mixtures": mixed} if mixed else {}),
        **({"imported": given} if given else {}),
        "sources": names,
        "pairs": {target: [pair_source] if pair_source else names},
        "weigh_by": {target: {source.task.name: source.similarity for source in config.sources}},
    }


def _other_plms(config: TrialConfig) -> dict[str, Any]:
    """The larger PLM that teaches, and the one whose prompts are projected or moved."""
    found: dict[str, Any] = {}
    if teacher := config.teacher_plm:
        found |= {"teacher_plm": as_filed(teacher.plm), "teacher_train": as_filed(teacher, TeacherTrainSettings)}
    if how := config.projection:
        tasks = [task.name for task in how.tasks]
        found |= {"source_plm": as_filed(how.plm), "projector": {**as_filed(how, ProjectorSettings), "tasks": tasks}}
    if moved := config.relative:
        found |= {"source_plm": as_filed(moved.plm), "relative": as_filed(moved, RelativeSettings)}
    return found


def _projected(config: TrialConfig) -> dict[str, Any]:
    """The sources of a trial whose start is projected: the projector's tasks, too."""
    if not config.projection:
        return {}
    names = [source.task.name for source in config.sources]
    every = dict.fromkeys([*names, *(task.name for task in config.projection.tasks)])
    return {"sources": list(every), **({} if names else {"weigh_by": "none"})}
