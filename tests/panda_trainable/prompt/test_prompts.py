"""Soft prompts: averaged, flattened, kept, and trained through an MLP."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.soft_prompt import (
    MLP_PARTS,
    SoftPrompt,
    average_prompt,
    mlp_parameters,
    mlp_prompt,
    tokens_of,
)
from panda_trainable.training.heads import random_head
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.lineage import tuned_prompts
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.transfer.teachers import source_lineage
from tests.kits.trainers import loss_curve, random_prompt, random_starts, same, trained

SHAPES = pytest.mark.parametrize("shape", [(2, 2, 2, 3, 8), (3, 16)], ids=["prefix", "input"])
FORMS = pytest.mark.parametrize("form", ["prefix", "input"])
CLOSE = {"rtol": 0, "atol": 1e-5}


def test_an_average_by_hand() -> None:
    prompts = [torch.tensor([1.0, 2.0]), torch.tensor([5.0, 0.0]), torch.tensor([0.0, 8.0])]
    assert average_prompt(prompts, (0.5, 0.25, 0.25)).tolist() == [1.75, 3.0]


def test_an_average_of_one_prompt_is_the_prompt() -> None:
    prompt = random_prompt((2, 2, 2, 3, 8), 0)
    assert torch.equal(average_prompt([prompt], (1.0,)), prompt)


def test_prompts_of_different_lengths_are_not_averaged() -> None:
    with pytest.raises(ValueError, match=r"got \[\(1, 2, 1, 3, 4\), \(1, 2, 1, 5, 4\)\]; train the sources with one"):
        average_prompt([torch.zeros(1, 2, 1, 3, 4), torch.zeros(1, 2, 1, 5, 4)], (0.5, 0.5))


def test_a_row_of_tokens_holds_all_keys_and_values_of_one_prompt_token() -> None:
    prompt = torch.arange(2 * 2 * 1 * 3 * 1.0).view(2, 2, 1, 3, 1)  # value = 6·layer + 3·(key or value) + token
    assert tokens_of(prompt).tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_the_tokens_of_an_input_prompt_are_its_rows() -> None:
    assert tokens_of(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist() == [[1, 2], [3, 4]]


@SHAPES
def test_a_saved_prompt_is_read_bit_for_bit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    kept = SoftPrompt(random_prompt(shape, 0), *random_head(3, 16, 0), torch.tensor([[0.5] * 3, [2.0] * 3]))
    kept.save(tmp_path / "prompt.safetensors")
    read = SoftPrompt.load(tmp_path / "prompt.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(kept.tensors.values(), read.tensors.values(), strict=True))


def test_a_prompt_without_a_scale_is_read_without_one_and_answers_as_it_is(tmp_path: Path) -> None:
    kept = SoftPrompt(random_prompt((3, 4), 0), *random_head(1, 16, 0))
    kept.save(tmp_path / "prompt.safetensors")
    read = SoftPrompt.load(tmp_path / "prompt.safetensors")
    assert read.label_scale is None
    assert read.in_units(torch.tensor([[0.5], [-1.0]])).tolist() == [[0.5], [-1.0]]


def test_a_regressions_prompt_answers_in_the_units_of_its_labels() -> None:
    prompt = SoftPrompt(random_prompt((3, 4), 0), *random_head(1, 16, 0)).scaled(torch.tensor([[3.0], [2.0]]))
    assert prompt.in_units(torch.tensor([[0.5], [-1.0]])).tolist() == [[4.0], [1.0]]


@SHAPES
def test_the_mlp_of_each_replica_is_the_papers_embedding_linear_tanh_linear(shape: tuple[int, ...]) -> None:
    parts = mlp_parameters(shape, 5, (3, 8))
    made = mlp_prompt(parts, shape)
    assert made.shape == (2, *shape)
    for k in range(2):
        own = {name: part[k] for name, part in parts.items()}
        inputs, outputs = own["weight_in"].shape[0], own["weight_out"].shape[1]
        network = nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs))
        network.load_state_dict(
            {"0.weight": own["weight_in"].T, "0.bias": own["bias_in"],
             "2.weight": own["weight_out"].T, "2.bias": own["bias_out"]}
        )  # fmt: skip
        torch.testing.assert_close(tokens_of(made[k]), network(own["embedding"]).detach(), **CLOSE)


def test_the_width_of_the_mlps_embedding_is_the_plms() -> None:
    prefix, words = (mlp_parameters(shape, 5, (0,)) for shape in ((2, 2, 2, 3, 8), (3, 12)))
    assert [tuple(prefix[name].shape) for name in MLP_PARTS] == [(1, 3, 16), (1, 16, 5), (1, 5), (1, 5, 64), (1, 64)]
    assert [tuple(words[name].shape) for name in MLP_PARTS] == [(1, 3, 12), (1, 12, 5), (1, 5), (1, 5, 12), (1, 12)]


def test_the_mlp_is_decided_by_the_seed_alone_and_is_no_copy_of_prompt_or_head() -> None:
    torch.manual_seed(1)
    first = mlp_parameters((3, 16), 16, (7,))
    torch.manual_seed(2)
    assert same(mlp_parameters((3, 16), 16, (7,)), first)
    both = mlp_parameters((3, 16), 16, (7, 8))
    for name in MLP_PARTS:
        assert torch.equal(both[name][:1], first[name])
        assert not torch.equal(both[name][0], both[name][1])
    assert not torch.equal(first["embedding"][0], torch.randn(3, 16, generator=torch.Generator().manual_seed(7)))


@pytest.fixture
def through(opened: Callable[..., Trainer], setting: Setting) -> Callable[..., Trainer]:
    """Opens trainers whose prompts go through an MLP: through(task, form="prefix", seeds=(0, 1))."""

    def make(task: TaskSpec, form: str = "prefix", seeds: tuple[int, ...] = (0, 1), **changes: object) -> Trainer:
        return opened(
            task, seeds, setting=replace(setting, prompt=replace(setting.prompt, form=form, mlp=6)), **changes
        )

    return make


@FORMS
def test_a_prompt_through_an_mlp_starts_where_it_should_and_is_moved_by_its_parts(
    through: Callable[..., Trainer], task: Callable[..., TaskSpec], form: str
) -> None:
    trainer = through(task("t"), form)
    start = random_starts(trainer.data.setting, (0, 1))
    torch.testing.assert_close(trainer.student.prompt().detach(), start, **CLOSE)
    before = trained(trainer)
    assert before.keys() == {*MLP_PARTS, "weight", "bias"}
    trainer.advance(10)
    now = trained(trainer)
    assert not any(torch.equal(now[name][k], before[name][k]) for name in before for k in (0, 1))
    assert all(float((s.prompt - own).abs().max()) > 1e-2 for s, own in zip(trainer.prompts(), start, strict=True))


@FORMS
def test_the_first_loss_through_an_mlp_is_the_loss_without(
    through: Callable[..., Trainer],
    opened: Callable[..., Trainer],
    task: Callable[..., TaskSpec],
    setting: Setting,
    form: str,
) -> None:
    plain = opened(task("t"), (0, 1), setting=replace(setting, prompt=replace(setting.prompt, form=form)))
    torch.testing.assert_close(loss_curve(through(task("t"), form), 1), loss_curve(plain, 1), **CLOSE)


@FORMS
def test_an_mlp_lowers_the_loss_and_replicas_do_not_touch_one_another(
    through: Callable[..., Trainer], task: Callable[..., TaskSpec], form: str
) -> None:
    spec = task("t")
    together = loss_curve(through(spec, form, (0, 3), steps=60, learning_rate=0.05), 60)
    assert (together[-10:].mean(0) < 0.8 * together[:10].mean(0)).all()
    alone = [loss_curve(through(spec, form, (seed,), steps=60, learning_rate=0.05), 10) for seed in (0, 3)]
    torch.testing.assert_close(together[:10], torch.cat(alone, 1), **CLOSE)


@FORMS
@pytest.mark.parametrize("method", ["spot", "panda"])
def test_a_source_trained_through_an_mlp_is_transferred_as_a_prompt(
    library: PromptLibrary, trial: Callable[..., TrialConfig], setting: Setting, form: str, method: str
) -> None:
    config = trial(method, setting=replace(setting, prompt=replace(setting.prompt, form=form, mlp=6)))
    trainer = open_trainer(library, config)
    sources = torch.stack([p.prompt for p in tuned_prompts(library, source_lineage(config, 0), config.seeds)])
    expected = sources if method == "spot" else random_starts(config.setting, config.seeds)
    torch.testing.assert_close(trainer.student.prompt().detach(), expected, **CLOSE)
    assert float((sources - random_starts(config.setting, config.seeds)).abs().max()) > 1e-3
    assert loss_curve(trainer, 8).isfinite().all()
