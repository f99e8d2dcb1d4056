"""Forward pass over rows, one length bucket at a time, through the frozen PLM and what reads its states."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from panda_trainable.data.tokens import TokenTable
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.training.heads import AnyHead, Writer

BUCKET_VALUES = {"cpu": 3 * 2**16, "cuda": 2**23}
"""Device -> padded tokens times H of one length bucket: a layer's states stay in a CPU's cache, or fill a GPU.

On a CPU that is 1,536 tokens for BERT-tiny and 512 for MiniLM (docs/performance.md).
"""


class Outputs(NamedTuple):
    """The outputs of one bucket of rows.

    Attributes:
        logits: [g, …].
        pooled: [g, H] or [g, S, H] the vectors that heads read; the first token's where heads read every token, that
            behind the text where words answer.
        position: [g] places of the rows among those asked for.
        owner: [g] their replicas.
    """

    logits: Tensor
    pooled: Tensor
    position: Tensor
    owner: Tensor


def concatenated(buckets: Iterable[Outputs]) -> Outputs:
    """The outputs of all buckets as one, in the order of the rows."""
    pieces = list(buckets)
    order = torch.cat([piece.position for piece in pieces]).argsort()
    return Outputs(*(torch.cat(tensors).index_select(0, order) for tensors in zip(*pieces, strict=True)))


def forward(
    encoder: FrozenEncoder, table: TokenTable, head: AnyHead, prompt: Tensor | None, weight: Tensor, bias: Tensor,
    rows: Tensor, owner: Tensor,
) -> Iterator[Outputs]:  # fmt: skip
    """Forward pass over rows, one length bucket at a time.

    Args:
        encoder: the frozen PLM.
        table: where the rows are.
        head: what reads its states for the task.
        prompt: [K, …] the replicas' prompts; None: no prompt.
        weight: [K, O, H] of the heads.
        bias: [K, O].
        rows: [n] of the table.
        owner: [n] the replica of each row.
    """
    here = table.on(encoder.device)
    if table.sequences == 1:
        read = head.reading(encoder), head.repeats
        for made, at, whose, which in length_buckets(encoder, table, prompt, rows, owner, *read):
            logits = head.logits(encoder, made, weight, bias, whose, here, at)
            yield Outputs(logits, made[:, 0] if made.dim() == 3 else made, which, whose)
        return
    # The choices of an example are of different lengths, and its loss compares them: all in one piece.
    sequences = (rows[:, None] * table.sequences + torch.arange(table.sequences)).flatten()
    owners = owner.repeat_interleave(table.sequences)
    pooled = encoded(encoder, table, prompt, sequences, owners)
    sent = _sent(torch.stack((owner, torch.arange(len(owner)))), encoder.device)
    whose = sent[0].repeat_interleave(table.sequences)
    logits = head.logits(encoder, pooled, weight, bias, whose, here, rows)
    yield Outputs(logits, pooled.unflatten(0, (-1, table.sequences)), sent[1], sent[0])


WRITTEN_TOKENS = 2**12
"""Tokens of texts behind which is written at once: then a token a row is read at a time, so that many rows are cheap."""


def written(
    encoder: FrozenEncoder, table: TokenTable, writer: Writer, prompt: Tensor | None, rows: Tensor, owner: Tensor, most: int
) -> Tensor:  # fmt: skip
    """[n, most] tokens that are written behind rows of a table, in their order.

    Args:
        encoder: the language model.
        table: where the rows are.
        writer: who writes.
        prompt: [K, …] the replicas' prompts; None: no prompt.
        rows: [n] of the table.
        owner: [n] the replica of each row.
        most: tokens to write at most.
    """
    write = partial(writer.write, encoder, most)
    mixed = writer.pads(encoder)
    pieces = list(length_buckets(encoder, table, prompt, rows, owner, write, tokens=WRITTEN_TOKENS, mixed=mixed))
    which = torch.cat([which for *_, which in pieces])
    return torch.cat([made for made, *_ in pieces]).index_select(0, which.argsort())


def encoded(
    encoder: FrozenEncoder, table: TokenTable, prompt: Tensor | None, sequences: Tensor, owner: Tensor
) -> Tensor:
    """[n, H] the pooled vectors of sequences, in their order; the arguments are those of `length_buckets`."""
    pieces = list(length_buckets(encoder, table, prompt, sequences, owner, encoder.encode))
    which = torch.cat([which for *_, which in pieces])
    return torch.cat([made for made, *_ in pieces]).index_select(0, which.argsort())


def length_buckets(
    encoder: FrozenEncoder, table: TokenTable, prompt: Tensor | None, sequences: Tensor, owner: Tensor,
    read: Callable[..., Tensor], repeats: int = 1, *, tokens: int | None = None, mixed: bool = True,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:  # fmt: skip
    """States of sequences in buckets of like length: padding costs little, numbers stay the same.

    Args:
        encoder: the frozen encoder.
        table: where the sequences are.
        prompt: [K, …] the replicas' prompts; None: no prompt.
        sequences: [n] numbers of the table's sequences.
        owner: [n] the replica of each.
        read: gives the states that are wanted, with the arguments of `FrozenEncoder.encode`.
        repeats: how often it reads each sequence.
        tokens: of a bucket at most; None: as suits the device.
        mixed: whether sequences of several lengths may be in one bucket, where the encoder takes padding.

    Yields:
        What is read, as [g, H], [g, T, H] or [g, M, H], the numbers of the bucket's sequences [g], their replicas [g], and which of the n they
        are [g].
    """
    lengths, order = table.lengths[sequences].sort(stable=True)
    sent = _sent(torch.stack((sequences[order], owner[order], order)), encoder.device)  # one transfer for all buckets
    here, sizes = table.on(encoder.device), lengths.tolist()
    before = prompt.shape[1] if prompt is not None and prompt.dim() == 3 else 0  # an input prompt's tokens count too
    room = tokens or BUCKET_VALUES[encoder.device.type] // (encoder.hidden * repeats)
    for bucket in _bucket_slices([size + before for size in sizes], room, mixed and encoder.takes_padding):
        longest = sizes[bucket.stop - 1]
        at, whose, which = sent[:, bucket]
        ids, types = here.ids[at, :longest].long(), here.types[at, :longest].long()
        padded, slots = sizes[bucket.start] < longest, here.slots[at]
        made = read(ids, types, here.lengths[at], prompt=prompt, owner=whose, padded=padded, slots=slots)
        yield made, at, whose, which


def _sent(numbers: Tensor, place: torch.device) -> Tensor:
    """A tensor of the CPU on another device; nobody waits for it."""
    return numbers if place.type == "cpu" else numbers.pin_memory().to(place, non_blocking=True)


def _bucket_slices(lengths: list[int], tokens: int, mixed: bool) -> list[slice]:
    """Cuts ascending lengths into runs of at most so many padded tokens, at least one row each; mixed: of any lengths."""
    buckets, first = [], 0
    for last, length in enumerate(lengths):
        if last > first and ((last - first + 1) * length > tokens or (length > lengths[first] and not mixed)):
            buckets.append(slice(first, last))
            first = last
    return [*buckets, slice(first, len(lengths))]
