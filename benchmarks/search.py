"""A whole search of one pair by PANDA: the engine with stacked seeds against the published loop, trial by trial in turn.

The yardstick runs each seed of each trial by itself: the source prompt is tuned on the target for the trial's teacher
steps, then the student learns beside it, then the selection rows are scored. The engine does the same search through
the library: one warm-up with snapshots for all trials, logits said once, seeds stacked. Source prompts are there
before, and neither side's start of processes, imports or loading is counted; nor is Ray or Optuna (benchmarks.driver).
By default everything is a sixteenth of 400 steps on RTE's 2,490 rows, a fifth of them held out, scored every 50 steps.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.cases import Case, arguments, case_of, staged, trial
from benchmarks.measure import Cost, counted_gflop, peak_gflops, timed
from benchmarks.step import alone
from benchmarks.yardstick import Loop, Network, Padded, plain_models
from panda_trainable.config.setting import Precision
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.lineage import starting_prompts, tuned_prompts
from panda_trainable.transfer.methods import open_trainer
from panda_trainable.transfer.teachers import source_lineage, teacher_lineages
from tests.kits.trainers import order_of, prompt_trainer


def compared(case: Case, trials: int, replicas: int, steps: int, device: str, precision: Precision) -> dict[str, Any]:
    """Both sides of a search.

    Returns:
        Seconds of the whole search, ratios, the largest differences of any trial, and GFLOP/s.
    """
    with TemporaryDirectory() as folder:
        setting, source, target = staged(case, Path(folder), precision)
        library = PromptLibrary(Path(folder) / "library")
        candidates = tuple(max(1, round(share * steps)) for share in (0.1, 0.25, 0.5))
        base = trial(setting, source, target, range(replicas), steps, candidates)
        tuned_prompts(library, source_lineage(base, 0), base.seeds)
        models = plain_models(setting.plm.source, 2, device)
        plain = replace(base, method="prompt_tuning", sources=(), lambda_=0.0, steps=1)
        warm = open_trainer(library, plain)
        warm.advance(1)
        rows = Padded.of(warm.data.parts[0].table, device)
        here, there, peaks = list[Cost](), list[Cost](), list[float]()
        loss = logit = 0.0
        for config in drawn(base, trials):
            found: dict[str, Any] = {}
            seeds = [begun(library, config, seed) for seed in config.seeds]
            there.append(timed(partial(published, models, seeds, config, rows, found), device))
            here.append(timed(partial(stacked, library, config, found), device))
            loss = max(loss, float(np.abs(np.subtract(found["losses"], found["engine_losses"])).max()))
            apart = zip(found["dev"], found["engine_dev"], strict=True)
            logit = max(logit, *(float((a - torch.from_numpy(b)).abs().max()) for a, b in apart))
            peaks.append(peak_gflops(device, precision, tries=1))
        gflop = counted_gflop(lambda: alone(open_trainer(library, base)))
    ours, theirs = summed(here), summed(there)
    later = summed(here[1:]) if trials > 1 else ours
    return {
        "ratio_cpu": theirs.cpu / ours.cpu, "ratio_wall": theirs.wall / ours.wall,
        "max_loss_difference": loss, "max_dev_logit_difference": logit,
        "yardstick_seconds": theirs.cpu, "engine_seconds": ours.cpu,
        "yardstick_wall_seconds": theirs.wall, "engine_wall_seconds": ours.wall,
        "first_trial_seconds": here[0].cpu, "later_trial_seconds": later.cpu / max(trials - 1, 1),
        "useful_gflops_per_second": gflop * steps * trials / ours.wall, "peak_gflops_per_second": max(peaks),
        "mean_ratio_of_trials": fmean(a.cpu / b.cpu for a, b in zip(there, here, strict=True)),
    }  # fmt: skip


def summed(costs: list[Cost]) -> Cost:
    """What pieces of work cost together."""
    return Cost(sum(cost.cpu for cost in costs), sum(cost.wall for cost in costs))


def drawn(base: TrialConfig, trials: int) -> list[TrialConfig]:
    """Configurations as a search draws them: the published one first, then rates, λ and teacher steps at random."""
    generator = np.random.default_rng(0)
    made = [base]
    while len(made) < trials:
        rate, lambda_ = (float(np.exp(generator.uniform(*np.log(bounds)))) for bounds in ((1e-3, 6e-2), (1e-2, 10)))
        steps = int(generator.choice(base.candidates))
        made.append(replace(base, learning_rate=rate, lambda_=lambda_, teacher_steps=steps))
    return made[:trials]


def stacked(library: PromptLibrary, config: TrialConfig, found: dict[str, Any]) -> None:
    """A trial in the engine."""
    trainer = open_trainer(library, config)
    losses = []
    while trainer.done < config.steps:
        trainer.advance(config.setting.train.eval_every)
        losses.append(trainer.losses())
        found["engine_dev"] = trainer.student.logits(
            trainer.data.parts[0].table, [rows.selection for rows in trainer.data.parts[0].rows]
        )
    found["engine_losses"] = list(zip(*losses, strict=True))


def published(
    models: list[Any], seeds: list[tuple[Trainer, Trainer]], config: TrialConfig, rows: Padded, found: dict[str, Any]
) -> None:
    """A trial in the published loop: a warm-up and a student for each seed, one after the other."""
    found["losses"], found["dev"] = [], []
    setting = config.setting
    for trainers in seeds:
        teacher, student = (
            Network(model, trainer.prompts()[0], setting.plm.pooling)
            for model, trainer in zip(models, trainers, strict=True)
        )
        first, second = (order_of(trainer)[:, 0] for trainer in trainers)
        warm = Loop(teacher, rows, first, config.source_learning_rate, constant=True, precision=setting.train.precision)
        warm.advance(config.teacher_steps)
        loop = Loop(
            student, rows, second, config.learning_rate, teacher=teacher, weight=config.lambda_effective,
            precision=setting.train.precision,
        )  # fmt: skip
        losses, every = [], setting.train.eval_every
        for done in range(0, config.steps, every):
            loop.advance(min(every, config.steps - done))
            losses.append(float(torch.stack(loop.losses[done:]).mean()))
            said = loop.evaluate(trainers[1].data.parts[0].rows[0].selection.tolist())
        found["losses"].append(losses)
        found["dev"].append(said)


def begun(library: PromptLibrary, config: TrialConfig, seed: int) -> tuple[Trainer, Trainer]:
    """Where the teacher's warm-up and the student of a seed start: prompt, head and order of rows."""
    ((_, lineage),) = teacher_lineages(config)
    starts = starting_prompts(library, lineage, (seed,))
    plain = replace(config, method="prompt_tuning", sources=(), lambda_=0.0, seeds=(seed,))
    warm_up = prompt_trainer(
        library, config.setting, config.target, (seed,), starts, steps=config.teacher_steps,
        learning_rate=config.source_learning_rate, schedule="constant",
    )  # fmt: skip
    return warm_up, open_trainer(library, plain)


def main() -> None:
    """The command."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--replicas", type=int, default=3, help="seeds of each trial")
    parser.add_argument("--steps", type=int, default=25, help="of each student")
    parser.add_argument("--eval-every", type=int, default=3, help="steps between evaluations")
    parser.add_argument("--rows", type=int, default=156, help="train rows, selection included")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    case = replace(case_of(asked), rows=asked.rows, eval_every=asked.eval_every)
    found = compared(case, asked.trials, asked.replicas, asked.steps, asked.device, asked.precision)
    if asked.json:
        print(json.dumps({**{k: v for k, v in vars(asked).items() if k != "json"}, **found}))
        return
    print(
        f"{asked.trials} trials of {asked.replicas} seeds and {asked.steps} steps: {asked.shape}, {asked.lengths}, {asked.form}"
    )
    print(f"  published loop {found['yardstick_seconds']:8.1f} s CPU")
    print(
        f"  engine         {found['engine_seconds']:8.1f} s, the first trial {found['first_trial_seconds']:.1f} s with the warm-up"
    )
    print(f"  ratio x{found['ratio_cpu']:.1f}, on the wall x{found['ratio_wall']:.1f}")
    print(
        f"  losses differ by {found['max_loss_difference']:.1e}, dev logits by {found['max_dev_logit_difference']:.1e}"
    )


if __name__ == "__main__":
    main()
