"""Teacher PLMs: another PLM, tuned once on the target, whose outputs on the student's rows are stored by row number."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TeacherPlm, TrialConfig
from panda_trainable.data.splits import batches, replica_rows
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.training.forward import encoded
from panda_trainable.training.model_student import read_model_heads
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.lineage import FILE, MODEL_FILE, tuned, tuned_student
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.transfer.teachers import teacher_outputs, teacher_plm_lineage, teacher_plm_scores
from panda_trainable.worker import load_encoder
from tests.kits.tasks import HEADED
from tests.kits.trainers import loss_curve, model_trainer, prompt_trainer

pytestmark = pytest.mark.own_library  # these tests look at what is made in it

Trial = Callable[..., TrialConfig]
KindTask = Callable[..., TaskSpec]
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
both_ways = pytest.mark.parametrize("trains", ["prompt", "model"])


def with_teacher_plm(trial: Trial, plm: Plm, trains: Any = "prompt", **changes: Any) -> TrialConfig:
    """A trial whose larger teacher is that PLM."""
    return trial("distill", teacher_plm=TeacherPlm(plm, trains=trains, steps=6, learning_rate=0.02), **changes)


@both_ways
@pytest.mark.parametrize("reads", ["logits", "hidden"])
def test_a_teacher_plm_outputs_what_its_own_plm_computes_from_its_own_tokens(
    library: PromptLibrary, trial: Trial, parting_plm: Plm, trains: str, reads: Any
) -> None:
    config = with_teacher_plm(trial, parting_plm, trains)
    lineage = teacher_plm_lineage(config)
    tables = teacher_outputs(library, config, lineage, reads)
    own = token_table(library, lineage.setting, config.target, "train")
    assert own.lengths.tolist() != token_table(library, config.setting, config.target, "train").lengths.tolist()
    for table, seed, folder in zip(tables, config.seeds, tuned(library, lineage, config.seeds), strict=True):
        rows = table.isfinite().all(1).nonzero()[:, 0]
        if trains == "prompt":
            parts = load_file(folder / FILE)
            prompt = parts["prompt"][None]
            vectors = encoded(load_encoder(parting_plm), own, prompt, rows, torch.zeros_like(rows))
            weight, bias = parts["weight"], parts["bias"]
        else:
            plain = model_trainer(library, lineage.setting, config.target, (seed,), steps=0,
                                 learning_rate=0.1, weights=[folder / MODEL_FILE])  # fmt: skip
            vectors = encoded(plain.student.copies[0], own, None, rows, torch.zeros_like(rows)).detach()
            weight, bias = (part[0] for part in read_model_heads([folder / MODEL_FILE]))
        expected = vectors if reads == "hidden" else vectors @ weight.T + bias
        assert expected.shape[1] == {"hidden": 24, "logits": 2}[reads]
        torch.testing.assert_close(table[rows], expected, **CLOSE)


@both_ways
def test_a_teacher_plm_has_outputs_on_exactly_the_rows_that_the_students_order_reaches(
    library: PromptLibrary, trial: Trial, parting_plm: Plm, trains: str
) -> None:
    config = with_teacher_plm(trial, parting_plm, trains)
    trainer = open_trainer(library, config)
    for teacher in trainer.recipe.teachers:
        for seed, known, own in zip(config.seeds, teacher.outputs, trainer.data.parts[0].rows, strict=True):
            reached = np.unique(batches(own.train, seed, config.steps, config.setting.train.batch_size))
            assert np.flatnonzero(known.isfinite().all(1)).tolist() == reached.tolist()
            assert known.isnan().any(1).sum() == len(known) - len(reached)
    assert loss_curve(trainer, 8).isfinite().all()


def test_a_teacher_plm_is_tuned_on_the_shots_of_its_student(
    library: PromptLibrary, trial: Trial, parting_plm: Plm
) -> None:
    config = with_teacher_plm(trial, parting_plm)
    config = replace(config, setting=replace(config.setting, shots=4, source_shots=9))
    trainer = open_trainer(library, config)
    lineage = teacher_plm_lineage(config)
    assert lineage.setting == replace(config.setting, plm=parting_plm, source_shots=0)
    for mine, seed in zip(trainer.data.parts[0].rows, config.seeds, strict=True):
        theirs = replica_rows(library, lineage.setting, config.target, seed)
        assert len(mine.train) == 2 * 4
        assert mine.train.tolist() == theirs.train.tolist()


@both_ways
def test_a_teacher_plm_teaches_with_its_tuned_parameters(
    library: PromptLibrary, trial: Trial, wide_plm: Plm, trains: str
) -> None:
    config = with_teacher_plm(trial, wide_plm, trains)
    lineage = teacher_plm_lineage(config)
    folders = tuned(library, lineage, config.seeds)
    assert {folder.parent.name for folder in folders} == {"models" if trains == "model" else "prompts"}
    student = tuned_student(lineage, config.seeds, folders)
    run = _run(library, lineage.setting, config.target, trains)
    rows = [replica.selection for replica in run.data.parts[0].rows]
    for mine, expected in zip(
        student.logits(run.data.parts[0].table, rows), run.student.logits(run.data.parts[0].table, rows), strict=True
    ):
        torch.testing.assert_close(torch.from_numpy(mine), torch.from_numpy(expected), **CLOSE)


def _run(library: PromptLibrary, setting: Setting, task: TaskSpec, trains: str) -> Trainer:
    """Six plain steps at a constant rate."""
    how: dict[str, Any] = {"steps": 6, "learning_rate": 0.02, "schedule": "constant"}
    if trains == "model":
        trainer: Trainer = model_trainer(library, setting, task, (0, 1), **how)
    else:
        shape = load_encoder(setting.plm).prompt_shape(setting.prompt.length, setting.prompt.form)
        starts = [torch.empty(shape).normal_(0, 0.02, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
        trainer = prompt_trainer(library, setting, task, (0, 1), torch.stack(starts), **how)
    trainer.advance(6)
    return trainer


@both_ways
def test_the_score_of_a_teacher_plm_is_its_report_score(
    library: PromptLibrary, trial: Trial, wide_plm: Plm, trains: str
) -> None:
    config = with_teacher_plm(trial, wide_plm, trains)
    run = _run(library, teacher_plm_lineage(config).setting, config.target, trains)
    assert teacher_plm_scores(library, config) == pytest.approx(run.report()[0]["accuracy"])


def test_a_teacher_plm_is_tuned_once_whatever_the_students_settings(
    library: PromptLibrary, trial: Trial, wide_plm: Plm
) -> None:
    open_trainer(library, with_teacher_plm(trial, wide_plm))
    files = {path: path.stat().st_mtime_ns for path in library.root.rglob("*") if path.is_file()}
    for changes in ({"lambda_": 3.0}, {"learning_rate": 0.5}, {"kd": "kl"}, {"relation": "gram"}, {"temperature": 2.0}):
        open_trainer(library, with_teacher_plm(trial, wide_plm, **changes))
    assert {path: path.stat().st_mtime_ns for path in library.root.rglob("*") if path.is_file()} == files
    open_trainer(
        library, with_teacher_plm(trial, wide_plm, kd="hidden")
    )  # its vectors are written down, and nothing is tuned
    new = {path for path in library.root.rglob("*") if path.is_file()} - files.keys()
    assert {path.name for path in new} == {"hidden.npy", "card.json"}


@pytest.mark.parametrize("kind", HEADED)
def test_a_teacher_plm_that_tokenises_rows_differently_is_refused_for_token_level_tasks(
    library: PromptLibrary, trial: Trial, kind_task: KindTask, parting_plm: Plm, kind: str
) -> None:
    config = with_teacher_plm(trial, parting_plm, target=kind_task(kind), inter_class=0.0, inter_instance=0.0)
    if kind in ("tagging", "extractive_qa"):
        with pytest.raises(
            ValueError, match=f"cannot teach .* the {kind} k: .* their tokenizers cut its rows differently"
        ):
            open_trainer(library, config)
        assert open_trainer(library, replace(config, lambda_=0.0)).recipe.teachers == ()
    else:
        assert loss_curve(open_trainer(library, config), 8).isfinite().all()


def test_tagging_without_truncation_is_taught_whatever_the_tokenizer(
    library: PromptLibrary, trial: Trial, kind_task: KindTask, parting_plm: Plm
) -> None:
    config = with_teacher_plm(trial, parting_plm, target=kind_task("tagging"), inter_class=0.0, inter_instance=0.0)
    config = replace(config, setting=replace(config.setting, train=replace(config.setting.train, max_length=60)))
    trainer = open_trainer(library, config)
    assert trainer.recipe.teachers[0].outputs[0].shape[1:] == (trainer.data.parts[0].table.slots.shape[1], 4)
    assert loss_curve(trainer, 8).isfinite().all()


def test_a_larger_teacher_does_not_change_the_students_plm(library: PromptLibrary, trial: Trial, wide_plm: Plm) -> None:
    config = with_teacher_plm(trial, wide_plm)
    trainer = open_trainer(library, config)
    file = load_file(Path(config.setting.plm.source) / "model.safetensors")
    trainer.advance(8)
    assert all(torch.equal(trainer.student.encoder.model.state_dict()[name], tensor) for name, tensor in file.items())
    assert trainer.student.encoder.hidden == 16
