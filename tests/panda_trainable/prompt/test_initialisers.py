"""Initialisers: what every row of INITIALISERS must keep, and what each draws, for prefixes and input prompts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from panda_trainable.config.setting import InitSettings, Plm, PromptSettings, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.pretrained.files import load_tokenizer, plm_files
from panda_trainable.prompt.initialisers import INITIALISERS, SPARSE_STD, InitContext, read_prompt
from panda_trainable.prompt.soft_prompt import SoftPrompt
from panda_trainable.transfer.lineage import Lineage, starting_prompts, tuned_prompts
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.worker import load_encoder
from tests.kits.plms import FAMILIES
from tests.kits.tasks import WORDS
from tests.kits.trainers import loss_curve, random_prompt, random_starts

FORMS = pytest.mark.parametrize("form", ["prefix", "input"])
every_row = pytest.mark.parametrize("kind", INITIALISERS)
SHAPES = {"prefix": (2, 2, 2, 3, 8), "input": (3, 16)}
TASK = TaskSpec("t", "classification", ("a",), "label", ("w1", "w2_w3"), ("accuracy",))


@pytest.fixture
def setting_of(setting: Setting, tmp_path: Path) -> Callable[..., Setting]:
    """A setting with an initialiser: setting_of("normal", form="input", length=3, std=0.1)."""

    def make(kind: Any, form: Any = "prefix", length: int = 3, **changes: Any) -> Setting:
        if kind == "text":
            changes = {"text": "w4 w5", **changes}
        if kind == "file":
            shape = (2, 2, 2, length, 8) if form == "prefix" else (length, 16)
            file = tmp_path / f"{form}-{length}.safetensors"
            save_file({"prompt": random_prompt(shape, 77)}, file)
            changes = {"file": str(file), **changes}
        prompt = PromptSettings(form, length, InitSettings(kind, **changes))
        return replace(setting, prompt=prompt, init_file=f"{form}{length}" if kind == "file" else "")

    return make


def start(setting: Setting, seed: int = 0, task: TaskSpec = TASK) -> Tensor:
    """The prompt at step 0."""
    return INITIALISERS[setting.prompt.init.kind](InitContext(load_encoder(setting.plm), setting, task, seed))


def ids_of(setting: Setting, prompt: Tensor) -> list[int]:
    """The tokens whose embeddings an input prompt is made of."""
    table = load_encoder(setting.plm).model.get_input_embeddings().weight
    return [int((table == row).all(1).nonzero().item()) for row in prompt]


@every_row
@FORMS
def test_a_start_has_the_shape_and_is_decided_by_the_seed_alone(
    setting_of: Callable[..., Setting], kind: str, form: str
) -> None:
    setting = setting_of(kind, form)
    torch.manual_seed(1)
    first = start(setting, 7)
    torch.manual_seed(2)
    assert torch.equal(start(setting, 7), first)
    assert first.shape == SHAPES[form]
    assert first.dtype == torch.float32
    assert first.isfinite().all()
    assert not first.requires_grad
    assert first.device.type == "cpu"
    assert torch.equal(start(setting, 8), first) == (kind in ("zeros", "file"))


@every_row
@FORMS
def test_a_trainer_starts_there_and_trains(
    library: PromptLibrary, setting_of: Callable[..., Setting], trial: Callable[..., TrialConfig], kind: str, form: str
) -> None:
    config = trial(setting=setting_of(kind, form), steps=8)
    trainer = open_trainer(library, config)
    expected = torch.stack([start(config.setting, seed, config.target) for seed in config.seeds])
    assert torch.equal(trainer.student.prompt(), expected)
    losses = loss_curve(trainer, 8)
    assert losses.isfinite().all()
    assert not torch.equal(trainer.student.prompt(), expected)


@every_row
def test_tasks_of_a_seed_start_from_one_prompt_but_for_their_labels(
    library: PromptLibrary, setting_of: Callable[..., Setting], task: Callable[..., TaskSpec], kind: str
) -> None:
    setting, specs = setting_of(kind), [task("t"), replace(task("u"), classes=("w8", "w9"))]
    starts = [starting_prompts(library, Lineage(setting, spec, 5, 0.1), (0, 3)) for spec in specs]
    assert torch.equal(*starts) == (kind != "labels")


@FORMS
def test_normal_is_drawn_with_its_deviation(setting_of: Callable[..., Setting], form: str) -> None:
    for std in (0.02, 0.5):
        drawn = start(setting_of("normal", form, length=60, std=std))
        assert float(drawn.mean()) == pytest.approx(0, abs=0.1 * std)
        assert float(drawn.std()) == pytest.approx(std, rel=0.05)
    assert torch.equal(start(setting_of("normal", form), 4), random_prompt(SHAPES[form], 4))


@FORMS
@pytest.mark.parametrize(("kind", "lowest"), [("uniform", -1), ("uniform_positive", 0)])
def test_uniform_is_symmetric_as_in_the_paper_or_positive_as_in_the_code(
    setting_of: Callable[..., Setting], form: str, kind: str, lowest: int
) -> None:
    for scale in (0.5, 0.1):
        drawn = start(setting_of(kind, form, length=60, scale=scale))
        assert lowest * scale <= float(drawn.min()) < lowest * scale + 0.02 * scale
        assert 0.98 * scale < float(drawn.max()) <= scale
        assert float(drawn.mean()) == pytest.approx((lowest + 1) * scale / 2, abs=0.05 * scale)


@FORMS
def test_zeros_are_zeros(setting_of: Callable[..., Setting], form: str) -> None:
    assert torch.equal(start(setting_of("zeros", form)), torch.zeros(SHAPES[form]))


@FORMS
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
def test_sparse_has_its_share_of_zeros_among_small_numbers(
    setting_of: Callable[..., Setting], form: str, share: float
) -> None:
    drawn = start(setting_of("sparse", form, length=60, sparsity=share))
    assert float((drawn == 0).float().mean()) == pytest.approx(share, abs=0.05)
    if share < 1:
        assert float(drawn[drawn != 0].std()) == pytest.approx(SPARSE_STD, rel=0.1)


# of words


def test_vocabulary_draws_different_words_and_no_special_token(setting_of: Callable[..., Setting]) -> None:
    setting = setting_of("vocabulary", "input", length=30)
    special = set(load_tokenizer(setting.plm).all_special_ids)
    draws = [ids_of(setting, start(setting, seed)) for seed in range(5)]
    for ids in draws:
        assert len(set(ids)) == 30
        assert not special & set(ids)
    assert len({tuple(ids) for ids in draws}) == 5


def test_vocabulary_draws_from_the_first_ids(setting_of: Callable[..., Setting]) -> None:
    setting = setting_of("vocabulary", "input", length=8, population=15)
    special = set(load_tokenizer(setting.plm).all_special_ids)
    drawn = {i for seed in range(20) for i in ids_of(setting, start(setting, seed))}
    assert drawn == set(range(15)) - special


def test_a_prompt_longer_than_the_vocabulary_repeats_words(setting_of: Callable[..., Setting]) -> None:
    setting = setting_of("vocabulary", "input", length=40, population=10)
    special = set(load_tokenizer(setting.plm).all_special_ids)
    assert set(ids_of(setting, start(setting))) <= set(range(10)) - special


def test_labels_are_the_mean_embedding_of_each_name_and_then_drawn_words(setting_of: Callable[..., Setting]) -> None:
    setting = setting_of("labels", "input", length=4)
    table, made = load_encoder(setting.plm).model.get_input_embeddings().weight, start(setting)
    first, second, third = (table[5 + int(word[1:])] for word in ("w1", "w2", "w3"))
    torch.testing.assert_close(made[0], first)
    torch.testing.assert_close(made[1], (second + third) / 2)  # `w2_w3` is read as two words
    others = ids_of(setting, made[2:])
    assert len(set(others)) == 2
    assert not set(others) & set(load_tokenizer(setting.plm).all_special_ids)
    assert not torch.equal(start(setting, 1)[2:], made[2:])


def test_of_more_classes_than_the_prompt_is_long_the_first_are_taken(setting_of: Callable[..., Setting]) -> None:
    setting = setting_of("labels", "input", length=3)
    spec = replace(TASK, classes=tuple(WORDS[:7]))
    assert ids_of(setting, start(setting, task=spec)) == [5, 6, 7]


def test_the_tags_of_a_tagging_are_its_labels(setting_of: Callable[..., Setting]) -> None:
    spec = replace(TASK, kind="tagging", classes=("w0", "w1", "w2"), metrics=("word_accuracy",))
    assert ids_of(setting_of("labels", "input"), start(setting_of("labels", "input"), task=spec)) == [5, 6, 7]


def test_text_is_its_words_in_their_order_and_then_drawn_words(setting_of: Callable[..., Setting]) -> None:
    setting = setting_of("text", "input", length=5, text="w9 w0 w9")
    ids = ids_of(setting, start(setting))
    assert ids[:3] == [14, 5, 14]
    assert not set(ids) & set(load_tokenizer(setting.plm).all_special_ids)
    assert len(ids) == 5


def test_a_text_longer_than_the_prompt_is_cut(setting_of: Callable[..., Setting]) -> None:
    setting = setting_of("text", "input", text=" ".join(WORDS[:9]))
    assert ids_of(setting, start(setting)) == [5, 6, 7]
    assert torch.equal(start(setting, 0), start(setting, 1))


@pytest.mark.parametrize("kind", ["vocabulary", "labels", "text"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_of_words_is_what_the_plm_computes_for_them(
    plms: Callable[[str], Path], setting_of: Callable[..., Setting], family: str, kind: str
) -> None:
    plm = Plm(str(plms(family)), plm_files(plms(family)))
    words, prefix = (start(replace(setting_of(kind, form), plm=plm), 5) for form in ("input", "prefix"))
    encoder = load_encoder(plm)
    assert words.shape == encoder.prompt_shape(3, "input")
    assert torch.equal(prefix, encoder.activations(words))


def test_a_start_is_a_copy_that_training_does_not_carry_back(setting_of: Callable[..., Setting]) -> None:
    setting = setting_of("vocabulary", "input")
    before = load_encoder(setting.plm).model.get_input_embeddings().weight.clone()
    start(setting).add_(1)
    assert torch.equal(load_encoder(setting.plm).model.get_input_embeddings().weight, before)


# of files


@FORMS
def test_a_file_is_read_bit_for_bit(setting_of: Callable[..., Setting], form: str) -> None:
    assert torch.equal(start(setting_of("file", form)), random_prompt(SHAPES[form], 77))


@FORMS
def test_a_prompt_of_the_library_may_be_the_file(
    library: PromptLibrary, setting: Setting, task: Callable[..., TaskSpec], tmp_path: Path, form: str
) -> None:
    formed = replace(setting, prompt=replace(setting.prompt, form=form))
    (kept,) = tuned_prompts(library, Lineage(formed, task("t"), 3, 0.05), (0,))
    SoftPrompt(kept.prompt, kept.weight, kept.bias).save(tmp_path / "kept.safetensors")
    init = InitSettings("file", file=str(tmp_path / "kept.safetensors"))
    again = replace(formed, prompt=replace(formed.prompt, init=init), init_file="kept")
    assert torch.equal(start(again), kept.prompt)
    assert not torch.equal(start(again), random_starts(formed, (0,))[0])


def test_a_file_that_cannot_be_read_or_does_not_fit_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    shape = SHAPES["prefix"]
    with pytest.raises(ValueError, match=r"prompt.init.file .*gone.safetensors: cannot be read as safetensors"):
        read_prompt(tmp_path / "gone.safetensors", shape)
    (tmp_path / "text.safetensors").write_text("this is no prompt")
    with pytest.raises(ValueError, match=r"text.safetensors: cannot be read as safetensors"):
        read_prompt(tmp_path / "text.safetensors", shape)
    with pytest.raises(ValueError, match=r"cannot be read as safetensors"):
        read_prompt(tmp_path, shape)  # a folder
    save_file({"prompt": torch.zeros(2, 2, 2, 4, 8)}, tmp_path / "long.safetensors")
    with pytest.raises(
        ValueError, match=r"needs a tensor `prompt` of shape \[2, 2, 2, 3, 8\], has \{'prompt': \[2, 2, 2, 4, 8\]\}"
    ):
        read_prompt(tmp_path / "long.safetensors", shape)
    save_file({"weight": torch.zeros(2, 16)}, tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match=r"needs a tensor `prompt` of shape .*, has \{'weight': \[2, 16\]\}"):
        read_prompt(tmp_path / "head.safetensors", shape)


def test_a_file_of_half_precision_becomes_float32(tmp_path: Path) -> None:
    save_file({"prompt": torch.full((3, 16), 0.5, dtype=torch.float16)}, tmp_path / "half.safetensors")
    read = read_prompt(tmp_path / "half.safetensors", (3, 16))
    assert read.dtype == torch.float32
    assert (read == 0.5).all()


@every_row
def test_the_key_of_a_start_is_its_initialiser(setting_of: Callable[..., Setting], kind: str) -> None:
    own, plain = setting_of(kind), setting_of("normal")
    assert (Lineage(own, TASK, 3, 0.1).key(0) == Lineage(plain, TASK, 3, 0.1).key(0)) == (kind == "normal")
