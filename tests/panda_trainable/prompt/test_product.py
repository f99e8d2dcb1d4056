"""What tasks share, times a part of each: the product by hand, what starts as what, and what is kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panda_trainable.config.setting import PromptForm, Setting
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.product import COLUMNS, ROWS, ProductPrompts, unit_parts
from panda_trainable.prompt.soft_prompt import SoftPrompt, tokens_of
from panda_trainable.prompt.sources import TrainedPrompts
from panda_trainable.training.student import stored_student
from panda_trainable.transfer.lineage import _opened, starting_prompts, tuned, tuned_prompts, tuned_student
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.transfer.teachers import sources_product
from tests.kits.trainers import random_prompt

CLOSE = {"rtol": 0, "atol": 1e-6}
FORMS = pytest.mark.parametrize("form", ["input", "prefix"])
CPU = torch.device("cpu")
Trial = Callable[..., TrialConfig]


def mpt(trial: Trial, setting: Setting, form: PromptForm = "input", sources: int = 2) -> TrialConfig:
    return trial("mpt", sources=sources, setting=replace(setting, prompt=replace(setting.prompt, form=form)))


def test_a_product_by_hand() -> None:
    shared = TrainedPrompts(torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]), CPU)
    columns = torch.tensor([[[[1.0], [2.0]], [[0.0], [-1.0]]]])  # [1, 2 tasks, 2 tokens, 1]
    rows = torch.tensor([[[[1.0, 0.0, 3.0]], [[2.0, 1.0, 0.5]]]])  # [1, 2 tasks, 1, 3]
    made = ProductPrompts(shared, {COLUMNS: columns, ROWS: rows})
    assert made.prompts()[0, 0].tolist() == [[1.0, 0.0, 9.0], [8.0, 0.0, 36.0]]
    assert made.of_task(made.prompts(), 1)[0].tolist() == [[0.0, 0.0, 0.0], [-8.0, -5.0, -3.0]]


def test_a_product_of_several_ranks_is_that_of_matrices_one_task_at_a_time() -> None:
    """The forward pass of PEFT's MultitaskPromptEmbedding: the embedding times columns @ rows of a task."""
    shared, columns, rows = random_prompt((2, 4, 6), 0), random_prompt((2, 3, 4, 2), 1), random_prompt((2, 3, 2, 6), 2)
    made = ProductPrompts(TrainedPrompts(shared, CPU), {COLUMNS: columns, ROWS: rows}).prompts()
    for k in range(2):
        for task in range(3):
            torch.testing.assert_close(made[k, task], shared[k] * (columns[k, task] @ rows[k, task]), **CLOSE)


def test_a_prefix_is_multiplied_as_its_tokens_are() -> None:
    prefix = random_prompt((2, 2, 2, 2, 3, 8), 0)
    parts = {COLUMNS: random_prompt((2, 1, 3, 1), 1), ROWS: random_prompt((2, 1, 1, 64), 2)}
    made = ProductPrompts(TrainedPrompts(prefix, CPU), parts).prompts()
    for k in range(2):
        expected = tokens_of(prefix[k]) * (parts[COLUMNS][k, 0] @ parts[ROWS][k, 0])
        torch.testing.assert_close(tokens_of(made[k, 0]), expected, **CLOSE)


def test_with_parts_of_ones_every_task_starts_at_the_shared_prompt() -> None:
    shared = random_prompt((2, 4, 6), 0)
    made = ProductPrompts(TrainedPrompts(shared, CPU), unit_parts(2, 3, 4, 6)).prompts()
    assert torch.equal(made, shared[:, None].expand_as(made))


@FORMS
def test_the_sources_share_a_prompt_and_have_a_part_each(
    library: PromptLibrary, trial: Trial, setting: Setting, form: PromptForm
) -> None:
    config = mpt(trial, setting, form)
    lineage = sources_product(config)
    trainer = _opened(library, lineage, config.seeds)
    assert torch.equal(trainer.trainables["prompt"], starting_prompts(library, lineage, config.seeds))
    trainer._gather_gradients(trainer.blocks[0], 0)
    assert all(t.grad is not None and t.grad.flatten(1).norm(dim=1).min() > 0 for t in trainer.trainables.values())
    stored = tuned_prompts(library, lineage, config.seeds)
    assert [tuple(stored[0].parts[name].shape[:1]) for name in (COLUMNS, ROWS)] == [(2,), (2,)]
    first, second = stored[0].parts[COLUMNS]
    assert not torch.equal(first, second)


@FORMS
def test_a_target_starts_from_the_shared_prompt_times_the_mean_of_the_sources_parts(
    library: PromptLibrary, trial: Trial, setting: Setting, form: PromptForm
) -> None:
    config = mpt(trial, setting, form)
    stored = tuned_prompts(library, sources_product(config), config.seeds)
    trainer = open_trainer(library, config)
    for k, kept in enumerate(stored):
        mean = kept.parts[COLUMNS].mean(0) @ kept.parts[ROWS].mean(0)
        expected = tokens_of(kept.prompt) * mean
        torch.testing.assert_close(tokens_of(trainer.student.prompt()[k, 0]), expected, **CLOSE)
    assert set(trainer.trainables) == {"prompt", COLUMNS, ROWS, "weight", "bias"}


@FORMS
def test_a_targets_prompt_is_kept_as_the_product_that_it_reads(
    library: PromptLibrary, trial: Trial, setting: Setting, form: PromptForm, tmp_path: Path
) -> None:
    config = mpt(trial, setting, form)
    trainer = open_trainer(library, config)
    trainer.advance(8)
    kept = trainer.prompts()
    assert kept[0].parts == {}
    kept[0].save(tmp_path / "kept.safetensors")
    again = stored_student(config.setting, config.target, config.seeds[:1], [SoftPrompt.load(tmp_path / "kept.safetensors")])  # fmt: skip
    table, rows = trainer.data.parts[0].table, np.arange(9)
    said = trainer.student.logits(table, [rows, rows])[0]
    np.testing.assert_allclose(again.logits(table, [rows])[0], said, rtol=0, atol=1e-5)


def test_a_stored_product_answers_for_each_of_its_tasks(library: PromptLibrary, trial: Trial, setting: Setting) -> None:
    config = mpt(trial, setting)
    lineage = sources_product(config)
    trainer = _opened(library, lineage, config.seeds)
    trainer.advance(lineage.steps)
    again = tuned_student(lineage, config.seeds, tuned(library, lineage, config.seeds))
    for number, part in enumerate(trainer.data.parts):
        rows = [np.arange(7)] * 2
        said, stored = (each.logits(part.table, rows, number) for each in (trainer.student, again))
        for a, b in zip(said, stored, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_a_shared_prompt_is_no_mixtures_and_has_a_key_of_its_own(trial: Trial, setting: Setting) -> None:
    lineage = sources_product(mpt(trial, setting))
    assert lineage.kind == "prompts"
    assert lineage.key(0) != replace(lineage, trains="prompt").key(0)
