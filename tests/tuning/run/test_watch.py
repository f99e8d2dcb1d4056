"""What is told of trials that fail: each kind once, and one line for many studies."""

from collections.abc import Callable
from pathlib import Path

from tests.kits.small import studies_of
from tuning.engine.searcher import SearchPolicy, StudySearcher
from tuning.planning.plan import Plan
from tuning.run.progress import Progress
from tuning.run.watch import NAMED, Watcher
from tuning.tracking.tracker import Tracker


def watcher(plan: Plan, folder: Path, said: list[str]) -> Watcher:
    """A watcher of a plan's studies, of which none runs."""
    progress = Progress()
    progress.say = said.append  # type: ignore[method-assign]  # what it says is looked at
    studies = {study.key: study for study in studies_of(plan).values()}
    return Watcher(Tracker("sqlite:///x", "small", folder), progress, studies, StudySearcher([], SearchPolicy()))


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
