"""What a task is, and the table of those we know. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from string import Formatter
from types import MappingProxyType
from typing import Any

from panda_trainable import demo

METRIC_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "classification": (
            "accuracy", "f1", "macro_f1", "macro_recall", "matthews", "accuracy_f1", "accuracy_macro_f1", "question_match",
        ),
        "regression": ("pearson_spearman", "pearson", "spearman"),
        "multiple_choice": ("accuracy",),
        "tagging": ("entity_f1", "word_accuracy"),
        "extractive_qa": ("answer_f1", "exact_match"),
    }
)  # fmt: skip
"""Kind -> the metrics that fit it; the first is the score where a task names none."""

KINDS = tuple(METRIC_NAMES)
CLASSES: Mapping[str, bool] = MappingProxyType(
    {"classification": True, "regression": False, "multiple_choice": False, "tagging": True, "extractive_qa": False}
)
"""Kind -> whether a task of it names its classes (tags, for tagging)."""

TEXTS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "classification": (1, 2), "regression": (1, 2), "multiple_choice": (1, 1), "tagging": (1, 1),
        "extractive_qa": (2, 2),
    }
)  # fmt: skip
"""Kind -> how many texts its rows have, at least and at most; a choice is a second text."""

SPLITS = ("train", "validation", "test")
DEMO = "demo:"


@dataclass(frozen=True)
class Hub:
    """Where the Hugging Face hub has a task, and what its columns are called there.

    Attributes:
        path: of the dataset.
        config: of the dataset; empty where it has one only.
        columns: our field -> the hub's column, where the names differ.
        splits: our split -> the hub's; splits without labels are not listed.
        revision: branch; datasets that once were scripts have their files on `refs/convert/parquet`.
        known: whether the columns were ever written down; a row without them is refused by name.
    """

    path: str
    config: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "validation": "validation"})
    revision: str = ""
    known: bool = True


@dataclass(frozen=True)
class TaskSpec:
    """A task: what its rows hold and how it is scored.

    Attributes:
        name: as the experiment file calls it.
        kind: a key of METRIC_NAMES.
        text: one text, or two that are read as a pair: each a field, or a template of fields in braces.
            For tagging the field of the words; for extractive QA question and passage.
        label: the field of the label: a class number or name, a float, the number of the right
            choice, a list of tags, or `{"text": [...], "answer_start": [...]}`.
        classes: C, class names in the order of their numbers; tags for tagging; else empty.
        metrics: the first is the score.
        path: folder of `<split>.<ending>`, or `demo:<name>`; empty until the task is located.
        fingerprints: (split, hash of its rows) of the splits there are: the data's identity.
        choices: second texts of a multiple choice, as `text`.
        prepare: a row of `rows.PREPARE`: checks and completes rows of this task.
        compared: fields whose texts tell that two rows, or two tasks, share a text; default those of `text`.
        question: fields that say which rows answer one question (`question_match`).
        id: field that must differ from row to row, where rows have it.
        hub: where the hub has it.
        counts: (split, rows of each class) where there are classes or choices.
    """

    name: str = field(metadata={"keyed": False})
    kind: str
    text: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    path: str = field(default="", metadata={"keyed": False})
    fingerprints: tuple[tuple[str, str], ...] = ()
    choices: tuple[str, ...] = ()
    prepare: str = ""
    compared: tuple[str, ...] = ()
    question: tuple[str, ...] = ()
    id: str = field(default="id", metadata={"keyed": False})
    hub: Hub | None = field(default=None, metadata={"keyed": False}, compare=False)
    counts: tuple[tuple[str, tuple[int, ...]], ...] = field(default=(), metadata={"keyed": False})

    def __post_init__(self) -> None:
        fitting = METRIC_NAMES.get(self.kind, ())
        least, most = TEXTS.get(self.kind, (1, 2))
        named = CLASSES.get(self.kind, True)
        rules = {
            f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}": self.kind in KINDS,
            f"text of a {self.kind} must name {_count(least, most)}, got {list(self.text)}": least
            <= len(self.text)
            <= most,
            f"metrics of a {self.kind} must be of {', '.join(fitting)}, got {list(self.metrics)}": bool(self.metrics)
            and set(self.metrics) <= set(fitting),
            f"f1 is of two classes, and there are {len(self.classes)}: use macro_f1": not {"f1", "accuracy_f1"}
            & set(self.metrics)
            or len(self.classes) == 2,
            f"classes must be different, got {list(self.classes)}": len(set(self.classes)) == len(self.classes),
            f"a {self.kind} needs at least two classes, got {list(self.classes)}": not named or len(self.classes) > 1,
            f"a {self.kind} has no classes, got {list(self.classes)}": named or not self.classes,
            f"choices must be two or more texts of a multiple_choice, got {list(self.choices)}": (
                len(self.choices) > 1 if self.kind == "multiple_choice" else not self.choices
            ),
            "question_match needs `question`: the fields that rows of one question share": "question_match"
            not in self.metrics
            or bool(self.question),
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if self.kind == "tagging" and any("{" in text for text in self.text):
            broken.append(f"text of a tagging must be the field of its words, got {list(self.text)}")
        broken += [said for text in (*self.text, *self.choices) if (said := _template_problem(text))]
        if broken:
            raise ValueError(f"task {self.name}: " + "; ".join(broken))

    @property
    def outputs(self) -> int:
        """Outputs of the head: a logit per class or tag; one per choice or value; start and end of an answer."""
        return 2 if self.kind == "extractive_qa" else len(self.classes) or 1

    @property
    def strata(self) -> tuple[str, ...]:
        """What rows are stratified by, by name: classes, choices, or nothing."""
        return self.classes if self.kind == "classification" else self.choices

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that a row must have."""
        named = [name for text in (*self.text, *self.choices) for name in fields_of(text)]
        return tuple(dict.fromkeys([*named, *self.question, self.label]))

    @property
    def compared_fields(self) -> tuple[str, ...]:
        """The fields whose texts tell that two rows share a text."""
        texts = self.text[1:] if self.kind == "extractive_qa" else self.text  # many passages may have one question
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

    @property
    def outputs(self) -> int:
        """Outputs of all heads, one behind the other in the order of the tasks."""
        return sum(task.outputs for task in self.tasks)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of all tasks."""
        return tuple(dict.fromkeys(name for task in self.tasks for name in task.classes))


def shared_head(source: TaskSpec | Mixture, target: TaskSpec) -> tuple[int, ...] | None:
    """Which outputs of a source's head answer for the target, in the order of its own outputs.

    A head is shared by tasks of one kind with the same class names, in any order; a mixture's is the
    head of its first such task.

    Returns:
        Output numbers of the source's head; None where no head can be shared.
    """
    before = 0
    for task in source.tasks:
        if task.kind == target.kind and set(task.classes) == set(target.classes):
            own = [task.classes.index(name) for name in target.classes] or range(target.outputs)
            return tuple(before + number for number in own)
        before += task.outputs
    return None


def _count(least: int, most: int) -> str:
    names = {1: "one text", 2: "two texts"}
    return names[least] if least == most else "one or two texts"


def fields_of(text: str) -> tuple[str, ...]:
    """The fields that a text is made of: its own name, or the braces of a template."""
    if "{" not in text:
        return (text,)
    return tuple(dict.fromkeys(name for _, name, _, _ in Formatter().parse(text) if name))


def _template_problem(text: str) -> str:
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        return f"{text!r} is no template ({error}); write fields in braces"
    named = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    odd = any(
        not name or name.isdecimal() or spec or conversion or set(name) & set("[].") for name, spec, conversion in named
    )
    if not text.strip() or odd or ("{" in text and not named):
        return f"{text!r} is no template: braces hold the name of a field, as in '{{question}} {{answer}}'"
    return ""


_PARQUET = "refs/convert/parquet"


def _glue(config: str, columns: str = "", validation: str = "validation") -> Hub:
    return Hub("nyu-mll/glue", config, _columns(columns), {"train": "train", "validation": validation})


def _superglue(config: str, columns: str = "") -> Hub:
    return Hub("aps/super_glue", config, _columns(columns), revision=_PARQUET)


def _hub(path: str, config: str = "", columns: str = "", report: str = "test", revision: str = "") -> Hub:
    splits = {"train": "train", "validation": "validation", "test": "test"}
    kept = {name: splits[name] for name in ("train", *report.split())}
    return Hub(path, config, _columns(columns), kept, revision)


def _columns(text: str) -> dict[str, str]:
    """`ours=theirs ours=theirs` as a mapping."""
    return dict(pair.split("=") for pair in text.split())


def _classification(
    text: str | tuple[str, ...], classes: str, metrics: str = "accuracy", hub: Hub | None = None, **more: str
) -> TaskSpec:
    texts = tuple(text.split()) if isinstance(text, str) else text
    fields: Any = {
        name: tuple(value.split()) if name in ("compared", "question") else value for name, value in more.items()
    }
    names = tuple(classes.split()), tuple(metrics.split())
    return TaskSpec("", "classification", texts, "label", *names, hub=hub, **fields)


def _tagging(tags: str, hub: Hub) -> TaskSpec:
    kinds = tags.split()
    names = ("O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI"))
    return TaskSpec("", "tagging", ("words",), "tags", names, METRIC_NAMES["tagging"], hub=hub)


_NLI = "premise hypothesis"
_PAIR = "sentence1 sentence2"
_AS_PAIR = "premise=sentence1 hypothesis=sentence2"
_SENTIMENT = "negative positive"
_STS = ("pearson_spearman", "pearson", "spearman")
_ADJUNCTS = "ADV CAU DIR DIS EXT LOC MNR MOD NEG PNC PRD REC TMP"
_ROLES_05 = " ".join(["A0 A1 A2 A3 A4 A5 AA V C-A1 C-V R-A0 R-A1 R-A2", *(f"AM-{x}" for x in _ADJUNCTS.split())])
_ROLES_12 = " ".join(
    ["ARG0 ARG1 ARG2 ARG3 ARG4 ARG5 V C-ARG1 C-V R-ARG0 R-ARG1 R-ARG2", *(f"ARGM-{x}" for x in _ADJUNCTS.split())]
)

TASKS: Mapping[str, TaskSpec] = MappingProxyType(
    {
        name: replace(spec, name=name)
        for name, spec in {
            # GLUE
            "cola": _classification("sentence", "unacceptable acceptable", "matthews accuracy", _glue("cola")),
            "sst2": _classification("sentence", _SENTIMENT, hub=_glue("sst2")),
            "mrpc": _classification(_PAIR, "different equivalent", "accuracy_f1 accuracy f1", _glue("mrpc")),
            "qqp": _classification(
                "question1 question2", "different duplicate", "accuracy_f1 accuracy f1", _glue("qqp")
            ),
            "stsb": TaskSpec("", "regression", tuple(_PAIR.split()), "label", (), _STS, hub=_glue("stsb")),
            "mnli": _classification(
                _NLI, "entailment neutral contradiction", hub=_glue("mnli", validation="validation_matched")
            ),
            "mnli_mismatched": _classification(
                _NLI, "entailment neutral contradiction", hub=_glue("mnli", validation="validation_mismatched")
            ),
            "qnli": _classification("question sentence", "entailment not_entailment", hub=_glue("qnli")),
            "rte": _classification(_NLI, "entailment not_entailment", hub=_glue("rte", _AS_PAIR)),
            "wnli": _classification(_PAIR, "not_entailment entailment", hub=_glue("wnli")),
            # SuperGLUE
            "boolq": _classification("question passage", "no yes", hub=_superglue("boolq")),
            "cb": _classification(
                _NLI,
                "entailment contradiction neutral",
                "accuracy_macro_f1 accuracy macro_f1",
                _superglue("cb"),
            ),
            "copa": TaskSpec(
                "", "multiple_choice", ("{premise} {joiner}",), "label", (), ("accuracy",), hub=_superglue("copa"),
                choices=("choice1", "choice2"), prepare="copa", compared=("premise",),
            ),
            "multirc": _classification(
                ("paragraph", "{question} {answer}"), "false true", "f1 question_match accuracy",
                _superglue("multirc"), compared="paragraph", question="paragraph question", id="",
            ),
            "record": _classification(
                ("passage", "{filled}"), "false true", "f1 accuracy",
                _superglue("record"), prepare="record", compared="passage", id="",
            ),
            "wic": _classification(
                ("{sentence1} {sentence2} Does {word} have the same meaning in both sentences?",),
                "different same", hub=_superglue("wic"), prepare="wic", compared=_PAIR,
            ),
            "wsc": _classification(
                ("{span2_text}: {text}", "{span1_text}"), "no yes", hub=_superglue("wsc.fixed"), prepare="wsc",
                compared="text",
            ),
            # more of PANDA's sources
            "squad": TaskSpec(
                "", "extractive_qa", ("question", "context"), "answers", (), METRIC_NAMES["extractive_qa"],
                hub=Hub("rajpurkar/squad"), compared=("context",),
            ),
            "conll03": _tagging(
                "PER ORG LOC MISC",
                Hub(
                    "lhoestq/conll2003", columns={"words": "tokens", "tags": "ner_tags"},
                    splits={"train": "train", "validation": "validation", "test": "test"},
                ),
            ),
            "conll04": _tagging("Loc Org Other Peop", Hub("DFKI-SLT/conll04", known=False)),
            "ontonotes": _tagging(
                "CARDINAL DATE EVENT FAC GPE LANGUAGE LAW LOC MONEY NORP ORDINAL ORG PERCENT PERSON PRODUCT QUANTITY TIME "
                "WORK_OF_ART",
                Hub("tner/ontonotes5", known=False),
            ),
            "conll05": _tagging(_ROLES_05, Hub("conll05", known=False)),
            "conll12": _tagging(_ROLES_12, Hub("ontonotes/conll2012_ontonotesv5", known=False)),
            # others
            "xnli_en": _classification(
                _NLI, "entailment neutral contradiction", hub=_hub("facebook/xnli", "en", report="validation test")
            ),
            "snli": _classification(
                _NLI, "entailment neutral contradiction", hub=_hub("stanfordnlp/snli", report="validation test")
            ),
            "sick_e": _classification(
                _PAIR, "entailment neutral contradiction",
                hub=_hub(
                    "RobZamp/sick", "", "sentence1=sentence_A sentence2=sentence_B", "validation test", _PARQUET
                ),
            ),
            "sst5": _classification(
                "sentence", "very_negative negative neutral positive very_positive",
                hub=_hub("SetFit/sst5", "", "sentence=text", "validation test"),
            ),
            "cr": _classification("sentence", _SENTIMENT, hub=_hub("SetFit/CR", "", "sentence=text")),
            "mpqa": _classification("sentence", _SENTIMENT, hub=Hub("rahulsikder223/SentEval-MPQA", known=False)),
            "imdb": _classification("sentence", _SENTIMENT, hub=_hub("stanfordnlp/imdb", "", "sentence=text")),
            "trec": _classification(
                "sentence", "abbreviation entity description human location number",
                hub=_hub("CogComp/trec", "", "sentence=text label=coarse_label", revision=_PARQUET),
            ),
            "ag_news": _classification(
                "sentence", "world sports business technology", hub=_hub("fancyzhx/ag_news", "", "sentence=text")
            ),
            "tweet_emotion": _classification(
                "sentence", "anger joy optimism sadness", "macro_f1 accuracy",
                _hub("cardiffnlp/tweet_eval", "emotion", "sentence=text", "validation test"),
            ),
            "tweet_hate": _classification(
                "sentence", "not_hate hate", "macro_f1 accuracy",
                _hub("cardiffnlp/tweet_eval", "hate", "sentence=text", "validation test"),
            ),
            "tweet_offensive": _classification(
                "sentence", "not_offensive offensive", "macro_f1 accuracy",
                _hub("cardiffnlp/tweet_eval", "offensive", "sentence=text", "validation test"),
            ),
            "tweet_sentiment": _classification(
                "sentence", "negative neutral positive", "macro_recall accuracy",
                _hub("cardiffnlp/tweet_eval", "sentiment", "sentence=text", "validation test"),
            ),
            **{
                name: _classification("sentence", " ".join(made.labels))
                for name, made in demo.DEMO.items()
            },
        }.items()
    }
)  # fmt: skip
"""Name -> the tasks known by name; `demo_*` are constructed and need no files."""

PANDA_METRICS: Mapping[str, str] = MappingProxyType({"mrpc": "accuracy", "qqp": "accuracy", "cb": "accuracy"})
"""Task -> PANDA's score where it differs from that of GLUE and SuperGLUE."""


def with_panda_metrics(task: TaskSpec) -> TaskSpec:
    """A task of the table scored as PANDA scores it. Source: the authors' code, see methods' metrics there."""
    first = PANDA_METRICS.get(task.name)
    if first is None:
        return task
    return replace(task, metrics=(first, *(name for name in task.metrics if name != first)))
