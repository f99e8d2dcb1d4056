"""Answers: label words as token sequences, which states predict their tokens, and the classes' scores."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Answers:
    """The label words of all classes, laid out so that what several begin with is computed once.

    A token is predicted by the state of what stands before it: the text, and the tokens of its word that came before.
    So words of one token each need the state of the text alone, whatever their number.

    Attributes:
        words: [C] the words of each class, each a sequence of at least one token.

    Raises:
        ValueError: if there is no word, an empty one, or one that another begins with: that one could never win.
    """

    words: tuple[tuple[Tokens, ...], ...]

    def __post_init__(self) -> None:
        if not self.words or not all(of_class and all(of_class) for of_class in self.words):
            raise ValueError(f"each class needs a word of at least one token, got {self.words}")
        for number, of_class in enumerate(self.words):
            for other in self.words[:number] + self.words[number + 1 :]:
                if clash := [(a, b) for a in of_class for b in other if b[: len(a)] == a]:
                    raise ValueError(f"no word may begin with a word of another class, got tokens {clash[0]}")

    @cached_property
    def all_words(self) -> tuple[Tokens, ...]:
        """[A] the words of all classes, one class behind the other."""
        return tuple(word for of_class in self.words for word in of_class)

    @cached_property
    def beginnings(self) -> tuple[Tokens, ...]:
        """[M] what stands between the text and some token of a word; the first is nothing."""
        return tuple(dict.fromkeys(word[:i] for word in sorted(self.all_words, key=len) for i in range(len(word))))

    @cached_property
    def continuations(self) -> tuple[Tokens, ...]:
        """[R] what must be read behind the text, so that every beginning is read in one of them."""
        found = self.beginnings
        return tuple(a for a in found if not any(len(b) > len(a) and b[: len(a)] == a for b in found))

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """[M] in which continuation a beginning is read, and how many tokens it has."""
        rows = self.continuations
        return tuple(
            (next(r for r, row in enumerate(rows) if row[: len(beginning)] == beginning), len(beginning))
            for beginning in self.beginnings
        )

    def scores(self, logits: Tensor) -> Tensor:
        """The log-probability of each class: of any of its words, each as a whole sequence.

        Args:
            logits: [n, M, V] over the vocabulary, behind each beginning.

        Returns:
            [n, C], at most 0.

        Source: rank classification by log-likelihood, as T0 (arXiv:2110.08207) and lm-evaluation-harness score choices.
        """
        said, begin = logits.log_softmax(2).flatten(1), {b: i for i, b in enumerate(self.beginnings)}
        size, longest = logits.shape[2], max(map(len, self.all_words))
        found = torch.tensor(
            [
                [begin[w[:i]] * size + token for i, token in enumerate(w)] + [-1] * (longest - len(w))
                for w in self.all_words
            ],
            device=logits.device,
        )  # [A, W]
        each = said[:, found.clamp(min=0).flatten()].unflatten(1, found.shape) * (found >= 0)  # [n, A, W]
        sizes = [len(of_class) for of_class in self.words]
        return torch.stack([of_class.logsumexp(1) for of_class in each.sum(2).split(sizes, 1)], 1)


TEXT_ALONE = Answers((((0,),),))
"""No word in particular: the state behind the text."""
