"""Regression that a language model answers with its own head: words are numbers, and their mean is the value."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from panda_trainable.config.setting import Plm
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.config.wording import Wording
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.training.evaluation import best_constant, constant_logits, report_scores
from panda_trainable.training.heads import Values
from panda_trainable.training.metrics import METRICS
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.transfer.teachers import teacher_outputs, teacher_plm_lineage
from tests.kits.language_models import PlainLm, lm_plm, save_lm, with_digits
from tests.kits.tasks import small_task
from tests.kits.trainers import loss_curve, order_of, prompt_trainer, random_starts, said_of_selection
from tests.kits.trials import asked_trial, setting_on

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
NUMBERS = Wording("{a} It is {answer}", (("0",), ("1",), ("2.5",)))
SINGLE = Wording("{a} It is {answer} .", (("0",), ("1",), ("2",)))
"""Of one token each, as a mask needs them."""
Lms = Callable[[str], Plm]
Tasks = Callable[..., TaskSpec]


@pytest.fixture(scope="module")
def lms(tmp_path_factory: pytest.TempPathFactory) -> Lms:
    """Language models as files, made once, whose tokenizer knows digits in the place of some words."""
    made: dict[str, Plm] = {}

    def plm(name: str) -> Plm:
        if name not in made:
            made[name] = lm_plm(with_digits(save_lm(tmp_path_factory.mktemp("lm") / name, name)), "lm")
        return made[name]

    return plm


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    """Located regressions: tasks("name", wording=NUMBERS)."""
    folder = tmp_path_factory.mktemp("tasks")
    return lambda name="t", wording=NUMBERS: small_task(folder, name, kind="regression", wording=wording)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
@pytest.mark.parametrize(("name", "wording"), [("llama", NUMBERS), ("t5", NUMBERS), ("bert", SINGLE)])
def test_the_first_loss_is_the_squared_error_of_the_plain_models_mean_number(
    lms: Lms, tasks: Tasks, library: PromptLibrary, name: str, wording: Wording, seeds: tuple[int, ...]
) -> None:
    setting = setting_on(lms(name))
    task = tasks(wording=wording).on(setting.plm)
    assert (task.readout, task.outputs) == ("values", 0)
    starts = 5 * random_starts(setting, seeds)
    trainer = prompt_trainer(library, setting, task, seeds, starts, steps=2, learning_rate=0.02)
    head, table, rows = trainer.student.readouts[0].head, trainer.data.parts[0].table, order_of(trainer)[0]
    assert isinstance(head, Values)
    assert {len(word) for (word,) in head.answers.words} == ({1} if name == "bert" else {1, 3})
    said = trainer.student.logits(table, list(rows.numpy()))
    plain, plm, losses = PlainLm(name), trainer.student.encoder, []
    for k, chosen in enumerate(rows):
        means = []
        for row in chosen.tolist():
            ids, slot = table.ids[row, : table.lengths[row]].long(), int(table.slots[row, 0])
            slot = slot if plm.kind == "masked_lm" else len(ids) - 1
            scores = [plain.score(ids, word, starts[k], plm.start, slot) for (word,) in head.answers.words]
            means.append((torch.stack(scores).softmax(0) * torch.tensor(wording.values)).sum())
        torch.testing.assert_close(torch.from_numpy(said[k])[:, 0], torch.stack(means), **CLOSE)
        losses.append((torch.stack(means) - table.labels[chosen]).square().mean())
    torch.testing.assert_close(loss_curve(trainer, 1)[0].float(), torch.stack(losses), **CLOSE)
    assert table.labels.dtype == torch.float32


def test_numbers_of_words_are_read_as_they_are_written() -> None:
    assert Wording("{a} {answer}", (("-1",), ("2.5",), ("4e0",))).values == (-1.0, 2.5, 4.0)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_training_lowers_the_error_and_scores_correlate_values_in_units_of_labels(
    lms: Lms, tasks: Tasks, library: PromptLibrary, name: str
) -> None:
    setting = setting_on(lms(name))
    task = tasks().on(setting.plm)
    trainer = prompt_trainer(
        library, setting, task, (0, 1), random_starts(setting, (0, 1)), steps=30, learning_rate=0.1
    )
    curve = loss_curve(trainer, 30)
    assert (curve[-10:].mean(0) < curve[:10].mean(0)).all()
    assert set(trainer.trainables) == {"prompt"}
    scores, logits, gold = report_scores(trainer.student, library, setting)
    assert logits.shape == (2, 24, 1)
    assert ((logits > 0) & (logits < 2.5)).all()
    assert scores["pearson"] == [METRICS["pearson"](each, gold) for each in logits]
    kept = trainer.prompts()[0]
    assert np.array_equal(kept.in_units(torch.from_numpy(logits[0])), logits[0])
    table = token_table(library, setting, task, "train")
    assert constant_logits(task, best_constant(task, table, np.arange(9)), table, np.arange(4)).shape == (4, 1)


@pytest.mark.parametrize("method", ["panda", "zero_shot", "model_tuning", "spot_mixture"])
def test_a_method_learns_values_from_a_source_in_words(
    lms: Lms, tasks: Tasks, wide_plm: Plm, library: PromptLibrary, tmp_path: Path, method: str
) -> None:
    config = trial(lms, tasks, wide_plm, tmp_path, method)
    trainer = open_trainer(library, config)
    assert loss_curve(trainer, config.steps).isfinite().all()
    assert all(np.isfinite(said).all() and said.shape[1] == 1 for said in said_of_selection(trainer))


def trial(lms: Lms, tasks: Tasks, wide: Plm, folder: Path, method: str, **changes: Any) -> TrialConfig:
    """A short trial of a method whose target is a regression in words, from classes in words."""
    # Its source's words are those of the usual tokenizer that have kept their places.
    config = asked_trial(folder, lms("llama"), wide, method, inter_class=0.0, **changes)
    three = Wording("{a} This is a {answer}.", (("person",), ("very",), ("quantity",)))
    sources = tuple(
        replace(source, task=replace(source.task.unasked, wording=three).on(config.setting.plm))
        for source in config.sources
    )
    return replace(config, sources=sources, target=tasks().on(config.setting.plm), inter_instance=0.0)


@pytest.mark.parametrize(("student", "teacher"), [("llama", "wide"), ("wide", "llama"), ("llama", "t5")])
def test_another_plm_teaches_values_in_the_students_units(
    lms: Lms, tasks: Tasks, wide_plm: Plm, library: PromptLibrary, tmp_path: Path, student: str, teacher: str
) -> None:
    plm, other = (wide_plm if each == "wide" else lms(each) for each in (student, teacher))
    config = trial(lms, tasks, other, tmp_path, "distill", kd="mse", lambda_=1.0)
    config = replace(config, setting=setting_on(plm), target=tasks().on(plm))
    trainer = open_trainer(library, config)
    (taught,) = trainer.recipe.teachers
    known = teacher_outputs(library, config, teacher_plm_lineage(config))
    labels = token_table(library, config.setting, config.target, "train").labels
    for k, (ours, theirs) in enumerate(zip(taught.outputs, known, strict=True)):
        of_seed = labels[torch.from_numpy(trainer.data.parts[0].rows[k].train)]
        mean, deviation = of_seed.mean(), of_seed.std(correction=0)
        expected = {"wide": theirs * deviation + mean, "llama": (theirs - mean) / deviation, "t5": theirs}[teacher]
        torch.testing.assert_close(ours, expected, equal_nan=True)
    assert loss_curve(trainer, 2).isfinite().all()


# refusals


@pytest.mark.parametrize(
    "words", [(("0",),), (("0",), ("0.0",)), (("0",), ("much",)), (("0", "1"), ("2",)), (("0",), ("inf",))]
)
def test_words_of_a_regression_are_different_numbers(tasks: Tasks, words: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(ValueError, match="words of a regression are two or more different numbers"):
        replace(tasks(), wording=Wording("{a} {answer}", words))


def test_a_regression_without_numbers_is_refused(tasks: Tasks, lms: Lms) -> None:
    for wording in (None, Wording("{a} {answer}")):
        with pytest.raises(ValueError, match="unless its template has `words` that are numbers"):
            replace(tasks(), wording=wording).on(lms("llama"))
