"""What is learnt and written behind prompts is what the plain language model says, one example and one token at a time."""

from argparse import Namespace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from panda_trainable.config.setting import PlmKind
from panda_trainable.config.wording import Wording
from panda_trainable.plm.language_model import LanguageModel
from panda_trainable.training.heads import Choices, Writer
from panda_trainable.writing.decoding import NOT_FINITE, Texts, _cache_fits, _fits, greedy, takes_lengths
from panda_trainable.writing.states import target_states
from panda_trainable.writing.targets import targets
from tests.kits.language_models import (
    CAUSAL,
    MORE_CAUSAL,
    SEQ2SEQ,
    VOCABULARY,
    WITHOUT_PREFIX,
    PlainLm,
    small_lm,
    word_tokenizer,
)

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
P, LONGEST, MOST = 3, 14, 8
LENGTHS = torch.tensor([1, LONGEST, 4, 9])
TARGETS = torch.tensor([[9, 10, 4], [11, 4, -1], [30, -1, -1], [12, 13, 14]])
"""The last was cut and has no end."""
NAMES = [*CAUSAL, *SEQ2SEQ]
KIND: dict[str, PlmKind] = {
    **dict.fromkeys((*CAUSAL, *WITHOUT_PREFIX, *MORE_CAUSAL), "causal_lm"), **dict.fromkeys(SEQ2SEQ, "seq2seq_lm"),
}  # fmt: skip


def livened(model: Any) -> Any:
    """A model whose decoder looks at the text: as it is drawn, it repeats its own last token."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "EncDecAttention" in name or "encoder_attn." in name:
                parameter.mul_(4)
    return model


@cache
def plm_of(name: str) -> LanguageModel:
    return LanguageModel(livened(small_lm(name)), KIND[name], word_tokenizer(specials=name in CAUSAL))


@cache
def plain_of(name: str) -> PlainLm:
    plain = PlainLm(name)
    livened(plain.model)
    return plain


def random_ids() -> Tensor:
    """[n, T] rows with noise where padding is."""
    return torch.randint(6, len(VOCABULARY), (len(LENGTHS), LONGEST), generator=torch.Generator().manual_seed(0))


def random_prompts(plm: LanguageModel, form: str, scale: float = 1.0) -> Tensor:
    """[2, …] prompts large enough that they matter."""
    generator = torch.Generator().manual_seed(9)
    return scale * torch.randn(2, *plm.prompt_shape(P, form), generator=generator)


def said_by_hand(plain: PlainLm, plm: LanguageModel, ids: Tensor, prompt: Tensor | None, tokens: Tensor) -> Tensor:
    """[m, V] log-probabilities of what stands in the place of each token [m], those before it given."""
    if plm.start:
        read = torch.cat((torch.tensor(plm.start), tokens[:-1]))
        return plain.logits(ids, prompt, read)[len(plm.start) - 1 :].log_softmax(1)
    return plain.logits(torch.cat((ids, tokens[:-1])), prompt)[len(ids) - 1 :].log_softmax(1)


@pytest.mark.parametrize("form", ["input", "prefix"])
@pytest.mark.parametrize("name", NAMES)
def test_each_token_to_write_is_as_likely_as_the_plain_model_says(name: str, form: str) -> None:
    plm, plain, ids, owner = plm_of(name), plain_of(name), random_ids(), torch.arange(len(LENGTHS)) % 2
    prompt = random_prompts(plm, form, 1.0 if form == "prefix" else 0.3).requires_grad_()
    states = target_states(plm, ids, torch.zeros_like(ids), LENGTHS, prompt, owner, slots=TARGETS)
    said = plm.logits(states.flatten(0, 1)).view(*TARGETS.shape, -1).log_softmax(2)
    ours = said.gather(2, TARGETS.clamp(min=0)[..., None])[..., 0][TARGETS >= 0]
    alone = []
    for row, length in enumerate(LENGTHS.tolist()):
        tokens = TARGETS[row][TARGETS[row] >= 0]
        expected = said_by_hand(plain, plm, ids[row, :length], prompt[owner[row]], tokens)
        alone.append(expected[torch.arange(len(tokens)), tokens])
    torch.testing.assert_close(ours, torch.cat(alone), **CLOSE)
    gradients = [torch.autograd.grad(each.sum(), prompt, retain_graph=True)[0] for each in (ours, torch.cat(alone))]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


CHOICES = torch.tensor(
    [[[9, 10, 4], [11, -1, -1]], [[11, 4, -1], [9, 10, 8]], [[30, -1, -1], [31, -1, -1]], [[12, 13, 14], [12, 13, -1]]]
)
"""Two choices of each row, of several lengths, some of which begin alike."""
CHOOSING = [(name, form) for name in NAMES for form in ("input", "prefix")]
CHOOSING += [(name, "input") for name in (*WITHOUT_PREFIX, *MORE_CAUSAL)]


@pytest.mark.parametrize(("name", "form"), CHOOSING)
def test_each_choice_is_as_likely_as_the_plain_model_says_of_it_alone(name: str, form: str) -> None:
    plm, plain, ids, owner = plm_of(name), plain_of(name), random_ids(), torch.tensor([0, 1, 2, 1])
    prompt = (1.0 if form == "prefix" else 0.3) * torch.randn(
        3, *plm.prompt_shape(P, form), generator=torch.Generator().manual_seed(9)
    )
    prompt.requires_grad_()
    table = Namespace(slots=CHOICES)
    lengths = LENGTHS if plm.takes_padding else torch.full_like(LENGTHS, LONGEST)
    expected = torch.stack(
        [
            said_by_hand(plain, plm, ids[row, :length], prompt[owner[row]], tokens)[
                torch.arange(len(tokens)), tokens
            ].sum()
            for row, length in enumerate(lengths.tolist())
            for tokens in (choice[choice >= 0] for choice in CHOICES[row])
        ]
    ).view(4, 2)
    (wanted,) = torch.autograd.grad((expected * WEIGHTS).sum(), prompt)
    for front in (plm.in_front(prompt), prompt):  # an input prompt that is computed once, or by every row
        states = Choices().reading(plm)(ids, torch.zeros_like(ids), lengths, prompt=front, owner=owner, slots=CHOICES)
        ours = Choices().logits(plm, states, prompt, prompt, owner, table, torch.arange(4))
        torch.testing.assert_close(ours, expected, **CLOSE)
        (found,) = torch.autograd.grad((ours * WEIGHTS).sum(), prompt)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


WEIGHTS = torch.tensor([[1.0, -2.0], [0.5, 1.0], [-1.0, 1.5], [2.0, 0.7]])
"""Of the choices in a sum, so that none of their gradients cancel."""


@pytest.mark.parametrize("name", ["llama", "gemma3", "t5"])
def test_a_text_is_read_once_for_all_its_choices(name: str) -> None:
    plm, ids = plm_of(name), random_ids()
    tokens: list[int] = []
    embed = plm.model.get_input_embeddings()
    hook = embed.register_forward_pre_hook(lambda _, given: tokens.append(given[0].numel()))
    extent = Choices().extent(plm, None, Namespace(slots=CHOICES))
    try:
        states = target_states(plm, ids, torch.zeros_like(ids), LENGTHS, slots=CHOICES)
    finally:
        hook.remove()
    assert states.shape[:3] == (4, 2, 3)
    assert sum(tokens) == ids.numel() + (0 if plm.start else 4 * 2 * 2)  # a decoder has its own embeddings
    assert extent == ((2, 2) if plm.start else (1, 4))
    torch.testing.assert_close(states[:, 0, 0], states[:, 1, 0], **CLOSE)  # behind the text


def written_by_hand(plain: PlainLm, plm: LanguageModel, ids: Tensor, prompt: Tensor | None, end: int) -> list[int]:
    """Greedy decoding by reading everything anew."""
    made: list[int] = []
    while len(made) < MOST and end not in made:
        made.append(int(said_by_hand(plain, plm, ids, prompt, torch.tensor([*made, 0]))[-1].argmax()))
    return made + [end] * (MOST - len(made))


def end_that_comes(plain: PlainLm, plm: LanguageModel, prompts: Tensor) -> int:
    """A token that the first row writes after others, so that it ends before others do."""
    freely = written_by_hand(plain, plm, random_ids()[0, :LONGEST], prompts[0], -5)
    return next((token for token in freely if token != freely[0]), freely[0])


FORMS = [(name, form) for name in NAMES for form in ("input", "prefix")]
FORMS += [(name, "input") for name in (*WITHOUT_PREFIX, *MORE_CAUSAL)]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_the_likeliest_tokens_are_written_behind_prompts_of_two_replicas(name: str, form: str) -> None:
    plm, plain, ids = plm_of(name), plain_of(name), random_ids()
    owner = torch.tensor([0, 1, 1, 0])
    prompts = random_prompts(plm, form)
    end = end_that_comes(plain, plm, prompts)
    whole = torch.full((len(ids),), LONGEST)
    made = greedy(plm, Texts(ids, torch.zeros_like(ids), whole, prompts, owner), end, MOST)
    expected = [written_by_hand(plain, plm, row, prompts[o], end) for row, o in zip(ids, owner, strict=True)]
    assert made.tolist() == expected
    assert len({tuple(row) for row in expected}) > 1


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "mistral", "gemma3", "t5", "bart"])
@pytest.mark.parametrize("prompted", [False, True])
def test_it_is_what_transformers_generates(name: str, prompted: bool) -> None:
    plm, model, ids = plm_of(name), livened(small_lm(name)), random_ids()
    prompts = random_prompts(plm, "input") if prompted else None
    owner = torch.tensor([0, 1, 1, 0])
    given = {"input_ids": ids} if prompts is None else {"inputs_embeds": torch.cat((prompts[owner], plm.embed(ids)), 1)}
    config = model.generation_config
    config.forced_eos_token_id = config.forced_bos_token_id = None
    config.eos_token_id, config.pad_token_id, config.do_sample = 4, 4, False
    made = model.generate(
        **given, attention_mask=torch.ones(len(ids), LONGEST + (P if prompted else 0), dtype=torch.long),
        max_new_tokens=MOST,
    )  # fmt: skip
    new = made[:, 1:] if plm.start else made[:, -MOST:] if prompted else made[:, LONGEST:]
    texts = Texts(ids, torch.zeros_like(ids), torch.full((len(ids),), LONGEST), prompts, owner)
    ours = greedy(plm, texts, 4, MOST)
    width = new.shape[1]
    assert ours[:, :width].tolist() == new.tolist()
    assert (ours[:, width:] == 4).all()


TOGETHER = [name for name in NAMES if name not in ("mistral", "gemma3")]
"""Families whose texts of several lengths are read together: those without a window."""


def test_texts_of_several_lengths_are_read_together_but_by_models_with_windows() -> None:
    assert [name for name in NAMES if takes_lengths(plm_of(name))] == TOGETHER
    assert not takes_lengths(plm_of("lfm2"))  # its convolution reads the padding


@pytest.mark.parametrize("form", ["input", "prefix"])
@pytest.mark.parametrize("name", TOGETHER)
def test_the_same_is_written_behind_texts_of_several_lengths(name: str, form: str) -> None:
    plm, ids = plm_of(name), random_ids()
    prompts, owner = random_prompts(plm, form), torch.tensor([0, 1, 1, 0])
    made = greedy(plm, Texts(ids, torch.zeros_like(ids), LENGTHS, prompts, owner), 4, MOST)
    for row, length in enumerate(LENGTHS.tolist()):
        one = ids[row : row + 1, :length]
        alone = Texts(one, torch.zeros_like(one), LENGTHS[row : row + 1], prompts, owner[row : row + 1])
        assert greedy(plm, alone, 4, MOST).tolist() == [made[row].tolist()]


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_model_whose_own_cache_is_wrong_reads_anew_and_writes_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plm, ids = plm_of(name), random_ids()
    texts = Texts(ids, torch.zeros_like(ids), torch.full((len(ids),), LONGEST))
    assert _cache_fits(plm)
    kept = greedy(plm, texts, 4, MOST)
    monkeypatch.setitem(_fits, plm, False)
    assert torch.equal(greedy(plm, texts, 4, MOST), kept)


def test_a_row_that_is_not_finite_is_told_and_the_others_are_written() -> None:
    plm, ids = plm_of("llama"), random_ids()
    prompts = random_prompts(plm, "input")
    whole = torch.full((len(ids),), LONGEST)
    sound = greedy(plm, Texts(ids, torch.zeros_like(ids), whole, prompts, torch.tensor([0, 0, 1, 1])), 4, MOST)
    prompts[1] = torch.nan
    made = greedy(plm, Texts(ids, torch.zeros_like(ids), whole, prompts, torch.tensor([0, 0, 1, 1])), 4, MOST)
    assert torch.equal(made[:2], sound[:2])
    assert (made[2:] == NOT_FINITE).all()
    texts = Writer(4).texts(plm, made)
    assert (texts[:2] != texts[2]).all()
    assert texts[2] == texts[3]


def test_a_text_ends_where_its_end_stands() -> None:
    number = {word: i for i, word in enumerate(VOCABULARY)}
    tokens = torch.tensor([[number["w1"], number["w2"], 4], [4, 4, 4], [number["w1"], number["w3"], number["w4"]]])
    assert Writer(4).texts(plm_of("llama"), tokens).tolist() == ["w1 w2", "", "w1 w3 w4"]


def test_answers_are_the_tokens_behind_the_text_with_an_end_unless_they_are_cut() -> None:
    tokenizer, wording = word_tokenizer(), Wording("{1} {answer}")
    number = {word: i for i, word in enumerate(VOCABULARY)}
    found = targets(tokenizer, "causal_lm", wording, ["w1", " w2 w3 ", "w1 w2 w3 w4"], 3)
    words = [[number[word] for word in text.split()] for text in ("w1", "w2 w3", "w1 w2 w3")]
    assert found.ids == [[*words[0], 4], [*words[1], 4], words[2]]
    assert found.cut == [False, False, True]
    assert targets(tokenizer, "seq2seq_lm", wording, ["w1"], 3).ids == [[number["w1"], 4]]


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = word_tokenizer()
    tokenizer.sep_token = None
    with pytest.raises(ValueError, match="names no eos_token"):
        targets(tokenizer, "causal_lm", Wording("{1} {answer}"), ["w1"], 3)


def test_nothing_is_written_behind_what_cannot_be_written() -> None:
    texts = Writer(4).texts(plm_of("llama"), torch.full((1, 3), NOT_FINITE))
    assert texts.dtype.kind == "U"
    assert np.array_equal(texts, texts.astype(np.str_))
