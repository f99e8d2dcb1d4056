"""Studies, MLflow stores and confirmed configurations, made without training anything."""

import atexit
import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from analysis.records import client
from panda_trainable.config import TrialConfig
from panda_trainable.library import PromptLibrary
from tuning.confirm import LOGITS, SCORES, Confirmed, _logits_frame, confirm_key, read_confirmed
from tuning.plan import Plan, Study, make_studies

OWN = {"kind": "classification", "text": ["a"], "classes": ["no", "yes"], "metrics": ["accuracy"]}
MEASURED = {"s1": 0.8, "s2": 0.4, "s3": 0.9, "t": 1.0}


def like(value: float) -> dict[str, float]:
    """Similarities of a pair whose task embeddings are that similar."""
    return {"task_embedding": value, "c_mean": value / 2, "c_pair": -value}


def studies_of(plan: Plan, **weights: float) -> dict[str, Study]:
    """Name -> study, with similarities that were not measured but given by source."""
    said = {**MEASURED, **weights}
    return {
        study.pair.name: study for study in make_studies(plan, {(s, t): like(said[s]) for s, t in plan.measured})[0]
    }


@cache
def _empty_store() -> Path:
    """An initialised store, made once: that takes seconds."""
    folder = Path(tempfile.mkdtemp(prefix="mlflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    client(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


def new_store(folder: Path) -> str:
    """The address of a fresh sqlite store in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_empty_store(), folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


def put_confirmed(
    library: PromptLibrary, config: TrialConfig, selection: Sequence[float], report: Sequence[float], rows: int = 20
) -> Confirmed:
    """A configuration that was confirmed with these scores; its logits have the report scores as accuracy."""
    labels = np.arange(rows) % 2
    logits = np.zeros((len(report), rows, 2), np.float32)
    for replica, score in enumerate(report):
        said = np.where(np.arange(rows) < round(score * rows), labels, 1 - labels)
        logits[replica, np.arange(rows), said] = 1.0
    scores = {
        "selection": {"accuracy": list(selection)},
        "report": {"accuracy": list(report)},
        "majority": 0.5,
        "seconds": 1.0,
    }

    def write(draft: Path) -> None:
        (draft / SCORES).write_text(json.dumps(scores), encoding="utf-8")
        _logits_frame(config.seeds, logits, labels).to_parquet(draft / LOGITS, index=False)

    library.put("confirmed", confirm_key(config), write, {"target": config.target.name, "method": config.method})
    return read_confirmed(library, config)
