"""What the probe says of every class that AutoModel knows; `python -m tests.kits.plm_table FILE` puts it into a page.

Models are small and random. Sizes are set by the names of fields: a config says nothing of what they mean.
"""

import inspect
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
from transformers.utils import logging

from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.plm.reference import ENCODER, first_line

SIZES: Mapping[int, tuple[str, ...]] = {
    60: ("vocab_size", "entity_vocab_size", "num_buckets", "src_vocab_size", "tgt_vocab_size", "vocab_size_per_layer_input",
         "text_vocab_size"),
    16: ("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "embed_dim", "input_embedding_size",
         "output_embedding_size", "true_hidden_size", "entity_emb_size", "d_embed", "lora_rank", "n_embed", "dim_model",
         "hidden_dim", "projection_dim", "word_embed_proj_dim", "q_lora_rank", "kv_lora_rank", "qk_head_dim", "d_state",
         "attention_hidden_size", "embed_dim_per_layer", "hidden_size_per_layer_input", "lru_width", "shared_expert_dim"),
    2: ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "num_encoder_layers",
        "num_decoder_layers", "num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads",
        "decoder_attention_heads", "num_key_value_heads", "n_kv_heads", "num_experts_per_tok", "num_experts_per_token",
        "num_encoder_attention_heads", "num_decoder_attention_heads", "moe_topk", "moe_k", "num_blocks", "num_selected_experts",
        "top_k", "num_mem_blocks", "router_topk", "speech_encoder_layers", "t2u_encoder_layers", "t2u_decoder_layers"),
    8: ("head_dim", "d_kv", "d_head", "attention_head_size", "kv_channels", "v_head_dim", "qk_nope_head_dim",
        "qk_rope_head_dim", "rotary_dim", "dim_head", "attention_head_dim", "global_head_dim", "key_value_dim"),
    24: ("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_inner", "ffn_hidden_size", "n_inner",
         "moe_intermediate_size", "dim_ff", "ffn_size", "shared_expert_intermediate_size", "intermediate_dim",
         "block_ff_dim", "expert_ffn_hidden_size", "feed_forward_size"),
    64: ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx", "max_encoder_position_embeddings",
         "max_2d_position_embeddings", "max_source_positions", "max_sequence_length", "max_seq_length"),
    4: ("num_experts", "n_routed_experts", "num_local_experts", "n_shared_experts", "moe_num_experts", "local_attention_size"),
}  # fmt: skip
"""Size -> fields that are set to it."""

LARGEST = 3_000_000
"""Parameters above which a model is not tried: the names of its sizes are not known."""

SKIPPED = "not tried: "


@dataclass(frozen=True)
class Row:
    """What the probe says of a class.

    Attributes:
        family: model type.
        name: of the class.
        prefix: why it takes none; empty where it does; None: the class is refused or was not tried.
        input: the same of input prompts.
        reason: why the class is refused or was not tried.
        mixed: whether texts of different lengths may be in one batch.
    """

    family: str
    name: str
    prefix: str | None = None
    input: str | None = None
    reason: str = ""
    mixed: bool = True


EXTRA: Mapping[str, Mapping[str, Any]] = {
    "esm": {"mask_token_id": 2, "pad_token_id": 1, "position_embedding_type": "rotary", "token_dropout": True},
    "funnel": {"block_sizes": [1, 1]},
    "layoutlmv3": {"coordinate_size": 3, "shape_size": 2},
    "led": {"attention_window": 8},
    "lilt": {"hidden_size": 48},
    "longformer": {"attention_window": 8},
    "mobilebert": {"intra_bottleneck_size": 16},
    "modernbert": {"local_attention": 8},
    "roc_bert": {"pronunciation_vocab_size": 60, "shape_vocab_size": 60, "pronunciation_embed_dim": 16, "shape_embed_dim": 16},
    "xmod": {"default_language": "en_XX"},
}
"""Model type -> fields whose sizes follow from others."""

IDS: Mapping[str, int] = {"pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 4}
"""Special tokens of a vocabulary of 60, where a config has larger ids; all others are 2."""


def small_config(config: Any) -> Any:
    """A config of a class with all known sizes small, and those of its parts."""
    known = {name: size for size, names in SIZES.items() for name in names}
    usual, other_names = config().to_dict(), getattr(config, "attribute_map", {})
    changes: dict[str, Any] = {name: known[name] for name in usual if name in known and name not in other_names}
    for name, value in usual.items():
        if name.endswith("token_id") and isinstance(value, int) and value >= known["vocab_size"]:
            changes[name] = IDS.get(name, 2)
    for name, part in getattr(config, "sub_configs", {}).items():
        if hasattr(part, "model_type"):
            changes[name] = small_config(part)
    return config(**{**changes, **EXTRA.get(config.model_type, {})})


def model_of(family: str) -> nn.Module:
    """A small random model of a family: of an encoder and a decoder, the encoder."""
    names = MODEL_MAPPING_NAMES[family]
    config = small_config(CONFIG_MAPPING[family])
    kind = getattr(transformers, names if isinstance(names, str) else names[0])
    with torch.device("meta"):
        size = sum(p.numel() for p in kind(config).parameters())
    if size > LARGEST:
        raise MemoryError(f"its sizes are not known ({size:,} parameters)")
    torch.manual_seed(0)
    model: Any = kind(config)
    if getattr(config, "is_encoder_decoder", False):
        model = model.get_encoder()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.normal_(0, p[0].numel() ** -0.5)
            else:
                p.add_(torch.randn_like(p), alpha=0.05)
    return model.eval()


def row_of(family: str) -> Row:
    names = MODEL_MAPPING_NAMES[family]
    name = names if isinstance(names, str) else names[0]
    try:
        kind = getattr(transformers, name)
        if "input_ids" not in inspect.signature(kind.forward).parameters:
            return Row(family, name, reason="takes no token ids")
        model = model_of(family)
    except Exception as error:
        return Row(family, name, reason=SKIPPED + first_line(error))
    try:
        encoder = FrozenEncoder(model)
    except ValueError as error:
        return Row(family, type(model).__name__, reason=str(error))
    return Row(family, type(model).__name__, encoder.refusal, encoder.input_refusal, "", encoder.takes_padding)


if __name__ == "__main__":
    import time
    warnings.simplefilter("ignore"); logging.set_verbosity_error(); torch.set_num_threads(1)
    for f in sys.argv[1:] or MODEL_MAPPING_NAMES:
        t = time.time()
        r = row_of(f)
        if r.reason != "takes no token ids":
            print(f"{r.family}|{r.name}|{r.prefix}|{r.input}|{r.mixed}|{r.reason}|{time.time()-t:.2f}", flush=True)
