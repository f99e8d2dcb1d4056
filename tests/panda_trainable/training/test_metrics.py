"""Metrics: every row by hand and against scikit-learn and SciPy, and scores of resampled rows."""

import math
import re
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from panda_trainable.config.kinds import METRIC_NAMES
from panda_trainable.data.gold import MASKED, UNWRITTEN, AnswerGold, TagGold, TextGold
from panda_trainable.training.metrics import (
    ANSWER_TOKENS,
    METRICS,
    answer,
    entities,
    normalised_answer,
    predicted_tags,
    rouge_l,
)

KIND = {metric: kind for kind, metrics in reversed(METRIC_NAMES.items()) for metric in metrics}
LABELS = np.array([1, 1, 1, 0, 0])
PREDICTED = np.eye(2, dtype=np.float32)[[1, 1, 0, 0, 1]]  # true positives 2, misses 1, false alarms 1, true negatives 1
VALUES = np.array([1, 2, 3, 10], np.float32)
GUESSES = np.array([[1], [2], [4], [3]], np.float32)
PEARSON, SPEARMAN = 7 / math.sqrt(5 * 50), 1 - 6 * (1 + 1) / (4 * 15)
CORRELATIONS = METRIC_NAMES["regression"]
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-MISC", "I-MISC")


def asked(labels: np.ndarray, questions: Sequence[int]) -> np.ndarray:
    """Labels with the number of their question."""
    both = np.empty(len(labels), [("label", labels.dtype), ("question", np.int64)])
    both["label"], both["question"] = labels, questions
    return both


def objects(values: Sequence[object]) -> np.ndarray:
    """[N] gold that is no number."""
    made = np.empty(len(values), object)
    made[:] = values
    return made


def sentence(tags: str, seen: int | None = None) -> TagGold:
    """A sentence of tags, of which the PLM saw so many words; token 0 is `[CLS]`."""
    numbers = tuple(TAGS.index(tag) for tag in tags.split())
    return TagGold(TAGS, numbers, tuple(w + 1 if w < (seen or 99) else -1 for w in range(len(numbers))))


def tagged(*rows: str) -> np.ndarray:
    """[N, W, C] logits that say these tags; for further words the fifth tag."""
    logits = np.zeros((len(rows), max(len(row.split()) for row in rows), len(TAGS)), np.float32)
    logits[..., 4] = 0.5
    for i, row in enumerate(rows):
        for word, tag in enumerate(row.split()):
            logits[i, word, TAGS.index(tag)] = 1
    return logits


def passage(text: str, *answers: str, question: int = 2) -> AnswerGold:
    """A passage behind a question of so many tokens; words and signs are tokens."""
    spans = [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
    return AnswerGold(text, answers, np.array([(0, 0)] * question + spans, np.int32))


def chosen(gold: AnswerGold, said: str, width: int = 60, question: int = 2) -> np.ndarray:
    """[2, T] start and end logits that choose a text of the passage, as a head gives them."""
    logits = np.full((2, width), MASKED, np.float32)
    logits[:, question : len(gold.offsets)] = 0
    first = gold.passage.index(said)
    starts, ends = gold.offsets[question:].T
    logits[0, question + np.flatnonzero(starts == first)[0]] = 9
    logits[1, question + np.flatnonzero(ends == first + len(said))[0]] = 9
    return logits


BOX = passage("The Blue box holds a pen and the red box holds two cups.", "a pen")
CUPS = passage("The Blue box holds a pen and the red box holds two cups.", "two cups", "cups")
BY_HAND = {
    "accuracy": (PREDICTED, LABELS, 3 / 5),
    "f1": (PREDICTED, LABELS, 2 * 2 / (2 * 2 + 1 + 1)),
    "macro_f1": (PREDICTED, LABELS, (2 / 3 + 1 / 2) / 2),
    "macro_recall": (PREDICTED, LABELS, (2 / 3 + 1 / 2) / 2),
    "matthews": (PREDICTED, LABELS, (2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2)),
    "accuracy_f1": (PREDICTED, LABELS, (3 / 5 + 2 / 3) / 2),
    "accuracy_macro_f1": (PREDICTED, LABELS, (3 / 5 + (2 / 3 + 1 / 2) / 2) / 2),
    "question_match": (PREDICTED, asked(LABELS, [7, 7, 3, 3, 5]), 1 / 3),  # of question 3 one row of two is wrong
    "pearson": (GUESSES, VALUES, PEARSON),
    "spearman": (GUESSES, VALUES, SPEARMAN),
    "pearson_spearman": (GUESSES, VALUES, (PEARSON + SPEARMAN) / 2),
    # right: PER; predicted: PER; true: PER, LOC, and a LOC that the PLM did not see
    "entity_f1": (
        tagged("B-PER I-PER O O", "O B-LOC"), objects([sentence("B-PER I-PER O B-LOC"), sentence("O B-LOC", seen=1)]),
        2 * 1 / (1 + 3),
    ),
    "word_accuracy": (
        tagged("B-PER I-PER O O", "O B-LOC"), objects([sentence("B-PER I-PER O B-LOC"), sentence("O B-LOC", seen=1)]),
        (3 + 1) / (4 + 2),
    ),
    # "a pen and" is (pen, and) against (pen): 2·1/(2+1); "two cups" is right
    "answer_f1": (
        np.stack([chosen(BOX, "a pen and"), chosen(CUPS, "two cups")]), objects([BOX, CUPS]), (2 / 3 + 1) / 2
    ),
    "exact_match": (np.stack([chosen(BOX, "a pen and"), chosen(CUPS, "two cups")]), objects([BOX, CUPS]), 1 / 2),
    # of "a red pen" and "the red box pen" the longest common subsequence is (red, pen): 2·2/(3+4)
    "rouge_l": (
        np.array(["a red pen", "Two cups!"]), objects([TextGold(("pens", "the red box pen")), TextGold(("two cups",))]),
        (4 / 7 + 1) / 2,
    ),
}  # fmt: skip


def test_every_row_of_the_table_has_a_value_by_hand() -> None:
    assert set(METRICS) == set(BY_HAND) == set(KIND)


@pytest.mark.parametrize("name", METRICS)
def test_the_value_by_hand(name: str) -> None:
    logits, gold, expected = BY_HAND[name]
    assert METRICS[name](logits, gold) == pytest.approx(expected, abs=1e-6)


def perfect(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right wherever they may be."""
    _, gold, _ = BY_HAND[name]
    if KIND[name] == "regression":
        return gold[:, None], gold
    if KIND[name] == "tagging":
        whole = [TagGold(TAGS, row.tags, tuple(range(len(row.tags)))) for row in gold]
        return tagged(*(" ".join(TAGS[tag] for tag in row.tags) for row in whole)), objects(whole)
    if KIND[name] == "extractive_qa":
        return np.stack([chosen(row, row.answers[0]) for row in gold]), gold
    if KIND[name] == "generation":
        return np.array([row.answers[-1] for row in gold]), gold
    return np.eye(2)[gold["label"] if gold.dtype.names else gold], gold


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_prediction_scores_one(name: str) -> None:
    assert METRICS[name](*perfect(name)) == pytest.approx(1)


def drawn(name: str, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random logits and gold that fit a metric."""
    generator = np.random.default_rng(seed)
    if KIND[name] == "regression":
        return generator.normal(size=(rows, 1)), generator.integers(0, 5, rows).astype(float)
    if KIND[name] == "tagging":
        lengths = generator.integers(1, 7, rows)
        tags = [tuple(generator.choice(len(TAGS), n)) for n in lengths]
        slots = [tuple(range(1, 1 + min(n, 5))) + (-1,) * max(0, n - 5) for n in lengths]
        logits = generator.normal(size=(rows, 5, len(TAGS)))
        for row, own in zip(logits, tags, strict=True):
            row[np.arange(min(5, len(own))), own[:5]] += 2
        return logits, objects([TagGold(TAGS, t, s) for t, s in zip(tags, slots, strict=True)])
    if KIND[name] == "extractive_qa":
        texts = [" ".join(generator.choice(["a", "pen", "Cup", "box"], 6)) for _ in range(rows)]
        return generator.normal(size=(rows, 2, 8)), objects([passage(text, text.split()[1]) for text in texts])
    if KIND[name] == "generation":
        texts = [" ".join(generator.choice(["pen", "cup", "box"], 5)) for _ in range(2 * rows)]
        return np.array(texts[:rows]), objects([TextGold((text,)) for text in texts[rows:]])
    logits, labels = generator.normal(size=(rows, 2)), generator.integers(0, 2, rows)
    return logits, asked(labels, generator.integers(0, rows // 2, rows)) if name == "question_match" else labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", METRICS)
def test_the_score_of_resampled_rows_is_the_metric_of_those_rows(name: str, seed: int) -> None:
    metric, (logits, gold) = METRICS[name], drawn(name, 30, seed)
    rows = metric.rows(logits, gold)
    assert len(rows) == 30
    for some in (np.random.default_rng(seed).integers(0, 30, 40), np.arange(30), np.array([seed])):
        assert metric.score(rows[some]) == metric(logits[some], gold[some])
    assert 0 < abs(metric(logits, gold)) < 1


@pytest.mark.parametrize("name", [name for name, kind in KIND.items() if kind in ("classification", "regression")])
def test_rows_that_know_their_question_score_as_rows_that_do_not(name: str) -> None:
    logits, gold = drawn(name, 30, 0)
    plain = gold["label"] if gold.dtype.names else gold
    known = asked(plain, np.arange(30))  # a question of its own each
    expected = METRICS["accuracy" if name == "question_match" else name](logits, plain)
    assert METRICS[name](logits, known) == pytest.approx(expected)


# against scikit-learn and SciPy

OF_CLASSES: dict[str, Callable[..., float]] = {
    "accuracy": sk.accuracy_score,
    "macro_f1": lambda true, said: sk.f1_score(true, said, average="macro", zero_division=0),
    "macro_recall": sk.balanced_accuracy_score,
    "matthews": sk.matthews_corrcoef,
    "f1": lambda true, said: sk.f1_score(true, said, zero_division=0),
}


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_metric_of_classes_is_scikit_learns_whatever_the_confusions(name: str, classes: int) -> None:
    if name == "f1" and classes > 2:
        pytest.skip("f1 is of two classes")
    generator = np.random.default_rng(classes)
    for rows in [*range(2, 30), 500]:  # few rows: some classes are neither there nor predicted
        logits, labels = generator.normal(size=(rows, classes)), generator.integers(0, classes, rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns where a class is missing
            expected = OF_CLASSES[name](labels, logits.argmax(1))
        assert METRICS[name](logits, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "measure"), [("pearson", stats.pearsonr), ("spearman", stats.spearmanr)])
def test_a_correlation_is_scipys_also_with_ties(name: str, measure: Callable[..., tuple[float, float]]) -> None:
    generator = np.random.default_rng(0)
    for rows in (5, 20, 300):
        said, values = generator.normal(size=rows), generator.integers(0, 4, rows).astype(float)
        assert METRICS[name](said[:, None], values) == pytest.approx(float(measure(said, values)[0]), abs=1e-12)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "macro_recall", "matthews"])
def test_a_class_that_is_never_predicted_is_scored_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 < METRICS[name](np.eye(3)[[0, 1, 1, 0]], np.array([0, 1, 2, 0])) < 1


@pytest.mark.parametrize("name", CORRELATIONS)
def test_a_constant_prediction_correlates_with_nothing_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert METRICS[name](np.zeros((4, 1)), VALUES) == 0
        assert METRICS[name](GUESSES, np.ones(4)) == 0


@pytest.mark.parametrize("name", CORRELATIONS)
def test_a_prediction_that_is_not_finite_has_no_correlation(name: str) -> None:
    assert math.isnan(METRICS[name](np.full((4, 1), np.nan), VALUES))


# tags


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O", {("PER", 0, 1)}),
        ("I-PER I-PER", {("PER", 0, 1)}),  # I without B begins one
        ("O I-LOC O I-LOC", {("LOC", 1, 1), ("LOC", 3, 3)}),
        ("B-PER B-PER", {("PER", 0, 0), ("PER", 1, 1)}),  # adjacent
        ("B-PER I-LOC I-LOC", {("PER", 0, 0), ("LOC", 1, 2)}),  # the type changes
        ("I-PER B-PER I-PER", {("PER", 0, 0), ("PER", 1, 2)}),
        ("B-C-A1 I-C-A1 I-A1", {("C-A1", 0, 1), ("A1", 2, 2)}),  # roles that go on have a dash in their name
        ("B-X I-X E-X S-Y", {("X", 0, 2), ("Y", 3, 3)}),
        ("B-X L-X U-X O L-Y", {("X", 0, 1), ("X", 2, 2), ("Y", 4, 4)}),
        ("E-X E-X I-X S-X", {("X", 0, 0), ("X", 1, 1), ("X", 2, 2), ("X", 3, 3)}),
        ("S-X I-X U-X I-X", {("X", 0, 0), ("X", 1, 1), ("X", 2, 2), ("X", 3, 3)}),
        ("B-X E-Y I-Y", {("X", 0, 0), ("Y", 1, 1), ("Y", 2, 2)}),
        ("O O", set()),
        ("", set()),
    ],
)
def test_the_entities_of_tags_by_hand(tags: str, expected: set[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == expected


def test_the_entities_of_any_tags_are_the_chunks_of_conll() -> None:
    def begins(tags: list[str], i: int) -> bool:
        return tags[i][0] == "B" or (tags[i][0] == "I" and (i == 0 or tags[i - 1][1:] != tags[i][1:]))

    def goes_on(tags: list[str], i: int) -> bool:
        return i < len(tags) and tags[i][0] == "I" and not begins(tags, i)

    generator = np.random.default_rng(0)
    for _ in range(300):
        tags = [str(tag) for tag in generator.choice(TAGS[:5], int(generator.integers(1, 9)))]
        expected = set()
        for first in range(len(tags)):
            last = first
            while goes_on(tags, last + 1):
                last += 1
            if begins(tags, first):
                expected.add((tags[first][2:], first, last))
        assert entities(tags) == expected


def test_a_word_that_the_plm_did_not_see_is_outside_whatever_the_logits_say() -> None:
    gold = sentence("B-PER I-PER B-LOC O", seen=2)
    assert predicted_tags(tagged("B-PER O B-LOC B-LOC")[0], gold) == ["B-PER", "O", "O", "O"]
    assert predicted_tags(tagged("B-PER O")[0], gold) == ["B-PER", "O", "O", "O"]  # a table as wide as what was seen
    none = TagGold(("NOUN", "VERB"), (1, 1), (1, -1))
    assert predicted_tags(np.array([[0.0, 1.0]]), none) == ["VERB", "NOUN"]  # tags without an outside


def test_an_entity_half_behind_the_cut_is_missed() -> None:
    gold = objects([sentence("B-LOC I-LOC", seen=1)])
    assert METRICS["entity_f1"].rows(tagged("B-LOC I-LOC"), gold).tolist() == [[0, 1, 1]]


def test_sentences_without_an_entity_score_nothing() -> None:
    assert METRICS["entity_f1"](tagged("O O"), objects([sentence("O O")])) == 0


# answers


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("The  Cat!", "cat"),
        ("an apple, a pear", "apple pear"),
        ("Anna's theatre", "annas theatre"),  # articles are whole words
        ("1,000", "1000"),
        ("U.S.A.", "usa"),
        ("the", ""),
    ],
)
def test_an_answer_is_compared_without_case_signs_and_articles(said: str, expected: str) -> None:
    assert normalised_answer(said) == expected


@pytest.mark.parametrize(
    ("said", "true", "f1", "match"),
    [
        ("the red cup", ["Red cup."], 1, 1),
        ("red cup", ["blue cup"], 1 / 2, 0),
        ("cup", ["red cup"], 2 / 3, 0),
        ("red red cup", ["red cup cup"], 2 * 2 / 6, 0),  # a word counts as often as both have it
        ("cup", ["pen", "red cup", "box"], 2 / 3, 0),  # of several right answers the nearest
        ("box", ["pen", "box"], 1, 1),
        ("pen", ["box"], 0, 0),
        ("the", ["a"], 1, 1),
        ("the", ["box"], 0, 0),
    ],
)
def test_two_answers_by_hand(said: str, true: list[str], f1: float, match: float) -> None:
    gold = passage(said, *true)
    logits = chosen(gold, said)[None]
    assert METRICS["answer_f1"](logits, objects([gold])) == pytest.approx(f1)
    assert METRICS["exact_match"](logits, objects([gold])) == match


@pytest.mark.parametrize(
    ("said", "true", "expected"),
    [
        ("police killed the gunman", "police kill the gunman", 3 / 4),  # Lin (2004), section 3
        ("the gunman kill police", "police kill the gunman", 2 / 4),
        ("the gunman police killed", "police killed the gunman", 2 / 4),
        ("a b c d", "d c b a", 1 / 4),
        ("one", "one two three", 2 / 4),
        ("Pen-Box!", "pen box", 1),
        ("", "pen", 0),
        ("?", "pen", 0),
        ("ручка красная", "красная ручка", 1 / 2),
        (UNWRITTEN, "pen", 0),
    ],
)
def test_the_longest_common_subsequence_by_hand(said: str, true: str, expected: float) -> None:
    assert rouge_l(said, true) == rouge_l(true, said) == pytest.approx(expected)


def test_it_is_that_of_rouge_score_on_plain_english() -> None:
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    scorer, generator = rouge_scorer.RougeScorer(["rougeL"]), np.random.default_rng(0)
    words = ["the", "The", "pen,", "red", "box.", "it's", "3.5", "cup_a", "well-known", "--"]
    for _ in range(300):
        said, true = (" ".join(generator.choice(words, int(generator.integers(0, 12)))) for _ in range(2))
        assert rouge_l(said, true) == pytest.approx(scorer.score(true, said)["rougeL"].fmeasure)


def test_texts_that_are_written_are_compared_as_answers_of_passages() -> None:
    gold, texts = objects([TextGold(("red cup", "blue cup"))]), np.array(["The blue cup."])
    assert METRICS["exact_match"](texts, gold) == METRICS["answer_f1"](texts, gold) == 1
    assert METRICS["answer_f1"](np.array(["cup"]), gold) == pytest.approx(2 / 3)
    assert METRICS["exact_match"](np.array([""]), gold) == 0


def spread(tokens: int) -> AnswerGold:
    """A passage of so many words `0 1 2 …`, without a question."""
    return passage(" ".join(map(str, range(tokens))), "0", question=0)


@pytest.mark.parametrize(("end", "expected"), [(ANSWER_TOKENS - 1, ANSWER_TOKENS), (ANSWER_TOKENS, 1)])
def test_an_answer_has_at_most_so_many_tokens(end: int, expected: int) -> None:
    logits = np.zeros((2, 40))
    logits[0, 0], logits[1, end] = 5, 3
    said = answer(logits, spread(40)).split()
    assert (said[0], len(said)) == ("0", expected)  # the start alone is worth more than the end alone


def test_an_answer_never_ends_before_it_starts() -> None:
    logits = np.zeros((2, 9))
    logits[0, 6], logits[1, 2] = 5, 4
    logits[1, 8] = 1
    assert answer(logits, spread(9)) == "6 7 8"  # 5 + 1; from 6 to 2 would be 5 + 4


@pytest.mark.parametrize("seed", range(5))
def test_an_answer_is_the_best_of_all_spans(seed: int) -> None:
    logits, gold = np.random.default_rng(seed).normal(size=(2, 12)), spread(12)
    spans = [(logits[0, i] + logits[1, j], i, j) for i in range(12) for j in range(i, 12)]
    _, first, last = max(spans)
    assert answer(logits, gold) == " ".join(map(str, range(first, last + 1)))


def test_an_answer_lies_in_the_passage_however_unlikely_its_tokens() -> None:
    gold = passage("red cup", "cup", question=5)
    logits = np.full((2, 9), MASKED, np.float32)
    logits[:, 5:7] = [[-300, -200], [-300, -200]]
    assert answer(logits, gold) == "cup"


# A real sample: three sentences of CoNLL-2003 and three passages of SQuAD 1.1, scored by hand.

SENTENCES = [
    ("EU rejects German call to boycott British lamb .", "B-ORG O B-MISC O O O B-MISC O O"),
    (
        "Germany 's representative to the European Union 's veterinary committee Werner Zwingmann said",
        "B-LOC O O O O B-ORG I-ORG O O O B-PER I-PER O",
    ),
    ("Only France and Britain backed Fischler 's proposal .", "O B-LOC O B-LOC O B-PER O O O"),
]
SAID = [
    "B-ORG O B-LOC O O O B-MISC O O",
    "B-LOC O O O O I-ORG I-ORG O O O B-PER B-PER O",
    "O B-LOC I-LOC B-LOC O",  # the PLM sees five words
]


def test_three_real_sentences_score_what_was_worked_by_hand() -> None:
    assert all(len(words.split()) == len(tags.split()) for words, tags in SENTENCES)
    gold = objects([sentence(tags, seen) for (_, tags), seen in zip(SENTENCES, (None, None, 5), strict=True)])
    rows = METRICS["entity_f1"].rows(tagged(*SAID), gold)
    # 1: EU and British of EU, German (called a place), British.
    # 2: Germany, European Union (its first word is I-, and it counts); Werner and Zwingmann apart are no name.
    # 3: Britain; "France and" is no place; Fischler stands behind the cut.
    assert rows.tolist() == [[2, 3, 3], [2, 4, 3], [1, 2, 3]]
    assert METRICS["entity_f1"](tagged(*SAID), gold) == pytest.approx(2 * 5 / (9 + 9))
    # words: 1 of 9 wrong (German), 2 of 13 (European, Zwingmann), 2 of 9 (and, Fischler)
    assert METRICS["word_accuracy"](tagged(*SAID), gold) == pytest.approx((8 + 11 + 7) / (9 + 13 + 9))


def test_three_real_passages_score_what_was_worked_by_hand() -> None:
    gold = [
        passage(
            "The American Football Conference (AFC) champion Denver Broncos defeated the National Football Conference "
            "(NFC) champion Carolina Panthers 24–10 to earn their third Super Bowl title.",
            "Denver Broncos", "Denver Broncos", "Denver Broncos",
        ),
        passage(
            "The game was played on February 7, 2016, at Levi's Stadium in the San Francisco Bay Area at Santa Clara, "
            "California.",
            "Santa Clara, California", "Levi's Stadium",
            "Levi's Stadium in the San Francisco Bay Area at Santa Clara, California.",
        ),
        passage(
            "Atop the Main Building's gold dome is a golden statue of the Virgin Mary.",
            "a golden statue of the Virgin Mary",
        ),
    ]  # fmt: skip
    said = ["Denver Broncos", "Levi's Stadium in the San Francisco Bay Area", "golden statue of the Virgin Mary."]
    logits = np.stack([chosen(row, text) for row, text in zip(gold, said, strict=True)])
    assert [answer(each, row) for each, row in zip(logits, gold, strict=True)] == said
    # 2 has 7 words (the article does not count): 0 of 3 + 7 in common with the first answer, 2 of 2 + 7 with the
    # second, 7 of 11 + 7 with the third, which is the nearest: 2·7/18. 3 differs by an article and a full stop.
    assert METRICS["answer_f1"].rows(logits, objects(gold))[:, 0].tolist() == pytest.approx([1, 14 / 18, 1])
    assert METRICS["answer_f1"](logits, objects(gold)) == pytest.approx((1 + 14 / 18 + 1) / 3)
    assert METRICS["exact_match"](logits, objects(gold)) == pytest.approx(2 / 3)


def test_a_question_is_right_where_all_its_rows_are() -> None:
    hits = np.array([1, 1, 1, 0, 1, 1])
    logits = np.eye(2)[hits]  # every label is 1
    labels = np.ones(6, int)
    for questions, expected in (([4, 4, 2, 2, 9, 9], 2 / 3), ([4, 2, 4, 2, 4, 2], 1 / 2), ([0, 1, 2, 3, 4, 5], 5 / 6)):
        assert METRICS["question_match"](logits, asked(labels, questions)) == pytest.approx(expected)
