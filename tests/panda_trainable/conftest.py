"""What the tests of one trial share: prompts, sessions, trials, and a small learnable task of each kind."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from panda_trainable.config.methods import KD_KINDS, TRAITS
from panda_trainable.config.setting import Plm, Setting
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import Projection, Source, TrialConfig, Tutor
from panda_trainable.data.rows import located
from panda_trainable.library import PromptLibrary
from panda_trainable.plm.files import plm_files
from panda_trainable.training.session import Session
from panda_trainable.worker import load_encoder
from tests.conftest import WORDS, rows_of, write_task

SPECS = {
    "classification": TaskSpec("", "classification", ("a",), "label", ("no", "yes"), ("accuracy",)),
    "regression": TaskSpec("", "regression", ("a",), "label", (), ("pearson",)),
    "multiple_choice": TaskSpec(
        "", "multiple_choice", ("a",), "label", (), ("accuracy",), choices=("c0", "c1", "c2")
    ),
    "tagging": TaskSpec("", "tagging", ("words",), "tags", ("O", "B-X", "I-X", "B-Y"), ("entity_f1", "word_accuracy")),
    "extractive_qa": TaskSpec(
        "", "extractive_qa", ("question", "passage"), "answers", (), ("answer_f1", "exact_match")
    ),
}  # fmt: skip
"""Kind -> a task of a few rows, which `kind_rows` makes."""


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Two threads in one process are slower than one, and their sums differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_prompt(shape: Sequence[int], seed: int) -> torch.Tensor:
    """A prompt from N(0, 0.02), as `init: normal` draws it."""
    return torch.empty(tuple(shape)).normal_(0, 0.02, generator=torch.Generator().manual_seed(seed))


def random_starts(setting: Setting, seeds: Sequence[int]) -> torch.Tensor:
    """[K, L, 2, heads, P, d] or [K, P, E] the random prompts of the seeds."""
    shape = load_encoder(setting.plm).prompt_shape(setting.prompt_length, setting.prompt_form)
    return torch.stack([random_prompt(shape, seed) for seed in seeds])


def loss_curve(session: Session, steps: int) -> torch.Tensor:
    """[steps, K] the loss of every step from here."""
    curve = []
    for _ in range(steps):
        session.advance(1)
        curve.append(session.losses())
    return torch.tensor(curve, dtype=torch.float64)


def kind_rows(kind: str, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Learnable rows of a kind: single words decide class, value, choice, tags and answer."""
    if kind in ("classification", "regression"):
        return rows_of(n, seed=seed, kind=kind)
    generator = np.random.default_rng(seed)
    return [_ROW[kind](generator, i) for i in range(n)]


def _words(generator: np.random.Generator, first: int, last: int, most: int) -> list[str]:
    return [str(word) for word in generator.choice(WORDS[first:last], int(generator.integers(1, most + 1)))]


def _choice_row(generator: np.random.Generator, i: int) -> dict[str, Any]:
    """The right choice has words of the first eight, the wrong ones of the next."""
    label = i % 3
    choices = [_words(generator, *((0, 8) if choice == label else (8, 16)), 3) for choice in range(3)]
    texts = {f"c{number}": " ".join([*words, *_words(generator, 24, 40, 2)]) for number, words in enumerate(choices)}
    return {"a": f"x{i} {WORDS[24 + i % 16]}", **texts, "label": label}


def _tag_row(generator: np.random.Generator, i: int) -> dict[str, Any]:
    """`w0` to `w7` begin an X, `w8` to `w15` go on with it, `w16` to `w23` are a Y."""
    words, tags = [f"x{i}"], ["O"]
    for _ in range(int(generator.integers(1, 4))):
        words += _words(generator, 24, 40, 2)
        tags += ["O"] * (len(words) - len(tags))
        if generator.random() < 0.5:
            words += [WORDS[int(generator.integers(8))], WORDS[8 + int(generator.integers(8))]]
            tags += ["B-X", "I-X"]
        else:
            words += [WORDS[16 + int(generator.integers(8))]]
            tags += ["B-Y"]
    return {"words": words, "tags": tags}


def _answer_row(generator: np.random.Generator, i: int) -> dict[str, Any]:
    """The answer is the one word of the first eight, or two of them."""
    before, after = (" ".join(_words(generator, 24, 40, 4)) for _ in range(2))
    answer = " ".join(_words(generator, 0, 8, 2))
    passage = f"x{i} {before} {answer} {after}"
    found = {"text": [answer], "answer_start": [len(f"x{i} {before} ")]}
    return {"question": f"w20 y{i}", "passage": passage, "answers": found}


_ROW = {"multiple_choice": _choice_row, "tagging": _tag_row, "extractive_qa": _answer_row}


@pytest.fixture
def kind_task(tmp_path: Path) -> Callable[..., TaskSpec]:
    """Makes located tasks of a kind: kind_task("tagging", name="t", n=60, seed=0)."""

    def make(kind: str, name: str = "k", n: int = 60, seed: int = 0, **changes: Any) -> TaskSpec:
        folder = tmp_path / "kinds"
        write_task(folder / name, kind_rows(kind, n, seed), kind_rows(kind, 24, seed + 99))
        return located(replace(SPECS[kind], name=name, **changes), folder)

    return make


def own_task(
    folder: Path, spec: TaskSpec, train: Sequence[dict[str, Any]], validation: Sequence[dict[str, Any]] = ()
) -> TaskSpec:
    """A located task of these rows; validation is train where it is not given."""
    write_task(folder / spec.name, list(train), list(validation or train))
    return located(spec, folder)


def trained(session: Session) -> dict[str, torch.Tensor]:
    """The trainables as they are now."""
    return {name: tensor.detach().clone() for name, tensor in session.trainables.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of named tensors are one, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def opened(library: PromptLibrary, setting: Setting) -> Callable[..., Session]:
    """Opens plain sessions: opened(task, seeds=(0,), steps=10, setting=...)."""

    def make(task: TaskSpec, seeds: Sequence[int] = (0,), steps: int = 10, **changes: Any) -> Session:
        own = changes.pop("setting", setting)
        values = {"learning_rate": 0.02, "start": random_starts(own, seeds), **changes}
        return Session(library, own, task, seeds, values.pop("start"), steps=steps, **values)

    return make


def save_wide_plm(folder: Path, parted: bool = False) -> Plm:
    """A random BERT, wider and deeper than the others, that gives all words other numbers.

    Args:
        folder: where its files go.
        parted: whether its tokenizer takes words apart: `w12` is three tokens.
    """
    config = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3}
    torch.manual_seed(1)
    model = BertModel(BertConfig(**config, intermediate_size=32, max_position_embeddings=64), add_pooling_layer=False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    pieces = [*"wxy", *"0123456789"] if parted else WORDS[::-1]
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *pieces, "[SEP]", "[CLS]"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words = pre_tokenizers.Whitespace()
    letters = pre_tokenizers.Sequence([words, pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.pre_tokenizer = letters if parted else words
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    ).save_pretrained(folder)
    return Plm(str(folder), plm_files(folder))


@pytest.fixture(scope="session")
def wide_plm(tmp_path_factory: pytest.TempPathFactory) -> Plm:
    """Another PLM: 24 wide, three layers, and other numbers for all words."""
    return save_wide_plm(tmp_path_factory.mktemp("wide"))


@pytest.fixture(scope="session")
def parting_plm(tmp_path_factory: pytest.TempPathFactory) -> Plm:
    """The same with a tokenizer that takes words apart."""
    return save_wide_plm(tmp_path_factory.mktemp("parting"), parted=True)


@pytest.fixture
def trial(setting: Setting, task: Callable[..., TaskSpec], wide_plm: Plm) -> Callable[..., TrialConfig]:
    """Makes short trials of a method on the task `t`: trial("panda", sources=2, lambda_=0.5)."""

    def make(method: str = "prompt_tuning", sources: int = 1, **changes: Any) -> TrialConfig:
        traits = TRAITS[method]
        steps, rate = (0, 0.0) if traits.trains == "nothing" else (8, 0.02)
        target = changes.pop("target") if "target" in changes else task("t")
        values: dict[str, Any] = {"seeds": (0, 1), "steps": steps, "learning_rate": rate}
        if traits.sources != "none":
            values["sources"] = tuple(Source(task(f"s{i}", seed=i + 1), 0.5 / (i + 1)) for i in range(sources))
        if traits.sources != "none" or traits.another == "source_plm":
            values |= {"source_steps": 6, "source_learning_rate": 0.02}
        if "lambda" in traits.knobs:
            values["lambda_"] = 1.0
        if "teacher_steps" in traits.knobs:
            values |= {"teacher_steps": 4, "candidates": (2, 4)}
        if traits.another == "teacher_plm":
            relations = {name: target.kind in KD_KINDS[name] for name in ("inter_class", "inter_instance")}
            values |= {name: 0.5 * fits for name, fits in relations.items()}
            values["tutor"] = Tutor(wide_plm, steps=6, learning_rate=0.02)
        if traits.another == "source_plm":
            values["projection"] = Projection(wide_plm, (task("p0", seed=11), task("p1", seed=12)), steps=5)
        return TrialConfig(changes.pop("setting", setting), target, method, **(values | changes))

    return make
