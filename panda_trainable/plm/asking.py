"""How rows are asked of a language model: filled templates that fit, where the answer stands, and label words as tokens."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from panda_trainable.config.setting import PlmKind
from panda_trainable.config.wording import Wording
from panda_trainable.plm.answers import Answers, Tokens
from panda_trainable.pretrained.kinds import KINDS


@dataclass(frozen=True)
class AskedTexts:
    """Rows as a language model reads them.

    Attributes:
        ids: [N] the tokens of each.
        slots: [N] the token whose state predicts the answer; 0 where that is a decoder's.
        cut: [N] whether a field was cut.
    """

    ids: list[list[int]]
    slots: list[int]
    cut: list[bool]


def asked_texts(
    tokenizer: Any, kind: PlmKind, wording: Wording, rows: Sequence[Sequence[str]], max_length: int
) -> AskedTexts:
    """Filled templates as tokens. Where one is too long its fields are cut at their ends, the longest first.

    Args:
        tokenizer: of the PLM.
        kind: of the PLM.
        wording: template and words.
        rows: values of the template's names, of each row.
        max_length: tokens of a text at most, those of a word but its last included.

    Raises:
        ValueError: if the template alone, or a word, has no room or does not suit the PLM.
    """
    if problems := list(asking_problems(tokenizer, kind, wording)):
        raise ValueError("; ".join(problems))
    room = max_length
    if KINDS[kind].slot == "end" and wording.words:  # what is read of a word stands behind the text
        room -= max(map(len, label_words(tokenizer, kind, wording).continuations))
    found = _read(tokenizer, kind, [wording.around_slot(values) for values in rows])
    too_long = dict.fromkeys(i for i, (ids, _) in enumerate(found) if len(ids) > room)
    cut, values = [i in too_long for i in range(len(found))], {i: list(rows[i]) for i in too_long}
    while too_long:  # nearly always once: tokens of a cut text may be others
        shorter = _shortened(tokenizer, wording, values, {i: len(found[i][0]) for i in too_long}, room)
        values |= shorter
        again = _read(tokenizer, kind, [wording.around_slot(fields) for fields in shorter.values()])
        for i, each in zip(shorter, again, strict=True):
            found[i] = each
        too_long = dict.fromkeys(i for i in too_long if len(found[i][0]) > room)
    return AskedTexts([ids for ids, _ in found], [slot for _, slot in found], cut)


def _read(tokenizer: Any, kind: PlmKind, sides: Sequence[tuple[str, str]]) -> list[tuple[list[int], int]]:
    """Tokens of texts, and where their slots are, from what stands before the slot and behind it."""
    slot, mask = KINDS[kind].slot, tokenizer.mask_token
    if slot == "mask":
        texts = tokenizer([before + mask + behind for before, behind in sides], verbose=False)["input_ids"]
        numbers = [before.count(mask) for before, _ in sides]  # a text may hold the token, too
        masked = [[i for i, token in enumerate(ids) if token == tokenizer.mask_token_id] for ids in texts]
        return [(ids, at[number]) for ids, at, number in zip(texts, masked, numbers, strict=True)]
    before = [text.rstrip() for text, _ in sides]  # a space before a word is part of its first token
    if slot == "decoder":
        return [(ids, 0) for ids in tokenizer(before, verbose=False)["input_ids"]]
    first = list(special_tokens(tokenizer)[0])
    plain = tokenizer(before, add_special_tokens=False, verbose=False)["input_ids"]
    return [(first + ids, len(first) + len(ids) - 1) for ids in plain]


def _shortened(
    tokenizer: Any, wording: Wording, values: Mapping[int, Sequence[str]], lengths: Mapping[int, int], room: int
) -> dict[int, list[str]]:
    """Row -> its fields, cut at their ends by what it is too long, the longest first.

    Args:
        tokenizer: of the PLM.
        wording: whose fields they are.
        values: row -> its fields as they are.
        lengths: row -> tokens, of the rows that are too long.
        room: tokens that there may be.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} does not say which characters its tokens are, without which a template's fields "
            "cannot be cut; put a tokenizer.json (a fast tokenizer) into the PLM's folder, or raise train.max_length"
        )
    texts = [text for i in lengths for text in values[i]]
    spans = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    pairs, shorter = iter(zip(texts, spans, strict=True)), {}
    for i, length in lengths.items():
        fields = [next(pairs) for _ in values[i]]
        sizes = [len(of_text) for _, of_text in fields]
        if not any(sizes):
            raise ValueError(
                f"max_length has no room for a field in the template {wording.template!r}, which alone takes {length} "
                f"tokens, of which there may be {room}; raise train.max_length, or shorten the template"
            )
        kept = _kept(sizes, length - room)
        shorter[i] = [_beginning(*field, left) for field, left in zip(fields, kept, strict=True)]
    return shorter


def _kept(sizes: Sequence[int], over: int) -> list[int]:
    """Tokens that are left of fields, of which so many go, the longest first."""
    kept = list(sizes)
    while over > 0 and any(kept):
        longest = kept.index(max(kept))
        second = max((size for i, size in enumerate(kept) if i != longest), default=0)
        gone = max(1, min(over, kept[longest] - second))
        kept[longest], over = kept[longest] - gone, over - gone
    return kept


def _beginning(text: str, spans: Sequence[tuple[int, int]], tokens: int) -> str:
    """What the first so many tokens of a text, which stand in it at spans, are of it."""
    if tokens >= len(spans):
        return text
    shorter = text[: spans[tokens - 1][1]].rstrip() if tokens else ""
    return shorter if shorter != text else text[:-1]  # several tokens may be of one character


def _plain(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _all_plain(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    made: list[list[int]] = (
        tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    )
    return made


def end_of_text(tokenizer: Any) -> int:
    """The token that ends a text, and so what is written.

    Raises:
        ValueError: if the tokenizer has none.
    """
    named = (token for token in (tokenizer.eos_token_id, tokenizer.sep_token_id) if token is not None)
    found: int | None = next(named, None)
    if found is None:
        raise ValueError(
            "its tokenizer names no eos_token, with which an answer that is written ends; add it to its config"
        )
    return found


def special_tokens(tokenizer: Any) -> tuple[Tokens, Tokens]:
    """What a tokenizer puts before a text and behind it."""
    plain, whole = _plain(tokenizer, "a"), tokenizer("a")["input_ids"]
    at = next((i for i in range(len(whole)) if plain and whole[i : i + len(plain)] == plain), 0)
    return tuple(whole[:at]), tuple(whole[at + len(plain) :])


def decoder_start(tokenizer: Any, config: Any) -> Tokens:
    """What a decoder has read before an answer: its start, and what the tokenizer puts before a target.

    Raises:
        ValueError: if the config names no start.
    """
    start = getattr(config, "decoder_start_token_id", None)
    if not isinstance(start, int):
        raise ValueError("its config has no decoder_start_token_id, with which a decoder begins; add it to config.json")
    return start, *(token for token in special_tokens(tokenizer)[0] if token != start)


def label_words(tokenizer: Any, kind: PlmKind, wording: Wording) -> Answers:
    """The label words as tokens: as they stand in the template, or alone in a decoder.

    Raises:
        ValueError: if a word of one class begins as the whole word of another.
    """
    return Answers(tuple(tuple(_word(tokenizer, kind, wording, word) for word in words) for words in wording.words))


def _word(tokenizer: Any, kind: PlmKind, wording: Wording, word: str) -> Tokens:
    return words_as_tokens(tokenizer, kind, wording, [word])[0]


def words_as_tokens(tokenizer: Any, kind: PlmKind, wording: Wording, words: Sequence[str]) -> list[Tokens]:
    """The tokens of each word, or text, behind the text before it: what the two together have more than the text alone.

    Source: lm-evaluation-harness tokenises context and continuation so.
    """
    text = wording.before_slot
    before = text.rstrip()
    alone = [(text[len(before) :] + word.strip()) if text != before else word for word in words]
    if KINDS[kind].slot == "decoder":
        return [tuple(ids) for ids in _all_plain(tokenizer, [word.strip() for word in words])]
    if not before and wording.parts[0][1] != "answer":
        before = "a"  # whatever ends the field before it
    first, both = _plain(tokenizer, before) if before else [], _all_plain(tokenizer, [before + each for each in alone])
    return [
        tuple(ids[len(first) :] if ids[: len(first)] == first else _plain(tokenizer, each))
        for ids, each in zip(both, alone, strict=True)
    ]


def asking_problems(tokenizer: Any, kind: PlmKind, wording: Wording) -> Iterator[str]:
    """Why a language model cannot be asked so: the slot, or words that its tokenizer does not know as they must be."""
    slot = KINDS[kind].slot
    if slot == "mask" and tokenizer.mask_token is None:
        yield "its tokenizer has no mask token, in whose place a masked language model answers; use plm.head: linear"
        return
    if slot != "mask" and not wording.ends_with_slot:
        yield (
            f"template {wording.template!r} has a field behind the slot, which a {kind} does not read before it answers; "
            "put the slot behind all fields"
        )
    if not wording.words:  # the answer is written
        try:
            end_of_text(tokenizer)
        except ValueError as error:
            yield str(error)
    known = True
    for word in (word for words in wording.words for word in words):
        tokens = _word(tokenizer, kind, wording, word)
        if not tokens or (tokenizer.unk_token_id is not None and tokenizer.unk_token_id in tokens):
            known = False
            yield f"label word {word!r} is no word of its tokenizer; choose another"
        elif slot == "mask" and len(tokens) != 1:
            pieces = " ".join(tokenizer.convert_ids_to_tokens(list(tokens)))
            yield (
                f"label word {word!r} must be one token, since one mask token answers, and is {len(tokens)} ({pieces}); "
                "choose another"
            )
    if known:
        yield from _clashes(tokenizer, kind, wording)


def _clashes(tokenizer: Any, kind: PlmKind, wording: Wording) -> Iterator[str]:
    """Words of two classes of which one begins with the other: the longer could never win."""
    found = [
        (n, word, _word(tokenizer, kind, wording, word)) for n, words in enumerate(wording.words) for word in words
    ]
    for n, one, tokens in found:
        for m, other, longer in found:
            if m != n and tokens and longer[: len(tokens)] == tokens and (tokens != longer or n < m):
                yield (
                    f"label words {one!r} and {other!r} begin with the same tokens, so that {other!r} can never be the "
                    "likelier: choose other words"
                )
