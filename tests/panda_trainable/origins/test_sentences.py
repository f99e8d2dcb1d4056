"""Files with a word per line, in the columns of the shared tasks; tags of padding; schemes of tags."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from panda_trainable.config.kinds import TAG_SCHEMES, tag_schemes
from panda_trainable.config.origin import Note
from panda_trainable.config.task_section import TaskSection
from panda_trainable.data.locate import located
from panda_trainable.data.rows import Findings, examples
from panda_trainable.data.task_table import TASKS
from panda_trainable.origins.sentences import conll, tags_of_brackets
from panda_trainable.training.metrics import entities
from tests.kits.tasks import write_task

DOCUMENT = "bc/cctv/00/cctv_0000"


def of_2012(words: Sequence[str], entity: Sequence[str]) -> str:
    """A sentence as CoNLL-2012 has it: eleven columns, arguments, and coreference."""
    lines = [
        f"{DOCUMENT} 0 {number} {word} NNP (TOP* - - - Speaker#1 {tag} (ARG0*) * (12)\n"
        for number, (word, tag) in enumerate(zip(words, entity, strict=True))
    ]
    return "".join(lines) + "\n"


IN_2012 = f"#begin document ({DOCUMENT}); part 000\n" + of_2012(["Lee", "Ann", "of", "Rome"], ["(PERSON*", "*)", "*", "(GPE)"]) + "#end document\n"  # fmt: skip
IN_U = """# sent_id = 1
# text = Don't go.
1-2	Don't	_	_	_	_	_	_	_	_
1	Do	do	AUX	VB	_	3	aux	_	_
2	n't	not	PART	RB	_	3	advmod	_	_
3	go	go	VERB	VB	_	0	root	_	SpaceAfter=No
3.1	then	_	ADV	_	_	_	_	_	_
4	.	.	PUNCT	.	_	3	punct	_	_

# sent_id = 2
1	Go	go	VERB	VB	_	0	root	_	_
"""
GERM_EVAL = "#\thttp://de.example.org [2009]\n1\tAnn\tB-PER\tO\n2\tlacht\tO\tO\n\n#\thttp://de.example.org [2010]\n1\tRom\tB-LOC\tB-ORG\n"
IN_2003 = "-DOCSTART- -X- O O\n\nAnn NNP I-NP I-PER\n1 CD I-NP O\n\n1 CD I-NP O\n"
IN_2000 = "Ann NNP B-NP\nwon VBD B-VP\n\nShe PRP B-NP\n"

READ: dict[str, tuple[str, list[tuple[list[str], list[str]]], str]] = {
    "CoNLL-2012": (IN_2012, [(["Lee", "Ann", "of", "Rome"], ["B-PERSON", "I-PERSON", "O", "B-GPE"])], "its columns are those of CoNLL-2012: tags are its named entities (BIO)"),
    "CoNLL-U": (IN_U, [(["Do", "n't", "go", "."], ["AUX", "PART", "VERB", "PUNCT"]), (["Go"], ["VERB"])], "its first column numbers the words: words are read from the second, tags from the fourth (CoNLL-U)"),
    "GermEval": (GERM_EVAL, [(["Ann", "lacht"], ["O", "O"]), (["Rom"], ["B-ORG"])], "its first column numbers the words: words are read from the second, tags from the last"),
    "CoNLL-2003": (IN_2003, [(["Ann", "1"], ["I-PER", "O"]), (["1"], ["O"])], ""),
    "CoNLL-2000": (IN_2000, [(["Ann", "won"], ["B-NP", "B-VP"]), (["She"], ["B-NP"])], ""),
    "a numeral alone": ("1 CD O\n", [(["1"], ["O"])], ""),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_the_columns_of_a_shared_task_are_known(tmp_path: Path, name: str) -> None:
    content, sentences, note = READ[name]
    path = tmp_path / "x.conll"
    path.write_text(content, encoding="utf-8")
    found = [row for _, row in conll(path)]
    assert [(row["words"], row["tags"]) for row in found if isinstance(row, dict)] == sentences
    assert [row.text for row in found if isinstance(row, Note)] == ([note] if note else [])


@pytest.mark.parametrize(
    ("cells", "tags"),
    [
        (["(ORG*", "*", "*)"], ["B-ORG", "I-ORG", "I-ORG"]),
        (["(GPE)", "(GPE)", "*"], ["B-GPE", "B-GPE", "O"]),
        (["(GPE*)", "*"], ["B-GPE", "O"]),
        (["*", "(DATE*", "*)"], ["O", "B-DATE", "I-DATE"]),
        (["(WORK_OF_ART*", "*)", "(A)"], ["B-WORK_OF_ART", "I-WORK_OF_ART", "B-A"]),
    ],
)
def test_brackets_are_entities(cells: list[str], tags: list[str]) -> None:
    assert tags_of_brackets(cells) == tags


@pytest.mark.parametrize("cells", [["(A*", "(B*", "*)"], ["*)"], ["A"], ["(A*", "*))"], ["(A(B*", "*))"]])
def test_brackets_that_are_no_entities_are_refused(cells: list[str]) -> None:
    with pytest.raises(ValueError, match="must hold brackets that close"):
        tags_of_brackets(cells)


def test_ontonotes_is_read_from_files_of_conll_2012(tmp_path: Path) -> None:
    (tmp_path / "ontonotes").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "ontonotes" / f"{split}.conll").write_text(IN_2012, encoding="utf-8")
    task = located(TASKS["ontonotes"], tmp_path)
    (row,) = examples(task, "train", Findings())
    assert [task.classes[tag] for tag in row.label] == ["B-PERSON", "I-PERSON", "O", "B-GPE"]


def test_a_txt_file_of_a_tagging_has_a_word_per_line(tmp_path: Path) -> None:
    (tmp_path / "conll03").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "conll03" / f"{split}.txt").write_text(IN_2003.replace("1 CD I-NP O\n\n1", "Bob NNP I-NP I-ORG\n\n1"), encoding="utf-8")  # fmt: skip
    task = located(TASKS["conll03"], tmp_path)
    assert [row.texts[0] for row in examples(task, "train", Findings())] == [("Ann", "Bob"), ("1",)]


TAGS = {
    "BIOES": ("B-X I-X E-X S-Y O", {("X", 0, 2), ("Y", 3, 3)}),
    "BILOU": ("B-X I-X L-X U-Y O", {("X", 0, 2), ("Y", 3, 3)}),
    "BMES": ("B-X M-X E-X S-Y O", {("X", 0, 2), ("Y", 3, 3)}),
    "BMEWO": ("B-X M-X E-X W-Y O", {("X", 0, 2), ("Y", 3, 3)}),
    "BIO": ("B-X I-X I-X B-Y O", {("X", 0, 2), ("Y", 3, 3)}),
    "IOB1": ("I-X I-X I-X I-Y O", {("X", 0, 2), ("Y", 3, 3)}),
    "IOE2": ("I-X I-X E-X E-Y O", {("X", 0, 2), ("Y", 3, 3)}),
    "IOE1": ("I-X I-X E-X I-X I-Y", {("X", 0, 2), ("X", 3, 3), ("Y", 4, 4)}),
}
"""Scheme -> tags of a sentence, and its entities, worked out by hand."""


@pytest.mark.parametrize("scheme", TAGS)
def test_entities_are_those_of_the_scheme(scheme: str) -> None:
    tags, found = TAGS[scheme]
    assert entities(tags.split()) == found
    assert tag_schemes(tags.split())


def test_every_scheme_is_tested() -> None:
    assert set(TAG_SCHEMES) <= set(TAGS)


@pytest.mark.parametrize("scheme", TAG_SCHEMES)
def test_a_scheme_of_tags_is_found_told_and_scored_by_entities(tmp_path: Path, scheme: str) -> None:
    tags = TAGS[scheme][0].split()
    rows = [{"words": [f"w{i}{tag}" for tag in tags], "tags": tags} for i in range(4)]
    write_task(tmp_path / "t", rows[:2], rows[2:])
    task = located(TaskSection(kind="tagging", text=("words",), label="tags").spec("t"), tmp_path)
    assert task.metrics[0] == "entity_f1"
    assert any(f"its tags mark entities by {scheme}" in note for note in task.notes)


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ("b-X i-X o", "if they should, spell b-X as B-X, and so on"), ("B_X I_X O", "if they should, spell B_X as B-X, and so on"),
        ("X-B X-I O", "if they should, spell X-B as B-X, and so on"), ("X_B X_I O", "if they should, spell X_B as B-X, and so on"),
        ("B:X I:X O", "if they should, spell B:X as B-X, and so on"), ("NOUN VERB O", ""), ("NOUN-a VERB-b O", ""), ("N_x V_x O", ""),
    ],
)  # fmt: skip
def test_another_spelling_of_a_scheme_is_told(tmp_path: Path, tags: str, told: str) -> None:
    rows = [{"words": ["w", "v", "u"], "tags": tags.split()}] * 2
    write_task(tmp_path / "t", rows, rows)
    task = located(TaskSection(kind="tagging", text=("words",), label="tags").spec("t"), tmp_path)
    (note,) = [note for note in task.notes if "mark no entities" in note]
    assert note.endswith(told or "the score is word_accuracy")


PADDED: list[tuple[Any, Any, list[str], list[int]]] = [
    (["[CLS]", "Ann", "won", "[SEP]", "[PAD]"], [-100, 1, 0, -100, -100], ["Ann", "won"], [1, 0]),
    (["[CLS]", "play", "##ing", "it", "[SEP]"], [-100, 1, -100, 0, -100], ["playing", "it"], [1, 0]),
    (["Ann", "won"], [1, -100], ["Ann"], [1]),
    ("Ann won so", "1 -100 0", ["Ann", "so"], [1, 0]),
    (["Ann", "won"], ["-100", "0"], ["won"], [0]),
    (["Ann", "##a", "##b", "won"], [1, -100, -100, 0], ["Annab", "won"], [1, 0]),
]


@pytest.mark.parametrize("classes", [(), ("O", "B-X")])
@pytest.mark.parametrize(("words", "tags", "kept", "numbers"), PADDED)
def test_words_that_are_tagged_as_padding_are_left_out_and_told(
    tmp_path: Path, words: Any, tags: Any, kept: list[str], numbers: list[int], classes: tuple[str, ...]
) -> None:
    other = {"words": ["w", "v"], "tags": [0, 1]}
    write_task(tmp_path / "t", [{"words": words, "tags": tags}, other], [other])
    section = TaskSection(kind="tagging", text=("words",), label="tags", classes=classes, metrics=("word_accuracy",))
    task = located(section.spec("t"), tmp_path)
    assert task.classes == (classes or ("0", "1"))
    first = next(examples(task, "train", Findings()))
    assert (list(first.texts[0]), list(first.label)) == (kept, numbers)
    count = len(words.split() if isinstance(words, str) else words) - len(kept)
    assert f"t: {count} words of train with the tag -100 are left out" in "".join(task.notes)
