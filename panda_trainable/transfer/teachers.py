"""Teachers of a trial and their outputs on the student's rows, computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from panda_trainable.config.keys import content_key
from panda_trainable.config.kinds import TOKEN_LEVEL
from panda_trainable.config.setting import Setting
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.splits import data_order, replica_rows
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.training.data import label_scale
from panda_trainable.training.distillation import KD_LOSSES
from panda_trainable.training.distillation_terms import Teacher
from panda_trainable.training.evaluation import report_scores
from panda_trainable.transfer.lineage import Lineage, lineage_card, tuned, tuned_student


def source_lineage(config: TrialConfig, number: int) -> Lineage:
    """The source prompt that a trial's source number `number` brings."""
    source = config.sources[number]
    return Lineage.of_source(
        config.setting, source.task, config.source_steps, config.source_learning_rate,
        config.target if source.drop_overlap else None,
    )  # fmt: skip


def source_lineages(config: TrialConfig) -> list[Lineage]:
    """The lineages of all source prompts that a trial starts or learns from."""
    return [source_lineage(config, i) for i in range(len(config.sources))]


def target_mixture(config: TrialConfig) -> Lineage:
    """The prompt that is trained on a trial's sources and its target together."""
    members = [*(task for source in config.sources for task in source.task.tasks), config.target]
    tasks = tuple(dict.fromkeys(members))
    shots: tuple[int, ...] = ()
    if config.setting.shots != config.setting.source_shots:
        few = config.setting
        shots = tuple(few.shots if task == config.target else few.source_shots for task in tasks)
    mixture = Mixture("+".join(task.name for task in tasks), tasks, config.mixing_cap, shots)
    return _on_sources(config, mixture)


def sources_model(config: TrialConfig) -> Lineage:
    """The PLM, all its weights tuned on a trial's sources together."""
    tasks = tuple(dict.fromkeys(task for source in config.sources for task in source.task.tasks))
    mixture = Mixture("+".join(task.name for task in tasks), tasks, config.mixing_cap)
    return replace(_on_sources(config, mixture), trains="model")


def sources_product(config: TrialConfig) -> Lineage:
    """The prompt that a trial's sources share, with a part of each source, trained on all of them together."""
    return replace(sources_model(config), trains="product")


def _on_sources(config: TrialConfig, mixture: Mixture) -> Lineage:
    excluded = config.target if any(source.drop_overlap for source in config.sources) else None
    return Lineage.of_source(config.setting, mixture, config.source_steps, config.source_learning_rate, excluded)


def target_like_teachers(library: PromptLibrary, config: TrialConfig) -> list[Teacher]:
    """PANDA's teachers of a trial: source prompts after `teacher_steps` steps on the target.

    `early` fusion averages the source prompts first, which gives one teacher; `late` has a teacher
    of each source, `late_logits` one that says the average of what these say. All weigh by α · sim,
    and are the same where there is one source.

    Source: PANDA (arXiv:2208.10160), its target-like teacher; the fusions as described in
    docs/deviations.md#fusion.
    """
    weighted = [
        (weight, teacher_outputs(library, config, lineage, KD_LOSSES[config.kd].reads))
        for weight, lineage in teacher_lineages(config)
    ]
    if config.fusion == "late_logits" and len(weighted) > 1:
        shares = [share for share, weight in zip(config.shares, config.source_weights, strict=True) if weight > 0]
        whole = sum(shares)
        tables = [
            torch.stack([share / whole * table for share, table in zip(shares, of_seed, strict=True)]).sum(0)
            for of_seed in zip(*(tables for _, tables in weighted), strict=True)
        ]
        weighted = [(config.lambda_effective, tuple(tables))]
    return [Teacher(weight, tables, config.kd) for weight, tables in weighted]


def teacher_lineages(config: TrialConfig) -> list[tuple[float, Lineage]]:
    """Weight, > 0, and lineage of each of a trial's target-like teachers."""
    if config.lambda_ == 0:
        return []
    sources = [(share, source_lineage(config, i)) for i, share in enumerate(config.shares)]
    if config.fusion == "early":
        starts = [(config.lambda_effective, tuple(sources))]
    else:
        starts = [
            (weight, ((1.0, source),)) for weight, (_, source) in zip(config.source_weights, sources, strict=True)
        ]
    rate, steps = config.source_learning_rate, config.teacher_steps
    return [
        (weight, Lineage.of_target(config.setting, config.target, steps, rate, start))
        for weight, start in starts
        if weight > 0
    ]


def teacher_plm_lineage(config: TrialConfig) -> Lineage:
    """The tuning of the larger PLM that teaches."""
    larger = config.teacher_plm
    assert larger is not None, "a method that needs a larger PLM has one"
    setting = replace(config.setting.of_targets, plm=larger.plm)
    return Lineage(setting, config.target.on(larger.plm), larger.steps, larger.learning_rate, trains=larger.trains)


def relation_teachers(library: PromptLibrary, config: TrialConfig) -> list[Teacher]:
    """What a larger PLM teaches by relations: between classes, and between the examples of a batch.

    Source: Yuan & Lang (2024); the forms of both as described in docs/deviations.md#relations.
    """
    weights = {"inter_class": config.inter_class, config.relation: config.inter_instance}
    return _teacher_plm_says(library, config, weights)


def larger_teachers(library: PromptLibrary, config: TrialConfig) -> list[Teacher]:
    """The same, and beside relations a plain distillation loss that λ weighs."""
    return [*relation_teachers(library, config), *_teacher_plm_says(library, config, {config.kd: config.lambda_})]


def _teacher_plm_says(library: PromptLibrary, config: TrialConfig, weights: Mapping[str, float]) -> list[Teacher]:
    lineage, taught = teacher_plm_lineage(config), {kd: weight for kd, weight in weights.items() if weight > 0}
    if taught:
        check_places(library, config.setting, lineage.setting, config.target)
    return [
        Teacher(weight, _in_its_units(library, config, lineage, KD_LOSSES[kd].reads), kd, config.temperature)
        for kd, weight in taught.items()
    ]


def _in_its_units(
    library: PromptLibrary, config: TrialConfig, lineage: Lineage, reads: Literal["logits", "hidden"]
) -> tuple[Tensor, ...]:
    """[K] what another PLM's teacher says, values in the student's units: words have the labels', a trained head scaled ones."""
    outputs = teacher_outputs(library, config, lineage, reads)
    (task,) = lineage.task.tasks
    if task.kind != "regression" or reads != "logits" or bool(task.asked) == bool(config.target.asked):
        return outputs
    setting, table = lineage.setting, token_table(library, lineage.setting, task, "train")
    rows = [replica_rows(library, setting, task, seed, lineage.exclude_overlap_with) for seed in config.seeds]
    pairs = zip(outputs, label_scale(task.unasked, table, rows), strict=True)
    if config.target.asked:
        return tuple(said * deviation + mean for said, (mean, deviation) in pairs)
    return tuple((said - mean) / deviation for said, (mean, deviation) in pairs)


def check_places(library: PromptLibrary, setting: Setting, other: Setting, task: TaskSpec) -> None:
    """Answers to words and tokens are compared place by place, which must be the same ones.

    Args:
        library: where token tables are kept.
        setting: of the student.
        other: of the PLM that teaches.
        task: what it teaches.

    Raises:
        ValueError: if the other PLM's tokenizer cuts texts elsewhere.
    """
    if task.kind not in TOKEN_LEVEL:
        return
    own, known = (task.on(each.plm) for each in (setting, other))
    if own.readout != known.readout:
        raise ValueError(
            f"{other.plm.label} cannot teach {setting.plm.label} the task {task.name}: one of them writes its answers, and the "
            "other marks them in the passage; give both plm.head: linear, or two language models that write"
        )
    tables = [token_table(library, each, task.on(each.plm), "train") for each in (setting, other)]
    places = [
        (table.slots.numpy() if task.kind == "generation" else table.slots.numpy() >= 0, np.asarray(table.offsets))
        for table in tables
    ]
    if not all(np.array_equal(a, b) for a, b in zip(*places, strict=True)):
        raise ValueError(
            f"{other.plm.label} cannot teach {setting.plm.label} the {task.kind} {task.name}: it is answered place by place, and their tokenizers cut its rows differently; raise "
            "max_length, or take a teacher_plm with the same tokenizer"
        )


def teacher_outputs(
    library: PromptLibrary, config: TrialConfig, lineage: Lineage, reads: Literal["logits", "hidden"] = "logits"
) -> tuple[Tensor, ...]:
    """[K] a teacher's outputs on the train rows: [N, …], NaN for rows that no student trains on; memory-mapped.

    The rows are those that the seed's data order reaches; all trials of a study share them. They are
    matched by number, so that a teacher on another PLM may have another tokenizer.

    Args:
        library: where it is kept.
        config: of the student's trial.
        lineage: of the teacher.
        reads: its logits, or the `hidden` vectors that its head reads.
    """
    keys = [content_key("teachers", lineage, seed, reads, config.steps) for seed in config.seeds]
    if not all(library.sound("teachers", key) for key in keys):
        with library.lock(content_key("teachers", lineage, reads, config.steps)):
            gone = [i for i, key in enumerate(keys) if not library.sound("teachers", key)]
            if gone:
                _write_outputs(
                    library, config, lineage, reads, [config.seeds[i] for i in gone], [keys[i] for i in gone]
                )
    maps = [np.load(library.get("teachers", key) / f"{reads}.npy", mmap_mode="c") for key in keys]
    return tuple(torch.from_numpy(mapped) for mapped in maps)


def _write_outputs(
    library: PromptLibrary, config: TrialConfig, lineage: Lineage, reads: str, seeds: Sequence[int], keys: list[str]
) -> None:
    also = config.candidates if lineage.start else ()
    folders = tuned(library, lineage, seeds, also)
    for numbers in [range(len(seeds))] if lineage.trains != "model" else [[i] for i in range(len(seeds))]:
        chosen = [seeds[i] for i in numbers]
        student = tuned_student(lineage, chosen, [folders[i] for i in numbers])
        (target,) = lineage.task.tasks
        train_table = token_table(library, lineage.setting, target, "train")
        splits = [replica_rows(library, lineage.setting, target, seed, lineage.exclude_overlap_with) for seed in chosen]
        trained_on = [
            np.unique(data_order(split.train, seed, config.steps * config.setting.train.batch_size))
            for split, seed in zip(splits, chosen, strict=True)
        ]
        read = student.logits if reads == "logits" else student.pooled
        for i, rows, known in zip(numbers, trained_on, read(train_table, trained_on), strict=True):
            table = np.full((len(train_table), *known.shape[1:]), np.nan, np.float32)
            table[rows] = known
            card = {**lineage_card(lineage, seeds[i]), "holds": f"{reads} of train rows", "rows": len(rows)}
            library.put("teachers", keys[i], partial(_save_table, table, reads), card)


def teacher_plm_scores(library: PromptLibrary, config: TrialConfig) -> list[float]:
    """[K] the larger PLM's own score on report rows. For `confirm` alone."""
    lineage = teacher_plm_lineage(config)
    scores = []
    for seed, folder in zip(config.seeds, tuned(library, lineage, config.seeds), strict=True):
        student = tuned_student(lineage, [seed], [folder])
        scores += report_scores(student, library, lineage.setting)[0][config.target.metrics[0]]
    return scores


def _save_table(table: np.ndarray, reads: str, draft: Path) -> None:
    np.save(draft / f"{reads}.npy", table, allow_pickle=False)
