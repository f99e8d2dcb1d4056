"""`python -m tuning` is `panda-tune`."""

import sys
from pathlib import Path

# Python puts the current folder first, unless it was told not to: nothing that lies there must shadow what is installed.
sys.path[:] = [str(Path(__file__).resolve().parent.parent), *sys.path[0 if sys.flags.safe_path else 1 :]]

from panda_tune import main  # noqa: E402  # the path must be right before

if __name__ == "__main__":
    main()
