"""A configuration as a complete experiment file, from which it is trained again."""

from collections.abc import Iterator
from typing import Any

from panda_trainable.config.methods import KNOBS, TRAITS
from panda_trainable.config.setting import Plm
from panda_trainable.config.trial import TrialConfig
from tuning.experiment.experiment import BASELINE, LONGER, Experiment

KEPT = (
    "prompt", "metrics", "train", "source_train", "shots", "limit", "selection", "kd", "lambda_schedule", "partner_weights",
    "relation", "protocol", "overlap", "self_pairs",
)  # fmt: skip
"""Keys of the experiment's file that a configuration's file has too."""


def pinned(experiment: Experiment, config: TrialConfig, pair_source: str | None) -> dict[str, Any]:
    """A configuration as a complete experiment file: every searched value fixed, its seeds the confirm seeds.

    Args:
        experiment: in which it was found.
        config: the configuration.
        pair_source: the source of its study; None where there is a study per target.
    """
    filed: dict[str, Any] = experiment.filed
    target = config.target.name
    file = {
        "name": f"{experiment.name}-{target}-{config.method}",
        "plm": _plm_section(config.setting.plm),
        "data": str(experiment.data_path),
        "targets": [target],
        **{key: filed[key] for key in KEPT},
        "space": _space(config),
        "confirm": {"seeds": list(experiment.train.seeds)},
    }
    steps = config.steps or experiment.train.steps  # a trial that trains nothing has no steps, a file needs some
    file["train"] = {**filed["train"], "steps": steps, "seeds": list(config.seeds)}
    if config.setting.prompt.init.file:
        file["prompt"]["init"]["file"] = config.setting.prompt.init.file
    if config.method not in (BASELINE, LONGER):
        file["methods"] = [config.method]
    if own := {name: filed["tasks"][name] for name in _tasks(config) if name in filed["tasks"]}:
        file["tasks"] = own
    return file | _sources(filed, config, pair_source) | _other_plms(filed, config)


def _space(config: TrialConfig) -> dict[str, dict[str, Any]]:
    """One value of each knob. Trained anew, tuning for longer is tuning with the steps that it had."""
    called = {"lambda": config.lambda_, "partners": len(config.sources) - 1}
    values = {knob: called.get(knob, getattr(config, knob, None)) for knob in KNOBS[config.method]}
    return {BASELINE if config.method == LONGER else config.method: values}


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
    return {
        **({"mixtures": mixed} if mixed else {}),
        **({"mixing_cap": filed["mixing_cap"]} if mixed or TRAITS[config.method].mixes else {}),
        "sources": names,
        "pairs": {target: [pair_source] if pair_source else names},
        "weigh_by": {target: {source.task.name: source.similarity for source in config.sources}},
    }


def _other_plms(filed: dict[str, Any], config: TrialConfig) -> dict[str, Any]:
    """The larger PLM that teaches, and the one whose prompts are projected."""
    found: dict[str, Any] = {}
    if larger := config.teacher_plm:
        train = {"trains": larger.trains, "steps": larger.steps, "learning_rate": larger.learning_rate}
        found |= {"teacher_plm": _plm_section(larger.plm), "teacher_train": train}
    if config.projection:
        names = [source.task.name for source in config.sources]
        projected = [task.name for task in config.projection.tasks]
        found |= {
            "sources": list(dict.fromkeys([*names, *projected])),
            "source_plm": _plm_section(config.projection.plm),
            "projector": {**filed["projector"], "tasks": projected},
            **({} if names else {"weigh_by": "none"}),
        }
    return found


def _plm_section(plm: Plm) -> dict[str, Any]:
    return {"from": plm.source, "pooling": plm.pooling, "layers": plm.layers, "positions": plm.positions}
