"""Token tables: what the PLM reads of each kind of task, which tokens answer, and what rows share."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import EsmTokenizer, PreTrainedTokenizerFast, RobertaTokenizer

from panda_trainable.config.kinds import KINDS
from panda_trainable.config.origin import Imported
from panda_trainable.config.setting import LimitSettings, Plm, PromptSettings, Setting, TrainSettings
from panda_trainable.config.task import TaskSpec
from panda_trainable.data.gold import IGNORED
from panda_trainable.data.limits import capped
from panda_trainable.data.overlap import split_text_hashes
from panda_trainable.data.tokenisers import TOKENISERS
from panda_trainable.data.tokens import TokenTable, gold_of, token_table, tokens_key
from panda_trainable.library import PromptLibrary
from panda_trainable.origins.folder import FolderFiles
from panda_trainable.origins.texts import normalised, numbered, shared_text_groups, text_hashes
from panda_trainable.pretrained.files import load_tokenizer, plm_files
from panda_trainable.training.metrics import METRICS
from tests.kits.tasks import HEADED, SPECS, own_task

Task = Callable[..., TaskSpec]
PIECES = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "box", "hold", "##s", "blue", "##ish", "pen", "what", "does", ".", "?",
    "para", "##cet", "##amol", "in", "paris", "lives", "a", "red", ",", "two", "##n",
]  # fmt: skip
PAIR = TaskSpec("p", "classification", ("a", "b"), "label", ("n", "y"), ("accuracy",))
SINGLE = replace(PAIR, name="s", text=("a",))
TAGGING = TaskSpec("g", "tagging", ("words",), "tags", ("O", "B-DRUG", "B-CITY"), ("entity_f1", "word_accuracy"))
ANSWERS = TaskSpec("q", "extractive_qa", ("question", "passage"), "answers", (), ("answer_f1", "exact_match"))


def with_tokenizer(setting: Setting, folder: Path, tokenizer: Any) -> Setting:
    """The setting on the random bert with another tokenizer."""
    shutil.copytree(setting.plm.source, folder)
    tokenizer.save_pretrained(folder)
    return replace(setting, plm=Plm(str(folder), plm_files(folder)))


@pytest.fixture
def pieces(setting: Setting, tmp_path: Path) -> Setting:
    """The setting on a bert whose tokenizer divides words as BERT's does."""
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    return with_tokenizer(setting, tmp_path / "pieces", PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names))


BYTES = [
    "<s>", "</s>", "<pad>", "<unk>", "<mask>", *"abcdeghinoprstw.?", "Ġ", "Ġp", "Ġt", "Ġpe", "Ġpen", "he", "Ġthe", "in",
    "Ġin", "Ġ.",
]  # fmt: skip
MERGES = [
    ("Ġ", "p"),
    ("Ġ", "t"),
    ("Ġp", "e"),
    ("Ġpe", "n"),
    ("h", "e"),
    ("Ġt", "he"),
    ("i", "n"),
    ("Ġ", "in"),
    ("Ġ", "."),
]


@pytest.fixture
def roberta(setting: Setting, tmp_path: Path) -> Setting:
    """The setting on a tokenizer that takes spaces along with words, and four special tokens for a pair."""
    tokenizer = RobertaTokenizer(vocab={token: i for i, token in enumerate(BYTES)}, merges=MERGES)
    return with_tokenizer(setting, tmp_path / "roberta", tokenizer)


@pytest.fixture
def modern(setting: Setting, tmp_path: Path) -> Setting:
    """The same in the general class of fast tokenizers, as newer encoders have it (ModernBERT)."""
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(BYTES)}, MERGES, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=False)
    names = {"unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    return with_tokenizer(setting, tmp_path / "modern", PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names))


@pytest.fixture
def table_of(library: PromptLibrary, tmp_path: Path) -> Callable[..., TokenTable]:
    """The train table of these rows: table_of(setting, spec, *rows)."""

    def make(setting: Setting, spec: TaskSpec, *rows: dict[str, Any]) -> TokenTable:
        return token_table(library, setting, own_task(tmp_path / "own", spec, rows), "train")

    return make


def said(table: TokenTable, sequence: int = 0) -> list[str]:
    """The word pieces of a sequence."""
    return [PIECES[i] for i in table.ids[sequence, : table.lengths[sequence]]]


def test_every_kind_has_its_tokeniser() -> None:
    assert set(TOKENISERS) | {"generation"} == set(KINDS)


# texts, pairs and choices


def test_a_table_holds_ids_types_lengths_and_labels(table_of: Callable[..., TokenTable], setting: Setting) -> None:
    table = table_of(setting, PAIR, {"a": "w0 w1", "b": "w2", "label": 1}, {"a": "w3", "b": "w4", "label": 0})
    assert table.ids.tolist() == [[3, 5, 6, 4, 7, 4], [3, 8, 4, 9, 4, 0]]
    assert table.types.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]
    assert table.lengths.tolist() == [6, 5]
    assert table.labels.tolist() == [1, 0]
    assert (len(table), table.sequences, table.truncated) == (2, 1, 0)


def test_the_second_text_of_a_pair_has_its_type_whatever_the_tokenizers_habits(
    table_of: Callable[..., TokenTable], setting: Setting, tmp_path: Path
) -> None:
    folder = shutil.copytree(setting.plm.source, tmp_path / "typed")
    file = folder / "tokenizer_config.json"
    for names in (["input_ids", "token_type_ids", "attention_mask"], ["input_ids", "attention_mask"]):
        file.write_text(json.dumps({**json.loads(file.read_text()), "model_input_names": names}))
        typed = replace(setting, plm=Plm(str(folder), plm_files(folder)))
        table = table_of(typed, PAIR, {"a": "w0 w1", "b": "w2", "label": 1}, {"a": "w3", "b": "w4", "label": 0})
        assert table.types.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]


def test_a_pair_that_is_too_long_is_cut_at_the_longer_text(
    table_of: Callable[..., TokenTable], setting: Setting
) -> None:
    short = replace(setting, train=replace(setting.train, max_length=9))  # three special tokens: six are left
    row = {"a": "w0 w1", "b": "w2 w3 w4 w5 w6 w7", "label": 0}
    table = table_of(short, PAIR, row, {"a": row["b"], "b": row["a"], "label": 1})
    assert table.ids.tolist() == [[3, 5, 6, 4, 7, 8, 9, 10, 4], [3, 7, 8, 9, 10, 4, 5, 6, 4]]
    assert table.truncated == 1


def test_an_example_of_choices_has_a_sequence_per_choice_next_to_each_other(
    table_of: Callable[..., TokenTable], setting: Setting
) -> None:
    spec = TaskSpec("m", "multiple_choice", ("a",), "label", (), ("accuracy",), choices=("c", "{d} w9"))
    table = table_of(setting, spec, {"a": "w0", "c": "w1", "d": "w2 w3", "label": 1},
                     {"a": "w4", "c": "w5", "d": "w6", "label": 0})  # fmt: skip
    assert table.ids.tolist() == [
        [3, 5, 4, 6, 4, 0, 0], [3, 5, 4, 7, 8, 14, 4], [3, 9, 4, 10, 4, 0, 0], [3, 9, 4, 11, 14, 4, 0],
    ]  # fmt: skip
    assert table.lengths.tolist() == [5, 7, 5, 6]
    assert (len(table), table.sequences) == (2, 2)
    assert table.labels.tolist() == [1, 0]


def test_choices_without_a_stem_are_single_texts(table_of: Callable[..., TokenTable], setting: Setting) -> None:
    spec = TaskSpec("m", "multiple_choice", (), "label", (), ("accuracy",), choices=("c", "d"))
    table = table_of(setting, spec, {"c": "w1", "d": "w2 w3", "label": 1}, {"c": "w5", "d": "w2 w3", "label": 0})
    assert table.ids.tolist() == [[3, 6, 4, 0], [3, 7, 8, 4], [3, 10, 4, 0], [3, 7, 8, 4]]


def test_the_share_of_truncated_rows_is_known(table_of: Callable[..., TokenTable], setting: Setting) -> None:
    rows = [{"a": " ".join(["w1"] * n), "label": n % 2} for n in (1, 13, 14, 15, 30)]  # and two special tokens
    table = table_of(setting, SINGLE, *rows)
    assert table.lengths.tolist() == [3, 15, 16, 16, 16]
    assert table.truncated == 2 / 5


def test_an_example_of_which_one_choice_is_cut_is_cut(table_of: Callable[..., TokenTable], setting: Setting) -> None:
    spec = TaskSpec("m", "multiple_choice", ("a",), "label", (), ("accuracy",), choices=("c", "d"))
    long, short = " ".join(["w1"] * 20), "w1"
    rows = [{"a": f"w{i}", "c": c, "d": d, "label": i % 2} for i, (c, d) in enumerate(
        [(long, short), (short, short), (long, long), (short, short)])]  # fmt: skip
    assert table_of(setting, spec, *rows).truncated == 2 / 4


# words with tags


def test_a_words_first_piece_answers_for_it(table_of: Callable[..., TokenTable], pieces: Setting) -> None:
    table = table_of(
        pieces,
        TAGGING,
        {"words": ["Paracetamol", "in", "Paris", "?"], "tags": ["B-DRUG", "O", "B-CITY", "O"]},
        {"words": ["boxs", "pen"], "tags": [1, 0]},
    )
    assert said(table) == ["[CLS]", "para", "##cet", "##amol", "in", "paris", "?", "[SEP]"]
    assert said(table, 1) == ["[CLS]", "box", "##s", "pen", "[SEP]"]
    assert table.slots.tolist() == [[1, 4, 5, 6], [1, 3, -1, -1]]
    assert table.labels.tolist() == [[1, 0, 2, 0], [1, 0, IGNORED, IGNORED]]
    assert (len(table), table.sequences, table.truncated) == (2, 1, 0)


def test_words_behind_the_cut_are_not_learnt_and_predicted_as_outside(
    table_of: Callable[..., TokenTable], pieces: Setting
) -> None:
    words = ["Paracetamol", "in", "Paris", "paracetamol", "in"]
    rows = [{"words": words, "tags": [1, 0, 2, 1, 0]}, {"words": ["pen"], "tags": [0]}]
    table = table_of(
        replace(pieces, train=replace(pieces.train, max_length=8)), TAGGING, *rows
    )  # six tokens of the words
    assert said(table) == ["[CLS]", "para", "##cet", "##amol", "in", "paris", "para", "[SEP]"]
    assert table.slots.tolist() == [[1, 4, 5, 6], [1, -1, -1, -1]]  # a word of which the first piece is seen is seen
    assert table.labels.tolist() == [[1, 0, 2, 1], [0, IGNORED, IGNORED, IGNORED]]
    assert table.truncated == 1 / 2
    (gold,) = gold_of(table, TAGGING, np.array([0]))
    assert gold.tags == (1, 0, 2, 1, 0)
    perfect = np.eye(3)[[1, 0, 2, 1]][None]
    assert METRICS["word_accuracy"](perfect, gold_of(table, TAGGING, np.array([0]))) == 1  # the last word is outside
    rows[0]["tags"] = [1, 0, 2, 1, 2]
    table = table_of(replace(pieces, train=replace(pieces.train, max_length=8)), replace(TAGGING, name="h"), *rows)
    gold_rows = gold_of(table, TAGGING, np.array([0]))
    assert METRICS["word_accuracy"](perfect, gold_rows) == 4 / 5
    assert METRICS["entity_f1"].rows(perfect, gold_rows).tolist() == [[3, 3, 4]]


def test_a_word_that_leaves_no_token_is_not_learnt_and_cuts_nothing(
    table_of: Callable[..., TokenTable], pieces: Setting
) -> None:
    empty = "\u200b"  # a word of spaces that BERT's tokenizer throws away, as in scraped text
    table = table_of(pieces, TAGGING, {"words": ["pen", empty, "paris"], "tags": [0, 0, 2]},
                     {"words": ["pen", empty], "tags": [0, 0]}, {"words": ["pen"], "tags": [0]})  # fmt: skip
    assert table.slots.tolist() == [[1, -1, 2], [1, -1, -1], [1, -1, -1]]
    assert table.labels.tolist() == [[0, IGNORED, 2], [0, IGNORED, IGNORED], [0, IGNORED, IGNORED]]
    assert table.truncated == 0


@pytest.mark.parametrize("tokenizer", ["pieces", "roberta", "modern"])
def test_a_word_may_have_a_space_in_it(
    request: pytest.FixtureRequest, table_of: Callable[..., TokenTable], tokenizer: str
) -> None:
    setting, words = request.getfixturevalue(tokenizer), ["the", "the pen", "in", "pen ", " in", "the"]
    rows = {"words": words, "tags": [0, 1, 0, 1, 0, 1]}, {"words": ["pen"], "tags": [1]}
    table = table_of(setting, TAGGING, *rows)
    tokens = load_tokenizer(setting.plm).convert_ids_to_tokens(table.ids[0].tolist())
    said = [tokens[slot].removeprefix("Ġ") for slot in table.slots[0]]
    assert said == ["the", "the", "in", "pen", "in", "the"]
    assert table.labels[0].tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("tokenizer", ["pieces", "roberta", "modern"])
def test_words_are_read_as_the_text_that_they_are_of(
    request: pytest.FixtureRequest, table_of: Callable[..., TokenTable], tokenizer: str
) -> None:
    setting, words = request.getfixturevalue(tokenizer), ["the", "pen", "in", "a", "pen", "."]
    table = table_of(setting, TAGGING, {"words": words, "tags": [0] * 6}, {"words": ["pen"], "tags": [1]})
    text = f" {' '.join(words)}"
    plain = load_tokenizer(setting.plm)(text)
    assert table.ids[0, : table.lengths[0]].tolist() == plain["input_ids"]
    assert table.slots[0].tolist() == ([1, 2, 3, 4, 5, 6] if tokenizer == "pieces" else [1, 2, 3, 5, 6, 7])  # Ġ and a


# questions and passages

QUESTION = "what does the box hold?"
PASSAGE = "The blueish box holds a pen, a red pen."
WHOLE = [
    "[CLS]", "what", "does", "the", "box", "hold", "?", "[SEP]",
    "the", "blue", "##ish", "box", "hold", "##s", "a", "pen", ",", "a", "red", "pen", ".", "[SEP]",
]  # fmt: skip
"""The pieces of both; the passage is those from 8 to 20."""


def row(answer: str, passage: str = PASSAGE, question: str = QUESTION, **more: Any) -> dict[str, Any]:
    """A row whose answer stands where it is first found."""
    found = {"text": [answer], "answer_start": [passage.index(answer)]}
    return {"question": question, "passage": passage, "answers": {**found, **more}}


@pytest.fixture
def long(pieces: Setting) -> Setting:
    """The dividing tokenizer with room for the whole passage."""
    return replace(pieces, train=replace(pieces.train, max_length=32))


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ("a pen", [14, 15]),
        ("a red pen", [17, 19]),
        ("pen.", [19, 20]),
        ("blueish", [9, 10]),
        ("The", [8, 8]),
        ("hold", [12, 12]),  # a part of a word is the pieces that it touches
        ("luei", [9, 10]),
        (" a pen", [14, 15]),
        ("a pen, ", [14, 16]),
    ],
)
def test_the_tokens_of_an_answer_by_hand(
    table_of: Callable[..., TokenTable], long: Setting, answer: str, tokens: list[int]
) -> None:
    table = table_of(long, ANSWERS, row(answer))
    assert said(table) == WHOLE
    assert table.labels.tolist() == [tokens]


def test_the_passages_tokens_are_marked_and_know_their_characters(
    table_of: Callable[..., TokenTable], long: Setting
) -> None:
    table = table_of(long, ANSWERS, row("a pen"), row("pen", passage="A pen", question="what?"))
    assert table.ids.shape == (2, 22)
    assert np.flatnonzero(table.answers[0]).tolist() == list(range(8, 21))
    assert np.flatnonzero(table.answers[1]).tolist() == [4, 5]  # [CLS] what ? [SEP] a pen [SEP]
    assert [PASSAGE[first:last] for first, last in table.offsets[0, 8:21]] == [
        "The", "blue", "ish", "box", "hold", "s", "a", "pen", ",", "a", "red", "pen", ".",
    ]  # fmt: skip
    assert not table.offsets[~table.answers.numpy()].any()
    assert table.types.tolist()[0] == [0] * 8 + [1] * 14
    assert (len(table), table.sequences, table.truncated) == (2, 1, 0)


def test_of_several_answers_the_first_is_learnt_and_all_are_right(
    table_of: Callable[..., TokenTable], long: Setting
) -> None:
    both = {"text": ["a red pen", "pen"], "answer_start": [PASSAGE.index("a red"), PASSAGE.index("pen")]}
    table = table_of(long, ANSWERS, {"question": QUESTION, "passage": PASSAGE, "answers": both})
    assert table.labels.tolist() == [[17, 19]]
    (gold,) = gold_of(table, ANSWERS, np.array([0]))
    assert (gold.passage, gold.answers) == (PASSAGE, ("a red pen", "pen"))


def test_an_answer_behind_the_cut_or_across_it_is_not_learnt(
    table_of: Callable[..., TokenTable], long: Setting
) -> None:
    rows = [row("a pen"), row("a red pen"), row("pen."), row("a red")]  # nineteen tokens hold the passage up to "red"
    table = table_of(replace(long, train=replace(long.train, max_length=20)), ANSWERS, *rows)
    assert said(table) == [*WHOLE[:19], "[SEP]"]
    assert table.labels.tolist() == [[14, 15], [IGNORED] * 2, [IGNORED] * 2, [17, 18]]
    assert table.truncated == 1
    assert np.flatnonzero(table.answers[0]).tolist() == list(range(8, 19))


def test_the_share_of_passages_that_are_cut_by_hand(table_of: Callable[..., TokenTable], long: Setting) -> None:
    rows = [row("pen", passage="A pen" + ", a pen" * n + " ") for n in range(5)]  # 8 + 2 + 3n + 1 tokens
    table = table_of(replace(long, train=replace(long.train, max_length=17)), ANSWERS, *rows)
    assert table.lengths.tolist() == [11, 14, 17, 17, 17]
    assert table.truncated == 2 / 5


@pytest.mark.parametrize("max_length", [6, 8, 9, 16, 31])
@pytest.mark.parametrize("tokenizer", ["pieces", "roberta"])
def test_a_very_long_question_leaves_room_for_the_passage(
    request: pytest.FixtureRequest, table_of: Callable[..., TokenTable], tokenizer: str, max_length: int
) -> None:
    setting = replace(
        request.getfixturevalue(tokenizer),
        train=replace(request.getfixturevalue(tokenizer).train, max_length=max_length),
    )
    rows = [row("a pen", question=" ".join(["what does the blueish box hold?"] * n)) for n in (1, 2, 30)]
    table = table_of(setting, ANSWERS, *rows)
    assert table.lengths.max() == max_length
    assert table.answers.sum(1).min() >= max(1, min(13, max_length - max_length // 2 - 4))
    assert ((table.labels >= 0).all(1) | (table.labels == IGNORED).all(1)).all()


@pytest.mark.parametrize(("tokenizer", "max_length"), [("pieces", 4), ("roberta", 4), ("roberta", 5)])
def test_a_maximum_length_without_room_for_question_and_passage_is_refused(
    request: pytest.FixtureRequest, table_of: Callable[..., TokenTable], tokenizer: str, max_length: int
) -> None:
    setting = replace(
        request.getfixturevalue(tokenizer),
        train=replace(request.getfixturevalue(tokenizer).train, max_length=max_length),
    )
    with pytest.raises(ValueError, match=f"max_length.* {max_length}"):
        table_of(setting, ANSWERS, row("a pen"))


def test_a_question_is_cut_at_whole_pieces(table_of: Callable[..., TokenTable], long: Setting) -> None:
    table = table_of(
        replace(long, train=replace(long.train, max_length=12)),
        ANSWERS,
        row("a pen", question="what does the box holds in paris?"),
    )
    assert said(table) == [*WHOLE[:6], "##s", "[SEP]", "the", "blue", "##ish", "[SEP]"]


def test_an_answer_is_found_behind_a_tokenizer_that_takes_spaces_along(
    table_of: Callable[..., TokenTable], roberta: Setting
) -> None:
    passage = "pen in the test. in a pen"
    setting = replace(roberta, train=replace(roberta.train, max_length=60))
    rows = [row("the", passage=passage, question="in?"), row("a pen", passage=passage, question="pen?")]
    table = table_of(setting, ANSWERS, *rows)
    for i, answer in enumerate(["the", "a pen"]):
        first, last = table.labels[i].tolist()
        assert passage[table.offsets[i, first, 0] : table.offsets[i, last, 1]] == answer


# what a table is made of


@pytest.mark.own_library
def test_a_table_is_made_once_and_shared_by_tasks_of_the_same_data(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    made = [token_table(library, setting, task(name), "train") for name in ("t", "u")]
    assert len(list(library.root.glob("tokens/*"))) == 1
    assert made[0].ids.tolist() == made[1].ids.tolist()


@pytest.mark.parametrize(
    ("change", "split", "matters"),
    [
        ({"train": TrainSettings(4, 12)}, "train", True), ({"limit": LimitSettings(30)}, "train", True), ({"train": TrainSettings(2, 16)}, "train", False),
        ({"limit": LimitSettings(report=9)}, "train", False), ({"limit": LimitSettings(report=9)}, "validation", True),
        ({"train": TrainSettings(4, 16, 1)}, "train", False), ({"shots": 4}, "train", False), ({"prompt": PromptSettings("input")}, "train", False),
    ],
)  # fmt: skip
def test_the_key_of_a_table_is_what_decides_its_rows(
    setting: Setting, task: Task, change: dict[str, Any], split: str, matters: bool
) -> None:
    spec = task("t")
    assert (tokens_key(replace(setting, **change), spec, split) != tokens_key(setting, spec, split)) == matters


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        ({"text": ("b",)}, True), ({"classes": ("c1", "c0")}, True), ({"compared": ("b",)}, True),
        ({"question": ("b",)}, True), ({"kind": "tagging", "metrics": ("word_accuracy",)}, True),
        ({"name": "other"}, False), ({"origin": Imported()}, False), ({"metrics": ("matthews",)}, False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)  # fmt: skip
def test_the_key_of_a_table_is_how_its_rows_are_read(
    setting: Setting, task: Task, change: dict[str, Any], matters: bool
) -> None:
    spec = task("t")
    assert (tokens_key(setting, replace(spec, **change), "train") != tokens_key(setting, spec, "train")) == matters


@pytest.mark.parametrize("changed", ["compared", "question"])
def test_rows_whose_groups_changed_are_other_rows(
    library: PromptLibrary, setting: Setting, tmp_path: Path, changed: str
) -> None:
    spec = replace(SINGLE, **{changed: ("document",)})
    found = []
    for documents in ("xxyy", "xyxy"):
        rows = [{"a": f"w{i}", "label": i % 2, "document": name} for i, name in enumerate(documents)]
        table = token_table(library, setting, own_task(tmp_path / "own", spec, rows), "train")
        found.append(numbered((table.groups if changed == "compared" else table.questions).tolist()).tolist())
    assert found == [[0, 0, 1, 1], [0, 1, 0, 1]]


@pytest.mark.own_library
def test_rows_that_changed_since_the_plan_are_refused(library: PromptLibrary, setting: Setting, task: Task) -> None:
    spec = task("t")
    file = Path(spec.origin.place("train"))
    file.write_text(file.read_text().replace('"label": 1', '"label": 0', 1))
    for make in (
        lambda: token_table(library, setting, spec, "train"),
        lambda: split_text_hashes(library, spec, "train", None),
    ):
        with pytest.raises(ValueError, match=r"train.jsonl: changed since the plan was made; start the search again"):
            make()


# limits and questions


def test_a_limit_draws_rows_once_for_all_and_keeps_their_order(
    library: PromptLibrary, setting: Setting, task: Task
) -> None:
    drawn = capped(np.arange(60), 20)
    assert len(drawn) == 20
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert capped(np.arange(60), 20).tolist() == drawn.tolist() != list(range(20))
    assert capped(np.arange(60), 60).tolist() == capped(np.arange(60), None).tolist() == list(range(60))
    whole = token_table(library, setting, task("t"), "train")
    part = token_table(library, replace(setting, limit=replace(setting.limit, train=20)), task("t"), "train")
    assert part.labels.tolist() == whole.labels[drawn].tolist()
    assert part.texts.tolist() == whole.texts[drawn].tolist()


@pytest.mark.parametrize("limit", [1, 5, 20, 39])
def test_a_limit_keeps_questions_whole(limit: int) -> None:
    questions = np.random.default_rng(0).permutation(np.repeat(np.arange(12), [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]))
    drawn = capped(questions, limit)
    kept = set(questions[drawn].tolist())
    assert np.flatnonzero(np.isin(questions, list(kept))).tolist() == drawn.tolist()
    assert len(drawn) <= limit or len(kept) == 1  # one question is kept however long it is
    assert drawn.tolist() == capped(questions, limit).tolist()


def test_a_limit_by_hand_over_questions_of_a_task(table_of: Callable[..., TokenTable], setting: Setting) -> None:
    spec = replace(SINGLE, question=("p", "q"), metrics=("question_match",))
    rows = [{"a": f"w{i}", "p": f"p{i // 4}", "q": i // 2 % 2, "label": i % 2} for i in range(12)]
    table = table_of(setting, spec, *rows)
    assert table.questions.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    few = table_of(replace(setting, limit=replace(setting.limit, train=5)), spec, *rows)
    assert len(few) == 4
    assert sorted(np.bincount(few.questions).tolist(), reverse=True)[:2] == [2, 2]
    gold = gold_of(few, spec, np.array([0, 3]))
    assert gold["label"].tolist() == [0, 1]
    assert gold["question"].tolist() == few.questions[[0, 3]].tolist()


@pytest.mark.parametrize("kind", HEADED)
def test_the_gold_of_rows_is_in_the_order_that_was_asked(
    library: PromptLibrary, setting: Setting, kind_task: Task, kind: str
) -> None:
    spec = kind_task(kind)
    table = token_table(library, setting, spec, "train")
    rows = np.array([7, 2, 7, 30])
    found, whole = gold_of(table, spec, rows), gold_of(table, spec, np.arange(60))
    for a, b in zip(found, whole[rows], strict=True):
        assert str(a) == str(b)
    assert len({str(gold) for gold in whole}) > 1
    assert SPECS[kind].kind == kind


# texts


def test_texts_are_compared_by_their_words_alone() -> None:
    assert normalised("  A\tCat \n SAT, on-top. ") == "a cat sat on top"
    assert normalised(" Ça va? ") == "ça va"
    assert normalised(" :-) ") == ":-)"  # a text without a word is compared as it is
    ((a,), (b,), (c,), (d,)) = text_hashes([("A  cat",), ("a CAT!",), ("acat",), ("a cat sat",)])
    assert a == b
    assert len({int(x) for x in (a, c, d)}) == 3
    assert text_hashes([("a",)]).dtype == np.uint64


OTHERS = [(f"{i} first", f"{i} second") for i in range(20)]
"""Rows that share nothing."""


def test_rows_share_a_text_whatever_its_case_and_spaces_also_by_way_of_others() -> None:
    texts = [("A cat", "x"), ("dog", "y"), ("a  CAT", "z"), ("bird", "Z "), ("fish", "v"), *OTHERS]
    groups = shared_text_groups(texts)
    assert groups[0] == groups[2] == groups[3]
    assert len(set(groups.tolist())) == len(texts) - 2


def test_an_empty_field_is_no_text_that_rows_share(library: PromptLibrary, tmp_path: Path) -> None:
    texts = [(f"text {i}", "" if i % 5 == 0 else f"more {i}") for i in range(40)]
    assert len(set(shared_text_groups(texts).tolist())) == 40
    rows = [{"a": a, "b": b, "label": i % 2} for i, (a, b) in enumerate(texts)]
    spec = own_task(tmp_path / "own", replace(SINGLE, compared=("a", "b")), rows)
    assert text_hashes([("",)])[0, 0] not in split_text_hashes(library, spec, "train", None)


@pytest.mark.parametrize("category", [0, 1])
def test_a_field_that_ties_a_quarter_of_the_rows_is_a_category_and_groups_nothing(category: int) -> None:
    texts = [(f"text {i // 2}", ["sports", "world", "news"][i % 3]) for i in range(30)]
    groups = shared_text_groups([row[::-1] for row in texts] if category == 0 else texts)
    assert numbered(groups.tolist()).tolist() == [i // 2 for i in range(30)]


def test_the_only_field_groups_whatever_it_ties() -> None:
    assert numbered(shared_text_groups([(f"text {i % 2}",) for i in range(10)]).tolist()).tolist() == [0, 1] * 5


def test_of_two_fields_that_tie_together_the_one_of_fewer_texts_is_left_out() -> None:
    texts = [(f"a {i // 3}", f"b {i // 4}") for i in range(48)]  # chains of 3 and 4 tie twelve rows each
    assert np.bincount(shared_text_groups(texts)).max() == 12
    wide = [(f"a {i // 3}", f"b {(i + 1) // 3 % 8}") for i in range(48)]  # all are one chain
    assert numbered(shared_text_groups(wide).tolist()).tolist() == [i // 3 for i in range(48)]


def test_a_table_knows_the_hashes_and_groups_of_its_compared_texts(
    table_of: Callable[..., TokenTable], setting: Setting
) -> None:
    rows = [{"a": f"w{i}", "b": name, "label": i % 2} for i, name in enumerate(["Cup", "pen", "cup ", "box"])]
    table = table_of(setting, replace(SINGLE, compared=("b",)), *rows)
    assert table.texts.tolist() == text_hashes([("cup",), ("pen",), ("cup",), ("box",)]).tolist()
    assert numbered(table.groups.tolist()).tolist() == [0, 1, 0, 2]


@pytest.mark.own_library
def test_the_used_texts_of_a_split_are_those_of_its_rows_within_the_limit(
    library: PromptLibrary, setting: Setting, tmp_path: Path
) -> None:
    rows = [{"a": f"w{i % 10}", "b": f"W{i % 3}", "label": i % 2} for i in range(20)]
    spec = own_task(tmp_path / "own", PAIR, rows, rows[:3])
    table = token_table(library, replace(setting, limit=replace(setting.limit, train=6)), spec, "train")
    assert split_text_hashes(library, spec, "train", 6).tolist() == sorted(set(table.texts.ravel().tolist()))
    assert split_text_hashes(library, spec, "train", None).tolist() == sorted(
        set(text_hashes([(f"w{i}",) for i in range(10)]).ravel().tolist())
    )
    assert len(split_text_hashes(library, spec, "validation", None)) == 3
    assert len(list(library.root.glob("texts/*"))) == 3


@pytest.mark.own_library
def test_the_used_texts_of_a_task_do_not_depend_on_its_plm_or_kind(library: PromptLibrary, task: Task) -> None:
    spec = task("t")
    moved = replace(spec, origin=FolderFiles(Path(shutil.copytree(spec.origin.place(), f"{spec.origin.place()}2"))))
    for other in (replace(spec, name="u"), replace(spec, classes=("x", "y")), moved):
        assert (
            split_text_hashes(library, other, "train", None).tolist()
            == split_text_hashes(library, spec, "train", None).tolist()
        )
    assert len(list(library.root.glob("texts/*"))) == 1


def test_numbers_of_names_follow_their_first_appearance() -> None:
    assert numbered(["b", "a", "b", "", "a"]).tolist() == [0, 1, 0, 2, 1]


def sided(setting: Setting, folder: Path, side: str) -> Setting:
    """The setting on the same tokenizer, whose file says at which end texts are cut."""
    shutil.copytree(setting.plm.source, folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "truncation_side": side}))
    return replace(setting, plm=Plm(str(folder), plm_files(folder)))


def test_a_tokenizer_that_cuts_at_the_left_loses_neither_answers_nor_words(
    table_of: Callable[..., TokenTable], long: Setting, tmp_path: Path
) -> None:
    left = sided(long, tmp_path / "left", "left")
    assert load_tokenizer(left.plm).truncation_side == "left"
    short = [replace(each, train=replace(each.train, max_length=14)) for each in (long, left)]
    words = {"words": ["the", "box", "holds", "a", "red", "pen"] * 4, "tags": ["O", "B-DRUG", "O", "O", "O", "O"] * 4}
    for spec, rows in ((ANSWERS, [row("a red pen"), row("pen.")]), (TAGGING, [words])):
        one, other = (table_of(each, spec, *rows) for each in short)
        for name in ("ids", "labels", "lengths", "slots", "answers"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert one.truncated == other.truncated > 0
    assert load_tokenizer(left.plm).truncation_side == "left"


def test_a_text_is_cut_where_the_tokenizers_file_says(
    table_of: Callable[..., TokenTable], pieces: Setting, tmp_path: Path
) -> None:
    left = sided(pieces, tmp_path / "left", "left")
    short = replace(left, train=replace(left.train, max_length=4))
    table = table_of(short, SINGLE, {"a": "the box holds a pen", "label": 0}, {"a": "pen", "label": 1})
    assert said(table) == ["[CLS]", "a", "pen", "[SEP]"]
    assert table.truncated == 0.5


def test_a_tokenizer_without_places_of_characters_is_refused_where_they_are_needed(
    table_of: Callable[..., TokenTable], setting: Setting, tmp_path: Path
) -> None:
    (tmp_path / "vocab.txt").write_text("<cls>\n<pad>\n<eos>\n<unk>\n<mask>\na\nb")
    slow = with_tokenizer(setting, tmp_path / "slow", EsmTokenizer(str(tmp_path / "vocab.txt")))
    (tmp_path / "slow" / "tokenizer.json").unlink()
    slow = replace(slow, plm=Plm(slow.plm.source, plm_files(Path(slow.plm.source))))
    table = table_of(slow, SINGLE, {"a": "a b", "label": 0}, {"a": "b", "label": 1})
    assert table.lengths.tolist() == [4, 3]
    for spec, given in ((TAGGING, {"words": ["a"], "tags": ["O"]}), (ANSWERS, row("a red pen"))):
        with pytest.raises(ValueError, match="EsmTokenizer does not say which characters its tokens are"):
            table_of(slow, spec, given)
