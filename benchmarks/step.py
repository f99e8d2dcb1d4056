"""One training step: the engine with K replicas against the published loop, interleaved in one run."""

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks import causal
from benchmarks.cases import Case, arguments, case_of, staged, trial
from benchmarks.measure import counted_gflop, peak_gflops, timed
from benchmarks.yardstick import Loop, Network, Padded, plain_models
from panda_trainable.config.setting import Precision
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.training import forward as engine
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.lineage import tuned_prompts
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.transfer.teachers import teacher_lineages
from tests.kits.trainers import order_of

STEPS = {"tiny": 8, "mini": 4, "small": 2, "minilm": 2, "base": 1}
"""Shape -> steps of a repeat."""


def compared(case: Case, replicas: int, repeats: int, steps: int, device: str, precision: Precision) -> dict[str, Any]:
    """Both sides of a case.

    Returns:
        Seconds of a step of one trial with one seed (medians of the repeats), ratios, differences, and GFLOP/s.
    """
    with TemporaryDirectory() as folder:
        setting, source, target = staged(case, Path(folder), precision)
        library = PromptLibrary(Path(folder) / "library")
        config = trial(setting, source, target, range(replicas), steps, (1,))
        models = plain_models(setting.plm.source, 2, device)

        def fresh() -> Trainer:
            return open_trainer(library, config)

        def loop(replica: int, trainer: Trainer) -> Loop:
            return published(models, library, config, replica, trainer, device)

        fresh().advance(1)  # tables, teachers and caches are made before the clock runs
        loop(0, fresh()).advance(1)
        costs, peaks = [], []
        for repeat in range(repeats):
            trainer = fresh()
            other = loop(repeat % replicas, trainer)
            there = timed(partial(other.advance, steps), device)
            here = timed(partial(trainer.advance, steps), device)
            costs.append((there, here))
            peaks.append(peak_gflops(device, precision, tries=2))
        gflop = counted_gflop(lambda: alone(fresh())) / replicas
        found = differences(fresh(), [loop(k, fresh()) for k in range(min(replicas, 3))], steps)
    there_cpu, there_wall = (median(getattr(c, of) / steps for c, _ in costs) for of in ("cpu", "wall"))
    here_cpu, here_wall = (median(getattr(c, of) / steps / replicas for _, c in costs) for of in ("cpu", "wall"))
    return {
        "ratio_cpu": there_cpu / here_cpu, "ratio_wall": there_wall / here_wall,
        "ratios_cpu": [there.cpu / here.cpu * replicas for there, here in costs],
        **found,
        "yardstick_seconds": there_cpu, "engine_seconds": here_cpu,
        "yardstick_wall_seconds": there_wall, "engine_wall_seconds": here_wall,
        "useful_gflop": gflop, "useful_gflops_per_second": gflop / here_wall, "peak_gflops_per_second": max(peaks),
    }  # fmt: skip


def published(
    models: list[Any], library: PromptLibrary, config: TrialConfig, replica: int, trainer: Trainer, device: str
) -> Loop:
    """The published loop on the data that one replica of a trainer at step 0 trains on."""
    ((_, lineage),) = teacher_lineages(config)
    (taught,) = tuned_prompts(library, lineage, (config.seeds[replica],))
    networks = [
        Network(model, start, config.setting.plm.pooling)
        for model, start in zip(models, (trainer.prompts()[replica], taught), strict=True)
    ]
    rows = Padded.of(trainer.data.parts[0].table, device)
    return Loop(
        networks[0], rows, order_of(trainer)[:, replica], config.learning_rate, teacher=networks[1],
        weight=config.lambda_effective, precision=config.setting.train.precision,
    )  # fmt: skip


def alone(trainer: Trainer) -> None:
    """One step with every row by itself: what has to be computed, without padding."""
    before, engine.BUCKET_VALUES = engine.BUCKET_VALUES, dict.fromkeys(engine.BUCKET_VALUES, 1)
    trainer.advance(1)
    engine.BUCKET_VALUES = before


def differences(trainer: Trainer, loops: list[Loop], steps: int) -> dict[str, float]:
    """Largest distance of losses over the steps, and of dev logits after them, of the first replicas."""
    losses = []
    for _ in range(steps):
        trainer.advance(1)
        losses.append(trainer.losses())
    loss = logits = 0.0
    dev = trainer.student.logits(trainer.data.parts[0].table, [rows.selection for rows in trainer.data.parts[0].rows])
    for k, other in enumerate(loops):
        other.advance(steps)
        loss = max(loss, *(abs(float(a) - b[k]) for a, b in zip(other.losses, losses, strict=True)))
        said = other.evaluate(trainer.data.parts[0].rows[k].selection.tolist())
        logits = max(logits, float((said - torch.from_numpy(dev[k])).abs().max()))
    return {"max_loss_difference": loss, "max_dev_logit_difference": logits}


def show_causal(asked: argparse.Namespace) -> None:
    """The command for causal models, of which shape, form and pooling are one each."""
    steps, replicas = asked.steps or 2, asked.replicas or 3
    case = replace(case_of(asked), form="input", pooling="mean")
    measure = asked.repeats, steps, asked.device, asked.precision
    found = causal.measured_parts(case, *measure) if asked.parts else causal.compared(case, replicas, *measure)
    if asked.json:
        of_case = {"lengths": case.lengths, "prompt_length": case.prompt_length, "batch_size": case.batch_size}
        print(json.dumps({"kind": asked.kind, **of_case, "replicas": replicas, "steps": steps, **found}))
        return
    k = "" if asked.parts else f"K={replicas}, "
    print(f"Llama 6 x 384, {case.lengths}, P={case.prompt_length}, B={case.batch_size}, {k}{asked.device}")
    print(causal.told_parts(found) if asked.parts else causal.told(found))


def main() -> None:
    """The command."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--kind", choices=("encoder", "causal"), default="encoder",
        help="causal: prompt tuning of a random Llama of 6 x 384 against PEFT (pip install panda-tune[bench])",
    )  # fmt: skip
    parser.add_argument("--parts", action="store_true", help="of a causal model: the engine without each of its parts")
    parser.add_argument("--replicas", type=int, default=None, help="K; default 8, or 3 of a causal model")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=None, help="steps of a repeat; default by shape")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.kind == "causal":
        show_causal(asked)
        return
    steps = asked.steps or STEPS[asked.shape]
    asked.replicas = asked.replicas or 8
    found = compared(case_of(asked), asked.replicas, asked.repeats, steps, asked.device, asked.precision)
    told = {**{k: v for k, v in vars(asked).items() if k != "json"}, "steps": steps, **found}
    if asked.json:
        print(json.dumps(told))
        return
    print(f"{asked.shape}, {asked.lengths}, {asked.form}, {asked.pooling}, K={asked.replicas}, {asked.device}")
    print(f"  published loop {1e3 * found['yardstick_seconds']:8.1f} ms CPU per step of one trial and seed")
    print(f"  engine         {1e3 * found['engine_seconds']:8.1f} ms")
    low, high = min(found["ratios_cpu"]), max(found["ratios_cpu"])
    print(f"  ratio x{found['ratio_cpu']:.1f} ({low:.1f} to {high:.1f}), on the wall x{found['ratio_wall']:.1f}")
    print(
        f"  losses differ by {found['max_loss_difference']:.1e}, dev logits by {found['max_dev_logit_difference']:.1e}"
    )
    share = found["useful_gflops_per_second"] / found["peak_gflops_per_second"]
    print(
        f"  useful {found['useful_gflops_per_second']:.0f} of {found['peak_gflops_per_second']:.0f} GFLOP/s ({share:.0%})"
    )


if __name__ == "__main__":
    main()
