"""A small random Llama as a quantised GGUF file, with a tokenizer of letters."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

HIDDEN, HEADS, KEY_HEADS, LAYERS, LENGTH = 32, 2, 1, 2, 64
TOKENS = ("<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz", "Ġ", "Ġa", "ab")
Q8 = gguf.GGMLQuantizationType.Q8_0
NAMES: Mapping[str, str] = MappingProxyType(
    {
        "model.layers": "blk", "model.embed_tokens": "token_embd", "model.norm": "output_norm",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }
)  # fmt: skip


def write_gguf(path: Path, architecture: str = "llama") -> LlamaForCausalLM:
    """Writes a random Llama with quantised matrices; the model with the weights that the file stands for."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(TOKENS), hidden_size=HIDDEN, intermediate_size=2 * HIDDEN, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, max_position_embeddings=LENGTH,
            tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(LENGTH)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(TOKENS) - 3))
    writer.add_token_merges(["Ġ a", "a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() == 1:
                writer.add_tensor(_called(name), weights.numpy())
                continue
            quantised = gguf.quants.quantize(weights.numpy(), Q8)
            weights.copy_(torch.from_numpy(gguf.quants.dequantize(quantised, Q8)))
            writer.add_tensor(_called(name), gguf.quants.quantize(_turned(name, weights.numpy()), Q8), raw_dtype=Q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _called(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _turned(name: str, weights: np.ndarray) -> np.ndarray:
    """Rows of queries and keys as llama.cpp has them: the two halves of a head alternate."""
    heads = {"q_proj": HEADS, "k_proj": KEY_HEADS}.get(name.split(".")[-2], 0)
    if not heads:
        return weights
    return np.ascontiguousarray(weights.reshape(heads, 2, -1, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape))
