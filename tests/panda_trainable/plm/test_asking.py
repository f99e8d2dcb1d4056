"""How rows are asked: templates that fit, slots that stay, label words in their context, and scores worked out by hand."""

from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config

from panda_trainable.config.setting import PlmKind
from panda_trainable.config.wording import Wording
from panda_trainable.plm.answers import Answers
from panda_trainable.plm.asking import (
    asked_texts,
    asking_problems,
    decoder_start,
    label_words,
    special_tokens,
)
from panda_trainable.pretrained.kinds import kind_in, used_as
from tests.kits.language_models import word_tokenizer

LM: list[PlmKind] = ["masked_lm", "causal_lm", "seq2seq_lm"]
WORDS = word_tokenizer()
WORDING = Wording("{a} It was {answer} . {b}", (("terrible",), ("great",)))
CAUSAL = Wording("{a} about {b} It was {answer} .", (("terrible",), ("great",)))


@pytest.fixture(scope="module")
def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer, as GPT-2's: a space is part of the word behind it; ` great` is one token, `great` two."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("g", "r"), ("gr", "e"), ("gre", "at"), ("a", "t"), ("Ġ", "great"), ("Ġ", "b"), ("Ġb", "a"), ("Ġba", "d")]
    merges.insert(0, merges.pop(3))
    pieces = [*alphabet, *("".join(pair) for pair in merges), "<mask>"]
    model = models.BPE({piece: i for i, piece in enumerate(pieces)}, merges)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="<mask>")


def tokens(ids: list[int]) -> str:
    return " ".join(WORDS.convert_ids_to_tokens(ids))


@pytest.mark.parametrize(
    ("kind", "wording", "expected", "slot"),
    [
        ("masked_lm", WORDING, "[CLS] w1 w2 It was [MASK] . w3 [SEP]", 5),
        ("causal_lm", CAUSAL, "[CLS] w1 w2 about w3 It was", 6),
        ("seq2seq_lm", CAUSAL, "[CLS] w1 w2 about w3 It was [SEP]", 0),
    ],
)
def test_a_row_is_read_as_its_kind_answers(kind: PlmKind, wording: Wording, expected: str, slot: int) -> None:
    found = asked_texts(WORDS, kind, wording, [("w1 w2", "w3")], 20)
    assert (tokens(found.ids[0]), found.slots, found.cut) == (expected, [slot], [False])


@pytest.mark.parametrize("kind", LM)
@pytest.mark.parametrize("room", range(8, 16))
def test_template_and_slot_survive_truncation_of_which_the_longest_field_pays_first(kind: PlmKind, room: int) -> None:
    wording = WORDING if kind == "masked_lm" else CAUSAL
    rows = [(" ".join(["w1"] * long), " ".join(["w2"] * other)) for long, other in ((9, 2), (4, 9), (1, 1), (0, 30))]
    found = asked_texts(WORDS, kind, wording, rows, room)
    fixed = [word for word in tokens(found.ids[2]).split() if not word.startswith("w") or word == "was"]
    for row, ids, slot, cut in zip(rows, found.ids, found.slots, found.cut, strict=True):
        said = tokens(ids).split()
        assert len(ids) <= room
        assert [word for word in said if not word.startswith("w") or word == "was"] == fixed
        assert cut == (len(" ".join(row).split()) + len(fixed) > room)
        assert not cut or len(ids) == room
        if cut and min(len(part.split()) for part in row) > (room - len(fixed)) // 2:
            assert abs(said.count("w1") - said.count("w2")) <= 1
        assert kind != "masked_lm" or said[slot] == "[MASK]"
        assert kind != "causal_lm" or slot == len(ids) - 1


def test_a_template_longer_than_the_room_is_refused_with_both_lengths() -> None:
    with pytest.raises(ValueError, match="which alone takes 6 tokens, of which there may be 5; raise train.max_length"):
        asked_texts(WORDS, "masked_lm", Wording("{a} It was {answer} .", WORDING.words), [("w1 w2",)], 5)


def test_the_slot_is_found_beside_mask_tokens_of_the_text() -> None:
    found = asked_texts(WORDS, "masked_lm", WORDING, [("w1 [MASK] w2", "[MASK]"), ("w1", "w3 [MASK]")], 20)
    assert [tokens(ids[: slot + 1]) for ids, slot in zip(found.ids, found.slots, strict=True)] == [
        "[CLS] w1 [MASK] w2 It was [MASK]", "[CLS] w1 It was [MASK]",
    ]  # fmt: skip


def test_words_of_several_tokens_have_room_behind_a_causal_text() -> None:
    long = Wording("{a} It was {answer}", (("very very great",), ("terrible",)))
    assert label_words(WORDS, "causal_lm", long).continuations == (
        tuple(WORDS("very very", add_special_tokens=False)["input_ids"]),
    )
    rows = [(" ".join(["w1"] * 20),)]
    assert len(asked_texts(WORDS, "causal_lm", long, rows, 12).ids[0]) == 10
    assert len(asked_texts(WORDS, "seq2seq_lm", long, rows, 12).ids[0]) == 12


def test_a_label_word_is_tokenised_as_it_stands_in_the_template(bytes_tokenizer: Any) -> None:
    def pieces(wording: Wording, kind: PlmKind = "causal_lm") -> list[str]:
        ((word,),) = label_words(bytes_tokenizer, kind, wording).words
        return bytes_tokenizer.convert_ids_to_tokens(list(word))

    assert pieces(Wording("{a} It was {answer}.", (("great",),))) == ["Ġgreat"]
    assert pieces(Wording("{a} {answer}", (("great",),))) == ["Ġgreat"]
    assert pieces(Wording("{a}:{answer}", (("great",),))) == ["great"]
    assert pieces(Wording("{answer} {a}", (("great",),)), "masked_lm") == ["great"]
    assert pieces(Wording("{a} It was {answer}.", (("great",),)), "seq2seq_lm") == ["great"]


def test_text_and_word_together_are_the_tokens_of_the_whole(bytes_tokenizer: Any) -> None:
    wording = Wording("{a} It was {answer}.", (("great",), ("bad",)))
    found = asked_texts(bytes_tokenizer, "causal_lm", wording, [("so",)], 40)
    for (word,), text in zip(label_words(bytes_tokenizer, "causal_lm", wording).words, ("great", "bad"), strict=True):
        assert [*found.ids[0], *word] == bytes_tokenizer(f"so It was {text}")["input_ids"]


@pytest.mark.parametrize(
    ("kind", "wording", "rule"),
    [
        ("causal_lm", WORDING, "has a field behind the slot"),
        ("seq2seq_lm", WORDING, "has a field behind the slot"),
        ("causal_lm", Wording("{a} {answer}", (("great",), ("wonderful",))), "'wonderful' is no word of its tokenizer"),
        (
            "masked_lm",
            Wording("{a} {answer}", (("great",), ("very terrible",))),
            r"must be one token.*2 \(very terrible\)",
        ),
        ("causal_lm", Wording("{a} {answer}", (("very",), ("very great",))), "'very great' can never be the likelier"),
        ("seq2seq_lm", Wording("{a} {answer}", (("very great",), ("very",))), "'very great' can never be the likelier"),
    ],
)
def test_words_and_templates_that_do_not_suit_a_plm_are_refused(kind: PlmKind, wording: Wording, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        asked_texts(WORDS, kind, wording, [tuple("w1" for _ in wording.names)], 20)


def test_two_words_that_are_the_same_tokens_are_told_once() -> None:
    problems = list(asking_problems(WORDS, "causal_lm", Wording("{a} {answer}", (("great",), ("great ",)))))
    assert len(problems) == 1


def test_a_masked_model_needs_a_mask_token() -> None:
    assert "no mask token" in next(asking_problems(word_tokenizer(mask=False), "masked_lm", WORDING))
    assert not list(asking_problems(word_tokenizer(mask=False), "causal_lm", CAUSAL))


def test_a_decoder_starts_with_what_its_config_and_tokenizer_say() -> None:
    assert special_tokens(WORDS) == ((3,), (4,))
    assert decoder_start(WORDS, T5Config(decoder_start_token_id=0)) == (0, 3)
    assert decoder_start(word_tokenizer(specials=False), T5Config(decoder_start_token_id=0)) == (0,)
    with pytest.raises(ValueError, match="decoder_start_token_id"):
        decoder_start(WORDS, T5Config(decoder_start_token_id=None))


# answers


def test_a_class_is_as_likely_as_its_words_together_each_as_a_whole() -> None:
    answers = Answers((((0, 1), (2,)), ((0, 2),)))
    assert answers.beginnings == ((), (0,))
    assert answers.continuations == ((0,),)
    assert answers.places == ((0, 0), (0, 1))
    shares = torch.tensor([[[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]]])
    found = answers.scores(shares.log() + 7)  # logits are log-probabilities up to a constant
    expected = [log(0.5 * 0.6 + 0.3), log(0.5 * 0.3)]
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_words_of_one_token_need_the_state_of_the_text_alone() -> None:
    answers = Answers((((5,),), ((6,), (7,))))
    assert (answers.beginnings, answers.continuations, answers.places) == (((),), ((),), ((0, 0),))
    logits = torch.zeros(1, 1, 8)
    logits[..., 6] = 1.0
    total = 7 + exp(1)
    torch.testing.assert_close(answers.scores(logits), torch.tensor([[-log(total), log(exp(1) + 1) - log(total)]]))


def test_every_beginning_is_read_in_one_continuation() -> None:
    answers = Answers((((1, 2, 3), (4, 5)), ((1, 6, 7),), ((8,),)))
    rows = answers.continuations
    assert set(rows) == {(1, 2), (1, 6), (4,)}
    assert [rows[r][:n] for r, n in answers.places] == list(answers.beginnings)


@pytest.mark.parametrize("words", [(), ((),), (((),),), (((1,),), ((1, 2),)), (((1, 2),), ((1,),))])
def test_words_that_cannot_be_told_apart_are_refused(words: Any) -> None:
    with pytest.raises(ValueError, match="word"):
        Answers(words)


# kinds


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ('{"architectures": ["BertModel"]}', "encoder"), ("{}", "encoder"), ('{"architectures": null}', "encoder"),
        ('{"architectures": ["BertForMaskedLM"]}', "masked_lm"), ('{"architectures": ["GPT2LMHeadModel"]}', "causal_lm"),
        ('{"architectures": ["Qwen2ForCausalLM"]}', "causal_lm"),
        ('{"architectures": ["BartForConditionalGeneration"]}', "seq2seq_lm"),
        ('{"architectures": ["T5EncoderModel"]}', "encoder"),
    ],
)  # fmt: skip
def test_the_kind_is_seen_from_the_config(tmp_path: Path, config: str, kind: PlmKind) -> None:
    (tmp_path / "config.json").write_text(config)
    assert kind_in(tmp_path) == kind


@pytest.mark.parametrize("config", ["[]", "{", '{"architectures": 3}'])
def test_a_config_that_is_none_is_left_to_loading_to_tell(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    assert kind_in(tmp_path) == "encoder"


def test_a_head_is_told_where_it_is_not_the_usual_of_the_files() -> None:
    assert [used_as(kind, None) for kind in ("encoder", *LM)] == [
        ("encoder", None), ("encoder", None), ("causal_lm", None), ("seq2seq_lm", None),
    ]  # fmt: skip
    assert [used_as(kind, "linear") for kind in ("encoder", *LM)] == [
        ("encoder", None), ("encoder", None), ("causal_lm", "linear"), ("encoder", "linear"),
    ]  # fmt: skip
    assert [used_as(kind, "lm") for kind in ("encoder", *LM)] == [
        ("masked_lm", "lm"), ("masked_lm", "lm"), ("causal_lm", None), ("seq2seq_lm", None),
    ]  # fmt: skip
