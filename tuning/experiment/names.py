"""Names of experiments: as people write them, and as folders can be called."""

import re
from hashlib import sha256

MOST = 200
"""Characters of a name."""

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


def slug(name: str) -> str:
    """A name as a folder of any file system can be called: letters of any script, digits, `.`, `_` and `-`.

    Where that is another than the name, a hash of the name stands behind it, so that no two names share a folder.
    """
    made = re.sub(r"[^\w.-]+", "-", name)
    plain = made == name and re.match(r"[A-Za-z0-9]", name) and name.isascii() and len(name) <= SLUG
    return name if plain else f"{made.strip('-.')[:SLUG] or 'experiment'}-{sha256(name.encode()).hexdigest()[:8]}"
