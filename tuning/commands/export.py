"""`panda-tune export`: a winner for others, as PEFT adapters or in this project's own form."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tuning.commands.options import Overrides, next_step


def export(
    winner: Annotated[
        str,
        typer.Argument(
            help="experiment file with --target; or a folder that train wrote, a pinned file, or models:/<name>@champion",
            show_default=False,
        ),
    ],
    to: Annotated[Path, typer.Option(help="folder to write, not there yet", show_default=False)],
    override: Overrides,
    target: Annotated[str | None, typer.Option(help="of an experiment: its confirmed winner")] = None,
    form: Annotated[
        Literal["peft", "own"], typer.Option(help="adapters that peft loads onto the plain model, or a winner's folder")
    ] = "peft",
    plm: Annotated[
        str | None, typer.Option(help="where the PLM is, if not where it was; with --target: which, where there are several")
    ] = None,
    tracking: Annotated[str | None, typer.Option(help="MLflow's address, for models:/")] = None,
) -> None:  # fmt: skip
    """Write a winner for others: PEFT adapters (one per seed, tried with peft first) with head and model card."""
    from tuning.handover.winners import export_from

    made = export_from(winner, to, target, form, plm, tracking, override)
    print(f"{to}: {', '.join(made)}")
    if form == "own":
        next_step(f"panda-tune predict {to} ROWS")
