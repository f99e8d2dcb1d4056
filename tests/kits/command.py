"""The installed command, and a small experiment file for it."""

import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.kits.tasks import rows_of, write_task
from tuning.cli import main

COMMAND = Path(sys.executable).parent / "panda-tune"


def experiment_file(folder: Path, plm: Path, **changes: Any) -> Path:
    """An experiment file on random data: sources s1, s2; target t; a few steps."""
    for number, name in enumerate(("s1", "s2", "t")):
        if not (folder / "data" / name).exists():
            write_task(folder / "data" / name, rows_of(60, 2, seed=number), rows_of(24, 2, seed=number + 99))
    own = {"kind": "classification", "text": ["a"], "classes": ["no", "yes"], "metrics": ["accuracy"]}
    values = {
        "name": "small",
        "plm": {"from": str(plm)},
        "tasks": dict.fromkeys(("s1", "s2", "t"), own),
        "sources": ["s1", "s2"],
        "targets": ["t"],
        "methods": ["spot", "panda"],
        "prompt": {"length": 3},
        "train": {"steps": 8, "batch_size": 4, "max_length": 16, "eval_every": 2, "seeds": [0, 1]},
        "source_train": {"steps": 8, "early_step": 4},
        "search": {"trials": 2},
        "confirm": {"top": 1, "seeds": [10, 11]},
        **changes,
    }
    file = folder / "experiment.yaml"
    file.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    return file


def panda_tune(*arguments: Any, code: int | None = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the installed command; `code` is the exit code that it must have."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RAY_worker_niceness": "0"}
    command = [COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done


def panda_tune_here(*arguments: Any, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Runs the command in this process, which has imported everything; `code` is the exit code that it must have."""
    command, out, err = ["panda-tune", *map(str, arguments)], StringIO(), StringIO()
    with patch.object(sys, "argv", command), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            done = subprocess.CompletedProcess(command, int(ended.code or 0), out.getvalue(), err.getvalue())
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done
