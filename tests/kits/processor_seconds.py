"""A pytest plugin: processor seconds of every folder of tests, its child processes included, below the last line."""

import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import PurePath
from typing import Any

import pytest

PROPERTY = "processor_seconds"
SPENT: dict[str, float] = defaultdict(float)
"""Folder -> processor seconds, in the process that reports."""


def _spent() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Counts what fixtures spend for the first test that asks for them."""
    item.stash[_BEGAN] = _spent()
    return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Travels with the report to the process that prints, whichever worker ran the test."""
    try:
        return (yield)
    finally:
        item.user_properties.append((PROPERTY, _spent() - item.stash[_BEGAN]))


_BEGAN = pytest.StashKey[float]()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Adds a test to its folder."""
    if report.when == "teardown":
        SPENT[str(PurePath(report.nodeid.split("::")[0]).parent)] += dict(report.user_properties).get(PROPERTY, 0.0)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the folders, the dearest first."""
    told = [f"{folder} {seconds:.0f}" for folder, seconds in sorted(SPENT.items(), key=lambda item: -item[1])]
    terminalreporter.write_line(f"processor seconds: {sum(SPENT.values()):.0f} = {', '.join(told)}")
