"""Input prompts are words in front of the text: the plain model says so, on every family and at every token."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    DynamicCache,
    SqueezeBertConfig,
    SqueezeBertModel,
)

from panda_trainable.config.methods import TRAITS
from panda_trainable.config.setting import InitSettings, Plm, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.pretrained.files import plm_files
from panda_trainable.prompt.initialisers import INITIALISERS
from panda_trainable.similarity.readings import mean_similarities
from panda_trainable.similarity.representations import REPRESENTATIONS
from panda_trainable.similarity.similarities import SIMILARITIES
from panda_trainable.training import forward as module
from panda_trainable.training.forward import encoded
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.lineage import Lineage, starting_prompts, tuned_prompts
from panda_trainable.transfer.methods import METHODS, from_sources, open_trainer, random_start
from panda_trainable.transfer.teachers import source_lineages
from panda_trainable.worker import load_encoder
from tests.kits.plms import FAMILIES, SMALL
from tests.kits.tasks import HEADED
from tests.kits.trainers import loss_curve, random_starts

P, T = 3, 9
CLOSE = {"rtol": 0, "atol": 1e-5}
Task = Callable[..., TaskSpec]
Opened = Callable[..., Trainer]
Trial = Callable[..., TrialConfig]
Plms = Callable[[str], Path]
of_prompts = pytest.mark.parametrize("method", [name for name, row in TRAITS.items() if row.trains == "prompt"])


def rows(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids, types and lengths of rows from one token to T, with noise where padding is, and their replicas."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([1, T, 4, 2, T, 7, 5, 3])
    ids = torch.randint(5, 45, (len(lengths), T), generator=generator)
    types = torch.randint(2, ids.shape, generator=generator)
    return ids, types, lengths, torch.tensor([0, 1, 2, 0, 2, 1, 1, 0])


def words(replicas: int, length: int = P) -> Tensor:
    """[K, P] ids of the words that prompts are made of."""
    return torch.randint(5, 45, (replicas, length), generator=torch.Generator().manual_seed(9))


def plm_of(folder: Path, **changes: Any) -> Plm:
    return Plm(str(folder), plm_files(folder), **changes)


def encoder_of(folder: Path, **changes: Any) -> FrozenEncoder:
    return load_encoder(plm_of(folder, **changes))


def plain_model(folder: Path) -> Any:
    return AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()


def plain(model: Any, family: str, ids: Tensor, types: Tensor, prompt: Tensor) -> Tensor:
    """[n, H] the plain model's vectors of an unpadded row behind embeddings [P, E]."""
    embeds = torch.cat((prompt, model.get_input_embeddings()(ids)))[None]
    first = 2 if family == "roberta" else 0
    inputs = {"inputs_embeds": embeds, "position_ids": torch.arange(embeds.shape[1])[None] + first}
    if family != "distilbert":
        inputs["token_type_ids"] = torch.cat((torch.zeros(len(prompt), dtype=torch.long), types))[None]
    return model(**inputs).last_hidden_state[0, len(prompt) :]


def pooled(hidden: Tensor, pooling: str) -> Tensor:
    return hidden[0] if pooling == "cls" else hidden.mean(0)


# the encoder


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_of_word_embeddings_is_these_words_in_front(
    plms: Plms, family: str, pooling: str, replicas: int
) -> None:
    ids, types, lengths, owner = rows()
    owner, encoder, model = owner % replicas, encoder_of(plms(family), pooling=pooling), plain_model(plms(family))
    prompt = encoder.embed(words(replicas)).clone().requires_grad_()
    assert prompt.shape == (replicas, *encoder.prompt_shape(P, "input"))
    each = list(zip(ids, types, lengths, owner, strict=True))
    hidden = [plain(model, family, i[:n], t[:n], prompt[k]) for i, t, n, k in each]
    found = encoder.encode(ids, types, lengths, prompt, owner)
    torch.testing.assert_close(found, torch.stack([pooled(h, pooling) for h in hidden]), **CLOSE)
    every = encoder.encode(ids, types, lengths, prompt, owner, tokens=True)
    for made, expected, n in zip(every, hidden, lengths, strict=True):
        torch.testing.assert_close(made[:n], expected, **CLOSE)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    expected = torch.stack([pooled(h, pooling) for h in hidden])
    gradients = [torch.autograd.grad((x * direction).sum(), prompt)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients, **CLOSE)
    assert gradients[0].abs().max() > 1e-3


def test_words_in_front_are_read_as_the_plain_model_reads_their_ids(plms: Plms) -> None:
    ids, encoder = torch.tensor([7, 8, 9, 10, 11, 12]), encoder_of(plms("bert"))
    text = ids[None, 3:]
    found = encoder.encode(
        text, text * 0, torch.tensor([3]), encoder.embed(ids[None, :3]), torch.tensor([0]), tokens=True
    )
    expected = plain_model(plms("bert"))(ids[None]).last_hidden_state[:, 3:]
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("form", ["", "prefix", "input"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_of_a_padded_batch_has_the_vector_it_has_alone(plms: Plms, family: str, form: str) -> None:
    ids, types, lengths, owner = rows()
    encoder = encoder_of(plms(family), pooling="cls")  # whose last layer is the shortened one
    prompt = {
        "": None,
        "prefix": torch.randn(3, 2, 2, 2, P, 8, generator=torch.Generator().manual_seed(9)),
        "input": encoder.embed(words(3)),
    }[form]
    found = encoder.encode(ids, types, lengths, prompt, owner, tokens=True)
    assert found.shape == (8, T, 16)
    for i, n in enumerate(lengths):
        one = (ids[i, None, :n], types[i, None, :n], n[None], prompt, owner[i, None])
        torch.testing.assert_close(found[i, :n], encoder.encode(*one, tokens=True)[0], **CLOSE)
        torch.testing.assert_close(found[i, 0], encoder.encode(*one)[0], **CLOSE)
    if not form:
        model = plain_model(plms(family))
        none = torch.empty(0, encoder.embedding)
        for i, n in enumerate(lengths):
            torch.testing.assert_close(found[i, :n], plain(model, family, ids[i, :n], types[i, :n], none), **CLOSE)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("tokens", [1, 30, 10**6])
def test_neither_bucket_slices_nor_the_order_of_rows_change_an_encoding(
    library: PromptLibrary, setting: Setting, task: Task, monkeypatch: pytest.MonkeyPatch, tokens: int, pooling: str
) -> None:
    monkeypatch.setitem(module.BUCKET_VALUES, "cpu", 16 * tokens)
    encoder, table = (
        encoder_of(Path(setting.plm.source), pooling=pooling),
        token_table(library, setting, task("t"), "train"),
    )
    prompt, chosen = encoder.embed(words(2)), torch.tensor([5, 1, 40, 1, 7, 20])
    owner = torch.tensor([0, 1, 1, 0, 1, 0])
    found = encoded(encoder, table, prompt, chosen, owner)
    for made, row, k in zip(found, chosen, owner, strict=True):
        n = table.lengths[row]
        one = table.ids[row, None, :n].long()
        alone = encoder.encode(one, table.types[row, None, :n].long(), n[None], prompt, k[None])
        torch.testing.assert_close(made, alone[0], **CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_input_prompt_is_as_wide_as_the_token_embeddings(plms: Plms, family: str) -> None:
    encoder = encoder_of(plms(family))
    assert encoder.prompt_shape(P, "input") == (P, 12 if family == "electra" else 16)
    assert encoder_of(plms(family), layers=1).prompt_shape(P, "input") == encoder.prompt_shape(P, "input")


@pytest.mark.parametrize("positions", ["after_prompt", "from_zero"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_input_prompt_takes_positions_of_its_own_and_may_fill_them(plms: Plms, family: str, positions: str) -> None:
    encoder = encoder_of(plms(family), positions=positions)
    encoder.check_room(20, 44, "input")
    ids = torch.full((1, 44), 7)
    prompt = encoder.embed(words(1, 20))
    assert encoder.encode(ids, ids * 0, torch.tensor([44]), prompt, torch.tensor([0])).isfinite().all()
    with pytest.raises(ValueError, match=r"prompt length 20 \+ max_length 45 is over the 64 positions of \w+Model"):
        encoder.check_room(20, 45, "input")
    if positions == "from_zero":
        encoder.check_room(20, 64, "prefix")


def own_keys_and_values(model: Any, family: str, ids: Tensor) -> Tensor:
    """[L, 2, heads, P, d] what the plain model's own linear layers give for words."""
    names = ("k_lin", "v_lin") if family == "distilbert" else ("attention.self.key", "attention.self.value")
    seen: list[Tensor] = []
    layers = [m for n, m in model.named_modules() if n.endswith(names)]
    hooks = [layer.register_forward_hook(lambda _, __, out: seen.append(out[0])) for layer in layers]
    model(ids[None])
    for hook in hooks:
        hook.remove()
    return torch.stack([x.view(len(ids), 2, 8).transpose(0, 1) for x in seen]).unflatten(0, (2, 2))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_activations_of_words_are_the_keys_and_values_that_the_plain_model_computes(
    plms: Plms, family: str, pooling: str
) -> None:
    ids, encoder = words(1, 5)[0], encoder_of(plms(family), pooling=pooling)
    found = encoder.activations(encoder.embed(ids))
    assert found.shape == encoder.prompt_shape(5)
    torch.testing.assert_close(found, own_keys_and_values(plain_model(plms(family)), family, ids), **CLOSE)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "distilbert"])  # which takes no cache
def test_the_activations_of_words_are_these_words_as_left_context(plms: Plms, family: str) -> None:
    ids, types, lengths, _ = rows()
    encoder, model, front = encoder_of(plms(family)), plain_model(plms(family)), words(1)[0]
    keys = own_keys_and_values(model, family, front)
    prefix = encoder.activations(encoder.embed(front))[None]
    found = encoder.encode(ids, types, lengths, prefix, torch.zeros_like(lengths), tokens=True)
    for made, i, t, n in zip(found, ids, types, lengths, strict=True):
        cache = DynamicCache()
        for layer, (key, value) in enumerate(keys):
            cache.update(key[None], value[None], layer)
        positions = torch.arange(int(n))[None] + P + (2 if family == "roberta" else 0)
        expected = model(
            input_ids=i[None, :n], token_type_ids=t[None, :n], position_ids=positions, past_key_values=cache,
            attention_mask=torch.ones(1, P + int(n), dtype=torch.long),
        ).last_hidden_state[0]  # fmt: skip
        torch.testing.assert_close(made[:n], expected, **CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_one_layer_a_prefix_of_words_is_these_words_in_front(plms: Plms, family: str) -> None:
    ids, types, lengths, _ = rows()  # in one layer words do not see the text behind them
    encoder, front, owner = encoder_of(plms(family), layers=1), words(1)[0], torch.zeros_like(lengths)
    prefix = encoder.activations(encoder.embed(front))[None]
    both = [encoder.encode(ids, types, lengths, p, owner) for p in (prefix, encoder.embed(front)[None])]
    torch.testing.assert_close(*both, **CLOSE)


# models that take no prefix


def with_model(setting: Setting, model: Any, folder: Path, **changes: Any) -> Setting:
    """The setting on another model with the small tokenizer, with input prompts."""
    shutil.copytree(setting.plm.source, folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    return replace(setting, prompt=replace(setting.prompt, form="input"), plm=plm_of(folder, **changes))


def unreachable(setting: Setting, folder: Path, **changes: Any) -> Setting:
    """A model whose attention is its own."""
    torch.manual_seed(0)
    model = SqueezeBertModel(
        SqueezeBertConfig(**SMALL, embedding_size=16, max_position_embeddings=64, q_groups=1, k_groups=1, v_groups=1,
                          post_attention_groups=1, intermediate_groups=1, output_groups=1)
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    return with_model(setting, model, folder, **changes)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_model_whose_attention_cannot_be_reached_takes_input_prompts(
    setting: Setting, tmp_path: Path, pooling: str
) -> None:
    own = unreachable(setting, tmp_path / "own", pooling=pooling)
    encoder, (ids, types, lengths, owner) = load_encoder(own.plm), rows()
    assert encoder.refusal.startswith("SqueezeBertModel takes no prefix: ")
    with pytest.raises(ValueError, match=r"SqueezeBertModel takes no prefix: .*; use prompt.form: input"):
        encoder.prompt_shape(P)
    model = AutoModel.from_pretrained(own.plm.source).eval()
    prompt = encoder.embed(words(3))
    each = list(zip(ids, types, lengths, owner, strict=True))
    hidden = [plain(model, "squeezebert", i[:n], t[:n], prompt[k]) for i, t, n, k in each]
    found = encoder.encode(ids, types, lengths, prompt, owner)
    torch.testing.assert_close(found, torch.stack([pooled(h, pooling) for h in hidden]), **CLOSE)


@pytest.mark.parametrize("kind", INITIALISERS)
def test_a_prefix_for_a_model_that_takes_none_is_refused_wherever_it_would_start(
    library: PromptLibrary, setting: Setting, task: Task, tmp_path: Path, kind: str
) -> None:
    own = unreachable(setting, tmp_path / "own")
    own = replace(own, prompt=replace(own.prompt, form="prefix", init=InitSettings(kind, text="w1", file="w1")))
    with pytest.raises(ValueError, match=r"SqueezeBertModel takes no prefix: .*; use prompt.form: input"):
        starting_prompts(library, Lineage(own, task("t"), 3, 0.1), (0,))


def test_a_model_whose_attention_cannot_be_reached_trains_with_input_prompts(
    opened: Opened, task: Task, setting: Setting, tmp_path: Path
) -> None:
    trainer = opened(task("t"), (0, 1), steps=60, learning_rate=0.1, setting=unreachable(setting, tmp_path / "own"))
    losses = loss_curve(trainer, 60)
    assert (losses[-10:].mean(0) < 0.8 * losses[:10].mean(0)).all()


def test_a_model_whose_attention_cannot_be_reached_is_tuned_whole(
    library: PromptLibrary, trial: Trial, setting: Setting, tmp_path: Path
) -> None:
    config = trial("model_tuning", setting=unreachable(setting, tmp_path / "own"), learning_rate=0.003)
    assert loss_curve(open_trainer(library, config), 8).isfinite().all()


# trainers and methods


@pytest.fixture
def inputs(setting: Setting) -> Setting:
    """The small setting with input prompts."""
    return replace(setting, prompt=replace(setting.prompt, form="input"))


@pytest.mark.parametrize("kind", HEADED)
def test_an_input_prompt_lowers_the_loss_of_every_kind(
    opened: Opened, kind_task: Task, inputs: Setting, kind: str
) -> None:
    losses = loss_curve(opened(kind_task(kind), (0, 3), steps=60, learning_rate=0.1, setting=inputs), 60)
    assert (losses[-10:].mean(0) < 0.8 * losses[:10].mean(0)).all()


@pytest.mark.parametrize("tokens", [9, 10**6])
@pytest.mark.parametrize("kind", ["classification", "tagging", "extractive_qa"])
def test_the_size_of_bucket_slices_changes_no_loss(
    opened: Opened, kind_task: Task, inputs: Setting, monkeypatch: pytest.MonkeyPatch, tokens: int, kind: str
) -> None:
    spec = kind_task(kind)
    expected = loss_curve(opened(spec, (0, 1), setting=inputs), 4)
    monkeypatch.setitem(module.BUCKET_VALUES, "cpu", 16 * tokens)
    torch.testing.assert_close(loss_curve(opened(spec, (0, 1), setting=inputs), 4), expected, **CLOSE)


@of_prompts
def test_every_method_that_trains_prompts_trains_input_prompts(
    library: PromptLibrary, trial: Trial, inputs: Setting, method: str
) -> None:
    config = trial(method, setting=inputs)
    trainer = open_trainer(library, config)
    sources = [tuned_prompts(library, lineage, config.seeds)[0].prompt for lineage in source_lineages(config)]
    if METHODS[method].start is random_start:
        assert torch.equal(trainer.student.prompt(), random_starts(inputs, config.seeds))
    elif METHODS[method].start is from_sources:
        assert torch.equal(trainer.student.prompt()[0], sources[0])
    assert torch.equal(trainer.student.source.trainables["prompt"], METHODS[method].start(library, config).prompt)
    assert trainer.student.prompt().shape[-2:] == (P, 16)
    assert trainer.prompts()[0].prompt.shape == (P, 16)
    assert loss_curve(trainer, 8).isfinite().all()


def test_prompts_of_another_form_are_other_prompts(setting: Setting, inputs: Setting, task: Task) -> None:
    keys = [Lineage(each, task("t"), 3, 0.05).key(0) for each in (setting, inputs)]
    assert keys[0] != keys[1]


@pytest.mark.parametrize("name", SIMILARITIES)
def test_input_prompts_are_compared_as_prefixes_are(
    library: PromptLibrary, inputs: Setting, task: Task, name: str
) -> None:
    a, b = (Lineage(inputs, task(name_, seed=seed), 3, 0.05) for seed, name_ in enumerate("ab"))
    between, itself = (mean_similarities(library, [name], a, other, [0])[name] for other in (b, a))
    assert SIMILARITIES[name].low <= between <= SIMILARITIES[name].high
    assert between <= itself or SIMILARITIES[name].reads not in REPRESENTATIONS


def test_input_prompt_and_text_longer_than_the_positions_are_refused(
    opened: Opened, task: Task, inputs: Setting
) -> None:
    with pytest.raises(ValueError, match=r"prompt length 3 \+ max_length 62 is over the 64 positions of BertModel"):
        opened(task("t"), setting=replace(inputs, train=replace(inputs.train, max_length=62)))
