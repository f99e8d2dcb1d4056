"""Journals that changed on their disk: noticed, named, set aside, and the trials that lost something run again."""

import json
from pathlib import Path

import pytest

from tests.kits.by_hand import history, play, studies
from tuning.engine.journal import Journal
from tuning.engine.sealed import CHECK, PLACE
from tuning.engine.searcher import SearchPolicy, StudySearcher

POLICY = SearchPolicy(scheduler="none", per_study=1, slots=1, eval_every=2)  # ASHA decides by the others there are
BUDGET = 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a search that has ended."""
    searched = studies(tmp_path_factory.mktemp("whole"), BUDGET, ("spot",))
    play(searched, POLICY)
    return searched[0].journal.read_bytes()


def without_checksums(content: bytes) -> bytes:
    """The journal as versions before wrote it."""
    logs = [json.loads(line) for line in content.splitlines()]
    plain = ({name: value for name, value in log.items() if name not in (CHECK, PLACE)} for log in logs)
    return "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in plain).encode()


def opened(folder: Path, content: bytes) -> StudySearcher:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spot.journal").write_bytes(content)
    return StudySearcher(studies(folder, BUDGET, ("spot",)), POLICY)


def outcome(folder: Path) -> list[object]:
    """What a search comes to, without when it was."""
    return history(studies(folder, BUDGET, ("spot",)))["spot"]


def test_a_byte_changed_anywhere_is_named_set_aside_and_the_search_ends_as_it_would_have(
    whole: bytes, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole/spot.journal").write_bytes(whole)
    expected = outcome(tmp_path / "whole")
    for number, place in enumerate(range(3, len(whole), len(whole) // 150)):
        folder = tmp_path / str(number)
        changed = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        searcher = opened(folder, changed)
        line = whole[:place].count(b"\n") + 1
        assert searcher.journals["spot"].damage.startswith(f"{folder}/spot.journal: line {line}"), place
        assert (folder / "spot.journal.damaged-1").read_bytes() == changed
        play(studies(folder, BUDGET, ("spot",)), POLICY)
        assert outcome(folder) == expected, place
        assert Journal("spot", folder / "spot.journal").damage == ""


def test_a_changed_score_runs_its_trial_alone_again(whole: bytes, tmp_path: Path) -> None:
    lines = whole.splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if b'"intermediate_value":0.' in line and b'"trial_id":1,' in line)
    lines[at] = lines[at].replace(b'"intermediate_value":0.', b'"intermediate_value":1.')
    searcher = opened(tmp_path, b"".join(lines))
    assert searcher.requeued == {"spot": [1]}
    assert f": line {at + 1} changed since it was written; trial 1 runs again; " in searcher.journals["spot"].damage
    states = [trial.state.name for trial in searcher.journals["spot"].trials]
    assert states[1] == "RUNNING"
    assert "RUNNING" not in states[:1] + states[2:]
    assert searcher.journals["spot"].trials[1].intermediate_values == {}


def test_a_line_that_is_lost_or_there_twice_is_noticed(whole: bytes, tmp_path: Path) -> None:
    """A hole in a file, with the lines of a trial's beginning in it: nothing is taken for another trial's."""
    lines = whole.splitlines(keepends=True)
    begins = [i for i, line in enumerate(lines) if b'"op_code":4,' in line]
    hole = b"\0" * (len(lines[begins[2]]) - 1) + b"\n"
    searcher = opened(tmp_path, b"".join([*lines[: begins[2]], hole, *lines[begins[2] + 1 :]]))
    assert "the trials behind it run again" in searcher.journals["spot"].damage
    assert len(searcher.journals["spot"].trials) == 2
    assert searcher.remaining() == 2


def test_a_lost_first_line_costs_no_trial(whole: bytes, tmp_path: Path) -> None:
    lines = whole.splitlines(keepends=True)
    searcher = opened(tmp_path, b"".join([b"{\n", *lines[1:]]))
    assert searcher.remaining() == 0


def test_a_journal_of_an_older_version_goes_on_with_checksums(whole: bytes, tmp_path: Path) -> None:
    lines = without_checksums(whole).splitlines(keepends=True)
    begin = next(i for i, line in enumerate(lines) if b'"op_code":4,' in line and i > len(lines) // 2)
    play_on = opened(tmp_path, b"".join(lines[:begin]))
    assert play_on.journals["spot"].damage == ""
    play(studies(tmp_path, BUDGET, ("spot",)), POLICY)
    written = (tmp_path / "spot.journal").read_bytes().splitlines()
    assert [CHECK.encode() in line for line in written] == [i >= begin for i in range(len(written))]
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole/spot.journal").write_bytes(whole)
    assert outcome(tmp_path) == outcome(tmp_path / "whole")
    # and what changes in its later part is noticed
    written[-2] = written[-2].replace(b'"trial_id":', b'"trial_id": ')
    changed = opened(tmp_path / "changed", b"".join(line + b"\n" for line in written))
    assert f"line {len(written) - 1} changed" in changed.journals["spot"].damage


@pytest.mark.parametrize("content", [b"x\n", b"[]\n", b'{"op_code": 77}\n', b"[" * 10_000 + b"\n", b"\n\n", b"{}\n"])
def test_lines_of_no_sense_in_a_journal_of_an_older_version_cost_what_is_behind_them(
    whole: bytes, tmp_path: Path, content: bytes
) -> None:
    lines = without_checksums(whole).splitlines(keepends=True)
    begins = [i for i, line in enumerate(lines) if b'"op_code":4,' in line]
    searcher = opened(tmp_path, b"".join([*lines[: begins[1]], content, *lines[begins[1] :]]))
    assert f"line {begins[1] + 1}" in searcher.journals["spot"].damage
    assert (len(searcher.journals["spot"].trials), searcher.remaining()) == (1, 3)


def test_lines_that_make_no_sense_together_are_set_aside_as_a_whole(whole: bytes, tmp_path: Path) -> None:
    lines = without_checksums(whole).splitlines(keepends=True)
    twice = [line.replace(b'"distributions":{', b'"distributions":{"x":"y",') for line in lines]
    searcher = opened(tmp_path, b"".join(twice))
    assert "cannot be read" in searcher.journals["spot"].damage
    assert searcher.remaining() == BUDGET
    assert (tmp_path / "spot.journal.damaged-1").is_file()
