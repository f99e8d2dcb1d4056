"""What the probe says of every class that AutoModel knows; `python -m tests.kits.plm_table docs/plms.md` writes the page.

Models are small and random. Their sizes are set by the names of a config's fields, since nothing else tells what a
field means; where that does not give a model of a few tokens, the page says so.
"""

import inspect
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
from transformers.utils import logging

from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.plm.reference import ENCODER, first_line

SIZES: Mapping[int, tuple[str, ...]] = MappingProxyType({
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
})  # fmt: skip
"""Size -> fields that are set to it."""

EXTRA: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "esm": {"mask_token_id": 2, "pad_token_id": 1, "position_embedding_type": "rotary", "token_dropout": True},
    "funnel": {"block_sizes": [1, 1]},
    "layoutlmv3": {"coordinate_size": 3, "shape_size": 2},
    "led": {"attention_window": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lilt": {"hidden_size": 48},
    "longformer": {"attention_window": 8},
    "mobilebert": {"intra_bottleneck_size": 16},
    "modernbert": {"local_attention": 8},
    "roc_bert": {"pronunciation_vocab_size": 60, "shape_vocab_size": 60, "pronunciation_embed_dim": 16, "shape_embed_dim": 16},
    "xmod": {"default_language": "en_XX"},
})  # fmt: skip
"""Model type -> fields whose sizes follow from others."""

IDS: Mapping[str, int] = MappingProxyType({"pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 4})
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


LARGEST = 3_000_000
"""Parameters above which a model is not built: the names of its sizes are not known here."""

NO_IDS, CAUSAL, NOT_BUILT = "no ids", "left to right", "not built"
"""Kinds of classes that are told in one line each."""


@dataclass(frozen=True)
class Row:
    """What the probe says of a class.

    Attributes:
        family: model type.
        name: of the class.
        kind: `NO_IDS`, `CAUSAL`, `NOT_BUILT`; empty: all others.
        refused: why it is no encoder of text, or was not built; empty where it is one.
        prefix: why it takes no prefix; empty where it does.
        input: why it takes no input prompt; empty where it does.
        once: whether it computes an input prompt once for all rows.
    """

    family: str
    name: str
    kind: str = ""
    refused: str = ""
    prefix: str = ""
    input: str = ""
    once: bool = False


def model_of(family: str) -> nn.Module:
    """A small random model of a family; of an encoder with a decoder, the encoder.

    Raises:
        ValueError: if its sizes are not known.
    """
    config, kind = small_config(CONFIG_MAPPING[family]), getattr(transformers, _class_of(family))
    with torch.device("meta"):
        size = sum(p.numel() for p in kind(config).parameters())
    if size > LARGEST:
        raise ValueError("its sizes have other names")
    torch.manual_seed(0)
    model: Any = kind(config)
    model = model.get_encoder() if getattr(config, "is_encoder_decoder", False) else model
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.normal_(0, p[0].numel() ** -0.5)
            else:
                p.add_(torch.randn_like(p), alpha=0.05)
    return model.eval()  # type: ignore[no-any-return]


def _class_of(family: str) -> str:
    names = MODEL_MAPPING_NAMES[family]
    return names if isinstance(names, str) else str(names[0])


def row_of(family: str) -> Row:
    """What the probe says of a family's class."""
    name = _class_of(family)
    try:
        if "input_ids" not in inspect.signature(getattr(transformers, name).forward).parameters:
            return Row(family, name, NO_IDS)
        model = model_of(family)
    except Exception as error:  # noqa: BLE001  # configs refuse sizes in many ways
        return Row(family, name, NOT_BUILT, first_line(error))
    name = type(model).__name__
    try:
        encoder = FrozenEncoder(model)
    except ValueError as error:
        if "reads left to right" not in str(error):
            return Row(family, name, "", _reason(name, str(error)))
        try:
            encoder = FrozenEncoder(model_of(family), causal=True)
        except ValueError as why:
            return Row(family, name, CAUSAL, str(why))
    kind = CAUSAL if encoder.causal else ""
    reasons = _reason(name, encoder.refusal), _reason(name, encoder.input_refusal)
    return Row(family, name, kind, "", *reasons, encoder.can_prefill)


def _reason(name: str, message: str) -> str:
    """A message without what the table's columns say, and without numbers that another processor rounds otherwise."""
    short = message.removesuffix(f"; {ENCODER}")
    for start in ("takes no prefix: ", "takes no input prompt: ", "is no encoder of text "):
        short = short.removeprefix(f"{name} {start}")
    short = re.sub(r" by [0-9.e+-]+ of the largest \(.*\)", "", short)
    return short.removeprefix("(").removesuffix(")") if short.startswith("(") else short


def quietly(read: Callable[[], list[Row]]) -> list[Row]:
    """Rows that are read without the warnings of transformers."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    finally:
        logging.set_verbosity(verbosity)


def rows_of(families: Iterable[str]) -> list[Row]:
    """What the probe says of families, in their order."""
    return quietly(lambda: [row_of(family) for family in families])


def line(row: Row) -> str:
    """A family in the table."""
    told = row.refused or "; ".join(
        f"{form}: {reason}" for form, reason in (("prefix", row.prefix), ("input", row.input)) if reason
    )
    prefix, inputs = ("no" if row.refused or reason else "yes" for reason in (row.prefix, row.input))
    return f"| {row.family} | `{row.name}` | {prefix} | {inputs} | {_cell(told)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


def page(rows: Iterable[Row]) -> str:
    """docs/plms.md."""
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.family):
        by_kind[row.kind or ("refused" if row.refused else "encoder")].append(row)
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in by_kind[NOT_BUILT]:
        reasons[_cell(row.refused)].append(row.family)
    return PAGE.format(
        version=transformers.__version__, encoders="".join(map(line, by_kind["encoder"])),
        refused="".join(map(line, by_kind["refused"])),
        causal=_causal(by_kind[CAUSAL]), no_ids=_families(by_kind[NO_IDS]),
        not_built="".join(f"- {reason}: {', '.join(names)}\n" for reason, names in sorted(reasons.items())),
    )  # fmt: skip


ANSWERS: Mapping[str, Callable[[Row], bool]] = MappingProxyType({
    "A prefix, and an input prompt that is computed once for all rows": lambda row: row.once,
    "A prefix, and an input prompt that each row computes": lambda row: not (row.once or row.prefix or row.input),
    "A prefix alone": lambda row: bool(row.input and not row.prefix),
    "An input prompt alone, which each row computes": lambda row: bool(row.prefix and not row.input),
    "No prompt": lambda row: bool(row.prefix and row.input),
})  # fmt: skip
"""What causal models take -> which of them that were wrapped."""


def _causal(rows: Sequence[Row]) -> str:
    """What families that read left to right take as causal models."""
    kinds = {name: [row for row in rows if not row.refused and takes(row)] for name, takes in ANSWERS.items()}
    kinds["Not wrapped"] = [row for row in rows if row.refused]
    return "".join(f"- {name}: {_families(of)}.\n" for name, of in kinds.items() if of)


def _families(rows: Iterable[Row]) -> str:
    return ", ".join(row.family for row in rows)


PAGE = """\
# Which PLMs take prompts

Every PLM is compared with its untouched self when it is loaded (`panda_trainable/plm/probe.py`): texts of a few tokens, alone and in a padded batch, without a prompt, behind an input
prompt that is a real token's embedding, and behind a prefix that is a real token's keys and values. All must equal the model's own `forward` on the same tokens, to 1e-4 of the
largest output; messages tell the difference. Positions and the scale of embeddings are taken from what the model computes. Texts of different lengths share a batch only where padding
is not read, and where the model's attention is reached.

This page says what that gives for small random models of every class that `AutoModel` of transformers {version} knows; a PLM's own config decides when it is loaded. It is written by
`python -m tests.kits.plm_table docs/plms.md`.

Where a model's positions cannot be moved (BART, T5 and their kin, rotary ESM, Nomic), `plm.positions: after_prompt` is the same as `from_zero` with a prefix. A prefix has no bias of
distance where attention has one.

## Encoders
| family | class | prefix | input prompt | why not |
|---|---|---|---|---|
{encoders}
## No encoders of text
They do not give a vector for every token from token ids alone, or only at other sizes than those tried here.

| family | class | prefix | input prompt | why not |
|---|---|---|---|---|
{refused}
## Read left to right
The first token's vector does not change with the last token. They are causal models (`plm.head: lm` where they have one), of which three more things are found by numbers when they are loaded:
- **An input prompt once.** No text changes what a causal model computes for the prompt in front of it: its keys and values are computed once per replica and step, and all rows read them. Compared with prompts that each row computes, of which
  windows of attention see as much. What carries more from token to token than attention reads (convolutions, recurrent layers) computes its prompt with each row, as before.
- **Label words of several tokens as branches** of one row: each sees the text and itself, so that a text is read once for all words. Compared with a row for each word, which is what happens where the numbers differ.
- **The last layer for the tokens alone that answer**, of masked language models too. Where a block cannot be shortened (GPT-2's) it is computed for all.

Rotary embeddings that change with the length of a text (`longrope`, `dynamic`) do so here for text and prompt apart: numbers are the model's own up to the length from which they change.

What they take:
{causal}
## Take no token ids
{no_ids}.

## Not built
A small model cannot be made from the names of the config's fields.

{not_built}"""


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        Path(name).write_text(page(rows_of(MODEL_MAPPING_NAMES)), encoding="utf-8")
