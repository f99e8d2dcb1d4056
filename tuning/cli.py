"""`panda-tune`: a thin command over functions that a notebook can call. Imports lazily."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    help="Soft-prompt transfer: from an experiment file to the best configuration per target task.",
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip
library_app = typer.Typer(help="The prompts, teachers and tables that were made.", no_args_is_help=True)
app.add_typer(library_app, name="library")

File = Annotated[Path, typer.Argument(help="the experiment file", show_default=False)]
Overrides = Annotated[list[str], typer.Option("-o", help="key.key=value over the file's; repeatable")]
Address = Annotated[
    str | None, typer.Option(help="auto or host:port of a running Ray cluster; default: Ray on this machine")
]


class Format(StrEnum):
    """How an answer is printed."""

    table = "table"
    json = "json"
    yaml = "yaml"


@app.command()
def search(
    file: File, override: Overrides = [], address: Address = None,  # noqa: B006  # typer copies it
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and start nothing")] = False,
) -> None:  # fmt: skip
    """Search, resume or extend an experiment, and print the best configuration per target."""
    from tuning.planning.resolve import load_whole

    loaded = load_whole(file, override)
    if dry_run:
        from tuning.run.dry_run import describe

        print(describe(loaded))
        return
    _search(loaded, file, address)


def _search(loaded: Any, file: Path, address: str | None) -> None:
    from tuning.run.search import search as run
    from tuning.tables import best_table, study_table

    outcome = run(loaded, address)
    if outcome.winners:
        print(study_table(loaded))
        print(best_table(loaded))
        print(f"\nNext: panda-tune best {file} --format yaml   or   panda-tune ui {file}")
    if not outcome.computed:
        print("Everything was there already: nothing was computed.", file=sys.stderr)
    for failure in outcome.failures:
        print(f"failed: {failure}", file=sys.stderr)
    for name in outcome.unconfirmed:
        print(f"no confirmed winner: {name}", file=sys.stderr)
    raise typer.Exit(1 if outcome.unconfirmed or outcome.failures else 0)


@app.command()
def quickstart(address: Address = None) -> None:
    """Run a small search on demonstration tasks, with files in the current folder."""
    from importlib.resources import files

    from tuning.experiment import loading as reading

    file = Path("quickstart.yaml")
    if not file.exists():
        file.write_text(files("tuning").joinpath("quickstart.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    _search(reading.load(file), file, address)


@app.command()
def best(
    file: File,
    override: Overrides = [],  # noqa: B006  # typer copies it
    target: Annotated[str | None, typer.Option(help="only this target")] = None,
    form: Annotated[Format, typer.Option("--format", help="of the answer")] = Format.table,
) -> None:
    """Print the best configuration per target, from MLflow alone."""
    from analysis.findings.best import best as best_of
    from tuning.experiment import loading as reading
    from tuning.experiment.problems import Misuse
    from tuning.tables import best_table

    loaded = reading.load(file, override)
    if target is not None and target not in loaded.targets:
        raise Misuse(f"--target {target}: is no target of {file}; there are {', '.join(loaded.targets)}")
    if form is Format.table:
        print(best_table(loaded, target))
        return
    _print_as(form, best_of(loaded.tracking_uri, loaded.name, target))


def _print_as(form: Format, answer: Any) -> None:
    if form is Format.json:
        print(json.dumps(answer, indent=1))
    else:
        import yaml

        print(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True))


class PaperFormat(StrEnum):
    """How methods × targets are printed."""

    table = "table"
    latex = "latex"
    csv = "csv"


@app.command()
def analyze(
    file: File,
    override: Overrides = [],  # noqa: B006  # typer copies it
    out: Annotated[Path | None, typer.Option(help="folder; default: <storage>/searches/<name>/analysis")] = None,
    form: Annotated[PaperFormat, typer.Option("--format", help="of methods × targets on stdout")] = PaperFormat.table,
) -> None:
    """Say whether similarity predicted the gain: a page with figures, from MLflow alone, and a run `analysis` there."""
    from analysis.analyze import analyze as run
    from analysis.analyze import publish
    from analysis.findings.method_table import paper_table
    from analysis.records.reader import NoRecords
    from tuning.experiment import loading as reading
    from tuning.experiment.problems import Misuse

    loaded = reading.load(file, override)
    folder = out or loaded.search_path / "analysis"
    try:
        found = run(loaded.tracking_uri, loaded.name, folder)
    except OSError as error:
        raise Misuse(f"--out {folder}: cannot be written ({error.strerror or error}); name another folder") from error
    except NoRecords as error:
        raise Misuse(str(error)) from error
    if found.evidence.studies:
        print(paper_table(found.evidence, form))
    for sentence in found.answer.sentences:
        print(sentence, file=sys.stderr)
    print(f"{found.page}: open it in a browser", file=sys.stderr)
    publish(loaded.tracking_uri, loaded.name, found)
    if not found.evidence.studies:
        raise Misuse(
            f"{loaded.name} has no confirmed study: the page says what is missing; run panda-tune search to its end"
        )


@app.command()
def retrieve(
    file: File,
    target: Annotated[str, typer.Option(help="the target that looks for sources", show_default=False)],
    override: Overrides = [],  # noqa: B006  # typer copies it
    by: Annotated[str, typer.Option(help="the similarity that ranks them")] = "c_mean",
    top: Annotated[int | None, typer.Option(min=1, help="only so many")] = None,
    address: Address = None,
    form: Annotated[Format, typer.Option("--format", help="of the answer")] = Format.table,
) -> None:
    """Rank the sources of a target by similarity, as SPoT's library does; prompts that are missing are trained."""
    from panda_trainable.config.methods import SIMILARITY_NAMES
    from tuning.experiment.problems import Misuse, near
    from tuning.planning.resolve import load_whole
    from tuning.run import retrieve as library
    from tuning.tables import kept_table, retrieved_table

    loaded = load_whole(file, override)
    if by not in SIMILARITY_NAMES:
        raise Misuse(
            f"--by {by}: is no similarity{near(by, SIMILARITY_NAMES)}; there are {', '.join(SIMILARITY_NAMES)}"
        )
    rows = library.retrieve(loaded, target, by, address)
    rows = [row for row in rows if top is None or row["rank"] <= top]
    kept = library.kept(loaded, by, target)
    if form is Format.table:
        print(retrieved_table(rows))
        if kept:
            print(kept_table(kept))
        return
    _print_as(form, {"sources": rows, "best_of_top_k": kept})


class CorrelationFormat(StrEnum):
    """How correlations are printed."""

    table = "table"
    json = "json"
    csv = "csv"


class RelativeTo(StrEnum):
    """What pooled scores are divided by."""

    self = "self"
    baseline = "baseline"
    none = "none"


@app.command()
def correlate(
    scores: Annotated[Path, typer.Argument(help="CSV: source,target,score[,method][,seed]", show_default=False)],
    similarities: Annotated[Path, typer.Argument(help="CSV: source,target,metric,similarity", show_default=False)],
    relative_to: Annotated[
        RelativeTo, typer.Option(help="what pooled scores are divided by: the target's own prompt's, its baseline's")
    ] = RelativeTo.none,
    exclude_self: Annotated[bool, typer.Option("--exclude-self", help="without pairs of a task with itself")] = False,
    method: Annotated[str | None, typer.Option(help="whose scores, where the file has several methods")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of bootstrap and permutations")] = 0,
    form: Annotated[CorrelationFormat, typer.Option("--format", help="of the answer")] = CorrelationFormat.table,
) -> None:
    """Tell how well similarities predict transfer scores: anyone's, from CSV files; a row without source is the baseline."""
    from analysis.external import scores as others
    from analysis.external.csv_rows import Unreadable
    from tuning.experiment.problems import Misuse
    from tuning.tables import correlation_csv, correlation_table, notes

    try:
        found = others.correlations(scores, similarities, relative_to.value, exclude_self, seed, method)
    except Unreadable as error:
        raise Misuse(str(error)) from error
    if form is CorrelationFormat.table:
        print(correlation_table(found, relative_to.value))
    elif form is CorrelationFormat.csv:
        print(correlation_csv(found), end="")
    else:
        print(json.dumps(others.as_json(found), indent=1))
        for note in notes(found):
            print(note, file=sys.stderr)


@app.command()
def train(
    file: File,
    override: Overrides = [],  # noqa: B006  # typer copies it
    output: Annotated[
        Path | None, typer.Option(help="folder of the prompts; default: <storage>/trained/<name>")
    ] = None,
) -> None:
    """Train one pinned configuration, write its prompts and print its scores."""
    from tuning.experiment import loading as reading
    from tuning.run.train import train as run

    print(json.dumps(run(reading.load(file, override), output), indent=1))


@app.command()
def ui(
    file: File,
    override: Overrides = [],  # noqa: B006  # typer copies it
    port: Annotated[int, typer.Option(help="on localhost")] = 5000,
) -> None:
    """Start the MLflow UI on the experiment's store, on localhost."""
    import os

    from tuning.experiment import loading as reading
    from tuning.experiment.problems import Misuse

    loaded = reading.load(file, override)
    uri = loaded.tracking_uri
    if not uri.startswith("sqlite:"):
        print(f"the store is a server already: open {uri}")
        return
    if not Path(uri.removeprefix("sqlite:///")).exists():
        raise Misuse(f"{uri}: nothing recorded yet; run panda-tune search {file} first")
    print(f"http://127.0.0.1:{port} (end with Ctrl-C)", flush=True)
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    os.execv(sys.executable, command)  # noqa: S606  # our own interpreter; no shell is wanted


@app.command()
def schema() -> None:
    """Print the experiment file's JSON schema."""
    from tuning.experiment.experiment import Experiment

    print(json.dumps(Experiment.schema(), indent=1))


@library_app.command("list")
def library_list(file: File) -> None:
    """List what was made, a line each."""
    for card in _library(file).cards():
        what = card.get("task") or f"{card.get('target')} · {card.get('method')}"
        facts = [f"{name} {card[name]}" for name in ("split", "seed", "seeds", "steps", "holds") if name in card]
        print(f"{card['kind']:<11} {card['key']}  {what}  {', '.join(facts)}")


@library_app.command("show")
def library_show(file: File, key: Annotated[str, typer.Argument(help="of `library list`, or its beginning")]) -> None:
    """Print the card of an artefact."""
    from tuning.experiment.problems import Misuse

    found = [card for card in _library(file).cards() if card["key"].startswith(key)]
    if not found:
        raise Misuse(f"{key}: no such key; see panda-tune library list {file}")
    print(json.dumps(found, indent=1))


@library_app.command("verify")
def library_verify(file: File) -> None:
    """Check every artefact against its checksums; exit 1 if one is damaged."""
    from panda_trainable.library import DamagedArtefact, verify

    library, count, damaged = _library(file), 0, 0
    for card in library.cards():
        count += 1
        try:
            verify(library.path(card["kind"], card["key"]))
        except DamagedArtefact as error:
            damaged += 1
            print(f"damaged: {error}; the next search sets it aside and makes it again")
    print(f"{count} artefacts, {damaged} damaged")
    raise typer.Exit(1 if damaged else 0)


@library_app.command("export")
def library_export(
    file: File, archive: Annotated[Path, typer.Argument(help="the zip file to write")], override: Overrides = [],  # noqa: B006
) -> None:  # fmt: skip
    """Write the source prompts of an experiment into an archive: for others to start from, without the data."""
    from tuning.archive import export
    from tuning.planning.resolve import load_whole, make_plans

    names, count = export(make_plans(load_whole(file, override)), archive)
    print(f"{archive}: {count} artefacts of {', '.join(names)}")


@library_app.command("import")
def library_import(
    file: File, archive: Annotated[Path, typer.Argument(help="from library export")], override: Overrides = [],  # noqa: B006
) -> None:  # fmt: skip
    """Take the source prompts of an archive into the experiment's storage."""
    from tuning.archive import import_archive
    from tuning.experiment.loading import load
    from tuning.experiment.problems import Misuse
    from tuning.planning.resolve import storage_problems

    loaded = load(file, override)
    if problems := storage_problems(loaded):
        raise Misuse("\n".join(problems))
    names, fresh = import_archive(loaded.storage_path / "library", archive)
    print(f"{fresh} new artefacts of {', '.join(names)}; name them under `sources:`, their data is not needed")


def _library(file: Path) -> Any:
    from panda_trainable.library import PromptLibrary
    from tuning.experiment import loading as reading

    return PromptLibrary(reading.load(file).storage_path / "library")


def main() -> NoReturn:
    """The console script: a user's mistake is one message and exit code 2, never a traceback."""
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        code = _told(error)
        if code is None:
            raise
        sys.exit(code)
    sys.exit(0)


def _told(error: Exception) -> int | None:
    """Prints what a user can mend; None if the error is ours."""
    name = type(error).__name__
    if name == "Misuse":
        print(error, file=sys.stderr)
        return 2
    if name == "NoRecords":
        print(error, file=sys.stderr)
        return 1
    return None
