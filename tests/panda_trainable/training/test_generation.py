"""Tasks that a language model writes: their losses, teachers, methods and scores, beside the plain model's own numbers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from panda_trainable.config.origin import Unlocated
from panda_trainable.config.setting import Plm
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import Projection, Source, TeacherPlm, TrialConfig
from panda_trainable.config.wording import Wording
from panda_trainable.data.gold import IGNORED, UNWRITTEN
from panda_trainable.data.tokens import TokenTable, gold_of, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.language_model import LanguageModel
from panda_trainable.similarity.representations import task_embedding
from panda_trainable.training import forward as module
from panda_trainable.training.evaluation import best_constant, constant_logits, constant_scores, report_scores
from panda_trainable.training.losses import negative_log_likelihood
from panda_trainable.training.metrics import METRICS
from panda_trainable.transfer.lineage import Lineage
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.transfer.teachers import check_places, source_lineage, teacher_outputs
from tests.kits.language_models import PlainLm, lm_plm, save_lm
from tests.kits.tasks import own_task, small_task, task_of_kind
from tests.kits.trainers import loss_curve, order_of, prompt_trainer, random_starts, same, state_of_trained
from tests.kits.trials import setting_on

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
SOURCE_RATE = 0.02
UNLOCATED = Unlocated()
WORDING = Wording("{a} It was {answer}.", (("terrible",), ("great",)))
Lms = Callable[[str], Plm]
Tasks = Callable[..., TaskSpec]
every_way = pytest.mark.parametrize("name", ["llama", "t5"])


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    """Located tasks of a kind: tasks("generation", "name", seed=0)."""
    folder = tmp_path_factory.mktemp("tasks")
    return lambda kind="generation", name="t", **changes: task_of_kind(folder / kind, kind, name, **changes)


def said_by_hand(plain: PlainLm, plm: LanguageModel, table: TokenTable, row: int, prompt: Tensor) -> Tensor:
    """[A] log-probability of each token that is to be written, by the plain model on one example; 0 where none is."""
    ids = table.ids[row, : table.lengths[row]].long()
    tokens = table.labels[row][table.labels[row] != IGNORED]
    if plm.start:
        logits = plain.logits(ids, prompt, torch.tensor([*plm.start, *tokens[:-1]]))[len(plm.start) - 1 :]
    else:
        logits = plain.logits(torch.cat((ids, tokens[:-1])), prompt)[len(ids) - 1 :]
    said = torch.zeros(table.labels.shape[1])
    said[: len(tokens)] = logits.log_softmax(1)[torch.arange(len(tokens)), tokens]
    return said


@pytest.mark.parametrize("form", ["input", "prefix"])
@pytest.mark.parametrize("kind", ["generation", "extractive_qa"])
@every_way
def test_the_first_loss_is_the_plain_models_mean_over_the_tokens_of_the_batch(
    lms: Lms, tasks: Tasks, library: PromptLibrary, name: str, kind: str, form: str
) -> None:
    setting = setting_on(lms(name), form)
    task = tasks(kind).on(setting.plm)
    starts = 5 * random_starts(setting, (0, 1))
    trainer = prompt_trainer(library, setting, task, (0, 1), starts, steps=2, learning_rate=0.02)
    table, rows = trainer.data.parts[0].table, order_of(trainer)[0]
    said = trainer.student.logits(table, list(rows.numpy()))
    plain, losses = PlainLm(name), []
    for k, chosen in enumerate(rows):
        expected = torch.stack([said_by_hand(plain, trainer.student.encoder, table, int(r), starts[k]) for r in chosen])
        torch.testing.assert_close(torch.from_numpy(said[k])[..., 0], expected, **CLOSE)
        losses.append(-expected.sum() / (table.labels[chosen] != IGNORED).sum())
    torch.testing.assert_close(loss_curve(trainer, 1)[0].float(), torch.stack(losses), **CLOSE)
    assert len({len(tokens[tokens != IGNORED]) for tokens in table.labels}) > 1


def test_the_loss_of_tokens_by_hand() -> None:
    logits = torch.tensor([[[-1.0, -2.0], [-5.0, -9.0]], [[-9.0, -9.0], [-9.0, -9.0]]])[..., None]
    labels = torch.tensor([[[7, 8], [9, IGNORED]], [[IGNORED, IGNORED], [IGNORED, IGNORED]]])
    assert negative_log_likelihood(logits, labels).tolist() == [pytest.approx(8 / 3), 0.0]


@every_way
def test_training_moves_the_prompt_alone_and_makes_the_answers_likelier(
    lms: Lms, tasks: Tasks, library: PromptLibrary, name: str
) -> None:
    setting = setting_on(lms(name))
    task = tasks().on(setting.plm)
    starts = random_starts(setting, (0, 1))
    trainer = prompt_trainer(library, setting, task, (0, 1), starts, steps=30, learning_rate=1.0)
    part = trainer.data.parts[0]
    rows = [of.train for of in part.rows]
    before = [said.mean() for said in trainer.student.logits(part.table, rows)]
    frozen = {key: tensor.clone() for key, tensor in trainer.student.encoder.whole.state_dict().items()}
    trainer.advance(30)
    after = [said.mean() for said in trainer.student.logits(part.table, rows)]
    assert (np.array(after) > np.array(before) + 0.004).all()
    assert set(trainer.trainables) == {"prompt"}
    assert same(frozen, trainer.student.encoder.whole.state_dict())


@every_way
def test_what_is_written_does_not_depend_on_the_rows_beside(
    lms: Lms, tasks: Tasks, library: PromptLibrary, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = setting_on(lms(name))
    task = tasks().on(setting.plm)
    starts = 50 * random_starts(setting, (0, 1))
    trainer = prompt_trainer(library, setting, task, (0, 1), starts, steps=1, learning_rate=0.05)
    table, rows = trainer.data.parts[0].table, np.array([5, 2, 17, 2, 40])
    together = trainer.student.predictions(table, [rows, rows], most=5)
    alone = [trainer.student.predictions(table, [np.array([row])] * 2, most=5) for row in rows]
    logits = trainer.student.logits(table, [rows, rows])
    monkeypatch.setattr(module, "WRITTEN_TOKENS", 10)
    monkeypatch.setitem(module.BUCKET_VALUES, "cpu", 16 * 20)
    for k in (0, 1):
        assert together[k].tolist() == [texts[k][0] for texts in alone]
        np.testing.assert_allclose(logits[k], trainer.student.logits(table, [rows, rows])[k], rtol=0, atol=1e-5)
    assert [texts.tolist() for texts in trainer.student.predictions(table, [rows, rows], most=5)] == [
        texts.tolist() for texts in together
    ]
    assert trainer.student.predictions(table, [rows, rows[:0]], most=5)[1].shape == (0,)


@every_way
def test_scores_are_those_of_the_texts_that_are_written(
    lms: Lms, tasks: Tasks, library: PromptLibrary, name: str
) -> None:
    setting = setting_on(lms(name))
    task = tasks("extractive_qa").on(setting.plm)
    starts = 50 * random_starts(setting, (0, 1))
    trainer = prompt_trainer(library, setting, task, (0, 1), starts, steps=1, learning_rate=0.05)
    scores, texts, gold = report_scores(trainer.student, library, setting)
    assert texts.shape == (2, 24)
    assert texts.dtype.kind == "U"
    assert {right.answers for right in gold} != {()}
    assert set(scores) == {"answer_f1", "exact_match"}
    for metric, values in scores.items():
        assert values == [METRICS[metric](said, gold) for said in texts]


def test_the_text_that_is_written_is_that_of_the_longest_answer_at_most(
    lms: Lms, tmp_path: Path, library: PromptLibrary
) -> None:
    plm = lms("llama")
    rows = [{"a": f"w1 x{i}", "summary": "w3"} for i in range(8)]
    long = [{"a": f"w2 x{i}", "summary": "w3 " * 9} for i in range(2)]
    task = own_task(tmp_path, replace(task_of_kind(tmp_path / "k", "generation"), name="o", fingerprints=(), origin=UNLOCATED), rows, long)  # fmt: skip
    trainer = prompt_trainer(
        library, setting_on(plm), task.on(plm), (0,), random_starts(setting_on(plm), (0,)), steps=1, learning_rate=0.1
    )
    assert token_table(library, setting_on(plm), task.on(plm), "validation").labels.shape[1] == 10
    assert all(len(text.split()) <= 2 for text in report_scores(trainer.student, library, setting_on(plm))[1][0])


@every_way
def test_a_prompt_that_is_not_finite_has_no_score(lms: Lms, tasks: Tasks, library: PromptLibrary, name: str) -> None:
    setting = setting_on(lms(name))
    starts = random_starts(setting, (0, 1))
    starts[1] = torch.nan
    trainer = prompt_trainer(library, setting, tasks().on(setting.plm), (0, 1), starts, steps=1, learning_rate=0.05)
    finite, diverged = np.isfinite(trainer.select()["rouge_l"])
    assert finite
    assert not diverged
    assert (trainer.report()[1][1] == UNWRITTEN).all()


# the best constant answer


def test_the_best_constant_is_the_most_frequent_text_of_the_given_rows(
    lms: Lms, tmp_path: Path, library: PromptLibrary
) -> None:
    texts = ["w1", "w2", "w2", "w3", "w3", "w3", "w1", "w1", "w1", "w1"]
    rows = [{"a": f"w9 x{i}", "summary": [text, "w7"]} for i, text in enumerate(texts)]
    spec = replace(task_of_kind(tmp_path / "k", "generation"), name="c", fingerprints=(), origin=UNLOCATED)
    setting = setting_on(lms("llama"))
    task = own_task(tmp_path, spec, rows).on(setting.plm)
    table = token_table(library, setting, task, "train")
    assert best_constant(task, table, np.arange(10)) == "w1"
    assert best_constant(task, table, np.arange(6)) == "w3"
    said = constant_logits(task, "w3", table, np.arange(10))
    assert METRICS["exact_match"](said, gold_of(table, task, np.arange(10))) == 0.3
    replicas = prompt_trainer(
        library, setting, task, (0,), random_starts(setting, (0,)), steps=1, learning_rate=0.1
    ).data.parts[0].rows  # fmt: skip
    assert 0 <= constant_scores(library, setting, task, replicas)[0] <= 1


# teachers


def taught(lms: Lms, tasks: Tasks, name: str, kd: str, **changes: Any) -> TrialConfig:
    """PANDA on a task that is written."""
    plm = lms(name)
    source = Source(tasks(name="s", seed=1).on(plm), 0.5)
    values = {
        "steps": 4, "learning_rate": 0.02, "source_steps": 6, "source_learning_rate": SOURCE_RATE, "teacher_steps": 4,
        "lambda_": 3.0, **changes,
    }  # fmt: skip
    return TrialConfig(setting_on(plm), tasks().on(plm), "panda", (0, 1), sources=(source,), kd=kd, **values)


@every_way
@pytest.mark.parametrize("kd", ["mse", "hidden"])
def test_the_first_distilled_loss_by_hand(lms: Lms, tasks: Tasks, library: PromptLibrary, name: str, kd: str) -> None:
    config = taught(lms, tasks, name, kd)
    trainer, plain = open_trainer(library, config), open_trainer(library, replace(config, lambda_=0.0))
    table, rows = trainer.data.parts[0].table, order_of(trainer)[0]
    read = trainer.student.logits if kd == "mse" else trainer.student.pooled
    said, known = read(table, list(rows.numpy())), trainer.recipe.teachers[0].outputs
    expected = []
    for k, chosen in enumerate(rows):
        squares = (torch.from_numpy(said[k]) - known[k][chosen]).square()
        asked = (table.labels[chosen] != IGNORED)[..., None] if kd == "mse" else torch.ones_like(squares) > 0
        expected.append(squares[asked].mean())
    ours, base = loss_curve(trainer, 1)[0].float(), loss_curve(plain, 1)[0].float()
    torch.testing.assert_close(ours - base, 3.0 * 0.5 * torch.stack(expected), rtol=1e-3, atol=1e-4)
    assert all(value > 0 for value in expected)


def test_losses_that_compare_classes_are_not_defined_for_what_is_written(lms: Lms, tasks: Tasks) -> None:
    for kd in ("kl", "inter_class", "gram"):
        with pytest.raises(ValueError, match=f"{kd} is not defined for a generation"):
            taught(lms, tasks, "llama", kd)


def turned_tokens(folder: Path) -> Plm:
    """A language model whose tokenizer has two words' numbers the other way round."""
    path = save_lm(folder / "turned", "llama") / "tokenizer.json"
    filed = json.loads(path.read_text())
    numbers = filed["model"]["vocab"]
    numbers["w1"], numbers["w2"] = numbers["w2"], numbers["w1"]
    path.write_text(json.dumps(filed))
    return lm_plm(path.parent)


def test_a_language_model_with_the_same_tokens_teaches_and_others_are_refused(
    lms: Lms, tasks: Tasks, library: PromptLibrary, wide_plm: Plm, tmp_path: Path
) -> None:
    setting, other = setting_on(lms("llama")), setting_on(lms("gpt2"))
    check_places(library, setting, other, tasks().on(setting.plm))
    question = tasks("extractive_qa")
    check_places(library, setting, other, question.on(setting.plm))
    with pytest.raises(ValueError, match="one of them writes its answers"):
        check_places(library, setting, setting_on(wide_plm), question.on(setting.plm))
    with pytest.raises(ValueError, match="cut its rows differently"):
        check_places(library, setting, setting_on(turned_tokens(tmp_path)), tasks().on(setting.plm))
    with pytest.raises(ValueError, match="cut its rows differently"):
        check_places(library, setting, setting_on(lms("gpt2"), max_answer=2), question.on(setting.plm))


# methods

RUNS = [("llama", "panda"), ("t5", "panda"), ("llama", "zero_shot"), ("t5", "spot_mixture"), ("llama", "model_tuning"),
        ("llama", "distill"), ("llama", "tpt_model"), ("t5", "multitask_model_tuning")]  # fmt: skip


@pytest.mark.parametrize(("name", "method"), RUNS)
def test_a_method_goes_on_where_it_was_interrupted_and_is_scored(
    lms: Lms, tasks: Tasks, library: PromptLibrary, tmp_path: Path, name: str, method: str
) -> None:
    plm = lms(name)
    words = small_task(tmp_path, "words", wording=WORDING).on(plm)
    changes: dict[str, Any] = {"sources": (Source(words, 0.5),), "steps": 0 if method == "zero_shot" else 4}
    if method in ("distill", "tpt_model", "model_tuning"):
        changes["sources"] = ()
    if method == "distill":
        changes["teacher_plm"] = TeacherPlm(lms("gpt2"), steps=4, learning_rate=SOURCE_RATE)
    if method == "tpt_model":
        changes["projection"] = Projection(lms("gpt2"), (words, tasks(name="p", seed=3).on(plm)), steps=3)
    rate = 0.0 if method == "zero_shot" else 0.02
    weight = 1.0 if method in ("panda", "distill") else 0.0
    config = replace(
        taught(lms, tasks, name, "mse"), **{"lambda_": weight, "method": method, "learning_rate": rate, **changes}
    )
    trainer = open_trainer(library, config)
    loss_curve(trainer, config.steps // 2)
    state = trainer.state()
    curve = loss_curve(trainer, config.steps // 2)
    assert curve.isfinite().all()
    again = open_trainer(library, config)
    again.restore(state)
    assert torch.equal(loss_curve(again, config.steps // 2), curve)
    assert again.select() == trainer.select()
    assert np.isfinite(list(trainer.select().values())).all()
    assert trainer.report()[1].shape == (2, 24)


def test_a_teachers_outputs_are_log_probabilities_of_the_right_tokens(
    lms: Lms, tasks: Tasks, library: PromptLibrary
) -> None:
    config = taught(lms, tasks, "llama", "mse")
    trainer = open_trainer(library, config)
    table = trainer.data.parts[0].table
    (known, _) = trainer.recipe.teachers[0].outputs
    rows = ~known.isnan().any(2).any(1)
    assert known.shape == (60, table.labels.shape[1], 1)
    asked = table.labels[rows] != IGNORED
    assert (known[rows][asked] < 0).all()
    assert (known[rows][~asked] == 0).all()
    larger = replace(
        config, method="distill", sources=(), teacher_plm=TeacherPlm(lms("gpt2"), steps=2, learning_rate=SOURCE_RATE)
    )
    assert state_of_trained(open_trainer(library, larger)).keys() == {"prompt"}


@every_way
def test_a_task_that_is_written_has_an_embedding(lms: Lms, tasks: Tasks, library: PromptLibrary, name: str) -> None:
    config = taught(lms, tasks, name, "mse")
    lineage: Lineage = source_lineage(config, 0)
    assert np.isfinite(task_embedding(library, lineage, 0)).all()
    assert teacher_outputs(library, config, lineage)[0].shape[0] == 60
