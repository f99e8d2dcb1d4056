"""What a search would do: studies, trials, artefacts to make and to reuse, steps, and hours from a measured step."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.wording import counted
from panda_trainable.config.methods import TRAITS
from panda_trainable.library import PromptLibrary
from panda_trainable.worker import single_threaded
from tuning.engine.journal import Journal
from tuning.experiment.experiment import Experiment
from tuning.planning.bases import steps_of, study_base
from tuning.planning.jobs import Job, score_jobs, source_jobs, target_jobs
from tuning.planning.overlap import shared_texts
from tuning.planning.partners import study_path
from tuning.planning.plan import Plan
from tuning.planning.preflight import preflight
from tuning.planning.studies import make_studies
from tuning.run.confirm import jobs_of
from tuning.run.estimate import budget, measured, seconds
from tuning.run.jobs import is_made, is_scored, measure
from tuning.run.progress import CHECKING, Progress, duration


def describe(experiment: Experiment) -> str:
    """The plan in words.

    Steps are upper bounds: ASHA stops trials early. The time is that of everything still to do, on this machine.
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
    to_score = [job for job in score_jobs(plan) if not is_scored(library, job)]
    measurable = len(made) == len(jobs) and not to_score
    there = _trials_there(plan, library) if measurable else _trials_of_before(plan)
    budgets = {pair: budget(plan, pair) for pair in plan.pairs}
    repeats = experiment.search.repeats
    trials = repeats * sum(budgets.values())
    made_there = [job for job in others if is_made(library, job)]
    to_go = [job for job in (*jobs, *others) if job not in (*made, *made_there)]
    prompts = sum(job.lineage.steps for job in to_go)
    confirmed = repeats * sum(min(experiment.confirm.top, most) for most in budgets.values())
    costs = {name: measured(plan, library, name) for name in experiment.targets}
    to_run = {pair: round(repeats * most * (1 - there / max(trials, there, 1))) for pair, most in budgets.items()}
    sources = sum(job.lineage.steps for job in (*source_jobs(plan), *others))
    expected = seconds(plan, costs, to_run, prompts, sources, [job.target.task.name for job in to_score])
    shared = [f"{source} and {target} share {n} texts" for (source, target), n in shared_texts(library, plan).items()]
    lines = [
        f"{experiment.name}: {counted(repeats * len(plan.pairs), 'study')} = {counted(len(experiment.targets), 'target')} × methods and sources{_repeated(repeats)}, on {plan.setting.plm.label}",
        *(f"  {pair.name}" for pair in plan.pairs),
        (
            f"prompts: {len(jobs)} runs (sources and embeddings) and {len(others)} of other PLMs, {len(made) + len(made_there)} reused, "
            f"{prompts} steps to go, {len(experiment.train.seeds)} seeds stacked"
        ),
        *([f"scores: {len(to_score)} of {len(score_jobs(plan))} pairs to go"] if score_jobs(plan) else []),
        f"search: {trials} trials of {max(steps_of(experiment, pair.method) for pair in plan.pairs)} steps at most, {there} there already",
        f"confirm: {confirmed} configurations at most, with {len(experiment.confirm.seeds)} fresh seeds, and the twins of the winners",
        *(f"note: {note}" for note in (*notes, *shared)),
        "measured: "
        + ", ".join(
            f"{name} {cost.step:.2f} s a step and {cost.evaluation:.2f} s a scoring" for name, cost in costs.items()
        ),
        f"time: about {duration(expected)} (h:mm:ss) on this machine, less where trials stop early",
    ]
    return "\n".join(lines)


def _repeated(repeats: int) -> str:
    return f" × {repeats} searches" if repeats > 1 else ""


def _on_other_plms(plan: Plan) -> list[Job]:
    """What methods need of the larger PLM, and of that whose prompts are projected: the same for all sources of a target."""
    plain = {(t.another, t.moves): name for name, t in TRAITS.items() if t.another and t.sources == "none"}
    needed = ((pair, TRAITS[pair.method]) for pair in plan.pairs)
    pairs = dict.fromkeys(
        replace(pair, source=None, method=plain[t.another, t.moves]) for pair, t in needed if t.another
    )
    own = plan.setting.plm
    return [job for job in jobs_of([study_base(plan, pair, ())[0] for pair in pairs]) if job.lineage.setting.plm != own]


def _trials_of_before(plan: Plan) -> int:
    """Trials in journals of the search, where it cannot be said yet which studies there will be."""
    journals = sorted((plan.experiment.search_path / "studies").glob("*.journal"))
    return _counted([(path.stem, path) for path in journals])


def _trials_there(plan: Plan, library: PromptLibrary) -> int:
    studies, _ = make_studies(plan, measure(library, plan), shared_texts(library, plan))
    journals = [(study.key, study_path(plan.experiment, study, "journal")) for study in studies]
    return _counted([(key, path) for key, path in journals if path.exists()])


def _counted(journals: Sequence[tuple[str, Path]]) -> int:
    with tempfile.TemporaryDirectory() as folder:  # a copy: only who holds the driver's lock may mend a journal
        copies = [(key, Path(shutil.copy(path, folder))) for key, path in journals]
        return sum(len(Journal(key, path).trials) for key, path in copies)
