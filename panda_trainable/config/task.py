"""What a task is: TaskSpec, Mixture and where rows come from. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from annotated_types import Ge, Gt, Lt

from panda_trainable.config.given import GivenPrompt
from panda_trainable.config.kinds import (
    CLASSES,
    KINDS,
    METRIC_NAMES,
    OWN_HEAD,
    TEXTS,
    own_head,
    tag_problems,
    why_not_answered,
)
from panda_trainable.config.origin import Origin, Unlocated
from panda_trainable.config.section import Doc, ReadBy, Section, WrongSetting, as_list, as_name
from panda_trainable.config.setting import Plm
from panda_trainable.config.templates import EXTRA_FIELDS, fields_of, template_problem
from panda_trainable.config.wording import (
    QUESTION,
    TEXT_TO_TEXT,
    Wording,
    number_problems,
    text_to_text,
    usual_wording,
    wording_problems,
)

SPLITS = ("train", "validation", "test")
Label = Annotated[str, ReadBy(as_name, also=("int", "float", "bool"))]
Names = Annotated[tuple[str, ...], ReadBy(as_list, also=("str",))]


@dataclass(frozen=True)
class Hub(Section):
    """Where the Hugging Face hub has a task, and what its columns are called there."""

    path: Annotated[str, Doc("of the dataset: owner/name")]
    config: Annotated[str, Doc("of the dataset; empty where it has one only")] = ""
    columns: Annotated[Mapping[str, str], Doc("the task's field: the hub's column, where the names differ")] = field(
        default_factory=dict
    )
    splits: Annotated[Mapping[str, str], Doc("our split: the hub's, of those that have labels")] = field(
        default_factory=lambda: {"train": "train", "validation": "validation"}
    )
    revision: Annotated[str, Doc("branch; former scripts have their files on refs/convert/parquet")] = ""
    known: Annotated[bool, Doc("whether the columns are known; a task without them is refused by name")] = True

    def __post_init__(self) -> None:
        if not {"train"} < set(self.splits) <= set(SPLITS):
            raise WrongSetting(
                "splits", f"splits must be train and some of {', '.join(SPLITS[1:])}, got {list(self.splits)}"
            )


@dataclass(frozen=True)
class Original(Section):
    """What the files are called, and what is called in them, as a task was first published."""

    folder: Annotated[str, Doc("another name of the task's folder in `data`")] = ""
    files: Annotated[Mapping[str, Names], Doc("split: other names of its file, without the ending")] = field(
        default_factory=dict
    )
    fields: Annotated[Mapping[str, Names], Doc("the task's field: other names of it, `a.b` inside of others")] = field(
        default_factory=dict
    )
    classes: Annotated[Mapping[Label, str], Doc("label in the files: the class that it names")] = field(
        default_factory=dict
    )
    drop_broken: Annotated[bool, Doc("leave lines of tables with too few or too many cells out, told")] = False

    def __post_init__(self) -> None:
        if not set(self.files) <= set(SPLITS):
            raise WrongSetting("files", f"files must be of {', '.join(SPLITS)}, got {list(self.files)}")


@dataclass(frozen=True)
class SplitSettings(Section):
    """A validation split, drawn from the train rows of a task that has neither validation nor test rows."""

    validation: Annotated[float, Gt(0), Lt(1), Doc("share of the train rows, the same of each class")] = 0.2
    seed: Annotated[int, Ge(0), Doc("of the draw")] = 0


@dataclass(frozen=True)
class LabelRules:
    """How labels of files are read, where the files alone do not say it.

    Attributes:
        rare: what becomes of classes with fewer than two train rows: a key of RARE_CLASSES.
        filed: classes as files number them, where rare ones were dropped or merged; else empty.
        first: the number of the first class or choice: 0, or 1 where the files count from 1.
    """

    rare: str = "refuse"
    filed: tuple[str, ...] = ()
    first: int = 0


RARE_CLASSES = ("refuse", "drop", "other")
OTHER = "other"
"""The class that takes the rows of rare ones with `rare_classes: other`."""


@dataclass(frozen=True)
class TaskSpec:
    """A task: what its rows hold and how it is scored.

    Attributes:
        name: as the experiment file calls it.
        kind: a key of METRIC_NAMES.
        text: one text, or two that are read as a pair: each a field, or a template of fields in braces.
            For tagging the field of the words; for extractive QA question and passage.
        label: the field of the label: a class number or name, a float, the number of the right
            choice, a list of tags, `{"text": [...], "answer_start": [...]}`, or the text that is written.
        classes: C, class names in the order of their numbers; tags for tagging; else empty. A task that is not yet
            located may leave them to the labels of its train rows.
        metrics: the first is the score; empty where they follow from classes that are not known yet.
        origin: where its rows come from.
        fingerprints: (split, hash of its rows) of the splits there are: the data's identity.
        choices: texts of a multiple choice, each read behind `text` where there is one.
        prepare: a row of `rows.PREPARE`: checks and completes rows of this task.
        compared: fields whose texts tell that two rows, or two tasks, share a text; default those of `text`.
        question: fields that say which rows answer one question (`question_match`).
        id: field that must differ from row to row, where rows have it.
        hub: where the Hugging Face hub has it.
        original: what its files and fields are called elsewhere.
        choices_in: the field of a list that holds the choices; empty where each has a field of its own.
        counts: (split, rows of each class) where there are classes or choices.
        labels: how labels of files are read.
        split: how validation rows are drawn from train rows; None: as usual, where there are no others.
        leaked: report rows whose texts all stand together in a train row of the task itself.
        notes: what a user should know of how its rows were read.
        wording: how it is asked of a language model; None: nobody says.
        t5: its text-to-text form, where T5's rule does not give it.
        asked: how it is asked here, of the language model that answers with its own head (`on`); None: a linear head
            is trained for it.
        passages: whether it is an extractive QA whose answers a language model writes: its rows are that kind's.
        window: words of the pieces that its texts are cut into, of which the first half is read and the rest is the
            answer: language modelling. 0: they are not.
    """

    name: str = field(metadata={"keyed": False})
    kind: str
    text: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    origin: Origin = field(default=Unlocated(), metadata={"keyed": False})
    fingerprints: tuple[tuple[str, str], ...] = ()
    choices: tuple[str, ...] = ()
    prepare: str = ""
    compared: tuple[str, ...] = ()
    question: tuple[str, ...] = ()
    id: str = field(default="id", metadata={"keyed": False})
    hub: Hub | None = field(default=None, metadata={"keyed": False}, compare=False)
    original: Original | None = field(default=None, metadata={"keyed": False}, compare=False)
    choices_in: str = field(default="", metadata={"keyed": False})
    counts: tuple[tuple[str, tuple[int, ...]], ...] = field(default=(), metadata={"keyed": False})
    labels: LabelRules = field(default=LabelRules(), metadata={"keyed": False})
    split: SplitSettings | None = field(default=None, metadata={"keyed": False})
    leaked: int = field(default=0, metadata={"keyed": False})
    notes: tuple[str, ...] = field(default=(), metadata={"keyed": False}, compare=False)
    wording: Wording | None = field(default=None, metadata={"keyed": False})
    t5: Wording | None = field(default=None, metadata={"keyed": False})
    asked: Wording | None = None
    passages: bool = field(default=False, metadata={"keyed": False})
    window: int = 0

    def __post_init__(self) -> None:
        fitting = METRIC_NAMES.get(self.kind, ())
        least, most = TEXTS.get(self.kind, (1, 2))
        named = CLASSES.get(self.kind, True)
        located = bool(self.fingerprints)
        open_ = named and not self.classes and not located  # its labels will say
        may_lose_classes = self.labels.rare != "refuse" and not located
        listed = self._lists_choices and not located  # its rows will say how many
        rules = {
            f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}": self.kind in KINDS,
            f"text of a {self.kind} must name {_count(least, most)}, got {list(self.text)}": least
            <= len(self.text)
            <= most,
            f"metrics of a {self.kind} must be of {', '.join(fitting)}, got {list(self.metrics)}": bool(
                self.metrics or open_
            )
            and set(self.metrics) <= set(fitting),
            f"f1 is of two classes, and there are {len(self.classes)}: use macro_f1": not {"f1", "accuracy_f1"}
            & set(self.metrics)
            or open_
            or may_lose_classes
            or len(self.classes) == 2,
            f"classes must be different, got {list(self.classes)}": len(set(self.classes)) == len(self.classes),
            f"a {self.kind} needs at least two classes, got {list(self.classes)}": not named
            or open_
            or len(self.classes) > 1,
            f"a {self.kind} has no classes, got {list(self.classes)}": named or not self.classes,
            f"choices must be two or more texts of a multiple_choice, or the field of a list of them, got {list(self.choices)}": (
                len(self.choices) > 1 or listed if self.kind == "multiple_choice" else not self.choices
            ),
            f"window cuts the one text of a generation, a field, got text {list(self.text)} of a {self.kind}": not self.window
            or (self.kind == "generation" and len(self.text) == 1 and "{" not in self.text[0]),
            "question_match needs `question`: the fields that rows of one question share": "question_match"
            not in self.metrics
            or bool(self.question),
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if self.kind == "tagging" and any("{" in text for text in self.text):
            broken.append(f"text of a tagging must be the field of its words, got {list(self.text)}")
        if "entity_f1" in self.metrics and not open_:
            broken += tag_problems(self.classes)
        broken += [said for text in (*self.text, *self.choices) if (said := template_problem(text))]
        for wording in filter(None, (self.wording, self.t5)) if not broken and not listed else ():
            fields = (*self.text_fields, *EXTRA_FIELDS.get(self.prepare, ()))
            of = [word for words in wording.words for word in words] if self.kind == "regression" else self.classes
            broken += wording_problems(wording, fields, len(self.text), of or self.choices, bool(self.choices))
            broken += number_problems(wording.words) if self.kind == "regression" else ()
        if broken:
            raise ValueError(f"task {self.name}: " + "; ".join(broken))

    @property
    def _lists_choices(self) -> bool:
        """Whether one field holds all choices."""
        return len(self.choices) == 1 and "{" not in self.choices[0]

    @property
    def readout(self) -> str:
        """What turns states into answers: a trained `linear` head, or a language model's own by OWN_HEAD."""
        return own_head(self.kind, bool(self.asked.words)) if self.asked else "linear"

    @property
    def outputs(self) -> int:
        """Outputs of the trained head: a logit per class or tag; one per choice or value; start and end of an answer.

        None where a language model's own head answers.
        """
        return 0 if self.asked else 2 if self.kind == "extractive_qa" else len(self.classes) or 1

    def worded(self, form: str) -> "TaskSpec":
        """The task as a language model is asked in a form: `natural`, as it says itself, or `t5`."""
        if form != TEXT_TO_TEXT or not own_head(self.kind, in_words=True):
            return self
        usual = Wording(QUESTION) if self.kind == "extractive_qa" else None
        made = usual or text_to_text(self.name, self.text, self.classes, () if self._lists_choices else self.choices)
        return replace(self, wording=self.t5 or made)

    def on(self, plm: Plm) -> "TaskSpec":
        """The task as a PLM answers it: asked in words where its own head answers.

        Raises:
            ValueError: if it cannot be asked in words.
        """
        task = self.unasked
        wording = task.wording or usual_wording(task.kind, len(task.text))
        if why := why_not_answered(task.kind, plm, bool(wording and wording.words)):
            raise ValueError(f"task {self.name}: {why}")
        if not plm.has_own_head:
            return task
        if wording is None:
            example = (
                "'It is true that {answer}'"
                if self.choices
                else f"'{{{self.text_fields[0]}}} It was {{answer}}.', and words"
            )
            raise ValueError(
                f"task {self.name}: nobody says how it is asked of a language model; give it a template, as in "
                f"{example}; or use plm.head: linear"
            )
        asked = replace(task, asked=wording.with_words(self.classes))
        if OWN_HEAD.get(task.kind) != "generation":
            return asked
        return replace(asked, kind="generation", passages=task.kind == "extractive_qa")

    @property
    def unasked(self) -> "TaskSpec":
        """The task as it is before a PLM answers it."""
        return self if self.asked is None else replace(self, kind=self.rows_kind, asked=None, passages=False)

    @property
    def rows_kind(self) -> str:
        """The kind that its rows are read as, whatever answers them."""
        return "extractive_qa" if self.passages else self.kind

    @property
    def strata(self) -> tuple[str, ...]:
        """What rows are stratified by, by name: classes, choices, or nothing."""
        return self.classes if self.kind == "classification" else self.choices

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The fields that its texts and choices are made of."""
        return tuple(dict.fromkeys(name for text in (*self.text, *self.choices) for name in fields_of(text)))

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that a row must have."""
        return tuple(dict.fromkeys([*self.text_fields, *self.question, *self.compared, self.label]))

    @property
    def nested(self) -> tuple[str, ...]:
        """Of these, fields that may lie inside of others: their names have dots."""
        return tuple(name for name in self.fields if "." in name)

    @property
    def compared_fields(self) -> tuple[str, ...]:
        """The fields whose texts tell that two rows share a text."""
        # Many passages may have one question; where choices have no stem, they are the texts.
        texts = self.text[1:] if self.rows_kind == "extractive_qa" else self.text or self.choices
        return self.compared or tuple(dict.fromkeys(name for text in texts for name in fields_of(text)))

    @property
    def report_split(self) -> str:
        """The labelled test split where there is one, else validation."""
        return "test" if "test" in dict(self.fingerprints) else "validation"

    @property
    def tasks(self) -> tuple["TaskSpec", ...]:
        """Itself: a task is a mixture of one."""
        return (self,)


MIXING_CAP = 2**19
"""Rows of a task that count at most when tasks are mixed by their sizes. Source: T5, SPoT."""


@dataclass(frozen=True)
class Mixture:
    """Tasks on which one prompt is trained at once, each with a head of its own.

    Attributes:
        name: as the experiment file calls it.
        tasks: at least one, each once.
        cap: rows of a task that count at most: examples-proportional mixing.
        shots: rows of each class that a seed draws of each task, 0: all; empty: as the setting says.

    Source: SPoT (arXiv:2110.07904), generic prompt transfer; mixing by T5.
    """

    name: str = field(metadata={"keyed": False})
    tasks: tuple[TaskSpec, ...]
    cap: int = MIXING_CAP
    shots: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(set(self.tasks)) == len(self.tasks) or self.cap < 1:
            names = [task.name for task in self.tasks]
            raise ValueError(f"a mixture needs tasks, each once, and a cap of at least 1, got {names} and {self.cap}")
        if self.shots and len(self.shots) != len(self.tasks):
            raise ValueError(f"shots must be given for each of {len(self.tasks)} tasks, got {list(self.shots)}")

    def on(self, plm: Plm) -> "Mixture":
        """The mixture as a PLM answers its tasks."""
        return replace(self, tasks=tuple(task.on(plm) for task in self.tasks))

    @property
    def outputs(self) -> int:
        """Outputs of all heads, one behind the other in the order of the tasks."""
        return sum(task.outputs for task in self.tasks)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of all tasks."""
        return tuple(dict.fromkeys(name for task in self.tasks for name in task.classes))


AnySource = TaskSpec | Mixture | GivenPrompt
"""What a prompt may come from."""


def shared_head(source: AnySource, target: TaskSpec) -> tuple[int, ...] | None:
    """Which outputs of a source's head answer for the target, in the order of its own outputs.

    A head is shared by tasks of one kind with the same class names, in any order; a mixture's is the
    head of its first such task. Where a language model's own head answers for both there is none to share.

    Returns:
        Output numbers of the source's head; None where no head can be shared.
    """
    if target.asked and all(task.asked for task in source.tasks):
        return ()
    before = 0
    for task in source.tasks:
        if task.kind == target.kind and set(task.classes) == set(target.classes):
            own = [task.classes.index(name) for name in target.classes] or range(target.outputs)
            return tuple(before + number for number in own)
        before += task.outputs
    return None


def _count(least: int, most: int) -> str:
    return {(0, 1): "one text or none", (1, 1): "one text", (1, 2): "one or two texts", (2, 2): "two texts"}[
        least, most
    ]
