"""One step of prompt tuning on a causal model: the engine with K replicas against two loops with PEFT, interleaved in one run."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.cases import MAX_LENGTH, Case, saved_tokenizer, written_task
from benchmarks.measure import timed
from benchmarks.peft_loop import CAREFUL, PLAIN, PeftLoop, rows_of
from panda_trainable.config.setting import InitSettings, Plm, Precision, PromptSettings, Setting, TrainSettings
from panda_trainable.config.trial import TrialConfig
from panda_trainable.config.wording import Wording
from panda_trainable.library import PromptLibrary
from panda_trainable.pretrained.files import plm_files
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.methods import open_trainer
from tests.kits.trainers import order_of

VOCABULARY = 49152
"""SmolLM's."""

ONE_TOKEN = Wording("{text} It was {answer}", (("terrible",), ("great",)))
SEVERAL_TOKENS = Wording("{text} It was {answer}", (("terrible to see",), ("great and very good",)))
ASKING = ("It", "was", "terrible", "great", "to", "see", "and", "very", "good")
RATE = 1e-2


PARTS: Mapping[str, tuple[Wording, tuple[str, ...], int]] = MappingProxyType(
    {
        "all": (ONE_TOKEN, (), 3),
        "prompt computed for each row": (ONE_TOKEN, ("can_prefill",), 3),
        "last layer of all tokens": (ONE_TOKEN, ("shortens",), 3),
        "neither": (ONE_TOKEN, ("can_prefill", "shortens"), 3),
        "one seed at a time": (ONE_TOKEN, (), 1),
        "words of three and four tokens": (SEVERAL_TOKENS, (), 3),
        "and a row for each word": (SEVERAL_TOKENS, ("can_fork",), 3),
    }
)
"""What is measured of the engine -> label words, what the language model then lacks, and K."""


def staged_causal(
    case: Case, folder: Path, steps: int, replicas: int, precision: Precision, wording: Wording = ONE_TOKEN
) -> TrialConfig:
    """A trial of prompt tuning that a random Llama answers in words, its files in a folder."""
    plm = saved_llama(folder / "plm")
    setting = Setting(
        Plm(str(plm), plm_files(plm), kind="causal_lm", pooling="answer"),
        prompt=PromptSettings(form="input", length=case.prompt_length, init=InitSettings("vocabulary")),
        train=TrainSettings(batch_size=case.batch_size, max_length=MAX_LENGTH, precision=precision),
    )
    task = replace(written_task("asked", case, folder / "data", 1), wording=wording)
    return TrialConfig(setting, task.on(setting.plm), "prompt_tuning", tuple(range(replicas)), steps, RATE)


def saved_llama(folder: Path) -> Path:
    """A random Llama of 6 layers and width 384 with a tokenizer of whole words, as files; those that are there stay."""
    if (folder / "config.json").exists():
        return folder
    saved_tokenizer(folder, VOCABULARY, ASKING)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
        num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=512, pad_token_id=0, bos_token_id=2,
        eos_token_id=3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def compared(case: Case, replicas: int, repeats: int, steps: int, device: str, precision: Precision) -> dict[str, Any]:
    """Both loops and the engine.

    Returns:
        Seconds of a step of one seed (medians of the repeats), ratios to both loops, and differences of losses: those of
        the careful loop are no errors, since PEFT counts its padding as positions.
    """
    with TemporaryDirectory() as folder:
        config = staged_causal(case, Path(folder), steps, replicas, precision)
        library = PromptLibrary(Path(folder) / "library")
        models: list[Any] = [LlamaForCausalLM.from_pretrained(config.setting.plm.source) for _ in range(2)]
        models = [model.to(device) for model in models]

        def fresh() -> Trainer:
            return open_trainer(library, config)

        def loops(replica: int, trainer: Trainer) -> list[PeftLoop]:
            rows, words = rows_of(trainer)
            start, order = trainer.prompts()[replica].prompt, order_of(trainer)[:, replica]
            return [
                PeftLoop(model, start, rows, words, order, RATE, batch, precision)
                for model, batch in zip(models, (PLAIN, CAREFUL), strict=True)
            ]

        fresh().advance(1)  # tables are made before the clock runs
        for loop in loops(0, fresh()):
            loop.advance(1)
        costs = []
        for repeat in range(repeats):
            trainer = fresh()
            works = [partial(loop.advance, steps) for loop in loops(repeat % replicas, trainer)]
            costs.append([timed(work, device) for work in (*works, partial(trainer.advance, steps))])
        found = differences(fresh(), [loops(k, fresh()) for k in range(min(replicas, 3))], steps)
    cpu = [[cost.cpu / steps / share for cost, share in zip(each, (1, 1, replicas), strict=True)] for each in costs]
    wall = [[cost.wall / steps / share for cost, share in zip(each, (1, 1, replicas), strict=True)] for each in costs]
    plain, careful, engine = (median(side) for side in zip(*cpu, strict=True))
    walls = [median(side) for side in zip(*wall, strict=True)]
    return {
        "ratio_cpu": plain / engine, "ratios_cpu": [each[0] / each[2] for each in cpu],
        "careful_ratio_cpu": careful / engine, "careful_ratios_cpu": [each[1] / each[2] for each in cpu],
        "ratio_wall": walls[0] / walls[2], "careful_ratio_wall": walls[1] / walls[2],
        "yardstick_seconds": plain, "careful_seconds": careful, "engine_seconds": engine, **found,
    }  # fmt: skip


def measured_parts(case: Case, repeats: int, steps: int, device: str, precision: Precision) -> dict[str, list[float]]:
    """Part -> [repeats] CPU seconds of the engine's step of one seed, all parts interleaved in one run."""
    costs: dict[str, list[float]] = {name: [] for name in PARTS}
    with TemporaryDirectory() as folder:
        library = PromptLibrary(Path(folder) / "library")
        for repeat in range(-1, repeats):  # the first makes tables, and is not counted
            for name, (wording, lacking, replicas) in PARTS.items():
                trainer = open_trainer(library, staged_causal(case, Path(folder), steps, replicas, precision, wording))
                plm = trainer.student.encoder
                kept = {each: getattr(plm, each) for each in lacking}
                for each in lacking:
                    setattr(plm, each, False)
                cost = timed(partial(trainer.advance, steps), device).cpu / steps / replicas
                for each, value in kept.items():
                    setattr(plm, each, value)
                if repeat >= 0:
                    costs[name].append(cost)
    return costs


def told_parts(costs: dict[str, list[float]]) -> str:
    """What parts cost, in lines."""
    lines = []
    for name, each in costs.items():
        ratios = [a / b for a, b in zip(each, costs["all"], strict=True)]
        shown = f"x{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"  {name:32} {1e3 * median(each):8.1f} ms CPU per step and seed: {shown}")
    return "\n".join(lines)


def differences(trainer: Trainer, loops: list[list[PeftLoop]], steps: int) -> dict[str, float]:
    """Largest distance of the losses of the first replicas over the steps, from either loop."""
    ours = []
    for _ in range(steps):
        trainer.advance(1)
        ours.append(trainer.losses())
    largest = [0.0, 0.0]
    for k, pair in enumerate(loops):
        for side, loop in enumerate(pair):
            loop.advance(steps)
            largest[side] = max(largest[side], *(abs(a - b[k]) for a, b in zip(loop.losses, ours, strict=True)))
    return {"max_loss_difference": largest[0], "careful_loss_difference": largest[1]}


def told(found: dict[str, Any]) -> str:
    """What was found, in lines."""
    lines = []
    for name, seconds, of in (("plain PEFT loop", "yardstick", ""), ("careful PEFT loop", "careful", "careful_")):
        low, high = min(found[f"{of}ratios_cpu"]), max(found[f"{of}ratios_cpu"])
        lines.append(
            f"  {name:17} {1e3 * found[f'{seconds}_seconds']:8.1f} ms CPU per step and seed: engine "
            f"x{found[f'{of}ratio_cpu']:.2f} ({low:.2f} to {high:.2f}), on the wall x{found[f'{of}ratio_wall']:.2f}"
        )
    lines.append(f"  engine            {1e3 * found['engine_seconds']:8.1f} ms")
    lines.append(
        f"  losses differ by {found['max_loss_difference']:.1e}; from the careful loop's, whose positions are others, "
        f"by {found['careful_loss_difference']:.1e}"
    )
    return "\n".join(lines)
