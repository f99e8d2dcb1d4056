"""What the commands share: their arguments, how answers are written, and how mistakes are refused."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
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
Wait = Annotated[
    float,
    typer.Option(
        "--wait-for-nodes", min=0, metavar="S", show_default=False,
        help="wait up to S seconds for a node that fits a trial; with resources: auto, for a second node",
    ),
]  # fmt: skip
Form = Annotated[Literal["table", "json", "yaml"], typer.Option("--format", help="output format")]


def targets_in(context: typer.Context, incomplete: str) -> Iterator[str]:
    """The targets of the file that is named already, for the shell."""
    from contextlib import suppress

    from tuning.experiment.problems import Misuse
    from tuning.experiment.yaml_file import read_yaml

    # While an option still lacks its value the arguments before it are not told apart: the file is among them.
    words = [context.params.get("file"), *context.args, *os.environ.get("COMP_WORDS", "").split()]
    file = next((Path(word) for word in words if word and Path(word).is_file()), None)
    with suppress(Misuse):
        targets = read_yaml(file)[0].get("targets", []) if file else []
        names = [targets] if isinstance(targets, str) else targets
        yield from (name for name in map(str, names) if name.startswith(incomplete))


def tasks_known(incomplete: str) -> Iterator[str]:
    """The tasks known by name, for the shell."""
    from panda_trainable.data.task_table import TASKS

    yield from (name for name in TASKS if name.startswith(incomplete))


def similarities_known(incomplete: str) -> Iterator[str]:
    """The similarities, for the shell."""
    from panda_trainable.config.methods import SIMILARITY_NAMES

    yield from (name for name in SIMILARITY_NAMES if name.startswith(incomplete))


def as_yaml(answer: Any) -> str:
    """An answer as YAML."""
    import yaml

    return str(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True))


def as_json(answer: Any) -> str:
    """An answer as JSON."""
    return json.dumps(answer, indent=1)


SERIALISERS: Mapping[str, Callable[[Any], str]] = MappingProxyType({"json": as_json, "yaml": as_yaml})
"""Format of a machine-readable answer -> its text."""


def next_step(*commands: str) -> None:
    """Names the commands that go on from here, on stderr: stdout is the answer."""
    print(f"Next: {'   or   '.join(commands)}", file=sys.stderr)


def refuse(place: str, rule: str, remedy: str = "") -> NoReturn:
    """Refuses with one problem."""
    from tuning.experiment.problems import Misuse, Problem

    raise Misuse(Problem(place, rule, remedy=remedy))


def refuse_all(error: Exception) -> NoReturn:
    """Refuses with the problems that another package tells, a line each."""
    from tuning.experiment.problems import Misuse, problems_of

    raise Misuse(*problems_of(error)) from error
