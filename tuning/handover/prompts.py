"""Prompts made elsewhere, taken into an experiment's library as sources."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import torch

from panda_trainable.config.setting import Plm
from panda_trainable.data.task_table import TASKS
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.prompt.foreign import fitted, read_foreign
from panda_trainable.prompt.soft_prompt import SoftPrompt
from panda_trainable.transfer.lineage import FILE
from panda_trainable.worker import load_encoder
from tuning.experiment.experiment import Experiment
from tuning.experiment.explanations import TASK_NAME
from tuning.experiment.problems import Misuse, Problem, near
from tuning.experiment.storage import library_of
from tuning.planning.imported import form_and_length, given_card, given_key, given_keys
from tuning.planning.resolve import plms_of


@dataclass(frozen=True)
class Imported:
    """A prompt that was taken in.

    Attributes:
        name: as a source.
        plm: for which it is, by label.
        form: `input` or `prefix`.
        length: P.
        shape: of the prompt.
    """

    name: str
    plm: str
    form: str
    length: int
    shape: tuple[int, ...]


def import_prompt(
    experiment: Experiment, path: Path, name: str = "", plm: str = "", tensor: str = "", declared: Sequence[int] = ()
) -> Imported:
    """Puts a prompt made elsewhere into the library of an experiment, as a source of one of its PLMs.

    Its key follows from its numbers and the PLM's files: the same prompt imported twice is there once. A name that
    had another prompt has this one from then on; studies of before keep theirs.

    Args:
        experiment: its file, checked.
        path: a file, or the folder of a PEFT adapter, as `read_foreign` reads it.
        name: as a source; empty: as the file is called.
        plm: for which of the experiment's PLMs, by name; empty: it has one.
        tensor: which, where the file holds several.
        declared: its shape; empty: as the file has it.

    Raises:
        Misuse: if the name is taken, the file is unsafe, damaged or no prompt of the PLM; then nothing is written.
    """
    name = name or path.stem
    _check_name(experiment, name)
    chosen = _chosen(plms_of(experiment), plm)
    try:
        encoder = load_encoder(chosen)
        read = read_foreign(path, tensor, declared)
    except ValueError as error:
        raise Misuse(Problem("", str(error))) from error
    try:
        prompt = fitted(read, _shapes(encoder))
    except ValueError as error:
        raise Misuse(Problem(f"{path} for {chosen.label}", str(error))) from error
    key = given_key(chosen, hashlib.sha256(str([*prompt.shape]).encode() + prompt.numpy().tobytes()).hexdigest())
    library = library_of(experiment)
    stored = SoftPrompt(prompt, torch.zeros(0, encoder.hidden), torch.zeros(0))
    card = {"task": name, "plm": chosen.label, "imported": path.name, "shape": [*prompt.shape]}
    library.get_or_make("prompts", key, partial(_save, stored), card)
    _record(given_card(library.root, name), name, chosen, key)
    return Imported(name, chosen.label, *form_and_length(prompt.shape), tuple(prompt.shape))


def _check_name(experiment: Experiment, name: str) -> None:
    taken = {*TASKS, *experiment.tasks, *experiment.mixtures}
    if name in taken:
        raise Misuse(Problem(f"--name {name}", "is a task or mixture already", remedy="give the prompt another name"))
    if not re.fullmatch(TASK_NAME, name):
        raise Misuse(Problem(f"--name {name}", f"must be a name that a task may have ({TASK_NAME})"))


def _chosen(plms: Sequence[Plm], name: str) -> Plm:
    """The one PLM, or the one of a name."""
    named = [plm for plm in plms if name in ("", plm.label, plm.source)]
    if len(named) != 1:
        labels = [plm.label for plm in plms]
        rule = f"is none of the experiment's PLMs{near(name, labels)}" if name else "must be named: there are several"
        raise Misuse(Problem(f"--plm {name}".strip(), rule, remedy=f"name one of {', '.join(labels)}"))
    return named[0]


def _shapes(encoder: FrozenEncoder) -> dict[str, partial[tuple[int, ...]]]:
    """Form -> shape of a prompt of so many tokens, of the forms that a PLM takes."""
    refused = {"input": encoder.input_refusal, "prefix": encoder.refusal}
    return {form: partial(encoder.prompt_shape, form=form) for form, why in refused.items() if not why}


def _save(prompt: SoftPrompt, draft: Path) -> None:
    prompt.save(draft / FILE)


def _record(path: Path, name: str, plm: Plm, key: str) -> None:
    """Says which prompt a name has for a PLM, beside those for others."""
    held = {"name": name, "prompts": {**given_keys(path), plm.files: key}}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{uuid4().hex[:8]}")
    draft.write_text(json.dumps(held, indent=1), encoding="utf-8")
    draft.replace(path)
