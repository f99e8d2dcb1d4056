"""Methods as rows: where the student's prompt starts, which teachers it has, what is trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from panda_trainable.config.methods import TRAITS
from panda_trainable.config.task import shared_head
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.attention import AttendedPrompts, drawn_network
from panda_trainable.prompt.product import COLUMNS, ROWS, ProductPrompts
from panda_trainable.prompt.soft_prompt import tokens_of
from panda_trainable.training.data import training_data
from panda_trainable.training.distillation_terms import Teacher
from panda_trainable.training.model_student import ModelStudent
from panda_trainable.training.student import Around, Heads, Student, encoder_of, prompt_student
from panda_trainable.training.trainer import Recipe, Trainer
from panda_trainable.transfer.lineage import MODEL_FILE, Lineage, starting_prompts, tuned, tuned_prompts
from panda_trainable.transfer.projector import projected_prompts, projection_lineages
from panda_trainable.transfer.relative import moved_lineage, relative_prompts
from panda_trainable.transfer.teachers import (
    larger_teachers,
    relation_teachers,
    source_lineage,
    source_lineages,
    sources_model,
    sources_product,
    target_like_teachers,
    target_mixture,
    teacher_lineages,
    teacher_plm_lineage,
)


@dataclass(frozen=True)
class Start:
    """What a student begins with.

    Attributes:
        prompt: [K, L, 2, heads, P, d] or [K, P, E]; [K, 0]: there is none.
        heads: [K, O, H] and [K, O]; None: drawn by the seeds.
        weights: [K] files of whole models; none: the PLM's own weights.
        around: what the trained prompts are a part of; None: they are read as they are.
    """

    prompt: Tensor
    heads: Heads | None = None
    weights: tuple[Path, ...] = ()
    around: Around | None = None


Starts = Callable[[PromptLibrary, TrialConfig], Start]
Teach = Callable[[PromptLibrary, TrialConfig], list[Teacher]]


@dataclass(frozen=True)
class Method:
    """A named way to adapt; what it takes and trains stands in `config.TRAITS`.

    Attributes:
        start: gives what the student begins with.
        teachers: gives the student's teachers; none is an empty list.
        origin: where it was published.
        needs: gives what of sources may be tuned before the trial; what depends on its partners is not.
        within: gives what is tuned by the first trial that needs it.
    """

    start: Starts
    teachers: Teach
    origin: str
    needs: Callable[[TrialConfig], list[Lineage]] = lambda _: []
    within: Callable[[TrialConfig], list[Lineage]] = lambda _: []


def random_start(library: PromptLibrary, config: TrialConfig) -> Start:
    """Prompts initialised by `setting.prompt.init`, determined by the seeds."""
    lineage = Lineage.of_target(config.setting, config.target, 0, 0.0)
    return Start(starting_prompts(library, lineage, config.seeds))


def from_sources(library: PromptLibrary, config: TrialConfig) -> Start:
    """The source prompt, or with partners their similarity-weighted average. Source: SPoT."""
    start = tuple(zip(config.shares, source_lineages(config), strict=True))
    lineage = Lineage.of_target(config.setting, config.target, 0, 0.0, start)
    return Start(starting_prompts(library, lineage, config.seeds))


def from_mixture(library: PromptLibrary, config: TrialConfig) -> Start:
    """A prompt that was trained on the sources and the target together. Source: SPoT, top-k mixture."""
    tuned = tuned_prompts(library, target_mixture(config), config.seeds)
    return Start(torch.stack([prompt.prompt for prompt in tuned]))


def beside_sources(library: PromptLibrary, config: TrialConfig) -> Start:
    """A random prompt, and what each row attends to of it and of all source prompts, which stay as they are.

    Source: ATTEMPT (arXiv:2205.11961), for a single target.
    """
    prompt = random_start(library, config).prompt
    sources = [[p.prompt for p in tuned_prompts(library, each, config.seeds)] for each in source_lineages(config)]
    wide = tokens_of(prompt[0]).shape[1]
    network = drawn_network(encoder_of(config.setting).embedding, wide, config.seeds)
    stacked = torch.stack([torch.stack(of_seed) for of_seed in zip(*sources, strict=True)])  # [K, S, …]
    around = partial(
        AttendedPrompts, sources=stacked, network=network, temperature=config.attention_temperature
    )  # fmt: skip
    return Start(prompt, around=around)


def from_product(library: PromptLibrary, config: TrialConfig) -> Start:
    """The prompt that all sources share, times the mean of their parts. Source: MPT (arXiv:2303.02861), section 3.2."""
    tuned = tuned_prompts(library, sources_product(config), config.seeds)
    parts = {
        name: torch.stack([prompt.parts[name].mean(0, keepdim=True) for prompt in tuned]) for name in (COLUMNS, ROWS)
    }
    return Start(
        torch.stack([prompt.prompt for prompt in tuned]), around=partial(ProductPrompts, parts=parts, merged=True)
    )


def no_prompt(_library: PromptLibrary, config: TrialConfig) -> Start:
    """An empty prompt [K, 0], for methods that train only a head, a model, or nothing."""
    return Start(torch.empty(len(config.seeds), 0))


def from_tuned_model(library: PromptLibrary, config: TrialConfig) -> Start:
    """The weights of a PLM fine-tuned on all sources jointly; the head is newly initialised."""
    folders = tuned(library, sources_model(config), config.seeds)
    return Start(torch.empty(len(config.seeds), 0), weights=tuple(folder / MODEL_FILE for folder in folders))


def whole_source(library: PromptLibrary, config: TrialConfig) -> Start:
    """The source prompt with the head that was trained beside it. Source: Su et al. (2022), zero-shot transfer."""
    return Start(from_sources(library, config).prompt, source_heads(library, config))


def head_alone(library: PromptLibrary, config: TrialConfig) -> Start:
    """The source's head with a random prompt: the control for the prompt's contribution to zero-shot transfer."""
    return Start(random_start(library, config).prompt, source_heads(library, config))


def source_heads(library: PromptLibrary, config: TrialConfig) -> Heads | None:
    """The source's heads [K, O, H] and [K, O], outputs in the order of the target's classes.

    None where a language model's own head answers: no source is trained for it.

    Raises:
        ValueError: if the two tasks cannot share a head.
    """
    source = config.sources[0].task
    shared = shared_head(source, config.target)
    if shared is None:
        raise ValueError(f"{config.target.name} cannot take over the head of {source.name}: they have other classes")
    if config.target.asked:
        return None
    tuned = tuned_prompts(library, source_lineage(config, 0), config.seeds)
    rows = torch.tensor(shared, dtype=torch.long)
    return torch.stack([p.weight[rows] for p in tuned]), torch.stack([p.bias[rows] for p in tuned])


def projected(library: PromptLibrary, config: TrialConfig) -> Start:
    """The target's prompt on another PLM, projected to this one. Source: Su et al. (2022), TPT_MODEL."""
    return Start(projected_prompts(library, config))


def projected_whole(library: PromptLibrary, config: TrialConfig) -> Start:
    """The projected prompt with a source's head: cross-model zero-shot transfer."""
    return Start(projected_prompts(library, config), source_heads(library, config))


def moved(library: PromptLibrary, config: TrialConfig) -> Start:
    """The target's prompt on another PLM, moved to this one in relative space. Source: Wu et al. (arXiv:2310.01691)."""
    return Start(relative_prompts(library, config))


def moved_whole(library: PromptLibrary, config: TrialConfig) -> Start:
    """The moved prompt with a source's head."""
    return Start(relative_prompts(library, config), source_heads(library, config))


def no_teacher(_library: PromptLibrary, _config: TrialConfig) -> list[Teacher]:
    """No teachers: an empty list."""
    return []


def both_teachers(library: PromptLibrary, config: TrialConfig) -> list[Teacher]:
    """PANDA's teachers, weighted by λ, and the relational losses of a larger PLM."""
    return [*target_like_teachers(library, config), *relation_teachers(library, config)]


def sources_models(config: TrialConfig) -> list[Lineage]:
    """The PLM that was tuned on all sources together."""
    return [sources_model(config)]


def sources_products(config: TrialConfig) -> list[Lineage]:
    """The prompt that the sources share."""
    return [sources_product(config)]


def sources_of_heads(config: TrialConfig) -> list[Lineage]:
    """The sources whose heads are taken over; none where a language model's own head answers."""
    return [] if config.target.asked else source_lineages(config)


def target_mixtures(config: TrialConfig) -> list[Lineage]:
    """The prompt that is trained on the sources and the target together."""
    return [target_mixture(config)]


def target_like(config: TrialConfig) -> list[Lineage]:
    """PANDA's teachers."""
    return [lineage for _, lineage in teacher_lineages(config)]


_SU, _YUAN, _WU = "Su et al. (2022)", "Yuan & Lang (2024)", "Wu et al. (2024), prompts in relative space"

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "prompt_tuning": Method(random_start, no_teacher, "Lester et al. (2021); P-tuning v2 (2022)"),
        "prompt_tuning_longer": Method(random_start, no_teacher, "SPoT's control for longer tuning"),
        "plain_template": Method(no_prompt, no_teacher, "zero-shot prompting: Radford et al. (2019), GPT-2"),
        "model_tuning": Method(no_prompt, no_teacher, "the usual fine-tuning"),
        "multitask_model_tuning": Method(
            from_tuned_model, no_teacher, "SPoT's multi-task model tuning", sources_models
        ),
        "linear_probe": Method(no_prompt, no_teacher, "the usual linear probe"),
        "spot": Method(
            from_sources, no_teacher, "SPoT (2022); PANDA's vanilla transfer; TPT_TASK of " + _SU, source_lineages
        ),
        "spot_mixture": Method(
            from_mixture, no_teacher, "SPoT (2022), top-k multi-task mixture", within=target_mixtures
        ),
        "attempt": Method(
            beside_sources, no_teacher, "ATTEMPT, Asai et al. (2022), for a single target", source_lineages
        ),
        "mpt": Method(from_product, no_teacher, "MPT, Wang et al. (2023), without distillation", sources_products),
        "zero_shot": Method(whole_source, no_teacher, _SU, source_lineages),
        "random_prompt": Method(head_alone, no_teacher, _SU + ", their random prompt", sources_of_heads),
        "panda": Method(random_start, target_like_teachers, "PANDA (2022)", source_lineages, target_like),
        "panda_as_released": Method(
            random_start, target_like_teachers, "PANDA's released code", source_lineages, target_like
        ),
        "distill": Method(random_start, larger_teachers, _YUAN),
        "panda_distill": Method(
            random_start, both_teachers, "PANDA (2022) with " + _YUAN, source_lineages, target_like
        ),
        "tpt_model": Method(projected, no_teacher, _SU + ", TPT_MODEL"),
        "tpt_model_zero_shot": Method(projected_whole, no_teacher, _SU + ", cross-model zero-shot", sources_of_heads),
        "tpt_relative": Method(moved, no_teacher, _WU + ", as a start"),
        "tpt_relative_zero_shot": Method(moved_whole, no_teacher, _WU, sources_of_heads),
    }
)
"""Name -> method; `config.TRAITS` has what it takes."""


def open_student(config: TrialConfig, start: Start) -> Student:
    """The student of a trial, at its start."""
    if TRAITS[config.method].trains == "model":
        return ModelStudent(config.setting, config.target, config.seeds, start.weights, start.heads)
    return prompt_student(config.setting, config.target, config.seeds, start.prompt, start.heads, start.around)


def open_trainer(library: PromptLibrary, config: TrialConfig) -> Trainer:
    """The trainer of a trial; artefacts missing from the library are created first."""
    method = METHODS[config.method]
    start, teachers = method.start(library, config), method.teachers(library, config)
    student = open_student(config, start)
    device = student.encoder.device
    data = training_data(library, config.setting, config.target, config.seeds, config.steps, device)
    recipe = Recipe(config.steps, config.learning_rate, teachers=tuple(teachers), ramp=config.lambda_schedule)
    return Trainer(student, data, recipe)


def needed(config: TrialConfig) -> list[Lineage]:
    """What a trial needs of the library that may be tuned before it: source prompts, larger PLMs, models, other PLMs' prompts."""
    lineages = METHODS[config.method].needs(config)
    if config.teacher_plm:
        lineages.append(teacher_plm_lineage(config))
    if config.projection:
        lineages += projection_lineages(config)
    if config.relative:
        lineages.append(moved_lineage(config))
    return lineages
