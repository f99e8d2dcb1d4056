"""Domains, conditions, and a picklable define-by-run space for Optuna."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol


class Suggests(Protocol):
    """What a space needs of an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A float of [low, high]."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """An integer of low to high."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class Float:
    """A float of [low, high], on a log scale where `log`."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or (self.log and self.low <= 0):
            rule = "0 < low <= high" if self.log else "low <= high"
            raise ValueError(f"{rule} must hold, but got (low={self.low}, high={self.high})")

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', log' * self.log}"

    def suggest(self, trial: Suggests, name: str) -> float:
        """The trial's value."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def nearest(self, value: Any) -> float:
        """The value of the domain that is nearest to `value`."""
        return min(max(float(value), self.low), self.high)


@dataclass(frozen=True)
class Int:
    """An integer of low to high."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low <= high must hold, but got (low={self.low}, high={self.high})")

    def __str__(self) -> str:
        return f"{self.low} to {self.high}"

    def suggest(self, trial: Suggests, name: str) -> int:
        """The trial's value."""
        return trial.suggest_int(name, self.low, self.high)

    def nearest(self, value: Any) -> int:
        """The value of the domain that is nearest to `value`."""
        return min(max(int(value), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of some values; a single one is a fixed value."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if any(isinstance(value, list | dict) for value in self.values):
            raise ValueError(
                f"a choice is of numbers or texts, written {{choice: [a, b]}}, but got {list(self.values)}"
            )
        if not self.values or len(set(self.values)) != len(self.values):
            raise ValueError(f"a choice needs values that differ, but got {list(self.values)}")

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))

    def suggest(self, trial: Suggests, name: str) -> Any:
        """The trial's value."""
        return trial.suggest_categorical(name, self.values)

    def nearest(self, value: Any) -> Any:
        """`value` where it can be chosen, else the first choice."""
        return value if value in self.values else self.values[0]


@dataclass(frozen=True)
class Shares:
    """A choice of step counts given as shares of the student's steps, in (0, 1]."""

    values: tuple[float, ...]

    def of(self, steps: int) -> Choice:
        """The step counts themselves, each at least 1."""
        return Choice(tuple(sorted({max(1, round(share * steps)) for share in self.values})))


Domain = Float | Int | Choice


@dataclass(frozen=True)
class Knob:
    """One hyperparameter.

    Attributes:
        name: of KNOBS.
        domain: what it may be.
        first: the published setting.
        when: another knob that must be positive for this one to matter; None: always.
    """

    name: str
    domain: Domain | Shares
    first: Any
    when: str | None = None

    def is_asked(self, values: Mapping[str, Any]) -> bool:
        """Whether it matters beside these values of the knobs before it."""
        return self.when is None or values.get(self.when, 0) > 0


@dataclass(frozen=True)
class Space:
    """The knobs of a method; called with an Optuna trial it gives their values."""

    knobs: tuple[Knob, ...]

    def __call__(self, trial: Suggests) -> dict[str, Any]:
        """Name -> value of every knob whose condition holds."""
        values: dict[str, Any] = {}
        for knob in self.knobs:
            assert not isinstance(knob.domain, Shares), "a space is resolved before it is searched"
            if knob.is_asked(values):
                values[knob.name] = knob.domain.suggest(trial, knob.name)
        return values

    def first(self) -> dict[str, Any]:
        """The published setting, as near as the domains allow: every study's first trial."""
        return {k.name: k.domain.nearest(k.first) for k in self.knobs if not isinstance(k.domain, Shares)}

    def overridden(self, domains: Mapping[str, Domain]) -> "Space":
        """The space with some domains replaced.

        Raises:
            ValueError: if a name is no knob of this space.
        """
        unknown = set(domains) - {knob.name for knob in self.knobs}
        if unknown:
            raise ValueError(f"no knob {', '.join(sorted(unknown))}; there are {', '.join(k.name for k in self.knobs)}")
        return Space(tuple(replace(knob, domain=domains.get(knob.name, knob.domain)) for knob in self.knobs))

    def resolved(self, steps: int, partners: int) -> "Space":
        """The space of one study: shares become step counts, partners at most those there are."""
        return Space(tuple(replace(knob, domain=_resolved(knob, steps, partners)) for knob in self.knobs))

    @property
    def size(self) -> float:
        """How many configurations there are; infinite where a knob is continuous."""
        return math.prod(self._count(knob) for knob in self.knobs if knob.when is None)

    def _count(self, knob: Knob) -> float:
        """Values of a knob, each as often as there are configurations of the knobs that it brings into play."""
        below = [other for other in self.knobs if other.when == knob.name]
        if isinstance(knob.domain, Float) and knob.domain.low < knob.domain.high:
            return math.inf
        values = _values(knob.domain)
        inside = math.prod(map(self._count, below))
        return sum(inside if below and value > 0 else 1 for value in values)

    def configurations(self) -> list[dict[str, Any]]:
        """All configurations of a space of finite size, in the order of its domains."""
        found: list[dict[str, Any]] = [{}]
        for knob in self.knobs:
            values = _values(knob.domain)
            found = [
                {**given, **taken}
                for given in found
                for taken in ([{knob.name: value} for value in values] if knob.is_asked(given) else [{}])
            ]
        return found

    def domain(self, name: str) -> Domain | Shares | None:
        """The domain of a knob; None where the space has no such knob."""
        return next((knob.domain for knob in self.knobs if knob.name == name), None)


def _values(domain: Domain | Shares) -> Sequence[Any]:
    """The values of a domain that is not continuous."""
    if isinstance(domain, Float):
        assert domain.low == domain.high, "a continuous domain has no list of values"
        return (domain.low,)
    return range(domain.low, domain.high + 1) if isinstance(domain, Int) else domain.values


def _resolved(knob: Knob, steps: int, partners: int) -> Domain:
    if isinstance(knob.domain, Shares):
        return knob.domain.of(steps)
    if knob.name == "partners" and isinstance(knob.domain, Int):
        return Int(min(knob.domain.low, partners), min(knob.domain.high, partners))
    if knob.name == "partners" and isinstance(knob.domain, Choice):
        return Choice(tuple(dict.fromkeys(min(value, partners) for value in knob.domain.values)))
    return knob.domain


def number(value: Any) -> Any:
    """A text that is a number as that number: YAML 1.1 reads 1e-2 as a text."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def parse_domain(value: Any) -> Domain:
    """A domain from the experiment file.

    Args:
        value: a fixed value, or one of `{log: [low, high]}`, `{float: [low, high]}`,
            `{int: [low, high]}`, `{choice: [values]}`.

    Raises:
        ValueError: if it is none of these or its bounds are impossible.
    """
    if isinstance(value, list):
        raise ValueError(f"a list is no domain; write {{choice: {value}}} to search its values")
    if not isinstance(value, Mapping):
        return Choice((number(value),))
    kind, said = next(iter(value.items())) if len(value) == 1 else ("", None)
    bounds = [number(bound) for bound in said] if isinstance(said, list) else []
    if kind == "choice" and isinstance(said, list):
        return Choice(tuple(bounds))
    if len(bounds) == 2 and all(isinstance(b, int | float) and not isinstance(b, bool) for b in bounds):
        if kind in ("log", "float"):
            return Float(float(bounds[0]), float(bounds[1]), log=kind == "log")
        if kind == "int" and all(isinstance(b, int) for b in bounds):
            return Int(bounds[0], bounds[1])
    raise ValueError(
        f"a domain is a value, {{log: [low, high]}}, {{float: [low, high]}}, {{int: [low, high]}} or {{choice: [values]}}, got {value}"
    )
