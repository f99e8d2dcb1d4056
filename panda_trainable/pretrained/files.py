"""Finds, identifies and loads pretrained language models: never remote code, never pickled weights."""

import json
import os
from collections.abc import Callable
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from panda_trainable.config.keys import FAMILY_VERSIONS
from panda_trainable.config.setting import Plm
from panda_trainable.library import CARD
from panda_trainable.pretrained.gguf import GGUF
from panda_trainable.pretrained.kinds import KINDS
from panda_trainable.pretrained.packages import PACKAGE, package_folder

FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
"""What makes a PLM: weights, config and tokenizer; pickled weights are never read."""

UNREAD = "pooler"
"""Weights that a file may lack, since no head here reads them."""


def plm_place(source: str) -> Path:
    """The folder of a PLM's files, or its GGUF file.

    Args:
        source: `package:<module>/<path>`, a folder or GGUF file, or a hub id (then fetched or found in the cache).

    Raises:
        ValueError: if it is nowhere to be found, or a folder that holds no safetensors.
    """
    packaged = package_folder(source) if source.startswith(PACKAGE) else None
    try:
        folder = packaged or Path(source).expanduser()
        there = folder.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"PLM {source!r}: is no folder's name ({error})") from error
    if folder.suffix == GGUF and folder.is_file():
        return folder.resolve()
    if not there and source.count("/") <= 1 and not source.startswith((PACKAGE, ".", "/")):
        folder = _hub_folder(source)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"PLM {source!r}: {folder} is no folder with a config.json and no {GGUF} file; give a hub id, a folder, "
            f"a {GGUF} file, or one of the two of an installed package: package:<module>/<path>"
        )
    if not list(folder.glob("*.safetensors")):
        raise ValueError(
            f"PLM {source!r}: {folder} has no *.safetensors; pickled weights are not loaded: save it with safe serialization"
        )
    return folder.resolve()


def _hub_folder(source: str) -> Path:
    from huggingface_hub import snapshot_download

    offline = os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "TRUE")
    try:
        return Path(snapshot_download(source, allow_patterns=list(FILES), local_files_only=offline))
    except Exception as error:  # the hub's client raises many kinds; for a user all mean the same
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"PLM {source!r}: not found as a folder, in the cache or on the hub ({reason})") from error


def plm_files(folder: Path) -> str:
    """Hash of a PLM's weights, config and tokenizer files: its identity, wherever it lies."""
    whole = sha256()
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern)} - {folder / CARD}):
        with path.open("rb") as file:
            whole.update(f"{path.name} {file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()[:20]


def family_version(folder: Path) -> int:
    """Which numbers a PLM's family has, as its config names it: 0 where they never changed."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return FAMILY_VERSIONS.get(config["model_type"], 0)
    except (ValueError, KeyError, TypeError):  # which loading it tells
        return 0


@lru_cache(maxsize=4)
def checked_folder(plm: Plm) -> Path:
    """The folder of a PLM on this machine, its files the very ones that the plan was made with.

    Raises:
        ValueError: if the files here are others.
    """
    folder = Path(plm.folder) if plm.folder else plm_place(plm.source)
    if plm_files(folder) != plm.files:
        raise ValueError(
            f"PLM {plm.source!r}: the files in {folder} are not those the plan was made with; put the same PLM on every node"
        )
    return folder


@lru_cache(maxsize=4)
def load_tokenizer(plm: Plm) -> Any:
    """The fast tokenizer of a PLM."""
    from transformers import AutoTokenizer

    tokenizer = _loaded(plm, "tokenizer", lambda folder: AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError(f"PLM {plm.source!r}: its folder has no tokenizer; put its tokenizer.json there")
    return tokenizer


def _loaded(plm: Plm, what: str, load: Callable[[Path], Any]) -> Any:
    """What a function loads from the PLM's folder.

    Raises:
        ValueError: whatever goes wrong: the libraries raise many kinds, and for a user all mean the same.
    """
    folder = checked_folder(plm)
    try:
        return load(folder)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"PLM {plm.source!r}: its {what} in {folder} cannot be loaded ({reason[:200]})") from error


def load_config(plm: Plm) -> Any:
    """The config of a PLM, as its files have it."""
    from transformers import AutoConfig

    return _loaded(plm, "config", lambda folder: AutoConfig.from_pretrained(folder, trust_remote_code=False))


def load_model(plm: Plm) -> Any:
    """The PLM with pretrained weights, truncated to `plm.layers`, in float32, frozen; without a head that nobody reads.

    Raises:
        ValueError: if `layers` is more than it has, or its file lacks weights.
    """
    import transformers

    config = load_config(plm)
    if plm.layers is not None:
        depth = getattr(config, "num_hidden_layers", None)  # a config of text and images has none of its own
        if not isinstance(depth, int):
            raise ValueError(f"PLM {plm.source!r}: its config has no num_hidden_layers to cut; leave layers out")
        if not 1 <= plm.layers <= depth:
            raise ValueError(f"PLM {plm.source!r}: layers must be 1 to {depth}, got {plm.layers}")
        config.num_hidden_layers = plm.layers
    settings = {"config": config, "use_safetensors": True, "trust_remote_code": False, "dtype": "float32"}
    loader = getattr(transformers, KINDS[plm.kind].loader if plm.has_own_head else "AutoModel")
    model, info = _loaded(
        plm, "model", lambda folder: loader.from_pretrained(folder, output_loading_info=True, **settings)
    )
    missing = sorted(key for key in info["missing_keys"] if UNREAD not in key)
    if missing:  # transformers would fill them with random numbers
        remedy = "; where that is its language model's head, use plm.head: linear" if plm.has_own_head else ""
        raise ValueError(f"PLM {plm.source!r}: its file lacks weights: {', '.join(missing[:5])}{remedy}")
    if getattr(config, "is_encoder_decoder", False) and not plm.has_own_head:
        model = model.get_encoder()
    if plm.kind != "encoder":
        model.config.use_cache = False  # nothing is decoded: keys and values would be kept for nobody
    return model.eval().requires_grad_(False)
