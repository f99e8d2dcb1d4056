"""Numbers and names as figures and reports write them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

GUARDED = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a text may begin with that spreadsheets take for a formula."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def guarded(value: Any) -> Any:
    """A value as a cell of a CSV file: a text that would be a formula begins with an apostrophe, numbers stay as they are."""
    is_formula = isinstance(value, str) and value.startswith(GUARDED) and not _NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value


def points(value: float, signed: bool = True) -> str:
    """A share of one in percent points: +1.2, −0.4 with a real minus sign."""
    text = f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}"
    return minus("+0.0" if text == "-0.0" else text)


def counted(number: int, noun: str) -> str:
    """1 pair, 2 pairs, 3 studies."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def counts(numbers: Mapping[str, int], noun: str) -> str:
    """a: 1 pair and b: 2 pairs."""
    return listed([f"{name}: {counted(number, noun)}" for name, number in numbers.items()])


def by_reason(reasons: Mapping[str, str]) -> str:
    """Names grouped by what is in their way: `x (a and b); y (c)`."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return "; ".join(f"{reason} ({listed(names)})" for reason, names in groups.items())


def minus(text: str) -> str:
    """A text with minus signs for hyphens before digits."""
    return text.replace("-", "−")


def rho(value: float | None) -> str:
    """A coefficient for people."""
    return "–" if value is None else minus(f"{value:+.2f}")


def chance(p: float | None) -> str:
    """A p-value for people."""
    return "p unknown" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def span(interval: tuple[float, float] | None) -> str:
    """An interval of coefficients for people; empty where there is none."""
    return f"{rho(interval[0])} to {rho(interval[1])}" if interval else ""
