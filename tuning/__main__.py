"""`python -m tuning` is `panda-tune`."""

import sys
from pathlib import Path

# Python puts the current folder first: a user's folder named `analysis` must not shadow ours.
sys.path[:] = [str(Path(__file__).resolve().parent.parent), *sys.path[1:]]

from tuning.cli import main  # noqa: E402  # the path must be right before

if __name__ == "__main__":
    main()
