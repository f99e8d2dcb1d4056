"""Rows of a task as a PLM reads them, so that one sees what is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from panda_trainable.config.setting import Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.rows import Findings, examples
from panda_trainable.data.task_table import TASKS
from panda_trainable.data.tokenisers import tokeniser_of
from panda_trainable.plm.asking import asking_problems, decoder_start
from panda_trainable.pretrained.files import load_config, load_tokenizer
from panda_trainable.pretrained.kinds import KINDS
from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Misuse, Problem, check_known, problems_of
from tuning.planning.resolve import make_plans

MARK = "⟨answer⟩"
"""What stands where an answer does."""


@dataclass(frozen=True)
class ShownTask:
    """A task on a PLM.

    Attributes:
        task: its name.
        plm: its label.
        kind: of the PLM.
        readout: what turns states into answers.
        words: class, or choice -> its label words; `value` -> those of a regression; empty where no words answer.
        rows: a text for each sequence of a row, with MARK where the answer stands; what is right; and the texts that are
            scored in its place, of choices.
    """

    task: str
    plm: str
    kind: str
    readout: str
    words: dict[str, list[str]]
    rows: list[dict[str, Any]]


def show(experiment: Experiment, name: str, count: int = 3) -> list[ShownTask]:
    """The first train rows of a task as each PLM of an experiment reads them.

    Args:
        experiment: which PLMs, and where data are.
        name: of the task.
        count: rows.

    Raises:
        Misuse: if a task or a PLM is not there, or does not suit the other.
    """
    try:
        check_known([name], [*TASKS, *experiment.tasks], "task")
    except ValueError as error:
        raise Misuse(*problems_of(error, "tasks show")) from error
    alone = experiment.changed(targets=[name], sources=[], methods=[], mixtures={}, pairs={}, weigh_by="none")
    return [_shown(plan.setting, plan.tasks[name], count) for plan in make_plans(alone)]


def _shown(setting: Setting, task: TaskSpec, count: int) -> ShownTask:
    place = f"task {task.name}"
    try:
        tokenizer, wording = load_tokenizer(setting.plm), task.asked
        problems = [Problem(place, rule) for rule in _problems(tokenizer, setting, task)]
        if problems:
            raise Misuse(*problems)
        found = list(islice(examples(task, "train", Findings()), count))
        arrays, _ = tokeniser_of(setting, task)(tokenizer, found, setting.train.max_length)
        texts = [_text(tokenizer, setting, task, arrays, i) for i in range(len(arrays["lengths"]))]
    except ValueError as error:
        raise Misuse(*problems_of(error, place)) from error
    each = len(texts) // len(found)
    rows: list[dict[str, Any]] = [
        {"reads": texts[i * each : (i + 1) * each], "right": _right(task, row.label)} for i, row in enumerate(found)
    ]
    if task.readout == "choices":
        scored = [[tokenizer.decode(c[c >= 0].tolist()).strip() for c in choices] for choices in arrays["slots"]]
        rows = [{**row, "choices": texts} for row, texts in zip(rows, scored, strict=True)]
    words: dict[str, list[str]] = {}
    for name, of_one in (
        zip(task.strata or ["value"] * len(wording.words), wording.words, strict=True)
        if wording and wording.words
        else ()
    ):
        words.setdefault(name, []).extend(of_one)
    return ShownTask(task.name, setting.plm.label, setting.plm.kind, task.readout, words, rows)


def _problems(tokenizer: Any, setting: Setting, task: TaskSpec) -> Sequence[str]:
    return list(asking_problems(tokenizer, setting.plm.kind, task.asked)) if task.asked else []


def _text(tokenizer: Any, setting: Setting, task: TaskSpec, arrays: dict[str, Any], number: int) -> str:
    """The tokens of a sequence as text, with MARK where the answer stands."""
    ids = arrays["ids"][number, : arrays["lengths"][number]].tolist()
    if not task.asked:
        return str(tokenizer.decode(ids))
    slot = KINDS[setting.plm.kind].slot
    if slot == "mask":
        at = int(arrays["slots"][number, 0])
        return f"{tokenizer.decode(ids[:at])} {MARK} {tokenizer.decode(ids[at + 1 :])}"
    if slot == "end":
        return f"{tokenizer.decode(ids)} {MARK}"
    start = decoder_start(tokenizer, load_config(setting.plm))
    return f"{tokenizer.decode(ids)} | {tokenizer.decode(list(start))} {MARK}"


def _right(task: TaskSpec, label: Any) -> str:
    """What is right of a row, for people."""
    if task.strata and (task.classes or task.asked):
        name = task.strata[int(label)]
        return f"{name}: {' or '.join(task.asked.words[int(label)])}" if task.asked and task.asked.words else name
    if task.readout == "generation":
        return " or ".join(each if isinstance(each, str) else each[1] for each in label)
    return str(label)
