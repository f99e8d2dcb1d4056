"""Winner folders: what they hold is what was trained; what is none, is damaged or may run code is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from panda_trainable.config.origin import Unlocated
from panda_trainable.config.setting import Setting
from panda_trainable.config.task import Hub, Original, TaskSpec
from panda_trainable.config.trial import TrialConfig
from panda_trainable.config.wording import Wording
from panda_trainable.library import PromptLibrary
from panda_trainable.prediction.folder import copy_winner, write_winner
from panda_trainable.prediction.students import label_scales, stored_prompts
from panda_trainable.prediction.values import as_data, of_data
from panda_trainable.prediction.winner import CARD, FORMAT, Score, read_winner
from panda_trainable.training.trainer import Trainer
from panda_trainable.transfer.methods import open_trainer

Trials = Callable[..., TrialConfig]
SCORES = {"selection": {"accuracy": [0.5, 0.75]}, "report": {"accuracy": [0.25, float("nan")]}}


def trained(library: PromptLibrary, config: TrialConfig) -> Trainer:
    trainer = open_trainer(library, config)
    trainer.advance(config.steps)
    return trainer


@pytest.fixture
def folder(library: PromptLibrary, trial: Trials, tmp_path: Path) -> Path:
    config = trial(steps=2)
    write_winner(tmp_path / "winner", config, trained(library, config), SCORES)
    return tmp_path / "winner"


def test_a_folder_says_what_was_trained(library: PromptLibrary, trial: Trials, tmp_path: Path) -> None:
    config = trial("panda", sources=2)
    trainer = trained(library, config)
    files = write_winner(tmp_path / "made" / "winner", config, trainer, SCORES)
    winner = read_winner(tmp_path / "made" / "winner")
    assert files == winner.paths == [tmp_path / "made" / "winner" / f"seed-{seed}.safetensors" for seed in (0, 1)]
    assert winner.task == replace(config.target, origin=Unlocated(), counts=())
    assert winner.setting.plm == config.setting.plm
    assert (winner.setting.prompt.form, winner.setting.prompt.length, winner.setting.train.max_length) == (
        "prefix",
        3,
        16,
    )
    assert (winner.method, winner.seeds, winner.steps, winner.holds) == ("panda", (0, 1), 8, "prompt")
    assert winner.knobs == {
        "learning_rate": 0.02, "lambda": 1.0, "teacher_steps": 4, "partners": 1, "fusion": "early",
    }  # fmt: skip
    assert [(source.task, source.similarity) for source in winner.sources] == [("s0", 0.5), ("s1", 0.25)]
    for stored, prompt in zip(stored_prompts(winner), trainer.prompts(), strict=True):
        assert all(torch.equal(stored.tensors[name], prompt.tensors[name]) for name in prompt.tensors)


def test_scores_are_told_by_seed_with_mean_spread_and_number_of_those_that_are_finite(folder: Path) -> None:
    scores = read_winner(folder).scores
    assert scores["selection"]["accuracy"] == Score(0.625, pytest.approx(0.25 / 2**0.5), 2, (0.5, 0.75))
    assert scores["report"]["accuracy"] == Score(0.25, 0.0, 1, (0.25, None))
    assert Score.of([float("nan")]) == Score(None, 0.0, 0, (None,))


@pytest.mark.parametrize(("selection", "best"), [([0.5, 0.75], 1), ([0.5, 0.5], 0), ([float("nan"), 0.1], 1)])
def test_the_best_seed_has_the_best_selection_score(folder: Path, selection: list[float], best: int) -> None:
    scores = {"selection": {"accuracy": Score.of(selection)}}
    assert replace(read_winner(folder), scores=scores).best_seed == best


def test_values_come_back_as_they_were_written() -> None:
    task = TaskSpec(
        "t", "classification", ("a", "b"), "label", ("no", "yes"), ("accuracy", "f1"), fingerprints=(("train", "x"),),
        hub=Hub("a/b", columns={"a": "text"}), original=Original(fields={"a": ("c", "d")}), asked=Wording("{a} {answer}", (("x",), ("y", "z"))),
    )  # fmt: skip
    data = json.loads(json.dumps(as_data(task)))
    del data["origin"]
    again = of_data(TaskSpec, data)
    assert again == task
    assert (again.hub, again.original) == (task.hub, task.original)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seeds": [0, 0]}, "seeds must be different"),
        ({"seeds": "0"}, "seeds must be a list, got '0'"),
        ({"length": "3"}, "length must be a value of type int, got '3'"),
        ({"form": "suffix"}, "form must be one of 'prefix', 'input', got 'suffix'"),
        ({"method": "unknown"}, "method must be one of prompt_tuning"),
        ({"files": {"../seed-0.safetensors": "x", "seed-1.safetensors": "y"}}, "files must be seed-0.safetensors"),
        ({"more": 1}, "must be a mapping of task, method"),
        ({"plm": {"source": "x"}}, "plm must be a mapping with files"),
        ({"format": FORMAT + 1}, "update panda-tune"),
        ({"format": None}, "is damaged"),
    ],
)
def test_a_card_that_says_what_cannot_be_is_refused(folder: Path, change: dict[str, Any], told: str) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, **change}))
    if change.get("format", 0) is None:
        (folder / CARD).write_text(json.dumps({name: value for name, value in card.items() if name != "format"}))
    with pytest.raises(ValueError, match=told):
        read_winner(folder)


def test_a_card_without_end_or_of_many_megabytes_is_refused(folder: Path) -> None:
    for content, told in (("[" * 100_000, "is damaged"), (" " * (17 * 2**20), "a card has at most 16 MiB")):
        (folder / CARD).write_text(content)
        with pytest.raises(ValueError, match=told):
            read_winner(folder)


def test_changed_and_missing_files_are_named(folder: Path) -> None:
    save_file({**load_file(folder / "seed-0.safetensors"), "bias": torch.ones(2)}, folder / "seed-0.safetensors")
    (folder / "seed-1.safetensors").unlink()
    told = (
        "damaged: seed-0.safetensors changed since it was written, seed-1.safetensors is missing; have it written again"
    )
    with pytest.raises(ValueError, match=told):
        read_winner(folder)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["pytorch_model.bin", "config.json"], "holds pytorch_model.bin, pickled files, which could run code"),
        (["prompt.safetensors"], "has no winner.json, it holds prompt.safetensors"),
        ([], "has no winner.json, it holds nothing"),
    ],
)
def test_foreign_folders_are_refused_by_what_they_hold(tmp_path: Path, files: list[str], told: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=told):
        read_winner(tmp_path)


@pytest.mark.parametrize(("name", "told"), [("x.pt", "pickled file"), ("x.zip", "is a file"), (None, "is not there")])
def test_files_and_nothing_are_no_winners(tmp_path: Path, name: str | None, told: str) -> None:
    if name:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=told):
        read_winner(tmp_path / (name or "x"))


def test_a_winner_takes_the_place_of_another_and_leaves_other_files(
    library: PromptLibrary, trial: Trials, folder: Path
) -> None:
    (folder / "mine.txt").touch()
    config = trial(steps=2, seeds=(7,))
    write_winner(folder, config, trained(library, config), {})
    assert sorted(path.name for path in folder.iterdir()) == ["mine.txt", "seed-7.safetensors", "winner.json"]
    assert read_winner(folder).seeds == (7,)
    assert sorted(path.name for path in folder.parent.iterdir() if path.name.startswith(".")) == []


def test_what_fails_while_it_is_written_leaves_nothing_and_the_old_winner(
    library: PromptLibrary, trial: Trials, folder: Path
) -> None:
    config = trial(steps=2, seeds=(7,))
    trainer = trained(library, config)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for where in (folder, folder.with_name("other")):
        with pytest.raises(IndexError):  # a seed more than there are replicas
            write_winner(where, replace(config, seeds=(7, 8)), trainer, {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not [path for path in folder.parent.iterdir() if path.name.startswith((".winner", ".other", "other"))]


def test_a_copy_holds_the_winners_files_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "logits.parquet").touch()
    copy_winner(folder, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        "seed-0.safetensors", "seed-1.safetensors", "winner.json",
    ]  # fmt: skip
    assert replace(read_winner(tmp_path / "copy"), folder=Path()) == replace(read_winner(folder), folder=Path())


@pytest.mark.parametrize("method", ["linear_probe", "model_tuning"])
def test_what_has_no_prompt_is_kept_too(library: PromptLibrary, trial: Trials, tmp_path: Path, method: str) -> None:
    config = trial(method)
    write_winner(tmp_path / method, config, trained(library, config), SCORES)
    winner = read_winner(tmp_path / method)
    assert winner.holds == {"linear_probe": "head", "model_tuning": "model"}[method]
    assert label_scales(winner).tolist() == [[[0.0, 0.0], [1.0, 1.0]]] * 2


def test_the_setting_is_what_decides_reading(folder: Path, setting: Setting) -> None:
    assert read_winner(folder).setting == replace(setting, train=replace(setting.train, batch_size=16, eval_every=50))
