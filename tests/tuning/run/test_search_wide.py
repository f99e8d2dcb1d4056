"""The whole search over what it can do: PLMs, kinds of tasks, methods, shots, forms of prompts; the command, real Ray."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from analysis.records import reader as records
from panda_trainable.config.methods import BASELINE
from tests.kits.command import panda_tune_here
from tests.kits.tasks import WORDS, rows_of, write_task
from tuning.experiment.loading import load
from tuning.run.train import train

pytestmark = pytest.mark.slow

METHODS = ("prompt_tuning", "spot", "model_tuning")
TARGETS = {"mood": "accuracy", "names": "entity_f1", "causes": "accuracy", "places": "answer_f1"}
FILE = """
name: wide
plm:
- {{from: {bert}, pooling: cls}}
- {{from: {distilbert}}}
tasks:
  source: {{text: a, classes: [no, yes]}}
  mood: {{text: "{{a}} {{b}}", classes: [no, yes]}}
  names: {{kind: tagging, text: words, label: tags, classes: [O, B-X, I-X]}}
  causes: {{kind: multiple_choice, text: premise, choices: [first, second]}}
  places: {{kind: extractive_qa, text: [question, passage], label: answers}}
sources: [source]
targets: [mood, names, causes, places]
methods: [spot, model_tuning]
prompt: {{length: 3}}
shots: {{per_class: 4, for: both}}
train: {{steps: 4, batch_size: 4, max_length: 24, eval_every: 2, seeds: [0]}}
source_train: {{steps: 4, early_step: 2, learning_rate: 1e-2}}
search: {{trials: 1}}
confirm: {{top: 1, seeds: [10, 11]}}
"""


def words(generator: np.random.Generator, n: int, first: int = 0, last: int = 40) -> list[str]:
    return [str(word) for word in generator.choice(WORDS[first:last], n)]


def write_csv(folder: Path) -> None:
    """Two texts and the name of a class."""
    folder.mkdir(parents=True)
    for split, n, seed in (("train", 40, 0), ("validation", 24, 9)):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["a", "b", "label"])
            for row in rows_of(n, 2, pair=True, seed=seed):
                table.writerow([row["a"], f"{row['b']}, and so on", ["no", "yes"][row["label"]]])


def write_tags(folder: Path) -> None:
    """w0 to w7 are entities of one or two words."""
    folder.mkdir(parents=True)
    for split, n, seed in (("train", 30, 1), ("test", 16, 2)):
        generator = np.random.default_rng(seed)
        lines = []
        for i in range(n):
            entity = words(generator, 1 + i % 2, 0, 8)
            tags = [("B-X", "I-X")[k] for k in range(len(entity))]
            sentence = [(f"x{split}{i}", "O"), *((w, "O") for w in words(generator, 2, 10))]
            for word, tag in (*sentence, *zip(entity, tags, strict=True)):
                lines.append(f"{word} - {tag}\n")
            lines.append("\n")
        (folder / f"{split}.conll").write_text("".join(lines), encoding="utf-8")


def choices(n: int, seed: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    right = [" ".join(words(generator, 2, 0, 8)) for _ in range(n)]
    wrong = [" ".join(words(generator, 2, 8, 16)) for _ in range(n)]
    pairs = [(r, w) if i % 2 == 0 else (w, r) for i, (r, w) in enumerate(zip(right, wrong, strict=True))]
    return [
        {"premise": f"p{seed}x{i} {' '.join(words(generator, 3, 20))}", "first": one, "second": two, "label": i % 2}
        for i, (one, two) in enumerate(pairs)
    ]


def passages(n: int, seed: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        before, answer = " ".join(words(generator, 1 + i % 4, 20)), " ".join(words(generator, 1 + i % 2, 0, 8))
        passage = f"{before} {answer} {' '.join(words(generator, 2, 20))}"
        answers = {"text": [answer], "answer_start": [len(before) + 1]}
        rows.append({"question": f"where q{seed}x{i}", "passage": passage, "answers": answers})
    return rows


@pytest.fixture(scope="module")
def wide(
    tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path], ray_address: str
) -> tuple[Path, Path, str]:
    """A finished search over two PLMs, four kinds of targets and three methods: its folder, its file, what it printed."""
    folder = tmp_path_factory.mktemp("wide")
    write_task(folder / "data/source", rows_of(40, 2), rows_of(24, 2, seed=99))
    write_csv(folder / "data/mood")
    write_tags(folder / "data/names")
    write_task(folder / "data/causes", choices(30, 3), choices(16, 4))
    write_task(folder / "data/places", passages(30, 5), passages(16, 6))
    file = folder / "wide.yaml"
    file.write_text(FILE.format(bert=plms("bert"), distilbert=plms("distilbert")), encoding="utf-8")
    return folder, file, panda_tune_here("search", file, "--address", ray_address).stdout


def studies(folder: Path) -> list[Any]:
    store = records.client(f"sqlite:///{folder / 'runs/mlflow.db'}")
    return list(records.runs(store, "wide", "tags.stage = 'study' and tags.current = 'true'"))


def test_every_target_plm_and_method_has_a_confirmed_winner(
    wide: tuple[Path, Path, str], plms: Callable[[str], Path]
) -> None:
    folder, _, printed = wide
    found = studies(folder)
    assert {run.info.status for run in found} == {"FINISHED"}
    names = [str(plms(family)).strip("/") for family in ("bert", "distilbert")]
    said = {(run.data.tags["target"], run.data.tags["plm"], run.data.tags["method"]) for run in found}
    assert said == {(target, plm, method) for target in TARGETS for plm in names for method in METHODS}
    assert len(found) == len(said)
    assert {run.data.metrics["steps"] for run in found} == {4}
    assert {run.data.params["shots.per_class"] for run in found} == {"4"}
    for title in ("Confirmed winner of each study", "Best configuration per target", "PLM", "best constant"):
        assert title in printed


def test_the_best_is_a_row_per_target_and_plm_with_all_its_fields(wide: tuple[Path, Path, str]) -> None:
    folder, file, _ = wide
    rows = json.loads(panda_tune_here("best", file, "--format", "json").stdout)
    assert sorted({row["target"] for row in rows}) == sorted(TARGETS)
    assert len(rows) == 8
    for row in rows:
        assert sum(other["best_plm"] for other in rows if other["target"] == row["target"]) == 1
        assert row["score"]["n"] == 2
        assert 0 <= row["majority"] <= 1
        assert row["gain"].keys() == {"mean", "std", "interval", "p", "p_holm", "n"}
        assert (row["gain"]["p_holm"] is None) == (row["method"] == BASELINE)
        assert row["gain"]["n"] > 0 or row["method"] == BASELINE
        assert row["gain"]["p_holm"] is None or row["gain"]["p"] <= row["gain"]["p_holm"] <= 1
        assert row["significant"] is (row["gain"]["p_holm"] is not None and row["gain"]["p_holm"] < 0.05)
        assert isinstance(row["signal"], bool)
        assert isinstance(row["source_at_majority"], bool)
        assert (row["overlap"], row["teacher_steps"], row["twin"]) == (0, None, None)
        assert row["truncated"].keys() == {"train", "report"}
        assert (row["source"] is not None) == (row["method"] == "spot")
        assert row["config"]["targets"] == [row["target"]]
        assert records.client(f"sqlite:///{folder / 'runs/mlflow.db'}").get_run(row["run_id"])


def test_the_same_command_again_computes_nothing_and_prints_the_same(wide: tuple[Path, Path, str]) -> None:
    folder, file, printed = wide
    cards = {path: path.stat().st_mtime_ns for path in (folder / "runs/library").glob("*/*/card.json")}
    again = panda_tune_here("search", file)
    assert "nothing was computed" in again.stderr
    assert again.stdout == printed
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs/library").glob("*/*/card.json")} == cards


@pytest.mark.parametrize("method", METHODS)
def test_the_winner_of_each_method_trained_again_has_the_confirmed_score(
    wide: tuple[Path, Path, str], plms: Callable[[str], Path], tmp_path: Path, method: str
) -> None:
    """Each kind of task once with bert, and one task with distilbert too."""
    folder, _, _ = wide
    uri = f"sqlite:///{folder / 'runs/mlflow.db'}"
    bert = str(plms("bert")).strip("/")
    again = [
        run
        for run in studies(folder)
        if run.data.tags["method"] == method and (run.data.tags["plm"] == bert or run.data.tags["target"] == "mood")
    ]
    assert len(again) == 5
    for number, run in enumerate(again):
        file = tmp_path / f"pinned-{number}.yaml"
        file.write_text(json.dumps(records.winner_config(uri, run.info.run_id)), encoding="utf-8")
        said = train(load(file), tmp_path / f"prompts-{number}")
        metric = TARGETS[run.data.tags["target"]]
        assert said["report"][metric]["mean"] == run.data.metrics["score/report"]
        assert said["selection"][metric]["mean"] == run.data.metrics["score/selection"]
        assert len(said["prompts"]) == (0 if method == "model_tuning" else 2)


def test_no_weights_of_a_model_stay_in_the_storage(wide: tuple[Path, Path, str], plms: Callable[[str], Path]) -> None:
    """Full fine-tuning would fill disks: of what was trained only prompts with their heads are kept."""
    folder, _, _ = wide
    kept = [path for path in (folder / "runs").rglob("*") if path.is_file()]
    assert not [path for path in kept if path.suffix in (".pt", ".pth", ".bin", ".ckpt")]
    for path in kept:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                assert set(file.keys()) - {"label_scale"} == {"prompt", "weight", "bias"}
    weights = min((plms(family) / "model.safetensors").stat().st_size for family in ("bert", "distilbert"))
    ours = [path for path in kept if path.parent.name != "ray" and not path.name.startswith("mlflow.db")]
    assert not [path for path in ours if path.stat().st_size >= weights]
    assert not [path for path in kept if not path.name.startswith("mlflow.db") and path.stat().st_size > 2**20]


def test_an_input_prompt_through_an_mlp_from_the_vocabulary_is_searched_to_its_end(
    tmp_path: Path, plms: Callable[[str], Path], ray_address: str
) -> None:
    for number, name in enumerate(("source", "target")):
        write_task(tmp_path / "data" / name, rows_of(60, 2, seed=number), rows_of(24, 2, seed=number + 99))
    file = tmp_path / "input.yaml"
    file.write_text(
        f"""
name: input
plm: {{from: {plms("bert")}}}
tasks: {{source: {{text: a, classes: [no, yes]}}, target: {{text: a, classes: [no, yes]}}}}
sources: [source]
targets: [target]
methods: [spot, panda]
prompt: {{form: input, length: 3, init: {{kind: vocabulary, population: 30}}, mlp: 8}}
train: {{steps: 4, batch_size: 4, max_length: 24, eval_every: 2, seeds: [0]}}
source_train: {{steps: 4, early_step: 2}}
weigh_by: none
search: {{trials: 2}}
confirm: {{top: 1, seeds: [10, 11]}}
""",
        encoding="utf-8",
    )
    panda_tune_here("search", file, "--address", ray_address)
    (row,) = json.loads(panda_tune_here("best", file, "--format", "json").stdout)
    assert row["config"]["prompt"] == {
        "form": "input", "length": 3, "mlp": 8,
        "init": {"kind": "vocabulary", "std": 0.02, "scale": 0.5, "sparsity": 0.1, "population": 30, "text": "", "file": ""},
    }  # fmt: skip
    pinned = tmp_path / "pinned.yaml"
    pinned.write_text(json.dumps(row["config"]), encoding="utf-8")
    trained = json.loads(panda_tune_here("train", pinned).stdout)
    assert trained["report"]["accuracy"]["mean"] == row["score"]["mean"]
    for path in trained["prompts"]:
        with safe_open(path, "pt") as prompts:
            assert prompts.get_slice("prompt").get_shape() == [3, 16]
