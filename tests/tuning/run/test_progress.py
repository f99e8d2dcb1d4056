"""Progress: readable at 80 columns, folded where it is longer, and never a long silence in a pipe."""

import time
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tuning.run import progress as module
from tuning.run.progress import Progress

NOTE = (
    "12 of 120 studies · best so far 0.745 customer_requests_2025 ← customer_complaints_2019 · panda_distill · 3 failed"
)


def shown(width: int) -> str:
    """What a terminal of so many columns shows of two stages with long names."""
    progress = Progress()
    progress.console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    progress.live = True
    progress.bars = module.Stages(*module.columns_for(width), console=progress.console, auto_refresh=False)
    progress.stage("other prompts and teachers", 240)
    progress.advance("sst2", by=240)
    progress.stage("search", 2880)
    progress.advance(NOTE, by=1234)
    with progress.console.capture() as captured:
        progress.console.print(progress.bars.get_renderable())
    return captured.get()


@pytest.mark.parametrize("width", [200, 100, 80, 72])
def test_counts_times_and_the_best_so_far_are_whole(width: int) -> None:
    lines = shown(width).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert lines[0].split()[:4] == ["other", "prompts", "and", "teachers"]
    assert "240/240" in lines[0]
    assert "1234/2880" in lines[1]
    assert all("0:00:00" in line and "left" in line for line in lines[:2])
    assert " ".join(" ".join(lines[2:]).split()) == NOTE


def test_what_takes_no_known_time_is_told_below(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.doing("starting Ray")
    assert progress.bars.note == "starting Ray …"
    progress.stage("search", 2)
    assert progress.bars.note == ""


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is broken twenty times a second."""
    monkeypatch.setattr(module, "SILENCE_S", 0.05)


def lines_of(capsys: pytest.CaptureFixture[str], act: Any) -> list[str]:
    with Progress() as progress:
        act(progress)
        time.sleep(0.3)
    said = capsys.readouterr().err.splitlines()
    time.sleep(0.2)
    assert capsys.readouterr().err == "", "the thread goes on after the end"
    return said


@pytest.mark.usefixtures("hasty")
def test_a_pipe_hears_of_a_stage_in_which_nothing_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    first, *others = lines_of(capsys, lambda progress: progress.stage("search", 10))
    assert first == "search: 10 to do"
    assert {line.split(", ")[0] for line in others} == {"search: 0/10"}
    assert len(others) >= 2
    assert all(line.endswith("0:00 spent") for line in others)


@pytest.mark.usefixtures("hasty")
def test_a_pipe_hears_again_what_was_last_known(capsys: pytest.CaptureFixture[str]) -> None:
    def act(progress: Progress) -> None:
        progress.stage("search", 10)
        progress.advance("best so far 0.5", by=4)

    said = lines_of(capsys, act)
    assert said[-1].startswith("search: 4/10, 0:00 spent, 0:00 left  best so far 0.5")


@pytest.mark.usefixtures("hasty")
def test_a_pipe_hears_of_what_takes_no_known_time(capsys: pytest.CaptureFixture[str]) -> None:
    said = lines_of(capsys, lambda progress: progress.doing("checking files"))
    assert set(said) == {"checking files, 0:00 spent"}


def test_silence_is_broken_within_twenty_seconds() -> None:
    assert module.SILENCE_S + 1.0 <= 20
