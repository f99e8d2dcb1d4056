"""The analysis reads published results and says what they say: PANDA's appendix, five PLMs, three similarities."""

import csv
import json
from pathlib import Path

import pytest

from analysis.external.scores import correlate
from tests.kits.command import panda_tune
from tests.kits.tasks import SHARED

PUBLISHED = SHARED / "published"
PLMS = ("large", "base", "medium", "small", "tiny")
METRICS = ("PANDA", "ON", "Eavg")
TARGETS = ("CB", "COPA", "WSC", "RTE", "WIC", "COLA", "MRPC", "STSB", "CoNLL04")
FIRST_A = {
    "large": (30.7, 20.9, 39.3), "base": (39.5, 32.2, 39.5), "medium": (28.5, 31.8, 34.4), "small": (27.3, 10.1, 25.6),
    "tiny": (24.2, 43.8, 23.1),
}  # fmt: skip
FIRST_B = {
    "large": (33.0, 27.3, 26.7), "base": (43.0, 35.6, 42.3), "medium": (31.8, 21.1, 25.3), "small": (17.5, -1.5, -2.7),
    "tiny": (16.6, 24.8, 8.3),
}  # fmt: skip
FINAL_A = {
    "large": (17.0, 30.4, 13.5), "base": (35.9, 29.8, 41.2), "medium": (9.1, 33.4, 16.7), "small": (21.5, 7.8, 19.8),
    "tiny": (27.0, 31.5, 31.4),
}  # fmt: skip
"""Spearman × 100 as ../shared/published/README.md prints it: A per target over 21 sources, B 189 pairs pooled."""

needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="../shared/published is not here")


def scores_file(folder: Path, plm: str, when: str) -> Path:
    """A PLM's printed scores as a user's file; its baseline (after the first epoch: no transfer) has no source."""
    number = PLMS.index(plm)
    table = json.loads((PUBLISHED / "panda_transfer_tables.json").read_text())[
        f"T{number + (6 if when == 'first' else 1)}"
    ]
    sources = dict(table["base" if when == "first" else "PoT"])
    baseline = sources.pop("Random") if when == "first" else table["base"]["Baseline"]
    file = folder / f"{plm}_{when}.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["source", "target", "score"])
        for source, row in {"": baseline, **sources}.items():
            writer.writerows(
                [source.lower(), target.lower(), score] for target, score in zip(TARGETS, row, strict=False)
            )
    return file


def similarities_file(folder: Path, plm: str) -> Path:
    """A PLM's similarities, read from the printed maps, as a user's file."""
    maps = json.loads((PUBLISHED / "panda_heatmaps.json").read_text())
    tasks = [task.lower() for task in maps["tasks"]]
    file = folder / f"{plm}_similarities.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["source", "target", "metric", "similarity"])
        for metric in METRICS:
            for source, row in zip(tasks, maps["M"][f"{plm}/{metric}"], strict=True):
                writer.writerows([source, target, metric, value] for target, value in zip(tasks, row, strict=True))
    return file


@needs_published
@pytest.mark.parametrize("plm", PLMS)
def test_first_epoch_scores_give_the_published_tables(tmp_path: Path, plm: str) -> None:
    found = correlate(scores_file(tmp_path, plm, "first"), similarities_file(tmp_path, plm), relative_to="self")
    assert tuple(round(100 * found[m]["per_target"]["spearman_mean"], 1) for m in METRICS) == FIRST_A[plm]
    assert tuple(round(100 * found[m]["pooled"]["spearman"], 1) for m in METRICS) == FIRST_B[plm]
    for metric in METRICS:
        assert found[metric]["pooled"]["n"] == 189
        assert {one["n"] for one in found[metric]["per_target"]["targets"].values()} == {21}
        assert len(found[metric]["per_target"]["targets"]) == 9
        low, high = found[metric]["pooled"]["spearman_interval"]
        assert low < found[metric]["pooled"]["spearman"] < high


@needs_published
@pytest.mark.parametrize("plm", PLMS)
def test_final_scores_give_the_published_table(tmp_path: Path, plm: str) -> None:
    found = correlate(scores_file(tmp_path, plm, "final"), similarities_file(tmp_path, plm))
    assert tuple(round(100 * found[m]["per_target"]["spearman_mean"], 1) for m in METRICS) == FINAL_A[plm]


@needs_published
def test_without_self_pairs_less_is_left(tmp_path: Path) -> None:
    files = scores_file(tmp_path, "large", "first"), similarities_file(tmp_path, "large")
    whole, others = (correlate(*files, "self", exclude_self=left_out) for left_out in (False, True))
    for metric in METRICS:
        assert others[metric]["pooled"]["n"] == 180
        assert others[metric]["per_target"]["spearman_mean"] < whole[metric]["per_target"]["spearman_mean"] - 0.05


@needs_published
def test_the_command_gives_what_the_function_gives(tmp_path: Path) -> None:
    files = scores_file(tmp_path, "base", "first"), similarities_file(tmp_path, "base")
    done = panda_tune("correlate", *files, "--relative-to", "baseline", "--exclude-self", "--format", "json")
    assert json.loads(done.stdout) == correlate(*files, "baseline", exclude_self=True)
