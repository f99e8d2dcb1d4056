"""The command: a user's mistake is one message and exit code 2, never a traceback; stdout is the answer."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from analysis.records.connection import client
from panda_trainable.library import PromptLibrary
from tests.kits.command import experiment_file, panda_tune
from tests.kits.small import new_store, plan_of, recorded, studies_of
from tuning.cli import app, main
from tuning.experiment.loading import load
from tuning.tracking.study_runs import of_plan
from tuning.tracking.tracker import Tracker

ROOT = Path(__file__).parent.parent.parent
COMMANDS = (
    "search", "quickstart", "best", "retrieve", "analyze", "correlate", "train", "ui", "schema", "library",
)  # fmt: skip


def ran(*arguments: Any) -> str:
    """What a command answers, in this process."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.exception
    return done.stdout


def told(*arguments: Any) -> str:
    """The message on stderr for a mistake, in this process: exit code 2, nothing on stdout, nothing else is raised."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["panda-tune", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert (ended.value.code, out.getvalue()) == (2, "")
    assert "Traceback" not in err.getvalue()
    return err.getvalue()


@pytest.mark.parametrize("command", ["search", "best", "analyze", "ui"])
def test_a_file_that_is_not_there_is_a_mistake_with_what_to_do(tmp_path: Path, command: str) -> None:
    assert told(command, tmp_path / "no.yaml") == (
        f"{tmp_path}/no.yaml: no such file; write one by panda-tune new FOLDER of your data, or try: panda-tune quickstart\n"
    )


def test_all_mistakes_of_a_file_come_one_per_line(tmp_path: Path, plms: Callable[[str], Path]) -> None:
    file = experiment_file(tmp_path, plms("bert"), methods=["pandas"], sourcess=[])
    lines = told("search", file, "-o", "search.trials=x").splitlines()
    assert len(lines) == 3
    assert any("did you mean panda?" in line for line in lines)
    assert any(line.startswith("-o search.trials=x: ") for line in lines)


def test_an_unknown_command_is_refused() -> None:
    assert "No such command 'serach'" in told("serach")


@pytest.mark.parametrize(
    "arguments", [["search"], ["best", "x.yaml", "--format", "csv"], ["train", "--what"], ["library", "show"]]
)
def test_a_command_that_is_called_wrongly_is_refused(arguments: list[str]) -> None:
    assert "Traceback" not in told(*arguments)


def test_every_command_has_help() -> None:
    assert all(command in ran("--help") for command in COMMANDS)
    helps = [ran(command, "--help") for command in COMMANDS]
    assert all(f" {command} " in text and "<class" not in text for command, text in zip(COMMANDS, helps, strict=True))


def test_the_schema_accepts_our_examples_and_refuses_a_mistake(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(ran("schema"))
    checker = jsonschema.validators.validator_for(schema)
    checker.check_schema(schema)
    ours = [
        ROOT / "examples/transfer.yaml",
        ROOT / "examples/language_model.yaml",
        ROOT / "examples/generation.yaml",
        ROOT / "examples/matrix.yaml",
        ROOT / "tuning/quickstart.yaml",
        experiment_file(tmp_path, tmp_path),
    ]
    for file in ours:
        assert list(checker(schema).iter_errors(yaml.safe_load(file.read_text()))) == []
    for mistake in ({"sourcess": []}, {"folder": "x"}, {"train": {"steps": 0}}, {"plm": {}}):
        assert not checker(schema).is_valid({**yaml.safe_load(ours[0].read_text()), **mistake})


FORMS: dict[str, dict[str, Any]] = {
    "one PLM": {"plm": {"from": "x"}},
    "several PLMs": {"plm": [{"from": "x"}, {"from": "x", "pooling": "cls"}]},
    "one text": {"tasks": {"t": {"text": "a", "classes": ["no", "yes"]}}},
    "two texts": {"tasks": {"t": {"text": ["a", "{b} and {c}"], "classes": ["no", "yes"]}}},
    "classes that are numbers": {"tasks": {"t": {"text": ["a"], "classes": [0, 1]}}},
    "classes that are true and false": {"tasks": {"t": {"text": ["a"], "classes": [False, True]}}},
    "a start by its name": {"prompt": {"init": "vocabulary"}},
    "a start with its settings": {"prompt": {"init": {"kind": "normal", "std": 0.1}}},
    "shots": {"shots": {"per_class": 4, "for": "both"}},
    "no shots": {"shots": None},
    "a fixed value and a range": {"space": {"panda": {"lambda": 0.5, "learning_rate": {"log": [0.001, 1]}}}},
    "weights": {"weigh_by": {"rte": {"sst2": 0.5}}},
    "resources": {"resources": {"gpu": 0.5}},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_schema_accepts_every_form_that_the_file_may_have(tmp_path: Path, form: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    values = {"name": "x", "plm": [{"from": "x"}], "sources": ["sst2"], "targets": ["rte"], **FORMS[form]}
    file = tmp_path / "file.yaml"
    file.write_text(json.dumps(values), encoding="utf-8")
    assert load(file).name == "x"
    schema = json.loads(ran("schema"))
    assert list(jsonschema.validators.validator_for(schema)(schema).iter_errors(values)) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path]) -> Path:
    """The file of a search that is in MLflow."""
    folder = tmp_path_factory.mktemp("finished")
    new_store(folder / "runs")
    plan = plan_of(folder, plms("bert"))
    scores = {"t · prompt_tuning": ([0.6, 0.6], [0.6, 0.7]), "t ← s1 · spot": ([0.7, 0.7], [0.7, 0.8])}
    recorded(plan, PromptLibrary(folder / "runs/library"), plan.experiment.tracking_uri, scores)
    return folder / "experiment.yaml"


def test_the_best_is_printed_as_table_json_and_yaml(finished: Path) -> None:
    said = {kind: ran("best", finished, "--format", kind) for kind in ("table", "json", "yaml")}
    (row,) = json.loads(said["json"])
    assert yaml.safe_load(said["yaml"]) == [row]
    assert (row["method"], row["source"]) == ("spot", "s1")
    (line,) = [line for line in said["table"].splitlines() if line.split()[:1] == ["t"]]
    assert line.split()[1:7] == ["spot", "s1", "accuracy", "75.0", "±", "7.1"]


def test_the_best_of_no_target_is_refused_with_the_targets_there_are(finished: Path) -> None:
    assert told("best", finished, "--target", "x") == "--target x: is no target of the experiment; there are t\n"
    assert "(did you mean t?); there are t" in told("best", finished, "--target", "tt")


def test_a_target_without_a_confirmed_study_is_told_with_why_in_every_form(
    tmp_path: Path, plms: Callable[[str], Path]
) -> None:
    plan = plan_of(tmp_path, plms("bert"), targets=["t", "s1"])
    new_store(tmp_path / "runs")
    scores = {"t · prompt_tuning": ([0.6, 0.6], [0.6, 0.7])}
    recorded(plan, PromptLibrary(tmp_path / "runs/library"), plan.experiment.tracking_uri, scores)
    for form in ("table", "json", "yaml"):
        assert told("best", tmp_path / "experiment.yaml", "--target", "s1", "--format", form) == (
            "target 's1' of experiment 'small' has no confirmed study yet: no study of it is recorded; "
            "run `panda-tune search` to its end\n"
        )


def test_the_best_of_a_search_that_has_not_ended_says_how_many_studies_it_waits_for(
    tmp_path: Path, plms: Callable[[str], Path]
) -> None:
    plan = plan_of(tmp_path, plms("bert"))
    new_store(tmp_path / "runs")
    tracker = Tracker(plan.experiment.tracking_uri, "small", plan.experiment.search_path)
    for entry in of_plan(plan, [], list(studies_of(plan).values()), lambda _: []):
        tracker.write(entry)
    assert "5 of 5 studies have not ended" in told("best", tmp_path / "experiment.yaml")


def test_the_version_is_printed() -> None:
    assert ran("--version") == f"panda-tune {version('panda-tune')}\n"


def test_a_port_that_is_taken_is_refused(finished: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = told("ui", finished, "--port", port)
    assert said.startswith(f"--port {port}: cannot be used on this machine (Address already in use); name another")


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_that_is_none_is_refused(finished: Path, port: str) -> None:
    assert "--port" in told("ui", finished, "--port", port)


STOPPED = {
    "search": "stopped; the same command goes on from here\n",
    "retrieve": "stopped; the same command goes on from here\n",
    "best": "stopped\n",
}
INTERRUPTED = """
import os, signal, sys, threading
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
sys.argv[0] = "panda-tune"
from tuning.cli import main
main()
"""


@pytest.mark.parametrize("command", STOPPED)
def test_a_command_that_is_stopped_says_whether_it_goes_on(tmp_path: Path, command: str) -> None:
    """It waits for its file, which is a pipe into which nobody writes."""
    os.mkfifo(tmp_path / "file.yaml")
    arguments = [command, tmp_path / "file.yaml", *(["--target", "t"] if command == "retrieve" else [])]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *map(str, arguments)], capture_output=True, text=True, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", STOPPED[command])


@pytest.mark.parametrize("command", ["best", "analyze", "search"])
def test_an_experiment_that_is_deleted_in_mlflow_is_refused_with_what_to_do(
    finished: Path, tmp_path: Path, command: str
) -> None:
    shutil.copytree(finished.parent, tmp_path, dirs_exist_ok=True)
    store = client(f"sqlite:///{tmp_path}/runs/mlflow.db")
    store.delete_experiment(store.get_experiment_by_name("small").experiment_id)
    said = told(command, tmp_path / finished.name)
    assert "MLflow experiment 'small' at " in said
    assert "is deleted; restore it (MLFLOW_TRACKING_URI=" in said
    assert not list((tmp_path / "runs/searches").glob("small/studies/*"))


@pytest.mark.parametrize("command", ["best", "search", "ui", "analyze"])
def test_a_folder_as_the_address_of_mlflow_is_refused_before_anything_starts(finished: Path, command: str) -> None:
    said = told(command, finished, "-o", "tracking.uri=./mlruns")
    assert said.startswith("-o tracking.uri=./mlruns: tracking.uri: MLflow's address is that of a server or a database")


def test_an_analysis_writes_a_page_and_figures_and_prints_the_methods(finished: Path, tmp_path: Path) -> None:
    printed = ran("analyze", finished, "--out", tmp_path / "out")
    assert [line.split()[0] for line in printed.splitlines()[:4]] == ["method", "best", "prompt_tuning", "spot"]
    assert "<html" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert list((tmp_path / "out/figures").glob("*.png"))
    assert r"\begin{tabular}" in ran("analyze", finished, "--out", tmp_path / "out", "--format", "latex")


def test_a_folder_that_cannot_be_written_is_a_mistake_of_an_analysis(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert f"--out {tmp_path}/file/x: cannot be written" in told("analyze", finished, "--out", tmp_path / "file/x")


def test_what_an_analysis_finds_nothing_in_is_a_mistake(tmp_path: Path, plms: Callable[[str], Path]) -> None:
    """No search; a search of which nothing is confirmed, with its page; and files that are no store."""
    file = experiment_file(tmp_path, plms("bert"))
    assert "run `panda-tune search`" in told("analyze", file)
    plan, store = plan_of(tmp_path, plms("bert")), tmp_path / "runs/mlflow.db"
    new_store(store.parent)
    tracker = Tracker(plan.experiment.tracking_uri, "small", plan.experiment.search_path)
    for entry in of_plan(plan, [], list(studies_of(plan).values()), lambda _: []):
        tracker.write(entry)
    said = told("analyze", file, "--out", tmp_path / "out")
    assert "small: has no confirmed study: the page says what is missing" in said
    assert "no study is confirmed yet" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    store.write_bytes(b"no database at all, but long enough to look like one" * 100)
    assert "does not answer" in panda_tune("analyze", file, code=2).stderr  # this process has the store open


def test_a_page_is_not_lost_where_mlflow_does_not_take_it(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.parent, copy)
    with sqlite3.connect(copy / "runs/mlflow.db") as store:
        store.execute("update experiments set artifact_location = 'file:///dev/null/nowhere'")
    done = panda_tune("analyze", copy / finished.name, "--out", tmp_path / "out", code=1)
    assert f"{tmp_path}/out/report.html: open it in a browser" in done.stderr
    assert "does not take the run of the analysis" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "s1"], "--target s1: is no target"),
        (["--target", "t", "--by", "c_maen"], "--by c_maen: is no similarity (did you mean c_mean?)"),
    ],
)
def test_a_retrieval_is_refused_with_what_there_is(finished: Path, arguments: list[str], said: str) -> None:
    assert said in told("retrieve", finished, *arguments)


def test_the_best_of_a_search_that_never_ran_says_what_to_do(tmp_path: Path) -> None:
    done = panda_tune("best", experiment_file(tmp_path, tmp_path / "plm"), code=2)
    assert "run `panda-tune search`" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_best_while_the_server_is_away_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    file = experiment_file(tmp_path, tmp_path / "plm", tracking={"uri": uri})
    done = panda_tune("best", file, code=None)
    assert done.returncode in (1, 2)
    assert uri in done.stderr
    assert "Traceback" not in done.stderr


OURS = ("analysis", "search_spaces", "panda_trainable", "tuning")
CONSOLE_SCRIPT = "import sys\nfrom panda_tune import main\nsys.exit(main())\n"


def decoys(folder: Path, *names: str) -> Path:
    """A folder with modules of these names, each of which ends whoever imports it."""
    folder.mkdir()
    for name in names:
        (folder / f"{name}.py").write_text("raise SystemExit('a decoy was imported')")
    return folder


def called(folder: Path, command: Sequence[object], *path: Path) -> subprocess.CompletedProcess[str]:
    """What a command comes to in a folder, with folders in front of ours on the path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
    return subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_modules_of_our_names_where_the_command_is_called_do_not_shadow_ours(tmp_path: Path) -> None:
    """But `tuning` itself, for which `python -m` looks where it is called."""
    folder = decoys(tmp_path / "cwd", *OURS[:-1], "typer_settings")
    done = called(folder, [sys.executable, "-m", "tuning", "best", "no.yaml"])
    assert (done.returncode, "no.yaml: no such file" in done.stderr) == (2, True), done.stderr


def test_modules_of_our_names_on_the_path_do_not_shadow_ours(tmp_path: Path) -> None:
    folder, script = decoys(tmp_path / "path", *OURS), tmp_path / "panda-tune"
    script.write_text(CONSOLE_SCRIPT)
    file = experiment_file(tmp_path, tmp_path / "plm")
    new_store(tmp_path / "runs")
    done = called(folder, [sys.executable, script, "best", file], folder)
    assert "MLflow has no experiment 'small' yet" in done.stderr


def test_a_module_that_was_imported_under_our_name_is_named(tmp_path: Path) -> None:
    folder, script = tmp_path / "path", tmp_path / "panda-tune"
    folder.mkdir()
    (folder / "analysis.py").write_text("")
    script.write_text(f"import analysis\n{CONSOLE_SCRIPT}")
    done = called(tmp_path, [sys.executable, script, "--help"], folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"python has imported {folder}/analysis.py as `analysis`" in done.stderr
    assert "rename that file" in done.stderr


def test_the_installed_command_is_the_one_that_starts_with_its_own_path() -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert written["project"]["scripts"] == {"panda-tune": "panda_tune:main"}
    assert written["tool"]["setuptools"]["py-modules"] == ["panda_tune"]
