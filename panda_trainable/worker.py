"""What a worker process holds: one PLM on one device, and one thread."""

import gc
import os

import torch
from torch import nn
from transformers.utils import logging

from panda_trainable.config.setting import Plm, Precision
from panda_trainable.data.tokens import release_tables
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.plm.language_model import wrapped
from panda_trainable.plm.probe import check_training
from panda_trainable.pretrained.files import load_model

_loaded: dict[tuple[Plm, str, Precision], FrozenEncoder] = {}


def load_encoder(plm: Plm, device: str = "cpu", precision: Precision = "float32") -> FrozenEncoder:
    """The frozen PLM, loaded once per process; another PLM takes its place, and its memory is given back.

    Raises:
        ValueError: if the PLM cannot be loaded, is not of its kind, or does not run in the precision.
    """
    key = (plm, device, precision)
    if key not in _loaded:
        release_encoder()
        logging.set_verbosity_error()  # a truncated PLM leaves weights unused on purpose
        logging.disable_progress_bar()
        model = load_model(plm).to(device)
        try:
            encoder = wrapped(plm, model, precision)
            if precision == "bf16":
                _lower(encoder)
        except ValueError as error:
            raise ValueError(f"PLM {plm.source!r}: {error}") from error
        _loaded[key] = encoder
    return _loaded[key]


def _lower(encoder: FrozenEncoder) -> None:
    """Linear layers in bf16: frozen, they are converted once for all, where autocast would do it at every step.

    Raises:
        ValueError: if the PLM cannot be trained so.
    """
    for module in encoder.whole.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
    check_training(encoder)


def release_encoder() -> None:
    """Gives back the memory of the process's PLM, and of the tables that lie beside it on a GPU."""
    _loaded.clear()
    release_tables()
    gc.collect()  # a model's blocks and their replaced forwards refer to one another
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def device() -> str:
    """The device of this process's trainers: `cuda` if available, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def single_threaded() -> None:
    """One thread per worker: under load two in one process are far slower than one."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    torch.set_num_threads(1)
