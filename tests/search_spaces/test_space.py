"""Domains and spaces: what cannot be searched is refused, and a first point never leaves its domain."""

import math
from typing import Any

import pytest
from optuna.trial import FixedTrial

from search_spaces.space import Choice, Float, Int, Knob, Shares, Space, parse_domain

SPACE = Space(
    (
        Knob("rate", Float(0.1, 10.0, log=True), 1.0),
        Knob("partners", Int(0, 4), 0),
        Knob("fusion", Choice(("early", "late")), "early", when="partners"),
        Knob("steps", Shares((0.1, 0.5)), None),
    )
)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"log": [0.01, 1]}, Float(0.01, 1.0, log=True)),
        ({"float": [0, 1]}, Float(0.0, 1.0)),
        ({"int": [0, 2]}, Int(0, 2)),
        ({"choice": [50, 100]}, Choice((50, 100))),
        (0.5, Choice((0.5,))),
        ("late", Choice(("late",))),
    ],
)
def test_a_domain_is_read_as_it_is_written(written: Any, read: Any) -> None:
    assert parse_domain(written) == read


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"log": [0, 1]}, r"0 < low <= high must hold, but got \(low=0.0, high=1.0\)"),
        ({"float": [2, 1]}, r"low <= high must hold, but got \(low=2.0, high=1.0\)"),
        ({"float": [float("nan"), 1]}, r"low <= high must hold"),
        ({"int": [3, 1]}, r"low <= high must hold, but got \(low=3, high=1\)"),
        ({"choice": []}, r"values that differ, but got \[\]"),
        ({"choice": [1, 2, 1]}, r"values that differ, but got \[1, 2, 1\]"),
        ({"choice": 3}, r"a domain is a value, .* got \{'choice': 3\}"),
        ({"log": [1]}, r"a domain is a value"),
        ({"log": [1, True]}, r"a domain is a value"),
        ({"log": [1, "x"]}, r"a domain is a value"),
        ({"log": [1, 2], "int": [1, 2]}, r"a domain is a value"),
        ({"uniform": [1, 2]}, r"a domain is a value, .* got \{'uniform': \[1, 2\]\}"),
        ({}, r"a domain is a value, .* got \{\}"),
    ],
)
def test_an_impossible_domain_is_refused_with_its_rule(written: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_domain(written)


@pytest.mark.parametrize("written", [["early", "late"], {"choice": [[1], [2]]}, {"choice": [{"a": 1}]}])
def test_a_list_where_a_value_belongs_is_refused_as_a_wrong_value(written: Any) -> None:
    with pytest.raises(ValueError, match="choice"):
        parse_domain(written)


@pytest.mark.parametrize("bounds", [[0.5, 2], [0, 2.9], [0, float("inf")]])
def test_bounds_of_an_integer_that_are_no_integers_are_refused_and_not_cut(bounds: list[float]) -> None:
    with pytest.raises(ValueError, match="int"):
        parse_domain({"int": bounds})


def test_shares_become_step_counts_of_at_least_one() -> None:
    assert Shares((0.1, 0.25, 0.5)).of(40) == Choice((4, 10, 20))
    assert Shares((0.1, 0.25, 0.5)).of(2) == Choice((1,))
    assert Shares((0.5, 0.1)).of(10) == Choice((1, 5))


@pytest.mark.parametrize(
    ("domain", "first"),
    [
        (Float(2.0, 5.0), 2.0),
        (Float(0.1, 0.5), 0.5),
        (Float(0.5, 2.0), 1.0),
        (Choice((7, 1.0)), 1.0),
        (Choice((7, 8)), 7),
    ],
)
def test_the_first_point_is_the_published_one_or_the_nearest_of_an_overridden_domain(domain: Any, first: Any) -> None:
    assert SPACE.overridden({"rate": domain}).first()["rate"] == first


def test_an_override_of_no_knob_is_refused_with_the_knobs_there_are() -> None:
    with pytest.raises(ValueError, match=r"no knob lambda; there are rate, partners, fusion, steps"):
        SPACE.overridden({"lambda": Int(0, 1)})


@pytest.mark.parametrize(
    ("domain", "left"),
    [(Int(0, 4), Int(0, 1)), (Int(2, 4), Int(1, 1)), (Choice((0, 2, 3)), Choice((0, 1))), (Choice((4,)), Choice((1,)))],
)
def test_no_study_asks_for_more_partners_than_there_are(domain: Any, left: Any) -> None:
    assert SPACE.overridden({"partners": domain}).resolved(steps=40, partners=1).domain("partners") == left


def test_a_condition_decides_whether_a_knob_is_asked() -> None:
    space = SPACE.resolved(steps=40, partners=2)
    values = {"rate": 1.0, "partners": 0, "steps": 4, "fusion": "late"}
    assert space(FixedTrial(values)) == {"rate": 1.0, "partners": 0, "steps": 4}
    assert space(FixedTrial({**values, "partners": 2})) == {**values, "partners": 2}


def test_a_space_that_still_has_shares_is_not_searched() -> None:
    with pytest.raises(AssertionError, match="resolved before"):
        SPACE(FixedTrial({"rate": 1.0, "partners": 0, "steps": 4}))


@pytest.mark.parametrize(
    ("domains", "size"),
    [
        ((), 1),
        ((Choice((0.1, 0.2)),), 2),
        ((Choice((0.1, 0.2)), Int(0, 2), Choice(("late",))), 6),
        ((Float(0.5, 0.5), Int(3, 3)), 1),
        ((Choice((1, 2)), Float(0.1, 0.2)), math.inf),
        ((Shares((0.1, 0.25, 0.5)),), 3),
    ],
)
def test_a_space_has_as_many_configurations_as_its_domains_multiply_to(domains: tuple[Any, ...], size: float) -> None:
    assert Space(tuple(Knob(f"k{i}", domain, None) for i, domain in enumerate(domains))).size == size


FINITE: dict[str, tuple[Space, list[dict[str, Any]]]] = {
    "empty": (Space(()), [{}]),
    "fixed": (Space((Knob("rate", Float(0.5, 0.5), 0.5), Knob("n", Choice((1, 2)), 1))), [{"rate": 0.5, "n": 1}, {"rate": 0.5, "n": 2}]),
    "conditional": (
        Space((Knob("partners", Int(0, 2), 0), Knob("fusion", Choice(("early", "late")), "early", when="partners"))),
        [
            {"partners": 0},
            *({"partners": n, "fusion": fusion} for n in (1, 2) for fusion in ("early", "late")),
        ],
    ),
    "never in play": (
        Space((Knob("partners", Int(0, 0), 0), Knob("fusion", Choice(("early", "late")), "early", when="partners"))),
        [{"partners": 0}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FINITE)
def test_a_finite_space_is_counted_and_listed_by_its_conditions(name: str) -> None:
    space, configurations = FINITE[name]
    assert space.configurations() == configurations
    assert space.size == len(configurations)
    assert all(space(FixedTrial(values)) == values for values in configurations)


def test_shares_that_are_one_step_count_are_one_configuration() -> None:
    space = Space((Knob("steps", Shares((0.1, 0.25, 0.5)), None),))
    assert space.resolved(steps=2, partners=0).size == 1


def test_an_empty_space_draws_nothing_and_its_first_point_is_empty() -> None:
    assert Space(()).resolved(40, 2) == Space(())
    assert (Space(()).first(), Space(())(FixedTrial({}))) == ({}, {})
