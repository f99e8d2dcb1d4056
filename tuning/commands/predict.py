"""`panda-tune predict`: what a winner answers to new rows."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tuning.commands.options import refuse_all


def predict(
    winner: Annotated[
        str,
        typer.Argument(
            help="folder that train wrote, pinned file (trained first where it is not yet), or models:/<name>@champion",
            show_default=False,
        ),
    ],
    rows: Annotated[
        Path, typer.Argument(help="file of rows in any format of tasks, with or without labels", show_default=False)
    ],
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="output format")] = "jsonl",
    out: Annotated[Path | None, typer.Option(help="file of the answers; default: standard output")] = None,
    replica: Annotated[
        int | None,
        typer.Option(help="seed of the replica that answers; default all, averaged; of written texts the best in selection"),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="rows answered at a time")] = 512,
    plm: Annotated[
        str | None, typer.Option(help="where the PLM is, if not where it was: hub id, folder, package or .gguf file")
    ] = None,
    tracking: Annotated[str | None, typer.Option(help="MLflow's address, for models:/")] = None,
) -> None:  # fmt: skip
    """Print what a winner answers to new rows: class, value, tags, answer or text; of labelled rows the scores, too."""
    from tuning.experiment.names import printable
    from tuning.prediction.output import WRITERS, scores_text, write
    from tuning.prediction.places import winner_folder

    with winner_folder(winner, tracking) as folder:
        from panda_trainable.prediction.predictor import Predictor

        try:
            found = Predictor.load(folder, plm).predict_file(rows, replica, batch)
        except ValueError as error:
            refuse_all(error)
    text = WRITERS[form](found.rows())
    if out is None:
        print(printable(text) if sys.stdout.isatty() else text, end="")
    else:
        write(text, out)
    if found.scores:
        print(printable(scores_text(found.scores, found.by_seed, found.labelled)), file=sys.stderr)
