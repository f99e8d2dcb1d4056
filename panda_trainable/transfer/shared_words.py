"""Words that are one token for two PLMs: what their vocabularies have in common, however each marks a word's begin."""

from collections.abc import Sequence
from typing import Any

from panda_trainable.config.setting import Plm
from panda_trainable.pretrained.files import load_tokenizer

MARKS = "Ġ▁"
"""With which vocabularies mark that a word begins, instead of a space."""


def shared_words(one: Plm, other: Plm) -> list[tuple[int, int]]:
    """[A] the ids of each shared word for both PLMs, in the order of the words.

    Source: Wu et al. (arXiv:2310.01691), section 3.1: tokens that both vocabularies have.
    """
    tokenizers = load_tokenizer(one), load_tokenizer(other)
    common = set.intersection(*(set(map(_plain, tokenizer.get_vocab())) for tokenizer in tokenizers))
    words = sorted(word for word in common if word)
    ours, theirs = (_single_tokens(tokenizer, words) for tokenizer in tokenizers)
    return [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]


def _plain(token: str) -> str:
    """A token of a vocabulary without the mark of its begin."""
    return token.lstrip(MARKS).strip()


def _single_tokens(tokenizer: Any, words: Sequence[str]) -> list[int | None]:
    """The one token of each word inside of a text, or else at its begin; None for words of several, and unknown ones."""
    no_word = {*tokenizer.all_special_ids, tokenizer.unk_token_id}
    found: list[int | None] = [None] * len(words)
    for before in ("", " "):  # the later counts
        texts = [before + word for word in words]
        every = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        for number, ids in enumerate(every):
            if len(ids) == 1 and ids[0] not in no_word:
                found[number] = ids[0]
    return found
