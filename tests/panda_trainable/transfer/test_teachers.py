"""Teachers: snapshots of one run, made once, silent where no student looks, and never trained by a student."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.locate import fingerprinted
from panda_trainable.data.splits import batches
from panda_trainable.data.tokens import token_table
from panda_trainable.library import CARD, PromptLibrary
from panda_trainable.prompt.soft_prompt import SoftPrompt
from panda_trainable.training.forward import encoded
from panda_trainable.training.heads import outputs
from panda_trainable.transfer.lineage import FILE, Lineage, starting_prompts, tuned_prompts
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.transfer.teachers import source_lineage, target_like_teachers
from panda_trainable.worker import load_encoder
from tests.kits.tasks import rows_of, write_task
from tests.kits.trainers import random_starts

pytestmark = pytest.mark.own_library  # these tests look at what is made in it

Trial = Callable[..., TrialConfig]


def same(a: SoftPrompt, b: SoftPrompt) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.tensors.values(), b.tensors.values(), strict=True))


def made(library: PromptLibrary) -> dict[str, int]:
    """Every file of the library but its locks, and when it was written."""
    files = (path for path in library.root.rglob("*") if path.is_file())
    return {str(path): path.stat().st_mtime_ns for path in files}


@pytest.fixture
def lineage(trial: Trial) -> Lineage:
    """A teacher: a source prompt, four steps on the target."""
    config = trial("panda")
    return Lineage(config.setting, config.target, 4, 0.02, ((1.0, source_lineage(config, 0)),))


def test_a_snapshot_is_a_run_of_exactly_so_many_steps(library: PromptLibrary, lineage: Lineage, tmp_path: Path) -> None:
    tuned_prompts(library, lineage.at(7), (0, 1), also=(2, 4))
    for steps in (2, 4, 7):
        snapshots = tuned_prompts(library, lineage.at(steps), (0, 1))
        run = tuned_prompts(PromptLibrary(tmp_path / str(steps)), lineage.at(steps), (0, 1))
        assert all(same(a, b) for a, b in zip(snapshots, run, strict=True))


def test_a_teacher_of_no_steps_would_be_its_source(library: PromptLibrary, lineage: Lineage) -> None:
    source = tuned_prompts(library, lineage.start[0][1], (0, 1))
    assert torch.equal(starting_prompts(library, lineage, (0, 1)), torch.stack([p.prompt for p in source]))


def test_a_replica_starts_from_what_its_own_seed_made(library: PromptLibrary, lineage: Lineage) -> None:
    both = starting_prompts(library, lineage, (0, 1))
    assert torch.equal(starting_prompts(library, lineage, (1,)), both[1:])
    assert not torch.equal(both[0], both[1])


def test_several_sources_are_averaged_by_their_shares(library: PromptLibrary, trial: Trial) -> None:
    config = trial("spot", sources=2)
    parents = [source_lineage(config, i) for i in (0, 1)]
    first, second = (tuned_prompts(library, parent, (0,))[0].prompt for parent in parents)
    start = tuple(zip(config.shares, parents, strict=True))
    found = starting_prompts(library, Lineage(config.setting, config.target, 0, 0.0, start), (0,))
    torch.testing.assert_close(found[0], 2 / 3 * first + 1 / 3 * second)


def test_a_prompt_without_parents_starts_at_random_the_same_for_all_tasks(
    library: PromptLibrary, setting: Setting, task: Callable[..., TaskSpec]
) -> None:
    starts = [starting_prompts(library, Lineage(setting, task(name), 5, 0.1), (0, 3)) for name in ("t", "u")]
    assert torch.equal(starts[0], starts[1])
    assert torch.equal(starts[0], random_starts(setting, (0, 3)))


def test_a_teacher_speaks_exactly_of_the_rows_that_the_students_order_reaches(
    library: PromptLibrary, trial: Trial
) -> None:
    config = trial("panda")
    (teacher,) = target_like_teachers(library, config)
    rows = open_trainer(library, config).data.parts[0].rows
    for seed, said, own in zip(config.seeds, teacher.outputs, rows, strict=True):
        reached = np.unique(batches(own.train, seed, config.steps, config.setting.train.batch_size))
        assert np.flatnonzero(said.isfinite().all(1)).tolist() == reached.tolist()
        assert said.isnan().any(1).sum() == len(said) - len(reached) > len(own.selection)


def test_what_a_teacher_says_are_the_logits_of_its_prompt_and_head(library: PromptLibrary, trial: Trial) -> None:
    config = trial("panda")
    (teacher,) = target_like_teachers(library, config)
    start = ((1.0, source_lineage(config, 0)),)
    prompts = tuned_prompts(library, Lineage(config.setting, config.target, 4, 0.02, start), config.seeds)
    table, encoder = token_table(library, config.setting, config.target, "train"), load_encoder(config.setting.plm)
    for said, own in zip(teacher.outputs, prompts, strict=True):
        rows = torch.from_numpy(np.flatnonzero(said.isfinite().all(1)))
        owner = torch.zeros_like(rows)
        pooled = encoded(encoder, table, own.prompt[None], rows, owner)
        expected = outputs(pooled, own.weight[None], own.bias[None], owner)
        torch.testing.assert_close(said[rows], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_teachers_together_weigh_the_effective_lambda(library: PromptLibrary, trial: Trial, fusion: str) -> None:
    config = trial("panda", sources=2, lambda_=2.0, fusion=fusion)
    teachers = target_like_teachers(library, config)
    assert len(teachers) == {"early": 1, "late": 2}[fusion]
    assert sum(teacher.weight for teacher in teachers) == pytest.approx(config.lambda_effective)


def test_a_source_that_is_not_positive_does_not_teach(library: PromptLibrary, trial: Trial) -> None:
    config = trial("panda", sources=2, fusion="late")
    first, second = config.sources
    config = replace(config, sources=(first, replace(second, similarity=-0.1)))
    assert [teacher.weight for teacher in target_like_teachers(library, config)] == [pytest.approx(0.5)]


def test_a_teacher_receives_no_gradient_and_is_not_changed_by_its_student(library: PromptLibrary, trial: Trial) -> None:
    trainer = open_trainer(library, trial("panda"))
    (teacher,) = trainer.recipe.teachers
    before, files = [said.clone() for said in teacher.outputs], made(library)
    trainer.advance(8)
    assert all(np.isfinite(trainer.losses()))
    for said, then in zip(teacher.outputs, before, strict=True):
        assert said.grad is None and not said.requires_grad
        assert torch.equal(said.nan_to_num(7), then.nan_to_num(7))
    assert made(library) == files


def test_all_is_made_once_whatever_the_student_does_with_it(library: PromptLibrary, trial: Trial) -> None:
    target_like_teachers(library, trial("panda"))
    files = made(library)
    assert len(list(library.root.glob("prompts/*"))) == 2  # a source prompt of each seed
    assert len(list(library.root.glob("teachers/*"))) == 2 * 3  # two snapshots and the logits of one of them
    for changes in ({"lambda_": 3.0}, {"learning_rate": 0.5}, {"kd": "kl"}, {"fusion": "late"}):
        target_like_teachers(library, trial("panda", **changes))
    assert made(library) == files


def test_another_candidate_of_teacher_steps_needs_no_training(library: PromptLibrary, trial: Trial) -> None:
    target_like_teachers(library, trial("panda"))
    files = made(library)
    target_like_teachers(library, trial("panda", teacher_steps=2))
    new = made(library).keys() - files.keys()
    assert {Path(file).name for file in new} == {"logits.npy", CARD}
    assert made(library).items() >= files.items()


def test_a_seed_that_is_added_trains_alone(library: PromptLibrary, lineage: Lineage) -> None:
    tuned_prompts(library, lineage, (0, 1))
    files = made(library)
    tuned_prompts(library, lineage, (0, 1, 2))
    assert made(library).items() >= files.items()
    assert len(list(library.root.glob("teachers/*"))) == 3


def test_a_source_apart_from_the_target_is_another_prompt_than_the_source_alone(
    library: PromptLibrary, trial: Trial
) -> None:
    config = trial("spot")
    target, source = config.target, config.sources[0]
    rows = Path(source.task.origin.place("train")).read_text().splitlines()
    Path(target.origin.place("validation")).write_text("".join(row + "\n" for row in rows[:12]))
    target = fingerprinted(target)
    alone, apart = (
        replace(config, target=target, sources=(replace(source, drop_overlap=said),)) for said in (False, True)
    )
    lineages = [source_lineage(each, 0) for each in (alone, apart)]
    assert [lineage.exclude_overlap_with for lineage in lineages] == [None, target]
    assert lineages[0].key(0) != lineages[1].key(0)
    assert source_lineage(config, 0).key(0) == lineages[0].key(0)  # what a target's report rows are is its own matter
    prompts = [tuned_prompts(library, lineage, (0, 1)) for lineage in lineages]
    assert not any(same(a, b) for a, b in zip(*prompts, strict=True))
    card = json.loads((library.path("prompts", lineages[1].key(0)) / CARD).read_text())
    assert card["exclude_overlap_with"] == "t"
    starts = [open_trainer(library, each).student.prompt() for each in (alone, apart)]
    assert all(torch.equal(a, torch.stack([p.prompt for p in b])) for a, b in zip(starts, prompts, strict=True))


def test_a_source_that_shares_nothing_is_the_same_prompt_apart(library: PromptLibrary, trial: Trial) -> None:
    config = trial("spot")  # whose rows are numbered, each its own text
    words = Path(config.sources[0].task.origin.place("train"))
    words.write_text(words.read_text().replace(" x", " z"))
    task = fingerprinted(config.sources[0].task)
    own = Lineage(config.setting, task, 6, 0.02)
    pair = [tuned_prompts(library, replace(own, exclude_overlap_with=of), (0,))[0] for of in (None, config.target)]
    assert same(*pair)


def test_teachers_know_the_shots_of_the_target_and_sources_those_of_sources(
    library: PromptLibrary, trial: Trial, setting: Setting
) -> None:
    config = trial("panda", setting=replace(setting, shots=4, source_shots=6))
    assert source_lineage(config, 0).setting == replace(setting, shots=6)
    (teacher,) = target_like_teachers(library, config)
    for said, own in zip(teacher.outputs, open_trainer(library, config).data.parts[0].rows, strict=True):
        assert len(own.train) == 2 * 4
        assert np.flatnonzero(said.isfinite().all(1)).tolist() == sorted(own.train.tolist())


def test_a_damaged_prompt_is_trained_again_and_is_the_same(library: PromptLibrary, lineage: Lineage) -> None:
    before = [
        SoftPrompt.of({name: x.clone() for name, x in p.tensors.items()})
        for p in tuned_prompts(library, lineage, (0, 1))
    ]
    (library.path("teachers", lineage.key(1)) / FILE).write_bytes(b"rubbish")
    again = tuned_prompts(PromptLibrary(library.root), lineage, (0, 1))
    for a, b in zip(before, again, strict=True):
        torch.testing.assert_close(a.prompt, b.prompt, rtol=0, atol=1e-5)


@pytest.mark.parametrize("protocol", ["held_out", "paper"])
def test_a_source_has_its_score_and_the_majoritys_on_the_same_rows(
    library: PromptLibrary, setting: Setting, task: Callable[..., TaskSpec], protocol: str
) -> None:
    spec = task("t")
    rows = rows_of(24, seed=99)
    write_task(Path(spec.origin.place()), rows_of(60), [*rows, *rows[::2]])  # validation: two thirds are of class 0
    spec = fingerprinted(spec)
    lineage = Lineage(replace(setting, protocol=protocol), spec, 3, 0.02)
    tuned_prompts(library, lineage, (0,))
    card = json.loads((library.path("prompts", lineage.key(0)) / CARD).read_text())
    assert 0 <= card["score"] <= 1
    assert card["majority"] == pytest.approx({"held_out": 1 / 2, "paper": 24 / 36}[protocol])
