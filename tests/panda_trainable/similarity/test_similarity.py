"""Similarities: values by hand, and what every row of SIMILARITIES must keep."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import AutoModel, DynamicCache

from panda_trainable.config.keys import content_key
from panda_trainable.config.methods import SIMILARITY_NAMES, SOURCE_ONLY, WEIGHING
from panda_trainable.config.setting import EmbeddingSettings, NeuronSettings, Setting, SimilaritySettings
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.data.splits import replica_rows
from panda_trainable.data.tokens import TokenTable, token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.soft_prompt import tokens_of
from panda_trainable.similarity.readings import READINGS, mean_similarities
from panda_trainable.similarity.representations import (
    EMBEDDED_ROWS,
    REPRESENTATIONS,
    check_layer,
    embedding_key,
    task_embedding,
)
from panda_trainable.similarity.similarities import SIMILARITIES, c_concat, c_mean, c_pair, cosine, e_avg, e_concat, on
from panda_trainable.transfer.lineage import Lineage, tuned_prompts
from panda_trainable.worker import load_encoder

A, B, C = (torch.tensor(rows) for rows in ([[1.0, 0], [0, 1]], [[2.0, 0]], [[0.0, 2], [0, 2]]))
CLOSE = {"rtol": 0, "atol": 1e-5}
SHAPES = MappingProxyType({"prompt": (5, 32), "change": (5, 32), "embedding": (16,), "neurons": (2, 24)})
Task = Callable[..., TaskSpec]
COMPARED = [name for name, row in SIMILARITIES.items() if row.reads in REPRESENTATIONS]
of_rows = pytest.mark.parametrize("name", COMPARED)
of_forms = pytest.mark.parametrize("form", ["prefix", "input"])


@pytest.fixture
def pair(setting: Setting, task: Task) -> tuple[Lineage, Lineage]:
    """Two tasks after a short tuning."""
    first, second = (Lineage(setting, task(name, seed=seed), 3, 0.05) for seed, name in enumerate("ab"))
    return first, second


def drawn(name: str, seed: int) -> Tensor:
    """Something that a similarity reads, shifted so that two of them are not orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPES[SIMILARITIES[name].reads], generator=generator) + 0.3


def prompts(seed: int, other: int = 7) -> tuple[Tensor, Tensor]:
    """Random prompts of 4 and of `other` tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 32, generator=generator), 10 * torch.randn(other, 32, generator=generator)


def test_the_cosine_by_hand() -> None:
    assert cosine(torch.tensor([3.0, 4]), torch.tensor([4.0, 3])) == pytest.approx(24 / 25)  # 12 + 12 over 5 · 5


def test_the_cosine_of_mean_tokens_by_hand() -> None:
    assert c_mean(A, B) == pytest.approx(0.5**0.5)  # (½, ½) and (2, 0): 1 over √½ · 2
    assert c_mean(A, -B) == pytest.approx(-(0.5**0.5))


def test_the_mean_cosine_of_pairs_by_hand() -> None:
    assert c_pair(A, B) == pytest.approx((1 + 0) / 2)
    assert c_pair(A, A) == pytest.approx((1 + 0 + 0 + 1) / 4)


def test_the_cosine_of_whole_prompts_by_hand() -> None:
    assert c_concat(A, C) == pytest.approx(0.5)  # (1, 0, 0, 1) and (0, 2, 0, 2): 2 over √2 · √8
    assert c_concat(A, -A) == pytest.approx(-1)


def test_the_distance_of_whole_prompts_by_hand() -> None:
    assert e_concat(A, C) == pytest.approx(1 / (1 + 6**0.5))  # (1, -2, 0, -1): 1 + 4 + 0 + 1


def test_the_mean_distance_of_pairs_by_hand() -> None:
    # (1, 0) to (0, 2) twice: √(1 + 4); (0, 1) to (0, 2) twice: 1
    assert e_avg(A, C) == pytest.approx(1 / (1 + (5**0.5 + 1) / 2))
    assert e_avg(A, B) == pytest.approx(1 / (1 + (1 + 5**0.5) / 2))
    assert e_avg(A, A) == pytest.approx(1 / (1 + 2**0.5 / 2))  # 0, √2, √2, 0
    assert e_avg(C, C) == 1


def test_the_overlap_of_activated_neurons_by_hand() -> None:
    a, b = torch.tensor([[0.5, -1], [2, 0]]), torch.tensor([[1.0, 1], [3, -2]])
    assert on(a, b) == pytest.approx(2 / 6**0.5)  # (1, 0, 1, 0) and (1, 1, 1, 0): 2 over √2 · √3
    assert on(a, a) == pytest.approx(1)
    assert on(a, -a) == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_product_of_mean_unit_tokens_is_the_double_loop_over_pairs(seed: int) -> None:
    a, b = prompts(seed)
    loop = [float(cosine_similarity(x, y, dim=0)) for x in a for y in b]
    assert c_pair(a, b) == pytest.approx(sum(loop) / len(loop), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_distance_is_the_double_loop_over_pairs(seed: int) -> None:
    a, b = prompts(seed)
    loop = [float((x - y).norm()) for x in a for y in b]
    assert e_avg(a, b) == pytest.approx(1 / (1 + sum(loop) / len(loop)), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_whole_prompts_are_compared_as_numpy_does(seed: int) -> None:
    a, b = prompts(seed, other=4)
    x, y = (prompt.double().numpy().ravel() for prompt in (a, b))
    assert c_concat(a, b) == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-12)
    assert e_concat(a, b) == pytest.approx(1 / (1 + np.linalg.norm(x - y)), abs=1e-12)


def test_near_tokens_of_long_prompts_keep_their_distance() -> None:
    a = 100 + torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    loop = [float((x - y).norm()) for x in a.double() for y in a.double()]
    assert e_avg(a, a) == pytest.approx(1 / (1 + sum(loop) / len(loop)), abs=1e-12)


@of_forms
def test_the_order_of_tokens_matters_to_whole_prompts_alone(setting: Setting, form: str) -> None:
    shape = load_encoder(setting.plm).prompt_shape(5, form)
    a, b = (tokens_of(torch.randn(shape, generator=torch.Generator().manual_seed(seed))) for seed in (0, 1))
    assert len(a) == 5
    moved = b[torch.tensor([3, 0, 4, 1, 2])]
    for measure in (c_mean, c_pair, e_avg):
        assert measure(a, moved) == pytest.approx(measure(a, b), abs=1e-12)
    for measure in (c_concat, e_concat):
        assert abs(measure(a, moved) - measure(a, b)) > 1e-4


@pytest.mark.parametrize("measure", [c_concat, e_concat])
def test_whole_prompts_of_two_lengths_are_refused(measure: Callable[[Tensor, Tensor], float]) -> None:
    name = measure.__name__
    with pytest.raises(ValueError, match=rf"{name} .* got \[2, 2\] and \[1, 2\]; train both with one prompt length"):
        measure(A, B)


def test_the_table_and_the_names_of_the_configuration_are_in_step() -> None:
    assert tuple(SIMILARITIES) == SIMILARITY_NAMES
    assert {row.reads for row in SIMILARITIES.values()} == set(READINGS)
    assert {SIMILARITIES[name].reads for name in COMPARED} == set(REPRESENTATIONS) == set(SHAPES)
    assert tuple(COMPARED) == WEIGHING
    assert all(-1 <= SIMILARITIES[name].low < SIMILARITIES[name].high <= 1 for name in WEIGHING)
    assert tuple(name for name, row in SIMILARITIES.items() if row.source_only) == SOURCE_ONLY


@of_rows
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_similarity_keeps_its_bounds_and_is_a_number_of_python(name: str, scale: float) -> None:
    row = SIMILARITIES[name]
    a, b = drawn(name, 0) * scale, drawn(name, 1)
    for value in (row(a, b), row(a, a), row(a, -a), row(-a, b), row(a, a * 1.5)):
        assert type(value) is float
        assert row.low <= value <= row.high


@of_rows
def test_a_similarity_is_symmetric_where_it_says_so(name: str) -> None:
    row = SIMILARITIES[name]
    assert row.symmetric == (abs(row(drawn(name, 0), drawn(name, 1)) - row(drawn(name, 1), drawn(name, 0))) < 1e-12)


@of_rows
def test_a_similarity_is_1_with_itself_where_it_says_so(name: str) -> None:
    row, itself = SIMILARITIES[name], drawn(name, 0)
    assert row.unit_self == (abs(row(itself, itself.clone()) - 1) < 1e-6)
    assert row(itself, itself) > row(itself, drawn(name, 1))


@of_rows
def test_what_is_zero_has_a_similarity_that_is_a_number(name: str) -> None:
    row, some = SIMILARITIES[name], drawn(name, 0)
    nothing = torch.zeros_like(some)
    assert row(nothing, some) == pytest.approx(row(some, nothing))
    if name.startswith("e_"):  # tokens that are all one
        assert 0 < row(nothing, some) < row(nothing, nothing) == 1
    else:
        assert row(nothing, some) == row(nothing, nothing) == 0


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_similarity_says_where_it_comes_from(name: str) -> None:
    assert SIMILARITIES[name].source


@of_forms
@of_rows
def test_a_similarity_of_tuned_prompts_is_symmetric_bounded_and_largest_with_itself(
    name: str, form: str, library: PromptLibrary, pair: tuple[Lineage, Lineage]
) -> None:
    row = SIMILARITIES[name]
    formed = [
        replace(lineage, setting=replace(lineage.setting, prompt=replace(lineage.setting.prompt, form=form)))
        for lineage in pair
    ]
    a, b = (REPRESENTATIONS[row.reads](library, lineage, 0, SimilaritySettings()) for lineage in formed)
    between, itself = row(a, b), row(a, a)
    assert between == pytest.approx(row(b, a), abs=1e-6)
    assert row.low <= between <= itself <= row.high
    assert itself == pytest.approx(1, abs=1e-6) or not row.unit_self


def test_a_mean_similarity_compares_replicas_of_the_same_seed(
    library: PromptLibrary, pair: tuple[Lineage, Lineage]
) -> None:
    found = mean_similarities(library, COMPARED, *pair, seeds=(3, 4))
    assert list(found) == COMPARED
    for name in COMPARED:
        row = SIMILARITIES[name]
        seeds = [
            [REPRESENTATIONS[row.reads](library, each, seed, SimilaritySettings()) for each in pair] for seed in (3, 4)
        ]
        assert found[name] == pytest.approx(sum(row(*both) for both in seeds) / 2)
    sources, targets = (tuned_prompts(library, lineage, (3, 4)) for lineage in pair)
    tokens = [(tokens_of(a.prompt), tokens_of(b.prompt)) for a, b in zip(sources, targets, strict=True)]
    assert found["c_mean"] == pytest.approx(sum(c_mean(*both) for both in tokens) / 2)
    assert found["c_pair"] == pytest.approx(sum(c_pair(*both) for both in tokens) / 2)


def test_similarities_look_at_what_they_are_told_to(library: PromptLibrary, pair: tuple[Lineage, Lineage]) -> None:
    names, told = (
        ["task_embedding", "on", "c_pair"],
        SimilaritySettings(
            embedding=EmbeddingSettings(pooling="cls", layer=1), neurons=NeuronSettings(inputs="real", layers=(1, 1))
        ),
    )
    usual, other = (
        mean_similarities(library, names, *pair, (0,), similarity_settings)
        for similarity_settings in (SimilaritySettings(), told)
    )
    by_hand = cosine(*(torch.from_numpy(task_embedding(library, lineage, 0, told)) for lineage in pair))
    assert other["task_embedding"] == pytest.approx(by_hand)
    assert other["task_embedding"] != usual["task_embedding"]
    assert other["on"] != usual["on"]
    assert other["c_pair"] == usual["c_pair"]


@pytest.mark.own_library
def test_only_what_is_asked_for_is_made(library: PromptLibrary, pair: tuple[Lineage, Lineage]) -> None:
    mean_similarities(library, ["c_mean", "e_avg"], *pair, seeds=(0,))
    assert not list(library.root.glob("embeddings/*")) + list(library.root.glob("neurons/*"))


def encoded_rows(lineage: Lineage, table: TokenTable, prompt: Tensor, rows: Any) -> Tensor:
    """[n, H] rows, one after the other, as heads read them."""
    encoder = load_encoder(lineage.setting.plm)
    made = [
        encoder.encode(
            table.ids[i, None, : table.lengths[i]].long(), table.types[i, None, : table.lengths[i]].long(),
            table.lengths[i, None], prompt[None], torch.tensor([0]),
        )
        for i in rows
    ]  # fmt: skip
    return torch.cat(made).double()


def test_a_task_embedding_is_the_mean_over_train_rows_read_under_the_own_prompt(
    library: PromptLibrary, pair: tuple[Lineage, Lineage]
) -> None:
    lineage = pair[0]
    prompt = tuned_prompts(library, lineage, [5])[0].prompt
    table = token_table(library, lineage.setting, lineage.task, "train")
    expected = encoded_rows(lineage, table, prompt, range(60)).mean(0)
    torch.testing.assert_close(torch.from_numpy(task_embedding(library, lineage, 5)), expected, **CLOSE)


def test_a_few_shot_task_is_known_by_the_rows_of_its_draw_alone(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    few = replace(setting, shots=4)
    lineage = Lineage(few, task("t"), 3, 0.05)
    table = token_table(library, few, lineage.task, "train")
    for seed in (0, 1):
        prompt = tuned_prompts(library, lineage, [seed])[0].prompt
        rows = replica_rows(library, few, lineage.task, seed).train
        assert len(rows) == 8
        expected = encoded_rows(lineage, table, prompt, rows).mean(0)
        torch.testing.assert_close(torch.from_numpy(task_embedding(library, lineage, seed)), expected, **CLOSE)


def test_a_mixture_is_embedded_by_its_tasks_shares(library: PromptLibrary, setting: Setting, task: Task) -> None:
    mixture = Mixture("both", (task("a", n=60), task("b", n=20, seed=1)), cap=30)
    lineage = Lineage(setting, mixture, 3, 0.05)
    prompt = tuned_prompts(library, lineage, [0])[0].prompt
    means = [
        encoded_rows(lineage, table, prompt, range(len(table))).mean(0)
        for table in (token_table(library, setting, each, "train") for each in mixture.tasks)
    ]
    expected = 30 / 50 * means[0] + 20 / 50 * means[1]
    torch.testing.assert_close(torch.from_numpy(task_embedding(library, lineage, 0)), expected, **CLOSE)


def plain_states(model: Any, table: TokenTable, prompt: Tensor, row: int, layer: int) -> Tensor:
    """[T, H] the plain model's states of a row behind a layer, through transformers' own cache."""
    n = int(table.lengths[row])
    ids, types = table.ids[row, None, :n].long(), table.types[row, None, :n].long()
    if prompt.dim() == 2:
        embeds = torch.cat((prompt[None], model.get_input_embeddings()(ids)), 1)
        types = torch.cat((torch.zeros(1, len(prompt), dtype=torch.long), types), 1)
        states = model(inputs_embeds=embeds, token_type_ids=types, output_hidden_states=True).hidden_states
        return states[layer][0, len(prompt) :]
    length, cache = prompt.shape[3], DynamicCache()
    for number, (keys, values) in enumerate(prompt):
        cache.update(keys[None], values[None], number)
    return model(
        ids, torch.ones(1, length + n, dtype=torch.long), types, torch.arange(length, length + n)[None],
        past_key_values=cache, output_hidden_states=True,
    ).hidden_states[layer][0]  # fmt: skip


@of_forms
@pytest.mark.parametrize("pooling", ["head", "cls", "mean"])
@pytest.mark.parametrize("layer", [1, 2, None])
def test_a_task_embedding_averages_the_states_of_its_layer_as_the_plain_model_has_them(
    library: PromptLibrary, pair: tuple[Lineage, Lineage], form: str, pooling: Any, layer: int | None
) -> None:
    lineage = replace(pair[0], setting=replace(pair[0].setting, prompt=replace(pair[0].setting.prompt, form=form)))
    prompt = tuned_prompts(library, lineage, [0])[0].prompt
    table = token_table(library, lineage.setting, lineage.task, "train")
    model = AutoModel.from_pretrained(lineage.setting.plm.source, attn_implementation="sdpa").eval()
    with torch.no_grad():
        states = [plain_states(model, table, prompt, row, layer or 2) for row in range(len(table))]
    rows = [each[0] if pooling == "cls" else each.mean(0) for each in states]
    found = task_embedding(
        library, lineage, 0, SimilaritySettings(embedding=EmbeddingSettings(pooling=pooling, layer=layer))
    )
    torch.testing.assert_close(torch.from_numpy(found), torch.stack(rows).double().mean(0), **CLOSE)


def test_the_last_layer_by_number_is_the_last_layer(library: PromptLibrary, pair: tuple[Lineage, Lineage]) -> None:
    usual, numbered = (
        task_embedding(library, pair[0], 0, SimilaritySettings(embedding=EmbeddingSettings(layer=layer)))
        for layer in (None, 2)
    )
    assert np.array_equal(usual, numbered)


@pytest.mark.parametrize("layer", [0, -1, 3])
def test_a_layer_that_is_not_there_is_refused(
    library: PromptLibrary, pair: tuple[Lineage, Lineage], layer: int
) -> None:
    with pytest.raises(ValueError, match=f"layer of task embeddings must be 1 to 2 of .*bert, got {layer}"):
        task_embedding(library, pair[0], 0, SimilaritySettings(embedding=EmbeddingSettings(layer=layer)))


def test_a_layer_behind_those_that_are_kept_is_refused(setting: Setting) -> None:
    kept = replace(setting.plm, layers=1)
    check_layer(kept, 1)
    check_layer(setting.plm, 2)
    with pytest.raises(ValueError, match="must be 1 to 1 of .*, got 2"):
        check_layer(kept, 2)


def test_embeddings_that_look_elsewhere_have_keys_of_their_own_and_the_usual_one_stays(
    pair: tuple[Lineage, Lineage],
) -> None:
    lineage, usual = pair[0], content_key("embeddings", pair[0], 0, EMBEDDED_ROWS)
    assert EMBEDDED_ROWS == 1000
    assert embedding_key(lineage, 0) == embedding_key(lineage, 0, SimilaritySettings()) == usual
    assert (
        embedding_key(lineage, 0, SimilaritySettings(neurons=NeuronSettings(inputs="real", layers=(1, 1)))) == usual
    )  # of neurons, not of embeddings
    others = [
        SimilaritySettings(embedding=EmbeddingSettings(pooling="cls")),
        SimilaritySettings(embedding=EmbeddingSettings(pooling="mean")),
        SimilaritySettings(embedding=EmbeddingSettings(layer=1)),
        SimilaritySettings(embedding=EmbeddingSettings(pooling="cls", layer=1)),
    ]
    assert len({usual, *(embedding_key(lineage, 0, similarity_settings) for similarity_settings in others)}) == 5


@pytest.mark.own_library
def test_a_task_embedding_is_made_once(library: PromptLibrary, pair: tuple[Lineage, Lineage]) -> None:
    task_embedding(library, pair[0], 0)
    (file,) = library.root.glob("embeddings/*/embedding.npy")
    made = file.stat().st_mtime_ns
    task_embedding(library, pair[0], 0)
    assert [f.stat().st_mtime_ns for f in library.root.glob("embeddings/*/embedding.npy")] == [made]


def test_to_embed_by_another_layer_leaves_the_files_of_the_plm_and_its_numbers_alone(
    library: PromptLibrary, pair: tuple[Lineage, Lineage]
) -> None:
    before = {path: path.read_bytes() for path in Path(pair[0].setting.plm.source).iterdir()}
    usual = task_embedding(library, pair[0], 0)
    task_embedding(library, pair[0], 0, SimilaritySettings(embedding=EmbeddingSettings(pooling="cls", layer=1)))
    (folder,) = library.root.glob(f"embeddings/{embedding_key(pair[0], 0)}")
    (folder / "embedding.npy").write_bytes(b"damaged")
    again = PromptLibrary(library.root)
    assert np.array_equal(task_embedding(again, pair[0], 0), usual)
    assert {path: path.read_bytes() for path in before} == before
