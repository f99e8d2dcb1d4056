"""The benchmarks run, compare like with like, and need neither Ray nor MLflow nor Optuna. Times are not asserted."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import aging, causal, search, step
from benchmarks.cases import Case, staged, trial
from benchmarks.driver import Mark
from benchmarks.measure import counted_gflop
from benchmarks.yardstick import plain_models
from panda_trainable.library import PromptLibrary
from panda_trainable.transfer.methods import open_trainer

SMALL = Case(lengths="cola", rows=60, batch_size=4, eval_every=2)
PROMISED = {
    "ratio_cpu", "ratio_wall", "max_loss_difference", "yardstick_seconds", "engine_seconds", "useful_gflops_per_second",
    "peak_gflops_per_second",
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "pooling", "replicas"),
    [("prefix", "cls", 2), ("input", "cls", 1), ("prefix", "mean", 1), ("input", "mean", 2)],
)
def test_a_step_of_the_engine_is_a_step_of_the_published_loop(form: str, pooling: str, replicas: int) -> None:
    found = step.compared(replace(SMALL, form=form, pooling=pooling), replicas, 1, 3, "cpu", "float32")
    assert found.keys() >= PROMISED
    assert found["max_loss_difference"] < 1e-5
    assert found["max_dev_logit_difference"] < 1e-5
    assert min(found[name] for name in PROMISED - {"max_loss_difference"}) > 0


def test_a_search_of_the_engine_is_a_search_of_the_published_loop() -> None:
    found = search.compared(SMALL, trials=2, replicas=2, steps=4, device="cpu", precision="float32")
    assert found.keys() >= PROMISED
    assert found["max_loss_difference"] < 1e-4
    assert found["max_dev_logit_difference"] < 1e-3


def test_the_published_loop_trains_the_student_alone_and_its_teacher_runs_backward(tmp_path: Path) -> None:
    setting, source, target = staged(SMALL, tmp_path)
    library, config = PromptLibrary(tmp_path / "library"), trial(setting, source, target, (0,), 3, (1,))
    models = plain_models(setting.plm.source, 2, "cpu")
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    loop = step.published(models, library, config, 0, open_trainer(library, config), "cpu")
    assert loop.teacher is not None
    start, taught = loop.network.prompt.detach().clone(), loop.teacher.prompt.detach().clone()
    loop.advance(1)
    assert not torch.equal(loop.network.prompt, start)
    assert torch.equal(loop.teacher.prompt, taught)
    assert loop.teacher.prompt.grad is not None
    assert loop.teacher.prompt.grad.abs().max() > 0
    for model, kept in zip(models, before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
        assert model.training


def test_operations_are_counted_by_hand_computed_values() -> None:
    a, b = torch.randn(30, 40, requires_grad=True), torch.randn(40, 50, requires_grad=True)
    assert counted_gflop(lambda: a @ b) == pytest.approx(2 * 30 * 40 * 50 / 1e9)
    assert counted_gflop(lambda: (a @ b).sum().backward()) == pytest.approx(3 * 2 * 30 * 40 * 50 / 1e9)


def printed(*command: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_step_is_measured_where_ray_mlflow_and_optuna_are_not_installed() -> None:
    asked = ["benchmarks.step", "--lengths", "cola", "--batch-size", "4", "--json", "--replicas", "2", "--repeats", "1"]
    blocked = "import sys, runpy; sys.modules.update(dict.fromkeys(('ray', 'mlflow', 'optuna'))); "
    run = f"sys.argv = {asked!r}; runpy.run_module(sys.argv[0], run_name='__main__')"
    found = printed("-c", blocked + run)
    assert found.keys() >= PROMISED | {"shape", "lengths", "form", "pooling", "replicas", "device"}


@pytest.mark.slow
def test_the_peak_is_measured_in_processes_of_their_own() -> None:
    peaks = printed("-m", "benchmarks.memory", "--lengths", "cola", "--json", "--replicas", "1")["peaks"]
    assert list(peaks) == ["K=1, 640 rows", "K=1, 2560 rows"]
    assert all(mib["peak_mib"] > mib["imports_mib"] > 0 for mib in peaks.values())


@pytest.mark.slow
def test_the_driver_is_measured_on_the_real_road() -> None:
    found = printed("-m", "benchmarks.driver", "--trials", "12", "--studies", "3", "--wave", "5", "--json")
    assert (found["trials"], found["studies"], found["failures"]) == (12, 3, [])
    assert found["is_recorded"]
    assert found["log_mb"] < 1


@pytest.mark.slow
def test_a_result_asks_as_much_of_the_driver_at_the_end_of_a_search_as_at_its_beginning() -> None:
    found = printed(
        "-m", "benchmarks.driver", "--trials", "500", "--studies", "20", "--sampler", "random", "--calls", "--json"
    )
    assert found["first_calls_per_result"] > 1000  # of Tune, Ray, Optuna and ours: it was Tune's loop that was counted
    assert found["ratio_calls"] < 1.1


def test_an_old_search_and_a_young_one_are_compared_while_both_are_there() -> None:
    """By hand: the old one's last quarter is seconds 76 to 80, the young one's first 78 to 86; both end trials 78 to 80."""
    old = [Mark(61.0 + trial, 10 + 0.5 * trial, 0, 1.0) for trial in range(20)]  # a second and half of one per trial
    young = [Mark(78.0 + 2 * trial, 0.25 * trial, 0, 1.0) for trial in range(20)]
    found = aging.compared(old, young)
    assert found == pytest.approx({
        "trials": 2, "first_seconds_per_result": 2 / 4, "last_seconds_per_result": 1 / 4, "ratio_seconds": 0.5,
        "first_cpu_seconds_per_result": 0.25 / 4, "last_cpu_seconds_per_result": 0.5 / 4, "ratio_cpu_seconds": 2.0,
    })  # fmt: skip
    late = [Mark(mark.seconds + 100, mark.cpu_seconds, 0, 1.0) for mark in young]
    with pytest.raises(ValueError, match="more trials"):
        aging.compared(old, late)


@pytest.mark.slow
def test_a_step_of_a_causal_model_is_a_step_of_the_loop_with_peft() -> None:
    pytest.importorskip("peft")
    found = causal.compared(replace(SMALL, form="input", prompt_length=3), 2, 1, 3, "cpu", "float32")
    assert found["max_loss_difference"] < 1e-5
    assert min(found[f"{side}_seconds"] for side in ("yardstick", "careful", "engine")) > 0


@pytest.mark.slow
def test_the_engine_is_measured_without_each_of_its_parts() -> None:
    found = printed("-m", "benchmarks.step", "--kind", "causal", "--parts", "--lengths", "cola", "--batch-size", "4",
                    "--json", "--repeats", "1", "--steps", "1")  # fmt: skip
    assert all(found[name][0] > 0 for name in causal.PARTS)
