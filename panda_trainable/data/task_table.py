"""TASKS: the tasks known by name. Imports no torch."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from panda_trainable.config.task import METRIC_NAMES, Hub, TaskSpec
from panda_trainable.data import demo

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
                name: replace(_classification("sentence", " ".join(made.labels)), origin=demo.Demonstration(name))
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
