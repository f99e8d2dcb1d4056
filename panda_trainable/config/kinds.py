"""Kinds of tasks: what their rows hold, the metrics that fit them, and the schemes of their tags. Imports no torch."""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from panda_trainable.config.setting import Plm

METRIC_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "classification": (
            "accuracy", "f1", "macro_f1", "macro_recall", "matthews", "accuracy_f1", "accuracy_macro_f1", "question_match",
        ),
        "regression": ("pearson_spearman", "pearson", "spearman"),
        "multiple_choice": ("accuracy",),
        "tagging": ("entity_f1", "word_accuracy"),
        "extractive_qa": ("answer_f1", "exact_match"),
        "generation": ("rouge_l", "exact_match", "answer_f1"),
    }
)  # fmt: skip
"""Kind -> the metrics that fit it; the first is the score where a task names none."""

KINDS = tuple(METRIC_NAMES)
CLASSES: Mapping[str, bool] = MappingProxyType(
    {
        "classification": True, "regression": False, "multiple_choice": False, "tagging": True, "extractive_qa": False,
        "generation": False,
    }
)  # fmt: skip
"""Kind -> whether a task of it names its classes (tags, for tagging)."""

TEXTS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "classification": (1, 2), "regression": (1, 2), "multiple_choice": (0, 1), "tagging": (1, 1),
        "extractive_qa": (2, 2), "generation": (1, 2),
    }
)  # fmt: skip
"""Kind -> how many texts its rows have, at least and at most; a choice is a text more."""

OWN_HEAD: Mapping[str, str] = MappingProxyType(
    {
        "classification": "verbaliser", "multiple_choice": "choices", "extractive_qa": "generation",
        "generation": "generation",
    }
)  # fmt: skip
"""Kind -> how a language model's own head answers it: words, or the choices' texts, are scored, or the answer is written."""

IN_WORDS: Mapping[str, str] = MappingProxyType({"multiple_choice": "verbaliser", "regression": "values"})
"""Kind -> the same where its wording has words, and that is another way."""

TEXT_ANSWERS = ("choices", "generation")
"""Ways of OWN_HEAD whose answers are texts of the rows, of at most `train.max_answer` tokens."""

TOKEN_LEVEL = ("tagging", "extractive_qa", "generation")
"""Kinds that are answered place by place: words, tokens of a passage, tokens that are written."""

TAG_SCHEMES: Mapping[str, str] = MappingProxyType(
    {"BIO": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW"}
)
"""Scheme of tags -> the prefixes of words in an entity; words outside of one have the tag O. M is the I of BIOES, W its S.

Source: Xue & Shen (2003) for BMES; LingPipe for BMEWO. IOB1 is read as BIO, IOE1 and IOE2 as BIOES.
"""


def own_head(kind: str, in_words: bool) -> str:
    """How a language model's own head answers a kind, whose wording has words or has none; empty: it does not."""
    usual = OWN_HEAD.get(kind, "")
    return IN_WORDS.get(kind, usual) if in_words else usual


def why_not_answered(kind: str, plm: Plm, in_words: bool) -> str:
    """Why a PLM cannot answer tasks of a kind, whose wording has words or has none, and what to do; empty: it can."""
    how = own_head(kind, in_words)
    if not plm.has_own_head and kind == "generation":
        return (
            "a generation is written by a causal or encoder-decoder language model's own head, and "
            f"{plm.label} is read by a trained one; name such a plm, with plm.head: lm"
        )
    if plm.has_own_head and not how and kind in IN_WORDS:
        return (
            f"a {kind} is not answered by a language model's own head unless its template has `words` that are numbers, "
            "as ['0', '1', '2']; write them, or use plm.head: linear"
        )
    if plm.has_own_head and not how:
        return f"a {kind} is not answered by a language model's own head; use plm.head: linear"
    if plm.kind == "masked_lm" and how == "choices":
        return (
            f"its choices are texts, and {plm.label} is a masked language model, which fills in one token; give it a "
            "template that names the choices and `words` that answer for them, as in 'A: {first} B: {second} Right: {answer}' "
            "and [A, B], or name a causal or encoder-decoder plm, or use plm.head: linear"
        )
    if plm.kind == "masked_lm" and how == "generation":
        return (
            f"its answers are written, and {plm.label} is a masked language model, which fills in one token and writes "
            f"nothing; name a causal or encoder-decoder plm{', or use plm.head: linear' if kind == 'extractive_qa' else ''}"
        )
    return ""


def usual_metrics(kind: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The metrics of a task that names none, the score first; of tags without entities the share of right words."""
    if kind == "classification":
        return ("accuracy", "macro_f1")
    if kind == "tagging" and not tag_schemes(classes):
        return ("word_accuracy",)
    return METRIC_NAMES[kind]


def tag_schemes(tags: Sequence[str]) -> tuple[str, ...]:
    """The schemes of TAG_SCHEMES that tags can be of; none where they mark no entities."""
    prefixes = _prefixes(tags)
    return tuple(name for name, known in TAG_SCHEMES.items() if prefixes and prefixes <= set(known))


def _prefixes(tags: Sequence[str]) -> set[str]:
    """What stands before the dash of tags other than O; of one without a dash the whole."""
    parted = [(tag, *tag.partition("-")) for tag in tags]
    return {prefix if dash and named else tag for tag, prefix, dash, named in parted} - {"O"}


def spelt_as(tags: Sequence[str]) -> str:
    """A tag as a known scheme spells it, where all of these spell their scheme otherwise: b-X, B_X, X-B; empty: they do not."""
    for respell in (_upper, _dashed, _turned):
        spelt = [respell(tag) for tag in tags]
        if spelt != list(tags) and tag_schemes(spelt) and all(tag == "O" or "-" in tag for tag in spelt):
            return next(f"{old} as {new}" for old, new in zip(tags, spelt, strict=True) if old != new)
    return ""


def _upper(tag: str) -> str:
    prefix, dash, named = tag.partition("-")
    return f"{prefix.upper()}{dash}{named}"


def _dashed(tag: str) -> str:
    return re.sub(r"^([A-Za-z])[_./:|]", lambda found: f"{found[1].upper()}-", tag)


def _turned(tag: str) -> str:
    return re.sub(r"^(.+)[-_/|]([A-Z])$", r"\2-\1", tag)


def tag_problems(tags: Sequence[str]) -> Iterator[str]:
    """Why no entities can be read from tags."""
    prefixes = _prefixes(tags)
    if prefixes and not tag_schemes(tags):
        known = ", ".join(f"{name} ({', '.join(prefixes)})" for name, prefixes in TAG_SCHEMES.items())
        yield (
            f"entity_f1 reads tags O and <prefix>-<type>, with prefixes of one scheme of {known}, "
            f"got {', '.join(sorted(prefixes))}: rename the tags, or use metrics: [word_accuracy]"
        )
