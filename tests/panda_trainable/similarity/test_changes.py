"""What training changed: prompts less their starts, and similarities of it without the start that a seed shares."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from panda_trainable.config.methods import CHANGES
from panda_trainable.config.setting import InitSettings, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.soft_prompt import tokens_of
from panda_trainable.similarity.readings import mean_similarities, undefined
from panda_trainable.similarity.representations import change, change_key
from panda_trainable.similarity.similarities import c_concat, c_mean, e_concat
from panda_trainable.transfer.lineage import Lineage, starting_prompts, tuned_prompts
from panda_trainable.worker import load_encoder
from tests.kits.tasks import WORDS, own_task
from tests.kits.trainers import random_prompt

Task = Callable[..., TaskSpec]
SEEDS = range(8)


def with_prompt(lineage: Lineage, **changes: object) -> Lineage:
    """The lineage with other settings of its prompt."""
    prompt = replace(lineage.setting.prompt, **changes)  # type: ignore[arg-type]  # of several types
    return replace(lineage, setting=replace(lineage.setting, prompt=prompt))


@pytest.fixture
def pair(setting: Setting, task: Task) -> tuple[Lineage, Lineage]:
    """Two tasks after a short tuning."""
    first, second = (Lineage(setting, task(name, seed=seed), 3, 0.05) for seed, name in enumerate("ab"))
    return first, second


@pytest.mark.parametrize("form", ["prefix", "input"])
@pytest.mark.parametrize("mlp", [None, 4])
def test_start_and_change_are_the_tuned_prompt(
    library: PromptLibrary, pair: tuple[Lineage, Lineage], form: str, mlp: int | None
) -> None:
    lineage = with_prompt(pair[0], form=form, mlp=mlp)
    start, tuned = starting_prompts(library, lineage, [4])[0], tuned_prompts(library, lineage, [4])[0].prompt
    assert change(library, lineage, 4).shape == tokens_of(tuned).shape
    torch.testing.assert_close(tokens_of(start) + change(library, lineage, 4), tokens_of(tuned))
    assert change(library, lineage, 4).abs().max() > 0.01
    at_start = change(library, lineage.at(0), 4)  # through an MLP, as it is told to start but for rounding
    torch.testing.assert_close(at_start, torch.zeros_like(at_start), rtol=0, atol=1e-6)


def test_changes_by_hand() -> None:
    start, a, b = (
        torch.tensor([[10.0, 10], [10, 10]]),
        torch.tensor([[11.0, 10], [10, 10]]),
        torch.tensor([[10.0, 12], [10, 10]]),
    )
    assert c_concat(a, b) == pytest.approx((110 + 120 + 200) / (421 * 444) ** 0.5)  # alike
    assert c_concat(a - start, b - start) == c_mean(a - start, b - start) == 0  # though they went different ways
    assert e_concat(a - start, b - start) == e_concat(a, b)  # the start drops out: no similarity of its own


def at_random(folder: Path, setting: Setting, name: str, words: Sequence[str], seed: int) -> Lineage:
    """A task of random labels and words of its own, after 20 steps."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(60) % 2)
    rows = [{"a": " ".join(generator.choice(words, 6)) + f" x{i}", "label": int(y)} for i, y in enumerate(labels)]
    spec = TaskSpec(name, "classification", ("a",), "label", ("no", "yes"), ("accuracy",))
    return Lineage(setting, own_task(folder, spec, rows), 20, 0.002)


def test_prompts_of_unrelated_tasks_are_alike_by_their_start_and_their_changes_are_not(
    library: PromptLibrary, setting: Setting, tmp_path: Path
) -> None:
    started = tmp_path / "start.safetensors"
    shape = load_encoder(setting.plm).prompt_shape(5, "prefix")
    save_file({"prompt": random_prompt(shape, 5)}, started)
    prompt = replace(setting.prompt, length=5, init=InitSettings("file", file=str(started)))
    alike = replace(
        setting, prompt=prompt, init_file="random-5"
    )  # all seeds start as one, and differ in head and order
    pair = [at_random(tmp_path, alike, f"r{i}", WORDS[20 * i : 20 * i + 20], i) for i in range(2)]
    prompts = [[tokens_of(prompt.prompt) for prompt in tuned_prompts(library, lineage, SEEDS)] for lineage in pair]
    changes = [[change(library, lineage, seed) for seed in SEEDS] for lineage in pair]

    def mean(of: list[list[Tensor]], *, same_seed: bool) -> float:
        return float(np.mean([c_concat(of[0][i], of[1][j]) for i, j in product(SEEDS, SEEDS) if (i == j) == same_seed]))

    assert mean(prompts, same_seed=False) > 0.7
    assert abs(mean(changes, same_seed=False)) < 0.1
    # Within a seed the heads start as one, too: something of that is left, and far less than there was.
    assert mean(prompts, same_seed=True) > 0.8
    assert mean(changes, same_seed=True) < 0.4


def starts(pair: tuple[Lineage, Lineage], other: str) -> tuple[Lineage, Lineage]:
    """The pair with prompts that do not start as one, in some way."""
    source, target = pair
    ways: dict[str, tuple[Lineage, Lineage]] = {
        "init": (with_prompt(source, init=InitSettings("uniform")), target),
        "scale": (with_prompt(source, init=InitSettings(std=0.03)), target),
        "length": (with_prompt(source, length=2), target),
        "form": (with_prompt(source, form="input"), target),
        "file": (replace(source, setting=replace(source.setting, init_file="other")), target),
        "plm": (
            replace(source, setting=replace(source.setting, plm=replace(source.setting.plm, files="other"))),
            target,
        ),
        "teacher": (replace(source, start=((1.0, target),)), target),
    }
    return ways[other]


@pytest.mark.parametrize("other", ["init", "scale", "length", "form", "file", "plm", "teacher"])
@pytest.mark.parametrize("name", CHANGES)
def test_changes_from_different_starts_are_not_compared(pair: tuple[Lineage, Lineage], name: str, other: str) -> None:
    assert undefined(name, *pair) == ""
    assert undefined("c_mean", *starts(pair, other)) == ""
    assert "do not start as one (prompt.init" in undefined(name, *starts(pair, other))


def test_a_start_of_class_names_is_common_to_tasks_with_the_same_ones(setting: Setting, task: Task) -> None:
    lineages = [Lineage(setting, task(name, classes=n), 3, 0.05) for name, n in (("a", 2), ("b", 2), ("c", 3))]
    two, same, three = (with_prompt(lineage, init=InitSettings("labels")) for lineage in lineages)
    assert undefined("c_mean_change", two, same) == ""
    assert undefined("c_mean_change", two, three).startswith("their prompts do not start as one (prompt.init labels)")


def test_what_an_initialiser_does_not_read_makes_no_other_start(pair: tuple[Lineage, Lineage]) -> None:
    assert undefined("c_mean_change", with_prompt(pair[0], init=InitSettings(scale=0.1)), pair[1]) == ""
    assert undefined("c_mean_change", with_prompt(pair[0], mlp=4), pair[1]) == ""


def test_a_pair_without_a_common_start_has_its_other_similarities(
    library: PromptLibrary, pair: tuple[Lineage, Lineage]
) -> None:
    found = mean_similarities(library, ["c_mean", *CHANGES, "e_avg"], *starts(pair, "init"), seeds=(0, 1))
    assert tuple(found) == ("c_mean", "e_avg")


@pytest.mark.own_library
def test_changes_are_made_once_for_each_seed(library: PromptLibrary, pair: tuple[Lineage, Lineage]) -> None:
    mean_similarities(library, CHANGES, *pair, seeds=(0, 1))
    made = {path.name for path in library.root.glob("changes/*")}
    assert made == {change_key(lineage, seed) for lineage in pair for seed in (0, 1)}
