"""`panda-tune library`: what an experiment's storage holds, checked, exported and imported."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tuning.commands.options import File, Overrides, as_json, next_step, refuse

library_app = typer.Typer(
    help="Look into the trained prompts and other artefacts, check, export and import them.", no_args_is_help=True
)


@library_app.command("list")
def library_list(file: File, override: Overrides) -> None:
    """List the artefacts of an experiment's storage: a line each with kind, key and what it is."""
    from tuning.experiment.names import printable

    for card in _cards(file, override):
        what = card.get("task") or f"{card.get('target')} · {card.get('method')}"
        facts = [f"{name} {card[name]}" for name in ("split", "seed", "seeds", "steps", "holds") if name in card]
        print(printable(f"{card['kind']:<11} {card['key']}  {what}  {', '.join(facts)}"))


@library_app.command("show")
def library_show(
    file: File,
    key: Annotated[str, typer.Argument(help="key that `library list` prints, or its beginning")],
    override: Overrides,
) -> None:
    """Print what is recorded of an artefact."""
    found = [card for card in _cards(file, override) if card["key"].startswith(key)]
    if not found:
        refuse(key, "no such key", f"see panda-tune library list {file}")
    print(as_json(found))


@library_app.command("verify")
def library_verify(file: File, override: Overrides) -> None:
    """Check all artefacts against their checksums; exit code 1 if one is damaged."""
    from panda_trainable.library import DamagedArtefact, verify
    from tuning.experiment.names import printable

    library, cards, damaged = _library(file, override), _cards(file, override), 0
    for card in cards:
        try:
            verify(library.path(card["kind"], card["key"]))
        except DamagedArtefact as error:
            damaged += 1
            print(f"damaged: {printable(str(error))}; the next search sets it aside and makes it again")
    print(f"{len(cards)} artefacts, {damaged} damaged")
    raise typer.Exit(1 if damaged else 0)


@library_app.command("export")
def library_export(
    file: File, archive: Annotated[Path, typer.Argument(help="zip file to write")], override: Overrides
) -> None:
    """Write the trained source prompts of an experiment into an archive, without data, for others to start from."""
    from tuning.handover.archive import export
    from tuning.planning.resolve import load_whole, make_plans

    names, count = export(make_plans(load_whole(file, override)), archive)
    print(f"{archive}: {count} artefacts of {', '.join(names)}")
    next_step(f"panda-tune library import FILE {archive}, with an experiment file of the same plm")


@library_app.command("import")
def library_import(
    file: File,
    source: Annotated[
        Path,
        typer.Argument(
            help="zip file from `library export`; or a prompt made elsewhere: safetensors, NumPy, torch, a PEFT adapter's folder"
        ),
    ],
    override: Overrides,
    name: Annotated[str, typer.Option(help="of a prompt, as a source; default: as its file is called")] = "",
    plm: Annotated[str, typer.Option(help="for which PLM a prompt is, where the experiment has several")] = "",
    tensor: Annotated[str, typer.Option(help="name of a prompt's tensor, where its file holds several")] = "",
    shape: Annotated[str, typer.Option(help="of a prompt, as in 100,768; default: as its file has it")] = "",
) -> None:
    """Copy source prompts into the experiment's storage: those of an archive, or one that was made elsewhere."""
    from tuning.experiment.loading import load
    from tuning.experiment.problems import Misuse
    from tuning.experiment.storage import library_of
    from tuning.handover.archive import import_archive, is_archive
    from tuning.planning.resolve import storage_problems

    experiment = load(file, override)
    if problems := list(storage_problems(experiment)):
        raise Misuse(*problems)
    if not is_archive(source):
        from tuning.handover.prompts import import_prompt

        made = import_prompt(experiment, source, name, plm, tensor, _numbers(shape))
        print(
            f"{made.name}: a prompt of form {made.form} and length {made.length} for {made.plm}; name it under `imported:` "
            f"and `sources:`, with prompt: {{form: {made.form}, length: {made.length}}}"
        )
        return
    if name or plm or tensor or shape:
        refuse(
            str(source),
            "is an archive, which says itself what it holds",
            "leave --name, --plm, --tensor and --shape out",
        )
    names, fresh = import_archive(library_of(experiment), source)
    print(f"{fresh} new artefacts of {', '.join(names)}; name them under `sources:`, their data is not needed")
    next_step(f"panda-tune search {file} --dry-run")


@library_app.command("gc")
def library_gc(
    file: File, override: Overrides,
    yes: Annotated[bool, typer.Option("--yes", help="remove it without asking")] = False,
) -> None:  # fmt: skip
    """List what no experiment of the storage uses, and remove it: artefacts, drafts of killed processes, what was damaged."""
    from tuning.experiment.loading import load
    from tuning.run.unused import unused

    with unused(load(file, override).storage_path) as found:
        for each in found:
            print(f"{each.kind:<11} {each.path.name}  {each.what}  {each.size / 2**20:.1f} MiB")
        total = f"{len(found)} unused, {sum(each.size for each in found) / 2**20:.1f} MiB"
        if not found or not (yes or _agreed(f"{total}: remove them? [y/N] ")):
            print(f"{total}{'; --yes removes them' if found else ''}", file=sys.stderr)
            return
        for each in found:
            each.remove()
    print(f"{total}: removed", file=sys.stderr)


def _agreed(question: str) -> bool:
    """Whether somebody at a terminal says yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(question, end="", file=sys.stderr, flush=True)
    return input().strip().lower() in ("y", "yes")


def _numbers(shape: str) -> tuple[int, ...]:
    """The dimensions of a shape as it is written on the command line."""
    parts = [part for part in shape.split(",") if part.strip()]
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        refuse(f"--shape {shape}", "must be positive numbers with commas between them", "as in --shape 100,768")
    return tuple(map(int, parts))


def _library(file: Path, override: list[str]) -> Any:
    from panda_trainable.library import PromptLibrary
    from tuning.experiment.loading import load

    return PromptLibrary(load(file, override).storage_path / "library")


def _cards(file: Path, override: list[str]) -> list[dict[str, Any]]:
    """The cards of all artefacts; refuses where there are none."""
    library = _library(file, override)
    cards = list(library.cards())
    if not cards:
        refuse(
            str(library.root), "holds no artefacts", f"run panda-tune search {file}, or name its storage: -o storage=…"
        )
    return cards
