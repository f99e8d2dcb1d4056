"""What MLflow is told of winners: runs of confirmed configurations, and a study's run as it ends."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from analysis.records import names as records
from analysis.records.contributions import as_csv
from analysis.records.conversion import estimate_metrics, study_run
from analysis.records.studies import Estimate, Outcome
from analysis.records.studies import Winner as WinnerRecord
from analysis.statistics.gains import gap_closed, relative_error_reduction, relative_performance, spread
from analysis.statistics.speedups import Curve, speedups
from panda_trainable.config.trial import TrialConfig
from tuning.experiment.experiment import Experiment
from tuning.experiment.pinned import pinned
from tuning.planning.plan import Study
from tuning.planning.results import LOGITS, Confirmed, Winner, by_pick, confirm_key
from tuning.tracking.study_runs import study_record, study_tags
from tuning.tracking.updates import FAILED, RunUpdate


def of_winner(winner: Winner) -> Iterator[RunUpdate]:
    """Runs of a study's confirmed configurations and of the winner's twin."""
    for rank, confirmed in enumerate(winner.chosen.ranked, 1):
        yield _of_confirmed(winner.study, confirmed, f"confirm {rank}")
    for twin in {confirm_key(twin.config): twin for twin in winner.twins}.values():
        yield _of_confirmed(winner.study, twin, "twin")


def _of_confirmed(study: Study, confirmed: Confirmed, name: str) -> RunUpdate:
    values = [*confirmed.report_metrics.items()]
    others = {f"report/{metric}": float(np.mean(scores)) for metric, scores in values}
    return RunUpdate(
        confirmed_id(study, confirmed.config), name, parent=f"study:{study.key}",
        tags={records.STAGE: "confirm", **study_tags(study)}, params=_knobs(confirmed.config),
        metrics={
            **estimate_metrics(records.SELECTION, _over_seeds(confirmed.selection)),
            **estimate_metrics(records.REPORT, _over_seeds(confirmed.report)), **others, records.STEPS: confirmed.config.steps, records.SECONDS: confirmed.seconds,
        },
        files=(str(confirmed.folder / LOGITS),),
    )  # fmt: skip


def confirmed_id(study: Study, config: TrialConfig) -> str:
    """The id of a confirmed configuration's run: a twin may serve several studies, with a run in each."""
    return f"confirm:{study.key}/{confirm_key(config)}"


def _knobs(config: TrialConfig) -> dict[str, Any]:
    said = {name: value for name, value in config.knobs.items() if name != "partners"}
    said |= {"seeds": list(config.seeds)}
    if config.sources:
        said |= {"sources": [source.task.name for source in config.sources]}
    return said


@dataclass(frozen=True)
class Learnt:
    """Selection scores by step, of two trials of a study; empty where they are not known.

    Attributes:
        first: of its first trial, the published setting.
        won: of the trial that won.
    """

    first: Curve
    won: Curve


UNKNOWN = Learnt({}, {})


def of_study_end(experiment: Experiment, winner: Winner, ours: Learnt = UNKNOWN, theirs: Learnt = UNKNOWN) -> RunUpdate:
    """A study's run as it ends: the winner's scores, gain and configuration.

    Args:
        experiment: its file.
        winner: the study's.
        ours: how its trials learnt.
        theirs: how those of the target's baseline did.
    """
    study, config = winner.study, winner.confirmed.config
    record = replace(
        study_record(study, experiment.weigh_by), state=records.CONFIRMED, signal=winner.signal.low > 0,
        winner=_winner(winner, ours, theirs), first=_first(ours.first, theirs.first),
    )  # fmt: skip
    run = study_run(record)
    return RunUpdate(
        f"study:{study.key}", study.name, tags={**run.tags, records.CURRENT: "true"}, metrics=run.metrics,
        links={records.WINNER_RUN: confirmed_id(study, config)},
        artifacts={
            records.CONFIG_FILE: json.dumps(pinned(experiment, config, study.pair.source), indent=1),
            records.CONTRIBUTIONS_FILE: as_csv(winner.chosen.contributions(), config.seeds),
        },
    )  # fmt: skip


def _winner(winner: Winner, ours: Learnt, theirs: Learnt) -> WinnerRecord:
    """The winner with how it compares to its baseline, and to the larger PLM that taught it."""
    confirmed, chosen, base = winner.confirmed, winner.chosen, float(np.mean(winner.baseline.report))
    seeds = confirmed.config.seeds
    score, gains = _by_seed(chosen.report, seeds), np.subtract(chosen.report, winner.baseline.report).tolist()
    teacher = float(np.mean([p.teacher[k] for k, p in enumerate(chosen.picks)])) if confirmed.teacher else None
    return WinnerRecord(
        score=score, selection=_over_seeds(confirmed.selection),
        chosen_by=dict(zip(seeds, chosen.grounds, strict=True)),
        gain=Estimate(**asdict(winner.gain), by_seed=dict(zip(seeds, gains, strict=True))),
        relative_performance=relative_performance(score.mean, base), error_reduction=relative_error_reduction(score.mean, base),
        early=_early(ours.won), speedups=speedups(theirs.won, ours.won), majority=confirmed.majority,
        twin=_by_seed(by_pick(winner.twins), seeds) if winner.twins else None,
        teacher=teacher, gap_closed=None if teacher is None else gap_closed(base, score.mean, teacher),
        partners=tuple(winner.study.partners_in(confirmed.config)), truncated=confirmed.truncated,
        steps=confirmed.config.steps, teacher_steps=confirmed.config.teacher_steps, seconds=confirmed.seconds,
    )  # fmt: skip


def _over_seeds(scores: Sequence[float]) -> Estimate:
    return Estimate(float(np.mean(scores)), spread(list(scores)), len(scores))


def _by_seed(scores: Sequence[float], seeds: Sequence[int]) -> Estimate:
    return replace(_over_seeds(scores), by_seed=dict(zip(seeds, scores, strict=True)))


def _first(ours: Curve, theirs: Curve) -> Outcome | None:
    """The first trial, on selection rows; without a gain where the baseline's is not known."""
    if not ours:
        return None
    score = ours[max(ours)]
    outcome = Outcome(score=Estimate(score), early=_early(ours), speedups=speedups(theirs, ours))
    if not theirs:
        return outcome
    base = theirs[max(theirs)]
    return replace(
        outcome, gain=Estimate(score - base), relative_performance=relative_performance(score, base),
        error_reduction=relative_error_reduction(score, base),
    )  # fmt: skip


def _early(curve: Curve) -> float | None:
    """The score at the first evaluation."""
    return curve[min(curve)] if curve else None


def of_unconfirmed(study: Study) -> RunUpdate:
    """A study's run that ends without a winner."""
    return RunUpdate(f"study:{study.key}", study.name, tags={records.STATE: records.UNCONFIRMED}, status=FAILED)
