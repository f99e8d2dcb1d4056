"""A dry run tells what a search would do, and does nothing to what is there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tuning.by_hand import play
from tests.tuning.small import studies_of
from tuning.dry_run import describe
from tuning.plan import Plan, study_path
from tuning.studies import Rules, Searched

Planned = Callable[..., Plan]


def test_studies_trials_prompts_and_steps_are_told(planned: Planned) -> None:
    lines = describe(planned(search={"trials": 3}, confirm={"top": 2, "seeds": [10]}).experiment).splitlines()
    assert lines[0].startswith("small: 5 studies = 1 targets")
    assert lines[1:6] == ["  t · prompt_tuning", *(f"  t ← {s} · {m}" for m in ("spot", "panda") for s in ("s1", "s2"))]
    assert lines[6].startswith("prompts: 3 runs (sources and embeddings), 0 reused, 20 steps to go, 2 seeds")
    assert lines[7] == "search: 15 trials of 8 steps at most, 0 there already"
    assert lines[8].startswith("confirm: 10 configurations at most, with 1 fresh seeds")


@pytest.mark.parametrize("tail", [b"", b'{"op_code": 4, "worker'])
def test_a_search_that_runs_meanwhile_keeps_its_journal(planned: Planned, tail: bytes) -> None:
    """The driver may be half way through a line: only who holds its lock may mend a journal."""
    plan = planned(methods=[], sources=[], search={"trials": 5})
    (study,) = studies_of(plan).values()
    journal = study_path(plan.experiment, study, "journal")
    play([Searched(study.key, journal, study.space, 3, study.base.steps)], Rules(eval_every=2), score=lambda *_: 0.5)
    journal.write_bytes(journal.read_bytes() + tail)
    before = journal.read_bytes()
    assert "search: 5 trials of 8 steps at most, 3 there already" in describe(plan.experiment)
    assert journal.read_bytes() == before
    assert [path.name for path in sorted(Path(journal.parent).iterdir())] == [journal.name]
