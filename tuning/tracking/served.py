"""The model of MLflow's registry: a winner's folder, answered by the installed package."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import save_model
from mlflow.pyfunc.model import PythonModel
from mlflow.types import DataType
from mlflow.types.schema import Array, ColSpec, Map, Schema

from panda_trainable.config.task import TaskSpec
from panda_trainable.data.prepare import MADE_OF

ARTEFACT = "winner"
CODE = """from mlflow.models import set_model

from tuning.tracking.served import WinnerModel

set_model(WinnerModel())
"""
"""What stands in the model's folder: nothing is pickled, and the code is that of the installed package."""


class WinnerModel(PythonModel):
    """Answers rows of a data frame, a line each; the mean of all replicas."""

    def load_context(self, context: Any) -> None:
        """Loads the winner and its PLM, which is found where the winner says."""
        from panda_trainable.prediction.predictor import Predictor

        self.predictor = Predictor.load(context.artifacts[ARTEFACT])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        """A line per row: prediction, and the probabilities where there are such."""
        frame = model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame(model_input)
        rows = [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]
        return pd.DataFrame(self.predictor.predict(rows).rows())


def _plain(value: Any) -> Any:
    """A cell as a file would have it: a list where MLflow makes an array of it."""
    return value.tolist() if hasattr(value, "tolist") else value


def input_fields(task: TaskSpec) -> tuple[str, ...]:
    """The fields that rows must have, before anything is made of them."""
    made = MADE_OF.get(task.prepare, {})
    return tuple(dict.fromkeys(given for name in task.text_fields for given in made.get(name, (name,))))


def _is_list(task: TaskSpec, field: str) -> bool:
    return task.kind == "tagging" or field == "entities"


EXAMPLES = {"question": {"copa": "cause"}, "query": {"record": "Where is @placeholder?"}}
"""Field -> row of PREPARE -> what it may hold, where it may not hold any text."""


def input_example(task: TaskSpec) -> dict[str, Any]:
    """A row of the task, which shows its fields and nothing of anyone's data."""
    usual = {field: EXAMPLES.get(field, {}).get(task.prepare, f"A text for {field}.") for field in input_fields(task)}
    return {field: ["Each", "word"] if _is_list(task, field) else text for field, text in usual.items()}


_ANSWERS: dict[str, list[ColSpec]] = {
    "classification": [
        ColSpec(DataType.string, "prediction"), ColSpec(DataType.double, "probability"),
        ColSpec(Map(DataType.double), "probabilities"),
    ],
    "regression": [ColSpec(DataType.double, "prediction")],
    "multiple_choice": [
        ColSpec(DataType.long, "prediction"), ColSpec(DataType.double, "probability"),
        ColSpec(Map(DataType.double), "probabilities"),
    ],
    "tagging": [
        ColSpec(Array(DataType.string), "prediction"), ColSpec(Array(DataType.string), "words"),
        ColSpec(Array(DataType.double), "probabilities"),
    ],
    "extractive_qa": [
        ColSpec(DataType.string, "prediction"), ColSpec(DataType.long, "answer_start"),
        ColSpec(DataType.double, "probability"),
    ],
    "generation": [ColSpec(DataType.string, "prediction")],
}  # fmt: skip
"""Kind -> columns of its answers beside the number of the row."""


def signature(task: TaskSpec) -> ModelSignature:
    """What the model takes and gives."""
    asked = [ColSpec(Array(DataType.string) if _is_list(task, f) else DataType.string, f) for f in input_fields(task)]
    return ModelSignature(Schema([*asked]), Schema([ColSpec(DataType.long, "row"), *_ANSWERS[task.kind]]))


def save(winner: Path, task: TaskSpec, folder: Path) -> None:
    """Writes the model.

    Args:
        winner: a winner's folder that is called `winner`.
        task: what it answers.
        folder: where, not there yet.
    """
    code = winner.parent / "model.py"
    code.write_text(CODE, encoding="utf-8")
    save_model(
        str(folder), python_model=str(code), artifacts={ARTEFACT: str(winner)}, signature=signature(task),
        input_example=pd.DataFrame([input_example(task)]), pip_requirements=[f"panda-tune=={version('panda-tune')}"],
    )  # fmt: skip
