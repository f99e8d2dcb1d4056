"""TaskSection: a task as files describe it, under `tasks:` of an experiment and in the table's tasks.yaml. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from annotated_types import Ge, Len

from panda_trainable.config.kinds import CLASSES, usual_metrics
from panda_trainable.config.origin import Reading, Unlocated
from panda_trainable.config.section import Doc, ReadBy, Section, ShortFor, WrongSetting, as_list, as_name
from panda_trainable.config.task import Hub, LabelRules, Original, SplitSettings, TaskSpec
from panda_trainable.config.wording import TEXT_TO_TEXT, Wording

MARKS: Mapping[str, str] = MappingProxyType(
    {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "space": " ", "bar": "|", "pipe": "|", "colon": ":"}
)
"""Delimiters by name."""


def _as_mark(value: Any) -> Any:
    """A delimiter as the character it is, by its name too.

    Raises:
        ValueError: if it is no character.
    """
    mark = MARKS.get(value.strip().lower().removesuffix("s"), value) if isinstance(value, str) else value
    if isinstance(mark, str) and (len(mark) > 1 or mark in ('"', "\n", "\r")):
        names = ", ".join(name for name in MARKS if name.isalpha())
        raise ValueError(f"a delimiter is one character, or {names}, got {value!r}")
    return mark


LEAST_WINDOW = 4
"""Words of a piece of text at least, half of which are read and half written."""

Texts = Annotated[tuple[str, ...], Len(0, 2), ReadBy(as_list, also=("str",))]
Fields = Annotated[tuple[str, ...], ReadBy(as_list, also=("str",))]
Names = tuple[Annotated[str, ReadBy(as_name, also=("float", "bool"))], ...]
Words = tuple[Annotated[tuple[str, ...], ReadBy(as_list, also=("str",))], ...]
"""Texts as they are written: YAML does not tell `True` from `true`, which are other tokens, so it must be quoted."""


@dataclass(frozen=True, kw_only=True)
class WordingSection(Section):
    """How a task is asked of a language model in another form."""

    template: Annotated[str, Doc("text with fields in braces, and {answer} where the answer stands")]
    words: Annotated[
        Words,
        Doc("label words of each class or choice, in their order, or numbers of a regression; default the class names"),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class TaskSection(Section):
    """A task of your own."""

    kind: Annotated[
        Literal["classification", "regression", "multiple_choice", "tagging", "extractive_qa", "generation"],
        Doc("what is predicted"),
    ] = "classification"
    text: Annotated[
        Texts,
        Doc("one text, or two read as a pair: fields, or templates of fields in braces; [] for choices without a stem"),
    ]
    choices: Annotated[Fields, Doc("multiple_choice: the fields of the choices, or the one field that lists them")] = ()
    label: Annotated[str, Doc("field of the label")] = "label"
    classes: Annotated[
        Names, Doc("class names in the order of their numbers; tags for tagging; default those of the train labels")
    ] = ()
    rare_classes: Annotated[
        Literal["refuse", "drop", "other"],
        Doc("what becomes of classes with fewer than two train rows; other makes one class of them"),
    ] = "refuse"
    split: Annotated[
        SplitSettings | None,
        ShortFor("validation", "float"),
        Doc("how validation rows are drawn where there are train rows alone; default a fifth"),
    ] = None
    delimiter: Annotated[
        str, ReadBy(_as_mark, also=("str",)), Doc("divides the columns of csv and tsv: a character, or tab, comma, semicolon, space, bar; default as the header says")
    ] = ""  # fmt: skip
    columns: Annotated[Fields, Doc("names of the columns of csv and tsv files that have no header line")] = ()
    metrics: Annotated[tuple[str, ...], Doc("metrics; the first is the score; default those of the kind")] = ()
    window: Annotated[
        int, Ge(0), Doc("generation: cut every text into pieces of so many words, half to read and half to write; 0: do not")
    ] = 0  # fmt: skip
    path: Annotated[str, Doc("folder, inside `data` or absolute; default the task's name")] = ""
    id: Annotated[str, Doc("field that must differ from row to row, where rows have it; '' for none")] = "id"
    question: Annotated[Fields, Doc("fields that rows of one question have in common; question_match needs them")] = ()
    compared: Annotated[Fields, Doc("fields by which rows are said to share a text; default those of the texts")] = ()
    prepare: Annotated[
        Literal["", "copa", "wic", "wsc", "record"], Doc("checks and completes rows in the format of this task")
    ] = ""
    template: Annotated[
        str,
        Doc(
            "how a language model is asked: text with fields in braces, {answer} where the answer stands; t5: as T5 is"
        ),
    ] = ""
    words: Annotated[
        Words,
        Doc(
            "label words of each class, one or a list, in the order of `classes`; default the class names; of choices and regressions, see below"
        ),
    ] = ()
    t5: Annotated[WordingSection | None, Doc("its text-to-text form; default as T5 names tasks and fields")] = None
    hub: Annotated[Hub | None, Doc("where the Hugging Face hub has it, if its files are not in `data`")] = None

    original: Annotated[
        Original | None, Doc("what its files and fields are called, where that is not as this section says")
    ] = None

    def __post_init__(self) -> None:
        named = [name for name in self.columns if name]
        if len(set(named)) != len(named):
            raise WrongSetting("columns", f"columns must have different names, got {list(self.columns)}")
        if 0 < self.window < LEAST_WINDOW:
            raise WrongSetting("window", f"window must be 0 or at least {LEAST_WINDOW} words, got {self.window}")

    def spec(self, name: str) -> TaskSpec:
        """The task under a name, not yet located.

        Raises:
            ValueError: with all rules that it breaks.
        """
        metrics = self.metrics or (
            usual_metrics(self.kind, self.classes) if self.classes or not CLASSES[self.kind] else ()
        )
        task = TaskSpec(
            name, self.kind, self.text, self.label, self.classes, metrics,
            Unlocated(self.path, Reading(self.delimiter, self.columns, documents=bool(self.window))),
            choices=self.choices, prepare=self.prepare, compared=self.compared, question=self.question, id=self.id,
            hub=self.hub, labels=LabelRules(self.rare_classes), split=self.split, original=self.original,
            window=self.window, wording=self._wording(name), t5=Wording(self.t5.template, self.t5.words) if self.t5 else None,
        )  # fmt: skip
        return task.worded(self.template)

    def _wording(self, name: str) -> Wording | None:
        """How the task is asked in its own words."""
        if self.template in ("", TEXT_TO_TEXT):
            if self.words:
                rule = "words answer a template: give one, as in '{sentence} It was {answer}.'"
                raise ValueError(f"task {name}: {rule}")
            return None
        return Wording(self.template, self.words)
