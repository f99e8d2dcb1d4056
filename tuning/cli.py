"""`panda-tune`: thin commands over functions that a notebook can call. Imports lazily."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NoReturn

import typer

from analysis.records.address import cleaned, plain
from tuning.commands.doctor import doctor
from tuning.commands.export import export
from tuning.commands.faults import explained, failed
from tuning.commands.library import library_app
from tuning.commands.new import new
from tuning.commands.options import (
    SERIALISERS,
    Address,
    File,
    Form,
    Overrides,
    Wait,
    as_json,
    next_step,
    refuse,
    refuse_all,
    similarities_known,
    targets_in,
)
from tuning.commands.predict import predict
from tuning.commands.stopping import Stopping, said
from tuning.commands.tasks import tasks_app
from tuning.experiment.names import printable
from tuning.layout import terminal_width

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(new)
app.add_typer(library_app, name="library")
app.add_typer(tasks_app, name="tasks")
app.command()(predict)
app.command()(export)
app.command()(doctor)

EXIT_CODES: Mapping[str, int] = MappingProxyType(
    {**dict.fromkeys(("Misuse", "NoRecords", "Away", "Deleted"), 2), "Failed": 1}
)
"""Exceptions that say themselves what to do, by name since their modules load late -> exit code."""

EXPECTED = frozenset(EXIT_CODES)

INTERRUPTED = 130
"""What typer makes of an interrupt."""


def _print_version(asked: bool) -> None:
    from importlib.metadata import version

    if asked:
        print(f"panda-tune {version('panda-tune')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Soft-prompt transfer: from an experiment file to the best configuration per target task."""


@app.command()
def search(
    file: File, override: Overrides, address: Address = None, wait_for_nodes: Wait = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and start nothing")] = False,
) -> None:  # fmt: skip
    """Run, resume or extend a hyperparameter search, and print the best configuration per target task."""
    from tuning.planning.resolve import load_whole

    if wait_for_nodes and not address:
        refuse("--wait-for-nodes", "there are no nodes to wait for on this machine alone", "add --address")
    experiment = load_whole(file, override)
    if dry_run:
        from tuning.run.dry_run import describe

        print(describe(experiment))
        next_step(f"panda-tune search {file}")
        return
    _search(experiment, file, address, wait_for_nodes)


def _search(experiment: Any, file: Path, address: str | None, wait_s: float = 0) -> None:
    from tuning.run.search import search as run
    from tuning.tables import best_table, study_table

    with explained(experiment.search_path, EXPECTED):
        outcome = run(experiment, address, wait_s=wait_s)
    if outcome.winners:
        width = terminal_width()
        print(study_table(experiment, width, outcome.records.studies))
        print(best_table(experiment, width=width, studies=outcome.records.studies))
        next_step(f"panda-tune best {file} --format yaml", f"panda-tune analyze {file}", f"panda-tune ui {file}")
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
    target: Annotated[str | None, typer.Option(help="print this target task alone", autocompletion=targets_in)] = None,
    form: Form = "table",
) -> None:
    """Print the best configuration per target task, as recorded in MLflow; with --format yaml as files for `train`."""
    from analysis.findings.best import rows
    from tuning.experiment.loading import load
    from tuning.experiment.problems import check_target
    from tuning.handover.finished import confirmed
    from tuning.tables import best_table

    experiment = load(file, override)
    if target is not None:
        check_target(target, experiment.targets)
    studies, config_of = confirmed(experiment, target)
    if form == "table":
        print(best_table(experiment, target, terminal_width(), studies))
        one = target or experiment.targets[0]
        next_step(f"panda-tune best {file} --target {one} --format yaml > {one}.yaml, then panda-tune train {one}.yaml")
    else:
        print(SERIALISERS[form](rows(studies, config_of, target)))


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
    from analysis.records.connection import NoRecords
    from tuning.experiment.loading import load
    from tuning.run.progress import Progress
    from tuning.tables import methods_text

    experiment = load(file, override)
    folder = out or experiment.search_path / "analysis"
    try:
        with Progress() as progress:
            progress.doing("reading MLflow and drawing figures")
            found = run(experiment.tracking_uri, experiment.name, folder)
    except OSError as error:
        refuse(f"--out {folder}", f"cannot be written ({error.strerror or error})", "name another folder")
    except NoRecords as error:
        refuse(experiment.name, str(error))
    if found.evidence.studies:
        print(methods_text(found.evidence, terminal_width()) if form == "table" else paper_table(found.evidence, form))
    for sentence in found.answer.sentences:
        print(sentence, file=sys.stderr)
    print(f"{found.page}: open it in a browser", file=sys.stderr)
    try:
        publish(experiment.tracking_uri, experiment.name, found)
    except NoRecords as error:  # the page is there all the same
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    if not found.evidence.studies:
        rule = "has no confirmed study: the page says what is missing"
        refuse(experiment.name, rule, "run panda-tune search to its end")


@app.command()
def retrieve(
    file: File,
    target: Annotated[
        str,
        typer.Option(help="target task for which sources are ranked", show_default=False, autocompletion=targets_in),
    ],
    override: Overrides,
    by: Annotated[
        str, typer.Option(help="similarity by which they are ranked", autocompletion=similarities_known)
    ] = "c_mean",
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
        refuse(
            f"--by {by}", f"is no similarity{near(by, SIMILARITY_NAMES)}", f"there are {', '.join(SIMILARITY_NAMES)}"
        )
    with explained(experiment.search_path, EXPECTED):
        ranked = library.retrieve(experiment, target, by, address)
    rows = [row for row in ranked if top is None or row["rank"] <= top]
    kept = library.kept(experiment, by, target)
    if form != "table":
        print(SERIALISERS[form]({"sources": rows, "best_of_top_k": kept}))
        return
    print(retrieved_table(rows, terminal_width()))
    if kept:
        print(kept_table(kept, terminal_width()))
    if rows:
        first = ", ".join(str(row["source"]) for row in rows[:3])
        next_step(f"panda-tune search {file} -o 'pairs={{{target}: [{first}]}}'")


@app.command()
def correlate(
    scores: Annotated[
        Path, typer.Argument(help="CSV with columns source,target,score[,method][,seed]", show_default=False)
    ],
    similarities: Annotated[
        Path, typer.Argument(help="CSV with columns source,target,metric,similarity", show_default=False)
    ],
    relative_to: Annotated[
        Literal["ranks", "self", "baseline", "none"],
        typer.Option(help="pool ranks within targets, or similarities as they are with scores divided by that of the target's own prompt, or of its baseline, or by nothing"),
    ] = "ranks",
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
    from tuning.correlation_tables import correlation_csv, correlation_table, notes

    try:
        found = external.correlations(scores, similarities, relative_to, exclude_self, seed, method)
    except Unreadable as error:
        refuse_all(error)
    texts: dict[str, Callable[[], str]] = {
        "table": lambda: correlation_table(found, relative_to, terminal_width()) + "\n",
        "csv": lambda: correlation_csv(found),
        "json": lambda: as_json(external.as_json(found)) + "\n",
    }
    print(texts[form](), end="")
    for note in notes(found) if form == "json" else ():
        print(note, file=sys.stderr)


@app.command()
def train(
    file: File,
    override: Overrides,
    output: Annotated[
        Path | None, typer.Option(help="folder of the winner; default: <storage>/trained/<name>")
    ] = None,
) -> None:  # fmt: skip
    """Train the single configuration of a file, as `best --format yaml` prints it; writes its folder, prints its scores."""
    from tuning.experiment.loading import load
    from tuning.run.train import train as run

    experiment = load(file, override)
    with explained(experiment.search_path, EXPECTED):
        trained = run(experiment, output)
    print(as_json(trained))
    next_step(f"panda-tune predict {trained['winner']} ROWS")


@app.command()
def ui(
    file: File,
    override: Overrides,
    port: Annotated[int, typer.Option(min=1, max=65535, help="port on localhost")] = 5000,
) -> None:
    """Start MLflow's web page on the results of an experiment, on localhost."""
    from analysis.records.connection import client
    from tuning.experiment.loading import load
    from tuning.run.serve import serve

    uri = load(file, override).tracking_uri
    if not uri.startswith("sqlite:"):
        client(uri, reads=True)
        print(f"the results are on a server already: open {cleaned(plain(uri))}")
        return
    serve(Path(uri.removeprefix("sqlite:///")), port)


@app.command()
def schema() -> None:
    """Print the JSON schema of experiment files, for editors that check YAML."""
    from tuning.experiment.experiment import Experiment

    print(as_json(Experiment.schema()))


def main() -> NoReturn:
    """The console script: a user's mistake is one message and exit code 2, anything else one and 1, never a traceback."""
    with Stopping() as stopping:
        _run(stopping)
    sys.exit(0)


def _run(stopping: Stopping) -> None:
    try:
        app(standalone_mode=True)
    except (KeyboardInterrupt, SystemExit) as ended:  # typer makes an exit of an interrupt
        if isinstance(ended, SystemExit) and ended.code != INTERRUPTED:
            raise
        print(said(next(iter(sys.argv[1:]), "")), file=sys.stderr)
        sys.exit(stopping.exit_code)
    except Exception as error:  # noqa: BLE001  # the edge: whatever it is, people read one sentence
        told = error if type(error).__name__ in EXIT_CODES else failed(error)
        print(printable(cleaned(str(told))), file=sys.stderr)
        sys.exit(EXIT_CODES[type(told).__name__])
