"""The commands as functions for Python and notebooks: of a file, its values or an Experiment; they return values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuning.experiment.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

    from analysis.analyze import Analysis
    from panda_trainable.prediction.predictor import Predictions

Given = Experiment | Path | str | Mapping[str, Any]
"""An experiment, the path of its file, or the values of one."""


@dataclass(frozen=True)
class Rows:
    """Results as rows of plain data, as the commands print them with `--format json`.

    Attributes:
        rows: with nested values.
    """

    rows: Sequence[Mapping[str, Any]]

    def to_pandas(self) -> "pd.DataFrame":
        """A line per row; nested values are columns such as `gain.mean`."""
        import pandas as pd

        return pd.json_normalize([dict(row) for row in self.rows])


@dataclass(frozen=True)
class Examined:
    """What would stop a search, and what would not.

    Attributes:
        findings: a row per check and place, with its state, what was found and what to do.
    """

    findings: Rows

    @property
    def is_well(self) -> bool:
        """Whether nothing failed."""
        return all(row["state"] != "failed" for row in self.findings.rows)

    def to_pandas(self) -> "pd.DataFrame":
        """A line per check and place."""
        return self.findings.to_pandas()


@dataclass(frozen=True)
class SearchResult:
    """What a search came to.

    Attributes:
        best: a row per target and PLM.
        failures: of single trials and prompts, in words.
        unconfirmed: studies without a confirmed winner.
        computed: whether anything was computed: False where all was there already.
    """

    best: Rows
    failures: tuple[str, ...]
    unconfirmed: tuple[str, ...]
    computed: bool

    def to_pandas(self) -> "pd.DataFrame":
        """The best configurations."""
        return self.best.to_pandas()


@dataclass(frozen=True)
class Trained:
    """One configuration, trained.

    Attributes:
        scores: losses, scores on selection and report rows {metric: {mean, std, n}}, and the files of its prompts.
    """

    scores: Mapping[str, Any]

    def to_pandas(self) -> "pd.DataFrame":
        """A line per split and metric, with mean, std and n."""
        import pandas as pd

        lines = [
            {"split": split, "metric": metric, **values}
            for split in ("selection", "report")
            for metric, values in self.scores[split].items()
        ]
        return pd.DataFrame(lines)


@dataclass(frozen=True)
class Analyzed:
    """The answer to whether similarity predicts the gain.

    Attributes:
        sentences: the answer in words.
        page: the file to open in a browser.
        analysis: all evidence, findings and figures behind it.
    """

    sentences: tuple[str, ...]
    page: Path
    analysis: "Analysis"

    def to_pandas(self) -> "pd.DataFrame":
        """A line per pair of source and target, with gain and similarities."""
        import pandas as pd

        from analysis.analyze import tables

        return pd.DataFrame(tables(self.analysis)["pairs"])


@dataclass(frozen=True)
class Predicted:
    """What a winner answers to rows.

    Attributes:
        predictions: the answers, and of labelled rows their scores.
    """

    predictions: "Predictions"

    def to_pandas(self) -> "pd.DataFrame":
        """A line per row; probabilities are columns such as `probabilities.yes`."""
        import pandas as pd

        return pd.json_normalize(self.predictions.rows())


def experiment(given: Given) -> Experiment:
    """The experiment that is meant; relative paths of values are those of the working directory.

    Raises:
        Misuse: with all mistakes.
    """
    from tuning.experiment.loading import from_values, load

    if isinstance(given, Experiment):
        return given
    return load(Path(given)) if isinstance(given, str | Path) else from_values(given, Path.cwd())


def new(
    data: Path | str, folder: Path | str = ".", *, target: str | None = None, plm: str | None = None,
    preset: Literal["small", "standard", "paper"] = "standard",
) -> str:  # fmt: skip
    """The text of a commented experiment file for a folder of data, as `panda-tune new` writes it.

    Args:
        data: the `data` folder, the folder of one task, or a file of rows.
        folder: where the file will lie: its paths are relative to it.
        target: the task to be good at; None: the smallest of one's own.
        plm: None: one that is installed, or else a small one of the hub.
        preset: how much is trained: `small` ends within an hour on this machine, `paper` is the published setting.

    Raises:
        Misuse: if there is no task that could be used, or no such target.
    """
    from tuning.draft.draft import new as drafted

    return drafted(Path(data), Path(folder), target=target, plm=plm, preset=preset)


def search(given: Given, *, address: str | None = None, wait_s: float = 0) -> SearchResult:
    """Runs an experiment, or what is left of it, as `panda-tune search` does.

    Args:
        given: the experiment.
        address: of a running Ray cluster; None: the connection that this process has, or Ray is started here.
        wait_s: seconds to wait for nodes of that cluster that fit a trial.

    Raises:
        Misuse: before anything starts, for whatever must be mended.
    """
    from analysis.findings.best import rows
    from analysis.records.reader import confirmed_of
    from tuning.run.search import search as run

    asked = experiment(given)
    outcome = run(asked, address, wait_s=wait_s)
    studies = confirmed_of(outcome.records.studies, asked.name) if outcome.winners else []
    found = Rows(tuple(rows(studies, outcome.records.config)))
    return SearchResult(found, tuple(outcome.failures), tuple(outcome.unconfirmed), outcome.computed)


def doctor(given: Given, *, address: str | None = None, wait_s: float = 0) -> Examined:
    """Looks for what would stop a search, here and on every node, as `panda-tune doctor` does.

    Args:
        given: the experiment.
        address: of a running Ray cluster; None: the connection that this process has, or Ray is started here.
        wait_s: seconds to wait for nodes of that cluster that fit a trial.
    """
    from dataclasses import asdict

    from tuning.doctor.examine import examine

    return Examined(Rows(tuple(map(asdict, examine(experiment(given), address, wait_s)))))


def best(given: Given, *, target: str | None = None) -> Rows:
    """The best configuration per target and PLM, as `panda-tune best --format json` prints it.

    Raises:
        Misuse: if the target is none of the experiment.
        NoRecords: if nothing is confirmed yet.
    """
    from analysis.findings.best import rows
    from tuning.experiment.problems import check_target
    from tuning.handover.finished import confirmed

    asked = experiment(given)
    if target is not None:
        check_target(target, asked.targets)
    return Rows(tuple(rows(*confirmed(asked, target), target)))


def analyze(given: Given, *, out: Path | None = None) -> Analyzed:
    """Whether similarity predicted the gain, as `panda-tune analyze` says; also writes the page and logs it.

    Args:
        given: the experiment.
        out: the folder of page and figures; default: that of the search.

    Raises:
        NoRecords: if there is nothing to analyse, or MLflow does not take the run.
    """
    from analysis.analyze import analyze as run
    from analysis.analyze import publish

    asked = experiment(given)
    found = run(asked.tracking_uri, asked.name, out or asked.search_path / "analysis")
    publish(asked.tracking_uri, asked.name, found)
    return Analyzed(tuple(found.answer.sentences), found.page, found)


def train(given: Given, *, output: Path | None = None) -> Trained:
    """Trains the single configuration of an experiment, as `panda-tune train` does.

    Raises:
        Misuse: if it describes several, or leaves a knob open.
    """
    from tuning.run.train import train as run

    return Trained(run(experiment(given), output))


def predict(
    winner: Path | str, rows: Path | str | Sequence[Mapping[str, Any]], *, replica: int | None = None,
    plm: str | None = None, tracking: str | None = None,
) -> Predicted:  # fmt: skip
    """What a winner answers to new rows, as `panda-tune predict` prints it.

    Args:
        winner: a folder that `train` wrote, a pinned file, or `models:/<name>@champion`.
        rows: a file of rows, or rows themselves, with or without labels.
        replica: seed of the one that answers; None: all, averaged; of written texts the best in selection.
        plm: where its PLM is, if not where it was.
        tracking: MLflow's address, for `models:/`.

    Raises:
        Misuse: for whatever must be mended.
    """
    from tuning.experiment.problems import Misuse, problems_of
    from tuning.prediction.places import winner_folder

    with winner_folder(str(winner), tracking) as folder:
        from panda_trainable.prediction.predictor import Predictor

        try:
            predictor = Predictor.load(folder, plm)
            if isinstance(rows, str | Path):
                return Predicted(predictor.predict_file(Path(rows), replica))
            return Predicted(predictor.predict(rows, replica))
        except ValueError as error:
            raise Misuse(*problems_of(error)) from error


def retrieve(
    given: Given, target: str, *, by: str = "c_mean", top: int | None = None, address: str | None = None
) -> Rows:
    """The sources of a target, the most similar first, as `panda-tune retrieve` ranks them.

    Args:
        given: the experiment.
        target: one of its targets.
        by: a similarity.
        top: the first so many; None: all.
        address: of a running Ray cluster; None: the connection that this process has, or Ray is started here.

    Raises:
        Misuse: for whatever must be mended.
    """
    from tuning.run.retrieve import retrieve as run

    ranked = run(experiment(given), target, by, address)
    return Rows(tuple(row for row in ranked if top is None or row["rank"] <= top))


def export(
    winner: Path | str, to: Path, *, target: str | None = None, form: str = "peft", plm: str | None = None,
    tracking: str | None = None,
) -> Path:  # fmt: skip
    """Writes a winner for others, as `panda-tune export` does.

    Args:
        winner: with a target, the file of an experiment; else a folder that `train` wrote, a pinned file, or `models:/<name>@champion`.
        to: a folder that is not there yet, or empty.
        target: whose confirmed winner.
        form: `peft`: adapters that peft loads onto the plain model; `own`: a winner's folder.
        plm: where its PLM is, if not where it was; with a target: which, where there are several.
        tracking: MLflow's address, for `models:/`.

    Returns:
        The folder.

    Raises:
        Misuse: for whatever must be mended.
    """
    from tuning.handover.winners import export_from

    export_from(str(winner), to, target, form, plm, tracking)
    return to
