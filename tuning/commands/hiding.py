"""Passwords on a command line: every user of the machine can read it (`ps`), and Ray notes it of each driver."""

import json
import os
import sys

from analysis.records.address import cleaned, has_secret

ARGUMENTS = "PANDA_TUNE_ARGUMENTS"
"""Variable with the arguments as they were typed, for the process that takes this one's place."""


def hide_secrets() -> None:
    """Takes passwords off this process's command line, which shows `***` from then on; sys.argv keeps them.

    The process is replaced by itself, under the same number: the arguments go to it through its environment, which
    only its own user can read, and which its children do not get.
    """
    if typed := os.environ.pop(ARGUMENTS, ""):
        sys.argv[1:] = json.loads(typed)
    elif any(map(has_secret, sys.argv[1:])):
        os.environ[ARGUMENTS] = json.dumps(sys.argv[1:])
        os.execv(sys.executable, [sys.executable, *map(cleaned, sys.orig_argv[1:])])  # noqa: S606  # itself again
