"""What MLflow is told of winners: runs of confirmed configurations, and a study's run as it ends."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from analysis.records import names as records
from analysis.statistics.gains import gap_closed, relative_error_reduction, relative_performance, spread
from analysis.statistics.speedups import Curve, Speedups, speedups
from panda_trainable.config.methods import KNOBS
from panda_trainable.config.trial import TrialConfig
from tuning.experiment.experiment import Experiment
from tuning.experiment.pinned import pinned
from tuning.planning.plan import Study
from tuning.planning.results import LOGITS, Confirmed, Winner, confirm_key
from tuning.tracking.study_runs import study_tags
from tuning.tracking.tracker import FAILED, RunUpdate


def of_winner(winner: Winner) -> Iterator[RunUpdate]:
    """Runs of a study's confirmed configurations and of the winner's twin."""
    for rank, confirmed in enumerate((winner.confirmed, *winner.others), 1):
        yield _of_confirmed(winner.study, confirmed, f"confirm {rank}")
    if winner.twin:
        yield _of_confirmed(winner.study, winner.twin, "twin")


def _of_confirmed(study: Study, confirmed: Confirmed, name: str) -> RunUpdate:
    values = [*confirmed.report_metrics.items()]
    others = {f"report/{metric}": float(np.mean(scores)) for metric, scores in values}
    return RunUpdate(
        confirmed_id(study, confirmed.config), name, parent=f"study:{study.key}",
        tags={records.STAGE: "confirm", **study_tags(study)}, params=_knobs(confirmed.config),
        metrics={
            **score_metrics(confirmed.selection, records.SELECTION), **score_metrics(confirmed.report, records.REPORT),
            **others, records.STEPS: confirmed.config.steps, records.SECONDS: confirmed.seconds,
        },
        files=(str(confirmed.folder / LOGITS),),
    )  # fmt: skip


def confirmed_id(study: Study, config: TrialConfig) -> str:
    """The id of a confirmed configuration's run: a twin may serve several studies, with a run in each."""
    return f"confirm:{study.key}/{confirm_key(config)}"


def _knobs(config: TrialConfig) -> dict[str, Any]:
    known = {"lambda": config.lambda_, "partners": len(config.sources) - 1}
    said = {name: known.get(name, getattr(config, name, None)) for name in KNOBS[config.method] if name != "partners"}
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
    gain, confirmed, study = asdict(winner.gain), winner.confirmed, winner.study
    gains = {records.GAIN: gain.pop("mean"), **{f"{records.GAIN}/{name}": value for name, value in gain.items()}}
    twins = {records.TWIN: float(np.mean(winner.twin.report))} if winner.twin else {}
    cut = {f"{records.TRUNCATED}/{split}": share for split, share in confirmed.truncated.items()}
    config = pinned(experiment, confirmed.config, study.pair.source)
    speeds = {"": speedups(theirs.won, ours.won), f"{records.FIRST}/": speedups(theirs.first, ours.first)}
    never = {
        prefix.replace("/", "_") + records.NEVER: str(speed.comparable is None).lower()
        for prefix, speed in speeds.items()
        if speed
    }
    seeds = confirmed.config.seeds
    return RunUpdate(
        f"study:{study.key}", study.pair.name,
        tags={
            records.SIGNAL: str(winner.signal.low > 0).lower(), records.CURRENT: "true", records.STATE: "confirmed",
            records.PARTNERS: ",".join(source.task.name for source in confirmed.config.sources[1:]),
            **never,
        },
        metrics={
            **score_metrics(confirmed.selection, records.SELECTION), **score_metrics(confirmed.report, records.REPORT),
            **gains, **twins, records.MAJORITY: confirmed.majority,
            records.STEPS: confirmed.config.steps, records.TEACHER_STEPS: confirmed.config.teacher_steps,
            records.SECONDS: confirmed.seconds, **cut, **_beside(winner), **_first(ours.first, theirs.first),
            **_early("", ours.won), **{k: v for prefix, speed in speeds.items() for k, v in _faster(prefix, speed).items()},
            **_by_seed(records.REPORT, seeds, confirmed.report),
            **_by_seed(records.GAIN, seeds, np.subtract(confirmed.report, winner.baseline.report).tolist()),
        },
        links={records.WINNER_RUN: confirmed_id(study, confirmed.config)},
        artifacts={records.CONFIG_FILE: json.dumps(config, indent=1)},
    )  # fmt: skip


def _beside(winner: Winner) -> dict[str, float]:
    """How the winner stands to its baseline, and to the larger PLM that taught it, where that is defined."""
    ours, base = float(np.mean(winner.confirmed.report)), float(np.mean(winner.baseline.report))
    found = {
        records.RELATIVE: relative_performance(ours, base),
        records.ERROR_REDUCTION: relative_error_reduction(ours, base),
    }
    if winner.confirmed.teacher:
        teacher = float(np.mean(winner.confirmed.teacher))
        found |= {records.TEACHER: teacher, records.GAP_CLOSED: gap_closed(base, ours, teacher)}
    return {name: value for name, value in found.items() if value is not None}


def _by_seed(name: str, seeds: Sequence[int], values: Sequence[float]) -> dict[str, float]:
    return {f"{name}/{records.SEED}/{seed}": value for seed, value in zip(seeds, values, strict=True)}


def _first(ours: Curve, theirs: Curve) -> dict[str, float]:
    """Measures of the first trial, on selection rows; `score` alone where there is no baseline's."""
    if not ours:
        return {}
    score = ours[max(ours)]
    found: dict[str, float | None] = {"score": score}
    if theirs:
        base = theirs[max(theirs)]
        found |= {
            records.GAIN: score - base, records.RELATIVE: relative_performance(score, base),
            records.ERROR_REDUCTION: relative_error_reduction(score, base),
        }  # fmt: skip
    known = {f"{records.FIRST}/{name}": value for name, value in found.items() if value is not None}
    return {**known, **_early(f"{records.FIRST}/", ours)}


def _early(prefix: str, curve: Curve) -> dict[str, float]:
    """The score at the first evaluation."""
    return {prefix + records.EARLY: curve[min(curve)]} if curve else {}


def _faster(prefix: str, speed: Speedups | None) -> dict[str, float]:
    found = {records.CONVERGENCE: speed.convergence, records.COMPARABLE: speed.comparable} if speed else {}
    return {prefix + name: value for name, value in found.items() if value is not None and np.isfinite(value)}


def of_unconfirmed(study: Study) -> RunUpdate:
    """A study's run that ends without a winner."""
    return RunUpdate(f"study:{study.key}", study.pair.name, tags={records.STATE: "unconfirmed"}, status=FAILED)


def score_metrics(scores: Sequence[float], name: str) -> dict[str, float]:
    """Mean, spread and number of scores, named for MLflow."""
    return {name: float(np.mean(scores)), f"{name}/std": spread(list(scores)), f"{name}/n": float(len(scores))}
