"""Sentences of files with a word per line, in the columns of the CoNLL shared tasks."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from panda_trainable.config.origin import Note, Reading
from panda_trainable.origins.lines import PLAIN, Rows, lines, shown

_COMMENT = re.compile(r"#(begin|end)\b|#\S*\s*$|# *\S+ *=|#\s+\S+\s+\S+")
"""A line before a sentence that is none of its words: of two cells only `# tag` can be a word."""

_CONLL_2012 = re.compile(r"#begin document\b")
"""The line before the documents of OntoNotes as CoNLL-2012 has them."""

WORD, POS, ENTITY = 3, 4, 10
"""Columns of CoNLL-2012: words, their parts of speech, and named entities in brackets."""

FEWEST_COLUMNS = 12
"""Of CoNLL-2012: the last one holds coreference."""

U_COLUMNS = 10
"""Of CoNLL-U and CoNLL-X."""

Cells = Sequence[Sequence[str]]
"""The columns of each line of a sentence."""

_NUMBER = re.compile(r"\d+([-.]\d+)?")
"""In a first column: the number of a word; of several that one token stands for, or of one that is not said."""


def conll(path: Path, _: Reading = PLAIN) -> Rows:
    """Sentences with `words` and `tags`: the first column and the last, or what the columns of a shared task are.

    Columns are divided by spaces or tabs, sentences by empty lines; `-DOCSTART-` lines are left out.
    Where the first column numbers the words, they stand in the second; ten columns are those of CoNLL-U,
    whose tags are in the fourth; a file that begins a document is CoNLL-2012's, whose tags are its entities.
    """
    numbered, of_2012, told = _is_numbered(path), False, ""
    for place, cells in _sentences(path):
        if isinstance(cells, str):
            of_2012 |= not cells
            if cells:
                yield place, cells
            continue
        row, note = _row(cells, numbered=numbered, of_2012=of_2012)
        if note and note != told:
            told = note
            yield place, Note(note)
        yield place, row


def _row(cells: Cells, *, numbered: bool, of_2012: bool) -> tuple[dict[str, Any] | str, str]:
    """A sentence's words and tags, or what is wrong with it; and which columns were taken where they are no usual ones."""
    if of_2012 and all(len(line) >= FEWEST_COLUMNS for line in cells):
        row = {"words": [line[WORD] for line in cells], "pos": [line[POS] for line in cells]}
        try:
            tags = tags_of_brackets([line[ENTITY] for line in cells])
        except ValueError as error:
            return str(error), ""
        return {**row, "tags": tags}, "its columns are those of CoNLL-2012: tags are its named entities (BIO)"
    if not numbered:
        return {"words": [line[0] for line in cells], "tags": [line[-1] for line in cells]}, ""
    words = [line for line in cells if line[0].isdecimal()]
    in_u = all(len(line) == U_COLUMNS for line in words)
    which = "tags from the fourth (CoNLL-U)" if in_u else "tags from the last"
    found = {"words": [line[1] for line in words], "tags": [line[3 if in_u else -1] for line in words]}
    return found, f"its first column numbers the words: words are read from the second, {which}"


def _is_numbered(path: Path) -> bool:
    """Whether the first of at least three columns counts the words of every sentence from 1."""
    most = 0
    for _, cells in _sentences(path):
        if isinstance(cells, str) and not cells:
            return False
        if isinstance(cells, str):
            continue
        numbers = [line[0] for line in cells if line[0].isdecimal()]
        counted = numbers == [str(number) for number in range(1, len(numbers) + 1)]
        if not counted or not all(len(line) > 2 and _NUMBER.fullmatch(line[0]) for line in cells):
            return False
        most = max(most, len(numbers))
    return most > 1


def tags_of_brackets(cells: Sequence[str]) -> list[str]:
    """BIO tags of a column in brackets: `(ORG*`, `*`, `*)` are B-ORG, I-ORG, I-ORG.

    Raises:
        ValueError: if brackets are nested or do not close.
    """
    tags, open_ = [], ""
    for cell in cells:
        found = re.fullmatch(r"(?:\(([^()*]+))?\*?(\))?", cell)
        if found is None or (found[1] and open_) or (found[2] and not (open_ or found[1])):
            raise ValueError(
                f"a column of entities must hold brackets that close, such as (ORG*, * and *), got {shown(cell)}"
            )
        kind = found[1] or open_
        tags.append(f"B-{kind}" if found[1] else f"I-{kind}" if kind else "O")
        open_ = "" if found[2] else kind
    return tags


def _sentences(path: Path) -> Iterator[tuple[str, list[list[str]] | str]]:
    """The cells of each sentence's lines; a problem instead; an empty text where the file says that it is of CoNLL-2012."""
    cells: list[list[str]] = []
    first, wrong = "", ""
    for place, line, problem in lines(path):
        if line and not cells and _CONLL_2012.match(line):
            yield place, ""
        comment = line and not cells and _COMMENT.match(line)
        found = [] if comment else re.findall(r"[^ \t\r\n]+", line or "")
        if comment:
            continue
        if line is None or (found and not found[0].startswith("-DOCSTART-") and not _ends(found)):
            if line is not None and len(found) > 1:
                first = first or place
                cells.append(found)
            elif not wrong:
                first = place
                wrong = problem or f"a line must hold a word and its tag, got {shown(line.strip() if line else '')}"
        elif cells or wrong:
            yield first, wrong or cells
            cells, first, wrong = [], "", ""
    if cells or wrong:
        yield first, wrong or cells


def _ends(cells: Sequence[str]) -> bool:
    """Whether a line ends a document of CoNLL-2012."""
    return cells[:2] == ["#end", "document"]
