"""The best configuration per target, from MLflow alone."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import Any

from analysis.findings.choice import reported
from analysis.findings.repeats import of_targets
from analysis.records.names import BASELINE
from analysis.records.reader import confirmed_studies, winner_config
from analysis.records.studies import Estimate, StudyRecord
from analysis.statistics.gains import LEVEL, holm

BETTER = "better than prompt tuning (the 95 % interval of the gain lies above 0)"
UNCLEAR = "not clearly better than prompt tuning (the 95 % interval of the gain holds 0)"
NO_BETTER = "no better than prompt tuning (a gain of 0 or less)"
ONE_SEED = "not to be told from prompt tuning (one confirm seed: its interval is over rows alone)"
ITSELF = "no better than prompt tuning (which itself has the best selection score)"
"""What a winner is, compared with the baseline."""


def verdict(record: StudyRecord) -> str:
    """Whether a study's winner is better than prompt tuning on report rows: one of the sentences above."""
    gain = record.gain
    if gain is None or record.reference == BASELINE:
        return ITSELF
    if gain.mean <= 0:
        return NO_BETTER
    if gain.n == 1:
        return ONE_SEED
    return BETTER if gain.low is not None and gain.low > 0 else UNCLEAR


def winners(records: Sequence[StudyRecord]) -> list[StudyRecord]:
    """One study per target and PLM: the one whose winner has the best selection score.

    The report score chooses nothing, and its score and gain are those of what the other seeds choose (`reported`).
    Among equals the baseline, which costs least, comes first.
    """
    targets: dict[tuple[str, str], list[StudyRecord]] = {}
    for record in sorted(records, key=_cost):
        targets.setdefault((record.target, record.plm), []).append(record)
    return [reported(studies) for studies in targets.values()]


def corrected(records: Sequence[StudyRecord]) -> dict[str, float]:
    """Run id -> p-value of the gain, corrected by Holm for the number of targets.

    The family is that of the given studies: one per target (and PLM), as `winners` gives them; the
    baseline has no gain over itself and is no test.
    """
    gains = {record.run_id: record.gain for record in records if record.gain and is_tested(record)}
    tested = {run: gain.p for run, gain in gains.items() if gain.p is not None}
    return dict(zip(tested, holm(list(tested.values())), strict=True))


def is_tested(record: StudyRecord) -> bool:
    """Whether a gain may have a star: over rows alone, as of one seed, a difference of two runs is often significant.

    Prompt tuning is no test of itself, though what other seeds choose in its place may gain something.
    """
    gain = record.gain if record.reference != BASELINE else None
    return gain is not None and gain.p is not None and (gain.n or 0) > 1


def over_plms(records: Sequence[StudyRecord]) -> dict[str, str]:
    """Target -> the PLM whose winner has the best selection score."""
    best_of: dict[str, StudyRecord] = {}
    for record in winners(records):
        if record.target not in best_of or _selection(record) > _selection(best_of[record.target]):
            best_of[record.target] = record
    return {target: record.plm for target, record in best_of.items()}


def _selection(record: StudyRecord) -> float:
    return record.confirmed.selection.mean


def _cost(record: StudyRecord) -> tuple[str, bool, bool, str, str]:
    return record.target, record.reference != BASELINE, record.source is not None, record.method, record.source or ""


def best(uri: str, experiment: str, target: str | None = None) -> list[dict[str, Any]]:
    """The best configuration per target and PLM.

    Args:
        uri: of MLflow.
        experiment: its name.
        target: only this one.

    Returns:
        A row each: names, partners, metric, score {mean, std, n}, verdict (better than prompt tuning or not), gain {mean, std, interval, p, p_holm}, `significant`
        after Holm's correction over all targets of the experiment, twin {mean} or None, selection score,
        relative performance, error reduction, speed-ups (a ratio, "never" or None), the larger PLM that
        taught {mean, gap_closed} or None, cost, signal, overlap, `over_searches` (score and gain {mean, std, n} of the winners of searches with other seeds; None without), `best_plm` (best over all PLMs), `config` (a complete experiment file), `run_id`.

    Raises:
        NoRecords: if no study is confirmed, or none of the target.
    """
    return rows(confirmed_studies(uri, experiment, target), partial(winner_config, uri), target)


def rows(
    studies: Sequence[StudyRecord], config_of: Callable[[str], dict[str, Any]], target: str | None = None
) -> list[dict[str, Any]]:
    """The best configuration per target and PLM among confirmed studies, wherever they were read.

    Args:
        studies: confirmed.
        config_of: the winner of a study as a complete experiment file, by its run id.
        target: only this one.

    Returns:
        As `best`.
    """
    chosen = winners(studies)
    p_values, plms, searches = corrected(chosen), over_plms(studies), of_targets(studies, winners)
    return [
        {
            **row(record, p_values.get(record.run_id)),
            "best_plm": plms[record.target] == record.plm,
            "over_searches": over.plain if (over := searches.get((record.target, record.plm))) else None,
            "config": config_of(record.run_id),
            "run_id": record.confirmed.run,
        }
        for record in chosen
        if target in (None, record.target)
    ]


def row(record: StudyRecord, p_holm: float | None = None) -> dict[str, Any]:
    """A study's winner as plain data, without its configuration.

    Args:
        record: the study.
        p_holm: its p-value corrected for the number of targets; None where that is not asked.
    """
    winner = record.confirmed
    gain = winner.gain
    return {
        "target": record.target,
        "plm": record.plm,
        "method": record.method,
        "source": record.source,
        "partners": list(winner.partners),
        "metric": record.settings.get("metric"),
        "score": _plain(winner.score),
        "gain": {
            **_plain(gain),
            "interval": [gain and gain.low, gain and gain.high],
            "p": gain and gain.p,
            "p_holm": p_holm,
        },
        "verdict": verdict(record),
        "significant": p_holm is not None and p_holm < 1 - LEVEL,
        "twin": {"mean": winner.twin.mean} if winner.twin else None,
        "majority": winner.majority,
        "relative_performance": winner.relative_performance,
        "error_reduction": winner.error_reduction,
        "teacher": ({"mean": winner.teacher, "gap_closed": winner.gap_closed} if winner.teacher is not None else None),
        "speedup": _speedup(record),
        "selection_score": winner.selection.mean,
        "steps": winner.steps,
        "teacher_steps": winner.teacher_steps or None,
        "seconds": winner.seconds,
        "signal": record.signal is True,
        "overlap": record.overlap,
        "source_at_majority": record.source_at_majority is True,
        "truncated": {split: winner.truncated.get(split) for split in ("train", "report")},
        "protocol": record.protocol or None,
    }


def _plain(estimate: Estimate | None) -> dict[str, Any]:
    return {name: estimate and getattr(estimate, name) for name in ("mean", "std", "n")}


def _speedup(record: StudyRecord) -> dict[str, float | str | None]:
    """Ratios that JSON has: infinite ones are None."""
    found = record.confirmed.speedups
    if found is None:
        return {"convergence": None, "comparable": None}
    comparable = "never" if found.comparable is None else _finite(found.comparable)
    return {"convergence": _finite(found.convergence), "comparable": comparable}


def _finite(ratio: float) -> float | None:
    return ratio if isfinite(ratio) else None
