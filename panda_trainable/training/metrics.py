"""Task metrics: pure functions of predictions (logits, or texts) and gold, in two steps, so that rows can be resampled.

First what each row contributes (a hit, a count, a pair of class and prediction), then the score of
any selection of rows: a bootstrap computes the first step once.
"""

import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panda_trainable.data.gold import AnswerGold, TagGold, TextGold

Array = NDArray[Any]
Rows = NDArray[np.float64]

ANSWER_TOKENS = 30
"""Tokens of an answer at most. Source: the usual decoding of SQuAD."""


@dataclass(frozen=True)
class Metric:
    """A score in [0, 1], or [-1, 1] for correlations; larger is better.

    Attributes:
        rows: what each row contributes: [N, M] from logits [N, …] and gold [N].
        score: the score of contributions [n, M].
    """

    rows: Callable[[Array, Array], Rows]
    score: Callable[[Rows], float]

    def __call__(self, logits: Array, gold: Array) -> float:
        """The score of logits [N, …] against gold [N]."""
        return self.score(self.rows(logits, gold))


def _labels(gold: Array) -> Array:
    return gold["label"] if gold.dtype.names else gold


def _hits(logits: Array, gold: Array) -> Rows:
    """[N, 1] one where the largest logit is the label's."""
    return (logits.argmax(1) == _labels(gold)).astype(float)[:, None]


def _confusions(logits: Array, gold: Array) -> Rows:
    """[N, 3] class, prediction, and the number of classes."""
    return np.stack([_labels(gold), logits.argmax(1), np.full(len(logits), logits.shape[1])], 1).astype(float)


def _table(rows: Rows) -> NDArray[np.float64]:
    """[C, C] counts by class and prediction."""
    classes = int(rows[0, 2])
    pairs = (rows[:, 0] * classes + rows[:, 1]).astype(np.int64)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(float)


def _ratio(over: Array, under: Array) -> NDArray[np.float64]:
    """Over / under; 0 where nothing is counted, which is the truth for a class that is never predicted."""
    return np.divide(over, under, out=np.zeros(np.shape(over)), where=under > 0)


def _accuracy(rows: Rows) -> float:
    return float((rows[:, 0] == rows[:, 1]).mean())


def _f1(rows: Rows) -> float:
    table = _table(rows)
    return float(_ratio(2 * table[1, 1], table[1].sum() + table[:, 1].sum()))


def _macro_f1(rows: Rows) -> float:
    table = _table(rows)
    there = (table.sum(0) + table.sum(1)) > 0
    return float(_ratio(2 * table.diagonal(), table.sum(0) + table.sum(1))[there].mean())


def _macro_recall(rows: Rows) -> float:
    table = _table(rows)
    there = table.sum(1) > 0
    return float(_ratio(table.diagonal(), table.sum(1))[there].mean())


def _matthews(rows: Rows) -> float:
    table = _table(rows)
    n, said, true = table.sum(), table.sum(0), table.sum(1)
    under = np.sqrt((n**2 - said @ said) * (n**2 - true @ true))
    return float((table.trace() * n - said @ true) / under) if under > 0 else 0.0


def _mean(*scores: Callable[[Rows], float]) -> Callable[[Rows], float]:
    return lambda rows: float(np.mean([score(rows) for score in scores]))


def _values(logits: Array, gold: Array) -> Rows:
    """[N, 2] prediction and value."""
    return np.stack([logits[:, 0], _labels(gold)], 1).astype(float)


def _correlation(measure: str) -> Callable[[Rows], float]:
    """A correlation in [-1, 1], a function of SciPy's statistics; 0 where predictions or values are constant."""

    def score(rows: Rows) -> float:
        from scipy import stats  # it takes half a second, which prediction without labels need not wait for

        if np.isfinite(rows).all() and (np.ptp(rows, axis=0) == 0).any():
            return 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(getattr(stats, measure)(rows[:, 0], rows[:, 1])[0])

    return score


_pearson = _correlation("pearsonr")
_spearman = _correlation("spearmanr")


def _questions(logits: Array, gold: Array) -> Rows:
    """[N, 2] whether a row is right, and the number of its question."""
    return np.concatenate([_hits(logits, gold), gold["question"].astype(float)[:, None]], 1)


def _question_match(rows: Rows) -> float:
    """Share of questions of which every row is right. Source: SuperGLUE, MultiRC's exact match."""
    names, members = np.unique(rows[:, 1], return_inverse=True)
    wrong = np.bincount(members, weights=1 - rows[:, 0], minlength=len(names))
    return float((wrong == 0).mean())


_CONTINUES = frozenset("IELM")
_ENDS = frozenset("ESLUW")
_IN_ENTITY = frozenset("BIESLUMW")


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """The entities of a sentence's tags, as (type, first word, last word).

    A tag inside or at the end begins an entity where none of its type is open, as in the CoNLL evaluation.

    Args:
        tags: `O`, or a prefix of one of the TAG_SCHEMES, a dash and a type.
    """
    found: set[tuple[str, int, int]] = set()
    kind, first = "", 0
    for word, tag in enumerate([*tags, "O"]):
        prefix, _, named = tag.partition("-")
        if kind and (prefix not in _CONTINUES or named != kind):
            found.add((kind, first, word - 1))
            kind = ""
        if prefix in _IN_ENTITY and not kind:
            kind, first = named, word
        if prefix in _ENDS:
            found.add((named, first, word))
            kind = ""
    return found


def predicted_tags(logits: Array, gold: TagGold) -> list[str]:
    """The predicted tag of every word; `O`, or the first tag, for words that the PLM did not see."""
    outside = "O" if "O" in gold.names else gold.names[0]
    said = logits.argmax(1)
    seen = [slot >= 0 for slot in gold.slots]
    return [gold.names[said[word]] if word < len(seen) and seen[word] else outside for word in range(len(gold.tags))]


def _entity_counts(logits: Array, gold: Array) -> Rows:
    """[N, 3] entities that are right, predicted and true."""
    rows = []
    for said, sentence in zip(logits, gold, strict=True):
        predicted, true = entities(predicted_tags(said, sentence)), entities([sentence.names[t] for t in sentence.tags])
        rows.append((len(predicted & true), len(predicted), len(true)))
    return np.array(rows, float)


def _count_f1(rows: Rows) -> float:
    right, predicted, true = rows.sum(0)
    return float(_ratio(2 * right, predicted + true))


def _word_counts(logits: Array, gold: Array) -> Rows:
    """[N, 2] words whose tag is right, and words."""
    rows = []
    for said, sentence in zip(logits, gold, strict=True):
        tags = predicted_tags(said, sentence)
        right = sum(tag == sentence.names[true] for tag, true in zip(tags, sentence.tags, strict=True))
        rows.append((right, len(tags)))
    return np.array(rows, float)


def _count_share(rows: Rows) -> float:
    return float(rows[:, 0].sum() / rows[:, 1].sum())


def answer(logits: Array, gold: AnswerGold) -> str:
    """The answer that start and end logits [2, T] choose."""
    first, last = answer_tokens(logits)
    return gold.passage[gold.offsets[first, 0] : gold.offsets[last, 1]]


def answer_tokens(logits: Array) -> tuple[int, int]:
    """First and last token that start and end logits [2, T] choose: the best span of at most ANSWER_TOKENS tokens."""
    start, end = logits
    best, chosen = -np.inf, (0, 0)
    for length in range(min(ANSWER_TOKENS, len(start))):
        sums = start[: len(start) - length] + end[length:]
        first = int(sums.argmax())
        if sums[first] > best:
            best, chosen = float(sums[first]), (first, first + length)
    return chosen


def normalised_answer(text: str) -> str:
    """An answer as SQuAD compares it: no case, punctuation, articles or more than single spaces."""
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _same_answer(said: str, true: str) -> float:
    return float(normalised_answer(said) == normalised_answer(true))


def _answer_overlap(said: str, true: str) -> float:
    """F1 of the words of two answers."""
    words, others = normalised_answer(said).split(), normalised_answer(true).split()
    if not words or not others:
        return float(words == others)
    common = sum((Counter(words) & Counter(others)).values())
    return 2 * common / (len(words) + len(others))


def rouge_l(said: str, true: str) -> float:
    """ROUGE-L: F-measure of the longest common subsequence of two texts' words, in lower case, without punctuation.

    In [0, 1]; 0 where either has no word.

    Source: Lin, ROUGE (2004), β = 1, as the package rouge-score computes it without stemming. Deviation: words of all
    alphabets count, where that package knows a to z; docs/deviations.md#rouge.
    """
    words, others = (re.findall(r"\w+", text.lower().replace("_", " ")) for text in (said, true))
    lengths = [0] * (len(others) + 1)
    for word in words:
        before = 0  # the length for one word less of both
        for i, other in enumerate(others, 1):
            before, lengths[i] = lengths[i], before + 1 if word == other else max(lengths[i], lengths[i - 1])
    return 2 * lengths[-1] / (len(words) + len(others)) if words and others else 0.0


def _best_answer(compare: Callable[[str, str], float]) -> Callable[[Array, Array], Rows]:
    """[N, 1] how well the answer, chosen or written, meets the nearest right one. Source: SQuAD's evaluation."""

    def rows(predicted: Array, gold: Array) -> Rows:
        said = [
            str(row) if isinstance(right, TextGold) else answer(row, right)
            for row, right in zip(predicted, gold, strict=True)
        ]
        return np.array([[max(compare(s, true) for true in g.answers)] for s, g in zip(said, gold, strict=True)])

    return rows


def _average(rows: Rows) -> float:
    return float(rows[:, 0].mean())


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "accuracy": Metric(_confusions, _accuracy),
        "f1": Metric(_confusions, _f1),
        "macro_f1": Metric(_confusions, _macro_f1),
        "macro_recall": Metric(_confusions, _macro_recall),
        "matthews": Metric(_confusions, _matthews),
        "accuracy_f1": Metric(_confusions, _mean(_accuracy, _f1)),
        "accuracy_macro_f1": Metric(_confusions, _mean(_accuracy, _macro_f1)),
        "question_match": Metric(_questions, _question_match),
        "pearson": Metric(_values, _pearson),
        "spearman": Metric(_values, _spearman),
        "pearson_spearman": Metric(_values, _mean(_pearson, _spearman)),
        "entity_f1": Metric(_entity_counts, _count_f1),
        "word_accuracy": Metric(_word_counts, _count_share),
        "answer_f1": Metric(_best_answer(_answer_overlap), _average),
        "exact_match": Metric(_best_answer(_same_answer), _average),
        "rouge_l": Metric(_best_answer(rouge_l), _average),
    }
)
"""Name -> metric. The means of two are GLUE's (MRPC, QQP, STS-B) and SuperGLUE's (CB)."""
