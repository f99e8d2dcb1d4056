"""The main job on language models that answer in words: the same file on each kind, from the sources to confirmed winners."""

import json
from pathlib import Path

import pytest

from tests.kits.command import panda_tune_here
from tests.kits.language_models import save_lm
from tests.kits.tasks import WORDS, kind_rows, write_task

WRITTEN = {
    "t": {"kind": "generation", "text": "a", "label": "summary", "path": "t"},
    "q": {"kind": "extractive_qa", "text": ["question", "passage"], "label": "answers", "path": "q"},
    "texts": {"kind": "generation", "text": "text", "window": 6},
}
METHODS = ["spot", "zero_shot", "random_prompt", "panda"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_demonstration_is_searched_on_a_language_model(tmp_path: Path, ray_address: str, name: str) -> None:
    values = {
        "name": "asked", "plm": {"from": str(save_lm(tmp_path / name, name))}, "sources": ["demo_questions"],
        "targets": ["demo_meals"], "methods": METHODS, "prompt": {"form": "input", "length": 3, "init": "vocabulary"},
        "train": {"steps": 4, "batch_size": 4, "max_length": 24, "eval_every": 2, "seeds": [0, 1]},
        "source_train": {"steps": 6, "early_step": 3}, "limit": {"train": 60, "report": 40}, "search": {"trials": 1},
        "confirm": {"top": 1, "seeds": [10, 11]}, "weigh_by": "none", "similarities": ["task_embedding", "c_mean"],
    }  # fmt: skip
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps(values), encoding="utf-8")
    done = panda_tune_here("search", file, "--address", ray_address)
    assert [method for method in METHODS if method not in done.stdout] == []
    assert "failed" not in done.stderr
    (best,) = json.loads(panda_tune_here("best", file, "--format", "json").stdout)
    assert best["target"] == "demo_meals"
    assert panda_tune_here("search", file, "--address", ray_address).stderr.count("nothing was computed") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_answers_that_are_written_are_searched_with_texts_as_a_source(
    tmp_path: Path, ray_address: str, name: str
) -> None:
    data = tmp_path / "data"
    for task, kind in (("t", "generation"), ("q", "extractive_qa")):
        write_task(data / task, kind_rows(kind, 60), kind_rows(kind, 24, 9))
    (data / "texts").mkdir()
    for number in range(6):
        (data / "texts" / f"{number}.txt").write_text(" ".join(WORDS[number:] + WORDS[:number]))
    values = {
        "name": "written", "plm": {"from": str(save_lm(tmp_path / name, name))}, "data": "data", "tasks": WRITTEN,
        "sources": ["texts"], "targets": ["t", "q"], "methods": ["spot", "panda", "zero_shot"],
        "prompt": {"form": "input", "length": 3, "init": "vocabulary"},
        "train": {"steps": 4, "batch_size": 4, "max_length": 24, "eval_every": 2, "seeds": [0, 1]},
        "source_train": {"steps": 6, "early_step": 3}, "limit": {"report": 20}, "search": {"trials": 1},
        "confirm": {"top": 1, "seeds": [10, 11]}, "weigh_by": "none", "similarities": ["task_embedding", "c_mean"],
    }  # fmt: skip
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps(values), encoding="utf-8")
    done = panda_tune_here("search", file, "--address", ray_address)
    assert "failed" not in done.stderr
    best = json.loads(panda_tune_here("best", file, "--format", "json").stdout)
    assert {one["target"]: one["metric"] for one in best} == {"t": "rouge_l", "q": "answer_f1"}
