"""FrozenEncoder and Trainer give the numbers of the plain model, run example by example without padding."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from panda_trainable.config.setting import Plm, PromptSettings, Setting, TrainSettings
from panda_trainable.data.splits import batches
from panda_trainable.data.tokens import TokenTable
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.encoder import FrozenEncoder
from panda_trainable.pretrained.files import load_model, plm_files
from panda_trainable.training import forward as module
from panda_trainable.training import losses as objectives
from panda_trainable.training.forward import concatenated, forward
from panda_trainable.training.heads import HEADS
from panda_trainable.training.trainer import Trainer
from panda_trainable.worker import load_encoder
from tests.kits.families import FAMILIES, LONGEST, MORE, REFUSED, Family, P, Plain, save_family
from tests.kits.tasks import SPECS, WORDS, own_task
from tests.kits.trainers import first_gradients, loss_curve, order_of, prompt_trainer

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}
FORMS, POOLINGS = ("prefix", "input"), ("cls", "mean")
LENGTHS = torch.tensor([1, LONGEST, 4, 2, LONGEST, 15, 9, 3])
CLASSES, B = 3, 4
Folders = Callable[[str], Path]
Opened = Callable[..., Trainer]


def group_tokens(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    """How many padded tokens a length group has at most; 1: every row alone."""
    monkeypatch.setitem(module.BUCKET_VALUES, "cpu", 16 * tokens)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Folders of small random models, made once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = save_family(tmp_path_factory.mktemp("families") / name, family_of(name))
        return made[name]

    return folder


def family_of(name: str) -> Family:
    return {**FAMILIES, **MORE, **REFUSED}[name]


def plm_of(folder: Path, **changes: Any) -> Plm:
    return Plm(str(folder), plm_files(folder), **changes)


@cache
def plain_of(folder: Path, name: str, way: str = "attention", layers: int | None = None) -> Plain:
    return Plain(folder, family_of(name), way, layers)


@cache
def encoder_of(folder: Path, pooling: Any = "mean", layers: int | None = None) -> FrozenEncoder:
    return FrozenEncoder(load_model(plm_of(folder, pooling=pooling, layers=layers)), pooling)


def random_table() -> TokenTable:
    """Rows of one token to the longest, with noise where padding is."""
    generator, n = torch.Generator().manual_seed(0), len(LENGTHS)
    ids = torch.randint(5, 45, (n, LONGEST), generator=generator)
    return TokenTable(
        ids=ids, types=torch.randint(2, ids.shape, generator=generator), lengths=LENGTHS,
        labels=torch.arange(n) % CLASSES, slots=torch.zeros(n, 0), answers=torch.zeros(n, 0),
        offsets=np.zeros((n, 0, 2), np.int32), groups=np.arange(n), texts=np.zeros((n, 1), np.uint64),
        questions=np.arange(n), truncated=0.0, gold=Path(),
    )  # fmt: skip


def random_prompts(encoder: FrozenEncoder, form: str, replicas: int) -> Tensor:
    """[K, …] large enough to matter."""
    shape, generator = encoder.prompt_shape(P, form), torch.Generator().manual_seed(9)
    return torch.randn(replicas, *shape, generator=generator) * (1.0 if form == "prefix" else 0.3)


def alone(plain: Plain, table: TokenTable, row: int, prompt: Tensor | None, pooling: str) -> Tensor:
    """[H] what the plain model makes of one example."""
    n = int(table.lengths[row])
    hidden = plain(table.ids[row, :n].long(), table.types[row, :n].long(), prompt)
    return hidden[0] if pooling == "cls" else hidden.mean(0)


# the reference itself


@pytest.mark.parametrize("name", [*FAMILIES, *MORE])
def test_the_reference_without_a_prefix_is_the_untouched_model(folders: Folders, name: str) -> None:
    table = random_table()
    ways = [plain_of(folders(name), name, way) for way in ("attention", "untouched")]
    for row in range(len(LENGTHS)):
        found, expected = (alone(plain, table, row, None, "mean") for plain in ways)
        torch.testing.assert_close(found, expected, **CLOSE)


# the encoder


def check_encodings(folder: Path, name: str, form: str, pooling: str, replicas: int, layers: int | None = None) -> None:
    """A padded batch against the plain model, with the gradient of the prompt."""
    encoder, plain, table = encoder_of(folder, pooling, layers), plain_of(folder, name, layers=layers), random_table()
    prompt, owner = random_prompts(encoder, form, replicas).requires_grad_(), torch.arange(len(LENGTHS)) % replicas
    found = encoder.encode(table.ids, table.types, table.lengths, prompt, owner)
    expected = torch.stack([alone(plain, table, i, prompt[k], pooling) for i, k in enumerate(owner)])
    torch.testing.assert_close(found, expected, **CLOSE)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    gradients = [torch.autograd.grad((made * direction).sum(), prompt)[0] for made in (found, expected)]
    torch.testing.assert_close(*gradients, **CLOSE)
    assert gradients[0].abs().max() > 1e-2


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_padded_batch_of_replicas_is_the_plain_model_example_by_example(
    folders: Folders, name: str, form: str, pooling: str, replicas: int
) -> None:
    check_encodings(folders(name), name, form, pooling, replicas)


@pytest.mark.parametrize(("form", "pooling"), [("prefix", "cls"), ("prefix", "mean"), ("input", "cls")])
@pytest.mark.parametrize("name", MORE)
def test_so_it_is_on_further_families(folders: Folders, name: str, form: str, pooling: str) -> None:
    check_encodings(folders(name), name, form, pooling, 3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_so_it_is_where_the_first_layer_is_the_last(folders: Folders, name: str, form: str) -> None:
    check_encodings(folders(name), name, form, "cls", 3, layers=1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_token_of_a_padded_batch_is_the_plain_models(folders: Folders, name: str, form: str) -> None:
    encoder, table = encoder_of(folders(name), "cls"), random_table()
    plain, owner = plain_of(folders(name), name), torch.arange(len(LENGTHS)) % 3
    prompt = random_prompts(encoder, form, 3)
    found = encoder.encode(table.ids, table.types, table.lengths, prompt, owner, tokens=True)
    for i, k in enumerate(owner):
        n = int(table.lengths[i])
        torch.testing.assert_close(found[i, :n], plain(table.ids[i, :n], table.types[i, :n], prompt[k]), **CLOSE)


# answers: logits, losses, first gradients

RUNS = [(name, "attention", form) for name, form in product(FAMILIES, FORMS)]
RUNS += [(name, "cache", "prefix") for name, family in FAMILIES.items() if family.cached]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("name", "way", "form"), RUNS)
def test_logits_losses_and_gradients_are_those_of_separate_runs_whatever_the_bucket_slices(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, name: str, way: str, form: str, pooling: str
) -> None:
    encoder, table = encoder_of(folders(name), pooling), random_table()
    plain = plain_of(folders(name), name, way)
    generator = torch.Generator().manual_seed(4)
    for replicas in (1, 3):
        prompt = random_prompts(encoder, form, replicas)
        weight, bias = (torch.randn(replicas, CLASSES, *size, generator=generator) for size in ((16,), ()))
        parts = [part.requires_grad_() for part in (prompt, weight, bias)]
        rows = torch.stack([torch.randperm(len(LENGTHS), generator=generator) for _ in range(replicas)])  # [K, B]
        expected = torch.stack([
            torch.stack([weight[k] @ alone(plain, table, int(row), prompt[k], pooling) + bias[k] for row in rows[k]])
            for k in range(replicas)
        ])  # fmt: skip
        losses = torch.stack([cross_entropy(expected[k], table.labels[rows[k]]) for k in range(replicas)])
        gradients = torch.autograd.grad(losses.sum(), parts)
        owner = torch.arange(replicas).repeat_interleave(len(LENGTHS))
        for tokens in (1, 60, 10**6):
            group_tokens(monkeypatch, tokens)
            asked = encoder, table, HEADS["classification"], prompt, weight, bias, rows.flatten(), owner
            said = concatenated(forward(*asked)).logits
            found = objectives.cross_entropy(said.view(expected.shape), table.labels[rows])
            torch.testing.assert_close(said.view(expected.shape), expected, **CLOSE)
            torch.testing.assert_close(found, losses, **CLOSE)
            for made, gradient in zip(torch.autograd.grad(found.sum(), parts), gradients, strict=True):
                torch.testing.assert_close(made, gradient, **CLOSE)
                assert made.abs().max() > 1e-3


# trainers


def learnable_rows(n: int) -> list[dict[str, Any]]:
    """Texts of one word, of more than the longest, and between; the class decides which words are frequent."""
    generator, rows = np.random.default_rng(0), []
    for i in range(n):
        length = LONGEST + 3 if i % 3 == 0 else int(generator.integers(2, LONGEST))
        words = [WORDS[i]] if i % 5 == 0 and i < len(WORDS) else generator.choice(WORDS[i % 2 * 20 :][:20], length)
        rows.append({"a": " ".join(words), "label": i % 2})
    return rows


class Loop:
    """One replica trained alone: the plain model, example by example, with PyTorch's own optimiser."""

    def __init__(self, trainer: Trainer, replica: int, plain: Plain):
        setting, seed, named = trainer.data.setting, trainer.student.seeds[replica], trainer.trainables
        self.table, self.plain, self.pooling = trainer.data.parts[0].table, plain, setting.plm.pooling
        self.parts = [named[name][replica].detach().clone().requires_grad_() for name in ("prompt", "weight", "bias")]
        self.order = iter(
            batches(trainer.data.parts[0].rows[replica].train, seed, trainer.recipe.steps, setting.train.batch_size)
        )
        self.optimiser = torch.optim.AdamW(self.parts, trainer.recipe.learning_rate, (0.9, 0.999), 1e-8, weight_decay=0)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: 1 - step / trainer.recipe.steps)

    def logits(self, rows: NDArray[np.int64]) -> Tensor:
        """[n, C] of rows of the train table."""
        prompt, weight, bias = self.parts
        each = [alone(self.plain, self.table, int(row), prompt, self.pooling) for row in rows]
        return torch.stack(each) @ weight.T + bias

    def step(self) -> float:
        rows = next(self.order)
        self.optimiser.zero_grad()
        loss = cross_entropy(self.logits(rows), self.table.labels[torch.from_numpy(rows)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parts, 1.0)
        self.gradients = [part.grad.clone() for part in self.parts if part.grad is not None]
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())


@pytest.fixture
def opened(library: PromptLibrary, folders: Folders, tmp_path: Path) -> Opened:
    """Opens trainers on a family with prompts and heads that are large enough to matter."""

    def make(
        name: str, form: str, pooling: str, replicas: int, steps: int = 10, rows: int = 40, rate: float = 0.02
    ) -> Trainer:
        plm = plm_of(folders(name), pooling=pooling)
        setting = Setting(
            plm, prompt=PromptSettings(form=form, length=P), train=TrainSettings(batch_size=B, max_length=LONGEST)
        )
        spec = own_task(tmp_path, replace(SPECS["classification"], name="t"), learnable_rows(rows))
        start = random_prompts(load_encoder(plm), form, replicas)
        trainer = prompt_trainer(library, setting, spec, range(replicas), start, steps=steps, learning_rate=rate)
        with torch.no_grad():
            trainer.trainables["weight"].mul_(20)
        return trainer

    return make


OPTIONS = [("cls", 3, 10**6), ("mean", 1, 60), ("cls", 1, 60), ("mean", 3, 1), ("cls", 3, 60), ("mean", 3, 60),
           ("cls", 1, 1)]  # fmt: skip
"""Pooling, replicas and tokens of a length group: seven, so that all meet all forms."""
TRAINERS = [(*run, *option) for run, option in zip(RUNS, cycle(OPTIONS), strict=False)]


@pytest.mark.parametrize(("name", "way", "form", "pooling", "replicas", "tokens"), TRAINERS)
def test_ten_steps_are_those_of_separate_loops_and_the_frozen_model_keeps_its_bytes(
    folders: Folders, opened: Opened, monkeypatch: pytest.MonkeyPatch, name: str, way: str, form: str,
    pooling: str, replicas: int, tokens: int,
) -> None:  # fmt: skip
    group_tokens(monkeypatch, tokens)
    trainer, plain = opened(name, form, pooling, replicas), plain_of(folders(name), name, way)
    assert {1, LONGEST} < set(trainer.data.parts[0].table.lengths[order_of(trainer).flatten()].tolist())
    loops = [Loop(trainer, k, plain) for k in range(replicas)]
    first, expected = loss_curve(trainer, 1), torch.tensor([[loop.step() for loop in loops]])
    torch.testing.assert_close(first.float(), expected, **CLOSE)
    for part, key in enumerate(("prompt", "weight", "bias")):  # a tenth of the first clipped gradients
        gradients = torch.stack([loop.gradients[part] for loop in loops])
        torch.testing.assert_close(first_gradients(trainer)[key], gradients, **CLOSE)
        assert gradients.abs().max() > 1e-3
    expected = torch.tensor([[loop.step() for loop in loops] for _ in range(9)])
    torch.testing.assert_close(loss_curve(trainer, 9).float(), expected, **CLOSE)
    model, file = trainer.student.encoder.model, plain_of(folders(name), name, "untouched").model.state_dict()
    assert model.state_dict().keys() == file.keys()
    assert all(now.numpy().tobytes() == file[key].numpy().tobytes() for key, now in model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(("form", "pooling"), [("prefix", "cls"), ("input", "mean")])
def test_the_score_after_fifty_steps_is_that_of_separate_loops_within_two_rows(
    folders: Folders, opened: Opened, form: str, pooling: str
) -> None:
    trainer, plain = (
        opened("bert", form, pooling, 2, steps=50, rows=160, rate=0.1),
        plain_of(folders("bert"), "bert"),
    )
    loops = [Loop(trainer, k, plain) for k in range(2)]
    trainer.advance(50)
    for k, (loop, score) in enumerate(zip(loops, trainer.select()["accuracy"], strict=True)):
        for _ in range(50):
            loop.step()
        rows = trainer.data.parts[0].rows[k].selection
        right = int((loop.logits(rows).argmax(1) == trainer.data.parts[0].table.labels[torch.from_numpy(rows)]).sum())
        assert len(rows) == 32
        assert abs(score * len(rows) - right) <= 2
        assert score > 0.6


# refusals


@pytest.mark.parametrize("name", REFUSED)
def test_a_family_whose_attention_cannot_be_reached_is_refused_by_name_and_takes_input_prompts(
    folders: Folders, name: str
) -> None:
    encoder, table = encoder_of(folders(name)), random_table()
    reason = "takes no prefix: its attention is not called through transformers' attention interface"
    with pytest.raises(ValueError, match=f"^{type(encoder.model).__name__} {reason}; use prompt.form: input$"):
        encoder.prompt_shape(P)
    plain = plain_of(folders(name), name, "untouched")
    prompt, owner = random_prompts(encoder, "input", 3), torch.tensor([2])
    for row, n in enumerate(LENGTHS):
        ids, types = table.ids[None, row, :n], table.types[None, row, :n]
        found = encoder.encode(ids, types, n[None], prompt, owner)
        torch.testing.assert_close(found[0], alone(plain, table, row, prompt[2], "mean"), **CLOSE)
