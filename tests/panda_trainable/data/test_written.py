"""Rows whose answers are written: what their labels may be, and the tables that a language model learns from."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panda_trainable.config.origin import ClassValue, Unlocated
from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.task_section import TaskSection, WordingSection
from panda_trainable.config.wording import Wording
from panda_trainable.data.gold import IGNORED, TextGold
from panda_trainable.data.locate import located
from panda_trainable.data.rows import checked_row
from panda_trainable.data.tokens import gold_of, token_table, tokens_key
from panda_trainable.library import PromptLibrary
from panda_trainable.pretrained.files import load_tokenizer
from tests.kits.language_models import VOCABULARY, lm_plm, save_lm
from tests.kits.tasks import own_task, task_of_kind
from tests.kits.trials import small_setting

SPEC = TaskSpec("t", "generation", ("a",), "label", (), ("rouge_l",))
QUESTION = TaskSpec("q", "extractive_qa", ("question", "passage"), "answers", (), ("answer_f1",))
ENCODER, MASKED = Plm("bert", "1"), Plm("bert", "2", kind="masked_lm", head="lm")
CAUSAL, SEQ2SEQ = Plm("llama", "3", kind="causal_lm"), Plm("t5", "4", kind="seq2seq_lm")
NUMBER = {word: i for i, word in enumerate(VOCABULARY)}
ANSWERS = {"text": ["w3 w4", "w4"], "answer_start": [3, 6]}
ASKED = {"question": "w1", "passage": "w2 w3 w4", "answers": ANSWERS}


@pytest.fixture(scope="module")
def lms(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Setting]:
    """Settings on language models, made once."""
    made: dict[str, Setting] = {}

    def setting(name: str) -> Setting:
        if name not in made:
            folder = save_lm(tmp_path_factory.mktemp("lm") / name, name)
            made[name] = replace(small_setting(folder), plm=lm_plm(folder))
        return made[name]

    return setting


# labels


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (" two words ", ("two words",)),
        (["one", " two"], ("one", "two")),
        ("['one', 'two']", ("one", "two")),  # as pandas writes lists into CSV
        ({"text": ["one"], "answer_start": [4]}, ("one",)),
        ("{'text': ['one', 'two'], 'answer_start': [1, 2]}", ("one", "two")),
        ("-1", ("-1",)),  # a text like any other
        ("0", ("0",)),
        (ClassValue(1, ("no", "yes")), ("yes",)),
        ("", None),
        (None, None),
        ([], None),
        ({"text": [], "answer_start": []}, None),
    ],
)
def test_a_label_is_a_text_or_several_that_are_right(label: Any, expected: tuple[str, ...] | None) -> None:
    row = checked_row(SPEC, {"a": "w1", "label": label})
    assert (row.label if row else None) == expected


@pytest.mark.parametrize("label", [3, ["one", ""], ["one", 2], {"answers": ["one"]}.items(), "half \ud800", True])
def test_what_is_no_text_is_refused(label: Any) -> None:
    with pytest.raises(ValueError, match="label must be a text, or a list of texts that are all right"):
        checked_row(SPEC, {"a": "w1", "label": label})


def test_rows_without_an_answer_are_left_out_and_told(tmp_path: Path) -> None:
    rows = [{"a": f"w1 x{i}", "label": "" if i == 2 else "w2"} for i in range(5)]
    task = own_task(tmp_path, SPEC, rows)
    assert "t: 1 train row with an empty label left out" in task.notes


def test_a_test_split_whose_rows_all_have_one_text_is_kept(tmp_path: Path) -> None:
    rows = [{"a": f"w1 x{i}", "label": "w2"} for i in range(5)]
    own_task(tmp_path, SPEC, rows)
    (tmp_path / "t" / "test.jsonl").write_text((tmp_path / "t" / "train.jsonl").read_text())
    assert located(SPEC, tmp_path).report_split == "test"


# who answers


@pytest.mark.parametrize("plm", [ENCODER, replace(CAUSAL, head="linear")])
def test_a_generation_is_not_answered_by_a_trained_head(plm: Plm) -> None:
    with pytest.raises(
        ValueError, match="task t: a generation is written by a causal or encoder-decoder .* name such a plm"
    ):
        SPEC.on(plm)


@pytest.mark.parametrize(("task", "remedy"), [(SPEC, "encoder-decoder plm$"), (QUESTION, "or use plm.head: linear$")])
def test_a_masked_model_writes_nothing(task: TaskSpec, remedy: str) -> None:
    with pytest.raises(ValueError, match=f"is a masked language model, which fills in one token .*{remedy}"):
        task.on(MASKED)


def test_extractive_qa_is_written_where_its_own_head_answers_and_marked_elsewhere() -> None:
    written, marked = QUESTION.on(CAUSAL), QUESTION.on(ENCODER)
    assert (written.kind, written.readout, written.outputs) == ("generation", "generation", 0)
    assert (marked.kind, marked.readout, marked.outputs) == ("extractive_qa", "linear", 2)
    assert written.on(ENCODER) == marked == QUESTION
    assert written.on(SEQ2SEQ) == QUESTION.on(SEQ2SEQ) == written
    assert written.compared_fields == marked.compared_fields == ("passage",)
    assert written.asked == Wording("{2} Question: {1} Answer: {answer}")


def test_a_task_is_asked_as_it_says_or_by_its_texts_or_as_t5_was() -> None:
    assert SPEC.on(CAUSAL).asked == Wording("{1} {answer}")
    assert replace(SPEC, text=("a", "b")).on(SEQ2SEQ).asked == Wording("{1} {2} {answer}")
    assert replace(SPEC, wording=Wording("{a} In short: {answer}")).on(CAUSAL).asked == Wording(
        "{a} In short: {answer}"
    )
    assert SPEC.worded("t5").wording == Wording("t a: {1} {answer}")
    assert QUESTION.worded("t5").wording == Wording("question: {1} context: {2} {answer}")
    section = TaskSection(kind="generation", text=("a",), t5=WordingSection(template="summarize: {a} {answer}"))
    assert section.spec("s").worded("t5").on(SEQ2SEQ).asked == Wording("summarize: {a} {answer}")


def test_label_words_of_what_is_written_are_refused() -> None:
    with pytest.raises(ValueError, match="words need `classes`"):
        TaskSection(kind="generation", text=("a",), template="{a} {answer}", words=(("yes",),)).spec("t")


# tables


@pytest.mark.parametrize(("name", "reads"), [("llama", "[CLS] w1 w2"), ("t5", "[CLS] w1 w2 [SEP]")])
def test_a_table_holds_the_first_answer_with_an_end_and_all_that_are_right(
    lms: Callable[[str], Setting], library: PromptLibrary, tmp_path: Path, name: str, reads: str
) -> None:
    rows = [{"a": "w1 w2", "label": ["w3 w4", "w5"]}, {"a": "w1", "label": "w6"}]
    task, setting = own_task(tmp_path, SPEC, rows).on(lms(name).plm), lms(name)
    table = token_table(library, setting, task, "train")
    assert [VOCABULARY[i] for i in table.ids[0]] == reads.split()
    assert table.slots.tolist() == [[NUMBER["w3"], NUMBER["w4"], 4], [NUMBER["w6"], 4, -1]]
    assert table.labels.tolist() == [[NUMBER["w3"], NUMBER["w4"], 4], [NUMBER["w6"], 4, IGNORED]]
    assert table.sequences == 1
    assert gold_of(table, task, np.array([1, 0])).tolist() == [TextGold(("w6",)), TextGold(("w3 w4", "w5"))]


def test_long_texts_and_long_answers_are_cut_and_counted(
    lms: Callable[[str], Setting], library: PromptLibrary, tmp_path: Path
) -> None:
    setting = lms("llama")
    setting = replace(setting, train=replace(setting.train, max_length=8, max_answer=3))
    rows = [{"a": f"w1 w{i}", "label": "w3"} for i in range(6)]
    rows += [{"a": "w9 " * 20, "label": "w3"}, {"a": "w8", "label": "w3 w4 w5 w6"}]
    table = token_table(library, setting, own_task(tmp_path, SPEC, rows).on(setting.plm), "train")
    assert table.truncated == 2 / 8
    assert table.lengths.max() == 8
    assert table.labels[7].tolist() == [NUMBER["w3"], NUMBER["w4"], NUMBER["w5"]]  # without an end, which is not learnt


def test_the_answer_of_a_passage_is_its_first_text(
    lms: Callable[[str], Setting], library: PromptLibrary, tmp_path: Path
) -> None:
    setting = lms("llama")
    raw = own_task(tmp_path, QUESTION, [{**ASKED, "question": f"w1 x{i}"} for i in range(4)])
    task = raw.on(setting.plm)
    assert task.fingerprints == raw.fingerprints
    table = token_table(library, setting, task, "train")
    assert table.labels[0].tolist() == [NUMBER["w3"], NUMBER["w4"], 4]
    assert gold_of(table, task, np.array([0])).tolist() == [TextGold(("w3 w4", "w4"))]
    assert task.on(ENCODER).fingerprints == raw.fingerprints


def test_the_cap_of_answers_is_part_of_the_key_of_what_is_written_alone(
    lms: Callable[[str], Setting], tmp_path: Path
) -> None:
    setting = lms("llama")
    other = replace(setting, train=replace(setting.train, max_answer=9))
    written = task_of_kind(tmp_path, "generation").on(setting.plm)
    plain = task_of_kind(tmp_path, "classification", "c")
    assert tokens_key(setting, written, "train") != tokens_key(other, written, "train")
    assert tokens_key(setting, plain, "train") == tokens_key(other, plain, "train")


def test_a_tokenizer_without_an_end_is_told_before_rows_are_read(
    lms: Callable[[str], Setting], library: PromptLibrary, tmp_path: Path
) -> None:
    setting = lms("llama")
    folder = tmp_path / "plm"
    save_lm(folder, "llama")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "sep_token"}))
    plm = lm_plm(folder)
    assert load_tokenizer(plm).sep_token is None
    task = replace(SPEC, origin=Unlocated())
    task = own_task(tmp_path, task, [{"a": f"w{i}", "label": "w3"} for i in range(4)]).on(plm)
    with pytest.raises(ValueError, match="names no eos_token, with which an answer that is written ends"):
        token_table(library, replace(setting, plm=plm), task, "train")
