"""One pinned configuration, trained here and now, without Ray, and written as a winner's folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis.statistics.gains import spread
from panda_trainable.config.methods import BASELINE, SOURCELESS, TRAITS
from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from search_spaces.space import Choice
from tuning.experiment.experiment import Experiment
from tuning.experiment.problems import Misuse, Problem
from tuning.experiment.storage import library_of
from tuning.planning.jobs import source_jobs, target_jobs
from tuning.planning.overlap import shared_texts
from tuning.planning.plan import Plan, Study
from tuning.planning.preflight import preflight
from tuning.planning.studies import make_studies
from tuning.run.jobs import make, measure
from tuning.run.progress import CHECKING, Progress

PARTS = 100
"""Times that progress is shown while a configuration is trained."""


def train(experiment: Experiment, output: Path | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Trains the one configuration of a pinned experiment file and writes it as a winner's folder (docs/prompt-format.md).

    Args:
        experiment: names one target and at most one method and source, every knob a single value.
        output: the folder; None: `<storage>/trained/<name>`.
        progress: where it is shown.

    Returns:
        Scores on selection and report rows, the folder, and the files of the prompts in it, one per seed.

    Raises:
        Misuse: if the file leaves a choice open.
    """
    from panda_trainable.prediction.folder import write_winner
    from panda_trainable.worker import single_threaded

    single_threaded()
    library = library_of(experiment)
    with progress or Progress() as shown:
        config = pinned_trial(experiment, library, shown)
        trainer = _trained(library, config, shown)
        shown.doing("scoring")
        selection, (report, _, _) = trainer.select(), trainer.report()
    folder = output or trained_folder(experiment)
    files = write_winner(folder, config, trainer, {"selection": selection, "report": report})
    return {
        "target": config.target.name, "method": config.method, "seeds": list(config.seeds),
        "losses": trainer.losses(), "selection": _by_metric(selection), "report": _by_metric(report),
        "winner": str(folder), "prompts": [str(file) for file in files if trainer.student.prompt() is not None],
    }  # fmt: skip


def trained_folder(experiment: Experiment) -> Path:
    """Where `train` writes a winner, where nobody says it."""
    return experiment.storage_path / "trained" / experiment.slug


def _trained(library: PromptLibrary, config: TrialConfig, progress: Progress) -> Any:
    """The trainer of a trial after its last step."""
    from panda_trainable.transfer.methods import open_trainer

    progress.doing("prompts and teachers to start from")
    trainer = open_trainer(library, config)
    progress.stage(f"steps of {config.method}", config.steps)
    part = max(1, config.steps // PARTS)
    for done in range(0, config.steps, part):
        steps = min(part, config.steps - done)
        trainer.advance(steps)
        progress.advance(config.target.name, by=steps)
    return trainer


def _by_metric(scores: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {name: {"mean": fmean(values), "std": spread(values), "n": len(values)} for name, values in scores.items()}


def pinned_trial(experiment: Experiment, library: PromptLibrary, progress: Progress | None = None) -> TrialConfig:
    """The one trial that a pinned file describes; similarities are measured where it does not give them.

    Args:
        experiment: the file.
        library: where prompts are kept.
        progress: where it is shown.

    Raises:
        Misuse: if it describes several, or leaves a knob open.
    """
    method = experiment.methods[0] if len(experiment.methods) == 1 else BASELINE
    if len(experiment.plm) > 1:
        raise Misuse(
            Problem("plm", f"train takes one PLM, but {experiment.name} has {len(experiment.plm)}", remedy="keep one")
        )
    progress = progress or Progress()
    progress.doing(CHECKING)
    (plan,), _ = preflight(experiment, library, searches=_measures(experiment, method))
    pairs = [pair for pair in plan.pairs if pair.method == method]
    if len(pairs) != 1 or len(experiment.methods) > 1:
        names = ", ".join(pair.name for pair in plan.pairs)
        rule = f"train takes one configuration, but {experiment.name} has {names}"
        raise Misuse(Problem("train", rule, remedy="print one with panda-tune best --format yaml"))
    _refuse_open_knobs(experiment, method)
    study = _study_of(plan, library, method, progress)
    values = {knob.name: knob.domain.values[0] for knob in study.space.knobs if isinstance(knob.domain, Choice)}
    return study.base.with_knobs(values)


def _measures(experiment: Experiment, method: str) -> bool:
    """Whether similarities must be measured, since the file does not give them."""
    return method not in SOURCELESS and not isinstance(experiment.weigh_by, dict) and experiment.weigh_by != "none"


def _refuse_open_knobs(experiment: Experiment, method: str) -> None:
    space = experiment.method_space(method)
    loose = [k.name for k in space.knobs if not (isinstance(k.domain, Choice) and len(k.domain.values) == 1)]
    if loose:
        remedy = f"give space.{method} a single value of {', '.join(loose)}"
        raise Misuse(Problem(f"space.{method}", "train needs one value of each knob", remedy=remedy))


def _study_of(plan: Plan, library: PromptLibrary, method: str, progress: Progress) -> Study:
    similarities = {}
    if _measures(plan.experiment, method):
        jobs = [*source_jobs(plan), *target_jobs(plan)]
        progress.stage("sources and embeddings", len(jobs))
        for job in jobs:
            make(library, job)
            progress.advance(job.lineage.task.name)
        similarities = measure(library, plan)
    taking = method not in SOURCELESS or TRAITS[method].sources == "all" or TRAITS[method].moves == "projector"
    shared = shared_texts(library, plan) if taking else {}
    studies: Sequence[Study] = make_studies(_alone(plan, method), similarities, shared)[0]
    found = [study for study in studies if study.pair.method == method]
    if not found:
        raise Misuse(
            Problem(
                plan.experiment.name, f"{method} has no study: its similarity is not positive",
                remedy="name another source, or use weigh_by: none",
            )
        )  # fmt: skip
    return found[0]


def _alone(plan: Plan, method: str) -> Plan:
    """The plan with the studies of one method."""
    return replace(plan, pairs=tuple(pair for pair in plan.pairs if pair.method == method))
