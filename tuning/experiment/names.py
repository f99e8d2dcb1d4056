"""Names of experiments: as people write them, and as folders can be called."""

import re
from hashlib import sha256

MOST = 200
"""Characters of a name."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a terminal's cursor, colours or hides text, or turns its direction; tabs and ends of lines do not."""

SLUG = 80
"""Characters of a folder's name before its hash."""


def readable(name: str) -> str:
    """A name, if it can be read on one line.

    Raises:
        ValueError: if it is empty, too long, or has characters that cannot be printed.
    """
    if not name.strip() or len(name) > MOST or not name.isprintable():
        raise ValueError(f"a name has 1 to {MOST} characters that can be printed, on one line, got {name[:60]!r}")
    return name


def printable(text: str) -> str:
    """Text of others as it may be shown on a terminal: characters that would control it are written as escapes."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def slug(name: str) -> str:
    """A name as a folder of any file system can be called: letters of any script, digits, `.`, `_` and `-`.

    Where that is another than the name, a hash of the name stands behind it, so that no two names share a folder.
    """
    made = re.sub(r"[^\w.-]+", "-", name)
    plain = made == name and re.match(r"[A-Za-z0-9]", name) and name.isascii() and len(name) <= SLUG
    return name if plain else f"{made.strip('-.')[:SLUG] or 'experiment'}-{sha256(name.encode()).hexdigest()[:8]}"
