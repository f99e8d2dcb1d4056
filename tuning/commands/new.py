"""`panda-tune new`: a first experiment file from a folder of data."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tuning.commands.options import next_step, refuse


def new(
    folder: Annotated[
        Path, typer.Argument(help="the data folder with a folder per task, the folder of one task, or a file of rows", show_default=False)
    ],
    target: Annotated[str | None, typer.Option(help="task to be good at; default: the smallest of your own")] = None,
    plm: Annotated[str | None, typer.Option(help="hub id, folder, .gguf file, or package:<module>/<path>")] = None,
    preset: Annotated[
        Literal["small", "standard", "paper"],
        typer.Option(help="a search that ends within an hour on this machine, the usual one, or the published setting"),
    ] = "standard",
    out: Annotated[Path, typer.Option(help="file to write")] = Path("experiment.yaml"),
    force: Annotated[bool, typer.Option("--force", help="overwrite the file")] = False,
) -> None:  # fmt: skip
    """Write a commented experiment file for your data: kinds, columns and sources guessed; what only you know is asked."""
    _check_free(out, force=force)
    from tuning.draft.draft import new as drafted
    from tuning.experiment.questions import OPEN
    from tuning.prediction.output import write
    from tuning.run.progress import Progress

    with Progress() as progress:
        progress.doing("reading rows" if preset != "small" else "reading rows and measuring a step")
        text = drafted(folder, out.parent, target=target, plm=plm, preset=preset)
    _check_free(out, force=force)
    write(text, out)
    print(out)
    for asked in (line.strip() for line in text.splitlines() if f": {OPEN}" in line):
        print(f"to be said: {asked}", file=sys.stderr)
    next_step(f"panda-tune search {out} --dry-run")


def _check_free(out: Path, *, force: bool) -> None:
    if out.is_dir():
        refuse(f"--out {out}", "is a folder", f"name a file: {out / 'experiment.yaml'}")
    if out.exists() and not force:
        refuse(str(out), "is there already", "name another file by --out, or overwrite it with --force")
