"""What a search would do: studies, trials, artefacts to make and to reuse, steps, and hours from a measured step."""

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from panda_trainable.config.methods import BASELINE, TRAITS
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.worker import single_threaded
from tuning.engine.journal import Journal
from tuning.experiment.experiment import Experiment, sources_of
from tuning.planning.bases import steps_of, study_base
from tuning.planning.jobs import Job, source_jobs, target_jobs
from tuning.planning.overlap import shared_texts
from tuning.planning.partners import study_path
from tuning.planning.plan import Pair, Plan
from tuning.planning.preflight import preflight
from tuning.planning.studies import budget_of, make_studies
from tuning.run.confirm import jobs_of
from tuning.run.jobs import is_made, measure
from tuning.run.progress import CHECKING, Progress, duration

MEASURED_STEPS = 2


def describe(experiment: Experiment) -> str:
    """The plan in words.

    Steps are upper bounds: ASHA stops trials early. Hours are those of steps alone, on this machine
    with its cores; evaluation comes on top.
    """
    single_threaded()
    library = PromptLibrary(experiment.storage_path / "library")
    with Progress() as progress:
        progress.doing(CHECKING)
        plans, notes = preflight(experiment, library)
        progress.doing("measuring steps")
        return "\n\n".join(_described(plan, library, notes) for plan in plans)


def _described(plan: Plan, library: PromptLibrary, notes: list[str]) -> str:
    """The plan of one PLM."""
    experiment = plan.experiment
    jobs = [*source_jobs(plan), *target_jobs(plan)]
    others = _on_other_plms(plan)
    made = [job for job in jobs if is_made(library, job)]
    there = _trials_there(plan, library) if len(made) == len(jobs) else 0
    budgets = {pair: _budget(plan, pair) for pair in plan.pairs}
    trials = sum(budgets.values())
    made_there = [job for job in others if is_made(library, job)]
    to_go = [job for job in (*jobs, *others) if job not in (*made, *made_there)]
    prompts = sum(job.lineage.steps for job in to_go)
    confirmed = sum(min(experiment.confirm.top, budget) for budget in budgets.values())
    per_step = {name: _seconds_per_step(plan, library, name) for name in experiment.targets}
    seconds = _seconds(plan, per_step, prompts)
    shared = [f"{source} and {target} share {n} texts" for (source, target), n in shared_texts(library, plan).items()]
    lines = [
        f"{experiment.name}: {len(plan.pairs)} studies = {len(experiment.targets)} targets × methods and sources, on {plan.setting.plm.label}",
        *(f"  {pair.name}" for pair in plan.pairs),
        (
            f"prompts: {len(jobs)} runs (sources and embeddings) and {len(others)} of other PLMs, {len(made) + len(made_there)} reused, "
            f"{prompts} steps to go, {len(experiment.train.seeds)} seeds stacked"
        ),
        f"search: {trials} trials of {max(steps_of(experiment, pair.method) for pair in plan.pairs)} steps at most, {there} there already",
        f"confirm: {confirmed} configurations at most, with {len(experiment.confirm.seeds)} fresh seeds, and the twins of the winners",
        *(f"note: {note}" for note in (*notes, *shared)),
        "seconds per step of prompt tuning, measured: "
        + ", ".join(f"{name} {value:.2f}" for name, value in per_step.items()),
        f"steps alone take about {duration(seconds / _cores())} (h:mm:ss) on {_cores()} cores, evaluation on top",
    ]
    return "\n".join(lines)


def _on_other_plms(plan: Plan) -> list[Job]:
    """What methods need of the larger PLM, and of that whose prompts are projected: the same for all sources of a target."""
    plain = {traits.another: name for name, traits in TRAITS.items() if traits.another and traits.sources == "none"}
    needed = ((pair, TRAITS[pair.method].another) for pair in plan.pairs)
    pairs = dict.fromkeys(replace(pair, source=None, method=plain[key]) for pair, key in needed if key)
    own = plan.setting.plm
    return [job for job in jobs_of([study_base(plan, pair, ())[0] for pair in pairs]) if job.lineage.setting.plm != own]


def _budget(plan: Plan, pair: Pair) -> int:
    """Trials of a pair's study at most: with all sources as partners, of which some may not be similar enough."""
    partners = max(len(sources_of(plan.experiment, pair.target)) - 1, 0) if pair.source else 0
    space = plan.experiment.method_space(pair.method).resolved(steps_of(plan.experiment, pair.method), partners)
    return budget_of(plan, space)


def _trials_there(plan: Plan, library: PromptLibrary) -> int:
    studies, _ = make_studies(plan, measure(library, plan), shared_texts(library, plan))
    journals = [(study.key, study_path(plan.experiment, study, "journal")) for study in studies]
    with tempfile.TemporaryDirectory() as folder:  # a copy: only who holds the driver's lock may mend a journal
        copies = [(key, Path(shutil.copy(path, folder))) for key, path in journals if path.exists()]
        return sum(len(Journal(key, path).trials) for key, path in copies)


def _seconds_per_step(plan: Plan, library: PromptLibrary, name: str) -> float:
    """CPU seconds of a step with all search seeds, measured on the task itself."""
    from panda_trainable.transfer.methods import open_trainer

    pair = next(pair for pair in plan.pairs if pair.target == name and pair.method == BASELINE)
    base: TrialConfig = study_base(plan, pair, ())[0]
    trainer = open_trainer(library, base)
    trainer.advance(1)
    began = time.process_time()
    trainer.advance(MEASURED_STEPS)
    return (time.process_time() - began) / MEASURED_STEPS


def _seconds(plan: Plan, per_step: Mapping[str, float], prompt_steps: int) -> float:
    experiment = plan.experiment
    fresh = len(experiment.confirm.seeds) / len(experiment.train.seeds)
    budgets = {pair: _budget(plan, pair) for pair in plan.pairs}
    runs = {pair: budget + min(experiment.confirm.top, budget) * fresh for pair, budget in budgets.items()}
    students = sum(per_step[pair.target] * steps_of(experiment, pair.method) * runs[pair] for pair in plan.pairs)
    return students + prompt_steps * sum(per_step.values()) / len(per_step)


def _cores() -> int:
    return os.cpu_count() or 1
