"""The best configuration per target, from MLflow alone."""

import math
from collections.abc import Sequence
from typing import Any

from analysis.records import (
    GAIN,
    HIGH,
    LOW,
    MAJORITY,
    PROTOCOL,
    REPORT,
    SECONDS,
    SELECTION,
    SIGNAL,
    STD,
    STEPS,
    TWIN,
    N,
    StudyRecord,
    confirmed_studies,
    winner_config,
)


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


def _cost(record: StudyRecord) -> tuple[str, bool, str, str]:
    return record.target, record.source is not None, record.method, record.source or ""


def best(uri: str, experiment: str, target: str | None = None) -> list[dict[str, Any]]:
    """The best configuration per target and PLM.

    Args:
        uri: of MLflow.
        experiment: its name.
        target: only this one.

    Returns:
        A row each: names, score {mean, std, n}, gain {mean, std, interval}, twin {mean} or None,
        selection score, cost, signal, `config` (a complete experiment file) and `run_id`.

    Raises:
        NoRecords: if no study is confirmed.
    """
    records = [record for record in winners(confirmed_studies(uri, experiment)) if target in (None, record.target)]
    return [
        {**row(record), "config": winner_config(uri, record.run_id), "run_id": record.winner_run} for record in records
    ]


def row(record: StudyRecord) -> dict[str, Any]:
    """A study's winner as plain data, without its configuration."""
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
        },
        "twin": {"mean": get(TWIN)} if get(TWIN) is not None else None,
        "majority": get(MAJORITY),
        "selection_score": get(SELECTION),
        "steps": _whole(get(STEPS)),
        "seconds": get(SECONDS),
        "signal": record.tags.get(SIGNAL) == "true",
        "protocol": record.tags.get(PROTOCOL),
    }


def _whole(value: float | None) -> int | None:
    return None if value is None or math.isnan(value) else int(value)
