"""Cases: random PLMs in published shapes, texts of real tasks' lengths, and the trial that both sides run."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from panda_trainable.config.setting import Plm, Pooling, Precision, PromptForm, PromptSettings, Setting, TrainSettings
from panda_trainable.config.task import TaskSpec
from panda_trainable.config.trial import Source, TrialConfig
from panda_trainable.data.locate import located
from panda_trainable.pretrained.files import plm_files

SHAPES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {"tiny": (2, 128, 2), "mini": (4, 256, 4), "small": (4, 512, 8), "minilm": (6, 384, 12), "base": (12, 768, 12)}
)
"""Name -> layers, width, heads: BERT-tiny to -base (Turc et al., arXiv:1908.08962) and MiniLM-L6-H384."""

LENGTHS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"rte": (60.0, 0.52), "sst2": (21.0, 0.6), "cola": (10.4, 0.35)}
)
"""Name -> median and log-deviation of the tokens of a text: means of about 68, 25 and 11, as the tasks have them."""

MAX_LENGTH = 128
VOCABULARY = 30522
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@dataclass(frozen=True)
class Case:
    """What is compared.

    Attributes:
        shape: a row of SHAPES.
        lengths: a row of LENGTHS.
        form: `prefix` or `input`.
        pooling: `cls` or `mean`.
        prompt_length: P.
        batch_size: B.
        rows: train rows of each task, selection included.
        eval_every: steps between evaluations.
    """

    shape: str = "tiny"
    lengths: str = "rte"
    form: PromptForm = "prefix"
    pooling: Pooling = "cls"
    prompt_length: int = 20
    batch_size: int = 16
    rows: int = 640
    eval_every: int = 50


def arguments(about: str) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default=Case.shape)
    parser.add_argument("--lengths", choices=LENGTHS, default=Case.lengths)
    parser.add_argument("--form", choices=("prefix", "input"), default=Case.form)
    parser.add_argument("--pooling", choices=("cls", "mean"), default=Case.pooling)
    parser.add_argument("--prompt-length", type=int, default=Case.prompt_length)
    parser.add_argument("--batch-size", type=int, default=Case.batch_size)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="of both sides")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def case_of(asked: argparse.Namespace) -> Case:
    """The case that a command line names."""
    return Case(asked.shape, asked.lengths, asked.form, asked.pooling, asked.prompt_length, asked.batch_size)


def staged(case: Case, folder: Path, precision: Precision = "float32") -> tuple[Setting, TaskSpec, TaskSpec]:
    """The setting, the source and the target of a case, their files in a folder."""
    plm = saved_plm(case.shape, folder / "plm")
    tasks = [written_task(name, case, folder / "data", seed) for seed, name in enumerate(("source", "target"))]
    setting = Setting(Plm(str(plm), plm_files(plm), pooling=case.pooling), prompt=PromptSettings(form=case.form, length=case.prompt_length), train=TrainSettings(batch_size=case.batch_size, max_length=MAX_LENGTH, eval_every=case.eval_every, precision=precision))  # fmt: skip
    return setting, tasks[0], tasks[1]


def trial(
    setting: Setting, source: TaskSpec, target: TaskSpec, seeds: Sequence[int], steps: int, candidates: Sequence[int]
) -> TrialConfig:
    """A PANDA trial at the published setting: λ = 0.1, the first candidate of teacher steps."""
    return TrialConfig(
        setting, target, "panda", tuple(seeds), steps, 1e-2, (Source(source, 1.0),), source_steps=1,
        source_learning_rate=1e-2, lambda_=0.1, teacher_steps=candidates[0], candidates=tuple(candidates),
    )  # fmt: skip


def saved_plm(shape: str, folder: Path) -> Path:
    """A random BERT of a shape with a tokenizer of whole words, as files; those that are there stay."""
    if (folder / "config.json").exists():
        return folder
    layers, width, heads = SHAPES[shape]
    saved_tokenizer(folder, VOCABULARY, bounded=True)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def saved_tokenizer(folder: Path, vocabulary: int, words: Sequence[str] = (), *, bounded: bool = False) -> None:
    """A tokenizer of whole words as files.

    Args:
        folder: where.
        vocabulary: tokens that it knows.
        words: that it knows beside `w0`, `w1`, …
        bounded: whether texts begin with [CLS] and end with [SEP].
    """
    known = [*SPECIAL, *words]
    known += [f"w{i}" for i in range(vocabulary - len(known))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if bounded:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def written_task(name: str, case: Case, data: Path, seed: int) -> TaskSpec:
    """A task of random words, its class half told by the words, with a case's lengths."""
    generator = np.random.default_rng(seed)
    median, deviation = LENGTHS[case.lengths]
    (data / name).mkdir(parents=True, exist_ok=True)
    for split, count in (("train", case.rows), ("validation", 64)):
        with (data / name / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for i in range(count):
                tokens = int(np.clip(np.rint(median * np.exp(deviation * generator.normal())), 4, MAX_LENGTH))
                numbers = generator.integers(i % 2 * 9000, 20000, tokens - 2)
                file.write(json.dumps({"text": " ".join(f"w{n}" for n in numbers), "label": i % 2}) + "\n")
    return located(TaskSpec(name, "classification", ("text",), "label", ("no", "yes"), ("accuracy",)), data)
