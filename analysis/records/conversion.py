"""Records to MLflow's metrics and tags, and back: the only place that writes or parses their names."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite, isnan
from typing import Any

from analysis.records import names
from analysis.records.studies import Estimate, Outcome, StudyRecord, TrialRecord, Winner, known
from analysis.statistics.speedups import Speedups

Metrics = Mapping[str, float]
Tags = Mapping[str, str]

OUTCOME_NUMBERS = {
    "relative_performance": names.RELATIVE,
    "error_reduction": names.ERROR_REDUCTION,
    "early": names.EARLY,
}
WINNER_NUMBERS = {
    "majority": names.MAJORITY, "teacher": names.TEACHER, "gap_closed": names.GAP_CLOSED,
    "seconds": names.SECONDS, "steps": names.STEPS, "teacher_steps": names.TEACHER_STEPS,
}  # fmt: skip
"""Field -> metric. Winners have both kinds, first trials the first, behind `first/`."""
WHOLE = ("steps", "teacher_steps")
ESTIMATE_NUMBERS = {"std": names.STD, "n": names.N, "low": names.LOW, "high": names.HIGH, "p": names.P}
FIRST = f"{names.FIRST}/"


@dataclass(frozen=True)
class Run:
    """What a run of MLflow holds of a record.

    Attributes:
        metrics: name -> value, all finite.
        tags: name -> text.
        params: name -> text or number.
    """

    metrics: dict[str, float]
    tags: dict[str, str]
    params: dict[str, Any] = field(default_factory=dict)


def study_run(study: StudyRecord) -> Run:
    """A study as its run holds it, before it has a winner or after."""
    metrics = {f"{names.SIMILARITY}/{name}": value for name, value in study.similarities.items()}
    tags = {names.STAGE: "study", **identity_tags(study)}
    optional = {
        names.STATE: study.state, names.SIMILARITY_IN_LOSS: study.similarity_in_loss or "", names.RUNS: _runs_text(study.runs),
    }  # fmt: skip
    tags |= {name: text for name, text in optional.items() if text}
    flags = {names.SIGNAL: study.signal, names.POOR_SOURCE: study.source_at_majority}
    tags |= {name: _flag(holds) for name, holds in flags.items() if holds is not None}
    if study.winner:
        metrics |= _winner_metrics(study.winner)
        tags |= {names.PARTNERS: ",".join(study.winner.partners), **_speed_tags(study.winner, names.NEVER)}
        tags |= {names.WINNER_RUN: study.winner.run} if study.winner.run else {}
    if study.first:
        metrics |= _outcome_metrics(study.first, FIRST, f"{FIRST}{names.SCORE}")
        tags |= _speed_tags(study.first, f"{names.FIRST}_{names.NEVER}")
    return Run({name: value for name, value in metrics.items() if isfinite(value)}, tags, dict(study.settings))


def identity_tags(study: StudyRecord) -> dict[str, str]:
    """What a study's own run, its trials' and its winner's are found by."""
    return {
        names.TARGET: study.target, names.SOURCE: study.source or "", names.METHOD: study.method, names.PLM: study.plm,
        names.STUDY: study.key, names.PROTOCOL: study.protocol, names.CONSTRUCTED: _flag(study.constructed),
        names.OVERLAP: str(study.overlap), names.REFERENCE: study.reference,
        names.REPEAT: str(study.repeat),
    }  # fmt: skip


def _flag(holds: bool) -> str:
    return str(holds).lower()


def _winner_metrics(winner: Winner) -> dict[str, float]:
    return {
        **estimate_metrics(names.SELECTION, winner.selection),
        **_outcome_metrics(winner, "", names.REPORT),
        **_numbers(winner, WINNER_NUMBERS),
        **(estimate_metrics(names.TWIN, winner.twin) if winner.twin else {}),
        **{f"{names.CHOSEN_BY}/{names.SEED}/{seed}": value for seed, value in winner.chosen_by.items()},
        **{f"{names.TRUNCATED}/{split}": share for split, share in winner.truncated.items()},
    }


def _outcome_metrics(outcome: Outcome, prefix: str, score: str) -> dict[str, float]:
    found = {**estimate_metrics(score, outcome.score), **_numbers(outcome, OUTCOME_NUMBERS, prefix)}
    if outcome.gain:
        found |= estimate_metrics(f"{prefix}{names.GAIN}", outcome.gain)
    if outcome.speedups:
        found[f"{prefix}{names.CONVERGENCE}"] = outcome.speedups.convergence
        if outcome.speedups.comparable is not None:
            found[f"{prefix}{names.COMPARABLE}"] = outcome.speedups.comparable
    return found


def _speed_tags(outcome: Outcome, name: str) -> dict[str, str]:
    return {name: _flag(outcome.speedups.comparable is None)} if outcome.speedups else {}


def estimate_metrics(name: str, estimate: Estimate) -> dict[str, float]:
    """An estimate as metrics: its mean by that name, what else is known behind it."""
    by_seed = {f"{name}/{names.SEED}/{seed}": value for seed, value in estimate.by_seed.items()}
    return {name: estimate.mean, **_numbers(estimate, ESTIMATE_NUMBERS, f"{name}/"), **by_seed}


def _numbers(value: object, table: Mapping[str, str], prefix: str = "") -> dict[str, float]:
    """The fields of a table that are known, by metric."""
    known = {f"{prefix}{metric}": getattr(value, name) for name, metric in table.items()}
    return {metric: float(number) for metric, number in known.items() if number is not None}


def study_of_run(
    metrics: Metrics, tags: Tags, params: Mapping[str, str] | None = None, run_id: str = ""
) -> StudyRecord:
    """A study from what its run holds; what is NaN or absent is not known.

    Args:
        metrics: of the run.
        tags: of the run; at least target, method and PLM.
        params: of the run.
        run_id: MLflow's id.
    """
    return StudyRecord(
        target=tags[names.TARGET],
        source=tags.get(names.SOURCE) or None,
        method=tags[names.METHOD],
        plm=tags[names.PLM],
        key=tags.get(names.STUDY, ""),
        run_id=run_id,
        state=tags.get(names.STATE, ""),
        reference=tags.get(names.REFERENCE, ""),
        similarity_in_loss=tags.get(names.SIMILARITY_IN_LOSS),
        similarities=_below(metrics, f"{names.SIMILARITY}/"),
        signal=_is_true(tags.get(names.SIGNAL)),
        protocol=tags.get(names.PROTOCOL, ""),
        constructed=tags.get(names.CONSTRUCTED) == "true",
        overlap=int(tags.get(names.OVERLAP) or 0),
        repeat=int(tags.get(names.REPEAT) or 0),
        runs=_runs(tags.get(names.RUNS)),
        source_at_majority=_is_true(tags.get(names.POOR_SOURCE)),
        settings=dict(params or {}),
        winner=_winner(metrics, tags),
        first=_first(metrics, tags),
    )


def _runs_text(runs: Mapping[str, int] | None) -> str:
    return "" if runs is None else json.dumps(dict(runs))


def _runs(text: str | None) -> dict[str, int] | None:
    """Runs with their steps; None where there are none recorded, or nothing that can be read."""
    try:
        found = json.loads(text or "null")
        return {str(run): int(steps) for run, steps in found.items()} if isinstance(found, dict) else None
    except (ValueError, TypeError):
        return None


def _is_true(text: str | None) -> bool | None:
    return None if text is None else text == "true"


def _winner(metrics: Metrics, tags: Tags) -> Winner | None:
    score, selection = _estimate(metrics, names.REPORT), _estimate(metrics, names.SELECTION)
    if score is None or selection is None:
        return None
    numbers: dict[str, Any] = _read(metrics, WINNER_NUMBERS)
    numbers |= {name: int(numbers[name]) for name in WHOLE if name in numbers}
    return Winner(
        score=score,
        selection=selection,
        chosen_by=by_seed(metrics, names.CHOSEN_BY),
        twin=_estimate(metrics, names.TWIN),
        **_outcome(metrics, "", tags.get(names.NEVER)),
        **numbers,
        partners=tuple(filter(None, tags.get(names.PARTNERS, "").split(","))),
        truncated=_below(metrics, f"{names.TRUNCATED}/"),
        run=tags.get(names.WINNER_RUN, ""),
    )


def _first(metrics: Metrics, tags: Tags) -> Outcome | None:
    score = _estimate(metrics, f"{FIRST}{names.SCORE}")
    never = tags.get(f"{names.FIRST}_{names.NEVER}")
    return None if score is None else Outcome(score=score, **_outcome(metrics, FIRST, never))


def _outcome(metrics: Metrics, prefix: str, never: str | None) -> dict[str, Any]:
    """Fields of an outcome but its score."""
    gain = _estimate(metrics, f"{prefix}{names.GAIN}")
    return {**_read(metrics, OUTCOME_NUMBERS, prefix), "gain": gain, "speedups": _speedups(metrics, prefix, never)}


def _speedups(metrics: Metrics, prefix: str, never: str | None) -> Speedups | None:
    """Infinite ones are no metrics: the tag says that there are some."""
    if never is None:
        return None
    comparable = None if never == "true" else metrics.get(f"{prefix}{names.COMPARABLE}", inf)
    return Speedups(metrics.get(f"{prefix}{names.CONVERGENCE}", inf), comparable)


def _estimate(metrics: Metrics, name: str) -> Estimate | None:
    mean = metrics.get(name)
    if mean is None or isnan(mean):
        return None
    numbers: dict[str, Any] = _read(metrics, ESTIMATE_NUMBERS, f"{name}/")
    if ("low" in numbers) != ("high" in numbers):
        numbers = {key: value for key, value in numbers.items() if key not in ("low", "high")}
    if "n" in numbers:
        numbers["n"] = int(numbers["n"])
    return Estimate(mean, **numbers, by_seed=by_seed(metrics, name))


def _read(metrics: Metrics, table: Mapping[str, str], prefix: str = "") -> dict[str, float]:
    """Field -> value of the metrics of a table that are there and numbers."""
    found = {name: metrics.get(f"{prefix}{metric}") for name, metric in table.items()}
    return {name: value for name, value in found.items() if value is not None and not isnan(value)}


def _below(metrics: Metrics, prefix: str) -> dict[str, float]:
    """The metrics whose names begin with a prefix, without it; numbers alone."""
    return {
        name.removeprefix(prefix): value
        for name, value in metrics.items()
        if name.startswith(prefix) and not isnan(value)
    }


def by_seed(metrics: Metrics, name: str) -> dict[int, float]:
    """Seed -> value of a metric that was logged by seed, seeds ascending; empty where it was not."""
    found = _below(metrics, f"{name}/{names.SEED}/")
    return {int(seed): found[seed] for seed in sorted(found, key=int)}


def trial_run(trial: TrialRecord) -> Run:
    """A trial as its run holds it; its metrics are of `trial.step`."""
    numbers = {
        names.SCORE: trial.score, names.SECONDS: trial.seconds, names.SPENT: trial.spent,
        **{f"{names.SCORE}/{names.SEED}/{seed}": value for seed, value in trial.by_seed.items()},
    }  # fmt: skip
    tags = {
        names.STAGE: "trial", names.TARGET: trial.target, names.SOURCE: trial.source or "", names.METHOD: trial.method,
        names.PLM: trial.plm, names.STUDY: trial.study, names.TRIAL: f"{trial.study}/{trial.number}", names.STATE: trial.state,
        **({names.FAILURE: trial.failure} if trial.failure else {}),
        **({names.RUNS: _runs_text(trial.runs)} if trial.runs is not None else {}),
    }  # fmt: skip
    return Run({name: value for name, value in numbers.items() if value is not None}, tags, dict(trial.knobs))


def trial_of_run(metrics: Metrics, tags: Tags, params: Mapping[str, str], steps: Mapping[str, int]) -> TrialRecord:
    """A trial from what its run holds.

    Args:
        metrics: of the run, the last value of each.
        tags: of the run.
        params: its hyperparameters.
        steps: metric -> step of its last value.
    """
    return TrialRecord(
        tags[names.TARGET], tags.get(names.SOURCE) or None, tags[names.METHOD], tags[names.PLM], tags[names.STUDY],
        int(tags[names.TRIAL].split("/")[-1]), {name: _number(text) for name, text in params.items()},
        metrics.get(names.SCORE), int(steps.get(names.SCORE, 0)), metrics.get(names.SECONDS),
        tags.get(names.STATE) or names.RUNNING, tags.get(names.FAILURE, ""), by_seed(metrics, names.SCORE),
        known(metrics.get(names.SPENT)), _runs(tags.get(names.RUNS)),
    )  # fmt: skip


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
