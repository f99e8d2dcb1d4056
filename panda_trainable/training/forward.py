"""What rows are answered: encoded a length group after the other, and read by their replica's head."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from panda_trainable.data.tokens import TokenTable
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.training.heads import Head, outputs

GROUP_VALUES = {"cpu": 3 * 2**16, "cuda": 2**23}
"""Device -> padded tokens times H of one length group: a layer's states stay in a CPU's cache, or fill a GPU.

On a CPU that is 1,536 tokens for BERT-tiny and 512 for MiniLM (docs/performance.md).
"""


class Answer(NamedTuple):
    """What a group of rows is answered.

    Attributes:
        logits: [g, …].
        read: [g, H] or [g, S, H] the pooled vectors; the first token's where heads read every token.
        which: [g] numbers of the rows among those asked.
        owner: [g] their replicas.
    """

    logits: Tensor
    read: Tensor
    which: Tensor
    owner: Tensor


def joined(answers: Iterable[Answer]) -> Answer:
    """All answers in one, in the order of the rows."""
    pieces = list(answers)
    order = torch.cat([piece.which for piece in pieces]).argsort()
    return Answer(*(torch.cat(tensors).index_select(0, order) for tensors in zip(*pieces, strict=True)))


def answered(
    encoder: FrozenEncoder, table: TokenTable, head: Head, prompt: Tensor | None, weight: Tensor, bias: Tensor,
    rows: Tensor, owner: Tensor,
) -> Iterator[Answer]:  # fmt: skip
    """What rows are answered, a length group after the other.

    Args:
        encoder: the encoder.
        table: where the rows are.
        head: of the task's kind.
        prompt: [K, …] the replicas' prompts; None: no prompt.
        weight: [K, O, H] of the heads.
        bias: [K, O].
        rows: [n] of the table.
        owner: [n] the replica of each row.
    """
    here = table.on(encoder.device)
    if table.sequences == 1:
        wide = head.reads == "tokens"
        for made, at, whose, which in grouped(encoder, table, prompt, rows, owner, tokens=wide):
            logits = head.arrange(outputs(made, weight, bias, whose), here, at)
            yield Answer(logits, made[:, 0] if wide else made, which, whose)
        return
    # The choices of an example are of different lengths, and its loss compares them: all in one piece.
    sequences = (rows[:, None] * table.sequences + torch.arange(table.sequences)).flatten()
    owners = owner.repeat_interleave(table.sequences)
    pooled = encoded(encoder, table, prompt, sequences, owners)
    sent = _sent(torch.stack((owner, torch.arange(len(owner)))), encoder.device)
    whose = sent[0].repeat_interleave(table.sequences)
    logits = head.arrange(outputs(pooled, weight, bias, whose), here, rows)
    yield Answer(logits, pooled.unflatten(0, (-1, table.sequences)), sent[1], sent[0])


def encoded(
    encoder: FrozenEncoder, table: TokenTable, prompt: Tensor | None, sequences: Tensor, owner: Tensor
) -> Tensor:
    """[n, H] the pooled vectors of sequences, in their order; the arguments are those of `grouped`."""
    pieces = list(grouped(encoder, table, prompt, sequences, owner, tokens=False))
    which = torch.cat([which for *_, which in pieces])
    return torch.cat([made for made, *_ in pieces]).index_select(0, which.argsort())


def grouped(
    encoder: FrozenEncoder, table: TokenTable, prompt: Tensor | None, sequences: Tensor, owner: Tensor, *, tokens: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Encodings of sequences in groups of like length: padding costs little, numbers stay the same.

    Args:
        encoder: the frozen encoder.
        table: where the sequences are.
        prompt: [K, …] the replicas' prompts; None: no prompt.
        sequences: [n] numbers of the table's sequences.
        owner: [n] the replica of each.
        tokens: whether every token's vector is wanted, or the pooled one.

    Yields:
        [g, H] or [g, T, H], the numbers of the group's sequences [g], their replicas [g], and which of the n they
        are [g].
    """
    lengths, order = table.lengths[sequences].sort(stable=True)
    sent = _sent(torch.stack((sequences[order], owner[order], order)), encoder.device)  # one transfer for all groups
    here, sizes = table.on(encoder.device), lengths.tolist()
    before = prompt.shape[1] if prompt is not None and prompt.dim() == 3 else 0  # an input prompt's tokens count too
    room = GROUP_VALUES[encoder.device.type] // encoder.hidden
    # A model that takes no prefix has attention of its own, which may see padding: then there is none.
    for group in _length_groups([size + before for size in sizes], room, not encoder.refusal):
        longest = sizes[group.stop - 1]
        at, whose, which = sent[:, group]
        ids, types = here.ids[at, :longest].long(), here.types[at, :longest].long()
        padded = sizes[group.start] < longest
        yield encoder.encode(ids, types, here.lengths[at], prompt, whose, tokens, padded), at, whose, which


def _sent(numbers: Tensor, place: torch.device) -> Tensor:
    """A tensor of the CPU on another device; nobody waits for it."""
    return numbers if place.type == "cpu" else numbers.pin_memory().to(place, non_blocking=True)


def _length_groups(lengths: list[int], tokens: int, mixed: bool) -> list[slice]:
    """Cuts ascending lengths into runs of at most so many padded tokens, at least one row each; mixed: of any lengths."""
    groups, first = [], 0
    for last, length in enumerate(lengths):
        if last > first and ((last - first + 1) * length > tokens or (length > lengths[first] and not mixed)):
            groups.append(slice(first, last))
            first = last
    return [*groups, slice(first, len(lengths))]
