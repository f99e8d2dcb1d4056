"""Small random language models of many families as files, with a tokenizer of single words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerFast

from panda_trainable.config.setting import Plm
from panda_trainable.pretrained.files import plm_files
from panda_trainable.pretrained.kinds import kind_in, used_as
from tests.kits.families import BY_HAND, NAME, _front
from tests.kits.tasks import WORDS

SPECIAL = ("[PAD]", "<pad>", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ASKING = (
    "It",
    "was",
    "This",
    "is",
    "about",
    "a",
    ".",
    "terrible",
    "great",
    "person",
    "place",
    "time",
    "quantity",
    "very",
)
VOCABULARY = (*SPECIAL, *ASKING, *WORDS)

SMALL: dict[str, Any] = {
    "vocab_size": len(VOCABULARY), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 4,
}  # fmt: skip
ROBERTA: dict[str, Any] = {"pad_token_id": 1, "max_position_embeddings": 66, "type_vocab_size": 1}
SHARED_KEYS: dict[str, Any] = {"num_key_value_heads": 1}
T5: dict[str, Any] = {
    "vocab_size": len(VOCABULARY), "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16, "initializer_factor": 0.5,
    "decoder_start_token_id": 0,
}  # fmt: skip
BART: dict[str, Any] = {
    "vocab_size": len(VOCABULARY), "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 64,
    "decoder_start_token_id": 4, "scale_embedding": True,
}  # fmt: skip
DEBERTA: dict[str, Any] = {
    "relative_attention": True, "pos_att_type": "p2c|c2p", "position_buckets": 4, "share_att_key": True,
    "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0,
}  # fmt: skip


@dataclass(frozen=True)
class LmFamily:
    """How a small language model is built, and what it is told beside ids.

    Attributes:
        build: makes the model, with the weights that transformers draws.
        first: the id of the first position, where a prefix moves positions; None: it takes no position ids.
        window: positions that a causal layer reads at most, in one of its layers; 0: all.
    """

    build: Callable[..., Any]
    first: int | None = 0
    window: int = 0


def _of(model: str, config: str, first: int | None = 0, window: int = 0, **settings: Any) -> LmFamily:
    return LmFamily(lambda **sizes: getattr(hf, model)(getattr(hf, config)(**{**settings, **sizes})), first, window)


def _like(name: str, first: int | None = 0, window: int = 0, config: str = "", **changes: Any) -> LmFamily:
    plain = name.removesuffix("ForMaskedLM").removesuffix("ForCausalLM")
    return _of(name, config or f"{plain}Config", first, window, **{**SMALL, **changes})


_WINDOWS: dict[str, Any] = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}

MASKED: Mapping[str, LmFamily] = MappingProxyType(
    {
        "bert": _like("BertForMaskedLM"),
        "roberta": _like("RobertaForMaskedLM", 2, **ROBERTA),
        "xlm-roberta": _like("XLMRobertaForMaskedLM", 2, **ROBERTA),
        "camembert": _like("CamembertForMaskedLM", 2, **ROBERTA),
        "electra": _like("ElectraForMaskedLM", embedding_size=12),
        "albert": _like("AlbertForMaskedLM", embedding_size=12),
        "distilbert": _of("DistilBertForMaskedLM", "DistilBertConfig", vocab_size=len(VOCABULARY), dim=16, n_layers=2,
                          n_heads=2, hidden_dim=24, max_position_embeddings=64),
        "deberta-v2": _like("DebertaV2ForMaskedLM", **DEBERTA),
        "mpnet": _like("MPNetForMaskedLM", 2, **{**ROBERTA, "type_vocab_size": 0}),
        "modernbert": _like("ModernBertForMaskedLM", local_attention=8, cls_token_id=3, sep_token_id=4,
                            layer_types=["sliding_attention", "full_attention"]),
    }
)  # fmt: skip
CAUSAL: Mapping[str, LmFamily] = MappingProxyType(
    {
        "llama": _like("LlamaForCausalLM", **SHARED_KEYS),
        "qwen2": _like("Qwen2ForCausalLM", **SHARED_KEYS),
        "qwen3": _like("Qwen3ForCausalLM", head_dim=8, **SHARED_KEYS),
        "mistral": _like("MistralForCausalLM", window=6, sliding_window=6, **SHARED_KEYS),
        "gemma3": _like("Gemma3ForCausalLM", window=6, config="Gemma3TextConfig", head_dim=8, query_pre_attn_scalar=8,
                        **_WINDOWS, **SHARED_KEYS),
        "phi3": _like("Phi3ForCausalLM", **SHARED_KEYS),
        "gpt2": _of("GPT2LMHeadModel", "GPT2Config", vocab_size=len(VOCABULARY), n_embd=16, n_layer=2, n_head=2,
                    n_positions=64, bos_token_id=3, eos_token_id=4),
        "gpt-neox": _like("GPTNeoXForCausalLM"),
        "opt": _of("OPTForCausalLM", "OPTConfig", vocab_size=len(VOCABULARY), hidden_size=16, ffn_dim=24,
                   num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=16, max_position_embeddings=64,
                   pad_token_id=1, bos_token_id=3, eos_token_id=4),
        "olmo2": _like("Olmo2ForCausalLM", **SHARED_KEYS),
    }
)  # fmt: skip
SEQ2SEQ: Mapping[str, LmFamily] = MappingProxyType(
    {
        "t5": _of("T5ForConditionalGeneration", "T5Config", None, **T5),
        "t5-v1.1": _of("T5ForConditionalGeneration", "T5Config", None, **T5, feed_forward_proj="gated-gelu",
                       tie_word_embeddings=False),
        "bart": _of("BartForConditionalGeneration", "BartConfig", None, **BART),
    }
)  # fmt: skip
WITHOUT_PREFIX: Mapping[str, LmFamily] = MappingProxyType(
    {
        "falcon": _of("FalconForCausalLM", "FalconConfig", vocab_size=len(VOCABULARY), hidden_size=16,
                      num_hidden_layers=2, num_attention_heads=2, bos_token_id=3, eos_token_id=4),
        "bloom": _of("BloomForCausalLM", "BloomConfig", vocab_size=len(VOCABULARY), hidden_size=16, n_layer=2, n_head=2,
                     bos_token_id=3, eos_token_id=4),
        "gemma2": _like("Gemma2ForCausalLM", head_dim=8, query_pre_attn_scalar=8, **SHARED_KEYS),
    }
)  # fmt: skip
"""Causal families whose attention cannot be reached, or computes more than the registered one."""

MORE_CAUSAL: Mapping[str, LmFamily] = MappingProxyType(
    {
        "lfm2": _like("Lfm2ForCausalLM", layer_types=["conv", "full_attention"], **SHARED_KEYS),
        "qwen3-next": _like(
            "Qwen3NextForCausalLM",
            head_dim=8,
            layer_types=["linear_attention", "full_attention"],
            linear_num_value_heads=2,
            linear_num_key_heads=2,
            linear_key_head_dim=8,
            num_experts=2,
            linear_value_head_dim=8,
            num_experts_per_tok=1,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            **SHARED_KEYS,
        ),
        "cohere2": _like("Cohere2ForCausalLM", window=6, head_dim=8, **_WINDOWS, **SHARED_KEYS),
        "mixtral": _like("MixtralForCausalLM", num_local_experts=2, num_experts_per_tok=1, **SHARED_KEYS),
        "smollm3": _like("SmolLM3ForCausalLM", **SHARED_KEYS),
    }
)
"""Hybrids, parallel blocks with windows, a mixture of experts, and one of which some layers know no positions."""

HYBRIDS = ("lfm2", "qwen3-next")
"""Causal families that carry more from token to token than what attention reads."""

FAMILIES: Mapping[str, LmFamily] = MappingProxyType({**MASKED, **CAUSAL, **SEQ2SEQ, **WITHOUT_PREFIX, **MORE_CAUSAL})


def word_tokenizer(*, mask: bool = True, specials: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of which every word of VOCABULARY is one token.

    Args:
        mask: whether it has a mask token.
        specials: whether texts begin with [CLS] and end with [SEP].
    """
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if specials:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 3), ("[SEP]", 4)]
        )
    more = {"mask_token": "[MASK]"} if mask else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", **more
    )


def small_lm(name: str, **sizes: int) -> Any:
    """A random model of a family, its weights and biases large enough that differences are seen."""
    torch.manual_seed(0)
    model = FAMILIES[name].build(**sizes)
    scale = 1 if "t5" in name else 4  # T5 draws large ones itself
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale if parameter.dim() > 1 else 1).add_(torch.randn_like(parameter), alpha=0.05)
    return model.eval()


def save_lm(
    folder: Path, name: str = "llama", sizes: Mapping[str, int] = MappingProxyType({}), **tokenizer: Any
) -> Path:
    """A random language model with its tokenizer, as files; of other sizes than usual where they are given."""
    small_lm(name, **sizes).save_pretrained(folder)
    word_tokenizer(**tokenizer).save_pretrained(folder)
    return folder


DIGITS: Mapping[str, str] = MappingProxyType({"terrible": "0", "great": "1", "place": "2", "time": "5"})
"""Word of VOCABULARY -> the digit in its place, where a tokenizer is to know numbers."""


def with_digits(folder: Path) -> Path:
    """The folder of a language model whose tokenizer now knows DIGITS."""
    file = folder / "tokenizer.json"
    text = file.read_text(encoding="utf-8")
    for word, digit in DIGITS.items():
        text = text.replace(f'"{word}"', f'"{digit}"')
    file.write_text(text, encoding="utf-8")
    return folder


def lm_plm(folder: Path, head: Any = None) -> Plm:
    """The PLM of a folder, as a plan has it."""
    kind, used = used_as(kind_in(folder), head)
    return Plm(str(folder), plm_files(folder), kind=kind, head=used, pooling="mean" if kind == "encoder" else "answer")


class PlainLm:
    """The ordinary transformers model on one unpadded example and one candidate at a time.

    Attributes:
        way: `attention`: prefixes through plain arithmetic; `cache`: through transformers' cache; `untouched`: the model
            as it is, without prefixes.
    """

    def __init__(self, name: str, way: str = "attention"):
        self.model, self.family, self.way = small_lm(name).requires_grad_(False), FAMILIES[name], way
        own = [module for module in self.model.modules() if type(module).__name__ in BY_HAND]
        if way == "attention" and not own:
            self.model.set_attn_implementation(NAME)
        for module in own if way == "attention" else ():
            module.forward = partial(BY_HAND[type(module).__name__], module)

    def logits(self, ids: Tensor, prompt: Tensor | None = None, decoded: Tensor | None = None) -> Tensor:
        """[n, V] of every token of ids [n], or of decoded [m], behind a prefix [L, 2, heads, P, d] or prompt [P, E]."""
        form = "" if prompt is None else "input" if prompt.dim() == 2 else "prefix"
        inputs: dict[str, Any] = {"input_ids": ids[None]}
        if prompt is not None and form == "input":
            inputs = {"inputs_embeds": torch.cat((prompt, self.model.get_input_embeddings()(ids)))[None]}
        if prompt is not None and form == "prefix" and self.family.first is not None:
            inputs["position_ids"] = (torch.arange(len(ids)) + self.family.first + prompt.shape[3])[None]
        if decoded is not None:
            inputs["decoder_input_ids"] = decoded[None]
        if form == "prefix" and self.way == "cache":
            cache = DynamicCache()
            for layer, (keys, values) in enumerate(prompt if prompt is not None else ()):
                cache.update(keys[None], values[None], layer)
            inputs["past_key_values"] = cache
        _front.prefix, _front.calls = (prompt if form == "prefix" and self.way == "attention" else None), 0
        logits: Tensor = self.model(**inputs).logits[0]
        _front.prefix = None
        return logits if decoded is not None else logits[-len(ids) :]

    def score(
        self, ids: Tensor, word: tuple[int, ...], prompt: Tensor | None, start: tuple[int, ...], slot: int
    ) -> Tensor:
        """The log-probability of a word behind (or in the slot of) ids [n]."""
        if start:
            said = self.logits(ids, prompt, torch.tensor([*start, *word[:-1]]))[len(start) - 1 :]
        else:
            said = self.logits(torch.cat((ids, torch.tensor(word[:-1], dtype=torch.long))), prompt)[slot:]
        said = said[: len(word)]
        return said.log_softmax(-1)[torch.arange(len(word)), torch.tensor(word)].sum()
