"""KINDS: the kinds of PLMs, how each is loaded, and which of them a model's files hold. Imports no torch."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from panda_trainable.config.setting import PlmHead, PlmKind


@dataclass(frozen=True)
class Kind:
    """What is done with the PLMs of a kind.

    Attributes:
        loader: the class of transformers that loads it with its own head; empty: it has none.
        heads: what may answer, the usual first.
        slot: where its own head answers: in the place of the `mask` token, behind the `end` of the text, or in the
            `decoder`, which has read nothing yet; empty: nowhere.
        causal: whether its body reads left to right.
        body: the part of the model that reads text behind a prompt.
        reader: the part whose states the model's own head reads.
        endings: how the names of its classes end in `architectures` of config.json.
    """

    loader: str
    heads: tuple[PlmHead, ...]
    slot: Literal["", "mask", "end", "decoder"]
    causal: bool = False
    body: Callable[[Any], Any] = lambda model: model.base_model
    reader: Callable[[Any], Any] = lambda model: model.base_model
    endings: tuple[str, ...] = ()


def _decoder(model: Any) -> Any:
    return model.get_decoder()


KINDS: Mapping[PlmKind, Kind] = MappingProxyType(
    {
        "seq2seq_lm": Kind(
            "AutoModelForSeq2SeqLM", ("lm",), "decoder", body=lambda model: model.get_encoder(), reader=_decoder,
            endings=("ForConditionalGeneration", "T5WithLMHeadModel"),
        ),
        "masked_lm": Kind("AutoModelForMaskedLM", ("lm",), "mask", endings=("ForMaskedLM", "ForPreTraining")),
        "causal_lm": Kind(
            "AutoModelForCausalLM", ("lm", "linear"), "end", causal=True, reader=_decoder,
            endings=("ForCausalLM", "LMHeadModel"),
        ),
        "encoder": Kind("", ("linear",), ""),
    }
)  # fmt: skip
"""Kind -> what is done with its PLMs, in the order in which their classes are recognised.

A masked or encoder-decoder language model whose own head is not asked for is an `encoder`: its head is left out.
"""

_USUAL: Mapping[PlmKind, PlmHead] = MappingProxyType(
    {"encoder": "linear", "masked_lm": "linear", "causal_lm": "lm", "seq2seq_lm": "lm"}
)
"""What a model's files hold -> the head that is asked for where nobody says it."""


def kind_in(folder: Path) -> PlmKind:
    """The kind of the model whose files lie in a folder, as the classes in its config tell it.

    Without a class, or where the config cannot be read, which loading will tell, it is an encoder.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        classes = [str(name) for name in config.get("architectures") or ()]
    except (ValueError, AttributeError, TypeError, OSError):
        return "encoder"
    return next(
        (kind for kind, row in KINDS.items() if row.endings and any(name.endswith(row.endings) for name in classes)),
        "encoder",
    )


def used_as(found: PlmKind, asked: PlmHead | None) -> tuple[PlmKind, PlmHead | None]:
    """As which kind a model is used, and the head where it is not the usual of its files.

    Args:
        found: the kind of its files.
        asked: `plm.head` of the experiment file; None: the usual.
    """
    head = asked or _USUAL[found]
    other = None if head == _USUAL[found] else head
    if head == "linear":
        return ("causal_lm" if found == "causal_lm" else "encoder"), other
    return ("masked_lm" if found == "encoder" else found), other  # loading tells it where there is no head
