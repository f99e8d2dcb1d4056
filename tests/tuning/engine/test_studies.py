"""Studies without Ray: budgets, caps, the published point, ASHA, failures, and what the best trials are."""

import math
import os
import zlib
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from panda_trainable.result import LOST, STORAGE_FAILS, TrialResult
from search_spaces.defaults import SPACES
from search_spaces.space import Choice, Int, Knob, Space
from tests.kits.by_hand import EVERY, STEPS, history, play, result, score, studies
from tuning.engine.journal import Journal, StudyHandle, failure_of, results_of
from tuning.engine.scheduler import StudyScheduler
from tuning.engine.searcher import WORKER_LOSSES, SearchPolicy, StudySearcher

POLICY = SearchPolicy(eval_every=EVERY)
RUNGS = (2, 6)


@pytest.mark.parametrize("method", SPACES)
def test_the_first_trial_is_the_published_setting_and_runs_to_its_end_however_poor(tmp_path: Path, method: str) -> None:
    space = SPACES[method].resolved(STEPS, 2)
    searched = [StudyHandle(method, tmp_path / "a.journal", space, int(min(6, space.size)), STEPS)]
    play(searched, POLICY, score=lambda config, step: -1.0 if config["number"] == 0 else 0.01 * step)
    first = Journal(method, searched[0].journal).trials[0]
    assert {**searched[0].space.first(), **first.params} == searched[0].space.first()
    assert first.state == TrialState.COMPLETE
    assert max(first.intermediate_values) == STEPS


def test_budgets_are_met_exactly_and_asked_no_further(tmp_path: Path) -> None:
    a, b = studies(tmp_path, budget=3)
    searched = [a, StudyHandle(b.key, b.journal, b.space, 7, b.steps)]
    assert StudySearcher(searched, POLICY).remaining() == 10
    assert play(searched, POLICY).remaining() == 0
    assert {key: len(trials) for key, trials in history(searched).items()} == {"panda": 3, "spot": 7}
    assert StudySearcher(searched, POLICY).suggest("one-more") == Searcher.FINISHED


def test_the_study_with_the_smallest_share_of_its_budget_is_next(tmp_path: Path) -> None:
    a, b = studies(tmp_path, budget=2)
    live: list[str] = []
    play(
        [a, StudyHandle(b.key, b.journal, b.space, 4, b.steps)],
        SearchPolicy(eval_every=EVERY, scheduler="none"),
        live=live,
    )
    begun = [name for name, before in zip(live[:: STEPS // EVERY], ["", *live], strict=False) if name]
    assert begun == ["panda", "spot", "spot", "panda", "spot", "spot"]


@pytest.mark.parametrize(
    ("slots", "per_study", "most", "most_of_one"), [(3, 2, 3, 2), (8, 2, 4, 2), (2, 4, 2, 2), (1, 4, 1, 1)]
)
def test_no_more_trials_live_than_slots_and_no_more_of_a_study_than_its_cap(
    tmp_path: Path, slots: int, per_study: int, most: int, most_of_one: int
) -> None:
    live: list[str] = []
    searched = studies(tmp_path, budget=5)
    play(searched, SearchPolicy(eval_every=EVERY, slots=slots, per_study=per_study), live=live)
    counts = [names.split() for names in live]
    assert max(map(len, counts)) == most
    assert max(names.count(key) for names in counts for key in ("panda", "spot")) <= most_of_one
    assert {len(trials) for trials in history(searched).values()} == {5}


CURVES = {  # number: the score at each rung and after it, and how ASHA, which keeps a third, decides
    0: (0.10, 0.10, "COMPLETE"),  # the published setting: never stopped
    1: (0.20, 0.60, "COMPLETE"),  # of [0.1]: 0.1; of [0.1]: 0.1
    2: (0.15, 0.90, "PRUNED"),  # of [0.1, 0.2]: two thirds of the way, 0.1667
    3: (0.17, 0.40, "PRUNED"),  # of [0.1, 0.15, 0.2]: 0.1667; of [0.1, 0.6]: 0.4333
    4: (0.30, 0.46, "PRUNED"),  # of [0.1, 0.4, 0.6]: 0.4667
    5: (0.30, 0.47, "COMPLETE"),  # of [0.1, 0.4, 0.46, 0.6]: 0.46
    6: (0.30, 0.47, "COMPLETE"),  # as good as a third is good enough: of [0.1, 0.4, 0.46, 0.47, 0.6]: 0.4667
}


def test_asha_stops_what_is_below_the_best_third_of_its_own_study_at_a_rung(tmp_path: Path) -> None:
    searched = studies(tmp_path, budget=len(CURVES))
    play(
        searched,
        POLICY,
        score=lambda config, step: (
            CURVES[config["number"]][int(step >= RUNGS[1])] if config["study"] == "panda" else 0.9
        ),
    )
    trials = Journal("panda", searched[0].journal).trials
    assert [trial.state.name for trial in trials] == [state for _, _, state in CURVES.values()]
    assert [max(trial.intermediate_values) for trial in trials] == [STEPS, STEPS, 2, 6, 6, STEPS, STEPS]


def test_without_a_scheduler_every_trial_runs_to_its_end(tmp_path: Path) -> None:
    searched = studies(tmp_path, budget=5)
    play(searched, SearchPolicy(eval_every=EVERY, scheduler="none"))
    assert {(state, max(curve)) for trials in history(searched).values() for _, _, state, _, curve, _ in trials} == {
        ("COMPLETE", STEPS)
    }


def test_a_failed_trial_has_its_reason_and_keeps_its_results_but_never_a_value(tmp_path: Path) -> None:
    searcher = StudySearcher(studies(tmp_path, budget=3, methods=("panda",)), POLICY)
    searcher.suggest("a")
    assert not searcher.should_stop("a", result(2, 0.5))
    failed = TrialResult.failed("loss of seed 1 is not finite at step 4", 4, 1.5, "host/1")
    assert searcher.should_stop("a", failed)
    searcher.on_trial_complete(trial_id="a", result=failed.as_ray(), error=False)
    (trial,) = searcher.journals["panda"].trials
    assert (trial.state, trial.value, results_of(trial)) == (TrialState.FAIL, None, [result(2, 0.5)])
    assert failure_of(trial) == failed
    assert searcher.journals["panda"].best_trials(2) == []
    assert searcher.remaining() == 2


def test_a_trial_whose_process_is_lost_begins_again_as_it_was_and_fails_where_that_is_so_too_often(
    tmp_path: Path,
) -> None:
    searcher = StudySearcher(studies(tmp_path, budget=3), SearchPolicy(eval_every=EVERY, slots=2))
    told, untold = searcher.suggest("told 0"), searcher.suggest("untold 0")
    assert searcher.suggest("too-many") is None
    scheduler = StudyScheduler(searcher)

    def begun_after_loss(number: int) -> list[Any]:
        trial = Trial("untold", stub=True, trial_id=f"untold {number}")
        scheduler.on_trial_add(None, trial)
        searcher.on_trial_complete(trial_id=f"told {number}", result=None, error=True)
        trial.set_status(Trial.ERROR)  # Tune lost it between two trials and told nobody
        return [searcher.suggest(f"told {number + 1}"), searcher.suggest(f"untold {number + 1}")]

    for number in range(WORKER_LOSSES):
        assert begun_after_loss(number) == [told, untold]
    assert [config["number"] for config in begun_after_loss(WORKER_LOSSES)] == [1, 1]
    for lost in (told, untold):
        ended = searcher.journals[lost["study"]].trials[lost["number"]]
        assert (ended.state, failure_of(ended)) == (TrialState.FAIL, TrialResult.failed(LOST))


def test_a_search_is_not_over_while_the_last_trial_may_have_to_begin_again(tmp_path: Path) -> None:
    searcher = StudySearcher(studies(tmp_path, budget=1, methods=("panda",)), SearchPolicy(eval_every=EVERY, slots=2))
    only = searcher.suggest("a")
    assert searcher.suggest("b") is None
    searcher.on_trial_complete(trial_id="a", result=None, error=True)
    assert searcher.remaining() == 1
    assert searcher.suggest("c") == only
    searcher.on_trial_complete(trial_id="c", result=result(STEPS, 0.5, is_last=True).as_ray(), error=False)
    assert searcher.suggest("d") == Searcher.FINISHED


def test_a_trial_begun_again_on_another_worker_is_judged_at_the_step_it_is_at(tmp_path: Path) -> None:
    def grows(config: dict[str, Any], step: int) -> float:
        return 0.1 if step < RUNGS[1] else 0.5

    searched = studies(tmp_path, budget=3, methods=("panda",))
    play(searched, POLICY, results=2 * STEPS // EVERY, score=grows)
    searcher = StudySearcher(searched, POLICY)
    config = searcher.suggest("a")
    begun = [searcher.should_stop("a", result(step, grows(config, step))) for step in (2, 4, 6)]
    again = [searcher.should_stop("a", result(step, grows(config, step))) for step in (2, 4, 6)]
    assert begun == again == [False, False, False]


def test_a_search_whose_time_is_over_asks_for_nothing_more(tmp_path: Path) -> None:
    searcher = StudySearcher(studies(tmp_path, budget=3), SearchPolicy(eval_every=EVERY, deadline=0.0))
    assert searcher.suggest("late") == Searcher.FINISHED
    assert searcher.remaining() == 6


def test_random_suggestions_depend_on_the_seed_and_on_no_score(tmp_path: Path) -> None:
    def parameters(folder: str, seed: int, better: Any = score) -> list[Any]:
        searched = [replace(one, seed=seed) for one in studies(tmp_path / folder, budget=5, methods=("panda",))]
        play(searched, SearchPolicy(sampler="random", eval_every=EVERY), score=better)
        return [params for _, params, *_ in history(searched)["panda"]]

    once = parameters("once", 0)
    assert parameters("again", 0) == once
    assert parameters("other-scores", 0, lambda config, step: -score(config, step)) == once
    assert parameters("other-seed", 1)[1:] != once[1:]


def test_tpe_learns_from_the_scores(tmp_path: Path) -> None:
    def late(folder: str, sign: int) -> list[float]:
        searched = studies(tmp_path / folder, budget=30, methods=("spot",))
        play(
            searched,
            SearchPolicy(eval_every=EVERY, scheduler="none"),
            score=lambda config, _: sign * math.log(config["knobs"]["learning_rate"]),
        )
        return [params["learning_rate"] for _, params, *_ in history(searched)["spot"][15:]]

    assert fmean(late("large", 1)) > 2 * fmean(late("small", -1))


@pytest.mark.parametrize("number", STORAGE_FAILS)
def test_a_trial_whose_storage_failed_is_no_failed_trial_and_runs_again(tmp_path: Path, number: int) -> None:
    searched = studies(tmp_path, budget=1, methods=("panda",))
    searcher = StudySearcher(searched, POLICY)
    searcher.suggest("a")
    met = OSError(number, os.strerror(number), "/storage/it's a file")
    told = TrialResult.failed(f"{type(met).__name__}: {met}")
    assert searcher.should_stop("a", told)
    searcher.on_trial_complete("a", told.as_ray())
    found = searcher.storage_error
    assert found is not None
    assert (type(found), found.errno, found.filename, str(found)) == (type(met), number, met.filename, str(met))
    assert searcher.requeued == StudySearcher(searched, POLICY).requeued == {"panda": [0]}


def test_a_storage_that_fails_as_a_result_is_recorded_ends_no_trial(tmp_path: Path) -> None:
    searched = studies(tmp_path / "storage", budget=1, methods=("panda",))
    searcher = StudySearcher(searched, POLICY)
    searcher.suggest("a")
    searcher.should_stop("a", result(2, 0.5))
    (tmp_path / "storage").rename(tmp_path / "away")
    searcher.should_stop("a", result(4, 0.5))
    assert isinstance(searcher.storage_error, FileNotFoundError)
    (tmp_path / "away").rename(tmp_path / "storage")
    last = result(STEPS, 0.5)
    searcher.should_stop("a", last)
    searcher.on_trial_complete("a", last.as_ray())  # back too late: its journal would lack a result
    assert searcher.requeued == StudySearcher(searched, POLICY).requeued == {"panda": [0]}


def test_a_file_that_a_trial_misses_is_its_own_failure(tmp_path: Path) -> None:
    searched = studies(tmp_path, budget=1, methods=("panda",))
    searcher = StudySearcher(searched, POLICY)
    searcher.suggest("a")
    assert searcher.should_stop("a", TrialResult.failed("FileNotFoundError: [Errno 2] No such file: '/x'"))


@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_the_best_trials_ran_to_their_end_best_first_one_of_each_configuration(tmp_path: Path, scheduler: str) -> None:
    searched = studies(tmp_path, budget=8, methods=("panda",))

    def negative(config: dict[str, Any], step: int) -> float:  # as correlations may be
        return score(config, step) - 2

    play(searched, SearchPolicy(eval_every=EVERY, scheduler=scheduler), score=negative)
    journal = Journal("panda", searched[0].journal)
    found = journal.best_trials(STEPS)
    complete = [t for t in journal.trials if t.state == TrialState.COMPLETE]
    assert [t.value for t in found] == sorted((t.value for t in complete), reverse=True)
    assert (len(complete) == 8) == (scheduler == "none")
    assert [t.number for t in found] != sorted(t.number for t in found) or scheduler == "asha"
    assert len({repr(t.params) for t in found}) == len(found)
    assert journal.best_trials(STEPS + 1) == []


SMALL = Space(
    (
        Knob("learning_rate", Choice((0.001, 0.01)), 0.01),
        Knob("partners", Int(0, 2), 0),
        Knob("fusion", Choice(("early", "late")), "early", when="partners"),
    )
)
"""A space of ten configurations."""


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("seed", range(5))
def test_no_configuration_of_a_small_space_is_suggested_twice(tmp_path: Path, sampler: str, seed: int) -> None:
    handle = StudyHandle("small", tmp_path / "small.journal", SMALL, 10, STEPS, seed)
    play([handle], SearchPolicy(sampler=sampler, eval_every=EVERY, scheduler="none", slots=3))
    tried = [trial.params for trial in Journal("small", handle.journal).trials]
    assert tried[0] == {"learning_rate": 0.01, "partners": 0}
    assert {repr(sorted(params.items())) for params in tried} == {
        repr(sorted(params.items())) for params in SMALL.configurations()
    }
    assert len(tried) == SMALL.size == 10


def test_a_small_space_is_searched_alike_with_and_without_a_restart(tmp_path: Path) -> None:
    whole, parts = (StudyHandle("small", tmp_path / f"{name}.journal", SMALL, 10, STEPS) for name in ("whole", "parts"))
    policy = SearchPolicy(eval_every=EVERY)
    play([whole], policy)
    for results in (5, 11, None):
        play([parts], policy, results=results)
    assert [t.params for t in Journal("small", parts.journal).trials] == [
        t.params for t in Journal("small", whole.journal).trials
    ]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_suggestion_that_is_new_is_the_samplers_own(tmp_path: Path, sampler: str) -> None:
    """Numbers of searches without repetitions stay what they were: here Optuna is asked as it always was."""
    policy = SearchPolicy(sampler=sampler, eval_every=EVERY)
    (handle,) = studies(tmp_path, budget=12, methods=("panda",))
    play([handle], policy)
    trials = Journal("panda", handle.journal).trials
    for number in range(1, len(trials)):
        seed = zlib.crc32(f"0/panda/{number}".encode())
        usual = {"multivariate": True, "group": True, "constant_liar": True}
        drawn = optuna.create_study(
            direction="maximize",
            sampler=TPESampler(seed=seed, **usual) if sampler == "tpe" else RandomSampler(seed=seed),
        )
        drawn.add_trials(trials[:number])
        trial = drawn.ask()
        handle.space(trial)
        assert trial.params == trials[number].params


def test_more_trials_than_configurations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="budget must be at most the 10 configurations there are, got 11"):
        StudyHandle("small", tmp_path / "small.journal", SMALL, 11, STEPS)


def test_a_wave_ends_after_its_trials_and_the_next_goes_on(tmp_path: Path) -> None:
    searcher = StudySearcher(studies(tmp_path, budget=2), replace(POLICY, slots=8, wave=3))
    begun = [searcher.suggest(name) for name in "abcd"]
    assert [config == Searcher.FINISHED for config in begun] == [False, False, False, True]
    for name in "abc":
        searcher.on_trial_complete(trial_id=name, result=result(STEPS, 0.5).as_ray())
    assert searcher.remaining() == 1
    searcher.begin_wave()
    last = searcher.suggest("e")
    assert (last["study"], last["number"]) not in [(config["study"], config["number"]) for config in begun[:3]]
    assert searcher.suggest("f") is None
    searcher.on_trial_complete(trial_id="e", result=result(STEPS, 0.5).as_ray())
    assert searcher.suggest("g") == Searcher.FINISHED


def test_there_is_work_for_as_many_as_may_run_of_each_study_and_no_more_than_are_left(tmp_path: Path) -> None:
    searcher = StudySearcher(studies(tmp_path, budget=3), replace(POLICY, slots=8, per_study=2))
    assert searcher.wanted() == 4
    for name in "abcd":
        searcher.suggest(name)
    assert (searcher.wanted(), searcher.remaining()) == (4, 2)
    searcher.on_trial_complete(trial_id="a", result=result(STEPS, 0.5).as_ray())
    searcher.suggest("e")
    assert (searcher.wanted(), searcher.remaining()) == (4, 1)
    searcher.on_trial_complete(trial_id="e", result=result(STEPS, 0.5).as_ray())
    assert searcher.wanted() == 3


def test_a_journal_that_is_open_says_what_one_that_is_opened_again_says(tmp_path: Path) -> None:
    (handle, _) = studies(tmp_path, budget=3)
    searcher = play([handle], POLICY, results=7)
    opened = Journal(handle.key, handle.journal)
    assert not opened.damage
    assert opened.trials == searcher.journals[handle.key].trials
