"""Soft prompts: how they start, are averaged, flattened and kept."""

from pathlib import Path

import pytest
import torch

from panda_trainable.heads import logits, random_head
from panda_trainable.prompts import NORMAL_STD, SoftPrompt, average_prompt, random_prompt, tokens_of


def test_an_average_by_hand() -> None:
    prompts = [torch.tensor([1.0, 2.0]), torch.tensor([5.0, 0.0]), torch.tensor([0.0, 8.0])]
    assert average_prompt(prompts, (0.5, 0.25, 0.25)).tolist() == [1.75, 3.0]


def test_an_average_of_one_prompt_is_the_prompt() -> None:
    prompt = random_prompt((2, 2, 2, 3, 8), 0)
    assert torch.equal(average_prompt([prompt], (1.0,)), prompt)


def test_prompts_of_different_lengths_are_not_averaged() -> None:
    with pytest.raises(ValueError, match=r"got \[\(1, 2, 1, 3, 4\), \(1, 2, 1, 5, 4\)\]; train the sources with one"):
        average_prompt([torch.zeros(1, 2, 1, 3, 4), torch.zeros(1, 2, 1, 5, 4)], (0.5, 0.5))


def test_a_random_prompt_is_decided_by_seed_and_shape_alone() -> None:
    torch.manual_seed(1)
    first = random_prompt((2, 2, 2, 20, 64), 7)
    torch.manual_seed(2)
    assert torch.equal(random_prompt((2, 2, 2, 20, 64), 7), first)
    assert not torch.equal(random_prompt((2, 2, 2, 20, 64), 8), first)
    assert float(first.std()) == pytest.approx(NORMAL_STD, rel=0.05)


def test_a_random_head_is_decided_by_the_seed_alone_and_is_no_copy_of_the_prompt() -> None:
    weight, bias = random_head(2, 16, 7)
    torch.manual_seed(3)
    assert torch.equal(random_head(2, 16, 7)[0], weight)
    assert not torch.equal(random_head(2, 16, 8)[0], weight)
    assert not torch.equal(random_prompt((2, 16), 7), weight)
    assert not bias.any()


def test_each_replica_has_its_own_head() -> None:
    pooled, weight = torch.ones(2, 3, 2), torch.tensor([[[1.0, 2.0]], [[0.0, 10.0]]])
    assert logits(pooled, weight, torch.tensor([[0.5], [0.0]])).squeeze(-1).tolist() == [[3.5] * 3, [10.0] * 3]


def test_a_row_of_tokens_holds_all_keys_and_values_of_one_prompt_token() -> None:
    prompt = torch.arange(2 * 2 * 1 * 3 * 1.0).view(2, 2, 1, 3, 1)  # value = 6·layer + 3·(key or value) + token
    assert tokens_of(prompt).tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_a_saved_prompt_is_read_bit_for_bit(tmp_path: Path) -> None:
    kept = SoftPrompt(random_prompt((2, 2, 2, 3, 8), 0), *random_head(3, 16, 0))
    kept.save(tmp_path / "prompt.safetensors")
    read = SoftPrompt.load(tmp_path / "prompt.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(vars(kept).values(), vars(read).values(), strict=True))
