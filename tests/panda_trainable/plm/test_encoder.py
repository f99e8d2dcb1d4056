"""FrozenEncoder gives what the plain model gives, row by row, through transformers' own cache."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    DynamicCache,
    GPT2Config,
    GPT2Model,
    SqueezeBertConfig,
    SqueezeBertModel,
)

from panda_trainable.config.setting import Plm
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.pretrained.files import plm_files
from panda_trainable.worker import load_encoder
from tests.kits.plms import FAMILIES, SMALL

P, T = 3, 9
CLOSE = {"rtol": 0, "atol": 1e-5}


def rows(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids, types and lengths of rows from one token to T, with noise where padding is, and their replicas."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([1, T, 4, 2, T, 7, 5, 3])
    ids = torch.randint(5, 45, (len(lengths), T), generator=generator)
    types = torch.randint(2, ids.shape, generator=generator)
    return ids, types, lengths, torch.tensor([0, 1, 2, 0, 2, 1, 1, 0])


def prefixes(replicas: int, length: int = P) -> Tensor:
    """[K, L, 2, heads, P, d] large enough to matter."""
    return torch.randn(replicas, 2, 2, 2, length, 8, generator=torch.Generator().manual_seed(9))


def encoder_of(folder: Path, **changes: Any) -> FrozenEncoder:
    return load_encoder(Plm(str(folder), plm_files(folder), **changes))


def plain(model: Any, family: str, ids: Tensor, types: Tensor, prefix: Tensor, first: int) -> Tensor:
    """[T, H] of one unpadded row: the prefix is a cache of the plain model."""
    positions = torch.arange(len(ids))[None] + first + (2 if family == "roberta" else 0)
    if family == "distilbert":
        return slow_distilbert(model, ids, positions[0], prefix)
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(prefix):
        cache.update(keys[None], values[None], layer)
    mask = torch.ones(1, prefix.shape[3] + len(ids), dtype=torch.long)
    inputs = {"input_ids": ids[None], "token_type_ids": types[None], "position_ids": positions, "attention_mask": mask}
    return model(**inputs, past_key_values=cache).last_hidden_state[0]


def slow_distilbert(model: Any, ids: Tensor, positions: Tensor, prefix: Tensor) -> Tensor:
    """DistilBERT takes no cache: its forward pass written out for one row."""
    table = model.embeddings
    x = table.LayerNorm(table.word_embeddings(ids) + table.position_embeddings(positions))
    for block, (keys, values) in zip(model.transformer.layer, prefix, strict=True):
        own = block.attention
        query, key, value = (f(x).view(len(ids), 2, 8).transpose(0, 1) for f in (own.q_lin, own.k_lin, own.v_lin))
        read = scaled_dot_product_attention(query, torch.cat((keys, key), 1), torch.cat((values, value), 1))
        x = block.sa_layer_norm(own.out_lin(read.transpose(0, 1).flatten(1)) + x)
        x = block.output_layer_norm(block.ffn(x) + x)
    return x


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_batch_of_replicas_is_the_plain_model_row_by_row(
    plms: Callable[[str], Path], family: str, pooling: str, replicas: int
) -> None:
    ids, types, lengths, owner = rows()
    owner, prefix = owner % replicas, prefixes(replicas).requires_grad_()
    found = encoder_of(plms(family), pooling=pooling).encode(ids, types, lengths, prefix, owner)
    model = AutoModel.from_pretrained(plms(family), attn_implementation="sdpa").eval()
    each = zip(ids, types, lengths, owner, strict=True)
    hidden = [plain(model, family, i[:n], t[:n], prefix[k], P) for i, t, n, k in each]
    expected = torch.stack([h[0] if pooling == "cls" else h.mean(0) for h in hidden])
    torch.testing.assert_close(found, expected, **CLOSE)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    gradients = [torch.autograd.grad((x * direction).sum(), prefix)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients, **CLOSE)
    assert gradients[0].abs().max() > 1e-2


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_prompt_it_is_the_plain_model(plms: Callable[[str], Path], family: str, pooling: str) -> None:
    ids, types, lengths, _ = rows()
    found = encoder_of(plms(family), pooling=pooling).encode(ids, types, lengths)
    model = AutoModel.from_pretrained(plms(family), attn_implementation="sdpa").eval()
    none = prefixes(1, 0)[0]
    hidden = [plain(model, family, i[:n], t[:n], none, 0) for i, t, n in zip(ids, types, lengths, strict=True)]
    expected = torch.stack([h[0] if pooling == "cls" else h.mean(0) for h in hidden])
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_from_zero_ignore_the_prompt(plms: Callable[[str], Path], family: str) -> None:
    ids, types, lengths, owner = rows()
    prefix = prefixes(3)
    found = encoder_of(plms(family), positions="from_zero").encode(ids, types, lengths, prefix, owner)
    model = AutoModel.from_pretrained(plms(family), attn_implementation="sdpa").eval()
    each = zip(ids, types, lengths, owner, strict=True)
    expected = torch.stack([plain(model, family, i[:n], t[:n], prefix[k], 0).mean(0) for i, t, n, k in each])
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_neither_the_order_of_rows_nor_longer_padding_changes_an_encoding(
    plms: Callable[[str], Path], pooling: str
) -> None:
    ids, types, lengths, owner = rows()
    encoder, prefix = encoder_of(plms("bert"), pooling=pooling), prefixes(3)
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(1))
    expected = encoder.encode(ids, types, lengths, prefix, owner)
    wide = [torch.nn.functional.pad(x, (0, 5), value=1) for x in (ids, types)]
    torch.testing.assert_close(encoder.encode(*wide, lengths, prefix, owner), expected, **CLOSE)
    shuffled = encoder.encode(ids[order], types[order], lengths[order], prefix, owner[order])
    torch.testing.assert_close(shuffled, expected[order], **CLOSE)


def test_a_truncated_plm_takes_a_prompt_for_its_own_layers(plms: Callable[[str], Path]) -> None:
    assert encoder_of(plms("bert")).prompt_shape(P) == (2, 2, 2, P, 8)
    assert encoder_of(plms("bert"), layers=1).prompt_shape(P) == (1, 2, 2, P, 8)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompt_and_text_may_fill_the_positions_but_not_exceed_them(plms: Callable[[str], Path], family: str) -> None:
    encoder = encoder_of(plms(family))
    assert encoder.max_tokens == 64
    encoder.check_room(20, 44)
    n, ids = torch.tensor([44]), torch.full((1, 44), 7)
    assert encoder.encode(ids, ids * 0, n, prefixes(1, 20), torch.tensor([0])).isfinite().all()
    with pytest.raises(ValueError, match=r"prompt length 20 \+ max_length 45 is over the 64 positions of \w+Model"):
        encoder.check_room(20, 45)
    encoder_of(plms(family), positions="from_zero").check_room(20, 64)


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def test_a_causal_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    gpt = GPT2Model(GPT2Config(vocab_size=60, n_positions=32, n_embd=16, n_layer=2, n_head=2))
    with pytest.raises(ValueError, match="GPT2Model takes no prompt here: it reads left to right, and an encoder"):
        encoder_of(saved(gpt, tmp_path / "gpt"))
    decoder = BertModel(BertConfig(**SMALL, is_decoder=True))
    with pytest.raises(ValueError, match="BertModel takes no prompt here: it reads left to right"):
        encoder_of(saved(decoder, tmp_path / "decoder"))


def test_a_model_whose_attention_cannot_be_reached_is_refused_with_the_reason(tmp_path: Path) -> None:
    own = SqueezeBertModel(SqueezeBertConfig(**SMALL, embedding_size=16))
    encoder = encoder_of(saved(own, tmp_path / "own"))
    with pytest.raises(
        ValueError,
        match="SqueezeBertModel takes no prefix: .*attention.*; use prompt.form: input",
    ):
        encoder.prompt_shape(P)


def test_another_model_of_the_process_runs_as_ever_beside_the_encoder(plms: Callable[[str], Path]) -> None:
    ids, types, lengths, owner = rows()
    model = AutoModel.from_pretrained(plms("bert"), attn_implementation="sdpa").eval()
    before = model(ids).last_hidden_state
    encoder_of(plms("bert"), pooling="cls").encode(ids, types, lengths, prefixes(3), owner)
    assert torch.equal(model(ids).last_hidden_state, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_makes_no_queries_keys_and_values_of_the_tokens(
    plms: Callable[[str], Path], family: str
) -> None:
    """What the numbers cannot show: the work is not done, else a change of a family would be a silent loss."""
    encoder = encoder_of(plms(family), pooling="cls")
    ids, types, lengths, owner = rows()
    made: dict[bool, int] = {}
    hooks = [
        m.register_forward_hook(
            lambda _, __, out: made.update({out.stride(0) == 0: made.get(out.stride(0) == 0, 0) + 1})
        )
        for m in encoder.model.modules()
        if isinstance(m, torch.nn.Linear)
    ]
    encoder.encode(ids, types, lengths, prefixes(3), owner)
    for hook in hooks:
        hook.remove()
    assert made[True] == 3
    assert made[False] > 9
