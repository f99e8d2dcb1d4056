"""What `best` prints is what `train` trains: the winner as a complete file, anywhere, with the same numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from panda_trainable.config.trial import TrialConfig
from panda_trainable.library import PromptLibrary
from panda_trainable.prompt.soft_prompt import SoftPrompt
from tests.kits.command import experiment_file
from tests.kits.small import rewritten, studies_of
from tuning.experiment.experiment import Experiment
from tuning.experiment.loading import load
from tuning.experiment.pinned import pinned
from tuning.experiment.problems import Misuse
from tuning.planning.plan import Plan
from tuning.planning.results import confirm_key, read_confirmed
from tuning.run.confirm import confirm_trial
from tuning.run.train import pinned_trial, train

Planned = Callable[..., Plan]
WINNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("t · prompt_tuning", {"learning_rate": 0.0123456789}),
    "alone": ("t ← s2 · spot", {"learning_rate": 0.02, "partners": 0}),
    "with partners": ("t ← s1 · spot", {"learning_rate": 0.02, "partners": 1}),
    "early": ("t ← s1 · panda", {"learning_rate": 0.02, "lambda": 0.3, "teacher_steps": 2, "partners": 0}),
    "late": (
        "t ← s2 · panda",
        {"learning_rate": 3e-2, "lambda": 1.5, "teacher_steps": 4, "partners": 1, "fusion": "late"},
    ),
    "for longer": ("t · prompt_tuning_longer", {"learning_rate": 0.015}),
    "all weights": ("t · model_tuning", {"learning_rate": 2e-4}),
}
METHODS = ["spot", "panda", "prompt_tuning_longer", "model_tuning"]
FEW: dict[str, Any] = {
    "shots": {"per_class": 6, "for": "both"},
    "prompt": {"form": "input", "length": 2, "init": {"kind": "text", "text": "w1 w2"}, "mlp": 4},
    "overlap": "warn",
}
"""What a file may change of how prompts are trained."""
OF_FEW = ("baseline", "late", "for longer")
"""Winners that are trained again with these changes; the others are without."""


def winner(plan: Plan, which: str) -> tuple[TrialConfig, str | None]:
    name, knobs = WINNERS[which]
    study = studies_of(plan)[name]
    return replace(study.base.with_knobs(knobs), seeds=(10, 11)), study.pair.source


def filed(folder: Path, plan: Plan, config: TrialConfig, source: str | None) -> Experiment:
    """The winner, printed as a file somewhere else and read again."""
    folder.mkdir()
    file = folder / "pinned.yaml"
    file.write_text(yaml.safe_dump(pinned(plan.experiment, config, source)), encoding="utf-8")
    return load(file)


@pytest.mark.parametrize("which", WINNERS)
def test_a_winner_printed_as_a_file_is_the_same_trial_again(planned: Planned, tmp_path: Path, which: str) -> None:
    plan = planned(limit={"train": 50, "report": 20}, selection={"fraction": 0.25}, methods=METHODS)
    config, source = winner(plan, which)
    again = pinned_trial(filed(tmp_path / "there", plan, config, source), PromptLibrary(tmp_path / "there/library"))
    # Trained anew, tuning for longer is tuning with the steps that it had.
    method = "prompt_tuning" if which == "for longer" else config.method
    assert replace(again, candidates=()) == replace(config, candidates=(), method=method)
    assert (confirm_key(again) == confirm_key(config)) is (method == config.method)


@pytest.mark.parametrize("which", [which for which in WINNERS if which not in OF_FEW])
def test_a_winner_trained_again_has_the_very_same_scores(planned: Planned, tmp_path: Path, which: str) -> None:
    plan = planned(methods=METHODS)
    config, source = winner(plan, which)
    library = PromptLibrary(tmp_path / "library")
    confirm_trial(library, config)
    confirmed = read_confirmed(library, config)
    said = train(filed(tmp_path / "there", plan, config, source), tmp_path / "prompts")
    assert said["report"]["accuracy"]["mean"] == pytest.approx(sum(confirmed.report) / 2, abs=0)
    assert said["selection"]["accuracy"]["mean"] == pytest.approx(sum(confirmed.selection) / 2, abs=0)
    assert said["seeds"] == [10, 11]
    prompts = [] if which == "all weights" else [(2, 2, 2, 3, 8)] * 2
    assert [SoftPrompt.load(Path(file)).prompt.shape for file in said["prompts"]] == prompts


@pytest.mark.parametrize("which", OF_FEW)
def test_a_winner_of_few_rows_and_another_prompt_has_the_very_same_scores_again(
    planned: Planned, tmp_path: Path, which: str
) -> None:
    plan = planned(methods=METHODS, **FEW)
    config, source = winner(plan, which)
    library = PromptLibrary(tmp_path / "library")
    confirm_trial(library, config)
    confirmed = read_confirmed(library, config)
    again = filed(tmp_path / "there", plan, config, source)
    assert (again.shots, again.overlap, again.prompt) == (
        plan.experiment.shots, plan.experiment.overlap, plan.experiment.prompt,
    )  # fmt: skip
    said = train(again, tmp_path / "prompts")
    assert said["report"]["accuracy"]["mean"] == pytest.approx(sum(confirmed.report) / 2, abs=0)
    assert said["selection"]["accuracy"]["mean"] == pytest.approx(sum(confirmed.selection) / 2, abs=0)
    assert [SoftPrompt.load(Path(file)).prompt.shape for file in said["prompts"]] == [(2, 16)] * 2


def test_a_file_that_prompts_start_from_is_found_from_elsewhere(planned: Planned, tmp_path: Path) -> None:
    save_file({"prompt": torch.zeros(2, 2, 2, 3, 8)}, tmp_path / "start.safetensors")
    plan = planned(prompt={"length": 3, "init": {"kind": "file", "file": "start.safetensors"}})
    config, source = winner(plan, "baseline")
    there = filed(tmp_path / "there", plan, config, source)
    assert there.prompt.init.file == str(tmp_path / "start.safetensors")
    assert pinned_trial(there, PromptLibrary(tmp_path / "there/library")) == config


def test_own_tasks_and_a_plm_beside_the_file_are_found_from_elsewhere(
    planned: Planned, plms: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "plm").symlink_to(plms("bert"))
    planned()
    plan = planned(plm=Path("plm"))
    config, source = winner(plan, "with partners")
    there = filed(tmp_path / "there", plan, config, source)
    assert there.data_path == tmp_path / "data"
    assert Path(there.plm[0].source).is_absolute()
    assert there.tasks.keys() == {"t", "s1", "s2"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"train takes one configuration, but small has t · prompt_tuning, t ← s1 · spot"),
        ({"methods": ["spot"]}, r"train takes one configuration, but small has .* panda-tune best --format yaml"),
        ({"methods": ["spot"], "sources": ["s1"]}, r"a single value of learning_rate, partners"),
        ({"methods": [], "sources": []}, r"train needs one value of each knob; give space.prompt_tuning a single"),
        ({"methods": ["model_tuning"]}, r"give space.model_tuning a single value of learning_rate"),
        ({"methods": ["prompt_tuning_longer"]}, r"give space.prompt_tuning_longer a single value of learning_rate"),
    ],
)
def test_a_file_that_leaves_a_choice_open_is_refused(
    plms: Callable[[str], Path], tmp_path: Path, library: PromptLibrary, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(Misuse, match=message):
        pinned_trial(load(experiment_file(tmp_path, plms("bert"), **changes)), library)


def test_a_file_with_several_plms_is_refused(
    plms: Callable[[str], Path], tmp_path: Path, library: PromptLibrary
) -> None:
    file = experiment_file(tmp_path, plms("bert"), methods=[], space={"prompt_tuning": {"learning_rate": 0.02}})
    rewritten(file, plm=[{"from": str(plms("bert"))}, {"from": str(plms("distilbert"))}])
    with pytest.raises(Misuse, match="train takes one PLM, but small has 2"):
        pinned_trial(load(file), library)


def test_a_baseline_is_trained_whatever_sources_stand_beside_it(
    plms: Callable[[str], Path], tmp_path: Path, library: PromptLibrary
) -> None:
    space = {"prompt_tuning": {"learning_rate": 0.02}}
    config = pinned_trial(load(experiment_file(tmp_path, plms("bert"), methods=[], space=space)), library)
    assert (config.method, config.learning_rate, config.sources) == ("prompt_tuning", 0.02, ())


def test_similarities_that_a_file_does_not_give_are_measured(
    plms: Callable[[str], Path], tmp_path: Path, library: PromptLibrary
) -> None:
    space = {"spot": {"learning_rate": 0.02, "partners": 0}}
    file = experiment_file(tmp_path, plms("bert"), methods=["spot"], sources=["s1"], space=space)
    (source,) = pinned_trial(load(file), library).sources
    assert source.task.name == "s1"
    assert -1 <= source.similarity <= 1
    assert {card["kind"] for card in library.cards()} == {"tokens", "texts", "prompts", "embeddings", "counts"}


def test_training_shows_how_many_steps_are_done(
    tmp_path: Path, plms: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"prompt_tuning": {"learning_rate": 0.01}}
    train(load(experiment_file(tmp_path, plms("bert"), methods=[], space=space)))
    said = capsys.readouterr()
    assert said.out == ""
    first, last = [line for line in said.err.splitlines() if line.startswith("steps of")]
    assert first == "steps of prompt_tuning: 8 to do"
    assert last.startswith("steps of prompt_tuning: 8/8, ")
