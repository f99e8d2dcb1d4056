"""LanguageModel gives the scores of the plain language model, run example by example and candidate by candidate."""

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from panda_trainable.config.setting import PlmKind
from panda_trainable.plm.answers import Answers
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.plm.language_model import LanguageModel, _branched, _repeated
from panda_trainable.worker import load_encoder, release_encoder
from tests.kits.language_models import (
    CAUSAL,
    HYBRIDS,
    MASKED,
    MORE_CAUSAL,
    SEQ2SEQ,
    VOCABULARY,
    WITHOUT_PREFIX,
    PlainLm,
    lm_plm,
    save_lm,
    small_lm,
    word_tokenizer,
)

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
P, LONGEST = 3, 24
LENGTHS = torch.tensor([1, LONGEST, 4, LONGEST, 9])
SLOTS = torch.tensor([[0], [LONGEST - 1], [2], [7], [0]])
KIND: dict[str, PlmKind] = {
    **dict.fromkeys(MASKED, "masked_lm"), **dict.fromkeys((*CAUSAL, *WITHOUT_PREFIX, *MORE_CAUSAL), "causal_lm"),
    **dict.fromkeys(SEQ2SEQ, "seq2seq_lm"),
}  # fmt: skip
SINGLE = Answers((((9,), (10,)), ((11,),)))
SEVERAL = Answers((((9, 10, 11), (12,)), ((9, 13), (14, 15, 16))))
"""Words of one to three tokens, of which two begin with the same; two continuations of a text are read."""


def answers_of(name: str) -> Answers:
    return SINGLE if KIND[name] == "masked_lm" else SEVERAL


@cache
def plm_of(name: str) -> LanguageModel:
    return LanguageModel(small_lm(name), KIND[name], word_tokenizer())


@cache
def plain_of(name: str, way: str = "attention") -> PlainLm:
    return PlainLm(name, way)


def random_ids() -> Tensor:
    """[n, T] rows with noise where padding is."""
    return torch.randint(6, len(VOCABULARY), (len(LENGTHS), LONGEST), generator=torch.Generator().manual_seed(0))


def scores_alone(plain: PlainLm, plm: LanguageModel, answers: Answers, row: int, prompt: Tensor | None) -> Tensor:
    """[C] of one example: the logarithm of the sum of the probabilities of each class's words."""
    ids = random_ids()[row, : int(LENGTHS[row])]
    slot = int(SLOTS[row]) if plm.kind == "masked_lm" else len(ids) - 1
    classes = []
    for words in answers.words:
        each = [plain.score(ids, word, prompt, plm.start, slot) for word in words]
        classes.append(torch.stack(each).exp().sum().log() if len(each) > 1 else each[0])
    return torch.stack(classes)


def check(
    name: str, form: str, replicas: int, way: str = "attention", answers: Answers | None = None, *, once: bool = True
) -> None:
    """Scores and gradients of a padded batch against the plain model; `once`: behind what `in_front` makes of prompts."""
    plm, plain, answers, ids = plm_of(name), plain_of(name, way), answers or answers_of(name), random_ids()
    generator, owner = torch.Generator().manual_seed(9), torch.arange(len(LENGTHS)) % replicas
    prompt = torch.randn(replicas, *plm.prompt_shape(P, form), generator=generator) * (1.0 if form == "prefix" else 0.3)
    prompt.requires_grad_()
    front = plm.in_front(prompt) if once else prompt
    states = plm.behind(answers, ids, torch.zeros_like(ids), LENGTHS, front, owner, slots=SLOTS)
    found = answers.scores(plm.logits(states.flatten(0, 1)).unflatten(0, states.shape[:2]))
    expected = torch.stack([scores_alone(plain, plm, answers, i, prompt[k]) for i, k in enumerate(owner)])
    torch.testing.assert_close(found, expected, **CLOSE)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    gradients = [torch.autograd.grad((made * direction).sum(), prompt)[0] for made in (found, expected)]
    torch.testing.assert_close(*gradients, **CLOSE)
    assert gradients[0].abs().max() > 1e-3


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize(("name", "form"), [
    *product([*MASKED, *CAUSAL, *SEQ2SEQ], ["prefix", "input"]), *product(WITHOUT_PREFIX, ["input"]),
])  # fmt: skip
def test_class_scores_of_a_padded_batch_are_the_plain_models(name: str, form: str, replicas: int) -> None:
    check(name, form, replicas, "untouched" if name in WITHOUT_PREFIX else "attention")


@pytest.mark.parametrize("name", CAUSAL)
def test_so_they_are_where_each_row_computes_its_prompt(name: str) -> None:
    check(name, "input", 3, once=False)


@pytest.mark.parametrize("name", [name for name, family in CAUSAL.items() if not family.window])
def test_so_they_are_behind_a_prefix_in_transformers_own_cache(name: str) -> None:
    check(name, "prefix", 3, "cache")


def test_the_words_of_several_tokens_are_read_in_two_branches() -> None:
    assert SEVERAL.continuations == ((9, 10), (14, 15))
    assert [plm_of(name).extent(SEVERAL, None) for name in ("llama", "lfm2")] == [(1, 4), (2, 2)]


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
def test_words_of_one_token_each_need_no_further_row(name: str) -> None:
    assert SINGLE.continuations == ((),)
    check(name, "input", 3, answers=SINGLE)


@pytest.mark.parametrize("name", [*MASKED, *CAUSAL, *SEQ2SEQ])
def test_the_reference_is_the_untouched_model(name: str) -> None:
    ids, start = random_ids()[1], plm_of(name).start
    decoded = torch.tensor([*start, 9]) if start else None
    ways = [plain_of(name, way).logits(ids, None, decoded) for way in ("attention", "untouched")]
    torch.testing.assert_close(*ways, **CLOSE)


@pytest.mark.parametrize("form", ["prefix", "input"])
@pytest.mark.parametrize("name", MORE_CAUSAL)
def test_so_they_are_on_further_causal_models(name: str, form: str) -> None:
    check(name, form, 3)


@pytest.mark.parametrize("name", [*CAUSAL, *MORE_CAUSAL])
def test_what_a_causal_model_may_is_found_by_its_numbers(name: str) -> None:
    plm = plm_of(name)
    assert (plm.can_prefill, plm.can_fork) == ((name not in HYBRIDS),) * 2
    assert plm.shortens == (name != "gpt2"), "GPT-2 shapes what its last block gives by its input"


@pytest.mark.parametrize("name", [*MASKED, *SEQ2SEQ, *WITHOUT_PREFIX])
def test_what_reads_both_sides_or_has_no_reachable_attention_computes_prompts_with_each_text(name: str) -> None:
    plm, prompt = plm_of(name), torch.zeros(1, P, plm_of(name).embedding)
    assert not plm.can_prefill and not plm.can_fork
    assert plm.in_front(prompt) is prompt
    assert plm.in_front(None) is None


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_hybrid_would_be_wrong_with_prompts_computed_once_or_branches(name: str) -> None:
    plm, ids = plm_of(name), random_ids()
    prompt, owner = torch.randn(1, P, plm.embedding, generator=torch.Generator().manual_seed(9)), 0 * LENGTHS
    text = ids, torch.zeros_like(ids), LENGTHS
    once, each = (plm.encode(*text, front, owner) for front in (plm.prefilled(prompt), prompt))
    branched, repeated = (way(plm, SEVERAL, *text, None, None) for way in (_branched, _repeated))
    assert min((once - each).abs().max(), (branched - repeated).abs().max()) > 1e-2


@pytest.mark.parametrize("name", WITHOUT_PREFIX)
def test_a_family_whose_attention_cannot_be_reached_is_refused_a_prefix_with_the_reason(name: str) -> None:
    plm = plm_of(name)
    assert plm.refusal
    with pytest.raises(ValueError, match="takes no prefix: .*; use prompt.form: input"):
        plm.prompt_shape(P, "prefix")


class ReadsIds(LlamaForCausalLM):
    """A model whose logits depend on more than its body's states."""

    def forward(self, input_ids: Tensor | None = None, **inputs: Any) -> Any:
        made = super().forward(input_ids=input_ids, **inputs)
        if input_ids is not None:
            made.logits = made.logits + input_ids[..., None]
        return made


def test_a_head_that_reads_more_than_states_is_refused_with_the_difference() -> None:
    own = small_lm("llama")
    model = ReadsIds(own.config)
    model.load_state_dict(own.state_dict())
    with pytest.raises(
        ValueError, match="asked alone, its own head's logits differ from those of the untouched model by"
    ):
        LanguageModel(model, "causal_lm", word_tokenizer())


def test_a_model_is_wrapped_as_what_it_is() -> None:
    with pytest.raises(ValueError, match="reads left to right, and an encoder is needed"):
        FrozenEncoder(small_lm("llama").model)
    with pytest.raises(
        ValueError, match="no causal model of text: the first token's vector changes with the last token"
    ):
        FrozenEncoder(small_lm("bert").base_model, causal=True)
    with pytest.raises(ValueError, match="has no language model's head"):
        LanguageModel(small_lm("bert").base_model, "masked_lm", word_tokenizer())


@pytest.mark.parametrize(
    ("name", "most"), [("gpt2", 64), ("opt", 64), ("bert", 64), ("roberta", 64), ("bart", 64), ("llama", None)]
)
def test_positions_are_those_that_the_model_has(name: str, most: int | None) -> None:
    assert plm_of(name).max_tokens == most


def test_a_causal_body_with_a_trained_head_reads_its_last_token() -> None:
    plm, plain, ids = FrozenEncoder(small_lm("llama").model, "answer", causal=True), plain_of("llama"), random_ids()
    found = plm.encode(ids, torch.zeros_like(ids), LENGTHS)
    for i, n in enumerate(LENGTHS.tolist()):
        own = plain.model.model(input_ids=ids[i : i + 1, :n]).last_hidden_state[0, -1]
        torch.testing.assert_close(found[i], own, **CLOSE)


@pytest.mark.parametrize("name", ["bert", "llama", "t5", "bart"])
def test_a_language_model_trains_in_bf16(name: str, tmp_path: Path) -> None:
    plm = lm_plm(save_lm(tmp_path / name, name), "lm")
    try:
        lowered = load_encoder(plm, precision="bf16")
        assert isinstance(lowered, LanguageModel)
        ids, answers = random_ids(), answers_of(name)
        given = answers, ids, torch.zeros_like(ids), LENGTHS
        scores = [
            answers.scores(model.logits(states.flatten(0, 1)).unflatten(0, states.shape[:2]))
            for model in (lowered, plm_of(name)) for states in (model.behind(*given, slots=SLOTS),)
        ]  # fmt: skip
        assert scores[0].dtype == torch.float32
        assert 1e-6 < (scores[0] - scores[1]).abs().max() < 0.1 * scores[1].abs().max()
        prompt = torch.randn(1, P, lowered.embedding, generator=torch.Generator().manual_seed(9), requires_grad=True)
        fronts, owner = (lowered.in_front(prompt), prompt), 0 * LENGTHS
        states = [lowered.behind(*given, front, owner, slots=SLOTS) for front in fronts]
        gradients = [torch.autograd.grad(made.square().sum(), prompt)[0] for made in states]
        for found, own in (states, gradients):
            assert (found - own).abs().max() < 0.05 * own.abs().max()
    finally:
        release_encoder()


def test_tokens_that_were_never_trained_and_are_alike_tell_nothing_of_a_model() -> None:
    model = small_lm("llama")
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        table[5:20] = table[5].clone()
    assert not LanguageModel(model, "causal_lm", word_tokenizer()).refusal
