"""How long a search takes: processor seconds of everything that is still to be trained, from steps measured here."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from panda_trainable.config.methods import BASELINE, TRAITS
from panda_trainable.library import PromptLibrary
from search_spaces.space import Choice
from tuning.experiment.experiment import sources_of
from tuning.planning.bases import steps_of, study_base
from tuning.planning.plan import Pair, Plan
from tuning.planning.studies import budget_of

MEASURED_STEPS = 4
STARTING_S = 20.0
"""Seconds until Ray and its workers are there and PLMs are loaded, as measured on two cores."""
PER_TRIAL_S = 0.25
"""Processor seconds of a trial beside its training: Ray, Optuna and MLflow; docs/performance.md."""


@dataclass(frozen=True)
class Cost:
    """Processor seconds on a target, of all search seeds together.

    Attributes:
        step: of one training step.
        evaluation: of scoring the selection rows once.
    """

    step: float
    evaluation: float


def measured(plan: Plan, library: PromptLibrary, target: str) -> Cost:
    """The cost of prompt tuning on a target, measured on its rows."""
    from panda_trainable.transfer.methods import open_trainer

    pair = next(pair for pair in plan.pairs if pair.target == target and pair.method == BASELINE)
    trainer = open_trainer(library, study_base(plan, pair, ())[0])
    trainer.advance(1)
    began = time.process_time()
    trainer.advance(MEASURED_STEPS)
    trained = time.process_time()
    trainer.select()
    return Cost((trained - began) / MEASURED_STEPS, time.process_time() - trained)


def seconds(
    plan: Plan, costs: Mapping[str, Cost], budgets: Mapping[Pair, int], prompt_steps: int, source_steps: int,
    scored: Sequence[str] = (),
) -> float:  # fmt: skip
    """Seconds on the cores of this machine until all is confirmed; trials that stop early make it less.

    Args:
        plan: of one PLM.
        costs: of each target.
        budgets: trials that each pair still has to run, in all repeats of its search together.
        prompt_steps: of prompts to be trained for the search seeds.
        source_steps: of all source prompts, which confirm seeds need of their own.
        scored: targets whose train rows are still to be scored, one for each pair: about as many rows as select.
    """
    experiment = plan.experiment
    fresh = len(experiment.confirm.seeds) / len(experiment.train.seeds)
    mean_step = sum(cost.step for cost in costs.values()) / len(costs)
    total = (prompt_steps + fresh * source_steps) * mean_step + sum(costs[name].evaluation for name in scored)
    for pair, trials in budgets.items():
        cost, steps = costs[pair.target], steps_of(experiment, pair.method)
        evaluations = max(steps // experiment.train.eval_every, 1)
        run = steps * cost.step + evaluations * cost.evaluation
        # Report rows are scored once for each confirmed configuration, and once more for a winner's twin.
        own = min(experiment.confirm.top, max(trials, 1)) + bool(TRAITS[pair.method].twin)
        confirmed = experiment.search.repeats * own
        total += trials * (run + PER_TRIAL_S) + confirmed * fresh * (steps * cost.step + 2 * cost.evaluation)
        total += (1 + fresh) * _teacher_steps(plan, pair) * cost.step
    return STARTING_S + total / _cores()


def seconds_from_nothing(plan: Plan, costs: Mapping[str, Cost]) -> float:
    """Seconds of a search of which nothing is there yet; sources need not be located, only named."""
    experiment = plan.experiment
    sources = len(experiment.sources) * experiment.source_train.steps
    targets = len(experiment.targets) * experiment.source_train.early_step if experiment.sources else 0
    budgets = {pair: experiment.search.repeats * budget(plan, pair) for pair in plan.pairs}
    return seconds(plan, costs, budgets, sources + targets, sources)


def budget(plan: Plan, pair: Pair) -> int:
    """Trials of a pair's study at most: with all sources as partners, of which some may not be similar enough."""
    partners = max(len(sources_of(plan.experiment, pair.target)) - 1, 0) if pair.source else 0
    space = plan.experiment.method_space(pair.method).resolved(steps_of(plan.experiment, pair.method), partners)
    return budget_of(plan, space)


def _teacher_steps(plan: Plan, pair: Pair) -> int:
    """Steps for which a pair's teacher is tuned on the target: the longest candidate."""
    space = plan.experiment.method_space(pair.method).resolved(steps_of(plan.experiment, pair.method), 0)
    domain = space.domain("teacher_steps")
    return int(max(domain.values)) if isinstance(domain, Choice) and domain.values else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
