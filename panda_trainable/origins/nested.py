"""Files whose elements hold several rows, as SQuAD, MultiRC and ReCoRD were published: each of their rows alone."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from panda_trainable.config.origin import Row
from panda_trainable.origins.lines import Rows, shown

Inner = Iterator[tuple[str, dict[str, Any]]]


def unnested(rows: Rows) -> Rows:
    """Rows, of which those that hold others stand for these, with the place `<place>, <which>`."""
    for place, row in rows:
        unnest = _reader(row) if isinstance(row, dict) else None
        if unnest is None:
            yield place, row
            continue
        try:
            for which, inner in unnest(row):  # type: ignore[arg-type]  # a row with a reader is one of fields
                yield f"{place}, {which}" if which else place, inner
        except (KeyError, TypeError, AttributeError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else f"is wrong ({error})"
            yield place, f"is written as {_called(unnest)} was published, but {what}: {shown(row)}"


def _reader(row: Row) -> Callable[[dict[str, Any]], Inner] | None:
    """What reads the rows that an element holds; None: it is a row itself."""
    for (outer, held), unnest in NESTED.items():
        inside = row.get(outer) if isinstance(row, Mapping) else None
        first = inside[0] if isinstance(inside, list) and inside else inside
        if isinstance(first, Mapping) and isinstance(first.get(held), list):
            return unnest
    return None


def _squad(article: dict[str, Any]) -> Inner:
    """SQuAD: a row per question about a paragraph of an article."""
    for paragraph in article["paragraphs"]:
        for asked in paragraph["qas"]:
            answers = asked.get("answers")
            row = {
                "id": asked.get("id"), "title": article.get("title", ""), "context": paragraph["context"],
                "question": asked["question"], "is_impossible": asked.get("is_impossible", False),
            }  # fmt: skip
            if answers is not None:
                row["answers"] = {key: [answer[key] for answer in answers] for key in ("text", "answer_start")}
            yield f"question {asked.get('id')}", row


def _multirc(element: dict[str, Any]) -> Inner:
    """MultiRC: a row per answer to a question about a paragraph."""
    for asked in element["passage"]["questions"]:
        for answer in asked["answers"]:
            row = {"paragraph": element["passage"]["text"], "question": asked["question"], "answer": answer["text"]}
            yield (
                f"question {asked.get('idx')}, answer {answer.get('idx')}",
                {**row, **({"label": answer["label"]} if "label" in answer else {})},
            )


def _record(element: dict[str, Any]) -> Inner:
    """ReCoRD: a row per query about a passage; its entities end at their last character."""
    passage = element["passage"]
    spans = [passage["text"][span["start"] : span["end"] + 1] for span in passage["entities"]]
    for asked in element["qas"]:
        row = {"passage": passage["text"], "query": asked["query"], "entities": list(dict.fromkeys(spans))}
        answers = [answer["text"] for answer in asked.get("answers") or ()]
        yield f"query {asked.get('idx')}", {**row, "answers": list(dict.fromkeys(answers))}


NESTED: Mapping[tuple[str, str], Callable[[dict[str, Any]], Inner]] = MappingProxyType(
    {("paragraphs", "qas"): _squad, ("passage", "questions"): _multirc, ("passage", "entities"): _record}
)
"""(field, list inside of it) by which an element that holds rows is known -> its rows, each with what tells it apart."""


def _called(unnest: Callable[..., Inner]) -> str:
    return {_squad: "SQuAD", _multirc: "MultiRC", _record: "ReCoRD"}[unnest]
