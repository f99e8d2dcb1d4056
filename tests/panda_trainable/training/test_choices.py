"""Multiple choice that a language model answers with its own head: by the texts of the choices, or by words that name them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from panda_trainable.config.methods import TRAITS
from panda_trainable.config.setting import Plm
from panda_trainable.config.task import TaskSpec, shared_head
from panda_trainable.config.trial import Source, TrialConfig
from panda_trainable.config.wording import Wording
from panda_trainable.data.tokens import TokenTable, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.language_model import LanguageModel
from panda_trainable.similarity.representations import task_embedding
from panda_trainable.training import forward as module
from panda_trainable.training.distillation_terms import _of_each_choice
from panda_trainable.training.evaluation import best_constant, constant_logits, report_scores
from panda_trainable.training.heads import Choices, Verbaliser
from panda_trainable.training.metrics import METRICS
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.transfer.teachers import source_lineage, teacher_outputs, teacher_plm_lineage
from tests.kits.language_models import PlainLm
from tests.kits.tasks import task_of_kind
from tests.kits.trainers import loss_curve, order_of, prompt_trainer, random_starts, said_of_selection, same
from tests.kits.trials import asked_trial, setting_on

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
NAMED = Wording("{c0} . {c1} . {c2} . {a} It is {answer}", (("place",), ("time",), ("great",)))
"""The choices stand in the text, and words name the right one."""
Lms = Callable[[str], Plm]
Tasks = Callable[..., TaskSpec]
every_way = pytest.mark.parametrize("name", ["llama", "t5"])


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    """Located multiple choices: tasks("name", seed=0)."""
    folder = tmp_path_factory.mktemp("tasks")
    return lambda name="t", **changes: task_of_kind(folder, "multiple_choice", name, **changes)


def said_by_hand(plain: PlainLm, plm: LanguageModel, table: TokenTable, row: int, prompt: Tensor) -> Tensor:
    """[S] log-probability of each choice, by the plain model on one example and one choice at a time."""
    ids = table.ids[row, : table.lengths[row]].long()
    words = [tuple(int(token) for token in choice if token >= 0) for choice in table.slots[row]]
    return torch.stack([plain.score(ids, word, prompt, plm.start, len(ids) - 1) for word in words])


@pytest.mark.parametrize("form", ["input", "prefix"])
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
@every_way
def test_the_first_loss_is_the_plain_models_cross_entropy_over_the_choices(
    lms: Lms, tasks: Tasks, library: PromptLibrary, name: str, seeds: tuple[int, ...], form: str
) -> None:
    setting = setting_on(lms(name), form)
    task = tasks().on(setting.plm)
    starts = 5 * random_starts(setting, seeds)
    trainer = prompt_trainer(library, setting, task, seeds, starts, steps=2, learning_rate=0.02)
    assert isinstance(trainer.student.readouts[0].head, Choices)
    table, rows = trainer.data.parts[0].table, order_of(trainer)[0]
    said = trainer.student.logits(table, list(rows.numpy()))
    plain, losses = PlainLm(name), []
    for k, chosen in enumerate(rows):
        expected = torch.stack([said_by_hand(plain, trainer.student.encoder, table, int(r), starts[k]) for r in chosen])
        torch.testing.assert_close(torch.from_numpy(said[k]), expected, **CLOSE)
        losses.append(torch.nn.functional.cross_entropy(expected, table.labels[chosen]))
    torch.testing.assert_close(loss_curve(trainer, 1)[0].float(), torch.stack(losses), **CLOSE)
    sizes = (table.slots >= 0).sum(2)
    assert sizes.min() < sizes.max()
    assert table.sequences == 1


@every_way
def test_training_moves_the_prompt_alone_and_makes_the_right_choices_likelier(
    lms: Lms, tasks: Tasks, library: PromptLibrary, name: str
) -> None:
    setting = setting_on(lms(name))
    starts = random_starts(setting, (0, 1))
    trainer = prompt_trainer(library, setting, tasks().on(setting.plm), (0, 1), starts, steps=30, learning_rate=0.3)
    part = trainer.data.parts[0]
    rows = [of.train for of in part.rows]

    def loss() -> list[float]:
        said = trainer.student.logits(part.table, rows)
        return [
            float(torch.nn.functional.cross_entropy(torch.from_numpy(each), part.table.labels[of]))
            for each, of in zip(said, rows, strict=True)
        ]

    before = loss()
    frozen = {key: tensor.clone() for key, tensor in trainer.student.encoder.whole.state_dict().items()}
    trainer.advance(30)
    assert (np.array(loss()) < np.array(before) - 0.01).all()
    assert set(trainer.trainables) == {"prompt"}
    assert same(frozen, trainer.student.encoder.whole.state_dict())


@every_way
def test_what_choices_score_does_not_depend_on_the_rows_beside(
    lms: Lms, tasks: Tasks, library: PromptLibrary, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = setting_on(lms(name))
    starts = 50 * random_starts(setting, (0, 1))
    trainer = prompt_trainer(library, setting, tasks().on(setting.plm), (0, 1), starts, steps=1, learning_rate=0.05)
    table, rows = trainer.data.parts[0].table, np.array([5, 2, 17, 2, 40])
    together = trainer.student.logits(table, [rows, rows])
    monkeypatch.setitem(module.BUCKET_VALUES, "cpu", 16 * 20)
    apart = trainer.student.logits(table, [rows, rows])
    for k in (0, 1):
        np.testing.assert_allclose(apart[k], together[k], rtol=0, atol=1e-5)
        alone = [trainer.student.logits(table, [np.array([row])] * 2)[k][0] for row in rows]
        np.testing.assert_allclose(alone, together[k], rtol=0, atol=1e-5)


def test_choices_that_are_too_long_are_cut_and_counted(lms: Lms, tasks: Tasks, library: PromptLibrary) -> None:
    whole, short = setting_on(lms("llama")), setting_on(lms("llama"), max_answer=2)
    task = tasks().on(whole.plm)
    tables = [token_table(library, setting, task, "train") for setting in (whole, short)]
    sizes = (tables[0].slots >= 0).sum(2)
    assert tables[0].truncated == 0
    assert tables[1].truncated == float((sizes > 2).any(1).float().mean()) > 0
    assert torch.equal((tables[1].slots >= 0).sum(2), sizes.clamp(max=2))
    assert torch.equal(tables[1].slots, tables[0].slots[..., :2])


@every_way
def test_scores_are_of_the_likeliest_choice_and_so_is_the_constant(
    lms: Lms, tasks: Tasks, library: PromptLibrary, name: str
) -> None:
    setting = setting_on(lms(name))
    for wording in (None, NAMED):
        task = tasks(wording=wording).on(setting.plm)
        trainer = prompt_trainer(
            library, setting, task, (0, 1), random_starts(setting, (0, 1)), steps=1, learning_rate=0.1
        )
        scores, logits, gold = report_scores(trainer.student, library, setting)
        assert logits.shape == (2, 24, 3)
        assert (logits < 0).all()
        assert scores["accuracy"] == [np.mean(of_seed.argmax(1) == gold) for of_seed in logits]
        table = token_table(library, setting, task, "train")
        rows = np.flatnonzero(table.labels.numpy() != 0)[:5]
        answer = best_constant(task, table, rows)
        counts = np.bincount(table.labels.numpy()[rows], minlength=3)
        assert (
            METRICS["accuracy"](constant_logits(task, answer, table, rows), table.labels.numpy()[rows])
            == counts.max() / 5
        )


# words that name the choices


@pytest.mark.parametrize("name", ["llama", "t5", "bert"])
def test_words_answer_for_choices_that_stand_in_the_text(
    lms: Lms, tasks: Tasks, library: PromptLibrary, name: str
) -> None:
    setting = setting_on(lms(name), max_length=40)
    task = tasks(wording=NAMED).on(setting.plm)
    assert (task.kind, task.readout, task.outputs) == ("multiple_choice", "verbaliser", 0)
    starts = 5 * random_starts(setting, (0, 1))
    trainer = prompt_trainer(library, setting, task, (0, 1), starts, steps=2, learning_rate=0.02)
    assert isinstance(trainer.student.readouts[0].head, Verbaliser)
    table, plm = trainer.data.parts[0].table, trainer.student.encoder
    said, plain = trainer.student.logits(table, [np.arange(6)] * 2), PlainLm(name)
    for k in (0, 1):
        for row in range(6):
            ids = table.ids[row, : table.lengths[row]].long()
            slot = int(table.slots[row, 0])
            words = [of_choice[0] for of_choice in trainer.student.readouts[0].head.answers.words]
            expected = torch.stack([plain.score(ids, word, starts[k], plm.start, slot) for word in words])
            torch.testing.assert_close(torch.from_numpy(said[k][row]), expected, **CLOSE)
    assert loss_curve(trainer, 2).isfinite().all()


# methods


def of_choices(lms: Lms, tasks: Tasks, folder: Path, name: str, method: str, wide: Plm, **changes: Any) -> TrialConfig:
    """A short trial of a method whose target is a multiple choice, from a source in words."""
    config = asked_trial(folder, lms(name), wide, method, **{"seeds": (0, 1), **changes})
    return replace(config, target=tasks().on(config.setting.plm), inter_class=0.0, inter_instance=0.0)


METHODS = [method for method, traits in TRAITS.items() if traits.trains != "head"]
RUNS = [("llama", method) for method in METHODS]
RUNS += [("t5", method) for method in ("panda", "zero_shot", "model_tuning", "attempt")]


@pytest.mark.parametrize(("name", "method"), RUNS)
def test_a_method_goes_on_where_it_was_interrupted_and_is_scored(
    lms: Lms, tasks: Tasks, wide_plm: Plm, library: PromptLibrary, tmp_path: Path, name: str, method: str
) -> None:
    config = of_choices(lms, tasks, tmp_path, name, method, wide_plm)
    trainer = open_trainer(library, config)
    loss_curve(trainer, config.steps // 2)
    state = trainer.state()
    curve = loss_curve(trainer, config.steps // 2)
    assert curve.isfinite().all()
    said = said_of_selection(trainer)
    assert all(logits.shape[1] == 3 and (logits < 0).all() for logits in said)
    again = open_trainer(library, config)
    again.restore(state)
    assert torch.equal(loss_curve(again, config.steps // 2), curve)
    assert all(np.array_equal(a, b) for a, b in zip(said_of_selection(again), said, strict=True))


@pytest.mark.parametrize("kd", ["mse", "kl", "hidden", "inter_class", "inter_instance", "gram", "distance"])
def test_every_loss_of_choices_is_taught_by_the_prompt_of_another_multiple_choice(
    lms: Lms, tasks: Tasks, wide_plm: Plm, library: PromptLibrary, tmp_path: Path, kd: str
) -> None:
    config = of_choices(lms, tasks, tmp_path, "llama", "panda", wide_plm, kd=kd, lambda_=2.0)
    config = replace(config, sources=(Source(tasks("s", seed=1).on(config.setting.plm), 0.5),))
    plain = open_trainer(library, replace(config, lambda_=0.0))
    gained = loss_curve(open_trainer(library, config), 1)[0] - loss_curve(plain, 1)[0]
    assert gained.isfinite().all()
    assert (gained > 0).all()


@pytest.mark.parametrize("wording", [None, NAMED], ids=["texts", "words"])
@pytest.mark.parametrize(("name", "teacher"), [("llama", "wide"), ("t5", "llama"), ("wide", "llama")])
@pytest.mark.parametrize("kd", ["kl", "hidden"])
def test_another_plm_teaches_choices_whatever_reads_its_states(
    lms: Lms, tasks: Tasks, wide_plm: Plm, library: PromptLibrary, tmp_path: Path, name: str, teacher: str, kd: str,
    wording: Wording | None,
) -> None:  # fmt: skip
    plm, other = (wide_plm if each == "wide" else lms(each) for each in (name, teacher))
    config = of_choices(lms, tasks, tmp_path, "llama", "distill", other, kd=kd, lambda_=1.0)
    config = replace(config, setting=setting_on(plm), target=tasks(wording=wording).on(plm))
    lineage = teacher_plm_lineage(config)
    own = "verbaliser" if wording else "choices"
    assert lineage.task.tasks[0].readout == ("linear" if teacher == "wide" else own)
    known = teacher_outputs(library, config, lineage, "hidden" if kd == "hidden" else "logits")[0]
    assert known.shape[1] == 3 or wording
    plain = open_trainer(library, replace(config, lambda_=0.0))
    gained = loss_curve(open_trainer(library, config), 1)[0] - loss_curve(plain, 1)[0]
    assert (gained > 0).all()


def test_one_vector_stands_for_every_choice_by_hand() -> None:
    one, three = torch.tensor([[1.0, 2.0]]), torch.arange(6.0).view(1, 3, 2)
    for pair in (_of_each_choice(one, three), _of_each_choice(three, one)[::-1]):
        assert pair[0].tolist() == [[[1, 2], [1, 2], [1, 2]]]
        assert torch.equal(pair[1], three)
    assert _of_each_choice(one, one) == (one, one)


def test_no_head_is_shared_and_a_task_embedding_is_of_the_state_behind_the_text(
    lms: Lms, tasks: Tasks, wide_plm: Plm, library: PromptLibrary, tmp_path: Path
) -> None:
    config = of_choices(lms, tasks, tmp_path, "llama", "spot", wide_plm)
    config = replace(config, sources=(Source(tasks("s", seed=1).on(config.setting.plm), 0.5),))
    lineage = source_lineage(config, 0)
    trainer = open_trainer(library, config)
    assert shared_head(lineage.task, config.target) == ()
    assert np.isfinite(task_embedding(library, lineage, 0)).all()
    pooled = trainer.student.pooled(trainer.data.parts[0].table, [np.arange(5), np.arange(0)])[0]
    assert pooled.shape == (5, 3, 16)
    np.testing.assert_allclose(pooled[:, 0], pooled[:, 2], rtol=0, atol=1e-5)
