"""A winner as PEFT adapters on the plain Hugging Face model: tried with PEFT before anything is kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors.torch import save_file
from torch import Tensor

from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.plm.language_model import LanguageModel
from panda_trainable.plm.reference import first_line
from panda_trainable.prediction.students import stored_prompts
from panda_trainable.prediction.winner import Winner
from panda_trainable.pretrained.files import checked_folder
from panda_trainable.prompt.adapters import TASK_TYPES, write_adapter
from panda_trainable.prompt.soft_prompt import SoftPrompt
from panda_trainable.prompt.stored import stored_source
from panda_trainable.training.heads import HEADS, READOUTS, Values, Verbaliser
from panda_trainable.worker import device, load_encoder
from tuning.experiment.problems import Misuse, Problem
from tuning.handover.card import model_card
from tuning.handover.plain import Plain, plain_model, reads

HEAD, READOUT, README = "head.safetensors", "readout.json", "README.md"
TOLERANCE = 1e-4
"""Distance of states or logits, relative to the largest, from which PEFT is said to compute something else."""

OWN = "use --form own: the winner's folder, docs/prompt-format.md, which panda-tune predict reads"
PROBES = ((5, 7, 6, 5), (6, 7, 5, 0)), ((0, 0, 1, 1), (0, 1, 0, 0)), (4, 3)
"""Ids, token types and lengths of two harmless rows, the second padded."""


def export_adapters(winner: Winner, to: Path) -> list[str]:
    """Writes a winner as PEFT adapters: that of the best seed in selection in a folder, and one of each seed below it.

    Beside each adapter lie the trained head, what reads it (`readout.json`) and a model card.

    Args:
        winner: with its PLM on this machine.
        to: the folder, not there yet or empty.

    Returns:
        PEFT's task type, and what was written.

    Raises:
        Misuse: if PEFT is not installed, or cannot say what the winner is: with the part that it cannot say, and the
            form that can. Then nothing is written.
    """
    check_place(to)
    if said := next((why for holds, why in CANNOT if holds(winner)), None):
        raise Misuse(Problem(f"{winner.task.name} · {winner.method}", said, remedy=OWN))
    try:
        import peft  # noqa: F401
    except ImportError as error:
        remedy = "pip install 'panda-tune[peft]'; or --form own"
        raise Misuse(
            Problem("--form peft", "needs peft: adapters are tried before they are kept", remedy=remedy)
        ) from error
    encoder, stored, plain = load_encoder(winner.plm, device()), stored_prompts(winner), plain_model(winner)
    source = stored_source(stored, encoder.device)
    made = source.of_task(source.prompts(), 0)
    assert made is not None, "a winner without a prompt is refused"
    prompts = made.detach()
    draft = to.with_name(f".{to.name}-{uuid4().hex[:8]}")
    try:
        draft.mkdir(parents=True)
        task_type = _tried(winner, encoder, plain, prompts, draft / "tried")
        for seed, own, prompt in zip(winner.seeds, stored, prompts, strict=True):
            for folder in (draft / f"seed-{seed}", *([draft] if seed == winner.best_seed else [])):
                folder.mkdir(exist_ok=True)
                write_adapter(folder, prompt, task_type, plain.base)
                _write_readout(folder, winner, encoder, own)
                (folder / README).write_text(model_card(winner, plain, seed, task_type), encoding="utf-8")
        if to.is_dir():
            to.rmdir()  # which is empty
        draft.rename(to)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return [task_type, *(f"seed-{seed}" for seed in winner.seeds)]


def check_place(to: Path) -> None:
    """Refuses a place where something is already.

    Raises:
        Misuse: if it is neither absent nor an empty folder.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise Misuse(Problem(f"--to {to}", "is there already", remedy="name a folder that is not there, or empty"))


def _per_row(winner: Winner) -> bool:
    stored = stored_prompts(winner)
    return stored_source(stored[:1], torch.device("cpu")).per_row


CANNOT: tuple[tuple[Callable[[Winner], bool], str], ...] = (
    (lambda winner: winner.holds == "model", "all weights were trained: there is no prompt that an adapter could hold"),
    (lambda winner: winner.holds == "head", "there is no prompt that an adapter could hold, but a head alone"),
    (_per_row, "each row has a prompt of its own, made of several; a PEFT adapter holds one for all rows"),
    (
        lambda winner: winner.plm.kind == "seq2seq_lm" and winner.form == "prefix",
        "its prefix stands in the encoder; PEFT's prefix of an encoder-decoder stands in the decoder",
    ),
)
"""Whether PEFT has no word for a winner, and the part that it cannot say; what it computes otherwise is found by trying."""


def _tried(winner: Winner, encoder: FrozenEncoder, plain: Plain, prompts: Tensor, folder: Path) -> str:
    """The first of PEFT's task types behind which the plain model computes what ours does, for all replicas.

    Raises:
        Misuse: if it does so behind none.
    """
    from peft import PeftModel

    folder.mkdir()
    wanted = [_ours(encoder, prompt) for prompt in prompts]
    failed: list[str] = []
    for task_type in TASK_TYPES[_reads(winner)]:
        try:
            model = plain.load(checked_folder(winner.plm))
            for prompt, ours in zip(prompts, wanted, strict=True):
                write_adapter(folder, prompt, task_type, plain.base)
                _compare(ours, _theirs(PeftModel.from_pretrained(model, str(folder)).eval(), encoder), encoder)
            shutil.rmtree(folder)
            return task_type
        except Exception as error:  # noqa: BLE001  # whatever PEFT does with a model, the reason is told
            failed.append(f"{task_type}: {first_line(error)}")
    part = f"the {winner.form} on {type(encoder.whole).__name__}{_guess(winner, encoder)}"
    raise Misuse(
        Problem(f"{winner.task.name} · {winner.method}", f"PEFT cannot say {part} ({'; '.join(failed)})", remedy=OWN)
    )


def _compare(ours: Tensor, theirs: Tensor, encoder: FrozenEncoder) -> None:
    """Refuses other numbers than ours, where no padding is."""
    off = float((theirs[:, -ours.shape[1] :] - ours)[_real(encoder, ours)].abs().max())
    if not off <= TOLERANCE * max(1.0, float(ours.abs().max())):
        raise ValueError(f"its numbers differ by {off:.1e}")


def _guess(winner: Winner, encoder: FrozenEncoder) -> str:
    """Why PEFT may compute something else, where that is known of the PLM."""
    config = encoder.model.config
    reasons = {
        ", whose text counts positions from 0 (plm.positions)": winner.form == "prefix" and not encoder.after_prompt,
        ", whose layers read a window that PEFT counts the prefix in": winner.form == "prefix"
        and bool(getattr(config, "sliding_window", None)),
        ", whose embeddings are scaled where it is given ids alone": winner.form == "input" and encoder.scale != 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _reads(winner: Winner) -> str:
    """What answers: the row of TASK_TYPES."""
    return winner.plm.kind if winner.plm.has_own_head else HEADS[winner.task.kind].reads


def _inputs(encoder: FrozenEncoder) -> tuple[Tensor, Tensor, Tensor]:
    """[n, T] ids and types, and [n] lengths of the rows on which both are compared: one where padding is read."""
    rows = 2 if encoder.takes_padding else 1
    ids, types = (torch.tensor(each[:rows], device=encoder.device) for each in PROBES[:2])
    has_types = "token_type_ids" in encoder.takes and getattr(encoder.model.config, "type_vocab_size", 0) > 1
    return (
        ids,
        types if has_types and not _own(encoder) else types * 0,
        torch.tensor(PROBES[2][:rows], device=encoder.device),
    )


def _real(encoder: FrozenEncoder, ours: Tensor) -> Tensor:
    """[n, T] which of what is compared is of no padding."""
    _, _, lengths = _inputs(encoder)
    if _own(encoder) and encoder.start:
        return torch.ones(ours.shape[:2], dtype=torch.bool)
    return torch.arange(ours.shape[1]) < lengths.cpu()[:, None]


def _own(encoder: FrozenEncoder) -> Any:
    """Whether a language model's own head answers; typed loosely, since it then is a LanguageModel."""
    return encoder if isinstance(encoder, LanguageModel) else None


@torch.inference_mode()
def _ours(encoder: FrozenEncoder, prompt: Tensor) -> Tensor:
    """[n, T, …] our states, or logits where a language model's own head answers, of rows behind a prompt."""
    ids, types, lengths = _inputs(encoder)
    owner, model = torch.zeros_like(lengths), _own(encoder)
    given = (ids, types, lengths, prompt[None].to(encoder.device), owner)
    if model is None:
        return encoder.encode(*given, tokens=True).cpu()
    if model.start:
        hidden, mask = model.read_by_decoder(*given)
        states = model.decode(
            torch.tensor([[*model.start, *PROBES[0][0][:2]]] * len(ids), device=ids.device), hidden, mask
        )
    else:
        states = model.encode(*given, tokens=True)
    return model.logits(states.flatten(0, 1)).unflatten(0, states.shape[:2]).cpu()


@torch.inference_mode()
def _theirs(model: Any, encoder: FrozenEncoder) -> Tensor:
    """[n, …, …] the same of the plain model behind PEFT's adapter."""
    ids, types, lengths = (each.cpu() for each in _inputs(encoder))
    own = _own(encoder)
    given = {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}
    if types.any():
        given["token_type_ids"] = types
    if own is None:
        return model(**given).last_hidden_state
    if own.start:
        given["decoder_input_ids"] = torch.tensor([[*own.start, *PROBES[0][0][:2]]] * len(ids))
    return model(**given).logits


def _write_readout(folder: Path, winner: Winner, encoder: FrozenEncoder, stored: SoftPrompt) -> None:
    """What makes answers of the plain model's states or logits: the trained head, or label words as tokens."""
    task, model = winner.task, _own(encoder)
    if stored.bias.numel():
        scale = {} if stored.label_scale is None else {"label_scale": stored.label_scale}
        save_file({"weight": stored.weight.contiguous(), "bias": stored.bias.contiguous(), **scale}, folder / HEAD)
    words: dict[str, Any] = {}
    if task.asked is not None:
        words["template"] = task.asked.template
    if isinstance(head := READOUTS[task.readout](encoder, task), Verbaliser):
        words["words"] = [[list(word) for word in of_class] for of_class in head.answers.words]
    if isinstance(head, Values):
        words["numbers"] = list(head.numbers)
    if model is not None and model.start:
        words["decoder_start"] = list(model.start)
    data = {
        "kind": task.kind, "reads": reads(winner), "classes": list(task.classes), "text": list(task.text),
        "choices": list(task.choices), "max_length": winner.max_length, **words,
    }  # fmt: skip
    (folder / READOUT).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
