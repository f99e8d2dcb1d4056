"""Small random models of many families, and what each says of one unpadded example: the plain reference.

Nothing here uses panda_trainable: a prefix stands in front of the keys and values of a layer through an attention
function of our own in plain arithmetic, or through transformers' cache.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModel,
    DynamicCache,
    PreTrainedTokenizerFast,
)

from tests.kits.plms import SMALL
from tests.kits.tasks import WORDS

NAME = "plain-reference"
P, LONGEST = 3, 24

ROOM: dict[str, Any] = {"max_position_embeddings": 64}
ROBERTA_ROOM: dict[str, Any] = {"max_position_embeddings": 66, "pad_token_id": 1}
SPECIAL: dict[str, Any] = {"bos_token_id": 3, "eos_token_id": 4}
T5: dict[str, Any] = {
    "vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_heads": 2, "num_layers": 2, "num_decoder_layers": 1,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16, "initializer_factor": 0.25,
}  # fmt: skip
BART: dict[str, Any] = {
    "vocab_size": 60, "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "scale_embedding": True, **ROOM,
}  # fmt: skip
DEBERTA_V3: dict[str, Any] = {
    **SMALL, **ROOM, "relative_attention": True, "pos_att_type": "p2c|c2p", "position_buckets": 4,
    "max_relative_positions": -1, "share_att_key": True, "norm_rel_ebd": "layer_norm", "layer_norm_eps": 1e-7,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """How a small model of a family is built, and what it is told about one example.

    Attributes:
        build: makes the model, with the weights that transformers draws.
        first: the id of the first position, where a prefix moves positions; None: it takes no position ids.
        types: kinds of token types; 0: it takes none.
        cached: whether it takes a prefix as transformers' own cache.
        scale: what it multiplies token embeddings with, where it is given ids.
        masked: whether it takes an attention mask.
    """

    build: Callable[[], Any]
    first: int | None = 0
    types: int = 0
    cached: bool = False
    scale: float = 1.0
    masked: bool = True


def _like_bert(model: str, first: int | None = 0, types: int = 2, cached: bool = False, **changes: Any) -> Family:
    """A family whose configuration has BERT's names."""
    config = getattr(hf, model.removesuffix("Model") + "Config")
    return Family(lambda: getattr(hf, model)(config(**{**SMALL, **ROOM, **changes})), first, types, cached)


def _distilbert() -> Any:
    config: dict[str, Any] = {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
    return hf.DistilBertModel(hf.DistilBertConfig(**config, **ROOM))


def _of_deberta(**changes: Any) -> Family:
    config = {**DEBERTA_V3, "position_biased_input": True, "type_vocab_size": 2, **changes}
    return Family(lambda: hf.DebertaV2Model(hf.DebertaV2Config(**config)), types=2)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "bert": _like_bert("BertModel", cached=True),
        "roberta": _like_bert("RobertaModel", 2, 1, cached=True, type_vocab_size=1, **ROBERTA_ROOM),
        "electra": _like_bert("ElectraModel", cached=True, embedding_size=12),
        "albert": _like_bert("AlbertModel", embedding_size=12),
        "distilbert": Family(_distilbert),
        "mpnet": _like_bert("MPNetModel", 2, 0, **ROBERTA_ROOM),
        "deberta-v3": _of_deberta(position_biased_input=False, type_vocab_size=0),
        "deberta-v2": _of_deberta(share_att_key=False, conv_kernel_size=3, conv_act="gelu"),
        "modernbert": _like_bert("ModernBertModel", types=0, local_attention=8, pad_token_id=0, **SPECIAL,
                                 layer_types=["sliding_attention", "full_attention"]),
        "modernbert-local": _like_bert("ModernBertModel", types=0, local_attention=8, pad_token_id=0, **SPECIAL,
                                       layer_types=["full_attention", "sliding_attention"]),
        "t5": Family(lambda: hf.T5Model(hf.T5Config(**T5)), None),
    }
)  # fmt: skip
"""Family -> a small model of it."""


def _of_t5(name: str) -> Family:
    return Family(lambda: getattr(hf, f"{name}Model")(getattr(hf, f"{name}Config")(**T5)), None)


def _of_bart(name: str, scale: float = 1.0, **changes: Any) -> Family:
    config = {**BART, **changes}
    return Family(lambda: getattr(hf, f"{name}Model")(getattr(hf, f"{name}Config")(**config)), None, scale=scale)


MORE: Mapping[str, Family] = MappingProxyType(
    {
        "albert with two attentions per layer": _like_bert("AlbertModel", embedding_size=12, inner_group_num=2),
        "bart": _of_bart("Bart"),
        "camembert": _like_bert("CamembertModel", 2, 1, type_vocab_size=1, **ROBERTA_ROOM),
        "data2vec-text": _like_bert("Data2VecTextModel", 2, 1, type_vocab_size=1, **ROBERTA_ROOM),
        "deberta-v2 without positions to content": _of_deberta(pos_att_type="c2p", share_att_key=False),
        "deberta-v2 without relative attention": _of_deberta(pos_att_type=None, relative_attention=False),
        "ernie": _like_bert("ErnieModel"),
        "esm": replace(_like_bert("EsmModel", 0, 0, position_embedding_type="rotary", token_dropout=True,
                                  mask_token_id=2, **ROBERTA_ROOM), scale=1 - 0.15 * 0.8),
        "eurobert with shared keys": _like_bert("EuroBertModel", 0, 0, pad_token_id=0, num_key_value_heads=1,
                                                **SPECIAL),
        "gte": _like_bert("GteModel", 0, 1, pad_token_id=1),
        "jina-v3": _like_bert("JinaEmbeddingsV3Model", 0, 1, pad_token_id=1),
        "marian": _of_bart("Marian", scale=4.0, pad_token_id=0, decoder_start_token_id=0),  # the root of 16
        "layoutlm": _like_bert("LayoutLMModel"),
        "mbart": _of_bart("MBart"),
        "mobilebert": _like_bert("MobileBertModel", embedding_size=12, intra_bottleneck_size=16),
        "mt5": _of_t5("MT5"),
        "nomic": _like_bert("NomicBertModel"),
        "roberta-prelayernorm": _like_bert("RobertaPreLayerNormModel", 2, 1, type_vocab_size=1, **ROBERTA_ROOM),
        "splinter": _like_bert("SplinterModel"),
        "umt5": _of_t5("UMT5"),
        "xlm-roberta": _like_bert("XLMRobertaModel", 2, 1, type_vocab_size=1, **ROBERTA_ROOM),
        "xmod": _like_bert("XmodModel", 2, 1, type_vocab_size=1, default_language="en_XX", **ROBERTA_ROOM),
    }
)  # fmt: skip
"""Further families, and further ways of those above."""

GROUPS = dict.fromkeys([f"{part}_groups" for part in ("q", "k", "v", "post_attention", "intermediate", "output")], 1)
FUNNEL: dict[str, Any] = {
    "vocab_size": 60, "block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 16, "n_head": 2, "d_head": 8,
    "d_inner": 24,
}  # fmt: skip
XLM: dict[str, Any] = {
    "vocab_size": 60, "emb_dim": 16, "n_layers": 2, "n_heads": 2, "pad_index": 0, "pad_token_id": 0, **ROOM,
}  # fmt: skip

REFUSED: Mapping[str, Family] = MappingProxyType(
    {
        "big_bird": _like_bert("BigBirdModel", block_size=4, num_random_blocks=1),
        "convbert": _like_bert("ConvBertModel", embedding_size=16),
        "deberta": _like_bert("DebertaModel", types=0, relative_attention=True, pos_att_type=["c2p", "p2c"]),
        "fnet": replace(_like_bert("FNetModel"), masked=False),
        "funnel": Family(lambda: hf.FunnelModel(hf.FunnelConfig(**FUNNEL)), None, 1),
        "ibert": _like_bert("IBertModel", 2, 1, type_vocab_size=1, **ROBERTA_ROOM),
        "longformer": _like_bert("LongformerModel", 2, 1, type_vocab_size=1, attention_window=8, **ROBERTA_ROOM),
        "luke": _like_bert("LukeModel", 2, 1, type_vocab_size=1, entity_vocab_size=5, entity_emb_size=8,
                           **ROBERTA_ROOM),
        "megatron-bert": _like_bert("MegatronBertModel"),
        "nystromformer": _like_bert("NystromformerModel"),
        "rembert": _like_bert("RemBertModel", input_embedding_size=12),
        "roformer": _like_bert("RoFormerModel", None, embedding_size=16),
        "squeezebert": _like_bert("SqueezeBertModel", embedding_size=16, **dict[str, Any](GROUPS)),
        "xlm": Family(lambda: hf.XLMModel(hf.XLMConfig(**XLM))),
    }
)  # fmt: skip
"""Families whose attention cannot be reached: they take no prefix."""


def save_family(folder: Path, family: Family) -> Path:
    """A random PLM as files, with a tokenizer that adds no token: a text of one word is one token."""
    torch.manual_seed(0)
    model = family.build()
    with torch.no_grad():  # larger weights than the default, and biases, so that differences are seen
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1).add_(torch.randn_like(parameter), alpha=0.05)
    model.save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "<pad>", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    fast.save_pretrained(folder)
    return folder


class _Front:
    """What stands in front of the keys and values of the layer that is next."""

    def __init__(self) -> None:
        self.prefix: Tensor | None = None
        self.calls = 0


_front = _Front()


def _read(query: Tensor, key: Tensor, value: Tensor, scale: float, bias: Tensor | float) -> Tensor:
    """[1, n, heads, d] attention of one row: the prefix has no bias and no mask; layers behind it have none."""
    layer, _front.calls = _front.calls, _front.calls + 1
    shared = query.shape[1] // key.shape[1]  # queries that one head of keys serves
    key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    own = query @ key.mT * scale + bias
    if _front.prefix is None or layer >= len(_front.prefix):
        return (own.softmax(-1) @ value).transpose(1, 2)
    keys, values = _front.prefix[layer].repeat_interleave(shared, 1)
    weights = torch.cat((query @ keys.mT * scale, own), -1).softmax(-1)
    return (weights @ torch.cat((values[None], value), 2)).transpose(1, 2)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None = None,
    position_bias: Tensor | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    bias = torch.zeros(()) if position_bias is None else position_bias
    if mask is not None:  # the window of a local layer, or zeros
        bias = bias + (torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask)
    return _read(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling, bias), None


AttentionInterface.register(NAME, _attention)
_mask = AttentionMaskInterface()["sdpa"]
AttentionMaskInterface.register(NAME, lambda *args, **more: _mask(*args, **{**more, "allow_is_causal_skip": False}))


def _heads(x: Tensor) -> Tensor:
    """[1, n, H] -> [1, heads, n, d]."""
    return x.view(1, -1, 2, 8).transpose(1, 2)


def _mpnet(own: Any, x: Tensor, mask: Tensor, position_bias: Tensor, **_: Any) -> tuple[Tensor]:
    query, key, value = _heads(own.q(x)), _heads(own.k(x)), _heads(own.v(x))
    return (own.o(_read(query, key, value, 8**-0.5, position_bias).flatten(2)),)


def _deberta(
    own: Any, x: Tensor, mask: Tensor, _weights: bool, query_states: None, relative_pos: Tensor, rel_embeddings: Tensor
) -> tuple[Tensor, None]:
    """DeBERTa's equation 4: content to content, content to position and position to content, over √(3 d)."""
    query, key, value = _heads(own.query_proj(x)), _heads(own.key_proj(x)), _heads(own.value_proj(x))
    scale = ((1 + len(own.pos_att_type)) * 8) ** -0.5
    bias = torch.zeros(())
    if own.pos_att_type:
        place = (relative_pos[0] + own.pos_ebd_size).clamp(0, 2 * own.pos_ebd_size - 1)  # [n, n] of the embeddings
    if "c2p" in own.pos_att_type:
        to_key = _heads((own.key_proj if own.share_att_key else own.pos_key_proj)(rel_embeddings))
        bias = bias + torch.einsum("bhid,bhijd->bhij", query, to_key[:, :, place]) * scale
    if "p2c" in own.pos_att_type:
        to_query = _heads((own.query_proj if own.share_att_key else own.pos_query_proj)(rel_embeddings))
        bias = bias + torch.einsum("bhjd,bhijd->bhij", key, to_query[:, :, place]) * scale
    return _read(query, key, value, scale, bias).flatten(2), None


BY_HAND: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"MPNetSelfAttention": _mpnet, "DisentangledSelfAttention": _deberta}
)
"""Self-attentions that do not call the interface."""


class Plain:
    """The ordinary transformers model on one unpadded example at a time.

    Attributes:
        way: `attention`: prefixes through our own arithmetic; `cache`: through transformers' cache;
            `untouched`: the model as it is, without prefixes.
        layers: layers kept; None: all.
    """

    def __init__(self, folder: Path, family: Family, way: str = "attention", layers: int | None = None):
        config = AutoConfig.from_pretrained(folder)
        if layers is not None:
            config.num_hidden_layers = layers
        model = AutoModel.from_pretrained(folder, config=config).eval().requires_grad_(False)
        self.model = model.get_encoder() if config.is_encoder_decoder else model
        self.family, self.way = family, way
        own = [module for module in self.model.modules() if type(module).__name__ in BY_HAND]
        if way == "attention" and not own:
            self.model.set_attn_implementation(NAME)
        for module in own if way == "attention" else ():
            module.forward = partial(BY_HAND[type(module).__name__], module)

    def __call__(self, ids: Tensor, types: Tensor, prompt: Tensor | None = None) -> Tensor:
        """[n, H] every token's vector of ids [n], behind a prefix [L, 2, heads, P, d] or an input prompt [P, E]."""
        form = "" if prompt is None else "input" if prompt.dim() == 2 else "prefix"
        front = 0 if prompt is None else prompt.shape[-2]
        inputs: dict[str, Any] = {"input_ids": ids[None]}
        if prompt is not None and form == "input":
            words = self.model.get_input_embeddings()(ids)
            words = words[0] if isinstance(words, tuple) else words  # I-BERT's come with a scale
            embeds = torch.cat((prompt, words * self.family.scale))
            inputs, types = {"inputs_embeds": embeds[None]}, torch.cat((types.new_zeros(front), types))
        length = len(ids) + (front if form == "input" else 0)
        if self.family.first is not None and form == "prefix":  # in all else the model counts by itself
            start = self.family.first + front
            inputs["position_ids"] = torch.arange(start, start + length)[None]
        if self.family.types:
            inputs["token_type_ids"] = types[None] % self.family.types
        if self.family.masked:
            inputs["attention_mask"] = torch.ones(1, length, dtype=torch.long)
        return self._hidden(inputs, prompt if form == "prefix" else None)[-len(ids) :]

    def _hidden(self, inputs: dict[str, Any], prefix: Tensor | None) -> Tensor:
        if self.way == "cache" and prefix is not None:
            cache = DynamicCache()
            for layer, (keys, values) in enumerate(prefix):
                cache.update(keys[None], values[None], layer)
            mask = torch.ones(1, prefix.shape[3] + inputs["input_ids"].shape[1], dtype=torch.long)
            inputs = {**inputs, "past_key_values": cache, "attention_mask": mask}
        _front.prefix, _front.calls = prefix, 0
        hidden: Tensor = self.model(**inputs).last_hidden_state[0]
        assert prefix is None or _front.calls == (len(prefix) if self.way == "attention" else 0)
        return hidden
