"""`panda-tune`: thin commands over functions that a notebook can call. Imports lazily."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NoReturn

import typer

app = typer.Typer(
    help="Soft-prompt transfer: from an experiment file to the best configuration per target task.",
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
)  # fmt: skip
library_app = typer.Typer(
    help="Look into the trained prompts and other artefacts, check, export and import them.", no_args_is_help=True
)
app.add_typer(library_app, name="library")

File = Annotated[Path, typer.Argument(help="experiment file (YAML)", show_default=False)]
Overrides = Annotated[
    list[str],
    typer.Option(
        "-o",
        default_factory=list,
        show_default=False,
        metavar="KEY.KEY=VALUE",
        help="set a value of the file anew; repeatable",
    ),
]
Address = Annotated[
    str | None, typer.Option(help="running Ray cluster: auto or host:port; default: start Ray on this machine")
]
Form = Annotated[Literal["table", "json", "yaml"], typer.Option("--format", help="output format")]


def _as_yaml(answer: Any) -> str:
    import yaml

    return str(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True))


def _as_json(answer: Any) -> str:
    return json.dumps(answer, indent=1)


SERIALISERS: Mapping[str, Callable[[Any], str]] = MappingProxyType({"json": _as_json, "yaml": _as_yaml})
"""Format of a machine-readable answer -> its text."""

EXIT_CODES: Mapping[str, int] = MappingProxyType({"Misuse": 2, "NoRecords": 1})
"""Exceptions that a user can mend, by name since their modules load late -> exit code."""


@app.command()
def search(
    file: File, override: Overrides, address: Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and start nothing")] = False,
) -> None:  # fmt: skip
    """Run, resume or extend a hyperparameter search, and print the best configuration per target task."""
    from tuning.planning.resolve import load_whole

    experiment = load_whole(file, override)
    if dry_run:
        from tuning.run.dry_run import describe

        print(describe(experiment))
        return
    _search(experiment, file, address)


def _search(experiment: Any, file: Path, address: str | None) -> None:
    from tuning.run.search import search as run
    from tuning.tables import best_table, study_table

    outcome = run(experiment, address)
    if outcome.winners:
        print(study_table(experiment))
        print(best_table(experiment))
        print(f"\nNext: panda-tune best {file} --format yaml   or   panda-tune ui {file}")
    if not outcome.computed:
        print("All results were there already: nothing was computed.", file=sys.stderr)
    for failure in outcome.failures:
        print(f"failed: {failure}", file=sys.stderr)
    for name in outcome.unconfirmed:
        print(f"no confirmed winner: {name}", file=sys.stderr)
    raise typer.Exit(1 if outcome.unconfirmed or outcome.failures else 0)


@app.command()
def quickstart(address: Address = None) -> None:
    """Run a small search on demonstration tasks; writes quickstart.yaml and its results into the current folder."""
    from importlib.resources import files

    from tuning.experiment.loading import load

    file = Path("quickstart.yaml")
    if not file.exists():
        file.write_text(files("tuning").joinpath("quickstart.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    _search(load(file), file, address)


@app.command()
def best(
    file: File,
    override: Overrides,
    target: Annotated[str | None, typer.Option(help="print this target task alone")] = None,
    form: Form = "table",
) -> None:
    """Print the best configuration per target task, as recorded in MLflow; with --format yaml as files for `train`."""
    from analysis.findings.best import best as best_of
    from tuning.experiment.loading import load
    from tuning.tables import best_table

    experiment = load(file, override)
    if target is not None and target not in experiment.targets:
        _refuse(f"--target {target}", f"is no target of {file}", f"there are {', '.join(experiment.targets)}")
    if form == "table":
        print(best_table(experiment, target))
    else:
        print(SERIALISERS[form](best_of(experiment.tracking_uri, experiment.name, target)))


@app.command()
def analyze(
    file: File,
    override: Overrides,
    out: Annotated[
        Path | None, typer.Option(help="folder of page and figures; default: <storage>/searches/<name>/analysis")
    ] = None,
    form: Annotated[
        Literal["table", "latex", "csv"], typer.Option("--format", help="format of the table of methods by targets")
    ] = "table",
) -> None:
    """Report whether similarity predicted the gain of transfer: a page with figures, made from MLflow and logged there."""
    from analysis.analyze import analyze as run
    from analysis.analyze import publish
    from analysis.findings.method_table import paper_table
    from analysis.records.reader import NoRecords
    from tuning.experiment.loading import load

    experiment = load(file, override)
    folder = out or experiment.search_path / "analysis"
    try:
        found = run(experiment.tracking_uri, experiment.name, folder)
    except OSError as error:
        _refuse(f"--out {folder}", f"cannot be written ({error.strerror or error})", "name another folder")
    except NoRecords as error:
        _refuse(experiment.name, str(error))
    if found.evidence.studies:
        print(paper_table(found.evidence, form))
    for sentence in found.answer.sentences:
        print(sentence, file=sys.stderr)
    print(f"{found.page}: open it in a browser", file=sys.stderr)
    publish(experiment.tracking_uri, experiment.name, found)
    if not found.evidence.studies:
        rule = "has no confirmed study: the page says what is missing"
        _refuse(experiment.name, rule, "run panda-tune search to its end")


@app.command()
def retrieve(
    file: File,
    target: Annotated[str, typer.Option(help="target task for which sources are ranked", show_default=False)],
    override: Overrides,
    by: Annotated[str, typer.Option(help="similarity by which they are ranked")] = "c_mean",
    top: Annotated[int | None, typer.Option(min=1, help="print the first so many")] = None,
    address: Address = None,
    form: Form = "table",
) -> None:
    """Rank the source tasks of a target by similarity, as SPoT's library does; trains the prompts that are missing."""
    from panda_trainable.config.methods import SIMILARITY_NAMES
    from tuning.experiment.problems import near
    from tuning.planning.resolve import load_whole
    from tuning.run import retrieve as library
    from tuning.tables import kept_table, retrieved_table

    experiment = load_whole(file, override)
    if by not in SIMILARITY_NAMES:
        _refuse(
            f"--by {by}", f"is no similarity{near(by, SIMILARITY_NAMES)}", f"there are {', '.join(SIMILARITY_NAMES)}"
        )
    ranked = library.retrieve(experiment, target, by, address)
    rows = [row for row in ranked if top is None or row["rank"] <= top]
    kept = library.kept(experiment, by, target)
    if form != "table":
        print(SERIALISERS[form]({"sources": rows, "best_of_top_k": kept}))
        return
    print(retrieved_table(rows))
    if kept:
        print(kept_table(kept))


@app.command()
def correlate(
    scores: Annotated[
        Path, typer.Argument(help="CSV with columns source,target,score[,method][,seed]", show_default=False)
    ],
    similarities: Annotated[
        Path, typer.Argument(help="CSV with columns source,target,metric,similarity", show_default=False)
    ],
    relative_to: Annotated[
        Literal["self", "baseline", "none"],
        typer.Option(help="before pooling, divide scores by that of the target's own prompt, or of its baseline"),
    ] = "none",
    exclude_self: Annotated[bool, typer.Option("--exclude-self", help="leave out pairs of a task with itself")] = False,
    method: Annotated[str | None, typer.Option(help="use the scores of this method, where there are several")] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of bootstrap and permutations")] = 0,
    form: Annotated[
        Literal["table", "json", "csv"], typer.Option("--format", help="output format")
    ] = "table",
) -> None:  # fmt: skip
    """Report how well similarities predict transfer scores: of any CSV files; a row without source is the baseline."""
    from analysis.external import scores as external
    from analysis.external.csv_rows import Unreadable
    from tuning.tables import correlation_csv, correlation_table, notes

    try:
        found = external.correlations(scores, similarities, relative_to, exclude_self, seed, method)
    except Unreadable as error:
        _refuse_all(error)
    texts: dict[str, Callable[[], str]] = {
        "table": lambda: correlation_table(found, relative_to) + "\n",
        "csv": lambda: correlation_csv(found),
        "json": lambda: _as_json(external.as_json(found)) + "\n",
    }
    print(texts[form](), end="")
    for note in notes(found) if form == "json" else ():
        print(note, file=sys.stderr)


@app.command()
def train(
    file: File,
    override: Overrides,
    output: Annotated[
        Path | None, typer.Option(help="folder of the prompts; default: <storage>/trained/<name>")
    ] = None,
) -> None:  # fmt: skip
    """Train the single configuration of a file, as `best --format yaml` prints it; writes its prompts, prints its scores."""
    from tuning.experiment.loading import load
    from tuning.run.train import train as run

    print(_as_json(run(load(file, override), output)))


@app.command()
def ui(
    file: File,
    override: Overrides,
    port: Annotated[int, typer.Option(help="port on localhost")] = 5000,
) -> None:
    """Start MLflow's web page on the results of an experiment, on localhost."""
    import os

    from tuning.experiment.loading import load

    uri = load(file, override).tracking_uri
    if not uri.startswith("sqlite:"):
        print(f"the results are on a server already: open {uri}")
        return
    if not Path(uri.removeprefix("sqlite:///")).exists():
        _refuse(uri, "nothing is recorded yet", f"run panda-tune search {file} first")
    print(f"http://127.0.0.1:{port} (end with Ctrl-C)", flush=True)
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    options = ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *options])  # noqa: S606  # our own interpreter; no shell is wanted


@app.command()
def schema() -> None:
    """Print the JSON schema of experiment files, for editors that check YAML."""
    from tuning.experiment.experiment import Experiment

    print(_as_json(Experiment.schema()))


@library_app.command("list")
def library_list(file: File) -> None:
    """List the artefacts of an experiment's storage: a line each with kind, key and what it is."""
    for card in _library(file).cards():
        what = card.get("task") or f"{card.get('target')} · {card.get('method')}"
        facts = [f"{name} {card[name]}" for name in ("split", "seed", "seeds", "steps", "holds") if name in card]
        print(f"{card['kind']:<11} {card['key']}  {what}  {', '.join(facts)}")


@library_app.command("show")
def library_show(
    file: File, key: Annotated[str, typer.Argument(help="key that `library list` prints, or its beginning")]
) -> None:
    """Print what is recorded of an artefact."""
    found = [card for card in _library(file).cards() if card["key"].startswith(key)]
    if not found:
        _refuse(key, "no such key", f"see panda-tune library list {file}")
    print(_as_json(found))


@library_app.command("verify")
def library_verify(file: File) -> None:
    """Check all artefacts against their checksums; exit code 1 if one is damaged."""
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
    file: File, archive: Annotated[Path, typer.Argument(help="zip file to write")], override: Overrides
) -> None:
    """Write the trained source prompts of an experiment into an archive, without data, for others to start from."""
    from tuning.archive import export
    from tuning.planning.resolve import load_whole, make_plans

    names, count = export(make_plans(load_whole(file, override)), archive)
    print(f"{archive}: {count} artefacts of {', '.join(names)}")


@library_app.command("import")
def library_import(
    file: File, archive: Annotated[Path, typer.Argument(help="zip file from `library export`")], override: Overrides
) -> None:
    """Copy the source prompts of an archive into the experiment's storage."""
    from tuning.archive import import_archive
    from tuning.experiment.loading import load
    from tuning.experiment.problems import Misuse
    from tuning.planning.resolve import storage_problems

    experiment = load(file, override)
    if problems := list(storage_problems(experiment)):
        raise Misuse(*problems)
    names, fresh = import_archive(experiment.storage_path / "library", archive)
    print(f"{fresh} new artefacts of {', '.join(names)}; name them under `sources:`, their data is not needed")


def _library(file: Path) -> Any:
    from panda_trainable.library import PromptLibrary
    from tuning.experiment.loading import load

    return PromptLibrary(load(file).storage_path / "library")


def _refuse(place: str, rule: str, remedy: str = "") -> NoReturn:
    from tuning.experiment.problems import Misuse, Problem

    raise Misuse(Problem(place, rule, remedy=remedy))


def _refuse_all(error: Exception) -> NoReturn:
    """Refuses with the problems that another package tells, a line each."""
    from tuning.experiment.problems import Misuse, problems_of

    raise Misuse(*problems_of(error)) from error


def main() -> NoReturn:
    """The console script: a user's mistake is one message and exit code 2, never a traceback."""
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if type(error).__name__ not in EXIT_CODES:
            raise
        print(error, file=sys.stderr)
        sys.exit(EXIT_CODES[type(error).__name__])
    sys.exit(0)
