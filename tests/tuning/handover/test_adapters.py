"""Exported adapters: peft alone gives our logits, and what it cannot say is refused by the part, with nothing written."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from panda_trainable.config.setting import InitSettings, Plm
from panda_trainable.config.trial import TrialConfig
from panda_trainable.data.tokens import token_table
from panda_trainable.library import PromptLibrary
from panda_trainable.prediction.folder import write_winner
from panda_trainable.prediction.predictor import Predictor
from panda_trainable.prediction.winner import Winner, read_winner
from panda_trainable.pretrained.files import load_tokenizer, plm_files
from panda_trainable.prompt.foreign import read_foreign
from panda_trainable.training.heads import HEADS
from panda_trainable.transfer.methods import open_trainer
from tests.kits import adapter_reader
from tests.kits.command import panda_tune_here
from tests.kits.families import FAMILIES, save_family
from tests.kits.plms import FAMILIES as USUAL
from tests.kits.tasks import HEADED, task_of_kind
from tests.kits.trials import asked_trial, short_trial, small_setting
from tuning.experiment.problems import Misuse
from tuning.handover.plain import plain_model
from tuning.handover.winners import export

SCORES = {"selection": {"accuracy": [0.5, 0.75]}, "report": {"accuracy": [0.25, 0.75]}}
BEST = 1
"""The seed with the best selection score."""

Lms = Callable[[str], Plm]


def far(config: TrialConfig) -> TrialConfig:
    """The same with prompts that start far from zero, so that differences are seen."""
    prompt = replace(config.setting.prompt, init=InitSettings(std=0.5))
    return replace(config, setting=replace(config.setting, prompt=prompt))


def headed(folder: Path, plm: Plm, kind: str, form: str, **changes: Any) -> TrialConfig:
    setting = small_setting(Path(plm.source))
    setting = replace(setting, plm=plm, prompt=replace(setting.prompt, form=form))
    return far(short_trial(folder, setting, plm, target=task_of_kind(folder / "kinds", kind), **changes))


def exported(library: PromptLibrary, config: TrialConfig, folder: Path) -> dict[str, Any]:
    """A winner's adapters, and what peft is to be asked of them; `wanted` are our logits of the best seed."""
    trainer = open_trainer(library, config)
    write_winner(folder / "winner", config, trainer, SCORES)
    export(folder / "winner", folder / "adapter")
    winner = read_winner(folder / "winner")
    table = token_table(library, config.setting, config.target, "validation")
    rows = np.arange(6)
    own = plain_model(winner)
    sequences = (rows[:, None] * table.sequences + np.arange(table.sequences)).ravel()
    mask = load_tokenizer(config.setting.plm).mask_token_id
    given = []
    for number in sequences:
        length = int(table.lengths[number])
        ids = table.ids[number, :length].tolist()
        slot = ids.index(mask) if mask in ids else 0
        given.append({"ids": ids, "types": table.types[number, :length].tolist(), "slot": slot})
    wanted = trainer.student.logits(table, [rows] * len(config.seeds))[config.seeds.index(winner.best_seed)]
    case = {"folder": str(folder / "adapter"), "loader": own.loader, "encodes": own.encodes, "rows": given}
    return {
        "case": case,
        "wanted": wanted,
        "table": table,
        "kind": config.target.kind,
        "asked": bool(config.target.asked),
    }


def arranged(made: list[Any], of: dict[str, Any]) -> Any:
    """Outputs of sequences as logits of rows, as our heads arrange them."""
    if of["asked"]:
        return np.array(made)
    rows, head = torch.arange(6), HEADS[of["kind"]]
    if head.reads == "tokens":
        longest = max(map(len, made))
        made = [[*row, *[[0.0] * len(row[0])] * (longest - len(row))] for row in made]
    return head.arrange(torch.tensor(made), of["table"], rows).numpy()


def check(of: dict[str, Any], made: list[Any]) -> None:
    ours, theirs = of["wanted"], arranged(made, of)
    assert ours.shape == theirs.shape
    real = np.abs(ours) < 1e8  # where no passage is, nothing is said
    np.testing.assert_allclose(theirs[real], ours[real], rtol=0, atol=1e-5)


def test_an_adapter_gives_our_logits_and_says_what_it_is(library: PromptLibrary, plms: Any, tmp_path: Path) -> None:
    plm = Plm(str(plms("bert")), plm_files(plms("bert")), pooling="cls")
    config = headed(tmp_path, plm, "classification", "prefix", method="spot", sources=1)
    of = exported(library, config, tmp_path)
    check(of, adapter_reader.outputs(of["case"]))
    adapter = tmp_path / "adapter"
    assert {path.name for path in adapter.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "head.safetensors", "readout.json", "README.md", "seed-0", "seed-1",
    }  # fmt: skip
    winner = read_winner(tmp_path / "winner")
    for seed in winner.seeds:
        stored = torch.stack([read_foreign(winner.folder / f"seed-{seed}.safetensors", "prompt")])[0]
        assert torch.equal(read_foreign(adapter / f"seed-{seed}"), stored)
    assert torch.equal(read_foreign(adapter), read_foreign(adapter / f"seed-{BEST}"))
    card = (adapter / "README.md").read_text()
    for said in (
        "library_name: peft", "base_model: # to be filled in", "license: # to be filled in", "- method: spot", "- source: s0 (similarity 0.5", plm.files,
        "| report | accuracy | 0.5000 |", "states[:, 0] @ head['weight'].T",
    ):  # fmt: skip
        assert said in card, said
    found: dict[str, Any] = {}
    exec(card.split("```python")[1].split("```")[0].replace("this folder", str(adapter)), found)  # noqa: S102
    row = {field: field for field in winner.task.text_fields}
    (ours,) = Predictor.load(winner.folder).predict([row], replica=BEST).answers
    assert ours.probabilities is not None
    theirs = found["logits"].softmax(-1)[0].tolist()
    assert list(ours.probabilities.values()) == pytest.approx(theirs, abs=1e-5)


def winner_of(library: PromptLibrary, config: TrialConfig, folder: Path) -> Winner:
    write_winner(folder / "winner", config, open_trainer(library, config), SCORES)
    return read_winner(folder / "winner")


def refused(folder: Path) -> str:
    """What the export of a folder's winner is refused with; nothing is left of it."""
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(Misuse) as error:
        export(folder / "winner", folder / "adapter")
    assert {path.name for path in folder.iterdir()} == before
    return str(error.value)


def test_a_prefix_that_a_model_does_not_take_is_refused_and_the_own_form_is_a_winner(
    library: PromptLibrary, plms: Any, tmp_path: Path
) -> None:
    plm = Plm(str(plms("distilbert")), plm_files(plms("distilbert")))
    winner_of(library, headed(tmp_path, plm, "classification", "prefix"), tmp_path)
    said = refused(tmp_path)
    assert "PEFT cannot say the prefix on DistilBertModel (SEQ_CLS: " in said
    assert said.endswith("; use --form own: the winner's folder, docs/prompt-format.md, which panda-tune predict reads")
    export(tmp_path / "winner", tmp_path / "own", "own")
    assert read_winner(tmp_path / "own") == replace(read_winner(tmp_path / "winner"), folder=tmp_path / "own")


def test_parts_that_peft_has_no_word_for_are_named(library: PromptLibrary, plms: Any, lms: Lms, tmp_path: Path) -> None:
    bert = Plm(str(plms("bert")), plm_files(plms("bert")))
    cases = {
        "attempt": (headed(tmp_path, bert, "classification", "input", method="attempt", sources=2), "each row has a prompt of its own"),
        "probe": (headed(tmp_path, bert, "classification", "input", method="linear_probe"), "a head alone"),
        "model": (headed(tmp_path, bert, "classification", "prefix", method="model_tuning"), "all weights were trained"),
        "zero": (headed(tmp_path, replace(bert, positions="from_zero"), "classification", "prefix"), "counts positions from 0"),
        "t5": (far(asked_trial(tmp_path, lms("t5"), bert, "prompt_tuning", "prefix")), "its prefix stands in the encoder"),
        "mistral": (far(asked_trial(tmp_path, lms("mistral"), bert, "prompt_tuning", "prefix")), "read a window that PEFT counts the prefix in"),
    }  # fmt: skip
    for name, (config, said) in cases.items():
        (tmp_path / name).mkdir()
        winner_of(library, config, tmp_path / name)
        assert said in refused(tmp_path / name), name


def test_another_plm_a_damaged_folder_and_a_place_that_is_taken_are_refused(
    library: PromptLibrary, plms: Any, tmp_path: Path
) -> None:
    plm = Plm(str(plms("bert")), plm_files(plms("bert")))
    winner_of(library, headed(tmp_path, plm, "classification", "input"), tmp_path)
    with pytest.raises(Misuse, match="whose hash is"):
        export(tmp_path / "winner", tmp_path / "adapter", plm=str(plms("roberta")))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    for form in ("peft", "own"):
        with pytest.raises(Misuse, match="is there already; name a folder that is not there, or empty"):
            export(tmp_path / "winner", tmp_path / "taken", form)
    (tmp_path / "winner" / "seed-1.safetensors").write_bytes(b"")
    assert "seed-1.safetensors changed since it was written" in refused(tmp_path)
    (tmp_path / "winner" / "winner.json").unlink()
    assert "has no winner.json" in refused(tmp_path)


HEADED_CASES = [(kind, form, "bert", "cls") for kind in HEADED for form in ("prefix", "input")]
HEADED_CASES += [
    ("classification", "prefix", "roberta", "mean"), ("classification", "prefix", "electra", "mean"),
    ("regression", "input", "albert", "mean"), ("classification", "input", "distilbert", "cls"),
    ("tagging", "input", "deberta-v3", "mean"), ("classification", "input", "modernbert", "mean"),
    ("classification", "input", "t5", "mean"), ("multiple_choice", "input", "mpnet", "cls"),
]  # fmt: skip
OWN_CASES = [(name, form) for name in ("llama", "gpt2", "qwen3", "bert", "roberta") for form in ("prefix", "input")]
OWN_CASES += [("mistral", "input"), ("gemma3", "input"), ("t5", "input"), ("bart", "input"), ("distilbert", "input")]


@pytest.mark.slow
def test_peft_alone_gives_our_logits_for_each_kind_form_and_family(
    library: PromptLibrary, plms: Any, lms: Lms, tmp_path: Path
) -> None:
    cases = []
    for number, (kind, form, family, pooling) in enumerate(HEADED_CASES):
        usual = family in USUAL  # whose tokenizers give the texts of a pair two types
        place = plms(family) if usual else tmp_path / family
        if not place.exists():
            save_family(place, FAMILIES[family])
        plm = Plm(str(place), plm_files(place), pooling=pooling)
        config = headed(tmp_path / str(number), plm, kind, form)
        cases.append(exported(library, config, tmp_path / str(number)))
    for name, form in OWN_CASES:
        folder = tmp_path / f"{name}-{form}"
        config = far(asked_trial(folder, lms(name), lms(name), "prompt_tuning", form))
        cases.append(exported(library, config, folder))
    asked = "".join(json.dumps(of["case"]) + "\n" for of in cases)
    command = [sys.executable, adapter_reader.__file__]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for of, line in zip(cases, done.stdout.splitlines(), strict=True):
        check(of, json.loads(line))


@pytest.mark.slow
def test_the_winner_that_best_names_is_exported_from_a_search(searched: tuple[Path, Path, str], tmp_path: Path) -> None:
    _, file, _ = searched
    row = json.loads(panda_tune_here("best", file, "--format", "json").stdout)[0]
    done = panda_tune_here("export", file, "--target", "t", "--to", tmp_path / "a")
    assert done.stdout == f"{tmp_path / 'a'}: SEQ_CLS, seed-10, seed-11\n"
    assert f"- method: {row['method']}" in (tmp_path / "a" / "README.md").read_text()
    panda_tune_here("export", file, "--target", "t", "--to", tmp_path / "own", "--form", "own")
    winner = read_winner(tmp_path / "own")
    assert (winner.method, winner.seeds) == (row["method"], (10, 11))
    score = winner.scores["selection"]["accuracy"].mean
    assert score == pytest.approx(row["selection_score"])
    said = panda_tune_here("export", file, "--target", "u", "--to", tmp_path / "b", code=2).stderr
    assert "--target u: is no target of the experiment" in said
    said = panda_tune_here("export", tmp_path / "own", "--to", tmp_path / "b", "-o", "name=x", code=2).stderr
    assert "-o name=x: changes the experiment that a target is taken from" in said


@pytest.mark.slow
def test_a_winner_whose_prompts_were_not_kept_is_refused_with_the_commands_that_make_it(
    searched: tuple[Path, Path, str], tmp_path: Path
) -> None:
    folder, file, _ = searched
    bare = tmp_path / "bare"
    shutil.copytree(folder / "runs/library", bare / "library", ignore=shutil.ignore_patterns("winner.json"))
    tracking = f"tracking.uri=sqlite:///{folder / 'runs/mlflow.db'}"
    options = ("-o", f"storage={bare}", "-o", tracking, "--to", tmp_path / "x")
    said = panda_tune_here("export", file, "--target", "t", *options, code=2).stderr
    assert f"panda-tune best {file} --target t --format yaml > t.yaml; panda-tune train t.yaml" in said
    assert not (tmp_path / "x").exists()
