"""A search that was killed, at whatever point, ends as the search that was not: the journals are the only state."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kits.by_hand import EVERY, STEPS, history, play, studies
from tuning.engine.journal import Journal, only_driver
from tuning.engine.searcher import SearchPolicy, StudySearcher
from tuning.experiment.problems import Misuse

POLICY = SearchPolicy(eval_every=EVERY)
BUDGET = 13
"""More than TPE's ten random trials."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    play(studies(folder, BUDGET), POLICY)
    return folder


@pytest.mark.parametrize("results", [4, 5, 11])
def test_a_searcher_lost_again_and_again_gives_the_trials_of_one_that_was_not(
    whole: Path, tmp_path: Path, results: int
) -> None:
    searched, lives = studies(tmp_path, BUDGET), 0
    while StudySearcher(searched, POLICY).remaining():
        play(searched, POLICY, results)
        lives += 1
        assert lives < 100
    assert lives > 1
    assert history(searched) == history(studies(whole, BUDGET))


def test_a_searcher_lost_between_a_suggestion_and_its_first_result_suggests_the_same_again(
    whole: Path, tmp_path: Path
) -> None:
    searched = studies(tmp_path, BUDGET)
    suggested = [StudySearcher(searched, POLICY).suggest(f"life-{n}") for n in range(3)]
    assert suggested[0] == suggested[1] == suggested[2]
    play(searched, POLICY)
    assert history(searched) == history(studies(whole, BUDGET))


def test_trials_of_several_slots_left_running_are_run_again_under_their_numbers(tmp_path: Path) -> None:
    searched, policy = (
        studies(tmp_path, budget=4),
        SearchPolicy(eval_every=EVERY, scheduler="none", slots=4, per_study=2),
    )
    play(searched, policy, results=5)
    begun = {key: [trial[1] for trial in trials] for key, trials in history(searched).items()}
    assert [state for trials in history(searched).values() for _, _, state, *_ in trials] == ["RUNNING"] * 4
    play(searched, policy)
    ended = history(searched)
    assert {key: [trial[1] for trial in trials[:2]] for key, trials in ended.items()} == begun
    assert {key: len(trials) for key, trials in ended.items()} == {"panda": 4, "spot": 4}
    assert "RUNNING" not in {state for trials in ended.values() for _, _, state, *_ in trials}


def test_more_trials_extend_a_search_as_if_they_had_been_asked_at_once(whole: Path, tmp_path: Path) -> None:
    play(studies(tmp_path, 6), POLICY)
    assert StudySearcher(studies(tmp_path, BUDGET), POLICY).remaining() == 2 * (BUDGET - 6)
    play(studies(tmp_path, BUDGET), POLICY)
    assert history(studies(tmp_path, BUDGET)) == history(studies(whole, BUDGET))


def test_a_smaller_budget_asks_for_nothing_and_loses_nothing(tmp_path: Path) -> None:
    play(studies(tmp_path, 3), POLICY)
    before = history(studies(tmp_path, 3))
    assert StudySearcher(studies(tmp_path, 2), POLICY).remaining() == 0
    play(studies(tmp_path, 2), POLICY)
    assert history(studies(tmp_path, 2)) == before


def test_a_journal_cut_at_any_byte_is_opened_and_ends_as_if_it_had_not_been(whole: Path, tmp_path: Path) -> None:
    written = (whole / "spot.journal").read_bytes()
    expected = history(studies(whole, BUDGET, ("spot",)))
    for number, cut in enumerate(range(0, len(written), len(written) // 7)):
        searched = studies(tmp_path / str(number), BUDGET, ("spot",))
        searched[0].journal.parent.mkdir()
        searched[0].journal.write_bytes(written[:cut])
        play(searched, POLICY)
        assert history(searched) == expected


def test_a_torn_last_line_costs_that_line_alone(whole: Path, tmp_path: Path) -> None:
    written = (whole / "spot.journal").read_bytes()
    lines = written.splitlines(keepends=True)
    journal = tmp_path / "spot.journal"
    for cut in range(1, len(lines[-1]), 7):
        journal.write_bytes(written[: len(written) - cut])
        Journal("spot", journal)
        assert journal.read_bytes() == b"".join(lines[:-1])


CLAIM = """
import sys
from pathlib import Path
from tuning.engine.journal import only_driver
claim = only_driver(Path(sys.argv[1]))
print("claimed", flush=True)
sys.stdin.read()
"""


def test_a_second_driver_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CLAIM, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert first.stdout.readline() == "claimed\n"
        with pytest.raises(
            Misuse, match=rf"is being searched by another process \(process {first.pid} on .*wait for it or stop"
        ):
            only_driver(tmp_path)
        left_over = tmp_path / "studies/key.journal.lock"
        left_over.parent.mkdir()
        left_over.touch()
        first.send_signal(signal.SIGKILL)
        first.wait()
    with only_driver(tmp_path) as claim:
        claim.seek(0)
        assert claim.read().startswith(f"process {os.getpid()} on ")
        assert not left_over.exists()


def test_the_steps_of_a_killed_life_stay_under_those_of_the_next(tmp_path: Path) -> None:
    searched = studies(tmp_path, budget=1, methods=("spot",))
    play(searched, POLICY, results=3, score=lambda config, step: 0.1)
    play(searched, POLICY, score=lambda config, step: 0.2)
    assert history(searched)["spot"][0][4] == dict.fromkeys(range(EVERY, STEPS + 1, EVERY), 0.2)
