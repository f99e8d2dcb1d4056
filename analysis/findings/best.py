"""The best configuration per target, from MLflow alone."""

import math
from collections.abc import Sequence
from typing import Any

from analysis.records.names import (
    BASELINE,
    COMPARABLE,
    CONVERGENCE,
    ERROR_REDUCTION,
    GAIN,
    GAP_CLOSED,
    HIGH,
    LOW,
    MAJORITY,
    NEVER,
    OVERLAP,
    POOR_SOURCE,
    PROTOCOL,
    RELATIVE,
    REPORT,
    SECONDS,
    SELECTION,
    SIGNAL,
    STD,
    STEPS,
    TEACHER,
    TEACHER_STEPS,
    TRUNCATED,
    TWIN,
    N,
    P,
)
from analysis.records.reader import StudyRecord, confirmed_studies, winner_config
from analysis.statistics.gains import LEVEL, holm


def winners(records: Sequence[StudyRecord]) -> list[StudyRecord]:
    """One study per target and PLM: the one whose winner has the best selection score.

    The report score chooses nothing. Among equals the baseline, which costs least, comes first.
    """
    chosen: dict[tuple[str, str], StudyRecord] = {}
    for record in sorted(records, key=_cost):
        key = (record.target, record.plm)
        if key not in chosen or record.metrics[SELECTION] > chosen[key].metrics[SELECTION]:
            chosen[key] = record
    return list(chosen.values())


def corrected(records: Sequence[StudyRecord]) -> dict[str, float]:
    """Run id -> p-value of the gain, corrected by Holm for the number of targets.

    The family is that of the given studies: one per target (and PLM), as `winners` gives them; the
    baseline has no gain over itself and is no test.
    """
    tested = [r for r in records if r.metrics.get(f"{GAIN}/{N}", 0) > 0 and f"{GAIN}/{P}" in r.metrics]
    adjusted = holm([record.metrics[f"{GAIN}/{P}"] for record in tested])
    return {record.run_id: p for record, p in zip(tested, adjusted, strict=True)}


def over_plms(records: Sequence[StudyRecord]) -> dict[str, str]:
    """Target -> the PLM whose winner has the best selection score."""
    best_of: dict[str, StudyRecord] = {}
    for record in winners(records):
        if record.target not in best_of or record.metrics[SELECTION] > best_of[record.target].metrics[SELECTION]:
            best_of[record.target] = record
    return {target: record.plm for target, record in best_of.items()}


def _cost(record: StudyRecord) -> tuple[str, bool, bool, str, str]:
    return record.target, record.method != BASELINE, record.source is not None, record.method, record.source or ""


def best(uri: str, experiment: str, target: str | None = None) -> list[dict[str, Any]]:
    """The best configuration per target and PLM.

    Args:
        uri: of MLflow.
        experiment: its name.
        target: only this one.

    Returns:
        A row each: names, score {mean, std, n}, gain {mean, std, interval, p, p_holm}, `significant`
        after Holm's correction over all targets of the experiment, twin {mean} or None, selection score,
        relative performance, error reduction, speed-ups (a ratio, "never" or None), the larger PLM that
        taught {mean, gap_closed} or None, cost, signal, overlap, `best_plm` (best over all PLMs), `config` (a complete experiment file), `run_id`.

    Raises:
        NoRecords: if no study is confirmed.
    """
    studies = confirmed_studies(uri, experiment)
    chosen = winners(studies)
    p_values, plms = corrected(chosen), over_plms(studies)
    return [
        {
            **row(record, p_values.get(record.run_id)),
            "best_plm": plms[record.target] == record.plm,
            "config": winner_config(uri, record.run_id),
            "run_id": record.winner_run,
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
    get = record.metrics.get
    return {
        "target": record.target,
        "plm": record.plm,
        "method": record.method,
        "source": record.source,
        "score": {"mean": get(REPORT), "std": get(f"{REPORT}/{STD}"), "n": _whole(get(f"{REPORT}/{N}"))},
        "gain": {
            "mean": get(GAIN),
            "std": get(f"{GAIN}/{STD}"),
            "interval": [get(f"{GAIN}/{LOW}"), get(f"{GAIN}/{HIGH}")],
            "p": get(f"{GAIN}/{P}"),
            "p_holm": p_holm,
            "n": _whole(get(f"{GAIN}/{N}")),
        },
        "significant": p_holm is not None and p_holm < 1 - LEVEL,
        "twin": {"mean": get(TWIN)} if get(TWIN) is not None else None,
        "majority": get(MAJORITY),
        "relative_performance": get(RELATIVE),
        "error_reduction": get(ERROR_REDUCTION),
        "teacher": {"mean": get(TEACHER), "gap_closed": get(GAP_CLOSED)} if get(TEACHER) is not None else None,
        "speedup": {
            "convergence": get(CONVERGENCE),
            "comparable": "never" if record.tags.get(NEVER) == "true" else get(COMPARABLE),
        },
        "selection_score": get(SELECTION),
        "steps": _whole(get(STEPS)),
        "teacher_steps": _whole(get(TEACHER_STEPS)) or None,
        "seconds": get(SECONDS),
        "signal": record.tags.get(SIGNAL) == "true",
        "overlap": int(record.tags.get(OVERLAP, 0)),
        "source_at_majority": record.tags.get(POOR_SOURCE) == "true",
        "truncated": {split: get(f"{TRUNCATED}/{split}") for split in ("train", "report")},
        "protocol": record.tags.get(PROTOCOL),
    }


def _whole(value: float | None) -> int | None:
    return None if value is None or math.isnan(value) else int(value)
