"""Text of others on a terminal: nothing in it moves the cursor, hides words or turns their direction."""

import pytest

from tuning.experiment.names import printable
from tuning.experiment.problems import Problem


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\rb\x07\x9bc", "a\\rb\\x07\\x9bc"),
        ("user\u202egpj", "user\\u202egpj"),
        ("\ud800", "\\ud800"),
        ("λ × é 中 – ‘ok’\tand\nmore", "λ × é 中 – ‘ok’\tand\nmore"),
    ],
)
def test_what_controls_a_terminal_is_written_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_problems_are_printable_whatever_others_named_their_things() -> None:
    assert str(Problem("a\x1b[31m", "is\nred", value="\x1b]0;x\x07")) == "a\\x1b[31m: is red, got \\x1b]0;x\\x07"
