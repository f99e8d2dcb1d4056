"""Wordings: templates filled by hand, and every rule that a template or a word can break."""

from dataclasses import replace
from typing import Any

import pytest

from panda_trainable.config.setting import Plm
from panda_trainable.config.task import Mixture, TaskSpec, shared_head
from panda_trainable.config.task_section import TaskSection, WordingSection
from panda_trainable.config.wording import Wording, text_to_text
from panda_trainable.data.task_table import TASKS

TASK = TaskSpec("t", "classification", ("premise", "hypothesis"), "label", ("no", "yes"), ("accuracy",))
ASKED = Wording("{premise} Is it so: {2}? {answer}.", (("No",), ("Yes", "Sure")))
MASKED = Plm("tiny", "c0ffee", kind="masked_lm", head="lm")
LM, LINEAR = Plm("tiny", "c0ffee", kind="causal_lm"), Plm("tiny", "c0ffee", kind="causal_lm", head="linear")


def test_a_template_is_filled_around_its_slot() -> None:
    assert ASKED.names == ("premise", "2")
    assert ASKED.around_slot(["It rains.", "it is wet"]) == ("It rains. Is it so: it is wet? ", ".")
    assert ASKED.before_slot == "? "
    assert ASKED.ends_with_slot
    assert not Wording("{a} {answer} {b}").ends_with_slot


def test_values_with_braces_stay_as_they_are() -> None:
    assert Wording("{a} It was {answer}.").around_slot(["a {b} {answer}"]) == ("a {b} {answer} It was ", ".")


def test_without_words_the_names_of_classes_answer() -> None:
    assert Wording("{a} {answer}").with_words(["not_so", "yes"]).words == (("not so",), ("yes",))
    assert ASKED.with_words(["no", "yes"]) is ASKED


def test_t5_names_the_task_and_its_fields_and_the_classes_answer() -> None:
    made = text_to_text("sst2", ["sentence"], ["negative", "positive"])
    assert (made.template, made.words) == ("sst2 sentence: {1} {answer}", (("negative",), ("positive",)))
    assert text_to_text("multirc", ["paragraph", "{question} {answer}"], []).around_slot(["A.", "Q? B"]) == (
        "multirc paragraph: A. text2: Q? B ", "",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("template", "words", "rule"),
    [
        ("{premise} It was.", (), "needs the slot"),
        ("{premise} {answer} {answer}", (), "has one slot only"),
        ("{premis} {answer}", (), "unknown field premis; there are premise, hypothesis, 1, 2"),
        ("{3} {answer}", (), "unknown field 3"),
        ("It was {answer}.", (), "asks every row the same"),
        ("{premise {answer}", (), "cannot be read"),
        ("{premise:>5} {answer}", (), "braces hold a name alone"),
        ("{premise} {answer}", (("No",),), "words must be of each of 2 classes (no, yes), got 1"),
        ("{premise} {answer}", (("No",), ("Yes", "No")), "'No' is a word of no and yes"),
        ("{premise} {answer}", (("No", "No"), ("Yes",)), "'No' is a word of no"),
        ("{premise} {answer}", (("No",), (" ",)), "needs a word that is not empty"),
        ("{premise} {answer}", (("No",), ()), "needs a word that is not empty"),
    ],
)
def test_a_wording_that_cannot_be_asked_is_refused_with_its_rule(
    template: str, words: tuple[tuple[str, ...], ...], rule: str
) -> None:
    with pytest.raises(ValueError) as refused:
        replace(TASK, wording=Wording(template, words))
    assert rule in str(refused.value)
    assert "task t" in str(refused.value)


def test_words_without_classes_are_refused_since_nobody_knows_their_order() -> None:
    with pytest.raises(ValueError, match="words need `classes`"):
        TaskSection(text=("a",), template="{a} {answer}", words=(("x",), ("y",))).spec("t")
    with pytest.raises(ValueError, match="words answer a template"):
        TaskSection(text=("a",), classes=("no", "yes"), words=(("x",), ("y",))).spec("t")


def test_a_task_of_a_file_may_be_asked_as_t5_is() -> None:
    plain = TaskSection(text=("a",), classes=("no", "yes"), template="t5").spec("mine")
    assert plain.wording == Wording("mine a: {1} {answer}", (("no",), ("yes",)))
    own = TaskSection(text=("a",), classes=("no", "yes"), template="t5", t5=WordingSection(template="q: {a} {answer}"))
    assert own.spec("mine").wording == Wording("q: {a} {answer}")


def test_a_task_is_asked_in_words_where_a_language_models_own_head_answers() -> None:
    task = replace(TASK, wording=ASKED)
    assert task.on(LM).asked == ASKED
    assert (task.on(LM).readout, task.on(LM).outputs) == ("verbaliser", 0)
    assert task.on(LINEAR) == task.on(LM).on(LINEAR) == task
    assert (task.readout, task.outputs) == ("linear", 2)
    assert Mixture("m", (task,)).on(LM).outputs == 0


CHOICE = replace(TASK, kind="multiple_choice", text=("event",), classes=(), choices=("first", "the {second}"))
NAMED = Wording("{first} {second} {1} {answer}", (("one",), ("two", "second")))


def test_the_texts_of_choices_answer_or_words_that_name_them() -> None:
    assert CHOICE.on(LM).asked == Wording("{1} {answer}")
    assert (CHOICE.on(LM).readout, CHOICE.on(LM).outputs) == ("choices", 0)
    named = replace(CHOICE, wording=NAMED)
    assert [(named.on(plm).readout, named.on(plm).asked) for plm in (LM, MASKED)] == [("verbaliser", NAMED)] * 2
    assert (CHOICE.on(LINEAR).readout, CHOICE.on(LM).unasked) == ("linear", CHOICE)
    told = replace(CHOICE, text=(), wording=Wording("It is true that {answer}"))
    assert told.on(LM).asked == told.wording


def test_t5_offers_choices_by_number_and_their_numbers_answer() -> None:
    form = "t choice1: {first} choice2: the {second} event: {1} {answer}"
    assert CHOICE.worded("t5").wording == Wording(form, (("choice1",), ("choice2",)))
    listed = replace(CHOICE, choices=("endings",))
    assert listed.worded("t5").wording == Wording("t event: {1} {answer}")  # nobody knows yet how many there are
    assert replace(listed, wording=Wording("{endings.0} {endings.1} {1} {answer}", (("A",), ("B",)))).wording
    assert TASKS["copa"].worded("t5").on(LM).asked == Wording(
        "copa choice1: {choice1} choice2: {choice2} premise: {premise} question: {question} {answer}",
        (("choice1",), ("choice2",)),
    )


@pytest.mark.parametrize(
    ("changes", "plm", "rule"),
    [
        ({}, MASKED, "its choices are texts, and tiny is a masked language model, which fills in one token"),
        ({"text": ()}, LM, "nobody says how it is asked.*'It is true that {answer}'"),
    ],
)
def test_choices_that_cannot_be_asked_are_refused(changes: dict[str, Any], plm: Plm, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        replace(CHOICE, **changes).on(plm)


@pytest.mark.parametrize(
    ("wording", "rule"),
    [
        (Wording("{1} {answer}", (("one",),)), "words must be of each of 2 classes (first, the {second}), got 1"),
        (Wording("{answer}"), "asks every row the same"),
        (Wording("Which? {answer}", NAMED.words), "asks every row the same"),
    ],
)
def test_words_of_choices_are_one_of_each_and_need_what_they_name(wording: Wording, rule: str) -> None:
    with pytest.raises(ValueError) as refused:
        replace(CHOICE, wording=wording)
    assert rule in str(refused.value)


def test_a_task_that_cannot_be_asked_in_words_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody says how it is asked.*'{premise} It was {answer}.'"):
        TASK.on(LM)
    with pytest.raises(ValueError, match="a regression is not answered by a language model's own head"):
        replace(TASK, kind="regression", classes=(), metrics=("pearson",)).on(LM)


def test_no_head_is_shared_where_words_answer_whatever_the_classes() -> None:
    other = replace(TASK, classes=("a", "b", "c"), wording=replace(ASKED, words=()))
    both = other.on(LM), replace(TASK, wording=ASKED).on(LM)
    assert shared_head(*both) == ()
    assert shared_head(Mixture("m", both[:1]), both[1]) == ()
    assert shared_head(other, TASK) is None
