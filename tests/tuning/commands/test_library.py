"""`panda-tune library`: what was made is listed, shown, and found damaged where it is."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from panda_trainable.library import PromptLibrary
from tests.kits.command import experiment_file, panda_tune, panda_tune_here
from tests.kits.small import plan_of
from tuning.cli import app
from tuning.engine.journal import only_driver
from tuning.experiment.loading import load
from tuning.experiment.storage import library_of
from tuning.planning.jobs import source_jobs
from tuning.run.jobs import make


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path]) -> Path:
    """A folder with an experiment whose first source prompts are made."""
    folder = tmp_path_factory.mktemp("made")
    plan = plan_of(folder, plms("bert"))
    make(PromptLibrary(folder / "runs/library"), source_jobs(plan)[0])
    return folder


@pytest.fixture
def file(made: Path, tmp_path: Path) -> Path:
    """Its file, in a copy that may be damaged."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "experiment.yaml"


def ran(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["library", *map(str, arguments)])


def test_every_artefact_has_a_line(file: Path) -> None:
    cards = list(PromptLibrary(file.parent / "runs/library").cards())
    lines = ran("list", file).stdout.splitlines()
    assert len(lines) == len(cards) == 7  # a table, two seeds at two steps, an embedding each
    assert [line.split()[:2] for line in lines] == [[card["kind"], card["key"]] for card in cards]
    assert sum("seed 1, steps 8" in line for line in lines) == 1


def test_a_card_is_shown_by_the_beginning_of_its_key(file: Path) -> None:
    card = next(PromptLibrary(file.parent / "runs/library").cards())
    assert json.loads(ran("show", file, card["key"][:10]).stdout) == [card]


def test_a_key_that_is_not_there_is_refused(file: Path) -> None:
    done = panda_tune("library", "show", file, "zzz", code=2)
    assert done.stderr == f"zzz: no such key; see panda-tune library list {file}\n"


@pytest.mark.parametrize("arguments", [["list"], ["verify"], ["show", "a"]])
def test_a_storage_without_artefacts_is_told(tmp_path: Path, arguments: list[str]) -> None:
    command, *key = arguments
    done = panda_tune_here("library", command, experiment_file(tmp_path, tmp_path / "plm"), *key, code=2)
    assert not done.stdout
    assert done.stderr == (
        f"{tmp_path}/runs/library: holds no artefacts; run panda-tune search {tmp_path}/experiment.yaml, "
        "or name its storage: -o storage=…\n"
    )


@pytest.mark.parametrize("arguments", [["list"], ["verify"], ["show", "a"]])
def test_another_storage_is_looked_into_where_it_is_named(file: Path, arguments: list[str]) -> None:
    elsewhere = file.parent / "elsewhere"
    (file.parent / "runs").rename(elsewhere)
    command, *key = arguments
    done = panda_tune_here("library", command, file, *key, "-o", f"storage={elsewhere}", code=None)
    assert (done.stdout or done.stderr).count("\n") >= 1
    assert "holds no artefacts" not in done.stderr


def flipped(folder: Path) -> None:
    path = next(path for path in sorted(folder.iterdir()) if path.suffix != ".json")
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def without_a_file(folder: Path) -> None:
    next(path for path in sorted(folder.iterdir()) if path.suffix != ".json").unlink()


def torn_card(folder: Path) -> None:
    (folder / "card.json").write_text('{"kind": "tok')


def test_a_sound_library_is_verified(file: Path) -> None:
    done = ran("verify", file)
    assert (done.exit_code, done.stdout) == (0, "7 artefacts, 0 damaged\n")


@pytest.mark.parametrize("damage", [flipped, without_a_file, torn_card])
@pytest.mark.parametrize("kind", ["tokens", "prompts"])
def test_damage_is_found_and_named(file: Path, damage: Callable[[Path], None], kind: str) -> None:
    folder = next(path for path in sorted((file.parent / "runs/library" / kind).iterdir()))
    damage(folder)
    done = panda_tune("library", "verify", file, code=1)
    assert "Traceback" not in done.stderr
    assert f"damaged: {folder}: " in done.stdout
    assert done.stdout.endswith("7 artefacts, 1 damaged\n")
    assert panda_tune("library", "list", file).stdout


def test_what_was_set_aside_is_not_counted_again(file: Path) -> None:
    library = PromptLibrary(file.parent / "runs/library")
    card = next(library.cards())
    flipped(library.path(card["kind"], card["key"]))
    assert not library.sound(card["kind"], card["key"])
    done = ran("verify", file)
    assert (done.exit_code, done.stdout) == (0, "6 artefacts, 0 damaged\n")


def used_by(folder: Path, name: str, plm: Path) -> Path:
    """An experiment whose first source prompts are made in the storage that others use."""
    file = experiment_file(folder, plm, name=name)
    experiment = load(file)
    make(library_of(experiment), source_jobs(plan_of(folder, plm))[0])
    return file


def test_what_no_experiment_uses_is_shown_and_then_removed(tmp_path: Path, plms: Callable[[str], Path]) -> None:
    library = tmp_path / "runs/library"
    used_by(tmp_path, "theirs", plms("bert"))
    file = used_by(tmp_path, "ours", plms("bert"))
    draft, damaged = library / "prompts/.killed-12ab", library / "prompts/.x.damaged-1"
    for folder in (draft, damaged, library / "prompts/.at-work-12ab"):
        folder.mkdir()
    os.utime(draft, (0, 0))
    shown = ran("gc", file)
    assert [line.split()[1] for line in shown.stdout.splitlines()] == [draft.name, damaged.name]
    assert "2 unused, 0.0 MiB; --yes removes them" in shown.stderr
    assert draft.is_dir()
    ran("gc", file, "--yes")
    assert not draft.exists() and not damaged.exists()
    assert (library / "prompts/.at-work-12ab").is_dir()
    assert len(list(PromptLibrary(library).cards())) == 7
    shutil.rmtree(tmp_path / "runs/searches/theirs")
    (left,) = ran("gc", file, "--yes").stdout.splitlines()
    assert left.startswith("tokens")  # ours found the prompts, for which theirs had read rows
    shutil.rmtree(tmp_path / "runs/searches/ours")
    assert "6 unused" in ran("gc", file, "--yes").stderr
    assert not list(PromptLibrary(library).cards())


def test_nothing_is_removed_where_it_is_not_known_what_is_used(tmp_path: Path, plms: Callable[[str], Path]) -> None:
    file = used_by(tmp_path, "ours", plms("bert"))
    (tmp_path / "runs/searches/old/studies").mkdir(parents=True)
    done = panda_tune_here("library", "gc", file, "--yes", code=2)
    assert done.stderr == (
        "old: was searched by a version that did not note what it uses; run its command once more, or delete its folder\n"
    )
    (tmp_path / "runs/searches/old/uses").mkdir()
    with only_driver(tmp_path / "runs/searches/old"):
        told = panda_tune_here("library", "gc", file, "--yes", code=2).stderr
    assert "is being searched by another process" in told


def test_what_others_wrote_into_a_card_does_not_speak_to_the_terminal(file: Path) -> None:
    library = PromptLibrary(file.parent / "runs/library")
    card = next(card for card in library.cards() if card["kind"] == "prompts")
    path = library.path("prompts", card["key"]) / "card.json"
    path.write_text(json.dumps({**card, "task": "s1\x1b[2J\x9b31m", "kind": "../../etc"}))
    done = ran("list", file)
    assert "s1\\x1b[2J\\x9b31m" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert [each["kind"] for each in library.cards() if each["key"] == card["key"]] == ["prompts"]
