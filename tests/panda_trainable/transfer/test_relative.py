"""Prompts in relative space: cosines by hand, what a search finds, and whose prompt a student starts from."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.trial import Relative, TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.training.student import encoder_of
from panda_trainable.transfer.lineage import tuned_prompts
from panda_trainable.transfer.methods import needed, open_trainer
from panda_trainable.transfer.relative import (
    anchor_ids,
    moved_lineage,
    relation,
    relative_key,
    relative_prompts,
    searched,
)
from panda_trainable.transfer.shared_words import shared_words
from tests.kits.trainers import loss_curve, random_prompt

HOW = Relative(Plm("elsewhere", "files"), steps=400, learning_rate=0.05)
Trial = Callable[..., TrialConfig]


def test_cosines_with_anchors_by_hand() -> None:
    vectors, anchors = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, -5.0], [2.0, 2.0]])
    expected = [[0.6, -0.8, 1.4 / 2**0.5], [0.0, -1.0, 0.5**0.5]]
    torch.testing.assert_close(relation(vectors, anchors), torch.tensor(expected))


def rotated() -> tuple[Tensor, Tensor, Tensor]:
    """Words and prompts of one space, and a rotation of it."""
    words, prompts = random_prompt((60, 6), 0), random_prompt((2, 8, 6), 1)
    rotation, _ = torch.linalg.qr(random_prompt((6, 6), 2))
    return words, prompts, rotation


def test_of_a_rotated_space_the_search_finds_the_rotated_prompt() -> None:
    words, prompts, rotation = rotated()
    found = searched(relation(prompts, words), words @ rotation, [0, 1], HOW)
    assert cosine_similarity(found, prompts @ rotation, dim=-1).min() > 0.9999
    assert cosine_similarity(found, prompts, dim=-1).min() < 0.9
    torch.testing.assert_close(found.std((1, 2)), (words @ rotation).std().expand(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.mean((1, 2)), (words @ rotation).mean().expand(2), rtol=0, atol=1e-5)


def test_seeds_are_searched_together_as_alone() -> None:
    words, prompts, _ = rotated()
    wanted, how = relation(prompts, words), replace(HOW, steps=20)
    both = searched(wanted, words, [0, 5], how)
    for k, seed in enumerate((0, 5)):
        torch.testing.assert_close(searched(wanted[k : k + 1], words, [seed], how)[0], both[k], rtol=0, atol=1e-5)


def test_anchors_are_drawn_once_and_are_different() -> None:
    words = [(i, 100 - i) for i in range(50)]
    ids = anchor_ids(words, 20)
    assert torch.equal(ids, anchor_ids(words, 20))
    assert len(set(ids[:, 0].tolist())) == 20
    assert (ids.sum(1) == 100).all()
    assert len(anchor_ids(words, 8192)) == 50


def test_a_student_starts_near_its_targets_prompt_on_the_other_plm_in_relative_space(
    library: PromptLibrary, trial: Trial, wide_plm: Plm
) -> None:
    config = trial("tpt_relative")
    config = replace(config, relative=Relative(wide_plm, steps=300, learning_rate=0.05))
    assert [(n.setting.plm, n.task.name) for n in needed(config)] == [(wide_plm, "t")]
    made = relative_prompts(library, config)
    trainer = open_trainer(library, config)
    assert torch.equal(trainer.student.prompt(), made)
    ids = anchor_ids(shared_words(wide_plm, config.setting.plm), 8192)
    own = encoder_of(config.setting).embed(ids[:, 1])
    there = encoder_of(replace(config.setting, plm=wide_plm)).embed(ids[:, 0])
    for k, prompt in enumerate(tuned_prompts(library, moved_lineage(config), config.seeds)):
        near = cosine_similarity(relation(made[k], own), relation(prompt.prompt, there), dim=-1)
        random = cosine_similarity(relation(random_prompt(made[k].shape, k), own), relation(prompt.prompt, there), dim=-1)  # fmt: skip
        assert near.min() > 0.5 > random.abs().max()
    assert loss_curve(trainer, 8).isfinite().all()


@pytest.mark.own_library
def test_a_moved_prompt_is_made_once_for_all_trials(library: PromptLibrary, trial: Trial) -> None:
    config = trial("tpt_relative")
    first = relative_prompts(library, config)
    before = {path: path.stat().st_mtime_ns for path in library.root.rglob("*.safetensors")}
    other = replace(config, steps=3, learning_rate=0.5)
    assert torch.equal(relative_prompts(library, other), first)
    assert before == {path: path.stat().st_mtime_ns for path in library.root.rglob("*.safetensors")}


def test_what_decides_a_moved_prompt_decides_its_key(trial: Trial) -> None:
    config = trial("tpt_relative")
    how = config.relative
    keys = {relative_key(replace(config, relative=each), 0) for each in (
        how, replace(how, anchors=5), replace(how, steps=5), replace(how, learning_rate=0.5),
    )}  # fmt: skip
    assert len({*keys, relative_key(config, 1), relative_key(replace(config, source_steps=3), 0)}) == 6


def test_a_prefix_is_not_moved(trial: Trial, setting: Setting) -> None:
    config = trial("tpt_relative")
    with pytest.raises(ValueError, match="tpt_relative takes input prompts alone, got prompt.form prefix"):
        replace(config, setting=setting)
