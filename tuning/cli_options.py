"""What the commands share: their arguments, how answers are written, and how mistakes are refused."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NoReturn

import typer

File = Annotated[Path, typer.Argument(help="experiment file (YAML)", show_default=False)]
Overrides = Annotated[
    list[str],
    typer.Option(
        "-o",
        default_factory=list,
        show_default=False,
        metavar="KEY.KEY=VALUE",
        help="set a value of the file anew; repeatable",
    ),
]
Address = Annotated[
    str | None, typer.Option(help="running Ray cluster: auto or host:port; default: start Ray on this machine")
]
Form = Annotated[Literal["table", "json", "yaml"], typer.Option("--format", help="output format")]


def as_yaml(answer: Any) -> str:
    """An answer as YAML."""
    import yaml

    return str(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True))


def as_json(answer: Any) -> str:
    """An answer as JSON."""
    return json.dumps(answer, indent=1)


SERIALISERS: Mapping[str, Callable[[Any], str]] = MappingProxyType({"json": as_json, "yaml": as_yaml})
"""Format of a machine-readable answer -> its text."""


def refuse(place: str, rule: str, remedy: str = "") -> NoReturn:
    """Refuses with one problem."""
    from tuning.experiment.problems import Misuse, Problem

    raise Misuse(Problem(place, rule, remedy=remedy))


def refuse_all(error: Exception) -> NoReturn:
    """Refuses with the problems that another package tells, a line each."""
    from tuning.experiment.problems import Misuse, problems_of

    raise Misuse(*problems_of(error)) from error
