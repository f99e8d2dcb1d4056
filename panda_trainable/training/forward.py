"""Forward pass over rows, one length bucket at a time, through the frozen PLM and what reads its states."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from panda_trainable.data.tokens import TokenTable
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.plm.places import Prompts
from panda_trainable.training.heads import AnyHead, Writer

BUCKET_VALUES = {"cpu": 3 * 2**16, "cuda": 2**23}
"""Device -> padded tokens times H of one length bucket: a layer's states stay in a CPU's cache, or fill a GPU.

On a CPU that is 1,536 tokens for BERT-tiny and 512 for MiniLM (docs/performance.md).
"""


OfRows = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Prompts [K, …], token embeddings [n, T, E], lengths [n] and replicas [n] of rows -> the rows' own prompts [n, …]."""


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
    encoder: FrozenEncoder, table: TokenTable, head: AnyHead, prompt: Prompts | None, weight: Tensor, bias: Tensor,
    rows: Tensor, owner: Tensor, of_rows: OfRows | None = None,
) -> Iterator[Outputs]:  # fmt: skip
    """Forward pass over rows, one length bucket at a time.

    Args:
        encoder: the frozen PLM.
        table: where the rows are.
        head: what reads its states for the task.
        prompt: of the K replicas, as `FrozenEncoder.in_front` gives them; None: no prompt.
        weight: [K, O, H] of the heads.
        bias: [K, O].
        rows: [n] of the table.
        owner: [n] the replica of each row.
        of_rows: makes each row's own prompt of these; None: a row has its replica's.
    """
    here = table.on(encoder.device)
    if table.sequences == 1:
        read = _behind_own(encoder, head.reading(encoder), of_rows), *head.extent(encoder, prompt, table)
        for made, at, whose, which in length_buckets(encoder, table, prompt, rows, owner, *read):
            logits = head.logits(encoder, made, weight, bias, whose, here, at)
            yield Outputs(logits, made if made.dim() == 2 else made[..., 0, :], which, whose)
        return
    # The choices that a trained head reads are of different lengths, and the loss compares them: all in one piece.
    sequences = (rows[:, None] * table.sequences + torch.arange(table.sequences)).flatten()
    owners = owner.repeat_interleave(table.sequences)
    pooled = encoded(encoder, table, prompt, sequences, owners, of_rows)
    sent = _sent(torch.stack((owner, torch.arange(len(owner)))), encoder.device)
    whose = sent[0].repeat_interleave(table.sequences)
    logits = head.logits(encoder, pooled, weight, bias, whose, here, rows)
    yield Outputs(logits, pooled.unflatten(0, (-1, table.sequences)), sent[1], sent[0])


def _behind_own(encoder: FrozenEncoder, read: Callable[..., Tensor], of_rows: OfRows | None) -> Callable[..., Tensor]:
    """What reads rows as `read` does, each behind a prompt of its own where something makes one."""
    if of_rows is None:
        return read

    def reading(ids: Tensor, types: Tensor, lengths: Tensor, prompt: Tensor, owner: Tensor, **others: Any) -> Tensor:
        own = of_rows(prompt, encoder.embed(ids), lengths, owner)
        return read(ids, types, lengths, prompt=own, owner=torch.arange(len(ids), device=ids.device), **others)

    return reading


WRITTEN_TOKENS = 2**12
"""Tokens of texts behind which is written at once: then a token a row is read at a time, so that many rows are cheap."""


def written(
    encoder: FrozenEncoder, table: TokenTable, writer: Writer, prompt: Tensor | None, rows: Tensor, owner: Tensor, most: int,
    of_rows: OfRows | None = None,
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
        of_rows: as `forward` has it.
    """
    write = _behind_own(encoder, partial(writer.write, encoder, most), of_rows)
    mixed = writer.pads(encoder)
    pieces = list(length_buckets(encoder, table, prompt, rows, owner, write, tokens=WRITTEN_TOKENS, mixed=mixed))
    which = torch.cat([which for *_, which in pieces])
    return torch.cat([made for made, *_ in pieces]).index_select(0, which.argsort())


def encoded(
    encoder: FrozenEncoder, table: TokenTable, prompt: Prompts | None, sequences: Tensor, owner: Tensor,
    of_rows: OfRows | None = None,
) -> Tensor:  # fmt: skip
    """[n, H] the pooled vectors of sequences, in their order; the arguments are those of `length_buckets` and `forward`."""
    read = _behind_own(encoder, encoder.encode, of_rows)
    pieces = list(length_buckets(encoder, table, prompt, sequences, owner, read))
    which = torch.cat([which for *_, which in pieces])
    return torch.cat([made for made, *_ in pieces]).index_select(0, which.argsort())


def length_buckets(
    encoder: FrozenEncoder, table: TokenTable, prompt: Prompts | None, sequences: Tensor, owner: Tensor,
    read: Callable[..., Tensor], repeats: int = 1, behind: int = 0, *, tokens: int | None = None, mixed: bool = True,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:  # fmt: skip
    """States of sequences in buckets of like length: padding costs little, numbers stay the same.

    Args:
        encoder: the frozen encoder.
        table: where the sequences are.
        prompt: of the K replicas, as `FrozenEncoder.in_front` gives them; None: no prompt.
        sequences: [n] numbers of the table's sequences.
        owner: [n] the replica of each.
        read: gives the states that are wanted, with the arguments of `FrozenEncoder.encode`.
        repeats: how often it reads each sequence.
        behind: tokens that stand behind it each time.
        tokens: of a bucket at most; None: as suits the device.
        mixed: whether sequences of several lengths may be in one bucket, where the encoder takes padding.

    Yields:
        What is read, as [g, H], [g, T, H] or [g, M, H], the numbers of the bucket's sequences [g], their replicas [g], and which of the n they
        are [g].
    """
    lengths, order = table.lengths[sequences].sort(stable=True)
    sent = _sent(torch.stack((sequences[order], owner[order], order)), encoder.device)  # one transfer for all buckets
    here, sizes = table.on(encoder.device), lengths.tolist()
    # The tokens of an input prompt count too where each row computes them; one of each row's own is made of [K, S, P, E].
    more = behind + (prompt.shape[-2] if isinstance(prompt, Tensor) and prompt.dim() in (3, 4) else 0)
    room = tokens or BUCKET_VALUES[encoder.device.type] // (encoder.hidden * repeats)
    for bucket in _bucket_slices([size + more for size in sizes], room, mixed and encoder.takes_padding):
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
