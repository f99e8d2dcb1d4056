"""Kinds of tasks, known by their columns: recognisers in the order in which they are asked. Imports no torch."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from panda_trainable.config.kinds import tag_schemes
from panda_trainable.data.labels import whole_number
from tuning.draft.columns import ID_NAME, Column, Columns, is_answer, told_columns
from tuning.draft.texts import GENERIC, LABELS, guess_texts, named
from tuning.draft.values import Guess
from tuning.experiment.questions import OPEN

Found = dict[str, Guess]
"""Key of the task -> guess; `kind` among them."""

NEARLY = 0.9
"""Share of rows in which something is as it is expected."""

MOST_CHOICES = 10
NUMBERED = re.compile(r"(?P<stem>.*?(choice|option|ending|sol|answer|alternative|hypothesis)[-_ ]?)(?P<number>\d+|[a-e])", re.IGNORECASE)  # fmt: skip
QUESTIONS = ("question", "query")
TAGS = ("ner_tags", "tags", "ner", "labels", "label", "entities", "pos_tags", "pos")
MOST_STARS = 20
"""Different whole numbers that may still be classes; more are the values of a regression."""

WRITTEN = (
    "summary", "highlights", "output", "completion", "response", "answer", "answers", "translation", "headline",
    "target_text", "target", "label", "reference", "references", "long_answer",
)  # fmt: skip
"""What texts that are written are called."""


def _answers(columns: Columns) -> Found | None:
    """Extractive QA: a column whose values are answers with their places."""
    held = [c for c in columns.values() if c.values and all(map(is_answer, c.values))]
    if not held:
        return None
    label, texts = held[0], [column for column in columns.values() if column.is_text]
    passage = next((column for column in texts if _holds(column, label)), None)
    others = [column for column in texts if column is not passage]
    question = named(others, QUESTIONS) or (others[0] if len(others) == 1 else None)
    found = {
        "kind": Guess("extractive_qa", f"{label.name} holds answers with their places"),
        "text": Guess(OPEN, f"[question, passage]: which columns? there are: {told_columns(texts)}"),
        "label": Guess(label.name, "text and answer_start"),
    }
    if passage and question:
        found["text"] = Guess(
            [question.name, passage.name], f"question and passage: the answers stand in {passage.name}"
        )
    return found


def _holds(passage: Column, label: Column) -> bool:
    """Whether the first answer stands in the first value of a column where it says."""
    if not passage.values or not isinstance(passage.values[0], str):
        return False
    answer = label.values[0]
    first = answer[0] if isinstance(answer, list) else {key: answer[key][:1] for key in ("text", "answer_start")}
    text, start = first["text"], first["answer_start"]
    text, start = (text[0], start[0]) if isinstance(text, list) and text and start else (text, start)
    if not isinstance(text, str) or (place := whole_number(start)) is None:
        return False
    return passage.values[0][place : place + len(text)] == text


def _choices(columns: Columns) -> Found | None:
    """Multiple choice: a column of lists of one length, or numbered columns, and which of them is right."""
    for choices, number, names in _lists_of_choices(columns):
        rest = [c for c in columns.values() if c.name not in choices and not c.name.endswith(".label")]
        right = [column for column in rest if _chooses(column, number, names)]
        label = named(right, LABELS) or (right[0] if len(right) == 1 else None)
        if label is None and not right:
            continue
        texts = [column for column in rest if column.is_text and column not in right]
        stem = named(texts, ("stem", *QUESTIONS, "premise", "context", "ctx", "goal", "sentence")) or (
            max(texts, key=lambda column: column.words) if texts else None
        )
        found = {
            "kind": Guess("multiple_choice", f"{number} choices a row"),
            "text": Guess([stem.name] if stem else [], "before the choices" if stem else "the choices have no stem"),
            "choices": Guess(choices, "one list a row" if len(choices) == 1 else "a column each"),
            "label": Guess(OPEN, f"which column says what is right? there are: {told_columns(right)}"),
        }
        if label:
            found["label"] = Guess(label.name, f"numbers or letters of the right choice, as in {label.values[0]}")
        if len(texts) > 1 and stem:
            others = told_columns([column for column in texts if column is not stem])
            found["text"] = Guess([stem.name], f"before the choices; there are also: {others}")
        return found
    return None


def _lists_of_choices(columns: Columns) -> Iterator[tuple[list[str], int, tuple[str, ...]]]:
    """(fields of choices, their number, what they are called where that is said)."""
    for column in columns.values():
        if not column.is_listed or not all(isinstance(each, str) for value in column.lists for each in value):
            continue
        lengths = Counter(map(len, column.lists))
        number, rows = lengths.most_common(1)[0]
        if 2 <= number <= MOST_CHOICES and rows >= NEARLY * len(column.lists):
            above, dot, _ = column.name.rpartition(".")
            said = columns.get(f"{above}.label") if dot else None
            yield [column.name], number, tuple(map(str, said.lists[0])) if said and said.lists else ()
    groups: dict[str, list[str]] = {}
    for name in columns:
        if found := NUMBERED.fullmatch(name):
            groups.setdefault(found["stem"].lower(), []).append(name)
        elif name in "ABCDE" and len(name) == 1:
            groups.setdefault("", []).append(name)
    for names in groups.values():
        if len(names) > 1 and all(columns[name].words for name in names):
            yield names, len(names), ()


def _chooses(column: Column, number: int, names: Sequence[str]) -> bool:
    """Whether the values of a column name one of so many choices."""
    if not column.values or any(isinstance(value, list | Mapping) for value in column.values):
        return False
    said = set(column.counts)
    letters = {chr(ord("A") + place) for place in range(number)}
    numbers = [{str(place + first) for place in range(number)} for first in (0, 1)]
    return len(said) > 1 and any(said <= known for known in (*numbers, letters, set(names)))


def _tags(columns: Columns) -> Found | None:
    """Tagging: words in a list, and a list with a tag for each."""
    lists = [column for column in columns.values() if column.is_listed]
    if not lists:
        return _printed_tags(columns)
    texts = [c for c in lists if all(isinstance(each, str) for value in c.lists for each in value)]
    if not texts:
        return None
    words = max(texts, key=_vocabulary)
    alike = [c for c in lists if c is not words and list(map(len, c.lists)) == list(map(len, words.lists))]
    if not alike:
        return None
    marking = [column for column in alike if tag_schemes([str(tag) for value in column.lists for tag in value])]
    tags = named(alike, TAGS) or (marking or alike)[0]
    if len(alike) > 1 and not named(alike, TAGS) and len(marking) != 1:
        label = Guess(OPEN, f"which column holds the tags? there are: {', '.join(column.name for column in alike)}")
    else:
        others = [column.name for column in alike if column is not tags]
        label = Guess(tags.name, "a tag per word" + (f"; there are also {', '.join(others)}" if others else ""))
    return {
        "kind": Guess("tagging", f"lists of words with a tag each, as {tags.lists[0][0]} for {words.lists[0][0]}"),
        "text": Guess(words.name, "the list with the most different words"),
        "label": label,
    }


def _vocabulary(column: Column) -> int:
    return len({str(each) for value in column.lists for each in value})


def _printed_tags(columns: Columns) -> Found | None:
    """Tagging in a table: words divided by spaces, and as many tags of a known scheme."""
    texts = [c for c in columns.values() if c.values and all(isinstance(value, str) for value in c.values)]
    for tags in texts:
        parted = [value.split() for value in tags.values]
        found = {tag for value in parted for tag in value}
        if not tag_schemes(sorted(found)) or not any("-" in tag for tag in found):
            continue
        for words in texts:
            if words is not tags and [len(value.split()) for value in words.values] == list(map(len, parted)):
                return {
                    "kind": Guess("tagging", f"{tags.name} has a tag for each word of {words.name}"),
                    "text": Guess(words.name, "words divided by spaces"),
                    "label": Guess(tags.name, "tags divided by spaces"),
                }
    return None


def _labelled(columns: Columns) -> Found:
    """Classification, regression or generation: a column of labels beside one of texts."""
    label, reason = _label(columns)
    if label is None:
        return {
            "kind": Guess("classification", "as long as nobody says the label; else regression, generation, …"),
            "text": guess_texts(columns, ()),
            "label": Guess(OPEN, reason),
        }
    return {
        "kind": Guess(*_kind(label)),
        "text": guess_texts(columns, (label.name,)),
        "label": Guess(label.name, reason),
    }


def _kind(label: Column) -> tuple[str, str]:
    """The kind of task that a column of labels makes, and why."""
    if label.has_decimals:
        return "regression", f"{label.name} holds numbers with decimals"
    if label.numbers and label.distinct > MOST_STARS:
        return "regression", f"{label.name} holds {label.distinct} different numbers"
    many = 2 * label.distinct > len(label.values) and len(label.values) >= 2 * SEEN_OFTEN
    if label.is_listed or (label.words > 0 and (many or label.distinct > MOST_CLASS_NAMES)):
        return "generation", f"{label.name} holds texts, {label.distinct} different ones: a language model writes them"
    few = f"{label.name} has {label.distinct} different value{'' if label.distinct == 1 else 's'} in {len(label.values)} rows"
    return "classification", few + (
        "; regression, if its numbers are a scale" if label.numbers and label.distinct > 2 else ""
    )


SEEN_OFTEN = 10
"""Rows a column needs, twice, before it can be said that its values do not come again."""

MOST_CLASS_NAMES = 1000


def _label(columns: Columns) -> tuple[Column | None, str]:
    """The column of labels and why; None with the question where nobody can say."""
    filled = [column for column in columns.values() if column.values and not ID_NAME.fullmatch(column.name)]
    able = [column for column in filled if column.may_be_classes]
    surely = named(filled, LABELS[:GENERIC])
    probably = [column for name in LABELS[GENERIC:] if (column := named(filled, (name,)))]
    if by_name := surely or (probably[0] if len(probably) == 1 else None):
        others = [column for column in able if column is not by_name]
        return by_name, "by its name" + (f"; there are also: {told_columns(others)}" if others else "")
    if probably:
        return None, f"which column? there are: {told_columns(probably)}"
    if len(able) == 1:
        return able[0], "the one column with few different values"
    if able:
        return None, f"which column? there are: {told_columns(able)}"
    if len(numeric := [column for column in filled if column.has_decimals]) == 1:
        return numeric[0], "the one column of numbers with decimals"
    texts = [column for column in filled if column.is_text]
    if len(texts) > 1 and (written := named(texts, WRITTEN)):
        return written, "by its name"
    return None, f"which column? there are: {told_columns(list(columns.values()))}"


RECOGNISERS: tuple[Callable[[Columns], Found | None], ...] = (_answers, _choices, _tags, _labelled)
"""Asked in this order; the last always answers."""


def recognised(columns: Columns) -> Found:
    """What a task with these columns is."""
    return next(found for recognise in RECOGNISERS if (found := recognise(columns)))
