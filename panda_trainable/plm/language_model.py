"""LanguageModel: a frozen language model with soft prompts in front, whose own head says what it makes of answers."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions

from panda_trainable.config.setting import Plm, PlmKind, Pooling, Precision
from panda_trainable.config.wording import Wording
from panda_trainable.plm.answers import TEXT_ALONE, Answers, Tokens
from panda_trainable.plm.asking import decoder_start, label_words
from panda_trainable.plm.attention import rows_at
from panda_trainable.plm.encoder import PROBE, FrozenEncoder
from panda_trainable.plm.places import Branches, Prompts
from panda_trainable.plm.reference import TOLERANCE, difference, first_line, told
from panda_trainable.pretrained.files import load_tokenizer
from panda_trainable.pretrained.kinds import KINDS


class _Read(BaseModelOutputWithPastAndCrossAttentions):
    """What a part answers that is not run: given states, and None of all else, as mixtures of experts ask for routers."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class LanguageModel(FrozenEncoder):
    """A frozen language model: its body takes prompts as every FrozenEncoder, and its own head reads what answers.

    Args:
        model: with its head.
        kind: a row of KINDS.
        tokenizer: of the model.
        pooling: what is read where no answer is.
        after_prompt: whether positions count from behind a prefix.
        precision: of its matrix products.

    Attributes:
        whole: the model with its head; `model` is the body that reads text.
        start: tokens that its decoder has read before an answer; none where it has no decoder.
        can_fork: whether continuations of a text may stand behind it in one row, which each read the text and itself.

    Raises:
        ValueError: if its body cannot be wrapped, or its head says something else than in the untouched model.
    """

    def __init__(
        self, model: Any, kind: PlmKind, tokenizer: Any, pooling: Pooling = "answer", after_prompt: bool = True,
        precision: Precision = "float32",
    ):  # fmt: skip
        row = KINDS[kind]
        self.whole, self.kind, self.tokenizer = model.eval().requires_grad_(False), kind, tokenizer
        self.start = decoder_start(tokenizer, model.config) if row.slot == "decoder" else ()
        with torch.no_grad():
            own = self._untouched()
        super().__init__(row.body(model), pooling, after_prompt, causal=row.causal)
        self._compare_head(own)
        self.can_fork = row.slot == "end" and self._can_fork()
        self.precision = precision

    def answers(self, wording: Wording) -> Answers:
        """The label words of a task as this model's tokens."""
        return label_words(self.tokenizer, self.kind, wording)

    def _untouched(self) -> Tensor:
        """[T, V] the logits of a few tokens, of an encoder-decoder those of its decoder."""
        ids = torch.tensor([PROBE], device=next(self.whole.parameters()).device)
        name = type(self.whole).__name__
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.start:
            inputs["decoder_input_ids"] = torch.tensor([self.start], device=ids.device)
        try:
            logits: Tensor = self.whole(**inputs).logits[0]
        except Exception as error:
            raise ValueError(
                f"{name} has no language model's head ({first_line(error)}); use plm.head: linear"
            ) from error
        return logits

    @torch.no_grad()
    def _compare_head(self, own: Tensor) -> None:
        """Refuses a model whose logits, of its body's states, are not those of the untouched model."""
        ids = torch.tensor([PROBE], device=self.device)
        lengths = torch.tensor([len(PROBE)], device=self.device)
        name = type(self.whole).__name__
        try:
            if self.start:
                made = self.logits(self._decoded(ids, lengths, torch.tensor([self.start], device=self.device))[0])
            else:
                made = self.logits(self.encode(ids, torch.zeros_like(ids), lengths, tokens=True)[0])
            off = difference(made, own)
        except Exception as error:
            raise ValueError(f"{name}: its own head cannot be asked alone ({first_line(error)})") from error
        if off > TOLERANCE:
            raise ValueError(f"{name}: asked alone, its own head's logits differ {told(off)}; use plm.head: linear")

    @torch.no_grad()
    def _can_fork(self) -> bool:
        """Whether states behind several continuations are the same in one row as in a row for each."""
        first, second, third = PROBE
        words = Answers((((first, second, third),), ((third, second),)))
        ids = torch.tensor([PROBE, PROBE[::-1]], device=self.device)
        lengths = torch.tensor([3, 2 if self.takes_padding else 3], device=self.device)
        text = ids, torch.zeros_like(ids), lengths, None, None
        if self.refusal or self.first_position is None:
            return False
        try:
            return difference(_branched(self, words, *text), _repeated(self, words, *text)) <= TOLERANCE
        except Exception:  # noqa: BLE001  # whatever a model does with branches, each has a row of its own
            return False

    def extent(self, answers: Answers, prompt: Prompts | None) -> tuple[int, int]:
        """How often a text is read to answer, and how many tokens stand behind it each time."""
        rows = answers.continuations
        branched = self.branches(answers, prompt)
        return (1, sum(map(len, rows))) if branched else (len(rows), max(map(len, rows)))

    def branches(self, answers: Answers, prompt: Prompts | None) -> bool:
        """Whether the continuations of answers stand behind their text in one row."""
        return len(answers.continuations) > 1 and self.forks(prompt)

    def forks(self, prompt: Prompts | None) -> bool:
        """Whether several continuations may stand behind a text in one row; not behind an input prompt that rows compute."""
        computed = isinstance(prompt, Tensor) and prompt.dim() in (3, 4)  # 4: of each row its own, made of several
        return self.can_fork and not computed

    def _decoded(self, ids: Tensor, lengths: Tensor, read: Tensor) -> Tensor:
        """[n, D, H] the decoder's states of tokens [n, D] that it reads of texts without a prompt."""
        hidden, _ = self._states(ids, torch.zeros_like(ids), lengths, None, None, padded=True)
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        return self.decode(read, hidden, mask)

    def decode(self, read: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
        """[n, D, H] states of a decoder that reads tokens [n, D], of encoded rows [n, T, H] where a mask [n, T] is true."""
        with self.lowered():
            decoder = self.whole.get_decoder()
            made = decoder(
                input_ids=read, encoder_hidden_states=hidden, encoder_attention_mask=mask.long(), use_cache=False
            )
            return made.last_hidden_state.float()

    def read_by_decoder(
        self, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None = None, owner: Tensor | None = None,
        padded: bool = True,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """[n, P + T, H] states of texts, as `encode` has its arguments, and the mask [n, P + T] of those that a decoder reads."""
        hidden, first = self._states(ids, types, lengths, prompt, owner, padded)
        mask = pad(torch.arange(ids.shape[1], device=ids.device) < lengths[:, None], (first, 0), value=True)
        return hidden, mask

    def logits(self, states: Tensor) -> Tensor:
        """[m, V] the model's own logits of states [m, H], whatever lies between the part that made them and its logits.

        That part answers with the given states for the time of the call, so that only rows that answer meet the
        vocabulary.
        """
        reader, place = KINDS[self.kind].reader(self.whole), torch.zeros(len(states), 1, dtype=torch.long)
        given: dict[str, Any] = {"input_ids": place.to(states.device)}
        if self.start:
            given = {
                "decoder_input_ids": given["input_ids"],
                "encoder_outputs": BaseModelOutput(last_hidden_state=states[:, None]),
            }
        own = reader.__dict__.get("forward")
        reader.forward = lambda *_, **__: _Read(last_hidden_state=states[:, None])
        try:
            with self.lowered():
                return self.whole(**given).logits[:, 0].float()
        finally:
            del reader.forward
            reader.__dict__.update({"forward": own} if own else {})

    def encode(
        self, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None = None, owner: Tensor | None = None,
        tokens: bool = False, padded: bool = True, slots: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The vectors of FrozenEncoder; the one that answers (`answer`) is the one before an answer's first token."""
        if tokens or self.pooling != "answer":
            return super().encode(ids, types, lengths, prompt, owner, tokens, padded)
        return self.behind(TEXT_ALONE, ids, types, lengths, prompt, owner, padded, slots)[:, 0]

    def behind(
        self, answers: Answers, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None = None,
        owner: Tensor | None = None, padded: bool = True, slots: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """[n, M, H] the states behind texts and each beginning of answers; the other arguments are those of `encode`."""
        return STATES[KINDS[self.kind].slot](self, answers, ids, types, lengths, prompt, owner, padded, slots)


def _in_slot(
    plm: LanguageModel, _answers: Answers, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None,
    owner: Tensor | None, padded: bool, slots: Tensor | None,
) -> Tensor:  # fmt: skip
    """[n, 1, H] of the mask token; without one, as for an empty text, of the last."""
    at = (lengths[:, None] - 1) if slots is None else slots.long()
    return plm.states_at(at, ids, types, lengths, prompt, owner, padded)


def _behind_text(
    plm: LanguageModel, answers: Answers, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None,
    owner: Tensor | None, padded: bool, _slots: Tensor | None,
) -> Tensor:  # fmt: skip
    """[n, M, H] of the text's last token, and of a word's tokens behind it."""
    text = ids, types, lengths, prompt, owner
    if not any(answers.continuations):
        return plm.states_at(lengths[:, None] - 1, *text, padded)
    return (_branched if plm.branches(answers, prompt) else _repeated)(plm, answers, *text)


def _branched(
    plm: LanguageModel, answers: Answers, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None,
    owner: Tensor | None,
) -> Tensor:  # fmt: skip
    """[n, M, H] of texts that all continuations stand behind: a text is read once."""
    branches = Branches.of(answers.continuations, ids.device)
    rows, places = branches.behind(ids, lengths)
    at = branches.columns(answers.places, lengths, ids.shape[1])
    return plm.states_at(at, rows, pad(types, (0, len(branches.ids))), lengths, prompt, owner, places=places)


def _repeated(
    plm: LanguageModel, answers: Answers, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None,
    owner: Tensor | None,
) -> Tensor:  # fmt: skip
    """[n, M, H] of a text for each continuation."""
    rows, places = answers.continuations, torch.tensor(answers.places, device=ids.device)
    n, repeats, room = len(ids), len(rows), max(map(len, rows))
    wide, kinds = (pad(each, (0, room)).repeat_interleave(repeats, 0) for each in (ids, types))
    begin, sizes = lengths.repeat_interleave(repeats), torch.tensor([len(row) for row in rows], device=ids.device)
    wide.scatter_(
        1, begin[:, None] + torch.arange(room, device=ids.device), _filled(rows, room, ids.device).repeat(n, 1)
    )
    of_rows = None if owner is None else owner.repeat_interleave(repeats)
    made = plm.encode(wide, kinds, begin + sizes.repeat(n), prompt, of_rows, tokens=True)  # [n R, T + W, H]
    width = made.shape[1]
    at = places[:, 0] * width + lengths[:, None] - 1 + places[:, 1]  # [n, M]
    return rows_at(made.reshape(n, repeats * width, -1), at, 1)


def _filled(rows: Sequence[Tokens], room: int, device: torch.device) -> Tensor:
    """[R, room] tokens, with zeros behind the shorter ones."""
    return torch.tensor([[*row, *[0] * (room - len(row))] for row in rows], dtype=torch.long, device=device)


def _in_decoder(
    plm: LanguageModel, answers: Answers, ids: Tensor, types: Tensor, lengths: Tensor, prompt: Prompts | None,
    owner: Tensor | None, padded: bool, _slots: Tensor | None,
) -> Tensor:  # fmt: skip
    """[n, M, H] of the decoder, which has read its start and a word's tokens: the encoder reads a text once."""
    hidden, mask = plm.read_by_decoder(ids, types, lengths, prompt, owner, padded)
    rows, places = answers.continuations, torch.tensor(answers.places, device=ids.device)
    n, repeats, room = len(ids), len(rows), max(map(len, rows))
    read = _filled([(*plm.start, *row) for row in rows], len(plm.start) + room, ids.device).repeat(n, 1)
    made = plm.decode(read, hidden.repeat_interleave(repeats, 0), mask.repeat_interleave(repeats, 0))
    return made.unflatten(0, (n, repeats))[:, places[:, 0], len(plm.start) - 1 + places[:, 1]]


STATES: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"mask": _in_slot, "end": _behind_text, "decoder": _in_decoder}
)
"""Slot of a kind -> the states that predict an answer's tokens."""


def wrapped(plm: Plm, model: Any, precision: Precision = "float32") -> FrozenEncoder:
    """The frozen PLM of a model that `load_model` gave, which is wrapped once."""
    after_prompt = plm.positions == "after_prompt"
    if plm.has_own_head:
        return LanguageModel(model, plm.kind, load_tokenizer(plm), plm.pooling, after_prompt, precision)
    return FrozenEncoder(model, plm.pooling, after_prompt, precision, causal=KINDS[plm.kind].causal)
