"""Activated neurons are those of the plain model, and masking them is masking its weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from panda_trainable.config.setting import (
    EmbeddingSettings,
    NeuronSettings,
    Plm,
    PromptSettings,
    Setting,
    SimilaritySettings,
    TrainSettings,
)
from panda_trainable.config.task import Mixture, TaskSpec
from panda_trainable.data.splits import replica_rows
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.plm.language_model import LanguageModel
from panda_trainable.pretrained.files import plm_files
from panda_trainable.similarity.neurons import _watched, activations, check_neurons, neurons_key
from panda_trainable.training import forward as module
from panda_trainable.transfer.lineage import Lineage, tuned_prompts
from panda_trainable.worker import load_encoder
from tests.kits.families import FAMILIES, MORE, REFUSED, Plain, save_family
from tests.kits.language_models import small_lm, word_tokenizer

CLOSE = {"rtol": 0, "atol": 1e-5}
ALL = {**FAMILIES, **MORE, **REFUSED}
# Family -> how its feed-forward layer's two linear maps are called, in one layer.
MAPS = {
    "bert": ("intermediate.dense", "0.output.dense", "1.output.dense"),
    "roberta": ("intermediate.dense", "0.output.dense", "1.output.dense"),
    "albert": ("ffn", "ffn_output"),
    "albert with two attentions per layer": ("ffn", "ffn_output"),
    "distilbert": ("lin1", "lin2"),
    "deberta-v3": ("intermediate.dense", "0.output.dense", "1.output.dense"),
    "t5": ("DenseReluDense.wi", "DenseReluDense.wo"),
    "bart": ("fc1", "fc2"),
}
UNREADABLE = ("modernbert", "mt5", "eurobert with shared keys", "mobilebert", "gte", "squeezebert", "xlm")
Task = Callable[..., TaskSpec]
Families = Callable[[str], Path]
of_forms = pytest.mark.parametrize("form", ["prefix", "input"])
of_pooling = pytest.mark.parametrize("pooling", ["cls", "mean"])


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Families:
    """Folders of small random PLMs, made once; their tokenizers build nothing for an empty text."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_family(tmp_path_factory.mktemp("family"), ALL[name])
        return made[name]

    return folder


@pytest.fixture
def lineage(setting: Setting, task: Task) -> Lineage:
    """A task with continuous scores after a short tuning."""
    return Lineage(setting, task("r", kind="regression"), 8, 0.05)


@contextmanager
def recorded(model: nn.Module, maps: tuple[str, ...]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """[L] outputs [1, T, F] of the first linear maps, and [L] inputs of the second, of what runs inside."""
    before: list[Tensor] = []
    behind: list[Tensor] = []
    hooks = []
    for name, linear in model.named_modules():
        if name.endswith(maps[0]) and "attention" not in name.lower():
            hooks.append(linear.register_forward_hook(lambda _m, _given, made: before.append(made)))
        if name.endswith(maps[1:]) and "attention" not in name.lower():
            hooks.append(linear.register_forward_pre_hook(lambda _m, given: behind.append(given[0])))
    yield before, behind
    for hook in hooks:
        hook.remove()


def has_hooks(encoder: FrozenEncoder) -> bool:
    return any(each._forward_hooks for each in encoder.model.modules())


@of_forms
@of_pooling
@pytest.mark.parametrize("family", MAPS)
def test_activations_are_those_of_the_plain_model_in_the_row_behind_the_prompt(
    library: PromptLibrary, families: Families, task: Task, family: str, form: str, pooling: Any
) -> None:
    folder = families(family)
    plm = Plm(str(folder), plm_files(folder), pooling=pooling)
    own = Lineage(
        Setting(plm, prompt=PromptSettings(form=form, length=3), train=TrainSettings(batch_size=4, max_length=16)),
        task("t"),
        2,
        0.5,
    )
    prompt = tuned_prompts(library, own, [0])[0].prompt
    plain = Plain(folder, ALL[family])
    ids = torch.tensor([2])  # [UNK]: the first special token of a tokenizer that builds none
    with recorded(plain.model, MAPS[family]) as (before, behind):
        plain(ids, torch.zeros_like(ids), prompt)
    row = 3 if form == "input" else 0
    expected = torch.stack([made[0, row] for made in before])
    found = activations(library, own, 0)
    assert found.dtype == torch.float32
    assert found.shape == (4 if "two" in family else 2, 24)
    torch.testing.assert_close(found, expected, **CLOSE)
    activated = torch.stack([given[0, row] for given in behind])  # what the second linear map reads
    assert torch.equal(found > 0, activated > 0)
    assert 0 < (found > 0).float().mean() < 1


def plain_activations(plain: Plain, ids: Tensor, types: Tensor, prompt: Tensor) -> Tensor:
    """[L, F] of one row of the random bert."""
    with recorded(plain.model, MAPS["bert"]) as (before, _):
        plain(ids, types, prompt)
    return torch.stack([made[0, len(prompt) if prompt.dim() == 2 else 0] for made in before])


@of_forms
@of_pooling
def test_the_dummy_input_is_what_the_tokenizer_builds_for_an_empty_text(
    library: PromptLibrary, lineage: Lineage, form: str, pooling: Any
) -> None:
    own = replace(lineage, setting=replace(lineage.setting, prompt=replace(lineage.setting.prompt, form=form)))
    own = replace(own, setting=replace(own.setting, plm=replace(own.setting.plm, pooling=pooling)))
    prompt = tuned_prompts(library, own, [1])[0].prompt
    plain = Plain(Path(own.setting.plm.source), FAMILIES["bert"])
    expected = plain_activations(plain, torch.tensor([3, 4]), torch.zeros(2, dtype=torch.long), prompt)  # [CLS] [SEP]
    torch.testing.assert_close(activations(library, own, 1), expected, **CLOSE)


@of_forms
@of_pooling
@pytest.mark.parametrize("shots", [0, 4])
def test_real_inputs_are_the_mean_over_the_train_rows_in_groups_of_any_size(
    library: PromptLibrary, lineage: Lineage, task: Task, monkeypatch: pytest.MonkeyPatch, form: str, pooling: Any,
    shots: int,
) -> None:  # fmt: skip
    plm = replace(lineage.setting.plm, pooling=pooling)
    setting = replace(lineage.setting, prompt=replace(lineage.setting.prompt, form=form), plm=plm, shots=shots)
    own = Lineage(setting, task("t"), 3, 0.05)
    prompt = tuned_prompts(library, own, [0])[0].prompt
    plain, table = Plain(Path(plm.source), FAMILIES["bert"]), token_table(library, setting, own.task, "train")
    rows = replica_rows(library, setting, own.task, 0).train if shots else np.arange(60)
    assert len(rows) == (8 if shots else 60)
    each = [
        plain_activations(plain, table.ids[i, :n].long(), table.types[i, :n].long(), prompt)
        for i, n in ((i, int(table.lengths[i])) for i in rows)
    ]
    monkeypatch.setattr(module, "BUCKET_VALUES", {"cpu": 50 * 16})  # four rows and fewer
    found = activations(library, own, 0, SimilaritySettings(neurons=NeuronSettings(inputs="real")))
    torch.testing.assert_close(found, torch.stack(each).mean(0), **CLOSE)


def test_a_mixture_s_real_inputs_count_by_its_tasks_shares(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    mixture = Mixture("both", (task("a", n=60), task("b", n=20, seed=1)), cap=30)
    own = Lineage(setting, mixture, 3, 0.05)
    prompt = tuned_prompts(library, own, [0])[0].prompt
    plain = Plain(Path(setting.plm.source), FAMILIES["bert"])
    means = []
    for each in mixture.tasks:
        table = token_table(library, setting, each, "train")
        rows = [
            plain_activations(plain, ids[:n].long(), types[:n].long(), prompt)
            for ids, types, n in zip(table.ids, table.types, table.lengths, strict=True)
        ]
        means.append(torch.stack(rows).mean(0))
    found = activations(library, own, 0, SimilaritySettings(neurons=NeuronSettings(inputs="real")))
    torch.testing.assert_close(found, 0.6 * means[0] + 0.4 * means[1], **CLOSE)
    assert activations(library, own, 0).shape == (2, 24)


@pytest.mark.own_library
def test_one_artefact_serves_all_windows(library: PromptLibrary, lineage: Lineage) -> None:
    whole = activations(library, lineage, 0)
    for window, expected in (((1, 1), whole[:1]), ((2, 2), whole[1:]), ((1, 2), whole)):
        assert torch.equal(
            activations(library, lineage, 0, SimilaritySettings(neurons=NeuronSettings(layers=window))), expected
        )
        assert neurons_key(lineage, 0, SimilaritySettings(neurons=NeuronSettings(layers=window))) == neurons_key(
            lineage, 0
        )
    assert len(list(library.root.glob("neurons/*/neurons.npy"))) == 1
    assert neurons_key(
        lineage, 0, SimilaritySettings(embedding=EmbeddingSettings(pooling="cls", layer=1))
    ) == neurons_key(lineage, 0)  # of embeddings
    assert (
        len(
            {
                neurons_key(lineage, 0),
                neurons_key(lineage, 1),
                neurons_key(lineage, 0, SimilaritySettings(neurons=NeuronSettings(inputs="real"))),
            }
        )
        == 3
    )


@pytest.mark.parametrize("window", [(0, 1), (1, 3), (3, 3), (-1, 2)])
def test_a_window_that_is_not_within_the_layers_is_refused(
    library: PromptLibrary, lineage: Lineage, window: tuple[int, int]
) -> None:
    said = rf"window must be first and last layer within 1 to 2, got \[{window[0]}, {window[1]}\]"
    with pytest.raises(ValueError, match=said):
        activations(library, lineage, 0, SimilaritySettings(neurons=NeuronSettings(layers=window)))
    with pytest.raises(ValueError, match=said):
        check_neurons(load_encoder(lineage.setting.plm), window)


@pytest.mark.parametrize("family", UNREADABLE)
def test_a_plm_without_one_plain_feed_forward_layer_per_layer_is_refused(families: Families, family: str) -> None:
    folder = families(family)
    encoder = load_encoder(Plm(str(folder), plm_files(folder)))
    name = type(encoder.model).__name__
    with pytest.raises(ValueError, match=f"on: the feed-forward layer of {name} cannot be found: .*leave `on` out"):
        check_neurons(encoder)
    assert not has_hooks(encoder)


@pytest.mark.parametrize("family", [name for name in ALL if name not in UNREADABLE])
@of_pooling
def test_every_other_plm_is_read_or_refused_but_never_misread(families: Families, family: str, pooling: Any) -> None:
    folder = families(family)
    encoder = load_encoder(Plm(str(folder), plm_files(folder), pooling=pooling))
    refused = {"modernbert-local", "nomic", "umt5", "funnel", "ibert"}
    if family in refused:
        with pytest.raises(ValueError, match="leave `on` out of similarities"):
            check_neurons(encoder)
    else:
        check_neurons(encoder)
        check_neurons(encoder, (1, 2))


def test_a_feed_forward_layer_that_runs_beside_attention_is_refused(setting: Setting) -> None:
    model = AutoModel.from_pretrained(setting.plm.source).eval()
    encoder = FrozenEncoder(model)
    first, second = model.encoder.layer[0].intermediate, model.encoder.layer[1].intermediate
    whole = first.forward
    first.forward = lambda x: (second.dense(x), whole(x))[1]  # the right number of calls, of the wrong layers
    second.forward = lambda x: torch.zeros(*x.shape[:-1], 24)
    with pytest.raises(ValueError, match="there are 2 calls"):
        check_neurons(encoder)


@pytest.mark.own_library
def test_a_tokenizer_without_a_special_token_is_told_to_read_real_inputs(
    library: PromptLibrary, lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bare:
        all_special_ids: tuple[int, ...] = ()

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": []}

    monkeypatch.setattr("panda_trainable.similarity.neurons.load_tokenizer", lambda plm: Bare())
    with pytest.raises(ValueError, match="no special token to stand for an empty text; compare neurons over `real`"):
        activations(library, lineage, 0)


@pytest.mark.own_library
def test_activations_are_made_once(library: PromptLibrary, lineage: Lineage) -> None:
    activations(library, lineage, 0)
    (file,) = library.root.glob("neurons/*/neurons.npy")
    made = file.stat().st_mtime_ns
    activations(library, lineage, 0, SimilaritySettings(neurons=NeuronSettings(layers=(2, 2))))
    assert [f.stat().st_mtime_ns for f in library.root.glob("neurons/*/neurons.npy")] == [made]


@pytest.mark.parametrize(("name", "kind"), [("gpt-neox", "causal_lm"), ("bert", "masked_lm")])
def test_all_tokens_of_the_last_layer_are_watched_where_a_language_model_computes_but_what_answers(
    name: str, kind: Any
) -> None:
    plm = LanguageModel(small_lm(name), kind, word_tokenizer())
    ids, seen = torch.arange(6, 12)[None], list[tuple[int, ...]]()
    assert plm.shortens
    with _watched(plm, lambda _, made: seen.append(tuple(made.shape))), torch.inference_mode():
        plm.encode(ids, 0 * ids, torch.tensor([6]))
    assert seen == [(1, 6, 24)] * 2
    assert plm.shortens
