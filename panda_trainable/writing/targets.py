"""Answers as the tokens that a language model is to write, with the end behind them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from panda_trainable.config.setting import PlmKind
from panda_trainable.config.wording import Wording
from panda_trainable.plm.asking import end_of_text, words_as_tokens


@dataclass(frozen=True)
class Targets:
    """What is to be written behind rows.

    Attributes:
        ids: [N] tokens of each answer, the end of a text behind it unless it was cut.
        cut: [N] whether it was cut.
    """

    ids: list[list[int]]
    cut: list[bool]


def targets(tokenizer: Any, kind: PlmKind, wording: Wording, texts: Sequence[str], most: int) -> Targets:
    """Answers as tokens: as they stand in the template behind the text, or alone in a decoder.

    Args:
        tokenizer: of the PLM.
        kind: of the PLM.
        wording: the template.
        texts: [N] the answers.
        most: tokens of an answer, with its end; longer ones are cut.

    Raises:
        ValueError: if the tokenizer has no token that ends a text.
    """
    end = end_of_text(tokenizer)
    whole = [[*tokens, end] for tokens in words_as_tokens(tokenizer, kind, wording, texts)]
    return Targets([tokens[:most] for tokens in whole], [len(tokens) > most for tokens in whole])
