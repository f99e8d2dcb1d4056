"""From an MLflow store to page, figures and the run `analysis`."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.analyze import Analysis, analyze, publish
from analysis.records import reader as records
from analysis.records.connection import NoRecords
from analysis.records.conversion import study_run
from analysis.records.evidence import gather
from tests.kits.worlds import SOURCES, World, made, stored, unconfirmed

SMALL = World(
    sources=SOURCES[:5], targets=("cb", "cr"), methods=("spot",), similarities=("c_mean",), trials=2, silent=("cr",)
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An experiment of one unfinished study and a stale one beside it."""
    studies, trials = made(SMALL)
    stale = replace(studies[1], key="old")
    orphan = replace(trials[0], study="old")
    return stored(
        tmp_path_factory.mktemp("store"), [*studies[:-1], unconfirmed(studies[-1])], [*trials, orphan], stale=[stale]
    )


@pytest.fixture(scope="module")
def analysis(store: str, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    folder = tmp_path_factory.mktemp("out") / "analysis"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "gain-of-yore.png").write_bytes(b"of an earlier analysis")
    (folder / "figures" / "holiday.png").write_bytes(b"of the user")
    (folder / "notes.txt").write_text("of the user, and named by a list that is not to be trusted")
    (folder / "written.json").write_text('["figures/gain-of-yore.png", "notes.txt", "../../x", 7]')
    return analyze(store, "made-up", folder)


def test_what_is_read_is_what_was_written(store: str) -> None:
    studies, trials = made(SMALL)
    known = gather(store, "made-up")
    written = sorted(studies[:-1], key=lambda s: (s.target, s.method, s.source or ""))
    assert [(s.target, s.method, s.source) for s in known.studies] == [(s.target, s.method, s.source) for s in written]
    assert [study_run(study).metrics for study in known.studies] == [
        pytest.approx(study_run(study).metrics) for study in written
    ]
    assert [study.source for study in known.unfinished] == [studies[-1].source]
    assert known.studies[0].settings["weigh_by"] == "task_embedding"
    expected = sorted(trials, key=lambda t: (t.study, t.number))
    assert [replace(t, score=None, seconds=None) for t in known.trials] == [
        replace(t, score=None, seconds=None) for t in expected
    ]
    assert [t.score for t in known.trials] == [t.score if t.score is None else pytest.approx(t.score) for t in expected]


def test_page_figures_and_tables_for_papers_are_written_and_those_of_an_earlier_analysis_do_not_stay(
    analysis: Analysis,
) -> None:
    page = analysis.page.read_text(encoding="utf-8")
    assert "1 study without a confirmed winner" in page
    assert "name: cb-best" in page  # the winner's experiment file
    ours = sorted(f"{drawing.name}.{form}" for drawing in analysis.shown.drawn for form in ("png", "svg"))
    there = sorted(path.name for path in (analysis.folder / "figures").iterdir())
    assert there == sorted([*ours, "holiday.png"])  # what is not ours is left alone, and published nowhere
    assert (analysis.folder / "notes.txt").exists()
    assert (
        (analysis.folder / "methods.csv")
        .read_text(encoding="utf-8")
        .startswith("method,cb,cb sd,cb mark,cb source,cr,")
    )
    assert "\\begin{tabular}" in (analysis.folder / "methods.tex").read_text(encoding="utf-8")


def test_the_run_analysis_holds_figures_tables_and_coefficients_and_a_second_supersedes_it(
    store: str, analysis: Analysis
) -> None:
    first = publish(store, "made-up", analysis)
    second = publish(store, "made-up", analysis)
    client = records.client(store)
    old, new = client.get_run(first), client.get_run(second)
    assert (old.data.tags["current"], old.data.tags["superseded_by"]) == ("false", second)
    assert (new.data.tags["current"], new.data.tags["stage"], new.info.status, new.info.run_name) == (
        "true",
        "analysis",
        "FINISHED",
        "analysis",
    )
    assert "superseded_by" not in new.data.tags
    assert new.data.tags["answer"] == " ".join(analysis.answer.sentences)
    assert {"corr/gain/spot/c_mean/spearman_mean", "corr/first_gain/spot/c_mean/pooled/n"} <= set(new.data.metrics)
    assert {artifact.path for artifact in client.list_artifacts(second)} == {
        "figures",
        "tables",
        "report.html",
        "methods.csv",
        "methods.tex",
        "equal_cost.csv",
        "equal_cost.tex",
    }
    folder = Path(client.download_artifacts(second, "tables"))
    costs = json.loads((folder / "equal_cost.json").read_text(encoding="utf-8"))
    assert {"method", "budget", "difference"} <= set(costs["columns"])
    pairs = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
    assert len(pairs["data"]) == len(analysis.evidence.studies)
    assert {"target", "winner/gain", "first/gain", "c_mean"} <= set(pairs["columns"])


def test_an_analysis_changes_no_study(store: str, analysis: Analysis) -> None:
    assert len(gather(store, "made-up").studies) == len(analysis.evidence.studies)


def test_an_experiment_that_is_not_there_is_no_records(store: str, tmp_path: Path) -> None:
    with pytest.raises(NoRecords, match="has no experiment 'made-down' yet"):
        analyze(store, "made-down", tmp_path / "out")
    with pytest.raises(NoRecords, match="nothing recorded yet"):
        analyze(f"sqlite:///{tmp_path}/none.db", "made-up", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_experiment_of_unfinished_studies_has_a_page_and_one_without_studies_has_none(tmp_path: Path) -> None:
    studies, trials = made(replace(SMALL, sources=SOURCES[:2], targets=("cb",)))
    uri = stored(tmp_path / "young", [unconfirmed(study) for study in studies], trials)
    analysis = analyze(uri, "made-up", tmp_path / "out")
    assert analysis.answer.verdict == "cannot say"
    assert "no study is confirmed yet" in analysis.page.read_text(encoding="utf-8")
    assert publish(uri, "made-up", analysis)
    with pytest.raises(NoRecords, match="has no study yet"):
        analyze(stored(tmp_path / "empty", []), "made-up", tmp_path / "out")


def test_a_lost_configuration_file_does_not_lose_the_page(tmp_path: Path) -> None:
    studies, trials = made(replace(SMALL, sources=SOURCES[:1], targets=("cb",)))
    uri = stored(tmp_path / "store", studies, trials)
    for file in (tmp_path / "store" / "artifacts").rglob("config.json"):
        file.unlink()
    page = analyze(uri, "made-up", tmp_path / "out").page.read_text(encoding="utf-8")
    assert "config.json of run" in page
    assert "cannot be read" in page


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "ray", "transformers", "panda_trainable", "search_spaces", "tuning"):
            raise ImportError(f"{name} must not be imported")
sys.meta_path.insert(0, Blocker())
from pathlib import Path
from analysis.analyze import analyze, publish
analysis = analyze(sys.argv[1], "made-up", Path(sys.argv[2]))
print(publish(sys.argv[1], "made-up", analysis))
"""


def test_analysis_needs_neither_torch_nor_ray_nor_the_other_packages(tmp_path: Path) -> None:
    studies, trials = made(replace(SMALL, sources=SOURCES[:4], targets=("cb",)))
    uri = stored(tmp_path / "store", studies, trials)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, uri, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").exists()


def test_the_package_is_imported_without_mlflow_optuna_and_matplotlib() -> None:
    code = "import sys, analysis.analyze; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"mlflow", "optuna", "matplotlib", "torch", "ray", "pandas"} & set(done.stdout.split())
