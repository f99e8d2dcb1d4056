"""A dry run tells what a search would do, and does nothing to what is there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kits.by_hand import play
from tests.kits.small import every_method, plans_of, studies_of
from tuning.engine.journal import StudyHandle
from tuning.engine.searcher import SearchPolicy
from tuning.planning.partners import study_path
from tuning.planning.plan import Plan
from tuning.run import estimate
from tuning.run.dry_run import describe
from tuning.run.estimate import Cost, seconds

Planned = Callable[..., Plan]
TRAIN = {"steps": 8, "eval_every": 4, "batch_size": 4, "max_length": 16, "seeds": [0, 1]}


def test_studies_trials_prompts_and_steps_are_told(planned: Planned) -> None:
    lines = describe(planned(search={"trials": 3}, confirm={"top": 2, "seeds": [10]}).experiment).splitlines()
    assert lines[0].startswith("small: 5 studies = 1 target")
    assert lines[1:6] == ["  t · prompt_tuning", *(f"  t ← {s} · {m}" for m in ("spot", "panda") for s in ("s1", "s2"))]
    assert lines[6].startswith(
        "prompts: 3 runs (sources and embeddings) and 0 of other PLMs, 0 reused, 20 steps to go, 2 seeds"
    )
    assert lines[7] == "search: 15 trials of 8 steps at most, 0 there already"
    assert lines[8].startswith("confirm: 10 configurations at most, with 1 fresh seeds")


def test_repeats_of_the_search_are_counted(planned: Planned) -> None:
    changes: dict[str, Any] = {"methods": ["spot"], "confirm": {"top": 2, "seeds": [10]}}
    once, thrice = (describe(planned(search={"trials": 4, "repeats": r}, **changes).experiment) for r in (1, 3))
    assert "small: 3 studies = 1 target × methods and sources, on" in once
    assert "small: 9 studies = 1 target × methods and sources × 3 searches, on" in thrice
    assert "search: 12 trials of 8 steps at most, 0 there" in once
    assert "search: 36 trials of 8 steps at most, 0 there" in thrice
    assert "confirm: 18 configurations at most" in thrice


@pytest.mark.parametrize("tail", [b"", b'{"op_code": 4, "worker'])
def test_a_search_that_runs_meanwhile_keeps_its_journal(planned: Planned, tail: bytes) -> None:
    """The driver may be half way through a line: only who holds its lock may mend a journal."""
    plan = planned(methods=[], sources=[], search={"trials": 5})
    (study,) = studies_of(plan).values()
    journal = study_path(plan.experiment, study, "journal")
    play(
        [StudyHandle(study.key, journal, study.space, 3, study.base.steps)],
        SearchPolicy(eval_every=2),
        score=lambda *_: 0.5,
    )
    journal.write_bytes(journal.read_bytes() + tail)
    before = journal.read_bytes()
    assert "search: 5 trials of 8 steps at most, 3 there already" in describe(plan.experiment)
    assert journal.read_bytes() == before
    assert [path.name for path in sorted(Path(journal.parent).iterdir())] == [journal.name]


def test_each_plm_has_its_own_plan(plms: Callable[[str], Path], tmp_path: Path) -> None:
    first, second = plans_of(tmp_path, plms("bert"), plms("distilbert"), methods=["spot"])
    parts = describe(first.experiment).split("\n\n")
    assert len(parts) == 2
    for part, plan in zip(parts, (first, second), strict=True):
        label = plan.setting.plm.label
        lines = part.splitlines()
        assert lines[0] == f"small: 3 studies = 1 target × methods and sources, on {label}"
        assert lines[1] == f"  t · prompt_tuning · {label}"
        assert "prompts: 3 runs (sources and embeddings) and 0 of other PLMs, 0 reused" in lines[4]


def test_steps_are_no_more_than_is_told(planned: Planned) -> None:
    """Tuning for longer has more of them than other methods."""
    text = describe(planned(methods=["prompt_tuning_longer"], sources=[]).experiment)
    assert "search: 4 trials of 12 steps at most" in text


def test_methods_with_one_configuration_have_one_trial_and_other_plms_are_counted(
    planned: Planned, plms: Callable[[str], Path]
) -> None:
    lines = describe(planned(**every_method(plms)).experiment).splitlines()
    # 10 methods of the target, 9 of each of three sources; 5 of these are single points.
    assert lines[0].startswith("small: 37 studies = 1 target")
    # Sources s1, s2, pool of 8 steps, t of 4; the larger PLM on t of 8, and t, s1, s2 of 8 on the one that is projected from.
    assert lines[38].startswith(
        "prompts: 4 runs (sources and embeddings) and 4 of other PLMs, 0 reused, 60 steps to go"
    )
    assert lines[39] == f"search: {10 * 2 + 3 * (4 * 2 + 5)} trials of 12 steps at most, 0 there already"
    assert lines[40].startswith("confirm: 37 configurations at most")


@pytest.mark.parametrize(("method", "count"), [("panda_distill", 1), ("tpt_model_zero_shot", 3), ("spot", 0)])
def test_other_plms_are_counted_once_whatever_the_sources(
    planned: Planned, plms: Callable[[str], Path], method: str, count: int
) -> None:
    told = describe(planned(**every_method(plms, methods=[method])).experiment)
    assert f"prompts: 4 runs (sources and embeddings) and {count} of other PLMs, 0 reused" in told


def test_nothing_is_trained_and_nothing_is_told_to_mlflow(planned: Planned, tmp_path: Path) -> None:
    describe(planned().experiment)
    kinds = {path.relative_to(tmp_path / "runs").parts[:2] for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert kinds <= {("library", "tokens"), ("library", "texts")}


def test_trials_that_are_there_are_counted_though_sources_are_not(planned: Planned) -> None:
    plan = planned(search={"trials": 5}, methods=["spot"])
    study = studies_of(plan)[next(key for key in studies_of(plan))]
    journal = study_path(plan.experiment, study, "journal")
    handle = StudyHandle(study.key, journal, study.space, 3, study.base.steps)
    play([handle], SearchPolicy(eval_every=2), score=lambda *_: 0.5)
    assert "3 there already" in describe(plan.experiment)


def cost_of(plan: Plan, trials: int, **changes: float) -> float:
    costs = {"t": replace(Cost(step=2.0, evaluation=10.0), **changes)}
    return seconds(plan, costs, dict.fromkeys(plan.pairs, trials), prompt_steps=0, source_steps=0)


def test_the_time_of_a_search_by_hand(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of plain tuning: 8 steps and an evaluation every 4; two search seeds, one confirm seed, the best two confirmed."""
    monkeypatch.setattr(estimate, "_cores", lambda: 2)
    plan = planned(methods=[], sources=[], train=TRAIN, confirm={"top": 2, "seeds": [10]})
    trial = 8 * 2 + 2 * 10 + estimate.PER_TRIAL_S
    confirmed = 2 * 0.5 * (8 * 2 + 2 * 10)
    assert cost_of(plan, 3) == pytest.approx(estimate.STARTING_S + (3 * trial + confirmed) / 2)
    twice = planned(methods=[], sources=[], train=TRAIN, confirm={"top": 2, "seeds": [10]}, search={"repeats": 2})
    assert cost_of(twice, 6) == pytest.approx(estimate.STARTING_S + (6 * trial + 2 * confirmed) / 2)
    assert cost_of(plan, 3, evaluation=0.0) < cost_of(plan, 3) < cost_of(plan, 4)


def test_the_time_knows_teachers_twins_and_the_sources_of_confirm_seeds(planned: Planned) -> None:
    def of(sources: int = 0, **changes: Any) -> float:
        plan = planned(train=TRAIN, **{"methods": ["spot"], **changes})
        costs = {"t": Cost(1.0, 0.0)}
        return seconds(plan, costs, dict.fromkeys(plan.pairs, 2), prompt_steps=0, source_steps=sources)

    assert of(sources=100) > of()
    assert of(methods=["panda"]) > of()  # as many trials, and teachers beside them
    assert of(confirm={"seeds": [10, 11]}) > of(confirm={"seeds": [10]})


def test_pairs_to_score_are_told_and_take_time(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(methods=["spot"], similarities=["task_embedding", "logme"])
    assert "\nscores: 2 of 2 pairs to go\n" in describe(plan.experiment)
    assert "\nscores: " not in describe(planned(methods=["spot"]).experiment)
    monkeypatch.setattr(estimate, "_cores", lambda: 1)
    costs, budgets = {"t": Cost(step=0.1, evaluation=3.0)}, dict.fromkeys(plan.pairs, 1)
    without, scored = (seconds(plan, costs, budgets, 0, 0, names) for names in ([], ["t", "t"]))
    assert scored - without == pytest.approx(2 * 3.0)
