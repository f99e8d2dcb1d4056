"""A wrapped PLM gives what the untouched one gives, or is refused with the numbers and with what to do."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from panda_trainable.config.setting import Plm, PromptSettings, Setting, TrainSettings
from panda_trainable.plm import attention
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.pretrained.files import load_model, plm_files
from panda_trainable.training.forward import encoded
from panda_trainable.worker import load_encoder
from tests.kits.families import FAMILIES, MORE, REFUSED, Plain, save_family
from tests.kits.plms import SMALL
from tests.panda_trainable.plm.test_equality import LENGTHS, alone, random_prompts, random_table
from tuning.planning import checks

ALL = {**FAMILIES, **MORE, **REFUSED}
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
ROOM: dict[str, Any] = {"max_position_embeddings": 64}
Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Folders of small random models, made once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_family(tmp_path_factory.mktemp("families") / name, ALL[name])
        return made[name]

    return folder


def plm_of(folder: Path, **changes: Any) -> Plm:
    return Plm(str(folder), plm_files(folder), **changes)


def encoder_of(folder: Path, **changes: Any) -> FrozenEncoder:
    return load_encoder(plm_of(folder, **changes))


def large(model: nn.Module) -> nn.Module:
    """A model whose outputs tell differences."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator), alpha=0.3 if p.dim() > 1 else 0.05)
    return model


# equal to the plain model, whose positions are its own


@pytest.mark.parametrize(("name", "pooling"), list(zip(ALL, cycle(["cls", "mean"]), strict=False)))
def test_without_a_prompt_texts_of_all_lengths_are_those_of_the_plain_model(
    folders: Folders, name: str, pooling: Any
) -> None:
    encoder, table = encoder_of(folders(name), pooling=pooling), random_table()
    plain = Plain(folders(name), ALL[name], "untouched")
    rows = [row for row, n in enumerate(LENGTHS) if n > 2 or name != "funnel"]  # which fails on two tokens
    found = encoded(encoder, table, None, torch.tensor(rows), torch.zeros(len(rows), dtype=torch.long))
    expected = torch.stack([alone(plain, table, row, None, pooling) for row in rows])
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("name", ["nystromformer", "marian", "esm", "fnet", "xlm", "roformer"])
def test_an_input_prompt_of_words_is_these_words_in_the_plain_model(folders: Folders, name: str) -> None:
    encoder, table = encoder_of(folders(name)), random_table()
    plain, words = Plain(folders(name), ALL[name], "untouched"), torch.tensor([7, 30])
    owner = torch.zeros_like(LENGTHS)
    found = encoded(encoder, table, encoder.embed(words)[None], torch.arange(len(LENGTHS)), owner)
    for row, n in enumerate(LENGTHS):
        ids, types = torch.cat((words, table.ids[row, :n].long())), torch.cat((words * 0, table.types[row, :n].long()))
        hidden = plain(ids, types)
        torch.testing.assert_close(found[row], hidden[2:].mean(0), **CLOSE)


def test_positions_start_where_the_model_starts_them_and_hold_so_many_fewer_tokens(folders: Folders) -> None:
    encoder = encoder_of(folders("nystromformer"))
    assert (encoder.first_position, encoder.max_tokens) == (2, 64)  # its table holds two more
    assert encoder_of(folders("roberta")).first_position == 2
    assert encoder_of(folders("bert")).first_position == 0


def test_the_scale_of_embeddings_is_what_the_model_multiplies_them_with(folders: Folders) -> None:
    assert encoder_of(folders("marian")).scale == pytest.approx(4)
    assert encoder_of(folders("esm")).scale == pytest.approx(0.88)
    assert encoder_of(folders("bart")).scale == 1  # its embeddings come scaled


def test_texts_of_different_lengths_are_encoded_together_only_where_padding_is_not_read(folders: Folders) -> None:
    assert encoder_of(folders("bert")).takes_padding
    assert encoder_of(folders("modernbert")).takes_padding
    assert not encoder_of(folders("fnet")).takes_padding


# refused


@pytest.mark.parametrize(
    "model",
    [
        hf.GPT2Model(hf.GPT2Config(vocab_size=60, n_positions=32, n_embd=16, n_layer=2, n_head=2)),
        hf.GPTJModel(hf.GPTJConfig(vocab_size=60, n_positions=32, n_embd=16, n_layer=2, n_head=2, rotary_dim=4)),
        hf.BloomModel(hf.BloomConfig(vocab_size=60, hidden_size=16, n_layer=2, n_head=2)),
        hf.MambaModel(hf.MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2, state_size=4)),
        hf.BertModel(hf.BertConfig(**SMALL, **ROOM, is_decoder=True)),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_model_that_reads_left_to_right_is_no_encoder(model: Any, pooling: Any) -> None:
    with pytest.raises(
        ValueError, match=f"{type(model).__name__} takes no prompt here: it reads left to right.*; name an"
    ):
        FrozenEncoder(model, pooling)


def test_a_folder_of_texts_and_images_is_refused_by_name(tmp_path: Path, folders: Folders) -> None:
    parts = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    text, vision = {**parts, "vocab_size": 60}, {**parts, "image_size": 8, "patch_size": 4}
    hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"^PLM '.*': CLIPModel is no encoder of text \(.*\); name an encoder of text"):
        load_encoder(plm_of(tmp_path))
    with pytest.raises(ValueError, match=r"^PLM '.*': its config has no num_hidden_layers to cut; leave layers out"):
        load_model(plm_of(tmp_path, layers=1))


def test_a_model_that_attention_of_ours_would_change_is_refused_with_the_numbers_and_stays_as_it_was() -> None:
    model: Any = large(hf.BertModel(hf.BertConfig(**SMALL, **ROOM), add_pooling_layer=False)).eval()
    ids, own = torch.tensor([[7, 8, 9]]), model.encoder.layer[0].attention.self
    usual = type(own).forward

    def shifted(self: Any, x: Tensor, *args: Any, **options: Any) -> Any:
        made, weights = usual(self, x, *args, **options)  # as it would be with sinks that only eager attention knows
        return made * (0.5 if self.config._attn_implementation == "panda-tune" else 1), weights

    own.forward = shifted.__get__(own)
    expected = model(ids).last_hidden_state
    encoder = FrozenEncoder(model, "cls")
    with pytest.raises(ValueError, match=r"BertModel takes no prefix: with a registered attention its outputs differ from .*"
                                         r"untouched model by [0-9.e+-]+ of the largest .*; use prompt.form: input"):  # fmt: skip
        encoder.prompt_shape(2)
    assert torch.equal(model(ids).last_hidden_state, expected)
    assert encoder.prompt_shape(2, "input") == (2, 16)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("part", ["keys", "values", "mask"])
def test_a_prefix_that_is_not_where_a_token_would_be_is_seen(
    monkeypatch: pytest.MonkeyPatch, part: str, pooling: Any
) -> None:
    usual = attention._with_prefix

    def planted(before: Any, key: Tensor, value: Tensor, mask: Any, bias: Any) -> Any:
        keys, values = before
        before = (keys * 1.1 if part == "keys" else keys, values * 1.1 if part == "values" else values)
        key, value, mask, bias = usual(before, key, value, mask, bias)
        return key, value, mask.roll(1, -1) if part == "mask" and mask is not None else mask, bias

    monkeypatch.setattr(attention, "_with_prefix", planted)
    model = large(hf.BertModel(hf.BertConfig(**SMALL, **ROOM), add_pooling_layer=False))
    encoder = FrozenEncoder(model, pooling)
    assert not encoder.takes_padding
    if part != "mask":
        assert "takes no prefix: behind a real token's keys and values its outputs differ" in encoder.refusal


def test_a_model_whose_embeddings_cannot_be_given_takes_no_input_prompt_and_tells_the_difference() -> None:
    room = {"max_position_embeddings": 66, "pad_token_id": 1, "mask_token_id": 2}
    model = hf.EsmModel(hf.EsmConfig(**SMALL, **room), add_pooling_layer=False)
    encoder = FrozenEncoder(large(model))  # which leaves out positions where it is given embeddings
    with pytest.raises(ValueError, match=r"EsmModel takes no input prompt: behind a real token's embedding its outputs differ "
                                         r".* by [0-9.e+-]+ of the largest .*; use prompt.form: prefix"):  # fmt: skip
        encoder.prompt_shape(2, "input")
    assert encoder.prompt_shape(2) == (2, 2, 2, 2, 8)


# bf16


@pytest.mark.parametrize("name", ALL)
def test_in_bf16_a_family_is_near_float32_with_gradients_or_refused_when_it_is_loaded(
    folders: Folders, name: str
) -> None:
    plm, table = plm_of(folders(name)), random_table()
    try:
        encoder = load_encoder(plm, precision="bf16")
    except ValueError as error:
        assert name in {"xmod", "deberta"}  # whose own code mixes dtypes
        assert "does not train with train.precision bf16 on cpu" in str(error)
        assert str(error).endswith("; set train.precision to float32")
        return
    exact = FrozenEncoder(load_model(plm))
    for form in ("prefix", "input"):
        if form == "prefix" and encoder.refusal:
            continue
        prompt, owner = random_prompts(exact, form, 2).requires_grad_(), torch.arange(len(LENGTHS)) % 2
        rows = torch.arange(len(LENGTHS))
        found, expected = (encoded(each, table, prompt, rows, owner) for each in (encoder, exact))
        assert found.dtype == torch.float32
        assert 0 < (found - expected).norm() / expected.norm() < 0.1
        (gradient,) = torch.autograd.grad(found.square().sum(), prompt)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_precision_in_which_the_plm_does_not_train_is_refused_before_anything_starts(
    folders: Folders, precision: Any
) -> None:
    train = TrainSettings(batch_size=4, max_length=16, precision=precision)
    setting = Setting(plm_of(folders("xmod")), prompt=PromptSettings(length=2), train=train)
    if precision == "float32":
        checks.encoder_loads(None, setting)  # type: ignore[arg-type]  # it asks the setting alone
        return
    with pytest.raises(
        ValueError, match="XmodModel does not train with train.precision bf16 on cpu .*; set train.precision to"
    ):
        checks.encoder_loads(None, setting)  # type: ignore[arg-type]
