"""`panda-tune tasks`: the tasks known by name, and what a PLM reads of one."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tuning.commands.options import SERIALISERS, Form, Overrides, refuse, tasks_known

tasks_app = typer.Typer(help="Look at tasks, and at what a PLM reads of them.", no_args_is_help=True)


@tasks_app.command("show")
def tasks_show(
    task: Annotated[str, typer.Argument(help="name of a task", show_default=False, autocompletion=tasks_known)],
    override: Overrides,
    plm: Annotated[
        str | None, typer.Option(help="hub id, folder, or package:<module>/<folder>; default that of --file")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="experiment file with tasks of your own and settings")] = None,
    data: Annotated[str, typer.Option(help="folder of the tasks' files, without --file")] = "data",
    template: Annotated[
        Literal["natural", "t5"], typer.Option(help="how tasks known by name are asked, without --file")
    ] = "natural",
    head: Annotated[Literal["lm", "linear"] | None, typer.Option(help="what answers; default as plm.head has it")] = None,
    rows: Annotated[int, typer.Option(min=1, help="train rows to print")] = 3,
    form: Form = "table",
) -> None:  # fmt: skip
    """Print the first rows of a task as a PLM reads them, ⟨answer⟩ where the answer stands."""
    from dataclasses import asdict

    from tuning.run.show import show

    shown = show(_experiment(task, override, plm, file, data, template, head), task, rows)
    if form != "table":
        print(SERIALISERS[form]([asdict(each) for each in shown]))
        return
    for each in shown:
        print(f"{each.task} on {each.plm}: {each.kind}, {each.readout}")
        for number, row in enumerate(each.rows, 1):
            print("\n".join(f"{number}  {text}" for text in row["reads"]) + f"   [{row['right']}]")
            print("".join(f"   = {text}\n" for text in row.get("choices", ())), end="")
        for name, words in each.words.items():
            print(f"{name} = {' or '.join(words)}")


def _experiment(
    task: str, override: list[str], plm: str | None, file: Path | None, data: str, template: str, head: str | None
) -> Any:
    """The experiment of the file, or of the options alone; a PLM of the options takes the place of the file's."""
    from tuning.experiment.loading import from_values
    from tuning.planning.resolve import load_whole

    own: dict[str, Any] = {"from": plm, **({"head": head} if head else {})}
    if file is not None:
        return load_whole(file, [*override, *([f"plm={own}"] if plm else [])])
    if plm is None or override:
        needed = "-o changes an experiment file" if override else "a PLM is needed"
        refuse("tasks show", needed, "add --file" if override else "add --plm, or --file with an experiment file")
    return from_values(
        {"name": "tasks show", "plm": own, "data": data, "targets": [task], "template": template}, Path.cwd()
    )
