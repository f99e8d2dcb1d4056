"""Prompts of each row's own: the attention by hand, and rows against one example at a time."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from panda_trainable.config.setting import PromptForm, Setting
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.attention import (
    DOWN,
    GAIN,
    SHIFT,
    SOURCES,
    UP,
    AttendedPrompts,
    attention_weights,
    drawn_network,
    queries,
)
from panda_trainable.prompt.soft_prompt import SoftPrompt, tokens_of
from panda_trainable.prompt.sources import TrainedPrompts
from panda_trainable.training.student import stored_student
from panda_trainable.transfer.methods import open_trainer
from tests.kits.trainers import loss_curve, random_prompt, same

CLOSE = {"rtol": 0, "atol": 1e-5}
FORMS = pytest.mark.parametrize("form", ["input", "prefix"])
Trial = Callable[..., TrialConfig]


def attempt(trial: Trial, setting: Setting, form: PromptForm, **changes: object) -> TrialConfig:
    own = replace(setting, prompt=replace(setting.prompt, form=form))
    return trial("attempt", sources=2, setting=own, **changes)


def test_shares_and_prompt_by_hand() -> None:
    # G: one unit of the middle sees both numbers of the pooled input (3, 1), all others nothing; LayerNorm of (x, -x) is (1, -1).
    network = drawn_network(2, 2, [0])
    network = {DOWN: torch.zeros_like(network[DOWN]), UP: torch.zeros_like(network[UP]), GAIN: network[GAIN], SHIFT: network[SHIFT]}  # fmt: skip
    network[DOWN][0, :, 0] = torch.tensor([1.0, 2.0])
    network[UP][0, 0] = torch.tensor([1000.0, -1000.0])
    own, source = torch.tensor([[[0.0, 0.0], [2.0, 0.0]]]), torch.tensor([[[[1.0, 3.0], [0.0, 4.0]]]])
    made = AttendedPrompts(TrainedPrompts(own, torch.device("cpu")), source, network, temperature=0.5)
    embeddings = torch.tensor([[[3.0, -5.0], [2.0, 1.0], [9.0, 9.0]]])  # the last is padding
    # Largest of tokens: own (2, 0), source (1, 4); scores 2 and -3, over 0.5 · 2 widths; own 1 / (1 + e^-5).
    share = 1 / (1 + math.exp(-5))
    expected = own[0] * (1 + share) + source[0, 0] * (1 - share)
    found = made.of_rows(made.prompts(), embeddings, torch.tensor([2]), torch.tensor([0]))
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-5)


def test_shares_sum_to_one_and_grow_equal_with_the_temperature() -> None:
    query, keys = random_prompt((5, 4), 0), random_prompt((2, 3, 4), 1)
    owner = torch.tensor([0, 1, 1, 0, 1])
    cold, hot = (attention_weights(query, keys, owner, t) for t in (0.001, 1e6))
    torch.testing.assert_close(cold.sum(1), torch.ones(5))
    torch.testing.assert_close(hot, torch.full((5, 3), 1 / 3), rtol=0, atol=1e-5)
    for row, k in enumerate(owner):
        assert cold[row].argmax() == (keys[k] @ query[row]).argmax()


def by_modules(network: dict[str, Tensor], k: int) -> nn.Module:
    """The network of one replica, of PyTorch's own modules."""
    down, up = network[DOWN][k], network[UP][k]
    made = nn.Sequential(
        nn.Linear(*down.shape, bias=False), nn.SiLU(), nn.Linear(*up.shape, bias=False), nn.LayerNorm(up.shape[1])
    )
    with torch.no_grad():
        made[0].weight.copy_(down.T)
        made[2].weight.copy_(up.T)
        made[3].weight.copy_(network[GAIN][k])
        made[3].bias.copy_(network[SHIFT][k])
    return made


def test_the_network_is_that_of_modules_one_row_and_replica_at_a_time() -> None:
    network = drawn_network(6, 10, [0, 1])
    network[GAIN] = network[GAIN] + random_prompt((2, 10), 2)
    network[SHIFT] = random_prompt((2, 10), 3)
    pooled, owner = random_prompt((4, 6), 1), torch.tensor([1, 0, 0, 1])
    found = queries(network, pooled, owner)
    for row, k in enumerate(owner.tolist()):
        torch.testing.assert_close(found[row], by_modules(network, k)(pooled[row]), **CLOSE)


@FORMS
def test_a_row_is_read_behind_the_prompt_of_its_own_input(
    library: PromptLibrary, trial: Trial, setting: Setting, form: PromptForm
) -> None:
    trainer = open_trainer(library, attempt(trial, setting, form, attention_temperature=0.05))
    trainer.advance(3)
    student, table = trainer.student, trainer.data.parts[0].table
    rows = np.arange(12)
    said = student.logits(table, [rows, rows])
    for k, kept in enumerate(trainer.prompts()):
        own, sources = tokens_of(kept.prompt), torch.stack([tokens_of(each) for each in kept.parts[SOURCES]])
        every = torch.cat((sources, own[None]))  # [S + 1, P, D]
        network = by_modules({name: kept.parts[name][None] for name in (DOWN, UP, GAIN, SHIFT)}, 0)
        seen = set()
        for row in rows[:4]:
            ids = table.ids[row, : table.lengths[row]].long()
            query = network(student.encoder.embed(ids).amax(0))
            shares = (every.amax(1) @ query / (0.05 * own.shape[1])).softmax(0)
            seen.add(round(shares[0].item(), 4))
            prompt = own + torch.einsum("s,spd->pd", shares, every)
            plain = prompt if form == "input" else shaped(prompt, kept.prompt)
            states = student.encoder.encode(
                ids[None], torch.zeros_like(ids)[None], torch.tensor([len(ids)]), plain[None], torch.tensor([0])
            )
            answer = states @ kept.weight.T + kept.bias
            np.testing.assert_allclose(said[k][row], answer[0].detach().numpy(), rtol=0, atol=1e-5)
        assert len(seen) > 1  # rows attend to different sources


def shaped(tokens: Tensor, like: Tensor) -> Tensor:
    """A prefix [L, 2, heads, P, d] of tokens [P, D], number by number."""
    layers, two, heads, length, dim = like.shape
    return tokens.view(length, layers, two, heads, dim).permute(1, 2, 3, 0, 4)


@FORMS
def test_what_is_trained_gets_gradients_and_the_sources_stay(
    library: PromptLibrary, trial: Trial, setting: Setting, form: PromptForm
) -> None:
    trainer = open_trainer(library, attempt(trial, setting, form))
    before = trainer.student.source.sources.clone()
    assert set(trainer.trainables) == {"prompt", DOWN, UP, GAIN, SHIFT, "weight", "bias"}
    trainer._gather_gradients(trainer.blocks[0], 0)
    assert all(t.grad is not None and t.grad.flatten(1).norm(dim=1).min() > 0 for t in trainer.trainables.values())
    assert not trainer.student.source.sources.requires_grad
    trainer.advance(8)
    assert torch.equal(before, trainer.student.source.sources)


@FORMS
def test_what_is_stored_answers_as_the_student_did(
    library: PromptLibrary, trial: Trial, setting: Setting, form: PromptForm, tmp_path: object
) -> None:
    config = attempt(trial, setting, form)
    trainer = open_trainer(library, config)
    assert loss_curve(trainer, 8).isfinite().all()
    for k, prompt in enumerate(trainer.prompts()):
        prompt.save(tmp_path / f"{k}.safetensors")
    stored = [SoftPrompt.load(tmp_path / f"{k}.safetensors") for k in (0, 1)]
    again = stored_student(config.setting, config.target, config.seeds, stored)
    table, rows = trainer.data.parts[0].table, [np.arange(9), np.arange(4, 20)]
    for a, b in zip(trainer.student.logits(table, rows), again.logits(table, rows), strict=True):
        np.testing.assert_array_equal(a, b)
    kept = {name: torch.stack([prompt.tensors[name] for prompt in again.prompts()]) for name in stored[0].tensors if name != "label_scale"}  # fmt: skip
    assert same(kept, {name: torch.stack([prompt.tensors[name] for prompt in stored]) for name in kept})


def test_the_temperature_decides_numbers_and_other_settings_of_nobody_do(
    library: PromptLibrary, trial: Trial, setting: Setting
) -> None:
    said = []
    for temperature in (0.01, 10.0):
        trainer = open_trainer(library, attempt(trial, setting, "input", attention_temperature=temperature))
        trainer.advance(2)
        said.append(trainer.student.logits(trainer.data.parts[0].table, [np.arange(6)] * 2)[0])
    assert not np.allclose(*said, atol=1e-4)


def test_attention_needs_a_temperature(trial: Trial, setting: Setting) -> None:
    with pytest.raises(ValueError, match="attention_temperature must be positive, got 0"):
        attempt(trial, setting, "input", attention_temperature=0.0)
