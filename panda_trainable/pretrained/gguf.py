"""GGUF files: quantised PLMs, dequantised once into a folder that loads like any other. Imports no torch by itself."""

import importlib.util
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any

from panda_trainable.config.keys import content_key
from panda_trainable.library import PromptLibrary

GGUF = ".gguf"
NEEDS = ("gguf", "accelerate")
"""Packages of the extra `gguf`, with which transformers reads such files."""


def dequantised(file: Path, library: PromptLibrary) -> Path:
    """The folder of a quantised PLM in the library: config, float32 weights and tokenizer; made where it is not there.

    Args:
        file: a GGUF file, which holds all three, and neither code nor pickles.
        library: where it is kept.

    Raises:
        ValueError: if it is damaged, of an architecture that transformers does not read from GGUF, or what reads it is
            not installed.
    """
    lacking = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if lacking:
        raise ValueError(
            f"PLM {file.name!r}: GGUF is read by {' and '.join(NEEDS)}, and {' and '.join(lacking)} is not installed; "
            "pip install 'panda-tune[gguf]'"
        )
    with file.open("rb") as opened:
        key = content_key("plms", file_digest(opened, "sha256").hexdigest())
    return library.get_or_make("plms", key, partial(_dequantise, file), {"task": file.name})


def _dequantise(file: Path, folder: Path) -> None:
    """Writes what a GGUF file holds as transformers saves models, without the mark of quantisation.

    Weights stay float32: in bfloat16 logits would move by 0.16 (SmolLM2-135M, Q4_1).
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    place: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        config = _config(place)
        loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = loader.from_pretrained(**place, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**place)
    except Exception as error:  # the libraries raise many kinds; for a user all mean the same
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"PLM {file.name!r}: cannot be read as GGUF ({reason[:200]}); it must be whole, and of an architecture "
            "that transformers reads from GGUF; else give the PLM's safetensors"
        ) from error
    if hasattr(model.config, "quantization_config"):  # with it transformers refuses to save a model
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    type(model).from_pretrained(None, config=model.config, state_dict=model.state_dict()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _config(place: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(**place)
