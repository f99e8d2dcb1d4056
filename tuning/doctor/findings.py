"""What a check found, as a value and as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tuning.layout import Grid

State = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """What one check found in one place.

    Attributes:
        check: its name.
        node: `host/id` of a node, or `driver`.
        state: whether it holds; skipped: it could not be looked at.
        found: in words.
        remedy: what to do; empty where nothing is.
    """

    check: str
    node: str
    state: State
    found: str
    remedy: str = ""


class Failed(Exception):
    """What a check looks for does not hold; the message says what there is instead."""


class Skipped(Exception):
    """A check has nothing to look at; the message says why."""


def table(findings: Sequence[Finding], width: int | None = None) -> str:
    """The findings side by side; on a narrow terminal in blocks."""
    rows = tuple((f.check, f.node, f.state, f.found, f.remedy) for f in findings)
    head = ("check", "node", "state", "found", "what to do")
    failed = sum(finding.state == "failed" for finding in findings)
    note = f"{failed} of {len(findings)} failed" if failed else "nothing would stop the search"
    return Grid("", head, rows, len(head), (note,), folds=("found", "what to do")).text(width)
