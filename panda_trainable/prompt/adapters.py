"""Prompts as PEFT adapters, and adapters as prompts: a config and one tensor, written and read without PEFT."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from panda_trainable.prompt.soft_prompt import of_tokens, tokens_of

CONFIG, WEIGHTS, TENSOR = "adapter_config.json", "adapter_model.safetensors", "prompt_embeddings"
PREFIX, INPUT = "PREFIX_TUNING", "PROMPT_TUNING"
TASK_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "causal_lm": ("CAUSAL_LM",),
        "seq2seq_lm": ("SEQ_2_SEQ_LM",),
        "masked_lm": ("FEATURE_EXTRACTION",),
        "pooled": ("SEQ_CLS", "FEATURE_EXTRACTION"),
        "tokens": ("TOKEN_CLS", "FEATURE_EXTRACTION"),
    }
)
"""What answers, a kind of language model by its own head or what a trained head reads -> PEFT's task types that say it, the best first.

Behind SEQ_CLS and TOKEN_CLS a model is told token types, which FEATURE_EXTRACTION drops; that in turn takes prefixes of
more models.
"""


def adapter_config(prompt: Tensor, task_type: str, base: str) -> dict[str, Any]:
    """PEFT's configuration of a prompt.

    Args:
        prompt: prefix [L, 2, heads, P, d] or input prompt [P, E].
        task_type: of TASK_TYPES.
        base: name or folder of the plain model.
    """
    shared = {
        "task_type": task_type, "base_model_name_or_path": base, "num_virtual_tokens": prompt.shape[-2],
        "num_transformer_submodules": 1, "inference_mode": True,
    }  # fmt: skip
    if prompt.dim() == 2:
        return {"peft_type": INPUT, **shared, "num_layers": 1, "num_attention_heads": 1, "token_dim": prompt.shape[1]}
    layers, _, heads, _, dim = prompt.shape
    return {
        "peft_type": PREFIX, **shared, "num_layers": layers, "num_attention_heads": heads, "token_dim": heads * dim,
        "encoder_hidden_size": heads * dim, "prefix_projection": False,
    }  # fmt: skip


def write_adapter(folder: Path, prompt: Tensor, task_type: str, base: str) -> None:
    """Writes the two files of an adapter into a folder: PEFT's prefix is [P, L·2·heads·d], as `tokens_of` flattens it."""
    config = adapter_config(prompt, task_type, base)
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    save_file({TENSOR: tokens_of(prompt).detach().cpu().float().contiguous()}, folder / WEIGHTS)


def read_adapter(folder: Path) -> Tensor:
    """The prompt of an adapter: a prefix [L, 2, heads, P, d] or an input prompt [P, E].

    Raises:
        ValueError: if it holds no prompt, or is damaged; pickled weights are not read.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = config["peft_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG} cannot be read ({error!r})") from error
    if kind not in (PREFIX, INPUT):
        raise ValueError(f"{folder} is an adapter of type {kind}, which is no prompt; there are {PREFIX} and {INPUT}")
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}; have it saved as safetensors: pickled weights are not loaded")
    try:
        tokens = load_file(folder / WEIGHTS)[TENSOR]
        length = config["num_virtual_tokens"]
        parts = config.get("num_transformer_submodules") or 1
        if kind == INPUT or parts == 1:
            shape = (length, config["token_dim"]) if kind == INPUT else _prefix(config)
            return of_tokens(tokens.reshape(length, -1), shape).reshape(shape)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged, or not of its {CONFIG} ({error})") from error
    raise ValueError(
        f"{folder} is a prefix of an encoder-decoder's decoder; prefixes stand in the encoder here: no prompt to import"
    )


def _prefix(config: Mapping[str, Any]) -> tuple[int, ...]:
    """[L, 2, heads, P, d] of an adapter's configuration."""
    heads = config["num_attention_heads"]
    return config["num_layers"], 2, heads, config["num_virtual_tokens"], config["token_dim"] // heads
