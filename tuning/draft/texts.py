"""Which columns are read: by name where pairs have usual names, else by length. Imports no torch."""

from collections.abc import Collection, Sequence

from tuning.draft.columns import Column, Columns, told_columns
from tuning.draft.values import Guess
from tuning.experiment.questions import OPEN

LABELS = (
    "label", "labels", "class", "gold_label", "target", "category", "y", "answer_key", "answerkey", "gold", "queue",
    "sentiment", "intent", "topic", "emotion", "polarity", "stance", "score", "rating", "stars", "similarity", "correct",
    "is_duplicate", "answer", "department", "genre", "toxic", "spam",
)  # fmt: skip
"""What columns of labels are called, the surest first."""

GENERIC = 10
"""Of LABELS, the first so many say label and nothing else: beside them the others are data."""

PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("sentence_a", "sentence_b"), ("sentence_1", "sentence_2"),
    ("question1", "question2"), ("text1", "text2"), ("text_a", "text_b"), ("text_1", "text_2"), ("question", "passage"),
    ("question", "context"), ("question", "sentence"), ("question", "answer"), ("query", "passage"), ("query", "document"),
    ("claim", "evidence"), ("instruction", "input"), ("subject", "body"), ("title", "body"), ("title", "text"),
    ("title", "content"), ("title", "description"), ("headline", "body"), ("summary", "text"),
)  # fmt: skip
"""What the two texts of a pair are called."""

LONG = 3
"""Words on average from which a second column is read, too, whatever it is called."""

SINGLE = ("text", "sentence", "document", "article", "review", "content", "body", "comment", "tweet", "message", "input", "question")  # fmt: skip
"""What a single text is called."""


def named(columns: Sequence[Column], names: Sequence[str]) -> Column | None:
    """The column that is called by the first of these names that there is, in any case."""
    called = {column.name.lower().replace(" ", "_"): column for column in reversed(columns)}
    return next((called[name] for name in names if name in called), None)


def guess_texts(columns: Columns, without: Collection[str]) -> Guess:
    """The one or two columns that are read.

    Args:
        columns: of the rows.
        without: names of those that are something else.
    """
    rest = [column for column in columns.values() if column.name not in without]
    texts = [column for column in rest if column.is_text]
    for first, second in PAIRS:
        pair = [column for name in (first, second) if (column := named(texts, (name,)))]
        if len(pair) == 2:
            return Guess([column.name for column in pair], "a pair, by their names" + _others(texts, pair))
    if not texts:
        single = [column for column in rest if column.words]
        if len(single) == 1:
            return Guess(single[0].name, "the one column of texts, though the same few come again")
        return Guess(OPEN, f"which column is read? there are: {told_columns(rest)}")
    longest = sorted(texts, key=lambda column: -column.words)[:2]
    if len(texts) == 2 and longest[1].words >= LONG:
        return Guess(
            [c.name for c in texts], f"both columns of texts ({texts[0].words:.0f} and {texts[1].words:.0f} words)"
        )
    text = longest[0] if longest[0].words >= LONG else named(texts, SINGLE) or longest[0]
    reason = f"the longest texts ({text.words:.0f} words on average)" if len(texts) > 1 else "the one column of texts"
    return Guess(text.name, reason + _others(texts, [text]))


def _others(texts: Sequence[Column], taken: Sequence[Column]) -> str:
    """What else there is to read, and how it is read along."""
    others = [column for column in texts if column not in taken]
    if not others:
        return ""
    both = " ".join(f"{{{column.name}}}" for column in (others[0], taken[-1]))
    return f"; there are also: {told_columns(others)}; to read several as one: '{both}'"
