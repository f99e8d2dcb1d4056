"""LanguageModel gives the scores of the plain language model, run example by example and candidate by candidate."""

from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from panda_trainable.config.setting import PlmKind
from panda_trainable.plm.answers import Answers
from panda_trainable.plm.language_model import LanguageModel
from tests.kits.language_models import (
    CAUSAL,
    MASKED,
    SEQ2SEQ,
    VOCABULARY,
    WITHOUT_PREFIX,
    PlainLm,
    small_lm,
    word_tokenizer,
)

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
P, LONGEST = 3, 24
LENGTHS = torch.tensor([1, LONGEST, 4, LONGEST, 9])
SLOTS = torch.tensor([[0], [LONGEST - 1], [2], [7], [0]])
KIND: dict[str, PlmKind] = {
    **dict.fromkeys(MASKED, "masked_lm"), **dict.fromkeys((*CAUSAL, *WITHOUT_PREFIX), "causal_lm"),
    **dict.fromkeys(SEQ2SEQ, "seq2seq_lm"),
}  # fmt: skip
SINGLE = Answers((((9,), (10,)), ((11,),)))
SEVERAL = Answers((((9, 10, 11), (12,)), ((9, 13),)))
"""Words of one to three tokens, of which two begin with the same, two of them of one class."""


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


def check(name: str, form: str, replicas: int, way: str = "attention", answers: Answers | None = None) -> None:
    """Scores and gradients of a padded batch against the plain model."""
    plm, plain, answers, ids = plm_of(name), plain_of(name, way), answers or answers_of(name), random_ids()
    generator, owner = torch.Generator().manual_seed(9), torch.arange(len(LENGTHS)) % replicas
    prompt = torch.randn(replicas, *plm.prompt_shape(P, form), generator=generator) * (1.0 if form == "prefix" else 0.3)
    prompt.requires_grad_()
    states = plm.behind(answers, ids, torch.zeros_like(ids), LENGTHS, prompt, owner, slots=SLOTS)
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


@pytest.mark.parametrize("name", [name for name, family in CAUSAL.items() if not family.window])
def test_so_they_are_behind_a_prefix_in_transformers_own_cache(name: str) -> None:
    check(name, "prefix", 3, "cache")


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
