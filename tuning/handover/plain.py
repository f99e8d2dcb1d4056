"""The plain Hugging Face model of a winner's PLM, and which of its states or logits answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from panda_trainable.prediction.winner import Winner
from panda_trainable.pretrained.files import checked_folder
from panda_trainable.pretrained.kinds import KINDS
from panda_trainable.training.heads import HEADS


@dataclass(frozen=True)
class Plain:
    """The plain model as its user loads it.

    Attributes:
        loader: the class of transformers.
        settings: that `from_pretrained` is given beside the place.
        encodes: whether of an encoder-decoder the encoder alone is used.
        base: its place: hub id, or folder.
        on_hub: whether others find it there.
        name: what it is called among people: hub id, or the end of its place.
    """

    loader: str
    settings: Mapping[str, Any]
    encodes: bool
    base: str
    on_hub: bool
    name: str

    def load(self, folder: Path) -> Any:
        """The model, of files on this machine."""
        import transformers

        loader = getattr(transformers, self.loader)
        model = loader.from_pretrained(folder, dtype="float32", trust_remote_code=False, **self.settings).eval()
        return model.get_encoder() if self.encodes else model


def plain_model(winner: Winner) -> Plain:
    """The plain model of a winner's PLM."""
    plm = winner.plm
    folder = checked_folder(plm)
    named = plm.source.count("/") <= 1 and not plm.source.startswith(("package:", ".", "/", "~")) and not plm.folder
    on_hub = named and not Path(plm.source).exists()
    base = plm.source if on_hub else str(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    encodes = bool(config.get("is_encoder_decoder")) and not plm.has_own_head
    settings = {} if plm.layers is None else {"num_hidden_layers": plm.layers}
    loader = KINDS[plm.kind].loader if plm.has_own_head else "AutoModel"
    return Plain(loader, settings, encodes, base, on_hub, base if on_hub else plm.label)


SLOTS: Mapping[str, str] = MappingProxyType({"masked_lm": "mask", "causal_lm": "last", "seq2seq_lm": "decoder"})


def reads(winner: Winner) -> str:
    """Which states or logits answer: `first`, `mean` or `last` of the text's, `tokens`: all; `mask` or `decoder`."""
    if winner.plm.has_own_head:
        return SLOTS[winner.plm.kind]
    if HEADS[winner.task.kind].reads == "tokens":
        return "tokens"
    return {"cls": "first", "mean": "mean", "answer": "last"}[winner.plm.pooling]
