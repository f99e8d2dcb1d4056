"""Similarities: values by hand, and what every row of SIMILARITIES must keep."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity

from panda_trainable.config import SIMILARITY_NAMES, Setting
from panda_trainable.data import replica_rows
from panda_trainable.encoder import load_encoder
from panda_trainable.library import PromptLibrary
from panda_trainable.prompts import tokens_of
from panda_trainable.similarity import SIMILARITIES, c_mean, c_pair, mean_similarities, task_embedding
from panda_trainable.tasks import TaskSpec
from panda_trainable.teachers import Lineage, tuned_prompts
from panda_trainable.tokens import token_table

A, B = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0]])


@pytest.fixture
def pair(setting: Setting, task: Callable[..., TaskSpec]) -> tuple[Lineage, Lineage]:
    """Two tasks after a short tuning."""
    first, second = (Lineage(setting, task(name, seed=seed), 3, 0.05) for seed, name in enumerate("ab"))
    return first, second


def test_the_cosine_of_mean_tokens_by_hand() -> None:
    assert c_mean(A, B) == pytest.approx(0.5**0.5)
    assert c_mean(A, -B) == pytest.approx(-(0.5**0.5))


def test_the_mean_cosine_of_pairs_by_hand() -> None:
    assert c_pair(A, B) == pytest.approx((1 + 0) / 2)
    assert c_pair(A, A) == pytest.approx((1 + 0 + 0 + 1) / 4)


@pytest.mark.parametrize("seed", range(5))
def test_the_product_of_mean_unit_tokens_is_the_double_loop_over_pairs(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(4, 32, generator=generator), 10 * torch.randn(7, 32, generator=generator)
    loop = [float(cosine_similarity(x, y, dim=0)) for x in a for y in b]
    assert c_pair(a, b) == pytest.approx(sum(loop) / len(loop), abs=1e-6)


def test_the_table_and_the_names_of_the_configuration_are_in_step() -> None:
    assert set(SIMILARITIES) == set(SIMILARITY_NAMES)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_similarity_is_symmetric_bounded_and_largest_with_itself(
    name: str, library: PromptLibrary, pair: tuple[Lineage, Lineage]
) -> None:
    measure, (a, b) = SIMILARITIES[name], pair
    between, itself = measure(library, a, b, 0), measure(library, a, a, 0)
    assert between == pytest.approx(measure(library, b, a, 0), abs=1e-6)
    assert -1 <= between <= itself <= 1 + 1e-6
    assert itself == pytest.approx(1, abs=1e-6) or name == "c_pair"


def test_a_mean_similarity_compares_replicas_of_the_same_seed(
    library: PromptLibrary, pair: tuple[Lineage, Lineage]
) -> None:
    found = mean_similarities(library, list(SIMILARITIES), *pair, seeds=(3, 4))
    for name, measure in SIMILARITIES.items():
        assert found[name] == pytest.approx(sum(measure(library, *pair, seed) for seed in (3, 4)) / 2)
    sources, targets = (tuned_prompts(library, lineage, (3, 4)) for lineage in pair)
    tokens = [(tokens_of(a.prompt), tokens_of(b.prompt)) for a, b in zip(sources, targets, strict=True)]
    assert found["c_mean"] == pytest.approx(sum(c_mean(*both) for both in tokens) / 2)
    assert found["c_pair"] == pytest.approx(sum(c_pair(*both) for both in tokens) / 2)


def test_a_task_embedding_is_the_mean_over_train_rows_read_under_the_own_prompt(
    library: PromptLibrary, pair: tuple[Lineage, Lineage]
) -> None:
    lineage = pair[0]
    prompt = tuned_prompts(library, lineage, [5])[0].prompt[None]
    table, encoder = token_table(library, lineage.setting, lineage.task, "train"), load_encoder(lineage.setting.plm)
    rows = [
        encoder.encode(ids[None, :n].long(), types[None, :n].long(), n[None], prompt, torch.tensor([0]))
        for ids, types, n in zip(table.ids, table.types, table.lengths, strict=True)
    ]
    expected = torch.cat(rows).double().mean(0)
    torch.testing.assert_close(torch.from_numpy(task_embedding(library, lineage, 5)), expected, rtol=0, atol=1e-5)


def test_a_few_shot_task_is_known_by_the_rows_of_its_draw_alone(
    library: PromptLibrary, setting: Setting, task: Callable[..., TaskSpec]
) -> None:
    few = replace(setting, shots=4)
    lineage, encoder = Lineage(few, task("t"), 3, 0.05), load_encoder(setting.plm)
    table = token_table(library, few, lineage.task, "train")
    for seed in (0, 1):
        prompt = tuned_prompts(library, lineage, [seed])[0].prompt[None]
        drawn = replica_rows(library, few, lineage.task, seed).train
        rows = [
            encoder.encode(
                table.ids[i, None, : table.lengths[i]].long(), table.types[i, None, : table.lengths[i]].long(),
                table.lengths[i, None], prompt, torch.tensor([0]),
            )
            for i in drawn
        ]  # fmt: skip
        assert len(rows) == 8
        expected = torch.cat(rows).double().mean(0)
        torch.testing.assert_close(
            torch.from_numpy(task_embedding(library, lineage, seed)), expected, rtol=0, atol=1e-5
        )


def test_a_task_embedding_is_made_once(library: PromptLibrary, pair: tuple[Lineage, Lineage]) -> None:
    task_embedding(library, pair[0], 0)
    (file,) = library.root.glob("embeddings/*/embedding.npy")
    made = file.stat().st_mtime_ns
    task_embedding(library, pair[0], 0)
    assert [f.stat().st_mtime_ns for f in library.root.glob("embeddings/*/embedding.npy")] == [made]
