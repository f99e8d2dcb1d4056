"""What is told of trials that fail: each kind once, and one line for many studies."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kits.small import studies_of
from tuning.engine.searcher import SearchPolicy, StudySearcher
from tuning.planning.plan import Plan
from tuning.run import watch as module
from tuning.run.progress import Progress
from tuning.run.watch import NAMED, Watcher
from tuning.tracking.tracker import Tracker
from tuning.tracking.writer import Writer


def watcher(plan: Plan, folder: Path, said: list[str], room: Callable[[int], int] = lambda _: 1) -> Watcher:
    """A watcher of a plan's studies, of which none runs."""
    progress = Progress()
    progress.say = said.append  # type: ignore[method-assign]  # what it says is looked at
    studies = {study.key: study for study in studies_of(plan).values()}
    writer = Writer(Tracker("sqlite:///x", "small", folder), progress.say)
    return Watcher(writer, progress, studies, StudySearcher([], SearchPolicy()), room)


def test_studies_that_fail_alike_are_told_once_and_summed_up(planned: Callable[..., Plan], tmp_path: Path) -> None:
    said: list[str] = []
    watching = watcher(planned(), tmp_path, said)
    studies = list(watching.studies.values())
    assert len(studies) > NAMED
    for number, study in enumerate(studies):
        watching._count_failure(study, number, "MemoryError: no room")
    watching._count_failure(studies[0], 7, "ValueError: another")
    assert said == [f"{studies[0].name}, trial 0: MemoryError: no room; the search goes on"]
    names = ", ".join(study.name for study in studies[:NAMED])
    (line,) = watching.failures
    assert (
        line == f"{len(studies) + 1} trials of {len(studies)} studies ({names} and others) failed: MemoryError: no room"
    )


def test_a_study_that_fails_in_its_own_way_has_a_line_of_its_own(planned: Callable[..., Plan], tmp_path: Path) -> None:
    said: list[str] = []
    watching = watcher(planned(), tmp_path, said)
    first, second, *_ = watching.studies.values()
    watching._count_failure(first, 0, "x")
    watching._count_failure(second, 1, "y")
    assert watching.failures == [
        f"1 of {first.budget} trials of {first.name} failed, the first: trial 0: x",
        f"1 of {second.budget} trials of {second.name} failed, the first: trial 1: y",
    ]
    assert len(said) == 2


def test_nodes_that_come_or_go_change_how_many_trials_run_at_once(
    planned: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    fit = iter([1, 3, 3, 2])
    watching = watcher(planned(), tmp_path, said, lambda _: next(fit))
    watching.on_step_begin(0, [])
    watching.on_step_begin(1, [])  # looks not again so soon
    monkeypatch.setattr(module, "LOOKS_EVERY_S", 0.0)
    slots = []
    for step in range(3):
        watching.on_step_begin(step, [])
        slots.append(watching.searcher.policy.slots)
    assert slots == [3, 3, 2]
    assert said == [f"nodes came or went: {count} trials at once from now on" for count in (3, 2)]
